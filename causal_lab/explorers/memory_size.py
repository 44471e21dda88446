"""How much memory the keys and values of a text need, from one token to a million."""

from dataclasses import dataclass

import ipywidgets as widgets
import numpy as np
import torch

from causal_lab.explorers.canvas import Canvas, SizePanel, Sizes, readable_size
from causal_lab.explorers.explorer import Explorer, choice, slider
from causal_lab.models.cache import cache_nbytes

OWN = "your own"
# Layers, heads that have keys and values of their own, numbers per head, longest text.
PRESETS = {
    "GPT-2": (12, 12, 64, 1024),
    "GPT-2 XL": (48, 25, 64, 1024),
    "Llama 2 7B": (32, 32, 128, 4096),
    "Llama 3 8B": (32, 8, 128, 8192),
    "Llama 3 70B": (80, 8, 128, 8192),
    "Mistral 7B": (32, 8, 128, 8192),
}
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
WINDOW = 4096
MAX_TOKENS = 2**20
_NUMBERS = ("layers", "heads", "head_dim", "T")  # what a preset says
_ROWS = ("one token", "one text", "the batch", f"the batch, a window of {WINDOW:,}")
_MARKS = ((16 * 2**30, "16 GiB, a small GPU"), (80 * 2**30, "80 GiB, a large one"))


@dataclass(frozen=True)
class CacheState:
    """What a :class:`CacheExplorer` shows.

    Args:
        nbytes: int64, (row,) = (4,), one token of one text, one text, all texts, and all texts if
            only a window of each is remembered.
        formula: the product with its numbers put in.
        models: known models that have these layers, heads and numbers per head.

    >>> (CacheExplorer("GPT-2").state.nbytes / 2**10).tolist()
    [36.0, 36864.0, 36864.0, 36864.0]
    """

    nbytes: np.ndarray
    formula: str
    models: tuple[str, ...]


def cache_state(
    layers: int, heads: int, head_dim: int, T: int, batch: int, dtype: str
) -> CacheState:
    """Compute what a :class:`CacheExplorer` shows.

    Args:
        layers, heads, head_dim: of the model; ``heads`` counts those that have keys and values of
            their own.
        dtype: a key of ``DTYPES``.

    >>> cache_state(32, 32, 128, 4096, 1, "bfloat16").formula
    '2 · 32 layers · 32 heads · 128 · 4,096 tokens · 1 text · 2 bytes = 2 GiB'
    """
    number = DTYPES[dtype]
    nbytes = [
        cache_nbytes(layers, heads, head_dim, length, batch=texts, dtype=number)
        for length, texts in ((1, 1), (T, 1), (T, batch), (min(T, WINDOW), batch))
    ]
    factors = (
        "2",
        _count(layers, "layer"),
        _count(heads, "head"),
        f"{head_dim}",
        _count(T, "token"),
        _count(batch, "text"),
        _count(number.itemsize, "byte"),
    )
    formula = f"{' · '.join(factors)} = {readable_size(nbytes[2])}"
    # By their numbers and not by the menu: the same sliders must give the same picture.
    models = tuple(n for n, sizes in PRESETS.items() if sizes[:3] == (layers, heads, head_dim))
    return CacheState(np.array(nbytes, dtype=np.int64), formula, models)


class CacheExplorer(Explorer):
    """Slide over a model's sizes and the length of the text, and see the memory of the cache.

    The menu puts the sliders where a well-known model has them. A slider that leaves these numbers
    turns the menu to "your own", which keeps the numbers for when it is chosen again.

    Sources: Radford et al., "Language models are unsupervised multitask learners", 2019; Touvron et
    al., "Llama 2", 2023; Grattafiori et al., "The Llama 3 herd of models", 2024; Jiang et al.,
    "Mistral 7B", 2023, which remembers a window of 4,096.

    Args:
        model: the model at first, a key of ``PRESETS``.

    >>> explorer = CacheExplorer("GPT-2")
    >>> explorer.controls["layers"].value = 24
    >>> explorer.controls["model"].value
    'your own'
    """

    def __init__(self, model: str = "Llama 2 7B"):
        menu = choice("model", [*PRESETS, OWN], model)
        self._own = PRESETS.get(model, PRESETS["Llama 2 7B"])
        self._chosen = model
        layers, heads, head_dim, T = self._own
        controls = {
            "model": menu,
            "layers": slider("layers", layers, 1, 96),
            "heads": slider("heads with keys of their own", heads, 1, 96),
            "head_dim": slider("head_dim, numbers per head", head_dim, 8, 256),
            "T": widgets.SelectionSlider(
                options=[(f"{2**power:,}", 2**power) for power in range(21)],
                value=T,
                description="T, tokens of a text",
                style={"description_width": "initial"},
                layout=widgets.Layout(width="380px", margin="2px 16px 2px 0"),
            ),
            "batch": slider("batch, texts", 1, 1, 64),
            "dtype": choice("dtype", list(DTYPES)),
        }
        super().__init__(controls, Canvas([SizePanel(_ROWS, _MARKS)]))

    def compute(self, model: str, **values) -> CacheState:  # noqa: D102
        return cache_state(**values)

    def paint(self, state: CacheState) -> np.ndarray:  # noqa: D102
        owner = " and ".join(state.models) or "a model of your own"
        return self.canvas.paint(
            [Sizes(state.nbytes)],
            titles=[f"memory that keys and values take in {owner}"],
            caption=state.formula,
        )

    def _adjust(self) -> None:
        """Let the sliders follow the menu, or the menu the sliders; then both are the hand's."""
        super()._adjust()
        chosen, menu = self.controls["model"].value, self.controls["model"]
        numbers = tuple(self.controls[name].value for name in _NUMBERS)
        if chosen != self._chosen:
            wanted = PRESETS.get(chosen, self._own)
        elif chosen != OWN and numbers != PRESETS[chosen]:
            chosen, wanted = OWN, numbers
        else:
            wanted = numbers
        if chosen == OWN:
            self._own = wanted
        self._chosen = chosen
        self._adjusting = True  # the changes below must not come back as moves of a hand
        try:
            menu.value = chosen
            for name, number in zip(_NUMBERS, wanted, strict=True):
                self.controls[name].value = number
        finally:
            self._adjusting = False


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" + ("" if number == 1 else "s")
