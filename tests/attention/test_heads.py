"""Heads cut and joined, against an index loop; the paper's layer, against PyTorch's own."""

import math
import re

import pytest
import torch
from torch import nn

from causal_lab.attention.heads import CausalAttention, merge_heads, split_heads
from causal_lab.masks.rules import (
    generate_causal_mask,
)
from causal_lab.models.layers import MultiHeadAttention
from tests.builders import assert_close, randn, seeded

B, T, H, D = 2, 7, 3, 12  # batch, length, heads, d_model


def fill(module: nn.Module, seed: int = 9) -> nn.Module:
    generator = seeded(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / math.sqrt(D))
    return module


# --- heads


@pytest.mark.parametrize("lead", [(), (4,), (2, 5)])
@pytest.mark.parametrize(("length", "heads", "dim"), [(5, 3, 2), (1, 3, 2), (5, 1, 4), (2, 3, 1)])
def test_split_and_merge_are_an_explicit_index_loop_and_inverses(lead, length, heads, dim):
    x = randn(*lead, length, heads * dim)
    split = split_heads(x, heads)
    assert split.shape == (*lead, heads, length, dim)
    for h in range(heads):
        for t in range(length):
            for c in range(dim):
                assert torch.equal(split[..., h, t, c], x[..., t, h * dim + c])
    assert torch.equal(merge_heads(split), x)
    assert torch.equal(split_heads(merge_heads(split.contiguous()), heads), split)


# --- the paper's layer (B.6, B.8)


def test_causal_attention_is_nn_multihead_attention_with_the_causal_mask():
    layer, x = fill(CausalAttention(D, H)), randn(B, T, D)
    expected, expected_weights = layer.attn(x, x, x, attn_mask=generate_causal_mask(T))
    output, weights = layer(x)
    assert torch.equal(output, expected)
    assert torch.equal(weights, expected_weights)


@pytest.mark.parametrize("training", [True, False])
def test_causal_attention_averages_the_weights_of_its_heads(training):
    layer, x = fill(CausalAttention(D, H)).train(training), randn(B, T, D)
    per_head = MultiHeadAttention.from_torch(layer.attn)(x, blocked=generate_causal_mask(T))[1]
    _, weights = layer(x)
    assert weights.shape == (B, T, T)
    assert_close(weights, per_head.mean(1), 1e-6)
    assert torch.equal(weights == 0, generate_causal_mask(T).expand(B, T, T))


def test_causal_attention_has_the_state_of_the_papers_class():
    assert list(CausalAttention(D, H).state_dict()) == [
        "attn.in_proj_weight",
        "attn.in_proj_bias",
        "attn.out_proj.weight",
        "attn.out_proj.bias",
    ]


@pytest.mark.parametrize(
    ("x", "num_heads", "message"),
    [
        (torch.zeros(2, 7), 3, "d_model a multiple of num_heads"),
        (torch.zeros(6), 3, r"\(…, length, d_model\)"),
        (torch.zeros(2, 6), 0, "num_heads must be an integer of at least 1"),
        (torch.zeros(2, 6), -3, "num_heads must be an integer of at least 1"),
        (torch.zeros(2, 6), True, "num_heads must be an integer of at least 1"),
        (torch.zeros(2, 6), 2.0, "num_heads must be an integer of at least 1"),
        ([[1.0]], 1, "x "),
    ],
)
def test_what_cannot_be_cut_into_heads_is_told_why(x, num_heads, message):
    with pytest.raises(ValueError, match=message):
        split_heads(x, num_heads)


@pytest.mark.parametrize("x", [torch.zeros(2, 6), torch.zeros(6), [[[1.0]]]])
def test_what_has_no_heads_cannot_be_merged(x):
    with pytest.raises(ValueError, match="x must"):
        merge_heads(x)


@pytest.mark.parametrize(
    ("d_model", "num_heads", "message"),
    [
        (7, 3, "d_model=7 is no multiple of num_heads=3"),
        (0, 1, "d_model must be an integer of at least 1"),
        (6, 0, "num_heads must be an integer of at least 1"),
        (6, -3, "num_heads must be an integer of at least 1"),
        (6, True, "num_heads must be an integer of at least 1"),
        (True, 1, "d_model must be an integer of at least 1"),
        (6.0, 3, "d_model must be an integer of at least 1"),
    ],
)
def test_the_papers_layer_needs_heads_of_a_whole_size(d_model, num_heads, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        CausalAttention(d_model, num_heads)


FAR = torch.device("meta")
X = torch.zeros(B, T, D)
BAD_TOKENS = {
    "integers": (X.int(), r"x must be a floating tensor.*\.float\(\)"),
    "a list": ([[[0.0]]], "x must be a floating tensor"),
    "no batch": (X[0], r"x must have shape \(batch, length, 12\)"),
    "another size": (X[..., :-1], r"x must have shape \(batch, length, 12\)"),
    "no token": (X[:, :0], "no empty axis"),
    "no sequence": (X[:0], "no empty axis"),
    "another dtype": (X.double(), "dtype"),
    "elsewhere": (X.to(FAR), r'x lives on meta.*x\.to\("cpu"\)'),
}


@pytest.mark.parametrize(("x", "message"), BAD_TOKENS.values(), ids=BAD_TOKENS)
def test_the_papers_layer_says_what_tokens_it_needs(x, message):
    with pytest.raises(ValueError, match=message):
        CausalAttention(D, H)(x)


@pytest.mark.parametrize("cut", range(1, T))
@pytest.mark.parametrize("mode", ["train", "eval", "eval no_grad"])  # the last: PyTorch's fast path
def test_changing_everything_after_the_cut_moves_nothing_before_it(mode, cut):
    layer = fill(CausalAttention(D, H)).train(mode == "train")
    x = randn(B, T, D)
    changed = x.clone()
    changed[:, cut:] = 10 * randn(B, T - cut, D, seed=cut)
    with torch.set_grad_enabled(mode != "eval no_grad"):
        moved = (layer(changed)[0] - layer(x)[0]).abs()
    assert moved[:, :cut].max().item() == 0.0
    assert moved[:, cut:].amax(-1).min().item() > 0  # or nothing would ever move
