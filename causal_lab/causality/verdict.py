"""What the evidence means. It joins what the methods found, and looks into none of them."""

import torch
from torch import Tensor

from causal_lab.causality.evidence import Finding
from causal_lab.causality.report import Leak


def judge(findings: list[Finding]) -> tuple[bool | None, str, Leak | None]:
    """Weigh the evidence: one leak is enough, and what is open must not matter.

    Returns:
        causal, reason, first leak. The reason of a Yes is left to the caller.

    >>> judge([])
    (True, '', None)
    """
    first = min(all_leaks(findings), key=lambda leak: (leak.output, leak.input), default=None)
    if first is not None:
        return False, str(first), first
    question = next((finding.evidence for finding in findings if finding.open), None)
    if question is not None:
        return None, str(question), None
    return True, "", None


def all_leaks(findings: list[Finding]) -> list[Leak]:
    """Collect leaks; a place that is exact beats one that is only the first of many.

    >>> all_leaks([])
    []
    """
    leaks = [leak for finding in findings if finding.exact for leak in finding.leaks]
    located = {leak.output for leak in leaks}
    furthest: dict[int, Leak] = {}
    for finding in findings:
        for leak in finding.leaks if not finding.exact else ():
            known = furthest.get(leak.output)
            if leak.output not in located and (known is None or known.input < leak.input):
                furthest[leak.output] = leak
    return [*leaks, *furthest.values()]


def join(seen: Tensor, allowed: Tensor, leaks: list[Leak]) -> Tensor:
    """Make the map: what is allowed as it was seen, what is not as the confirmed leaks say.

    Args:
        seen: float64, shape (output, input), NaN in rows that were not measured.
        allowed: bool, of the same shape.

    >>> join(torch.ones(2, 2), torch.ones(2, 2).tril().bool(), []).tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    unmeasured = seen.isnan().all(dim=1, keepdim=True)
    joined = torch.where(unmeasured, torch.nan, torch.where(allowed, seen, 0.0))
    for leak in leaks:
        held = float(joined[leak.output, leak.input].nan_to_num())
        joined[leak.output, leak.input] = max(held, leak.size)
    return joined
