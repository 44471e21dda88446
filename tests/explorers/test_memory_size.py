"""CacheExplorer: bytes, words and models, written out a second time."""

import math

import pytest

from causal_lab.explorers import CacheExplorer
from causal_lab.explorers.memory_size import OWN, PRESETS, readable_size
from tests.builders import move

# layers, heads with keys, query heads, numbers per head, longest text; tokens known, width of the
# feed-forward layer: config.json of each model.
KNOWN = {
    "GPT-2": (12, 12, 12, 64, 1024, 50257, 3072),
    "GPT-2 XL": (48, 25, 25, 64, 1024, 50257, 6400),
    "Llama 2 7B": (32, 32, 32, 128, 4096, 32000, 11008),
    "Llama 3 8B": (32, 8, 32, 128, 8192, 128256, 14336),
    "Llama 3 70B": (80, 8, 64, 128, 8192, 128256, 28672),
    "Mistral 7B": (32, 8, 32, 128, 8192, 32000, 14336),
}


def parameters(name):
    layers, heads, queries, head_dim, longest, tokens, wide = KNOWN[name]
    d = queries * head_dim
    if name.startswith("GPT"):  # one table for both ends, one of positions, biases, two norms
        block = 4 * (d * d + d) + 2 * d * wide + wide + d + 4 * d
        return tokens * d + longest * d + layers * block + 2 * d
    block = 2 * d * d + 2 * d * heads * head_dim + 3 * d * wide + 2 * d
    return 2 * tokens * d + layers * block + d


@pytest.mark.parametrize("model", KNOWN)
@pytest.mark.parametrize(("T", "batch"), [(1, 1), (512, 3), (2**20, 64)])
@pytest.mark.parametrize(("dtype", "size"), [("bfloat16", 2), ("float32", 4)])
def test_bytes_are_counted(model, T, batch, dtype, size):
    layers, heads, queries, head_dim, *_ = KNOWN[model]
    (panel,) = CacheExplorer(model=model, T=T, batch=batch, dtype=dtype).picture.panels
    one = 2 * layers * heads * head_dim * size
    assert panel.nbytes.tolist() == [
        one,
        one * T,
        one * T * batch,
        one * min(T, 4096) * batch,
        one * T * batch * queries // heads,
        parameters(model) * size,
    ]
    assert panel.names == (
        "one token",
        "one text",
        "the batch",
        "… a window of 4,096",
        "… no keys shared",
        "the model's own weights",
    )
    assert panel.title == f"memory that keys and values take in {model}"
    assert [mark[0] for mark in panel.marks] == [16 * 2**30, 80 * 2**30]


def test_a_model_pins_its_sizes_and_leaves_the_rest_to_the_hand():
    assert list(PRESETS) == list(KNOWN)
    explorer = move(CacheExplorer(T=64, batch=3, dtype="float32"), model=OWN, layers=7, group=2)
    for model, (layers, heads, queries, head_dim, *_) in KNOWN.items():
        sizes = {"layers": layers, "heads": heads, "group": queries // heads, "head_dim": head_dim}
        move(explorer, model=model)
        assert explorer.limits(**explorer.values()) == {n: (s, s) for n, s in sizes.items()}
        values = {"model": model, "T": 64, "batch": 3, "dtype": "float32", **sizes}
        assert explorer.values() == values
    move(explorer, model=OWN)
    assert (explorer.layers, explorer.group, explorer.T) == (7, 2, 64)
    assert explorer.limits(**explorer.values()) == {}
    (panel,) = explorer.picture.panels
    assert math.isnan(panel.nbytes[5])
    assert panel.words[5] == "not known"
    assert panel.title.endswith("in a model of your own")


def test_the_caption_is_the_product():
    explorer = CacheExplorer(model="Llama 2 7B", T=4096, batch=1)
    assert explorer.picture.caption == (
        "2 · 32 layers · 32 heads · 128 numbers · 4,096 tokens · 1 text · 2 bytes = 2 GiB"
    )
    move(explorer, model="GPT-2", T=2048, batch=64)
    assert explorer.picture.caption == (
        "2 · 12 layers · 12 heads · 64 numbers · 2,048 tokens · 64 texts · 2 bytes = 4.5 GiB; "
        "GPT-2 was made for at most 1,024 tokens"
    )
    move(explorer, model=OWN, layers=1, heads=1, head_dim=8, group=4, T=1, batch=1)
    assert explorer.picture.caption == (
        "2 · 1 layer · 1 head · 8 numbers · 1 token · 1 text · 2 bytes = 32 bytes; "
        "4 times as much if every query head had keys of its own"
    )


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1023 bytes"),
        (1536, "1.5 KiB"),
        (999 * 1024, "999 KiB"),
        (1010 * 1024, "1010 KiB"),
        (2**20 - 1, "1 MiB"),
        (160 * 2**30, "160 GiB"),
        (9 * 2**47, "1.12 PiB"),
        (2**70, "1024 EiB"),
        (math.nan, "not known"),
    ],
)
def test_sizes_are_written_for_a_reader(nbytes, text):
    assert readable_size(nbytes) == text


def test_what_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=f"model must be one of GPT-2, .*{OWN}, got 'GPT-5'"):
        CacheExplorer(model="GPT-5")
    with pytest.raises(ValueError, match="layers must lie between 12 and 12, got 13"):
        CacheExplorer(model="GPT-2", layers=13)
    with pytest.raises(ValueError, match="T must be one of"):
        CacheExplorer(T=3)
