"""The linear algebra of causal attention: every statement of docs/theory, at random sizes.

Numbers are computed a second time by other means: double loops, closed forms, eigenvalues and
singular values by LAPACK, fractions.
"""

import itertools
import json
import math
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from causal_lab.attention.softmax import masked_softmax
from causal_lab.attention.spectral import (
    cumulative_products,
    distance_from_collapse,
    is_causal_attention,
    is_projection,
    leaking_cuts,
    previous_token_attention,
    random_causal_attention,
    second_eigenvalue,
    sink_attention,
    undo_attention,
    uniform_causal_attention,
    with_residual,
)
from causal_lab.causality import check_causality
from causal_lab.masks.rules import generate_causal_mask, generate_sliding_window_mask
from causal_lab.models.transformer import GPT
from tests.builders import seeded

often = settings(max_examples=60, deadline=None, derandomize=True)
seldom = settings(max_examples=15, deadline=None, derandomize=True)
lengths, seeds = st.integers(1, 13), st.integers(0, 10**6)
spreads = st.sampled_from([0.0, 0.3, 1.0, 3.0])
DOUBLE = torch.float64


def draw(T: int, seed: int, spread: float = 1.0) -> torch.Tensor:
    return random_causal_attention(T, spread=spread, generator=seeded(seed))


def close(a, b, tolerance: float = 1e-10) -> bool:
    return torch.allclose(torch.as_tensor(a), torch.as_tensor(b), rtol=tolerance, atol=tolerance)


@st.composite
def attentions(draw_one):
    """Causal attention: softmax weights, and weights with many zeros and ones among them."""
    T, seed = draw_one(lengths), draw_one(seeds)
    if draw_one(st.booleans()):
        return draw(T, seed, draw_one(spreads))
    rows = torch.zeros(T, T, dtype=DOUBLE)
    for i in range(T):
        few = torch.randint(0, 3, (i + 1,), generator=seeded(seed + i)).double()
        few[seed % (i + 1)] += few.sum() == 0
        rows[i, : i + 1] = few / few.sum()
    return rows


# --- what is causal attention


def is_one_by_loops(A: np.ndarray, tolerance: float = 1e-6) -> bool:
    for i, row in enumerate(A):
        if any(row[j] != 0 for j in range(i + 1, len(A))) or any(w < 0 for w in row):
            return False
        if not abs(sum(row) - 1) <= tolerance:
            return False
    return True


@often
@given(attentions(), st.sampled_from(["none", "above", "negative", "sum", "nan"]), seeds)
def test_causal_attention_is_a_triangle_of_weights_that_sum_to_one(A, harm, seed):
    T = len(A)
    i, j = sorted(torch.randint(0, T, (2,), generator=seeded(seed)).tolist())
    if harm == "above" and i < j:
        A[i, j] = 1e-30
    if harm == "negative":
        A[j] = 0.0
        A[j, 0], A[j, j] = A[j, 0] - 0.5, A[j, j] + 1.5
    if harm == "sum":
        A[j, i] += 1e-3
    if harm == "nan":
        A[j, i] = math.nan
    assert is_causal_attention(A) == is_one_by_loops(A.numpy())
    if harm in ("sum", "nan") or (harm == "negative" and j > 0):
        assert not is_causal_attention(A)
    if harm == "none":
        assert is_causal_attention(A)


def test_the_tolerance_is_for_the_sums_alone():
    A = torch.tensor([[1.0, 0.0], [0.4, 0.5]])
    assert not is_causal_attention(A)
    assert is_causal_attention(A, tolerance=0.2)
    A[0, 1] = 0.01
    assert not is_causal_attention(A, tolerance=0.2)


@often
@given(lengths, seeds, spreads)
def test_random_attention_is_the_softmax_of_seeded_scores(T, seed, spread):
    scores = torch.randn(T, T, generator=seeded(seed), dtype=DOUBLE) * spread
    A = draw(T, seed, spread)
    for i in range(T):
        powers = [math.exp(scores[i, j]) for j in range(i + 1)]
        expected = [p / sum(powers) for p in powers] + [0.0] * (T - i - 1)
        assert close(A[i], torch.tensor(expected, dtype=DOUBLE))
    assert is_causal_attention(A)


