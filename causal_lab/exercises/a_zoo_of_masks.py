"""The exercises of notebook 13: blocks that are written at once, reach through layers."""

import torch
from torch import Tensor

from causal_lab.exercises.frame import Exercise, Misconception, checker
from causal_lab.masks.reach import receptive_field
from causal_lab.masks.rules import generate_causal_mask


def _block(T: int, size: int) -> Tensor:
    return torch.arange(T) // size


def _other_block(T: int, size: int) -> Tensor:
    return _block(T, size)[:, None] != _block(T, size)


def _so_many_blocks(T: int, count: int) -> Tensor:
    block = torch.arange(T) // -(-T // count)
    return block > block[:, None]


BLOCK_MASK = Exercise(
    name="block_mask",
    level="easy",
    minutes=5,
    solutions=[
        """
        def block_mask(T, size):
            block = torch.arange(T) // size
            return block > block[:, None]
        """,
        """
        def block_mask(T, size):
            query, key = torch.arange(T)[:, None], torch.arange(T)
            return key >= (query // size + 1) * size
        """,
        """
        def block_mask(T, size):
            block = torch.arange(T) // size
            later = torch.ones(T, T).triu(1).bool()
            return later & (block[:, None] != block)
        """,
    ],
    cases=[(3, 2), (5, 2), (7, 3), (6, 4), (8, 2), (4, 1), (3, 5)],
    misconceptions=[
        Misconception(
            "polarity",
            "Yours is True where attention is *allowed*. Here True means blocked.",
            lambda T, size: ~(_block(T, size) > _block(T, size)[:, None]),
        ),
        Misconception(
            "causal inside, too",
            "Yours is the causal mask: inside a block the tokens are written at once, and see each "
            "other both ways. The order of time is that of the blocks.",
            lambda T, size: generate_causal_mask(T),
        ),
        Misconception(
            "blocks apart",
            "Your blocks see nothing but themselves. A block sees all that was written before it.",
            _other_block,
        ),
        Misconception(
            "own block blocked",
            "Your tokens do not see their own block, and the first block sees nothing: compare "
            "with >, not with >=.",
            lambda T, size: _block(T, size) >= _block(T, size)[:, None],
        ),
        Misconception(
            "upside down",
            "Your blocks see the later ones, not the earlier ones. Rows are queries, columns are "
            "keys: blocked is where the *key's* block is the later one.",
            lambda T, size: _block(T, size) < _block(T, size)[:, None],
        ),
        Misconception(
            "remainder for quotient",
            "You take % where // is needed: % is the place inside a block, // says which block.",
            lambda T, size: torch.arange(T) % size > (torch.arange(T) % size)[:, None],
        ),
        Misconception(
            "so many blocks",
            "You cut the text into `size` blocks. It is blocks of `size` tokens each.",
            _so_many_blocks,
        ),
        Misconception(
            "causal blocks apart",
            "You block what is later *or* in another block. What is blocked is later *and* in "
            "another block: two rules are joined by |, an exception by &.",
            lambda T, size: generate_causal_mask(T) | _other_block(T, size),
        ),
        Misconception(
            "a step further",
            "You look one token too far: the last token of a block sees the first one of the next.",
            lambda T, size: (torch.arange(T) - 1).clamp(min=0) // size > _block(T, size)[:, None],
        ),
        Misconception(
            "size tokens ahead",
            "You let every query look equally far ahead. How far it may look depends on where it "
            "stands in its block: to the end of it.",
            lambda T, size: torch.ones(T, T).triu(size).bool(),
        ),
    ],
    axes=("query", "key"),
)


def _paths(blocked: Tensor, layers: int) -> Tensor:
    itself = torch.eye(len(blocked))
    return torch.linalg.matrix_power((~blocked).float() + itself, layers)


def _itself_at_the_end(blocked: Tensor, layers: int) -> Tensor:
    paths = torch.linalg.matrix_power((~blocked).double(), layers) > 0
    return paths | torch.eye(len(blocked)).bool()


