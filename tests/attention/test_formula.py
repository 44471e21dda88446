"""Attention against Algorithms 4 and 5, against PyTorch, and against what may never happen.

Three heads, a batch that differs from the length, a length that is no multiple of 4: shapes in
which a transposed or reshaped axis cannot hide.
"""

import math
import re
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from causal_lab.attention.formula import (
    algorithm_5_causal_attention,
    attention,
    attention_weights,
    fused_attention,
)
from causal_lab.attention.heads import CausalAttention, merge_heads, split_heads
from causal_lab.masks.rules import (
    algorithm_4_causal_mask,
    generate_causal_logit_mask,
    generate_causal_mask,
    generate_incremental_mask,
    generate_padding_mask,
)
from causal_lab.models.cache import KVCache
from causal_lab.models.layers import MultiHeadAttention

B, T, H, D = 2, 7, 3, 12  # batch, length, heads, d_model
NEED_WEIGHTS = pytest.mark.parametrize("need_weights", [True, False], ids=["weights", "fused"])


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def random_mask(*shape: int, seed: int = 0) -> torch.Tensor:
    """Four keys in ten blocked, but never the first."""
    blocked = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.4
    return blocked & (torch.arange(shape[-1]) > 0)


def multi_head(*, dropout: float = 0.0, training: bool = False, **options) -> MultiHeadAttention:
    """Return a layer whose every weight and bias is drawn from a seeded generator."""
    layer = MultiHeadAttention(D, H, dropout=dropout, **options).train(training)
    return fill(layer)


def fill(module: nn.Module, seed: int = 9) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / math.sqrt(D))
    return module


def attention_output(*arguments, **options) -> torch.Tensor:
    return attention(*arguments, **options)[0]


BOTH = pytest.mark.parametrize("attend", [attention_output, fused_attention])


def assert_close(actual, expected, atol):
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


# --- the paper, to the letter


def triple_loop(Q, K, V, M, scale=None):
    """Algorithm 5 in float64, one number at a time; M may be any matrix to be added."""
    Q, K, V, M = (matrix.double().tolist() for matrix in (Q, K, V, M))
    scale = 1 / math.sqrt(len(Q[0])) if scale is None else scale
    output, weights = [], []
    for i in range(len(Q)):
        S = []
        for j in range(len(K)):
            dot = sum(Q[i][c] * K[j][c] for c in range(len(Q[i])))
            S.append(dot * scale + M[i][j])
        E = [math.exp(s - max(S)) for s in S]
        A = [e / sum(E) for e in E]
        weights.append(A)
        output.append([sum(A[j] * V[j][c] for j in range(len(V))) for c in range(len(V[0]))])
    return torch.tensor(output), torch.tensor(weights)


def algorithm_4_loop(T):
    return torch.tensor([[0.0 if j <= i else -math.inf for j in range(T)] for i in range(T)])


@pytest.mark.parametrize("length", [1, 2, 5, 7])
def test_algorithm_5_is_the_triple_loop(length):
    Q, K, V = (randn(length, 6, seed=seed) for seed in (1, 2, 3))
    M = algorithm_4_loop(length)
    expected, _ = triple_loop(Q, K, V, M)
    O = algorithm_5_causal_attention(Q, K, V, algorithm_4_causal_mask(length))  # noqa: E741
    assert_close(O, expected, 1e-6)


@pytest.mark.parametrize("length", [1, 2, 5, 7])
def test_attention_is_the_triple_loop_output_and_weights(length):
    q, k, v = (randn(B, H, length, 6, seed=seed) for seed in (1, 2, 3))
    output, weights = attention(q, k, v, generate_causal_mask(length))
    fused = fused_attention(q, k, v, generate_causal_mask(length))
    for b in range(B):
        for h in range(H):
            expected = triple_loop(q[b, h], k[b, h], v[b, h], algorithm_4_loop(length))
            assert_close(output[b, h], expected[0], 1e-6)
            assert_close(weights[b, h], expected[1], 1e-6)
            assert_close(fused[b, h], expected[0], 1e-6)


@pytest.mark.parametrize("scale", [None, 1.0, 0.3, -0.5])
def test_a_rectangle_with_bias_mask_and_scale_is_the_triple_loop(scale):
    q, k, v = randn(4, 6, seed=1), randn(5, 6, seed=2), randn(5, 3, seed=3)
    bias, blocked = randn(4, 5, seed=4), random_mask(4, 5)
    M = bias.masked_fill(blocked, -torch.inf)
    expected, expected_weights = triple_loop(q, k, v, M, scale)
    output, weights = attention(q, k, v, blocked, bias, scale)
    assert_close(output, expected, 1e-6)
    assert_close(weights, expected_weights, 1e-6)
    assert_close(fused_attention(q, k, v, blocked, bias, scale), expected, 1e-6)


def test_the_scores_are_divided_by_the_square_root_of_dim():
    q = torch.tensor([[2.0, 2.0, 2.0, 2.0]])  # q · k = 2 ln 3, √4 = 2
    k = torch.tensor([[math.log(3) / 4] * 4, [0.0] * 4])
    assert attention_weights(q, k)[0].tolist() == pytest.approx([0.75, 0.25], abs=1e-6)


def test_attention_returns_the_weights_of_attention_weights():
    q, k, v = (randn(B, H, T, 4, seed=seed) for seed in (1, 2, 3))
    blocked, bias = generate_causal_mask(T), randn(H, T, T, seed=4)
    _, weights = attention(q, k, v, blocked, bias, 0.7)
    assert torch.equal(weights, attention_weights(q, k, blocked, bias, 0.7))


