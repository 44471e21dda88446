"""Scores, mask, softmax, values: how attention fits together.

Shapes are ``(batch, head, query, dim)`` for queries and ``(batch, head, key, dim)`` for
keys and values; every axis before the last two is optional.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from causal_lab.attention.softmax import masked_softmax
from causal_lab.masks.rules import generate_causal_mask, to_allowed
from causal_lab.validation import (
    check_blocked,
    check_fits,
    check_floating,
    check_same_device,
    check_same_dtype,
    check_size,
    check_tensor,
    describe,
)


def algorithm_5_causal_attention(Q: Tensor, K: Tensor, V: Tensor, M: Tensor) -> Tensor:
    """Compute causal attention line by line, as the paper writes it (Algorithm 5, B.3).

    One head, one sequence. Its plain softmax gives NaN for a row of M that is all −∞;
    :func:`attention` gives zeros.

    Args:
        Q, K, V: shape (T, d).
        M: shape (T, T), 0 where allowed, −∞ where blocked.

    Returns:
        shape (T, d), the output O.

    >>> from causal_lab.masks.rules import algorithm_4_causal_mask
    >>> V = torch.tensor([[2.0], [4.0]])
    >>> algorithm_5_causal_attention(0 * V, 0 * V, V, algorithm_4_causal_mask(2)).tolist()
    [[2.0], [3.0]]
    """
    for name, matrix in (("Q", Q), ("K", K), ("V", V), ("M", M)):
        check_same_device(name, check_same_dtype(name, matrix, "Q", Q), "Q", Q)
    T, d = Q.shape if Q.ndim == 2 and Q.numel() else (-1, -1)
    if K.shape != (T, d) or V.shape != (T, d) or M.shape != (T, T):
        shapes = ", ".join(str(tuple(matrix.shape)) for matrix in (Q, K, V, M))
        raise ValueError(
            f"Algorithm 5 needs Q, K, V of shape (T, d) and M of shape (T, T), got {shapes}; "
            "attention() takes batches, heads and rectangles"
        )
    S = Q @ K.T
    S = S / math.sqrt(d)
    S = S + M
    A = torch.softmax(S, dim=-1)
    O = A @ V  # noqa: E741 (the paper's letter)
    return O


def attention_weights(
    q: Tensor,
    k: Tensor,
    blocked: Tensor | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Say how much each query looks at each key.

    Source: Vaswani et al., "Attention is all you need", 2017; the paper, §2.1 and §4.2.

    Args:
        q: shape (…, query, dim).
        k: shape (…, key, dim).
        blocked: bool, broadcastable to (…, query, key), True where the query may not look.
        bias: broadcastable to (…, query, key), added to the scores before the softmax.
        scale: multiplies the dot products; ``1 / sqrt(dim)`` if not given.

    Returns:
        shape (…, query, key), rows sum to 1; exactly 0 where blocked; a query that sees no key
        gives zeros.

    >>> x = torch.zeros(2, 4)
    >>> attention_weights(x, x, generate_causal_mask(2)).tolist()
    [[1.0, 0.0], [0.5, 0.5]]
    """
    _check_queries_and_keys(q, k)
    # Scaled first: in float16 the bare dot products may be too large.
    scores = (q * _scale(scale, q)) @ k.transpose(-2, -1)  # (…, query, key)
    if bias is not None:
        scores = scores + check_fits("bias", check_floating("bias", bias), scores).to(scores.dtype)
    return masked_softmax(scores, blocked)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    blocked: Tensor | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Average the values of the keys that each query may look at.

    Source: the paper, §2.1, §4.2 and Algorithm 5 (B.3), for any number of leading axes.

    Args:
        q: shape (…, query, dim).
        k: shape (…, key, dim).
        v: shape (…, key, value_dim), values, one per key.
        blocked: bool, broadcastable to (…, query, key), True where the query may not look.
        bias: broadcastable to (…, query, key), added to the scores before the softmax.
        scale: multiplies the dot products; ``1 / sqrt(dim)`` if not given.

    Returns:
        output: shape (…, query, value_dim), one weighted average of values per query; zeros for a
            query that sees no key.
        weights: shape (…, query, key), as :func:`attention_weights` gives them.

    >>> x = torch.zeros(2, 4)
    >>> v = torch.tensor([[2.0], [4.0]])
    >>> output, weights = attention(x, x, v, generate_causal_mask(2))
    >>> output.tolist()
    [[2.0], [3.0]]
    """
    _check_queries_and_keys(q, k)
    _check_values(q, k, v)
    weights = attention_weights(q, k, blocked, bias, scale)
    return weights @ v, weights


def fused_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    blocked: Tensor | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Compute the same output by PyTorch's fused kernel, which does not show the weights.

    ``scaled_dot_product_attention`` wants the opposite mask, True where *allowed*; the crossing
    happens here, once. Its ``is_causal=True`` is never used: it is aligned upper left, which is
    wrong behind a cache.

    Args:
        q, k, v, blocked, bias, scale: as for :func:`attention`.

    Returns:
        shape (…, query, value_dim), the output of :func:`attention`.

    >>> x = torch.zeros(2, 4)
    >>> v = torch.tensor([[2.0], [4.0]])
    >>> fused_attention(x, x, v, generate_causal_mask(2)).tolist()
    [[2.0], [3.0]]
    """
    _check_queries_and_keys(q, k)
    _check_values(q, k, v)
    lead = q.shape[:-2]
    if not lead == k.shape[:-2] == v.shape[:-2]:  # asked first: broadcasting shapes is slow
        lead = torch.broadcast_shapes(lead, k.shape[:-2], v.shape[:-2])
    # A shape to check against, without the memory.
    scores = q.new_empty(()).expand(*lead, q.shape[-2], k.shape[-2])
    mask = None
    if blocked is not None:
        mask = to_allowed(check_blocked(blocked, scores))
    if bias is not None:
        mask = check_fits("bias", check_floating("bias", bias), scores).to(q.dtype)
        if blocked is not None:
            mask = torch.where(blocked, float("-inf"), mask)
    q, k, v = (_four_axes(x.expand(*lead, *x.shape[-2:])) for x in (q, k, v))
    if mask is not None:
        mask = _four_axes(mask.expand(scores.shape))
    output = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=_scale(scale, q))
    return output.reshape(*lead, *output.shape[-2:])


