"""Watch the submodules of a model, and find the first in which two runs part."""

import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

APART = 1e-9  # of a tensor's size, in 64 bits: more than rounding


@dataclass(frozen=True)
class Blame:
    """The first module whose inputs are right and whose output is not.

    Args:
        name: as in ``model.named_modules()``; empty for the model itself.
        kind: its class.
        source: file and line of its ``forward``, where they can be found.
        example: the smallest input that shows it, as code.

    >>> print(Blame("blocks.3.attention", "Attention", "model.py:12"))
    it enters at blocks.3.attention (Attention, model.py:12)
    """

    name: str
    kind: str
    source: str = ""
    example: str = ""

    def __str__(self) -> str:
        place = ", ".join(filter(None, [self.kind, self.source]))
        example = f"\n{self.example}" if self.example else ""
        return f"it enters at {self.name or 'the model itself'} ({place}){example}"


@dataclass
class Record:
    """One call of a module: what went in, and what came out."""

    name: str
    module: nn.Module
    inputs: list[Tensor]
    outputs: list[Tensor]


class Watch:
    """Collects every call of a submodule, in the order in which they end.

    Args:
        mode: a context in which the model runs besides.
    """

    def __init__(self, model: nn.Module, mode=None):
        self.names = {module: name for name, module in model.named_modules()}
        self.mode, self.calls = mode, []

    def __enter__(self) -> "Watch":
        waiting: list[list] = []

        def enter(module, args, kwargs):
            waiting.append(_tensors((args, kwargs)))

        def leave(module, args, kwargs, result):
            call = Record(self.names[module], module, waiting.pop(), _tensors(result))
            self.calls.append(call)

        self.handles = []
        for module in self.names:
            self.handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
            self.handles.append(module.register_forward_hook(leave, with_kwargs=True))
        if self.mode is not None:
            self.mode.__enter__()
        return self

    def __exit__(self, *exception) -> None:
        if self.mode is not None:
            self.mode.__exit__(*exception)
        for handle in self.handles:
            handle.remove()


def _tensors(value: object, depth: int = 0) -> list[Tensor]:
    """Collect the floating tensors of an argument or result, as they are now."""
    if isinstance(value, Tensor):
        return [value.detach().clone()] if value.is_floating_point() else []
    if hasattr(value, "to_tuple"):  # a result of transformers
        value = value.to_tuple()
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple) and depth < 4:
        return [tensor for part in value for tensor in _tensors(part, depth + 1)]
    return []


def find_entry(first: list, second: list, is_apart: Callable) -> Blame | None:
    """Find the first module, and the innermost, whose inputs agree and whose outputs do not.

    Args:
        first, second: its calls in two runs, each in a :class:`Watch`.
        is_apart: of two tensors; None where it cannot be said.

    >>> find_entry([], [], lambda one, other: False) is None
    True
    """
    for number, (one, other) in enumerate(zip(first, second, strict=False)):
        if one.name != other.name:
            return None
        ins = list(zip(one.inputs, other.inputs, strict=False))
        outs = zip(one.outputs, other.outputs, strict=False)
        if any(is_apart(*pair) for pair in ins) or not any(is_apart(*pair) for pair in outs):
            continue
        # What has no time axis may have brought it: whoever made that is to blame.
        for a, b in ins:
            if is_apart(a, b) is None and a.shape == b.shape and apart(a, b):
                for earlier in first[:number]:
                    if any(a.shape == t.shape and torch.equal(a, t) for t in earlier.outputs):
                        return _blame(earlier)
        return _blame(one)
    return None


def _blame(call: Record) -> Blame:
    name = call.name.removeprefix("function").removeprefix("full").removeprefix(".")
    return Blame(name, type(call.module).__name__, _source(type(call.module)))


def _source(kind: type) -> str:
    try:
        file, line = inspect.getsourcefile(kind), inspect.getsourcelines(kind.forward)[1]
    except (TypeError, OSError):
        return ""
    return f"{'/'.join((file or '').split('/')[-2:])}:{line}"


def past_moved(
    kept: Tensor, batch: int, threshold: float = APART, features: Collection[int] = ()
) -> Callable:
    """Make the question whether what must stay is another one.

    The time axes of an inner tensor are those as long as the sequence: of several, an element must
    stay if it does on all of them. Where there are none, batch and time may be one axis, or several
    sequences stand behind each other.

    Args:
        kept: bool, shape (length,), the positions that must stay.
        features: how wide vectors are; a last axis of such a size, alone, is no time axis.

    >>> moved = past_moved(torch.tensor([True, False]), batch=1)
    >>> moved(torch.zeros(1, 2, 3), torch.ones(1, 2, 3)), moved(torch.zeros(5), torch.ones(5))
    (True, None)
    """
    length = len(kept)

    def layouts(shape: tuple) -> list[dict[int, Tensor]]:
        exact = {axis: kept for axis, size in enumerate(shape) if size == length}
        if exact and (length not in features or list(exact) != [len(shape) - 1]):
            return [exact]
        if shape and batch > 1 and shape[0] == batch * length:
            return [{0: kept.repeat(batch)}, {0: kept.repeat_interleave(batch)}]
        if len(shape) > 2 and shape[1] and shape[1] % length == 0:
            return [{1: kept.repeat(shape[1] // length)}]
        return []

    def moved(one: Tensor, other: Tensor) -> bool | None:
        if one.shape != other.shape:
            return None
        answers = []
        for layout in layouts(tuple(one.shape)):
            stays = torch.ones(one.shape, dtype=torch.bool, device=one.device)
            for axis, mine in layout.items():
                shape = [-1 if a == axis else 1 for a in range(one.ndim)]
                stays = stays & mine.to(one.device).reshape(shape)
            answers.append(apart(one, other, threshold, stays))
        return all(answers) if answers else None

    return moved


def rows_apart(places: list[tuple[int, int, int]]) -> Callable:
    """Make the question whether a part of a large tensor is another one than a small tensor.

    Args:
        places: (size in the large one, size in the small one, where that begins).

    >>> rows_apart([(3, 1, 2)])(torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[5.0]]))
    True
    """

    def differs(large: Tensor, small: Tensor) -> bool | None:
        found = False
        if large.ndim != small.ndim:
            return None
        for axis in range(large.ndim):
            place = next(
                (p for p in places if p[:2] == (large.shape[axis], small.shape[axis])), None
            )
            if place is not None:
                large, found = large.narrow(axis, place[2], place[1]), True
        return apart(large, small) if found and large.shape == small.shape else None

    return differs


def apart(
    one: Tensor, other: Tensor, threshold: float = APART, where: Tensor | None = None
) -> bool:
    """Say whether two tensors of one shape differ by more than rounding.

    Args:
        where: bool, of the same shape, which elements count.

    >>> apart(torch.zeros(2), torch.tensor([0.0, 1.0]))
    True
    """
    size = (one - other).abs().double()
    same = (one == other) | (one.isnan() & other.isnan())
    size = torch.where(same, 0.0, size.nan_to_num(torch.inf))
    size = size if where is None else size[where]
    finite = one.abs().double()
    scale = float(torch.where(finite.isfinite(), finite, 0.0).max()) if one.numel() else 0.0
    return bool(size.numel() and float(size.max()) > threshold * (scale or 1.0))
