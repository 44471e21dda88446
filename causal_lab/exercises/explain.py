"""Find the sentence that a wrong answer needs: layer after layer, until one is not silent."""

import ast
import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from causal_lab.exercises import relations
from causal_lab.exercises.neighbours import Neighbour, Program
from causal_lab.exercises.outcomes import Outcome, kind, run, same
from causal_lab.exercises.relations import as_tensor, close
from causal_lab.exercises.rules import hint

LEAD = "Your answer behaves exactly like the solution, except that "
PAIRS = 800  # of slips that are tried


@dataclass(frozen=True)
class Explanation:
    """A sentence, the layer that found it, and the place where the wrong entries stand."""

    sentence: str = ""
    misconception: Any = None
    layer: str = ""
    place: str = ""


@dataclass(frozen=True)
class Trial:
    """One answer, tried on all cases of an exercise."""

    exercise: Any
    answer: Callable
    got: list[Outcome]
    due: list[Outcome]

    @functools.cached_property
    def wrong(self) -> list[int]:
        """The cases that went wrong."""
        pairs = enumerate(zip(self.got, self.due, strict=True))
        return [n for n, (a, b) in pairs if not same(a, b, self.exercise.tolerance)]

    @functools.cached_property
    def telling(self) -> int:
        """The smallest case that tells something: some of it right, or enough of it to see."""

        def silence(n: int) -> int:
            a, b = _numbers(self.got[n]), as_tensor(self.due[n].value)
            if a is None or b is None or a.shape != b.shape:
                return a is not None and b is not None and a.numel() < 2
            some_right = torch.isclose(a, b, rtol=1e-5, atol=1e-5, equal_nan=True).any()
            return 0 if some_right or b.numel() > 3 else 1 + (b.numel() < 2)

        return min(self.wrong, key=silence)

    @functools.cached_property
    def is_rich(self) -> bool:
        """Do the wrong values hold enough to tell one cause from another?"""
        values = [_numbers(self.got[n]) for n in self.wrong if not self.got[n].error]
        if not values or any(value is None for value in values):
            return len({repr(self.got[n].value) for n in self.wrong}) > 2
        entries = torch.cat([value.flatten() for value in values])
        return len(entries) >= 20 or len(entries.round(decimals=4).unique()) > 2

    @functools.cached_property
    def program(self) -> Program | None:
        """The source of the answer, where it can be found."""
        return Program.behind(self.answer)

    def likeness(self, program: Program) -> float:
        """Say how much a program looks like the answer."""
        return self.program.likeness(program) if self.program else 0.0

    def differs(self, other: Callable) -> Iterator[int]:
        """Yield the cases where another function behaves otherwise, the wrong ones first."""
        for n in sorted(range(len(self.got)), key=lambda n: n not in self.wrong):
            outcome = run(other, self.exercise.cases[n])
            if not same(self.got[n], outcome, self.exercise.tolerance, with_changes=True):
                yield n

    def behaves_like(self, other: Callable | None) -> bool:
        """Does another function give the same, right or wrong?"""
        return other is not None and next(self.differs(other), None) is None


def explain(trial: Trial) -> Explanation:
    """Go through the layers; the first that is not silent speaks.

    >>> from causal_lab.exercises.start_here import MAY_LOOK as one
    >>> answer = lambda query, key: key - 1 <= query
    >>> trial = Trial(one, answer, [run(answer, case) for case in one.cases], one.due)
    >>> explain(trial).sentence.removeprefix(LEAD)
    'the limit `key` is one too low.'
    """
    place = _place(trial)
    for name, layer in LAYERS.items():
        if found := layer(trial):
            found = found if isinstance(found, Explanation) else Explanation(found)
            return replace(found, layer=name, place=place)
    return Explanation(layer="place" if place else "", place=place)


def _place(trial: Trial) -> str:
    exercise = trial.exercise
    told = [relations.which_cases(exercise.cases, trial.wrong, exercise.parameters)]
    if not any(outcome.error for outcome in trial.got):
        told.append(relations.place(*_values(trial), exercise.axes))
    return " ".join(filter(None, told))


def _values(trial: Trial) -> tuple[list, list]:
    return [outcome.value for outcome in trial.got], [outcome.value for outcome in trial.due]


def _numbers(outcome: Outcome) -> Tensor | None:
    return None if outcome.error else as_tensor(outcome.value)


def _known(trial: Trial) -> Explanation | None:
    """The hand-written misconceptions: every number, or the sign by which one is known."""

    def bears(sign: Callable) -> bool:
        try:
            return all(sign(trial.got[n].value, trial.due[n].value) for n in trial.wrong)
        except Exception:  # of another shape or kind than the sign is made for
            return False

    mistakes = trial.exercise.misconceptions
    exactly = (one for one in mistakes if trial.behaves_like(one.wrong))
    by_sign = (one for one in mistakes if one.sign and bears(one.sign))
    mistake = next(exactly, None) or next(by_sign, None)
    return Explanation(mistake.message, mistake) if mistake else None


def _forbidden(trial: Trial) -> str:
    words = trial.exercise.forbidden_in(trial.answer)
    return words and f"Besides, {words}"


