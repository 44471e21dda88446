"""Every mask against a plain loop, every convention crossed both ways."""

import itertools
import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from causal_lab.attention.formula import attention
from causal_lab.causality import check_causality
from causal_lab.masks.rules import (
    algorithm_4_causal_mask,
    from_additive,
    from_allowed,
    generate_causal_logit_mask,
    generate_causal_mask,
    generate_document_mask,
    generate_incremental_mask,
    generate_padding_mask,
    generate_prefix_mask,
    generate_retrieval_mask,
    generate_sliding_window_mask,
    to_additive,
    to_allowed,
    to_mask_mod,
)
from causal_lab.models.transformer import GPT
from tests.builders import randn, random_mask, seeded
from tests.masks.drawn import OF_RULES, RULES, Stack, by_pairs, each, few, lengths, many

FLOATING = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
BAD_SIZES = [0, -1, True, False, 2.0, "2", None]


@each(OF_RULES)
@many
@given(data=st.data(), T=lengths)
def test_a_mask_blocks_exactly_what_its_rule_blocks(rule, data, T):
    mask, is_blocked = rule(data.draw, T)
    assert mask.dtype == torch.bool
    assert mask.tolist() == by_pairs(T, is_blocked)


# --- the causal mask


@pytest.mark.parametrize("T", range(1, 18))
def test_algorithm_4_blocks_exactly_the_keys_after_the_query(T):
    expected = [[-torch.inf if key > query else 0.0 for key in range(T)] for query in range(T)]
    assert algorithm_4_causal_mask(T).tolist() == expected


@pytest.mark.parametrize("T", range(1, 18))
def test_the_fast_masks_equal_algorithm_4(T):
    M = algorithm_4_causal_mask(T)
    assert torch.equal(generate_causal_logit_mask(T), M)
    assert torch.equal(generate_causal_mask(T), M == -torch.inf)


def test_the_diagonal_is_never_blocked_and_everything_above_it_is():
    blocked = generate_causal_mask(9)
    assert not blocked.diagonal().any()
    assert blocked.diagonal(1).all()
    assert int(blocked.sum()) == 9 * 8 // 2


@pytest.mark.parametrize("dtype", FLOATING)
def test_the_logit_mask_holds_only_0_and_minus_infinity_in_the_dtype_asked_for(dtype):
    M = generate_causal_logit_mask(5, dtype=dtype)
    assert M.dtype == dtype
    assert torch.equal(M == -torch.inf, generate_causal_mask(5))
    assert torch.equal(M == 0, ~generate_causal_mask(5))


# --- behind a cache


@pytest.mark.parametrize("current_len", [1, 2, 3, 5])
@pytest.mark.parametrize("past_len", [0, 1, 2, 3, 7, 12])
def test_behind_a_cache_query_i_stands_at_position_past_len_plus_i(past_len, current_len):
    blocked = generate_incremental_mask(past_len, current_len)
    expected = [
        [key > past_len + query for key in range(past_len + current_len)]
        for query in range(current_len)
    ]
    assert blocked.dtype == torch.bool
    assert blocked.tolist() == expected


@pytest.mark.parametrize(("past_len", "current_len"), [(0, 6), (1, 5), (4, 2), (5, 1)])
def test_a_chunk_sees_what_the_last_rows_of_the_whole_causal_mask_see(past_len, current_len):
    whole = generate_causal_mask(past_len + current_len)
    assert torch.equal(generate_incremental_mask(past_len, current_len), whole[past_len:])


def test_the_newest_token_sees_every_token():
    assert not generate_incremental_mask(11, 1).any()


# --- a sliding window


@pytest.mark.parametrize("sinks", [0, 1, 2, 4, 20])
@pytest.mark.parametrize("window", [1, 2, 3, 5, 20])
@pytest.mark.parametrize("T", [1, 2, 3, 7, 13])
def test_a_window_blocks_the_future_and_what_lies_further_back_except_the_sinks(T, window, sinks):
    blocked = generate_sliding_window_mask(T, window, sinks=sinks)
    expected = [
        [key > query or (query - key >= window and key >= sinks) for key in range(T)]
        for query in range(T)
    ]
    assert blocked.dtype == torch.bool
    assert blocked.tolist() == expected


@pytest.mark.parametrize("window", [1, 3, 6])
def test_a_window_of_three_is_three_tokens_the_querys_own_included(window):
    seen = (~generate_sliding_window_mask(9, window)).sum(dim=1)
    assert seen.tolist() == [min(query + 1, window) for query in range(9)]


