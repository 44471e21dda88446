"""What was found, for a learner, a test and a picture."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import matplotlib.figure


@dataclass(frozen=True)
class Leak:
    """One output that depends on an input that it must not see.

    Args:
        output: position of the output.
        input: position of the later input.
        size: how much the output moved, or its gradient.

    >>> print(Leak(output=2, input=3, size=0.5, method="other values"))
    output 2 depends on input 3 (other values: 0.5)
    """

    output: int
    input: int
    size: float
    method: str

    def __str__(self) -> str:
        size = f"{self.size:.2g}"
        return f"output {self.output} depends on input {self.input} ({self.method}: {size})"


@dataclass(frozen=True)
class Evidence:
    """What one method says.

    Args:
        method: "other values", "large values", "gradients", "prefix alone", …
        independent: True: it saw no dependence on the future (for the prefix: on the length).
            False: it did. None: it could not tell.

    >>> print(Evidence("gradients", True, "none runs from an output to a later input"))
    gradients: none runs from an output to a later input
    """

    method: str
    independent: bool | None
    detail: str
    first_leak: Leak | None = None

    def __str__(self) -> str:
        return f"{self.method}: {self.detail}"


@dataclass(frozen=True)
class Caution:
    """Why a Yes may be worth nothing, and what to try.

    Args:
        name: "pointwise", "constant", "batch", "unread", "unseen"; ``allow=`` takes it. Or
            "blocked", for what was expected.
        allowed: whether the caller knows, and does not mind.

    >>> print(Caution("pointwise", "no output depends on any input but its own"))
    but no output depends on any input but its own (allow="pointwise" if that is meant)
    """

    name: str
    why: str
    allowed: bool = False

    def __str__(self) -> str:
        end = " (allowed)" if self.allowed else f' (allow="{self.name}" if that is meant)'
        if self.name == "blocked":  # the caller has said that it must not be
            end = ""
        return f"but {self.why}{end}"


def in_words(cautions: Iterable[Caution]) -> str:
    """Write cautions behind a reason.

    >>> in_words([Caution("batch", "rows influence each other", allowed=True)])
    '; but rows influence each other (allowed)'
    """
    return "".join(f"; {caution}" for caution in cautions)


@dataclass(frozen=True)
class CausalityReport:
    """Does an output depend on an input that comes later? Yes, no, or why it cannot be said.

    Args:
        causal: True: no dependence on the future was found at any cut. False: there is one. None:
            it could not be decided, see ``reason``.
        first_leak: the leak at the earliest output, from the nearest input.
        dependencies: float64, shape (length, length), ``dependencies[t, s]``: how strongly output t
            hangs on input s, 0 where it does not. From gradients where there are any, else from
            changing one input at a time; NaN in rows that were not measured. Rounding is taken out.
        cautions: why a True is worth nothing, such as positions that do not interact; the report is
            then not truthy, unless this was allowed.
        untried: what was not varied, or for which no time was left.
        length_dependent: True if a prefix that is run alone gives other outputs. That is no leak by
            itself, but such a model computes something else in step-by-step inference.
        lookahead: how far ahead an output was allowed to look.
        judged: which part of the model's result.
        forward_equivalents: work of the forwards, in passes over the whole sequence.

    >>> from causal_lab.causality import check_causality
    >>> report = check_causality(torch.nn.Linear(2, 2), torch.randn(1, 4, 2))
    >>> report.causal, report.first_leak, [caution.name for caution in report.cautions]
    (True, None, ['pointwise'])
    >>> bool(report)
    False
    """

    causal: bool | None
    reason: str
    first_leak: Leak | None
    dependencies: Tensor
    evidence: tuple[Evidence, ...]
    length_dependent: bool | None
    lookahead: int
    cuts: tuple[int, ...]
    judged: str
    forwards: int
    backwards: int
    forward_equivalents: float
    cautions: tuple[Caution, ...] = ()
    untried: tuple[str, ...] = ()
    seconds: float = field(default=0.0, compare=False)
    blame: object = None
    allowed: Tensor | None = None

    def __bool__(self) -> bool:
        return self.causal is True and all(caution.allowed for caution in self.cautions)

    def __str__(self) -> str:
        verdict = {True: "Causal", False: "NOT causal", None: "Undecided"}[self.causal]
        lines = [f"{verdict}: {self.reason}"]
        lines += [f"  {evidence}" for evidence in self.evidence]
        lines += [f"  not tried: {what}" for what in self.untried]
        lines += [f"  {self.blame}".replace("\n", "\n  ")] * (self.blame is not None)
        passes = f"{self.forwards} forward and {self.backwards} backward passes"
        return "\n".join([*lines, f"  ({self.judged}; {passes})"])

    def __repr__(self) -> str:
        if self.causal is True and self:
            return "<CausalityReport causal=True>"
        return f"<CausalityReport causal={self.causal}: {self.reason}>"

    def evidence_of(self, method: str) -> Evidence:
        """Look up what one method says."""
        for evidence in self.evidence:
            if evidence.method == method:
                return evidence
        used = ", ".join(evidence.method for evidence in self.evidence)
        raise ValueError(f"no method {method!r} in this report; there are {used}")

    def assert_causal(self) -> "CausalityReport":
        """Raise unless the model was found causal, and not in vain: the line for a test suite.

        Raises:
            AssertionError: with the whole report, if a leak was found, nothing could be decided, or
                the answer is worth nothing and that was not allowed.

        >>> from causal_lab.causality import check_causality
        >>> inputs = torch.randn(1, 3, 2)
        >>> check_causality(torch.nn.Identity(), inputs, allow="pointwise").assert_causal()
        <CausalityReport causal=True>
        """
        if not self:
            raise AssertionError(str(self))
        return self

    def plot(self, *, tokens=None, title: str | None = None, ax=None) -> "matplotlib.figure.Figure":
        """Draw which output depends on which input, the future in a colour of its own.

        Args:
            tokens, title, ax: as for :func:`causal_lab.plots.figures.plot_dependencies`.

        >>> from causal_lab.causality import check_causality
        >>> check_causality(torch.nn.Identity(), torch.randn(1, 3, 2)).plot()
        <Figure size 600x400 with 1 Axes>
        """
        depends = torch.nan_to_num(self.dependencies) > 0
        from causal_lab.plots.figures import plot_dependencies  # needs matplotlib

        return plot_dependencies(
            depends, tokens=tokens, title=title, ax=ax, lookahead=self.lookahead
        )
