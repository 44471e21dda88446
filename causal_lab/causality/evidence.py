"""What every method of the checker gives, and the verdict reads."""

from dataclasses import dataclass, field

from torch import Tensor

from causal_lab.causality.report import Evidence, Leak


@dataclass
class Finding:
    """What one method found.

    Args:
        evidence: for the report.
        leaks: all of them, one for each trial and output.
        exact: whether a leak's input is the one that is seen, or only the first that was changed.
        open: whether it leaves the verdict open, if nothing else says No.
        bound: rounding of so much, relative, could not be told from nothing.
    """

    evidence: Evidence
    leaks: list[Leak] = field(default_factory=list)
    exact: bool = True
    open: bool = False
    bound: float = 0.0


def leaks_in(matrix: Tensor, method: str) -> list[Leak]:
    """List the cells of a matrix, shape (output, input), that are not 0.

    >>> import torch
    >>> print(*leaks_in(torch.tensor([[0.0, 0.5]]), "gradients"))
    output 0 depends on input 1 (gradients: 0.5)
    """
    return [Leak(t, s, float(matrix[t, s]), method) for t, s in (matrix > 0).nonzero().tolist()]