def test_random_attention_takes_a_dtype_and_the_global_generator():
    torch.manual_seed(3)
    expected = random_causal_attention(5, generator=seeded(3), dtype=torch.float32)
    got = random_causal_attention(5, dtype=torch.float32)
    assert got.dtype == torch.float32
    assert torch.equal(got, expected)


@pytest.mark.parametrize("T", [1, 2, 7, 30])
def test_the_named_heads_entry_by_entry(T):
    for i, j in itertools.product(range(T), repeat=2):
        past = j <= i
        assert uniform_causal_attention(T)[i, j] == (1 / (i + 1) if past else 0)
        wanted = 1.0 if i == j == 0 else 0.3 if i == j else 0.7 if j == i - 1 else 0.0
        assert previous_token_attention(T, 0.3)[i, j] == pytest.approx(wanted)
        wanted = 1.0 if i == j == 0 else 0.3 if i == j else 0.7 if j == 0 else 0.0
        assert sink_attention(T, 0.3)[i, j] == pytest.approx(wanted)


@pytest.mark.parametrize(
    "make",
    [
        uniform_causal_attention,
        lambda T, **o: previous_token_attention(T, 0.25, **o),
        lambda T, **o: sink_attention(T, 0.25, **o),
    ],
)
def test_the_named_heads_are_causal_attention_of_any_dtype(make):
    assert make(6).dtype == DOUBLE
    for dtype in (torch.float32, torch.float16):
        assert make(6, dtype=dtype).dtype == dtype
        assert is_causal_attention(make(6, dtype=dtype), tolerance=1e-3)


# --- 7.1 and 7.2: closed under products and mixtures, with residual, values and MLP


@often
@given(lengths, seeds, spreads, st.floats(0, 1))
def test_products_mixtures_and_residuals_stay_causal_attention(T, seed, spread, share):
    A, B = draw(T, seed, spread), draw(T, seed + 1, spread)
    for C in (A @ B, B @ A, share * A + (1 - share) * B, with_residual(A)):
        assert is_causal_attention(C)
    assert close(with_residual(A) * 2 - A, torch.eye(T, dtype=DOUBLE))


@often
@given(lengths, st.integers(1, 4), seeds)
def test_a_layer_with_values_is_block_triangular(T, dim, seed):
    A, g = draw(T, seed), seeded(seed)
    W, x = (torch.randn(n, dim, generator=g, dtype=DOUBLE) for n in (dim, T))
    whole = torch.kron(A, W.T.contiguous())
    assert close(whole @ x.flatten(), (A @ x @ W).flatten())
    future = torch.kron(generate_causal_mask(T).int(), torch.ones(dim, dim)).bool()
    assert (whole[future] == 0).all()


@often
@given(attentions(), st.integers(0, 5))
def test_cumulative_products_stand_on_those_before(A, depth):
    layers = [A, with_residual(A), uniform_causal_attention(len(A))] * 2
    products = cumulative_products(layers)
    assert products.shape == (7, *A.shape)
    assert torch.equal(products[0], torch.eye(len(A), dtype=DOUBLE))
    x = torch.linspace(-1, 2, len(A), dtype=DOUBLE)
    expected = x
    for layer in layers[:depth]:  # the lowest first
        expected = layer @ expected
    assert close(products[depth] @ x, expected)
    assert torch.equal(cumulative_products(torch.stack(layers)), products)


# --- 7.3: eigenvalues and determinant


@often
@given(lengths, seeds, spreads)
def test_the_eigenvalues_are_the_diagonal_and_none_is_larger_than_one(T, seed, spread):
    A = draw(T, seed, spread)
    basis = torch.linalg.qr(torch.randn(T, T, generator=seeded(seed), dtype=DOUBLE)).Q
    # In another basis it is no triangle, and its characteristic polynomial is the same.
    found = np.poly((basis @ A @ basis.T).numpy())
    assert np.allclose(found, np.poly(A.diagonal().numpy()), atol=1e-8)
    assert A[0, 0] == A.diagonal().max() == 1
    others = sorted(A.diagonal().tolist()[1:])
    assert second_eigenvalue(A).item() == (others[-1] if others else 0.0)