# --- against scaled_dot_product_attention


@pytest.mark.parametrize("lead", [(), (5,), (2, 3), (2, 3, 2)])
@pytest.mark.parametrize("scale", [None, 0.3])
@BOTH
def test_any_number_of_leading_axes_equals_scaled_dot_product_attention(attend, scale, lead):
    q, k, v = randn(*lead, 5, 4), randn(*lead, 7, 4, seed=1), randn(*lead, 7, 6, seed=2)
    blocked = generate_incremental_mask(2, 5)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=~blocked, scale=scale)
    assert_close(attend(q, k, v, blocked, scale=scale), expected, 1e-6)


@pytest.mark.parametrize("lead", [(), (5,), (2, 3), (2, 3, 2)])
def test_the_fused_kernel_is_really_taken_whatever_the_leading_axes(lead):
    q, k, v = (randn(*lead, 6, 4, seed=seed) for seed in (1, 2, 3))
    blocked, bias = generate_causal_mask(6), randn(6, 6, seed=4)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # which raises where no such kernel fits
        fused = [fused_attention(q, k, v), fused_attention(q, k, v, blocked, bias)]
    assert_close(fused[0], attention_output(q, k, v), 1e-6)
    assert_close(fused[1], attention_output(q, k, v, blocked, bias), 1e-6)


@pytest.mark.parametrize(
    "leads", [((2, 3), (1, 3), (1, 1)), ((3,), (2, 1), (2, 3)), ((), (), (2, 3)), ((2, 1), (), ())]
)
@BOTH
def test_leading_axes_broadcast(attend, leads):
    q, k, v = (randn(*lead, 5, 4, seed=seed) for seed, lead in enumerate(leads))
    whole = torch.broadcast_shapes(*leads)
    expected = F.scaled_dot_product_attention(*(x.expand(*whole, 5, 4) for x in (q, k, v)))
    output = attend(q, k, v)
    assert output.shape == (*whole, 5, 4)
    assert_close(output, expected, 1e-6)


@pytest.mark.parametrize(
    "shape", [(), (1,), (7,), (5, 7), (5, 1), (3, 1, 7), (2, 1, 1, 7), (2, 3, 5, 7)]
)
@BOTH
def test_every_shape_that_broadcasts_to_the_scores_is_a_mask_and_a_bias(attend, shape):
    q, k, v = randn(2, 3, 5, 4), randn(2, 3, 7, 4, seed=1), randn(2, 3, 7, 6, seed=2)
    blocked = random_mask(*shape) if shape else torch.tensor(False)
    bias = randn(*shape, seed=3)
    added = bias.masked_fill(blocked, -torch.inf).expand(2, 3, 5, 7)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=added)
    assert_close(attend(q, k, v, blocked, bias), expected, 1e-6)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=~blocked.expand(2, 3, 5, 7))
    assert_close(attend(q, k, v, blocked), expected, 1e-6)


@BOTH
def test_gradients_equal_those_of_scaled_dot_product_attention(attend):
    shapes = ((B, H, 5, 4), (B, H, T, 4), (B, H, T, 6), (H, 5, T))
    blocked = generate_incremental_mask(2, 5)
    ours = [randn(*shape, seed=seed).requires_grad_() for seed, shape in enumerate(shapes)]
    theirs = [tensor.detach().clone().requires_grad_() for tensor in ours]
    direction = randn(B, H, 5, 6, seed=8)
    (attend(*ours[:3], blocked, ours[3]) * direction).sum().backward()
    added = theirs[3].masked_fill(blocked, -torch.inf)
    output = F.scaled_dot_product_attention(*theirs[:3], attn_mask=added.expand(B, H, 5, T))
    (output * direction).sum().backward()
    for our, their in zip(ours, theirs, strict=True):
        assert_close(our.grad, their.grad, 1e-5)


# --- against nn.MultiheadAttention


def torch_layer(**options) -> nn.MultiheadAttention:
    options = {"batch_first": True, **options}
    return fill(nn.MultiheadAttention(D, H, **options).eval())


def call_torch(layer, query, context, **options):
    if layer.batch_first:
        return layer(query, context, context, **options)
    swapped = (x.transpose(0, 1) for x in (query, context, context))
    output, weights = layer(*swapped, **options)
    return output.transpose(0, 1), weights


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_from_torch_gives_the_same_output_and_weights_per_head(batch_first, bias, training):
    theirs = torch_layer(batch_first=batch_first, bias=bias).train(training)
    ours = MultiHeadAttention.from_torch(theirs)
    x, blocked = randn(B, T, D), generate_causal_mask(T)
    expected, expected_weights = call_torch(
        theirs, x, x, attn_mask=blocked, average_attn_weights=False
    )
    output, weights = ours(x, blocked=blocked)
    assert_close(output, expected, 1e-6)
    assert_close(weights, expected_weights, 1e-6)
    assert_close(ours(x, blocked=blocked, need_weights=False)[0], expected, 1e-6)


@NEED_WEIGHTS
def test_from_torch_gives_the_same_cross_attention_with_padded_keys(need_weights):
    theirs = torch_layer()
    ours = MultiHeadAttention.from_torch(theirs)
    x, context = randn(B, 5, D), randn(B, T, D, seed=1)
    padding = generate_padding_mask([4, T])
    expected, _ = theirs(x, context, context, key_padding_mask=padding[:, 0, 0])
    output, _ = ours(x, context, blocked=padding, need_weights=need_weights)
    assert_close(output, expected, 1e-6)


