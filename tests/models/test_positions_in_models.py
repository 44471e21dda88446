"""What order a model without positions sees, and what a length never trained does (notebook 08)."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from causal_lab.attention.formula import attention
from causal_lab.masks.rules import generate_causal_mask
from causal_lab.models.layers import MultiHeadAttention
from causal_lab.models.transformer import BERT, GPT

ROOT = Path(__file__).parents[2]
PROPERTY = settings(max_examples=20, deadline=None, derandomize=True)


def drawn(seed):
    return torch.Generator().manual_seed(seed)


def model_without_positions(kind, num_layers, seed):
    size = {"d_model": 24, "num_heads": 3, "num_layers": num_layers}
    return kind(40, 32, position="none", generator=drawn(seed), **size).eval()


@PROPERTY
@given(st.integers(1, 12), st.integers(0, 10**6))
def test_without_mask_and_positions_attention_is_permutation_equivariant(T, seed):
    layer = MultiHeadAttention(12, 3)
    x = torch.randn(2, T, 12, generator=drawn(seed))
    order = torch.randperm(T, generator=drawn(seed + 1))
    with torch.no_grad():
        torch.testing.assert_close(layer(x[:, order])[0], layer(x)[0][:, order])


@PROPERTY
@given(st.integers(2, 12), st.integers(1, 3), st.integers(0, 10**6))
def test_so_is_a_whole_bert(T, num_layers, seed):
    model = model_without_positions(BERT, num_layers, seed)
    ids = torch.randint(40, (1, T), generator=drawn(seed))
    order = torch.randperm(T, generator=drawn(seed + 1))
    with torch.no_grad():
        wanted = model(ids)[:, order]
        torch.testing.assert_close(model(ids[:, order]), wanted, atol=1e-4, rtol=0)


@PROPERTY
@given(st.integers(2, 16), st.integers(0, 10**6))
def test_one_causal_layer_sees_a_bag_of_the_past(T, seed):
    model = model_without_positions(GPT, 1, seed)
    ids = torch.randint(40, (1, T), generator=drawn(seed))
    shuffled = ids.clone()
    shuffled[0, :-1] = ids[0, torch.randperm(T - 1, generator=drawn(seed + 1))]
    with torch.no_grad():
        torch.testing.assert_close(model(shuffled)[:, -1], model(ids)[:, -1], atol=1e-4, rtol=0)


@PROPERTY
@given(st.integers(3, 16), st.integers(2, 4), st.integers(0, 10**6))
def test_two_causal_layers_see_order(T, num_layers, seed):
    model = model_without_positions(GPT, num_layers, seed)
    ids = torch.arange(T)[None] + 1  # all different
    i, j = torch.randperm(T - 1, generator=drawn(seed))[:2].tolist()  # neighbours, too
    exchanged = ids.clone()
    exchanged[0, [i, j]] = ids[0, [j, i]]
    with torch.no_grad():
        moved = (model(exchanged)[0, -1] - model(ids)[0, -1]).abs().max()
    assert moved > 1e-4


@PROPERTY
@given(st.integers(1, 40))
def test_one_uniform_head_counts(T):
    is_first = (torch.arange(T) == 0).float()[:, None]
    output, _ = attention(torch.zeros(T, 2), torch.zeros(T, 2), is_first, generate_causal_mask(T))
    torch.testing.assert_close(1 / output[:, 0] - 1, torch.arange(T).float(), atol=1e-4, rtol=0)


def measured():
    path = ROOT / "benchmarks" / "results" / "position_lengths.json"
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("steps", ["300", "1200"])
def test_what_the_page_and_the_notebook_say_holds_for_every_seed(steps):
    runs = measured()[steps]
    seeds = {run["seed"] for run in runs}
    assert len(seeds) >= 5
    for seed in seeds:
        bits = {run["position"]: run for run in runs if run["seed"] == seed}
        inside = {name: run["8 to 31"] for name, run in bits.items()}
        twice = {name: run["32 to 63"] for name, run in bits.items()}
        four = {name: run["64 to 127"] for name, run in bits.items()}
        assert min(inside, key=inside.get) == min(twice, key=twice.get) == "rotary"
        assert max(inside, key=inside.get) == "none"
        assert min(four, key=four.get) == "alibi"
        assert max(twice, key=twice.get) == max(four, key=four.get) == "learned"
        assert four["alibi"] < inside["alibi"]
        assert four["rotary"] > inside["rotary"]
        assert four["sinusoidal"] > inside["sinusoidal"]
        assert min(twice["learned"], twice["sinusoidal"]) > twice["none"]
        if steps == "1200":
            assert four["rotary"] > four["none"]
        # Under a window no distance is new: rotary is mended, what is added to tokens is not.
        window = {name: run["64 to 127, window of 32"] for name, run in bits.items()}
        assert min(window, key=window.get) == "rotary"
        assert window["rotary"] < inside["rotary"]
        assert window["rotary"] < four["alibi"]
        for name in ("learned", "sinusoidal"):
            assert window[name] > inside[name] + 0.2