@often
@given(attentions(), attentions())
def test_the_second_eigenvalue_of_a_stack_is_one_for_each(A, B):
    B = B[: len(A), : len(A)]
    A = A[: len(B), : len(B)]
    stack = torch.stack([A, B, A @ B])
    for C, value in zip(stack, second_eigenvalue(stack), strict=True):
        assert value == second_eigenvalue(C)
    products = [a * b for a, b in zip(A.diagonal().tolist(), B.diagonal().tolist(), strict=True)]
    assert second_eigenvalue(A @ B).item() == pytest.approx(max([0.0, *products[1:]]))


@pytest.mark.parametrize("T", [1, 2, 3, 4, 5])
def test_the_determinant_is_the_chance_that_everyone_stays(T):
    A = draw(T, 7)
    chance = 0.0
    mean = torch.zeros_like(A)
    for choice in itertools.product(range(T), repeat=T):  # where each of T walkers steps
        probability = math.prod(A[i, j].item() for i, j in enumerate(choice))
        chance += probability * (choice == tuple(range(T)))
        mean += probability * torch.eye(T, dtype=DOUBLE)[list(choice)]
    assert torch.linalg.det(A).item() == pytest.approx(chance)
    assert close(mean, A)  # attention is the mean of heads that look at one token


@pytest.mark.parametrize("T", [1, 2, 5, 12, 20])
def test_the_determinant_of_the_running_mean_is_one_over_t_factorial(T):
    determinant = torch.linalg.det(uniform_causal_attention(T)).item()
    assert determinant == pytest.approx(1 / math.factorial(T))


# --- 7.4: undoing


@often
@given(lengths, st.integers(1, 3), seeds)
def test_attention_is_undone_exactly_where_its_condition_allows(T, dim, seed):
    A = with_residual(draw(T, seed))
    values = torch.randn(T, dim, generator=seeded(seed), dtype=DOUBLE)
    condition = torch.linalg.cond(A).item()
    assert close(undo_attention(A, A @ values), values, 1e-13 * condition + 1e-12)


@often
@given(lengths, seeds, spreads)
def test_the_inverse_is_a_triangle_whose_rows_sum_to_one_with_negative_entries(T, seed, spread):
    A = draw(T, seed, spread)
    assume(A.diagonal().min() > 1e-3)
    inverse = torch.linalg.inv(A)
    scale = inverse.abs().max().item()
    assert (inverse.triu(1).abs() <= 1e-12 * scale).all()
    assert close(inverse.sum(-1) / scale, torch.ones(T, dtype=DOUBLE) / scale, 1e-9)
    for i in range(1, T):  # each row that looks back has a negative entry
        assert inverse[i, :i].min() < 0
        assert inverse[i, :i].sum().item() == pytest.approx(1 - 1 / A[i, i].item(), rel=1e-6)


@often
@given(attentions(), st.booleans())
def test_the_inverse_is_attention_only_for_the_identity(A, identity):
    A = torch.eye(len(A), dtype=DOUBLE) if identity else A
    assume(A.diagonal().min() > 1e-2)
    inverse = undo_attention(A, torch.eye(len(A), dtype=DOUBLE))
    assert is_causal_attention(inverse) == torch.equal(A, torch.eye(len(A), dtype=DOUBLE))


@pytest.mark.parametrize("T", [1, 2, 5, 9])
def test_the_running_mean_is_undone_by_two_diagonals_in_exact_fractions(T):
    A = [[Fraction(1, i + 1) if j <= i else Fraction(0) for j in range(T)] for i in range(T)]
    B = [
        [Fraction(i + 1 if j == i else -i if j == i - 1 else 0) for j in range(T)] for i in range(T)
    ]
    for i, j in itertools.product(range(T), repeat=2):
        assert sum(B[i][k] * A[k][j] for k in range(T)) == (i == j)
    inverse = undo_attention(uniform_causal_attention(T), torch.eye(T, dtype=DOUBLE))
    assert close(inverse, torch.tensor([[float(b) for b in row] for row in B], dtype=DOUBLE))


@often
@given(lengths, st.integers(1, 13), seeds)
def test_a_window_can_be_undone_and_a_strict_mask_cannot(T, window, seed):
    scores = torch.randn(T, T, generator=seeded(seed), dtype=DOUBLE)
    A = with_residual(masked_softmax(scores, generate_sliding_window_mask(T, window)))
    values = torch.randn(T, 2, generator=seeded(seed), dtype=DOUBLE)
    assert close(undo_attention(A, A @ values), values, 1e-8)
    strict = masked_softmax(scores, torch.ones(T, T).triu().bool())
    assert (torch.linalg.matrix_power(strict, T) == 0).all()  # nilpotent
    assert leaking_cuts(strict) == []
    assert not is_causal_attention(strict)
    with pytest.raises(ValueError, match="token 0 has weight 0 on itself"):
        undo_attention(strict, strict @ values)