def _four_axes(x: Tensor) -> Tensor:
    """View the tensor as (batch, head, length, dim): only so does PyTorch take its fused path."""
    return x[(None,) * (4 - x.ndim)] if x.ndim <= 4 else x.flatten(0, -4)


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """Cut the last axis into heads and bring them before the sequence.

    Args:
        x: shape (…, length, num_heads · dim).
        num_heads: heads, at least 1; must divide the last axis.

    Returns:
        shape (…, head, length, dim), one shorter vector per head and token.

    >>> split_heads(torch.arange(6.0).reshape(1, 6), num_heads=3).tolist()
    [[[0.0, 1.0]], [[2.0, 3.0]], [[4.0, 5.0]]]
    """
    num_heads = check_size("num_heads", num_heads)
    check_tensor("x", x)
    if x.ndim < 2 or x.shape[-1] % num_heads:
        raise ValueError(
            f"x of shape {tuple(x.shape)} cannot be cut into {num_heads} heads; its shape must "
            "be (…, length, d_model) with d_model a multiple of num_heads"
        )
    return x.unflatten(-1, (num_heads, -1)).transpose(-3, -2)


def merge_heads(x: Tensor) -> Tensor:
    """Put the heads of each token side by side again: undo :func:`split_heads`.

    The heads are transposed behind the sequence first; a plain reshape would mix different
    positions, the future among them.

    Args:
        x: shape (…, head, length, dim), one vector per head and token.

    Returns:
        shape (…, length, head · dim).

    >>> merge_heads(split_heads(torch.arange(6.0).reshape(1, 6), num_heads=3)).tolist()
    [[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]]
    """
    if check_tensor("x", x).ndim < 3:
        raise ValueError(f"x must have shape (…, head, length, dim), got {tuple(x.shape)}")
    return x.transpose(-3, -2).flatten(-2)