def test_there_are_no_sinks_unless_you_say_so_and_a_wide_window_is_the_causal_mask():
    assert torch.equal(
        generate_sliding_window_mask(7, 3), generate_sliding_window_mask(7, 3, sinks=0)
    )
    assert torch.equal(generate_sliding_window_mask(7, 7), generate_causal_mask(7))
    assert torch.equal(generate_sliding_window_mask(7, 1, sinks=7), generate_causal_mask(7))
    assert torch.equal(generate_sliding_window_mask(7, 1), ~torch.eye(7, dtype=torch.bool))


# --- padding


@pytest.mark.parametrize("max_len", [None, 5, 8])
@pytest.mark.parametrize("lengths", [[5, 3, 1, 0], [5], [0, 5], [2, 2, 5, 4, 3]])
@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_blocks_exactly_what_a_plain_loop_blocks(lengths, max_len, side):
    T = max(lengths) if max_len is None else max_len
    expected = [
        [key >= length if side == "right" else key < T - length for key in range(T)]
        for length in lengths
    ]
    blocked = generate_padding_mask(lengths, max_len, side=side)
    assert blocked.dtype == torch.bool
    assert blocked.shape == (len(lengths), 1, 1, T)
    assert blocked[:, 0, 0].tolist() == expected


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_batch_of_empty_sequences_is_all_padding(side):
    assert generate_padding_mask([0, 0], side=side).tolist() == [[[[True]]], [[[True]]]]


def test_padding_stands_on_the_right_unless_you_say_so():
    assert generate_padding_mask([1, 2])[:, 0, 0].tolist() == [[False, True], [False, False]]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64], ids=str
)
def test_lengths_of_every_integer_dtype_mean_the_same(dtype, side):
    lengths = torch.tensor([3, 100], dtype=dtype)
    from_list = generate_padding_mask([3, 100], 300, side=side)
    assert torch.equal(generate_padding_mask(lengths, 300, side=side), from_list)


def test_lengths_may_come_as_a_tuple_or_a_numpy_array():
    expected = generate_padding_mask([3, 1])
    assert torch.equal(generate_padding_mask((3, 1)), expected)
    assert torch.equal(generate_padding_mask(np.array([3, 1])), expected)


@pytest.mark.parametrize("lengths", [[4, 2, 3, 1], [4, 2, 0]])  # batch == T, batch != T
@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_composes_with_the_causal_mask_for_every_sequence(lengths, side):
    T = 4
    blocked = generate_causal_mask(T) | generate_padding_mask(lengths, T, side=side)
    assert blocked.shape == (len(lengths), 1, T, T)
    for sequence, length in enumerate(lengths):
        real = range(length) if side == "right" else range(T - length, T)
        expected = [[key > query or key not in real for key in range(T)] for query in range(T)]
        assert blocked[sequence, 0].tolist() == expected


# --- documents, passages and prefixes


@many
@given(rows=st.integers(1, 3), data=st.data(), T=st.integers(1, 9))
def test_a_batch_of_numbers_gives_one_mask_per_text(rows, data, T):
    ids = data.draw(
        st.lists(st.lists(st.integers(0, 2), min_size=T, max_size=T), min_size=rows, max_size=rows)
    )
    for make in (generate_document_mask, generate_retrieval_mask):
        masks = make(torch.tensor(ids))
        assert masks.shape == (rows, 1, T, T)
        for row, mask in zip(ids, masks, strict=True):
            assert torch.equal(mask[0], make(row))


def hidden(model, ids, positions, blocked):
    with torch.no_grad():
        return model.hidden_states(
            torch.tensor([ids]), positions=torch.tensor([positions]), blocked=blocked
        )[0]


@pytest.fixture(scope="module")
def gpt():
    return GPT(20, 32, d_model=12, num_heads=3, num_layers=2, generator=seeded(3)).eval()


def test_a_packed_document_gives_what_it_gives_alone(gpt):
    @many
    @given(st.lists(st.lists(st.integers(0, 19), min_size=1, max_size=6), min_size=1, max_size=4))
    def hold(texts):
        ids = [token for text in texts for token in text]
        owner = [n for n, text in enumerate(texts) for _ in text]
        places = [place for text in texts for place in range(len(text))]
        packed = hidden(gpt, ids, places, generate_document_mask(owner))
        for n, text in enumerate(texts):
            alone = hidden(gpt, text, list(range(len(text))), None)
            assert torch.allclose(packed[torch.tensor(owner) == n], alone, atol=1e-5)

    hold()