def test_full_attention_alike_keeps_one_output_of_all():
    full = torch.full((6, 6), 1 / 6, dtype=DOUBLE)
    assert torch.linalg.matrix_rank(full) == 1
    with pytest.raises(ValueError, match="lower triangular"):
        undo_attention(full, full)


# --- 7.5 to 7.8: norms and condition


@often
@given(attentions())
def test_the_norms_lie_where_the_theory_says(A):
    T, a = len(A), A.numpy()
    infinity, one, two = (float(np.linalg.norm(a, p)) for p in (np.inf, 1, 2))
    assert infinity == pytest.approx(1)
    assert 1 - 1e-9 <= one <= T + 1e-9
    assert 1 - 1e-9 <= two <= math.sqrt(one * infinity) + 1e-9
    for j in range(T):
        assert a[:, j].sum() <= T - j + 1e-9


@often
@given(attentions(), st.booleans())
def test_the_two_norm_is_one_for_the_identity_alone(A, identity):
    A = torch.eye(len(A), dtype=DOUBLE) if identity else A
    looks_back = 1 - A.diagonal().min().item()
    norm = torch.linalg.matrix_norm(A, 2).item()
    assert (norm < 1 + 1e-12) == (looks_back == 0)
    received = A.sum(0)  # how much each token is looked at: 1 on average
    assert norm**2 >= 1 + received.var(correction=0).item() - 1e-9


@pytest.mark.parametrize("T", [1, 2, 3, 10, 64])
def test_all_at_token_0_reaches_both_upper_ends(T):
    A = sink_attention(T, 0.0)
    assert torch.linalg.matrix_norm(A, 1).item() == pytest.approx(T)
    assert torch.linalg.matrix_norm(A, 2).item() == pytest.approx(math.sqrt(T))


@often
@given(st.integers(2, 13), seeds)
def test_no_other_attention_reaches_them(T, seed):
    A = draw(T, seed)
    assert torch.linalg.matrix_norm(A, 1).item() < T
    assert torch.linalg.matrix_norm(A, 2).item() < math.sqrt(T)


@often
@given(st.integers(1, 80), seeds)
def test_hardys_inequality_and_each_step_of_its_proof(T, seed):
    x = torch.randn(T, generator=seeded(seed), dtype=DOUBLE)
    A = uniform_causal_attention(T)
    means = A @ x
    assert means.norm() <= 2 * x.norm()
    before = torch.cat([torch.zeros(1, dtype=DOUBLE), means[:-1]])
    n = torch.arange(1, T + 1, dtype=DOUBLE)
    steps = means**2 - 2 * means * x
    bounds = (n - 1) * before**2 - n * means**2
    assert (steps <= bounds + 1e-9).all()
    assert bounds.sum().item() == pytest.approx(-T * means[-1].item() ** 2, abs=1e-8)


@pytest.mark.parametrize("T", [1, 2, 8, 40, 120])
def test_the_running_mean_is_well_conditioned(T):
    A = uniform_causal_attention(T)
    inverse = torch.linalg.inv(A)
    norms = [torch.linalg.matrix_norm(A, 2).item(), torch.linalg.matrix_norm(inverse, 2).item()]
    assert norms[0] < 2
    assert norms[1] <= 2 * T - 1 + 1e-9
    assert norms[0] * norms[1] < 4 * T
    assert inverse.abs().sum(-1).max().item() == pytest.approx(2 * T - 1)


@pytest.mark.parametrize("stay", [0.1, 0.25, 0.4])
@pytest.mark.parametrize("T", [2, 5, 11])
def test_the_condition_of_a_previous_token_head_grows_like_a_power(T, stay):
    inverse = undo_attention(previous_token_attention(T, stay), torch.eye(T, dtype=DOUBLE))
    assert abs(inverse[-1, 0].item()) == pytest.approx(((1 - stay) / stay) ** (T - 1))


