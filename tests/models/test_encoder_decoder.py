"""Encoder and decoder: who sees what, against loops, PyTorch's own layers and the checker.

Three heads, a batch that differs from both lengths, every parameter drawn at random (biases and
norms too), and two vocabularies of different sizes: a mistake has nowhere to hide.
"""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from causal_lab.causality import check_cache, check_causality
from causal_lab.course.phrases import (
    decode_phrase,
    encode_phrases,
    generate_phrases,
    phrase_batches,
    phrase_vocabulary,
    split_phrases,
)
from causal_lab.course.training import train
from causal_lab.masks.rules import generate_causal_mask
from causal_lab.models.encoder_decoder import EncoderDecoder, Memory
from causal_lab.models.layers import Block, ForwardContext, MultiHeadAttention
from causal_lab.models.transformer import POSITIONS, Transformer
from tests.builders import assert_close, draw_ids, fill, randn, seeded

B, S, T, H, D = 2, 5, 7, 3, 12  # batch, source and target length, heads, d_model
SOURCE_WORDS, TARGET_WORDS, MAX_LENGTH, LAYERS = 11, 13, 12, 2
START, END = 1, 2
TRAINING = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
SIDES = pytest.mark.parametrize("side", ["left", "right"])
quick = partial(settings, deadline=None, derandomize=True)


def build(seed: int = 9, words=(SOURCE_WORDS, TARGET_WORDS), **options) -> EncoderDecoder:
    options = {"d_model": D, "num_heads": H, "num_layers": LAYERS, **options}
    return fill(EncoderDecoder(*words, MAX_LENGTH, **options), seed).eval()


def draw_pair(batch=B, source=S, target=T, seed=0) -> tuple[torch.Tensor, torch.Tensor]:
    return (
        draw_ids(batch, source, high=SOURCE_WORDS, seed=seed),
        draw_ids(batch, target, high=TARGET_WORDS, seed=seed + 1),
    )


def others(ids: torch.Tensor, high: int, seed: int = 5) -> torch.Tensor:
    """Give every place another id."""
    return (ids + 1 + draw_ids(*ids.shape, high=high - 1, seed=seed)) % high


def run(model, *ids, **options):
    """Run with the same dropout every time."""
    torch.manual_seed(3)
    return model(*ids, **options)


def pad(ids: torch.Tensor, real: list[int], side: str, length: int, high: int, seed: int = 7):
    """Keep so many real tokens of each row, and fill up with random ones that do not count."""
    padded = draw_ids(len(ids), length, high=high, seed=seed)
    padding = torch.ones(len(ids), length, dtype=torch.bool)
    for row, count in enumerate(real):
        place = slice(0, count) if side == "right" else slice(length - count, length)
        padded[row, place], padding[row, place] = ids[row, :count], False
    return padded, padding


class ForTarget(nn.Module):
    """Hold the source still, so that the target is the only input."""

    def __init__(self, model: EncoderDecoder, source: torch.Tensor, **options):
        super().__init__()
        self.model, self.source, self.options = model, source, options

    def forward(self, target: torch.Tensor) -> torch.Tensor:
        return self.model(self.source, target, **self.options)


class Joint(nn.Module):
    """Read source and target as one sequence; give what encoder and decoder make of it."""

    def __init__(self, model: EncoderDecoder, source_length: int):
        super().__init__()
        self.model, self.cut = model, source_length

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        memory = self.model.encode(ids[:, : self.cut])
        written = self.model.decoder.hidden_states(ids[:, self.cut :], memory=memory)
        return torch.cat([memory.encoded, written], dim=1)


# --- who sees what


@TRAINING
@pytest.mark.parametrize("cut", range(1, T))
def test_no_cut_of_the_targets_future_moves_its_past_by_one_bit(cut, training):
    model, (source, target) = build(dropout=0.2).train(training), draw_pair()
    changed = torch.cat([target[:, :cut], others(target, TARGET_WORDS)[:, cut:]], dim=1)
    moved = run(model, source, changed) - run(model, source, target)
    assert moved[:, :cut].abs().max() == 0
    assert (moved[:, cut:].abs().amax(dim=-1) > 0).all()


@pytest.mark.parametrize("place", range(S))
def test_every_output_moves_with_every_token_of_the_source(place):
    model, (source, target) = build(), draw_pair()
    changed = source.clone()
    changed[:, place] = others(source, SOURCE_WORDS)[:, place]
    assert ((model(changed, target) - model(source, target)).abs().amax(dim=-1) > 1e-5).all()


