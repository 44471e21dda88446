"""Where a token stands: four ways to tell attention, which by itself does not know.

Two are added to the token's vector (sinusoidal, learned), one to the scores (ALiBi), one rotates
queries and keys (rotary). All take positions as numbers of any shape, integer or
floating, so a chunk behind a cache passes on where it stands.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from causal_lab.masks.rules import Device
from causal_lab.validation import (
    check_floating,
    check_same_device,
    check_size,
    check_tensor,
    describe,
)

LAYOUTS = ("half", "interleaved")


def sinusoidal_positions(positions: Tensor, dim: int, *, base: float = 10000.0) -> Tensor:
    """Write positions as waves to be added to the tokens' vectors: float32, shape (…, dim).

    Source: Vaswani et al., "Attention is all you need", 2017, section 3.5.

    Args:
        positions: integer or floating, any shape.
        dim: size of a token's vector; even.
        base: the longest wave is nearly 2π · base positions long.

    >>> sinusoidal_positions(torch.tensor([0, 1]), 2).round(decimals=2).tolist()
    [[0.0, 1.0], [0.8399999737739563, 0.5400000214576721]]
    """
    # Sines stand in the even places, cosines in the odd ones.
    angles = rotary_angles(positions, dim, base=base)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)


def rotary_angles(positions: Tensor, dim: int, *, base: float = 10000.0) -> Tensor:
    """Say by how many radians each pair of numbers turns: float32, shape (…, dim / 2).

    Args:
        positions: integer or floating, any shape.
        dim: size of a head; even.
        base: the slowest pair turns by nearly 1 / base per position.

    >>> rotary_angles(torch.tensor([0, 3]), 4, base=100.0).tolist()
    [[0.0, 0.0], [3.0, 0.30000001192092896]]
    """
    # Source: Su et al., "RoFormer: enhanced transformer with rotary position embedding", 2021.
    dim = check_size("dim", dim)
    if dim % 2:
        raise ValueError(f"dim must be even, because numbers turn in pairs, got {dim}")
    if isinstance(base, bool) or not isinstance(base, int | float) or not 1 < base < math.inf:
        raise ValueError(f"base must be above 1, got {base!r}; 10000.0 is usual")
    _check_numbers("positions", positions)
    pair = torch.arange(0, dim, 2, dtype=torch.float32, device=positions.device)
    # Pair p turns by position · base^(−2p/dim).
    return positions[..., None].float() * (1.0 / base ** (pair / dim))


def rotate(x: Tensor, positions: Tensor, *, base: float = 10000.0, layout: str = "half") -> Tensor:
    """Rotate queries or keys, so that scores depend on the distance (Su et al., "RoFormer", 2021).

    Args:
        x: shape (…, length, dim), queries or keys of a head; ``dim`` is even.
        positions: broadcastable to (…, length), where they stand, the cached tokens counted.
        base: as for :func:`rotary_angles`; the larger, the slower the turns.
        layout: which numbers make a pair: p and p + dim/2 ("half", as in GPT-NeoX and Llama), or 2p
            and 2p + 1 ("interleaved", as in GPT-J).

    >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    >>> rotate(x, torch.tensor([0, 1])).round(decimals=2).tolist()
    [[1.0, 0.0], [0.5400000214576721, 0.8399999737739563]]
    """
    # The layouts are the same up to a permutation of the numbers, see to_half.
    if check_floating("x", x).ndim < 2:
        raise ValueError(f"x must have axes (…, length, dim), got shape {tuple(x.shape)}")
    return rotation(positions, x.shape[-1], base=base, layout=layout)(x)


def rotation(
    positions: Tensor, dim: int, *, base: float = 10000.0, layout: str = "half"
) -> Callable[[Tensor], Tensor]:
    """Prepare :func:`rotate` for the queries and keys of many layers, shape (…, length, dim).

    Args:
        positions: integer or floating, broadcastable to (…, length).
        dim: size of a head; even.
        base, layout: as for :func:`rotate`.

    >>> rotate_here = rotation(torch.tensor([0, 1]), 2)
    >>> rotate_here(torch.tensor([[1.0, 0.0], [1.0, 0.0]])).round(decimals=2).tolist()
    [[1.0, 0.0], [0.5400000214576721, 0.8399999737739563]]
    """
    if layout not in LAYOUTS:
        raise ValueError(f'layout must be "half" or "interleaved", got {layout!r}')
    angles = rotary_angles(positions, dim, base=base)
    cos, sin = angles.cos(), angles.sin()

    def apply_rotation(x: Tensor) -> Tensor:
        check_same_device("positions", positions, "x", check_floating("x", x))
        if x.ndim < 1 or x.shape[-1] != dim:  # one angle would quietly turn any number of pairs
            raise ValueError(f"this rotation is for dim={dim}, got x of shape {tuple(x.shape)}")
        pairs = (*x.shape[:-1], x.shape[-1] // 2)
        try:
            c, s = cos.to(x.dtype).expand(pairs), sin.to(x.dtype).expand(pairs)
        except RuntimeError as error:
            raise ValueError(
                f"positions of shape {tuple(positions.shape)} do not fit x of shape "
                f"{tuple(x.shape)}; give one per token, with axes of 1 where they are shared"
            ) from error
        if layout == "half":
            a, b = x.chunk(2, dim=-1)
            return torch.cat([a * c - b * s, a * s + b * c], dim=-1)
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack([a * c - b * s, a * s + b * c], dim=-1).flatten(-2)

    return apply_rotation


def to_half(x: Tensor) -> Tensor:
    """Reorder interleaved pairs to halves, shape (…, dim): all first numbers, then all second ones.

    Args:
        x: dim is even; of a projection's weight, whose rows are a head's numbers, the transpose.

    >>> to_half(torch.arange(6)).tolist()
    [0, 2, 4, 1, 3, 5]
    """
    # Rotating the result in the "half" layout is rotating x in the "interleaved" one.
    _check_pairs(x)
    return torch.cat([x[..., 0::2], x[..., 1::2]], dim=-1)


def to_interleaved(x: Tensor) -> Tensor:
    """Reorder halves to interleaved pairs, shape (…, dim): the way back from :func:`to_half`.

    >>> to_interleaved(to_half(torch.arange(6))).tolist()
    [0, 1, 2, 3, 4, 5]
    """
    _check_pairs(x)
    return torch.stack(x.chunk(2, dim=-1), dim=-1).flatten(-2)


def alibi_slopes(num_heads: int, *, device: Device = None) -> Tensor:
    """Say how much each head minds a step of distance: float32, shape (head,) (Press et al., 2022).

    >>> alibi_slopes(3).tolist()
    [0.0625, 0.00390625, 0.25]
    """
    num_heads = check_size("num_heads", num_heads)
    # For n heads, n a power of two: 2^(−8/n), 2^(−16/n), … down to 2^(−8). For other n: those of
    # the power of two below, then every second one of the power of two above, from its first.
    below = 2 ** (num_heads.bit_length() - 1)
    exponents = [8 * (head + 1) / below for head in range(below)]
    exponents += [8 * (2 * head + 1) / (2 * below) for head in range(num_heads - below)]
    return 2.0 ** -torch.tensor(exponents, dtype=torch.float32, device=device)


def alibi_bias(query_positions: Tensor, key_positions: Tensor, num_heads: int) -> Tensor:
    """Take from a score in proportion to the distance: float32, shape (…, head, query, key).

    Source: Press, Smith and Lewis, "Train short, test long", 2022.

    Args:
        query_positions: (…, query).
        key_positions: (…, key), the cached ones included; the axes before broadcast.

    >>> alibi_bias(torch.tensor([2]), torch.arange(3), num_heads=1).tolist()
    [[[-0.0078125, -0.00390625, 0.0]]]
    """
    # −slope · (query − key), so 0 at the query itself. For keys after it, it would be a reward:
    # block them.
    for name, places in (("query_positions", query_positions), ("key_positions", key_positions)):
        if _check_numbers(name, places).ndim < 1:
            raise ValueError(f"{name} must have an axis, one number per token")
    check_same_device("key_positions", key_positions, "query_positions", query_positions)
    slopes = alibi_slopes(num_heads, device=query_positions.device)
    # Small or unsigned integers would overflow.
    queries, keys = query_positions.float(), key_positions.float()
    try:
        ahead = keys[..., None, None, :] - queries[..., None, :, None]
    except RuntimeError as error:
        raise ValueError(
            f"query_positions {tuple(query_positions.shape)} and key_positions "
            f"{tuple(key_positions.shape)} must agree in the axes before the last"
        ) from error
    return slopes[:, None, None] * ahead


def _check_numbers(name: str, positions: Tensor) -> Tensor:
    check_tensor(name, positions)
    if positions.dtype == torch.bool or positions.is_complex():
        raise ValueError(
            f"{name} must be numbers such as torch.arange(length), got {describe(positions)}"
        )
    return positions


def _check_pairs(x: Tensor) -> None:
    check_tensor("x", x)
    if x.ndim < 1 or x.shape[-1] % 2:
        raise ValueError(f"the last axis must be even, a number of pairs, got {tuple(x.shape)}")
