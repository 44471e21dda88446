"""Along which axis, and how sharply, scores become weights."""

from dataclasses import dataclass

import ipywidgets as widgets
import numpy as np
from torch import Tensor

from causal_lab.attention.softmax import entropy, masked_softmax
from causal_lab.explorers.canvas import BarPanel, Bars, Canvas, Cells, HeatPanel
from causal_lab.explorers.explorer import Explorer, choice, fixed_scores, slider
from causal_lab.masks.rules import generate_causal_mask

MAX_TOKENS = 64
BY_ROW, BY_COLUMN = "row by row (right)", "column by column (wrong)"


@dataclass(frozen=True)
class SoftmaxState:
    """What a :class:`SoftmaxExplorer` shows.

    Args:
        weights: (query, key) = (T, T).
        blocked: bool, shape (query, key), the causal mask.
        row: the query whose weights are drawn as bars.
        entropy: of that row made to sum to 1, in nats.
        moved: by how much earlier rows move when the last token's scores change.

    >>> SoftmaxExplorer(T=4).state.row
    3
    """

    weights: np.ndarray
    blocked: np.ndarray
    row: int
    entropy: float
    moved: float


def softmax_state(T: int, temperature: float, axis: str, row: int, scores: Tensor) -> SoftmaxState:
    """Compute what a :class:`SoftmaxExplorer` shows.

    Args:
        temperature: divides the scores.
        axis: ``BY_ROW`` or ``BY_COLUMN``.
        row: the query to draw as bars; beyond the end, the last one is taken.
        scores: shape (at least T, at least T), the scores; the first T of each axis are used.

    >>> softmax_state(4, 1.0, BY_ROW, 3, fixed_scores(4, 4, seed=0)).moved
    0.0
    """
    row = min(row, T - 1)
    blocked = generate_causal_mask(T, device="cpu")
    dim = -1 if axis == BY_ROW else -2

    def weigh(square: Tensor) -> Tensor:
        return masked_softmax(square, blocked, dim=dim, temperature=temperature)

    weights = weigh(scores[:T, :T])
    changed = scores[:T, :T].clone()
    changed[-1] += 2.0  # the scores of the last query; nobody else sees the last key
    moved = (weigh(changed) - weights)[:-1].abs().max().item() if T > 1 else 0.0
    total = weights[row].sum()  # a column softmax may leave a row nothing at all
    spread = entropy(weights[row] / total).item() if total > 0 else 0.0
    return SoftmaxState(weights.numpy(), blocked.numpy(), row, spread, moved)


class SoftmaxExplorer(Explorer):
    """Slide over T and the temperature; turn the axis and watch the future leak.

    >>> SoftmaxExplorer(T=4).state.weights.sum(-1).round(3).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """

    def __init__(self, T: int = 8):
        self.scores = 1.5 * fixed_scores(MAX_TOKENS, MAX_TOKENS, seed=3)
        controls = {
            "T": slider("T, number of tokens", T, 1, MAX_TOKENS),
            "temperature": widgets.FloatLogSlider(
                value=1.0,
                base=10,
                min=-2,
                max=2,
                step=0.05,
                description="temperature",
                style={"description_width": "initial"},
                layout=widgets.Layout(width="380px", margin="2px 16px 2px 0"),
            ),
            "axis": choice("softmax", [BY_ROW, BY_COLUMN]),
            "row": slider("query drawn as bars", min(5, T - 1), 0, MAX_TOKENS - 1),
        }
        super().__init__(
            controls, Canvas([HeatPanel(320, words=False), BarPanel(300, 320, words=False)])
        )

    def limits(self, T: int, **others) -> dict[str, int]:  # noqa: D102
        return {"row": T - 1}

    def compute(self, T: int, temperature: float, axis: str, row: int) -> SoftmaxState:  # noqa: D102
        return softmax_state(T, temperature, axis, row, self.scores)

    def paint(self, state: SoftmaxState) -> np.ndarray:  # noqa: D102
        T = len(state.weights)
        row = state.weights[state.row]
        return self.canvas.paint(
            [
                Cells(state.weights, state.blocked, marked=state.row),
                Bars(row, np.arange(T) > state.row),
            ],
            titles=[f"T = {T}: weights", f"query {state.row}"],
            caption=f"query {state.row}: sum {row.sum():.3f}, entropy {state.entropy:.2f} nats, "
            f"like {np.exp(state.entropy):.1f} equal keys. Last token changed: earlier rows "
            f"move by {state.moved:.3f}",
        )