@TRAINING
@pytest.mark.parametrize("padded", [False, True])
def test_the_checker_finds_the_target_causal(padded, training):
    source, target = draw_pair()
    options = {}
    if padded:
        options["source_padding"] = torch.tensor([[False] * S, [True, False, False, True, True]])
    model = ForTarget(build(dropout=0.2), source, **options)
    check_causality(model, target, train=training).assert_causal()


def test_the_checker_finds_that_every_output_depends_on_the_whole_source():
    source, target = draw_pair(target=S)
    report = check_causality(build(), source, forward_kwargs={"target": target})
    assert report.causal is False
    assert (report.dependencies > 0).all()


@quick(max_examples=8)
@given(source=st.integers(1, 5), target=st.integers(1, 5), layers=st.integers(1, 2))
def test_as_one_sequence_it_is_a_prefix_mask(source, target, layers):
    model = build(words=(TARGET_WORDS, TARGET_WORDS), num_layers=layers)
    ids = draw_ids(1, source + target, high=TARGET_WORDS, seed=source)
    seen = check_causality(Joint(model, source), ids).dependencies > 0
    prefix = generate_causal_mask(source + target)
    prefix[:, :source] = False
    assert torch.equal(~seen, prefix)


def test_the_checker_finds_a_decoder_without_its_mask():
    model, (source, target) = build(), draw_pair()
    model.decoder.causal = False
    assert check_causality(ForTarget(model, source), target).causal is False


def test_the_weights_are_zero_exactly_where_nobody_may_look():
    model, (source, target) = build(), draw_pair()
    padding = torch.tensor([[False] * S, [False, False, True, True, True]])
    _, weights = model(source, target, source_padding=padding, need_weights=True)
    shapes = {name: [tuple(w.shape) for w in seen] for name, seen in weights.items()}
    assert shapes == {
        "encoder": LAYERS * [(B, H, S, S)],
        "decoder": LAYERS * [(B, H, T, T)],
        "cross": LAYERS * [(B, H, T, S)],
    }
    future = generate_causal_mask(T)
    hidden = {"encoder": padding[:, None, None], "cross": padding[:, None, None], "decoder": future}
    for name, seen in weights.items():
        for each in seen:
            assert_close(each.sum(-1), torch.ones(each.shape[:-1]), 1e-6)
            assert torch.equal(each == 0, hidden[name].expand(each.shape))


def test_asking_for_the_weights_changes_nothing():
    model, (source, target) = build(), draw_pair()
    logits, weights = model(source, target, need_weights=True)
    assert_close(logits, model(source, target))
    memory, within_source = model.encode(source, need_weights=True)
    assert_close(memory.encoded, model.encode(source).encoded)
    for ours, theirs in zip(within_source, weights["encoder"], strict=True):
        assert torch.equal(ours, theirs)


# --- padding


@SIDES
@pytest.mark.parametrize("extra", [0, 1, 4])
def test_padding_of_the_source_changes_nothing(extra, side):
    model, (source, target) = build(), draw_pair()
    real = [S, 2]
    padded, padding = pad(source, real, side, S + extra, SOURCE_WORDS)
    together = model(padded, target, source_padding=padding)
    for row, count in enumerate(real):
        alone = model(source[row : row + 1, :count], target[row : row + 1])
        assert_close(together[row : row + 1], alone)


@SIDES
def test_what_stands_in_the_padding_of_the_source_changes_not_one_bit(side):
    model, (source, target) = build(), draw_pair()
    one, padding = pad(source, [S, 2], side, S + 2, SOURCE_WORDS)
    other = torch.where(padding, others(one, SOURCE_WORDS), one)
    assert (one != other).sum() == padding.sum()
    before, after = (model(ids, target, source_padding=padding) for ids in (one, other))
    assert torch.equal(before, after)


@pytest.mark.parametrize("forgotten", ["encoder", "cross"])
def test_padding_must_be_blocked_in_both_places(forgotten):
    model, (source, target) = build(), draw_pair()
    padded, padding = pad(source, [S, 2], "right", S + 2, SOURCE_WORDS)
    right = model(padded, target, source_padding=padding)
    memory = model.encode(padded, padding if forgotten == "cross" else None)
    blocked = padding[:, None, None] if forgotten == "encoder" else None
    wrong = model.decoder(target, memory=replace(memory, blocked=blocked))
    assert ((wrong - right).abs().amax(dim=-1) > 1e-3).all()


