"""Attention against Algorithms 4 and 5, against PyTorch, and against what may never happen.

Three heads, a batch that differs from the length, a length that is no multiple of 4: shapes in
which a transposed or reshaped axis cannot hide.
"""

import math

import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from causal_lab.attention.formula import (
    algorithm_5_causal_attention,
    attention,
    attention_weights,
    fused_attention,
)
from causal_lab.attention.heads import merge_heads, split_heads
from causal_lab.masks.rules import (
    algorithm_4_causal_mask,
    generate_causal_logit_mask,
    generate_causal_mask,
    generate_incremental_mask,
)
from tests.builders import assert_close, randn, random_mask

B, T, H, D = 2, 7, 3, 12  # batch, length, heads, d_model


def mask_of_live_rows(*shape: int) -> torch.Tensor:
    """Two keys in five blocked, but never the first."""
    return random_mask(*shape) & (torch.arange(shape[-1]) > 0)


def attention_output(*arguments, **options) -> torch.Tensor:
    return attention(*arguments, **options)[0]


BOTH = pytest.mark.parametrize("attend", [attention_output, fused_attention])


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
    bias, blocked = randn(4, 5, seed=4), mask_of_live_rows(4, 5)
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
    blocked = mask_of_live_rows(*shape) if shape else torch.tensor(False)
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


# --- 1: whatever happens after the cut, nothing before it moves


def heads_of(x: torch.Tensor) -> torch.Tensor:
    return split_heads(x, H)


def path_of(name: str):
    """Return a function from tokens to outputs that is meant to be causal."""
    blocked = generate_causal_mask(T)
    if name == "algorithm_5":
        M = algorithm_4_causal_mask(T)
        return lambda x: torch.stack([algorithm_5_causal_attention(s, s, s, M) for s in x])
    attend = attention_output if name == "attention" else fused_attention
    return lambda x: merge_heads(attend(heads_of(x), heads_of(x), heads_of(x), blocked))


PATHS = ["algorithm_5", "attention", "fused_attention"]


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


# --- 2: a blocked key weighs exactly nothing


@pytest.mark.parametrize("through", ["blocked", "bias", "both"])
def test_blocked_keys_weigh_exactly_0_and_rows_that_see_something_sum_to_1(through):
    q, k = 2 * randn(B, H, 5, 4), 2 * randn(B, H, T, 4, seed=1)
    hidden = mask_of_live_rows(B, 1, 5, T)
    bias = randn(B, H, 5, T, seed=2)
    if through != "blocked":
        bias = bias.masked_fill(hidden, -torch.inf)
    weights = attention_weights(q, k, hidden if through != "bias" else None, bias)
    assert torch.equal(weights == 0, hidden.expand_as(weights))
    assert_close(weights.sum(-1), torch.ones(B, H, 5), 1e-6)


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


@BOTH
def test_dot_products_too_large_for_float16_are_scaled_before_they_overflow(attend):
    q = torch.full((1, 64), 40.0, dtype=torch.float16)
    k = torch.stack([q[0], 0.99 * q[0]])  # q · k = 102400, scaled 12800
    v = torch.tensor([[1.0], [2.0]], dtype=torch.float16)
    assert attend(q, k, v).tolist() == [[1.0]]


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