def test_the_same_determinant_and_two_fates():
    T = 20
    stay = math.exp(-math.lgamma(T + 1) / (T - 1))
    mean, previous = uniform_causal_attention(T), previous_token_attention(T, stay)
    assert mean.diagonal().prod().item() == pytest.approx(previous.diagonal().prod().item())
    inverse = [undo_attention(A, torch.eye(T, dtype=DOUBLE)).abs().max() for A in (mean, previous)]
    assert inverse[0] == pytest.approx(T)
    assert inverse[1] > 1e16


# --- 7.9 to 7.11: collapse


def distance_by_loops(A: np.ndarray) -> float:
    return max(sum(row[1:]) for row in A)


@often
@given(attentions())
def test_the_distance_is_half_of_the_infinity_norm(A):
    T = len(A)
    limit = torch.zeros_like(A)
    limit[:, 0] = 1
    distance = distance_from_collapse(A).item()
    assert distance == pytest.approx(distance_by_loops(A.numpy()))
    assert distance == pytest.approx(torch.linalg.matrix_norm(A - limit, math.inf).item() / 2)
    assert distance_from_collapse(torch.eye(T)) == (T > 1)
    assert distance_from_collapse(limit) == 0


def test_the_distance_is_the_largest_over_all_rows():
    A = torch.tensor([[1.0, 0, 0, 0], [0.125, 0.875, 0, 0], [0.5, 0, 0.5, 0], [1.0, 0, 0, 0]])
    assert distance_from_collapse(A) == 0.875
    assert distance_from_collapse(torch.stack([A, torch.eye(4)])).tolist() == [0.875, 1.0]


@often
@given(attentions(), attentions())
def test_distances_multiply(A, B):
    B = B[: len(A), : len(A)]
    A = A[: len(B), : len(B)]
    product = distance_from_collapse(A @ B)
    assert product <= distance_from_collapse(A) * distance_from_collapse(B) + 1e-12
    assert product >= second_eigenvalue(A @ B) - 1e-12


@often
@given(st.integers(2, 9), seeds, st.integers(1, 12))
def test_powers_minus_the_limit_are_powers_of_the_difference(T, seed, depth):
    A = draw(T, seed)
    limit = sink_attention(T, 0.0)
    power = torch.linalg.matrix_power(A - limit, depth)
    assert close(power, torch.linalg.matrix_power(A, depth) - limit)


@seldom
@given(st.integers(2, 9), seeds, st.booleans())
def test_the_rate_approaches_the_second_eigenvalue(T, seed, residual):
    A = with_residual(draw(T, seed)) if residual else draw(T, seed)
    others = sorted(A.diagonal().tolist()[1:])
    assume(len(others) < 2 or others[-2] < 0.8 * others[-1])
    distances = distance_from_collapse(cumulative_products([A] * 201))
    assert (distances[201] / distances[200]).item() == pytest.approx(others[-1], abs=1e-5)
    assert second_eigenvalue(A).item() == others[-1]
    assert (distances[1:] <= distances[:-1]).all()


@often
@given(lengths, st.floats(0.05, 0.95), st.integers(0, 40))
def test_a_sink_collapses_by_one_factor_from_the_first_layer_on(T, stay, depth):
    distances = distance_from_collapse(cumulative_products([sink_attention(T, stay)] * 40))
    expected = stay**depth if T > 1 else 0.0
    assert distances[depth].item() == pytest.approx(expected, rel=1e-9)


@often
@given(lengths, st.floats(0.05, 0.95), st.integers(0, 40))
def test_a_previous_token_head_waits_for_the_last_walker(T, stay, depth):
    """The chance of fewer than T − 1 steps back in ``depth`` tries, by the binomial formula."""
    A = previous_token_attention(T, stay)
    fewer = sum(
        math.comb(depth, k) * (1 - stay) ** k * stay ** (depth - k)
        for k in range(min(T - 1, depth + 1))
    )
    assert distance_from_collapse(torch.linalg.matrix_power(A, depth)).item() == pytest.approx(
        fewer, abs=1e-12
    )


@often
@given(attentions())
def test_the_residual_path_moves_every_eigenvalue_half_way_to_one(A):
    expected = [(1 + a) / 2 for a in A.diagonal().tolist()[1:]]
    assert second_eigenvalue(with_residual(A)).item() == pytest.approx(max([0.0, *expected]))


# --- 7.12: which attention is a projection


