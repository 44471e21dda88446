"""All that a forward pass could leave behind, kept so that it can be put back."""

import functools
import math
import random
import types
from collections import OrderedDict, deque

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

_ATOMS = (str, bytes, int, float, complex, type(None), torch.dtype, torch.device, torch.Size, range)
_FOREIGN = ("builtins", "types", "torch", "threading", "logging", "_thread", "weakref", "typing")
_MOST_NODES = 100_000
_CONTAINERS = (dict, list, set, deque)


class Snapshot:
    """Everything that can be reached from a model: tensors, attributes, generators."""

    def __init__(self, model: nn.Module):
        self.tensors: list[Tensor] = []
        self._data, self._storages = [], {}
        self._dicts, self._containers, self._slots = [], [], []
        self._cells, self._arrays, self._generators = [], [], []
        # The tensors first: a large table in some attribute must not crowd them out.
        waiting = deque([*model.modules(), *model.parameters(), *model.buffers()])
        seen = set()
        while waiting and len(seen) < _MOST_NODES:
            node = waiting.popleft()
            if not isinstance(node, _ATOMS) and id(node) not in seen:
                seen.add(id(node))
                waiting.extend(self._keep(node))

    def _keep(self, node: object) -> list:
        """Remember one object and say what hangs on it."""
        if isinstance(node, Tensor):
            self._keep_tensor(node)
            return []
        if isinstance(node, np.ndarray):
            if node.dtype != object and node.flags.writeable:
                self._arrays.append((node, node.copy()))
            return []
        if isinstance(node, torch.Generator | random.Random | np.random.Generator) or isinstance(
            node, np.random.RandomState
        ):
            self._generators.append((node, _state_of(node)))
            return []
        if isinstance(node, tuple | frozenset):
            return list(node)
        if isinstance(node, _CONTAINERS):
            saved = list(node.items()) if isinstance(node, dict) else list(node)
            self._containers.append((node, saved))
            return [value for _, value in saved] if isinstance(node, dict) else saved
        return self._keep_attributes(node)

    def _keep_attributes(self, node: object) -> list:
        if isinstance(node, types.MethodType):
            return [node.__self__, node.__func__]
        if isinstance(node, functools.partial):
            return [node.func, *node.args, *node.keywords.values()]
        if isinstance(node, types.FunctionType):
            return self._keep_cells(node)
        if isinstance(node, nn.Module):
            self._dicts.append((vars(node), dict(vars(node))))
            return [*vars(node).values(), getattr(type(node), "forward", None)]
        foreign = type(node).__module__.split(".")[0] in _FOREIGN
        if isinstance(node, type | types.ModuleType) or foreign:
            return []
        slots = _slots_of(node)
        self._slots.append((node, slots))
        if hasattr(node, "__dict__"):
            self._dicts.append((vars(node), dict(vars(node))))
            return [*vars(node).values(), *slots.values()]
        return list(slots.values())

    def _keep_cells(self, function: types.FunctionType) -> list:
        kept = []
        for cell in function.__closure__ or ():
            try:
                kept.append((cell, cell.cell_contents))
            except ValueError:  # not yet filled
                continue
        self._cells += kept
        defaults = *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()
        return [*(contents for _, contents in kept), *defaults]

    def _keep_tensor(self, tensor: Tensor) -> None:
        if is_lazy(tensor) or tensor.layout != torch.strided or tensor.device.type == "meta":
            return
        with torch.no_grad():
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in self._storages:
                flat = _bytes_of(tensor)
                self._storages[storage.data_ptr()] = (flat, flat.clone())
            gradient = tensor.grad if tensor.is_leaf else None
            kept = None if gradient is None else gradient.clone()
            flag = None if tensor.is_inference() or not tensor.is_leaf else tensor.requires_grad
            self.tensors.append(tensor)
            self._data.append((tensor, tensor.data, flag, gradient, kept))

    def restore(self, attributes: bool = True) -> None:
        """Put everything back as it was.

        Args:
            attributes: False leaves what is no tensor as it is.
        """
        if attributes:
            self._restore_attributes()
        with torch.no_grad():
            for flat, saved in self._storages.values():
                if not torch.equal(flat, saved):
                    flat.copy_(saved)
            for tensor, data, flag, gradient, kept in self._data:
                _restore_tensor(tensor, data, flag, gradient, kept)

    def _restore_attributes(self) -> None:
        for attached, saved in self._dicts:
            if not _same_items(attached, saved):
                attached.clear()
                attached.update(saved)
        for node, saved in self._containers:
            _refill(node, saved)
        for node, slots in self._slots:
            for name, value in slots.items():
                if getattr(node, name, None) is not value:
                    object.__setattr__(node, name, value)
        for cell, contents in self._cells:
            cell.cell_contents = contents
        for array, saved in self._arrays:
            np.copyto(array, saved)

    def restore_generators(self) -> None:
        """Put back the generators that hang on the model."""
        for generator, state in self._generators:
            _set_state(generator, state)

    def used_generators(self) -> bool:
        """Say whether one of them was drawn from since."""
        return any(not _equal(_state_of(node), state) for node, state in self._generators)


