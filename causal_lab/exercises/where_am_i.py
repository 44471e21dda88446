"""The exercises of notebook 08: ALiBi's slopes, a rotary score, positions beside padding."""

import math
from itertools import pairwise

import torch
from torch import Tensor

from causal_lab.exercises.frame import Exercise, Misconception, checker


def _powers(exponents: list[float]) -> list[float]:
    return [2.0**exponent for exponent in exponents]


SLOPES = Exercise(
    name="slopes",
    level="easy",
    minutes=4,
    solutions=[
        """
        def slopes(num_heads):
            return [2 ** (-8 * (head + 1) / num_heads) for head in range(num_heads)]
        """,
        """
        def slopes(num_heads):
            ratio = 2 ** (-8 / num_heads)
            return [ratio ** (head + 1) for head in range(num_heads)]
        """,
        """
        def slopes(num_heads):
            return [2 ** (-8 * head / num_heads) for head in range(1, num_heads + 1)]
        """,
    ],
    cases=[(1,), (2,), (4,), (8,), (16,)],
    misconceptions=[
        Misconception(
            "begins at 1",
            "Your first slope is 1: you count the heads from 0. The first exponent is −8/n.",
            lambda n: _powers([-8 * h / n for h in range(n)]),
        ),
        Misconception(
            "one row for all",
            "You take 2⁻¹, 2⁻², … whatever n is. With n heads the exponents lie evenly between "
            "0 and −8: steps of 8/n.",
            lambda n: _powers([-(h + 1) for h in range(n)]),
        ),
        Misconception(
            "the other way round",
            "You divide by n once too little: 2^(−8·h) is far too small. The last slope is 2⁻⁸, "
            "whatever n is.",
            lambda n: _powers([-8 * (h + 1) for h in range(n)]),
        ),
        Misconception(
            "grows",
            "Your slopes are above 1 and grow: a minus is missing in the exponent.",
            lambda n: _powers([8 * (h + 1) / n for h in range(n)]),
        ),
        Misconception(
            "negative",
            "Your slopes are negative. The minus is in the exponent; the one that makes a penalty "
            "of the distance comes later, in −slope · distance.",
            lambda n: [-slope for slope in _powers([-8 * (h + 1) / n for h in range(n)])],
        ),
        Misconception(
            "a straight line",
            "Your slopes go in equal steps. They form a geometric series: each is the one "
            "before, times the same factor 2^(−8/n).",
            lambda n: [1 - h / n for h in range(n)],
            lambda got, due: (
                len(steps := {round(a - b, 5) for a, b in pairwise(got)}) == 1 and any(steps)
            ),
        ),
        Misconception(
            "from behind",
            "Right numbers, wrong order: the first head has the steepest slope.",
            lambda n: _powers([-8 * (n - h) / n for h in range(n)]),
        ),
    ],
)


def _turned(x: Tensor, angle: float) -> Tensor:
    cos, sin = math.cos(angle), math.sin(angle)
    return torch.stack([x[0] * cos - x[1] * sin, x[0] * sin + x[1] * cos])


def _score(q: Tensor, k: Tensor, m: float, n: float) -> Tensor:
    return _turned(q, m) @ _turned(k, n)


def _overwritten(x: Tensor, angle: float) -> Tensor:
    cos, sin = math.cos(angle), math.sin(angle)
    first = x[0] * cos - x[1] * sin
    return torch.stack([first, first * sin + x[1] * cos])


_RIGHT, _UP = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])

RELATIVE_SCORE = Exercise(
    name="relative_score",
    level="medium",
    minutes=6,
    solutions=[
        """
        def relative_score(q, k, m, n):
            cos, sin = math.cos(m - n), math.sin(m - n)  # turning q by the difference is enough
            return (q[0] * cos - q[1] * sin) * k[0] + (q[0] * sin + q[1] * cos) * k[1]
        """,
        """
        def relative_score(q, k, m, n):
            x = q[0] * math.cos(m) - q[1] * math.sin(m)
            y = q[0] * math.sin(m) + q[1] * math.cos(m)
            u = k[0] * math.cos(n) - k[1] * math.sin(n)
            w = k[0] * math.sin(n) + k[1] * math.cos(n)
            return x * u + y * w
        """,
    ],
    cases=[
        (_RIGHT, _RIGHT, 2, 2),
        (_RIGHT, _RIGHT, 3, 1),
        (_RIGHT, _UP, 3, 1),
        (torch.tensor([2.0, 1.0]), torch.tensor([-1.0, 3.0]), 7, 4),
        (torch.tensor([0.5, -2.0]), torch.tensor([1.0, 1.0]), 9, 0),
        (torch.tensor([1.0, 2.0]), torch.tensor([3.0, -1.0]), 1, 4),
    ],
    misconceptions=[
        Misconception(
            "not turned",
            "Your score does not change with the positions: you take the plain product. Turn q by "
            "m radians and k by n first.",
            lambda q, k, m, n: q @ k,
        ),
        Misconception(
            "only the query",
            "You turn the query and leave the key as it is. Then a query at position 2 no longer "
            "fits a key at position 2. Both turn, each by its own position.",
            lambda q, k, m, n: _score(q, k, m, 0),
        ),
        Misconception(
            "apart",
            "You turn q and k in opposite directions, so that their angle is the *sum* of the "
            "positions. Turned in the same direction, only the difference is left.",
            lambda q, k, m, n: _score(q, k, m, -n),
        ),
        Misconception(
            "clockwise",
            "You turn both the wrong way, or exchange the positions: that is the score of the "
            "distance n − m. A turn to the left takes (1, 0) to (cos, sin): "
            "x' = x·cos − y·sin, y' = x·sin + y·cos.",
            lambda q, k, m, n: _score(q, k, -m, -n),
        ),
        Misconception(
            "degrees",
            "You turn by m degrees. One position is one radian here; math.cos takes radians.",
            lambda q, k, m, n: _score(q, k, math.radians(m), math.radians(n)),
        ),
        Misconception(
            "not summed",
            "You give back two numbers. A score is one: the products, summed.",
            lambda q, k, m, n: _turned(q, m) * _turned(k, n),
        ),
        Misconception(
            "stretched",
            "You multiply by the positions. That makes late tokens loud; turning keeps every "
            "vector as long as it is.",
            lambda q, k, m, n: (q * m) @ (k * n),
        ),
        Misconception(
            "times the cosine",
            "You multiply the plain product by the cosine of the distance. That is right only if "
            "both point the same way: turn the vectors, then multiply.",
            lambda q, k, m, n: q @ k * math.cos(m - n),
        ),
        Misconception(
            "of the lengths",
            "You take the lengths and the cosine of the distance, as if both vectors pointed the "
            "same way at the start. Their own angle counts, too.",
            lambda q, k, m, n: q.norm() * k.norm() * math.cos(m - n),
        ),
        Misconception(
            "the distance without its sign",
            "You take the distance without its sign. Who stands first makes a difference: m − n, "
            "not |m − n|.",
            lambda q, k, m, n: _score(q, k, abs(m - n), 0),
        ),
        Misconception(
            "overwritten",
            "You write the new first number over the old one, and then use it for the second. Keep"
            " both old numbers until both new ones are there.",
            lambda q, k, m, n: _overwritten(q, m) @ _overwritten(k, n),
        ),
    ],
)


