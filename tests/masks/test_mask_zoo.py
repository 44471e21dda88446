"""The zoo of masks: each against a plain loop, the laws of their algebra, and how far they reach.

Sizes are drawn at random. What a mask should block is written out here a second time, pair by pair.
"""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from causal_lab.attention.formula import attention
from causal_lab.causality import check_causality
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
    to_mask_mod,
)
from causal_lab.masks.sparse import (
    generate_block_sparse_mask,
    generate_dilated_mask,
    generate_quadrant_mask,
    generate_raster_mask,
    generate_row_column_mask,
)
from causal_lab.models.layers import Block
from causal_lab.models.transformer import GPT

many = settings(max_examples=60, deadline=None, derandomize=True)
few = settings(max_examples=12, deadline=None, derandomize=True)
lengths = st.integers(1, 17)
small = st.integers(1, 7)
labels = st.lists(st.integers(0, 3), min_size=1, max_size=14)
BAD_SIZES = [0, -1, True, 2.0, "2", None]


def by_pairs(T: int, is_blocked) -> list[list[bool]]:
    return [[bool(is_blocked(query, key)) for key in range(T)] for query in range(T)]


# A rule for each mask of the zoo: what is drawn, the mask, and whether a pair is blocked.


def window(draw, T):
    w, sinks = draw(small), draw(st.integers(0, 3))
    mask = generate_sliding_window_mask(T, w, sinks=sinks)
    return mask, lambda q, k: k > q or (q - k >= w and k >= sinks)


def dilated(draw, T):
    d, w = draw(small), draw(st.none() | small)
    seen = 10**6 if w is None else w
    mask = generate_dilated_mask(T, d, window=w)
    return mask, lambda q, k: not any(q - i * d == k for i in range(min(seen, T)))


def blocks(draw, T):
    size = draw(small)
    c = draw(st.integers(0, size))
    mask = generate_block_sparse_mask(T, size, summaries=c)

    def is_blocked(q, k):
        mine = range(q - q % size, q + 1)
        ends = [b * size + size - 1 - i for b in range(T) for i in range(c)]
        return not (k in mine or (k in ends and k <= q))

    return mask, is_blocked


def prefix(draw, T):
    n = draw(st.integers(0, T))
    return generate_prefix_mask(T, n), lambda q, k: not (k <= q or k < n)


def documents(draw, T):
    ids = draw(st.lists(st.integers(-2, 2), min_size=T, max_size=T))
    return generate_document_mask(ids), lambda q, k: ids[q] != ids[k]


def passages(draw, T):
    ids = draw(st.lists(st.integers(0, 3), min_size=T, max_size=T))

    def is_blocked(q, k):
        return k > q or (0 not in (ids[q], ids[k]) and ids[q] != ids[k])

    return generate_retrieval_mask(ids), is_blocked


def padded(draw, T):
    n = draw(st.integers(0, T))
    return generate_padding_mask([n], T, side="left").expand(1, 1, T, T)[0, 0], (
        lambda q, k: k < T - n
    )


def causal(draw, T):
    return generate_causal_mask(T), lambda q, k: k > q


RULES = [causal, window, dilated, blocks, prefix, documents, passages, padded]
NEVER_AHEAD = [causal, window, dilated, blocks, passages]
every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)


@every_rule
@many
@given(data=st.data(), T=lengths)
def test_a_mask_blocks_exactly_what_its_rule_blocks(rule, data, T):
    mask, is_blocked = rule(data.draw, T)
    assert mask.dtype == torch.bool
    assert mask.tolist() == by_pairs(T, is_blocked)


@many
@given(height=st.integers(1, 5), width=st.integers(1, 5))
def test_masks_on_a_grid_block_exactly_what_their_rules_block(height, width):
    pixels = list(itertools.product(range(height), range(width)))

    def table(is_seen):
        return [[not is_seen(*here, *there) for there in pixels] for here in pixels]

    raster, quadrant, cross = (
        make(height, width)
        for make in (generate_raster_mask, generate_quadrant_mask, generate_row_column_mask)
    )
    assert raster.tolist() == table(lambda r, c, y, x: y < r or (y == r and x <= c))
    assert quadrant.tolist() == table(lambda r, c, y, x: y <= r and x <= c)
    assert cross.tolist() == table(lambda r, c, y, x: (y == r and x <= c) or (x == c and y <= r))


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