def test_passages_may_change_their_order_and_their_neighbours(gpt):
    texts = st.lists(st.integers(0, 19), min_size=1, max_size=5)

    @many
    @given(st.lists(texts, min_size=2, max_size=4), texts, texts, st.randoms(use_true_random=False))
    def hold(passages, instruction, question, random):
        start, last = len(instruction), len(instruction) + max(map(len, passages))

        def read(order):
            parts = [(0, 0, instruction), *((n + 1, start, passages[n]) for n in order)]
            parts.append((0, last, question))
            ids = [token for *_, part in parts for token in part]
            segments = [n for n, _, part in parts for _ in part]
            places = [begin + i for _, begin, part in parts for i in range(len(part))]
            states = hidden(gpt, ids, places, generate_retrieval_mask(segments))
            return states, torch.tensor(segments)

        order = list(range(len(passages)))
        states, segments = read(order)
        random.shuffle(order)
        shuffled, moved = read(order)
        assert torch.allclose(states[-1], shuffled[-1], atol=1e-5)
        for n in range(len(passages)):
            assert torch.allclose(states[segments == n + 1], shuffled[moved == n + 1], atol=1e-5)
            only, mine = read([n])
            assert torch.allclose(states[segments == n + 1], only[mine == n + 1], atol=1e-5)

    hold()


@settings(max_examples=5, deadline=None, derandomize=True)
@given(T=st.integers(3, 7), data=st.data())
def test_a_prefix_model_is_causal_at_the_cuts_behind_its_prefix_and_only_there(T, data):
    n = data.draw(st.integers(1, T - 1))
    x = randn(1, T, 6, seed=2)
    model = Stack([generate_prefix_mask(T, n)] * 2)
    assert check_causality(model, x, cuts=range(n, T)).causal
    assert check_causality(model, x).causal == (n == 1)
    assert check_causality(model, x, lookahead=n - 1).causal
    if n > 1:
        assert not check_causality(model, x, cuts=range(n - 1, T)).causal
        assert not check_causality(model, x, lookahead=n - 2).causal


# --- attention under each mask


@each(RULES)
@few
@given(data=st.data(), T=st.integers(1, 9), seed=st.integers(0, 99))
def test_attention_under_every_mask_is_a_double_loop_in_64_bits(rule, data, T, seed):
    mask, is_blocked = rule(data.draw, T)
    generator = seeded(seed)
    q, k, v = torch.randn(3, 2, 3, T, 4, generator=generator, dtype=torch.float64)
    ours = attention(q, k, v, mask)[0]
    theirs = scaled_dot_product_attention(q, k, v, attn_mask=to_allowed(mask))
    assert torch.allclose(ours, theirs, atol=1e-9)
    wanted = torch.zeros_like(ours)
    for b, h, query in itertools.product(range(2), range(3), range(T)):
        powers = {
            key: math.exp(float(q[b, h, query] @ k[b, h, key]) / 2)
            for key in range(T)
            if not is_blocked(query, key)
        }
        for key, power in powers.items():
            wanted[b, h, query] += power / sum(powers.values()) * v[b, h, key]
    assert torch.allclose(ours, wanted, atol=1e-9)


# --- conventions


@many
@given(data=st.data(), T=lengths)
def test_the_other_polarity_exchanges_or_and_and(data, T):
    a, b = (data.draw(st.sampled_from(RULES))(data.draw, T)[0] for _ in "ab")
    assert torch.equal(to_allowed(a | b), to_allowed(a) & to_allowed(b))
    assert torch.equal(to_allowed(a & b), to_allowed(a) | to_allowed(b))


def test_to_allowed_says_the_opposite_and_leaves_its_argument_alone():
    blocked = generate_causal_mask(3)
    assert to_allowed(blocked).tolist() == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]
    assert torch.equal(blocked, generate_causal_mask(3))


@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 1, 3, 5)])
def test_allowed_and_blocked_are_opposites_both_ways(shape):
    mask = random_mask(*shape)
    assert torch.equal(to_allowed(mask), from_allowed(mask))
    assert torch.equal(from_allowed(to_allowed(mask)), mask)
    assert not (to_allowed(mask) & mask).any()


