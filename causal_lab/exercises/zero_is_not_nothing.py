"""The exercises of notebook 01: what a zero score leaks, and averaging the past."""

import torch
from torch import Tensor

from causal_lab.exercises.frame import Exercise, Misconception, checker

LEAK = Exercise(
    name="leak",
    level="easy",
    minutes=3,
    solutions=[
        """
        def leak(T, t):
            return (T - t) / T
        """,
        """
        def leak(T, t):
            return 1 - t / T
        """,
        """
        def leak(T, t):
            return torch.softmax(torch.zeros(T), 0)[t:].sum().item()
        """,
        """
        def leak(T, t):
            return sum(1 / T for _ in range(t, T))
        """,
    ],
    cases=[(2, 1), (3, 1), (3, 2), (4, 4), (5, 1), (8, 3)],
    misconceptions=[
        Misconception(
            "zero weighs nothing",
            "You get 0: a zero score would have no weight. But e⁰ = 1, it counts as much as any "
            "other zero. (Or did // drop the fraction? Divide with /.)",
            lambda T, t: 0.0,
        ),
        Misconception(
            "the visible part",
            "You give the weight on the visible tokens. The leak is the rest of the row.",
            lambda T, t: t / T,
        ),
        Misconception(
            "against the past",
            "You compare the future with the past: (T − t)/t. A softmax divides by everything, "
            "past and future.",
            lambda T, t: (T - t) / t,
        ),
        Misconception(
            "off by one",
            "You miss one future token. With t visible out of T, there are T − t others.",
            lambda T, t: (T - t - 1) / T,
        ),
        Misconception(
            "a count",
            "You count the future tokens. Their weight is that count, divided by how many share.",
            lambda T, t: T - t,
        ),
        Misconception(
            "one token",
            "You give the weight of one token. The leak is the sum over all future tokens.",
            lambda T, t: 1 / T,
        ),
    ],
)


def _average_past(values: Tensor) -> Tensor:
    counts = torch.arange(1, len(values) + 1, dtype=values.dtype)
    return values.cumsum(0) / counts[:, None]


def _exclusive(values: Tensor) -> Tensor:
    before = torch.cat([torch.zeros_like(values[:1]), values[:-1].cumsum(0)])
    return before / torch.arange(len(values), dtype=values.dtype).clamp(min=1)[:, None]


def _halved(values: Tensor) -> Tensor:
    rows = [values[0]]
    for row in values[1:]:
        rows.append((rows[-1] + row) / 2)
    return torch.stack(rows)


def _values(length: int, dim: int) -> Tensor:
    generator = torch.Generator().manual_seed(length)
    return torch.randint(-4, 9, (length, dim), generator=generator).float()


AVERAGE_PAST = Exercise(
    name="average_past",
    level="medium",
    minutes=5,
    solutions=[
        """
        def average_past(values):
            counts = torch.arange(1, len(values) + 1)
            return values.cumsum(0) / counts[:, None]
        """,
        """
        def average_past(values):
            return torch.stack([values[: i + 1].mean(0) for i in range(len(values))])
        """,
        """
        def average_past(values):
            open_ = torch.ones(len(values), len(values)).tril()
            return open_ / open_.sum(-1, keepdim=True) @ values
        """,
    ],
    cases=[
        (torch.tensor([[2.0], [4.0]]),),
        (torch.tensor([[3.0, 5.0]]),),
        (_values(3, 2),),
        (_values(5, 3),),
    ],
    misconceptions=[
        Misconception(
            "sum, not average",
            "You add up the past without dividing: later rows grow with their length, and the "
            "model would see the position in the size of the numbers.",
            lambda values: values.cumsum(0),
        ),
        Misconception(
            "divided by T",
            "You divide every row by the whole length T. Row i has only i + 1 tokens to average; "
            "that is what renormalising means.",
            lambda values: values.cumsum(0) / len(values),
        ),
        Misconception(
            "without itself",
            "You leave out the token itself. Row i averages the rows 0 to i, i included.",
            _exclusive,
        ),
        Misconception(
            "counted from 0",
            "You divide row i by i. Row 0 averages one token, so it is divided by 1: count from 1.",
            lambda values: values.cumsum(0) / torch.arange(len(values))[:, None],
        ),
        Misconception(
            "everything",
            "You average the whole sequence in every row. That is what attention without a mask "
            "does: the future is in there.",
            lambda values: values.mean(0, keepdim=True).expand_as(values),
        ),
        Misconception(
            "the future",
            "You average from the row onwards: that is the future. The past is above the row, not "
            "below it.",
            lambda values: _average_past(values.flip(0)).flip(0),
        ),
        Misconception(
            "along the vector",
            "You average along the entries of each vector. The tokens are the rows: go down axis "
            "0.",
            lambda values: _average_past(values.T.contiguous()).T,
        ),
        Misconception(
            "a moving average",
            "You average the last average with the new row, so that each row halves what came "
            "before. All rows from 0 to i weigh the same: add them up, divide once.",
            _halved,
        ),
    ],
)