@SIDES
def test_padding_of_the_target_changes_nothing(side):
    model, (source, target) = build(), draw_pair()
    real = [T, 3]
    padded, padding = pad(target, real, side, T + 2, TARGET_WORDS)
    together = model(source, padded, target_padding=padding)
    for row, count in enumerate(real):
        alone = model(source[row : row + 1], target[row : row + 1, :count])[0]
        assert_close(together[row][~padding[row]], alone)


@SIDES
def test_what_stands_in_the_padding_of_the_target_changes_not_one_bit(side):
    model, (source, target) = build(), draw_pair()
    one, padding = pad(target, [T, 3], side, T + 2, TARGET_WORDS)
    other = torch.where(padding, others(one, TARGET_WORDS), one)
    before, after = (model(source, ids, target_padding=padding) for ids in (one, other))
    assert torch.equal(before[~padding], after[~padding])


# --- cross-attention, against a loop and PyTorch's own


def loop_cross_attention(layer, x, context, padding):
    """Compute in 64 bits, one head, one query, one key at a time."""
    x, context = x.double(), context.double()
    dim = x.shape[-1] // layer.num_heads

    def project(projection, tokens, head):
        rows = slice(head * dim, (head + 1) * dim)
        return tokens @ projection.weight.double()[rows].T + projection.bias.double()[rows]

    output = torch.zeros_like(x)
    for b in range(len(x)):
        for head in range(layer.num_heads):
            q = project(layer.query_projection, x[b], head)
            k = project(layer.key_projection, context[b], head)
            v = project(layer.value_projection, context[b], head)
            for t in range(x.shape[1]):
                total, mixed = 0.0, torch.zeros(dim, dtype=torch.float64)
                for s in range(context.shape[1]):
                    if not padding[b, s]:
                        weight = math.exp(float(q[t] @ k[s]) / math.sqrt(dim))
                        total, mixed = total + weight, mixed + weight * v[s]
                output[b, t, head * dim : (head + 1) * dim] = mixed / total
    return (
        output @ layer.output_projection.weight.double().T + layer.output_projection.bias.double()
    )


PADDING = torch.tensor([[False] * S, [True, False, False, True, True]])


@torch.no_grad()
@pytest.mark.parametrize("need_weights", [True, False])
def test_cross_attention_is_what_a_loop_computes(need_weights):
    layer = fill(MultiHeadAttention(D, H)).eval()
    x, context = randn(B, T, D), randn(B, S, D, seed=1)
    output, weights = layer(
        x, layer.read(context), blocked=PADDING[:, None, None], need_weights=need_weights
    )
    assert_close(output.double(), loop_cross_attention(layer, x, context, PADDING), 1e-5)
    assert (weights is not None) is need_weights


@TRAINING
@pytest.mark.parametrize("need_weights", [True, False])
def test_read_and_look_are_the_two_halves_of_attention_with_a_context(need_weights, training):
    layer = fill(MultiHeadAttention(D, H, dropout=0.3)).train(training)
    x, context = randn(B, T, D), randn(B, S, D, seed=1)
    options = {"blocked": PADDING[:, None, None], "need_weights": need_weights}
    whole, seen = run(layer, x, context, **options)
    torch.manual_seed(3)
    output, weights = layer(x, layer.read(context), **options)
    assert_close(output, whole, 1e-6)
    if need_weights:
        assert_close(weights, seen, 1e-6)


def test_cross_attention_takes_over_pytorchs_weights():
    theirs = fill(nn.MultiheadAttention(D, H, batch_first=True)).eval()
    ours = MultiHeadAttention.from_torch(theirs)
    x, context = randn(B, T, D), randn(B, S, D, seed=1)
    expected, weights = theirs(
        x, context, context, key_padding_mask=PADDING, average_attn_weights=False
    )
    output, seen = ours(x, ours.read(context), blocked=PADDING[:, None, None])
    assert_close(output, expected)
    assert_close(seen, weights, 1e-6)


def copy_block(theirs, ours: nn.Module) -> None:
    """Put the weights of PyTorch's encoder or decoder layer into a block of ours."""
    attentions = {"attention": theirs.self_attn}
    norms = {"attention_norm": theirs.norm1, "mlp_norm": theirs.norm2}
    if hasattr(ours, "cross_attention"):
        attentions["cross_attention"] = theirs.multihead_attn
        norms |= {"cross_norm": theirs.norm2, "mlp_norm": theirs.norm3}
    for name, attention in attentions.items():
        layer = getattr(ours, name)
        layer.load_state_dict(type(layer).from_torch(attention).state_dict())
    for name, norm in norms.items():
        getattr(ours, name).load_state_dict(norm.state_dict())
    ours.mlp[0].load_state_dict(theirs.linear1.state_dict())
    ours.mlp[2].load_state_dict(theirs.linear2.state_dict())


