"""An exercise is data: a solution, small cases, and misconceptions with a sentence each."""

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import CodeType

import torch
from torch import Tensor

from causal_lab.exercises.explain import Trial, explain
from causal_lab.exercises.neighbours import Program
from causal_lab.exercises.outcomes import TOLERANCE, Outcome, equal, run
from causal_lab.exercises.showing import counterexample


@dataclass(frozen=True)
class Misconception:
    """A wrong answer, and the sentence that a learner who gave it needs.

    >>> Misconception("off by one", "The query may look at itself.", lambda t: t).wrong(3)
    3
    """

    name: str
    message: str  # what was mixed up, and how to see it
    wrong: Callable  # answers as a learner with this misconception would
    sign: Callable | None = None  # of (what came, what was due): betrays it whatever else is wrong


@dataclass(frozen=True)
class Verdict:
    """What a check found; shows itself as text, and is true if the answer is right.

    >>> Verdict(True, ("leak: right",))
    leak: right
    """

    passed: bool | None  # None if there was no attempt yet
    hints: tuple[str, ...]  # the counterexample, the place, the sentence: one more at each check
    misconception: Misconception | None = None  # the hand-written one that explains the answer
    layer: str = ""  # which of the layers found the sentence

    @property
    def text(self) -> str:
        """All of it."""
        return "\n".join(self.hints)

    def __bool__(self) -> bool:
        return self.passed is True

    def __repr__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Exercise:
    """A function to write, and all that is known of how it goes wrong.

    >>> exercise = Exercise(
    ...     "double", "easy", 1, ["def double(x): return 2 * x"], [(1,), (3,)],
    ...     [Misconception("square", "That is the square.", lambda x: x * x)],
    ... )
    >>> exercise.diagnose(lambda x: x * x)
    double: not yet.
    double(1) should give 2, yours gives 1.
    That is the square.
    >>> exercise.diagnose(lambda x: x + x)
    double: right on all 2 examples.
    """

    name: str  # of the learner's function
    level: str  # "easy", "medium" or "hard"
    minutes: int  # a guess for someone who read the notebook
    solutions: Sequence[str]  # source; the first is the reference, others are other styles
    cases: Sequence[tuple]  # arguments to try, the smallest first
    misconceptions: Sequence[Misconception]  # differ, on the cases, from the right and each other
    axes: tuple[str, ...] = ()  # of the answer, by name
    forbidden: Mapping[str, str] = field(default_factory=dict)  # a name, and why it may not be used
    compare_gradients: bool = False  # where the lesson is about them
    tolerance: float = TOLERANCE  # fits float32 done in another order, and hides no leak

    @cached_property
    def programs(self) -> list[Program]:
        """The solutions as trees."""
        return [Program.of(source) for source in self.solutions]

    @cached_property
    def reference(self) -> Callable:
        """The first solution, to run."""
        return self.programs[0].function

    @cached_property
    def due(self) -> list[Outcome]:
        """What is right, case by case."""
        return [run(self.reference, case) for case in self.cases]

    @cached_property
    def parameters(self) -> list[str]:
        """The names of the arguments."""
        return [*inspect.signature(self.reference).parameters]

    def accepts(self, answer: Callable) -> bool:
        """Say whether an answer is right, without looking for reasons."""
        trial = Trial(self, answer)
        return not trial.wrong and not self._objection(trial)

    def diagnose(self, answer: Callable) -> Verdict:
        """Try an answer on all cases, and say all that is known of what goes wrong.

        One that returns ``...`` everywhere counts as not attempted.

        >>> exercise = Exercise("one", "easy", 1, ["def one(): return 1"], [()], [])
        >>> exercise.diagnose(lambda: ...)
        one: not attempted yet. Replace the ... and run the cell again.
        """
        if not callable(answer):
            raise ValueError(f"check needs the function itself, check({self.name}), got {answer!r}")
        trial = Trial(self, answer)
        if all(outcome.value is ... for outcome in trial.got):
            words = f"{self.name}: not attempted yet. Replace the ... and run the cell again."
            return Verdict(None, (words,))
        if trial.wrong:
            n = trial.telling
            lines = counterexample(
                self.name, self.parameters, self.cases[n], self.due[n], trial.got[n]
            )
            layer, sentence, mistake = explain(trial)
            hints = [f"{self.name}: not yet.\n{lines}", trial.place, sentence]
            return Verdict(False, (*filter(None, hints),), mistake, layer)
        if objection := self._objection(trial):
            return Verdict(False, (f"{self.name}: the answers are right, but {objection}",))
        return Verdict(True, (f"{self.name}: right on all {len(self.cases)} examples.",))

    def forbidden_in(self, answer: Callable) -> str:
        """Say what an answer uses that the task forbids; nothing if it does not."""
        code = getattr(answer, "__code__", None)
        used = {*_names_in(code)} if code else ()
        return next((words for name, words in self.forbidden.items() if name in used), "")

    def _objection(self, trial: Trial) -> str:
        """Say what else is wrong with an answer whose values are right."""
        if words := self.forbidden_in(trial.answer):
            return words
        for kind, remedy in (outcome.changed for outcome in trial.got if outcome.changed):
            return f"your function changes the {kind} it was given. Work on a copy: {remedy}."
        for case in self.cases if self.compare_gradients else ():
            mine, right = (_gradients(one, case) for one in (trial.answer, self.reference))
            if mine and not equal(mine, right, self.tolerance):
                if not any(a is not None and a.isnan().any() for a in mine):
                    return (
                        "their gradients are not. Is something cut out of the graph (detach, item)?"
                    )
                return (
                    "their gradients are not: some are NaN, and a step of training would make all "
                    "parameters NaN. A NaN that is replaced afterwards is still there on the way "
                    "back. Fill before it can arise; do not add or multiply ∞."
                )
        return ""


