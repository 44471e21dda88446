"""Writing on: against full recomputation, closed forms and the GPT-2 of Hugging Face.

Three heads, a batch that differs from the length, every parameter drawn at random.
"""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from causal_lab.masks.rules import generate_sliding_window_mask
from causal_lab.models import generation
from causal_lab.models.cache import KVCache
from causal_lab.models.generation import (
    cached_step,
    decode_one_token,
    generate,
    pad_left,
    prefill,
    sample,
    stream,
)
from causal_lab.models.sliding_cache import SlidingKVCache
from causal_lab.models.transformer import BERT, GPT
from tests import builders
from tests.builders import LAYERS, VOCABULARY, assert_close, draw_ids, seeded

transformers.logging.set_verbosity_error()

B, T, D = 2, 7, 48  # batch, length, d_model
MAX_LENGTH = 32
N = 9  # new tokens
NORMS = pytest.mark.parametrize("norm_first", [True, False], ids=["pre-norm", "post-norm"])


@torch.no_grad()
def build(model_class=GPT, **options) -> GPT:
    model = builders.build(model_class, max_length=MAX_LENGTH, **{"d_model": D, **options})
    # What comes next must depend on the whole past, not on the newest token alone.
    for block in model.blocks:
        block.attention.query_projection.weight.mul_(4.0)
        block.attention.output_projection.weight.mul_(3.0)
    return model


@torch.no_grad()
def write_without_a_cache(model, ids, n: int = N, window: dict | None = None) -> Tensor:
    """Read the whole text again for every token, and take the likeliest."""
    for _ in range(n):
        blocked = generate_sliding_window_mask(ids.shape[1], **window) if window else None
        ids = torch.cat([ids, model(ids, blocked=blocked)[:, -1:].argmax(dim=-1)], dim=1)
    return ids


# --- the steps


@pytest.mark.parametrize("batch", [1, 3])
@NORMS
def test_prefill_and_decode_score_the_next_token_as_a_full_pass_does(norm_first, batch):
    model, ids = build(norm_first=norm_first).double(), draw_ids(batch, T)
    cache = model.new_cache(batch)
    with torch.no_grad():
        expected = model(ids)
    assert_close(prefill(model, ids[:, :4], cache), expected[:, 3], 1e-10)
    for t in range(4, T):
        assert cache.length == t
        assert_close(decode_one_token(model, ids[:, t], cache), expected[:, t], 1e-10)


def test_prefill_reads_texts_that_are_padded_on_the_left():
    model, ids = build().double(), draw_ids(B, T)
    cache = model.new_cache(B)
    padding = torch.zeros(B, T, dtype=torch.bool)
    padding[1, :4] = True
    with torch.no_grad():
        alone = [model(ids[:1])[:, -1], model(ids[1:, 4:])[:, -1]]
    assert_close(prefill(model, ids, cache, padding), torch.cat(alone), 1e-10)


def test_the_steps_keep_no_gradients_and_leave_the_mode_as_it_was():
    model, ids = build(), draw_ids(B, T)
    cache = model.new_cache(B)
    assert torch.is_grad_enabled()
    assert not prefill(model, ids, cache).requires_grad
    assert not decode_one_token(model, ids[:, 0], cache).requires_grad
    assert not cached_step(model)(ids, None)[0].requires_grad
    for _ in stream(model, ids, 3):
        assert torch.is_grad_enabled()
    assert torch.is_grad_enabled()


def test_a_stream_decodes_one_token_at_a_time_after_the_prompt(monkeypatch):
    read, original = [], generation.decode_one_token
    monkeypatch.setattr(
        generation,
        "decode_one_token",
        lambda model, token, cache: read.append(token) or original(model, token, cache),
    )
    written = list(stream(build(), draw_ids(B, T), N))
    # The last token is written and never read.
    assert torch.equal(torch.stack(read), torch.stack(written[:-1]))


def test_the_prompt_is_read_once_and_only_its_end_asks_the_head(monkeypatch):
    model, read, asked = build(), [], []
    original, head = model.forward, model.head

    def forward(ids, *arguments, **options):
        read.append(tuple(ids.shape))
        return original(ids, *arguments, **options)

    monkeypatch.setattr(model, "forward", forward)
    monkeypatch.setattr(
        model, "head", lambda hidden: (asked.append(hidden.shape[1]), head(hidden))[1]
    )
    tokens = stream(model, draw_ids(B, T), 4)
    assert read == []
    for step in range(4):
        next(tokens)
        assert read == [(B, T), (B, 1), (B, 1), (B, 1)][: step + 1]  # nothing ahead of time
    assert list(tokens) == []
    assert asked == [1, 1, 1, 1]


@pytest.mark.parametrize("length", [1, T])
def test_a_step_that_is_interrupted_in_the_head_does_not_count(length):
    model, ids = build(), draw_ids(B, T)
    cache = model.new_cache(B)

    def interrupted(*_):
        raise KeyboardInterrupt

    model.product = interrupted
    with pytest.raises(KeyboardInterrupt):
        prefill(model, ids[:, :length], cache)
    assert cache.length == 0


