"""What is left of the tokens after many layers: a product of causal attention, layer upon layer."""

from dataclasses import dataclass

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
from causal_lab.explorers.canvas import Canvas, Cells, CurvePanel, Curves, HeatPanel
from causal_lab.explorers.explorer import Explorer, choice, fixed_scores, slider
from causal_lab.masks.rules import generate_causal_mask

MAX_TOKENS, MAX_DEPTH = 24, 64
SINK, PREVIOUS = "half itself, half token 0", "half itself, half the one before"
UNIFORM, RANDOM = "all of the past alike", "random scores"
RANDOM_LAYERS = "random scores, new in each layer"
ALONE, RESIDUAL = "attention alone", "half residual, half attention"
LOW = 1e-6  # the lower end of the curves


@dataclass(frozen=True)
class CollapseState:
    """What a :class:`CollapseExplorer` shows.

    Args:
        product: (query, key) = (T, T), what the outputs after ``depth`` layers are made of.
        distances: shape (MAX_DEPTH + 1,), after each number of layers, the slowest token's weight
            on anything but token 0.
        eigenvalues: shape (MAX_DEPTH + 1,), after each number of layers, the second eigenvalue of
            the product.
        depth: layers, 0 to ``MAX_DEPTH``.

    >>> CollapseExplorer(T=4, depth=0).state.product.tolist()[3]
    [0.0, 0.0, 0.0, 1.0]
    """

    product: np.ndarray
    distances: np.ndarray
    eigenvalues: np.ndarray
    depth: int

    @property
    def slowest(self) -> int:
        """Which token has most weight on anything but token 0; the last of several."""
        left = self.product[:, 1:].sum(axis=1)
        return int(len(left) - 1 - left[::-1].argmax())


def chosen_layers(T: int, attention: str, scores: Tensor) -> Tensor:
    """Make the layers that a menu names.

    Args:
        attention: ``RANDOM``, ``RANDOM_LAYERS``, ``UNIFORM``, ``SINK`` or ``PREVIOUS``.
        scores: shape (MAX_DEPTH, at least T, at least T), for random layers.

    Returns:
        float64, (depth, query, key) = (MAX_DEPTH, T, T), on the CPU, where all explorers compute.

    >>> chosen_layers(2, SINK, fixed_scores(MAX_DEPTH, 2, 2, seed=0))[0].tolist()
    [[1.0, 0.0], [0.5, 0.5]]
    """
    if attention == RANDOM_LAYERS:
        return masked_softmax(scores[:, :T, :T].double(), generate_causal_mask(T, device="cpu"))
    if attention == RANDOM:
        A = masked_softmax(scores[0, :T, :T].double(), generate_causal_mask(T, device="cpu"))
    elif attention == UNIFORM:
        A = uniform_causal_attention(T)
    else:
        A = (sink_attention if attention == SINK else previous_token_attention)(T, 0.5)
    return A.expand(MAX_DEPTH, T, T)


def collapse_state(T: int, depth: int, attention: str, path: str, scores: Tensor) -> CollapseState:
    """Compute what a :class:`CollapseExplorer` shows.

    Args:
        attention: as for :func:`chosen_layers`.
        path: ``ALONE`` or ``RESIDUAL``.
        scores: shape (MAX_DEPTH, at least T, at least T), for random layers.

    >>> scores = fixed_scores(MAX_DEPTH, 4, 4, seed=0)
    >>> collapse_state(4, 2, SINK, ALONE, scores).distances[:4].tolist()
    [1.0, 0.5, 0.25, 0.125]
    """
    layers = chosen_layers(T, attention, scores)
    products = cumulative_products(with_residual(layers) if path == RESIDUAL else layers)
    return CollapseState(
        products[depth].numpy(),
        distance_from_collapse(products).numpy(),
        second_eigenvalue(products).numpy(),
        depth,
    )


class CollapseExplorer(Explorer):
    """Slide over the depth and watch all tokens become copies of the first.

    >>> explorer = CollapseExplorer(T=6, depth=2)
    >>> explorer.controls["attention"].value = SINK
    >>> explorer.state.distances[2]
    np.float64(0.25)
    """

    def __init__(self, T: int = 8, depth: int = 1):
        self.scores = 1.5 * fixed_scores(MAX_DEPTH, MAX_TOKENS, MAX_TOKENS, seed=7)
        controls = {
            "depth": slider("depth, number of layers", depth, 0, MAX_DEPTH),
            "T": slider("T, number of tokens", T, 1, MAX_TOKENS),
            "attention": choice("attention", [RANDOM, RANDOM_LAYERS, UNIFORM, SINK, PREVIOUS]),
            "path": choice("each layer", [ALONE, RESIDUAL]),
        }
        curves = CurvePanel(
            ["distance", "2nd eigenvalue"],
            LOW,
            1.0,
            label="log scale",
            axis="depth",
            log=True,
            width=300,
            height=320,
        )
        names = ("output", "token it is made of", "weight")
        super().__init__(controls, Canvas([HeatPanel(320, words=False, names=names), curves]))

    def compute(self, T: int, depth: int, attention: str, path: str) -> CollapseState:  # noqa: D102
        return collapse_state(T, depth, attention, path, self.scores)

    def paint(self, state: CollapseState) -> np.ndarray:  # noqa: D102
        T, slowest = len(state.product), state.slowest
        blocked = generate_causal_mask(T, device="cpu").numpy()
        layers = "1 layer" if state.depth == 1 else f"{state.depth} layers"
        return self.canvas.paint(
            [
                Cells(state.product, blocked, marked=slowest),
                Curves(np.stack([state.distances, state.eigenvalues]), marked=state.depth),
            ],
            titles=[f"T = {T}, after {layers}", "how far from a collapse"],
            caption=f"distance: token {slowest} (marked) has {state.distances[state.depth]:.2g} "
            "of its weight elsewhere than on token 0; "
            f"2nd eigenvalue: {state.eigenvalues[state.depth]:.2g}",
        )
