"""What relates the values that came to those that were due, in words; no solution is needed.

How one may be made of the other, and where what is wrong may stand, are lines of relations.txt.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from importlib.resources import files
from types import CodeType
from typing import Any

import torch
from torch import Tensor

from causal_lab.exercises.outcomes import equal, plain, run
from causal_lab.exercises.showing import differ_in_kind, show

_FACTORS = {
    100.0: "100, as if in percent",
    1 / math.log(2): "1/ln 2, as if in bits (log2) and not in nats (ln)",
    -1.0: "−1: the sign is exchanged",
}


def as_tensor(value: Any) -> Tensor | None:
    """Write a value of any shape as a floating tensor; None if it cannot be one, or is complex.

    >>> as_tensor([1, 2]), as_tensor("text")
    (tensor([1., 2.], dtype=torch.float64), None)
    """
    value = plain(value)
    try:
        value = value if isinstance(value, Tensor) else torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        return None
    return None if value.is_complex() else value.double()


def close(a: Tensor, b: Tensor) -> bool:
    """Are two tensors of any shape the same but for rounding?

    >>> close(torch.ones(2), torch.ones(2) + 1e-6), close(torch.ones(2), torch.ones(1))
    (True, False)
    """
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)


def relation(got: list, due: list, axes: tuple[str, ...] = ()) -> str | None:
    """Find one relation that holds between all values that came and those that were due.

    >>> relation([torch.tensor([2.0, 4.0])], [torch.tensor([1.0, 2.0])])
    'Each of your numbers is the right one times 2.'
    """
    both = [*zip(got, due, strict=True)]
    if all(isinstance(a, tuple | list) and len(a) > 1 and equal(a[0], b) for a, b in both):
        return "You return several things. The first one is right: return it alone."
    if words := _of_parts(got, due, axes):
        return words
    pairs = [(as_tensor(a), as_tensor(b)) for a, b in both]
    if any(a is None or b is None for a, b in pairs):
        return None
    if all(close(a, b) for a, b in pairs):
        return "The numbers are right; what holds them is not."
    is_boolean = isinstance(got[0], Tensor) and got[0].dtype == torch.bool
    return (
        _constant(pairs, is_boolean)
        or _exchanged(pairs)
        or _made("y = ", pairs, axes)
        or _made("x = ", [(b, a) for a, b in pairs], axes)
        or _scaled(pairs)
    )


@functools.cache
def _rules(start: str) -> list[tuple[CodeType, str]]:
    """Read the rules that begin so: what is to be evaluated, and the words."""
    text = files(__package__).joinpath("relations.txt").read_text(encoding="utf-8")
    lines = (line.removeprefix(start) for line in text.splitlines() if line.startswith(start))
    pairs = (line.rsplit(" | ", 1) for line in lines)
    return [(compile(code, "<relation>", "eval"), words) for code, words in pairs]


def _made(start: str, pairs: list[tuple[Tensor, Tensor]], axes) -> str | None:
    """Find the rule by which the first of each pair is made of the second."""

    def fits(code: CodeType, a: Tensor, b: Tensor, axis: int) -> bool:
        try:
            return close(a, eval(code, {"x": b, "y": b, "a": axis, "torch": torch}))  # our own rule
        except (IndexError, RuntimeError):  # no such axis
            return False

    dims = pairs[0][1].dim()
    for code, words in _rules(start):
        for axis in range(dims + 1 if "a" in code.co_names else 1):
            if all(fits(code, a, b, axis) for a, b in pairs):
                names = axes if len(axes) == dims else ("rows", "columns") if dims == 2 else ()
                along = f" along the {names[axis]}" if axis < len(names) else f" along axis {axis}"
                return words.format(along=along if dims > 1 else "")
    return None


def _of_parts(got: list, due: list, axes) -> str | None:
    """Relate the parts of a pair, each by itself."""
    both = zip(got, due, strict=True)
    if not all(
        isinstance(b, tuple) and isinstance(a, tuple | list) and len(a) == len(b) for a, b in both
    ):
        return None
    told = []
    for n in range(len(due[0])):
        mine, right = [a[n] for a in got], [b[n] for b in due]
        if not all(map(equal, mine, right)):
            words = relation(mine, right, axes) or next(
                filter(None, map(differ_in_kind, mine, right)), ""
            )
            told.append(f"Part {n + 1} of {len(due[0])} is wrong. {words}" if words else "")
    return " ".join(told) if all(told) else None


def _constant(pairs, is_boolean: bool) -> str | None:
    values = {value for a, _ in pairs for value in a.flatten().tolist()}
    if len(values) == 1 and any(a.numel() > 1 for a, _ in pairs):
        value = values.pop()
        return f"You give {show(bool(value) if is_boolean else value)} everywhere."
    return None


def _exchanged(pairs) -> str | None:
    """Find a table: wherever this belongs, yours has that; for answers of 0, 1 and ∞ alone."""
    table = {}
    for a, b in pairs:
        if a.shape != b.shape:
            return None
        for mine, right in zip(a.flatten().tolist(), b.flatten().tolist(), strict=True):
            if abs(right) not in (0, 1, math.inf) or repr(table.setdefault(right, mine)) != repr(
                mine
            ):
                return None
    wrong = [
        f"where {show(a)} belongs, yours has {show(b)}" for a, b in sorted(table.items()) if a != b
    ]
    return "; ".join(wrong).capitalize() + ". The pattern is right." if len(table) > 1 else None


def _scaled(pairs) -> str | None:
    """Find one factor, or one summand, for all numbers."""
    if any(a.shape != b.shape for a, b in pairs):
        return None
    a, b = (torch.cat([pair[n].flatten() for pair in pairs]) for n in (0, 1))
    if len(a) < 2 or not b.any():
        return None
    factor, step = (a / b)[b != 0].median(), (a - b).median()
    if close(a, b * factor):
        known = (
            words for value, words in _FACTORS.items() if math.isclose(value, factor, rel_tol=1e-4)
        )
        return f"Each of your numbers is the right one times {next(known, show(factor.item()))}."
    if close(a, b + step):
        way = "large" if step > 0 else "small"
        return f"Each of your numbers is {show(step.abs().item())} too {way}."
    return None


def unseen(answer: Callable, exercise: Any) -> str:
    """Find the arguments that an answer never looks at, though the right one must.

    >>> from causal_lab.exercises.start_here import MAY_LOOK
    >>> unseen(lambda query, key: key > 2, MAY_LOOK)
    'Your answer does not depend on `query`: whatever comes in there, you give the same.'
    """
    names, cases = exercise.parameters, exercise.cases
    found = [
        f"`{name}`"
        for n, name in enumerate(names)
        if _is_unseen(answer, exercise.reference, cases, n)
    ]
    if found and len(found) == len(names):
        return "You give the same answer, whatever numbers come in."
    told = f"Your answer does not depend on {' and '.join(found)}"
    return f"{told}: whatever comes in there, you give the same." if found else ""


def _is_unseen(answer: Callable, reference: Callable, cases: list[tuple], n: int) -> bool:
    """Put the value of another case there; the right answer moves, and this one never does."""
    moved = 0
    for case, other in itertools.permutations(cases, 2):
        a, b = case[n], other[n]
        if (isinstance(a, Tensor) and (a.shape, a.dtype) != (b.shape, b.dtype)) or equal(a, b):
            continue
        both = [case, (*case[:n], b, *case[n + 1 :])]
        right, mine = ([run(one, arguments) for arguments in both] for one in (reference, answer))
        if not any(outcome.error for outcome in (*right, mine[0])):
            if mine[1].error or not equal(mine[0].value, mine[1].value):
                return False
            moved += not equal(right[0].value, right[1].value)
    return moved > 1  # one exchange alone may be without effect by chance


def which_cases(cases: list[tuple], wrong: list[int], names: list[str]) -> str | None:
    """Find a property of the cases that tells the wrong ones from the right ones.

    >>> which_cases([(0, 1), (1, 2), (2, 3)], [1], ["query", "key"])
    'Of the examples, those go wrong where query is 1.'
    """
    right, rows = len(cases) - len(wrong), [dict(_properties(case, names)) for case in cases]
    for name in rows[0] if right else ():
        marks = [row.get(name) for row in rows]
        if all(mark is (n in wrong) for n, mark in enumerate(marks)):
            return f"Of the examples, those go wrong where {name}."
        if min(right, len(wrong)) > 1 and all(
            mark is (n not in wrong) for n, mark in enumerate(marks)
        ):
            return f"Of the examples, only those are right where {name}."
    return None


def _properties(case: tuple, names: list[str]) -> Iterator[tuple[str, bool]]:
    sizes, others = {"": {}, "rows": {}, "width": {}}, []  # only like is compared with like
    for name, value in zip(names, case, strict=True):
        if isinstance(value, Tensor):
            rows, *width = value.shape
            sizes["rows"][f"the length of {name}"] = rows
            if len(width) == 1:
                sizes["width"][f"the width of {name}"] = width[0]
                others.append((f"{name} is square", rows == width[0]))
            if value.dtype == torch.bool and value.dim() == 2:
                others.append((f"a row of {name} is blocked altogether", bool(value.all(-1).any())))
            elif value.is_floating_point():
                others.append((f"numbers in {name} are large", bool((value.abs() >= 100).any())))
                others.append((f"there is a 0 in {name}", bool((value == 0).any())))
            elif value.dim() == 1:
                others.append((f"{name} does not ascend", bool((value.diff() < 0).any())))
        elif isinstance(value, list):
            others.append((f"something stands in {name} twice", len({*value}) < len(value)))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            sizes[""][name] = value
    for numbers in sizes.values():
        for (a, x), (b, y) in itertools.combinations(numbers.items(), 2):
            yield f"{a} equals {b}", x == y
            yield f"{a} is larger than {b}", x > y
            yield f"{a} is smaller than {b}", x < y
    for name, value in (sizes[""] | sizes["rows"]).items():
        yield from ((f"{name} is {limit}", value == limit) for limit in (0, 1))
        yield from ((f"{name} is more than {limit}", value > limit) for limit in (0, 1))
    yield from others


def place(got: list, due: list, axes: tuple[str, ...] = ()) -> str | None:
    """Say which entries are wrong, if one place holds all of them.

    >>> place([torch.ones(2, 2)], [torch.ones(2, 2).tril()], ("query", "key"))
    'All that is wrong stands just above the diagonal.'
    """
    held: dict[str, list[tuple[bool, bool]]] = {}
    for a, b in zip(map(as_tensor, got), map(as_tensor, due), strict=True):
        if a is None or b is None or a.shape != b.shape or b.numel() < 2:
            return None
        bad = ~torch.isclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)
        for name, spot in _spots(a, axes) if bad.any() else ():
            held.setdefault(name, []).append((bool((bad <= spot).all()), not bool(spot.all())))
    counted = max(map(len, held.values()), default=0)
    names = (
        name
        for name, marks in held.items()
        if len(marks) == counted and all(covers for covers, _ in marks)
        if any(is_part for _, is_part in marks)  # else it says nothing
    )
    return f"All that is wrong stands {name}." if (name := next(names, None)) else None


def _spots(y: Tensor, axes: tuple[str, ...]) -> Iterator[tuple[str, Tensor]]:
    one_of = {1: ["place"], 2: ["row", "column"]}.get(y.dim(), [])
    for code, words in _rules("at "):
        if "diagonal" in words and axes != ("query", "key"):
            continue
        for axis, n in enumerate(y.shape if "i" in code.co_names else y.shape[:1]):
            shape = [-1 if other == axis else 1 for other in range(y.dim())]
            known = {"y": y, "n": n, "i": torch.arange(n).reshape(shape).expand(y.shape)}
            spot = eval(code, known | {"ones": torch.ones_like(y)})  # our own rule
            one = one_of[axis] if one_of else f"part of axis {axis}"
            yield words.format(one=one), spot
