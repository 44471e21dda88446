"""What each way of telling positions does to the weights, when all tokens say the same."""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from causal_lab.attention.positions import alibi_bias, rotate, sinusoidal_positions
from causal_lab.attention.softmax import masked_softmax
from causal_lab.explorers.controls import Menu, Slider
from causal_lab.explorers.explorer import Explorer
from causal_lab.masks.rules import generate_causal_mask
from causal_lab.plots.picture import Curves, Dials, Heat, Picture

DIM, HEADS, BACK = 32, 8, 7
NONE, SINUSOIDAL = "none", "sinusoidal"
ALIBI_FIRST, ALIBI_LAST = "ALiBi, head 1 of 8", "ALiBi, head 8 of 8"
ROTARY, ROTARY_BACK = "rotary, q equals k", "rotary, q turned 7 back"
# Between which scores a scheme's curve lies over the 64 tokens that there can be.
RANGES = {
    NONE: (-1.0, 1.0),
    SINUSOIDAL: (1.0, 4.0),
    ALIBI_FIRST: (-32.0, 0.0),
    ALIBI_LAST: (-0.25, 0.0),
    ROTARY: (1.0, 4.0),
    ROTARY_BACK: (1.0, 4.0),
}
TURNS = (SINUSOIDAL, ROTARY, ROTARY_BACK)  # their scores are cosines of angles
PAIRS = (0, 4, 8)  # of the 16: they turn by 1, 0.1 and 0.01 at each position


class PositionExplorer(Explorer):
    """Choose how positions are told, move a query and a key, or move the whole text.

    Args:
        schemes: which ways the menu offers, of ``RANGES``; the first one is shown first, or rotary
            positions if all are offered.

    >>> PositionExplorer(T=6).picture.panels[0].cells.shape
    (6, 6)
    """

    scheme = Menu("positions", RANGES, ROTARY)
    T = Slider("T, number of tokens", 1, 64, 24)
    query = Slider("query: who looks", 0, 63, 23)
    key = Slider("key: who is looked at", 0, 63, 18)
    start = Slider("the text begins at position", 0, 1000, 0, play=True)

    GRID = {
        "scheme": list(RANGES),
        "T": [*range(1, 17), 24],
        "query": [0, 1, 3, 5, 7, 11, 15, 23],
        "key": [0, 1, 2, 4, 8, 12, 18],
        "start": [0, 1, 2, 3, 100],
    }

    def __init__(self, schemes: Sequence[str] = (), **values):
        self._seen = lru_cache(256)(_scores_and_weights)  # whichever query and key are pointed at
        if schemes:
            values = {"scheme": schemes[0]} | values
            self.GRID = self.GRID | {"scheme": list(schemes)}
        super().__init__(**values)
        if schemes:
            menu = self._controls[0] | {"options": list(schemes)}
            self._controls = [menu, *self._controls[1:]]

    def limits(self, T: int, query: int, **others) -> dict[str, tuple[int, int]]:  # noqa: D102
        return {"query": (0, T - 1), "key": (0, min(query, T - 1))}

    def compute(self, scheme: str, T: int, query: int, key: int, start: int) -> Picture:  # noqa: D102
        scores, weights = self._seen(scheme, T, start)
        row = scores[query, query::-1]  # by distance: of the query itself, of the one before it, …
        low, high = RANGES[scheme]
        square = Heat(
            weights,
            np.triu(np.ones((T, T), dtype=bool), 1),
            rows=(query,),
            columns=(key,),
            title="weights, if all tokens say the same",
            side=320,
        )
        curve = Curves(
            row[None],
            ("score",),
            ("past",),
            title=f"scores of query {query}; the line: key {key}",
            marked=query - key,
            low=low,
            high=high,
            label="score",
            width=300,
        )
        dials = (_dials(scheme, query, key, start),) if scheme in TURNS else ()
        return Picture((square, curve, *dials), _caption(row, query, key, start))


def scheme_scores(scheme: str, positions: Tensor) -> Tensor:
    """Score tokens that differ in their positions only.

    Args:
        scheme: a key of ``RANGES``.
        positions: integer, shape (T,).

    Returns:
        float32, (query, key) = (T, T), the highest is 4 for vectors that are turned, and for
        sinusoidal rows, which are all compared with each other; 0 for ALiBi.

    >>> scheme_scores(ALIBI_FIRST, torch.tensor([5, 6])).tolist()
    [[0.0, 0.5], [-0.5, 0.0]]
    """
    if scheme in (ALIBI_FIRST, ALIBI_LAST):
        head = 0 if scheme == ALIBI_FIRST else HEADS - 1
        return alibi_bias(positions, positions, HEADS)[head]
    if scheme == SINUSOIDAL:
        rows = sinusoidal_positions(positions, DIM)
        return 4 * rows @ rows.T / (DIM // 2)
    if scheme == NONE:
        return torch.zeros(len(positions), len(positions), dtype=torch.float32, device="cpu")
    shape, each = (len(positions), DIM), math.sqrt(4 / DIM)
    same = torch.full(shape, each, dtype=torch.float32, device="cpu")
    q = rotate(same, positions - BACK) if scheme == ROTARY_BACK else rotate(same, positions)
    return q @ rotate(same, positions).T


def _scores_and_weights(scheme: str, T: int, start: int) -> tuple[np.ndarray, np.ndarray]:
    scores = scheme_scores(scheme, torch.arange(start, start + T, device="cpu"))
    weights = masked_softmax(scores, generate_causal_mask(T, device="cpu"))
    return scores.numpy(), weights.numpy()


def _dials(scheme: str, query: int, key: int, start: int) -> Dials:
    """Show three of the pairs of numbers as hands of a clock, the angle between them exactly."""
    speeds = np.array([10000.0 ** (-2 * pair / DIM) for pair in PAIRS])
    back = BACK if scheme == ROTARY_BACK else 0
    places = np.array([start + query - back, start + key])
    between = np.degrees((query - back - key) * speeds) % 360
    return Dials(
        speeds[:, None] * places % (2 * np.pi),
        tuple(
            f"pair {p}: {np.degrees(speed):.3g}° a step"
            for p, speed in zip(PAIRS, speeds, strict=True)
        ),
        tuple(f"{min(angle, 360 - angle):.1f}°" for angle in between),
        title="3 of 16 pairs of numbers",
    )


def _caption(row: np.ndarray, query: int, key: int, start: int) -> str:
    ties = np.flatnonzero(row > row.max() - 1e-4)
    where = f"at distance {ties[0]}" if len(ties) == 1 else f"ties at {len(ties)} distances"
    return (
        f"query {query} stands at position {start + query}, key {key} at {start + key}: distance "
        f"{query - key}, score {_number(row[query - key])}; the highest score, "
        f"{_number(row.max())}, {'is ' if len(ties) == 1 else ''}{where}"
    )


def _number(score: float) -> str:
    return f"{round(float(score), 2) + 0.0:.2f}".replace("-", "−")