def _counted(padding: Tensor, start: int) -> Tensor:
    return start + (~padding).cumsum(-1) - 1


_ROWS = [[0, 0, 0], [1, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0]]
_PADDING = [torch.tensor(row).bool() for row in _ROWS]

PADDED_POSITIONS = Exercise(
    name="padded_positions",
    level="medium",
    minutes=6,
    solutions=[
        """
        def padded_positions(padding, past_len):
            counted = past_len + (~padding).cumsum(dim=-1) - 1
            return counted.masked_fill(padding, 0)
        """,
        """
        def padded_positions(padding, past_len):
            return (past_len + ((~padding).cumsum(-1) - 1)).masked_fill(padding, 0)
        """,
        """
        def padded_positions(padding, past_len):
            return torch.where(padding, 0, past_len + (~padding).cumsum(-1) - 1)
        """,
        """
        def padded_positions(padding, past_len):
            positions, nth = [], past_len
            for is_padding in padding:
                if is_padding:
                    positions.append(0)
                else:
                    positions.append(nth)
                    nth = nth + 1
            return torch.tensor(positions)
        """,
    ],
    cases=[
        (_PADDING[1], 0),
        (_PADDING[0], 0),
        (_PADDING[0], 4),
        (_PADDING[2], 3),
        (_PADDING[3], 7),
        (torch.tensor([0, 0, 1, 1]).bool(), 2),
    ],
    misconceptions=[
        Misconception(
            "padding counted",
            "You number all places, padding too. The first real token must get the same position "
            "with padding before it as without.",
            lambda padding, past_len: (past_len + torch.arange(len(padding))).masked_fill(
                padding, 0
            ),
        ),
        Misconception(
            "a plain range",
            "You number the places of the chunk and do not look at padding at all. Count the "
            "tokens where padding is False: (~padding).cumsum(-1).",
            lambda padding, past_len: past_len + torch.arange(len(padding)),
        ),
        Misconception(
            "the past forgotten",
            "You begin at 0 although tokens are cached. The first real token of the chunk stands "
            "at past_len.",
            lambda padding, past_len: _counted(padding, 0).masked_fill(padding, 0),
        ),
        Misconception(
            "from 1",
            "You are one too far: cumsum counts from 1, positions from 0.",
            lambda padding, past_len: _counted(padding, past_len + 1).masked_fill(padding, 0),
        ),
        Misconception(
            "negative",
            "The real tokens are right, but padding does not get 0. Before the first token a count "
            "gives −1, and a table read at −1 gives its *last* row.",
            lambda padding, past_len: _counted(padding, past_len),
        ),
        Misconception(
            "the padding is counted",
            "You count the padding instead of the tokens: cumsum of padding, not of ~padding.",
            lambda padding, past_len: (past_len + padding.cumsum(-1) - 1).masked_fill(padding, 0),
        ),
        Misconception(
            "shifted by the padding",
            "You add the padding to the positions instead of leaving it out.",
            lambda padding, past_len: (
                past_len + int(padding.sum()) + torch.arange(len(padding))
            ).masked_fill(padding, 0),
        ),
        Misconception(
            "padding on the left",
            "You take off the whole number of padded places everywhere, as if all of them stood on"
            " the left. Count the real tokens up to each place instead.",
            lambda padding, past_len: (
                past_len + torch.arange(len(padding)) - padding.sum()
            ).masked_fill(padding, 0),
        ),
    ],
)

check = checker(SLOPES, RELATIVE_SCORE, PADDED_POSITIONS)
