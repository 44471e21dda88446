"""What relates the values that came to those that were due, in words; no solution is needed.

How one may be made of the other, where what is wrong may stand, and what the cases that go wrong
may have in common, are lines of relations.txt.
"""

import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from causal_lab.exercises.outcomes import equal, kind, plain, run
from causal_lab.exercises.rules import read
from causal_lab.exercises.showing import differ_in_kind, show

_compiled = functools.cache(functools.partial(compile, filename="<rule>", mode="eval"))


def as_tensor(value: Any) -> Tensor | None:
    """Write a value of any shape as a floating tensor; None if it cannot be one, or is complex.

    >>> as_tensor([1, 2]), as_tensor("text")
    (tensor([1., 2.], dtype=torch.float64), None)
    """
    try:
        value = torch.as_tensor(plain(value))
    except (TypeError, ValueError, RuntimeError):
        return None
    return None if value.is_complex() else value.double()


def close(a: Tensor, b: Any) -> bool:
    """Are two tensors of any shape the same but for rounding?

    >>> close(torch.ones(2), torch.ones(2) + 1e-6), close(torch.ones(2), torch.ones(1))
    (True, False)
    """
    is_alike = isinstance(b, Tensor) and a.shape == b.shape
    return is_alike and torch.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)


def _rules(kind: str, **known) -> Iterator[tuple[Any, str]]:
    """Evaluate every rule of a kind; what cannot be asked here (no such axis) is None."""
    for rule, words in read("relations"):
        if rule.startswith(kind):
            try:
                yield eval(_compiled(rule.removeprefix(kind)), {"torch": torch, **known}), words
            except (AttributeError, IndexError, NameError, RuntimeError, TypeError):
                yield None, words


def relation(got: list, due: list, axes: tuple[str, ...] = ()) -> str:
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
        return ""
    if all(close(a, b) for a, b in pairs):
        return "The numbers are right; what holds them is not."
    return _exchanged(pairs) or _made(pairs, axes, kind(got[0]) == "a boolean tensor")


def _made(pairs: list[tuple[Tensor, Tensor]], axes: tuple[str, ...], is_boolean: bool) -> str:
    """Find the rule by which what came is made of what was due, or the other way round."""
    known = _constants(pairs)
    told = {name: show(abs(number) if name == "k" else number) for name, number in known.items()}
    told |= {"m": show(bool(known["m"]))} if is_boolean and "m" in known else {}
    for start, ends in (("y = ", pairs), ("x = ", [(b, a) for a, b in pairs])):
        dims = ends[0][1].dim()
        names = axes if len(axes) == dims else ("rows", "columns") if dims == 2 else ()
        rounds = [
            zip(*(_rules(start, x=b, y=b, a=axis, **known) for _, b in ends), strict=True)
            for axis in range(dims + 1)
        ]
        for axis, tried in (pair for row in zip(*rounds, strict=True) for pair in enumerate(row)):
            if all(close(a, made) for (a, _), (made, _) in zip(ends, tried, strict=True)):
                along = f" along the {names[axis]}" if axis < len(names) else f" along axis {axis}"
                return tried[0][1].format(along=along if dims > 1 else "", **told)
    return ""


