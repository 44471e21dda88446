"""GPT and BERT: what one boolean changes, and what it must not.

Three heads, a batch that differs from the length, every parameter drawn at random (biases and
norms too): a mistake has nowhere to hide.
"""

import math
import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from causal_lab.causality import check_causality
from causal_lab.masks.rules import (
    block_future,
    generate_causal_mask,
    generate_sliding_window_mask,
    to_additive,
)
from causal_lab.models import transformer
from causal_lab.models.cache import KVCache
from causal_lab.models.layers import Block
from causal_lab.models.sliding_cache import SlidingKVCache
from causal_lab.models.transformer import BERT, GPT
from tests.builders import (
    LAYERS,
    MAX_LENGTH,
    VOCABULARY,
    D,
    H,
    assert_close,
    build,
    draw_ids,
    fill,
    randn,
    seeded,
)
from tests.models.test_layers import encoder_layer

B, T = 2, 7  # batch, length

NORMS = pytest.mark.parametrize("norm_first", [True, False], ids=["pre-norm", "post-norm"])

MODELS = pytest.mark.parametrize("model_class", [GPT, BERT])

TRAINING = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])


def other_future(ids: torch.Tensor, cut: int, seed: int = 1) -> torch.Tensor:
    """Change every id from the cut on, and none before it."""
    shift = 1 + draw_ids(*ids.shape, seed=seed, high=VOCABULARY - 1)
    changed = ids.clone()
    changed[:, cut:] = ((ids + shift) % VOCABULARY)[:, cut:]
    assert (changed != ids).sum() == ids[:, cut:].numel()
    return changed


def run(model, ids, **options):
    """Run with the same dropout every time."""
    torch.manual_seed(3)
    return model(ids, **options)


# --- the future


@TRAINING
@NORMS
@pytest.mark.parametrize("cut", range(1, T))
def test_no_cut_of_the_future_moves_the_past_of_gpt_by_one_bit(cut, norm_first, training):
    model = build(GPT, dropout=0.2, norm_first=norm_first).train(training)
    ids = draw_ids(B, T)
    before, after = run(model, ids), run(model, other_future(ids, cut))
    assert (after - before)[:, :cut].abs().max() == 0
    assert ((after - before)[:, cut:].abs().amax(dim=-1) > 0).all()


@TRAINING
@pytest.mark.parametrize("cut", range(1, T))
def test_every_cut_of_the_future_moves_every_past_position_of_bert(cut, training):
    model = build(BERT, dropout=0.2).train(training)
    ids = draw_ids(B, T)
    before, after = run(model, ids), run(model, other_future(ids, cut))
    assert ((after - before).abs().amax(dim=-1) > 0).all()


def test_gpt_in_bfloat16_does_not_see_the_future_either():
    model, ids = build(GPT).bfloat16(), draw_ids(B, T)
    for cut in range(1, T):
        moved = (model(other_future(ids, cut)) - model(ids)).abs().amax(dim=(0, 2))
        assert moved[:cut].max() == 0
        assert moved[cut] > 0


@pytest.mark.parametrize(
    ("model_class", "options", "causal"),
    [
        (GPT, {}, True),
        (GPT, {"dropout": 0.2}, True),
        (GPT, {"norm_first": False, "token_types": 2}, True),
        (BERT, {}, False),
        (BERT, {"head_transform": True}, False),
        (GPT, {"causal": False}, False),
        (BERT, {"causal": True}, True),
        (BERT, {"causal": True, "head_transform": True, "norm_first": False}, True),
    ],
    ids=str,
)
def test_the_checker_says_what_the_boolean_says(model_class, options, causal):
    model = build(model_class, **options)
    assert check_causality(model, draw_ids(B, T)).causal is causal


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_checker_finds_a_padded_gpt_causal(side):
    padding = torch.zeros(B, T, dtype=torch.bool)
    padding[0, :2] = side == "left"
    padding[0, -2:] = side == "right"
    options = {"padding": padding}
    assert check_causality(build(GPT), draw_ids(B, T), forward_kwargs=options).causal is True


# --- one boolean


@NORMS
def test_gpt_and_bert_have_the_same_parameters(norm_first):
    gpt, bert = build(GPT, norm_first=norm_first), build(BERT, norm_first=norm_first)
    shapes = [{k: v.shape for k, v in m.state_dict().items()} for m in (gpt, bert)]
    assert shapes[0] == shapes[1]
    assert gpt.num_parameters == bert.num_parameters