@st.composite
def projections(draw_one):
    """Some tokens keep themselves, token 0 among them; the others look at those before them."""
    T, seed = draw_one(lengths), draw_one(seeds)
    kept = [0] + [i for i in range(1, T) if draw_one(st.booleans())]
    A = torch.zeros(T, T, dtype=DOUBLE)
    for i in range(T):
        seen = [j for j in kept if j < i]
        if i in kept:
            A[i, i] = 1
        else:
            A[i, seen] = torch.rand(len(seen), generator=seeded(seed + i), dtype=DOUBLE)
            A[i] /= A[i].sum()
    return A


def keeps_itself_or_looks_at_those_who_do(A: torch.Tensor) -> bool:
    kept = [i for i in range(len(A)) if A[i, i] == 1]
    return all(i in kept or A[i, kept].sum() > 1 - 1e-9 for i in range(len(A)))


@often
@given(projections())
def test_such_attention_is_a_projection(A):
    assert is_causal_attention(A)
    assert is_projection(A)
    assert torch.linalg.matrix_rank(A).item() == round(A.trace().item())
    assert torch.equal(A, A.T) == torch.equal(A, torch.eye(len(A), dtype=DOUBLE))


@often
@given(attentions())
def test_no_other_attention_is_a_projection(A):
    assert is_projection(A, tolerance=1e-9) == keeps_itself_or_looks_at_those_who_do(A)


@often
@given(st.integers(2, 9), seeds)
def test_softmax_attention_is_never_a_projection(T, seed):
    assert not is_projection(draw(T, seed))


@pytest.mark.parametrize(("T", "bell"), [(1, 1), (2, 2), (3, 5), (4, 15), (5, 52), (6, 203)])
def test_of_all_heads_that_look_at_one_token_a_bell_number_are_projections(T, bell):
    found = 0
    for choice in itertools.product(*(range(i + 1) for i in range(T))):
        A = torch.eye(T)[list(choice)]
        twice = [choice[j] for j in choice]
        assert is_projection(A) == (twice == list(choice))
        found += is_projection(A)
    assert found == bell


def test_the_tolerance_of_a_projection():
    A = torch.tensor([[1.0, 0.0], [0.9999, 0.0001]])
    assert not is_projection(A)
    assert is_projection(A, tolerance=1e-3)
    assert is_projection(torch.full((2, 2), 0.5))  # no triangle, but a projection
    assert not is_projection(torch.tensor([[math.nan]]))
    assert not is_projection(torch.tensor([[0.5]]))  # twice is less, not more


# --- 7.13 and 7.14: the mask is a projection


@often
@given(lengths, seeds)
def test_masking_with_zero_is_the_orthogonal_projection_onto_triangles(T, seed):
    S, R, L = torch.randn(3, T, T, generator=seeded(seed), dtype=DOUBLE)
    assert torch.equal(S.tril().tril(), S.tril())
    assert close((S.tril() * R).sum(), (S * R.tril()).sum())
    # Pythagoras: any other triangle is further away.
    total = (S - S.tril()).square().sum() + (S.tril() - L.tril()).square().sum()
    assert close((S - L.tril()).square().sum(), total)


@often
@given(st.integers(1, 10), st.integers(0, 4), seeds)
def test_the_masked_softmax_is_the_information_projection(past, future, seed):
    scores = 2 * torch.randn(past + future, generator=seeded(seed), dtype=DOUBLE)
    p = scores.softmax(-1)
    masked = masked_softmax(scores, torch.arange(past + future) >= past)
    assert close(masked[:past], p[:past] / p[:past].sum())
    other = torch.randn(past, generator=seeded(seed + 1), dtype=DOUBLE).softmax(-1)

    def divergence(q, r):
        return sum(a * math.log(a / b) for a, b in zip(q.tolist(), r.tolist(), strict=True))

    cost = divergence(masked[:past], p[:past])
    assert cost == pytest.approx(-math.log(p[:past].sum()), abs=1e-9)
    # Pythagoras again: the divergence splits, and its second part is not negative.
    assert divergence(other, p[:past]) == pytest.approx(
        divergence(other, masked[:past]) + cost, abs=1e-9
    )
    again = masked_softmax(masked.log().clamp_min(-1e300), torch.arange(past + future) >= past)
    assert close(again, masked)


# --- 7.15 and 7.16: nested subspaces


def keep(t: int, T: int) -> torch.Tensor:
    return torch.diag((torch.arange(T) < t).double())


