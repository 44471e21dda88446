"""Biases that learn: against plain loops, behind the hard mask, and on tasks with a known truth."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy, one_hot

from causal_lab.attention.formula import attention
from causal_lab.attention.softmax import stable_softmax
from causal_lab.causality import check_causality
from causal_lab.course.training import train
from causal_lab.masks.learned import AdaptiveSpan, DistanceDecay, LearnedMask, RelativeBias
from causal_lab.models.layers import MultiHeadAttention
from causal_lab.models.transformer import GPT
from tests.builders import randn, seeded

quick = settings(max_examples=25, deadline=None, derandomize=True)
KINDS = ("decay", "table", "span", "mask")
seeds, heads, sizes = st.integers(0, 999), st.integers(1, 3), st.integers(1, 9)


def made(kind, num_heads, seed, spread=3.0):
    """A mask of this kind with parameters drawn at random."""
    mask = {
        "decay": lambda: DistanceDecay(num_heads),
        "table": lambda: RelativeBias(num_heads, max_distance=5),
        "span": lambda: AdaptiveSpan(num_heads, max_span=7, ramp=2),
        "mask": lambda: LearnedMask(num_heads, max_distance=5),
    }[kind]()
    drawn = seeded(seed)
    with torch.no_grad():
        for parameter in mask.parameters():
            parameter.copy_(spread * torch.randn(parameter.shape, generator=drawn))
    return mask


def by_hand(mask, head, distance):
    """What the score of a key so far back gets, in Python's floats."""
    if distance < 0:
        return -math.inf
    if isinstance(mask, RelativeBias):
        return mask.table[head, min(distance, mask.max_distance)].item()
    if isinstance(mask, LearnedMask):
        if distance > mask.max_distance:
            return -math.inf
        logit = mask.logits[head, mask.future + distance - 1].item() if distance else math.inf
        return -math.log1p(math.exp(-logit))
    logit = mask.logits[head].item()
    if isinstance(mask, DistanceDecay):
        return -math.log1p(math.exp(logit)) * distance
    span = mask.max_span / (1 + math.exp(-logit))
    gate = min(max((mask.ramp + span - distance) / mask.ramp, 0.0), 1.0)
    return math.log(gate) if gate else -math.inf


# --- all four


@pytest.mark.parametrize("kind", KINDS)
@quick
@given(num_heads=heads, query_len=sizes, cached=st.integers(0, 6), seed=seeds)
def test_every_bias_is_what_a_plain_loop_gives(kind, num_heads, query_len, cached, seed):
    mask, key_len = made(kind, num_heads, seed), query_len + cached
    bias = mask(query_len, key_len)
    assert bias.shape == (num_heads, query_len, key_len)
    for head in range(num_heads):
        for query in range(query_len):
            for key in range(key_len):
                wanted = by_hand(mask, head, cached + query - key)
                found = bias[head, query, key].item()
                # Beside a gate of nearly 0 a logarithm shows the rounding of the gate.
                close = math.isclose(found, wanted, rel_tol=1e-4, abs_tol=1e-4)
                assert close or max(found, wanted) < -9, (head, query, key, found, wanted)


@pytest.mark.parametrize("kind", KINDS)
@quick
@given(num_heads=heads, T=st.integers(2, 9), rows=sizes, seed=seeds)
def test_the_last_rows_behind_a_cache_are_those_of_the_square(kind, num_heads, T, rows, seed):
    mask, rows = made(kind, num_heads, seed), min(rows, T)
    assert torch.equal(mask(rows, T), mask(T)[:, T - rows :])
    assert torch.equal(mask.blocked(rows, T), mask(T)[:, T - rows :] == -math.inf)


