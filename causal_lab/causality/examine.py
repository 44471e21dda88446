"""Everything that is tried on one model, in order."""

import contextlib
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from causal_lab.causality import thresholds
from causal_lab.causality.evidence import Finding
from causal_lab.causality.prefixes import Prefixes, Rows
from causal_lab.causality.question import Change
from causal_lab.causality.report import Caution
from causal_lab.causality.runner import CannotRunError
from causal_lab.causality.scene import NATIVE, Scene, UndecidedError
from causal_lab.causality.slopes import Gradients
from causal_lab.causality.trials import Trial, component_scale, movement
from causal_lab.causality.values import Singles, Values


@dataclass(frozen=True)
class Plan:
    """How much is tried.

    Args:
        changes: what to change, in each trial of a kind.
        rounds: how often, with other values.
        positions: outputs whose gradients are taken.
        prefixes: lengths of the prefixes to run alone.
        whole: whether nothing is left out, so that leaks are located and the map is drawn.
    """

    changes: list[Change]
    rounds: int
    positions: list[int]
    prefixes: list[int]
    whole: bool


@dataclass
class Seen:
    """What was found: evidence, the map of dependencies, and why a Yes may be worth nothing."""

    findings: list[Finding] = field(default_factory=list)
    map: Tensor | None = None
    cautions: list[Caution] = field(default_factory=list)
    leaking: list = field(default_factory=list)


def examine(scene: Scene, plan: Plan, expected: Tensor | None = None) -> Seen:
    """Try every method, natively and in 64 bits.

    Args:
        expected: bool, shape (output, input), what an output must depend on.

    Raises:
        UndecidedError: if the model gives nothing to compare.

    >>> from causal_lab.causality.question import changes_for
    >>> from causal_lab.causality.runner import Runner
    >>> allowed = torch.ones(3, 3).tril().bool()
    >>> with Runner(torch.nn.Identity(), batch=1, length=3) as run:
    ...     scene = Scene(run, torch.randn(1, 3, 2), allowed)
    ...     seen = examine(scene, Plan(changes_for(allowed), 1, [0, 1, 2], [1, 2], True))
    >>> [finding.evidence.method for finding in seen.findings]
    ['other values', 'large values', 'gradients', 'prefix alone']
    """
    scene.open()
    values = [
        Values(name, ways, plan.changes * (1 if number else plan.rounds), finest_only=bool(number))
        for number, (name, ways) in enumerate(scene.futures.ways.items())
    ]
    gradients, prefixes, rows = Gradients(plan.positions), Prefixes(plan.prefixes), Rows()
    methods = [*values, gradients, prefixes, rows]
    for method in methods:
        if not method.finest_only:
            method.measure(scene)
    with scene.finely() as can_run:
        for method in methods:
            if can_run or method.finest_only:
                method.measure(scene)
        leaking = [(kind, trial) for kind in values for trial in kind.leaking(scene)]
        gradients.confirm(scene, _outputs(scene, leaking))
    if leaking:
        _doubt(scene, leaking, ahead=bool((gradients.leaks(scene) > 0).any()))
    shown = (gradients.leaks(scene) > 0).any(dim=1)
    singles = Singles([], scene.allowed)
    if plan.whole and _outputs(scene, leaking) - set(shown.nonzero().flatten().tolist()):
        singles = Singles(leaking, scene.allowed)
        singles.measure(scene)
        with scene.finely() as can_run:
            if can_run:
                singles.measure(scene)
    seen = gradients.map(scene)
    if seen is None:
        seen = torch.full(scene.allowed.shape, torch.nan, dtype=torch.float64)
        if plan.whole:
            seen = _change_each_input(scene)
    findings = [method.finding(scene) for method in [*values, gradients, prefixes]]
    if singles.trials:
        findings.append(singles.finding(scene))
    cautions = _cautions(scene, seen, rows)
    if expected is not None:
        cautions += _blocked(scene, seen, expected)
    return Seen(findings, seen, cautions, leaking)


def _outputs(scene: Scene, leaking: list[tuple[Values, Trial]]) -> set[int]:
    """List the outputs that some trial moved."""
    found = set()
    for kind, trial in leaking:
        found |= set(kind.leaks_of(scene, trial).nonzero().flatten().tolist())
    return found


