"""What a mask of finite depth lets through, and where it becomes exactly 0."""

import numpy as np
import torch
from torch import Tensor

from causal_lab.attention.softmax import stable_softmax
from causal_lab.explorers.controls import Menu, Slider
from causal_lab.explorers.explorer import Explorer, fixed_scores
from causal_lab.masks.rules import generate_causal_mask
from causal_lab.masks.soft import soft_causal_bias
from causal_lab.plots.picture import Curves, Heat, Picture

MAX_TOKENS, MAX_DEPTH, MAX_SLOPE = 32, 120, 10
SOFT, HARD = "soft: a finite depth", "hard: −∞"
EQUAL, RANDOM, WISHFUL = "all equal", "random", "random, the future 30 higher"
_LOWEST = 1e-56  # the leak of the greatest depth still lies on the axis


class SoftMaskExplorer(Explorer):
    """Slide the future down, and watch its weight become small, and smaller, and not 0.

    >>> SoftMaskExplorer(T=4, depth=0).picture.panels[0].cells[0].tolist()
    [0.25, 0.25, 0.25, 0.25]
    """

    T = Slider("T, number of tokens", 1, MAX_TOKENS, 8)
    depth = Slider("depth, taken from the future", 0, MAX_DEPTH, 4, play=True)
    slope = Slider("slope, more for each step", 0, MAX_SLOPE, 0)
    mask = Menu("mask", [SOFT, HARD])
    scores = Menu("scores", [EQUAL, RANDOM, WISHFUL])

    GRID = {
        "T": [*range(1, 9), 10, 12, 14, 16],
        "depth": [0, 1, 2, 4, 10, 20, 30, 60, 103, 104, 120],
        "slope": [0, 2],
        "mask": [SOFT, HARD],
        "scores": [EQUAL, RANDOM, WISHFUL],
    }

    def __init__(self, **values):
        # With these, row 1 leaks more than row 0, which has less of a past.
        random = fixed_scores(MAX_TOKENS, MAX_TOKENS, seed=42)
        wishful = random + 30 * _future(MAX_TOKENS)
        self.tables = {EQUAL: torch.zeros_like(random), RANDOM: random, WISHFUL: wishful}
        super().__init__(**values)

    def unused(self, mask: str, **others) -> set[str]:  # noqa: D102
        return {"depth"} if mask == HARD else set()  # the slope still bends the curves

    def compute(self, T: int, depth: int, slope: int, mask: str, scores: str) -> Picture:  # noqa: D102
        deep, future = float("inf") if mask == HARD else float(depth), _future(T)
        bias = soft_causal_bias(T, deep, slope=slope, device="cpu")
        table = self.tables[scores][:T, :T]
        weights = stable_softmax(table + bias)
        rows = (weights * future).sum(dim=1)
        frames = "framed cells leak" if rows.any() else "hatched is exactly 0"
        square = Heat(
            weights.numpy(),
            future.numpy(),
            # From the weights themselves: a picture cannot hold the least that float32 can.
            frames=((weights > 0) & future).numpy(),
            title=f"T = {T}, depth {'∞' if mask == HARD else depth}: {frames}",
        )
        count = f"{T} row{'s' if T > 1 else ''}"
        return Picture(
            (square, _curves(slope, table, None if mask == HARD else depth)),
            f"the future gets {_short(rows[0])} of row 0, {_short(rows.max())} of the worst row, "
            f"{_short(rows.sum())} of {count}; exactly 0: {'no' if rows.any() else 'yes'}; "
            f"{_verdict(T, mask, bool(rows.any()))}",
        )


def _curves(slope: int, table: Tensor, depth: int | None) -> Curves:
    """Draw the leak at every depth; grey, to compare with, if the mask has none."""
    single, exact = _leaks(slope, table)
    zeros = np.flatnonzero(single == 0)
    ends = f"float32 says 0 from depth {zeros[0]} on" if len(zeros) else "float32 never says 0"
    title = f"the worst row at every depth; {ends}"
    if depth is None:
        title = "−∞ leaks 0, which is not on this axis; grey: the soft mask at every depth"
    return Curves(
        np.stack([single, exact]),
        ("float32", "exact"),
        ("missing", "missing") if depth is None else ("second", "ink"),
        title=title,
        dashed=(1,),
        marked=depth,
        low=_LOWEST,
        log=True,
        axis="depth",
        label="largest leak of any row",
        width=400,
        height=340,
    )


def _leaks(slope: int, table: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Find the largest leak of any row at each depth: as float32 finds it, and in 64 bits."""
    T, future = len(table), _future(len(table))
    depths = torch.arange(MAX_DEPTH + 1, dtype=torch.float32, device="cpu")
    shallow = soft_causal_bias(T, 0.0, slope=slope, device="cpu")
    every = stable_softmax(table + (shallow - depths[:, None, None] * future))
    single = (every * future).sum(dim=-1).amax(dim=-1)
    return single.numpy(), _exact_leaks(table.double() + shallow, future, depths.double()).numpy()


def _exact_leaks(scores: Tensor, future: Tensor, depths: Tensor) -> Tensor:
    """Find the largest leak at each depth without a softmax: e^(future − past − depth)."""
    nothing = float("-inf")
    past = scores.masked_fill(future, nothing).logsumexp(dim=-1)
    ahead = scores.masked_fill(~future, nothing)[:-1].logsumexp(dim=-1)
    most = (ahead - past[:-1]).amax() if len(ahead) else torch.tensor(nothing, device="cpu")
    return torch.sigmoid(most.double() - depths)


def _future(T: int) -> Tensor:
    return generate_causal_mask(T, device="cpu")


def _verdict(T: int, mask: str, leaks: bool) -> str:
    if T == 1:
        return "one token has no future"
    if mask == HARD:
        return "−∞ blocks, whatever the scores"
    return "lowered, not blocked" if leaks else "too small for float32, with these scores"


def _short(leak: Tensor) -> str:
    return f"{leak:.3g}".replace("-", "−")