@NEED_WEIGHTS
@pytest.mark.parametrize("batch_first", [True, False])
def test_from_torch_gives_the_same_gradients(batch_first, need_weights):
    theirs = torch_layer(batch_first=batch_first).train()
    ours = MultiHeadAttention.from_torch(theirs)
    our_x, their_x = randn(B, T, D).requires_grad_(), randn(B, T, D).requires_grad_()
    blocked, direction = generate_causal_mask(T), randn(B, T, D, seed=1)
    (ours(our_x, blocked=blocked, need_weights=need_weights)[0] * direction).sum().backward()
    expected, _ = call_torch(theirs, their_x, their_x, attn_mask=blocked)
    (expected * direction).sum().backward()
    assert_close(our_x.grad, their_x.grad, 1e-5)
    projections = (ours.query_projection, ours.key_projection, ours.value_projection)
    for part, projection in enumerate(projections):
        assert_close(projection.weight.grad, theirs.in_proj_weight.grad.chunk(3)[part], 1e-5)
        assert_close(projection.bias.grad, theirs.in_proj_bias.grad.chunk(3)[part], 1e-5)
    assert_close(ours.output_projection.weight.grad, theirs.out_proj.weight.grad, 1e-5)
    assert_close(ours.output_projection.bias.grad, theirs.out_proj.bias.grad, 1e-5)


def test_from_torch_takes_over_mode_dtype_and_dropout_and_copies_the_weights():
    theirs = torch_layer(dropout=0.25).double().train()
    ours = MultiHeadAttention.from_torch(theirs)
    before = ours.query_projection.weight.clone()
    fill(theirs, seed=10)
    assert (ours.training, ours.dropout, before.dtype) == (True, 0.25, torch.float64)
    assert torch.equal(ours.query_projection.weight, before)
    assert all(parameter.requires_grad for parameter in ours.parameters())
    assert not MultiHeadAttention.from_torch(theirs.eval()).training


# --- 1: whatever happens after the cut, nothing before it moves


def heads_of(x: torch.Tensor) -> torch.Tensor:
    return split_heads(x, H)


def path_of(name: str):
    """Return a function from tokens to outputs that is meant to be causal."""
    blocked = generate_causal_mask(T)
    if name == "algorithm_5":
        M = algorithm_4_causal_mask(T)
        return lambda x: torch.stack([algorithm_5_causal_attention(s, s, s, M) for s in x])
    if name in ("attention", "fused_attention"):
        attend = attention_output if name == "attention" else fused_attention
        return lambda x: merge_heads(attend(heads_of(x), heads_of(x), heads_of(x), blocked))
    kind, mode, *rest = name.split()
    if kind == "CausalAttention":
        layer = fill(CausalAttention(D, H)).train(mode == "train")
        return (lambda x: torch.no_grad()(layer)(x)[0]) if rest else (lambda x: layer(x)[0])
    layer = multi_head(dropout=0.4 if "dropout" in rest else 0.0, training=mode == "train")

    def forward(x):
        torch.manual_seed(0)  # the same weights are dropped every time
        return layer(x, blocked=blocked, need_weights="weights" in rest)[0]

    return forward


PATHS = [
    "algorithm_5",
    "attention",
    "fused_attention",
    "MultiHeadAttention train weights",
    "MultiHeadAttention train fused",
    "MultiHeadAttention train weights dropout",
    "MultiHeadAttention train fused dropout",
    "MultiHeadAttention eval weights",
    "MultiHeadAttention eval fused",
    "CausalAttention train",
    "CausalAttention eval",
    "CausalAttention eval no_grad",  # PyTorch's fast path
]


@pytest.mark.parametrize("cut", range(1, T))
@pytest.mark.parametrize("path", PATHS)
def test_changing_everything_after_the_cut_moves_nothing_before_it(path, cut):
    forward = path_of(path)
    x = randn(B, T, D)
    changed = x.clone()
    changed[:, cut:] = 10 * randn(B, T - cut, D, seed=cut)
    moved = (forward(changed) - forward(x)).abs()
    assert moved[:, :cut].max().item() == 0.0
    assert moved[:, cut:].amax(-1).min().item() > 0  # or nothing would ever move


@NEED_WEIGHTS
def test_without_a_mask_the_past_does_move(need_weights):
    layer, x = multi_head(), randn(B, T, D)
    changed = x.clone()
    changed[:, -1] += 1
    moved = layer(changed, need_weights=need_weights)[0] - layer(x, need_weights=need_weights)[0]
    assert moved[:, 0].abs().max().item() > 0


# --- 2: a blocked key weighs exactly nothing


