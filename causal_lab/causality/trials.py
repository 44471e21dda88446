"""One changed future, and how far it moved the past."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

SURELY_NO_ROUNDING = 1e-2  # of the outputs' size


@dataclass(eq=False)
class Trial:
    """Changed inputs, and how far each earlier output moved, per precision.

    Args:
        method: what kind of future.
        cut: the first changed input.
        inputs: shape (batch, length, …).
        sizes: shape (length,), by "native", "fine" or "coarse": the largest movement of each
            output.
        relative: shape (length,), the same, in units of what the moved component of the output
            comes to.
        amplitude: how much larger the inputs are than the outputs; rounding grows with it.
        future_is_finite: whether the outputs from the cut on are numbers.

    >>> base = torch.zeros(1, 3, 2)
    >>> trial = Trial("other values", 1, base)
    >>> trial.note("native", base, base + 1.0, limit=1)
    >>> trial.sizes["native"].tolist(), trial.moved("native")
    ([1.0, 0.0, 0.0], True)
    """

    method: str
    cut: int
    inputs: Tensor
    sizes: dict[str, Tensor] = field(default_factory=dict)
    relative: dict[str, Tensor] = field(default_factory=dict)
    amplitude: float = 1.0
    future_is_finite: bool = True

    def note(self, precision: str, base: Tensor, output: Tensor, limit: int) -> None:
        """Compare the ``limit`` outputs before the cut with those for the real inputs.

        Args:
            base, output: shape (batch, length, …), outputs for the real and for the changed inputs.
        """
        components = torch.maximum(component_scale(base), component_scale(output))
        self.sizes[precision] = movement(base, output, limit)
        self.relative[precision] = movement(base, output, limit, components)
        if self.inputs.is_floating_point():
            largest = float(self.inputs.detach().abs().double().max())
            self.amplitude = max(1.0, largest / (float(components.max()) or 1.0))

    def moved(self, precision: str) -> bool:
        """Say whether any earlier output moved; False also where it was not computed."""
        return precision in self.sizes and bool((self.sizes[precision] > 0).any())


@dataclass(frozen=True)
class Border:
    """Where rounding ends and a leak begins.

    Args:
        noise: what rounding may come to in the finest precision, relative to what is computed.
        shrinks_to: what is left of rounding, at most, from the coarser precision to the finest.

    >>> Border.between(torch.float32, torch.float64).shrinks_to
    1e-06
    """

    noise: float
    shrinks_to: float

    @classmethod
    def between(cls, coarse: torch.dtype, fine: torch.dtype) -> "Border":
        """Set it for two precisions."""
        # From 32 to 64 bits, rounding shrinks by 5·10⁸; a leak does not shrink at all.
        eps = torch.finfo(fine).eps
        return cls(100 * eps, max(1e-6, 100 * eps / torch.finfo(coarse).eps))

    def leaks(self, trial: Trial, usual: float = 0.0) -> Tensor:
        """Say which outputs moved by more than rounding: bool, shape (length,).

        Args:
            usual: how far the model's other trials moved natively by rounding alone.

        >>> trial = Trial("other values", 1, torch.zeros(1, 2, 1))
        >>> trial.note("fine", torch.zeros(1, 2, 1), torch.ones(1, 2, 1), limit=1)
        >>> Border(1e-14, 1e-6).leaks(trial).tolist()
        [True, False]
        """
        if "fine" not in trial.relative:
            native = trial.relative["native"]
            return native > SURELY_NO_ROUNDING * min(trial.amplitude, 10.0)
        fine = trial.relative["fine"]
        floor = torch.tensor(self.noise * trial.amplitude, dtype=torch.float64)
        coarse = trial.relative.get("coarse", trial.relative.get("native"))
        if coarse is None:
            return fine > floor.clamp_min(self.shrinks_to * usual)
        finite = coarse.isfinite()
        rounding = self.shrinks_to * torch.where(finite, coarse, 0.0).max()
        # What overflows in the coarser precision alone says nothing about the future.
        return (fine > torch.maximum(floor, rounding)) & (finite | ~fine.isfinite())

    def doubts(self, trial: Trial) -> Tensor:
        """Say which outputs moved by little where only the native precision was computed.

        What moved them is not clear yet. Gives bool, shape (length,).

        >>> trial = Trial("other values", 1, torch.zeros(1, 2, 1))
        >>> trial.note("native", torch.ones(1, 2, 1), torch.ones(1, 2, 1) + 1e-6, limit=1)
        >>> Border(1e-14, 1e-6).doubts(trial).tolist()
        [True, False]
        """
        if "fine" in trial.relative:
            return torch.zeros_like(trial.relative["fine"], dtype=torch.bool)
        return (trial.relative["native"] > 0) & ~self.leaks(trial)


def movement(base: Tensor, new: Tensor, limit: int, components: Tensor | None = None) -> Tensor:
    """Measure by how much each of the first outputs moved, 0 for the others.

    Args:
        base, new: shape (batch, length, …).
        components: shape (…), units to measure in.

    Returns:
        float64, shape (length,), the largest; infinite where only one of the two is a number.

    >>> movement(torch.zeros(1, 2, 1), torch.ones(1, 2, 1), limit=1).tolist()
    [1.0, 0.0]
    """
    limit = max(0, min(limit, base.shape[1], new.shape[1]))
    old, new = base[:, :limit].detach(), new[:, :limit].detach()
    size = (old - new).abs().double()
    same = (old == new) | (old.isnan() & new.isnan())
    if components is not None:
        size = size / components
    size = torch.where(same, 0.0, torch.where(size.isnan(), torch.inf, size))
    moved = torch.zeros(base.shape[1], dtype=torch.float64)
    if limit:
        moved[:limit] = size.transpose(0, 1).reshape(limit, -1).amax(dim=1).cpu()
    return moved


def component_scale(output: Tensor) -> Tensor:
    """Give the largest finite number of each component, float64, shape (…), over batch and length.

    >>> component_scale(torch.tensor([[[1.0, 5.0], [-2.0, 4.0]]])).tolist()
    [2.0, 5.0]
    """
    size = output.detach().abs().double()
    return torch.where(size.isfinite(), size, 0.0).amax(dim=(0, 1))


def differs(first: Tensor, second: Tensor) -> bool:
    """Say whether two outputs, shape (batch, length, …), differ in any bit; NaN is as NaN.

    >>> differs(torch.full((1, 1, 1), torch.nan), torch.full((1, 1, 1), torch.nan))
    False
    """
    return bool((movement(first, second, first.shape[1]) > 0).any())
