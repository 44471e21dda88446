"""Which part of a result is judged, and which arguments run along the sequence."""

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from causal_lab.causality.precision import is_number, matching

PREFERRED = ("logits", "last_hidden_state", "prediction_logits")


def choose(result: object, fits: Callable, shape: str) -> str | int | None:
    """Find the part of a result that fits; None is the result itself.

    Args:
        fits: says whether a tensor will do.
        shape: in words, for the error.

    >>> choose({"loss": torch.ones(()), "logits": torch.ones(1, 2)}, lambda t: t.ndim == 2, "")
    'logits'
    """
    if isinstance(result, Tensor):
        return None
    names = names_of(result)
    for name in [*(name for name in PREFERRED if name in names), *names]:
        part = take(result, name)
        if isinstance(part, Tensor) and fits(part):
            return name
    raise ValueError(not_there(result, shape))


def take(result: object, part: str | int | Callable | None) -> object:
    """Take one part of a result, by name, index or function; None is the result itself.

    >>> take((1, 2), 0)
    1
    """
    if part is None:
        return result
    try:
        if callable(part):
            return part(result)
        by_name = isinstance(part, str) and not isinstance(result, Mapping)
        return getattr(result, part) if by_name else result[part]
    except (AttributeError, KeyError, IndexError, TypeError) as error:
        raise ValueError(
            f"output={part!r} is no part of the model's result ({error}); it has "
            f"{names_of(result) or type(result).__name__}"
        ) from error


def names_of(result: object) -> list:
    """List the parts of a result.

    >>> names_of((1, 2)), names_of({"logits": 1}), names_of(3)
    ([0, 1], ['logits'], [])
    """
    if isinstance(result, Mapping):
        return list(result)
    if isinstance(result, list | tuple):
        return list(range(len(result)))
    return list(vars(result)) if hasattr(result, "__dict__") else []


def not_there(result: object, shape: str) -> str:
    """Say that no part of a result has the shape that is needed, and which there are.

    >>> not_there(torch.ones(3), "(batch, length, …) = (1, 2, …)")[-57:]
    'lambda result: …, before pooling and with the batch first'
    """
    parts = {name: take(result, name) for name in names_of(result)} or {"the output": result}
    shapes = ", ".join(f"{name}: {shape_of(part)}" for name, part in parts.items())
    return (
        f"an output of shape {shape} is needed to ask what each position depends on, got "
        f'{shapes}; choose another part with output="name", output=1 or '
        "output=lambda result: …, before pooling and with the batch first"
    )


def shape_of(value: object) -> object:
    """Give the shape of a tensor, the type of anything else.

    >>> shape_of(torch.ones(2)), shape_of(3)
    ((2,), 'int')
    """
    return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__


def fresh(value: object, dtype: torch.dtype | None = None) -> object:
    """Copy an argument, so that no call sees what the one before did to it.

    >>> fresh([torch.ones(1)], torch.float64)
    [tensor([1.], dtype=torch.float64)]
    """
    if isinstance(value, Tensor):
        value = value.detach().clone()
        convert = dtype is not None and is_number(value)
        return value.to(matching(value.dtype, dtype)) if convert else value
    if type(value) in (list, tuple):
        return type(value)(fresh(part, dtype) for part in value)
    if type(value) is dict:
        return {key: fresh(part, dtype) for key, part in value.items()}
    try:
        return copy.deepcopy(value)
    except Exception:  # what cannot be copied (a lock, a file) is handed on as it is
        return value


def axes_of(value: object, batch: int, length: int) -> list[tuple[int, ...]]:
    """List which axes of an argument may run along the sequence, the likeliest first.

    The last is always (): a source of an encoder may be as long as the target by chance.

    >>> axes_of(torch.ones(4, 4), batch=2, length=4)
    [(-2, -1), ()]
    """
    if not isinstance(value, Tensor) or value.ndim == 0:
        return [()]
    along = [(0,)] if value.ndim == 1 and len(value) == length else []
    if value.ndim > 1 and value.shape[1] == length:
        along = [(1,)]
    square = [(-2, -1)] if value.ndim > 1 and value.shape[-2:] == (length, length) else []
    if value.ndim == 2 and batch != length and square:
        along = []
    return [*square, *along, ()] if value.ndim != 2 else [*along, *square, ()]


def cut(value: object, axes: tuple[int, ...], short: int) -> object:
    """Cut an argument to the length of a prefix.

    >>> cut(torch.ones(4, 4), (-2, -1), 3).shape
    torch.Size([3, 3])
    """
    for axis in axes:
        value = value.narrow(axis, 0, short)
    return value