@pytest.mark.parametrize("mlp_size", [None, 20])
def test_the_parameters_are_those_counted_by_hand(mlp_size):
    inner = mlp_size or 4 * D
    tables = (VOCABULARY + MAX_LENGTH) * D
    block = 4 * (D * D + D) + (D * inner + inner) + (inner * D + D) + 2 * 2 * D
    expected = tables + LAYERS * block + 2 * D
    assert build(GPT, mlp_size=mlp_size).num_parameters == expected
    assert build(GPT, mlp_size=mlp_size, token_types=2).num_parameters == expected + 2 * D
    assert build(BERT, mlp_size=mlp_size, head_transform=True).num_parameters == (
        expected + D * D + D + 2 * D + VOCABULARY
    )
    post_norm = build(BERT, mlp_size=mlp_size, norm_first=False)  # one norm at the other end
    assert post_norm.num_parameters == expected


@NORMS
def test_with_the_same_weights_and_the_same_boolean_gpt_is_bert(norm_first):
    gpt, ids = build(GPT, seed=1, norm_first=norm_first), draw_ids(B, T)
    bert = build(BERT, seed=2, norm_first=norm_first)
    bert.load_state_dict(gpt.state_dict())
    assert not torch.equal(bert(ids), gpt(ids))
    for causal in (True, False):
        twins = [build(c, seed=3, norm_first=norm_first, causal=causal) for c in (GPT, BERT)]
        for twin in twins:
            twin.load_state_dict(bert.state_dict())
        assert torch.equal(twins[0](ids), twins[1](ids))
        assert torch.equal(twins[0](ids), gpt(ids) if causal else bert(ids))


def test_the_last_position_of_one_block_cannot_tell_gpt_from_bert():
    gpt, bert = build(GPT, num_layers=1), build(BERT, num_layers=1)
    bert.load_state_dict(gpt.state_dict())
    ids = draw_ids(B, T)
    difference = (gpt(ids) - bert(ids)).abs().amax(dim=(0, 2))
    assert difference[-1] < 1e-5
    assert (difference[:-1] > 1e-3).all()


# --- the mask


def blocked_by_loop(causal, length, padding=None):
    return [
        [
            [
                (causal and key > query) or (padding is not None and bool(padding[b, key]))
                for key in range(length)
            ]
            for query in range(length)
        ]
        for b in range(B)
    ]


@pytest.mark.parametrize("length", [1, 2, T])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("causal", [True, False])
@MODELS
def test_blocked_is_the_loop_over_queries_and_keys(model_class, causal, padded, length):
    padding = draw_ids(B, length, seed=4, high=2).bool() if padded else None
    blocked = build(model_class, causal=causal).blocked(length, padding)
    if blocked is None:
        assert not causal
        assert not padded
        return
    whole = blocked.broadcast_to(B, H, length, length)
    for head in range(H):
        assert whole[:, head].tolist() == blocked_by_loop(causal, length, padding)


@pytest.mark.parametrize("padded", [True, False])
@MODELS
def test_every_block_is_given_blocked_and_its_weights_vanish_exactly_there(model_class, padded):
    model, ids = build(model_class, num_layers=3), draw_ids(B, T)
    padding = draw_ids(B, T, seed=4, high=2).bool() if padded else None
    expected = torch.tensor(blocked_by_loop(model.causal, T, padding))
    seen = []

    for block in model.blocks:
        original = block.attention.forward

        def forward(x, *, ctx, original=original):
            seen.append(original(x, blocked=ctx.blocked)[1] == 0)
            return original(x, ctx=ctx)

        block.attention.forward = forward
    model(ids, padding=padding)
    assert len(seen) == 3
    for zeros in seen:
        for head in range(H):
            assert torch.equal(zeros[:, head], expected)


def random_mask(*shape: int, seed: int = 6) -> torch.Tensor:
    """Half of the keys blocked, but never a query's own."""
    blocked = draw_ids(*shape, seed=seed, high=2).bool()
    return blocked & ~torch.eye(shape[-1], dtype=torch.bool)


SHAPES = pytest.mark.parametrize(
    "shape", [(T, T), (1, 1, T, T), (B, 1, T, T), (1, H, T, T), (B, H, T, T)], ids=str
)


