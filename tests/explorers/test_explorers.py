"""Every explorer without a browser: each control is moved, each picture is read back.

What the arrays should be is written out here a second time, without the package; what the
pixels should be follows from the arrays.
"""

import base64
import copy
import io
import json
import random
import threading
import time
from dataclasses import fields
from functools import lru_cache

import ipywidgets as widgets
import numpy as np
import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from PIL import Image

from causal_lab.course.text import WordVectors, learn_word_vectors
from causal_lab.explorers import (
    AttentionExplorer,
    CacheExplorer,
    ChunkExplorer,
    CollapseExplorer,
    ComposerExplorer,
    DependencyExplorer,
    Explorer,
    FillExplorer,
    GenerationExplorer,
    LeakExplorer,
    MaskExplorer,
    PositionExplorer,
    ReceptiveExplorer,
    SoftMaskExplorer,
    SoftmaxExplorer,
    SpanExplorer,
)
from causal_lab.explorers import collapse as collapse_module
from causal_lab.explorers import dependency as dependency_module
from causal_lab.explorers import explorer as explorer_module
from causal_lab.explorers import memory_size as cache_module
from causal_lab.explorers import writing as generation_module
from causal_lab.explorers.canvas import (
    _CAPTION,
    _GRID_UNTIL,
    _LEFT,
    _NAMES,
    _TITLE,
    ABSENT,
    ALLOWED,
    BLACK,
    BLOCKED,
    BROKEN,
    FUTURE,
    HATCH,
    NAN,
    PAST,
    WEIGHT_LEVELS,
    WHITE,
    Canvas,
    Cells,
    HeatPanel,
    _ink,
    palette,
)
from causal_lab.explorers.chunk import MAX_CURRENT, MAX_PAST, chunk_state
from causal_lab.explorers.dependency import MAX_LAYERS, WINDOW, dependency_state
from causal_lab.explorers.dependency import MAX_TOKENS as MAX_DEPENDENCY
from causal_lab.explorers.explorer import choice, slider
from causal_lab.explorers.fill import DTYPES, FILLS, fill_state
from causal_lab.explorers.fill import MAX_TOKENS as MAX_FILL
from causal_lab.explorers.leak import ALL_ZERO, RANDOM, WAYS, leak_state
from causal_lab.explorers.leak import MAX_TOKENS as MAX_LEAK
from causal_lab.explorers.mask import CAUSAL, NO_MASK, mask_state
from causal_lab.explorers.memory_size import OWN, PRESETS, cache_state
from causal_lab.explorers.receptive import (
    BLOCKS,
    DILATED,
    DOUBLING,
    GRID,
    SINK,
)
from causal_lab.explorers.receptive import CAUSAL as ALL_BEFORE
from causal_lab.explorers.receptive import WINDOW as WINDOW_ONLY
from causal_lab.explorers.sentence import MAX_TOKENS as MAX_WORDS
from causal_lab.explorers.sentence import SELF_SCORE, SENTENCE, attention_state, word_inputs
from causal_lab.explorers.soft_mask import HARD, MAX_DEPTH, WISHFUL
from causal_lab.explorers.soft_mask import MAX_TOKENS as MAX_SOFT_MASK
from causal_lab.explorers.soft_mask import RANDOM as RANDOM_SOFT
from causal_lab.explorers.span import EQUAL as EQUAL_SPAN
from causal_lab.explorers.span import GATES
from causal_lab.explorers.span import MAX_TOKENS as MAX_SPAN
from causal_lab.explorers.span import RANDOM as RANDOM_SPAN
from causal_lab.explorers.temperature import BY_COLUMN, BY_ROW, softmax_state
from causal_lab.explorers.temperature import MAX_TOKENS as MAX_SOFTMAX
from causal_lab.explorers.writing import CACHED, UNCACHED, GenerationState
from causal_lab.masks.rules import generate_causal_mask
from causal_lab.models.transformer import BERT, GPT
from tests.builders import move

# ipywidgets 7, which Colab has, asks ipykernel for its old Comm; a new ipykernel minds.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The `ipykernel.comm.Comm` class:DeprecationWarning"),
    pytest.mark.usefixtures("one_thread"),
]

LONG_TEXT = "the list of words " * 200
TEXTS = {
    SENTENCE: SENTENCE.split(),
    "": [],
    " \t ": [],
    "?! 42 _ — 🙂": [],
    "if": ["if"],
    "if zzyzx, then BLORPLE!": ["if", "zzyzx", "then", "blorple"],
    "The cat's hat, 3 times": ["the", "cat's", "hat", "times"],
    "one\ntwo\tthree": ["one", "two", "three"],
    "mô hình không nhìn trước": ["mô", "hình", "không", "nhìn", "trước"],
    "модель не видит": ["модель", "не", "видит"],
    "为什么 看不到": ["为什么", "看不到"],
    "لا يرى": ["لا", "يرى"],
    "x" * 2000: ["x" * 2000],
    LONG_TEXT: ["the", "list", "of", "words"] * 200,
}


@lru_cache
def vectors() -> WordVectors:
    return learn_word_vectors()


PROMPT, STEPS, SYMBOLS = [3, 1, 4, 1, 5], 16, "abcdefghijklmnopqrst"


@lru_cache
def writer() -> GPT:
    with torch.device("cpu"):
        generator = torch.Generator().manual_seed(8)
        return GPT(20, 24, d_model=12, num_heads=3, num_layers=2, generator=generator).eval()


@lru_cache
def story() -> list[int]:
    """Write on without the package's loop: always all tokens, always the likeliest next."""
    ids = list(PROMPT)
    with torch.no_grad():
        for _ in range(STEPS):
            ids.append(int(writer()(torch.tensor([ids], device="cpu"))[0, -1].argmax()))
    return ids


def new_writing(**options) -> GenerationExplorer:
    prompt = torch.tensor(PROMPT, device="cpu")
    return GenerationExplorer(writer(), prompt, **({"symbols": SYMBOLS, "steps": STEPS} | options))


def finished_writing() -> GenerationExplorer:
    explorer = new_writing()
    for _ in explorer.stream():
        pass
    return explorer


MAKERS = {
    "mask": MaskExplorer,
    "leak": LeakExplorer,
    "fill": FillExplorer,
    "softmax": SoftmaxExplorer,
    "attention": lambda *args, **kwargs: AttentionExplorer(vectors(), *args, **kwargs),
    "dependency": DependencyExplorer,
    "chunk": ChunkExplorer,
    "cache": CacheExplorer,
    "generation": finished_writing,
    "collapse": CollapseExplorer,
    "position": PositionExplorer,
    "receptive": ReceptiveExplorer,
    "composer": ComposerExplorer,
    "soft_mask": SoftMaskExplorer,
    "span": SpanExplorer,
}
CLASSES = {
    "mask": MaskExplorer,
    "leak": LeakExplorer,
    "fill": FillExplorer,
    "softmax": SoftmaxExplorer,
    "attention": AttentionExplorer,
    "dependency": DependencyExplorer,
    "chunk": ChunkExplorer,
    "cache": CacheExplorer,
    "generation": GenerationExplorer,
    "collapse": CollapseExplorer,
    "position": PositionExplorer,
    "receptive": ReceptiveExplorer,
    "composer": ComposerExplorer,
    "soft_mask": SoftMaskExplorer,
    "span": SpanExplorer,
}
CONTROLS = {
    "mask": ("T", "position", "mask"),
    "leak": ("T", "t", "way", "scores"),
    "fill": ("T", "fill", "wish", "pads", "dtype"),
    "softmax": ("T", "temperature", "axis", "row"),
    "attention": ("text", "T", "changed", "mask"),
    "dependency": ("T", "layers", "mask"),
    "chunk": ("past_len", "current_len"),
    "cache": ("model", "layers", "heads", "head_dim", "T", "batch", "dtype"),
    "generation": ("step", "layer", "head", "computed"),
    "collapse": ("depth", "T", "attention", "path"),
    "position": ("scheme", "T", "query", "start"),
    "receptive": ("T", "layers", "pattern", "window", "dilation"),
    "composer": ("first", "first_size", "second", "second_size", "operator", "T", "layers"),
    "soft_mask": ("T", "depth", "slope", "mask", "scores"),
    "span": ("T", "span", "ramp", "shown"),
}
# The slider that is moved where any slider will do: from 1 to 13 at least.
MAIN = dict.fromkeys(CONTROLS, "T") | {
    "chunk": "past_len",
    "cache": "layers",
    "generation": "step",
}
NOT_MASKED = dependency_module.NO_MASK
POINTERS = {"mask": "position", "softmax": "row", "attention": "changed"}  # to one position
# Where the other controls stand while one is moved.
CONTEXTS = {
    "mask": [
        {},
        {"T": 1},
        {"T": 512, "position": 300},
        {"T": 3, "position": 511, "mask": NO_MASK},
    ],
    "leak": [
        {},
        {"T": 1, "t": 64},
        {"T": 64, "t": 10, "scores": RANDOM},
        {"T": 20, "t": 7, "way": "softmax, × 0, renormalise", "scores": RANDOM},
    ],
    "fill": [
        {},
        {"T": 1, "pads": 1},
        {"fill": "-5", "wish": 3},
        {"fill": "-1e9", "pads": 2},
        {"T": 32, "fill": "lowest finite", "pads": 5},
        {"T": 5, "fill": "-100", "wish": 50, "pads": 8, "dtype": "bfloat16"},
        {"T": 6, "fill": "-20", "pads": 1, "dtype": "float16"},
    ],
    "softmax": [
        {},
        {"T": 1},
        {"T": 64, "row": 63, "temperature": 0.01},
        {"T": 17, "row": 2, "axis": BY_COLUMN},
    ],
    "attention": [
        {},
        {"T": 1},
        {"text": LONG_TEXT, "T": MAX_WORDS, "changed": 22, "mask": NO_MASK},
        {"text": "if zzyzx is an object", "changed": 1},
    ],
    "dependency": [
        {},
        {"T": 2, "mask": NOT_MASKED},
        {"T": MAX_DEPENDENCY, "layers": MAX_LAYERS, "mask": NOT_MASKED},
        {"T": 20, "layers": 3, "mask": WINDOW},
    ],
    "chunk": [
        {},
        {"past_len": 0, "current_len": 1},
        {"past_len": MAX_PAST, "current_len": MAX_CURRENT},
        {"past_len": 9, "current_len": 1},
    ],
    "cache": [
        {},
        {"model": "GPT-2", "batch": 3},
        {"model": "Mistral 7B", "T": 2**20, "batch": 64, "dtype": "float32"},
        {"layers": 1, "heads": 1, "head_dim": 8, "T": 1},
        {"layers": 96, "heads": 96, "head_dim": 256, "T": 2**20, "batch": 64},
    ],
    "generation": [
        {},
        {"step": 0, "computed": UNCACHED},
        {"step": 1, "layer": 1, "head": 2},
        {"step": 7, "layer": 1, "head": 1, "computed": UNCACHED},
    ],
    "collapse": [
        {},
        {"T": 1, "depth": 0},
        {"T": 24, "depth": 64, "attention": collapse_module.RANDOM_LAYERS},
        {"T": 13, "depth": 9, "attention": collapse_module.PREVIOUS},
        {"T": 5, "depth": 3, "attention": collapse_module.SINK, "path": collapse_module.RESIDUAL},
    ],
    "position": [
        {},
        {"T": 1, "scheme": "none"},
        {"T": 64, "scheme": "sinusoidal", "query": 40, "start": 1000},
        {"T": 13, "scheme": "ALiBi, head 1 of 8", "query": 3, "start": 7},
        {"T": 20, "scheme": "rotary, q turned 7 back", "start": 100},
    ],
    "receptive": [
        {},
        {"T": 1, "pattern": SINK},
        {"T": 64, "layers": 2, "pattern": DILATED, "window": 3, "dilation": 3},
        {"T": 23, "layers": 3, "pattern": GRID, "window": 5},
    ],
    "composer": [
        {},
        {"T": 1, "operator": "~A"},
        {"T": 24, "first": "blocks of n", "operator": "A & B", "second": "in steps of n"},
        {"T": 13, "first": "window of n", "second": "n of padding", "layers": 4},
    ],
    "soft_mask": [
        {},
        {"T": 1},
        {"T": MAX_SOFT_MASK, "depth": 60, "slope": 3, "scores": WISHFUL},
        {"T": 5, "mask": HARD, "scores": RANDOM_SOFT},
    ],
    "span": [
        {},
        {"T": 1},
        {"T": MAX_SPAN, "span": 7, "ramp": 10, "shown": RANDOM_SPAN},
        {"T": 9, "span": 0, "ramp": 3, "shown": EQUAL_SPAN},
    ],
}
EVERY_EXPLORER = pytest.mark.parametrize("name", MAKERS)
EVERY_EXPLORER_WITH_A_LENGTH = pytest.mark.parametrize(
    "name",
    [
        *["mask", "leak", "fill", "softmax", "attention", "dependency"],
        *["collapse", "receptive", "composer", "position", "soft_mask", "span"],
    ],
)
EVERY_CONTROL = pytest.mark.parametrize(
    ("name", "control"), [(name, control) for name in MAKERS for control in CONTROLS[name]]
)