TORCH = {
    "dim_feedforward": 20,
    "dropout": 0.0,
    "activation": partial(F.gelu, approximate="tanh"),
    "batch_first": True,
    "norm_first": True,
}


@pytest.mark.parametrize("norm_first", [True, False], ids=["pre-norm", "post-norm"])
def test_a_block_is_pytorchs_decoder_layer(norm_first):
    options = TORCH | {"norm_first": norm_first}
    theirs = fill(nn.TransformerDecoderLayer(D, H, **options)).eval()
    ours = Block(D, H, mlp_size=20, norm_first=norm_first, cross=True).eval()
    copy_block(theirs, ours)
    x, context = randn(B, T, D), randn(B, S, D, seed=1)
    expected = theirs(x, context, tgt_mask=generate_causal_mask(T), memory_key_padding_mask=PADDING)
    keys_values = (ours.cross_attention.read(context),)
    memory = Memory(PADDING[:, None, None], keys_values=keys_values)
    output = ours(x, ctx=ForwardContext(generate_causal_mask(T), memory=memory))
    assert_close(output, expected)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_the_whole_model_is_pytorchs_transformer_between_the_tables():
    layers = {"num_encoder_layers": LAYERS, "num_decoder_layers": LAYERS}
    theirs = fill(nn.Transformer(D, H, **layers, **TORCH)).eval()
    ours, (source, target) = build(mlp_size=20), draw_pair()
    parts = ((ours.encoder, theirs.encoder), (ours.decoder, theirs.decoder))
    for mine, part in parts:
        for block, layer in zip(mine.blocks, part.layers, strict=True):
            copy_block(layer, block)
        mine.final_norm.load_state_dict(part.norm.state_dict())
    x, y = (
        part.token_embedding(ids) + part.position.table.weight[: ids.shape[1]]
        for part, ids in ((ours.encoder, source), (ours.decoder, target))
    )
    right = torch.zeros(B, S, dtype=torch.bool)
    right[1, 3:] = True  # on the right, where padding moves no position
    hidden = theirs(
        x,
        y,
        tgt_mask=generate_causal_mask(T),
        src_key_padding_mask=right,
        memory_key_padding_mask=right,
    )
    expected = hidden @ ours.decoder.token_embedding.weight.T
    assert_close(ours(source, target, source_padding=right), expected)


# --- translating


def greedy(model, source, most, pad_id=0):
    """Write without a cache: read everything again for every token, one text at a time."""
    rows = []
    for text in source:
        row, logits = [START], []
        while len(row) <= most and row[-1] != model.end_id:
            logits.append(model(text[None], torch.tensor([row]))[0, -1])
            row.append(int(logits[-1].argmax()))
        rows.append((row[1:], torch.stack(logits)))
    return rows


def translator() -> EncoderDecoder:
    """Build a model that ends some of its texts sooner than others."""
    return build(3, end_id=10)


SOURCES = draw_ids(6, S, high=SOURCE_WORDS, seed=20)
REAL = [S, 2, 3, 1, 4, S]


@torch.no_grad()
@SIDES
def test_translating_with_a_cache_writes_what_the_slow_loop_writes(side):
    model = translator()
    padded, padding = pad(SOURCES, REAL, side, S + 1, SOURCE_WORDS)
    written = model.translate(padded, padding, max_new_tokens=10, pad_id=4)
    lengths = set()
    for row, (text, count) in enumerate(zip(SOURCES, REAL, strict=True)):
        [(expected, _)] = greedy(model, text[None, :count], 10)
        lengths.add(len(expected))
        assert written[row].tolist() == expected + [4] * (written.shape[1] - len(expected))
    assert len(lengths) > 2, "the texts should end at different steps, or this tests too little"
    assert written.shape[1] == max(lengths)
    assert min(lengths) < 10


@torch.no_grad()
def test_the_logits_of_every_step_are_those_of_one_pass():
    model, (source, target) = translator(), draw_pair(batch=3, target=MAX_LENGTH)
    padding = torch.tensor([[False] * S, [True] + [False] * (S - 1), [False] * 2 + [True] * 3])
    full = model(source, target, source_padding=padding)
    memory, cache = model.encode(source, padding), model.decoder.new_cache(3)
    for t in range(MAX_LENGTH):
        step = model.decoder(target[:, t : t + 1], memory=memory, cache=cache)
        assert_close(step[:, 0], full[:, t])