@pytest.mark.parametrize("dtype", FLOATING)
@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 1, 3, 5)])
def test_the_additive_form_round_trips_in_every_floating_dtype(shape, dtype):
    blocked = random_mask(*shape)
    additive = to_additive(blocked, dtype)
    assert additive.dtype == dtype
    assert torch.equal(additive == -torch.inf, blocked)
    assert torch.equal(additive == 0, ~blocked)
    assert torch.equal(from_additive(additive), blocked)


@pytest.mark.parametrize("dtype", FLOATING)
@pytest.mark.parametrize("value", [0.5, -1.0, torch.inf, torch.nan])
def test_from_additive_refuses_whatever_is_neither_0_nor_minus_infinity(value, dtype):
    additive = torch.tensor([[0.0, -torch.inf], [value, 0.0]], dtype=dtype)
    with pytest.raises(ValueError, match=r"0 and −∞ only, found.*pass a bias as bias"):
        from_additive(additive)


@pytest.mark.parametrize("fill", [-1e9, -1e4, torch.finfo(torch.float32).min])
def test_from_additive_refuses_a_finite_fill_and_says_so(fill):
    M = torch.zeros(3, 3).masked_fill(generate_causal_mask(3), fill)
    with pytest.raises(ValueError, match="replace a finite fill by −∞"):
        from_additive(M)


# --- where masks are made


@pytest.mark.parametrize(
    "make",
    [
        lambda device: generate_causal_mask(3, device=device),
        lambda device: generate_causal_logit_mask(3, device=device),
        lambda device: generate_incremental_mask(2, 3, device=device),
        lambda device: generate_sliding_window_mask(5, 2, sinks=1, device=device),
        lambda device: generate_prefix_mask(5, 2, device=device),
        lambda device: generate_document_mask([0, 1], device=device),
        lambda device: generate_retrieval_mask([0, 1], device=device),
    ],
)
def test_a_mask_is_made_on_the_device_asked_for_and_else_on_the_cpu(make):
    assert make("meta").device.type == "meta"
    assert make(None).device.type == "cpu"


def test_a_conversion_stays_on_the_device_of_its_argument():
    far = generate_causal_mask(3, device="meta")
    for converted in (to_allowed(far), from_allowed(far), to_additive(far)):
        assert converted.device.type == "meta"


def test_numbers_bring_their_device_whatever_the_default_is():
    ids = torch.ones(3, dtype=torch.long, device="cpu")
    with torch.device("meta"):
        for make in (generate_document_mask, generate_retrieval_mask, generate_padding_mask):
            assert make(ids).device.type == "cpu"
    ids = torch.zeros(3, dtype=torch.long, device="meta")
    assert generate_document_mask(ids).device.type == "meta"
    assert generate_retrieval_mask(ids).device.type == "meta"


# --- bad input


@pytest.mark.parametrize("T", BAD_SIZES)
@pytest.mark.parametrize(
    "make",
    [
        algorithm_4_causal_mask,
        generate_causal_mask,
        generate_causal_logit_mask,
        lambda T: generate_prefix_mask(T, 0),
    ],
)
def test_a_mask_needs_at_least_one_token(make, T):
    with pytest.raises(ValueError, match="T must be an integer of at least 1"):
        make(T)


@pytest.mark.parametrize("past_len", [-1, True, False, 2.0, "2", None])
def test_a_cache_holds_no_negative_number_of_tokens(past_len):
    with pytest.raises(ValueError, match="past_len must be an integer of at least 0"):
        generate_incremental_mask(past_len, 2)


@pytest.mark.parametrize("current_len", BAD_SIZES)
def test_a_chunk_holds_at_least_one_token(current_len):
    with pytest.raises(ValueError, match="current_len must be an integer of at least 1"):
        generate_incremental_mask(2, current_len)


@pytest.mark.parametrize("size", BAD_SIZES)
def test_a_window_holds_at_least_one_token_and_so_does_its_text(size):
    with pytest.raises(ValueError, match="window must be an integer of at least 1"):
        generate_sliding_window_mask(4, size)
    with pytest.raises(ValueError, match="T must be an integer of at least 1"):
        generate_sliding_window_mask(size, 4)