@SHAPES
@pytest.mark.parametrize("padded", [True, False])
@NORMS
def test_what_is_blocked_is_blocked_besides_what_the_model_blocks(norm_first, padded, shape):
    gpt, bert = (build(kind, norm_first=norm_first, seed=1) for kind in (GPT, BERT))
    bert.load_state_dict(gpt.state_dict())
    ids, blocked = draw_ids(B, T), random_mask(*shape)
    padding = torch.zeros(B, T, dtype=torch.bool)
    padding[1, :2] = padded
    logits = gpt(ids, padding=padding, blocked=blocked)
    both = blocked | generate_causal_mask(T)
    assert_close(logits, bert(ids, padding=padding, blocked=both))
    assert_close(logits, gpt.head(gpt.hidden_states(ids, padding, blocked=blocked)))
    assert (logits - gpt(ids, padding=padding)).abs().max() > 1e-2
    assert (logits - bert(ids, padding=padding, blocked=blocked)).abs().max() > 1e-2


@MODELS
def test_blocking_nothing_changes_nothing(model_class):
    model, ids = build(model_class), draw_ids(B, T)
    assert_close(model(ids, blocked=torch.zeros(T, T, dtype=torch.bool)), model(ids))


@SHAPES
@pytest.mark.parametrize("padded", [True, False])
@MODELS
def test_the_weights_of_every_block_are_handed_out_and_vanish_exactly_where_blocked(
    model_class, padded, shape
):
    model, ids, blocked = build(model_class, num_layers=3), draw_ids(B, T), random_mask(*shape)
    padding = draw_ids(B, T, seed=4, high=2).bool() if padded else None
    logits, weights = model(ids, padding=padding, blocked=blocked, need_weights=True)
    expected = blocked | torch.tensor(blocked_by_loop(model.causal, T, padding))[:, None]
    dead = expected.all(dim=-1).expand(B, H, T)
    assert len(weights) == 3
    for one in weights:
        assert one.shape == (B, H, T, T)
        assert torch.equal(one == 0, expected.expand(B, H, T, T))
        assert_close(one.sum(dim=-1), (~dead).float())
    assert_close(logits, model(ids, padding=padding, blocked=blocked))


@NORMS
@MODELS
def test_the_weights_are_those_of_each_blocks_own_attention(model_class, norm_first):
    model, ids, inputs = build(model_class, norm_first=norm_first), draw_ids(B, T), []
    for block in model.blocks:
        block.attention.register_forward_pre_hook(lambda module, x: inputs.append(x[0]))
    _, weights = model(ids, need_weights=True)
    mask, came = model.blocked(T), list(inputs)
    for block, x, shown in zip(model.blocks, came, weights, strict=True):
        assert_close(shown, block.attention(x, blocked=mask)[1])
    assert (weights[0] - weights[1]).abs().max() > 1e-2
    hidden, again = model.hidden_states(ids, need_weights=True)
    assert_close(hidden, model.hidden_states(ids))
    assert len(weights) == len(again) == LAYERS  # each pass has a list of its own
    assert all(torch.equal(a, b) for a, b in zip(weights, again, strict=True))


# --- padding


@NORMS
@pytest.mark.parametrize("amount", range(1, MAX_LENGTH - T + 1))
@pytest.mark.parametrize("side", ["left", "right"])
@MODELS
def test_padding_on_either_side_changes_no_real_position(model_class, side, amount, norm_first):
    model = build(model_class, norm_first=norm_first)
    ids, junk = draw_ids(B, T), draw_ids(B, amount, seed=5)
    parts = [(junk, torch.ones_like(junk)), (ids, torch.zeros_like(ids))]
    parts = parts if side == "left" else parts[::-1]
    padded, padding = (torch.cat(column, dim=1) for column in zip(*parts, strict=True))
    logits = model(padded, padding=padding.bool())
    real = logits[:, amount:] if side == "left" else logits[:, :T]
    assert_close(real, model(ids))
    assert logits.isfinite().all()


@pytest.mark.parametrize("options", [{}, {"token_types": 3}], ids=str)
@MODELS
def test_padding_anywhere_is_as_if_the_token_were_not_there(model_class, options):
    model = build(model_class, **options)
    ids, types = draw_ids(B, MAX_LENGTH), draw_ids(B, MAX_LENGTH, seed=2, high=3)
    padding = torch.zeros(B, MAX_LENGTH, dtype=torch.bool)
    padding[0, [0, 3, 4, 11]] = True  # a different amount in each row
    padding[1, [1, 6]] = True
    types = types if options else None
    logits = model(ids, padding=padding, token_types=types)
    for b in range(B):
        real = ~padding[b]
        alone = model(ids[b : b + 1, real], token_types=types[b : b + 1, real] if options else None)
        assert_close(logits[b, real], alone[0])


