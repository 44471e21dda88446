"""What was found, for a learner, a test and a picture."""

from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import Tensor

from causal_lab.plots import plot_dependencies


@dataclass(frozen=True)
class Leak:
    """One output that depends on an input that it must not see.

    Parameters
    ----------
    output : int
        Position of the output.
    input : int
        Position of the later input.
    size : float
        How much the output moved, or its gradient.
    method : str
        What showed it.

    Examples
    --------
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

    Parameters
    ----------
    method : str
        "other values", "large values", "gradients", "prefix alone", …
    independent : bool or None
        True: it saw no dependence on the future (for the prefix: on the length). False: it
        did. None: it could not tell.
    detail : str
        One sentence.
    first_leak : Leak, optional
        The first it saw.

    Examples
    --------
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
class CausalityReport:
    """Does an output depend on an input that comes later? Yes, no, or why it cannot be said.

    Parameters
    ----------
    causal : bool or None
        True: no dependence on the future was found at any cut. False: there is one. None: it
        could not be decided, see ``reason``.
    reason : str
        Why, in one sentence.
    first_leak : Leak or None
        The leak at the earliest output, from the nearest input.
    dependencies : Tensor, float64, shape (length, length)
        ``dependencies[t, s]``: how strongly output t hangs on input s, 0 where it does not.
        From gradients where there are any, else from changing one input at a time; NaN in rows
        that were not measured. Rounding is taken out.
    evidence : tuple of Evidence
        What each method says.
    length_dependent : bool or None
        True if a prefix that is run alone gives other outputs. That is no leak by itself, but
        such a model computes something else in step-by-step inference.
    lookahead : int
        How far ahead an output was allowed to look.
    cuts : tuple of int
        The cuts that were tried.
    judged : str
        Which part of the model's result.
    forwards, backwards : int
        Passes made.
    forward_equivalents : float
        Work of the forwards, in passes over the whole sequence.

    Examples
    --------
    >>> from causal_lab.causality import check_causality
    >>> report = check_causality(torch.nn.Linear(2, 2), torch.randn(1, 4, 2))
    >>> report.causal, bool(report), report.first_leak is None
    (True, True, True)
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

    def __bool__(self) -> bool:
        return self.causal is True

    def __str__(self) -> str:
        verdict = {True: "Causal", False: "NOT causal", None: "Undecided"}[self.causal]
        lines = [f"{verdict}: {self.reason}"]
        lines += [f"  {evidence}" for evidence in self.evidence]
        passes = f"{self.forwards} forward and {self.backwards} backward passes"
        return "\n".join([*lines, f"  ({self.judged}; {passes})"])

    def __repr__(self) -> str:
        return f"<CausalityReport causal={self.causal}>"

    def evidence_of(self, method: str) -> Evidence:
        """Look up what one method says.

        Parameters
        ----------
        method : str
            Its name.

        Returns
        -------
        Evidence
            What it says.

        Raises
        ------
        ValueError
            If the method was not used.

        Examples
        --------
        >>> from causal_lab.causality import check_causality
        >>> report = check_causality(torch.nn.Identity(), torch.randn(1, 3, 2))
        >>> report.evidence_of("gradients").independent
        True
        """
        for evidence in self.evidence:
            if evidence.method == method:
                return evidence
        used = ", ".join(evidence.method for evidence in self.evidence)
        raise ValueError(f"no method {method!r} in this report; there are {used}")

    def assert_causal(self) -> "CausalityReport":
        """Raise unless the model was found causal: the line for a test suite.

        Returns
        -------
        CausalityReport
            This report.

        Raises
        ------
        AssertionError
            With the whole report, if a leak was found or nothing could be decided.

        Examples
        --------
        >>> from causal_lab.causality import check_causality
        >>> check_causality(torch.nn.Identity(), torch.randn(1, 3, 2)).assert_causal()
        <CausalityReport causal=True>
        """
        if self.causal is not True:
            raise AssertionError(str(self))
        return self

    def plot(self, *, tokens=None, title: str | None = None, ax=None) -> Figure:
        """Draw which output depends on which input, the future in a colour of its own.

        Parameters
        ----------
        tokens, title, ax
            As for :func:`causal_lab.plots.plot_dependencies`.

        Returns
        -------
        Figure
            The picture.

        Examples
        --------
        >>> from causal_lab.causality import check_causality
        >>> check_causality(torch.nn.Identity(), torch.randn(1, 3, 2)).plot()
        <Figure size 600x400 with 1 Axes>
        """
        depends = torch.nan_to_num(self.dependencies) > 0
        return plot_dependencies(
            depends, tokens=tokens, title=title, ax=ax, lookahead=self.lookahead
        )
