"""How much memory the keys and values of a text need, from one token to a million."""

import math
from typing import NamedTuple

import torch

from causal_lab.explorers.controls import Menu, Slider, Steps
from causal_lab.explorers.explorer import Explorer
from causal_lab.models.cache import cache_nbytes
from causal_lab.plots.picture import Picture, Sizes

OWN = "your own"
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
LENGTHS, WINDOW = [2**power for power in range(21)], 4096
_THINGS = {"layers": "layer", "heads": "head", "head_dim": "number", "T": "token", "batch": "text"}
_MARKS = ((16 * 2**30, "16 GiB, a small GPU"), (80 * 2**30, "80 GiB, a large one"))
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


class Preset(NamedTuple):
    """A well-known model in numbers; the first four are what the sliders show."""

    layers: int
    heads: int  # that have keys and values of their own
    group: int  # query heads that share the keys of one head
    head_dim: int
    longest: int  # tokens of the longest text that it was made for
    parameters: int  # counted from the sizes of its matrices, the token table included


PRESETS = {
    "GPT-2": Preset(12, 12, 1, 64, 1024, 124_439_808),
    "GPT-2 XL": Preset(48, 25, 1, 64, 1024, 1_557_611_200),
    "Llama 2 7B": Preset(32, 32, 1, 128, 4096, 6_738_415_616),
    "Llama 3 8B": Preset(32, 8, 4, 128, 8192, 8_030_261_248),
    "Llama 3 70B": Preset(80, 8, 8, 128, 8192, 70_553_706_496),
    "Mistral 7B": Preset(32, 8, 4, 128, 8192, 7_241_732_096),
}


class CacheExplorer(Explorer):
    """Slide over a model's sizes and the length of the text, and see the memory of the cache.

    A well-known model pins the sliders to its sizes; with "your own" they are free. Sources:
    Radford et al., "Language models are unsupervised multitask learners", 2019; Touvron et al.,
    "Llama 2", 2023; Grattafiori et al., "The Llama 3 herd of models", 2024; Jiang et al., "Mistral
    7B", 2023, which remembers a window of 4,096. Grouped queries: Ainslie et al., "GQA", 2023.

    >>> explorer = CacheExplorer(model="GPT-2")
    >>> explorer.picture.panels[0].words[0]
    '36 KiB'
    """

    model = Menu("model", [*PRESETS, OWN], "Llama 3 8B")
    layers = Slider("layers", 1, 96, 32)
    heads = Slider("heads with keys of their own", 1, 96, 8)
    group = Slider("query heads that share them", 1, 16, 4)
    head_dim = Slider("numbers per head", 8, 256, 128)
    T = Steps("T, tokens of a text", LENGTHS, 8192, words=[f"{T:,}" for T in LENGTHS])
    batch = Slider("batch, texts", 1, 64, 8)
    dtype = Menu("dtype", list(DTYPES))

    GRID = {
        "model": [*PRESETS, OWN],
        "heads": (1, 4, 8, 12, 25, 32),
        "group": (1, 2, 4, 8),
        "T": LENGTHS,
        "batch": (1, 8, 64),
        "dtype": list(DTYPES),
    }

    def limits(self, model: str, **others) -> dict[str, tuple[int, int]]:  # noqa: D102
        sizes = PRESETS[model][:4] if model in PRESETS else ()
        return {name: (size, size) for name, size in zip(Preset._fields, sizes, strict=False)}

    def compute(self, model: str, **sizes) -> Picture:  # noqa: D102
        preset, owner = PRESETS.get(model), "a model of your own" if model == OWN else model
        rows = _rows(preset, **sizes)
        panel = Sizes(
            tuple(rows.values()),
            tuple(rows),
            tuple(readable_size(nbytes) for nbytes in rows.values()),
            title=f"memory that keys and values take in {owner}",
            marks=_MARKS,
        )
        caption = _formula(rows["the batch"], **sizes)
        if sizes["group"] > 1:
            caption += f"; {sizes['group']} times as much if every query head had keys of its own"
        if preset and sizes["T"] > preset.longest:
            caption += f"; {model} was made for at most {preset.longest:,} tokens"
        return Picture((panel,), caption)


def _rows(
    preset: Preset | None, T: int, batch: int, dtype: str, heads: int, group: int, **sizes: int
) -> dict[str, float]:
    """List what takes memory, and how many bytes; NaN where that is not known."""
    number = DTYPES[dtype]

    def nbytes(length: int, texts: int, heads: int = heads) -> int:
        layers, head_dim = sizes["layers"], sizes["head_dim"]
        return cache_nbytes(layers, heads, head_dim, length, batch=texts, dtype=number)

    return {
        "one token": nbytes(1, 1),
        "one text": nbytes(T, 1),
        "the batch": nbytes(T, batch),
        f"… a window of {WINDOW:,}": nbytes(min(T, WINDOW), batch),
        "… no keys shared": nbytes(T, batch, heads * group),
        "the model's own weights": preset.parameters * number.itemsize if preset else math.nan,
    }


def _formula(total: int, dtype: str, **sizes: int) -> str:
    factors = [_count(sizes[name], thing) for name, thing in _THINGS.items()]
    factors = ["2", *factors, _count(DTYPES[dtype].itemsize, "byte")]
    return f"{' · '.join(factors)} = {readable_size(total)}"


def readable_size(nbytes: float) -> str:
    """Write a size for a reader, three digits or four in the largest unit that it fills.

    >>> readable_size(96), readable_size(2**31), readable_size(1_000_000)
    ('96 bytes', '2 GiB', '977 KiB')
    """
    if math.isnan(nbytes):
        return "not known"
    if nbytes == 1:
        return "1 byte"
    unit = min(max(nbytes.bit_length() - 1, 0) // 10, len(_UNITS) - 1)
    number = nbytes / 1024**unit
    if unit + 1 < len(_UNITS) and round(number) == 1024:  # 1023.9 KiB would look like 1 MiB too
        unit, number = unit + 1, 1.0
    return f"{number:.3g} {_UNITS[unit]}" if number < 1000 else f"{number:.0f} {_UNITS[unit]}"


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" + ("" if number == 1 else "s")
