"""One layer: attention of several heads against PyTorch's own, and the block around it."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from causal_lab.attention.formula import (
    attention,
    attention_weights,
)
from causal_lab.attention.heads import merge_heads, split_heads
from causal_lab.attention.positions import rotation
from causal_lab.masks.rules import (
    generate_causal_mask,
    generate_incremental_mask,
    generate_padding_mask,
)
from causal_lab.models.cache import KVCache
from causal_lab.models.encoder_decoder import Memory
from causal_lab.models.layers import Block, ForwardContext, MultiHeadAttention
from causal_lab.models.transformer import GPT
from tests.attention.test_formula import SCHEDULES, dead_ends, mask_of_live_rows
from tests.builders import assert_close, fill, randn

B, T, H, D = 2, 7, 3, 12  # batch, length, heads, d_model

NEED_WEIGHTS = pytest.mark.parametrize("need_weights", [True, False], ids=["weights", "fused"])

NORMS = pytest.mark.parametrize("norm_first", [True, False], ids=["pre-norm", "post-norm"])


def multi_head(*, dropout: float = 0.0, training: bool = False, **options) -> MultiHeadAttention:
    """Return a layer whose every weight and bias is drawn from a seeded generator."""
    layer = MultiHeadAttention(D, H, dropout=dropout, **options).train(training)
    return fill(layer)


# --- against nn.MultiheadAttention


def torch_layer(**options) -> nn.MultiheadAttention:
    options = {"batch_first": True, **options}
    return fill(nn.MultiheadAttention(D, H, **options).eval())


def call_torch(layer, query, context, **options):
    if layer.batch_first:
        return layer(query, context, context, **options)
    swapped = (x.transpose(0, 1) for x in (query, context, context))
    output, weights = layer(*swapped, **options)
    return output.transpose(0, 1), weights


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_from_torch_gives_the_same_output_and_weights_per_head(batch_first, bias, training):
    theirs = torch_layer(batch_first=batch_first, bias=bias).train(training)
    ours = MultiHeadAttention.from_torch(theirs)
    x, blocked = randn(B, T, D), generate_causal_mask(T)
    expected, expected_weights = call_torch(
        theirs, x, x, attn_mask=blocked, average_attn_weights=False
    )
    output, weights = ours(x, blocked=blocked)
    assert_close(output, expected, 1e-6)
    assert_close(weights, expected_weights, 1e-6)
    assert_close(ours(x, blocked=blocked, need_weights=False)[0], expected, 1e-6)


@NEED_WEIGHTS
def test_from_torch_gives_the_same_cross_attention_with_padded_keys(need_weights):
    theirs = torch_layer()
    ours = MultiHeadAttention.from_torch(theirs)
    x, context = randn(B, 5, D), randn(B, T, D, seed=1)
    padding = generate_padding_mask([4, T])
    expected, _ = theirs(x, context, context, key_padding_mask=padding[:, 0, 0])
    output, _ = ours(x, context, blocked=padding, need_weights=need_weights)
    assert_close(output, expected, 1e-6)


@NEED_WEIGHTS
@pytest.mark.parametrize("batch_first", [True, False])
def test_from_torch_gives_the_same_gradients(batch_first, need_weights):
    theirs = torch_layer(batch_first=batch_first).train()
    ours = MultiHeadAttention.from_torch(theirs)
    our_x, their_x = randn(B, T, D).requires_grad_(), randn(B, T, D).requires_grad_()
    blocked, direction = generate_causal_mask(T), randn(B, T, D, seed=1)
    (ours(our_x, blocked=blocked, need_weights=need_weights)[0] * direction).sum().backward()
    expected, _ = call_torch(theirs, their_x, their_x, attn_mask=blocked)
    (expected * direction).sum().backward()
    assert_close(our_x.grad, their_x.grad, 1e-5)
    projections = (ours.query_projection, ours.key_projection, ours.value_projection)
    for part, projection in enumerate(projections):
        assert_close(projection.weight.grad, theirs.in_proj_weight.grad.chunk(3)[part], 1e-5)
        assert_close(projection.bias.grad, theirs.in_proj_bias.grad.chunk(3)[part], 1e-5)
    assert_close(ours.output_projection.weight.grad, theirs.out_proj.weight.grad, 1e-5)
    assert_close(ours.output_projection.bias.grad, theirs.out_proj.bias.grad, 1e-5)


def test_from_torch_takes_over_mode_dtype_and_dropout_and_copies_the_weights():
    theirs = torch_layer(dropout=0.25).double().train()
    ours = MultiHeadAttention.from_torch(theirs)
    before = ours.query_projection.weight.clone()
    fill(theirs, seed=10)
    assert (ours.training, ours.dropout, before.dtype) == (True, 0.25, torch.float64)
    assert torch.equal(ours.query_projection.weight, before)
    assert all(parameter.requires_grad for parameter in ours.parameters())
    assert not MultiHeadAttention.from_torch(theirs.eval()).training


# --- who sees what


def path_of(mode: str, *rest: str):
    """Return a function from tokens to outputs that is meant to be causal."""
    blocked = generate_causal_mask(T)
    layer = multi_head(dropout=0.4 if "dropout" in rest else 0.0, training=mode == "train")

    def forward(x):
        torch.manual_seed(0)  # the same weights are dropped every time
        return layer(x, blocked=blocked, need_weights="weights" in rest)[0]

    return forward


PATHS = [
    "train weights",
    "train fused",
    "train weights dropout",
    "train fused dropout",
    "eval weights",
    "eval fused",
]


@pytest.mark.parametrize("cut", range(1, T))
@pytest.mark.parametrize("path", PATHS)
def test_changing_everything_after_the_cut_moves_nothing_before_it(path, cut):
    forward = path_of(*path.split())
    x = randn(B, T, D)
    changed = x.clone()
    changed[:, cut:] = 10 * randn(B, T - cut, D, seed=cut)
    moved = (forward(changed) - forward(x)).abs()
    assert moved[:, :cut].max().item() == 0.0
    assert moved[:, cut:].amax(-1).min().item() > 0  # or nothing would ever move


@NEED_WEIGHTS
def test_without_a_mask_the_past_does_move(need_weights):
    layer, x = multi_head(), randn(B, T, D)
    changed = x.clone()
    changed[:, -1] += 1
    moved = layer(changed, need_weights=need_weights)[0] - layer(x, need_weights=need_weights)[0]
    assert moved[:, 0].abs().max().item() > 0


@pytest.mark.parametrize("training", [True, False])
def test_a_layer_puts_exactly_0_on_blocked_keys_and_sums_to_1(training):
    layer = multi_head(dropout=0.5, training=training)
    _, weights = layer(randn(B, T, D), blocked=generate_causal_mask(T))
    assert torch.equal(weights == 0, generate_causal_mask(T).expand(B, H, T, T))
    assert_close(weights.sum(-1), torch.ones(B, H, T), 1e-6)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("through", ["blocked", "bias", "both"])
@NEED_WEIGHTS
def test_a_dead_row_of_a_layer_is_its_output_bias_and_all_gradients_stay_finite(
    need_weights, through, training
):
    blocked, bias = dead_ends(through)
    layer, x = multi_head(training=training), randn(B, 5, D).requires_grad_()
    output, weights = layer(x, blocked=blocked, bias=bias, need_weights=need_weights)
    output.square().sum().backward()
    assert torch.equal(output[1, [0, 3]], layer.output_projection.bias.expand(2, D))
    if need_weights:
        assert bool((weights[1][:, [0, 3]] == 0).all())
    for tensor in (x, *layer.parameters()):
        assert tensor.grad.isfinite().all()


@NEED_WEIGHTS
def test_left_padding_and_causal_mask_together_leave_dead_rows_but_no_nan(need_weights):
    layer, x = multi_head(training=True), randn(2, T, D).requires_grad_()
    blocked = generate_causal_mask(T) | generate_padding_mask([3, 0], T, side="left")
    output, _ = layer(x, blocked=blocked, need_weights=need_weights)
    output.square().sum().backward()
    dead = blocked.expand(2, H, T, T).all(-1)[:, 0]
    assert dead.tolist() == [[True] * 4 + [False] * 3, [True] * T]
    assert torch.equal(output[dead], layer.output_projection.bias.expand(4 + T, D))
    for tensor in (x, *layer.parameters()):
        assert tensor.grad.isfinite().all()


@pytest.mark.parametrize("chunks", SCHEDULES.values(), ids=SCHEDULES)
@NEED_WEIGHTS
def test_a_layer_that_looks_back_at_its_context_gives_the_rows_of_the_full_pass(
    need_weights, chunks
):
    layer, x = multi_head(), randn(B, 11, D)
    full, _ = layer(x, blocked=generate_causal_mask(11))
    rows, past = [], 0
    for length in chunks:
        end = past + length
        blocked = generate_incremental_mask(past, length)
        rows.append(
            layer(x[:, past:end], x[:, :end], blocked=blocked, need_weights=need_weights)[0]
        )
        past = end
    assert_close(torch.cat(rows, 1), full, 1e-5)


# --- behind a cache


class Concatenated:
    """The cache of one layer: remembers by concatenating, and keeps what came."""

    def __init__(self):
        self.came, self.old = [], None

    def num_keys(self, new):
        return new + (self.old[0].shape[2] if self.old else 0)

    def append(self, layer, keys, values):
        self.came.append((layer, keys, values))
        new = (keys, values)
        both = zip(self.old, new, strict=True) if self.old else ()
        self.old = tuple(torch.cat(parts, dim=2) for parts in both) or new
        return self.old


class GivesBack:
    """A cache that gives back what it was made with, whatever comes."""

    def __init__(self, keys, values):
        self.pair = keys, values

    def num_keys(self, new):
        return self.pair[0].shape[2]

    def append(self, layer, keys, values):
        return self.pair


class Forgets:
    """A cache that remembers nothing."""

    def num_keys(self, new):
        return new

    def append(self, layer, keys, values):
        return keys, values


@pytest.mark.parametrize("make", [Concatenated, lambda: KVCache(1, B, H, T, D // H)])
@pytest.mark.parametrize("chunks", [[1] * T, [2, 2, 2, 1], [3, 3, 1], [4, 1, 1, 1], [2, 5]])
@NEED_WEIGHTS
@torch.no_grad()
def test_a_layer_that_remembers_gives_the_rows_of_the_full_pass(need_weights, chunks, make):
    layer, x = multi_head(), randn(B, T, D)
    output, weights = layer(x, blocked=generate_causal_mask(T))
    cache, start = make(), 0
    for size in chunks:
        end = start + size
        blocked = generate_incremental_mask(start, size)
        rows, seen = layer(x[:, start:end], blocked=blocked, cache=cache, need_weights=need_weights)
        assert_close(rows, output[:, start:end], 1e-5)
        if need_weights:
            assert_close(seen, weights[:, :, start:end, :end], 1e-5)
        start = end


@NEED_WEIGHTS
def test_what_is_remembered_is_every_head_of_the_new_tokens_keys_and_values(need_weights):
    layer, x, cache = multi_head(layer=4), randn(B, 3, D), Concatenated()
    layer(x, cache=cache, need_weights=need_weights)
    [(number, keys, values)] = cache.came
    assert number == 4
    assert torch.equal(keys, split_heads(layer.key_projection(x), H))
    assert torch.equal(values, split_heads(layer.value_projection(x), H))


@NEED_WEIGHTS
def test_a_layer_looks_at_what_it_is_given_back_and_at_nothing_else(need_weights):
    layer, x = multi_head(), randn(B, 3, D)
    keys, values = randn(B, H, 5, D // H, seed=1), randn(B, H, 5, D // H, seed=2)
    blocked, bias = mask_of_live_rows(3, 5), randn(3, 5, seed=3)
    output, weights = layer(
        x,
        cache=GivesBack(keys, values),
        blocked=blocked,
        bias=bias,
        need_weights=need_weights,
    )
    queries = split_heads(layer.query_projection(x), H)
    heads, expected = attention(queries, keys, values, blocked, bias)
    assert_close(output, layer.output_projection(merge_heads(heads)), 1e-5)
    if need_weights:
        assert_close(weights, expected, 1e-6)


@NEED_WEIGHTS
def test_to_remember_and_forget_at_once_changes_nothing(need_weights):
    layer, x, options = multi_head(), randn(B, T, D), {"need_weights": need_weights}
    plain = layer(x, blocked=generate_causal_mask(T), **options)[0]
    remembered = layer(x, blocked=generate_causal_mask(T), cache=Forgets(), **options)[0]
    assert torch.equal(remembered, plain)


# --- padding


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("lengths", [[5, 3, 7, 1], [7, 2, 6, 1, 4, 3, 5]])  # batch != T, batch == T
@NEED_WEIGHTS
def test_padding_changes_nothing_for_real_tokens(need_weights, lengths, side):
    layer = multi_head()
    x = 100 * randn(len(lengths), T, D, seed=1)  # rubbish stands where the padding is
    spans = [slice(0, n) if side == "right" else slice(T - n, T) for n in lengths]
    for row, span in enumerate(spans):
        x[row, span] = randn(lengths[row], D, seed=10 + row)
    blocked = generate_causal_mask(T) | generate_padding_mask(lengths, T, side=side)
    padded, _ = layer(x, blocked=blocked, need_weights=need_weights)
    for row, (span, length) in enumerate(zip(spans, lengths, strict=True)):
        alone, _ = layer(x[row : row + 1, span], blocked=generate_causal_mask(length))
        assert_close(padded[row, span], alone[0], 1e-5)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float16, 4e-3), (torch.bfloat16, 3e-2)])
@NEED_WEIGHTS
def test_a_layer_of_half_precision_is_causal_and_close_to_float64(need_weights, dtype, atol):
    layer, x = multi_head().to(dtype), randn(B, T, D).to(dtype)
    blocked = generate_causal_mask(T)
    output, _ = layer(x, blocked=blocked, need_weights=need_weights)
    expected, _ = multi_head().to(dtype).double()(x.double(), blocked=blocked)
    assert output.dtype == dtype
    assert_close(output.double(), expected, 4 * atol)  # four projections more
    changed = x.clone()
    changed[:, 4:] = 7
    moved = layer(changed, blocked=blocked, need_weights=need_weights)[0] - output
    assert moved[:, :4].abs().max().item() == 0


@NEED_WEIGHTS
def test_under_autocast_a_layer_takes_tokens_of_either_dtype(need_weights):
    layer, x, blocked = multi_head(), randn(B, T, D), generate_causal_mask(T)
    expected, _ = layer(x, blocked=blocked)
    with torch.autocast("cpu", torch.bfloat16):
        for tokens in (x, x.bfloat16()):
            output, _ = layer(tokens, blocked=blocked, need_weights=need_weights)
            assert output.dtype == torch.bfloat16
            assert_close(output.float(), expected, 0.1)  # five roundings of bfloat16


@NEED_WEIGHTS
def test_a_single_token_looks_at_itself(need_weights):
    layer, x = multi_head(), randn(B, 1, D)
    output, weights = layer(x, blocked=generate_causal_mask(1), need_weights=need_weights)
    assert_close(output, layer.output_projection(layer.value_projection(x)), 1e-6)
    if need_weights:
        assert torch.equal(weights, torch.ones(B, H, 1, 1))


# --- heads


def test_every_head_has_a_projection_of_its_own():
    layer, x, blocked = multi_head(), randn(B, T, D), generate_causal_mask(T)
    _, weights = layer(x, blocked=blocked)
    dim = D // H
    for head in range(H):
        rows = slice(head * dim, (head + 1) * dim)
        q, k = (
            F.linear(x, projection.weight[rows], projection.bias[rows])
            for projection in (layer.query_projection, layer.key_projection)
        )
        assert_close(weights[:, head], attention_weights(q, k, blocked), 1e-6)


def test_a_mask_per_head_hides_from_that_head_only():
    blocked = torch.zeros(H, 1, T, dtype=torch.bool)
    blocked[1, :, 2] = True
    _, weights = multi_head()(randn(B, T, D), blocked=blocked)
    assert bool((weights[:, 1, :, 2] == 0).all())
    assert bool((weights[:, [0, 2], :, 2] > 0).all())


def test_asking_for_the_weights_changes_nothing_else():
    layer, x, blocked = multi_head(), randn(B, T, D), generate_causal_mask(T)
    bias = randn(H, T, T, seed=1)
    with_weights, weights = layer(x, blocked=blocked, bias=bias)
    without, nothing = layer(x, blocked=blocked, bias=bias, need_weights=False)
    assert weights.shape == (B, H, T, T)
    assert nothing is None
    assert_close(without, with_weights, 1e-6)


def test_bias_false_leaves_the_projections_without_a_constant():
    names = dict(multi_head(bias=False).named_parameters())
    assert set(names) == {
        f"{part}_projection.weight" for part in ("query", "key", "value", "output")
    }


# --- dropout


def layer_that_shows_what_it_drops(dropout: float) -> MultiHeadAttention:
    """Return one head whose output for the unit vectors is the matrix of weights it used."""
    layer = fill(MultiHeadAttention(D, 1, dropout=dropout))
    with torch.no_grad():
        for projection in (layer.value_projection, layer.output_projection):
            projection.weight.copy_(torch.eye(D))
            projection.bias.zero_()
    return layer


@NEED_WEIGHTS
def test_in_training_each_weight_is_dropped_or_scaled_up(need_weights):
    layer = layer_that_shows_what_it_drops(0.25)
    x = torch.eye(D)[None]
    _, weights = layer.eval()(x)
    torch.manual_seed(3)
    used = layer.train()(x, need_weights=need_weights)[0]
    dropped = used == 0
    assert 0.1 < dropped.float().mean().item() < 0.4
    assert_close(used[~dropped], weights[:, 0][~dropped] / 0.75, 1e-6)


@NEED_WEIGHTS
def test_in_evaluation_nothing_is_dropped(need_weights):
    layer = layer_that_shows_what_it_drops(0.25).eval()
    x = torch.eye(D)[None]
    used = layer(x, need_weights=need_weights)[0]
    assert_close(used, layer(x)[1][:, 0], 1e-6)
    assert bool((used > 0).all())


def test_the_weights_shown_in_training_are_those_before_dropout_unlike_pytorchs():
    theirs = torch_layer(dropout=0.5).train()
    ours = MultiHeadAttention.from_torch(theirs)
    x = randn(B, T, D)
    torch.manual_seed(0)
    shown = ours(x)[1]
    assert_close(shown.sum(-1), torch.ones(B, H, T), 1e-6)
    assert_close(shown, ours.eval()(x)[1], 1e-6)
    their_sums = theirs(x, x, x, average_attn_weights=False)[1].sum(-1)
    assert (their_sums - 1).abs().max().item() > 0.1


# --- turned by positions


def test_values_are_not_turned():
    layer = MultiHeadAttention(8, 2)
    x = randn(1, 5, 8, seed=3)
    with torch.no_grad():
        output, weights = layer(x, rotate=rotation(torch.arange(5), 4))
        values = split_heads(layer.value_projection(x), 2)
        wanted = layer.output_projection(merge_heads(weights @ values))
    torch.testing.assert_close(output, wanted)


def test_only_a_layer_that_looks_at_itself_is_turned():
    layer, x = MultiHeadAttention(8, 2), torch.zeros(1, 5, 8)
    with pytest.raises(
        ValueError, match=r"rotate is for the tokens.* leave out either it or context"
    ):
        layer(x, x + 1, rotate=rotation(torch.arange(5), 4))


# --- a block


def encoder_layer(block: Block, **options) -> nn.TransformerEncoderLayer:
    """Build PyTorch's layer with the weights of a block."""
    layer = nn.TransformerEncoderLayer(
        D, H, block.mlp[0].out_features, dropout=0.0, batch_first=True, **options
    )
    attention = block.attention
    packed = [attention.query_projection, attention.key_projection, attention.value_projection]
    with torch.no_grad():
        layer.self_attn.in_proj_weight.copy_(torch.cat([p.weight for p in packed]))
        layer.self_attn.in_proj_bias.copy_(torch.cat([p.bias for p in packed]))
    for theirs, ours in (
        (layer.self_attn.out_proj, attention.output_projection),
        (layer.linear1, block.mlp[0]),
        (layer.linear2, block.mlp[2]),
        (layer.norm1, block.attention_norm),
        (layer.norm2, block.mlp_norm),
    ):
        theirs.load_state_dict(ours.state_dict())
    return layer.train()  # in eval mode it takes a shortcut of its own


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("activation", ["tanh", "none"])
@NORMS
def test_a_block_is_the_encoder_layer_of_pytorch(norm_first, activation, masked):
    block = fill(
        Block(D, H, mlp_size=20, norm_first=norm_first, activation=activation, epsilon=0.03)
    )
    layer = encoder_layer(
        block,
        activation=lambda x: F.gelu(x, approximate=activation),
        norm_first=norm_first,
        layer_norm_eps=0.03,
    )
    x = 2 * randn(B, T, D, seed=0)
    blocked = generate_causal_mask(T) if masked else None
    assert_close(block(x, blocked), layer(x, src_mask=blocked))
    swapped = layer(2 * x, src_mask=blocked)
    assert (block(x, blocked) - swapped).abs().max() > 1e-2