@MODELS
def test_what_stands_in_the_padding_is_never_seen(model_class):
    model, ids = build(model_class), draw_ids(B, T)
    padding = torch.zeros(B, T, dtype=torch.bool)
    padding[0, :3] = padding[1, -2:] = True
    other = torch.where(padding, (ids + 1) % VOCABULARY, ids)
    assert not torch.equal(other, ids)
    assert torch.equal(
        model(ids, padding=padding)[~padding], model(other, padding=padding)[~padding]
    )


@MODELS
def test_padding_of_nothing_is_no_padding(model_class):
    model, ids = build(model_class), draw_ids(B, T)
    assert_close(model(ids, padding=torch.zeros(B, T, dtype=torch.bool)), model(ids))


@NORMS
@TRAINING
@MODELS
def test_rows_that_see_nothing_are_finite_and_so_are_their_gradients(
    model_class, training, norm_first
):
    model = build(model_class, dropout=0.1, norm_first=norm_first).train(training)
    padding = torch.zeros(B, T, dtype=torch.bool)
    padding[0, :3] = True
    padding[1] = True
    logits = run(model, draw_ids(B, T), padding=padding)
    assert logits.isfinite().all()
    logits.square().sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert all(g.isfinite().all() for g in gradients.values())
    assert all(g.abs().max() > 0 for name, g in gradients.items() if "key" not in name)


@MODELS
def test_padding_changes_no_gradient(model_class):
    ids, junk = draw_ids(B, T), draw_ids(B, 3, seed=5)
    padding = torch.cat([torch.ones_like(junk), torch.zeros_like(ids)], dim=1).bool()
    plain, padded = build(model_class), build(model_class)
    plain(ids).square().mean().backward()
    padded(torch.cat([junk, ids], dim=1), padding=padding)[:, 3:].square().mean().backward()
    for (name, a), b in zip(plain.named_parameters(), padded.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5, msg=name)


# --- positions and token types


def test_positions_count_from_0():
    model, ids = build(), draw_ids(B, T)
    assert torch.equal(model(ids), model(ids, positions=torch.arange(T).expand(B, T)))


def test_positions_choose_the_vectors():
    model, moved, ids = build(), build(), draw_ids(B, T)
    with torch.no_grad():
        moved.position.table.weight.copy_(model.position.table.weight.roll(-3, dims=0))
    assert torch.equal(model(ids, positions=3 + torch.arange(T).expand(B, T)), moved(ids))
    assert (model(ids) - moved(ids)).abs().max() > 1e-2


def test_without_a_mask_the_order_is_in_the_positions_alone():
    model, ids = build(BERT), draw_ids(B, T)
    order = torch.tensor([4, 2, 0, 6, 5, 1, 3])
    positions = order.expand(B, T)
    assert_close(model(ids[:, order], positions=positions), model(ids)[:, order])
    assert (model(ids[:, order]) - model(ids)[:, order]).abs().max() > 1e-2


def test_padding_and_positions_together_mean_the_positions_given():
    model, ids = build(), draw_ids(B, T)
    padding = torch.zeros(B, T, dtype=torch.bool)
    padding[:, :2] = True
    positions = torch.arange(T).expand(B, T)
    blocked_only = model(ids, padding=padding, positions=positions)
    counted = model(ids, padding=padding, positions=(positions - 2).clamp_min(0))
    assert torch.equal(counted, model(ids, padding=padding))
    assert (blocked_only - counted)[:, 2:].abs().max() > 1e-2


@MODELS
def test_the_token_type_is_0_unless_given_and_its_vector_is_added(model_class):
    model, ids = build(model_class, token_types=2), draw_ids(B, T)
    zeros, types = torch.zeros_like(ids), draw_ids(B, T, seed=2, high=2)
    assert torch.equal(model(ids), model(ids, token_types=zeros))
    by_hand = build(model_class)
    by_hand.load_state_dict(model.state_dict(), strict=False)
    table = by_hand.token_embedding.weight.detach()
    vectors = table[ids] + model.type_embedding.weight.detach()[types]
    by_hand.token_embedding.forward = lambda ids: vectors
    assert_close(model(ids, token_types=types), by_hand(ids))
    assert (model(ids, token_types=types) - model(ids)).abs().max() > 1e-2


# --- a cache: what it holds is tested beside it


