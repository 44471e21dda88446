"""What a finite number does where −∞ should stand."""

from dataclasses import dataclass

import ipywidgets as widgets
import numpy as np
import torch
from torch import Tensor

from causal_lab.explorers.canvas import Canvas, Cells, HeatPanel
from causal_lab.explorers.explorer import Explorer, choice, fixed_scores, slider
from causal_lab.masks.rules import generate_causal_mask, generate_padding_mask

MAX_TOKENS, MAX_PADS = 32, 8
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
FILLS = ("0", "-1", "-5", "-10", "-20", "-100", "-1e4", "-1e9", "lowest finite", "-inf")


@dataclass(frozen=True)
class FillState:
    """What a :class:`FillExplorer` shows.

    Args:
        weights: (query, key) = (T, T), after the softmax, read back as float32.
        blocked: bool, shape (query, key), what should be 0.
        fill: what was added in the dtype that was chosen; a rounded or overflowed number.

    >>> FillExplorer(T=2).state.fill
    -5.0
    """

    weights: np.ndarray
    blocked: np.ndarray
    fill: float

    @property
    def leak(self) -> float:
        """Largest weight on a blocked key, NaN aside."""
        return float(np.nan_to_num(self.weights[self.blocked]).max(initial=0.0))


def fill_state(T: int, fill: str, wish: int, pads: int, dtype: str, scores: Tensor) -> FillState:
    """Add the causal and the padding mask to the scores and take the softmax.

    Args:
        fill: what is added where blocked, one of ``FILLS``. Where both masks block, it is added
            twice, as it is in real projects.
        wish: added to the blocked scores first: how much the model would like to look there.
        pads: padding tokens before the first real one; all T at most.
        dtype: a key of ``DTYPES``.
        scores: shape (at least T, at least T), the scores before; the first T of each axis are
            used.

    >>> round(fill_state(2, "0", 0, 0, "float32", torch.zeros(2, 2)).leak, 3)
    0.5
    """
    number = DTYPES[dtype]
    causal = generate_causal_mask(T, device="cpu")
    lengths = [T - min(pads, T)]
    padding = generate_padding_mask(lengths, T, side="left", device="cpu")[0, 0]  # (1, key)
    blocked = causal | padding
    value = torch.finfo(number).min if fill == "lowest finite" else float(fill)
    # Large numbers become −∞ here without a word, as they do in .half().
    M = torch.tensor(value, dtype=torch.float64, device="cpu").to(number)
    nothing = torch.zeros_like(M)
    wishful = scores[:T, :T] + wish * blocked
    summed = wishful.to(number) + torch.where(causal, M, nothing)
    summed = summed + torch.where(padding, M, nothing)
    weights = torch.softmax(summed, dim=-1)
    return FillState(weights.float().numpy(), blocked.numpy(), float(M))


class FillExplorer(Explorer):
    """Slide over the fill, the dtype and the padding and watch the leak, or the NaN.

    >>> FillExplorer(T=4).state.leak > 0
    True
    """

    def __init__(self, T: int = 8):
        self.scores = fixed_scores(MAX_TOKENS, MAX_TOKENS, seed=2)
        controls = {
            "T": slider("T, number of tokens", T, 1, MAX_TOKENS),
            "fill": widgets.SelectionSlider(
                options=FILLS,
                value="-5",  # every slider does something from the start
                description="fill, added where blocked",
                style={"description_width": "initial"},
                layout=widgets.Layout(width="380px", margin="2px 16px 2px 0"),
            ),
            "wish": slider("wish to look ahead", 0, 0, 50),
            "pads": slider("padding on the left", 0, 0, MAX_PADS),
            "dtype": choice("dtype", list(DTYPES)),
        }
        super().__init__(controls, Canvas([HeatPanel(384, words=False)]))

    def limits(self, T: int, **others) -> dict[str, int]:  # noqa: D102
        return {"pads": min(T, MAX_PADS)}

    def compute(self, T: int, fill: str, wish: int, pads: int, dtype: str) -> FillState:  # noqa: D102
        return fill_state(T, fill, wish, pads, dtype, self.scores)

    def paint(self, state: FillState) -> np.ndarray:  # noqa: D102
        broken = int(np.isnan(state.weights).any(axis=1).sum())
        T = len(state.weights)
        fill = f"{state.fill:.3g}".replace("inf", "∞").replace("-", "−")
        return self.canvas.paint(
            [Cells(state.weights, state.blocked)],
            titles=[f"T = {T}, blocked scores + ({fill}): orange frames are leaks"],
            caption=f"largest weight on a blocked key {state.leak:.2g}; rows of NaN: {broken}",
        )
