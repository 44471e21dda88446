"""An exercise is data: a reference, small cases, and misconceptions with a sentence each."""

import cmath
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Misconception:
    """A wrong answer, and the sentence that a learner who gave it needs.

    >>> Misconception("off by one", "The query may look at itself.", lambda t: t).wrong(3)
    3
    """

    name: str
    message: str  # what was mixed up, and how to see it
    wrong: Callable  # answers as a learner with this misconception would


@dataclass(frozen=True)
class Verdict:
    """What a check found; shows itself as text, and is true if the answer is right.

    >>> Verdict(True, "leak: right")
    leak: right
    """

    passed: bool | None  # None if there was no attempt yet
    text: str
    misconception: Misconception | None = None  # the one that explains every wrong answer

    def __bool__(self) -> bool:
        return self.passed is True

    def __repr__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Exercise:
    """A function to write, and all that is known of how it goes wrong.

    >>> exercise = Exercise(
    ...     "double", "easy", 1, lambda x: 2 * x, [(1,), (3,)],
    ...     [Misconception("square", "That is the square.", lambda x: x * x)],
    ... )
    >>> exercise.check(lambda x: x * x)
    double: not yet.
    double(1) should give 2, yours gives 1.
    That is the square.
    >>> exercise.check(lambda x: x + x)
    double: right on all 2 examples.
    """

    name: str  # of the learner's function
    level: str  # "easy", "medium" or "hard"
    minutes: int  # a guess for someone who read the notebook
    reference: Callable
    cases: Sequence[tuple]  # arguments to try, the smallest first
    misconceptions: Sequence[Misconception]  # differ, on the cases, from the right and each other

    def check(self, answer: Callable) -> Verdict:
        """Try an answer on all cases and explain the first that goes wrong.

        One that returns ``...`` everywhere counts as not attempted.

        >>> exercise = Exercise("one", "easy", 1, lambda: 1, [()], [])
        >>> exercise.check(lambda: ...)
        one: not attempted yet. Replace the ... and run the cell again.
        """
        if not callable(answer):
            raise ValueError(f"check needs the function itself, check({self.name}), got {answer!r}")
        outcomes = [_try(answer, case) for case in self.cases]
        if all(outcome.value is ... for outcome in outcomes):
            return Verdict(
                None, f"{self.name}: not attempted yet. Replace the ... and run the cell again."
            )
        wanted = [_try(self.reference, case) for case in self.cases]
        wrong = [i for i in range(len(self.cases)) if not _same(outcomes[i], wanted[i])]
        if wrong:
            return self._explain(outcomes, wanted, wrong[0])
        changed = next((outcome.changed for outcome in outcomes if outcome.changed), None)
        if changed:
            kind, remedy = changed
            return Verdict(
                False,
                f"{self.name}: the answers are right, but your function changes the {kind} it "
                f"was given. Work on a copy: {remedy}.",
            )
        return Verdict(True, f"{self.name}: right on all {len(self.cases)} examples.")

    def _explain(self, outcomes: list["_Outcome"], wanted: list["_Outcome"], first: int) -> Verdict:
        call = f"{self.name}({', '.join(_show(argument) for argument in self.cases[first])})"
        got, right = outcomes[first], wanted[first]
        if got.error:
            lines = [f"{call} stopped with {got.error}."]
        elif got.value is None:
            lines = [
                f"{call} should give {_show(right.value)}, yours gives nothing. Is there a return?"
            ]
        else:
            shown = _show_both(right.value, got.value)
            lines = [f"{call} should give {shown[0]}, yours gives {shown[1]}."]
            lines += _difference_in_kind(got.value, right.value)
        misconception, everywhere = self._recognise(outcomes, wanted)
        if misconception:
            lead = "" if everywhere else "Where it goes wrong it looks like this: "
            lines.append(lead + misconception.message)
        return Verdict(False, "\n".join([f"{self.name}: not yet.", *lines]), misconception)

    def _recognise(
        self, outcomes: list["_Outcome"], wanted: list["_Outcome"]
    ) -> tuple[Misconception | None, bool]:
        """Find the misconception that gives the learner's answers: all, or all wrong ones.

        One wrong answer alone is no evidence: too many mistakes agree on a tiny example.
        """
        wrong = [i for i in range(len(self.cases)) if not _same(outcomes[i], wanted[i])]
        fitting = []
        for misconception in self.misconceptions:
            mistakes = [_try(misconception.wrong, case) for case in self.cases]
            if all(_same(a, b) for a, b in zip(outcomes, mistakes, strict=True)):
                return misconception, True
            if len(wrong) > 1 and all(_same(outcomes[i], mistakes[i]) for i in wrong):
                fitting.append(misconception)
        return (fitting[0], False) if len(fitting) == 1 else (None, False)