def test_a_step_makes_its_cache_and_hands_it_on():
    model, ids = build().double(), draw_ids(B, T)
    step = cached_step(model, window=3, sinks=1)
    logits, cache = step(ids[:, :2], None)
    assert isinstance(cache, SlidingKVCache)
    assert (cache.window, cache.sinks, cache.batch, cache.length) == (3, 1, B, 2)
    more, same = step(ids[:, 2:], cache)
    assert same is cache
    blocked = generate_sliding_window_mask(T, 3, sinks=1)
    with torch.no_grad():
        assert_close(torch.cat([logits, more], dim=1), model(ids, blocked=blocked), 1e-10)


# --- greedy


@pytest.mark.parametrize("length", [1, 5, T])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("seed", range(4))
@NORMS
def test_the_likeliest_tokens_are_those_of_full_recomputation(norm_first, seed, batch, length):
    model, ids = build(seed=seed, norm_first=norm_first), draw_ids(batch, length, seed=seed)
    texts = generate(model, ids, N)
    assert texts.dtype == torch.int64
    assert torch.equal(texts, write_without_a_cache(model, ids))


def test_the_texts_of_these_tests_are_not_all_the_same_token():
    texts = [generate(build(seed=seed), draw_ids(3, T, seed=seed), N)[:, T:] for seed in range(4)]
    assert sum(len(set(row)) > 2 for text in texts for row in text.tolist()) >= 9


@pytest.mark.parametrize("options", [{}, {"temperature": 1.3, "top_k": 9, "top_p": 0.95}], ids=str)
@pytest.mark.parametrize("stop_tokens", [(), (3, 4)])
def test_generate_is_the_prompt_and_what_stream_gives(options, stop_tokens):
    model, ids, kwargs = build(), draw_ids(B, T), {"stop_tokens": stop_tokens, **options}
    tokens = list(stream(model, ids, N, generator=seeded(), **kwargs))
    assert all(token.shape == (B,) and token.dtype == torch.int64 for token in tokens)
    expected = torch.cat([ids, torch.stack(tokens, dim=1)], dim=1)
    assert torch.equal(generate(model, ids, N, generator=seeded(), **kwargs), expected)


