"""Find the sentence that a wrong answer needs: layer after layer, until one is not silent."""

import ast
import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from causal_lab.exercises import relations
from causal_lab.exercises.neighbours import Program
from causal_lab.exercises.outcomes import Outcome, kind, run, same
from causal_lab.exercises.relations import as_tensor, close
from causal_lab.exercises.rules import hint
from causal_lab.exercises.showing import show

LEAD = "Your answer behaves exactly like the solution, except that "
PAIRS = 800  # of slips that are tried


@dataclass(frozen=True)
class Trial:
    """One answer, tried on all cases of an exercise."""

    exercise: Any
    answer: Callable

    @functools.cached_property
    def got(self) -> list[Outcome]:
        """What came."""
        return [run(self.answer, case) for case in self.exercise.cases]

    @functools.cached_property
    def wrong(self) -> list[int]:
        """The cases that went wrong."""
        pairs = enumerate(zip(self.got, self.exercise.due, strict=True))
        return [n for n, (a, b) in pairs if not same(a, b, self.exercise.tolerance)]

    @functools.cached_property
    def telling(self) -> int:
        """The smallest case that tells something: some of it right, or enough of it to see."""

        def silence(n: int) -> int:
            a, b = _numbers(self.got[n]), _numbers(self.exercise.due[n])
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

    @property
    def place(self) -> str:
        """Where the wrong entries stand, and in which cases."""
        one = self.exercise
        cases = relations.which_cases(one.cases, self.wrong, one.parameters)
        return " ".join(filter(None, [cases, self.related(relations.place)]))

    def related(self, relation: Callable) -> str:
        """Relate the values that came to those that were due, if there was no error."""
        if any(outcome.error for outcome in self.got):
            return ""
        got, due = ([one.value for one in some] for some in (self.got, self.exercise.due))
        return relation(got, due, self.exercise.axes)

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


def explain(trial: Trial) -> tuple[str, str, Any]:
    """Name the first layer that is not silent, its sentence, and the misconception if it is one.

    >>> from causal_lab.exercises.start_here import MAY_LOOK
    >>> explain(Trial(MAY_LOOK, lambda query, key: key - 1 <= query))[1].removeprefix(LEAD)
    'the limit `key` is one too low.'
    """
    for name, layer in LAYERS.items():
        if found := layer(trial):
            return name, *(found if isinstance(found, tuple) else (found, None))
    return "", "", None


def _numbers(outcome: Outcome) -> Tensor | None:
    return None if outcome.error else as_tensor(outcome.value)


def _known(trial: Trial) -> tuple | None:
    """The hand-written misconceptions: every number, or the sign by which one is known."""

    def bears(sign: Callable | None) -> bool:
        try:
            due = trial.exercise.due
            return all(sign(trial.got[n].value, due[n].value) for n in trial.wrong)
        except Exception:  # there is none, or it is made for another shape or kind
            return False

    mistakes = trial.exercise.misconceptions
    exactly = (one for one in mistakes if trial.behaves_like(one.wrong))
    by_sign = (one for one in mistakes if bears(one.sign))
    mistake = next(itertools.chain(exactly, by_sign), None)
    return mistake and (mistake.message, mistake)


def _forbidden(trial: Trial) -> str:
    words = trial.exercise.forbidden_in(trial.answer)
    return words and f"Besides, {words}"


def _thrown_away(trial: Trial) -> str:
    """A step whose result nobody keeps."""
    for node in ast.walk(trial.program.tree) if trial.program else ():
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            name = getattr(node.value.func, "attr", "")
            is_method = hasattr(Tensor, name) and hasattr(Tensor, name + "_")
            if is_method and not hasattr(set, name):  # a set's add does change it
                return (
                    f"`.{name}(…)` changes nothing, it gives a new tensor, and yours is thrown "
                    f"away: write x = x.{name}(…)."
                )
    return ""


def _neighbour(trial: Trial) -> str | None:
    """One slip in a solution; of several that behave alike, the one most like the code."""
    every = (one for program in trial.exercise.programs for one in program.neighbours)
    fitting = [one for one in every if trial.behaves_like(one.function)]
    best = max(fitting, key=trial.likeness, default=None)
    return best and f"{LEAD}{best.slip[-1]}."