def _change_each_input(scene: Scene, positions: list[int] | None = None) -> Tensor:
    """See what each input alone moves, where there are no gradients: shape (output, input)."""
    outputs, length = scene.allowed.shape
    moved = torch.zeros(outputs, length, dtype=torch.float64)
    way = next(iter(scene.futures.ways.values()))[0]
    for position in range(length) if positions is None else positions:
        alone = torch.arange(length) == position
        change = Change(position, alone, ~scene.allowed[:, position])
        with contextlib.suppress(CannotRunError):  # a gap in the map, no more
            inputs = scene.futures.draw(way, change, scene.generator(-4 - position), 0)
            moved[:, position] = movement(scene.base, scene.run(inputs))
    return moved


# --- after a leak


def _doubt(scene: Scene, leaking: list[tuple[Values, Trial]], ahead: bool) -> None:
    """Before a verdict: does the model keep the future somewhere, or does chance shift."""
    base = scene.baseline[NATIVE]
    again = movement(base, scene.try_run(scene.inputs), None, component_scale(base))
    if (again > thresholds.SURE).any():
        raise UndecidedError(
            "it keeps something from earlier calls: after other inputs, the same inputs gave "
            "another output"
        )
    if scene.run.draws_randomness and not ahead and _is_chance(scene, leaking[:3]):
        raise UndecidedError(
            "random numbers fall on other places when the future changes; judge it with train=False"
        )


def _is_chance(scene: Scene, leaking: list[tuple[Values, Trial]]) -> bool:
    """Run again with dropout switched off."""
    with contextlib.suppress(CannotRunError):
        base = scene.run(scene.inputs, mode=_NoDropout())
        for kind, trial in leaking:
            output = scene.run(kind.inputs(scene, trial), mode=_NoDropout())
            sizes = movement(base, output, trial.change.kept, component_scale(base))
            if (sizes > thresholds.SURE).any():
                return False
        return True
    return False


class _NoDropout(TorchFunctionMode):
    """Let everything through where a model would drop some of it by chance."""

    _NAMES = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "dropout_")

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in self._NAMES:
            return args[0] if args else kwargs["input"]
        if func is F.scaled_dot_product_attention:
            kwargs = {**kwargs, "dropout_p": 0.0}
        return func(*args, **kwargs)


# --- is a Yes worth anything?


def _cautions(scene: Scene, seen: Tensor, rows: Rows) -> list[Caution]:
    found = []
    if not _interacts(scene, seen):
        if not (seen.nan_to_num() > 0).any() and not _moves(scene):
            found.append(Caution("constant", "no output depends on any input at all"))
        else:
            found.append(
                Caution(
                    "pointwise",
                    "no output depends on any input but its own: is the time axis where it is "
                    "expected (time_axis=, batch_first), and does the mask leave the past open?",
                )
            )
    if rows.influence:
        found.append(
            Caution(
                "batch",
                f"rows of the batch influence each other (by {rows.influence:.2g} of an output's "
                "size): is the batch the first axis (time_axis=, batch_first), or are these "
                "statistics of the batch?",
            )
        )
    return found


def _blocked(scene: Scene, seen: Tensor, expected: Tensor) -> list[Caution]:
    """Look for what must be seen and is not."""
    missing = expected & ~(seen > 0)
    places = missing.any(dim=0).nonzero().flatten().tolist()
    missing &= ~(_change_each_input(scene, places) > _rounding(scene))  # without gradients
    if not missing.any():
        return []
    output, place = missing.nonzero()[0].tolist()
    count = int(missing.sum())
    why = f"output {output} does not depend on input {place}, which is expected"
    return [Caution("blocked", f"{why} ({count} such pairs)")]


def _interacts(scene: Scene, seen: Tensor) -> bool:
    """Say whether any output depends on an input that is not its own."""
    if scene.inputs.shape[1] < 2:
        return True
    own = _own(scene)
    if ((seen.nan_to_num() > 0) & ~own).any():
        return True
    # Gradients do not see everything: some positions are tried with other values.
    tried = sorted({0, scene.inputs.shape[1] // 2})
    return bool(((_change_each_input(scene, tried) > _rounding(scene)) & ~own).any())


def _rounding(scene: Scene) -> float:
    """Say what a movement must exceed to be more than rounding; gradients see what is smaller."""
    return thresholds.SURE * float(component_scale(scene.base).max())


def _own(scene: Scene) -> Tensor:
    outputs, length = scene.allowed.shape
    if outputs != length:
        return torch.zeros(outputs, length, dtype=torch.bool)
    return torch.eye(length, dtype=torch.bool)


def _moves(scene: Scene) -> bool:
    ends = [0, scene.inputs.shape[1] - 1]
    return bool((_change_each_input(scene, ends) > _rounding(scene)).any())