def test_writing_loads_nothing_that_draws():
    code = (
        "import sys, causal_lab.models.generation\n"
        "heavy = {'ipywidgets', 'IPython', 'tqdm.notebook', 'matplotlib', 'PIL'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_int32_prompts_and_gradient_modes_change_nothing():
    model, ids = build(), draw_ids(B, T)
    expected = generate(model, ids, N)
    assert torch.equal(generate(model, ids.int(), N), expected)
    assert generate(model, ids.int(), N).dtype == torch.int64
    assert torch.equal(generate(model, [row.int() for row in ids], N), expected)
    with torch.no_grad():
        assert torch.equal(generate(model, ids, N), expected)
    with torch.inference_mode():
        assert torch.equal(generate(model, ids, N), expected)


def test_the_longest_text_that_fits_is_written():
    model, ids = build(), draw_ids(B, T)
    n = MAX_LENGTH - T + 1  # the last token is written and never read
    assert torch.equal(generate(model, ids, n), write_without_a_cache(model, ids, n))
    with pytest.raises(ValueError, match=f"leaves room for {n} new ones, not {n + 1}"):
        generate(model, ids, n + 1)


def test_the_cache_is_just_large_enough(monkeypatch):
    model, made = build(), []
    original = model.new_cache

    def new_cache(*arguments, **options):
        made.append(original(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(model, "new_cache", new_cache)
    generate(model, draw_ids(B, T), N)
    [cache] = made
    assert cache.length == cache.capacity == T + N - 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_other_dtypes_write_as_full_recomputation_does_row_by_row(dtype):
    model, ids = build().to(dtype), draw_ids(B, T)
    texts = generate(model, ids, N)
    with torch.no_grad():
        logits = model(texts).float()
    # In few bits two tokens may be equally likely, and either may be taken.
    taken = logits[:, T - 1 : -1].gather(2, texts[:, T:, None])[..., 0]
    assert_close(taken, logits[:, T - 1 : -1].amax(dim=-1), max(20 * torch.finfo(dtype).eps, 1e-10))


# --- drawing


LOGITS = torch.tensor([2.0, -1.0, 0.5, 1.5, -torch.inf, 0.0, 1.0, -3.0])
DRAWS = 20_000


def frequencies(logits=LOGITS, draws: int = DRAWS, seed: int = 0, **options) -> Tensor:
    tokens = sample(logits.expand(draws, -1), generator=seeded(seed), **options)
    assert tokens.dtype == torch.int64
    assert tokens.shape == (draws,)
    return tokens.bincount(minlength=len(logits)) / draws


def by_hand(logits, temperature=1.0, top_k=None, top_p=None) -> list[float]:
    """Give the probabilities from which is drawn: plain Python in 64 bits."""
    logits = [float(one) for one in logits]
    order = sorted(range(len(logits)), key=lambda token: -logits[token])[:top_k]
    sizes = [math.exp((logits[token] - max(logits)) / temperature) for token in order]
    shares = [size / sum(sizes) for size in sizes]
    kept, total = [], 0.0
    for token, share in zip(order, shares, strict=True):
        if top_p is None or total < top_p:
            kept.append((token, share))
        total += share
    whole = sum(share for _, share in kept)
    result = [0.0] * len(logits)
    for token, share in kept:
        result[token] = share / whole
    return result


CHOICES = [
    {"temperature": temperature, **options}
    for temperature in (0.5, 1.0, 3.0)
    for options in (
        {},
        {"top_k": 1},
        {"top_k": 3},
        {"top_k": 8},
        {"top_k": 100},
        {"top_p": 1e-9},
        {"top_p": 1e-300},  # 0 in 32 bits
        {"top_p": 0.3},
        {"top_p": 0.7},
        {"top_p": 0.97},
        {"top_p": 1.0},
        {"top_p": 1},
        {"top_k": 4, "top_p": 0.8},
        {"top_k": 2, "top_p": 1.0},
    )
]


@pytest.mark.parametrize("options", CHOICES, ids=str)
def test_tokens_are_drawn_as_often_as_their_probability_says(options):
    expected, found = torch.tensor(by_hand(LOGITS, **options)), frequencies(**options)
    assert_close(found, expected, 4 * math.sqrt(0.25 / DRAWS))
    assert (found[expected == 0] == 0).all()


@pytest.fixture
def drawn_from(monkeypatch):
    """Record the probabilities from which is drawn."""
    seen, original = [], torch.multinomial

    def multinomial(probabilities, *arguments, **options):
        seen.append(probabilities / probabilities.sum(dim=-1, keepdim=True))
        return original(probabilities, *arguments, **options)

    monkeypatch.setattr(torch, "multinomial", multinomial)
    return seen


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("options", CHOICES, ids=str)
def test_top_k_and_top_p_keep_exactly_the_tokens_that_they_should(options, seed, drawn_from):
    logits = 3 * torch.randn(4, 50, generator=seeded(seed))
    tokens = sample(logits, generator=seeded(seed), **options)
    [probabilities] = drawn_from
    for row in range(4):
        expected = by_hand(logits[row], **options)
        kept = sum(share > 0 for share in expected)
        assert int((probabilities[row] > 0).sum()) == kept
        ranked = torch.tensor(sorted(expected, reverse=True))
        assert_close(probabilities[row], ranked, 1e-6)
        assert expected[tokens[row]] > 0


def test_top_p_of_1_keeps_even_what_is_lost_in_rounding(drawn_from):
    logits = torch.tensor([[0.0, -20.0, -30.0, -25.0]])
    many = torch.zeros(1, 50_000)
    for scores in (logits, many):
        sample(scores, temperature=1.0, top_p=1.0, generator=seeded())
        assert (drawn_from[-1] > 0).all()


def test_of_equal_tokens_top_k_keeps_the_first_and_top_p_as_many_as_it_needs():
    equal = torch.zeros(8)
    for options, kept in (({"top_k": 3}, 3), ({"top_p": 0.5}, 4), ({"top_p": 0.51}, 5)):
        found = frequencies(equal, temperature=1.0, **options)
        assert (found > 0).tolist() == [True] * kept + [False] * (8 - kept)
        assert_close(found[:kept], torch.full((kept,), 1 / kept), 0.015)


def test_of_equal_tokens_one_is_the_likeliest():
    assert sample(torch.tensor([[1.0, 3.0, 3.0, 2.0]])).item() in (1, 2)


@pytest.mark.parametrize("temperature", [1e-30, 1e-40, 1e-300, 5e-324])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=str)
def test_a_temperature_of_nearly_0_takes_the_likeliest(dtype, temperature):
    logits = (3 * torch.randn(50, 7, generator=seeded())).to(dtype)
    logits[:, 3] = -torch.inf
    tokens = sample(logits, temperature=temperature, generator=seeded())
    best = logits.amax(dim=-1)
    assert torch.equal(logits.gather(1, tokens[:, None])[:, 0], best)


def test_a_high_temperature_makes_all_possible_tokens_equal():
    found = frequencies(temperature=1e9)
    assert found[4] == 0  # −∞
    assert_close(found[found > 0], torch.full((7,), 1 / 7), 0.015)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("options", [{}, {"temperature": 0.7, "top_k": 5, "top_p": 0.9}], ids=str)
def test_logits_of_other_dtypes_are_drawn_from_too(options, dtype):
    logits = torch.randn(300, 20, generator=seeded()).to(dtype)
    tokens = sample(logits, generator=seeded(1), **options)
    if dtype != torch.float64:  # which draws other random numbers
        assert torch.equal(tokens, sample(logits.float(), generator=seeded(1), **options))
    elif not options:
        assert torch.equal(tokens, logits.argmax(dim=-1))
    allowed = [by_hand(row, **(options or {"top_k": 1})) for row in logits]
    assert all(row[token] > 0 for row, token in zip(allowed, tokens, strict=True))


def test_very_small_shares_are_not_cut_off_by_16_bits(drawn_from):
    logits = torch.tensor([[0.0, -14.0, -18.0]], dtype=torch.float16)
    sample(logits, temperature=1.0, generator=seeded())
    assert_close(drawn_from[0], logits.float().softmax(dim=-1), 1e-9)
    assert (drawn_from[0] > 0).all()


def test_the_same_seed_draws_the_same_tokens_and_another_one_others():
    model, ids, options = build(), draw_ids(B, T), {"temperature": 2.0}
    texts = [generate(model, ids, N, generator=seeded(seed), **options) for seed in (0, 0, 1)]
    assert torch.equal(texts[0], texts[1])
    assert not torch.equal(texts[0], texts[2])


def test_with_a_generator_pytorchs_own_is_left_alone_and_without_one_it_decides():
    logits = LOGITS.expand(50, -1)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with_one = sample(logits, temperature=1.0, generator=seeded(3))
    sample(logits)
    assert torch.equal(torch.get_rng_state(), before)
    without = sample(logits, temperature=1.0)
    torch.manual_seed(5)
    assert torch.equal(sample(logits, temperature=1.0), without)
    assert torch.equal(sample(logits, temperature=1.0, generator=seeded(3)), with_one)


@pytest.mark.parametrize("options", [{}, {"temperature": 0.5, "top_k": 3, "top_p": 0.9}], ids=str)
def test_logits_are_not_changed_and_may_carry_gradients(options):
    logits = LOGITS.expand(4, -1).clone()
    before = logits.clone()
    sample(logits, generator=seeded(), **options)
    assert torch.equal(logits, before)
    tokens = sample(logits.requires_grad_(), generator=seeded(), **options)
    assert not tokens.requires_grad


# --- stopping


def stopped(free: Tensor, stop_tokens, pad_id: int) -> Tensor:
    """Cut free texts where they should have stopped."""
    rows, ends = free.tolist(), []
    for row in rows:
        ends += [next((t + 1 for t, token in enumerate(row) if token in stop_tokens), len(row))]
        row[ends[-1] :] = [pad_id] * (len(row) - ends[-1])
    return torch.tensor(rows)[:, : max(ends)]


@pytest.mark.parametrize("kind", [tuple, list, set, frozenset, torch.tensor, np.array])
def test_a_text_that_has_a_stop_token_is_finished_and_gets_padding(kind):
    finished_early = went_on = 0
    for seed in range(6):
        model, ids = build(seed=seed), draw_ids(3, T, seed=seed)
        free = generate(model, ids, N)[:, T:]
        for stop_tokens in ([int(free[0, 2])], [int(free[1, 1]), int(free[2, 3])]):
            expected = stopped(free, stop_tokens, pad_id=11)
            texts = generate(model, ids, N, stop_tokens=kind(stop_tokens), pad_id=11)
            assert torch.equal(texts[:, T:], expected)
            finished_early += expected.shape[1] < N
            went_on += expected.shape[1] == N and bool((expected == 11).any())
    assert finished_early
    assert went_on


def test_the_first_token_may_be_the_last():
    model, ids = build(), draw_ids(1, T)
    first = int(generate(model, ids, 1)[0, -1])
    assert generate(model, ids, N, stop_tokens=[first]).tolist() == [[*ids[0].tolist(), first]]


def test_a_stop_token_in_the_prompt_stops_nothing():
    model, ids = build(), draw_ids(1, T)
    free = generate(model, ids, N)
    unused = [token for token in range(VOCABULARY) if token not in free[0, T:]]
    ids[0, 0] = unused[0]
    free = generate(model, ids, N)
    stop = next(t for t in range(VOCABULARY) if t in free[0, :T] and t not in free[0, T:])
    assert torch.equal(generate(model, ids, N, stop_tokens=[stop]), free)


def test_without_stop_tokens_nothing_stops_not_even_the_padding():
    model, ids = build(), draw_ids(B, T)
    free = generate(model, ids, N)
    for pad_id in set(free[:, T:].flatten().tolist()):
        assert torch.equal(generate(model, ids, N, pad_id=pad_id), free)


# --- texts of different lengths


@pytest.mark.parametrize("lengths", [(7, 2, 4), (1, 6, 6), (5, 5, 5), (1, 9, 3)], ids=str)
@pytest.mark.parametrize("seed", range(3))
@NORMS
def test_a_batch_of_different_lengths_is_written_as_each_text_alone(norm_first, seed, lengths):
    model = build(seed=seed, norm_first=norm_first)
    prompts = [draw_ids(n, seed=10 * seed + n).tolist() for n in lengths]
    longest = max(lengths)
    texts = generate(model, prompts, N)
    ids, padding = pad_left(prompts)
    assert torch.equal(generate(model, ids, N, padding=padding), texts)
    assert torch.equal(generate(model, ids.int(), N, padding=padding), texts)
    other = torch.where(padding, 5, ids)  # what stands in the padding does not matter
    assert torch.equal(generate(model, other, N, padding=padding)[:, longest:], texts[:, longest:])
    for row, prompt in enumerate(prompts):
        start = longest - len(prompt)
        alone = write_without_a_cache(model, torch.tensor([prompt]))
        assert texts[row, :start].tolist() == [0] * start
        assert torch.equal(texts[row, start:], alone[0])


def test_pad_id_fills_the_short_prompts_and_the_finished_texts():
    model, prompts = build(seed=0), [[1, 2, 3], [4]]
    free = generate(model, prompts, N)
    stop = int(free[0, 3])
    assert stop not in free[1, 3:]
    texts = generate(model, prompts, N, stop_tokens=[stop], pad_id=8)
    assert texts[0, 4:].tolist() == [8] * (N - 1)
    assert texts[1].tolist() == [8, 8, 4, *free[1, 3:].tolist()]


def test_pad_left_puts_the_ends_below_each_other():
    rows = [[1, 2, 3], torch.tensor([4]), torch.tensor([5, 6], dtype=torch.int32), np.array([7, 8])]
    for given in (rows, tuple(rows)):
        ids, padding = pad_left(given, pad_id=9)
        assert ids.tolist() == [[1, 2, 3], [9, 9, 4], [9, 5, 6], [9, 7, 8]]
        assert ids.dtype == torch.int64
        assert padding.dtype == torch.bool
        assert padding.int().tolist() == [[0, 0, 0], [1, 1, 0], [1, 0, 0], [1, 0, 0]]
    assert pad_left([[1], [2, 3]])[0].tolist() == [[0, 1], [2, 3]]


# --- a cache and weights of one's own


@pytest.mark.parametrize(("window", "sinks"), [(1, 0), (3, 0), (3, 1), (5, 2), (40, 0)])
def test_with_a_window_the_tokens_are_those_of_full_recomputation_under_its_mask(window, sinks):
    different = 0
    for seed in range(4):
        model, ids = build(seed=seed), draw_ids(3, T, seed=seed)
        cache = model.new_cache(3, window=window, sinks=sinks)
        texts = generate(model, ids, N, cache=cache)
        options = {"window": window, "sinks": sinks}
        assert torch.equal(texts, write_without_a_cache(model, ids, window=options))
        assert cache.length == T + N - 1
        different += not torch.equal(texts, generate(model, ids, N))
    assert (different > 0) is (window + sinks < T + N - 1)


def test_with_a_window_texts_of_different_lengths_are_written_as_each_alone():
    model, prompts = build(), [draw_ids(n, seed=n).tolist() for n in (7, 2, 4)]
    options = {"window": 3, "sinks": 1}
    texts = generate(model, prompts, N, cache=model.new_cache(3, **options))
    for row, prompt in enumerate(prompts):
        alone = write_without_a_cache(model, torch.tensor([prompt]), window=options)
        assert torch.equal(texts[row, 7 - len(prompt) :], alone[0])


def test_a_cache_can_be_used_again_after_reset():
    model, ids = build(), draw_ids(B, T)
    cache = model.new_cache(B)
    texts = generate(model, ids, N, cache=cache)
    assert torch.equal(texts, generate(model, ids, N))
    cache.reset()
    other = draw_ids(B, T, seed=4)
    assert torch.equal(generate(model, other, N, cache=cache), generate(model, other, N))


@pytest.mark.parametrize("padded", [True, False])
def test_the_weights_are_those_of_a_full_pass(padded):
    model, ids = build().double(), draw_ids(B, T)
    padding = torch.zeros(B, T, dtype=torch.bool)
    padding[1, :3] = padded
    pairs = list(stream(model, ids, 4, padding=padding, need_weights=True))
    tokens, seen = zip(*pairs, strict=True)
    text = torch.cat([ids, torch.stack(tokens[:-1], dim=1)], dim=1)
    behind = torch.zeros(B, 3, dtype=torch.bool)
    with torch.no_grad():
        _, full = model(text, padding=torch.cat([padding, behind], dim=1), need_weights=True)
    for step, weights in enumerate(seen):
        assert len(weights) == LAYERS
        rows = slice(0, T) if step == 0 else slice(T + step - 1, T + step)
        for ours, whole in zip(weights, full, strict=True):
            assert_close(ours, whole[:, :, rows, : T + step], 1e-10)
            assert (whole[:, :, rows, T + step :] == 0).all()


def test_looking_at_the_weights_changes_no_token():
    model, ids = build(), draw_ids(B, T)
    options = {"temperature": 1.5, "stop_tokens": [4]}
    plain = list(stream(model, ids, N, generator=seeded(), **options))
    looked = stream(model, ids, N, generator=seeded(), need_weights=True, **options)
    for token, (same, _) in zip(plain, looked, strict=True):
        assert torch.equal(same, token)


def test_texts_alone_have_no_place_for_weights():
    advice = r"generate gives texts; stream\(…, need_weights=True\) gives the weights too"
    with pytest.raises(ValueError, match=advice):
        generate(build(), draw_ids(B, T), 2, need_weights=True)
    assert generate(build(), draw_ids(B, T), 2, need_weights=False).shape == (B, T + 2)


# --- nothing of the caller's is changed


def test_prompts_and_padding_are_not_changed():
    model = build()
    ids, padding = pad_left([[1, 2, 3], [4, 5], [6]])
    stops, rows = {3}, [[1, 2], torch.tensor([3])]
    before = ids.clone(), padding.clone()
    generate(model, ids, N, padding=padding, stop_tokens=stops)
    generate(model, rows, N, stop_tokens=stops)
    assert torch.equal(ids, before[0])
    assert torch.equal(padding, before[1])
    assert stops == {3}
    assert rows[0] == [1, 2]
    assert rows[1].tolist() == [3]


def test_who_writes_into_a_token_changes_nothing_but_that():
    model, ids = build(), draw_ids(B, T)
    expected, found = generate(model, ids, N, stop_tokens=[3])[:, T:], []
    for token in stream(model, ids, N, stop_tokens=[3]):
        found.append(token.clone())
        token.fill_(3)
    assert torch.equal(torch.stack(found, dim=1), expected)


def test_the_texts_are_memory_of_their_own():
    model, ids = build(), draw_ids(B, T)
    texts = generate(model, ids, 1)
    texts.zero_()
    assert torch.equal(ids, draw_ids(B, T))


# --- bad input


class FarGenerator(torch.Generator):
    """Says that it lives on a GPU, on machines without one too."""

    @property
    def device(self):
        return torch.device("cuda")


BAD_CHOICES = {
    "temperature 0": ({"temperature": 0}, "above 0, got 0; leave it out to take the likeliest"),
    "temperature 0.0": ({"temperature": 0.0}, "temperature must be a number above 0"),
    "negative temperature": ({"temperature": -1.0}, "temperature must be a number above 0"),
    "temperature NaN": ({"temperature": math.nan}, "temperature must be a number above 0"),
    "infinite temperature": ({"temperature": math.inf}, "temperature must be a number above 0"),
    "temperature True": ({"temperature": True}, "temperature must be a number above 0"),
    "temperature in words": ({"temperature": "1"}, "temperature must be a number above 0"),
    "temperature a tensor": ({"temperature": torch.ones(())}, "temperature must be a number"),
    "top_p 0": ({"temperature": 1.0, "top_p": 0.0}, "top_p must be a probability above 0"),
    "negative top_p": ({"temperature": 1.0, "top_p": -0.5}, "above 0 and up to 1, got -0.5"),
    "top_p 1.5": ({"temperature": 1.0, "top_p": 1.5}, "above 0 and up to 1, got 1.5"),
    "top_p NaN": ({"temperature": 1.0, "top_p": math.nan}, "above 0 and up to 1, got nan"),
    "top_p in words": ({"temperature": 1.0, "top_p": "0.5"}, "top_p must be a probability"),
    "top_k 0": ({"temperature": 1.0, "top_k": 0}, "top_k must be an integer of at least 1"),
    "negative top_k": ({"temperature": 1.0, "top_k": -2}, "top_k must be an integer of at"),
    "top_k 2.0": ({"temperature": 1.0, "top_k": 2.0}, "top_k must be an integer of at least 1"),
    "top_k True": ({"temperature": 1.0, "top_k": True}, "top_k must be an integer of at least 1"),
    "top_k alone": ({"top_k": 2}, r"nothing is drawn; add temperature=1\.0"),
    "top_p alone": ({"top_p": 0.5}, r"nothing is drawn; add temperature=1\.0"),
    "a seed": ({"temperature": 1.0, "generator": 0}, "generator must live on the CPU"),
    "a generator elsewhere": (
        {"temperature": 1.0, "generator": FarGenerator()},
        r"generator must live on the CPU.*torch\.Generator\(\)\.manual_seed\(0\)",
    ),
}


@pytest.mark.parametrize(("options", "message"), BAD_CHOICES.values(), ids=BAD_CHOICES)
def test_a_choice_that_cannot_be_made_is_refused_at_once(options, message):
    model, ids = build(), draw_ids(B, T)
    cache = model.new_cache(B)
    with pytest.raises(ValueError, match=message):
        sample(LOGITS[None], **options)
    with pytest.raises(ValueError, match=message):
        stream(model, ids, N, cache=cache, **options)
    with pytest.raises(ValueError, match=message):
        generate(model, ids, N, cache=cache, **options)
    assert cache.length == 0
    assert torch.equal(generate(model, ids, N, cache=cache), generate(model, ids, N))


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (LOGITS, r"logits must have shape \(batch, vocabulary\), got \(8,\)"),
        (LOGITS[None, None], r"logits must have shape \(batch, vocabulary\)"),
        (LOGITS[None, :0], r"logits must have shape \(batch, vocabulary\)"),
        (torch.zeros(0, 3), r"logits must have shape \(batch, vocabulary\)"),
        (torch.zeros(1, 3).int(), r"logits must be a floating tensor.*\.float\(\)"),
        ([[1.0, 2.0]], "logits must be a floating tensor"),
        (torch.tensor([[0.0, math.nan], [0.0, 1.0]]), "no NaN; look for a row that saw no token"),
        (torch.full((1, 3), -math.inf), "must hold a finite score for every text"),
        (torch.tensor([[0.0, 1.0], [-math.inf, -math.inf]]), "a finite score for every text"),
        (torch.tensor([[0.0, math.inf]]), "or an overflow"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"temperature": 1.0}], ids=str)
