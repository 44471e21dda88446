"""The door: what does not fit is told how to, and changes nothing."""

import re

import pytest
import torch
from torch import nn

from causal_lab.masks.rules import (
    generate_causal_logit_mask,
    generate_causal_mask,
)
from causal_lab.models.cache import KVCache
from causal_lab.models.encoder_decoder import EncoderDecoder
from causal_lab.models.layers import Block, MultiHeadAttention
from causal_lab.models.transformer import BERT, GPT, POSITIONS, Transformer
from tests.builders import (
    MAX_LENGTH,
    VOCABULARY,
    D,
    H,
    assert_close,
    build,
    draw_ids,
    randn,
)
from tests.models.test_layers import Concatenated, Forgets
from tests.models.test_position import every_position, model_of, some_ids

B, T = 2, 7  # batch, length

NORMS = pytest.mark.parametrize("norm_first", [True, False], ids=["pre-norm", "post-norm"])

MODELS = pytest.mark.parametrize("model_class", [GPT, BERT])


NEED_WEIGHTS = pytest.mark.parametrize("need_weights", [True, False], ids=["weights", "fused"])

FAR = torch.device("meta")


@pytest.mark.parametrize(("model_class", "options"), [(BERT, {}), (GPT, {"causal": False})])
def test_what_is_not_causal_has_none(model_class, options):
    model = build(model_class, **options)
    message = "cannot use a cache: what it makes of old tokens changes with every new one"
    with pytest.raises(ValueError, match=message):
        model.new_cache(1)
    with pytest.raises(ValueError, match=message):
        model(draw_ids(B, T), cache=build().new_cache(B))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch": 1, "sinks": 1}, "sinks need a window; without one, every token is remembered"),
        ({"batch": 1, "capacity": 4, "window": 3}, "a window needs no capacity"),
        ({"batch": 0}, "batch must be an integer of at least 1"),
        ({"batch": True}, "batch must be an integer of at least 1"),
        ({"batch": 1, "capacity": 0}, "capacity must be an integer of at least 1"),
        ({"batch": 1, "capacity": 2.5}, "capacity must be an integer of at least 1"),
        ({"batch": 1, "window": 0}, "window must be an integer of at least 1"),
        ({"batch": 1, "window": True}, "window must be an integer of at least 1"),
        ({"batch": 1, "window": 3, "sinks": -1}, "sinks must be an integer of at least 0"),
        ({"batch": 1, "window": 3, "sinks": 1.0}, "sinks must be an integer of at least 0"),
    ],
)
def test_a_new_cache_says_what_it_needs(arguments, message):
    with pytest.raises(ValueError, match=message):
        build().new_cache(**arguments)


@pytest.mark.parametrize(
    ("blocked", "message"),
    [
        (torch.zeros(T, T), r"blocked must be a boolean.*\.bool\(\)"),
        (generate_causal_logit_mask(T), "from_additive"),
        ([[True]], "blocked must be a boolean tensor, got list"),
        (torch.zeros(B, 1, T, dtype=torch.bool), r"does not broadcast.*\(query, key\)"),
        (torch.zeros(2 * B, H, T, T, dtype=torch.bool), "does not broadcast"),
    ],
    ids=["numbers", "additive", "list", "per text", "enlarging"],
)
@MODELS
def test_a_mask_that_does_not_fit_is_told_how_to(model_class, blocked, message):
    with pytest.raises(ValueError, match=message):
        build(model_class)(draw_ids(B, T), blocked=blocked)


@pytest.mark.parametrize(
    ("blocked", "message"),
    [
        (torch.zeros(T - 2, T, dtype=torch.bool), r"does not broadcast.*\(query, key\)"),
        (torch.zeros(T, T, dtype=torch.bool, device="meta"), r'blocked\.to\("cpu"\)'),
    ],
    ids=["another length", "elsewhere"],
)
@MODELS
def test_so_is_one_that_cannot_be_joined_with_the_models_own(model_class, blocked, message):
    with pytest.raises(ValueError, match=message):
        build(model_class)(draw_ids(B, T), blocked=blocked)