@pytest.mark.parametrize("kind", KINDS)
@quick
@given(num_heads=heads, T=sizes, seed=seeds, score=st.sampled_from([0.0, 50.0, 1e4]))
def test_no_parameter_and_no_score_opens_the_future(kind, num_heads, T, seed, score):
    mask = made(kind, num_heads, seed, spread=30.0)
    scores = torch.zeros(num_heads, T, T).triu(1) + score * torch.ones(T, T).triu(1)
    weights = stable_softmax(scores + mask(T))
    assert not weights.triu(1).any()
    assert torch.allclose(weights.sum(dim=-1), torch.ones(num_heads, T))  # nobody sees nothing
    assert mask.blocked(T)[:, torch.ones(T, T).triu(1).bool()].all()
    assert not mask.blocked(T).diagonal(dim1=1, dim2=2).any()


@pytest.mark.parametrize("kind", KINDS)
@quick
@given(num_heads=heads, T=sizes, seed=seeds, spread=st.sampled_from([0.1, 3.0, 40.0, 300.0]))
def test_all_gradients_are_finite(kind, num_heads, T, seed, spread):
    mask = made(kind, num_heads, seed, spread)
    wanted = torch.rand(num_heads, T, T, generator=seeded(seed))
    (mask(T).softmax(dim=-1) - wanted).square().sum().backward()
    for parameter in mask.parameters():
        assert parameter.grad.isfinite().all()


class Layer(nn.Module):
    def __init__(self, mask, causal=False):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.mask = MultiHeadAttention(6, 3), mask

    def forward(self, x):
        return self.layer(x, bias=self.mask(x.shape[1]))[0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_checker_finds_every_one_of_them_causal(kind):
    x = randn(2, 7, 6, seed=1)
    assert check_causality(Layer(made(kind, 3, seed=2)), x).causal is True


@pytest.mark.parametrize("kind", KINDS)
def test_they_fit_the_models_and_follow_them_to_another_dtype(kind):
    gpt, mask = GPT(11, 9, d_model=6, num_heads=3, num_layers=2).double(), made(kind, 3, 0).double()
    ids = torch.randint(11, (2, 7), generator=seeded(1))
    assert mask(7).dtype == torch.float64
    with torch.no_grad():
        whole, cache = gpt(ids, bias=mask(7)), gpt.new_cache(batch=2)
        first = gpt(ids[:, :4], cache=cache, bias=mask(4))
        rest = gpt(ids[:, 4:], cache=cache, bias=mask(3, 7))
        assert not torch.allclose(whole, gpt(ids), atol=1e-3)
    assert torch.allclose(torch.cat([first, rest], dim=1), whole, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ((0,), "query_len must be an integer of at least 1"),
        ((2.0,), "query_len must be an integer"),
        ((3, 0), "key_len must be an integer of at least 1"),
        ((3, 2), "key_len=2 is below query_len=3; the queries are the newest"),
    ],
)
def test_lengths_that_cannot_be(kind, lengths, message):
    for call in (made(kind, 1, 0), made(kind, 1, 0).blocked):
        with pytest.raises(ValueError, match=message):
            call(*lengths)


# --- each of them


@pytest.mark.parametrize("kind", ["decay", "table", "mask"])  # a span looks at its numbers
def test_all_is_made_where_the_parameters_are(kind):
    assert made(kind, 3, seed=0).to("meta")(2, 5).device.type == "meta"


def test_the_own_token_gets_a_plain_zero():
    assert not DistanceDecay(3)(4).diagonal(dim1=1, dim2=2).signbit().any()


@quick
@given(num_heads=st.integers(1, 12))
def test_the_slopes_start_where_alibi_puts_them(num_heads):
    wanted = [2 ** (-8 * h / num_heads) for h in range(1, num_heads + 1)]
    assert DistanceDecay(num_heads).slopes.tolist() == pytest.approx(wanted, rel=1e-4)


def test_a_table_starts_as_no_bias_at_all():
    x = randn(3, 5, 4, seed=0)
    blocked = torch.ones(5, 5).triu(1).bool()
    plain, _ = attention(x, x, x, blocked)
    assert torch.equal(
        attention(x[None], x[None], x[None], bias=RelativeBias(3, 2)(5))[0][0], plain
    )