def test_special_cases_are_masks_that_are_known_already():
    for T in (1, 5, 9):
        triangle = generate_causal_mask(T)
        assert torch.equal(generate_prefix_mask(T, 0), triangle)
        assert not generate_prefix_mask(T, T).any()
        assert torch.equal(generate_dilated_mask(T, 1), triangle)
        assert torch.equal(
            generate_dilated_mask(T, 1, window=3), generate_sliding_window_mask(T, 3)
        )
        assert torch.equal(generate_block_sparse_mask(T, T), triangle)
        assert torch.equal(generate_block_sparse_mask(T, 3, summaries=3), triangle)
        assert torch.equal(generate_retrieval_mask([0] * T), triangle)
        assert torch.equal(generate_raster_mask(1, T), triangle)
        assert torch.equal(generate_quadrant_mask(T, 1), triangle)
        assert torch.equal(
            generate_block_sparse_mask(T, 3, summaries=0),
            triangle | generate_document_mask([t // 3 for t in range(T)]),
        )


# --- attention under each mask


@every_rule
@few
@given(data=st.data(), T=st.integers(1, 9), seed=st.integers(0, 99))
def test_attention_under_every_mask_is_a_double_loop_in_64_bits(rule, data, T, seed):
    mask, is_blocked = rule(data.draw, T)
    generator = torch.Generator().manual_seed(seed)
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


@many
@given(data=st.data(), T=lengths)
def test_a_query_that_sees_nothing_is_found_and_gives_zeros(data, T):
    rules = [data.draw(st.sampled_from(RULES))(data.draw, T) for _ in range(2)]
    mask = rules[0][0] | rules[1][0]
    wanted = [all(rules[0][1](q, k) or rules[1][1](q, k) for k in range(T)) for q in range(T)]
    assert dead_queries(mask).tolist() == wanted
    generator = torch.Generator().manual_seed(T)
    q, k, v = torch.rand(3, T, 4, generator=generator) + 1  # no value is 0
    assert ((attention(q, k, v, mask)[0] == 0).all(-1) == dead_queries(mask)).all()


def test_dead_queries_and_the_future_are_found_in_every_text_of_a_batch():
    blocked = generate_causal_mask(4) | generate_padding_mask([4, 2, 0], side="left")
    assert dead_queries(blocked)[:, 0].int().tolist() == [[0] * 4, [1, 1, 0, 0], [1] * 4]
    assert future_pairs(blocked) == 0
    assert future_pairs(torch.zeros(2, 3, 4, 4, dtype=torch.bool)) == 6 * 6


# --- the algebra


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
def test_the_other_polarity_exchanges_or_and_and(data, T):
    a, b = (data.draw(st.sampled_from(RULES))(data.draw, T)[0] for _ in "ab")
    assert torch.equal(to_allowed(a | b), to_allowed(a) & to_allowed(b))
    assert torch.equal(to_allowed(a & b), to_allowed(a) | to_allowed(b))


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
    generator = torch.Generator().manual_seed(seed)
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


class Stack(nn.Module):
    """Blocks with random weights, each with a mask of its own."""

    def __init__(self, masks, num_heads=1, seed=0):
        super().__init__()
        self.masks = masks
        generator = torch.Generator().manual_seed(seed)
        self.blocks = nn.ModuleList(Block(6 * num_heads, num_heads) for _ in masks)
        with torch.no_grad():
            for weight in self.parameters():
                weight.normal_(0.0, 0.5, generator=generator)

    def forward(self, x):
        for block, mask in zip(self.blocks, self.masks, strict=True):
            x = block(x, mask)
        return x


def measured(model, T, dim):
    x = torch.randn(1, T, dim, generator=torch.Generator().manual_seed(1))
    report = check_causality(model, x)
    return report.dependencies > 0, report.causal


@every_rule
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


@settings(max_examples=5, deadline=None, derandomize=True)
@given(T=st.integers(3, 7), data=st.data())
def test_a_prefix_model_is_causal_at_the_cuts_behind_its_prefix_and_only_there(T, data):
    n = data.draw(st.integers(1, T - 1))
    x = torch.randn(1, T, 6, generator=torch.Generator().manual_seed(2))
    model = Stack([generate_prefix_mask(T, n)] * 2)
    assert check_causality(model, x, cuts=range(n, T)).causal
    assert check_causality(model, x).causal == (n == 1)
    assert check_causality(model, x, lookahead=n - 1).causal
    if n > 1:
        assert not check_causality(model, x, cuts=range(n - 1, T)).causal
        assert not check_causality(model, x, lookahead=n - 2).causal


def hidden(model, ids, positions, blocked):
    with torch.no_grad():
        return model.hidden_states(
            torch.tensor([ids]), positions=torch.tensor([positions]), blocked=blocked
        )[0]


@pytest.fixture(scope="module")
def gpt():
    generator = torch.Generator().manual_seed(3)
    return GPT(20, 32, d_model=12, num_heads=3, num_layers=2, generator=generator).eval()


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


# --- where masks are made


@pytest.mark.parametrize(
    "make",
    [
        lambda device: generate_prefix_mask(5, 2, device=device),
        lambda device: generate_document_mask([0, 1], device=device),
        lambda device: generate_retrieval_mask([0, 1], device=device),
        lambda device: generate_dilated_mask(5, 2, window=2, device=device),
        lambda device: generate_block_sparse_mask(5, 2, device=device),
        lambda device: generate_raster_mask(2, 3, device=device),
        lambda device: generate_quadrant_mask(2, 3, device=device),
        lambda device: generate_row_column_mask(2, 3, device=device),
    ],
)
def test_a_mask_of_the_zoo_is_made_on_the_device_asked_for_and_else_on_the_cpu(make):
    assert make("meta").device.type == "meta"
    assert make(None).device.type == "cpu"


def test_numbers_bring_their_device_whatever_the_default_is():
    ids = torch.ones(3, dtype=torch.long, device="cpu")
    with torch.device("meta"):
        for make in (generate_document_mask, generate_retrieval_mask, generate_padding_mask):
            assert make(ids).device.type == "cpu"
    ids = torch.zeros(3, dtype=torch.long, device="meta")
    assert generate_document_mask(ids).device.type == "meta"
    assert generate_retrieval_mask(ids).device.type == "meta"


# --- bad input


@pytest.mark.parametrize("size", BAD_SIZES)
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("T", lambda n: generate_prefix_mask(n, 0)),
        ("T", lambda n: generate_dilated_mask(n, 2)),
        ("dilation", lambda n: generate_dilated_mask(5, n)),
        ("T", lambda n: generate_block_sparse_mask(n, 2)),
        ("block_size", lambda n: generate_block_sparse_mask(5, n)),
        ("height", lambda n: generate_raster_mask(n, 2)),
        ("width", lambda n: generate_raster_mask(2, n)),
        ("height", lambda n: generate_quadrant_mask(n, 2)),
        ("width", lambda n: generate_quadrant_mask(2, n)),
        ("height", lambda n: generate_row_column_mask(n, 2)),
        ("width", lambda n: generate_row_column_mask(2, n)),
    ],
)
def test_sizes_are_whole_and_at_least_one(name, make, size):
    with pytest.raises(ValueError, match=f"{name} must be an integer of at least 1"):
        make(size)