def test_the_two_activations_differ_by_more_than_the_tests_allow():
    blocks = [fill(Block(D, H, activation=a)) for a in ("tanh", "none")]
    x = 2 * randn(B, T, D, seed=0)
    assert (blocks[0](x) - blocks[1](x)).abs().max() > 1e-4


def test_a_block_computes_gelu_as_gpt_2_does_unless_told_otherwise():
    x = 2 * randn(B, T, D, seed=0)
    assert torch.equal(fill(Block(D, H))(x), fill(Block(D, H, activation="tanh"))(x))
    model = GPT(5, 4, d_model=D, num_heads=H)
    assert model.blocks[0].mlp[1].approximate == "tanh"


@NORMS
@pytest.mark.parametrize("cross", [True, False])
def test_a_context_with_nothing_in_it_is_a_plain_call(cross, norm_first):
    block, x = fill(Block(D, H, norm_first=norm_first, cross=cross)).eval(), randn(B, T, D)
    blocked = generate_causal_mask(T)
    assert torch.equal(block(x), block(x, ctx=ForwardContext()))
    assert torch.equal(block(x, blocked), block(x, ctx=ForwardContext(blocked)))
    assert (block(x) - block(x, blocked)).abs().max() > 1e-2


@NEED_WEIGHTS
@pytest.mark.parametrize("training", [True, False])
def test_one_by_one_or_in_a_context_a_layer_is_told_the_same(training, need_weights):
    layer, x = multi_head(dropout=0.4, training=training), randn(B, T, D)
    blocked, bias, turn = generate_causal_mask(T), randn(H, T, T), rotation(torch.arange(T), 4)
    torch.manual_seed(0)
    plain, weights = layer(x, blocked=blocked, bias=bias, rotate=turn, need_weights=need_weights)
    seen = [] if need_weights else None
    torch.manual_seed(0)
    output, shown = layer(x, ctx=ForwardContext(blocked, bias, turn, None, seen))
    assert torch.equal(output, plain)
    if need_weights:
        assert torch.equal(shown, weights)
        assert len(seen) == 1
        assert seen[0] is shown
    else:
        assert shown is None


