"""The same model in another precision: rounding changes with it, a leak does not."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

REAL = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
COMPLEX = {torch.complex32, torch.complex64, torch.complex128}
_ASKS_ONLY = ("__get__", "__set__", "data_ptr", "numpy", "requires_grad_", "untyped_storage")


def matching(dtype: torch.dtype, wanted: torch.dtype) -> torch.dtype:
    """Give the dtype of the wanted precision, float64 or float32, complex for complex.

    >>> matching(torch.complex64, torch.float64)
    torch.complex128
    """
    if dtype in COMPLEX:
        return torch.complex128 if wanted == torch.float64 else torch.complex64
    return wanted


def is_number(tensor: Tensor) -> bool:
    """Say whether any tensor has a precision: floating or complex.

    >>> is_number(torch.ones(1)), is_number(torch.ones(1).bool())
    (True, False)
    """
    return tensor.dtype in REAL | COMPLEX


@contextmanager
def converted(tensors: list[Tensor], dtype: torch.dtype) -> Iterator[None]:
    """Hold tensors in another precision, in place, inside ``with``; aliases stay aliases.

    >>> weight = torch.ones(2)
    >>> with converted([weight], torch.float64):
    ...     weight.dtype
    torch.float64
    """
    groups = defaultdict(list)
    for tensor in tensors:
        if is_number(tensor) and not tensor.is_inference():
            groups[tensor.untyped_storage().data_ptr(), tensor.dtype].append(tensor)
    before = [(tensor, tensor.data) for group in groups.values() for tensor in group]
    try:
        with torch.no_grad():
            for group in groups.values():
                _convert(group, dtype)
        yield
    finally:
        for tensor, data in before:
            tensor.data = data


def _convert(group: list[Tensor], dtype: torch.dtype) -> None:
    whole = torch.empty(0, dtype=group[0].dtype, device=group[0].device)
    whole.set_(group[0].untyped_storage())
    whole = whole.to(matching(whole.dtype, dtype))
    for tensor in group:
        place = tensor.size(), tensor.stride(), tensor.storage_offset()
        tensor.data = whole.as_strided(*place)


class Everywhere(TorchFunctionMode):
    """Turn every floating dtype that a model names or brings into one."""

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.dtype = dtype

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if func in (Tensor.float, Tensor.half, Tensor.bfloat16, Tensor.double):
            return Tensor.to(args[0], matching(args[0].dtype, self.dtype))
        if name in ("grouped_mm", "_grouped_mm") and self.dtype == torch.float64:
            func = _grouped_mm  # PyTorch has none for 64 bits
        if name in _ASKS_ONLY:
            return func(*args, **kwargs)
        # What is written into stays itself; only what is read is converted.
        written = (name.endswith("_") and not name.endswith("__")) or name == "__setitem__"
        first = args[:1] if written else tuple(self._convert(value) for value in args[:1])
        rest = tuple(self._convert(value) for value in args[1:])
        kwargs = {
            key: value if key == "out" else self._convert(value) for key, value in kwargs.items()
        }
        return func(*first, *rest, **kwargs)

    def _convert(self, value: object) -> object:
        if isinstance(value, torch.dtype) and value in REAL | COMPLEX:
            return matching(value, self.dtype)
        if isinstance(value, Tensor) and is_number(value):
            wanted = matching(value.dtype, self.dtype)
            return value if value.dtype == wanted else value.to(wanted)
        if type(value) in (list, tuple):
            return type(value)(self._convert(part) for part in value)
        return value


def _grouped_mm(left: Tensor, right: Tensor, *, offs: Tensor, **_) -> Tensor:
    """Multiply groups of rows, each by its own matrix, as mixtures of experts do."""
    if left.ndim != 2 or right.ndim != 3:
        raise NotImplementedError("a grouped product in 64 bits of this form")
    ends = offs.tolist()
    starts = [0, *ends[:-1]]
    parts = [left[a:b] @ right[i] for i, (a, b) in enumerate(zip(starts, ends, strict=True))]
    rest = left.new_zeros(left.shape[0] - ends[-1], right.shape[-1])
    return torch.cat([*parts, rest])
