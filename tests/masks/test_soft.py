"""Soft masks against plain loops in 64 bits, and their limits against the hard masks."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from causal_lab.attention.formula import attention
from causal_lab.causality import check_causality
from causal_lab.masks.rules import (
    from_additive,
    generate_causal_logit_mask,
    generate_causal_mask,
    generate_sliding_window_mask,
)
from causal_lab.masks.soft import gate_to_bias, soft_causal_bias, soft_leak, span_gate
from causal_lab.models.layers import MultiHeadAttention
from tests.builders import randn

INF = float("inf")
EACH = settings(max_examples=40, deadline=None, derandomize=True)
lengths = st.integers(1, 13)
depths = st.floats(0, 60)
seeds = st.integers(0, 2**20)
eighths = st.integers(0, 120).map(lambda number: number / 8)  # sums and differences are exact
draw = partial(randn, dtype=torch.float64)


def double(number, **options):
    return torch.tensor(number, dtype=torch.float64, **options)


# --- soft_causal_bias


@given(T=lengths, depth=depths, slope=st.floats(0, 9))
@EACH
def test_the_bias_is_what_two_loops_write(T, depth, slope):
    bias = soft_causal_bias(T, double(depth), slope=slope)
    slope = float(np.float32(slope))  # a number is read as float32
    assert bias.shape == (T, T)
    for query in range(T):
        for key in range(T):
            wanted = 0.0 if key <= query else -(depth + slope * (key - query - 1))
            assert float(bias[query, key]) == pytest.approx(wanted, rel=1e-12, abs=0)


@given(T=lengths, slope=st.floats(0, 9), as_tensor=st.booleans())
@EACH
def test_an_infinite_depth_is_the_causal_logit_mask(T, slope, as_tensor):
    bias = soft_causal_bias(T, torch.tensor(INF) if as_tensor else INF, slope=slope)
    assert torch.equal(bias, generate_causal_logit_mask(T))
    assert torch.equal(from_additive(bias), generate_causal_mask(T))


@pytest.mark.parametrize("T", [1, 2, 5])
def test_a_depth_of_0_is_no_mask_and_never_minus_0(T):
    bias = soft_causal_bias(T, 0)
    assert torch.equal(bias, torch.zeros(T, T))
    assert not torch.signbit(bias).any()
    assert not torch.signbit(soft_causal_bias(T, INF).tril()).any()


@given(T=st.integers(2, 13), depth=depths, more=st.floats(0.01, 20), seed=seeds)
@EACH
def test_a_deeper_mask_leaks_less_in_every_row_that_has_a_future(T, depth, more, seed):
    future, scores = generate_causal_mask(T), draw(T, T, seed=seed)

    def leak(depth):
        weights = torch.softmax(scores + soft_causal_bias(T, double(depth)), -1)
        return (weights * future).sum(-1)

    shallow, deep = leak(depth), leak(depth + more)
    assert (deep[:-1] < shallow[:-1]).all()
    assert (deep[:-1] > 0).all()
    assert deep[-1] == shallow[-1] == 0


@given(T=lengths, depth=depths, seed=seeds)
@EACH
def test_the_future_loses_exactly_the_factor_of_the_depth_against_the_past(T, depth, seed):
    scores = draw(T, T, seed=seed)
    weights = torch.softmax(scores + soft_causal_bias(T, double(depth)), -1)
    for query in range(T - 1):
        odds = weights[query, query + 1 :].sum() / weights[query, : query + 1].sum()
        free = scores[query].exp()
        wanted = free[query + 1 :].sum() / free[: query + 1].sum() * math.exp(-depth)
        assert float(odds) == pytest.approx(float(wanted), rel=1e-9)


@given(T=st.integers(3, 13), depth=depths, slope=st.floats(0.1, 5))
@EACH
def test_a_slope_leaves_the_next_token_and_lowers_the_others_more(T, depth, slope):
    flat, steep = soft_causal_bias(T, depth), soft_causal_bias(T, depth, slope=slope)
    assert torch.equal(flat.diagonal(1), steep.diagonal(1))
    assert torch.equal(flat.tril(), steep.tril())
    for step in range(2, T):
        assert (steep.diagonal(step) < flat.diagonal(step)).all()


@pytest.mark.parametrize("depth", [0.0, 3.0, 200.0, INF])
def test_the_gradients_of_depth_and_slope_are_finite(depth):
    depth = torch.tensor(depth, requires_grad=True)
    slope = torch.tensor(0.5, requires_grad=True)
    bias = soft_causal_bias(5, depth, slope=slope)
    weights = torch.softmax(randn(5, 5, seed=1) + bias, 1)
    (weights * generate_causal_mask(5)).sum().backward()
    assert torch.isfinite(depth.grad)
    assert torch.isfinite(slope.grad)
    assert (depth.grad < 0) == (depth.item() < 100)  # deeper leaks less, until nothing is left
    assert (slope.grad < 0) == (depth.item() < 100)


def test_the_bias_follows_the_depth_in_dtype_and_device():
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        assert soft_causal_bias(3, torch.tensor(2.0, dtype=dtype)).dtype == dtype
        slope = torch.tensor(1.0, dtype=torch.float64)
        assert soft_causal_bias(3, torch.tensor(2.0, dtype=dtype), slope=slope).dtype == dtype
    assert soft_causal_bias(3, torch.tensor(2)).dtype == torch.float32
    assert soft_causal_bias(3, torch.tensor(2), slope=0.5)[0, 2] == -2.5
    assert soft_causal_bias(3, 2, slope=torch.tensor(1))[0, 2] == -3
    assert soft_causal_bias(3, 2).dtype == torch.float32
    assert soft_causal_bias(3, np.float64(2.5))[0, 1] == -2.5
    for depth in (2.0, torch.tensor(2.0)):
        assert soft_causal_bias(3, depth, device="meta").device.type == "meta"


def test_the_default_dtype_does_not_matter():
    torch.set_default_dtype(torch.float64)
    try:
        found = [soft_causal_bias(3, 2.0), span_gate(torch.arange(3), 1, 1), span_gate(1, 1, 1)]
    finally:
        torch.set_default_dtype(torch.float32)
    assert {tensor.dtype for tensor in found} == {torch.float32}


def test_the_default_device_does_not_matter_if_a_device_is_given():
    with torch.device("meta"):
        assert soft_causal_bias(3, 2.0, device="cpu")[0, 2] == -2


def test_the_bias_goes_into_attention_as_it_is():
    q, k, v = (draw(2, 3, 5, 4, seed=seed).float() for seed in (1, 2, 3))
    found = attention(q, k, v, bias=soft_causal_bias(5, INF))[0]
    wanted = attention(q, k, v, blocked=generate_causal_mask(5))[0]
    assert torch.equal(found, wanted)


BAD_NUMBERS = [-1, -0.1, -INF, float("nan"), "deep", "2", None, True, [1.0], 1j]
BAD_TENSORS = [[1.0], [[1.0, 2.0]], -1.0, float("nan"), True, 1j]


@pytest.mark.parametrize("name", ["depth", "slope"])
@pytest.mark.parametrize("value", [*BAD_NUMBERS, *map(torch.tensor, BAD_TENSORS)], ids=repr)
def test_a_depth_or_slope_that_is_not_one_number_of_at_least_0_is_refused(name, value):
    arguments = {"depth": 1.0, name: value}
    with pytest.raises(ValueError, match=rf"^{name} must be (a|one) number of at least 0, got"):
        soft_causal_bias(3, **arguments)


@pytest.mark.parametrize("slope", [INF, torch.tensor(INF)])
def test_an_infinite_slope_is_refused(slope):
    with pytest.raises(ValueError, match=r"slope must be finite.*infinite depth"):
        soft_causal_bias(3, 1.0, slope=slope)


@pytest.mark.parametrize("T", [0, -1, 2.5, "3", True, None])
def test_a_length_that_is_no_whole_number_from_1_on_is_refused(T):
    with pytest.raises(ValueError, match="T must be an integer of at least 1"):
        soft_causal_bias(T, 1.0)
    with pytest.raises(ValueError, match="T must be an integer of at least 1"):
        soft_leak(T, 1, 1.0)
    with pytest.raises(ValueError, match="t must be an integer of at least 1"):
        soft_leak(5, T, 1.0)


# --- soft_leak


@given(T=lengths, depth=depths, score=st.floats(-20, 20))
@EACH
def test_the_leak_is_the_rows_sum_over_the_future_when_all_scores_are_equal(T, depth, score):
    scores = torch.full((T, T), score, dtype=torch.float64)
    weights = torch.softmax(scores + soft_causal_bias(T, double(depth)), -1)
    rows = (weights * generate_causal_mask(T)).sum(-1)
    for t in range(1, T + 1):
        assert soft_leak(T, t, depth) == pytest.approx(float(rows[t - 1]), rel=1e-9, abs=1e-300)
        assert float(soft_leak(T, t, double(depth))) == pytest.approx(soft_leak(T, t, depth))


@given(T=lengths, t=lengths, depth=st.floats(0, 600), more=st.floats(0.01, 100))
@EACH
def test_the_leak_falls_with_depth_and_stays_above_0(T, t, depth, more):
    T, t = max(T, t), min(T, t)
    shallow, deep = soft_leak(T, t, depth), soft_leak(T, t, depth + more)
    if t == T:
        assert shallow == deep == 0
    else:
        assert 0 < deep < shallow <= (T - t) / T


@given(T=st.integers(2, 13), depth=st.floats(0, 1e300))
@EACH
def test_the_leak_of_any_depth_is_a_share(T, depth):
    for value in (soft_leak(T, 1, depth), float(soft_leak(T, 1, double(depth)))):
        assert 0 <= value <= (T - 1) / T


def test_the_leak_at_the_ends():
    for T in (1, 2, 7):
        for t in range(1, T + 1):
            assert soft_leak(T, t, 0) == (T - t) / T
            assert soft_leak(T, t, INF) == 0
            assert soft_leak(T, t, torch.tensor(INF)) == 0
    assert soft_leak(10**9, 1, 20.0) > 0.67  # a long future outweighs a depth of 20


@given(T=st.integers(2, 13), depth=st.floats(0, 30))
@EACH
def test_the_slope_of_the_leak_is_minus_leak_times_the_rest(T, depth):
    depth = double(depth, requires_grad=True)
    leak = soft_leak(T, 1, depth)
    leak.backward()
    assert float(depth.grad) == pytest.approx(-(leak * (1 - leak)).item(), rel=1e-9)


def test_many_depths_at_once():
    many = torch.tensor([[0.0, 1.0, INF], [2.0, 50.0, 80.0]])
    found = soft_leak(5, 2, many)
    assert found.shape == many.shape
    wanted = [[soft_leak(5, 2, depth) for depth in row] for row in many.tolist()]
    torch.testing.assert_close(found, torch.tensor(wanted), rtol=1e-5, atol=0)
    assert soft_leak(5, 2, torch.arange(3)).tolist() == soft_leak(5, 2, torch.arange(3.0)).tolist()
    assert isinstance(soft_leak(5, 2, 1), float)


@pytest.mark.parametrize("depth", BAD_NUMBERS)
def test_the_leak_of_a_depth_that_is_no_number_from_0_on_is_refused(depth):
    with pytest.raises(ValueError, match=r"^depth must be a number of at least 0, got"):
        soft_leak(5, 2, depth)


@pytest.mark.parametrize("depth", [[1.0, -1.0], float("nan"), [True, False], 1j])
def test_the_leak_of_a_tensor_with_a_bad_depth_is_refused(depth):
    with pytest.raises(ValueError, match=r"^depth must be at least 0 everywhere"):
        soft_leak(5, 2, torch.tensor(depth))


def test_more_visible_tokens_than_tokens_are_refused():
    with pytest.raises(ValueError, match="t must lie between 1 and T=5, got 6"):
        soft_leak(5, 6, 1.0)


# --- span_gate


@given(distance=eighths, span=eighths, ramp=eighths.map(lambda number: number + 1 / 8))
@EACH
def test_the_gate_is_its_formula(distance, span, ramp):
    gate = float(span_gate(double(distance), span, ramp))
    assert gate == pytest.approx(min(max((ramp + span - distance) / ramp, 0), 1), abs=1e-12)
    assert 0 <= gate <= 1
    assert (gate == 1) == (distance <= span)
    assert (gate == 0) == (distance >= span + ramp)


@given(distance=st.floats(-1e3, 1e3), span=st.floats(-1e3, 1e3), ramp=st.floats(1e-3, 1e3))
@EACH
def test_the_gate_lies_between_0_and_1_and_is_open_up_to_the_span(distance, span, ramp):
    gate = float(span_gate(double(distance), double(span), double(ramp)))
    assert 0 <= gate <= 1
    assert gate == 1 or distance > span
    assert float(span_gate(double(span), double(span), double(ramp))) == 1


@given(span=eighths, ramp=eighths.map(lambda number: number + 1), more=eighths)
@EACH
def test_the_gate_falls_with_distance_and_rises_with_the_span(span, ramp, more):
    gates = span_gate(torch.arange(60.0), span, ramp)
    assert (gates.diff() <= 0).all()
    assert (span_gate(torch.arange(60.0), span + more, ramp) >= gates).all()


@given(span=eighths, ramp=eighths.map(lambda number: number + 1))
@EACH
def test_only_the_ramp_has_a_slope(span, ramp):
    distance = torch.arange(0, 60, 0.5, dtype=torch.float64)
    spans = torch.full_like(distance, span).requires_grad_()
    span_gate(distance, spans, ramp).sum().backward()
    inside = (distance > span) & (distance < span + ramp)
    outside = (distance < span) | (distance > span + ramp)
    torch.testing.assert_close(spans.grad[inside], torch.full_like(distance, 1 / ramp)[inside])
    assert (spans.grad[outside] == 0).all()


def test_a_span_per_head_broadcasts_and_learns():
    position = torch.arange(7)
    span = torch.tensor([0.5, 2.0, 5.25]).reshape(3, 1, 1).requires_grad_()
    gates = span_gate(position[:, None] - position, span, 2)
    assert gates.shape == (3, 7, 7)
    for head, alone in enumerate([0.5, 2.0, 5.25]):
        assert torch.equal(gates[head], span_gate(position[:, None] - position, alone, 2))
    gates.sum().backward()
    assert (span.grad > 0).all()


@pytest.mark.parametrize("window", [1, 2, 4, 9])
def test_a_ramp_of_1_is_a_sliding_window(window):
    position = torch.arange(7)
    gates = span_gate(position[:, None] - position, window - 1, 1)
    assert torch.equal(
        (gates == 0) | generate_causal_mask(7), generate_sliding_window_mask(7, window)
    )


def test_the_gate_takes_numbers_integers_and_other_dtypes():
    assert span_gate(3, 2, 4).item() == 0.75
    assert span_gate(3, 2, 4).dtype == torch.float32
    assert span_gate(torch.arange(3), 2, 4).dtype == torch.float32
    assert span_gate(torch.arange(3), double(2.0), 4).dtype == torch.float64
    assert span_gate(torch.tensor(-5), 2, 4) == 1  # the future is somebody else's business


@pytest.mark.parametrize("ramp", [0, -1, float("nan"), torch.tensor([1.0, 0.0])])
def test_a_ramp_that_is_not_above_0_is_refused(ramp):
    with pytest.raises(ValueError, match=r"ramp must be above 0.*generate_sliding_window_mask"):
        span_gate(torch.arange(2), 1, ramp)


@pytest.mark.parametrize("name", ["distance", "span", "ramp"])
@pytest.mark.parametrize("value", ["2", None, True, [1, 2], torch.tensor(True), torch.tensor(1j)])
def test_what_is_no_number_is_refused(name, value):
    arguments = {"distance": 1, "span": 1, "ramp": 1, name: value}
    with pytest.raises(ValueError, match=f"^{name} must be a number or a tensor of numbers, got"):
        span_gate(**arguments)


def test_shapes_that_do_not_broadcast_are_refused():
    with pytest.raises(ValueError, match=r"'distance': \(3,\), 'span': \(2,\)"):
        span_gate(torch.arange(3), torch.ones(2), 1)


# --- gate_to_bias


@given(shape=st.tuples(lengths, lengths), seed=seeds)
@EACH
def test_a_gate_multiplies_what_its_bias_adds(shape, seed):
    scores = draw(*shape, seed=seed)
    gate = draw(*shape, seed=seed + 1).clamp(0, 1)  # about half of it exactly 0
    gate[:, 0] = 1.0
    powers = gate * scores.exp()
    wanted = powers / powers.sum(-1, keepdim=True)
    found = torch.softmax(scores + gate_to_bias(gate), -1)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)
    assert torch.equal(found == 0, gate == 0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_minus_infinity_exactly_where_the_gate_is_0(dtype):
    tiny = torch.finfo(dtype).tiny
    gate = torch.tensor([0.0, -0.0, tiny, 0.5, 1.0], dtype=dtype)
    bias = gate_to_bias(gate)
    assert bias.dtype == dtype
    assert (bias == -INF).tolist() == [True, True, False, False, False]
    assert bias[4] == 0
    assert bias[2].item() == pytest.approx(math.log(tiny), rel=1e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_bias_of_a_gate_below_the_normal_numbers_is_still_its_logarithm(dtype):
    gate = torch.tensor(torch.finfo(dtype).tiny / 8, dtype=dtype, requires_grad=True)
    bias = gate_to_bias(gate)
    assert bias.item() == pytest.approx(math.log(torch.finfo(dtype).tiny / 8), rel=1e-5)
    bias.backward()
    assert gate.grad == 0


@pytest.mark.filterwarnings("ignore:Anomaly Detection:UserWarning")  # it finds a NaN on the way
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_gradient_is_finite_for_every_gate(dtype):
    values = [0.0, torch.finfo(dtype).tiny / 4, torch.finfo(dtype).tiny, 0.25, 1.0]
    gate = torch.tensor(values, dtype=dtype, requires_grad=True)
    with torch.autograd.detect_anomaly(check_nan=True):
        gate_to_bias(gate).sum().backward()
    assert torch.isfinite(gate.grad).all()
    assert gate.grad[:2].tolist() == [0, 0]
    assert gate.grad[3:].tolist() == [4, 1]
    assert gate.grad[2] > 0


@given(T=st.integers(2, 9), span=eighths, ramp=eighths.map(lambda number: number + 1), seed=seeds)
@EACH
def test_the_gradient_of_a_span_through_attention_is_finite_and_right(T, span, ramp, seed):
    position, scores = torch.arange(T), draw(T, T, seed=seed)
    distance, future = position[:, None] - position, generate_causal_mask(T)
    values = draw(T, seed=seed + 1)
    span = double(span + 1 / 16, requires_grad=True)  # between the corners of the gate

    def loss(span, gate_of=lambda gate: scores + gate_to_bias(gate)):
        weights = torch.softmax(
            gate_of(span_gate(distance, span, ramp)).masked_fill(future, -INF), 1
        )
        return (weights @ values).square().sum()

    loss(span).backward()
    step = 1e-6
    with torch.no_grad():
        difference = (loss(span + step) - loss(span - step)) / (2 * step)
    assert torch.isfinite(span.grad)
    assert float(span.grad) == pytest.approx(float(difference), rel=1e-4, abs=1e-7)


def test_a_closed_gate_gets_no_gradient_and_stays_closed():
    gate = torch.tensor([1.0, 0.5, 0.0], requires_grad=True)
    torch.softmax(gate_to_bias(gate), -1)[1].backward()
    assert gate.grad[1] > 0 > gate.grad[0]
    assert gate.grad[2] == 0


@pytest.mark.parametrize("gate", [[0.5, 1.1], [-0.1, 0.5], [float("nan")], [INF]])
def test_a_gate_outside_0_and_1_is_refused(gate):
    with pytest.raises(ValueError, match=r"gate must lie between 0 and 1.*torch.sigmoid"):
        gate_to_bias(torch.tensor(gate))


@pytest.mark.parametrize("gate", [torch.tensor([True]), torch.tensor([1]), 0.5, [0.5]])
def test_a_gate_that_is_no_floating_tensor_is_refused(gate):
    with pytest.raises(ValueError, match="gate must be a floating tensor"):
        gate_to_bias(gate)


# --- what a checker can say of it


class SoftlyMasked(torch.nn.Module):
    def __init__(self, depth, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.layer, self.depth = MultiHeadAttention(8, 2), depth

    def forward(self, x):
        return self.layer(x, bias=soft_causal_bias(x.shape[1], self.depth))[0]


def leaks_when_loud(model, x, loudness):
    changed = x.clone()
    changed[:, -1] *= -1
    before, after = model(loudness * x), model(loudness * changed)
    return not torch.equal(before[:, :-1], after[:, :-1])


@pytest.mark.parametrize("seed", range(5))
def test_a_depth_beyond_reach_is_called_causal_and_large_inputs_leak(seed):
    x = draw(2, 6, 8, seed=0).float()
    assert not check_causality(SoftlyMasked(1e4, seed), x).causal
    assert check_causality(SoftlyMasked(1e6, seed), x).causal  # its limit, told in notebook 15
    for depth in (1e4, 1e6, 1e9):
        assert leaks_when_loud(SoftlyMasked(depth, seed), x, 1e6)
    assert check_causality(SoftlyMasked(INF, seed), x).causal
    assert not leaks_when_loud(SoftlyMasked(INF, seed), x, 1e6)
