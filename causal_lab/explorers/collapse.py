"""What is left of the tokens after many layers: a product of causal attention, layer upon layer."""

import numpy as np
from torch import Tensor

from causal_lab.attention.softmax import masked_softmax
from causal_lab.attention.spectral import (
    cumulative_products,
    distance_from_collapse,
    previous_token_attention,
    second_eigenvalue,
    sink_attention,
    uniform_causal_attention,
    with_residual,
)
from causal_lab.explorers.controls import Menu, Slider
from causal_lab.explorers.explorer import Explorer, fixed_scores
from causal_lab.masks.rules import generate_causal_mask
from causal_lab.plots.picture import Curves, Heat, Picture

MAX_TOKENS, MAX_DEPTH = 24, 64
RANDOM, RANDOM_LAYERS = "random scores", "random scores, new in each layer"
UNIFORM, PREVIOUS = "all of the past alike", "half itself, half the one before"
SINK, SILENT = "half itself, half token 0", "half itself, half a silent token 0"
ATTENTIONS = [RANDOM, RANDOM_LAYERS, UNIFORM, SINK, SILENT, PREVIOUS]
ALONE, RESIDUAL = "attention alone", "half residual, half attention"


class CollapseExplorer(Explorer):
    """Slide over the depth and watch all tokens become copies of the first.

    >>> explorer = CollapseExplorer(T=6, attention=SINK)
    >>> explorer.picture.panels[1].values[0, :4].tolist()  # the distance, layer by layer
    [1.0, 0.5, 0.25, 0.125]
    """

    depth = Slider("depth, number of layers", 0, MAX_DEPTH, 1, play=True)
    T = Slider("T, number of tokens", 1, MAX_TOKENS, 8)
    attention = Menu("attention", ATTENTIONS)
    path = Menu("each layer", [ALONE, RESIDUAL])

    GRID = {
        "depth": [*range(13), 16, 20, 24, 32, 40, 48, 64],
        "T": [*range(1, 9), 12, 16],
        "attention": ATTENTIONS,
        "path": [ALONE, RESIDUAL],
    }

    def __init__(self, **values):
        self.scores = 1.5 * fixed_scores(MAX_DEPTH, MAX_TOKENS, MAX_TOKENS, seed=7)
        super().__init__(**values)

    def compute(self, depth: int, T: int, attention: str, path: str) -> Picture:  # noqa: D102
        layers = self._layers(T, attention)
        products = cumulative_products(with_residual(layers) if path == RESIDUAL else layers)
        # A silent token brings nothing: what arrives is shared out among what does arrive.
        made_of = products / products.sum(dim=-1, keepdim=True)
        distances, eigenvalues = distance_from_collapse(made_of), second_eigenvalue(products)
        weights = made_of[depth].numpy()
        slowest = _last_largest(weights[:, 1:].sum(axis=1))
        of_what = "what is left of it" if attention == SILENT else "its weight"
        return Picture(
            (_square(weights, depth, slowest), _curves(distances, eigenvalues, depth)),
            "token 0's value is 0: outputs shrink, and nothing is mixed in; "
            * (attention == SILENT)
            + f"distance: token {slowest} (marked) has {distances[depth]:.2g} of {of_what} "
            f"elsewhere than on token 0; 2nd eigenvalue of the product: {eigenvalues[depth]:.2g}",
        )

    def _layers(self, T: int, attention: str) -> Tensor:
        """Make the layers that a menu names, float64, (depth, query, key) = (MAX_DEPTH, T, T)."""
        if attention in (RANDOM, RANDOM_LAYERS):
            scores = self.scores[: 1 if attention == RANDOM else None, :T, :T].double()
            A = masked_softmax(scores, generate_causal_mask(T, device="cpu"))
        elif attention == UNIFORM:
            A = uniform_causal_attention(T)
        elif attention == PREVIOUS:
            A = previous_token_attention(T, 0.5)
        else:
            A = sink_attention(T, 0.5)
            if attention == SILENT:
                A[1:, 0] = 0.0  # the weight is there; the value that it brings is not
        return A.expand(MAX_DEPTH, T, T)


def _square(weights: np.ndarray, depth: int, slowest: int) -> Heat:
    T = len(weights)
    return Heat(
        weights,
        generate_causal_mask(T, device="cpu").numpy(),
        title=f"T = {T}, after {depth} layer{'s' * (depth != 1)}",
        rows=(slowest,),
        names=("output", "token it is made of", "share"),
        side=320,
    )


def _curves(distances: Tensor, eigenvalues: Tensor, depth: int) -> Curves:
    return Curves(
        np.stack([distances, eigenvalues]),
        ("distance", "2nd eigenvalue of the product"),
        ("past", "second"),
        title="how far from a collapse",
        dashed=(1,),  # or it would cover the distance where both are the same
        marked=depth,
        low=1e-6,
        log=True,
        axis="depth",
        label="distance",
    )


def _last_largest(values: np.ndarray) -> int:
    return int(len(values) - 1 - values[::-1].argmax())