class MultiHeadAttention(nn.Module):
    """Let several heads look in parallel, each through a projection of its own.

    Source: Vaswani et al., 2017, section 3.2.2.

    Args:
        d_model: size of a token's vector; a multiple of ``num_heads``.
        bias: whether the four projections add a constant.
        dropout: share of the weights dropped in training, 0 to below 1.

    >>> layer = MultiHeadAttention(d_model=6, num_heads=3)
    >>> output, weights = layer(torch.zeros(2, 5, 6), blocked=generate_causal_mask(5))
    >>> tuple(output.shape), tuple(weights.shape)
    ((2, 5, 6), (2, 3, 5, 5))
    """

    def __init__(self, d_model: int, num_heads: int, *, bias: bool = True, dropout: float = 0.0):
        super().__init__()
        d_model, num_heads = _check_heads(d_model, num_heads)
        if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {dropout!r}")
        self.num_heads = num_heads
        self.dropout = dropout
        self.query_projection = nn.Linear(d_model, d_model, bias=bias)
        self.key_projection = nn.Linear(d_model, d_model, bias=bias)
        self.value_projection = nn.Linear(d_model, d_model, bias=bias)
        self.output_projection = nn.Linear(d_model, d_model, bias=bias)

    @classmethod
    def from_torch(cls, module: nn.MultiheadAttention) -> "MultiHeadAttention":
        """Take over the weights of PyTorch's own layer.

        Args:
            module: with keys and values of the queries' size, without ``add_bias_kv`` and
                ``add_zero_attn``.

        Returns:
            The same function, on the same device, in the same mode, with weights of its own.

        >>> layer = MultiHeadAttention.from_torch(nn.MultiheadAttention(6, 3))
        >>> layer.num_heads
        3
        """
        if not isinstance(module, nn.MultiheadAttention):
            raise ValueError(f"from_torch needs an nn.MultiheadAttention, got {describe(module)}")
        packed = module.in_proj_weight
        if packed is None or module.bias_k is not None or module.add_zero_attn:
            raise ValueError(
                "from_torch needs keys and values of the queries' size (no kdim, vdim), no "
                "add_bias_kv and no add_zero_attn"
            )
        layer = cls(
            module.embed_dim,
            module.num_heads,
            bias=module.in_proj_bias is not None,
            dropout=module.dropout,
        ).to(device=packed.device, dtype=packed.dtype)
        projections = (layer.query_projection, layer.key_projection, layer.value_projection)
        with torch.no_grad():
            for projection, weight in zip(projections, packed.chunk(3), strict=True):
                projection.weight.copy_(weight)
            layer.output_projection.weight.copy_(module.out_proj.weight)
            if module.in_proj_bias is not None:
                for projection, part in zip(projections, module.in_proj_bias.chunk(3), strict=True):
                    projection.bias.copy_(part)
                layer.output_projection.bias.copy_(module.out_proj.bias)
        return layer.train(module.training)

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        blocked: Tensor | None = None,
        bias: Tensor | None = None,
        turn: Callable[[Tensor], Tensor] | None = None,
        remember: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
        need_weights: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        """Look from the tokens of ``x`` at the tokens of ``context``.

        Args:
            x: shape (batch, query, d_model).
            context: shape (batch, key, d_model), who is looked at; ``x`` itself if not given.
            blocked: bool, broadcastable to (batch, head, query, key), True where the query may not
                look. Nothing is blocked unless you say so.
            bias: broadcastable to (batch, head, query, key), added to the scores before the
                softmax.
            turn: turns queries and keys by their positions, as
                :func:`causal_lab.attention.positions.rotation` does, before they are remembered.
            remember: a cache's ``append``: takes the new keys and values, shape
                (batch, head, query, dim), and gives back all that may be looked at. The key axis of
                ``blocked`` and ``bias`` counts all of them.
            need_weights: False takes the fused path, which shows no weights.

        Returns:
            output: shape (batch, query, d_model), one vector per query.
            weights: shape (batch, head, query, key), before dropout, so that rows sum to 1 in
                training too (those of ``nn.MultiheadAttention`` do not).

        >>> layer = MultiHeadAttention(d_model=4, num_heads=1)
        >>> layer(torch.zeros(1, 2, 4), need_weights=False)[1] is None
        True
        """
        if remember is not None and context is not None:
            raise ValueError(
                "remember keeps the keys of the tokens themselves; leave out either it or context"
            )
        if turn is not None and context is not None:
            raise ValueError(
                "turn is for queries and keys at the same positions; leave out either it or context"
            )
        context = x if context is None else context
        _check_tokens("x", x, self.query_projection.weight)
        if context is not x:
            _check_tokens("context", context, self.query_projection.weight)
        q = split_heads(self.query_projection(x), self.num_heads)  # (batch, head, query, dim)
        k = split_heads(self.key_projection(context), self.num_heads)
        v = split_heads(self.value_projection(context), self.num_heads)
        if turn is not None:
            q, k = turn(q), turn(k)
        if remember is not None:
            k, v = remember(k, v)  # (batch, head, old and new, dim)
        dropped = self.dropout if self.training else 0.0
        if need_weights or dropped:
            weights = attention_weights(q, k, blocked, bias)
            heads = F.dropout(weights, dropped) @ v if dropped else weights @ v
        else:
            weights = None
            heads = fused_attention(q, k, v, blocked, bias)
        output = self.output_projection(merge_heads(heads))
        return output, weights if need_weights else None