@quick(max_examples=10)
@given(
    source=st.integers(1, 6),
    chunks=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    batch=st.integers(1, 3),
)
@torch.no_grad()
def test_chunks_of_any_size_give_the_logits_of_one_pass(source, chunks, batch):
    model, pair = build(), draw_pair(batch, source, sum(chunks))
    memory, cache = model.encode(pair[0]), model.decoder.new_cache(batch)
    parts = [model.decoder(ids, memory=memory, cache=cache) for ids in pair[1].split(chunks, dim=1)]
    assert_close(torch.cat(parts, dim=1), model(*pair))


@torch.no_grad()
def test_the_checker_of_caches_agrees():
    model, (source, target) = build(), draw_pair()

    def step(chunk, state):
        if state is None:
            state = model.encode(source), model.decoder.new_cache(len(chunk))
        memory, cache = state
        return model.decoder(chunk, memory=memory, cache=cache), state

    check_cache(step, target, full=ForTarget(model, source)).assert_same()


@torch.no_grad()
def test_padding_in_a_cached_pass_is_remembered():
    model, (source, target) = build(), draw_pair()
    padding = torch.zeros(B, T, dtype=torch.bool)
    padding[1, :2] = True
    memory, cache = model.encode(source), model.decoder.new_cache(B)
    first = model.decoder(target[:, :4], padding[:, :4], memory=memory, cache=cache)
    second = model.decoder(target[:, 4:], memory=memory, cache=cache)
    full = model(source, target, target_padding=padding)
    assert_close(torch.cat([first, second], dim=1)[~padding], full[~padding])


def test_the_source_is_read_once_and_every_step_reads_one_token(monkeypatch):
    model, calls = translator(), {"read": [], "encoder": [], "widths": []}

    def count(place, name, note, width):
        original = getattr(place, name)

        def counted(tokens, *args, **kwargs):
            calls[note].append(width(tokens))
            return original(tokens, *args, **kwargs)

        monkeypatch.setattr(place, name, counted)

    for number, block in enumerate(model.decoder.blocks):
        count(block.cross_attention, "read", "read", lambda _, number=number: number)
    count(model.encoder, "hidden_states", "encoder", len)
    count(model.decoder, "forward", "widths", lambda ids: ids.shape[1])
    written = model.translate(SOURCES)
    assert (calls["read"], calls["encoder"]) == (list(range(LAYERS)), [len(SOURCES)])
    assert calls["widths"] == [1] * written.shape[1]


@pytest.mark.parametrize(("most", "capacity"), [(None, MAX_LENGTH), (4, 4)])
def test_the_cache_is_no_larger_than_what_may_be_written(monkeypatch, most, capacity):
    model, made = build(), []
    new_cache = model.decoder.new_cache

    def noted(*args):
        made.append(new_cache(*args))
        return made[-1]

    monkeypatch.setattr(model.decoder, "new_cache", noted)
    model.translate(SOURCES, max_new_tokens=most)
    assert [cache.capacity for cache in made] == [capacity]


def test_translating_stops_as_soon_as_every_text_has_ended():
    model = build()
    with torch.no_grad():  # every row of the head but the end token's looks the other way
        model.decoder.final_norm.weight.zero_()
        model.decoder.final_norm.bias.fill_(1.0)
        model.decoder.token_embedding.weight.fill_(-1.0)
        model.decoder.token_embedding.weight[END] = 1.0
    assert model.translate(SOURCES).tolist() == [[END]] * 6


def test_translating_writes_at_most_what_it_is_told_and_at_most_what_the_model_reads():
    model = build()
    with torch.no_grad():
        model.decoder.token_embedding.weight[END] = -model.decoder.token_embedding.weight.sum(0)
        model.decoder.final_norm.weight.zero_()
        model.decoder.final_norm.bias.copy_(model.decoder.token_embedding.weight[5])
    assert model.translate(SOURCES).shape == (6, MAX_LENGTH)
    assert model.translate(SOURCES, max_new_tokens=3).shape == (6, 3)


