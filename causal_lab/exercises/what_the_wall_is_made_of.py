"""The exercises of notebook 03: dead rows, two masks added, a softmax that survives both."""

import torch
from torch import Tensor

from causal_lab.attention.softmax import masked_softmax
from causal_lab.exercises.frame import Exercise, Misconception, checker
from causal_lab.masks.rules import generate_incremental_mask

_INFINITY = float("inf")

COUNT_DEAD = Exercise(
    name="count_dead",
    level="easy",
    minutes=3,
    solutions=[
        """
        def count_dead(blocked):
            return int(blocked.all(-1).sum())
        """,
        """
        def count_dead(blocked):
            return sum(1 for row in blocked.tolist() if all(row))
        """,
        """
        def count_dead(blocked):
            seen = (~blocked).sum(-1)
            return int((seen == 0).sum())
        """,
    ],
    cases=[
        (torch.tensor([[True, True]]),),
        (torch.tensor([[False, True], [False, True]]),),
        (generate_incremental_mask(0, 4) | (torch.arange(4) < 2),),
        (torch.tensor([[False, False, True], [True, True, True]]),),
        (torch.ones(3, 4).bool(),),
        (generate_incremental_mask(2, 3),),
        (torch.tensor([[True, True], [True, False], [True, True]]),),
    ],
    misconceptions=[
        Misconception(
            "any",
            "You count the rows with at least one blocked key. Nearly every row of a causal mask "
            "has one. A row is dead where *all* its keys are blocked.",
            lambda blocked: int(blocked.any(-1).sum()),
        ),
        Misconception(
            "columns",
            "You count columns: keys that nobody sees, such as padding. A query is a row, so look "
            "along the keys: dim=-1.",
            lambda blocked: int(blocked.all(0).sum()),
        ),
        Misconception(
            "alive",
            "You count the rows that do see something. The dead ones are the others.",
            lambda blocked: int((~blocked).any(-1).sum()),
        ),
        Misconception(
            "polarity",
            "You count the rows in which everything is allowed: here True means blocked.",
            lambda blocked: int((~blocked).all(-1).sum()),
        ),
        Misconception(
            "cells",
            "You count blocked cells. First ask each row whether all its cells are blocked, then "
            "count rows.",
            lambda blocked: int(blocked.sum()),
        ),
        Misconception(
            "is there one",
            "You say whether there is a dead row, and not how many there are.",
            lambda blocked: bool(blocked.all(-1).any()),
        ),
        Misconception(
            "the whole mask",
            "You ask once whether everything is blocked, and count all rows or none. One dead row "
            "among living ones is enough: ask row by row.",
            lambda blocked: len(blocked) if blocked.all() else 0,
        ),
        Misconception(
            "the cells of dead rows",
            "You count the cells of the dead rows. A dead row counts once, however many keys it "
            "has.",
            lambda blocked: int(blocked[blocked.all(-1)].sum()),
        ),
        Misconception(
            "itself",
            "You count the queries that may not look at *themselves*. Such a query may still see "
            "others; a dead one sees nobody.",
            lambda blocked: int(blocked.diagonal().sum()),
        ),
        Misconception(
            "the share",
            "You give the share of dead rows. How many are there? Sum, do not average.",
            lambda blocked: float(blocked.all(-1).float().mean()),
        ),
        Misconception(
            "which",
            "You say *which* rows are dead. How many are there?",
            lambda blocked: blocked.all(-1).nonzero().flatten().tolist(),
        ),
        Misconception(
            "the last key",
            "You look at the last key alone. A row whose last key is blocked may still see others.",
            lambda blocked: int(blocked[:, -1].sum()),
        ),
        Misconception(
            "as many as rows",
            "You compare the blocked cells of a row with the number of *queries*. The row has a "
            "cell for each key: blocked.shape[-1].",
            lambda blocked: int((blocked.sum(-1) == blocked.shape[0]).sum()),
        ),
    ],
)


