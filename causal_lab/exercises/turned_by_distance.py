"""The exercises of notebook 12: a rotary score, and keys that are turned before they are stored."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from causal_lab.exercises.frame import Exercise, Misconception, checker


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


def rotate_by_quarters(x: Tensor, positions: Tensor) -> Tensor:
    """Rotate each row by its position: a rotary embedding with large angles.

    Source: Su et al., "RoFormer", 2021. There the first pair turns by one radian; a quarter turn
    leaves numbers that can be checked by eye.

    Args:
        x: shape (T, dim), queries or keys; dim is even.
        positions: integer, shape (T,), where each row stands in the text.

    Returns:
        shape (T, dim), the first two entries of a row turn by 90° per position, the next two by
        30°, and so on, each pair by a third of the one before.

    >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    >>> rotate_by_quarters(x, torch.tensor([0, 1])).round().tolist()
    [[1.0, 0.0], [-0.0, 1.0]]
    """
    turns = 3.0 ** -torch.arange(x.shape[-1] // 2)
    angles = torch.as_tensor(positions)[..., None] * turns * (math.pi / 2)
    cos, sin = angles.cos(), angles.sin()
    first, second = x[..., ::2], x[..., 1::2]
    turned = torch.stack([first * cos - second * sin, first * sin + second * cos], dim=-1)
    return turned.flatten(-2)


def _turned_from(new: Tensor, rotate: Callable, start: int) -> Tensor:
    return rotate(new, start + torch.arange(len(new)))


def _append_rotated(keys: Tensor, new: Tensor, rotate: Callable) -> Tensor:
    return torch.cat([keys, _turned_from(new, rotate, len(keys))])


def _append_from(keys: Tensor, new: Tensor, rotate: Callable, start: int) -> Tensor:
    return torch.cat([keys, _turned_from(new, rotate, start)])


def _append_at(keys: Tensor, new: Tensor, rotate: Callable, position: int) -> Tensor:
    return torch.cat([keys, rotate(new, torch.full((len(new),), position))])


def _keys(past_len: int, current_len: int, dim: int) -> tuple[Tensor, Tensor, Callable]:
    """Make a case: token i is (i + 1, 0, …) before it turns."""
    raw = torch.zeros(past_len + current_len, dim)
    raw[:, ::2] = torch.arange(1.0, past_len + current_len + 1)[:, None]
    old = rotate_by_quarters(raw[:past_len], torch.arange(past_len)).round(decimals=3)
    return old + 0.0, raw[past_len:], rotate_by_quarters


APPEND_ROTATED = Exercise(
    name="append_rotated",
    level="hard",
    minutes=8,
    solutions=[
        """
        def append_rotated(keys, new, rotate):
            positions = torch.arange(len(keys), len(keys) + len(new))
            return torch.cat([keys, rotate(new, positions)])
        """,
        """
        def append_rotated(keys, new, rotate):
            return torch.cat([keys, rotate(new, len(keys) + torch.arange(len(new)))])
        """,
        """
        def append_rotated(keys, new, rotate):
            turned = rotate(torch.cat([keys, new]), torch.arange(len(keys) + len(new)))
            return torch.cat([keys, turned[len(keys):]])
        """,
    ],
    cases=[_keys(1, 1, 2), _keys(2, 1, 2), _keys(2, 2, 2), _keys(0, 2, 2), _keys(3, 2, 4)],
    misconceptions=[
        Misconception(
            "rotated twice",
            "You rotate the whole cache. The old keys were rotated when they came, and now they "
            "turn once more, at every step. Compare old rows before and after: they must not "
            "move. (Row 0 never does, position 0 turns nothing.)",
            lambda keys, new, rotate: rotate(
                torch.cat([keys, new]), torch.arange(len(keys) + len(new))
            ),
        ),
        Misconception(
            "forgotten offset",
            "You rotate the new keys from position 0 on. Only the first chunk is right that way: "
            "behind len(keys) cached keys, the first new one stands at len(keys).",
            lambda keys, new, rotate: _append_from(keys, new, rotate, 0),
        ),
        Misconception(
            "not rotated",
            "You store the new keys as they came. A key is rotated once, before it is stored: the "
            "cache must not mix keys that know their position with keys that do not.",
            lambda keys, new, rotate: torch.cat([keys, new]),
        ),
        Misconception(
            "the last one for all",
            "You rotate all new keys by the position of the last one. As long as they come one by "
            "one you cannot see it. In a chunk, each one stands one further.",
            lambda keys, new, rotate: _append_at(keys, new, rotate, len(keys) + len(new) - 1),
        ),
        Misconception(
            "the first one for all",
            "You rotate all new keys by len(keys), the position of the first one. As long as they "
            "come one by one you cannot see it. In a chunk, each one stands one further.",
            lambda keys, new, rotate: _append_at(keys, new, rotate, len(keys)),
        ),
        Misconception(
            "one too late",
            "You rotate one position too far. Positions count from 0: behind len(keys) cached "
            "keys, the next one stands at len(keys).",
            lambda keys, new, rotate: _append_from(keys, new, rotate, len(keys) + 1),
        ),
        Misconception(
            "counted after storing",
            "You count the cache when the new keys are in it already: each one is rotated "
            "len(new) positions too far. Take the length before you store.",
            lambda keys, new, rotate: _append_from(keys, new, rotate, len(keys) + len(new)),
        ),
        Misconception(
            "positions of the whole text",
            "You hand rotate the positions of the whole text for the new rows alone. It needs one "
            "position per row: those from len(keys) on.",
            lambda keys, new, rotate: torch.cat(
                [keys, rotate(new, torch.arange(len(keys) + len(new)))]
            ),
        ),
        Misconception(
            "len(new) as the end",
            "You hand len(new) to arange as its end, but it is a number of keys. arange(start, "
            "end) stops before end, and your end is len(keys) + len(new).",
            lambda keys, new, rotate: torch.cat(
                [keys, rotate(new, torch.arange(len(keys), len(new)))]
            ),
        ),
        Misconception(
            "stored twice",
            "You store the new keys twice. Count the rows: there should be len(keys) + len(new).",
            lambda keys, new, rotate: torch.cat(
                [_append_rotated(keys, new, rotate), _turned_from(new, rotate, len(keys))]
            ),
        ),
        Misconception(
            "the new ones alone",
            "You return the new keys without the old ones: the cache has forgotten what it held. "
            "Join the two with cat.",
            lambda keys, new, rotate: _turned_from(new, rotate, len(keys)),
        ),
        Misconception(
            "new before old",
            "You put the new keys before the old ones. Keys stand in reading order, since the mask "
            "counts on it: the new ones go behind.",
            lambda keys, new, rotate: torch.cat([_turned_from(new, rotate, len(keys)), keys]),
        ),
    ],
)

check = checker(RELATIVE_SCORE, APPEND_ROTATED)