class GlobalRandomness:
    """The state of the generators that everybody shares: PyTorch's, NumPy's, Python's."""

    def __init__(self):
        self._python, self._numpy = random.getstate(), np.random.get_state()
        self._torch = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        self._dtype = torch.get_default_dtype()

    def restore(self) -> None:
        """Put them back."""
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        torch.set_rng_state(self._torch)
        if self._cuda:
            torch.cuda.set_rng_state_all(self._cuda)

    def restore_default_dtype(self) -> None:
        """Put back the dtype of new tensors, which a model may have set."""
        torch.set_default_dtype(self._dtype)

    def was_used(self) -> bool:
        """Say whether one of them was drawn from since."""
        cuda = torch.cuda.get_rng_state_all() if self._cuda else []
        return (
            random.getstate() != self._python
            or not _equal(np.random.get_state(), self._numpy)
            or not torch.equal(torch.get_rng_state(), self._torch)
            or any(not torch.equal(now, then) for now, then in zip(cuda, self._cuda, strict=True))
        )


def _bytes_of(tensor: Tensor) -> Tensor:
    """View all memory that a tensor lies in, aliases included, as bytes."""
    flat = torch.empty(0, dtype=torch.uint8, device=tensor.device)
    return flat.set_(tensor.untyped_storage())


def _restore_tensor(tensor: Tensor, data: Tensor, flag, gradient, kept) -> None:
    moved = (
        tensor.dtype != data.dtype
        or tensor.data_ptr() != data.data_ptr()
        or tensor.shape != data.shape
        or tensor.stride() != data.stride()
    )
    if moved:
        tensor.data = data
    if flag is not None and tensor.is_leaf and tensor.requires_grad != flag:
        tensor.requires_grad_(flag)
    if flag is not None and tensor.grad is not gradient:
        tensor.grad = gradient
    if kept is not None and not torch.equal(gradient, kept):
        gradient.copy_(kept)


def _same_items(attached: dict, saved: dict) -> bool:
    return len(attached) == len(saved) and all(
        key in attached and attached[key] is value for key, value in saved.items()
    )


def _refill(node, saved: list) -> None:
    """Give a container its contents back, past any guard that its class puts up."""
    if isinstance(node, dict):
        now = list(node.items())
        if len(now) == len(saved) and all(
            a[0] is b[0] and a[1] is b[1] for a, b in zip(now, saved, strict=True)
        ):
            return
        kind = OrderedDict if isinstance(node, OrderedDict) else dict
        kind.clear(node)
        for key, value in saved:
            kind.__setitem__(node, key, value)
    elif len(node) != len(saved) or any(a is not b for a, b in zip(node, saved, strict=True)):
        if isinstance(node, list):
            list.__setitem__(node, slice(None), saved)
        else:
            kind = set if isinstance(node, set) else deque
            kind.clear(node)
            (set.update if kind is set else deque.extend)(node, saved)


def _slots_of(node: object) -> dict:
    names = (name for kind in type(node).__mro__ for name in _names(kind.__dict__.get("__slots__")))
    skipped = ("__dict__", "__weakref__")
    return {n: getattr(node, n) for n in names if n not in skipped and hasattr(node, n)}


def _names(slots: object) -> tuple:
    return (slots,) if isinstance(slots, str) else tuple(slots or ())


def _state_of(generator) -> object:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, random.Random):
        return generator.getstate()
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.get_state()


def _set_state(generator, state) -> None:
    if isinstance(generator, random.Random):
        generator.setstate(state)
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    else:
        generator.set_state(state)


def _equal(one: object, other: object) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, dict):
        return all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, tuple):
        return all(_equal(a, b) for a, b in zip(one, other, strict=True))
    return one == other or (isinstance(one, float) and math.isnan(one))