def _repair(weights: Tensor) -> Tensor:
    kept = weights.tril()
    return kept / kept.sum(-1, keepdim=True)


def _softmax_rows(length: int) -> Tensor:
    generator = torch.Generator().manual_seed(length)
    return torch.softmax(torch.randn(length, length, generator=generator), -1)


REPAIR_WEIGHTS = Exercise(
    name="repair_weights",
    level="medium",
    minutes=4,
    solutions=[
        """
        def repair_weights(weights):
            kept = weights.tril()
            return kept / kept.sum(-1, keepdim=True)
        """,
        """
        def repair_weights(weights):
            kept = weights.masked_fill(torch.ones_like(weights).triu(1).bool(), 0.0)
            return kept / kept.sum(-1, keepdim=True)
        """,
    ],
    cases=[
        (torch.tensor([[0.5, 0.5], [0.25, 0.75]]),),
        (torch.full((3, 3), 1 / 3),),
        (_softmax_rows(4),),
    ],
    misconceptions=[
        Misconception(
            "not renormalised",
            "You cut the future off, but the rows no longer sum to 1: you did not divide, or "
            "divided by the sums from *before* the cut, which are 1.",
            lambda weights: weights.tril(),
        ),
        Misconception(
            "columns",
            "You divide by the sums of the columns. A query's weights are a row: sum over the last "
            "axis, keepdim=True.",
            lambda weights: weights.tril() / weights.tril().sum(0, keepdim=True),
        ),
        Misconception(
            "keepdim forgotten",
            "You divide by the right sums on the wrong axis: without keepdim=True the sums of the "
            "rows are laid along the columns.",
            lambda weights: weights.tril() / weights.tril().sum(-1),
        ),
        Misconception(
            "one sum for all",
            "You divide by the sum of the whole matrix. Each row shares a weight of 1 of its own.",
            lambda weights: weights.tril() / weights.tril().sum(),
        ),
        Misconception(
            "softmax of weights",
            "You put −∞ into the weights and take a softmax of them. A softmax wants scores; of "
            "weights it makes other, flatter weights. Only divide.",
            lambda weights: torch.softmax(
                weights.masked_fill(torch.ones_like(weights).triu(1).bool(), -torch.inf), -1
            ),
        ),
        Misconception(
            "softmax again",
            "You take a softmax of weights. The zeros come back to life: e⁰ = 1, the very leak you "
            "wanted to mend.",
            lambda weights: torch.softmax(weights.tril(), -1),
        ),
        Misconception(
            "the future kept",
            "You keep the upper triangle: each token looks at the future only.",
            lambda weights: weights.triu() / weights.triu().sum(-1, keepdim=True),
        ),
        Misconception(
            "itself cut off",
            "You cut off the diagonal too. Row 0 has nothing left, and 0/0 is NaN.",
            lambda weights: weights.tril(-1) / weights.tril(-1).sum(-1, keepdim=True),
        ),
    ],
    axes=("query", "key"),
)

check = checker(LEAK, AVERAGE_PAST, REPAIR_WEIGHTS)
