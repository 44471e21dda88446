"""How far masks reach, how much they block, and who sees the future: against plain loops.

Sizes are drawn at random, and so are the masks.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from causal_lab.attention.formula import attention
from causal_lab.masks.reach import (
    dead_queries,
    future_pairs,
    receptive_field,
    sparsity,
    stacked_receptive_field,
)
from causal_lab.masks.rules import (
    generate_causal_mask,
    generate_document_mask,
    generate_padding_mask,
    generate_prefix_mask,
    generate_retrieval_mask,
    generate_sliding_window_mask,
    to_allowed,
)
from causal_lab.masks.sparse import (
    generate_block_sparse_mask,
    generate_dilated_mask,
    generate_quadrant_mask,
    generate_raster_mask,
    generate_row_column_mask,
)
from tests.builders import seeded
from tests.masks.drawn import NEVER_AHEAD, RULES, Stack, each, lengths, many, measured, small

labels = st.lists(st.integers(0, 3), min_size=1, max_size=14)


# --- who sees nothing, who sees the future


@many
@given(data=st.data(), T=lengths)
def test_a_query_that_sees_nothing_is_found_and_gives_zeros(data, T):
    rules = [data.draw(st.sampled_from(RULES))(data.draw, T) for _ in range(2)]
    mask = rules[0][0] | rules[1][0]
    wanted = [all(rules[0][1](q, k) or rules[1][1](q, k) for k in range(T)) for q in range(T)]
    assert dead_queries(mask).tolist() == wanted
    generator = seeded(T)
    q, k, v = torch.rand(3, T, 4, generator=generator) + 1  # no value is 0
    assert ((attention(q, k, v, mask)[0] == 0).all(-1) == dead_queries(mask)).all()


def test_dead_queries_and_the_future_are_found_in_every_text_of_a_batch():
    blocked = generate_causal_mask(4) | generate_padding_mask([4, 2, 0], side="left")
    assert dead_queries(blocked)[:, 0].int().tolist() == [[0] * 4, [1, 1, 0, 0], [1] * 4]
    assert future_pairs(blocked) == 0
    assert future_pairs(torch.zeros(2, 3, 4, 4, dtype=torch.bool)) == 6 * 6


@many
@given(data=st.data(), T=lengths)
def test_causal_or_anything_is_causal_and_so_is_every_union(data, T):
    anything = data.draw(st.sampled_from(RULES))(data.draw, T)[0]
    assert future_pairs(generate_causal_mask(T) | anything) == 0
    first, second = (data.draw(st.sampled_from(NEVER_AHEAD))(data.draw, T)[0] for _ in "ab")
    assert future_pairs(first | anything) == 0
    assert future_pairs(first & second) == 0  # two heads
    assert future_pairs(to_allowed(receptive_field(first, 3))) == 0
    assert future_pairs(to_allowed(stacked_receptive_field([first, second]))) == 0


@many
@given(data=st.data(), T=lengths)
def test_and_opens_the_future_where_the_other_mask_does_and_nowhere_else(data, T):
    anything = data.draw(st.sampled_from(RULES))(data.draw, T)[0]
    assert future_pairs(generate_causal_mask(T) & anything) == future_pairs(anything)


@many
@given(data=st.data(), T=lengths)
def test_the_future_is_counted_pair_by_pair(data, T):
    mask, is_blocked = data.draw(st.sampled_from(RULES))(data.draw, T)
    ahead = sum(not is_blocked(q, k) for q in range(T) for k in range(q + 1, T))
    assert future_pairs(mask) == ahead


@many
@given(past=st.integers(0, 5), T=st.integers(1, 6))
def test_behind_a_cache_the_queries_are_the_last_tokens(past, T):
    whole = generate_causal_mask(past + T)
    assert future_pairs(whole[past:]) == 0
    opened = torch.zeros(T, past + T, dtype=torch.bool)
    assert future_pairs(opened) == T * (T - 1) // 2


# --- how much


@many
@given(T=lengths, w=small, size=small, data=st.data())
def test_sparsity_in_closed_form(T, w, size, data):
    assert sparsity(generate_causal_mask(T)) == pytest.approx((T - 1) / (2 * T))
    n = data.draw(st.integers(0, T))
    assert sparsity(generate_prefix_mask(T, n)) == pytest.approx(
        ((T - 1) * T / 2 - n * (n - 1) / 2) / T**2
    )
    w = min(w, T)
    seen = w * T - w * (w - 1) / 2
    assert sparsity(generate_sliding_window_mask(T, w)) == pytest.approx(1 - seen / T**2)
    whole, c = T * size, data.draw(st.integers(0, size))  # T blocks
    seen = T * size * (size + 1) / 2 + c * size * T * (T - 1) / 2
    mask = generate_block_sparse_mask(whole, size, summaries=c)
    assert sparsity(mask) == pytest.approx(1 - seen / whole**2)


@many
@given(height=st.integers(1, 6), width=st.integers(1, 6))
def test_sparsity_on_a_grid_in_closed_form(height, width):
    pixels = height * width
    quadrant = pixels * (height + 1) * (width + 1) / 4
    cross = pixels * (height + width) / 2
    assert sparsity(generate_quadrant_mask(height, width)) == pytest.approx(
        1 - quadrant / pixels**2
    )
    assert sparsity(generate_row_column_mask(height, width)) == pytest.approx(1 - cross / pixels**2)


# --- how far


def walk(masks, residual=True):
    """Follow every path from the last layer down, one set of tokens at a time."""
    T = len(masks[0])
    rows = []
    for output in range(T):
        here = {output}
        for mask in reversed(masks):
            seen = {key for query in here for key in range(T) if not mask[query][key]}
            here = here | seen if residual else seen
        rows.append([token in here for token in range(T)])
    return rows


@many
@given(
    T=st.integers(1, 8), layers=st.integers(1, 5), seed=st.integers(0, 999), residual=st.booleans()
)
def test_reach_is_what_following_every_path_finds(T, layers, seed, residual):
    generator = seeded(seed)
    masks = list(torch.rand(layers, T, T, generator=generator) < 0.7)
    found = stacked_receptive_field(masks, residual=residual)
    assert found.dtype == torch.bool
    assert found.tolist() == walk([m.tolist() for m in masks], residual)
    same = receptive_field(masks[0], layers, residual=residual)
    assert same.tolist() == walk([masks[0].tolist()] * layers, residual)


def test_layers_come_in_the_order_in_which_they_are_passed():
    near, far = generate_sliding_window_mask(9, 2), generate_prefix_mask(9, 0)
    nothing = ~torch.eye(9, dtype=torch.bool)
    first = torch.ones(9, 9, dtype=torch.bool)
    first[1, 0] = False  # token 0 goes to 1, then 1 goes on: only in this order
    assert stacked_receptive_field([first, near])[2, 0]
    assert not stacked_receptive_field([near, first])[2, 0]
    assert torch.equal(stacked_receptive_field([far, nothing]), ~far)


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("shape", [(4, 4), (2, 1, 5, 5)])
def test_without_a_layer_a_token_reaches_itself_alone(shape, residual):
    for blocked in (torch.zeros(shape, dtype=torch.bool), torch.ones(shape, dtype=torch.bool)):
        found = receptive_field(blocked, layers=0, residual=residual)
        assert found.dtype == torch.bool
        assert torch.equal(found, torch.eye(shape[-1]).bool().expand(shape))


def test_many_paths_do_not_overflow_and_batches_are_kept():
    nothing = torch.zeros(2, 1, 40, 40, dtype=torch.bool)
    assert receptive_field(nothing, 60).all()
    assert receptive_field(nothing, 60).shape == nothing.shape
    # More paths than a float can count: infinity times a blocked 0 would be NaN.
    assert torch.equal(receptive_field(generate_causal_mask(40), 400), ~generate_causal_mask(40))


def test_the_default_dtype_does_not_matter():
    try:
        torch.set_default_dtype(torch.float64)
        assert receptive_field(generate_sliding_window_mask(9, 2), 3)[8].sum() == 4
    finally:
        torch.set_default_dtype(torch.float32)


@many
@given(T=st.integers(1, 40), w=st.integers(1, 6), d=st.integers(1, 4), k=st.integers(1, 6))
def test_how_far_windows_reach_in_closed_form(T, w, d, k):
    seen = receptive_field(generate_sliding_window_mask(T, w), k).sum(-1)
    assert seen.tolist() == [min(t + 1, 1 + k * (w - 1)) for t in range(T)]
    sinks = receptive_field(generate_sliding_window_mask(T, w, sinks=1), k)
    alone = receptive_field(generate_sliding_window_mask(T, w), k)
    assert sinks[:, 0].all()
    assert torch.equal(sinks[:, 1:], alone[:, 1:])  # a sink has nothing to pass on
    seen = receptive_field(generate_dilated_mask(T, d, window=w), k).sum(-1)
    assert seen.tolist() == [min(t // d + 1, 1 + k * (w - 1)) for t in range(T)]
    stack = [generate_dilated_mask(T, w**layer, window=w) for layer in range(min(k, 4))]
    assert stacked_receptive_field(stack).sum(-1).tolist() == [
        min(t + 1, w ** len(stack)) for t in range(T)
    ]
    stack = [generate_dilated_mask(T, 2**layer, window=w) for layer in range(k)]
    if w > 1:
        assert stacked_receptive_field(stack).sum(-1).tolist() == [
            min(t + 1, 1 + (w - 1) * (2**k - 1)) for t in range(T)
        ]


@many
@given(w=st.integers(2, 5), k=st.integers(1, 5))
def test_one_path_of_all_leads_to_the_furthest_token_of_a_window(w, k):
    T = 1 + k * (w - 1)
    steps = (~generate_sliding_window_mask(T + 3, w)).double()
    paths = torch.linalg.matrix_power(steps, k)[-1]
    assert (paths > 0).sum() == T
    assert paths[3] == 1
    assert paths.sum() == w**k


@many
@given(T=st.integers(1, 40), size=st.integers(1, 8), k=st.integers(2, 4))
def test_two_layers_see_the_whole_past_over_a_blocks_last_token(T, size, k):
    past = ~generate_causal_mask(T)
    assert torch.equal(receptive_field(generate_block_sparse_mask(T, size), k), past)
    heads = generate_sliding_window_mask(T, size) & generate_dilated_mask(T, size)
    assert torch.equal(receptive_field(heads, k), past)
    stride = generate_dilated_mask(T, size)
    assert torch.equal(receptive_field(stride, k), ~stride)  # never leaves its track
    closed = generate_block_sparse_mask(T, size, summaries=0)
    assert torch.equal(receptive_field(closed, k), ~closed)


@many
@given(height=st.integers(1, 5), width=st.integers(1, 5), k=st.integers(2, 5))
def test_row_and_column_reach_the_quadrant_and_never_more(height, width, k):
    quadrant = ~generate_quadrant_mask(height, width)
    assert torch.equal(receptive_field(generate_row_column_mask(height, width), k), quadrant)
    assert torch.equal(receptive_field(generate_quadrant_mask(height, width), k), quadrant)
    assert not (quadrant & generate_raster_mask(height, width)).any()  # causal in reading order
    assert torch.equal(quadrant & quadrant.T, torch.eye(height * width, dtype=torch.bool))


@many
@given(ids=labels, k=st.integers(1, 4))
def test_documents_and_passages_stay_apart_in_every_number_of_layers(ids, k):
    order = generate_causal_mask(len(ids))
    packed = order | generate_document_mask(ids)
    assert torch.equal(receptive_field(packed, k), ~packed)
    segments = [0, 0, *sorted(i + 1 for i in ids), 0]  # instruction, passages, question
    retrieved = generate_retrieval_mask(segments)
    assert torch.equal(receptive_field(retrieved, k), ~retrieved)
    assert not retrieved[-1].any()


def test_a_question_between_the_passages_is_a_bridge():
    blocked = generate_retrieval_mask([1, 0, 2])
    assert blocked[2, 0]
    assert receptive_field(blocked, 2)[2, 0]


# --- what a model does


@each(RULES)
@settings(max_examples=4, deadline=None, derandomize=True)
@given(data=st.data(), T=st.integers(2, 7), layers=st.integers(1, 3))
def test_a_model_hangs_on_exactly_what_the_boolean_power_says(rule, data, T, layers):
    mask = rule(data.draw, T)[0]
    found, is_causal = measured(Stack([mask] * layers), T, 6)
    reached = receptive_field(mask, layers)
    assert torch.equal(found, reached)
    assert is_causal == (future_pairs(~reached) == 0)


@settings(max_examples=6, deadline=None, derandomize=True)
@given(data=st.data(), T=st.integers(2, 7))
def test_layers_of_a_model_multiply_and_its_heads_are_an_and(data, T):
    a, b, c = (data.draw(st.sampled_from(RULES))(data.draw, T)[0] for _ in "abc")
    found, _ = measured(Stack([a, b]), T, 6)
    assert torch.equal(found, stacked_receptive_field([a, b]))
    heads = torch.stack([a, b, c])[None]  # (batch, head, query, key)
    found, _ = measured(Stack([heads], num_heads=3), T, 18)
    assert torch.equal(found, receptive_field(a & b & c))


# --- bad input


@pytest.mark.parametrize("size", [-1, True, 2.0, "2", None])
def test_layers_may_be_none_but_not_less(size):
    with pytest.raises(ValueError, match="layers must be an integer of at least 0"):
        receptive_field(generate_causal_mask(3), size)


@pytest.mark.parametrize("mask", [torch.zeros(2, 2), [[True]], None])
@pytest.mark.parametrize(
    "ask",
    [
        sparsity,
        future_pairs,
        dead_queries,
        receptive_field,
        lambda m: stacked_receptive_field([m]),
    ],
)
def test_only_boolean_masks_are_asked(ask, mask):
    with pytest.raises(ValueError, match="blocked must be a boolean tensor"):
        ask(mask)


@pytest.mark.parametrize("shape", [(3,), (0, 0), (2, 0, 3)])
@pytest.mark.parametrize("ask", [future_pairs, dead_queries, receptive_field])
def test_a_mask_has_queries_and_keys(ask, shape):
    with pytest.raises(ValueError, match=r"blocked must have shape \(…, query, key\)"):
        ask(torch.zeros(shape, dtype=torch.bool))


def test_an_empty_mask_has_no_sparsity():
    with pytest.raises(ValueError, match="is empty; give at least one key"):
        sparsity(torch.zeros(0, 3, dtype=torch.bool))


def test_layers_need_squares_of_one_size():
    for layers in (0, 1):
        with pytest.raises(ValueError, match=r"as many queries as keys.*got \(2, 3\)"):
            receptive_field(torch.zeros(2, 3, dtype=torch.bool), layers)
    with pytest.raises(ValueError, match=r"one mask per layer.*lengths \[2, 3\]"):
        stacked_receptive_field([generate_causal_mask(2), generate_causal_mask(3)])
    with pytest.raises(ValueError, match=r"at least one mask: .*receptive_field\(.*layers=0"):
        stacked_receptive_field([])