def checker(*exercises: Exercise) -> Callable[[Callable], Verdict]:
    """Make the ``check`` of a notebook: it finds the exercise by the function's name.

    >>> check = checker(Exercise("one", "easy", 1, lambda: 1, [()], []))
    >>> def one():
    ...     return 1
    >>> check(one)
    one: right on all 1 examples.
    """
    by_name = {exercise.name: exercise for exercise in exercises}

    def check(answer: Callable) -> Verdict:
        name = getattr(answer, "__name__", repr(answer))
        if name not in by_name:
            raise ValueError(
                f"check knows {', '.join(by_name)}, not {name}; keep the function's name and pass "
                "the function itself, without brackets"
            )
        return by_name[name].check(answer)

    check.exercises = exercises
    return check


@dataclass(frozen=True)
class _Outcome:
    value: Any = None
    error: str = ""
    changed: tuple[str, str] | None = None  # what it changed in place, and how to copy that


def _try(answer: Callable, case: tuple) -> _Outcome:
    arguments = copy.deepcopy(case)
    try:
        value = answer(*arguments)
    except Exception as error:  # whatever a learner's code raises becomes part of the verdict
        return _Outcome(error=f"{type(error).__name__}: {error}")
    for before, after in zip(case, arguments, strict=True):
        if not _is_unchanged(before, after):
            kind = "tensor" if isinstance(before, Tensor) else type(before).__name__
            remedy = "x.clone()" if isinstance(before, Tensor) else "copy.deepcopy(x)"
            return _Outcome(value, changed=(kind, remedy))
    return _Outcome(value)


def _is_unchanged(before: Any, after: Any) -> bool:
    """Compare an argument with the copy that the answer got: exactly, and NaN is NaN."""
    if type(before) is not type(after):
        return False
    if isinstance(before, Tensor):
        if before.shape != after.shape or before.dtype != after.dtype:
            return False
        return bool(((before == after) | ((before != before) & (after != after))).all())
    if isinstance(before, list | tuple):
        return len(before) == len(after) and all(map(_is_unchanged, before, after))
    if isinstance(before, dict):
        return _is_unchanged([*before.items()], [*after.items()])
    # What compares by identity alone would look changed because it was copied.
    is_plain = isinstance(before, int | float | complex | str | bytes | set)
    return not is_plain or before == after or (before != before and after != after)


def _same(a: _Outcome, b: _Outcome) -> bool:
    if a.error or b.error:
        return a.error.split(":")[0] == b.error.split(":")[0]
    return _equal(a.value, b.value)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.shape != b.shape or _kind(a) != _kind(b):
            return False
        dtype = torch.complex128 if a.is_complex() else torch.float64
        return torch.allclose(
            a.to(dtype), b.to(dtype), rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True
        )
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return False
    if _is_number(a) and _is_number(b):
        return (a != a and b != b) or cmath.isclose(a, b, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    return type(a) is type(b) and a == b


def _difference_in_kind(got: Any, wanted: Any) -> list[str]:
    """Say in words what a picture of the numbers would hide: type, shape, dtype."""
    if _is_number(got) and _is_number(wanted):
        return []
    if isinstance(wanted, Tensor) != isinstance(got, Tensor):
        return [f"The answer must be {_kind(wanted)}, yours is {_kind(got)}."]
    if isinstance(wanted, Tensor) and got.shape != wanted.shape:
        return [f"Its shape must be {tuple(wanted.shape)}, yours is {tuple(got.shape)}."]
    if _kind(got) != _kind(wanted):
        return [f"The answer must be {_kind(wanted)}, yours is {_kind(got)}."]
    return []


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | complex) and not isinstance(value, bool)


def _kind(value: Any) -> str:
    if not isinstance(value, Tensor):
        name = type(value).__name__
        return f"an {name}" if name[0] in "aeiou" else f"a {name}"
    if value.dtype == torch.bool:
        return "a boolean tensor"
    if value.is_complex():
        return "a complex tensor"
    return "a floating tensor" if value.is_floating_point() else "a tensor of integers"


def _show_both(right: Any, got: Any) -> tuple[str, str]:
    """Write two values with as many digits as it takes to see that they differ."""
    for digits in (3, 6):
        shown = _show(right, digits), _show(got, digits)
        if shown[0] != shown[1]:
            break
    return shown


def _show(value: Any, digits: int = 3) -> str:
    """Write a value so that a learner can compare it by eye."""
    if isinstance(value, Tensor):
        return _show(value.tolist(), digits)
    if isinstance(value, float):
        text = f"{round(value, digits) + 0.0:.{digits + 3}g}"
        return text.replace("-inf", "−∞").replace("inf", "∞").replace("nan", "NaN")
    if isinstance(value, list):
        return "[" + ", ".join(_show(item, digits) for item in value) + "]"
    return getattr(value, "__name__", repr(value))
