"""Any callable as a module of one tensor."""

import inspect
import types
from collections.abc import Callable

from torch import Tensor, nn

OTHER = "inputs[{}]"  # the name of a positional argument that is not varied


class Call(nn.Module):
    """Calls a function or a module with one argument that is varied, and others.

    Args:
        function: what is called.
        wrt: the place of the varied argument, or its name.
    """

    def __init__(self, function: Callable, wrt: int | str = 0):
        super().__init__()
        self.function, self.wrt = function, wrt
        self.reached = reached_by(function)  # so that a snapshot holds its state

    def forward(self, varied: Tensor, **given):
        """Call it."""
        others = [value for name, value in given.items() if name.startswith("inputs[")]
        named = {name: value for name, value in given.items() if not name.startswith("inputs[")}
        if isinstance(self.wrt, str):
            named[self.wrt] = varied
        else:
            others.insert(self.wrt, varied)
        return self.function(*others, **named)


def reached_by(function: object) -> list:
    """List what a function reaches by name or default; a snapshot finds what it closes over.

    >>> reached_by(lambda x, scale=[2]: x)
    [[2]]
    """
    found, seen, waiting = [], set(), [function]
    while waiting:
        now = waiting.pop()
        now = getattr(now, "__func__", now)
        if not isinstance(now, types.FunctionType) or id(now) in seen:
            continue
        seen.add(id(now))
        values = [*(now.__defaults__ or ()), *(now.__kwdefaults__ or {}).values()]
        values += [now.__globals__[n] for n in _names_in(now.__code__) if n in now.__globals__]
        waiting += [v for v in values if getattr(v, "__globals__", None) is now.__globals__]
        waiting += inspect.getclosurevars(now).nonlocals.values()
        found += [v for v in values if not isinstance(v, type | types.ModuleType)]
    return found


def _names_in(code: types.CodeType) -> set[str]:
    inner = [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return set(code.co_names).union(*map(_names_in, inner))