# --- what is refused


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"num_heads": 0}, "num_heads must be an integer of at least 1, got 0"),
        ({"num_heads": 5}, "d_model=12 is no multiple of num_heads=5"),
        ({"d_model": 0}, "d_model must be an integer of at least 1, got 0"),
        ({"num_layers": 0}, "num_layers must be an integer of at least 1, got 0"),
        ({"num_layers": True}, "num_layers must be an integer of at least 1, got True"),
        ({"mlp_size": 0}, "mlp_size must be an integer of at least 1, got 0"),
        ({"token_types": -1}, "token_types must be an integer of at least 0, got -1"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
        ({"dropout": -0.1}, "dropout probability has to be between 0 and 1"),
        ({"causal": 1}, "causal must be True or False, got 1"),
        ({"causal": None}, "causal must be True or False, got None"),
        ({"causal": "no"}, "causal must be True or False, got 'no'"),
    ],
    ids=str,
)
@MODELS
def test_an_option_out_of_range_is_refused(model_class, options, advice):
    with pytest.raises(ValueError, match=re.escape(advice)):
        build(model_class, **options)


@pytest.mark.parametrize("d_model", [-4, 8.0, "8"])
@pytest.mark.parametrize("make", [build, lambda d_model: Block(d_model, 2)])
def test_a_d_model_that_is_no_size_is_refused(make, d_model):
    with pytest.raises(ValueError, match="d_model must be an integer of at least 1"):
        make(d_model=d_model)


def test_an_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="activation"):
        Block(D, H, activation="relu")


@pytest.mark.parametrize("size", [0, -1, 2.0, True, "2", None])
@MODELS
def test_sizes_that_are_no_sizes_are_refused(model_class, size):
    with pytest.raises(ValueError, match="vocabulary_size must be an integer of at least 1"):
        model_class(size, 8)
    with pytest.raises(ValueError, match="max_length must be an integer of at least 1"):
        model_class(8, size)


def test_a_mask_that_is_no_token_is_refused():
    with pytest.raises(ValueError, match="mask_id must lie between 0 and 12, got 13"):
        build(BERT, mask_id=VOCABULARY)
    with pytest.raises(ValueError, match="mask_id must be an integer of at least 0, got -1"):
        build(BERT, mask_id=-1)


@pytest.mark.parametrize(
    ("ids", "advice"),
    [
        ([[1, 2]], "ids must be a tensor, got list; try torch.tensor(ids)"),
        (draw_ids(B, T)[0], "one sequence becomes a batch with .unsqueeze(0)"),
        (
            draw_ids(B, T).float(),
            "ids must be integers of shape (batch, length), got a torch.float32",
        ),
        (draw_ids(B, T).bool(), "ids must be integers of shape (batch, length), got a torch.bool"),
        (draw_ids(B, T)[:, :0], "ids must be integers of shape (batch, length)"),
        (draw_ids(B, T)[:0], "ids must be integers of shape (batch, length)"),
        (draw_ids(B, T) - VOCABULARY, "ids must lie between 0 and 12"),
        (draw_ids(B, T) + VOCABULARY, "ids must lie between 0 and 12"),
        (torch.tensor([[0, VOCABULARY]]), "ids must lie between 0 and 12"),
        (torch.tensor([[0, -1]]), "ids must lie between 0 and 12"),
        (
            draw_ids(1, MAX_LENGTH + 1),
            "13 tokens are more than max_length=12; cut the sequence or build the model with a "
            "larger max_length",
        ),
    ],
)
@MODELS
def test_ids_that_cannot_be_read_are_refused(model_class, ids, advice):
    model = build(model_class)
    for read in (model, model.hidden_states):
        with pytest.raises(ValueError, match=re.escape(advice)):
            read(ids)


@MODELS
def test_padding_that_does_not_fit_is_refused(model_class):
    model, ids = build(model_class), draw_ids(B, T)
    with pytest.raises(ValueError, match=r"padding must be a boolean tensor.*\.bool\(\)"):
        model(ids, padding=torch.zeros_like(ids))
    for shape in ((T,), (B, T - 1), (1, T)):
        advice = f"padding must have the shape of ids, (2, 7), got {shape}"
        with pytest.raises(ValueError, match=re.escape(advice)):
            model(ids, padding=torch.zeros(shape, dtype=torch.bool))


@pytest.mark.parametrize("length", [0, -1, 2.0])
def test_a_mask_of_no_length_is_refused(length):
    with pytest.raises(ValueError, match="must be an integer of at least 1"):
        build(GPT).blocked(length)


@pytest.mark.parametrize("length", [0, -1, 2.0])
def test_a_mask_of_no_length_is_refused_without_a_causal_mask_too(length):
    with pytest.raises(ValueError, match="must be an integer of at least 1"):
        build(BERT).blocked(length)