@pytest.mark.parametrize("sinks", [-1, True, False, 2.0, "2", None])
def test_there_is_no_negative_number_of_sinks(sinks):
    with pytest.raises(ValueError, match="sinks must be an integer of at least 0"):
        generate_sliding_window_mask(4, 2, sinks=sinks)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64, "float32", None])
def test_minus_infinity_needs_a_floating_dtype(dtype):
    message = "dtype must be a floating dtype such as torch.float32"
    with pytest.raises(ValueError, match=message):
        to_additive(generate_causal_mask(2), dtype)
    with pytest.raises(ValueError, match=message):
        generate_causal_logit_mask(2, dtype=dtype)


@pytest.mark.parametrize(
    "lengths",
    [
        [],
        5,
        [[1, 2]],
        [1.0, 2.0],
        [True, False],
        "ab",
        [[1], [1, 2]],
        [2**70],
        None,
        [None, 1],
        torch.tensor([1.0]),
        torch.tensor([[1, 2]]),
    ],
)
def test_lengths_must_be_a_row_of_integers(lengths):
    with pytest.raises(ValueError, match=r"lengths must be a .*row of integers"):
        generate_padding_mask(lengths)


@pytest.mark.parametrize(("lengths", "max_len"), [([5, 3], 4), ([-1], None), ([2, -1], 4)])
def test_every_length_must_fit(lengths, max_len):
    with pytest.raises(ValueError, match=r"between 0 and max_len=\d.*give a larger max_len"):
        generate_padding_mask(lengths, max_len)


@pytest.mark.parametrize("max_len", [0, -1, True, 2.0, "2"])
def test_the_padded_length_is_a_size(max_len):
    with pytest.raises(ValueError, match="max_len must be an integer of at least 1"):
        generate_padding_mask([0], max_len)


@pytest.mark.parametrize("side", ["Left", "middle", "", None, 0])
def test_padding_stands_left_or_right(side):
    with pytest.raises(ValueError, match='side must be "left" or "right"'):
        generate_padding_mask([1], side=side)


@pytest.mark.parametrize(
    "mask", [torch.zeros(2, 2), torch.zeros(2, 2, dtype=torch.uint8), [[True]], None]
)
@pytest.mark.parametrize(
    ("convert", "name"),
    [
        (to_allowed, "blocked"),
        (from_allowed, "allowed"),
        (to_additive, "blocked"),
        (to_mask_mod, "blocked"),
    ],
)
def test_only_boolean_masks_are_converted(convert, name, mask):
    with pytest.raises(ValueError, match=name + r" must be a boolean tensor.*\.bool\(\)"):
        convert(mask)


@pytest.mark.parametrize("additive", [generate_causal_mask(2), torch.zeros(2).int(), [[0.0]], None])
def test_an_additive_mask_is_a_floating_tensor(additive):
    message = "additive must be a floating tensor of 0 and −∞.*" + re.escape("from_allowed")
    with pytest.raises(ValueError, match=message):
        from_additive(additive)


@pytest.mark.parametrize("size", [-1, True, 2.0, "2", None])
def test_a_prefix_may_be_none_but_not_less(size):
    with pytest.raises(ValueError, match="prefix_len must be an integer of at least 0"):
        generate_prefix_mask(4, size)


def test_a_prefix_is_no_longer_than_its_text():
    with pytest.raises(ValueError, match="prefix_len must be at most T=4, got 5"):
        generate_prefix_mask(4, 5)


@pytest.mark.parametrize(
    "ids", [[], 3, [1.0], [True], "ab", None, [[1], [1, 2]], [[[1]]], torch.zeros(2), [2**70]]
)
@pytest.mark.parametrize(
    ("name", "make"),
    [("document_ids", generate_document_mask), ("segment_ids", generate_retrieval_mask)],
)
def test_numbers_of_documents_and_passages_are_one_integer_per_token(name, make, ids):
    with pytest.raises(ValueError, match=f"{name} must hold one integer per token"):
        make(ids)


def test_passages_count_from_one():
    with pytest.raises(ValueError, match=r"not be negative, got -1.*generate_padding_mask"):
        generate_retrieval_mask([0, -1])


@pytest.mark.parametrize("shape", [(3,), (2, 3, 3), (1, 1, 1, 3, 3)])
def test_a_mask_function_needs_two_axes_or_four(shape):
    with pytest.raises(ValueError, match=r"\(query, key\) or \(batch, head, query, key\), got"):
        to_mask_mod(torch.zeros(shape, dtype=torch.bool))