@often
@given(lengths, seeds, st.integers(0, 3))
def test_the_cuts_that_leak_are_those_where_pa_is_not_pap(T, seed, entries):
    g = seeded(seed)
    A = torch.randn(T, T, generator=g, dtype=DOUBLE).tril()
    for _ in range(entries):
        i, j = torch.randint(0, T, (2,), generator=g).tolist()
        A[i, j] = 1e-9
    cuts = [t for t in range(1, T) if not torch.equal(keep(t, T) @ A, keep(t, T) @ A @ keep(t, T))]
    assert leaking_cuts(A) == cuts
    assert (not cuts) == torch.equal(A, A.tril())
    for t in range(1, T):  # invariance: what vanishes on the first t tokens still does
        x = torch.randn(T, generator=g, dtype=DOUBLE)
        x[:t] = 0
        if t not in cuts:
            assert ((A @ x)[:t] == 0).all()


@often
@given(lengths, st.integers(0, 13), st.integers(0, 13))
def test_the_projections_that_keep_the_first_tokens_are_nested(T, s, t):
    assert torch.equal(keep(s, T) @ keep(t, T), keep(min(s, t), T))
    assert is_projection(keep(t, T))


def test_a_leak_of_one_entry_shows_at_the_cuts_between():
    A = torch.eye(7)
    A[2, 5] = 0.1
    assert leaking_cuts(A) == [3, 4, 5]
    assert leaking_cuts(torch.eye(1)) == []
    A[2, 5] = math.nan
    assert leaking_cuts(A) == [3, 4, 5]


class Mix(nn.Module):
    def __init__(self, A):
        super().__init__()
        self.A = nn.Parameter(A.float())

    def forward(self, x):
        return self.A[: x.shape[1], : x.shape[1]] @ x


@seldom
@given(st.integers(2, 6), seeds, st.booleans())
def test_the_matrix_and_the_checker_give_the_same_verdict(T, seed, leaks):
    A, g = draw(T, seed), seeded(seed)
    i, j = sorted(torch.randperm(T, generator=g)[:2].tolist())
    A[i, j] += 0.01 * leaks
    report = check_causality(Mix(A), torch.randn(1, T, 2, generator=g))
    assert report.causal == (not leaking_cuts(A)) == (not leaks)
    if leaks:
        assert (report.first_leak.output, report.first_leak.input) == (i, j)


def test_a_network_does_not_miss_what_is_erased_in_the_future():
    """P f = P f P and P g = P g P give P f g = P f g P, for f and g that are no matrices."""
    model = GPT(20, 9, d_model=12, num_heads=3, num_layers=2, generator=seeded(0)).double()
    blocked = generate_causal_mask(9)
    x = torch.randn(2, 9, 12, generator=seeded(1), dtype=DOUBLE)

    def network(x):
        for block in model.eval().blocks:
            x = block(x, blocked)
        return x

    with torch.no_grad():
        for t in range(1, 9):
            erased = x * (torch.arange(9) < t)[:, None]
            assert close(network(x)[:, :t], network(erased)[:, :t])
            assert not close(network(x)[:, t:], network(erased)[:, t:], 1e-3)


# --- what cannot be


NOT_SQUARE = [torch.zeros(2, 3), torch.zeros(3), torch.zeros(0, 0), torch.zeros(1, 2, 3)]
EVERY_FUNCTION = {
    "is_causal_attention": is_causal_attention,
    "is_projection": is_projection,
    "leaking_cuts": leaking_cuts,
    "with_residual": with_residual,
    "distance_from_collapse": distance_from_collapse,
    "second_eigenvalue": second_eigenvalue,
    "undo_attention": lambda A: undo_attention(A, torch.zeros(3, 1)),
    "cumulative_products": lambda A: cumulative_products([A]),
}


@pytest.mark.parametrize("name", EVERY_FUNCTION)
def test_what_is_no_floating_square_matrix_is_refused(name):
    for A in NOT_SQUARE:
        with pytest.raises(ValueError, match="must have"):
            EVERY_FUNCTION[name](A)
    with pytest.raises(ValueError, match="A must be a floating tensor"):
        EVERY_FUNCTION[name](torch.eye(3).int())