def _constants(pairs: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Give the factor c, the summand k and the number m that would make all that came."""
    a, b = (torch.cat([pair[n].flatten() for pair in pairs]) for n in (0, 1))
    found = {"m": a[0].item()} if any(mine.numel() > 1 for mine, _ in pairs) else {}
    if all(mine.shape == right.shape for mine, right in pairs) and len(a) > 1 and b.any():
        found |= {"c": (a / b)[b != 0].median().item(), "k": (a - b).median().item()}
    return found


def _of_parts(got: list, due: list, axes: tuple[str, ...]) -> str:
    """Relate the parts of a pair, each by itself."""
    both = zip(got, due, strict=True)
    if not all(
        isinstance(b, tuple) and isinstance(a, tuple | list) and len(a) == len(b) for a, b in both
    ):
        return ""
    told = []
    parts = zip(zip(*got, strict=True), zip(*due, strict=True), strict=True)
    for n, (mine, right) in enumerate(parts, 1):
        if not all(map(equal, mine, right)):
            words = relation(mine, right, axes) or max(map(differ_in_kind, mine, right), key=len)
            told.append(words and f"Part {n} of {len(due[0])} is wrong. {words}")
    return " ".join(told) if all(told) else ""


def _exchanged(pairs: list[tuple[Tensor, Tensor]]) -> str:
    """Find a table: wherever this belongs, yours has that; for answers of 0, 1 and ∞ alone."""
    if any(a.shape != b.shape for a, b in pairs):
        return ""
    a, b = (torch.cat([pair[n].flatten() for pair in pairs]).tolist() for n in (0, 1))
    table = dict(zip(b, a, strict=True))
    is_one = all(repr(table[right]) == repr(mine) for mine, right in zip(a, b, strict=True))
    if not is_one or any(abs(x) not in (0, 1, math.inf) for x in b) or len({*table.values()}) < 2:
        return ""
    both = ((show(x), show(y)) for x, y in sorted(table.items()) if x != y)
    told = "; ".join(f"where {x} belongs, yours has {y}" for x, y in both)
    return f"{told.capitalize()}. The pattern is right."


def unseen(answer: Any, exercise: Any) -> str:
    """Find the arguments that an answer never looks at, though the right one must.

    >>> from causal_lab.exercises.start_here import MAY_LOOK
    >>> unseen(lambda query, key: key > 2, MAY_LOOK)
    'Your answer does not depend on `query`: whatever comes in there, you give the same.'
    """
    names = exercise.parameters
    found = [f"`{name}`" for n, name in enumerate(names) if _is_unseen(answer, exercise, n)]
    if found and len(found) == len(names):
        return "You give the same answer, whatever numbers come in."
    told = f"Your answer does not depend on {' and '.join(found)}"
    return f"{told}: whatever comes in there, you give the same." if found else ""


def _is_unseen(answer: Any, exercise: Any, n: int) -> bool:
    """Put the value of another case there; the right answer moves, and this one never does."""
    moved = 0
    for case, other in itertools.permutations(exercise.cases, 2):
        a, b = case[n], other[n]
        if (isinstance(a, Tensor) and (a.shape, a.dtype) != (b.shape, b.dtype)) or equal(a, b):
            continue
        both = [case, (*case[:n], b, *case[n + 1 :])]
        (right, new), (mine, now) = (
            [run(f, c) for c in both] for f in (exercise.reference, answer)
        )
        if not (right.error or new.error or mine.error):
            if now.error or not equal(mine.value, now.value):
                return False
            moved += not equal(right.value, new.value)
    return moved > 1  # one exchange alone may be without effect by chance


def which_cases(cases: list[tuple], wrong: list[int], names: list[str]) -> str:
    """Find a property of the cases that tells the wrong ones from the right ones.

    >>> which_cases([(0, 1), (1, 2), (2, 3)], [1], ["query", "key"])
    'Of the examples, those go wrong where query is 1.'
    """
    right, rows = len(cases) - len(wrong), [dict(_properties(case, names)) for case in cases]
    for name in rows[0] if right else ():
        marks = [row.get(name) for row in rows]
        if all(mark is (n in wrong) for n, mark in enumerate(marks)):
            return f"Of the examples, those go wrong where {name}."
        turned = all(mark is (n not in wrong) for n, mark in enumerate(marks))
        if turned and min(right, len(wrong)) > 1:
            return f"Of the examples, only those are right where {name}."
    return ""


def _properties(case: tuple, names: list[str]) -> Iterator[tuple[str, bool | None]]:
    numbers, lengths, widths = {}, {}, {}  # only like is compared with like
    for name, value in zip(names, case, strict=True):
        if kind(value) == "one number":
            numbers[name] = value
        elif isinstance(value, Tensor):
            lengths[f"the length of {name}"] = value.shape[0]
            widths |= {f"the width of {name}": value.shape[1]} if value.dim() == 2 else {}
    for sizes in (numbers, lengths, widths):
        for (a, x), (b, y) in itertools.combinations(sizes.items(), 2):
            yield f"{a} equals {b}", x == y
            yield f"{a} is larger than {b}", x > y
            yield f"{a} is smaller than {b}", x < y
    for name, value in (numbers | lengths).items():
        yield from ((f"{name} is {limit}", value == limit) for limit in (0, 1))
        yield from ((f"{name} is more than {limit}", value > limit) for limit in (0, 1))
    for name, value in zip(names, case, strict=True):
        for mark, words in _rules("if ", v=value):
            yield words.format(v=name), mark if mark is None else bool(mark)


def place(got: list, due: list, axes: tuple[str, ...] = ()) -> str:
    """Say which entries are wrong, if one place holds all of them.

    >>> place([torch.ones(2, 2)], [torch.ones(2, 2).tril()], ("query", "key"))
    'All that is wrong stands just above the diagonal.'
    """
    held: dict[str, list[tuple[bool, bool]]] = {}
    for a, b in zip(map(as_tensor, got), map(as_tensor, due), strict=True):
        if a is None or b is None or a.shape != b.shape or b.numel() < 2:
            return ""
        bad = ~torch.isclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)
        for name, spot in _spots(a, axes).items() if bad.any() else ():
            held.setdefault(name, []).append((bool((bad <= spot).all()), not bool(spot.all())))
    counted = max(map(len, held.values()), default=0)
    for name, marks in held.items():
        covers, is_part = zip(*marks, strict=True)  # what is no part anywhere says nothing
        if len(marks) == counted and all(covers) and any(is_part):
            return f"All that is wrong stands {name}."
    return ""


def _spots(y: Tensor, axes: tuple[str, ...]) -> dict[str, Tensor]:
    """Give the places by name, each along every axis before the next."""

    def along(axis: int, n: int) -> Iterator[tuple[str, Tensor]]:
        i = torch.arange(n).reshape([-1 if other == axis else 1 for other in range(y.dim())])
        one = {1: ["place"], 2: ["row", "column"]}.get(y.dim(), [f"part of axis {axis}"] * y.dim())
        for spot, words in _rules("at ", y=y, n=n, i=i.expand(y.shape), ones=torch.ones_like(y)):
            yield words.format(one=one[axis]), spot

    tried = itertools.chain(*zip(*(along(axis, n) for axis, n in enumerate(y.shape)), strict=True))
    has_diagonal = axes == ("query", "key")
    return {
        words: spot
        for words, spot in tried
        if spot is not None and (has_diagonal or "diagonal" not in words)
    }