def test_every_parameter_is_used():
    model = build(token_types=2)
    model.loss(*draw_pair()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_translating_carries_no_gradients_and_leaves_the_model_as_it_was():
    model = build()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert not model.translate(SOURCES).requires_grad
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not model.training


# --- positions of every kind, norms before and after


EVERY_KIND = pytest.mark.parametrize(
    "options", [{"position": p, "norm_first": n} for p in POSITIONS for n in (True, False)], ids=str
)


@EVERY_KIND
@torch.no_grad()
def test_writing_with_a_cache_is_one_pass_however_places_are_told(options):
    model, (source, target) = build(3, end_id=10, **options), draw_pair(batch=3)
    padding = torch.tensor([[False] * S, [True] + [False] * (S - 1), [False] * 2 + [True] * 3])
    full = model(source, target, source_padding=padding)
    memory, cache = model.encode(source, padding), model.decoder.new_cache(3)
    parts = [model.decoder(t, memory=memory, cache=cache) for t in target.split([3, 1, 1, 2], 1)]
    assert_close(torch.cat(parts, dim=1), full)
    written = model.translate(source, padding, max_new_tokens=6)
    for row, text in enumerate(source):
        [(expected, _)] = greedy(model, text[None, ~padding[row]], 6)
        assert written[row, : len(expected)].tolist() == expected


@EVERY_KIND
@TRAINING
@pytest.mark.parametrize("cut", range(1, T))
def test_the_targets_future_moves_nothing_however_places_are_told(cut, training, options):
    model, (source, target) = build(dropout=0.2, **options).train(training), draw_pair()
    changed = torch.cat([target[:, :cut], others(target, TARGET_WORDS)[:, cut:]], dim=1)
    moved = run(model, source, changed) - run(model, source, target)
    assert moved[:, :cut].abs().max() == 0
    assert (moved[:, cut:].abs().amax(dim=-1) > 0).all()


# --- the loss


@SIDES
def test_the_loss_is_the_mean_over_real_questions(side):
    model, (source, target) = build().requires_grad_(False), draw_pair()
    real = [T, 4]
    padded, padding = pad(target, real, side, T + 2, TARGET_WORDS)
    logs = []
    for row, count in enumerate(real):
        logits = model(source[row : row + 1], target[row : row + 1, :count]).double()[0]
        for t in range(count - 1):
            logs.append(float(logits[t].logsumexp(0) - logits[t, target[row, t + 1]]))
    loss = model.loss(source, padded, target_padding=padding)
    assert len(logs) == 9
    assert loss.item() == pytest.approx(sum(logs) / len(logs), abs=1e-5)
    other = torch.where(padding, others(padded, TARGET_WORDS), padded)
    assert torch.equal(model.loss(source, other, target_padding=padding), loss)


def test_the_loss_hands_on_the_padding_of_the_source():
    model, (source, target) = build(), draw_pair()
    padded, padding = pad(source, [S, 2], "right", S + 2, SOURCE_WORDS)
    other = torch.where(padding, others(padded, SOURCE_WORDS), padded)
    first, second = (model.loss(ids, target, source_padding=padding) for ids in (padded, other))
    assert torch.equal(first, second)
    assert not torch.equal(model.loss(padded, target), model.loss(other, target))


def test_the_loss_without_padding_asks_every_position():
    model, (source, target) = build(), draw_pair()
    logits = model(source, target[:, :-1])
    expected = F.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten())
    assert_close(model.loss(source, target), expected, 1e-6)
    assert_close(model.loss(source.int(), target.int()), expected, 1e-6)


def test_the_loss_takes_all_that_translating_may_write():
    model, (source, target) = build(), draw_pair(target=MAX_LENGTH + 1)
    expected = F.cross_entropy(model(source, target[:, :-1]).flatten(0, 1), target[:, 1:].flatten())
    assert_close(model.loss(source, target), expected, 1e-6)


def test_the_loss_reaches_every_parameter():
    model, (source, target) = build(), draw_pair()
    model.loss(source, target).backward()
    silent = {
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().max() > 0
    }
    # A bias of the keys adds the same to every score of a query, which the softmax takes off.
    assert all(name.endswith("key_projection.bias") for name in silent)


# --- first weights


def test_the_generator_alone_decides_on_the_first_weights():
    def draw(seed, state):
        torch.manual_seed(state)
        options = {"d_model": D, "num_heads": H, "num_layers": LAYERS}
        generator = seeded(seed)
        before = torch.get_rng_state()
        model = EncoderDecoder(11, 13, MAX_LENGTH, generator=generator, **options)
        assert torch.equal(torch.get_rng_state(), before)
        return model.state_dict()

    one, again, other = draw(0, 1), draw(0, 2), draw(3, 1)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(
        one["decoder.blocks.0.cross_attention.query_projection.weight"],
        other["decoder.blocks.0.cross_attention.query_projection.weight"],
    )


def test_first_weights_of_the_cross_attention_are_those_of_the_other_attention():
    model = EncoderDecoder(11, 13, 8, d_model=96, generator=seeded(0))
    block = model.requires_grad_(False).decoder.blocks[1]
    for name in ("query_projection", "value_projection", "output_projection"):
        ours, other = (getattr(layer, name) for layer in (block.cross_attention, block.attention))
        assert_close(ours.weight.std() / other.weight.std(), torch.tensor(1.0), 0.03)
        assert ours.bias.abs().max() == 0