def test_what_is_no_scores_is_refused(options, logits, message):
    with pytest.raises(ValueError, match=message):
        sample(logits, **options)


def other_cache(**options) -> KVCache:
    return build(**options).new_cache(B)


def used_cache() -> KVCache:
    model = build()
    cache = model.new_cache(B)
    prefill(model, draw_ids(B, T), cache)
    return cache


ENDS_IN_PADDING = torch.zeros(B, T, dtype=torch.bool)
ENDS_IN_PADDING[1, 3:] = True
BAD_TEXTS = {
    "no token": ({"prompts": torch.zeros(B, 0, dtype=torch.int64)}, "begin with at least one"),
    "no text": ({"prompts": torch.zeros(0, T, dtype=torch.int64)}, "begin with at least one"),
    "an empty row": ({"prompts": [[1, 2], []]}, "a prompt is empty; begin with at least one"),
    "an empty row in a tensor": ({"prompts": [torch.tensor([]).long()]}, "a prompt is empty"),
    "no row": ({"prompts": []}, "there is no prompt; give at least one row"),
    "one row that is no batch": ({"prompts": [1, 2, 3]}, "each prompt must be a row of token ids"),
    "one row in a tensor": ({"prompts": draw_ids(T)}, r"becomes a batch with \.unsqueeze\(0\)"),
    "a number in a tensor": ({"prompts": torch.tensor(3)}, r"batch with \.unsqueeze\(0\)"),
    "rows in rows": ({"prompts": [[[1, 2]]]}, r"each prompt must be a row.*shape \(1, 2\)"),
    "a text": ({"prompts": ["once upon"]}, "each prompt must be a row of token ids"),
    "fractions": ({"prompts": [[1.0, 2.0]]}, "each prompt must be a row of token ids, got a torch"),
    "fractions in a tensor": ({"prompts": draw_ids(B, T).float()}, "ids must be integers of shape"),
    "no such token": ({"prompts": [[1, VOCABULARY]]}, "ids must lie between 0 and 12"),
    "a negative token": ({"prompts": draw_ids(B, T) - 5}, "ids must lie between 0 and 12"),
    "ends in padding": ({"padding": ENDS_IN_PADDING}, "pad on the left, as pad_left does"),
    "padding of another shape": ({"padding": ENDS_IN_PADDING[:, :3]}, "must have the shape of ids"),
    "padding of numbers": (
        {"padding": torch.zeros(B, T)},
        r"padding must be a boolean.*\.bool\(\)",
    ),
    "padding beside rows": (
        {"prompts": [[1, 2]], "padding": torch.zeros(1, 2).bool()},
        "rows are padded here",
    ),
    "no new token": ({"max_new_tokens": 0}, "max_new_tokens must be an integer of at least 1"),
    "fewer than no token": ({"max_new_tokens": -1}, "max_new_tokens must be an integer of at"),
    "2.5 new tokens": ({"max_new_tokens": 2.5}, "max_new_tokens must be an integer of at least 1"),
    "True new tokens": ({"max_new_tokens": True}, "max_new_tokens must be an integer of at least"),
    "too many": (
        {"max_new_tokens": 27},
        "a prompt of 7 tokens leaves room for 26 new ones, not 27: the model reads max_length=32",
    ),
    "too long a prompt": ({"prompts": draw_ids(B, 33)}, "33 tokens are more than max_length=32"),
    "no such stop token": ({"stop_tokens": [3, 13]}, "stop_tokens must lie between 0 and 12"),
    "a negative stop token": (
        {"stop_tokens": [-1]},
        "stop_tokens must be an integer of at least 0",
    ),
    "a stop token in words": ({"stop_tokens": ["a"]}, "stop_tokens must be an integer of at least"),
    "no such padding": ({"pad_id": 13}, "pad_id must lie between 0 and 12, got 13"),
    "a negative padding": ({"pad_id": -1}, "pad_id must be an integer of at least 0"),
    "padding by True": ({"prompts": [[1, 2], [3]], "pad_id": True}, "pad_id must be an integer of"),
    "padding in words": ({"prompts": [[1, 2], [3]], "pad_id": "a"}, "pad_id must be an integer of"),
    "a BERT": ({"model": build(BERT)}, "without a causal mask cannot use a cache"),
    "a used cache": ({"cache": used_cache}, r"cache must be empty, it holds 7 tokens; reset\(\)"),
    "a small cache": (
        {"cache": lambda: build().new_cache(B, T + N - 2)},
        "15 new tokens do not fit: 0 of 14 places are taken; make a cache with capacity=15",
    ),
    "a cache for another batch": (
        {"cache": lambda: build().new_cache(3)},
        "a batch of another size needs a cache of its own",
    ),
    "a cache with more layers": (
        {"cache": lambda: other_cache(num_layers=3)},
        "make one with the model's own new_cache",
    ),
    "no cache": ({"cache": lambda: [1]}, r"cache must come from new_cache\(batch\), got list"),
}


