"""What a finite number does where −∞ should stand."""

import re

import numpy as np
import torch
from torch import Tensor

from causal_lab.explorers.controls import Menu, Slider, Steps
from causal_lab.explorers.explorer import Explorer, fixed_scores
from causal_lab.masks.rules import generate_causal_mask, generate_padding_mask
from causal_lab.plots.picture import Heat, Picture

MAX_TOKENS, MAX_PADS = 32, 8
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
LOWEST = "lowest finite"
FILLS = ("0", "-1", "-5", "-10", "-20", "-100", "-1e4", "-1e9", LOWEST, "-inf")
AS_THEY_COME, ZEROS = "as softmax gives them", "zeros"


def typeset(number: str) -> str:
    """Write a number as a reader expects it.

    >>> typeset("-1e+09"), typeset("-inf")
    ('−1e9', '−∞')
    """
    return re.sub(r"e\+?(-?)0*", r"e\1", number).replace("-", "−").replace("inf", "∞")


class FillExplorer(Explorer):
    """Slide over the fill, the dtype and the padding and watch the leak, or the NaN.

    Where both masks block, the fill is added twice, as it is in real projects.

    >>> FillExplorer(T=2).picture.panels[0].frames.tolist()  # 1 is a leak
    [[0, 1], [0, 0]]
    """

    T = Slider("T, number of tokens", 1, MAX_TOKENS, 8, play=True)
    # "-5", so that every slider does something from the start.
    fill = Steps("fill, added where blocked", FILLS, "-5", words=map(typeset, FILLS))
    wish = Slider("wish to look ahead", 0, 50, 0)  # how much the model would like to look there
    pads = Slider("padding on the left", 0, MAX_PADS, 0)
    dtype = Menu("dtype", DTYPES)
    dead = Menu("dead rows", [AS_THEY_COME, ZEROS])

    GRID = {
        "T": [*range(1, 9), 12, 16],
        "fill": ["0", "-5", "-20", "-1e4", "-1e9", LOWEST, "-inf"],
        "wish": [0, 5, 10, 50],
        "pads": [0, 1, 3],
        "dtype": list(DTYPES),
        "dead": [AS_THEY_COME, ZEROS],
    }

    def __init__(self, **values):
        self.scores = fixed_scores(MAX_TOKENS, MAX_TOKENS, seed=2)
        self.tokens = fixed_scores(MAX_TOKENS, seed=3)  # the values that the weights average
        super().__init__(**values)

    def limits(self, T: int, **others) -> dict[str, tuple[int, int]]:  # noqa: D102
        return {"pads": (0, min(T, MAX_PADS))}

    def unused(self, pads: int, **others) -> set[str]:  # noqa: D102
        return set() if pads else {"dead"}

    def compute(  # noqa: D102
        self, T: int, fill: str, wish: int, pads: int, dtype: str, dead: str
    ) -> Picture:
        causal = generate_causal_mask(T, device="cpu")
        padding = generate_padding_mask([T - pads], T, side="left", device="cpu")[0, 0]  # (1, key)
        blocked = causal | padding
        number = DTYPES[dtype]
        value = torch.finfo(number).min if fill == LOWEST else float(fill)
        # Large numbers become −∞ here without a word, as they do in .half().
        M = torch.tensor(value, dtype=torch.float64, device="cpu").to(number)
        wishful = self.scores[:T, :T] + wish * blocked
        zeros = blocked.all(-1, keepdim=True) & (dead == ZEROS)
        nothing = torch.zeros_like(M)
        with torch.enable_grad():
            scores = wishful.to(number).requires_grad_()
            summed = scores + torch.where(causal, M, nothing) + torch.where(padding, M, nothing)
            # The finite score before the softmax is for the gradient, as in ``share_weight``.
            weights = torch.softmax(summed.masked_fill(zeros, 0), -1).masked_fill(zeros, 0)
            # A row that sees nothing is not read, and yet its NaN comes back.
            read = (weights.float() @ self.tokens[:T])[~blocked.all(-1)].sum()
            (gradient,) = torch.autograd.grad(read, scores)
        cells = weights.detach().float().numpy()
        added = typeset(f"{M.item():.3g}")
        title = f"T = {T}, {dtype}, blocked scores + ({added}): orange frames are leaks"
        square = Heat(cells, blocked.numpy(), title=title, numbers=True, side=384)
        twice = pads if dead == AS_THEY_COME else 0
        return Picture((square,), _read(cells, blocked.numpy(), gradient, twice))


def _read(cells: np.ndarray, blocked: np.ndarray, gradient: Tensor, pads: int) -> str:
    leak = np.nan_to_num(cells[blocked]).max(initial=0.0)
    broken = int(np.isnan(cells).any(axis=1).sum())
    finite = "yes" if gradient.isfinite().all() else "no"
    twice = "row 0" if pads == 2 else f"rows 0 to {pads - 2}"
    note = f"; in {twice}, padding ahead got the fill twice" if pads > 1 else ""
    return (
        f"largest weight on a blocked key {typeset(f'{leak:.2g}')}; rows of NaN: {broken}; "
        f"gradient finite: {finite}{note}"
    )