def test_options_reach_every_part():
    model = build(dropout=0.25, epsilon=1e-3, activation="none", mlp_size=20)
    found = {nn.LayerNorm: [], nn.Dropout: [], nn.GELU: [], MultiHeadAttention: []}
    for module in model.modules():
        for kind, modules in found.items():
            if isinstance(module, kind):
                modules.append(module)
    assert {norm.eps for norm in found[nn.LayerNorm]} == {1e-3}
    assert {dropout.p for dropout in found[nn.Dropout]} == {0.25}
    assert {layer.dropout for layer in found[MultiHeadAttention]} == {0.25}
    assert {gelu.approximate for gelu in found[nn.GELU]} == {"none"}
    assert [len(modules) for modules in found.values()] == [2 * 2 + 2 * 3 + 2, 2 + 4, 4, 2 + 4]


def test_it_counts_its_parameters():
    model = build()
    assert model.num_parameters == sum(p.numel() for p in model.parameters())
    assert model.max_length == MAX_LENGTH


# --- it learns


def test_it_learns_to_translate_phrases_that_it_never_saw():
    pairs = generate_phrases(max_adjectives=2)
    known, new = split_phrases(pairs, len(pairs) - 2000, seed=1)
    english, vietnamese = (phrase_vocabulary(side) for side in zip(*pairs, strict=True))
    batches = phrase_batches(known, english, vietnamese, batch_size=64, steps=150, seed=1)
    generator = seeded(1)
    model = EncoderDecoder(len(english), len(vietnamese), 12, num_layers=1, generator=generator)
    train(model, batches, lambda batch: model.loss(**batch), progress=False)
    texts, right = zip(*new[:500], strict=True)
    source, padding = encode_phrases(texts, english)
    said = [decode_phrase(row, vietnamese) for row in model.translate(source, padding)]
    assert sum(map(str.__eq__, said, right)) / len(right) > 0.95


# --- bad input


def memory_of(model, source=None) -> Memory:
    return model.encode(draw_pair()[0] if source is None else source)


