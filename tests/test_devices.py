"""Helpers make things where they are told, else where their inputs lie; nothing assumes CUDA."""

import ast
import importlib
import inspect
import json
import pkgutil
from inspect import isclass, isfunction
from pathlib import Path

import pytest
import torch

import causal_lab
from causal_lab.attention.positions import alibi_slopes
from causal_lab.course.phrases import generate_phrases, phrase_batches, phrase_vocabulary
from causal_lab.masks.rules import (
    block_future,
    generate_causal_logit_mask,
    generate_causal_mask,
    generate_document_mask,
    generate_incremental_mask,
    generate_padding_mask,
    generate_prefix_mask,
    generate_retrieval_mask,
    generate_sliding_window_mask,
)
from causal_lab.masks.soft import soft_causal_bias
from causal_lab.masks.sparse import (
    generate_block_sparse_mask,
    generate_dilated_mask,
    generate_quadrant_mask,
    generate_raster_mask,
    generate_row_column_mask,
)
from causal_lab.models.cache import KVCache
from causal_lab.models.sliding_cache import SlidingKVCache
from causal_lab.models.transformer import GPT

ROOT = Path(__file__).parents[1]

# What takes only numbers makes its result on the default device; torch.set_default_device moves it.
SIZES = {"num_layers": 1, "batch": 2, "num_heads": 1, "head_dim": 2}
FROM_NUMBERS = {
    "models.cache.KVCache": lambda **on: KVCache(**SIZES, capacity=3, **on),
    "models.sliding_cache.SlidingKVCache": lambda **on: SlidingKVCache(**SIZES, window=3, **on),
    "masks.rules.block_future": lambda **on: block_future(2, 3, **on),
    "masks.rules.generate_causal_mask": lambda **on: generate_causal_mask(3, **on),
    "masks.rules.generate_causal_logit_mask": lambda **on: generate_causal_logit_mask(3, **on),
    "masks.rules.generate_document_mask": lambda **on: generate_document_mask([0, 1], **on),
    "masks.rules.generate_incremental_mask": lambda **on: generate_incremental_mask(2, 3, **on),
    "masks.rules.generate_prefix_mask": lambda **on: generate_prefix_mask(5, 2, **on),
    "masks.rules.generate_retrieval_mask": lambda **on: generate_retrieval_mask([0, 1], **on),
    "masks.rules.generate_sliding_window_mask": lambda **on: generate_sliding_window_mask(
        5, 2, **on
    ),
    "masks.sparse.generate_block_sparse_mask": lambda **on: generate_block_sparse_mask(5, 2, **on),
    "masks.sparse.generate_dilated_mask": lambda **on: generate_dilated_mask(5, 2, window=2, **on),
    "masks.sparse.generate_quadrant_mask": lambda **on: generate_quadrant_mask(2, 3, **on),
    "masks.sparse.generate_raster_mask": lambda **on: generate_raster_mask(2, 3, **on),
    "masks.sparse.generate_row_column_mask": lambda **on: generate_row_column_mask(2, 3, **on),
    "attention.positions.alibi_slopes": lambda **on: alibi_slopes(3, **on),
    "masks.soft.soft_causal_bias": lambda **on: soft_causal_bias(3, 2.0, **on),
}
# What takes a tensor makes its result where that is, whatever the default.
FROM_TENSORS = {
    "masks.rules.generate_document_mask": generate_document_mask,
    "masks.rules.generate_padding_mask": generate_padding_mask,
    "masks.rules.generate_retrieval_mask": generate_retrieval_mask,
    "masks.soft.soft_causal_bias": lambda depth, **on: soft_causal_bias(3, depth[0].float(), **on),
}
ELSEWHERE = {
    "course.phrases.phrase_batches": "starts from texts, tested below",
    "course.runtime.ReproducibilityReport": "takes a device's name",
    "course.runtime.reproducibility_report": "reports on a device, tested in test_runtime.py",
}
# They look at the numbers they get, and "meta" holds none.
READS_NUMBERS = {"masks.rules.generate_padding_mask", "masks.soft.soft_causal_bias"}