def test_one_token_has_no_next():
    with pytest.raises(ValueError, match="needs at least two tokens per sequence"):
        build().loss(draw_ids(B, 1))


def test_a_loss_with_nothing_hidden_is_refused():
    with pytest.raises(ValueError, match="nothing is hidden, so there is nothing to ask for"):
        build(BERT).loss(draw_ids(B, T), torch.zeros(B, T, dtype=torch.bool))


def test_hidden_places_that_do_not_fit_are_refused():
    model, ids = build(BERT), draw_ids(B, T)
    for ask in (model.hide, model.loss):
        with pytest.raises(ValueError, match=r"hidden must be a boolean tensor.*\.bool\(\)"):
            ask(ids, torch.ones_like(ids))
        with pytest.raises(ValueError, match=r"hidden must have the shape of ids, \(2, 7\)"):
            ask(ids, torch.ones(T, dtype=torch.bool))


def test_ids_that_are_a_list_have_no_loss():
    with pytest.raises(ValueError, match="ids must be a tensor"):
        build(GPT).loss([[1, 2]])


def test_ids_that_are_a_list_cannot_be_hidden():
    with pytest.raises(ValueError, match="ids must be a tensor"):
        build(BERT).hide([[1, 2]], torch.ones(1, 2, dtype=torch.bool))


@pytest.mark.parametrize(
    ("x", "blocked", "advice"),
    [
        (torch.zeros(T, D), None, "x must have shape (batch, length, 12)"),
        (torch.zeros(B, T, D - 1), None, "x must have shape (batch, length, 12)"),
        (torch.zeros(B, T, D, dtype=torch.int64), None, "x must be a floating tensor"),
        (torch.zeros(B, T, D), torch.zeros(T, T), "blocked must be a boolean tensor"),
        (torch.zeros(B, T, D), generate_causal_mask(T - 1), "does not broadcast to the scores'"),
    ],
)
def test_a_block_refuses_what_does_not_fit(x, blocked, advice):
    # Post-norm: a layer norm before the attention has words of its own.
    with pytest.raises(ValueError, match=re.escape(advice)):
        Block(D, H, norm_first=False)(x, blocked)


def test_a_bias_that_does_not_fit_is_told():
    model = GPT(20, 8, d_model=12, num_heads=3)
    with pytest.raises(ValueError, match="bias"):
        model(torch.zeros(1, 4, dtype=torch.long), bias=torch.zeros(5, 5))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"position": "rope"}, "position must be one of learned, none"),
        ({"position": None}, "position must be one of"),
        ({"position": "rotary", "d_model": 15}, "multiple of 2 · num_heads = 6"),
        ({"position": "sinusoidal", "d_model": 15}, "even d_model"),
        ({"position": "rotary", "num_heads": 0}, "num_heads"),
    ],
)
def test_a_position_that_cannot_be_is_told(options, message):
    with pytest.raises(ValueError, match=message):
        GPT(30, 40, **({"d_model": 24, "num_heads": 3} | options))


@every_position
@pytest.mark.parametrize(
    ("positions", "message"),
    [
        (
            torch.arange(6),
            r"must have shape \(1, 6\), shared by all texts, or \(2, 6\), got \(6,\)",
        ),
        (torch.zeros(2, 5, dtype=torch.long), r"or \(2, 6\), got \(2, 5\)"),
        (torch.zeros(3, 6, dtype=torch.long), r"or \(2, 6\), got \(3, 6\)"),
        (torch.zeros(1, 1, 6, dtype=torch.long), r"got \(1, 1, 6\)"),
        ([[0, 1, 2, 3, 4, 5]], "positions must be a tensor, got list"),
        (torch.zeros(1, 6, device="meta"), "positions lives on meta, ids on cpu"),
    ],
    ids=["no texts", "too short", "other texts", "an axis more", "list", "elsewhere"],
)
def test_positions_that_do_not_fit_are_told(position, positions, message):
    model, ids = model_of(position), some_ids(2, 6)
    with pytest.raises(ValueError, match=message):
        model(ids, positions=positions)


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        (torch.arange(6.0)[None], "must be integers, got a torch.float32 tensor"),
        (torch.arange(-1, 5)[None], "must lie between 0 and 39.*no vector"),
        (torch.arange(35, 41)[None], "must lie between 0 and 39.*no vector"),
    ],
    ids=["between rows", "before", "beyond"],
)
def test_a_table_has_its_rows_and_no_others(positions, message):
    model, ids = model_of("learned"), some_ids(2, 6)
    with pytest.raises(ValueError, match=message):
        model(ids, positions=positions)
    model(ids, positions=torch.arange(34, 40, dtype=torch.int32)[None])


