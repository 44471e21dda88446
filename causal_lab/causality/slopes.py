"""The second method: along which paths a gradient runs from an output to an input."""

import contextlib

import torch
from torch import Tensor

from causal_lab.causality import thresholds
from causal_lab.causality.budget import TimeIsUpError
from causal_lab.causality.evidence import Finding, leaks_in
from causal_lab.causality.gradients import Paths
from causal_lab.causality.report import Evidence
from causal_lab.causality.runner import CannotRunError
from causal_lab.causality.scene import FINE, Scene
from causal_lab.causality.thresholds import Border, Noise

GRADIENTS = "gradients"
_SHAKEN = 12  # outputs whose gradients are looked at while everything is shaken


class Gradients:
    """Gradients from outputs to inputs, in the finest precision.

    They show what rounding hides from changed values, and where exactly it comes from.

    Args:
        positions: the outputs to start from.
    """

    name, finest_only = GRADIENTS, True

    def __init__(self, positions: list[int]):
        self.positions = positions
        self.rows: Tensor | None = None
        self.noise = Noise()
        self.failure, self.time_is_up = "", ""
        self.unconfirmed: set[int] = set()  # outputs whose gradients promise what never comes

    def measure(self, scene: Scene) -> None:
        """Take the gradients of every output, in the precision of the moment."""
        self.precision, self.noise = scene.precision, Noise(scene.eps[scene.precision])
        generator = scene.generator(-2)
        shape = scene.baseline["native"].shape
        with torch._C.DisableTorchFunction():
            direction = torch.randn(shape, generator=generator, dtype=torch.float64)
        self.direction = direction.to(scene.base.device)
        rows = torch.full(scene.allowed.shape, torch.nan, dtype=torch.float64)
        try:
            paths = scene.paths()
            for done, position in enumerate(self.positions):
                scene.budget.spend(self.name, done, len(self.positions))
                rows[position] = paths.row(position, self.direction)
        except TimeIsUpError as up:
            self.time_is_up = str(up)
        except CannotRunError as failure:
            self.failure = str(failure)
            return
        self.rows = rows
        if not rows.isfinite().any():
            self.failure = "no gradient is a finite number"
            return
        self._shake(scene)

    def _relative(self, scene: Scene, rows: Tensor) -> Tensor:
        """Keep what runs where it must not, in units of the output's largest gradient."""
        rows = torch.where(rows.isfinite(), rows, 0.0)
        largest = rows.amax(dim=-1, keepdim=True)
        return torch.where(scene.allowed | (largest == 0), 0.0, rows / largest)

    def _border(self, scene: Scene) -> Border:
        # An exact 0 is usual: however faint, what is there may be a path.
        return Border(0.0, thresholds.SURE if self.precision == FINE else torch.inf)

    def _shake(self, scene: Scene) -> None:
        before = self._relative(scene, self.rows)
        doubtful = self._border(scene).is_doubtful(before).any(dim=1).nonzero().flatten().tolist()
        picked = doubtful[: _SHAKEN // 2] + doubtful[_SHAKEN // 2 :][-_SHAKEN // 2 :]
        if not picked:
            return

        def again(_) -> Tensor:
            paths, rows = scene.paths(), self.rows.clone()
            for position in picked:
                rows[position] = paths.row(position, self.direction)
            return self._relative(scene, rows)

        with contextlib.suppress(CannotRunError):
            for after in scene.shaken_twice(again):
                self.noise.see(before[picked], after[picked])

    def leaks(self, scene: Scene) -> Tensor:
        """Give the gradients that run where they must not and are no rounding.

        Returns:
            float64, shape (output, input), 0 elsewhere.
        """
        if self.rows is None:
            return torch.zeros(scene.allowed.shape, dtype=torch.float64)
        relative = self._relative(scene, self.rows)
        found = self._border(scene).is_dependence(relative, self.noise)
        for position in self.unconfirmed:
            found[position] = False
        return torch.where(found, self.rows, 0.0)

    def map(self, scene: Scene) -> Tensor | None:
        """Give all gradients without what is rounding; NaN where none was measured.

        Returns:
            float64, shape (output, input); None if there are no gradients.
        """
        if self.failure:
            return None
        largest = self.rows.nan_to_num(posinf=0.0).amax(dim=1, keepdim=True)
        eps = scene.eps[self.precision]
        noise = max(thresholds.NOISE * eps, thresholds.ABOVE_NOISE * self.noise.size)
        past = torch.where(self.rows <= noise * largest, 0.0, self.rows)
        return torch.where(scene.allowed | self.rows.isnan(), past, self.leaks(scene))

    def confirm(self, scene: Scene, seen: set[int]) -> None:
        """Follow gradients into the future: a straight-through trick promises what never comes.

        Args:
            seen: outputs of which a leak was seen otherwise.
        """
        rows = set((self.leaks(scene) > 0).any(dim=1).nonzero().flatten().tolist()) - seen
        if not rows:
            return
        with contextlib.suppress(CannotRunError):  # then the gradient stands
            paths = scene.paths()
            base = paths.output.detach()
            for position in sorted(rows):
                if self._promise_is_broken(scene, paths, base, position):
                    self.unconfirmed.add(position)

    def _promise_is_broken(self, scene: Scene, paths: Paths, base: Tensor, position: int) -> bool:
        spread, broken = 1.0, False
        if not scene.is_tokens:
            spread = max(float(scene.inputs.double().std(correction=0)), 1e-3)
        later = ~scene.allowed[position]
        for step in (spread, 1e3 * spread):
            output = paths.run_with(paths.moves(position, self.direction, later, step))
            promised = step * paths.slope
            size = float((output - base)[:, position].detach().abs().max())
            noise = thresholds.NOISE * torch.finfo(base.dtype).eps
            noise *= float(torch.maximum(base.abs().max(), output.abs().max()))
            if size > noise:
                return False
            broken |= promised > 1e3 * noise
        return broken

    def finding(self, scene: Scene) -> Finding:
        """Say what was seen."""
        if self.failure:
            return Finding(Evidence(GRADIENTS, None, self.failure))
        leaks = leaks_in(self.leaks(scene), GRADIENTS)
        if leaks:
            rows = len({leak.output for leak in leaks})
            detail = f"they run into the future from {rows} outputs"
            return Finding(Evidence(GRADIENTS, False, detail, leaks[0]), leaks)
        if self.unconfirmed:
            detail = f"those of {len(self.unconfirmed)} outputs run ahead, but the outputs stay"
            return Finding(Evidence(GRADIENTS, True, detail))
        detail = "none runs from an output to a later input"
        measured = int((~self.rows.isnan().all(dim=1)).sum())
        if measured < len(self.rows):
            detail += f" ({measured} of {len(self.rows)} outputs)"
        return Finding(Evidence(GRADIENTS, True, detail))
