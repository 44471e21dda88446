"""Two more questions: does the length matter, and do rows of the batch influence each other?"""

import torch
from torch import Tensor

from causal_lab.causality import thresholds
from causal_lab.causality.budget import TimeIsUpError
from causal_lab.causality.evidence import Finding
from causal_lab.causality.question import Change
from causal_lab.causality.report import Evidence
from causal_lab.causality.runner import CannotRunError
from causal_lab.causality.scene import FINE, Scene
from causal_lab.causality.thresholds import Border, Noise
from causal_lab.causality.trials import component_scale, movement

PREFIX = "prefix alone"


class Prefixes:
    """Every prefix alone, compared with the whole: is it the same but for its length?

    Args:
        cuts: the lengths of the prefixes.
    """

    name, finest_only = PREFIX, True

    def __init__(self, cuts: list[int]):
        self.cuts = sorted({cut for cut in cuts if cut > 0})
        self.sizes: dict[int, Tensor] = {}  # by length, shape (output,), relative
        self.failure, self.noise = "", Noise()

    def measure(self, scene: Scene) -> None:
        """Run the prefixes, in the precision of the moment."""
        self.precision, base = scene.precision, scene.base
        self.noise = Noise(scene.eps[scene.precision])
        if scene.run.draws_randomness:
            self.failure = "not comparable, the model draws random numbers"
            return
        for done, cut in enumerate(self.cuts):
            try:
                scene.budget.spend(self.name, done, len(self.cuts))
                moved = self._moved(scene, base, cut)
            except TimeIsUpError:
                break
            except (CannotRunError, ValueError) as failure:
                self.failure = str(failure)
                continue
            if moved is not None:
                self.sizes[cut] = movement(torch.zeros_like(moved), moved)
        worst = max(self.sizes, key=lambda cut: float(self.sizes[cut].max()), default=None)
        if worst and thresholds.SAME_LENGTH < float(self.sizes[worst].max()) < thresholds.SURE:
            before = self._moved(scene, base, worst)
            for after in scene.shaken_twice(lambda base: self._moved(scene, base, worst)):
                self.noise.see(before, after)

    def _moved(self, scene: Scene, base: Tensor, cut: int) -> Tensor | None:
        """Compare outputs whose inputs are all there: relative, shape (batch, output, …)."""
        kept = ~scene.allowed[:, cut:].any(dim=1)
        if base.shape[1] == scene.inputs.shape[1]:
            kept[cut:] = False
        scale, least = component_scale(base), None
        scale = torch.where(scale > 0, scale, 1.0)
        for output in scene.run.prefix(scene.inputs[:, :cut]):
            n = output.shape[1]
            if not kept[:n].any():
                return None
            moved = (output - base[:, :n]).double() / scale
            moved = torch.where(output.isnan() & base[:, :n].isnan(), 0.0, moved)
            moved[:, ~kept[:n].to(base.device)] = 0.0
            moved = moved.nan_to_num(torch.inf)
            if least is None or moved.abs().max() < least.abs().max():
                least = moved
            if float(least.abs().max()) <= thresholds.SAME_LENGTH:
                break
        return least

    def finding(self, scene: Scene) -> Finding:
        """Say whether the outputs depend on how many inputs there are."""
        if not self.sizes:
            why = self.failure or "none has an output to compare"
            return Finding(Evidence(PREFIX, None, f"no shorter sequence could be run ({why})"))
        cut, sizes = max(self.sizes.items(), key=lambda item: float(item[1].max()))
        size = float(sizes.max())
        same = thresholds.SAME_LENGTH if self.precision == FINE else 0.0
        if size > same and (
            size <= thresholds.ABOVE_NOISE * self.noise.size
            or (self.precision != FINE and size < thresholds.SURE_NATIVE)
        ):
            return Finding(Evidence(PREFIX, None, "differences as small as rounding"))
        if size > same:
            output = int(sizes.argmax())
            detail = f"output {output} is another one when only the first {cut} inputs are run"
            return Finding(Evidence(PREFIX, False, detail))
        detail = f"the {len(self.sizes)} shorter sequences give the same outputs"
        return Finding(Evidence(PREFIX, True, detail))


class Rows:
    """Change one row of the batch, and compare the others."""

    name, finest_only = "rows of the batch", True

    def __init__(self):
        self.influence: float | None = None  # relative; None if it was not tried

    def measure(self, scene: Scene) -> None:
        """Run once with another first row, in the precision of the moment."""
        if len(scene.inputs) < 2 or scene.run.draws_randomness:
            return
        everything = torch.ones(scene.inputs.shape[1], dtype=torch.bool)
        change = Change(0, everything, ~everything)
        ways = next(iter(scene.futures.ways.values()))
        for way in ways:
            inputs = scene.inputs.clone()
            inputs[0] = scene.futures.draw(way, change, scene.generator(-3), 0)[0]
            try:
                self._compare(scene, inputs)
                return
            except CannotRunError:
                continue

    def _compare(self, scene: Scene, inputs: Tensor) -> None:
        scale = component_scale(scene.base)
        scale = torch.where(scale > 0, scale, 1.0)

        def moved(base: Tensor) -> Tensor:
            return ((scene.run(inputs) - base)[1:].double() / scale).nan_to_num()

        before, noise = moved(scene.base), Noise(scene.eps[scene.precision])
        size = movement(torch.zeros_like(before), before)
        border = Border.of(scene.eps[scene.precision])
        if bool(border.is_doubtful(size).any()):
            for after in scene.shaken_twice(moved):
                noise.see(before, after)
        found = border.is_dependence(size, noise)
        self.influence = float(size[found].max()) if bool(found.any()) else 0.0