def takes_a_device():
    """Name everything public in the package that has a parameter called device."""
    found = set()
    for info in pkgutil.walk_packages(causal_lab.__path__, "causal_lab."):
        module = importlib.import_module(info.name)
        for name, thing in vars(module).items():
            is_error = isclass(thing) and issubclass(thing, Exception)
            is_ours = getattr(thing, "__module__", None) == info.name
            if not is_ours or is_error or name.startswith("_"):
                continue
            things = {name: thing} if isclass(thing) or isfunction(thing) else {}
            if isclass(thing):
                members = {k: getattr(v, "__func__", v) for k, v in vars(thing).items()}
                public = {k: v for k, v in members.items() if isfunction(v) and k[0] != "_"}
                things |= {f"{name}.{k}": v for k, v in public.items()}
            found |= {
                f"{info.name.removeprefix('causal_lab.')}.{k}"
                for k, v in things.items()
                if "device" in inspect.signature(v).parameters
            }
    return found


def test_everything_that_takes_a_device_is_tested_here():
    assert takes_a_device() == FROM_NUMBERS.keys() | FROM_TENSORS.keys() | ELSEWHERE.keys()


@pytest.mark.parametrize("name", FROM_NUMBERS)
def test_a_device_asked_for_wins_over_the_default(name):
    make = FROM_NUMBERS[name]
    assert make(device="meta").device.type == "meta"
    assert make(device=torch.device("meta")).device.type == "meta"
    with torch.device("meta"):
        assert make(device="cpu").device.type == "cpu"


@pytest.mark.parametrize("name", FROM_NUMBERS)
def test_without_a_device_the_default_is_taken(name):
    assert FROM_NUMBERS[name]().device.type == "cpu"
    with torch.device("meta"):
        assert FROM_NUMBERS[name]().device.type == "meta"


@pytest.mark.parametrize("name", FROM_TENSORS)
def test_without_a_device_the_input_is_followed(name):
    make, here = FROM_TENSORS[name], torch.tensor([1, 2])
    with torch.device("meta"):
        assert make(here).device.type == "cpu"
        assert make(here, device="cpu").device.type == "cpu"
    if name not in READS_NUMBERS:
        assert make(here.to("meta")).device.type == "meta"
        assert make(here, device="meta").device.type == "meta"


def test_a_models_mask_is_made_where_the_model_is():
    model = GPT(5, 4, d_model=4, num_heads=1, num_layers=1)
    far = GPT(5, 4, d_model=4, num_heads=1, num_layers=1).to("meta")
    with torch.device("meta"):
        assert model.blocked(3).device.type == "cpu"
    assert far.blocked(3).device.type == "meta"
    assert far.new_cache(batch=1).device.type == "meta"


def test_phrases_go_where_they_are_sent():
    few = generate_phrases()[:3]
    words = [phrase_vocabulary(texts) for texts in zip(*few, strict=True)]
    for device in ("cpu", "meta"):
        [batch] = phrase_batches(few, *words, batch_size=2, steps=1, seed=0, device=device)
        assert {part.device.type for part in batch.values()} == {device}


# --- no device is named

# Where the word may stand, and why.
MAY_NAME_CUDA = {
    "causal_lab/course/runtime.py": "chooses the device, and names it in the report",
    "causal_lab/causality/state.py": "puts back the generators of every GPU in use",
    "benchmarks/decoding.py": "waits for a GPU before it reads the clock",
}


def names_a_gpu(source):
    """Whether code names CUDA, docstrings and comments left out: x.cuda(), torch.cuda, "cuda"."""
    tree = ast.parse(source)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "cuda":
            return True
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and id(node) not in docstrings and "cuda" in node.value.lower():
            return True
    return False


def code_of(notebook):
    """Put a notebook's code together, without the lines that only IPython reads."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    lines = [line for source in sources for line in source.splitlines()]
    return "\n".join(line for line in lines if not line.strip().startswith(("%", "!")))


def sources():
    for folder in ("causal_lab", "benchmarks", "tools"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        yield f"notebooks/{path.name}", code_of(path)


def test_cuda_is_named_only_where_there_is_a_reason():
    assert {name for name, source in sources() if names_a_gpu(source)} == MAY_NAME_CUDA.keys()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x.cuda()", True),
        ("torch.cuda.is_available()", True),
        ("x.to('cuda:0')", True),
        ("x.to(f'cuda:{n}')", True),
        ('"""Works on cuda."""\nx = 1  # cuda', False),
        ("def f():\n    'On cuda or not.'\n    return x.to(y.device)", False),
    ],
)
def test_the_search_finds_code_and_passes_over_prose(source, expected):
    assert names_a_gpu(source) == expected
