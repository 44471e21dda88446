"""Five softmaxes against PyTorch's and against the formula, and the entropy of their rows."""

import math

import pytest
import torch

from causal_lab.attention.softmax import (
    entropy,
    masked_softmax,
    naive_softmax,
    online_softmax,
    running_max_and_sum,
    stable_softmax,
)
from causal_lab.masks.rules import generate_causal_mask
from tests.builders import randn, seeded

SOFTMAXES = [naive_softmax, stable_softmax, masked_softmax, online_softmax]
OF_SCORES = [*SOFTMAXES, running_max_and_sum]
HALVES = [torch.float16, torch.bfloat16]


def scores_with_dead_prefixes() -> torch.Tensor:
    """Rows that begin with 0, 1, …, 5 scores of −∞, the last all of them but one."""
    scores = randn(6, 6, seed=1)
    return scores.masked_fill(torch.arange(6) < torch.arange(6)[:, None], -torch.inf)


# --- all of them are the softmax


@pytest.mark.parametrize("dim", [-1, 0, 1, 2, -3])
@pytest.mark.parametrize("softmax", SOFTMAXES)
def test_on_ordinary_scores_they_equal_torch_softmax_along_any_axis(softmax, dim):
    scores = 3 * randn(3, 5, 4)
    torch.testing.assert_close(
        softmax(scores, dim=dim), torch.softmax(scores, dim), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("softmax", SOFTMAXES)
def test_a_score_of_minus_infinity_gets_a_weight_of_exactly_0(softmax):
    scores = scores_with_dead_prefixes()
    weights = softmax(scores)
    assert torch.equal(weights == 0, scores == -torch.inf)
    torch.testing.assert_close(weights, torch.softmax(scores, -1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("softmax", SOFTMAXES)
def test_one_key_alone_gets_all_the_weight(softmax):
    assert softmax(torch.tensor([[-3.0], [7.0]])).tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("softmax", SOFTMAXES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_of_the_scores_is_kept_and_they_are_not_touched(softmax, dtype):
    scores = randn(2, 3).to(dtype)
    before = scores.clone()
    assert softmax(scores).dtype == dtype
    assert torch.equal(scores, before)


@pytest.mark.parametrize("softmax", SOFTMAXES)
@pytest.mark.parametrize("scores", [torch.zeros(2048), randn(2048, seed=2)], ids=["equal", "drawn"])
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_a_long_row_of_half_precision_sums_to_1_within_its_rounding(softmax, scores, dtype):
    # Exponential, sum and quotient round by half an eps each; what is left covers float16's
    # smallest weights, which are subnormal. A sum kept in bfloat16 stands still at 256.
    total = softmax(scores.to(dtype)).double().sum().item()
    assert total == pytest.approx(1, abs=2 * torch.finfo(dtype).eps)


# --- the temperature


@pytest.mark.parametrize("temperature", [0.25, 0.5, 2, 8.0])
@pytest.mark.parametrize("softmax", SOFTMAXES)
def test_the_temperature_divides_the_scores(softmax, temperature):
    scores = randn(3, 5)
    assert torch.equal(softmax(scores, temperature=temperature), softmax(scores / temperature))


@pytest.mark.parametrize("softmax", SOFTMAXES)
def test_a_temperature_of_one_half_squares_the_odds(softmax):
    weights = softmax(torch.tensor([0.0, math.log(3)]), temperature=0.5)
    assert weights.tolist() == pytest.approx([0.1, 0.9])


def test_the_running_maximum_is_that_of_the_heated_scores():
    largest, total = running_max_and_sum(torch.tensor([0.0, 2.0]), temperature=2.0)
    assert largest.tolist() == [0.0, 1.0]
    assert total.tolist() == pytest.approx([1.0, 1.0 + math.exp(-1)])


# --- naive: what goes wrong


@pytest.mark.parametrize(
    ("dtype", "fits", "overflows"), [(torch.float32, 88.0, 89.0), (torch.float16, 11.0, 12.0)]
)
def test_naive_overflows_to_nan_just_where_the_docstring_says(dtype, fits, overflows):
    assert naive_softmax(torch.tensor([0.0, fits], dtype=dtype)).isfinite().all()
    first, last = naive_softmax(torch.tensor([0.0, overflows], dtype=dtype)).tolist()
    assert first == 0.0
    assert math.isnan(last)


def test_naive_divides_0_by_0_when_all_scores_are_very_negative():
    assert naive_softmax(torch.full((3,), -200.0)).isnan().all()


# --- stable: what mends it


def test_stable_survives_scores_of_any_size():
    for large in (89.0, 1e4, -1e4, 1e38):
        assert stable_softmax(torch.tensor([large, large])).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("shift", [-1024.0, -3.5, 512.0])
@pytest.mark.parametrize("softmax", [stable_softmax, masked_softmax, online_softmax])
def test_shifting_a_row_changes_nothing(softmax, shift):
    scores = (randn(4, 7) * 8).round() / 8  # eighths, so that the shift is exact
    assert torch.equal(softmax(scores + shift), softmax(scores))


def test_stable_gives_nan_for_a_row_of_nothing_but_minus_infinity_like_torch():
    dead = torch.full((2, 3), -torch.inf)
    assert stable_softmax(dead).isnan().all()
    assert torch.softmax(dead, -1).isnan().all()


# --- masked


def softmax_of_the_visible(scores: torch.Tensor, blocked: torch.Tensor) -> torch.Tensor:
    """Row by row in float64, over the visible keys alone."""
    weights = torch.zeros(scores.shape, dtype=torch.float64)
    for row in range(len(scores)):
        seen = [key for key in range(scores.shape[1]) if not blocked[row, key]]
        exponentials = {key: math.exp(float(scores[row, key])) for key in seen}
        for key in seen:
            weights[row, key] = exponentials[key] / sum(exponentials.values())
    return weights


def test_masked_shares_the_weight_among_the_visible_keys_and_nobody_else():
    scores = randn(6, 7)
    blocked = torch.rand(6, 7, generator=seeded(3)) < 0.5
    blocked[2] = True
    weights = masked_softmax(scores, blocked)
    assert bool((weights[blocked] == 0).all())
    torch.testing.assert_close(
        weights.double(), softmax_of_the_visible(scores, blocked), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("rubbish", [torch.nan, torch.inf, -torch.inf, 3e38])
def test_what_stands_under_a_blocked_key_does_not_matter_forward_or_backward(rubbish):
    blocked = generate_causal_mask(5)
    scores = randn(5, 5)
    spoilt = scores.masked_fill(blocked, rubbish).requires_grad_()
    weights = masked_softmax(spoilt, blocked)
    assert torch.equal(weights, masked_softmax(scores, blocked))
    (weights * randn(5, 5, seed=4)).sum().backward()
    assert spoilt.grad.isfinite().all()
    assert bool((spoilt.grad[blocked] == 0).all())


@pytest.mark.parametrize("through", ["blocked", "minus infinity"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_row_that_sees_nothing_gives_zeros_and_gradients_of_zero(through, dtype):
    blocked = torch.tensor([[False, False, True], [True, True, True]])
    scores = randn(2, 3).to(dtype).requires_grad_()
    if through == "blocked":
        weights = masked_softmax(scores, blocked)
    else:
        weights = masked_softmax(scores.masked_fill(blocked, -torch.inf))
    weights.square().sum().backward()
    assert weights[1].tolist() == [0.0, 0.0, 0.0]
    assert float(weights[0].detach().sum()) == pytest.approx(1, abs=1e-2)
    assert scores.grad.isfinite().all()
    assert scores.grad[1].tolist() == [0.0, 0.0, 0.0]
    assert float(scores.grad[0].abs().max()) > 0


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_masked_computes_half_precision_in_float32_and_rounds_once(dtype):
    scores, blocked = (3 * randn(20, 20)).to(dtype), generate_causal_mask(20)
    expected = masked_softmax(scores.float(), blocked).to(dtype)
    assert torch.equal(masked_softmax(scores, blocked), expected)


@pytest.mark.parametrize("softmax", [stable_softmax, masked_softmax, online_softmax])
def test_a_small_temperature_makes_no_score_of_half_precision_too_large(softmax):
    scores = torch.tensor([[700.0, 0.0], [3.0, 3.0], [-700.0, 0.0]], dtype=torch.float16)
    weights = softmax(scores, temperature=0.01)
    assert weights.tolist() == [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("softmax", [masked_softmax, online_softmax])
def test_half_precision_is_widened_before_it_is_divided(softmax, dtype):
    scores = (3 * randn(20, 20)).to(dtype)
    expected = softmax(scores.float(), temperature=0.3)
    assert torch.equal(softmax(scores, temperature=0.3), expected.to(dtype))
    pairs = [running_max_and_sum(x, temperature=0.3) for x in (scores, scores.float())]
    for ours, theirs in zip(*pairs, strict=True):
        assert torch.equal(ours, theirs)


def test_masked_gradients_equal_those_of_torch_on_rows_that_see_something():
    blocked = generate_causal_mask(5)
    ours, theirs = randn(5, 5).requires_grad_(), randn(5, 5).requires_grad_()
    direction = randn(5, 5, seed=5)
    (masked_softmax(ours, blocked) * direction).sum().backward()
    (torch.softmax(theirs.masked_fill(blocked, -torch.inf), -1) * direction).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dim", [-1, -2, 0])
def test_masked_works_along_any_axis(dim):
    scores, blocked = randn(2, 4, 4), generate_causal_mask(4)
    expected = torch.softmax(scores.masked_fill(blocked, -torch.inf), dim).nan_to_num(0.0)
    torch.testing.assert_close(
        masked_softmax(scores, blocked, dim=dim), expected, rtol=0, atol=1e-6
    )


# --- online


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_at_every_step_the_running_pair_is_what_a_softmax_so_far_needs(dim):
    scores = 3 * randn(4, 6, 5, seed=6)
    largest, total = running_max_and_sum(scores, dim=dim)
    assert torch.equal(largest, scores.cummax(dim).values)
    expected = (scores.double().logcumsumexp(dim) - scores.cummax(dim).values).exp()
    torch.testing.assert_close(total.double(), expected, rtol=1e-6, atol=1e-6)


def test_the_running_sum_is_0_as_long_as_nothing_but_minus_infinity_was_read():
    scores = scores_with_dead_prefixes()
    largest, total = running_max_and_sum(scores)
    assert torch.equal(largest, scores.cummax(-1).values)
    assert torch.equal(total == 0, scores == -torch.inf)
    for row in range(6):
        for step in range(row, 6):
            read = scores[row, row : step + 1].double()
            expected = (read - read.max()).exp().sum().item()
            assert total[row, step].item() == pytest.approx(expected, abs=1e-6)


def test_a_larger_score_rescales_the_old_sum():
    scores = torch.tensor([0.0, math.log(2), math.log(8)])
    largest, total = running_max_and_sum(scores)
    assert largest.tolist() == scores.tolist()
    assert total.tolist() == pytest.approx([1, 1 + 1 / 2, 1 + 2 / 8 + 1 / 8])


def test_minus_infinity_in_the_middle_and_at_the_end_adds_nothing():
    scores = torch.tensor([1.0, -torch.inf, 2.0, -torch.inf])
    largest, total = running_max_and_sum(scores)
    assert largest.tolist() == [1.0, 1.0, 2.0, 2.0]
    assert total.tolist() == pytest.approx([1, 1, 1 + math.exp(-1), 1 + math.exp(-1)])


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_a_running_sum_of_half_precision_is_kept_in_float32_or_it_would_stand_still(dtype):
    largest, total = running_max_and_sum(torch.zeros(5000, dtype=dtype))
    assert torch.equal(total, torch.arange(1, 5001).float())
    assert torch.equal(largest, torch.zeros(5000))


def test_a_running_pair_of_double_precision_stays_double():
    assert [x.dtype for x in running_max_and_sum(torch.zeros(2).double())] == [torch.float64] * 2


def test_online_gives_zeros_for_a_row_that_sees_nothing_and_finite_gradients():
    scores = torch.tensor([[0.0, 1.0, -torch.inf], [-torch.inf] * 3], requires_grad=True)
    weights = online_softmax(scores)
    weights.square().sum().backward()
    assert weights[1].tolist() == [0.0, 0.0, 0.0]
    assert weights[0].tolist() == pytest.approx(
        torch.softmax(torch.tensor([0.0, 1.0, -torch.inf]), -1).tolist()
    )
    assert scores.grad.isfinite().all()


def test_online_survives_scores_of_any_size_in_any_order():
    scores = torch.tensor([[1000.0, 1.0], [1.0, 1000.0], [-1e4, -1e4]])
    assert online_softmax(scores).tolist() == [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]


# --- entropy


def test_entropy_is_that_of_the_categorical_distribution():
    weights = torch.softmax(2 * randn(3, 4, 6, seed=7), -1)
    expected = torch.distributions.Categorical(probs=weights).entropy()
    torch.testing.assert_close(entropy(weights), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_entropy_drops_the_axis_it_sums_over(dim):
    weights = torch.softmax(randn(2, 3, 4), dim)
    expected = -(weights * weights.log()).sum(dim)
    torch.testing.assert_close(entropy(weights, dim=dim), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 17])
def test_n_equal_weights_have_an_entropy_of_ln_n_however_many_keys_have_none(n):
    weights = torch.cat([torch.full((n,), 1 / n), torch.zeros(5)])
    assert entropy(weights).item() == pytest.approx(math.log(n), abs=1e-6)


def test_one_sure_key_and_a_row_that_sees_nothing_have_an_entropy_of_0():
    nothing = entropy(torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]))
    assert nothing.tolist() == [0.0, 0.0]
    assert not nothing.signbit().any()  # printed as 0.0, not as -0.0


def test_a_higher_temperature_spreads_a_row_out():
    rows = [masked_softmax(randn(9), temperature=t) for t in (0.25, 0.5, 1, 2, 4)]
    spread = [entropy(row).item() for row in rows]
    assert spread == sorted(spread)
    assert spread[0] < spread[-1] <= math.log(9)


def test_the_gradient_of_the_entropy_is_finite_behind_a_causal_mask():
    scores, blocked = randn(5, 5).requires_grad_(), generate_causal_mask(5)
    weights = masked_softmax(scores, blocked)
    entropy(weights).sum().backward()
    w = weights.detach().double()
    expected = -w * (w.clamp(min=1e-300).log() + entropy(w)[:, None])  # 0 where w is 0
    torch.testing.assert_close(scores.grad.double(), expected, rtol=0, atol=1e-6)


# --- bad input


@pytest.mark.parametrize("softmax", OF_SCORES)
@pytest.mark.parametrize("scores", [torch.zeros(2, 3).int(), torch.zeros(2).bool(), [0.0], None])
def test_scores_must_be_a_floating_tensor(softmax, scores):
    with pytest.raises(ValueError, match=r"scores must be a floating tensor.*\.float\(\)"):
        softmax(scores)


@pytest.mark.parametrize("softmax", OF_SCORES)
@pytest.mark.parametrize("dim", [2, -3])
def test_the_axis_must_exist(softmax, dim):
    with pytest.raises(ValueError, match=f"dim={dim} does not exist.*dim=-1"):
        softmax(torch.zeros(2, 3), dim=dim)


@pytest.mark.parametrize("softmax", OF_SCORES)
def test_the_axis_must_not_be_empty(softmax):
    with pytest.raises(ValueError, match="give at least one key"):
        softmax(torch.zeros(2, 0))


@pytest.mark.parametrize("softmax", OF_SCORES)
@pytest.mark.parametrize("temperature", [0, -1.0, torch.inf, torch.nan, "1", None])
def test_the_temperature_must_be_a_positive_number(softmax, temperature):
    with pytest.raises(ValueError, match=r"temperature must be a positive number.*argmax"):
        softmax(torch.zeros(2, 3), temperature=temperature)


@pytest.mark.parametrize(
    ("blocked", "message"),
    [
        (torch.zeros(2, 3), r"\.bool\(\)"),
        ([[True]], r"\.bool\(\)"),
        (torch.zeros(2, 4, dtype=torch.bool), r"\(query, key\)"),
        (torch.zeros(5, 2, 3, dtype=torch.bool), r"\(query, key\)"),
        (torch.zeros(2, 3, dtype=torch.bool, device="meta"), r'blocked\.to\("cpu"\)'),
    ],
)
def test_a_mask_that_does_not_fit_is_told_how_to(blocked, message):
    with pytest.raises(ValueError, match=message):
        masked_softmax(torch.zeros(2, 3), blocked)


@pytest.mark.parametrize(
    ("weights", "dim", "message"),
    [
        (torch.tensor([0.5, -0.5]), -1, "softmax them first"),
        (torch.tensor([1, 0]), -1, r"\.float\(\)"),
        ([1.0, 0.0], -1, r"\.float\(\)"),
        (torch.ones(2), 1, "dim=1 does not exist"),
        (torch.ones(2, 0), -1, "give at least one key"),
    ],
)
def test_the_entropy_of_no_weights_is_refused(weights, dim, message):
    with pytest.raises(ValueError, match=message):
        entropy(weights, dim=dim)