def test_a_span_of_zero_with_a_ramp_of_one_sees_only_itself():
    span = AdaptiveSpan(2, max_span=5, ramp=1)
    span.logits.data.fill_(-200.0)
    assert span.spans.tolist() == [0, 0]
    assert torch.equal(span(4).softmax(dim=-1), torch.eye(4).expand(2, 4, 4))
    assert span.keys_kept().tolist() == [1, 1]


@quick
@given(num_heads=heads, seed=seeds)
def test_the_price_of_a_span_is_per_token_and_per_head(num_heads, seed):
    span = AdaptiveSpan(num_heads, max_span=9, ramp=2)
    span.logits.data = 3 * randn(num_heads, seed=seed)
    by_hand = sum(9 / (1 + math.exp(-logit)) for logit in span.logits.tolist()) / num_heads
    assert span.penalty().item() == pytest.approx(by_hand, rel=1e-5)


@quick
@given(num_heads=heads, ramp=st.integers(1, 5), T=st.integers(2, 20), seed=seeds)
def test_keys_that_a_head_need_not_keep_change_nothing(num_heads, ramp, T, seed):
    span = AdaptiveSpan(num_heads, max_span=9, ramp=ramp)
    drawn = seeded(seed)
    span.logits.data = 3 * torch.randn(num_heads, generator=drawn)
    scores, values = torch.randn(T, generator=drawn), torch.randn(T, 3, generator=drawn)
    assert ((span.gates(T) >= 0) & (span.gates(T) <= 1)).all()
    assert torch.equal(span.gates(T) == 0, span.blocked(T))
    whole = stable_softmax(scores + span(1, T)[:, 0]) @ values
    for head, kept in enumerate(span.keys_kept().tolist()):
        few = min(kept, T)
        part = stable_softmax(scores[-few:] + span(1, few)[head, 0]) @ values[-few:]
        assert torch.allclose(part, whole[head], atol=1e-6)
        assert (span(1, T)[head, 0] > -math.inf).sum() == few  # and not one fewer would do


@quick
@given(num_heads=heads, T=st.integers(1, 9), future=st.integers(0, 3), seed=seeds)
def test_the_bias_is_the_logarithm_of_the_gate(num_heads, T, future, seed):
    mask = LearnedMask(num_heads, max_distance=4, future=future)
    drawn = seeded(seed)
    mask.logits.data = 4 * torch.randn(mask.logits.shape, generator=drawn)
    gates = mask.gates()
    assert ((gates > 0) & (gates <= 1)).all()
    assert mask.distances.tolist() == list(range(-future, 5))
    assert (gates[:, future] == 1).all()
    for t in range(T):
        for s in range(T):
            if -future <= t - s <= 4:
                found = mask(T)[:, t, s]
                assert torch.allclose(found, gates[:, future + t - s].log(), atol=1e-4)
            else:
                assert (mask(T)[:, t, s] == -math.inf).all()
    learned = torch.cat([gates[:, :future], gates[:, future + 1 :]], dim=1)
    assert torch.allclose(mask.penalty(), learned.sum() / num_heads)


@quick
@given(num_heads=heads, T=st.integers(1, 9), future=st.integers(0, 2), seed=seeds)
def test_hard_equals_soft_where_all_gates_are_open_or_shut(num_heads, T, future, seed):
    mask = LearnedMask(num_heads, max_distance=4, future=future)
    drawn = seeded(seed)
    signs = torch.randn(mask.logits.shape, generator=drawn).sign()
    mask.logits.data = 200 * signs  # float32 takes e^(−200) for 0
    values = torch.randn(T, 3, generator=drawn)
    hard = torch.zeros(num_heads, T, T).masked_fill(mask.harden(T), -math.inf)
    assert torch.equal(mask(T).softmax(dim=-1) @ values, hard.softmax(dim=-1) @ values)