class CausalAttention(nn.Module):
    """Wrap ``nn.MultiheadAttention`` so that no position sees a later one (B.6).

    ``attn_mask`` is True where blocked, like every mask here.

    Args:
        d_model: size of a token's vector; a multiple of ``num_heads``.

    >>> output, weights = CausalAttention(64, 4)(torch.zeros(2, 5, 64))
    >>> tuple(output.shape), tuple(weights.shape)
    ((2, 5, 64), (2, 5, 5))
    """

    def __init__(self, d_model: int, num_heads: int):
        super().__init__()
        d_model, num_heads = _check_heads(d_model, num_heads)
        self.attn = nn.MultiheadAttention(d_model, num_heads, batch_first=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Look from every token at itself and the tokens before it.

        Args:
            x: shape (batch, length, d_model).

        Returns:
            output: shape (batch, length, d_model).
            weights: shape (batch, query, key), averaged over the heads, as
                ``nn.MultiheadAttention`` does by default.

        >>> CausalAttention(4, 2)(torch.zeros(1, 1, 4))[1].tolist()
        [[[1.0]]]
        """
        _check_tokens("x", x, self.attn.out_proj.weight)
        T = x.shape[1]
        mask = generate_causal_mask(T, device=x.device)
        out, weights = self.attn(x, x, x, attn_mask=mask)
        return out, weights


def _scale(scale: float | None, q: Tensor) -> float:
    if scale is None:
        return q.shape[-1] ** -0.5
    if not isinstance(scale, int | float) or not math.isfinite(scale):
        raise ValueError(f"scale must be a finite number, got {scale!r}; None means 1 / sqrt(dim)")
    return float(scale)


def _check_tokens(name: str, tokens: Tensor, weight: Tensor) -> None:
    """Check that tokens fit a layer, one of whose square weights is given."""
    d_model = weight.shape[-1]
    if check_floating(name, tokens).ndim != 3 or tokens.shape[-1] != d_model or 0 in tokens.shape:
        raise ValueError(
            f"{name} must have shape (batch, length, {d_model}) with no empty axis, got "
            f"{tuple(tokens.shape)}"
        )
    check_same_device(name, tokens, "the layer", weight)
    if not torch.is_autocast_enabled(tokens.device.type):  # which converts by itself
        check_same_dtype(name, tokens, "the layer", weight)


def _check_heads(d_model: int, num_heads: int) -> tuple[int, int]:
    d_model, num_heads = check_size("d_model", d_model), check_size("num_heads", num_heads)
    if d_model % num_heads:
        raise ValueError(
            f"d_model={d_model} is no multiple of num_heads={num_heads}; every head needs the "
            "same whole number of dimensions"
        )
    return d_model, num_heads


def _check_queries_and_keys(q: Tensor, k: Tensor) -> None:
    for name, tensor in (("q", q), ("k", k)):
        check_floating(name, tensor)
        if tensor.ndim < 2 or 0 in tensor.shape:
            raise ValueError(
                f"{name} must have shape (…, length, dim) with no empty axis, got "
                f"{tuple(tensor.shape)}"
            )
    check_same_device("k", k, "q", q)
    if q.shape[-1] != k.shape[-1] or q.dtype != k.dtype:
        raise ValueError(
            f"q and k must agree in dim and dtype, got {tuple(q.shape)} {q.dtype} and "
            f"{tuple(k.shape)} {k.dtype}"
        )
    _check_leading("q", q, "k", k)


def _check_values(q: Tensor, k: Tensor, v: Tensor) -> None:
    check_floating("v", v)
    check_same_device("v", v, "k", k)
    if v.ndim < 2 or v.shape[-2] != k.shape[-2] or 0 in v.shape or v.dtype != k.dtype:
        raise ValueError(
            f"v must have one value per key in the keys' dtype, got {tuple(v.shape)} {v.dtype} "
            f"for k {tuple(k.shape)} {k.dtype}"
        )
    _check_leading("k", k, "v", v)
    _check_leading("q", q, "v", v)


def _check_leading(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    if tensor.shape[:-2] == other.shape[:-2]:  # asked first: broadcasting shapes is slow
        return
    try:
        torch.broadcast_shapes(tensor.shape[:-2], other.shape[:-2])
    except RuntimeError:
        raise ValueError(
            f"{name} and {other_name} must agree in (batch, head), got {tuple(tensor.shape)} and "
            f"{tuple(other.shape)}; did you forget to split or transpose the heads?"
        ) from None