def smaller() -> Transformer:
    return build(num_layers=1).decoder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source_vocabulary": 0}, "source_vocabulary must be an integer of at least 1, got 0"),
        ({"target_vocabulary": 2.5}, "target_vocabulary must be an integer of at least 1"),
        ({"max_length": 0}, "max_length must be an integer of at least 1"),
        ({"num_layers": 0}, "num_layers must be an integer of at least 1"),
        ({"num_heads": 5}, "d_model=12 is no multiple of num_heads=5"),
        ({"start_id": 13}, "start_id must lie between 0 and 12, got 13"),
        ({"end_id": -1}, "end_id must be an integer of at least 0, got -1"),
        ({"end_id": 13}, "end_id must lie between 0 and 12, got 13"),
        ({"end_id": 1}, "start_id and end_id must differ, both are 1"),
        ({"dropout": 1.5}, "dropout"),
        ({"activation": "relu"}, "activation must be"),
    ],
    ids=str,
)
def test_what_makes_no_model_is_told(options, message):
    sizes = {"source_vocabulary": 11, "target_vocabulary": 13, "max_length": 8}
    with pytest.raises(ValueError, match=message):
        EncoderDecoder(**{**sizes, "d_model": D, "num_heads": H, **options})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, s, t: m([[1]], t), "ids must be a tensor, got list"),
        (lambda m, s, t: m(s[0], t), r"ids must be integers of shape \(batch, length\)"),
        (lambda m, s, t: m(s, t.float()), "ids must be integers"),
        (lambda m, s, t: m(s + SOURCE_WORDS, t), "ids must lie between 0 and 10"),
        (lambda m, s, t: m(s, t + TARGET_WORDS), "ids must lie between 0 and 12"),
        (lambda m, s, t: m(s.repeat(1, 3), t), "15 tokens are more than max_length=12"),
        (lambda m, s, t: m(s[:1], t), "1 sources and 2 targets; every target needs its own"),
        (lambda m, s, t: m(s, t, source_padding=s), "padding must be a boolean tensor"),
        (lambda m, s, t: m(s, t, source_padding=t > 0), r"padding must have the shape of ids"),
        (lambda m, s, t: m(s, t, target_padding=s > 0), r"padding must have the shape of ids"),
        (
            lambda m, s, t: m.loss(s, t, target_padding=s > 0),
            r"target_padding must have the shape of its ids, \(2, 7\), got \(2, 5\)",
        ),
        (lambda m, s, t: m.loss(s, t, target_padding=[0]), "target_padding must be a boolean"),
        (
            lambda m, s, t: m.loss(s, torch.cat([t, t[:, :1] + TARGET_WORDS], dim=1)),
            "ids must lie between 0 and 12",
        ),
        (
            lambda m, s, t: m.encode(s, torch.tensor([[False] * S, [True] * S])),
            "a source is nothing but padding",
        ),
        (lambda m, s, t: m.loss(s, t[:, :1]), "a start token and one to ask for, got"),
        (lambda m, s, t: m.loss(s, [1, 2]), "target must be a tensor, got list"),
        (
            lambda m, s, t: m.loss(s, t, target_padding=torch.ones_like(t).bool()),
            "every target is padding",
        ),
        (lambda m, s, t: m.decoder(t, memory=s), "memory must come from encode"),
        (lambda m, s, t: m.decoder(t), r"memory must come from encode\(source\), got NoneType"),
        (
            lambda m, s, t: m.decoder(t, memory=memory_of(build(num_layers=1))),
            "the memory is for 1 layers, the decoder has 2",
        ),
        pytest.param(
            lambda m, s, t: m.decoder(t, memory=memory_of(build(num_heads=2))),
            "k must|must agree|memory",
        ),
        (
            lambda m, s, t: m.decoder(t, memory=memory_of(m), cache=smaller().new_cache(2)),
            r"the cache has \(layers",
        ),
        (
            lambda m, s, t: m.decoder(t, memory=memory_of(m), cache=m.decoder.new_cache(2, 4)),
            "7 new tokens do not fit",
        ),
        (lambda m, s, t: m.translate(s, max_new_tokens=13), "max_new_tokens=13 is more than max_l"),
        (lambda m, s, t: m.translate(s, max_new_tokens=0), "max_new_tokens must be an integer"),
        (lambda m, s, t: m.translate(s, pad_id=13), "pad_id must lie between 0 and 12"),
        (lambda m, s, t: m.translate("two cats"), "ids must be a tensor, got str"),
        pytest.param(
            lambda m, s, t: m.decoder.blocks[0].cross_attention.read(torch.zeros(1, D)),
            r"context must have shape \(batch, length, 12\)",
        ),
        (
            lambda m, s, t: m.decoder.blocks[0].cross_attention(
                torch.zeros(1, 2, 4), (torch.zeros(1, H, 2, 4), torch.zeros(1, H, 2, 4))
            ),
            r"x must have shape \(batch, length, 12\)",
        ),
        (
            lambda m, s, t: m.decoder.blocks[0].cross_attention(
                torch.zeros(1, 2, D),
                (torch.zeros(1, H, 3, 4), torch.zeros(1, H, 3, 4)),
                blocked=torch.zeros(2, 4).bool(),
            ),
            "blocked has shape",
        ),
    ],
)
def test_bad_input_is_told(call, message):
    model = build()
    with torch.no_grad(), pytest.raises(ValueError, match=message):
        call(model, *draw_pair())


def test_a_mask_that_does_not_fit_the_memory_is_told():
    model, (source, target) = build(), draw_pair()
    with torch.no_grad():
        wrong = replace(model.encode(source), blocked=torch.zeros(4, dtype=torch.bool))
        with pytest.raises(ValueError, match="blocked has shape"):
            model.decoder(target, memory=wrong)


REFUSED = {
    "no memory": {},
    "another number of sources": {"memory": lambda m: replace(m, encoded=m.encoded[:1])},
    "another number of layers": {"memory": lambda m: replace(m, keys_values=m.keys_values[:1])},
    "a mask that does not fit": {
        "memory": lambda m: replace(m, blocked=torch.zeros(4, dtype=torch.bool))
    },
}


@pytest.mark.parametrize("wrong", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("sliding", [{}, {"window": 12}], ids=["all", "window"])
@torch.no_grad()
def test_a_cache_that_refused_a_pass_is_as_before(sliding, wrong):
    model, (source, target) = build(), draw_pair()
    cache, memory = model.decoder.new_cache(B, **sliding), model.encode(source)
    model.decoder(target[:, :3], memory=memory, cache=cache)
    given = {name: change(memory) for name, change in wrong.items()}
    with pytest.raises(ValueError, match=r"memory|sources|blocked"):
        model.decoder(target[:, 3:], cache=cache, **given)
    assert cache.length == 3
    after = model.decoder(target[:, 3:], memory=memory, cache=cache)
    assert_close(after, model(source, target)[:, 3:])
