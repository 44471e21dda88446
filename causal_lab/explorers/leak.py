"""How much weight reaches the future, for five ways to keep it out."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from causal_lab.attention.softmax import stable_softmax
from causal_lab.explorers.canvas import BarPanel, Bars, Canvas
from causal_lab.explorers.explorer import Explorer, choice, fixed_scores, slider

MAX_TOKENS = 64
ALL_ZERO, RANDOM = "all zero", "random"

WAYS = {
    "nothing": lambda scores, past: stable_softmax(scores),
    "score × 0, then softmax": lambda scores, past: stable_softmax(scores * past),
    "softmax, then weight × 0": lambda scores, past: stable_softmax(scores) * past,
    "softmax, × 0, renormalise": lambda scores, past: _renormalise(stable_softmax(scores) * past),
    "score = −∞, then softmax": lambda scores, past: stable_softmax(
        scores.masked_fill(past == 0, float("-inf"))
    ),
}


@dataclass(frozen=True)
class LeakState:
    """What a :class:`LeakExplorer` shows.

    Args:
        weights: shape (T,), one query's weights.
        seen: how many tokens it may look at.

    >>> LeakState(np.array([0.5, 0.25, 0.25]), seen=1).leak
    0.5
    """

    weights: np.ndarray
    seen: int

    @property
    def leak(self) -> float:
        """Weight on the future."""
        return float(self.weights[self.seen :].sum())


def leak_state(T: int, t: int, way: str, scores: Tensor) -> LeakState:
    """Compute what a :class:`LeakExplorer` shows.

    Args:
        t: how many of them the query may look at; at most T is taken.
        way: a key of ``WAYS``.
        scores: shape (at least T,), the query's scores; the first T are used.

    >>> leak_state(8, 2, "score × 0, then softmax", torch.zeros(8)).leak
    0.75
    """
    t = min(t, T)
    past = (torch.arange(T, device=scores.device) < t).to(scores.dtype)
    return LeakState(WAYS[way](scores[:T], past).numpy(), t)


class LeakExplorer(Explorer):
    """Slide over T and t and watch the weight on the future.

    >>> LeakExplorer(T=8, t=3).state.leak
    0.625
    """

    def __init__(self, T: int = 8, t: int = 3):
        random = 1.5 * fixed_scores(MAX_TOKENS, seed=1)
        self.scores = {ALL_ZERO: torch.zeros_like(random), RANDOM: random}
        controls = {
            "T": slider("T, number of tokens", T, 1, MAX_TOKENS),
            "t": slider("t, how many are visible", t, 1, MAX_TOKENS),
            "way": choice("against the future", list(WAYS), "score × 0, then softmax"),
            "scores": choice("scores", [ALL_ZERO, RANDOM]),
        }
        super().__init__(controls, Canvas([BarPanel(640, 260, words=False)]))

    def limits(self, T: int, **others) -> dict[str, int]:  # noqa: D102
        return {"t": T}

    def compute(self, T: int, t: int, way: str, scores: str) -> LeakState:  # noqa: D102
        return leak_state(T, t, way, self.scores[scores])

    def paint(self, state: LeakState) -> np.ndarray:  # noqa: D102
        T = len(state.weights)
        return self.canvas.paint(
            [Bars(state.weights, np.arange(T) >= state.seen)],
            titles=[f"T = {T}, t = {state.seen}: blue is visible, orange is the future"],
            caption=f"weight on the future {state.leak:.3f}; sum of all weights "
            f"{state.weights.sum():.3f}",
        )


def _renormalise(weights: Tensor) -> Tensor:
    return weights / weights.sum(-1, keepdim=True)
