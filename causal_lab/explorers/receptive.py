"""How far information travels: which tokens reach an output as layers are stacked."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from causal_lab.explorers.canvas import Canvas, Cells, HeatPanel
from causal_lab.explorers.explorer import Explorer, choice, slider
from causal_lab.masks.reach import stacked_receptive_field
from causal_lab.masks.rules import generate_causal_mask, generate_sliding_window_mask
from causal_lab.masks.sparse import (
    generate_block_sparse_mask,
    generate_dilated_mask,
    generate_row_column_mask,
)

MAX_TOKENS, MAX_LAYERS, MAX_WINDOW = 64, 8, 16
CAUSAL = "causal"
WINDOW, SINK = "window", "window and one sink"
DILATED, DOUBLING = "dilated window", "dilation 1, 2, 4, … by layer"
BLOCKS, GRID = "blocks and their last tokens", "image: same row, same column"
PATTERNS = [WINDOW, SINK, DILATED, DOUBLING, BLOCKS, GRID, CAUSAL]


@dataclass(frozen=True)
class ReceptiveState:
    """What a :class:`ReceptiveExplorer` shows.

    Args:
        blocked: bool, (query, key) = (T, T), the mask of the last layer, True where the query may
            not look.
        needed: int, (output, token) = (T, T), how many layers it takes until the token reaches the
            output; 1 for its own, which is there from the start, and 0 where it has not arrived.
        formula: how many tokens the last output hangs on if the text is long enough; empty if there
            is no short formula.

    >>> ReceptiveExplorer(T=6, layers=2, window=2).state.needed[5].tolist()
    [0, 0, 0, 2, 1, 1]
    """

    blocked: np.ndarray
    needed: np.ndarray
    layers: int
    formula: str

    @property
    def seen(self) -> int:
        """How many tokens the last output hangs on."""
        return int((self.needed[-1] > 0).sum())


def mask_of_layer(pattern: str, T: int, layer: int, window: int, dilation: int) -> Tensor:
    """Make the mask of one layer.

    Args:
        pattern: one of ``PATTERNS``.
        layer: counted from 0; only ``DOUBLING`` differs between layers.
        window: tokens that a query sees; the size of a block, or the width of the image.
        dilation: the step from one visible token to the next, for ``DILATED``.

    Returns:
        bool, (query, key) = (T, T), on the CPU, where all explorers compute.

    >>> mask_of_layer(WINDOW, 4, 0, 2, 1).int().tolist()[3]
    [1, 1, 0, 0]
    """
    if pattern == CAUSAL:
        return generate_causal_mask(T, device="cpu")
    if pattern in (WINDOW, SINK):
        return generate_sliding_window_mask(T, window, sinks=int(pattern == SINK), device="cpu")
    if pattern == BLOCKS:
        return generate_block_sparse_mask(T, window, device="cpu")
    if pattern == GRID:  # the last row of the image may be short
        return generate_row_column_mask(-(-T // window), window, device="cpu")[:T, :T]
    step = 2**layer if pattern == DOUBLING else dilation
    return generate_dilated_mask(T, step, window=window, device="cpu")


def receptive_state(
    T: int, layers: int, pattern: str, window: int, dilation: int
) -> ReceptiveState:
    """Compute what a :class:`ReceptiveExplorer` shows.

    Args:
        pattern: one of ``PATTERNS``.
        window, dilation: as for :func:`mask_of_layer`.

    >>> receptive_state(16, 3, DOUBLING, 2, 1).seen
    8
    """
    masks = [mask_of_layer(pattern, T, layer, window, dilation) for layer in range(layers)]
    needed = torch.zeros(T, T, dtype=torch.long, device="cpu")
    for layer in range(layers, 0, -1):  # the first arrival is written last
        needed[stacked_receptive_field(masks[:layer])] = layer
    return ReceptiveState(
        masks[-1].numpy(), needed.numpy(), layers, _formula(pattern, layers, window)
    )


class ReceptiveExplorer(Explorer):
    """Slide over layers, and see how far back information comes from.

    Args:
        T: tokens at first, 1 to 64.
        layers: layers at first, 1 to 8.
        window: window at first, 1 to 16.

    >>> ReceptiveExplorer(T=32, layers=3, window=4).state.seen
    10
    """

    def __init__(self, T: int = 32, layers: int = 3, window: int = 4):
        controls = {
            "T": slider("T, number of tokens", T, 1, MAX_TOKENS),
            "layers": slider("layers", layers, 1, MAX_LAYERS),
            "pattern": choice("mask", PATTERNS, DILATED),
            "window": slider("window, block or image width", window, 1, MAX_WINDOW),
            "dilation": slider("dilation", 1, 1, 8),
        }
        panels = [
            HeatPanel(288, colour_bar=False, words=False),
            HeatPanel(288, words=False, names=("output", "token", "1 / layers needed")),
        ]
        super().__init__(controls, Canvas(panels))

    def unused(self, pattern: str, **others) -> set[str]:  # noqa: D102
        idle = {"window": pattern == CAUSAL, "dilation": pattern != DILATED}
        return {name for name, is_idle in idle.items() if is_idle}

    def compute(  # noqa: D102
        self, T: int, layers: int, pattern: str, window: int, dilation: int
    ) -> ReceptiveState:
        return receptive_state(T, layers, pattern, window, dilation)

    def paint(self, state: ReceptiveState) -> np.ndarray:  # noqa: D102
        T = len(state.needed)
        reached = state.needed > 0
        shares = np.divide(1.0, state.needed, out=np.zeros((T, T)), where=reached)
        formula = f"; a long text: {state.formula}" if state.formula else ""
        return self.canvas.paint(
            [Cells(None, state.blocked), Cells(shares, ~reached)],
            titles=["one layer: who may look", f"after {state.layers}: what each output hangs on"],
            caption=f"output {T - 1} hangs on {state.seen} of {T} tokens{formula}",
        )


def _formula(pattern: str, layers: int, window: int) -> str:
    """Say how many tokens reach an output that has enough of them before it."""
    if pattern in (WINDOW, DILATED):
        return f"1 + {layers} · ({window} − 1) = {1 + layers * (window - 1)}"
    if pattern == DOUBLING:
        seen = 1 + (window - 1) * (2**layers - 1)
        return f"1 + ({window} − 1) · (2^{layers} − 1) = {seen}"
    return ""