@every_position
@pytest.mark.parametrize(
    ("bias", "message"),
    [
        (torch.zeros(5, 5), r"bias has shape \(5, 5\) and does not broadcast.*\(2, 3, 6, 6\)"),
        (torch.zeros(4, 1, 6, 6), "does not broadcast"),
        (torch.zeros(6, 6).long(), "bias must be a floating tensor"),
        ([0.0], "bias must be a floating tensor, got list"),
    ],
    ids=["too small", "other texts", "integers", "list"],
)
def test_a_bias_that_does_not_fit_is_told_however_places_are(position, bias, message):
    with pytest.raises(ValueError, match=message):
        model_of(position)(some_ids(2, 6), bias=bias)


@pytest.mark.parametrize(
    ("d_model", "num_heads", "message"),
    [
        (7, 3, "d_model=7 is no multiple of num_heads=3"),
        (0, 1, "d_model must be an integer of at least 1"),
        (6, 0, "num_heads must be an integer of at least 1"),
        (6, -3, "num_heads must be an integer of at least 1"),
        (6, True, "num_heads must be an integer of at least 1"),
        (True, 1, "d_model must be an integer of at least 1"),
        (6.0, 3, "d_model must be an integer of at least 1"),
    ],
)
def test_a_layer_needs_heads_of_a_whole_size(d_model, num_heads, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        MultiHeadAttention(d_model, num_heads)


# --- what a layer is given by hand


@pytest.mark.parametrize("dropout", [-0.1, 1.0, 1.5, torch.nan, True, "0.1", None])
def test_dropout_is_a_share_below_1(dropout):
    with pytest.raises(ValueError, match=r"dropout must be .*at least 0 and below 1"):
        MultiHeadAttention(6, 3, dropout=dropout)


@pytest.mark.parametrize(
    "option", [{"kdim": 5}, {"vdim": 5}, {"add_bias_kv": True}, {"add_zero_attn": True}]
)
def test_from_torch_names_the_options_that_have_no_counterpart(option):
    with pytest.raises(ValueError, match=r"no kdim, vdim.*no add_bias_kv and no add_zero_attn"):
        MultiHeadAttention.from_torch(nn.MultiheadAttention(6, 3, **option))


def test_from_torch_wants_pytorchs_layer_and_no_other():
    with pytest.raises(ValueError, match=r"nn\.MultiheadAttention"):
        MultiHeadAttention.from_torch(nn.Linear(6, 6))


X = torch.zeros(B, T, D)

BAD_TOKENS = {
    "integers": (X.int(), r"x must be a floating tensor.*\.float\(\)"),
    "a list": ([[[0.0]]], "x must be a floating tensor"),
    "no batch": (X[0], r"x must have shape \(batch, length, 12\)"),
    "another size": (X[..., :-1], r"x must have shape \(batch, length, 12\)"),
    "no token": (X[:, :0], "no empty axis"),
    "no sequence": (X[:0], "no empty axis"),
    "another dtype": (X.double(), "dtype"),
    "elsewhere": (X.to(FAR), r'x lives on meta.*x\.to\("cpu"\)'),
}


@pytest.mark.parametrize(("x", "message"), BAD_TOKENS.values(), ids=BAD_TOKENS)
def test_a_layer_says_what_tokens_it_needs(x, message):
    with pytest.raises(ValueError, match=message):
        MultiHeadAttention(D, H)(x)


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (X.int(), "context must be a floating tensor"),
        (X[0], r"context must have shape \(batch, length, 12\)"),
        (X[..., :-1], r"context must have shape \(batch, length, 12\)"),
        pytest.param(
            X.repeat(2, 1, 1),
            "must agree in",
        ),
        (X.double(), "dtype"),
        (X.to(FAR), r'context lives on meta.*context\.to\("cpu"\)'),
    ],
)
@NEED_WEIGHTS
def test_a_context_that_does_not_fit_is_named(need_weights, context, message):
    with pytest.raises(ValueError, match=message):
        MultiHeadAttention(D, H)(X, context, need_weights=need_weights)