def test_a_layer_writes_in_its_own_part_of_a_cache():
    cache, x = KVCache(2, B, H, T, D // H), randn(B, T, D)
    with torch.no_grad():
        for number in (1, 0):  # in any order
            multi_head(layer=number)(number + x, cache=cache)
    for number in range(2):
        keys, values = cache._blocks[number]
        assert_close(keys, split_heads(multi_head().key_projection(number + x), H), 1e-6)
        assert_close(values, split_heads(multi_head().value_projection(number + x), H), 1e-6)


@NORMS
def test_only_a_cross_block_with_a_memory_looks_at_another_text(norm_first):
    block = fill(Block(D, H, norm_first=norm_first, cross=True, layer=1)).eval()
    x, texts = randn(B, T, D), [randn(B, 5, D, seed=seed) for seed in (1, 2)]
    read = [block.cross_attention.read(text) for text in texts]
    memory = Memory(keys_values=tuple(read))
    output = block(x, ctx=ForwardContext(memory=memory))
    mine = Memory(keys_values=(read[0], read[1]))
    others = Memory(keys_values=(read[0], read[0]))
    assert torch.equal(output, block(x, ctx=ForwardContext(memory=mine)))
    assert (output - block(x, ctx=ForwardContext(memory=others))).abs().max() > 1e-2
    assert (output - block(x)).abs().max() > 1e-2
    assert not hasattr(Block(D, H), "cross_attention")
