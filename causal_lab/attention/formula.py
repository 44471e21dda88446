"""Scores, mask, softmax, values: how attention fits together.

Shapes are ``(batch, head, query, dim)`` for queries and ``(batch, head, key, dim)`` for
keys and values; every axis before the last two is optional.

``attention`` and its kin check what comes in; ``weigh`` and ``attend_fused`` are the bare
formulas behind them, which layers call.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from causal_lab.attention.softmax import share_weight
from causal_lab.validation import (
    check_blocked,
    check_fits,
    check_floating,
    check_same_device,
    check_same_dtype,
)


def algorithm_5_causal_attention(Q: Tensor, K: Tensor, V: Tensor, M: Tensor) -> Tensor:
    """Compute causal attention line by line, as the paper writes it (Algorithm 5, B.3).

    One head, one sequence. Its plain softmax gives NaN for a row of M that is all −∞;
    :func:`attention` gives zeros.

    Args:
        Q, K, V: queries, keys and values, (T, d).
        M: 0 where allowed, −∞ where blocked, (T, T).

    Returns:
        The output O, (T, d).

    >>> from causal_lab.masks import algorithm_4_causal_mask
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


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    blocked: Tensor | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Average the values of the keys that each query may look at (the paper, §2.1, §4.2, B.3).

    Args:
        q: (…, query, dim).
        k: (…, key, dim).
        v: (…, key, value_dim), one per key.
        blocked: bool, broadcastable to (…, query, key), True where the query may not look.
        bias: added to the scores before the softmax, broadcastable alike.
        scale: multiplies the dot products; ``1 / sqrt(dim)`` if not given.

    Returns:
        The output, (…, query, value_dim), zeros for a query that sees no key; and the weights.

    >>> x, v = torch.zeros(2, 4), torch.tensor([[2.0], [4.0]])
    >>> output, weights = attention(x, x, v, torch.tensor([[False, True], [False, False]]))
    >>> output.tolist()
    [[2.0], [3.0]]
    """
    _check(q, k, v, blocked=blocked, bias=bias, scale=scale)
    weights = weigh(q, k, blocked, bias, scale)
    return weights @ v, weights


def attention_weights(
    q: Tensor,
    k: Tensor,
    blocked: Tensor | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Say how much each query looks at each key; arguments as for :func:`attention`.

    Source: Vaswani et al., "Attention is all you need", 2017; the paper, §2.1 and §4.2.

    Returns:
        (…, query, key); rows sum to 1, exactly 0 where blocked; a query that sees no key gives
        zeros.

    >>> x = torch.zeros(2, 4)
    >>> attention_weights(x, x, torch.tensor([[False, True], [False, False]])).tolist()
    [[1.0, 0.0], [0.5, 0.5]]
    """
    _check(q, k, blocked=blocked, bias=bias, scale=scale)
    return weigh(q, k, blocked, bias, scale)