@pytest.mark.parametrize("through", ["blocked", "bias", "both"])
def test_blocked_keys_weigh_exactly_0_and_rows_that_see_something_sum_to_1(through):
    q, k = 2 * randn(B, H, 5, 4), 2 * randn(B, H, T, 4, seed=1)
    hidden = random_mask(B, 1, 5, T)
    bias = randn(B, H, 5, T, seed=2)
    if through != "blocked":
        bias = bias.masked_fill(hidden, -torch.inf)
    weights = attention_weights(q, k, hidden if through != "bias" else None, bias)
    assert torch.equal(weights == 0, hidden.expand_as(weights))
    assert_close(weights.sum(-1), torch.ones(B, H, 5), 1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_a_layer_puts_exactly_0_on_blocked_keys_and_sums_to_1(training):
    layer = multi_head(dropout=0.5, training=training)
    _, weights = layer(randn(B, T, D), blocked=generate_causal_mask(T))
    assert torch.equal(weights == 0, generate_causal_mask(T).expand(B, H, T, T))
    assert_close(weights.sum(-1), torch.ones(B, H, T), 1e-6)


def test_scores_as_large_as_they_get_cannot_out_vote_a_mask():
    q, k = torch.full((1, 4), 1e4), torch.full((2, 4), 1e4)
    k[0] = -1e4  # the blocked key scores 2e8, the visible one as little
    blocked = torch.tensor([[False, True]])
    assert attention_weights(q, k, blocked).tolist() == [[1.0, 0.0]]
    v = torch.tensor([[1.0], [2.0]])
    assert attention_output(q, k, v, blocked).tolist() == [[1.0]]
    assert fused_attention(q, k, v, blocked).tolist() == [[1.0]]


@pytest.mark.parametrize("rubbish", [torch.nan, torch.inf])
@BOTH
def test_a_bias_under_a_blocked_key_does_not_matter_whatever_it_is(attend, rubbish):
    q, k, v = (randn(H, T, 4, seed=seed) for seed in (1, 2, 3))
    blocked, bias = generate_causal_mask(T), randn(T, T, seed=4)
    spoilt = bias.masked_fill(blocked, rubbish)
    assert_close(attend(q, k, v, blocked, spoilt), attend(q, k, v, blocked, bias), 1e-6)


# --- 3: a query that sees no key


def dead_ends(through: str):
    """Return blocked and bias that leave queries 0 and 3 of the second sequence no key."""
    hidden = generate_causal_mask(5).repeat(B, 1, 1, 1)
    hidden[1, :, [0, 3]] = True
    if through == "blocked":
        return hidden, None
    if through == "bias":
        return None, torch.zeros(B, 1, 5, 5).masked_fill(hidden, -torch.inf).requires_grad_()
    bias = torch.zeros(B, 1, 5, 5)  # each hides one half, together they leave nothing
    bias[1, :, [0, 3], :2] = -torch.inf
    hidden = generate_causal_mask(5).repeat(B, 1, 1, 1)
    hidden[1, :, [0, 3], 2:] = True
    return hidden, bias.requires_grad_()


@pytest.mark.parametrize("through", ["blocked", "bias", "both"])
@BOTH
def test_a_query_that_sees_no_key_gives_zeros_forward_and_backward(attend, through):
    blocked, bias = dead_ends(through)
    q, k, v = (randn(B, H, 5, 4, seed=seed).requires_grad_() for seed in (1, 2, 3))
    output = attend(q, k, v, blocked, bias)
    output.square().sum().backward()
    assert bool((output[1][:, [0, 3]] == 0).all())
    assert bool((output[0].abs().amax(-1) > 0).all())
    for tensor in (q, k, v) if bias is None else (q, k, v, bias):
        assert tensor.grad.isfinite().all()
    assert bool((q.grad[1][:, [0, 3]] == 0).all())
    assert bool((q.grad[0][:, 1:].abs().amax(-1) > 0).all())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("through", ["blocked", "bias", "both"])
@NEED_WEIGHTS
def test_a_dead_row_of_a_layer_is_its_output_bias_and_all_gradients_stay_finite(
    need_weights, through, training
):
    blocked, bias = dead_ends(through)
    layer, x = multi_head(training=training), randn(B, 5, D).requires_grad_()
    output, weights = layer(x, blocked=blocked, bias=bias, need_weights=need_weights)
    output.square().sum().backward()
    assert torch.equal(output[1, [0, 3]], layer.output_projection.bias.expand(2, D))
    if need_weights:
        assert bool((weights[1][:, [0, 3]] == 0).all())
    for tensor in (x, *layer.parameters()):
        assert tensor.grad.isfinite().all()


@NEED_WEIGHTS
def test_left_padding_and_causal_mask_together_leave_dead_rows_but_no_nan(need_weights):
    layer, x = multi_head(training=True), randn(2, T, D).requires_grad_()
    blocked = generate_causal_mask(T) | generate_padding_mask([3, 0], T, side="left")
    output, _ = layer(x, blocked=blocked, need_weights=need_weights)
    output.square().sum().backward()
    dead = blocked.expand(2, H, T, T).all(-1)[:, 0]
    assert dead.tolist() == [[True] * 4 + [False] * 3, [True] * T]
    assert torch.equal(output[dead], layer.output_projection.bias.expand(4 + T, D))
    for tensor in (x, *layer.parameters()):
        assert tensor.grad.isfinite().all()


# --- 4: one at a time, in chunks, prefill and decode


SCHEDULES = {
    "one pass": [11],
    "one token at a time": [1] * 11,
    "chunks of two": [2, 2, 2, 2, 2, 1],
    "chunks of three": [3, 3, 3, 2],
    "prefill and decode": [6, 1, 1, 1, 1, 1],
    "prefill and chunks": [5, 2, 1, 3],
}


@pytest.mark.parametrize("chunks", SCHEDULES.values(), ids=SCHEDULES)
@BOTH
def test_behind_a_cache_every_row_is_that_of_the_full_pass(attend, chunks):
    q, k, v = (randn(B, H, 11, 4, seed=seed) for seed in (1, 2, 3))
    full = attention_output(q, k, v, generate_causal_mask(11))
    rows, past = [], 0
    for length in chunks:
        end = past + length
        blocked = generate_incremental_mask(past, length)
        rows.append(attend(q[:, :, past:end], k[:, :, :end], v[:, :, :end], blocked))
        past = end
    assert past == 11
    assert_close(torch.cat(rows, 2), full, 1e-5)


@pytest.mark.parametrize("chunks", SCHEDULES.values(), ids=SCHEDULES)
@NEED_WEIGHTS
def test_a_layer_that_looks_back_at_its_context_gives_the_rows_of_the_full_pass(
    need_weights, chunks
):
    layer, x = multi_head(), randn(B, 11, D)
    full, _ = layer(x, blocked=generate_causal_mask(11))
    rows, past = [], 0
    for length in chunks:
        end = past + length
        blocked = generate_incremental_mask(past, length)
        rows.append(
            layer(x[:, past:end], x[:, :end], blocked=blocked, need_weights=need_weights)[0]
        )
        past = end
    assert_close(torch.cat(rows, 1), full, 1e-5)


class Memory:
    """Remembers by concatenating, and keeps what came."""

    def __init__(self):
        self.came, self.old = [], None

    def __call__(self, keys, values):
        self.came.append((keys, values))
        new = (keys, values)
        both = zip(self.old, new, strict=True) if self.old else ()
        self.old = tuple(torch.cat(parts, dim=2) for parts in both) or new
        return self.old


@pytest.mark.parametrize("make", [Memory, lambda: partial(KVCache(1, B, H, T, D // H).append, 0)])
@pytest.mark.parametrize("chunks", [[1] * T, [2, 2, 2, 1], [3, 3, 1], [4, 1, 1, 1], [2, 5]])
@NEED_WEIGHTS
@torch.no_grad()
def test_a_layer_that_remembers_gives_the_rows_of_the_full_pass(need_weights, chunks, make):
    layer, x = multi_head(), randn(B, T, D)
    output, weights = layer(x, blocked=generate_causal_mask(T))
    remember, start = make(), 0
    for size in chunks:
        end = start + size
        blocked = generate_incremental_mask(start, size)
        rows, seen = layer(
            x[:, start:end], blocked=blocked, remember=remember, need_weights=need_weights
        )
        assert_close(rows, output[:, start:end], 1e-5)
        if need_weights:
            assert_close(seen, weights[:, :, start:end, :end], 1e-5)
        start = end


@NEED_WEIGHTS
def test_what_is_remembered_is_every_head_of_the_new_tokens_keys_and_values(need_weights):
    layer, x, memory = multi_head(), randn(B, 3, D), Memory()
    layer(x, remember=memory, need_weights=need_weights)
    [(keys, values)] = memory.came
    assert torch.equal(keys, split_heads(layer.key_projection(x), H))
    assert torch.equal(values, split_heads(layer.value_projection(x), H))


@NEED_WEIGHTS
def test_a_layer_looks_at_what_it_is_given_back_and_at_nothing_else(need_weights):
    layer, x = multi_head(), randn(B, 3, D)
    keys, values = randn(B, H, 5, D // H, seed=1), randn(B, H, 5, D // H, seed=2)
    blocked, bias = random_mask(3, 5), randn(3, 5, seed=3)
    output, weights = layer(
        x,
        remember=lambda *new: (keys, values),
        blocked=blocked,
        bias=bias,
        need_weights=need_weights,
    )
    queries = split_heads(layer.query_projection(x), H)
    heads, expected = attention(queries, keys, values, blocked, bias)
    assert_close(output, layer.output_projection(merge_heads(heads)), 1e-5)
    if need_weights:
        assert_close(weights, expected, 1e-6)


@NEED_WEIGHTS
def test_to_remember_and_forget_at_once_changes_nothing(need_weights):
    layer, x, options = multi_head(), randn(B, T, D), {"need_weights": need_weights}
    plain = layer(x, blocked=generate_causal_mask(T), **options)[0]
    remembered = layer(x, blocked=generate_causal_mask(T), remember=lambda *new: new, **options)[0]
    assert torch.equal(remembered, plain)


# --- 5: padding


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("lengths", [[5, 3, 7, 1], [7, 2, 6, 1, 4, 3, 5]])  # batch != T, batch == T
@NEED_WEIGHTS
def test_padding_changes_nothing_for_real_tokens(need_weights, lengths, side):
    layer = multi_head()
    x = 100 * randn(len(lengths), T, D, seed=1)  # rubbish stands where the padding is
    spans = [slice(0, n) if side == "right" else slice(T - n, T) for n in lengths]
    for row, span in enumerate(spans):
        x[row, span] = randn(lengths[row], D, seed=10 + row)
    blocked = generate_causal_mask(T) | generate_padding_mask(lengths, T, side=side)
    padded, _ = layer(x, blocked=blocked, need_weights=need_weights)
    for row, (span, length) in enumerate(zip(spans, lengths, strict=True)):
        alone, _ = layer(x[row : row + 1, span], blocked=generate_causal_mask(length))
        assert_close(padded[row, span], alone[0], 1e-5)


# --- 7: half precision, a single token


@pytest.mark.parametrize(
    # Inputs are rounded before the float64 reference reads them. What is left is the rounding
    # of scores (up to about 4), weights and output: a few eps of the dtype.
    ("dtype", "atol"),
    [(torch.float16, 4e-3), (torch.bfloat16, 3e-2)],
    ids=str,
)
@BOTH
def test_half_precision_is_close_to_float64_and_keeps_its_dtype(attend, dtype, atol):
    q, k, v = (randn(B, H, T, 4, seed=seed).to(dtype) for seed in (1, 2, 3))
    blocked, bias = generate_causal_mask(T), randn(T, T, seed=4).to(dtype)
    expected = attention_output(q.double(), k.double(), v.double(), blocked, bias.double())
    output = attend(q, k, v, blocked, bias)
    assert output.dtype == dtype
    assert_close(output.double(), expected, atol)


@pytest.mark.parametrize("bias_dtype", [torch.float16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@BOTH
def test_a_bias_of_another_dtype_serves_and_the_queries_keep_theirs(attend, dtype, bias_dtype):
    q, k, v = (randn(B, H, T, 4, seed=seed).to(dtype) for seed in (1, 2, 3))
    bias = randn(T, T, seed=4).to(bias_dtype)
    output = attend(q, k, v, bias=bias)
    assert output.dtype == dtype
    assert_close(output, attend(q, k, v, bias=bias.to(dtype)), 1e-2)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float16, 4e-3), (torch.bfloat16, 3e-2)])
@NEED_WEIGHTS
def test_a_layer_of_half_precision_is_causal_and_close_to_float64(need_weights, dtype, atol):
    layer, x = multi_head().to(dtype), randn(B, T, D).to(dtype)
    blocked = generate_causal_mask(T)
    output, _ = layer(x, blocked=blocked, need_weights=need_weights)
    expected, _ = multi_head().to(dtype).double()(x.double(), blocked=blocked)
    assert output.dtype == dtype
    assert_close(output.double(), expected, 4 * atol)  # four projections more
    changed = x.clone()
    changed[:, 4:] = 7
    moved = layer(changed, blocked=blocked, need_weights=need_weights)[0] - output
    assert moved[:, :4].abs().max().item() == 0


@NEED_WEIGHTS
def test_under_autocast_a_layer_takes_tokens_of_either_dtype(need_weights):
    layer, x, blocked = multi_head(), randn(B, T, D), generate_causal_mask(T)
    expected, _ = layer(x, blocked=blocked)
    with torch.autocast("cpu", torch.bfloat16):
        for tokens in (x, x.bfloat16()):
            output, _ = layer(tokens, blocked=blocked, need_weights=need_weights)
            assert output.dtype == torch.bfloat16
            assert_close(output.float(), expected, 0.1)  # five roundings of bfloat16


@BOTH
def test_dot_products_too_large_for_float16_are_scaled_before_they_overflow(attend):
    q = torch.full((1, 64), 40.0, dtype=torch.float16)
    k = torch.stack([q[0], 0.99 * q[0]])  # q · k = 102400, scaled 12800
    v = torch.tensor([[1.0], [2.0]], dtype=torch.float16)
    assert attend(q, k, v).tolist() == [[1.0]]


@NEED_WEIGHTS
def test_a_single_token_looks_at_itself(need_weights):
    layer, x = multi_head(), randn(B, 1, D)
    output, weights = layer(x, blocked=generate_causal_mask(1), need_weights=need_weights)
    assert_close(output, layer.output_projection(layer.value_projection(x)), 1e-6)
    if need_weights:
        assert torch.equal(weights, torch.ones(B, H, 1, 1))


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


def test_every_head_has_a_projection_of_its_own():
    layer, x, blocked = multi_head(), randn(B, T, D), generate_causal_mask(T)
    _, weights = layer(x, blocked=blocked)
    dim = D // H
    for head in range(H):
        rows = slice(head * dim, (head + 1) * dim)
        q, k = (
            F.linear(x, projection.weight[rows], projection.bias[rows])
            for projection in (layer.query_projection, layer.key_projection)
        )
        assert_close(weights[:, head], attention_weights(q, k, blocked), 1e-6)


def test_a_mask_per_head_hides_from_that_head_only():
    blocked = torch.zeros(H, 1, T, dtype=torch.bool)
    blocked[1, :, 2] = True
    _, weights = multi_head()(randn(B, T, D), blocked=blocked)
    assert bool((weights[:, 1, :, 2] == 0).all())
    assert bool((weights[:, [0, 2], :, 2] > 0).all())


def test_asking_for_the_weights_changes_nothing_else():
    layer, x, blocked = multi_head(), randn(B, T, D), generate_causal_mask(T)
    bias = randn(H, T, T, seed=1)
    with_weights, weights = layer(x, blocked=blocked, bias=bias)
    without, nothing = layer(x, blocked=blocked, bias=bias, need_weights=False)
    assert weights.shape == (B, H, T, T)
    assert nothing is None
    assert_close(without, with_weights, 1e-6)


def test_bias_false_leaves_the_projections_without_a_constant():
    names = dict(multi_head(bias=False).named_parameters())
    assert set(names) == {
        f"{part}_projection.weight" for part in ("query", "key", "value", "output")
    }


# --- dropout


def layer_that_shows_what_it_drops(dropout: float) -> MultiHeadAttention:
    """Return one head whose output for the unit vectors is the matrix of weights it used."""
    layer = fill(MultiHeadAttention(D, 1, dropout=dropout))
    with torch.no_grad():
        for projection in (layer.value_projection, layer.output_projection):
            projection.weight.copy_(torch.eye(D))
            projection.bias.zero_()
    return layer


@NEED_WEIGHTS
def test_in_training_each_weight_is_dropped_or_scaled_up(need_weights):
    layer = layer_that_shows_what_it_drops(0.25)
    x = torch.eye(D)[None]
    _, weights = layer.eval()(x)
    torch.manual_seed(3)
    used = layer.train()(x, need_weights=need_weights)[0]
    dropped = used == 0
    assert 0.1 < dropped.float().mean().item() < 0.4
    assert_close(used[~dropped], weights[:, 0][~dropped] / 0.75, 1e-6)


@NEED_WEIGHTS
def test_in_evaluation_nothing_is_dropped(need_weights):
    layer = layer_that_shows_what_it_drops(0.25).eval()
    x = torch.eye(D)[None]
    used = layer(x, need_weights=need_weights)[0]
    assert_close(used, layer(x)[1][:, 0], 1e-6)
    assert bool((used > 0).all())


def test_the_weights_shown_in_training_are_those_before_dropout_unlike_pytorchs():
    theirs = torch_layer(dropout=0.5).train()
    ours = MultiHeadAttention.from_torch(theirs)
    x = randn(B, T, D)
    torch.manual_seed(0)
    shown = ours(x)[1]
    assert_close(shown.sum(-1), torch.ones(B, H, T), 1e-6)
    assert_close(shown, ours.eval()(x)[1], 1e-6)
    their_sums = theirs(x, x, x, average_attn_weights=False)[1].sum(-1)
    assert (their_sums - 1).abs().max().item() > 0.1


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


# --- 8: bad input


FAR = torch.device("meta")
Q, K, V = torch.zeros(2, 3, 4), torch.zeros(2, 5, 4), torch.zeros(2, 5, 6)
BAD_QUERIES_AND_KEYS = {
    "q of integers": ((Q.int(), K, V), r"q must be a floating tensor.*\.float\(\)"),
    "k of integers": ((Q, K.int(), V), r"k must be a floating tensor.*\.float\(\)"),
    "q a list": (([[1.0]], K, V), "q must be a floating tensor"),
    "q with one axis": ((Q[0, 0], K, V), r"q must have shape \(…, length, dim\)"),
    "k with one axis": ((Q, K[0, 0], V), r"k must have shape \(…, length, dim\)"),
    "no query": ((Q[:, :0], K, V), "no empty axis"),
    "no key": ((Q, K[:, :0], V[:, :0]), "no empty axis"),
    "no dim": ((Q[..., :0], K[..., :0], V), "no empty axis"),
    "another dim": ((Q[..., :3], K, V), "q and k must agree in dim and dtype"),
    "another dtype of k": ((Q, K.double(), V.double()), "q and k must agree in dim and dtype"),
    "another batch of k": ((Q, K.repeat(2, 1, 1), V), "did you forget to split or transpose"),
    "heads not transposed": (
        (torch.zeros(2, 3, 3, 4), torch.zeros(2, 5, 2, 4), torch.zeros(2, 5, 2, 4)),
        "did you forget to split or transpose",
    ),
    "k elsewhere": ((Q, K.to(FAR), V), r'k lives on meta.*k\.to\("cpu"\)'),
}
BAD_VALUES = {
    "v of integers": ((Q, K, V.int()), r"v must be a floating tensor.*\.float\(\)"),
    "v a list": ((Q, K, [[1.0]]), "v must be a floating tensor"),
    "v with one axis": ((Q, K, V[0, 0]), "one value per key"),
    "another dtype of v": ((Q, K, V.double()), "in the keys' dtype"),
    "a value too few": ((Q, K, V[:, 1:]), "one value per key"),
    "v without dim": ((Q, K, V[..., :0]), "one value per key"),
    "another batch of v": ((Q, K, V.repeat(2, 1, 1)), "did you forget to split or transpose"),
    "v elsewhere": ((Q, K, V.to(FAR)), r'v lives on meta.*v\.to\("cpu"\)'),
}
BAD_TENSORS = BAD_QUERIES_AND_KEYS | BAD_VALUES


@pytest.mark.parametrize(("tensors", "message"), BAD_TENSORS.values(), ids=BAD_TENSORS)
@BOTH
def test_tensors_that_do_not_fit_each_other_are_told_how_to(attend, tensors, message):
    with pytest.raises(ValueError, match=message):
        attend(*tensors)


@pytest.mark.parametrize(
    ("tensors", "message"), BAD_QUERIES_AND_KEYS.values(), ids=BAD_QUERIES_AND_KEYS
)
def test_attention_weights_checks_its_queries_and_keys(tensors, message):
    with pytest.raises(ValueError, match=message):
        attention_weights(*tensors[:2])


BAD_MASKS = {
    "0/1 mask": ({"blocked": torch.zeros(3, 5)}, r"blocked must be a boolean.*\.bool\(\)"),
    "logit mask as blocked": ({"blocked": generate_causal_logit_mask(3)}, "from_additive"),
    "list": ({"blocked": [[True]]}, r"\.bool\(\)"),
    "transposed": ({"blocked": torch.zeros(5, 3).bool()}, r"\(query, key\)"),
    "per sequence": ({"blocked": torch.zeros(3, 1, 5).bool()}, r"\(query, key\).*\(batch, head\)"),
    "enlarging": ({"blocked": torch.zeros(4, 2, 3, 5).bool()}, "does not broadcast"),
    "elsewhere": ({"blocked": torch.zeros(3, 5, device=FAR).bool()}, r'blocked\.to\("cpu"\)'),
    "boolean bias": ({"bias": torch.zeros(3, 5).bool()}, r"bias must be a floating.*\.float\(\)"),
    "integer bias": ({"bias": torch.zeros(3, 5).int()}, r"bias must be a floating.*\.float\(\)"),
    "transposed bias": ({"bias": torch.zeros(5, 3)}, r"bias has shape.*\(query, key\)"),
    "bias elsewhere": ({"bias": torch.zeros(3, 5, device=FAR)}, r'bias\.to\("cpu"\)'),
}


@pytest.mark.parametrize(("options", "message"), BAD_MASKS.values(), ids=BAD_MASKS)
@pytest.mark.parametrize(
    "attend",
    [
        attention_output,
        fused_attention,
        lambda q, k, v, **options: attention_weights(q, k, **options),
    ],
    ids=["attention", "fused_attention", "attention_weights"],
)
def test_a_mask_or_bias_that_does_not_fit_is_told_how_to(attend, options, message):
    with pytest.raises(ValueError, match=message):
        attend(Q, K, V, **options)


@pytest.mark.parametrize("scale", [torch.nan, torch.inf, "0.5"])
@BOTH
def test_the_scale_must_be_a_finite_number(attend, scale):
    with pytest.raises(ValueError, match="scale must be a finite number"):
        attend(Q, K, V, scale=scale)


S, M3 = torch.zeros(3, 2), torch.zeros(3, 3)


@pytest.mark.parametrize(
    ("matrices", "message"),
    [
        ((S.int(), S, S, M3), r"Q must be a floating tensor.*\.float\(\)"),
        ((S, S, S, M3.bool()), r"M must be a floating tensor"),
        ((S, S, [[0.0]], M3), r"V must be a floating tensor"),
        ((S[None], S, S, M3), r"attention\(\) takes batches, heads and rectangles"),
        ((S, S[1:], S, M3), r"attention\(\) takes batches, heads and rectangles"),
        ((S, S, S[:, 1:], M3), r"shape \(T, d\)"),
        ((S, S, S, M3[1:]), r"M of shape \(T, T\)"),
        ((S[:0], S[:0], S[:0], M3[:0, :0]), "Algorithm 5 needs"),
        ((S[:, :0], S[:, :0], S[:, :0], M3), "Algorithm 5 needs"),
        ((S, S.double(), S, M3), "dtype"),
        ((S, S, S, M3.double()), "dtype"),
        ((S, S.to(FAR), S, M3), r'K lives on meta.*K\.to\("cpu"\)'),
        ((S, S, S, M3.to(FAR)), r'M lives on meta.*M\.to\("cpu"\)'),
    ],
)
def test_algorithm_5_says_what_it_needs(matrices, message):
    with pytest.raises(ValueError, match=message):
        algorithm_5_causal_attention(*matrices)


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


@pytest.mark.parametrize("layer", [MultiHeadAttention, CausalAttention])
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
def test_a_layer_needs_heads_of_a_whole_size(layer, d_model, num_heads, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        layer(d_model, num_heads)


@pytest.mark.parametrize("dropout", [-0.1, 1.0, 1.5, torch.nan, True, "0.1", None])
def test_dropout_is_a_share_below_1(dropout):
    with pytest.raises(ValueError, match=r"dropout must be .*at least 0 and below 1"):
        MultiHeadAttention(6, 3, dropout=dropout)


@pytest.mark.parametrize(
    "option", [{"kdim": 5}, {"vdim": 5}, {"add_bias_kv": True}, {"add_zero_attn": True}]
)
def test_from_torch_names_the_options_that_have_no_counterpart(option):
    with pytest.raises(ValueError, match=r"no kdim, vdim.*no add_bias_kv and no add_zero_attn"):
        MultiHeadAttention.from_torch(nn.MultiheadAttention(6, 3, **option))


def test_from_torch_wants_pytorchs_layer_and_no_other():
    with pytest.raises(ValueError, match=r"nn\.MultiheadAttention"):
        MultiHeadAttention.from_torch(nn.Linear(6, 6))


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
@pytest.mark.parametrize("layer", [MultiHeadAttention(D, H), CausalAttention(D, H)])
def test_a_layer_says_what_tokens_it_needs(layer, x, message):
    with pytest.raises(ValueError, match=message):
        layer(x)


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (X.int(), "context must be a floating tensor"),
        (X[0], r"context must have shape \(batch, length, 12\)"),
        (X[..., :-1], r"context must have shape \(batch, length, 12\)"),
        (X.repeat(2, 1, 1), "must agree in"),
        (X.double(), "dtype"),
        (X.to(FAR), r'context lives on meta.*context\.to\("cpu"\)'),
    ],
)
@NEED_WEIGHTS
def test_a_context_that_does_not_fit_is_named(need_weights, context, message):
    with pytest.raises(ValueError, match=message):
        MultiHeadAttention(D, H)(X, context, need_weights=need_weights)


@NEED_WEIGHTS
def test_who_remembers_looks_at_no_context(need_weights):
    with pytest.raises(ValueError, match="leave out either it or context"):
        MultiHeadAttention(D, H)(X, X, remember=lambda *new: new, need_weights=need_weights)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocked": torch.zeros(T, T)}, r"blocked must be a boolean.*\.bool\(\)"),
        ({"blocked": torch.zeros(B, T).bool()}, r"\(query, key\).*\(batch, head\)"),
        ({"blocked": torch.zeros(T, T, device=FAR).bool()}, r'blocked\.to\("cpu"\)'),
        ({"bias": torch.zeros(T, T).bool()}, r"bias must be a floating.*\.float\(\)"),
        ({"bias": torch.zeros(T, T + 1)}, r"bias has shape.*\(query, key\)"),
    ],
)
@NEED_WEIGHTS
def test_a_layer_refuses_masks_and_biases_that_do_not_fit(need_weights, options, message):
    with pytest.raises(ValueError, match=message):
        MultiHeadAttention(D, H)(X, need_weights=need_weights, **options)


@pytest.mark.parametrize("name", ["blocked", "bias"])
@NEED_WEIGHTS
def test_a_layer_that_remembers_needs_masks_for_all_that_it_remembers(need_weights, name):
    layer, memory = MultiHeadAttention(D, H), Memory()
    layer(X, remember=memory)
    for_the_new_only = torch.zeros(T, T, dtype=torch.bool if name == "blocked" else torch.float32)
    with pytest.raises(ValueError, match=name + r" has shape.*\(query, key\)"):
        layer(X, remember=memory, need_weights=need_weights, **{name: for_the_new_only})