def _counted_in_integers(blocked: Tensor, layers: int) -> Tensor:
    step = ((~blocked) | torch.eye(len(blocked)).bool()).long()
    paths = torch.eye(len(blocked), dtype=torch.long)
    for _ in range(layers):
        paths = step @ paths
    return paths > 0


_WINDOW_OF_TWO = torch.ones(5, 5).tril().triu(-1).bool()
_DEAF = torch.tensor([[0, 1, 1], [1, 1, 1], [1, 0, 1]]).bool()  # token 1 and 2 not themselves

REACH = Exercise(
    name="reach",
    level="medium",
    minutes=7,
    solutions=[
        """
        def reach(blocked, layers):
            step = (~blocked).float() + torch.eye(len(blocked))
            seen = torch.eye(len(blocked))
            for _ in range(layers):
                seen = (step @ seen > 0).float()  # counted paths would overflow in deep stacks
            return seen > 0
        """,
        """
        def reach(blocked, layers):
            step = ((~blocked) | torch.eye(len(blocked)).bool()).double()
            return torch.linalg.matrix_power(step, layers) > 0
        """,
    ],
    cases=[
        (~torch.ones(3, 3).tril().triu(-1).bool(), 1),
        (~_WINDOW_OF_TWO, 1),
        (~_WINDOW_OF_TWO, 2),
        (~_WINDOW_OF_TWO, 3),
        (_DEAF, 1),
        (_DEAF, 2),
        (torch.ones(5, 5).triu(1).bool(), 200),
        (torch.zeros(4, 4).bool(), 70),
    ],
    misconceptions=[
        Misconception(
            "one layer for all",
            "Your answer does not grow with the layers: one layer carries information one step, "
            "the next one carries it on.",
            lambda blocked, layers: receptive_field(blocked, 1),
        ),
        Misconception(
            "power of blocked",
            "You follow the *blocked* pairs. Information flows where it is allowed to: ~blocked.",
            lambda blocked, layers: receptive_field(~blocked, layers),
        ),
        Misconception(
            "counts paths",
            "You return how many paths there are. Whether there is one is the question: > 0.",
            _paths,
        ),
        Misconception(
            "True for unreached",
            "Yours is True where nothing arrives. Here True means that the token reaches the "
            "output; this is no mask.",
            lambda blocked, layers: ~receptive_field(blocked, layers),
        ),
        Misconception(
            "one layer too many",
            "You go one layer too far: after one layer, an output hangs on what it may look at and "
            "on itself, no more.",
            lambda blocked, layers: receptive_field(blocked, layers + 1),
        ),
        Misconception(
            "no residual",
            "You forget what came in. Each layer *adds* its result to it, so an output hangs on "
            "its own token even if the mask blocks that: add the identity.",
            lambda blocked, layers: receptive_field(blocked, layers, residual=False),
        ),
        Misconception(
            "the other way round",
            "Your matrix is turned over: rows are outputs, columns are tokens.",
            lambda blocked, layers: receptive_field(blocked, layers).T,
        ),
        Misconception(
            "each entry by itself",
            "You take the power of each entry by itself (**). A matrix power follows one step "
            "after the other: @, or torch.linalg.matrix_power.",
            lambda blocked, layers: ((~blocked) | torch.eye(len(blocked)).bool()).float() ** layers,
        ),
        Misconception(
            "identity at the end",
            "You let a token keep itself once, at the end. In every layer it does: paths that wait"
            " in one layer and move in the next are missing.",
            _itself_at_the_end,
        ),
        Misconception(
            "overflow",
            "You count the paths, and in a deep stack there are more than a float32 or an integer "
            "can hold. Keep True and False after each layer, or clamp.",
            lambda blocked, layers: _paths(blocked, layers) > 0,
        ),
        Misconception(
            "integers overflow",
            "You count the paths in integers, and in a deep stack there are more than 64 bits "
            "hold: the count wraps round to 0. Keep True and False after each layer, or clamp.",
            _counted_in_integers,
        ),
    ],
    axes=("output", "token"),
)


check = checker(BLOCK_MASK, REACH)