@pytest.mark.parametrize("options", [{}, {"token_types": 3}, {"norm_first": False}], ids=str)
@pytest.mark.parametrize("chunks", [[1] * T, [4, 1, 2], [3, 3, 1], [T]], ids=str)
@torch.no_grad()
def test_with_a_cache_the_model_is_handed_only_what_is_new(chunks, options):
    model, ids = build(**options), draw_ids(B, T)
    types = draw_ids(B, T, seed=2, high=3) if "token_types" in options else None
    cache, start = model.new_cache(B), 0
    expected, whole = model(ids, token_types=types, need_weights=True)
    for size in chunks:
        span = slice(start, start + size)
        more = {"token_types": types if types is None else types[:, span]}
        logits, seen = model(ids[:, span], cache=cache, need_weights=True, **more)
        assert_close(logits, expected[:, span])
        for ours, full in zip(seen, whole, strict=True):
            assert_close(ours, full[:, :, span, : start + size])
        start += size
        assert cache.length == start


@torch.no_grad()
def test_positions_given_beside_a_cache_are_taken():
    model, ids, positions = build(), draw_ids(B, T), draw_ids(B, T, seed=3, high=MAX_LENGTH)
    cache, expected = model.new_cache(B), model(ids, positions=positions)
    for span in (slice(0, 3), slice(3, 4), slice(4, T)):
        logits = model(ids[:, span], cache=cache, positions=positions[:, span])
        assert_close(logits, expected[:, span])


@torch.no_grad()
def test_hidden_states_takes_a_cache_too():
    model, ids = build(), draw_ids(B, T)
    cache, expected = model.new_cache(B), model.hidden_states(ids)
    for span in (slice(0, 3), slice(3, T)):
        assert_close(model.hidden_states(ids[:, span], cache=cache), expected[:, span])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_new_cache_fits_the_model(device, dtype):
    model = build(num_layers=3).to(device, dtype)
    for cache in (
        model.new_cache(5),
        model.new_cache(5, capacity=9),
        model.new_cache(5, window=4, sinks=2),
    ):
        assert (cache.num_layers, cache.batch, cache.num_heads, cache.head_dim) == (3, 5, H, D // H)
        assert cache.dtype == dtype
        assert cache.device.type == device
        assert cache.length == 0
    assert type(cache) is SlidingKVCache
    assert (cache.window, cache.sinks, cache.capacity) == (4, 2, 6)
    assert type(model.new_cache(5)) is KVCache
    assert model.new_cache(5).capacity == MAX_LENGTH
    assert model.new_cache(5, 9).capacity == 9
    assert model.new_cache(5, window=4).sinks == 0


@pytest.mark.parametrize(("model_class", "options"), [(GPT, {}), (BERT, {"causal": True})])
@torch.no_grad()
def test_whatever_is_causal_has_a_cache(model_class, options):
    model, ids = build(model_class, **options), draw_ids(B, T)
    cache = model.new_cache(B)
    logits = [model(ids[:, span], cache=cache) for span in (slice(0, 3), slice(3, T))]
    assert_close(torch.cat(logits, dim=1), model(ids))


@pytest.mark.parametrize("activation", ["tanh", "none"])
@NORMS
@MODELS
def test_a_model_is_embedding_layers_norm_and_table_in_this_order(
    model_class, norm_first, activation
):
    model = build(model_class, norm_first=norm_first, activation=activation, epsilon=0.03)
    ids = draw_ids(B, T)
    blocked = generate_causal_mask(T) if model_class is GPT else None
    state = model.state_dict()
    table = state["token_embedding.weight"]
    x = torch.stack(
        [
            torch.stack([table[ids[b, t]] + state["position.table.weight"][t] for t in range(T)])
            for b in range(B)
        ]
    )
    name = "final_norm" if norm_first else "embedding_norm"

    def norm(x):
        return F.layer_norm(x, (D,), state[f"{name}.weight"], state[f"{name}.bias"], 0.03)

    if not norm_first:
        x = norm(x)
    for block in model.blocks:
        x = encoder_layer(
            block,
            activation=lambda x: F.gelu(x, approximate=activation),
            norm_first=norm_first,
            layer_norm_eps=0.03,
        )(x, src_mask=blocked)
    if norm_first:
        x = norm(x)
    assert_close(model.hidden_states(ids), x.detach())
    assert_close(model(ids), (x @ table.T).detach())


def test_the_head_transform_is_layer_gelu_norm_table_and_bias():
    model, ids = build(BERT, head_transform=True, epsilon=0.03), draw_ids(B, T)
    state = model.state_dict()
    x = model.hidden_states(ids)
    x = x @ state["head_transform.0.weight"].T + state["head_transform.0.bias"]
    x = x * (1 + torch.erf(x / math.sqrt(2))) / 2
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + 0.03).sqrt()
    x = x * state["head_transform.2.weight"] + state["head_transform.2.bias"]
    expected = x @ state["token_embedding.weight"].T + state["head_bias"]
    assert_close(model(ids), expected)


