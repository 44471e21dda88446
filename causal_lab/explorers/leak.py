"""How much weight reaches the future, for five ways to keep it out."""

import numpy as np
import torch
from torch import Tensor

from causal_lab.attention.softmax import stable_softmax
from causal_lab.explorers.controls import Menu, Slider, Steps
from causal_lab.explorers.explorer import Explorer, fixed_scores
from causal_lab.plots.picture import Bars, Picture

MAX_TOKENS = 64
ALL_ZERO, RANDOM, ONE_TWO = "all zero", "random", "1, 2, then zeros"
RIGHT = "score = −∞, then softmax"

WAYS = {
    "nothing": lambda scores, past: stable_softmax(scores),
    "score × 0, then softmax": lambda scores, past: stable_softmax(scores * past),
    "softmax, then weight × 0": lambda scores, past: stable_softmax(scores) * past,
    "softmax, × 0, renormalise": lambda scores, past: _renormalise(stable_softmax(scores) * past),
    RIGHT: lambda scores, past: stable_softmax(scores.masked_fill(past == 0, float("-inf"))),
}


class LeakExplorer(Explorer):
    """Slide over T and t, push the last token, and watch the weight on the future.

    >>> LeakExplorer(T=8, t=3).picture.panels[1].heights.tolist()  # past, future, missing
    [[0.375], [0.625], [0.0]]
    """

    T = Slider("T, number of tokens", 1, MAX_TOKENS, 8, play=True)
    t = Slider("t, how many are visible", 1, MAX_TOKENS, 3)
    way = Menu("against the future", WAYS, "score × 0, then softmax")
    scores = Menu("scores", [ALL_ZERO, RANDOM, ONE_TWO])
    push = Steps(
        "push on the last score",
        [0, 1, 2, 3, 5, 10, 20, 50, 88, 100, 103, 104, 105, 106, 120, 200],
        0,
    )

    GRID = {
        "T": [*range(1, 9), 10, 12, 16],
        "t": [1, 2, 3, 4, 5, 6, 7, 8, 12, 16],
        "way": list(WAYS),
        "scores": [ALL_ZERO, RANDOM, ONE_TWO],
        "push": [0, 3, 20, 103, 104, 105, 106, 200],
    }

    def __init__(self, **values):
        random = 1.5 * fixed_scores(MAX_TOKENS, seed=1)
        one_two = torch.zeros_like(random)
        one_two[0], one_two[1] = 1.0, 2.0
        self.drawn = {ALL_ZERO: torch.zeros_like(random), RANDOM: random, ONE_TWO: one_two}
        super().__init__(**values)

    def limits(self, T: int, **others) -> dict[str, tuple[int, int]]:  # noqa: D102
        return {"t": (1, T)}

    def compute(self, T: int, t: int, way: str, scores: str, push: int) -> Picture:  # noqa: D102
        pushed = self.drawn[scores][:T].clone()
        pushed[-1] += push
        # All in float32, as a model would: what is rounded away is the point.
        past = (torch.arange(T, device="cpu") < t).to(pushed.dtype)
        weights, right = (WAYS[one](pushed, past).numpy() for one in (way, RIGHT))
        ahead = np.arange(T) >= t
        heights = np.stack([np.where(ahead, 0, weights), np.where(ahead, weights, 0)])
        added = f", the last score + {push}" if push else ""
        bars = Bars(
            heights,
            ("past", "future"),
            f"T = {T}, {t} visible{added}; grey outline: what −∞ gives",
            meanings=("past", "future"),
            outline=right,
            label="weight, drawn as its root",
            root=True,  # 1/64 shows, and equal weights stay equally high
        )
        return Picture((bars, _sum_up(heights)), _read(weights, right, ahead))


def _renormalise(weights: Tensor) -> Tensor:
    return weights / weights.sum(-1, keepdim=True)


def _sum_up(heights: np.ndarray) -> Bars:
    """Stack the weight on the past, on the future, and what is missing from 1."""
    missing = 1 - heights.sum()
    missing = missing if missing > 1e-6 else 0.0  # rounding is not missing
    parts = ("past", "future", "missing")
    column = np.array([*heights.sum(1), missing])[:, None]
    return Bars(column, parts, "the sum", meanings=parts, name="sum", width=140)


def _read(weights: np.ndarray, right: np.ndarray, ahead: np.ndarray) -> str:
    if np.isnan(weights).any():
        return "every weight is NaN, 0/0: the future took all there was"
    return (
        f"weight on the future {weights[ahead].sum():.3f}; sum of all weights {weights.sum():.3f}; "
        f"farthest from what −∞ gives {np.abs(weights - right).max():.3f}"
    )
