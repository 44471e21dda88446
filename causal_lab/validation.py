"""What was needed, what was given, and how to mend it: the checks of what a caller hands in.

Each returns what it was given when that is fine and raises a ``ValueError`` when not.
"""

import operator

import torch
from torch import Tensor


def check_boolean(name: str, mask: Tensor) -> Tensor:
    """Return the mask if it is a boolean tensor, else say how to mend it.

    >>> check_boolean("blocked", torch.tensor([True])).tolist()
    [True]
    """
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        raise ValueError(
            f"{name} must be a boolean tensor, got {describe(mask)}; a 0/1 mask becomes one with "
            ".bool(), a 0/−∞ matrix with from_additive"
        )
    return mask


def check_size(name: str, size: int, minimum: int = 1) -> int:
    """Return the size as an int if it is large enough, else say what was needed.

    >>> check_size("T", 4)
    4
    """
    # Integers of NumPy count as integers, booleans do not.
    try:
        whole = operator.index(size)
    except TypeError:
        whole = None
    is_boolean = isinstance(size, bool) or getattr(size, "dtype", None) == torch.bool
    if whole is None or is_boolean or whole < minimum:
        raise ValueError(f"{name} must be an integer of at least {minimum}, got {size!r}")
    return whole


def check_floating(name: str, tensor: Tensor) -> Tensor:
    """Return the tensor if its dtype is floating, else say how to mend it.

    >>> check_floating("scores", torch.zeros(2)).tolist()
    [0.0, 0.0]
    """
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
        raise ValueError(
            f"{name} must be a floating tensor, got {describe(tensor)}; a tensor of integers "
            "becomes one with .float(), a list with torch.tensor([…], dtype=torch.float32)"
        )
    return tensor


def check_axis(name: str, tensor: Tensor, dim: int) -> Tensor:
    """Return the tensor if it has the axis, with at least one entry along it.

    >>> check_axis("scores", torch.zeros(2, 3), -1).shape[-1]
    3
    """
    shape = tuple(tensor.shape)
    whole = isinstance(dim, int) and not isinstance(dim, bool)
    if not whole or not -len(shape) <= dim < len(shape):
        raise ValueError(
            f"dim={dim!r} does not exist in {name} of shape {shape}; the keys are usually the "
            "last axis, dim=-1"
        )
    if shape[dim] == 0:
        raise ValueError(f"{name} of shape {shape} is empty along dim={dim}; give at least one key")
    return tensor


def check_blocked(blocked: Tensor, scores: Tensor) -> Tensor:
    """Return the mask if it fits the scores, (…, query, key), else say how to mend it.

    >>> check_blocked(torch.tensor([True, False]), torch.zeros(3, 2)).tolist()
    [True, False]
    """
    return check_fits("blocked", check_boolean("blocked", blocked), scores)


def check_fits(name: str, tensor: Tensor, scores: Tensor) -> Tensor:
    """Return the mask or bias if it broadcasts to the scores without enlarging them.

    >>> check_fits("bias", torch.zeros(2), torch.zeros(3, 2)).shape[0]
    2
    """
    check_same_device(name, tensor, "the scores", scores)
    try:
        fits = torch.broadcast_shapes(tensor.shape, scores.shape) == scores.shape
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"{name} has shape {tuple(tensor.shape)} and does not broadcast to the scores' "
            f"{tuple(scores.shape)}; its last two axes are (query, key), axes before them "
            "(batch, head)"
        )
    return tensor


def check_same_device(name: str, tensor: Tensor, other_name: str, other: Tensor) -> Tensor:
    """Return the tensor if it lives where the other one does.

    >>> check_same_device("k", torch.zeros(2), "q", torch.zeros(2)).shape[0]
    2
    """
    if tensor.device != other.device:
        raise ValueError(
            f"{name} lives on {tensor.device}, {other_name} on {other.device}; move it with "
            f'{name}.to("{other.device}")'
        )
    return tensor


def check_same_dtype(name: str, tensor: Tensor, other_name: str, other: Tensor) -> Tensor:
    """Return the tensor if it is floating and has the dtype of the other one.

    >>> check_same_dtype("k", torch.zeros(2), "q", torch.zeros(2)).shape[0]
    2
    """
    if check_floating(name, tensor).dtype != other.dtype:
        raise ValueError(
            f"{name} has dtype {tensor.dtype}, {other_name} has {other.dtype}; convert it with "
            f"{name}.to({other.dtype})"
        )
    return tensor


def check_tensor(name: str, value: Tensor) -> Tensor:
    """Return the value if it is a tensor, else say how to make one of it.

    >>> check_tensor("x", torch.zeros(2)).tolist()
    [0.0, 0.0]
    """
    if not isinstance(value, Tensor):
        raise ValueError(
            f"{name} must be a tensor, got {describe(value)}; try torch.tensor({name})"
        )
    return value


def describe(value: object) -> str:
    """Name a value in an error message: a tensor's dtype, or the type of anything else.

    >>> describe(torch.zeros(2)), describe([0.0])
    ('a torch.float32 tensor', 'list')
    """
    return f"a {value.dtype} tensor" if isinstance(value, Tensor) else type(value).__name__


def check_heads(
    d_model: int, num_heads: int, num_kv_heads: int | None = None, dropout: float = 0.0
) -> int:
    """Check that heads share the vector evenly, and keys' heads the queries'; return how many.

    >>> check_heads(8, 4), check_heads(8, 4, num_kv_heads=2)
    (4, 2)
    """
    if check_size("d_model", d_model) % check_size("num_heads", num_heads):
        raise ValueError(
            f"d_model={d_model} is no multiple of num_heads={num_heads}; every head needs the "
            "same whole number of dimensions"
        )
    if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise ValueError(f"dropout must be at least 0 and below 1, got {dropout!r}")
    if num_kv_heads is None:
        return num_heads
    if num_heads % check_size("num_kv_heads", num_kv_heads):
        raise ValueError(
            f"num_heads={num_heads} is no multiple of num_kv_heads={num_kv_heads}; every head of "
            "keys serves a group of the same size"
        )
    return num_kv_heads


def check_tokens(name: str, tokens: Tensor, weight: Tensor) -> None:
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
