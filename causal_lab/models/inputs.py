"""The door: what a caller hands to a model or a layer is checked here, once.

Behind it, layers and formulas check nothing: a model hands its layers a context that has passed
already, and a layer's forward comes here only when a person calls it. Two have doors of their own:
generation, for how to choose, and a cache, which keeps what is stored in it.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.compiler import is_compiling

from causal_lab.models.cache import KVCache
from causal_lab.models.position import POSITIONS, LearnedPosition
from causal_lab.validation import (
    check_blocked,
    check_boolean,
    check_fits,
    check_floating,
    check_same_device,
    check_size,
    check_tensor,
    check_tokens,
    describe,
)

INTEGERS = (torch.int64, torch.int32)

# --- one forward pass of a model


class Given(NamedTuple):
    """What a forward pass may be given besides the ids, in the order in which it is checked."""

    padding: Tensor | None
    positions: Tensor | None
    token_types: Tensor | None
    cache: KVCache | None
    blocked: Tensor | None
    bias: Tensor | None


def check_inputs(model: nn.Module, ids: Tensor, *given) -> None:
    """Check all that a forward pass was given."""
    for check, value in zip(_CHECKS, (ids, *given), strict=True):
        if value is not None or check is check_ids:
            check(model, ids, value, given)


def check_ids(model: nn.Module, ids: Tensor, *_) -> None:
    """Check that ids are rows of tokens which the model knows."""
    if getattr(ids, "ndim", 0) != 2 or 0 in ids.shape or ids.dtype not in INTEGERS:
        check_tensor("ids", ids)
        raise ValueError(
            f"ids must be integers of shape (batch, length), got {describe(ids)} of shape "
            f"{tuple(ids.shape)}; one sequence becomes a batch with .unsqueeze(0)"
        )
    if ids.shape[1] > model.max_length:
        raise ValueError(
            f"{ids.shape[1]} tokens are more than max_length={model.max_length}; cut the "
            "sequence or build the model with a larger max_length"
        )
    if not is_compiling() and not 0 <= ids.min() <= ids.max() < model.vocabulary_size:
        raise ValueError(f"ids must lie between 0 and {model.vocabulary_size - 1}")


def _check_padding(model: nn.Module, ids: Tensor, padding: Tensor, _) -> None:
    if check_boolean("padding", padding).shape != ids.shape:
        raise ValueError(
            f"padding must have the shape of ids, {tuple(ids.shape)}, got {tuple(padding.shape)}"
        )


def _check_positions(model: nn.Module, ids: Tensor, positions: Tensor, given) -> None:
    check_same_device("positions", check_tensor("positions", positions), "ids", ids)
    batch, length = ids.shape
    if positions.shape not in ((1, length), (batch, length)):
        raise ValueError(
            f"positions must have shape (1, {length}), shared by all texts, or ({batch}, "
            f"{length}), got {tuple(positions.shape)}"
        )
    if model.position.on_scores and Given(*given).cache is not None:
        raise ValueError(
            f"with a cache {type(model.position).__name__} measures distances between the "
            "positions that the cache counts, since it does not keep others; leave positions out"
        )
    if isinstance(model.position, LearnedPosition):
        _check_rows(positions, model.max_length)


def _check_rows(positions: Tensor, max_length: int) -> None:
    if positions.dtype not in INTEGERS:
        raise ValueError(
            f"learned positions are rows of a table, so they must be integers, got "
            f"{describe(positions)}"
        )
    if not is_compiling() and not 0 <= positions.min() <= positions.max() < max_length:
        raise ValueError(
            f"learned positions must lie between 0 and {max_length - 1}: the model has no "
            "vector for others"
        )


def _check_token_types(model: nn.Module, ids: Tensor, token_types: Tensor, _) -> None:
    if model.type_embedding is None:
        raise ValueError(
            "this model has no vectors for token types; build it with token_types=2, say, or leave "
            "them out"
        )
    check_same_device("token_types", check_tensor("token_types", token_types), "ids", ids)
    if token_types.shape != ids.shape or token_types.dtype not in INTEGERS:
        raise ValueError(
            f"token_types must be integers of the shape of ids, {tuple(ids.shape)}, got "
            f"{describe(token_types)} of shape {tuple(token_types.shape)}"
        )
    count = model.type_embedding.num_embeddings
    if not is_compiling() and not 0 <= token_types.min() <= token_types.max() < count:
        raise ValueError(f"token_types must lie between 0 and {count - 1}")


def _check_cache(model: nn.Module, ids: Tensor, cache: KVCache, given) -> None:
    if not isinstance(cache, KVCache):
        raise ValueError(f"cache must come from new_cache(batch), got {describe(cache)}")
    check_cacheable(model)
    if Given(*given).blocked is not None:
        raise ValueError(
            "with a cache the mask follows from what it holds; for a sliding window use "
            "new_cache(batch, window=…) and leave blocked out"
        )
    if len(ids) != cache.batch:
        raise ValueError(
            f"the cache is for {cache.batch} texts, ids bring {len(ids)}; a batch of another "
            "size needs a cache of its own"
        )
    table, head_dim = model.token_embedding.weight, model.position.head_dim
    needed = (len(model.blocks), model.num_kv_heads, head_dim, table.dtype, table.device)
    found = (cache.num_layers, cache.num_heads, cache.head_dim, cache.dtype, cache.device)
    if needed != found:
        raise ValueError(
            f"the cache has (layers, heads, head_dim, dtype, device) = {found}, the model "
            f"{needed}; make one with the model's own new_cache"
        )
    if cache.length + ids.shape[1] > model.max_length:
        learned = isinstance(model.position, LearnedPosition)
        raise ValueError(
            f"{cache.length} tokens read and {ids.shape[1]} new ones are more than "
            f"max_length={model.max_length}"
            + (": the model has no vector for such a position" if learned else "")
        )


def _check_more(model: nn.Module, ids: Tensor, blocked: Tensor, _) -> None:
    check_blocked(blocked, _scores(model, ids, ids.shape[1]))


def _check_bias(model: nn.Module, ids: Tensor, bias: Tensor, given) -> None:
    keys, cache = ids.shape[1], Given(*given).cache
    if cache is not None:  # a pass that is planned again is begun again
        cache.plan(keys, Given(*given).padding)
        keys = cache.key_positions.shape[1]
    check_fits("bias", check_floating("bias", bias), _scores(model, ids, keys))


def _scores(model: nn.Module, ids: Tensor, keys: int) -> Tensor:
    """Make a shape to check against, (batch, head, query, key), without the memory."""
    number = model.token_embedding.weight.new_empty(())
    return number.expand(len(ids), model.num_heads, ids.shape[1], keys)


_CHECKS = (
    check_ids,
    _check_padding,
    _check_positions,
    _check_token_types,
    _check_cache,
    _check_more,
    _check_bias,
)


def check_memory(model: nn.Module, ids: Tensor, memory) -> None:
    """Check that there is a memory for each text, if and only if the blocks look at one."""
    if not model.cross:
        raise ValueError("no block of this model looks at another text; build it with cross=True")
    if not hasattr(memory, "keys_values"):
        raise ValueError(f"memory must come from encode(source), got {describe(memory)}")
    if len(memory.keys_values) != len(model.blocks):
        raise ValueError(
            f"the memory is for {len(memory.keys_values)} layers, the decoder has "
            f"{len(model.blocks)}; encode the source with the same model"
        )
    if len(memory.encoded) != len(ids):
        raise ValueError(
            f"{len(memory.encoded)} sources and {len(ids)} targets; every target needs its own "
            "source"
        )
    keys = memory.keys_values[0][0]  # (batch, head, key, dim)
    needed = (model.num_heads, model.token_embedding.embedding_dim // model.num_heads)
    if (keys.shape[1], keys.shape[3]) != needed:
        raise ValueError(
            f"the memory has (heads, dim) = {(keys.shape[1], keys.shape[3])}, the model {needed}; "
            "encode the source with the same model"
        )
    if memory.blocked is not None:
        check_blocked(memory.blocked, _scores(model, ids, keys.shape[2]))


def check_cacheable(model: nn.Module) -> None:
    """Check that the model is causal: only then does what it makes of old tokens stay."""
    if not model.causal:
        raise ValueError(
            "a model without a causal mask cannot use a cache: what it makes of old tokens "
            "changes with every new one"
        )


def check_window(capacity: int | None, window: int | None, sinks: int) -> None:
    """Check that a cache is asked for in one way only."""
    if window is not None and capacity is not None:
        raise ValueError("a window needs no capacity: its memory does not grow")
    if window is None and sinks:
        raise ValueError("sinks need a window; without one, every token is remembered")


# --- what a loss is asked


def check_next(ids: Tensor) -> None:
    """Check that there is a next token to ask for."""
    if check_tensor("ids", ids).shape[-1] < 2:
        raise ValueError("the next-token loss needs at least two tokens per sequence")


def check_hidden(ids: Tensor, hidden: Tensor) -> None:
    """Check that hidden says of each token whether it is hidden."""
    if check_boolean("hidden", hidden).shape != check_tensor("ids", ids).shape:
        raise ValueError(
            f"hidden must have the shape of ids, {tuple(ids.shape)}, got {tuple(hidden.shape)}"
        )


def check_some(hidden: Tensor) -> None:
    """Check that there is something to guess."""
    if not hidden.any():
        raise ValueError("nothing is hidden, so there is nothing to ask for")


def check_target(decoder: nn.Module, target: Tensor, padding: Tensor | None) -> None:
    """Check that a target of an encoder–decoder holds something to ask for."""
    if check_tensor("target", target).ndim != 2 or target.shape[1] < 2:
        raise ValueError(
            "the loss needs targets of shape (batch, at least 2): a start token and one to ask "
            f"for, got {tuple(target.shape)}"
        )
    check_ids(decoder, target[:, 1:])  # what is asked; forward checks what is read
    if padding is None:
        return
    if check_boolean("target_padding", padding).shape != target.shape:
        raise ValueError(
            f"target_padding must have the shape of its ids, {tuple(target.shape)}, got "
            f"{tuple(padding.shape)}"
        )
    if not is_compiling() and bool((padding[:, :-1] | padding[:, 1:]).all()):
        raise ValueError("every target is padding, so there is nothing to ask for")


def check_source(padding: Tensor | None) -> None:
    """Check that every source has a token."""
    if padding is not None and not is_compiling() and padding.all(dim=1).any():
        raise ValueError("a source is nothing but padding, so there is nothing to look at")


def check_room(max_length: int, max_new_tokens: int | None) -> int:
    """Return how many tokens may be written.

    >>> check_room(8, None)
    8
    """
    if max_new_tokens is None:
        return max_length
    if check_size("max_new_tokens", max_new_tokens) > max_length:
        raise ValueError(
            f"max_new_tokens={max_new_tokens} is more than max_length={max_length}: the "
            "model has no vector for such a position"
        )
    return max_new_tokens


# --- one call of a layer, by hand


def check_attention(layer: nn.Module, x: Tensor, context, ctx) -> None:
    """Check what :class:`causal_lab.models.layers.MultiHeadAttention` was given by hand."""
    for name, given in (("cache", ctx.cache), ("rotate", ctx.rotate)):
        if given is not None and context is not None:
            raise ValueError(
                f"{name} is for the tokens' own queries and keys; leave out either it or context"
            )
    weight = layer.query_projection.weight
    check_tokens("x", x, weight)
    if isinstance(context, Tensor):
        check_tokens("context", context, weight)
    if context is None:
        context = x
    is_read = isinstance(context, tuple)  # keys and values, (batch, head, key, dim)
    batch, keys = (len(context[0]), context[0].shape[2]) if is_read else context.shape[:2]
    if batch != len(x) and 1 not in (batch, len(x)):
        raise ValueError(f"x and context must agree in batch, got {len(x)} and {batch}")
    if ctx.cache is not None:
        keys = ctx.cache.num_keys(keys)
    lead = (max(batch, len(x)), layer.num_heads)
    scores = weight.new_empty(()).expand(*lead, x.shape[1], keys)
    if ctx.blocked is not None:
        check_blocked(ctx.blocked, scores)
    if ctx.bias is not None:
        check_fits("bias", check_floating("bias", ctx.bias), scores)


# --- what models and layers are built of


def check_options(
    vocabulary_size, max_length, d_model, num_heads, num_layers, causal, position, token_types
) -> None:
    """Check the sizes of a model."""
    if not isinstance(causal, bool):
        raise ValueError(f"causal must be True or False, got {causal!r}")
    if position not in POSITIONS:
        raise ValueError(f"position must be one of {', '.join(POSITIONS)}, got {position!r}")
    d_model, num_heads = check_size("d_model", d_model), check_size("num_heads", num_heads)
    if position == "sinusoidal" and d_model % 2:
        raise ValueError(f"sinusoidal positions need an even d_model, got {d_model}")
    if position == "rotary" and d_model % (2 * num_heads):
        raise ValueError(
            f"rotary positions turn pairs of numbers, so d_model={d_model} must be a multiple of "
            f"2 · num_heads = {2 * num_heads}"
        )
    check_size("max_length", max_length)
    check_size("num_layers", num_layers)
    check_size("vocabulary_size", vocabulary_size)
    check_size("token_types", token_types, minimum=0)


def check_block_options(d_model: int, mlp_size: int | None, activation: str) -> int:
    """Check what a block is built of; return the width of its feed-forward layer.

    >>> check_block_options(8, None, "tanh")
    32
    """
    check_size("d_model", d_model)
    if activation not in ("tanh", "none"):
        raise ValueError(f'activation must be "tanh" or "none", got {activation!r}')
    return 4 * d_model if mlp_size is None else check_size("mlp_size", mlp_size)


def check_token(name: str, token: int, vocabulary_size: int) -> int:
    """Return the token if the vocabulary has it.

    >>> check_token("pad_id", 3, vocabulary_size=4)
    3
    """
    if check_size(name, token, minimum=0) >= vocabulary_size:
        raise ValueError(f"{name} must lie between 0 and {vocabulary_size - 1}, got {token}")
    return token


def check_torch_layer(module: nn.MultiheadAttention) -> None:
    """Check that PyTorch's layer has no option without a counterpart here."""
    if not isinstance(module, nn.MultiheadAttention):
        raise ValueError(f"from_torch needs an nn.MultiheadAttention, got {describe(module)}")
    if module.in_proj_weight is None or module.bias_k is not None or module.add_zero_attn:
        raise ValueError(
            "from_torch needs keys and values of the queries' size (no kdim, vdim), no "
            "add_bias_kv and no add_zero_attn"
        )