def settings(control: widgets.Widget) -> list:
    """List values of a control: all options of a menu, ends and middles of a slider."""
    if isinstance(control, widgets.Dropdown | widgets.SelectionSlider):
        return [o[1] if isinstance(o, tuple) else o for o in control.options]
    if isinstance(control, widgets.Text):
        return list(TEXTS)
    if isinstance(control, widgets.FloatLogSlider):
        low, high = control.base**control.min, control.base**control.max
        return [low, 0.5, 1.0, 4.0, high]
    assert isinstance(control, widgets.IntSlider)
    low, high = control.min, control.max
    middles = {low + 1, (low + high) // 3, (low + high) // 2, high - 1}
    return [low, *sorted(middles - {low, high}), high]


def pictures(maker, contexts) -> list:
    return [move(maker(), **context).image.value for context in contexts]


def read_png(png: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(png))
    image.load()
    return image


# What the arrays should be


def softmax(scores: np.ndarray) -> np.ndarray:
    """Weigh one row in float64; a row of nothing but −∞ gives NaN."""
    if scores.max() == -np.inf:
        return np.full(scores.shape, np.nan)
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


def triangle(T: int) -> np.ndarray:
    return np.arange(T)[None, :] > np.arange(T)[:, None]


def expected_mask(explorer, T, position, mask):
    blocked = triangle(T) if mask == CAUSAL else np.zeros((T, T), dtype=bool)
    return {"blocked": blocked, "position": min(position, T - 1)}


LEAK_FORMULAS = {
    "nothing": lambda s, past: softmax(s),
    "score × 0, then softmax": lambda s, past: softmax(np.where(past, s, 0.0)),
    "softmax, then weight × 0": lambda s, past: np.where(past, softmax(s), 0.0),
    "softmax, × 0, renormalise": lambda s, past: (
        np.where(past, softmax(s), 0.0) / softmax(s)[past].sum()
    ),
    "score = −∞, then softmax": lambda s, past: softmax(np.where(past, s, -np.inf)),
}


def expected_leak(explorer, T, t, way, scores):
    numbers = explorer.scores[scores].double().numpy()[:T]
    past = np.array([position < t for position in range(T)])
    weights = LEAK_FORMULAS[way](numbers, past)
    return {"weights": weights, "seen": min(t, T), "leak": weights[~past].sum()}


def expected_fill(explorer, T, fill, wish, pads, dtype):
    number = getattr(torch, dtype)
    lowest = fill == "lowest finite"
    M = torch.tensor(torch.finfo(number).min if lowest else float(fill), dtype=torch.float64)
    M = M.to(number)
    sums = explorer.scores[:T, :T].clone()
    blocked = np.zeros((T, T), dtype=bool)
    for query in range(T):
        blocked[query, query + 1 :] = blocked[query, :pads] = True
        sums[query, blocked[query]] += wish
    sums = sums.to(number)
    for query in range(T):
        sums[query, query + 1 :] += M
        sums[query, :pads] += M
    weights = np.array([softmax(row) for row in sums.double().numpy()])
    on_blocked = weights[blocked & ~np.isnan(weights)]
    leak = on_blocked.max() if on_blocked.size else 0.0
    return {"weights": weights, "blocked": blocked, "fill": float(M), "leak": leak}


def expected_softmax(explorer, T, temperature, axis, row):
    def weigh(square):
        square = np.where(triangle(T), -np.inf, square / temperature)
        if axis == BY_ROW:
            return np.array([softmax(query) for query in square])
        return np.array([softmax(key) for key in square.T]).T

    scores = explorer.scores.double().numpy()[:T, :T]
    changed = scores.copy()
    changed[T - 1, :] += 2
    changed[:, T - 1] -= 2
    weights = weigh(scores)
    differences = np.abs(weigh(changed) - weights)[: T - 1]
    row = min(row, T - 1)
    return {
        "weights": weights,
        "blocked": triangle(T),
        "row": row,
        "entropy": entropy_of(explorer.state.weights[row]),
        "moved": differences.max() if T > 1 else 0.0,
    }


def entropy_of(row: np.ndarray) -> float:
    """Sum −w ln w over a row made to sum to 1; a row of zeros has nothing to spread."""
    shares = row[row > 0].astype(np.float64)
    shares = shares / shares.sum() if shares.size else shares
    return float(-(shares * np.log(shares)).sum())


def expected_attention(explorer, text, T, changed, mask):
    words = (TEXTS[text] if text in TEXTS else text.split())[:T] or ["…"]
    T = len(words)
    changed = min(changed, T - 1)
    blocked = triangle(T) if mask == CAUSAL else np.zeros((T, T), dtype=bool)
    x = np.array([input_of(word) for word in words])
    other = x.copy()
    other[changed] = -x[changed] if x[changed].any() else 1.0
    weights, output = attend(x, blocked)
    distances = np.linalg.norm(attend(other, blocked)[1] - output, axis=1)
    known = vectors().vocabulary.tokens[1:]
    return {
        "words": tuple(word if word in known else word + "?" for word in words),
        "weights": weights,
        "blocked": blocked,
        "changed": changed,
        "moved": distances / np.linalg.norm(other[changed] - x[changed]),
    }


def input_of(word: str) -> np.ndarray:
    tokens = vectors().vocabulary.tokens
    dim = vectors().vectors.shape[1]
    if word not in tokens[1:]:
        return np.zeros(dim)
    vector = vectors().vectors[tokens.index(word)].double().numpy()
    return vector / np.linalg.norm(vector) * np.sqrt(SELF_SCORE * np.sqrt(dim))


def attend(x: np.ndarray, blocked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores = np.where(blocked, -np.inf, x @ x.T / np.sqrt(x.shape[1]))
    weights = np.array([softmax(row) for row in scores])
    return weights, weights @ x


def expected_dependency(explorer, T, layers, mask):
    moved = moves(T, layers, mask)
    return {
        "moved": moved,
        "leaks": T * (T - 1) // 2 if mask == NOT_MASKED else 0,
        "furthest": min(T, 1 + 2 * layers) if mask == WINDOW else T,
    }


@lru_cache
def moves(T: int, layers: int, mask: str) -> np.ndarray:
    """Change one token after the other, each in passes of its own, in 64 bits."""
    explorer = DependencyExplorer()
    model = copy.deepcopy(explorer.model).double()
    ids = explorer.ids[:T].tolist()
    before = read_alone(model, ids, layers, mask)
    moved = np.zeros((T, T))
    for token in range(T):
        others = [*ids[:token], (ids[token] + 1) % 50, *ids[token + 1 :]]
        after = read_alone(model, others, layers, mask)
        moved[:, token] = np.abs(after - before).max(axis=1)
    return moved / moved.max(axis=1, keepdims=True)


@torch.no_grad()
def read_alone(model, ids: list, layers: int, mask: str) -> np.ndarray:
    blocked = torch.from_numpy(~visible(len(ids), mask))
    places = torch.arange(len(ids))
    x = (model.token_embedding.weight[ids] + model.position.table.weight[places])[None]
    for number in range(layers):
        x = model.blocks[number](x, blocked)
    return x[0].numpy()


def visible(T: int, mask: str) -> np.ndarray:
    """Say for each query and key whether one block lets the query look."""
    back = np.arange(T)[:, None] - np.arange(T)[None, :]
    if mask == NOT_MASKED:
        return np.ones((T, T), dtype=bool)
    return (back >= 0) & (back < 3) if mask == WINDOW else back >= 0


def expected_chunk(explorer, past_len, current_len):
    shape = (current_len, past_len + current_len)
    lower_right, upper_left = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    wrong = 0
    for row in range(current_len):
        for key in range(past_len + current_len):
            lower_right[row, key] = key > past_len + row
            upper_left[row, key] = key > row
            wrong += upper_left[row, key] and not lower_right[row, key]
    return {
        "lower_right": lower_right,
        "upper_left": upper_left,
        "past_len": past_len,
        "current_len": current_len,
        "wrong": wrong,
    }


# As their papers and configurations have them.
KNOWN_MODELS = {
    "GPT-2": {"layers": 12, "heads": 12, "head_dim": 64, "T": 1024},
    "GPT-2 XL": {"layers": 48, "heads": 25, "head_dim": 64, "T": 1024},
    "Llama 2 7B": {"layers": 32, "heads": 32, "head_dim": 128, "T": 4096},
    "Llama 3 8B": {"layers": 32, "heads": 8, "head_dim": 128, "T": 8192},
    "Llama 3 70B": {"layers": 80, "heads": 8, "head_dim": 128, "T": 8192},
    "Mistral 7B": {"layers": 32, "heads": 8, "head_dim": 128, "T": 8192},
}


def expected_cache(explorer, model, layers, heads, head_dim, T, batch, dtype):
    if model != OWN:
        numbers = {"layers": layers, "heads": heads, "head_dim": head_dim, "T": T}
        assert numbers == KNOWN_MODELS[model]
    size = {"float32": 4, "bfloat16": 2}[dtype]
    token = 2 * layers * heads * head_dim * size
    remembered = T if T < 4096 else 4096
    formula = (
        f"2 · {layers} {'layer' if layers == 1 else 'layers'} · "
        f"{heads} {'head' if heads == 1 else 'heads'} · {head_dim} · "
        f"{T:,} {'token' if T == 1 else 'tokens'} · "
        f"{batch} {'text' if batch == 1 else 'texts'} · {size} bytes = "
        f"{size_in_words(token * T * batch)}"
    )
    return {
        "nbytes": np.array([token, token * T, token * T * batch, token * remembered * batch]),
        "formula": formula,
        "models": tuple(
            name
            for name, known in KNOWN_MODELS.items()
            if (known["layers"], known["heads"], known["head_dim"]) == (layers, heads, head_dim)
        ),
    }


def size_in_words(nbytes: int) -> str:
    number, units = float(nbytes), ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while number >= 1024:
        number, units = number / 1024, units[1:]
    return f"{number:.0f} {units[0]}" if number >= 1000 else f"{number:.3g} {units[0]}"


def expected_generation(explorer, step, layer, head, computed):
    prompt, T = len(PROMPT), len(PROMPT) + step
    read = T if step == 0 else T - 1
    weights = np.zeros((T, T))
    weights[:read, :read] = full_pass(read)[layer, head]
    passes = [prompt]  # the rows that each step computes; the first one reads the prompt
    for number in range(2, step + 1):
        passes.append(1 if computed == CACHED else prompt + number - 1)
    return {
        "weights": weights,
        "labels": tuple(SYMBOLS[number] for number in story()[:T]),
        "read": read,
        "step": step,
        "computed": passes[-1],
        "total": sum(passes),
    }


@lru_cache
def full_pass(length: int) -> np.ndarray:
    """Read a text in one pass; shape (layer, head, query, key)."""
    with torch.no_grad():
        _, seen = writer()(torch.tensor([story()[:length]], device="cpu"), need_weights=True)
    return torch.cat(seen).numpy()


def expected_collapse(explorer, depth, T, attention, path):
    scores = explorer.scores.double().numpy()
    product, products = np.eye(T), [np.eye(T)]
    for layer in range(64):
        A = np.zeros((T, T))
        for i in range(T):
            number = layer if attention == collapse_module.RANDOM_LAYERS else 0
            row = scores[number, i, : i + 1]
            A[i, : i + 1] = softmax(0 * row if attention == collapse_module.UNIFORM else row)
            if attention in (collapse_module.SINK, collapse_module.PREVIOUS):
                A[i] = 0
                A[i, i] = 0.5
                A[i, 0 if attention == collapse_module.SINK else max(i - 1, 0)] += 0.5
        product = (product + A @ product) / 2 if path == collapse_module.RESIDUAL else A @ product
        products.append(product)
    return {
        "product": products[depth],
        "distances": np.array([max(row[1:].sum() for row in M) for M in products]),
        "eigenvalues": np.array([max([0, *np.diag(M)[1:]]) for M in products]),
        "depth": depth,
    }


def expected_position(explorer, scheme, T, query, start):
    at = start + np.arange(T)
    apart = at[:, None] - at[None, :]
    speeds = 10000.0 ** (-np.arange(16) / 16)
    scores = {
        "none": 0.0 * apart,
        "sinusoidal": 4 * np.cos(apart[..., None] * speeds).mean(-1),
        "ALiBi, head 1 of 8": -apart / 2,
        "ALiBi, head 8 of 8": -apart / 256,
        "rotary, q equals k": 4 * np.cos(apart[..., None] * speeds).mean(-1),
        "rotary, q turned 7 back": 4 * np.cos((apart[..., None] - 7) * speeds).mean(-1),
    }[scheme]
    open_, query = np.exp(scores) * (apart >= 0), min(query, T - 1)
    return {
        "weights": open_ / open_.sum(1, keepdims=True),
        "scores": scores[query, query::-1],
        "query": query,
        "start": start,
    }


def expected_receptive(explorer, T, layers, pattern, window, dilation):
    masks = [seen_in_layer(pattern, T, layer, window, dilation) for layer in range(layers)]
    needed, reached = np.zeros((T, T), dtype=int), np.eye(T, dtype=bool)
    for layer, seen in enumerate(masks, start=1):
        reached = reached | np.array([reached[row].any(axis=0) for row in seen])
        needed[reached & (needed == 0)] = layer
    long = {
        WINDOW_ONLY: f"1 + {layers} · ({window} − 1) = {1 + layers * window - layers}",
        DILATED: f"1 + {layers} · ({window} − 1) = {1 + layers * window - layers}",
        DOUBLING: f"1 + ({window} − 1) · (2^{layers} − 1) = {1 + (window - 1) * (2**layers - 1)}",
    }
    return {
        "blocked": ~masks[-1],
        "needed": needed,
        "layers": layers,
        "formula": long.get(pattern, ""),
        "seen": int((needed[-1] > 0).sum()),
    }


def seen_in_layer(pattern: str, T: int, layer: int, window: int, dilation: int) -> np.ndarray:
    """Say for each query and key whether one layer lets the query look."""
    query, key = np.arange(T)[:, None], np.arange(T)[None, :]
    back, same = query - key, query // window == key // window
    step = 2**layer if pattern == DOUBLING else dilation
    return (back >= 0) & {
        WINDOW_ONLY: back < window,
        SINK: (back < window) | (key == 0),
        DILATED: (back % step == 0) & (back // step < window),
        DOUBLING: (back % step == 0) & (back // step < window),
        BLOCKS: same | (key % window == window - 1),
        GRID: same | (back % window == 0),
        ALL_BEFORE: back >= 0,
    }[pattern]


def expected_composer(explorer, T, first, first_size, operator, second, second_size, layers):
    a, b = ~seen_by_name(first, T, first_size), ~seen_by_name(second, T, second_size)
    combined = {
        "A | B": a | b,
        "A & B": a & b,
        "A": a,
        "~A": ~a,
        "A & ~B": a & ~b,
        "~(~A | ~B)": a & b,
    }[operator]
    reached = np.linalg.matrix_power(~combined + np.eye(T), layers) > 0
    return {
        "first": a,
        "second": b,
        "combined": combined,
        "titles": (
            "A: " + SIZED[first].format(first_size),
            "B: " + SIZED[second].format(second_size),
            operator,
        ),
        "layers": layers,
        "reached": reached.mean(),
        "ahead": int((~combined & triangle(T)).sum()),
        "dead": [row for row in range(T) if combined[row].all()],
    }


SIZED = {
    "causal": "causal",
    "window of n": "window of {}",
    "window of n and a sink": "window of {} and a sink",
    "in steps of n": "in steps of {}",
    "blocks of n": "blocks of {}",
    "prefix of n": "prefix of {}",
    "documents of n": "documents of {}",
    "n of padding": "{} of padding",
    "passages of n": "passages of {}",
    "image, n wide": "image, {} wide",
    "nothing blocked": "nothing blocked",
}


def seen_by_name(name: str, T: int, n: int) -> np.ndarray:
    """Say for each query and key whether a mask of the composer lets the query look."""
    query, key = np.arange(T)[:, None], np.arange(T)[None, :]
    past, same = key <= query, query // n == key // n
    last = (T - 1) // n  # the piece that is the question
    return {
        "causal": past,
        "window of n": past & (query - key < n),
        "window of n and a sink": past & ((query - key < n) | (key == 0)),
        "in steps of n": past & ((query - key) % n == 0),
        "blocks of n": past & (same | (key % n == n - 1)),
        "prefix of n": past | (key < n),
        "documents of n": same,
        "n of padding": (key >= n) & (query >= 0),
        "passages of n": past & (same | (query // n == last)),
        "image, n wide": past & (same | ((query - key) % n == 0)),
        "nothing blocked": past | ~past,
    }[name]


def expected_soft_mask(explorer, T, depth, slope, mask, scores):
    numbers = explorer.scores[scores].double().numpy()[:T, :T]
    future = triangle(T)
    steps = np.arange(T)[None, :] - np.arange(T)[:, None] - 1

    def weigh(depth):
        lowered = np.where(future, numbers - (depth + slope * steps), numbers)
        return np.array([softmax(row) for row in lowered])

    depth = np.inf if mask == HARD else float(depth)
    exact = np.array([worst_row(weigh(d), future) for d in range(MAX_DEPTH + 1)])
    weights = weigh(depth)
    return {
        "weights": weights,
        "blocked": future,
        "leaks": exact,
        "exact": exact,
        "depth": depth,
        "largest": worst_row(weights, future),
    }


def worst_row(weights: np.ndarray, future: np.ndarray) -> float:
    return max(row[ahead].sum() for row, ahead in zip(weights, future, strict=True))


def expected_span(explorer, T, span, ramp, shown):
    gate = np.array([min(max((ramp + span - d) / ramp, 0.0), 1.0) for d in range(T)])
    cells, scores = np.zeros((T, T)), explorer.scores.double().numpy()
    for query in range(T):
        row = np.array([gate[query - key] for key in range(query + 1)])
        if shown != GATES:
            powers = np.exp(scores[query, : query + 1]) if shown == RANDOM_SPAN else 1.0
            row = row * powers / (row * powers).sum()
        cells[query, : query + 1] = row
    return {
        "cells": cells,
        "blocked": cells == 0,
        "gate": gate,
        "slope": np.array([1 / ramp if span <= d <= span + ramp else 0.0 for d in range(T)]),
        "span": span,
        "ramp": ramp,
        "kept": min(T, span + ramp),
        "closed": sum(query - key >= span + ramp for query in range(T) for key in range(query)),
    }


EXPECTED = {
    "mask": expected_mask,
    "leak": expected_leak,
    "fill": expected_fill,
    "softmax": expected_softmax,
    "attention": expected_attention,
    "dependency": expected_dependency,
    "chunk": expected_chunk,
    "cache": expected_cache,
    "generation": expected_generation,
    "collapse": expected_collapse,
    "position": expected_position,
    "receptive": expected_receptive,
    "composer": expected_composer,
    "soft_mask": expected_soft_mask,
    "span": expected_span,
}


def check_state(name: str, explorer: Explorer) -> None:
    """Compare all of the state with the formulas above."""
    expected = EXPECTED[name](explorer, **explorer.values())
    assert {field.name for field in fields(explorer.state)} <= set(expected)
    precision = {"bfloat16": 1e-2, "float16": 2e-3}.get(explorer.values().get("dtype"), 2e-4)
    tiny = 2e-7 if precision == 2e-3 else 1e-6
    for field, wanted in expected.items():
        found = getattr(explorer.state, field)
        if np.asarray(wanted).dtype.kind in "biU":
            assert np.array_equal(found, wanted), field
        else:
            assert np.shape(found) == np.shape(wanted)
            np.testing.assert_allclose(found, wanted, rtol=precision, atol=tiny, err_msg=field)
    check_zeros(name, explorer)


def check_zeros(name: str, explorer: Explorer) -> None:
    """Where the formula says exactly 0, nearly 0 is wrong."""
    state, values = explorer.state, explorer.values()
    if name == "leak" and values["way"] not in ("nothing", "score × 0, then softmax"):
        assert (state.weights[values["t"] :] == 0).all()
        assert state.leak == 0
    if name == "fill" and state.fill == -np.inf:
        assert not np.nan_to_num(state.weights)[state.blocked].any()
        assert state.leak == 0
    if name == "softmax":
        assert (state.weights[state.blocked] == 0).all()
        assert values["axis"] == BY_COLUMN or state.moved == 0
    if name == "attention":
        assert (state.weights[state.blocked] == 0).all()
        assert values["mask"] == NO_MASK or (state.moved[: state.changed] == 0).all()
    if name == "dependency":
        reached = np.eye(values["T"])
        for _ in range(values["layers"]):
            reached = np.minimum(visible(values["T"], values["mask"]) @ reached, 1)
        assert np.array_equal(state.moved > 0, reached > 0)
    if name == "generation":
        assert (state.weights[triangle(len(state.weights))] == 0).all()
    if name == "soft_mask":
        np.testing.assert_allclose(state.leaks[:80], state.exact[:80], rtol=1e-4)
        if values["T"] > 1:  # far from where float32 runs out of small numbers, on either side
            assert (state.leaks[:70] > 0).all()
            assert (state.exact > 0).all()
            found = 0 if values["mask"] == HARD else state.leaks[values["depth"]]
            assert (state.largest == 0) == (found == 0)
    if name == "span":
        assert (state.cells[state.blocked] == 0).all()
        assert (state.cells[~state.blocked] > 0).all()


# What the pixels should be


def starts(side: int, length: int) -> list[int]:
    """Name the first pixel of each cell, and the one after the last: i·side/length, up."""
    return [-(-index * side // length) for index in range(length + 1)]


def centres(side: int, length: int) -> np.ndarray:
    edges = np.array(starts(side, length))
    return (edges[:-1] + edges[1:] - 1) // 2


def check_cells(picture, panel, weights, blocked, marked) -> None:
    """Compare every cell's middle, hatching, frame and pointer with the arrays."""
    side, T = panel.side, len(blocked)
    area = picture[_TITLE : _TITLE + side, _LEFT : _LEFT + side]
    middle = centres(side, T)
    found = area[np.ix_(middle, middle)]
    if weights is None:
        silent, level = blocked, np.full(blocked.shape, ALLOWED)
    else:
        silent = blocked & (weights == 0)
        level = np.rint(np.sqrt(np.nan_to_num(weights)) * (WEIGHT_LEVELS - 1))
        level[np.isnan(weights)] = NAN
    assert np.isin(found[silent], (HATCH, BLOCKED)).all()
    assert np.array_equal(found[~silent], level[~silent])
    if side // T >= 16:
        check_hatching(area, silent)
    if T <= _GRID_UNTIL:
        check_frames(area, blocked & ~silent & (level != NAN))
    check_pointer(picture[_TITLE : _TITLE + side, _LEFT - 3], T, marked)


def check_hatching(area, silent) -> None:
    edges = starts(len(area), len(silent))
    for (row, column), hatched in np.ndenumerate(silent):
        cell = area[edges[row] + 4 : edges[row + 1] - 4, edges[column] + 4 : edges[column + 1] - 4]
        assert ((cell == HATCH).any() and (cell == BLOCKED).any()) == hatched


def check_frames(area, leaking) -> None:
    """A leak, and nothing else, has orange within three pixels of all four borders."""
    edges, middle = np.array(starts(len(area), len(leaking))), centres(len(area), len(leaking))
    for near in (edges[:-1] + 2, edges[1:] - 2):
        assert np.array_equal(area[np.ix_(near, middle)] == FUTURE, leaking)
        assert np.array_equal(area[np.ix_(middle, near)] == FUTURE, leaking)


def check_pointer(strip, T, marked) -> None:
    """A black bar stands beside the marked row, from its first pixel to its last."""
    edges = starts(len(strip), T)
    pixels = np.zeros(len(strip), dtype=bool)
    if marked is not None:
        pixels[edges[marked] : edges[marked + 1]] = True
    assert np.array_equal(strip == BLACK, pixels)


def check_bars(picture, panel, left, heights, is_future) -> None:
    """Compare the top, foot and colour of every bar, and the air above it."""
    rows = panel.bar_height
    area = picture[_TITLE : _TITLE + rows, left + _LEFT : left + _LEFT + panel.bar_width]
    for index, (height, future) in enumerate(zip(heights, is_future, strict=True)):
        column = area[:, int((index + 0.5) * panel.bar_width / len(heights))]
        share = min(float(height), 1.0) ** (0.5 if panel.root else 1.0)
        top = round((1 - share) * (rows - 1)) if height > 0 else rows
        assert (column[top:] == (FUTURE if future else PAST)).all()
        assert not np.isin(column[:top], (PAST, FUTURE)).any()


def check_picture(name: str, explorer: Explorer) -> None:
    """Compare what is painted with the state, which is checked elsewhere."""
    state, picture, panels = explorer.state, explorer.picture, explorer.canvas.panels
    if name == "mask":
        check_cells(picture, panels[0], None, state.blocked, state.position)
    if name == "leak":
        T = len(state.weights)
        check_bars(picture, panels[0], 0, state.weights, np.arange(T) >= state.seen)
    if name == "fill":
        check_cells(picture, panels[0], state.weights, state.blocked, None)
    if name == "softmax":
        check_cells(picture, panels[0], state.weights, state.blocked, state.row)
        row, future = state.weights[state.row], np.arange(len(state.weights)) > state.row
        check_bars(picture, panels[1], panels[0].width, row, future)
    if name == "attention":
        check_cells(picture, panels[0], state.weights, state.blocked, state.changed)
        early = np.arange(len(state.words)) < state.changed
        check_bars(picture, panels[1], panels[0].width, state.moved, early)
    if name == "dependency":
        check_cells(picture, panels[0], state.moved, triangle(len(state.moved)), None)
    if name == "chunk":
        check_chunk(picture, panels[0], 0, state, state.lower_right)
        check_chunk(picture, panels[1], panels[0].width, state, state.upper_left)
    if name == "cache":
        check_sizes(picture, panels[0], state.nbytes)
    if name == "generation":
        check_generation(picture, panels[0], state)
    if name == "collapse":
        T = len(state.product)
        check_cells(picture, panels[0], state.product, triangle(T), state.slowest)
        check_collapse(picture, panels, state)
    if name == "receptive":
        check_cells(picture, panels[0], None, state.blocked, None)
        shares = np.where(state.needed > 0, 1 / np.maximum(state.needed, 1), 0)
        right = picture[:, panels[0].width :]
        check_cells(right, panels[1], shares, state.needed == 0, None)
    if name == "composer":
        check_composer(picture, panels, state)
    if name == "position":
        check_cells(picture, panels[0], state.weights, triangle(len(state.weights)), state.query)
        check_curve(picture, panels, state.scores)
    if name == "soft_mask":
        check_cells(picture, panels[0], state.weights, state.blocked, None)
        marked = None if np.isinf(state.depth) else int(state.depth)
        check_curve_pixels(picture, panels[1], panels[0].width, state.leaks, FUTURE, marked)
    if name == "span":
        check_cells(picture, panels[0], state.cells, state.blocked, len(state.cells) - 1)
        check_curve_pixels(picture, panels[1], panels[0].width, state.slope, FUTURE, state.span)


def check_chunk(picture, panel, left, state, blocked) -> None:
    """Cached rows are pale; of the others, and of no other cell, what is wrong is framed."""
    side, T, past_len = panel.side, blocked.shape[1], state.past_len
    area = picture[_TITLE : _TITLE + side, left + _LEFT : left + _LEFT + side]
    edges, middle = np.array(starts(side, T)), centres(side, T)
    found = area[np.ix_(middle, middle)]
    assert (found[:past_len] == ABSENT).all()
    assert np.array_equal(found[past_len:] == ALLOWED, ~blocked)
    assert np.isin(found[past_len:][blocked], (HATCH, BLOCKED)).all()
    wrong = np.zeros((T, T), dtype=bool)
    wrong[past_len:] = blocked & ~state.lower_right
    for near in (edges[:-1] + 2, edges[1:] - 2):
        assert np.array_equal(area[np.ix_(near, middle)] == BROKEN, wrong)
        assert np.array_equal(area[np.ix_(middle, near)] == BROKEN, wrong)
    pale = area[: edges[past_len]]
    assert np.isin(pale, (ABSENT, WHITE)).all()  # WHITE: the grid


def check_curve(picture, panels, values) -> None:
    """Find a point of the colour of the first curve where each value stands, on the axis."""
    panel, left = panels[1], panels[0].width + _LEFT
    area = picture[_TITLE : _TITLE + panel.curve_height, left : left + panel.curve_width]
    xs = np.rint(np.linspace(8, panel.curve_width - 9, len(values))).astype(int)
    for x, value in zip(xs, values, strict=True):
        y = round((panel.high - value) / (panel.high - panel.low) * (panel.curve_height - 1))
        if 0 <= y < panel.curve_height:
            assert (area[max(y - 1, 0) : y + 2, x] == PAST).any()


def check_composer(picture, panels, state) -> None:
    """Three masks; in the third, what sees the future is framed and what sees nothing marked."""
    left = 0
    for panel, blocked in zip(panels, (state.first, state.second, state.combined), strict=True):
        part, T = picture[:, left : left + panel.width], len(blocked)
        area = part[_TITLE : _TITLE + panel.side, _LEFT : _LEFT + panel.side]
        middle, edges = centres(panel.side, T), np.array(starts(panel.side, T))
        found = area[np.ix_(middle, middle)]
        assert np.array_equal(found == ALLOWED, ~blocked)
        assert np.isin(found[blocked], (HATCH, BLOCKED)).all()
        third = blocked is state.combined
        wrong = ~blocked & triangle(T) & third
        for near in (edges[:-1] + 2, edges[1:] - 2):
            assert np.array_equal(area[np.ix_(near, middle)] == BROKEN, wrong)
        strip = part[_TITLE : _TITLE + panel.side, _LEFT - 3] == BLACK
        assert np.array_equal(strip, np.repeat(blocked.all(axis=1) & third, np.diff(edges)))
        left += panel.width


def check_curve_pixels(picture, panel, left, values, colour, marked) -> None:
    """The curve painted last passes every one of its points; a grey line stands at the mark."""
    height, width = panel.curve_height, panel.curve_width
    area = picture[_TITLE : _TITLE + height, left + _LEFT : left + _LEFT + width]
    x = np.rint(np.linspace(8, width - 9, len(values))).astype(int)
    with np.errstate(divide="ignore"):
        scaled = np.log10(values.astype(float)) if panel.log else values
    low, high = np.log10([panel.low, panel.high]) if panel.log else (panel.low, panel.high)
    y = (1 - (scaled - low) / (high - low)) * (height - 1)
    for column, row in zip(x, y, strict=True):
        if 0 <= row <= height - 1:
            near = area[max(round(row) - 2, 0) : round(row) + 3, column]
            assert (near == colour).any()
    greys = [number for number in range(width) if (area[:, number] == WHITE - 14).sum() > 20]
    assert len(greys) == (0 if marked is None else 2)
    assert all(abs(number - x[marked]) <= 1 for number in greys)


def check_sizes(picture, panel, nbytes) -> None:
    """Every bar ends where the logarithm of its size says, or is a line, or has a point."""
    for row, size in enumerate(nbytes):
        middle = _TITLE + sum(panel.span(row)) // 2
        top = _TITLE + panel.span(row)[0]
        share = np.log2(max(int(size), 2**10) / 2**10) / 34
        end = _NAMES + (round(560 * share) if size <= 2**44 else 560)
        line = picture[middle, _NAMES:]
        bar = line[: max(end - _NAMES, 2)]
        assert np.isin(bar, (PAST, BLACK)).all()
        assert (bar == PAST).sum() >= len(bar) - 2  # two lines may cross it
        assert (picture[top, end + 2 :] != PAST).all()
        assert (line[len(bar) + 2] == PAST) == (size > 2**44)


def check_generation(picture, panel, state) -> None:
    """The rows that were read as usual, the newest pale, a bar beside those computed now."""
    side, T = panel.side, len(state.labels)
    area = picture[_TITLE : _TITLE + side, _LEFT : _LEFT + side]
    middle = centres(side, T)
    found = area[np.ix_(middle, middle)]
    future = triangle(T)[: state.read]
    level = np.rint(np.sqrt(state.weights[: state.read]) * (WEIGHT_LEVELS - 1))
    assert np.isin(found[: state.read][future], (HATCH, BLOCKED)).all()
    assert np.array_equal(found[: state.read][~future], level[~future])
    assert (found[state.read :] == ABSENT).all()
    edges, strip = starts(side, T), picture[_TITLE : _TITLE + side, _LEFT - 3]
    pixels = np.zeros(side, dtype=bool)
    pixels[edges[state.read - state.computed] : edges[state.read]] = True
    assert np.array_equal(strip == BLACK, pixels)


def check_collapse(picture, panels, state) -> None:
    """Each curve goes through the pixels of its numbers, as far as the axis goes."""
    curves, left = panels[1], panels[0].width + _LEFT
    area = picture[_TITLE : _TITLE + curves.curve_height, left : left + curves.curve_width]
    for values, colours in ((state.eigenvalues, {FUTURE}), (state.distances, {PAST, FUTURE})):
        for depth, value in enumerate(values):
            if 1e-6 <= value <= 1:
                x = 8 + round(depth * (curves.curve_width - 17) / (len(values) - 1))
                y = round(-np.log10(value) / 6 * (curves.curve_height - 1))
                near = area[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]
                assert set(near.ravel().tolist()) & colours, (depth, value)


def check_image(explorer: Explorer) -> None:
    """The PNG holds exactly the picture, in the palette's colours and the right size."""
    image = read_png(explorer.image.value)
    height, width = explorer.picture.shape
    assert np.array_equal(np.asarray(image), explorer.picture)
    assert image.mode == "P"
    assert image.getpalette() == palette().ravel().tolist()
    assert explorer.image.layout.width == f"{width}px"
    assert explorer.image.layout.height == f"{height}px"


def check(name: str, explorer: Explorer) -> None:
    assert explorer.error.value == ""
    check_state(name, explorer)
    check_picture(name, explorer)
    check_image(explorer)


# Moving


def test_letters_need_less_room_below_than_words():
    def height(symbols):
        return new_writing(symbols=symbols).picture.shape[0]

    assert height(SYMBOLS) == height(None) < height([f"word{symbol}" for symbol in SYMBOLS])
    special = ["<pad>", *list(SYMBOLS)[1:]]
    assert height(special) == height(SYMBOLS)


@EVERY_EXPLORER
def test_all_controls_are_known_here(name):
    assert tuple(MAKERS[name]().controls) == CONTROLS[name]


def test_all_menus_are_known_here():
    assert set(LEAK_FORMULAS) == set(WAYS)
    assert set(DTYPES) == {"float32", "bfloat16", "float16"}
    assert {"-inf", "-1e9", "lowest finite", "0"} <= set(FILLS)


@EVERY_EXPLORER
def test_first_picture(name):
    check(name, MAKERS[name]())


@EVERY_CONTROL
def test_every_move_shows_what_the_formula_says(name, control):
    for context in CONTEXTS[name]:
        explorer = move(MAKERS[name](), **context)
        for value in settings(explorer.controls[control]):
            move(explorer, **{control: value})
            check(name, explorer)


@EVERY_CONTROL
def test_away_and_back_gives_the_same_picture(name, control):
    differs = False
    for context in CONTEXTS[name]:
        explorer = move(MAKERS[name](), **context)
        home, png = explorer.controls[control].value, explorer.image.value
        picture = explorer.picture.copy()
        for value in settings(explorer.controls[control]):
            move(explorer, **{control: value})
            differs = differs or explorer.image.value != png
            move(explorer, **{control: home})
            assert np.array_equal(explorer.picture, picture)
            assert explorer.image.value == png
    assert differs, f"no value of {control} changes any picture"


@EVERY_EXPLORER
def test_a_new_explorer_shows_what_a_moved_one_shows(name):
    for context in CONTEXTS[name]:
        wanderer = MAKERS[name]()
        for control in CONTROLS[name]:
            move(wanderer, **{control: settings(wanderer.controls[control])[-1]})
        for control, value in MAKERS[name]().values().items():
            move(wanderer, **{control: value})
        assert move(wanderer, **context).image.value == move(MAKERS[name](), **context).image.value


@EVERY_EXPLORER
def test_a_message_from_the_browser_repaints(name):
    explorer = MAKERS[name]()
    data = {"method": "update", "state": {"value": 3}, "buffer_paths": []}
    explorer.controls[MAIN[name]]._handle_msg({"content": {"data": data}, "buffers": []})
    assert explorer.values()[MAIN[name]] == 3
    check(name, explorer)
    assert explorer.image.value == move(MAKERS[name](), **{MAIN[name]: 3}).image.value


@pytest.mark.parametrize("name", POINTERS)
def test_a_position_beyond_the_end_means_the_last(name):
    explorer, pointer = move(MAKERS[name](), T=4), POINTERS[name]
    for value, wanted in ((2, 2), (3, 3), (4, 3), (explorer.controls[pointer].max, 3)):
        move(explorer, **{pointer: value})
        assert getattr(explorer.state, pointer) == wanted
    move(explorer, T=1)
    assert getattr(explorer.state, pointer) == 0


def test_visible_tokens_beyond_the_end_mean_all():
    explorer = move(LeakExplorer(), T=4, t=64)
    assert explorer.state.seen == 4
    assert explorer.state.leak == 0


def test_the_states_themselves_take_the_last_for_what_is_beyond():
    explorer = SoftmaxExplorer()
    assert mask_state(3, 9, CAUSAL).position == 2
    assert leak_state(3, 9, "nothing", torch.zeros(3)).seen == 3
    assert softmax_state(3, 1.0, BY_ROW, 9, explorer.scores).row == 2
    assert attention_state("if else", 9, 9, CAUSAL, vectors()).changed == 1
    assert fill_state(3, "0", 0, 9, "float32", torch.zeros(3, 3)).blocked.all()


# Sliders that end where the text ends


@pytest.mark.parametrize(
    ("name", "control", "at_four"),
    [
        ("mask", "position", 3),
        ("softmax", "row", 3),
        ("leak", "t", 4),
        ("fill", "pads", 4),
        ("attention", "changed", 3),
        ("span", "span", 3),
    ],
)
def test_a_slider_follows_the_length_and_comes_back(name, control, at_four):
    explorer = move(MAKERS[name](), T=9, **{control: 7})
    follower = explorer.controls[control]
    for T in (4, 2, 4):
        move(explorer, T=T)
        check(name, explorer)
    assert (follower.max, follower.value) == (at_four, at_four)
    move(explorer, T=9)
    assert follower.value == 7
    move(explorer, **{"T": 4, control: 1})
    move(explorer, T=9)
    assert follower.value == 1
    check(name, explorer)


def test_a_short_text_ends_the_sliders_and_a_long_one_lets_them_return():
    explorer = AttentionExplorer(vectors(), T=10)
    move(explorer, changed=7, text="only four known words")
    assert (explorer.controls["T"].max, explorer.values()["T"]) == (4, 4)
    assert (explorer.controls["changed"].max, explorer.values()["changed"]) == (3, 3)
    move(explorer, text=SENTENCE)
    assert explorer.controls["T"].max == len(SENTENCE.split())
    assert (explorer.values()["T"], explorer.values()["changed"]) == (10, 7)
    assert move(explorer, text=LONG_TEXT).controls["T"].max == MAX_WORDS


@pytest.mark.parametrize("name", POINTERS)
def test_with_one_token_nothing_else_can_be_pointed_at(name):
    explorer, pointer = move(MAKERS[name](), T=1), POINTERS[name]
    assert explorer.values()[pointer] == 0
    move(explorer, **{pointer: 1})
    assert explorer.values()[pointer] == 0


@pytest.mark.parametrize("text", ["if", ""])
def test_the_text_alternative_never_says_more_than_the_picture(text):
    assert repr(AttentionExplorer(vectors(), text=text)) == "<AttentionExplorer T=1>"


@EVERY_EXPLORER
def test_one_move_is_one_repaint_even_if_other_sliders_follow(name, monkeypatch):
    explorer = move(MAKERS[name](), **{MAIN[name]: 9})
    for control in set(CONTROLS[name]) - {MAIN[name], "text"}:
        move(explorer, **{control: settings(explorer.controls[control])[-1]})
    compute, seen = explorer.compute, []

    def count(**values):
        seen.append(values[MAIN[name]])
        return compute(**values)

    monkeypatch.setattr(explorer, "compute", count)
    for value in (3, 1, 8):
        move(explorer, **{MAIN[name]: value})
    assert seen == [3, 1, 8]


# Which inputs


@pytest.mark.parametrize("T", [1, 5, 33])
def test_random_scores_are_sliced_not_drawn_anew(T):
    leak = move(LeakExplorer(), way="nothing", scores=RANDOM)
    softmax_by_row = SoftmaxExplorer()
    few, many = (move(leak, T=length).state.weights for length in (T, MAX_LEAK))
    np.testing.assert_allclose(few / few[0], many[:T] / many[0], rtol=1e-5)
    few, many = (move(softmax_by_row, T=length).state.weights for length in (T, MAX_SOFTMAX))
    np.testing.assert_allclose(few, many[:T, :T], rtol=1e-5)


@pytest.mark.parametrize("T", [1, 5, 31])
def test_the_fill_explorers_scores_are_sliced_too(T):
    few, many = (
        move(FillExplorer(), fill="-inf", T=length).state.weights for length in (T, MAX_FILL)
    )
    np.testing.assert_allclose(few, many[:T, :T], rtol=1e-5)


@pytest.mark.parametrize("name", ["leak", "fill", "softmax"])
def test_random_scores_are_random(name):
    scores = MAKERS[name]().scores
    scores = scores[RANDOM] if name == "leak" else scores
    assert scores.std() > 0.5
    assert scores.unique().numel() == scores.numel()


def test_zero_scores_are_zero():
    explorer = move(LeakExplorer(), T=64, t=16, way="nothing", scores=ALL_ZERO)
    assert (explorer.state.weights == 1 / 64).all()


@pytest.mark.parametrize(
    ("dtype", "fill", "wanted"),
    [
        ("float32", "-1e9", -1e9),
        ("float32", "lowest finite", -3.4028234663852886e38),
        ("float32", "-inf", -np.inf),
        ("bfloat16", "-1e4", -9984.0),
        ("bfloat16", "-1e9", -998244352.0),
        ("bfloat16", "lowest finite", -3.3895313892515355e38),
        ("float16", "-1e4", -10000.0),
        ("float16", "-1e9", -np.inf),
        ("float16", "lowest finite", -65504.0),
    ],
)
def test_the_fill_is_rounded_as_its_dtype_rounds(dtype, fill, wanted):
    assert move(FillExplorer(), dtype=dtype, fill=fill).state.fill == wanted


def test_two_lowest_masks_add_up_to_minus_infinity():
    explorer = move(FillExplorer(), T=4, pads=2, fill="lowest finite")
    assert (explorer.state.weights[0] > 0).tolist() == [True, False, True, True]
    assert not np.isnan(explorer.state.weights).any()
    move(explorer, pads=4)
    assert explorer.state.weights[0].tolist() == [1.0, 0.0, 0.0, 0.0]


def test_a_row_that_sees_nothing_is_nan_only_with_minus_infinity():
    explorer = move(FillExplorer(), fill="-inf", T=4, pads=2)
    assert np.isnan(explorer.state.weights).all(axis=1).tolist() == [True, True, False, False]
    assert explorer.state.leak == 0
    move(explorer, fill="-1e9")
    assert not np.isnan(explorer.state.weights).any()


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:12] or "empty")
def test_any_text_is_read(text):
    explorer = AttentionExplorer(vectors(), text=text, T=5)
    known = set(vectors().vocabulary.tokens[1:])
    wanted = [word if word in known else f"{word}?" for word in TEXTS[text][:5] or ["…"]]
    assert list(explorer.state.words) == wanted
    check("attention", explorer)


def test_unknown_words_look_evenly_and_still_move():
    explorer = AttentionExplorer(vectors(), text="zzyzx blorple")
    assert explorer.state.weights.tolist() == [[1.0, 0.0], [0.5, 0.5]]
    assert explorer.state.moved[1] > 0.1


def test_every_known_word_has_the_same_score_with_itself():
    x = word_inputs(["if", "the", "zzyzx"], vectors())
    scores = (x * x).sum(1) / x.shape[1] ** 0.5
    np.testing.assert_allclose(scores, [SELF_SCORE, SELF_SCORE, 0.0], rtol=1e-5)


def test_without_vectors_they_are_learned():
    explorer = AttentionExplorer(text="raise an exception", T=8)
    assert explorer.state.words == ("raise", "an", "exception")
    check("attention", explorer)


@pytest.mark.parametrize("T", range(MAX_SOFTMAX // 2, MAX_SOFTMAX + 1, 4))
def test_entropy_is_a_number_even_where_a_row_lost_all_its_weight(T):
    explorer = move(SoftmaxExplorer(), T=T, axis=BY_COLUMN, temperature=0.01)
    for row in range(T):
        move(explorer, row=row)
        assert 0 <= explorer.state.entropy <= np.log(T) + 1e-6


# What a real model depends on


@pytest.mark.parametrize("T", [1, 2, 9, MAX_DEPENDENCY])
def test_every_window_of_three_sees_two_more_per_layer(T):
    explorer = move(DependencyExplorer(), T=T, mask=WINDOW)
    for layers in range(1, MAX_LAYERS + 1):
        move(explorer, layers=layers)
        assert explorer.state.furthest == min(T, 1 + 2 * layers)
        assert explorer.state.leaks == 0


@pytest.mark.parametrize("T", [1, 2, 9, MAX_DEPENDENCY])
def test_a_causal_model_never_leaks_and_without_a_mask_every_pair_does(T):
    explorer = move(DependencyExplorer(), T=T)
    for layers in (1, 2, MAX_LAYERS):
        assert move(explorer, layers=layers, mask=dependency_module.CAUSAL).state.leaks == 0
        assert explorer.state.furthest == T
        assert move(explorer, mask=NOT_MASKED).state.leaks == T * (T - 1) // 2


def test_the_dependency_explorers_tokens_are_sliced_not_drawn_anew():
    few, many = (move(DependencyExplorer(), T=T).state.moved for T in (5, MAX_DEPENDENCY))
    np.testing.assert_allclose(few, many[:5, :5], rtol=1e-4, atol=1e-6)


def test_the_last_id_of_a_vocabulary_is_changed_too():
    explorer = DependencyExplorer()
    state = dependency_state(
        3, 1, dependency_module.CAUSAL, explorer.model, torch.tensor([49, 0, 49, 7])
    )
    assert np.array_equal(state.moved > 0, ~triangle(3))


def test_a_state_counts_leaks_by_pairs_and_how_far_the_last_output_sees():
    moved = np.array([[1.0, 0.0, 1e-9], [1.0, 0.0, 0.0], [0.0, 0.5, 1.0]])
    state = dependency_module.DependencyState(moved)
    assert (state.leaks, state.furthest) == (1, 2)
    assert dependency_module.DependencyState(np.zeros((2, 2))).furthest == 0


@pytest.mark.parametrize("layers", [0, MAX_LAYERS + 1, 1.5])
def test_layers_out_of_range_are_refused(layers):
    with pytest.raises(ValueError, match="layers"):
        DependencyExplorer(layers=layers)


# A chunk behind a cache


def caption_of(explorer: Explorer, monkeypatch) -> str:
    """Ask for the words below the present picture."""
    captions = []
    with monkeypatch.context() as patch:
        patch.setattr(explorer.canvas, "paint", lambda *_, caption, **__: captions.append(caption))
        explorer.paint(explorer.state)
    return captions[0]


def fits(explorer: Explorer, monkeypatch) -> None:
    """Titles and caption end before the picture does."""
    texts = []

    def look(target, text, x, y, **options):
        texts.append((text, x, options))

    with monkeypatch.context() as patch:
        patch.setattr("causal_lab.explorers.canvas._write", look)
        patch.setattr(HeatPanel, "paint", lambda *_: None)
        explorer.paint(explorer.state)
    for text, x, options in texts:
        if options.get("align") == "left":
            assert x + _ink(text, options.get("size", 12)).shape[1] <= explorer.canvas.width, text


def test_the_mask_at_the_upper_left_is_what_pytorch_makes_of_is_causal():
    for past_len, current_len in ((0, 3), (4, 3), (5, 1)):
        state = chunk_state(past_len, current_len)
        T = past_len + current_len
        query, keys = torch.randn(1, current_len, 4), torch.randn(1, T, 4)
        seen = torch.nn.functional.scaled_dot_product_attention(
            query, keys, torch.eye(T)[None], is_causal=True
        )[0]
        assert np.array_equal(seen.numpy() == 0, state.upper_left)
        assert np.array_equal(generate_causal_mask(T)[past_len:].numpy(), state.lower_right)


def test_a_chunk_without_a_past_is_right_at_both_corners():
    for current_len in range(1, MAX_CURRENT + 1):
        assert chunk_state(0, current_len).wrong == 0
        assert chunk_state(7, current_len).wrong == 7 * current_len


@pytest.mark.parametrize(
    ("past_len", "current_len", "words"),
    [
        (0, 5, ["training or prefill: the whole triangle", "5 of 5 rows", "the same mask"]),
        (0, 1, ["training or prefill: the whole triangle", "1 of 1 rows", "the same mask"]),
        (1, 1, ["one step", "no mask needed", "1 of 2 rows", "blocks 1 cell that"]),
        (9, 1, ["one step", "no mask needed", "1 of 10 rows", "blocks 9 cells that"]),
        (4, 3, ["a chunk of 3 behind 4", "3 of 7 rows", "blocks 12 cells that"]),
    ],
)
def test_the_caption_names_the_case_of_a_chunk(past_len, current_len, words, monkeypatch):
    caption = caption_of(ChunkExplorer(past_len, current_len), monkeypatch)
    assert all(word in caption for word in words), caption


def test_the_words_of_a_chunk_fit_into_the_picture(monkeypatch):
    explorer = ChunkExplorer()
    for past_len in (0, 4, 10, MAX_PAST):
        for current_len in (1, MAX_CURRENT):
            fits(move(explorer, past_len=past_len, current_len=current_len), monkeypatch)


@pytest.mark.parametrize(
    ("numbers", "name"),
    [
        ((-1, 3), "past_len"),
        ((MAX_PAST + 1, 3), "past_len"),
        ((4, 0), "current_len"),
        ((4, MAX_CURRENT + 1), "current_len"),
        ((4, 2.5), "current_len"),
    ],
)
def test_a_chunk_out_of_range_is_refused(numbers, name):
    with pytest.raises(ValueError, match=f"{name}, .* must lie between"):
        ChunkExplorer(*numbers)


# The memory of a cache


def test_the_presets_are_the_known_models():
    assert {
        name: dict(zip(("layers", "heads", "head_dim", "T"), numbers, strict=True))
        for name, numbers in PRESETS.items()
    } == KNOWN_MODELS


@pytest.mark.parametrize(
    ("model", "models"),
    [
        ("GPT-2", ("GPT-2",)),
        ("Mistral 7B", ("Llama 3 8B", "Mistral 7B")),
        ("Llama 3 8B", ("Llama 3 8B", "Mistral 7B")),
    ],
)
def test_the_picture_names_all_models_that_have_these_sizes(model, models):
    explorer = CacheExplorer(model)
    named = explorer.picture
    assert explorer.state.models == models
    move(explorer, layers=11)
    assert explorer.state.models == ()
    assert (explorer.picture[:30] != named[:30]).any()  # the title


@pytest.mark.parametrize("model", KNOWN_MODELS)
def test_choosing_a_model_moves_the_sliders_in_one_repaint(model, monkeypatch):
    explorer = move(CacheExplorer(), layers=7, batch=3, dtype="float32")
    compute, seen = explorer.compute, []

    def count(**values):
        seen.append(values)
        return compute(**values)

    monkeypatch.setattr(explorer, "compute", count)
    move(explorer, model=model)
    wanted = {"model": model, **KNOWN_MODELS[model], "batch": 3, "dtype": "float32"}
    assert seen == [wanted]
    assert explorer.values() == wanted
    check("cache", explorer)


@pytest.mark.parametrize("control", ["layers", "heads", "head_dim", "T"])
def test_a_slider_that_leaves_a_models_numbers_turns_the_menu(control):
    explorer = CacheExplorer("GPT-2")
    home, png = explorer.values(), explorer.image.value
    move(explorer, **{control: 32})
    assert explorer.values() == {**home, control: 32, "model": OWN}
    check("cache", explorer)
    move(explorer, **{control: home[control]})  # back by hand: the same picture
    assert explorer.values() == {**home, "model": OWN}
    assert explorer.image.value == png
    move(explorer, model="GPT-2")
    assert explorer.values() == home


@pytest.mark.parametrize(("control", "value"), [("batch", 7), ("dtype", "float32")])
def test_how_a_model_is_used_does_not_turn_the_menu(control, value):
    explorer = move(CacheExplorer("GPT-2"), **{control: value})
    assert explorer.values()["model"] == "GPT-2"


def test_ones_own_numbers_come_back():
    explorer = move(CacheExplorer("GPT-2"), layers=5, T=64)
    for model in ("Llama 3 70B", "Mistral 7B", OWN):
        move(explorer, model=model)
    values = explorer.values()
    assert (values["layers"], values["T"], values["head_dim"]) == (5, 64, 64)
    check("cache", explorer)
    move(explorer, model="Llama 3 8B", T=2)  # and those of a model that was left later
    move(move(explorer, model="GPT-2"), model=OWN)
    assert (explorer.values()["layers"], explorer.values()["T"]) == (32, 2)


def test_every_control_gets_one_message_at_most_per_move():
    explorer = CacheExplorer("GPT-2")
    told = []
    for name, control in explorer.controls.items():
        control.observe(lambda change, name=name: told.append(name), names="value")
    move(explorer, model="Llama 3 70B")
    assert sorted(told) == sorted(["model", "layers", "heads", "head_dim", "T"])
    told.clear()
    move(explorer, layers=79)
    assert sorted(told) == ["layers", "model"]


def test_the_length_is_told_by_its_index_as_a_browser_does():
    explorer = CacheExplorer("GPT-2")
    data = {"method": "update", "state": {"index": 5}, "buffer_paths": []}
    explorer.controls["T"]._handle_msg({"content": {"data": data}, "buffers": []})
    assert (explorer.values()["T"], explorer.values()["model"]) == (32, OWN)
    check("cache", explorer)


def test_the_slider_of_lengths_has_every_power_of_two_with_separators():
    options = CacheExplorer().controls["T"].options
    assert [value for _, value in options] == [2**power for power in range(21)]
    assert all(label == f"{value:,}" for label, value in options)


@pytest.mark.parametrize(("T", "saves"), [(4096, False), (8192, True)])
def test_a_window_saves_only_where_the_text_is_longer(T, saves):
    nbytes = cache_state(3, 2, 8, T, 5, "float32").nbytes
    assert (nbytes[3] < nbytes[2]) == saves
    assert nbytes[3] == 2 * 3 * 2 * 8 * 4096 * 5 * 4


def test_bytes_come_from_the_cache_module(monkeypatch):
    monkeypatch.setattr(cache_module, "cache_nbytes", lambda *args, **kwargs: 7)
    assert cache_state(1, 1, 1, 1, 1, "float32").nbytes.tolist() == [7, 7, 7, 7]


def test_the_words_of_a_cache_fit_into_the_picture(monkeypatch):
    explorer = CacheExplorer()
    fits(explorer, monkeypatch)
    fits(move(explorer, **CONTEXTS["cache"][-1], dtype="float32"), monkeypatch)
    assert caption_of(explorer, monkeypatch).endswith("· 64 texts · 4 bytes = 1.12 PiB")


def test_an_unknown_model_is_refused():
    with pytest.raises(ValueError, match=f"model must be one of GPT-2, .*{OWN}, got 'GPT-5'"):
        CacheExplorer("GPT-5")
    assert CacheExplorer(OWN).values()["model"] == OWN


# A model that writes


def test_what_is_written_is_what_a_loop_without_a_cache_writes():
    explorer = new_writing()
    assert list(explorer.stream()) == story()[len(PROMPT) :]


def test_the_recorded_weights_are_those_of_one_full_pass():
    explorer = finished_writing()
    read = len(PROMPT) + STEPS - 1
    assert explorer.weights.shape == (2, 3, read, read)
    np.testing.assert_allclose(explorer.weights, full_pass(read), rtol=0, atol=1e-5)
    assert np.abs(np.diff(explorer.weights, axis=1)).max() > 0.01  # the heads do differ
    assert np.abs(np.diff(explorer.weights, axis=0)).max() > 0.01


def test_the_picture_follows_while_the_model_writes():
    explorer = new_writing()
    step, pngs = explorer.controls["step"], [explorer.image.value]
    assert (step.value, step.max, explorer.state.written) == (0, 1, None)
    check("generation", explorer)
    for number, token in enumerate(explorer.stream(), start=1):
        assert (step.value, step.max) == (number, number)
        assert explorer.state.written == SYMBOLS[token]
        check("generation", explorer)
        pngs.append(explorer.image.value)
    assert len(set(pngs)) == STEPS + 1
    for number, png in enumerate(pngs):  # and the slider goes through it again
        assert move(explorer, step=number).image.value == png


def test_a_hand_that_went_back_is_taken_along_by_the_next_token():
    explorer = new_writing()
    tokens = explorer.stream()
    for _ in range(6):
        next(tokens)
    move(explorer, step=2)
    check("generation", explorer)
    next(tokens)
    assert (explorer.values()["step"], explorer.state.step) == (7, 7)
    check("generation", explorer)


def test_each_token_is_one_repaint_and_one_message(monkeypatch):
    explorer = new_writing()
    compute, seen, told = explorer.compute, [], []

    def count(**values):
        seen.append(values["step"])
        return compute(**values)

    monkeypatch.setattr(explorer, "compute", count)
    explorer.controls["step"].observe(lambda change: told.append(change["new"]), names="value")
    tokens = explorer.stream()
    for _ in range(4):
        next(tokens)
    assert seen[-4:] == told == [1, 2, 3, 4]


def test_writing_again_begins_anew():
    explorer = finished_writing()
    tokens = explorer.stream(temperature=1.0, top_k=20, generator=torch.Generator().manual_seed(4))
    step = explorer.controls["step"]
    assert (step.value, step.max, explorer.written, explorer.state.step) == (0, 1, 0, 0)
    check("generation", explorer)
    written = [next(tokens) for _ in range(3)]
    assert written != story()[len(PROMPT) : len(PROMPT) + 3]
    assert (step.value, step.max) == (3, 3)
    labels = tuple(SYMBOLS[number] for number in [*PROMPT, *written])
    assert explorer.state.labels == labels
    with torch.no_grad():
        _, seen = writer()(torch.tensor([[*PROMPT, *written[:2]]]), need_weights=True)
    np.testing.assert_allclose(explorer.state.weights[:7, :7], seen[0][0, 0], atol=1e-5)
    assert not explorer.state.weights[7].any()


def test_a_text_of_one_step_is_painted_anew_too():
    explorer = new_writing(steps=1)
    labels = set()
    for seed in range(8):
        draw = torch.Generator().manual_seed(seed)
        (token,) = explorer.stream(temperature=5.0, top_k=20, generator=draw)
        assert explorer.state.written == SYMBOLS[token]
        labels.add(explorer.state.written)
    assert len(labels) > 1


def test_an_older_stream_is_told_to_stop():
    explorer = new_writing()
    older = explorer.stream()
    next(older)
    newer = explorer.stream()
    with pytest.raises(ValueError, match="another stream of this explorer has begun"):
        next(older)
    assert len(list(newer)) == STEPS
    check("generation", explorer)


def test_a_stream_that_is_left_stays_where_it_was():
    explorer = new_writing()
    for number, _ in enumerate(explorer.stream(), start=1):
        if number == 3:
            break
    assert (explorer.written, explorer.controls["step"].max) == (3, 3)
    check("generation", move(explorer, step=1))


def test_a_stop_token_ends_the_stream():
    explorer = new_writing()
    stop = story()[len(PROMPT)]
    assert list(explorer.stream(stop_tokens=[stop])) == [stop]
    assert explorer.controls["step"].value == 1


def test_a_model_of_one_layer_and_one_head_has_nothing_to_choose():
    model = GPT(20, 24, d_model=4, num_heads=1, num_layers=1).eval()
    explorer = GenerationExplorer(model, torch.tensor(PROMPT), steps=3)
    assert len(list(explorer.stream())) == 3
    for name in ("layer", "head"):
        control = explorer.controls[name]
        assert (control.min, control.max) == (0, 1)
        move(explorer, **{name: 1})
        assert explorer.values()[name] == 0


@pytest.mark.parametrize(
    ("step", "computed", "words"),
    [
        (0, CACHED, ["nothing is written yet", "in one pass, 5 of 5 rows"]),
        (1, CACHED, ["step 1 writes “{}”", "computed 5 of 5 rows", "5 since the start"]),
        (4, CACHED, ["step 4 writes “{}”", "computed 1 of 8 rows", "8 since the start"]),
        (4, UNCACHED, ["step 4 writes “{}”", "computed 8 of 8 rows", "26 since the start"]),
    ],
)
def test_the_caption_counts_the_rows(step, computed, words, monkeypatch):
    explorer = move(finished_writing(), step=step, computed=computed)
    caption = caption_of(explorer, monkeypatch)
    letter = SYMBOLS[story()[len(PROMPT) + step - 1]]
    assert all(word.format(letter) in caption for word in words), caption
    fits(explorer, monkeypatch)


@pytest.mark.parametrize(
    ("symbols", "labels"),
    [
        (None, ("3", "1", "4", "1", "5")),
        (SYMBOLS, ("d", "b", "e", "b", "f")),
        (list(SYMBOLS), ("d", "b", "e", "b", "f")),
        (lambda number: "  "[: number - 3], ("␣", "␣", "␣", "␣", "␣␣")),
        (lambda number: f"w{number}", ("w3", "w1", "w4", "w1", "w5")),
    ],
)
def test_symbols_are_a_list_or_a_function_or_the_numbers(symbols, labels, monkeypatch):
    explorer = new_writing(symbols=symbols)
    assert explorer.state.labels == labels
    assert len(list(explorer.stream())) == STEPS
    fits(explorer, monkeypatch)


def test_the_title_is_the_end_of_the_text():
    end = generation_module._end_of_text
    assert end(tuple("a␣cat")) == "a cat"
    assert end(("a", "cat")) == "a cat"
    assert end(("a", "\n")) == "a\\n"
    assert end(tuple("x" * 60 + "end")) == "…" + "x" * 40 + "end"


def test_the_callers_prompt_stays_the_callers():
    prompt = torch.tensor(PROMPT)
    explorer = GenerationExplorer(writer(), prompt, SYMBOLS, STEPS)
    prompt.fill_(0)
    assert list(explorer.stream()) == story()[len(PROMPT) :]


def test_weights_of_low_precision_are_recorded_in_32_bits():
    model = copy.deepcopy(writer()).bfloat16()
    explorer = GenerationExplorer(model, torch.tensor(PROMPT), SYMBOLS, 4)
    assert len(list(explorer.stream())) == 4
    assert explorer.state.weights.dtype == np.float32
    np.testing.assert_allclose(explorer.state.weights[:8].sum(-1), 1, atol=0.02)


def test_no_graph_is_kept_while_writing():
    with torch.enable_grad():
        explorer = finished_writing()
        tokens = explorer.stream()
        next(tokens)
        assert torch.is_grad_enabled()


def test_a_state_without_a_step_has_nothing_written():
    weights = np.zeros((2, 2), dtype=np.float32)
    assert GenerationState(weights, ("a", "b"), 2, 0, 2, 2).written is None
    assert GenerationState(weights, ("a", "b"), 1, 1, 1, 1).written == "b"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GenerationExplorer("model", torch.tensor(PROMPT)), "must be a Transformer"),
        (
            lambda: GenerationExplorer(
                BERT(20, 24, d_model=8, num_heads=2).eval(), torch.tensor(PROMPT)
            ),
            "not causal",
        ),
        (
            lambda: GenerationExplorer(GPT(20, 64, d_model=8, num_heads=2), torch.tensor(PROMPT)),
            r"call model.eval\(\) first",
        ),
        (lambda: GenerationExplorer(writer(), PROMPT), "prompt must be a tensor"),
        (lambda: GenerationExplorer(writer(), torch.tensor([PROMPT])), r"got \(1, 5\)"),
        (lambda: GenerationExplorer(writer(), torch.tensor([]).long()), r"got \(0,\)"),
        (lambda: GenerationExplorer(writer(), torch.tensor([1.5]), steps=2), "must be integers"),
        (lambda: GenerationExplorer(writer(), torch.tensor([20]), steps=2), "between 0 and 19"),
        (lambda: new_writing(steps=0), "steps must be"),
        (lambda: new_writing(steps=20), "5 tokens and 20 steps are more than .*max_length=24"),
        (lambda: new_writing(symbols="abc"), "name every token of the model, 20, got 3"),
        (lambda: new_writing().stream(cache=None), "cache cannot be given"),
        (lambda: new_writing().stream(need_weights=True), "need_weights cannot be given"),
        (lambda: new_writing().stream(top_k=3), "add temperature"),
    ],
)
def test_what_cannot_be_written_is_refused_at_once(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_refused_stream_leaves_what_was_written():
    explorer = finished_writing()
    png = explorer.image.value
    with pytest.raises(ValueError, match="add temperature"):
        explorer.stream(top_k=3)
    assert (explorer.written, explorer.image.value) == (STEPS, png)


def test_prompt_and_steps_may_fill_the_model():
    assert len(list(new_writing(steps=19).stream())) == 19


# Words as labels

WORDS = ["the", "cat", "sat", "on", "the", "mat"]


def test_tokens_label_the_axes_and_end_the_slider():
    explorer = MaskExplorer(T=6, tokens=WORDS)
    assert explorer.controls["T"].max == len(WORDS)
    assert explorer.controls["position"].max == len(WORDS) - 1
    for T in range(1, 7):
        move(explorer, T=T)
        check("mask", explorer)
        assert not np.array_equal(explorer.picture, move(MaskExplorer(T=6, max_T=6), T=T).picture)


def test_each_word_stands_beside_its_row_and_below_its_column():
    one, other = (MaskExplorer(T=3, tokens=["aa", word, "cc"]) for word in ("bb", "xx"))
    differs = one.picture != other.picture
    side, edges = one.canvas.panels[0].side, starts(one.canvas.panels[0].side, 3)
    left = differs[_TITLE : _TITLE + side, :_LEFT].any(axis=1)
    below = differs[_TITLE + side : -_CAPTION, _LEFT : _LEFT + side].any(axis=0)
    for strip in (left, below):
        assert strip[edges[1] : edges[2]].any()
        assert not strip[: edges[1]].any()
        assert not strip[edges[2] :].any()


def test_the_callers_tokens_stay_the_callers():
    tokens = list(WORDS)
    explorer = MaskExplorer(T=6, tokens=tokens)
    before = explorer.image.value
    move(move(explorer, T=2), T=5)
    assert tokens == WORDS
    tokens[:] = ["other"] * 6
    assert move(explorer, T=6).image.value == before


@pytest.mark.parametrize(
    "token", ["", " ", "\n", "a\nb", "\t", "\r", "<|end|>", "看", "🙂", "e" * 300]
)
def test_any_token_can_be_a_label(token):
    check("mask", MaskExplorer(T=2, tokens=["the", token]))


# Errors


class Boom(Explorer):
    """One slider, one cell, and an error of one's choice."""

    def __init__(self, broken: str):
        self.broken = broken
        super().__init__({"T": slider("T", 1, 1, 9)}, Canvas([HeatPanel(20, colour_bar=False)]))

    def compute(self, T):
        if self.broken == "compute" and T > 5:
            raise RuntimeError(f"no <b>{T}</b> & more")
        return np.full((T, T), 0.5)

    def paint(self, state):
        if self.broken == "paint" and len(state) > 5:
            raise RuntimeError(f"no <b>{len(state)}</b> & more")
        return self.canvas.paint([Cells(state)], titles=[f"{len(state)}"])


@pytest.mark.parametrize("broken", ["compute", "paint"])
def test_an_error_is_shown_and_raised_and_goes_with_the_next_good_value(broken):
    explorer = move(Boom(broken), T=4)
    state, png = explorer.state, explorer.image.value
    for T in (6, 7):
        with pytest.raises(RuntimeError, match=f"no <b>{T}</b> & more"):
            move(explorer, T=T)
        assert f"RuntimeError: no &lt;b&gt;{T}&lt;/b&gt; &amp; more" in explorer.error.value
        assert explorer.state is state
        assert explorer.image.value == png
    move(explorer, T=2)
    assert explorer.error.value == ""
    assert len(explorer.state) == 2
    check_image(explorer)
    assert explorer.image.value == move(Boom(broken), T=2).image.value


@pytest.mark.parametrize("broken", ["compute", "paint"])
def test_an_error_goes_when_the_value_before_it_comes_back(broken):
    explorer = move(Boom(broken), T=4)
    png = explorer.image.value
    with pytest.raises(RuntimeError):
        move(explorer, T=6)
    move(explorer, T=4)
    assert explorer.error.value == ""
    assert explorer.image.value == png


@EVERY_EXPLORER
def test_every_explorer_shows_and_raises_errors(name, monkeypatch):
    explorer = MAKERS[name]()
    state, compute = explorer.state, explorer.compute

    def fail_at_two(**values):
        if values[MAIN[name]] == 2:
            raise ZeroDivisionError("two")
        return compute(**values)

    monkeypatch.setattr(explorer, "compute", fail_at_two)
    with pytest.raises(ZeroDivisionError, match="two"):
        move(explorer, **{MAIN[name]: 2})
    assert "ZeroDivisionError: two" in explorer.error.value
    assert explorer.state is state
    check_image(explorer)
    move(explorer, **{MAIN[name]: 3})
    check(name, explorer)


def test_an_error_in_the_first_picture_is_raised():
    class Hopeless(Boom):
        def compute(self, T):
            raise RuntimeError("at once")

    with pytest.raises(RuntimeError, match="at once"):
        Hopeless("compute")


@pytest.mark.parametrize("method", ["compute", "paint"])
def test_a_subclass_must_say_what_it_computes_and_paints(method):
    with pytest.raises(NotImplementedError):
        getattr(Explorer, method)(object(), *([None] if method == "paint" else []))


# How it shows itself


def every_widget(widget: widgets.Widget) -> list[widgets.Widget]:
    children = getattr(widget, "children", ())
    return [widget, *(below for child in children for below in every_widget(child))]


@EVERY_EXPLORER
def test_display_is_one_bundle(name):
    explorer = move(MAKERS[name](), **{MAIN[name]: 5})
    bundle = explorer._repr_mimebundle_()
    assert set(bundle) == {
        "text/plain",
        "image/png",
        "application/vnd.jupyter.widget-view+json",
    }
    length = {"chunk": "", "generation": "", "cache": " T=4096"}.get(name, " T=5")
    assert bundle["text/plain"] == f"<{CLASSES[name].__name__}{length}>"
    view = bundle["application/vnd.jupyter.widget-view+json"]
    assert view == {
        "version_major": 2,
        "version_minor": 0,
        "model_id": explorer.view.model_id,
    }
    picture = np.asarray(read_png(base64.b64decode(bundle["image/png"])))
    assert np.array_equal(picture, explorer.picture)
    assert json.loads(json.dumps(bundle)) == bundle


@EVERY_EXPLORER
def test_ipython_shows_the_bundle_and_nothing_else(name, capsys):
    explorer = MAKERS[name]()
    bundle, metadata = DisplayFormatter().format(explorer)
    assert bundle == explorer._repr_mimebundle_()
    assert metadata == {}
    assert capsys.readouterr() == ("", "")


@EVERY_EXPLORER_WITH_A_LENGTH
def test_the_text_says_the_length_and_no_more(name):
    explorer = MAKERS[name]()
    texts = []
    for control in set(CONTROLS[name]) - {"T", "text"}:
        for value in settings(explorer.controls[control]):
            texts.append(repr(move(explorer, **{control: value})))
    lengths = {"attention": 10, "receptive": 32, "composer": 12, "position": 24, "span": 16}
    length = lengths.get(name, 8)
    assert set(texts) == {f"<{CLASSES[name].__name__} T={length}>"}
    assert repr(move(explorer, T=1)) == f"<{CLASSES[name].__name__} T=1>"


@EVERY_EXPLORER
def test_the_view_holds_the_controls_one_image_and_no_output(name, capsys):
    explorer = MAKERS[name]()
    shown = every_widget(explorer.view)
    assert not any(isinstance(widget, widgets.Output) for widget in shown)
    assert [widget for widget in shown if isinstance(widget, widgets.Image)] == [explorer.image]
    assert explorer.error in shown
    inputs = [widget for widget in shown if hasattr(widget, "value")]
    assert inputs == [*explorer.controls.values(), explorer.image, explorer.error]
    for control in CONTROLS[name]:
        move(explorer, **{control: settings(explorer.controls[control])[-1]})
    assert capsys.readouterr() == ("", "")


@EVERY_EXPLORER
def test_every_control_says_what_it_is(name):
    descriptions = [control.description for control in MAKERS[name]().controls.values()]
    assert all(text.strip() for text in descriptions)
    assert len(set(descriptions)) == len(descriptions)


@EVERY_EXPLORER
def test_sliders_follow_the_hand(name):
    sliders = [c for c in MAKERS[name]().controls.values() if hasattr(c, "continuous_update")]
    assert sliders
    assert all(control.continuous_update for control in sliders)


@EVERY_EXPLORER
def test_the_picture_never_changes_its_size(name):
    explorer = MAKERS[name]()
    sizes = set()
    for value in settings(explorer.controls[MAIN[name]]):
        sizes.add(read_png(move(explorer, **{MAIN[name]: value}).image.value).size)
    assert sizes == {(explorer.canvas.width, explorer.canvas.height)}
    assert explorer.image.format == "png"


# Threads


def wait_until(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "nothing happened for 20 s"
        time.sleep(0.001)


def start(function, *args) -> threading.Thread:
    thread = threading.Thread(target=function, args=args, daemon=True)
    thread.start()
    return thread


def join(threads) -> None:
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "a move never came back"


def hold(monkeypatch, explorer: Explorer, step: str) -> tuple[list, threading.Event]:
    """Let one step of a repaint wait for an event; list the values of every repaint."""
    seen, release = [], threading.Event()
    compute, owner = explorer.compute, explorer_module if step == "encode_png" else explorer

    def look(**values):
        seen.append(values)
        return compute(**values)

    monkeypatch.setattr(explorer, "compute", look)
    function = getattr(owner, step)

    def slow(*args, **kwargs):
        result = function(*args, **kwargs)
        assert release.wait(20)
        return result

    monkeypatch.setattr(owner, step, slow)
    return seen, release


@pytest.mark.parametrize("step", ["compute", "paint", "encode_png"])
@EVERY_EXPLORER
def test_of_moves_that_wait_only_the_last_is_computed(name, step, monkeypatch):
    explorer = MAKERS[name]()
    seen, release = hold(monkeypatch, explorer, step)
    main = explorer.controls[MAIN[name]]

    def move_main(value: int) -> None:
        main.value = value

    threads = [start(move_main, 2)]
    wait_until(lambda: seen)
    for value in (9, 4, 11, 5, 13, 6, 10, 7, 12):
        threads.append(start(move_main, value))
        wait_until(lambda value=value: main.value == value)
    release.set()
    join(threads)
    assert [values[MAIN[name]] for values in seen] == [2, 12]
    check(name, explorer)
    assert explorer.image.value == move(MAKERS[name](), **{MAIN[name]: 12}).image.value


def move_T(explorer: Explorer, T: int) -> None:
    move(explorer, T=T)


def test_moves_of_two_controls_wait_for_one_picture(monkeypatch):
    explorer = MaskExplorer()
    seen, release = hold(monkeypatch, explorer, "compute")
    threads = [start(move_T, explorer, 5)]
    wait_until(lambda: seen)
    threads.append(start(move_T, explorer, 6))
    wait_until(lambda: explorer.values()["T"] == 6)
    threads.append(start(lambda: move(explorer, position=1)))
    wait_until(lambda: explorer.values()["position"] == 1)
    release.set()
    join(threads)
    assert [(values["T"], values["position"]) for values in seen] == [(5, 2), (6, 1)]
    check("mask", explorer)


def test_a_move_while_the_ends_are_placed_is_not_lost():
    class Interrupted(MaskExplorer):
        hand = None

        def limits(self, **values):
            if self.hand is None and values["T"] == 6:  # now, while the end follows T, …
                self.hand = start(lambda: move(self, position=1))
                wait_until(lambda: self.values()["position"] == 1)
            return super().limits(**values)

    explorer = Interrupted()
    move(explorer, T=6)
    join([explorer.hand])
    assert explorer.values()["position"] == explorer.state.position == 1
    move(explorer, T=1)
    assert move(explorer, T=8).state.position == 1  # … and it is remembered


@pytest.mark.parametrize("name", POINTERS)
def test_hands_on_many_threads_leave_the_last_picture(name):
    explorer, pointer = MAKERS[name](), POINTERS[name]
    dice = random.Random(0)
    walks = [[(dice.randint(1, 20), dice.randint(0, 20)) for _ in range(20)] for _ in range(4)]

    def wander(walk):
        for T, position in walk:
            move(explorer, **{"T": T, pointer: position})

    join([start(wander, walk) for walk in walks])
    check(name, explorer)
    assert explorer.image.value == move(MAKERS[name](), **explorer.values()).image.value


def test_what_watches_the_picture_may_move_a_control():
    explorer = MaskExplorer()
    explorer.image.observe(lambda change: move(explorer, position=1), names="value")
    join([start(move_T, explorer, 6)])
    assert explorer.values()["position"] == 1
    check("mask", explorer)


def test_nothing_is_computed_twice_for_the_same_values(monkeypatch):
    explorer = MaskExplorer()
    monkeypatch.setattr(explorer, "compute", lambda **values: pytest.fail("computed again"))
    explorer._refresh()


@pytest.mark.parametrize("elsewhere", [False, True])
def test_no_gradient_is_kept_on_any_thread(elsewhere, monkeypatch):
    explorer = MaskExplorer()
    compute, enabled = explorer.compute, []

    def look(**values):
        enabled.append(torch.is_grad_enabled())
        return compute(**values)

    monkeypatch.setattr(explorer, "compute", look)
    with torch.enable_grad():
        join([start(move_T, explorer, 3)]) if elsewhere else move(explorer, T=3)
        assert torch.is_grad_enabled()
    assert enabled == [False]


# What is nobody else's


@EVERY_EXPLORER
def test_two_explorers_share_nothing(name):
    first, second = MAKERS[name](), MAKERS[name]()
    picture, png, state = second.picture.copy(), second.image.value, second.state
    for control in CONTROLS[name]:
        move(first, **{control: settings(first.controls[control])[-1]})
    assert first.image.value != png
    assert second.image.value == png
    assert second.state is state
    assert np.array_equal(second.picture, picture)
    assert not {id(w) for w in every_widget(first.view)} & {
        id(w) for w in every_widget(second.view)
    }
    assert not np.shares_memory(first.canvas.background, second.canvas.background)


@EVERY_EXPLORER
def test_the_canvas_stays_clean(name):
    explorer = MAKERS[name]()
    background = explorer.canvas.background.copy()
    for control in CONTROLS[name]:
        for value in settings(explorer.controls[control]):
            move(explorer, **{control: value})
    assert np.array_equal(explorer.canvas.background, background)
    assert not np.shares_memory(explorer.picture, explorer.canvas.background)


@pytest.mark.parametrize("name", [*MAKERS, "attention with its own vectors"])
def test_the_global_generators_are_left_alone(name):
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    explorer = MAKERS.get(name, AttentionExplorer)()
    for control in explorer.controls.values():
        for value in settings(control):
            control.value = value
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]


@pytest.mark.parametrize("name", [*MAKERS, "attention with its own vectors"])
def test_neither_the_seed_nor_the_default_device_nor_the_dtype_matters(name):
    """A learner may have said ``torch.set_default_device("cuda")``; "meta" is one like it."""
    maker, contexts = MAKERS.get(name, AttentionExplorer), CONTEXTS.get(name, [{}])
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    wanted = pictures(maker, contexts)
    torch.manual_seed(2)
    np.random.seed(2)
    random.seed(2)
    assert pictures(maker, contexts) == wanted, "another seed"
    with torch.device("meta"):
        assert pictures(maker, contexts) == wanted, "another device"
    torch.set_default_dtype(torch.float64)
    try:
        assert pictures(maker, contexts) == wanted, "another dtype"
    finally:
        torch.set_default_dtype(torch.float32)


# Bad arguments


@EVERY_EXPLORER_WITH_A_LENGTH
def test_a_length_out_of_range_is_refused(name):
    for T in (0, -1, 10**6):
        with pytest.raises(ValueError, match=f"T, .* must lie between 1 and .*, got {T}"):
            MAKERS[name](T=T)


def test_a_short_list_of_words_is_shown_whole():
    explorer = MaskExplorer(tokens=["two", "words"])
    assert (explorer.values()["T"], explorer.state.blocked.shape) == (2, (2, 2))
    assert (
        MaskExplorer().values()["T"] == MaskExplorer(tokens=list("abcdefghij")).values()["T"] == 8
    )


@EVERY_EXPLORER_WITH_A_LENGTH
def test_a_length_that_is_no_whole_number_is_refused(name):
    for T in (2.5, "8", [8]):
        with pytest.raises(ValueError, match="T, "):
            MAKERS[name](T=T)


@pytest.mark.parametrize(
    "make",
    [
        lambda: LeakExplorer(t=0),
        lambda: LeakExplorer(t=MAX_LEAK + 1),
        lambda: MaskExplorer(T=9, max_T=8),
        lambda: MaskExplorer(T=1, max_T=0),
        lambda: MaskExplorer(T=4, tokens=["only", "three", "words"]),
        lambda: MaskExplorer(T=1, tokens=[]),
    ],
)
def test_other_bad_arguments_are_refused(make):
    with pytest.raises(ValueError, match="must lie between"):
        make()


def test_a_slider_begins_between_its_ends():
    assert slider("rows", 3, 1, 3).value == 3
    for value in (0, 4):
        with pytest.raises(ValueError, match="rows must lie between 1 and 3"):
            slider("rows", value, 1, 3)


def test_a_menu_begins_with_one_of_its_options():
    assert choice("way", ["a", "b"]).value == "a"
    assert choice("way", ["a", "b"], "b").value == "b"
    with pytest.raises(ValueError, match="way must be one of a, b, got 'c'"):
        choice("way", ["a", "b"], "c")
