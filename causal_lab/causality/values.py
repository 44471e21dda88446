"""The first method: change what an output must not see, and compare the output."""

import zlib
from collections.abc import Callable

import torch
from torch import Tensor

from causal_lab.causality.budget import TimeIsUpError
from causal_lab.causality.evidence import Finding
from causal_lab.causality.futures import LARGE_VALUES
from causal_lab.causality.question import Change
from causal_lab.causality.report import Evidence, Leak
from causal_lab.causality.runner import CannotRunError
from causal_lab.causality.scene import FINE, NATIVE, Scene
from causal_lab.causality.thresholds import Border, Noise, bound_for
from causal_lab.causality.trials import Trial, component_scale

ONE_INPUT = "one changed input"
_SHAKEN = 6  # trials whose movement is looked at while everything is shaken


class Values:
    """Trials of one kind of changed inputs.

    Args:
        name: of the kind.
        ways: how to draw them; where the model refuses or overflows, the next way is tried.
        changes: what to change, in each trial.
        finest_only: whether 64 bits alone will do, where there are any.
    """

    def __init__(
        self,
        name: str,
        ways: tuple[Callable, ...],
        changes: list[Change],
        finest_only: bool = False,
    ):
        self.name, self.ways, self.finest_only = name, ways, finest_only
        self.cuts = max(1, len({change.cut for change in changes}))
        self.trials = [Trial(change, number) for number, change in enumerate(changes)]
        self.failure = ""
        self.noise: dict[str, Noise] = {}
        self.time_is_up = ""

    def measure(self, scene: Scene) -> None:
        """Run every trial in the precision of the moment."""
        if self.finest_only and scene.precision == NATIVE and scene.no_precision is None:
            return
        for done, trial in enumerate(self.trials):
            try:
                scene.budget.spend(self.name, done, len(self.trials))
            except TimeIsUpError as up:
                self.time_is_up = str(up)
                break
            self._run(scene, trial)
        self._shake(scene)

    def inputs(self, scene: Scene, trial: Trial) -> Tensor:
        """Draw the inputs of a trial, of their shape, the same at every call."""
        generator = scene.generator(8 * trial.number + zlib.crc32(self.name.encode()))
        return scene.futures.draw(
            self.ways[trial.choice], trial.change, generator, trial.number // self.cuts
        )

    def _run(self, scene: Scene, trial: Trial) -> None:
        """Run one trial; where the model refuses the values or overflows, with tamer ones."""
        while True:
            trial.overflows, failure = False, ""
            try:
                inputs = self.inputs(scene, trial)
                trial.note(scene.precision, inputs, scene.base, scene.run(inputs))
            except CannotRunError as error:
                failure = str(error)
            tamer = trial.choice + 1 < len(self.ways)
            strange = self.name == LARGE_VALUES and tamer and trial.is_infinite(scene.precision)
            if not (failure or trial.overflows or strange):
                return
            if not tamer:
                self.failure = self.failure or failure
                if trial.overflows and self.name == LARGE_VALUES:
                    self.failure = "the model overflows at these values"
                    del trial.sizes[scene.precision], trial.relative[scene.precision]
                return
            trial.choice += 1

    def _border(self, scene: Scene, trial: Trial, precision: str) -> Border:
        is_second = precision == NATIVE and FINE in scene.baseline
        return Border.of(scene.eps[precision], trial.amplitude, is_second)

    def _shake(self, scene: Scene) -> None:
        """See what becomes of some doubtful movements when everything is shaken."""
        precision, doubtful = scene.precision, []
        self.noise[precision] = Noise(scene.eps[precision])
        for trial in self.trials:
            sizes = trial.relative.get(precision)
            if sizes is not None:
                border = self._border(scene, trial, precision)
                doubtful += [trial] * bool(border.is_doubtful(sizes).any())
        picked = doubtful[: _SHAKEN // 2] + doubtful[_SHAKEN // 2 :][-_SHAKEN // 2 :]

        def moved(base: Tensor) -> list[Tensor]:
            return [self._moved(scene, trial, base) for trial in picked]

        try:
            before = moved(scene.base) if picked else []
            for again in scene.shaken_twice(moved) if picked else []:
                for old, new in zip(before, again, strict=True):
                    self.noise[precision].see(old, new)
        except CannotRunError as failure:
            self.failure = self.failure or str(failure)

    def _moved(self, scene: Scene, trial: Trial, base: Tensor) -> Tensor:
        output = scene.run(self.inputs(scene, trial))
        scale = torch.maximum(component_scale(base), component_scale(output))
        kept = trial.change.kept.to(base.device)
        return ((output - base).double() / torch.where(scale > 0, scale, 1.0))[:, kept]

    def leaks_of(self, scene: Scene, trial: Trial) -> Tensor:
        """Say which outputs saw what they must not: bool, shape (output,)."""
        found = torch.zeros(len(trial.change.kept), dtype=torch.bool)
        for precision, sizes in trial.relative.items():
            border = self._border(scene, trial, precision)
            found |= border.is_dependence(sizes, self.noise[precision])
        return found

    def leaking(self, scene: Scene) -> list[Trial]:
        """List the trials in which an output saw what it must not."""
        return [trial for trial in self.trials if bool(self.leaks_of(scene, trial).any())]

    def finding(self, scene: Scene) -> Finding:
        """Say what was seen."""
        leaking = self.leaking(scene)
        leaks = [
            Leak(output, trial.change.cut, trial.size_at(output), self.name)
            for trial in leaking
            for output in self.leaks_of(scene, trial).nonzero().flatten().tolist()
        ]
        finest = FINE if FINE in scene.baseline else NATIVE
        ran = [trial for trial in self.trials if finest in trial.sizes]
        if leaking:
            cuts = len({trial.change.cut for trial in leaking})
            first = min(leaks, key=lambda leak: (leak.output, -leak.input))
            detail = f"outputs before the cut moved at {cuts} cuts"
            return Finding(Evidence(self.name, False, detail, first), leaks, exact=False)
        if self.failure or not ran:
            why = self.failure or f"nothing was run ({self.time_is_up})"
            return Finding(Evidence(self.name, None, why), open=self.name != LARGE_VALUES)
        cuts = len({trial.change.cut for trial in ran})
        detail = f"no output before the cut moved at any of {cuts} cuts"
        if self.time_is_up:
            detail += f" (of {self.cuts}; then the time was up)"
        rounding = len({t.change.cut for t in ran if any(t.moved(name) for name in t.sizes)})
        if rounding:
            detail += f" by more than rounding, which was seen at {rounding}"
        bound = self._bound(scene)
        if bound > bound_for(scene.eps[FINE if FINE in scene.baseline else NATIVE]):
            detail = f"outputs moved by up to {bound:.1g} of their size, which may be rounding"
            return Finding(Evidence(self.name, None, detail), open=True)
        return Finding(Evidence(self.name, True, detail), bound=bound)

    def _bound(self, scene: Scene) -> float:
        """Say how large what moved is, at most, in the finest precision; it may be rounding."""
        finest = FINE if FINE in scene.baseline else NATIVE
        sizes = [
            float(trial.relative[finest].max())
            for trial in self.trials
            if finest in trial.relative
            and bool(self._border(scene, trial, finest).is_doubtful(trial.relative[finest]).any())
        ]
        return max(sizes, default=0.0)


class Singles(Values):
    """One changed input at a time, with values at which something leaked, to see which it is.

    Args:
        leaking: pairs of a method and a trial that leaked.
        allowed: bool, shape (output, input).
    """

    def __init__(self, leaking: list, allowed: Tensor):
        self.sources, changes = [], []
        length = allowed.shape[1]
        for values in dict.fromkeys(values for values, _ in leaking):
            own = [trial for of, trial in leaking if of is values]
            for position in range(length):
                covering = [trial for trial in own if bool(trial.change.changed[position])]
                if covering:
                    nearest = max(covering, key=lambda trial: trial.change.cut)
                    self.sources.append((values, nearest))
                    alone = torch.arange(length) == position
                    changes.append(Change(position, alone, ~allowed[:, position]))
        super().__init__(ONE_INPUT, (), changes)

    def inputs(self, scene: Scene, trial: Trial) -> Tensor:
        """Take one position of inputs that leaked."""
        values, nearest = self.sources[trial.number]
        inputs, position = scene.inputs.clone(), trial.change.cut
        inputs[:, position] = values.inputs(scene, nearest)[:, position]
        return inputs

    def finding(self, scene: Scene) -> Finding:
        """List the leaks alone: what was not seen here was seen elsewhere."""
        found = super().finding(scene)
        return Finding(found.evidence, found.leaks, exact=True)
