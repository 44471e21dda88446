"""The exercises of notebook 13: packed documents, reach through layers, retrieved passages."""

import torch
from torch import Tensor

from causal_lab.exercises.frame import Exercise, Misconception, checker
from causal_lab.masks.reach import receptive_field
from causal_lab.masks.rules import (
    generate_causal_mask,
)

TRUE_MEANS_BLOCKED = "Yours is True where attention is *allowed*. Here True means blocked."


def _later(ids: Tensor) -> Tensor:
    return generate_causal_mask(len(ids))


def _other(ids: Tensor) -> Tensor:
    return ids[:, None] != ids


DOCUMENT_MASK = Exercise(
    name="document_mask",
    level="easy",
    minutes=4,
    solutions=[
        """
        def document_mask(ids):
            later = torch.ones(len(ids), len(ids)).triu(1).bool()
            return later | (ids[:, None] != ids)
        """,
        """
        def document_mask(ids):
            same = ids[:, None] == ids
            return ~(same & torch.ones(len(ids), len(ids)).tril().bool())
        """,
    ],
    cases=[
        (torch.tensor([0, 0, 1]),),
        (torch.tensor([5, 5, 5, 2, 2]),),
        (torch.tensor([1, 2, 2, 1]),),
        (torch.tensor([0, 1, 2]),),
    ],
    misconceptions=[
        Misconception(
            "polarity",
            TRUE_MEANS_BLOCKED,
            lambda ids: ~(_later(ids) | _other(ids)),
        ),
        Misconception(
            "& for |",
            "You block what is later *and* in another document. Each rule blocks on its own: |. "
            "With & the tokens of one document see their own future.",
            lambda ids: _later(ids) & _other(ids),
        ),
        Misconception(
            "forgot causal",
            "Your documents are apart, but inside each one the tokens see their future.",
            _other,
        ),
        Misconception(
            "forgot the documents",
            "Yours is the causal mask alone: a document sees those that were packed before it.",
            _later,
        ),
        Misconception(
            "strict",
            "Your tokens do not see themselves. Blocked is what comes *after* the query: the "
            "triangle begins one above the diagonal, triu(1).",
            lambda ids: torch.ones(len(ids), len(ids)).triu().bool() | _other(ids),
        ),
        Misconception(
            "upside down",
            "Your triangle is upside down: it blocks the past. Rows are queries, columns are keys.",
            lambda ids: _later(ids).T | _other(ids),
        ),
        Misconception(
            "order of the numbers",
            "You compare the numbers of the documents with < or >. They are names, not an order: "
            "another document is one whose number is not the same.",
            lambda ids: _later(ids) | (ids > ids[:, None]),
        ),
        Misconception(
            "one polarity of each",
            "One of your two masks is True where blocked, the other where allowed. Turn it around "
            "with ~, or compare with != instead of ==.",
            lambda ids: _later(ids) | ~_other(ids),
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


def _apart(ids: Tensor) -> Tensor:
    return _other(ids) & (ids[:, None] > 0) & (ids > 0)


RAG_MASK = Exercise(
    name="rag_mask",
    level="hard",
    minutes=8,
    solutions=[
        """
        def rag_mask(ids):
            later = torch.ones(len(ids), len(ids)).triu(1).bool()
            passage = ids > 0
            elsewhere = (ids[:, None] != ids) & passage[:, None] & passage
            return later | elsewhere
        """,
        """
        def rag_mask(ids):
            later = torch.ones(len(ids), len(ids)).triu(1).bool()
            same = ids[:, None] == ids
            shared = (ids[:, None] == 0) | (ids == 0)
            return later | ~(same | shared)
        """,
    ],
    cases=[
        (torch.tensor([1, 2, 0]),),
        (torch.tensor([0, 1, 2, 0]),),
        (torch.tensor([0, 0, 1, 1, 2, 2, 0, 0]),),
        (torch.tensor([1, 1, 2, 3, 3, 0, 0]),),
        (torch.tensor([0, 2, 2, 1, 1, 0]),),
    ],
    misconceptions=[
        Misconception("polarity", TRUE_MEANS_BLOCKED, lambda ids: ~(_later(ids) | _apart(ids))),
        Misconception(
            "documents",
            "You keep all segments apart, so the question sees no passage: it might as well not "
            "have looked anything up. Segment 0 sees all and is seen by all.",
            lambda ids: _later(ids) | _other(ids),
        ),
        Misconception(
            "forgot causal",
            "Your passages are apart, but every token sees the future of its passage and of the "
            "shared text.",
            _apart,
        ),
        Misconception(
            "only causal",
            "Yours is the causal mask: the second passage sees the first one, so its keys depend "
            "on what happens to stand before it.",
            _later,
        ),
        Misconception(
            "& for |",
            "You block what is later *and* in another passage. Each rule blocks on its own: |.",
            lambda ids: _later(ids) & _apart(ids),
        ),
        Misconception(
            "the question hears, nobody hears the instruction",
            "The question sees all, but your passages do not see the instruction: segment 0 must "
            "be seen by all, too, so exempt it as key as well as query.",
            lambda ids: _later(ids) | (_other(ids) & (ids[:, None] > 0)),
        ),
        Misconception(
            "seen by all, blind itself",
            "The shared text is seen by all, but your question does not see the passages: exempt "
            "segment 0 as query as well as key.",
            lambda ids: _later(ids) | (_other(ids) & (ids > 0)),
        ),
        Misconception(
            "passages without themselves",
            "You block each passage from *itself*, and let it see the others: compare with !=.",
            lambda ids: _later(ids) | ((ids[:, None] == ids) & (ids[:, None] > 0) & (ids > 0)),
        ),
        Misconception(
            "shared against time",
            "You let the shared text see everything, and be seen by all, even against the order of"
            " time. Nobody sees the future, the question neither.",
            lambda ids: (_later(ids) | _other(ids)) & (ids[:, None] > 0) & (ids > 0),
        ),
        Misconception(
            "order of the numbers",
            "You compare the numbers of the passages with < or >. They are names, not an order: "
            "another passage is one whose number is not the same.",
            lambda ids: _later(ids) | ((ids < ids[:, None]) & (ids > 0)),
        ),
        Misconception(
            "shared keys against time",
            "You let everybody see the shared text, even where it comes later. Nobody sees the "
            "future, and a question at the end is future to the passages.",
            lambda ids: (_later(ids) | _apart(ids)) & (ids > 0),
        ),
    ],
    axes=("query", "key"),
)

check = checker(DOCUMENT_MASK, REACH, RAG_MASK)