def test_the_head_is_the_token_table_itself():
    model, ids = build(), draw_ids(B, T)
    with torch.no_grad():
        model.token_embedding.weight[VOCABULARY - 1] = 0.0
    assert (model(ids)[..., -1] == 0).all()
    assert (model(ids)[..., :-1] != 0).all()


def test_dropout_drops_the_embedding_and_both_branches_of_every_block():
    x = randn(B, T, D, seed=0)
    block = fill(Block(D, H)).train()
    block.dropout.p = 1.0
    assert torch.equal(block(x), x)
    model = build().train()
    model.dropout.p = 1.0
    assert torch.equal(model(draw_ids(B, T, seed=0)), model(draw_ids(B, T, seed=1)))
    model.dropout.p = 0.0
    assert not torch.equal(model(draw_ids(B, T, seed=0)), model(draw_ids(B, T, seed=1)))


def test_dropout_reaches_every_place_that_drops():
    model = build(dropout=0.25)
    drops = [m.p for m in model.modules() if isinstance(m, nn.Dropout)]
    assert drops == [0.25] * (1 + LAYERS)
    assert [block.attention.dropout for block in model.blocks] == [0.25] * LAYERS


def test_dropout_acts_in_training_only():
    model, ids = build(dropout=0.2), draw_ids(B, T)
    assert torch.equal(model(ids), model(ids))
    model.train()
    assert not torch.equal(model(ids), model(ids))
    assert torch.equal(build(dropout=0.0).train()(ids), build(dropout=0.0)(ids))


@MODELS
def test_int32_ids_give_what_int64_ids_give(model_class):
    model, ids = build(model_class), draw_ids(B, T)
    padding = torch.zeros(B, T, dtype=torch.bool)
    padding[0, :2] = True
    assert torch.equal(model(ids.int(), padding=padding), model(ids, padding=padding))


@MODELS
def test_bfloat16_gives_nearly_what_float32_gives(model_class):
    exact, rough, ids = build(model_class), build(model_class).bfloat16(), draw_ids(B, T)
    expected, logits = exact(ids), rough(ids)
    assert logits.dtype == torch.bfloat16
    assert (logits.float() - expected).abs().max() < 0.03 * expected.abs().max()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = exact(ids)
    assert (mixed.float() - expected).abs().max() < 0.03 * expected.abs().max()


def test_the_longest_sequence_fits():
    model = build()
    ids = draw_ids(1, MAX_LENGTH)
    assert model.max_length == MAX_LENGTH
    assert_close(model(ids)[:, :T], model(ids[:, :T]))


# --- what GPT is asked


@pytest.mark.parametrize("length", [2, 3, T])
def test_the_loss_of_gpt_is_the_index_loop(length):
    model, ids = build(), draw_ids(B, length)
    logits = model(ids).detach().double()
    terms = []
    for b in range(B):
        for t in range(length - 1):
            total = sum(math.exp(logits[b, t, v]) for v in range(VOCABULARY))
            terms.append(math.log(total) - float(logits[b, t, ids[b, t + 1]]))
    assert model.loss(ids).item() == pytest.approx(sum(terms) / len(terms), abs=1e-5)
    assert model.loss(ids.int()).item() == pytest.approx(model.loss(ids).item(), abs=1e-6)


@pytest.mark.parametrize(("ahead", "right"), [(0, False), (1, True), (2, False)])
def test_only_who_knows_the_very_next_token_has_no_loss(ahead, right):
    model = build()
    ids = torch.arange(T).expand(B, T)

    def oracle(ids):
        return 100.0 * F.one_hot((ids + ahead) % VOCABULARY, VOCABULARY)

    model.forward = oracle
    assert (model.loss(ids).item() < 1e-6) is right


