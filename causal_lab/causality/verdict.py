"""What the evidence means."""

import torch
from torch import Tensor

from causal_lab.causality.examination import LARGE_VALUES, ONE_INPUT, Examination
from causal_lab.causality.report import CausalityReport, Evidence, Leak

GRADIENTS = "gradients"
PREFIX = "prefix alone"


def judge(seen: Examination) -> CausalityReport:
    """Weigh the evidence: one leak is enough, and what is open must not matter.

    Args:
        seen: after it was done.

    >>> from causal_lab.causality import check_causality
    >>> check_causality(torch.nn.Identity(), torch.randn(1, 3, 2)).causal
    True
    """
    leaks = _all_leaks(seen)
    first = min(leaks, key=lambda leak: (leak.output, leak.input), default=None)
    evidence = tuple(_evidence(seen))
    open_question = next((e for e in evidence if _leaves_open(seen, e)), None)
    if first is not None:
        causal, reason = False, str(first)
    elif open_question is not None:
        causal, reason = None, str(open_question)
    else:
        causal, reason = True, _all_is_well(seen)
    return _make(seen, causal, reason, first, evidence, _map(seen, leaks))


def undecided(seen: Examination, reason: str) -> CausalityReport:
    """Say that nothing can be said, and why.

    >>> from causal_lab.causality import check_causality
    >>> check_causality(torch.nn.Identity(), torch.full((1, 3, 2), torch.nan)).causal is None
    True
    """
    nothing = torch.full((seen.length, seen.length), torch.nan, dtype=torch.float64)
    return _make(seen, None, reason, None, (), nothing)


def _all_leaks(seen: Examination) -> list[Leak]:
    """Collect leaks; a place found by one changed input or a gradient beats one found by a cut."""
    leaks = [
        Leak(output, position, size, GRADIENTS)
        for output, position, size in _cells(seen.gradient_leaks())
    ]
    for single in seen.singles:
        for output in seen.leaks_of(single).nonzero().flatten().tolist():
            leaks.append(Leak(output, single.cut, _size(single, output), ONE_INPUT))
    located = {leak.output for leak in leaks}
    furthest = {}
    for trial in seen.leaking_trials():
        for output in seen.leaks_of(trial).nonzero().flatten().tolist():
            known = furthest.get(output)
            if output not in located and (known is None or known.input < trial.cut):
                furthest[output] = Leak(output, trial.cut, _size(trial, output), trial.method)
    return leaks + list(furthest.values())


def _size(trial, output: int) -> float:
    return max(float(sizes[output]) for sizes in trial.sizes.values())


def _cells(matrix: Tensor) -> list[tuple[int, int, float]]:
    return [(t, s, float(matrix[t, s])) for t, s in (matrix > 0).nonzero().tolist()]


def _map(seen: Examination, leaks: list[Leak]) -> Tensor:
    """Join what gradients and changed inputs show; the future holds only confirmed leaks."""
    past = seen.gradients() if seen.alone is None else seen.alone
    unmeasured = past.isnan().all(dim=1, keepdim=True)
    past = torch.where(unmeasured, torch.nan, past.tril(seen.lookahead))
    for leak in leaks:
        held = float(past[leak.output, leak.input].nan_to_num())
        past[leak.output, leak.input] = max(held, leak.size)
    return past


def _leaves_open(seen: Examination, evidence: Evidence) -> bool:
    """Say whether a method that could not tell leaves the verdict open."""
    if evidence.independent is not None or evidence.method in (PREFIX, LARGE_VALUES):
        return False
    return evidence.method != GRADIENTS or seen.gradient_doubts()


def _all_is_well(seen: Examination) -> str:
    ahead = f" by more than {seen.lookahead}" if seen.lookahead > 0 else ""
    at = f"at any of {len(seen.cuts)} cuts" if seen.whole else f"at the cuts {seen.cuts}"
    well = f"no output depends on an input after it{ahead}, {at}"
    return well + (" (none depends on any input at all)" if _is_constant(seen) else "")


def _is_constant(seen: Examination) -> bool:
    if seen.alone is not None:
        return not bool((seen.alone > 0).any())
    return not bool((seen.gradients().nan_to_num() > 0).any())


def _evidence(seen: Examination):
    for method in seen.methods:
        yield _evidence_of_cuts(seen, method)
    yield _evidence_of_gradients(seen)
    depends, detail = seen.length_dependence()
    yield Evidence(PREFIX, None if depends is None else not depends, detail)


def _evidence_of_cuts(seen: Examination, method: str) -> Evidence:
    trials = [trial for trial in seen.trials if trial.method == method]
    leaking = [trial for trial in trials if bool(seen.leaks_of(trial).any())]
    if leaking:
        cuts = len({trial.cut for trial in leaking})
        trial = min(leaking, key=lambda trial: int(seen.leaks_of(trial).nonzero()[0]))
        output = int(seen.leaks_of(trial).nonzero()[0])
        leak = Leak(output, trial.cut, _size(trial, output), method)
        return Evidence(method, False, f"outputs before the cut moved at {cuts} cuts", leak)
    if method in seen.failures:
        return Evidence(method, None, seen.failures[method])
    if any(bool(seen.border.doubts(trial).any()) for trial in trials):
        why = f"outputs moved by little, and in 64 bits: {seen.no_precision}"
        return Evidence(method, None, why)
    rounding = len({t.cut for t in trials if any(t.moved(name) for name in t.sizes)})
    detail = f"no output before the cut moved at any of {len({t.cut for t in trials})} cuts"
    if rounding:
        detail += f" by more than rounding, which was seen at {rounding}"
    return Evidence(method, True, detail)


def _evidence_of_gradients(seen: Examination) -> Evidence:
    if seen.no_gradients is not None:
        return Evidence(GRADIENTS, None, seen.no_gradients)
    leaks = seen.gradient_leaks()
    if (leaks > 0).any():
        output, position, size = _cells(leaks)[0]
        rows = int((leaks > 0).any(dim=1).sum())
        detail = f"they run into the future from {rows} outputs"
        return Evidence(GRADIENTS, False, detail, Leak(output, position, size, GRADIENTS))
    if seen.gradient_doubts():
        return Evidence(GRADIENTS, None, f"they run ahead; in 64 bits: {seen.no_precision}")
    if seen.unconfirmed:
        detail = f"those of {len(seen.unconfirmed)} outputs run ahead, but the outputs stay"
        return Evidence(GRADIENTS, True, detail)
    return Evidence(GRADIENTS, True, "none runs from an output to a later input")


def _make(seen: Examination, causal, reason, first, evidence, dependencies) -> CausalityReport:
    judged = seen.run.judged
    depends = next((e.independent for e in evidence if e.method == PREFIX), None)
    return CausalityReport(
        causal=causal,
        reason=reason,
        first_leak=first,
        dependencies=dependencies,
        evidence=evidence,
        length_dependent=None if depends is None else not depends,
        lookahead=seen.lookahead,
        cuts=tuple(seen.cuts),
        judged="the output" if judged is None else f"output {judged!r}",
        forwards=seen.run.forwards,
        backwards=seen.run.backwards,
        forward_equivalents=seen.run.forward_equivalents,
    )
