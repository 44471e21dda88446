"""Compare two ways to compute the same, and tell rounding from error."""

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from causal_lab.causality import thresholds
from causal_lab.causality.report import Caution
from causal_lab.causality.runner import CannotRunError, Runner
from causal_lab.causality.thresholds import Border, Noise, bound_for, eps_of
from causal_lab.causality.trials import component_scale, movement
from causal_lab.causality.watch import Blame

RANDOM = (
    "random numbers are drawn (dropout in train mode?), and they fall differently; call .eval() "
    "on the modules"
)
_SHAKEN = 4  # comparisons that are repeated while everything is shaken


@dataclass(frozen=True, repr=False)
class Answer:
    """What comparisons give: the same, or not, or why it cannot be said.

    Args:
        same: True: all agrees. False: something differs by more than rounding. None: it could not
            be decided, see ``reason``.
        reason: why, and what the pattern suggests as a cause.
        results: by the name of what was compared.
        cautions: why a True is worth nothing; the report is then not truthy, unless allowed.
        blame: the submodule in which the two ways part, if that was asked for.
    """

    same: bool | None
    reason: str
    results: dict
    cautions: tuple[Caution, ...] = ()
    blame: Blame | None = None

    def __bool__(self) -> bool:
        return self.same is True and all(caution.allowed for caution in self.cautions)

    def __repr__(self) -> str:
        if self:
            return f"<{type(self).__name__} same=True>"
        return f"<{type(self).__name__} same={self.same}: {self.reason}>"

    def __str__(self) -> str:
        verdict = {True: "The same", False: "NOT the same", None: "Undecided"}[self.same]
        lines = [f"{verdict}: {self.reason}", *(f"  {one}" for one in self.results.values())]
        lines += [f"  {self.blame}".replace("\n", "\n  ")] * (self.blame is not None)
        return "\n".join(lines)

    def assert_same(self):
        """Raise unless all was found to be the same, and not in vain: the line for a test suite.

        Raises:
            AssertionError: with the whole report, if something differs, nothing could be decided,
                or the answer is worth nothing and that was not allowed.
        """
        if not self:
            raise AssertionError(str(self))
        return self


@dataclass(frozen=True)
class Found:
    """What one comparison showed, or why there was none.

    Args:
        wrong: bool, shape (row,).
        difference: the largest; in 64 bits where something is wrong, else what rounding makes.
        bound: so much of an output's size moved, and may be rounding that is no smaller in 64 bits.
        by_size: whether no finer computation was possible.
    """

    failure: str = ""
    wrong: Tensor | None = None
    difference: float = 0.0
    bound: float = 0.0
    by_size: bool = False

    @property
    def is_wrong(self) -> bool:
        """Whether any row is."""
        return self.wrong is not None and bool(self.wrong.any())


def compare(
    run: Runner, inputs: Tensor, names: list, measure: Callable, tolerance: float = 0.0
) -> dict[object, Found]:
    """Compare natively, in 64 bits what differs, and shaken what could be rounding.

    Args:
        measure: gives, for a list of names, by name two outputs, shape (batch, row, …), or the
            exception that prevented it, in whatever precision the runner is.
        tolerance: of an output's size; smaller differences are none.

    >>> inputs = torch.ones(1, 2)
    >>> with Runner(torch.nn.Identity(), 1, 2) as run:
    ...     found = compare(run, inputs, ["a"], lambda names: {"a": (inputs, inputs + 1)})
    >>> found["a"].is_wrong
    True
    """
    native = measure(names)
    found = {
        n: Found(failure=str(pair)) for n, pair in native.items() if isinstance(pair, Exception)
    }
    pairs = {n: pair for n, pair in native.items() if n not in found}
    differing = [n for n, pair in pairs.items() if bool((movement(*pair) > 0).any())]
    found |= {n: Found(wrong=movement(*pair) > 0) for n, pair in pairs.items()}
    if not differing:
        return found
    coarse = max(torch.finfo(run.coarsest(part)).eps for pair in pairs.values() for part in pair)
    judged = _in_64_bits(run, lambda: _judge(run, inputs, differing, measure, 0.0, tolerance))
    judged = judged or _judge(run, inputs, differing, measure, coarse, tolerance)
    for name, one in judged.items():
        sizes = movement(*pairs[name])
        size = float(sizes.max())
        if size == torch.inf and one.wrong is not None:  # what is no number is no rounding
            one = replace(one, wrong=one.wrong | sizes.isinf(), difference=size, by_size=False)
        found[name] = one if one.is_wrong and not one.by_size else replace(one, difference=size)
    return found


def _in_64_bits(run: Runner, work: Callable) -> dict:
    try:
        with run.precision(torch.float64):
            return work()
    except (CannotRunError, RuntimeError, TypeError, ValueError):
        return {}  # some tensor has no such precision (quantised, say)