@NEED_WEIGHTS
def test_who_remembers_looks_at_no_context(need_weights):
    with pytest.raises(ValueError, match="leave out either it or context"):
        MultiHeadAttention(D, H)(X, X, cache=Forgets(), need_weights=need_weights)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocked": torch.zeros(T, T)}, r"blocked must be a boolean.*\.bool\(\)"),
        ({"blocked": torch.zeros(B, T).bool()}, r"\(query, key\).*\(batch, head\)"),
        ({"blocked": torch.zeros(T, T, device=FAR).bool()}, r'blocked\.to\("cpu"\)'),
        ({"bias": torch.zeros(T, T).bool()}, r"bias must be a floating.*\.float\(\)"),
        ({"bias": torch.zeros(T, T + 1)}, r"bias has shape.*\(query, key\)"),
    ],
)
@NEED_WEIGHTS
def test_a_layer_refuses_masks_and_biases_that_do_not_fit(need_weights, options, message):
    with pytest.raises(ValueError, match=message):
        MultiHeadAttention(D, H)(X, need_weights=need_weights, **options)


@pytest.mark.parametrize("name", ["blocked", "bias"])
@NEED_WEIGHTS
def test_a_layer_that_remembers_needs_masks_for_all_that_it_remembers(need_weights, name):
    layer, cache = MultiHeadAttention(D, H), Concatenated()
    layer(X, cache=cache)
    for_the_new_only = torch.zeros(T, T, dtype=torch.bool if name == "blocked" else torch.float32)
    with pytest.raises(ValueError, match=name + r" has shape.*\(query, key\)"):
        layer(X, cache=cache, need_weights=need_weights, **{name: for_the_new_only})


# --- token types


@MODELS
def test_a_model_without_types_is_given_none(model_class):
    model, ids = build(model_class), draw_ids(B, T)
    advice = "has no vectors for token types; build it with token_types=2, say, or leave them out"
    with pytest.raises(ValueError, match=advice):
        model(ids, token_types=torch.zeros_like(ids))


@pytest.mark.parametrize(
    ("types", "message"),
    [
        ([[0]], "token_types must be a tensor, got list"),
        (torch.zeros(T).long(), r"integers of the shape of ids, \(2, 7\), got .* \(7,\)"),
        (torch.zeros(1, T).long(), r"integers of the shape of ids, \(2, 7\), got .* \(1, 7\)"),
        (torch.zeros(B, T - 1).long(), r"shape of ids, \(2, 7\), got .* \(2, 6\)"),
        (torch.zeros(B, T), "token_types must be integers .*, got a torch.float32 tensor"),
        (torch.zeros(B, T).bool(), "token_types must be integers .*, got a torch.bool tensor"),
        (torch.zeros(B, T, device=FAR).long(), r'token_types lives on meta.*token_types\.to\("cpu'),
        (torch.full((B, T), 3), "token_types must lie between 0 and 2"),
        (torch.full((B, T), -1), "token_types must lie between 0 and 2"),
    ],
    ids=["list", "one text", "shared", "too short", "numbers", "flags", "elsewhere", "3", "-1"],
)
@MODELS
def test_token_types_that_do_not_fit_are_told(model_class, types, message):
    model, ids = build(model_class, token_types=3), draw_ids(B, T)
    for read in (model, model.hidden_states):
        with pytest.raises(ValueError, match=message):
            read(ids, token_types=types)
    every = draw_ids(B, T, seed=1, high=3)
    assert torch.equal(model(ids, token_types=every.int()), model(ids, token_types=every))


def test_token_types_beside_a_cache_are_those_of_the_new_tokens():
    model, ids, cache = started({}, token_types=3)
    with torch.no_grad(), pytest.raises(ValueError, match=r"shape of ids, \(2, 2\), got"):
        model(ids[:, 3:5], cache=cache, token_types=torch.zeros_like(ids[:, :5]))
    assert_as_before(model, cache, {}, token_types=3)


# --- a bias beside a cache, and a memory: what is refused leaves the cache as before


KINDS = {"all": {}, "window": {"window": 3, "sinks": 1}}
EVERY_KIND = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def started(kind: dict, **options) -> tuple[Transformer, torch.Tensor, KVCache]:
    """Read three tokens."""
    model, ids = build(**options), draw_ids(B, T)
    cache = model.new_cache(B, **kind)
    with torch.no_grad():
        model(ids[:, :3], cache=cache)
    return model, ids, cache