@pytest.mark.parametrize(
    "name", ["is_causal_attention", "is_projection", "leaking_cuts", "undo_attention"]
)
def test_where_one_matrix_is_meant_a_batch_is_refused(name):
    with pytest.raises(ValueError, match=r"weights\[0, 0\]"):
        EVERY_FUNCTION[name](torch.eye(3).expand(3, 3, 3))


@pytest.mark.parametrize(
    "make",
    [
        random_causal_attention,
        uniform_causal_attention,
        lambda T: sink_attention(T, 0.5),
        lambda T: previous_token_attention(T, 0.5),
    ],
)
@pytest.mark.parametrize("T", [0, -1, 2.5, True])
def test_a_length_out_of_range_is_refused(make, T):
    with pytest.raises(ValueError, match="T must be an integer of at least 1"):
        make(T)


@pytest.mark.parametrize("make", [sink_attention, previous_token_attention])
@pytest.mark.parametrize("stay", [-0.1, 1.1, math.nan])
def test_a_weight_out_of_range_is_refused(make, stay):
    with pytest.raises(ValueError, match="stay is a weight, 0 to 1"):
        make(3, stay)


@pytest.mark.parametrize("spread", [-1.0, math.nan])
def test_a_negative_spread_is_refused(spread):
    with pytest.raises(ValueError, match="spread is a standard deviation"):
        random_causal_attention(3, spread=spread)


@pytest.mark.parametrize("layers", [[], [torch.eye(2), torch.eye(3)], torch.zeros(0, 2, 2)])
def test_layers_that_do_not_fit_are_refused(layers):
    with pytest.raises(ValueError, match="at least one matrix, all of one size"):
        cumulative_products(layers)


def test_outputs_that_do_not_fit_are_refused():
    A = torch.eye(3)
    for outputs in (torch.zeros(2, 1), torch.zeros(3), torch.zeros(1, 3, 1)):
        with pytest.raises(ValueError, match=r"outputs must have shape \(query, dim\) with 3"):
            undo_attention(A, outputs)
    with pytest.raises(ValueError, match="outputs has dtype"):
        undo_attention(A, torch.zeros(3, 1, dtype=DOUBLE))
    with pytest.raises(ValueError, match="outputs lives on meta"):
        undo_attention(A, torch.zeros(3, 1, device="meta"))


def test_a_matrix_that_sees_the_future_has_no_eigenvalues_for_free():
    A = torch.tensor([[0.5, 0.5], [0.5, 0.5]])
    for refuse in (second_eigenvalue, lambda A: undo_attention(A, torch.zeros(2, 1))):
        with pytest.raises(ValueError, match=r"leaking_cuts\(A\)"):
            refuse(A)


def test_a_token_that_nobody_can_read_back_is_named():
    A = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0.5, 0.5, 0]])
    with pytest.raises(ValueError, match="token 2 has weight 0 on itself"):
        undo_attention(A, torch.zeros(3, 1))


def test_nothing_is_changed_in_place():
    A, outputs = draw(5, 0), torch.ones(5, 2, dtype=DOUBLE)
    before = A.clone()
    for function in EVERY_FUNCTION.values():
        if function is not EVERY_FUNCTION["undo_attention"]:
            function(A)
    undo_attention(A, outputs)
    assert torch.equal(A, before)
    assert torch.equal(outputs, torch.ones_like(outputs))


# --- the page with the proofs


def test_the_theory_names_tests_functions_and_headings_that_exist():
    root = Path(__file__).parents[2]
    page = (root / "docs" / "theory" / "07-linear-algebra.md").read_text(encoding="utf-8")
    prose = ""
    for number, name in (("09", "linear_algebra_of_time"), ("10", "what_a_layer_can_undo")):
        path = root / "notebooks" / f"{number}_{name}.ipynb"
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        mine = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
        headings = set(re.findall(r"^## (.+)$", mine, re.M))
        named = set(re.findall(rf"\[{number} “(.+?)”\]\(\.\./\.\./notebooks/{path.name}", page))
        assert named == headings - {"Three facts", "Your turn", "What to keep"}
        prose += mine
    tests = set(re.findall(r"`(test_\w+)`", page))
    assert tests <= set(globals())
    statements = re.findall(r"^\*\*(7\.\d+)\*\*", page, re.M)
    assert statements == [f"7.{number}" for number in range(1, len(statements) + 1)]
    assert set(re.findall(r"\[(7\.\d+)\]", prose)) <= set(statements)