def _judge(run, inputs, names, measure, eps: float, tolerance: float) -> dict:
    """Judge in the precision of the moment, in which outputs are rounded to ``eps`` or more."""
    pairs = measure(names)
    for pair in pairs.values():
        if isinstance(pair, Exception):
            raise CannotRunError(str(pair))
    with run.shaken(inputs, 0):
        probe = measure(names[:1])[names[0]]
    if not isinstance(probe, Exception):
        eps = max(eps, *map(eps_of, probe))
    border, noise = Border.of(eps), Noise(eps)
    sizes = {name: movement(*pair, None, component_scale(pair[0])) for name, pair in pairs.items()}
    picked = [n for n, size in sizes.items() if bool(border.is_doubtful(size).any())][:_SHAKEN]
    for seed in (1, 2) if picked else ():
        with run.shaken(inputs, seed, eps), contextlib.suppress(CannotRunError):
            for name, again in measure(picked).items():
                if not isinstance(again, Exception):
                    noise.see(_relative(pairs[name]), _relative(again))
    found = {}
    for name, size in sizes.items():
        wrong = border.is_dependence(size, noise) & (size > tolerance)
        rest = size[border.is_doubtful(size) & ~wrong & (size > tolerance)]
        bound = float(rest.max()) if rest.numel() else 0.0
        largest = float(movement(*pairs[name]).max())
        found[name] = Found("", wrong, largest, bound, by_size=eps > thresholds.FINE_EPS)
        if bound > bound_for(eps) and not wrong.any():
            found[name] = Found(
                f"a difference of {bound:.1g} of the outputs' size may be rounding; tolerance= can "
                "say what is small"
            )
    return found


def _relative(pair: tuple[Tensor, Tensor]) -> Tensor:
    scale = component_scale(pair[0])
    return (pair[1] - pair[0]).double() / torch.where(scale > 0, scale, 1.0)


def pair_of(base: Tensor, new: Tensor) -> tuple[Tensor, Tensor] | CannotRunError:
    """Put two outputs of one shape side by side.

    >>> str(pair_of(torch.ones(1), torch.ones(2)))
    'outputs of shape (1,) were to be compared, got (2,)'
    """
    if base.shape != new.shape:
        return CannotRunError(
            f"outputs of shape {tuple(base.shape)} were to be compared, got {tuple(new.shape)}"
        )
    return base, new


def verdict_of(results: Iterable) -> bool | None:
    """Answer False where anything is wrong; else None where anything could not be run.

    >>> verdict_of([])
    True
    """
    found = [result.same for result in results]
    return False if False in found else None if None in found else True


def how_judged(found: dict[object, Found]) -> str:
    """Say what a Yes rests on, where it does not rest on 64 bits.

    >>> how_judged({"a": Found(wrong=torch.zeros(1), by_size=True)})[:37]
    '; small differences count as rounding'
    """
    bound = max((one.bound for one in found.values()), default=0.0)
    if any(one.by_size and not one.is_wrong for one in found.values()):
        return (
            "; small differences count as rounding, which could only be judged by their size: no "
            "computation in another precision was possible"
        )
    if bound > thresholds.STATED:
        return (
            f"; differences of up to {bound:.1g} of the outputs' size are rounding, which is no "
            "smaller in 64 bits: some part computes in fewer"
        )
    return ""


def unread(what: str, allow: tuple[str, ...]) -> Caution:
    """Warn that what was asked for was never used.

    >>> unread("so would no cache", ("unread",)).allowed
    True
    """
    return Caution("unread", what, "unread" in allow)


@dataclass(frozen=True)
class Result:
    """What one comparison gave.

    Args:
        same: whether every row agrees; None if it could not be run.
        difference: the worst one: in 64 bits where rows are wrong, else what rounding makes;
            infinite where only one of the two is a number.
        wrong_rows: positions that differ by more than rounding.
        failure: why it could not be run, else empty.

    >>> print(Result.of("rows alone", Found(wrong=torch.tensor([False, True]), difference=0.5)))
    rows alone: row 1 differs by up to 0.5
    """

    name: str
    same: bool | None
    difference: float
    wrong_rows: tuple[int, ...] = ()
    failure: str = ""

    @classmethod
    def of(cls, name: str, found: Found) -> "Result":
        """Read what was found."""
        if found.failure:
            return cls(name, None, float("nan"), failure=found.failure)
        wrong = tuple(found.wrong.nonzero().flatten().tolist())
        return cls(name, not wrong, found.difference, wrong)

    def __str__(self) -> str:
        if self.same is None:
            return f"{self.name}: could not be run; {self.failure}"
        if self.same:
            return f"{self.name}: agrees{rounding_aside(self.difference)}"
        verb = "differs" if len(self.wrong_rows) == 1 else "differ"
        return (
            f"{self.name}: {rows_in_words(self.wrong_rows)} {verb} by up to {self.difference:.2g}"
        )


# --- words


def positions(chunks: Iterable[int]) -> list[list[int]]:
    """List the places in each chunk.

    >>> positions([2, 1])
    [[0, 1], [2]]
    """
    found, start = [], 0
    for size in chunks:
        found.append(list(range(start, start + size)))
        start += size
    return found


def rows_in_words(rows: tuple[int, ...]) -> str:
    """Write positions as a learner would say them.

    >>> rows_in_words((3, 4, 5, 7))
    'rows 3 to 5 and 7'
    """
    runs: list[list[int]] = []
    for row in rows:
        if runs and row == runs[-1][-1] + 1:
            runs[-1].append(row)
        else:
            runs.append([row])
    words = [f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
    return f"row{'s' if len(rows) > 1 else ''} {all_of(words)}"


def rounding_aside(difference: float) -> str:
    """Say how large rounding was.

    >>> rounding_aside(1e-7)
    ', rounding of up to 1e-07 aside'
    """
    return f", rounding of up to {difference:.1g} aside" if difference else ""


def all_of(words: Iterable) -> str:
    """Join words with commas and *and*.

    >>> all_of([1, 2, 3])
    '1, 2 and 3'
    """
    *most, last = map(str, words)
    return f"{', '.join(most)} and {last}" if most else last