@quick
@given(T=st.integers(1, 9), threshold=st.floats(0.01, 0.99), seed=seeds)
def test_made_hard_it_opens_the_listed_distances_and_no_others(T, threshold, seed):
    mask = LearnedMask(2, max_distance=4, future=1)
    drawn = seeded(seed)
    mask.logits.data = 3 * torch.randn(2, 5, generator=drawn)
    hard, listed = mask.harden(T, threshold=threshold), mask.open_distances(threshold)
    for head in range(2):
        kept = {d for d in (-1, 1, 2, 3, 4) if share(mask, head, d) >= threshold} | {0}
        assert listed[head] == sorted(kept)
        for t in range(T):
            for s in range(T):
                assert hard[head, t, s].item() == (t - s not in kept)


def share(mask, head, distance):
    return torch.sigmoid(mask.logits[head, distance + (1 if distance < 0 else 0)]).item()


def test_a_gate_at_the_threshold_stays_open():
    assert LearnedMask(1, 2).open_distances() == [[0, 1, 2]]
    assert not LearnedMask(1, 2).harden(3).tril().any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DistanceDecay(0), "num_heads must be an integer of at least 1, got 0"),
        (lambda: DistanceDecay(2.0), "num_heads must be an integer"),
        (lambda: RelativeBias(0, 3), "num_heads must be"),
        (lambda: RelativeBias(1, -1), "max_distance must be an integer of at least 0"),
        (lambda: AdaptiveSpan(0, 3, 1), "num_heads must be"),
        (lambda: AdaptiveSpan(1, 0, 1), "max_span must be an integer of at least 1"),
        (lambda: AdaptiveSpan(1, 3, 0), "ramp must be an integer of at least 1"),
        (lambda: AdaptiveSpan(1, 3, 1, span=3), "span must lie between 0 and 3, both excluded"),
        (lambda: AdaptiveSpan(1, 3, 1, span=0.0), "span must lie between"),
        (lambda: AdaptiveSpan(1, 3, 1, span=True), "span must lie between"),
        (lambda: LearnedMask(0, 3), "num_heads must be"),
        (lambda: LearnedMask(1, -1), "max_distance must be an integer of at least 0"),
        (lambda: LearnedMask(1, 1, future=-1), "future must be an integer of at least 0"),
        (lambda: LearnedMask(1, 0), "no gate to learn; max_distance or future must be above 0"),
        (lambda: LearnedMask(1, 1, gate=1.0), "gate must lie between 0 and 1, both excluded"),
        (lambda: LearnedMask(1, 1, gate=0.0), "gate must lie between"),
        (lambda: LearnedMask(1, 1, gate=True), "gate must lie between"),
        (lambda: LearnedMask(1, 1, gate="0.5"), "gate must lie between"),
        (lambda: LearnedMask(1, 1).open_distances(0), "threshold must lie between 0 and 1"),
        (lambda: LearnedMask(1, 1).harden(2, threshold=1.5), "threshold must lie between"),
        (lambda: LearnedMask(1, 1).harden(2, 1), "key_len=1 is below query_len=2"),
        (lambda: AdaptiveSpan(1, 3, 1).gates(2, 1), "key_len=1 is below query_len=2"),
    ],
)
def test_bad_input_is_told_what_was_needed(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# --- what is learned, where the truth is known


V, T = 12, 16


def questions(bias, steps, seed):
    drawn, batches = seeded(seed), []
    for _ in range(steps):
        ids = torch.randint(V, (48, T), generator=drawn)
        rows = [torch.multinomial(w, 48, True, generator=drawn).T for w in bias.softmax(dim=-1)]
        batches.append((ids, torch.stack([ids.gather(1, keys) for keys in rows], dim=1)))
    return batches


def learn(mask, bias, *, seed, price=0.0, steps=120):
    def loss(batch):
        ids, answers = batch
        guess = mask(T).softmax(dim=-1) @ one_hot(ids, V).float()[:, None]
        right = 0.99 * guess.gather(-1, answers[..., None]) + 0.01 / V
        paid = mask.penalty() if price else 0.0
        return -right.log().mean() + price * paid

    return train(mask, questions(bias, steps, seed), loss, learning_rate=0.1, progress=False)


def only(*distances):
    distance = torch.arange(T)[:, None] - torch.arange(T)
    is_open = torch.isin(distance, torch.tensor(distances))
    return torch.zeros(1, T, T).masked_fill(~is_open, -math.inf)


@pytest.mark.parametrize("seed", range(5))
def test_a_known_set_of_distances_is_recovered_exactly(seed):
    distances = [
        0,
        *sorted((torch.randperm(7, generator=seeded(seed)) + 1)[:2].tolist()),
    ]
    mask = LearnedMask(1, max_distance=8)
    learn(mask, only(*distances), seed=seed, price=0.01)
    assert mask.open_distances() == [distances]
    assert torch.equal(mask.harden(T), only(*distances).isneginf())


def test_known_slopes_are_found():
    distance = (torch.arange(T)[:, None] - torch.arange(T)).float()
    slopes = torch.tensor([0.8, 0.2])
    truth = (-slopes[:, None, None] * distance).masked_fill(distance < 0, -math.inf)
    decay = DistanceDecay(2)
    learn(decay, truth, seed=0, steps=200)
    assert decay.slopes.tolist() == pytest.approx(slopes.tolist(), abs=0.05)


def test_known_spans_are_found_and_a_price_can_hold_a_short_one_where_it_began():
    truth = torch.cat([only(*range(window)) for window in (2, 5, 8)])
    kept = {}
    for price, start in ((0.0, 5.0), (0.05, 5.0), (0.05, 10.0)):
        span = AdaptiveSpan(3, max_span=12, ramp=1, span=start)
        learn(span, truth, seed=0, price=price, steps=200)
        kept[price, start] = span.keys_kept()
    windows = torch.tensor([2, 5, 8])
    assert ((kept[0.0, 5.0] - windows).abs() <= 1).all()
    assert kept[0.05, 5.0][2] <= 6
    assert ((kept[0.05, 10.0] - windows).abs() <= 1).all()


def test_spans_start_where_they_are_told():
    assert AdaptiveSpan(2, max_span=12, ramp=1, span=9).spans.tolist() == pytest.approx([9, 9])
    assert AdaptiveSpan(2, max_span=12, ramp=1).spans.tolist() == pytest.approx([6, 6])


class Reader(nn.Module):
    def __init__(self, causal, gate):
        super().__init__()
        drawn = seeded(0)
        self.gpt = GPT(V, 8, causal=causal, d_model=24, num_heads=2, num_layers=1, generator=drawn)
        self.mask = LearnedMask(2, max_distance=3, future=2, gate=gate)

    def forward(self, ids):
        return self.gpt(ids, bias=self.mask(ids.shape[1]))

    def loss(self, ids):
        return cross_entropy(self(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())


@pytest.mark.parametrize("causal", [True, False])
def test_what_may_look_ahead_beats_the_entropy_and_the_gates_do_not_tell(causal):
    text = torch.randint(V, (200, 48, 8), generator=seeded(0))
    reader = Reader(causal, gate=0.05)
    loss = train(reader, text, reader.loss, learning_rate=1e-2, progress=False).last()
    assert reader.mask.open_distances() == [[0], [0]]
    report = check_causality(reader, text[0, :2])
    if causal:
        assert loss > math.log(V) - 0.03
        assert report.causal is True
    else:
        assert loss < math.log(V) / 3
        assert report.causal is False
        assert (report.first_leak.output, report.first_leak.input) == (0, 1)


@quick
@given(seed=seeds, gate=st.floats(0.01, 0.99))
def test_behind_the_hard_mask_the_future_gets_no_gradient(seed, gate):
    reader = Reader(causal=True, gate=gate)
    ids = torch.randint(V, (2, 8), generator=seeded(seed))
    reader.loss(ids).backward()
    gradient = reader.mask.logits.grad
    assert (gradient[:, :2] == 0).all()
    assert (gradient[:, 2:] != 0).all()
