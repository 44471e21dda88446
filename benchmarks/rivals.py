"""The same heat map twice: in an explorer, and by ``interact`` with pyplot."""

import matplotlib.pyplot as plt
import numpy as np

from causal_lab.attention.softmax import masked_softmax
from causal_lab.explorers import Explorer
from causal_lab.explorers.controls import Slider
from causal_lab.explorers.explorer import fixed_scores
from causal_lab.masks.rules import generate_causal_mask
from causal_lab.plots.picture import Heat, Picture
from causal_lab.plots.style import WEIGHT_MAP, WEIGHT_TICKS, weight_scale

LONGEST = 512
SCORES = fixed_scores(LONGEST, LONGEST, seed=0)


def causal_weights(T: int) -> np.ndarray:
    blocked = generate_causal_mask(T)
    return masked_softmax(SCORES[:T, :T], blocked).numpy()


class HeatExplorer(Explorer):
    """Slide over T and see the weights."""

    T = Slider("T", 1, LONGEST, 8)

    def compute(self, T):
        return Picture((Heat(causal_weights(T), title=f"T = {T}", side=512),))


class SurprisedExplorer(HeatExplorer):
    """The same, when a learner goes where nobody looked ahead."""

    def _foresee(self, wishes):
        self._ahead = {"asked": self._asked["number"], "wishes": wishes}


def draw_with_pyplot(T: int) -> None:
    figure, ax = plt.subplots(figsize=(6.4, 5.6))
    image = ax.imshow(causal_weights(T), cmap=WEIGHT_MAP, norm=weight_scale())
    figure.colorbar(image, ax=ax, ticks=WEIGHT_TICKS).set_label("weight")
    ax.set_xlabel("key (is looked at)")
    ax.set_ylabel("query (looks)")
    ax.set_title(f"T = {T}")
    plt.show()