@torch.no_grad()
def assert_as_before(model, cache, kind, **options) -> None:
    """Go on as a cache does to which nothing happened."""
    _, ids, twin = started(kind, **options)
    assert cache.length == twin.length == 3
    for span in (slice(3, 4), slice(4, T)):
        assert torch.equal(model(ids[:, span], cache=cache), model(ids[:, span], cache=twin))


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("chunks", [(3, 1, 1, 2), (3, 4), (7,), (1, 6)], ids=str)
@pytest.mark.parametrize("padded", [True, False])
@torch.no_grad()
def test_the_keys_of_a_bias_count_the_cached_tokens(padded, chunks, position):
    model, ids = build(position=position), draw_ids(B, T)
    bias = randn(B, H, T, T, seed=2)
    padding = torch.zeros(B, T, dtype=torch.bool)
    padding[0, :2] = padded
    expected = model(ids, padding, bias=bias)
    assert (expected - model(ids, padding)).abs().max() > 1e-2
    cache, start = model.new_cache(B), 0
    for size in chunks:
        end = start + size
        span = slice(start, end)
        logits = model(ids[:, span], padding[:, span], bias=bias[:, :, span, :end], cache=cache)
        assert_close(logits[~padding[:, span]], expected[:, span][~padding[:, span]])
        start = end


# What a window holds of three tokens and what comes: one token replaces another, a chunk does not.
@pytest.mark.parametrize(("kind", "new", "keys"), [
    ({}, 1, 4),
    ({}, 2, 5),
    ({"window": 3, "sinks": 1}, 1, 4),
    ({"window": 3, "sinks": 1}, 2, 5),
    ({"window": 2}, 1, 2),
    ({"window": 2}, 3, 5),
], ids=str)  # fmt: skip
def test_a_bias_beside_a_cache_counts_what_the_cache_gives_back(kind, new, keys):
    for wrong in sorted({new, keys - 1, keys + 1, 7} - {1, keys}):
        model, ids, cache = started(kind)
        span = slice(3, 3 + new)
        advice = rf"bias has shape \({new}, {wrong}\) and does not broadcast.*{new}, {keys}\)"
        with torch.no_grad(), pytest.raises(ValueError, match=advice):
            model(ids[:, span], bias=torch.zeros(new, wrong), cache=cache)
        assert_as_before(model, cache, kind)
    model, ids, cache = started(kind)
    _, _, twin = started(kind)
    with torch.no_grad():
        told = model(ids[:, span], bias=torch.zeros(new, keys), cache=cache)
        assert_close(told, model(ids[:, span], cache=twin))
        even = torch.linspace(0, 9, keys).expand(new, keys)
        _, _, other = started(kind)
        moved = model(ids[:, span], bias=even, cache=other)
    assert (moved - told).abs().max() > 1e-2


@pytest.mark.parametrize("bias", [torch.zeros(2, 5).long(), [0.0], torch.zeros(2, 5, device=FAR)])
@EVERY_KIND
def test_a_bias_of_another_kind_leaves_the_cache_as_before(kind, bias):
    model, ids, cache = started(kind)
    with torch.no_grad(), pytest.raises(ValueError, match="bias"):
        model(ids[:, 3:5], bias=bias, cache=cache)
    assert_as_before(model, cache, kind)


@EVERY_KIND
def test_a_model_of_one_text_is_given_no_memory(kind):
    pair = EncoderDecoder(VOCABULARY, VOCABULARY, MAX_LENGTH, d_model=D, num_heads=H)
    memory = pair.encode(draw_ids(B, T))
    model, ids, cache = started(kind)
    advice = r"no block of this model looks at another text; build it with cross=True"
    for given in ({}, {"cache": cache}):
        with torch.no_grad(), pytest.raises(ValueError, match=advice):
            model(ids[:, 3:5], memory=memory, **given)
    assert_as_before(model, cache, kind)


def test_a_model_of_two_texts_needs_a_memory():
    model, ids = build(Transformer, causal=True, cross=True), draw_ids(B, T)
    cache = model.new_cache(B)
    for memory, found in ((None, "NoneType"), (ids, "a torch.int64 tensor"), ([], "list")):
        for given in ({}, {"cache": cache}):
            with (
                torch.no_grad(),
                pytest.raises(
                    ValueError, match=rf"memory must come from encode\(source\), got {found}"
                ),
            ):
                model(ids, memory=memory, **given)
    assert cache.length == 0
