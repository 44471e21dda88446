"""Along which axis, and how sharply, scores become weights."""

import numpy as np
from torch import Tensor

from causal_lab.attention.softmax import entropy, masked_softmax
from causal_lab.explorers.controls import Menu, Slider, Steps
from causal_lab.explorers.explorer import Explorer, fixed_scores
from causal_lab.masks.rules import generate_causal_mask
from causal_lab.plots.picture import FRAMES, Bars, Curves, Heat, Picture

MAX_TOKENS = 64
BY_ROW, BY_COLUMN = "row by row (right)", "column by column (wrong)"
TEMPERATURES = [float(f"{10 ** (step / 20):.2g}") for step in range(-40, 41)]


class SoftmaxExplorer(Explorer):
    """Slide over T, the temperature and a shift; turn the axis and watch the future leak.

    >>> SoftmaxExplorer(T=4).picture.panels[0].right  # what the rows sum to
    ('1.00', '1.00', '1.00', '1.00')
    """

    T = Slider("T, number of tokens", 1, MAX_TOKENS, 8, play=True)
    temperature = Steps("temperature", TEMPERATURES, 1.0, words=[f"{t:g}" for t in TEMPERATURES])
    axis = Menu("softmax", [BY_ROW, BY_COLUMN])
    row = Slider("query drawn beside", 0, MAX_TOKENS - 1, 5)
    shift = Slider("shift, added to all scores", -5, 5, 0)

    GRID = {
        "T": [*range(1, 9), 10, 12, 16],
        "temperature": [0.01, 0.1, 0.32, 0.63, 1.0, 1.6, 3.2, 10.0, 100.0],
        "axis": [BY_ROW, BY_COLUMN],
        "row": [0, 1, 3, 5, 7, 9, 11, 15],
        "shift": [-5, -2, 0, 2, 5],
    }

    def __init__(self, **values):
        # In float64 a shift leaves the weights as they are to the last digit that is shown.
        self.scores = 1.5 * fixed_scores(MAX_TOKENS, MAX_TOKENS, seed=3).double()
        super().__init__(**values)

    def limits(self, T: int, **others) -> dict[str, tuple[int, int]]:  # noqa: D102
        return {"row": (0, T - 1)}

    def compute(  # noqa: D102
        self, T: int, temperature: float, axis: str, row: int, shift: int
    ) -> Picture:
        blocked = generate_causal_mask(T, device="cpu")
        dim = -1 if axis == BY_ROW else -2

        def weigh(square: Tensor) -> Tensor:
            return masked_softmax(square, blocked, dim=dim, temperature=temperature)

        scores = self.scores[:T, :T] + shift
        changed = scores.clone()
        changed[-1] += 2.0  # the last token asks for more …
        changed[:, -1] -= 2.0  # … and answers less
        weights = weigh(scores)
        moved = (weigh(changed) - weights).abs().numpy()
        square = Heat(
            weights.numpy(),
            blocked.numpy(),
            frames=_frame(moved),
            title=f"T = {T}: framed weights move with the last token",
            rows=(row,),
            right=tuple(f"{total:.2f}" for total in weights.sum(-1).tolist()),
            above=tuple(f"{total:.2f}" for total in weights.sum(-2).tolist()),
            side=320,
        )
        seen = scores[row].masked_fill(blocked[row], float("nan")).numpy()
        panels = (square, _draw_scores(seen, row), _draw_weights(weights[row].numpy(), row))
        return Picture(panels, _read(weights[row], row, moved[:-1].max(initial=0.0)))


def _frame(moved: np.ndarray) -> np.ndarray:
    """Frame what moves by at least what the caption shows: a leak in any row but the last."""
    kinds = np.full(len(moved), FRAMES.index("future"))
    kinds[-1] = FRAMES.index("ink")
    return (moved >= 0.0005) * kinds[:, None]


def _draw_scores(scores: np.ndarray, row: int) -> Curves:
    return Curves(
        scores[None],
        ("score",),
        ("past",),
        f"query {row}: scores of the keys it sees",
        steps=True,
        low=-11,  # the largest score and the largest shift
        high=11,
        axis="key",
        width=210,
        height=240,
    )


def _draw_weights(weights: np.ndarray, row: int) -> Bars:
    return Bars(weights[None], ("past",), f"query {row}: weights", width=230)


def _read(weights: Tensor, row: int, moved: float) -> str:
    total = weights.sum().item()  # down the columns it may be next to nothing, in float64 not 0
    spread = entropy(weights / total).item()
    return (
        f"query {row}: sum {total:.3f}, entropy {spread:.2f} nats, like {np.exp(spread):.1f} equal "
        f"keys. Last token changed: earlier rows move by {moved:.3f}"
    )