def _changed(trial: Trial) -> str:
    for what, remedy in (outcome.changed for outcome in trial.got if outcome.changed):
        return (
            f"You write into the {what} that you were given: what you still need there is gone, "
            f"and whoever calls you finds it changed. Work on a copy: {remedy}."
        )
    return ""


def _nearly(trial: Trial) -> tuple | None:
    """A misconception that agrees wherever both are finite, or but for the last row or one case."""
    due = [*map(_numbers, trial.exercise.due)]
    is_mask = any(kind(outcome.value) == "a boolean tensor" for outcome in trial.exercise.due)
    for mistake in trial.exercise.misconceptions if trial.is_rich and not is_mask else ():
        other = (run(mistake.wrong, case) for case in trial.exercise.cases)
        rows = [*zip(map(_numbers, trial.got), map(_numbers, other), due, strict=True)]
        fits = all(a is not None and b is not None and a.shape == b.shape for a, b, _ in rows)
        off = []
        if fits and all(_agree(a, b) for a, b, _ in rows) > all(_agree(a, w) for a, _, w in rows):
            finite = all(torch.equal(a.isfinite(), b.isfinite()) for a, b, _ in rows)
            words = "it holds another kind of numbers" if finite else "NaN and ∞ stand elsewhere"
        elif fits and all(a.dim() and len(a) > 1 and close(a[:-1], b[:-1]) for a, b, _ in rows):
            words = "the last row is wrong for another reason"
        else:
            off = {*itertools.islice(trial.differs(mistake.wrong), 2)}
            words = "one of the examples goes wrong for another reason"
        if not off or (len(off) == 1 and len(trial.got) > 4 and off < {*trial.wrong}):
            return f"{mistake.message} (Besides, {words}.)", mistake
    return None


def _agree(a: Tensor, b: Tensor | None) -> bool:
    """Are the entries that are finite in both the same, and are they most of them?"""
    if b is None or a.shape != b.shape:
        return False
    both = a.isfinite() & b.isfinite()
    return close(a[both], b[both]) and int(both.sum()) * 2 >= both.numel()


def _two_slips(trial: Trial) -> str:
    """Two slips in the solution that looks most like the code, the likeliest ones first."""
    if not trial.is_rich:
        return ""
    program = max(trial.exercise.programs, key=trial.likeness)
    slips = sorted(_distinct(trial, program), key=trial.likeness, reverse=True)
    pairs = sorted(itertools.combinations(range(len(slips)), 2), key=sum)[:PAIRS]
    for first, second in ((slips[i], slips[j]) for i, j in pairs):
        both = first.edited(*second.slip) or second.edited(*first.slip)
        if both and trial.behaves_like(both.function):
            return f"{LEAD}{first.slip[-1]}, and {second.slip[-1]}."
    return ""


def _distinct(trial: Trial, program: Program) -> list[Program]:
    """Leave out the neighbours that behave like the solution, or like another one."""

    def told(outcomes: list[Outcome]) -> str:
        return show([one.error.split(":")[0] or one.value for one in outcomes], 5)

    if not program.distinct:  # made once: it takes longer than all the rest
        seen = {told(trial.exercise.due)}
        for one in program.neighbours:
            call = one.function
            said = call and told([run(call, case) for case in trial.exercise.cases])
            if said and said not in seen:
                seen.add(said)
                program.distinct.append(one)
    return program.distinct


def _composed(trial: Trial) -> tuple | None:
    """A misconception with one slip more."""
    for mistake in trial.exercise.misconceptions if trial.is_rich else ():
        program = Program.behind(mistake.wrong)
        for one in program.neighbours if program else ():
            if trial.behaves_like(one.function):
                return f"{mistake.message} Besides, it is as if {one.slip[-1]}.", mistake
    return None


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
    "relation": lambda trial: trial.related(relations.relation),
    "nearly": _nearly,
    "two slips": _two_slips,
    "composed": _composed,
    "elsewhere": _elsewhere,
}