@pytest.mark.parametrize(("changes", "message"), BAD_TEXTS.values(), ids=BAD_TEXTS)
def test_what_cannot_be_written_on_is_refused_when_stream_is_called(changes, message):
    arguments = {"model": build(), "prompts": draw_ids(B, T), "max_new_tokens": N, **changes}
    if "cache" in changes:
        arguments["cache"] = changes["cache"]()
    with pytest.raises(ValueError, match=message):
        stream(**arguments)
    with pytest.raises(ValueError, match=message):
        generate(**arguments)


@pytest.mark.parametrize("options", [{"num_heads": 2}, {"d_model": 45}], ids=str)
def test_a_cache_of_other_sizes_is_refused_before_anything_is_written(options):
    cache = other_cache(**options)
    with pytest.raises(ValueError, match="make one with the model's own new_cache"):
        generate(build(), draw_ids(B, T), N, cache=cache)
    assert cache.length == 0


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "there is no prompt; give at least one row of token ids"),
        ([[1], []], "a prompt is empty; begin with at least one token"),
        ([[1], [[2]]], "each prompt must be a row of token ids"),
        ([[1.5]], "each prompt must be a row of token ids"),
        ([["a"]], "each prompt must be a row of token ids"),
        ([[True]], "each prompt must be a row of token ids"),
        ([1], "each prompt must be a row of token ids"),
    ],
)
def test_what_cannot_be_padded_is_told_why(rows, message):
    with pytest.raises(ValueError, match=message):
        pad_left(rows)


