"""Which colour means what: one look for every picture of the series.

Weights run from 0 to 1 on one fixed scale, so that two pictures compare; the scale is a
square root, so that a small leak is seen. Blocked cells are grey and hatched, which no
weight ever is. All colours keep apart for colour-blind eyes.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import PowerNorm

PAST_COLOUR = "#2f6fae"
FUTURE_COLOUR = "#e1701a"
ALLOWED_COLOUR = "#7fb2dd"
BLOCKED_COLOUR = "#e3e3e3"
HATCH_COLOUR = "#b5b5b5"
NAN_COLOUR = "#d6218f"

# The names of colours in a picture; explorer.js has the same ones for its light pages.
COLOUR_OF = {
    "past": PAST_COLOUR,
    "future": FUTURE_COLOUR,
    "missing": "#a3a3a3",
    "truth": "#757575",
    "broken": NAN_COLOUR,
    "ink": "#1b1b1b",
    "second": "#17795e",
    "third": "#7a4fa3",
}

WEIGHT_MAP = colormaps["viridis"]
WEIGHT_TICKS = (0.0, 0.01, 0.1, 0.25, 0.5, 1.0)
_STEPS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


def weight_scale() -> PowerNorm:
    """Make the scale that all weights are coloured on, a new one for each picture.

    >>> float(weight_scale()(0.25))
    0.5
    """
    return PowerNorm(0.5, vmin=0.0, vmax=1.0)


def colour_of_weight(weights: np.ndarray) -> np.ndarray:
    """Look up the colours of weights of any shape: red, green and blue, 0 to 1, shape (…, 3).

    >>> colour_of_weight(np.array([0.0, 1.0])).round(1).tolist()
    [[0.3, 0.0, 0.3], [1.0, 0.9, 0.1]]
    """
    return np.asarray(WEIGHT_MAP(weight_scale()(np.asarray(weights))))[..., :3]


def printable(label: str) -> str:
    r"""Write a token so that it can stand on an axis: a line break becomes a backslash and n.

    >>> print(printable("a\nb"))
    a\nb
    """
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in label)


def tick_positions(length: int, labels: Sequence[str] | None = None, *, room: int = 16) -> range:
    """Choose evenly spaced positions for labels, at most 32 words or ``room`` numbers (up to 16).

    >>> list(tick_positions(64))[:3]
    [0, 4, 8]
    """
    room = min(max(room, 1), 16) if labels is None else 32
    return range(0, length, next(step for step in (*_STEPS, length) if length <= room * step))
