"""What each way of telling positions does to the weights, when all tokens say the same."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from causal_lab.attention.positions import alibi_bias, rotate, sinusoidal_positions
from causal_lab.attention.softmax import masked_softmax
from causal_lab.explorers.canvas import Canvas, Cells, CurvePanel, Curves, HeatPanel
from causal_lab.explorers.explorer import Explorer, choice, slider
from causal_lab.masks.rules import generate_causal_mask

MAX_TOKENS, MAX_START, DIM, HEADS, BACK = 64, 1000, 32, 8, 7
NONE, SINUSOIDAL = "none", "sinusoidal"
ALIBI_FIRST, ALIBI_LAST = "ALiBi, head 1 of 8", "ALiBi, head 8 of 8"
ROTARY, ROTARY_BACK = "rotary, q equals k", "rotary, q turned 7 back"
SCHEMES = [NONE, SINUSOIDAL, ALIBI_FIRST, ALIBI_LAST, ROTARY, ROTARY_BACK]


@dataclass(frozen=True)
class PositionState:
    """What a :class:`PositionExplorer` shows.

    Args:
        weights: (query, key) = (T, T), under the causal mask.
        scores: shape (distance,), of the query that is pointed at, with the keys 0, 1, 2, … places
            before it.
        query: the row that is pointed at.
        start: where the first token stands.

    >>> PositionExplorer(T=4).state.scores.shape
    (4,)
    """

    weights: np.ndarray
    scores: np.ndarray
    query: int
    start: int


def scheme_scores(scheme: str, positions: Tensor) -> Tensor:
    """Score tokens that differ in their positions only.

    Args:
        scheme: one of ``SCHEMES``.
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


def position_state(T: int, query: int, start: int, scheme: str) -> PositionState:
    """Compute what a :class:`PositionExplorer` shows.

    Args:
        query: the row to point at; beyond the end, the last one is taken.
        start: where the first token stands.
        scheme: one of ``SCHEMES``.

    >>> position_state(2, 1, 0, NONE).weights.tolist()
    [[1.0, 0.0], [0.5, 0.5]]
    """
    query = min(query, T - 1)
    scores = scheme_scores(scheme, torch.arange(start, start + T, device="cpu"))
    weights = masked_softmax(scores, generate_causal_mask(T, device="cpu"))
    row = scores[query, : query + 1].flip(0)
    return PositionState(weights.numpy(), row.double().numpy(), query, start)


class PositionExplorer(Explorer):
    """Choose how positions are told, move one query, or move the whole text.

    Args:
        scheme: what is shown first; equal vectors turned by their positions if not given.

    >>> PositionExplorer(T=6).state.weights.shape
    (6, 6)
    """

    def __init__(self, T: int = 24, scheme: str = ROTARY):
        controls = {
            "scheme": choice("positions", SCHEMES, scheme),
            "T": slider("T, number of tokens", T, 1, MAX_TOKENS),
            "query": slider("query: who looks", T - 1, 0, MAX_TOKENS - 1),
            "start": slider("the text begins at position", 0, 0, MAX_START),
        }
        curve = CurvePanel(["its score"], -6, 6, width=300, height=256)
        super().__init__(controls, Canvas([HeatPanel(320, words=False), curve]))

    def limits(self, T: int, **others) -> dict[str, int]:  # noqa: D102
        return {"query": T - 1}

    def compute(self, T: int, query: int, start: int, scheme: str) -> PositionState:  # noqa: D102
        return position_state(T, query, start, scheme)

    def paint(self, state: PositionState) -> np.ndarray:  # noqa: D102
        T, best = len(state.weights), int(state.scores.argmax())
        blocked = np.triu(np.ones((T, T), dtype=bool), 1)
        return self.canvas.paint(
            [
                Cells(state.weights, blocked, marked=state.query),
                Curves(state.scores[None], marked=best),
            ],
            titles=["weights, if all tokens say the same", "score by distance"],
            caption=f"query {state.query} stands at position {state.start + state.query}; "
            f"its highest score is {_number(state.scores[best])}, at distance {best}",
        )


def _number(score: float) -> str:
    return f"{round(float(score), 2) + 0.0:.2f}".replace("-", "−")