# --- the GPT-2 of Hugging Face


def gpt2(seed: int, places: float = 1.0, **options) -> GPT2LMHeadModel:
    config = GPT2Config(**{"bos_token_id": None, "eos_token_id": None, **options})
    torch.manual_seed(seed)
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():  # else small models write one token again and again
        model.transformer.wpe.weight.mul_(places)
    return model


def written_by(theirs, prompts: list[list[int]], n: int) -> Tensor:
    ids, padding = pad_left(prompts)
    return theirs.generate(
        ids,
        attention_mask=(~padding).long(),
        max_new_tokens=n,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )


CONFIGS = {
    "one layer": {"n_layer": 1},
    "three layers": {"n_layer": 3},
    "one head": {"n_head": 1},
    "a narrow middle": {"n_inner": 20},
    "another epsilon's worth of depth": {"n_layer": 6, "n_embd": 48},
}


@pytest.mark.parametrize("options", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("lengths", [(9,), (6, 6), (7, 2, 5)], ids=str)
def test_a_small_gpt_2_writes_the_same_tokens(lengths, options):
    sizes = {"vocab_size": 61, "n_positions": 48, "n_embd": 24, "n_head": 3, "n_layer": 2}
    theirs = gpt2(seed=len(lengths), places=3.0, **{**sizes, "initializer_range": 0.3, **options})
    ours = GPT.from_hf_state_dict(theirs.state_dict(), theirs.config.n_head)
    prompts = [torch.randint(61, (n,), generator=seeded(n)).tolist() for n in lengths]
    expected = written_by(theirs, prompts, 30)
    assert len(set(expected[0, -30:].tolist())) > 5
    assert torch.equal(generate(ours, prompts, 30), expected)


def test_two_layers_of_gpt_2s_size_write_the_same_24_tokens_alone_and_in_a_padded_batch():
    # All twelve are compared, and timed, in benchmarks/decoding.py.
    theirs = gpt2(seed=0, initializer_range=0.08, n_layer=2)
    ours = GPT.from_hf_state_dict(theirs.state_dict(), 12)
    assert ours.num_parameters == 124_439_808 - 10 * 7_087_872
    prompts = [torch.randint(50257, (n,), generator=seeded(n)).tolist() for n in (12, 5, 9)]
    for batch in (prompts[:1], prompts):
        expected = written_by(theirs, batch, 24)
        texts = generate(ours, batch, 24)
        assert torch.equal(texts, expected)
        for row in texts[:, -24:].tolist():
            assert len(set(row)) > 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stop_tokens": 3}, r"stop_tokens must be a collection of token ids such as \[3\]"),
        ({"prompts": 5}, "prompts must be rows of token ids"),
    ],
)
def test_a_single_thing_where_several_are_needed_is_told_so_when_called(arguments, message):
    with pytest.raises(ValueError, match=message):
        stream(**{"model": build(), "prompts": draw_ids(B, T), "max_new_tokens": 2, **arguments})
