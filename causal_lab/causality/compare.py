"""Compare two ways to compute the same, and tell rounding from error."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from causal_lab.causality import thresholds
from causal_lab.causality.answer import Result
from causal_lab.causality.runner import CannotRunError, Runner
from causal_lab.causality.thresholds import Border, Noise, bound_for, eps_of
from causal_lab.causality.trials import component_scale, movement

_SHAKEN = 4  # comparisons that are repeated while everything is shaken


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


def result_of(name: str, found: Found, **more) -> Result:
    """Make a result of what was found.

    >>> print(result_of("rows alone", Found(wrong=torch.tensor([False, True]), difference=0.5)))
    rows alone: row 1 differs by up to 0.5
    """
    if found.failure:
        return Result(name, None, float("nan"), failure=found.failure, **more)
    wrong = tuple(found.wrong.nonzero().flatten().tolist())
    return Result(name, not wrong, found.difference, wrong, **more)


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
