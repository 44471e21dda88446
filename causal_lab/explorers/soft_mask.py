"""What a mask of finite depth lets through, and where it becomes exactly 0."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from causal_lab.attention.softmax import stable_softmax
from causal_lab.explorers.canvas import Canvas, Cells, CurvePanel, Curves, HeatPanel
from causal_lab.explorers.explorer import Explorer, choice, fixed_scores, slider
from causal_lab.masks.rules import generate_causal_mask
from causal_lab.masks.soft import soft_causal_bias

MAX_TOKENS, MAX_DEPTH, MAX_SLOPE = 32, 120, 10
SOFT, HARD = "soft: a finite depth", "hard: −∞"
EQUAL, RANDOM, WISHFUL = "all equal", "random", "random, the future 30 higher"
_LOWEST = 1e-56  # the leak of the greatest depth still lies on the axis


@dataclass(frozen=True)
class SoftMaskState:
    """What a :class:`SoftMaskExplorer` shows.

    Args:
        weights: float32, (query, key) = (T, T).
        blocked: bool, shape (query, key), the future, which should get nothing.
        leaks: float32, shape (MAX_DEPTH + 1,), the largest leak of any row at each depth, as
            float32 finds it.
        exact: float64, shape (MAX_DEPTH + 1,), the same, from the logarithms of the sums in 64
            bits.
        depth: the present one; ∞ for the hard mask.

    >>> SoftMaskExplorer(T=4, depth=0).state.largest
    0.75
    """

    weights: np.ndarray
    blocked: np.ndarray
    leaks: np.ndarray
    exact: np.ndarray
    depth: float

    @property
    def rows(self) -> np.ndarray:
        """Weight on the future, row by row."""
        return (self.weights * self.blocked).sum(axis=1)

    @property
    def largest(self) -> float:
        """Weight on the future in the row that has most of it."""
        return float(self.rows.max())


def soft_mask_state(T: int, depth: float, slope: int, scores: Tensor) -> SoftMaskState:
    """Compute what a :class:`SoftMaskExplorer` shows.

    Args:
        depth: how far the scores of the future are lowered; ∞ is the hard mask.
        slope: how much further for each further step.
        scores: float32, shape (at least T, at least T), the scores before; the first T of each axis
            are used.

    >>> state = soft_mask_state(4, float("inf"), 0, torch.zeros(4, 4))
    >>> state.largest, float(state.leaks[0])
    (0.0, 0.75)
    """
    scores, future = scores[:T, :T], generate_causal_mask(T, device=scores.device)
    weights = stable_softmax(scores + soft_causal_bias(T, depth, slope=slope, device="cpu"))
    depths = torch.arange(MAX_DEPTH + 1, dtype=torch.float32, device=scores.device)
    shallow = soft_causal_bias(T, 0.0, slope=slope, device="cpu")  # the others lie below it
    every = stable_softmax(scores + (shallow - depths[:, None, None] * future))
    leaks = (every * future).sum(dim=-1).amax(dim=-1)
    exact = _exact_leaks(scores.double() + shallow, future, depths.double())
    return SoftMaskState(weights.numpy(), future.numpy(), leaks.numpy(), exact.numpy(), depth)


class SoftMaskExplorer(Explorer):
    """Slide the future down, and watch its weight become small, and smaller, and not 0.

    Args:
        depth: the mask's depth at first.

    >>> SoftMaskExplorer(T=4, depth=80).state.largest > 0
    True
    """

    def __init__(self, T: int = 8, depth: int = 4):
        random = fixed_scores(MAX_TOKENS, MAX_TOKENS, seed=10)
        future = generate_causal_mask(MAX_TOKENS, device="cpu")
        self.scores = {
            EQUAL: torch.zeros_like(random),
            RANDOM: random,
            WISHFUL: random + 30 * future,
        }
        controls = {
            "T": slider("T, number of tokens", T, 1, MAX_TOKENS),
            "depth": slider("depth, taken from the future", depth, 0, MAX_DEPTH),
            "slope": slider("slope, more for each step", 0, 0, MAX_SLOPE),
            "mask": choice("mask", [SOFT, HARD]),
            "scores": choice("scores", [EQUAL, RANDOM, WISHFUL]),
        }
        curve = CurvePanel(
            ["exact", "float32"],
            _LOWEST,
            1.0,
            label="largest leak of any row",
            axis="depth",
            log=True,
            width=470,
            height=340,
        )
        super().__init__(controls, Canvas([HeatPanel(340, words=False), curve]))

    def compute(self, T: int, depth: int, slope: int, mask: str, scores: str) -> SoftMaskState:  # noqa: D102
        depth = float(depth) if mask == SOFT else float("inf")
        return soft_mask_state(T, depth, slope, self.scores[scores])

    def paint(self, state: SoftMaskState) -> np.ndarray:  # noqa: D102
        T, hard, leaks = len(state.weights), np.isinf(state.depth), state.largest > 0
        frames = "framed cells leak" if leaks else "hatched is exactly 0"
        depth = "∞" if hard else f"{state.depth:.0f}"
        curves = Curves(
            np.stack([state.exact, state.leaks]), marked=None if hard else int(state.depth)
        )
        return self.canvas.paint(
            [Cells(state.weights, state.blocked), curves],
            titles=[
                f"T = {T}, depth {depth}: {frames}",
                "the worst row at every depth; 0 is not on this axis",
            ],
            caption=f"the future gets {_short(state.rows[0])} of row 0, {_short(state.largest)} of "
            f"the worst row, {_short(state.rows.sum())} of all {T}; exactly 0: "
            f"{not leaks}; {_verdict(state)}",
        )


def _exact_leaks(scores: Tensor, future: Tensor, depths: Tensor) -> Tensor:
    """Find the largest leak at each depth without a softmax: e^(future − past − depth)."""
    nothing = float("-inf")
    past = scores.masked_fill(future, nothing).logsumexp(dim=-1)
    ahead = scores.masked_fill(~future, nothing)[:-1].logsumexp(dim=-1)
    most = (ahead - past[:-1]).amax() if len(ahead) else torch.tensor(nothing, device=past.device)
    return torch.sigmoid(most.double() - depths)


def _verdict(state: SoftMaskState) -> str:
    if not state.blocked.any():
        return "one token has no future"
    if np.isinf(state.depth):
        return "−∞ blocks, whatever the scores"
    if state.largest == 0:
        return "too small for float32, with these scores"
    return "lowered, not blocked"


def _short(leak: float) -> str:
    return f"{leak:.3g}".replace("-", "−")