def fused_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    blocked: Tensor | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Compute the output of :func:`attention` by PyTorch's fused kernel, which shows no weights.

    Returns:
        (…, query, value_dim).

    >>> x, v = torch.zeros(2, 4), torch.tensor([[2.0], [4.0]])
    >>> fused_attention(x, x, v, torch.tensor([[False, True], [False, False]])).tolist()
    [[2.0], [3.0]]
    """
    scores = _check(q, k, v, blocked=blocked, bias=bias, scale=scale)
    lead = scores.shape[:-2]
    q, k, v = (_four_axes(x.expand(*lead, *x.shape[-2:])) for x in (q, k, v))
    blocked, bias = (
        None if x is None else _four_axes(x.expand(scores.shape)) for x in (blocked, bias)
    )
    output = attend_fused(q, k, v, blocked, bias, scale)
    return output.reshape(*lead, *output.shape[-2:])


def weigh(
    q: Tensor, k: Tensor, blocked: Tensor | None, bias: Tensor | None, scale: float | None = None
) -> Tensor:
    """Turn queries and keys into weights, unchecked: the middle of :func:`attention`.

    Returns:
        (…, query, key).

    >>> weigh(torch.zeros(1, 4), torch.zeros(2, 4), None, None).tolist()
    [[0.5, 0.5]]
    """
    # Scaled first: in float16 the bare dot products may be too large.
    scores = (q * _scale(scale, q)) @ k.transpose(-2, -1)  # (…, query, key)
    if bias is not None:
        scores = scores + bias.to(scores.dtype)
    return share_weight(scores, blocked)


def attend_fused(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    blocked: Tensor | None,
    bias: Tensor | None,
    scale: float | None = None,
) -> Tensor:
    """Call ``scaled_dot_product_attention`` on (batch, head, length, dim), unchecked.

    It wants the opposite mask, True where *allowed*: the crossing happens here, once. A query that
    sees no key gets zeros from PyTorch's kernel, as ``share_weight`` gives by hand. Its
    ``is_causal=True`` is never used: it is aligned upper left, which is wrong behind a cache.
    Keys may have fewer heads, each for a group of the queries'.

    >>> q, v = torch.zeros(1, 1, 1, 4), torch.tensor([[[[2.0], [4.0]]]])
    >>> attend_fused(q, torch.zeros(1, 1, 2, 4), v, None, None).tolist()
    [[[[3.0]]]]
    """
    mask = None if blocked is None else ~blocked
    if bias is not None:
        mask = bias.to(q.dtype)
        if blocked is not None:
            mask = torch.where(blocked, float("-inf"), mask)
    if mask is not None:  # in full, so that PyTorch takes its fused path
        mask = mask.expand(*q.shape[:-1], k.shape[-2])
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, scale=_scale(scale, q), enable_gqa=k.shape[1] < q.shape[1]
    )


def _scale(scale: float | None, q: Tensor) -> float:
    return q.shape[-1] ** -0.5 if scale is None else float(scale)


def _four_axes(x: Tensor) -> Tensor:
    """View the tensor as (batch, head, length, dim): only so does PyTorch take its fused path."""
    return x[(None,) * (4 - x.ndim)] if x.ndim <= 4 else x.flatten(0, -4)


def _check(q: Tensor, k: Tensor, v: Tensor | None = None, *, blocked, bias, scale) -> Tensor:
    """Check all that goes into the formula; return scores to look at the shape of."""
    named = {"q": q, "k": k} if v is None else {"q": q, "k": k, "v": v}
    for name, tensor in named.items():
        check_floating(name, tensor)
        if name != "v" and (tensor.ndim < 2 or 0 in tensor.shape):
            raise ValueError(
                f"{name} must have shape (…, length, dim) with no empty axis, got "
                f"{tuple(tensor.shape)}"
            )
        check_same_device(name, tensor, "q", q)
    if q.shape[-1] != k.shape[-1] or q.dtype != k.dtype:
        raise ValueError(
            f"q and k must agree in dim and dtype, got {tuple(q.shape)} {q.dtype} and "
            f"{tuple(k.shape)} {k.dtype}"
        )
    if v is not None and (
        v.ndim < 2 or v.shape[-2] != k.shape[-2] or 0 in v.shape or v.dtype != k.dtype
    ):
        raise ValueError(
            f"v must have one value per key in the keys' dtype, got {tuple(v.shape)} {v.dtype} "
            f"for k {tuple(k.shape)} {k.dtype}"
        )
    if scale is not None and (not isinstance(scale, int | float) or not math.isfinite(scale)):
        raise ValueError(f"scale must be a finite number, got {scale!r}; None means 1 / sqrt(dim)")
    # A shape to check against, without the memory.
    scores = q.new_empty(()).expand(*_leading(named), q.shape[-2], k.shape[-2])
    if blocked is not None:
        check_blocked(blocked, scores)
    if bias is not None:
        check_fits("bias", check_floating("bias", bias), scores)
    return scores


def _leading(named: dict[str, Tensor]) -> torch.Size:
    """Join the axes before the last two, or say which tensors disagree in them."""
    for name, tensor in named.items():
        for other_name, other in named.items():
            try:
                torch.broadcast_shapes(tensor.shape[:-2], other.shape[:-2])
            except RuntimeError:
                raise ValueError(
                    f"{name} and {other_name} must agree in (batch, head), got "
                    f"{tuple(tensor.shape)} and {tuple(other.shape)}; did you forget to split or "
                    "transpose the heads?"
                ) from None
    return torch.broadcast_shapes(*(tensor.shape[:-2] for tensor in named.values()))
