"""How far information travels: which tokens reach an output as layers are stacked."""

from functools import lru_cache

import numpy as np
from torch import Tensor

from causal_lab.explorers.controls import Menu, Slider
from causal_lab.explorers.explorer import Explorer
from causal_lab.explorers.menu import BLOCKS, CAUSAL, IMAGE, SINK, WINDOW, make_mask, with_size
from causal_lab.masks.reach import stacked_receptive_field
from causal_lab.masks.sparse import generate_dilated_mask
from causal_lab.plots.picture import Heat, Picture

MAX_LAYERS, GLOBAL_EVERY = 8, 4
DILATED, DOUBLING = "dilated window", "dilation 1, 2, 4, … by layer"
LOCAL_GLOBAL = "window of n, every 4th layer causal"
PATTERNS = [WINDOW, SINK, DILATED, DOUBLING, LOCAL_GLOBAL, BLOCKS, IMAGE, CAUSAL]
_RUNS = 8  # as many are read out


class ReceptiveExplorer(Explorer):
    """Slide over layers, and see how far back information comes from.

    Source: Luo et al., "Understanding the effective receptive field", 2016; local and global layers
    take turns in Gemma 3, where every 6th is global.

    >>> ReceptiveExplorer(T=6, layers=2, pattern=WINDOW, window=2).picture.caption
    'output 5 hangs on 3 of 6 tokens: 3 to 5; in a long text: 1 + 2 · (2 − 1) = 3'
    """

    T = Slider("T, number of tokens", 1, 64, 32)
    layers = Slider("layers", 1, MAX_LAYERS, 3, play=True)
    pattern = Menu("mask", PATTERNS, DILATED)
    window = Slider("n: window, block or image width", 1, 16, 4)
    dilation = Slider("dilation", 1, 8, 1)
    shown = Slider("mask of layer", 1, MAX_LAYERS, 1)
    output = Slider("output: who hangs on what", 0, 63, 63)

    GRID = {
        "T": [*range(1, 9), 10, 12, 14, 16, 32],
        "layers": range(1, 7),
        "pattern": PATTERNS,
        "window": (2, 4, 6, 8),
        "dilation": (1, 2, 4),
        "shown": range(1, 7),
    }

    def __init__(self, **values):
        self._needed = lru_cache(1024)(_layers_needed)  # the same for every number of layers
        super().__init__(**values)

    def limits(self, T: int, layers: int, **others) -> dict[str, tuple[int, int]]:  # noqa: D102
        return {"shown": (1, layers), "output": (0, T - 1)}

    def unused(self, pattern: str, **others) -> set[str]:  # noqa: D102
        idle = {
            "window": pattern == CAUSAL,
            "dilation": pattern != DILATED,
            "shown": pattern not in (DOUBLING, LOCAL_GLOBAL),
        }
        return {name for name, is_idle in idle.items() if is_idle}

    def compute(  # noqa: D102
        self, T: int, layers: int, pattern: str, window: int, dilation: int, shown: int, output: int
    ) -> Picture:
        named = "shown" not in self.unused(pattern)
        layer = f"layer {shown}" if named else "each layer"
        mask = Heat(
            blocked=mask_of_layer(pattern, T, shown if named else 1, window, dilation).numpy(),
            rows=(output,),
            title=f"{layer} of {layers}, {with_size(pattern, window)}: who may look",
            side=288,
        )
        needed = self._needed(pattern, T, window, dilation)
        reached = needed <= layers
        field = Heat(
            np.where(reached, needed, 0),
            blocked=~reached,
            rows=(output,),
            levels=tuple(str(number) for number in range(MAX_LAYERS + 1)),
            names=("output", "token", "layers needed"),
            title=f"after {layers}: what each output hangs on",
            side=288,
        )
        tokens = np.flatnonzero(reached[output])
        caption = f"output {output} hangs on {len(tokens)} of {T} tokens: {_runs(tokens.tolist())}"
        formula = _formula(pattern, layers, window)
        return Picture((mask, field), caption + (formula and f"; in a long text: {formula}"))


def mask_of_layer(pattern: str, T: int, layer: int, window: int, dilation: int) -> Tensor:
    """Make the mask of one layer.

    Args:
        pattern: one of ``PATTERNS``.
        layer: counted from 1.
        window: tokens that a query sees; the size of a block, or the width of the image.
        dilation: the step from one visible token to the next, for ``DILATED``.

    Returns:
        bool, (query, key) = (T, T), on the CPU, where all explorers compute.

    >>> mask_of_layer(DOUBLING, 4, 2, 2, 1).int().tolist()[3]
    [1, 0, 1, 0]
    """
    if pattern in (DILATED, DOUBLING):
        step = dilation if pattern == DILATED else 2 ** (layer - 1)
        return generate_dilated_mask(T, step, window=window, device="cpu")
    if pattern == LOCAL_GLOBAL:
        pattern = WINDOW if layer % GLOBAL_EVERY else CAUSAL
    return make_mask(pattern, T, window)


def _layers_needed(pattern: str, T: int, window: int, dilation: int) -> np.ndarray:
    """Count the layers until a token reaches an output, (output, token); 9 if it never does."""
    masks = [mask_of_layer(pattern, T, layer + 1, window, dilation) for layer in range(MAX_LAYERS)]
    needed = np.full((T, T), MAX_LAYERS + 1)
    for layers in range(MAX_LAYERS, 0, -1):  # the first arrival is written last
        needed[stacked_receptive_field(masks[:layers]).numpy()] = layers
    np.fill_diagonal(needed, 0)  # its own token is there from the start
    return needed


def _runs(tokens: list[int]) -> str:
    """Read out numbers, those that follow each other in one: 0, 4 to 6."""
    starts = [token for token in tokens if token - 1 not in tokens]
    ends = [token for token in tokens if token + 1 not in tokens]
    runs = [f"{a} to {b}" if a < b else f"{a}" for a, b in zip(starts, ends, strict=True)]
    return ", ".join(runs if len(runs) <= _RUNS else ["…", *runs[-_RUNS:]])


def _formula(pattern: str, layers: int, window: int) -> str:
    """Say how many tokens reach an output that has enough of them before it."""
    if pattern in (WINDOW, DILATED) or (pattern == LOCAL_GLOBAL and layers < GLOBAL_EVERY):
        return f"1 + {layers} · ({window} − 1) = {1 + layers * (window - 1)}"
    if pattern == DOUBLING:
        seen = 1 + (window - 1) * (2**layers - 1)
        return f"1 + ({window} − 1) · (2^{layers} − 1) = {seen}"
    return ""