def _thrown_away(trial: Trial) -> str:
    """A step whose result nobody keeps."""
    for node in ast.walk(trial.program.tree) if trial.program else ():
        call = node.value if isinstance(node, ast.Expr) else None
        name = getattr(call.func, "attr", "") if isinstance(call, ast.Call) else ""
        is_method = hasattr(Tensor, name) and hasattr(Tensor, name + "_")
        if is_method and not hasattr(set, name):  # a set's add does change it
            return (
                f"`.{name}(…)` changes nothing, it gives a new tensor, and yours is thrown away: "
                f"write x = x.{name}(…)."
            )
    return ""


def _neighbour(trial: Trial) -> str:
    """One slip in a solution; of several that behave alike, the one most like the code."""
    every = (one for program in trial.exercise.programs for one in program.neighbours)
    fitting = [one for one in every if trial.behaves_like(one.program.function)]
    best = max(fitting, key=lambda one: trial.likeness(one.program), default=None)
    return f"{LEAD}{best.sentence}." if best else ""


def _changed(trial: Trial) -> str:
    for what, remedy in (outcome.changed for outcome in trial.got if outcome.changed):
        return (
            f"You write into the {what} that you were given: what you still need there is gone, "
            f"and whoever calls you finds it changed. Work on a copy: {remedy}."
        )
    return ""


def _relation(trial: Trial) -> str | None:
    has_values = not any(outcome.error for outcome in trial.got)
    return relations.relation(*_values(trial), trial.exercise.axes) if has_values else None


def _two_slips(trial: Trial) -> str:
    """Two slips in the solution that looks most like the code, the likeliest ones first."""
    if not trial.is_rich:
        return ""
    program = max(trial.exercise.programs, key=trial.likeness)
    slips = sorted(_distinct(trial, program), key=lambda one: -trial.likeness(one.program))
    pairs = sorted(itertools.combinations(range(len(slips)), 2), key=sum)[:PAIRS]
    for first, second in ((slips[i], slips[j]) for i, j in pairs):
        both = first.and_also(second) or second.and_also(first)
        if both and trial.behaves_like(both.function):
            return f"{LEAD}{first.sentence}, and {second.sentence}."
    return ""


def _distinct(trial: Trial, program: Program) -> list[Neighbour]:
    """Leave out the neighbours that behave like the solution, or like another one."""
    kept, found = [trial.due], []
    for one in program.neighbours if not program.distinct else ():
        function = one.program.function
        outcomes = [run(function, case) for case in trial.exercise.cases] if function else kept[0]
        tolerance = itertools.repeat(trial.exercise.tolerance)
        if not any(all(map(same, outcomes, other, tolerance)) for other in kept):
            kept.append(outcomes)
            found.append(one)
    program.distinct.extend(found)  # made once: it takes longer than all the rest
    return program.distinct


def _composed(trial: Trial) -> Explanation | None:
    """A misconception with one slip more."""
    for mistake in trial.exercise.misconceptions if trial.is_rich else ():
        program = Program.behind(mistake.wrong)
        for one in program.neighbours if program else ():
            if trial.behaves_like(one.program.function):
                words = f"{mistake.message} Besides, it is as if {one.sentence}."
                return Explanation(words, mistake)
    return None


def _nearly(trial: Trial) -> Explanation | None:
    """A misconception that agrees wherever both are finite, or but for the last row or one case."""
    is_mask = any(kind(outcome.value) == "a boolean tensor" for outcome in trial.due)
    for mistake in trial.exercise.misconceptions if trial.is_rich and not is_mask else ():
        other = [run(mistake.wrong, case) for case in trial.exercise.cases]
        rows = [
            *zip(*([*map(_numbers, some)] for some in (trial.got, other, trial.due)), strict=True)
        ]
        fits = all(a is not None and b is not None and a.shape == b.shape for a, b, _ in rows)
        if (
            fits
            and all(_agree(a, b) for a, b, _ in rows)
            and not all(_agree(a, w) for a, _, w in rows)
        ):
            finite = all(torch.equal(a.isfinite(), b.isfinite()) for a, b, _ in rows)
            words = "it holds another kind of numbers" if finite else "NaN and ∞ stand elsewhere"
        elif fits and all(a.dim() and len(a) > 1 and close(a[:-1], b[:-1]) for a, b, _ in rows):
            words = "the last row is wrong for another reason"
        else:
            off = [*itertools.islice(trial.differs(mistake.wrong), 2)]
            if len(off) != 1 or len(trial.got) < 5 or not {*off} < {*trial.wrong}:
                continue
            words = "one of the examples goes wrong for another reason"
        return Explanation(f"{mistake.message} (Besides, {words}.)", mistake)
    return None


def _agree(a: Tensor, b: Tensor | None) -> bool:
    """Are the entries that are finite in both the same, and are they most of them?"""
    if b is None or a.shape != b.shape:
        return False
    both = a.isfinite() & b.isfinite()
    return close(a[both], b[both]) and int(both.sum()) * 2 >= both.numel()


def _elsewhere(trial: Trial) -> str:
    """An error on another case than the one that is shown."""
    error = next((outcome.error for outcome in trial.got if outcome.error), "")
    return error and f"On other examples it stops with {error}. {hint(error)}"


LAYERS = {
    "known": _known,
    "forbidden": _forbidden,
    "thrown away": _thrown_away,
    "error": lambda trial: hint(trial.got[trial.telling].error),
    "neighbour": _neighbour,
    "changed": _changed,
    "unseen": lambda trial: relations.unseen(trial.answer, trial.exercise),
    "relation": _relation,
    "nearly": _nearly,
    "two slips": _two_slips,
    "composed": _composed,
    "elsewhere": _elsewhere,
}