@pytest.mark.parametrize("size", [-1, True, 2.0, "2", None])
def test_a_prefix_summaries_and_layers_may_be_none_but_not_less(size):
    with pytest.raises(ValueError, match="prefix_len must be an integer of at least 0"):
        generate_prefix_mask(4, size)
    with pytest.raises(ValueError, match="summaries must be an integer of at least 0"):
        generate_block_sparse_mask(4, 2, summaries=size)
    with pytest.raises(ValueError, match="layers must be an integer of at least 0"):
        receptive_field(generate_causal_mask(3), size)


@pytest.mark.parametrize("size", [0, -1, True, 2.0, "2"])
def test_a_dilated_window_is_a_size(size):
    with pytest.raises(ValueError, match="window must be an integer of at least 1"):
        generate_dilated_mask(4, 2, window=size)


def test_what_is_longer_than_its_whole_is_refused():
    with pytest.raises(ValueError, match="prefix_len must be at most T=4, got 5"):
        generate_prefix_mask(4, 5)
    with pytest.raises(ValueError, match="summaries must be at most block_size=2, got 3"):
        generate_block_sparse_mask(4, 2, summaries=3)


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


@pytest.mark.parametrize("mask", [torch.zeros(2, 2), [[True]], None])
@pytest.mark.parametrize(
    "ask",
    [
        sparsity,
        future_pairs,
        dead_queries,
        receptive_field,
        lambda m: stacked_receptive_field([m]),
        to_mask_mod,
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


@pytest.mark.parametrize("shape", [(3,), (2, 3, 3), (1, 1, 1, 3, 3)])
def test_a_mask_function_needs_two_axes_or_four(shape):
    with pytest.raises(ValueError, match=r"\(query, key\) or \(batch, head, query, key\), got"):
        to_mask_mod(torch.zeros(shape, dtype=torch.bool))