def _lowest(blocked: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    zeros = torch.zeros(blocked.shape, dtype=dtype)
    return zeros.masked_fill(blocked, torch.finfo(dtype).min)


def _either(first: Tensor, second: Tensor) -> Tensor:
    return (first < 0) | (second < 0)


def _row(*blocked: bool) -> Tensor:
    return torch.tensor([blocked])


_CAUSAL_3, _PAD_LEFT = generate_incremental_mask(0, 3), torch.arange(3).expand(3, 3) < 1

COMBINE = Exercise(
    name="combine",
    level="medium",
    minutes=4,
    solutions=[
        """
        def combine(first, second):
            return first.masked_fill(second < 0, torch.finfo(second.dtype).min)
        """,
        """
        def combine(first, second):
            return torch.minimum(first, second)
        """,
        """
        def combine(first, second):
            return torch.where(second < 0, second, first)
        """,
        """
        def combine(first, second):
            return (first + second).clamp(min=torch.finfo(first.dtype).min)
        """,
    ],
    cases=[
        (_lowest(_row(False, True)), _lowest(_row(True, True))),
        (_lowest(_row(False, False, True)), _lowest(_row(False, True, False))),
        (_lowest(_CAUSAL_3), _lowest(_PAD_LEFT)),
        (_lowest(_CAUSAL_3, torch.float16), _lowest(_PAD_LEFT, torch.float16)),
        (_lowest(generate_incremental_mask(1, 2)), _lowest(_PAD_LEFT[:2])),
    ],
    misconceptions=[
        Misconception(
            "added",
            "You add the masks. Where both block, the lowest number twice does not fit into the "
            "dtype: it becomes −∞. Take it once.",
            lambda first, second: first + second,
        ),
        Misconception(
            "only where both block",
            "You keep the larger number, so a cell is blocked only where *both* masks block it. "
            "One of them is enough.",
            torch.maximum,
        ),
        Misconception(
            "halved",
            "You halve. Where only one mask blocks, half of the lowest number is left: blocked "
            "cells that are not alike.",
            lambda first, second: first / 2 + second / 2,
        ),
        Misconception(
            "added, then halved",
            "You add before you halve, and the sum is −∞ by then. Halving −∞ does not bring it "
            "back.",
            lambda first, second: (first + second) / 2,
        ),
        Misconception(
            "multiplied",
            "You multiply. Wherever one mask has a 0 the product is 0, and where both block, the "
            "two minus signs make +∞: the most wanted key of all.",
            lambda first, second: first * second,
        ),
        Misconception(
            "−∞",
            "You fill with −∞. This mask is to stay finite: 0, or the lowest number of its dtype, "
            "once.",
            lambda first, second: first.masked_fill(_either(first, second), -_INFINITY),
        ),
        Misconception(
            "the lowest of float32",
            "You fill with the lowest number of float32, whatever comes. A float16 mask has a "
            "lowest number of its own, −65504: torch.finfo(first.dtype).min.",
            lambda first, second: torch.where(
                _either(first, second), torch.finfo(torch.float32).min, 0.0
            ),
        ),
        Misconception(
            "another fill",
            "You fill with a number of your own. Cells that came with the lowest number must keep "
            "it, and −1e9 does not fit into float16 at all: torch.finfo(first.dtype).min.",
            lambda first, second: torch.where(_either(first, second), -1e9, 0.0),
        ),
        Misconception(
            "boolean",
            "You return True and False. An additive mask holds numbers, with 0 where the query may "
            "look.",
            _either,
        ),
        Misconception(
            "the first alone",
            "You return the first mask as it came. What only the second one blocks stays open.",
            lambda first, second: first.clone(),
        ),
        Misconception(
            "the second alone",
            "You return the second mask as it came. What only the first one blocks stays open.",
            lambda first, second: second.clone(),
        ),
        Misconception(
            "polarity",
            "You fill where the query *may* look. A 0 in both masks means that nobody blocks; the "
            "cell stays 0.",
            lambda first, second: first.masked_fill(
                ~_either(first, second), torch.finfo(first.dtype).min
            ).masked_fill(_either(first, second), 0.0),
        ),
        Misconception(
            "where they differ",
            "You block where the two masks differ. Where both block, they agree, and the cell is "
            "open again.",
            lambda first, second: torch.where(
                first != second, torch.minimum(first, second), torch.zeros_like(first)
            ),
        ),
    ],
    axes=("query", "key"),
)

_CAUSAL_2 = generate_incremental_mask(0, 2)
_LEFT_PADDED = generate_incremental_mask(0, 3) | (torch.arange(3) < 1)


def _shifted_by_all(scores: Tensor, blocked: Tensor) -> Tensor:
    exponentials = (scores - scores.amax(-1, keepdim=True)).exp() * ~blocked
    total = exponentials.sum(-1, keepdim=True)
    return torch.where(total > 0, exponentials / total, 0.0)


def _scores(queries: int, keys: int) -> Tensor:
    return torch.randn(queries, keys, generator=torch.Generator().manual_seed(queries + keys))


SAFE_SOFTMAX = Exercise(
    name="safe_softmax",
    level="hard",
    minutes=8,
    solutions=[
        """
        def safe_softmax(scores, blocked):
            weights = torch.softmax(scores.masked_fill(blocked, float("-inf")), -1)
            dead = blocked.all(-1, keepdim=True)
            return weights.masked_fill(dead, 0.0)
        """,
        """
        def safe_softmax(scores, blocked):
            return torch.softmax(scores.masked_fill(blocked, float('-inf')), -1).nan_to_num(0.0)
        """,
    ],
    cases=[
        (torch.zeros(2, 2), _CAUSAL_2),
        (torch.zeros(1, 2), torch.tensor([[True, True]])),
        (torch.tensor([[1.0, 200.0], [1000.0, 0.0]]), _CAUSAL_2),
        (_scores(3, 3), _LEFT_PADDED),
        (_scores(2, 5), generate_incremental_mask(3, 2)),
    ],
    misconceptions=[
        Misconception(
            "NaN",
            "A row with nothing to see becomes NaN: softmax divides 0 by 0. Decide what such a row "
            "should be: here, zeros.",
            lambda scores, blocked: torch.softmax(scores.masked_fill(blocked, -_INFINITY), -1),
        ),
        Misconception(
            "uniform over the forbidden",
            "With a finite fill, a row that may see nothing looks at all its forbidden keys "
            "equally: no NaN, no warning, and a leak.",
            lambda scores, blocked: torch.softmax(scores.masked_fill(blocked, -1e9), -1),
        ),
        Misconception(
            "0 · ∞",
            "You multiply the mask by −∞. Where it is False this gives 0 · −∞ = NaN: fill, do not "
            "multiply.",
            lambda scores, blocked: torch.softmax(scores + blocked * -_INFINITY, -1),
        ),
        Misconception(
            "columns",
            "Your softmax runs down the columns. A query shares its weight among its keys: dim=-1.",
            lambda scores, blocked: torch.softmax(scores.masked_fill(blocked, -_INFINITY), 0),
        ),
        Misconception(
            "zero before softmax",
            "You set the scores to 0. Notebook 01: e⁰ = 1, so the blocked keys keep their share.",
            lambda scores, blocked: torch.softmax(scores.masked_fill(blocked, 0.0), -1),
        ),
        Misconception(
            "cut after softmax",
            "You cut the weights after the softmax. The rows no longer sum to 1: what you cut off "
            "is missing.",
            lambda scores, blocked: torch.softmax(scores, -1).masked_fill(blocked, 0.0),
        ),
        Misconception(
            "polarity",
            "You block the allowed keys: here True means blocked.",
            lambda scores, blocked: masked_softmax(scores, ~blocked),
        ),
        Misconception(
            "polarity and NaN",
            "You block the allowed keys: here True means blocked. And a row that sees nothing "
            "becomes NaN.",
            lambda scores, blocked: torch.softmax(scores.masked_fill(~blocked, -_INFINITY), -1),
        ),
        Misconception(
            "the largest of all keys",
            "You subtract the largest score, and it may be a blocked one: all the others underflow"
            " to 0. Block first, then take the largest.",
            _shifted_by_all,
        ),
    ],
    axes=("query", "key"),
    compare_gradients=True,
)

check = checker(COUNT_DEAD, COMBINE, SAFE_SOFTMAX)
