"""What an answer did with a case, and when two outcomes count as the same."""

import cmath
import copy
import inspect
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

TOLERANCE = 1e-5


@dataclass(frozen=True)
class Outcome:
    """A value or an error, and what happened to the arguments on the way.

    >>> run(lambda x: 1 / x, (0,)).error
    'ZeroDivisionError: division by zero'
    """

    value: Any = None
    error: str = ""
    line: str = ""  # of the answer, where the error was raised
    changed: tuple[str, str] | None = None  # what was changed in place, and how to copy that


def run(answer: Callable, case: tuple) -> Outcome:
    """Call an answer with a copy of the arguments.

    >>> run(lambda x: x.pop(), ([1, 2],)).changed
    ('list', 'copy.deepcopy(x)')
    """
    arguments = [x.clone() if isinstance(x, Tensor) else copy.deepcopy(x) for x in case]
    try:
        value = answer(*arguments)
    except Exception as error:  # whatever a learner's code raises becomes part of the verdict
        file = getattr(getattr(answer, "__code__", None), "co_filename", None)
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.line for frame in frames if frame.filename == file and frame.line]
        return Outcome(error=f"{type(error).__name__}: {error}", line=lines[-1] if lines else "")
    pairs = zip(case, arguments, strict=True)
    for before in (before for before, after in pairs if not equal(before, after, 0)):
        if isinstance(before, Tensor):
            return Outcome(value, changed=("tensor", "x.clone()"))
        return Outcome(value, changed=(type(before).__name__, "copy.deepcopy(x)"))
    return Outcome(value)


def same(
    a: Outcome, b: Outcome, tolerance: float = TOLERANCE, *, with_changes: bool = False
) -> bool:
    """Compare two outcomes; errors by their kind, since their words differ with the code.

    >>> same(Outcome(torch.tensor(0.5)), Outcome(0.5))
    True
    """
    if a.error or b.error:
        return a.error.split(":")[0] == b.error.split(":")[0]
    if with_changes and bool(a.changed) != bool(b.changed):
        return False
    return equal(a.value, b.value, tolerance)


def equal(a: Any, b: Any, tolerance: float = TOLERANCE) -> bool:
    """Compare values: a 0-d tensor, a NumPy scalar and a number are one, a list is no tensor.

    >>> equal([torch.tensor(1.0), 2], (1, 2.0)), equal(True, 1), equal([1.0], torch.ones(1))
    (True, False, False)
    """
    a, b = plain(a), plain(b)
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.shape != b.shape or kind(a) != kind(b):
            return False
        dtype = torch.complex128 if a.is_complex() else torch.float64
        return torch.allclose(
            a.to(dtype), b.to(dtype), rtol=tolerance, atol=tolerance, equal_nan=True
        )
    if kind(a) == kind(b) == "one number":
        return (a != a and b != b) or cmath.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(equal(x, y, tolerance) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key], tolerance) for key in a)
    # An object that compares by identity is another in every copy; a function is never copied.
    has_no_value = type(a).__eq__ is object.__eq__ and not inspect.isroutine(a)
    return type(a) is type(b) and (has_no_value or a == b)


def plain(value: Any) -> Any:
    """Write NumPy's arrays as tensors, and a tensor without an axis as a number.

    >>> plain(torch.tensor(3)), plain(torch.ones(1).numpy())
    (3, tensor([1.]))
    """
    if type(value).__module__ == "numpy":
        value = torch.as_tensor(value) if value.dtype.kind in "biufc" else value.tolist()
    if isinstance(value, Tensor):
        value = value.detach()
        return value.item() if value.dim() == 0 else value
    return value


def kind(value: Any) -> str:
    """Say in words what a value is.

    >>> kind(torch.ones(2)), kind([1]), kind(1.5)
    ('a floating tensor', 'a list', 'one number')
    """
    if isinstance(value, Tensor):
        if value.dtype == torch.bool:
            return "a boolean tensor"
        if value.is_complex():
            return "a complex tensor"
        return "a floating tensor" if value.is_floating_point() else "a tensor of integers"
    name = type(value).__name__
    known = {"bool": "True or False", "str": "a text", "NoneType": "nothing"}
    known |= dict.fromkeys(("int", "float", "complex"), "one number")
    return known.get(name) or (f"an {name}" if name[0] in "aeiou" else f"a {name}")
