"""The exercises of notebook 16: a gate on the distance, blocks that are not yet known."""

import torch
from torch import Tensor

from causal_lab.exercises.frame import Exercise, Misconception, checker


def _closed_at_the_ramp(distances: Tensor, span: float, ramp: float) -> Tensor:
    return torch.where(distances <= span, 1.0, (1 - distances / ramp).clamp(min=0))


SPAN_GATES = Exercise(
    name="span_gates",
    level="easy",
    minutes=4,
    solutions=[
        """
        def span_gates(distances, span, ramp):
            return ((ramp + span - distances) / ramp).clamp(0, 1)
        """,
        """
        def span_gates(distances, span, ramp):
            return (1 - (distances - span) / ramp).clamp(0, 1)
        """,
    ],
    cases=[
        (torch.tensor([0.0, 1.0, 2.0, 3.0]), 1.0, 1.0),
        (torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), 2.0, 2.0),
        (torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 5.0]), 0.5, 4.0),
        (torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0]), 1.0, 0.8),
        (torch.tensor([0, 1, 2, 3]), 1.0, 2.0),
    ],
    misconceptions=[
        Misconception(
            "no clamp",
            "Your line runs on at both ends: near keys get more than 1, far ones less than 0. A "
            "gate lies between 0 and 1: clamp it.",
            lambda distances, span, ramp: (ramp + span - distances) / ramp,
        ),
        Misconception(
            "clamped below only",
            "Your gate exceeds 1 for near keys: they would be counted more than once. Clamp at 1 "
            "as well.",
            lambda distances, span, ramp: ((ramp + span - distances) / ramp).clamp(min=0),
        ),
        Misconception(
            "clamped above only",
            "Your gate falls below 0 for far keys, and a negative share of attention means "
            "nothing. Clamp at 0 as well: there the key is blocked exactly.",
            lambda distances, span, ramp: ((ramp + span - distances) / ramp).clamp(max=1),
        ),
        Misconception(
            "wrong sign",
            "Your gate opens with the distance: far keys pass and near ones do not. Turn the sign "
            "of distance − span.",
            lambda distances, span, ramp: ((ramp + distances - span) / ramp).clamp(0, 1),
        ),
        Misconception(
            "ramp ignored",
            "Your gate always closes within one step, whatever the ramp. Divide by it: the "
            "gentler the slope, the more keys can tell the span where to go.",
            lambda distances, span, ramp: (1 + span - distances).clamp(0, 1),
        ),
        Misconception(
            "hard step",
            "Your gate is open or closed, with nothing between. That is a sliding window; it has "
            "no slope, so the span could never learn.",
            lambda distances, span, ramp: (distances <= span).float(),
        ),
        Misconception(
            "off by one",
            "Your gate closes one step too early. The span is a distance here, not a number of "
            "tokens: at distance = span the gate is still 1.",
            lambda distances, span, ramp: ((ramp + span - 1 - distances) / ramp).clamp(0, 1),
        ),
        Misconception(
            "ramp inside",
            "Your gate is closed already at distance = span. The ramp begins there: 1 at the "
            "span, 0 a ramp later.",
            lambda distances, span, ramp: ((span - distances) / ramp).clamp(0, 1),
        ),
        Misconception(
            "sigmoid",
            "A sigmoid has the right shape and never reaches 0: every key, however far, keeps some "
            "weight and has to be kept. The straight ramp does reach it.",
            lambda distances, span, ramp: torch.sigmoid((span - distances) / ramp),
        ),
        Misconception(
            "closed at the ramp",
            "You take the ramp for the distance at which the gate is closed. It is a number of "
            "steps *behind* the span: closed at span + ramp.",
            _closed_at_the_ramp,
        ),
    ],
)


def _last(T: int, size: int) -> Tensor:
    """Give the place of each block's last token."""
    return torch.arange(T // size) * size + size - 1


def _unfinished(T: int, size: int) -> Tensor:
    return _last(T, size) > torch.arange(T)[:, None]


UNFINISHED_BLOCKS = Exercise(
    name="unfinished_blocks",
    level="medium",
    minutes=6,
    solutions=[
        """
        def unfinished_blocks(T, size):
            last = torch.arange(T // size) * size + size - 1  # the last token of each block
            return last > torch.arange(T)[:, None]
        """,
        """
        def unfinished_blocks(T, size):
            read = torch.arange(1, T + 1)[:, None]  # tokens that a query has read
            return read // size <= torch.arange(T // size)
        """,
        """
        def unfinished_blocks(T, size):
            future = torch.ones(T, T).triu(1).bool()
            return future.unflatten(1, (-1, size)).any(dim=-1)
        """,
    ],
    cases=[(2, 2), (4, 2), (3, 1), (6, 3), (10, 2), (12, 4)],
    misconceptions=[
        Misconception(
            "begun is enough",
            "You let a query know a block as soon as it has begun: its own block, too, whose later "
            "tokens are in the mean. Ask for the block's *last* token, not for its first.",
            lambda T, size: torch.arange(T // size) * size > torch.arange(T)[:, None],
        ),
        Misconception(
            "own block never",
            "You never let a query know its own block, not even at the block's last token, the "
            "place (block + 1) · size − 1. That token has read all of it, itself included.",
            lambda T, size: _last(T, size) >= torch.arange(T)[:, None],
        ),
        Misconception(
            "one token early",
            "You let a block be known one token too early: its last token is still missing from "
            "what was read. It may be known where last > query is False.",
            lambda T, size: _last(T, size) > torch.arange(T)[:, None] + 1,
        ),
        Misconception(
            "polarity",
            "Your mask is True where the block is known. Here True means blocked: turn it round.",
            lambda T, size: ~_unfinished(T, size),
        ),
        Misconception(
            "transposed",
            "You have a row for each block. Rows are queries, columns the blocks: put [:, None] "
            "on the queries.",
            lambda T, size: _unfinished(T, size).T,
        ),
        Misconception(
            "a column for each key",
            "You have a column for each key. A query asks for whole blocks here: one column for "
            "each of the T // size blocks.",
            lambda T, size: _unfinished(T, size).repeat_interleave(size, dim=1),
        ),
        Misconception(
            "a row for each block",
            "You compare blocks with blocks. Each query needs a row of its own: the tokens of one "
            "block have not read equally much.",
            lambda T, size: torch.ones(T // size, T // size).triu(1).bool(),
        ),
        Misconception(
            "the causal mask",
            "That is the causal mask of the tokens: True where one *key* comes later. Here a "
            "column is a block, unknown if any of its tokens comes later.",
            lambda T, size: torch.ones(T, T).triu(1).bool(),
        ),
        Misconception(
            "additive",
            "You return the matrix that is added to the scores. Here the boolean mask is wanted, "
            "True where blocked.",
            lambda T, size: torch.zeros(T, T // size).masked_fill(
                _unfinished(T, size), float("-inf")
            ),
        ),
    ],
    axes=("query", "block"),
)

check = checker(SPAN_GATES, UNFINISHED_BLOCKS)
