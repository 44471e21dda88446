"""A counterexample in text: numbers to compare by eye, matrices on several lines."""

from typing import Any

import torch
from torch import Tensor

from causal_lab.exercises.outcomes import Outcome, kind, plain
from causal_lab.exercises.rules import hint

WIDTH = 44  # a call that is longer has its arguments below it


def show(value: Any, digits: int = 3) -> str:
    """Write a value on one line.

    >>> show(torch.tensor([0.5, -torch.inf])), show([1 / 3, True])
    ('[0.5, −∞]', '[0.333, True]')
    """
    if isinstance(value, Tensor):
        return show(value.tolist(), digits)
    if isinstance(value, float):
        small = 1e-6 < abs(value) < 1e-3
        text = f"{value:.3g}" if small else f"{round(value, digits) + 0.0:.{digits + 3}g}"
        return text.replace("-", "−").replace("inf", "∞").replace("nan", "NaN")
    if isinstance(value, list | tuple):
        left, right = "[]" if isinstance(value, list) else "()"
        return left + ", ".join(show(item, digits) for item in value) + right
    name = getattr(value, "__name__", "")  # of a helper, unknown to the learner: in words
    return name.strip("_").replace("_", " ") if name.startswith("_") else name or repr(value)


def counterexample(
    name: str, parameters: list[str], case: tuple, due: Outcome, got: Outcome
) -> str:
    """Write a call, what it should give, and what it gives; entries that differ are in brackets.

    >>> print(counterexample("f", ["x"], (torch.eye(2),), Outcome(torch.eye(2)), Outcome(0.5)))
    f(x) with
        x =  1  0
             0  1
    should give  1  0
                 0  1
    yours gives 0.5
    The answer must be a floating tensor, yours is one number.
    """
    lines = [f"{name}({', '.join(map(show, case))})"]
    has_matrix = any(isinstance(argument, Tensor) and argument.dim() > 1 for argument in case)
    if has_matrix or len(lines[0]) > WIDTH:
        lines = [f"{name}({', '.join(parameters)}) with"]
        for parameter, argument in zip(parameters, case, strict=True):
            lines += _hang(f"    {parameter} = ", _grid(plain(argument)))
    right, mine = plain(due.value), plain(got.value)
    if got.error:
        told = [f"stopped with {got.error}" + (f" in the line\n    {got.line}" if got.line else "")]
    elif got.value is None:
        told = [*_hang("should give ", _grid(right)), "yours gives nothing. Is there a return?"]
    else:
        look_alike = show(right) == show(mine)
        told = _hang("should give ", _grid(right, 6 if look_alike else 3))
        told += _hang("yours gives ", _grid(mine, 6 if look_alike else 3, right))
    is_short = len(lines) == 1 and len(told) <= 2 and len("".join(told)) < WIDTH
    lines = [f"{lines[0]} {', '.join(told)}."] if is_short else [*lines, *told]
    return "\n".join([*lines, *filter(None, [not got.error and differ_in_kind(mine, right)])])


def differ_in_kind(got: Any, due: Any) -> str:
    """Say in words what a picture of the numbers would hide: type, shape, dtype.

    >>> differ_in_kind([1.0, 2.0], torch.tensor([1.0, 2.0, 3.0])).split(" Make")[0]
    'The answer must be a floating tensor, yours is a list.'
    """
    got, due = plain(got), plain(due)
    if isinstance(got, tuple | list) and isinstance(due, tuple) and len(got) == len(due):
        told = [differ_in_kind(*both) for both in zip(got, due, strict=True)]
        return " ".join(f"Part {n} of {len(due)}: {one}" for n, one in enumerate(told, 1) if one)
    if isinstance(due, Tensor) and isinstance(got, Tensor) and got.shape != due.shape:
        return f"Its shape must be {tuple(due.shape)}, yours is {tuple(got.shape)}."
    if kind(got) == kind(due) or got is None:
        return ""
    if kind(due) == "one number" and isinstance(got, Tensor) and got.numel() == 1:
        return f"The answer must be one number, without an axis; yours has shape {(*got.shape,)}."
    words = f"The answer must be {kind(due)}, yours is {kind(got)}."
    return f"{words} {hint(words)}".strip()


def _grid(value: Any, digits: int = 3, other: Any = None) -> list[str]:
    """Write a matrix row by row, its columns below each other; all else on one line."""
    parts = isinstance(value, tuple) and any(isinstance(item, Tensor) for item in value)
    if parts or (isinstance(value, Tensor) and value.dim() > 2):
        fits = isinstance(other, tuple | Tensor) and len(other) == len(value)
        rows = zip(value, other if fits else [None] * len(value), strict=True)
        grids = ((f"({n}) ", _grid(item, digits, mark)) for n, (item, mark) in enumerate(rows))
        return [line for head, lines in grids for line in _hang(head, lines)]
    if not isinstance(value, Tensor) or value.dim() == 0 or not value.numel():
        return [show(value, digits)]
    rows = value.reshape(-1, value.shape[-1]).tolist()
    texts = [[show(entry, digits) for entry in row] for row in rows]
    width = max(len(text) for row in texts for text in row) + 2
    marks = _different(value, other).reshape(-1, value.shape[-1]).tolist()
    return [
        "".join(
            (f"[{text}]" if is_off else f" {text} ").rjust(width)
            for text, is_off in zip(*both, strict=True)
        ).rstrip()
        for both in zip(texts, marks, strict=True)
    ]


def _different(value: Tensor, other: Any) -> Tensor:
    """Mark the entries that differ; none if the shapes do not allow to compare."""
    if not isinstance(other, Tensor) or other.shape != value.shape or value.is_complex():
        return torch.zeros(value.shape, dtype=torch.bool)
    return ~torch.isclose(value.double(), other.double(), rtol=1e-5, atol=1e-5, equal_nan=True)


def _hang(head: str, lines: list[str]) -> list[str]:
    return [(" " * len(head) if n else head) + line for n, line in enumerate(lines)]