def test_the_last_token_is_only_a_target():
    model, ids = build(), draw_ids(B, T)
    seen = []
    model.register_forward_hook(lambda module, inputs, logits: seen.append(logits))
    model.loss(ids)
    seen[0].retain_grad()
    model.loss(other_future(ids, T - 1))
    assert torch.equal(seen[0][:, :-1], seen[1][:, :-1])
    F.cross_entropy(seen[0][:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
    assert (seen[0].grad[:, -1] == 0).all()


def test_the_loss_of_gpt_asks_every_position_but_the_last():
    model, ids = build(), draw_ids(B, T)
    seen = []

    def keep(module, inputs, logits):
        logits.retain_grad()
        seen.append(logits)

    model.register_forward_hook(keep)
    model.loss(ids).backward()
    asked = seen[0].grad.abs().amax(dim=-1) > 0
    assert asked.tolist() == [[True] * (T - 1) + [False]] * B


# --- what BERT is asked


def hidden_places() -> torch.Tensor:
    hidden = torch.zeros(B, T, dtype=torch.bool)
    hidden[0, [0, 3]] = hidden[1, 6] = True
    return hidden


def ids_without_mask() -> torch.Tensor:
    return 1 + draw_ids(B, T, high=VOCABULARY - 1)  # so that 0, the mask, does not occur


@pytest.mark.parametrize("head_transform", [True, False])
def test_the_loss_of_bert_is_the_index_loop_over_the_hidden_places(head_transform):
    model = build(BERT, head_transform=head_transform)
    ids, hidden = ids_without_mask(), hidden_places()
    shown = torch.tensor(
        [[0 if hidden[b, t] else int(ids[b, t]) for t in range(T)] for b in range(B)]
    )
    logits = model(shown).detach().double()
    terms = []
    for b in range(B):
        for t in range(T):
            if hidden[b, t]:
                total = sum(math.exp(logits[b, t, v]) for v in range(VOCABULARY))
                terms.append(math.log(total) - float(logits[b, t, ids[b, t]]))
    assert len(terms) == 3
    assert model.loss(ids, hidden).item() == pytest.approx(sum(terms) / 3, abs=1e-5)
    assert model.loss(ids.int(), hidden).item() == pytest.approx(sum(terms) / 3, abs=1e-5)


def test_the_loss_of_bert_asks_only_the_hidden_places():
    model, seen = build(BERT), []

    def keep(module, inputs, logits):
        logits.retain_grad()
        seen.append(logits)

    model.register_forward_hook(keep)
    model.loss(ids_without_mask(), hidden_places()).backward()
    assert torch.equal(seen[0].grad.abs().amax(dim=-1) > 0, hidden_places())


def test_bert_is_blind_to_the_token_that_it_must_guess():
    model, ids, hidden, seen = build(BERT), ids_without_mask(), hidden_places(), []
    model.register_forward_hook(lambda module, inputs, logits: seen.append(logits))
    others = torch.where(hidden, 1 + ids % (VOCABULARY - 1), ids)
    assert torch.equal(others != ids, hidden)
    losses = [model.loss(ids, hidden), model.loss(others, hidden)]
    assert torch.equal(seen[0], seen[1])
    assert losses[0] != losses[1]
    assert losses[1] == F.cross_entropy(seen[0][hidden], others[hidden])


def test_bert_sees_the_tokens_that_are_not_hidden():
    model, ids, hidden, seen = build(BERT), ids_without_mask(), hidden_places(), []
    model.register_forward_hook(lambda module, inputs, logits: seen.append(logits))
    others = torch.where(hidden, ids, 1 + ids % (VOCABULARY - 1))
    model.loss(ids, hidden)
    model.loss(others, hidden)
    assert ((seen[0] - seen[1]).abs().amax(dim=-1) > 0).all()


@pytest.mark.parametrize("mask_id", [0, 4, VOCABULARY - 1])
def test_hide_returns_a_copy_with_the_mask_token_in_the_hidden_places(mask_id):
    model, ids, hidden = build(BERT, mask_id=mask_id), ids_without_mask(), hidden_places()
    before = ids.clone()
    shown = model.hide(ids, hidden)
    for b in range(B):
        for t in range(T):
            assert shown[b, t] == (mask_id if hidden[b, t] else before[b, t])
    assert torch.equal(ids, before)
    model.loss(ids, hidden)
    assert torch.equal(ids, before)
    assert shown.data_ptr() != ids.data_ptr()
    nothing = model.hide(ids, torch.zeros_like(hidden))
    nothing[0, 0] += 1
    assert torch.equal(ids, before)


# --- the first weights


def build_unfilled(**options) -> GPT:
    return GPT(VOCABULARY, MAX_LENGTH, d_model=D, num_heads=H, **options)


@pytest.mark.parametrize("norm_first", [True, False])
@MODELS
def test_the_same_seed_draws_the_same_weights(model_class, norm_first):
    def drawn(seed):
        generator = seeded(seed)
        return model_class(
            VOCABULARY,
            MAX_LENGTH,
            d_model=D,
            num_heads=H,
            token_types=2,
            norm_first=norm_first,
            generator=generator,
        ).state_dict()

    first, second, other = drawn(0), drawn(0), drawn(1)
    assert all(torch.equal(first[name], second[name]) for name in first)
    matrices = [n for n in first if first[n].ndim == 2 and n != "position.table.weight"]
    assert len(matrices) == 2 + 6 * 2
    assert not any(torch.equal(first[name], other[name]) for name in matrices)


def test_the_same_seed_draws_the_same_head_transform():
    weights = []
    for _ in range(2):
        generator = seeded(0)
        model = BERT(5, 5, d_model=D, num_heads=H, head_transform=True, generator=generator)
        weights.append(model.head_transform[0].weight)
    assert torch.equal(*weights)


def test_without_a_generator_pytorchs_own_seed_decides():
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        weights.append(build_unfilled().token_embedding.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_generator_leaves_pytorchs_own_alone():
    before = torch.get_rng_state()
    build_unfilled(generator=seeded(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_weights_start_small_and_smaller_where_many_are_added():
    layers, d_model = 8, 64
    generator = seeded(0)
    model = GPT(100, 10, d_model=d_model, num_heads=4, num_layers=layers, generator=generator)
    for name, parameter in model.named_parameters():
        if "position" in name:
            continue
        if parameter.ndim == 1:
            expected = float(name.endswith("norm.weight"))
            assert (parameter == expected).all(), name
            continue
        spread = 0.1 if name == "token_embedding.weight" else parameter.shape[1] ** -0.5
        if name.endswith(("output_projection.weight", "mlp.2.weight")):
            spread /= math.sqrt(2 * layers)
        assert parameter.std().item() == pytest.approx(spread, rel=0.06), name
        assert abs(parameter.mean().item()) < 0.1 * spread, name


@pytest.mark.parametrize("d_model", [6, 9])
def test_the_positions_start_as_waves(d_model):
    table = GPT(5, 10, d_model=d_model, num_heads=3).position.table.weight
    waves = (d_model + 1) // 2
    for t in range(10):
        for i in range(d_model):
            wave = i % waves
            angle = t * 100.0 ** (-wave / waves)
            expected = 0.15 * (math.sin(angle) if i < waves else math.cos(angle))
            assert table[t, i].item() == pytest.approx(expected, abs=1e-6)


def test_a_new_model_is_nearly_as_unsure_as_a_die():
    generator = seeded(0)
    model, ids = build_unfilled(generator=generator), draw_ids(16, MAX_LENGTH)
    assert model.loss(ids).item() == pytest.approx(math.log(VOCABULARY), abs=0.3)


def test_everything_learns():
    for model in (build(GPT), build(BERT, head_transform=True, token_types=2, norm_first=False)):
        model(draw_ids(B, T)).square().sum().backward()
        silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
        assert [n for n in silent if "key_projection.bias" not in n] == []


def test_a_bias_of_minus_infinity_blocks_as_a_mask_does():
    model = GPT(20, 8, d_model=12, num_heads=3, generator=seeded(0)).eval()
    ids = torch.randint(20, (2, 7), generator=seeded(1))
    blocked = generate_sliding_window_mask(7, 3)
    with torch.no_grad():
        wanted = model(ids, blocked=blocked)
        assert not torch.allclose(model(ids), wanted, atol=1e-3)
        torch.testing.assert_close(model(ids, bias=to_additive(blocked)), wanted)


@pytest.mark.parametrize("norm_first", [True, False])
def test_a_bias_reaches_every_block_and_head(norm_first):
    generator = seeded(0)
    model = GPT(
        20, 8, d_model=12, num_heads=3, num_layers=2, norm_first=norm_first, generator=generator
    ).eval()
    ids = torch.randint(20, (2, 7), generator=seeded(1))
    bias = torch.zeros(3, 7, 7)
    bias[1] = 50.0 * torch.eye(7)  # the second head looks at itself
    with torch.no_grad():
        _, weights = model(ids, bias=bias, need_weights=True)
    for seen in weights:
        torch.testing.assert_close(seen[:, 1], torch.eye(7).expand(2, 7, 7))
        assert not torch.allclose(seen[:, 0], torch.eye(7), atol=0.1)
        assert not torch.allclose(seen[:, 2], torch.eye(7), atol=0.1)


@torch.no_grad()
def test_the_plain_pass_at_the_top_of_the_file_is_the_one_that_the_model_computes():
    model, ids = build(), draw_ids(B, T)
    plain = "\n".join(re.findall(r"^    (.+)$", transformer.__doc__, re.MULTILINE))
    names = dict(model.named_children())
    names |= {"ids": ids, "positions": torch.arange(T), "length": T, "block_future": block_future}
    for causal in (True, False):
        model.causal = names["causal"] = causal
        exec(plain, names)
        assert_close(names["logits"], model(ids))