def checker(*exercises: Exercise) -> Callable[[Callable], Verdict]:
    """Make the ``check`` of a notebook: it finds the exercise by the function's name.

    The same wrong answer, checked again, gets one hint more.

    >>> check = checker(Exercise("one", "easy", 1, ["def one(): return 1"], [()], []))
    >>> def one():
    ...     return 1
    >>> check(one)
    one: right on all 1 examples.
    """
    by_name = {exercise.name: exercise for exercise in exercises}
    shown: dict[str, tuple[str, int]] = {}  # what was said last, and how much of it

    def check(answer: Callable) -> Verdict:
        name = getattr(answer, "__name__", repr(answer))
        if name not in by_name:
            raise ValueError(
                f"check knows {', '.join(by_name)}, not {name}; keep the function's name and pass "
                "the function itself, without brackets"
            )
        verdict = by_name[name].diagnose(answer)
        before, degree = shown.get(name, ("", 0))
        shown[name] = verdict.text, degree + 1 if verdict.text == before else 1
        hints = verdict.hints[: shown[name][1]]
        more = ("Check it again as it is for a hint.",) * (len(hints) < len(verdict.hints))
        return replace(verdict, hints=hints + more)

    check.exercises = exercises
    return check


def _names_in(code: CodeType) -> Iterator[str]:
    """Give every name that a function uses, inner functions included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)


def _gradients(answer: Callable, case: tuple) -> list[Tensor | None]:
    """Give the gradients of the outputs, weighed unequally, by the floating arguments.

    An answer that keeps none, or cannot run so, gives an empty list: it has nothing to compare.
    """
    arguments = copy.deepcopy(case)
    tensors = (one for one in arguments if isinstance(one, Tensor) and one.is_floating_point())
    leaves = [one.requires_grad_() for one in tensors]
    try:
        value = answer(*arguments)
        weights = torch.arange(1.0, 1 + value.numel()).reshape(value.shape)
        return [*torch.autograd.grad((value * weights).sum(), leaves, allow_unused=True)]
    except Exception:  # in place on a leaf, through NumPy, without a graph
        return []
