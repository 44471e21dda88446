"""One changed input, and how far it moved the outputs that must not notice."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from causal_lab.causality.question import Change


@dataclass(eq=False)
class Trial:
    """What is changed, and how far each output moved, per precision.

    Args:
        change: which inputs, and which outputs must stay.
        number: its place among the trials of a method; draws the same in every precision.
        choice: which of the method's ways to draw; later ones are tamer.
        sizes: by "native" or "fine", shape (output,): the largest movement of each output that must
            stay, 0 for others.
        relative: the same, in units of what the moved component of the output comes to.
        amplitude: how much larger the inputs are than the outputs; rounding grows with it.
    """

    change: Change
    number: int = 0
    choice: int = 0
    sizes: dict[str, Tensor] = field(default_factory=dict)
    relative: dict[str, Tensor] = field(default_factory=dict)
    amplitude: float = 1.0
    overflows: bool = False

    def note(self, precision: str, inputs: Tensor, base: Tensor, output: Tensor) -> None:
        """Compare the outputs that must stay with those for the real inputs.

        Args:
            base, output: shape (batch, output, …), for the real inputs and for these.
        """
        kept = self.change.kept
        components = torch.maximum(component_scale(base), component_scale(output))
        self.sizes[precision] = movement(base, output, kept)
        self.relative[precision] = movement(base, output, kept, components)
        if inputs.is_floating_point():
            largest = float(inputs.detach().abs().double().max())
            self.amplitude = max(1.0, largest / (float(components.max()) or 1.0))
        # Earlier outputs may be no numbers only because later ones are none either.
        others = output[:, ~kept[: output.shape[1]]]
        self.overflows = self.is_infinite(precision) and not bool(others.isfinite().all())

    def is_infinite(self, precision: str) -> bool:
        """Say whether something is a number on one side only."""
        return precision in self.sizes and not bool(self.sizes[precision].isfinite().all())

    def size_at(self, output: int) -> float:
        """Give the largest movement of one output."""
        return max(float(sizes[output]) for sizes in self.sizes.values())

    def moved(self, precision: str) -> bool:
        """Say whether any output that must stay moved; False also where it was not computed."""
        return precision in self.sizes and bool((self.sizes[precision] > 0).any())


def movement(
    base: Tensor, new: Tensor, kept: Tensor | None = None, components: Tensor | None = None
) -> Tensor:
    """Measure by how much each output moved; 0 for those that are missing in one of the two.

    Args:
        base, new: shape (batch, output, …).
        kept: bool, shape (output,): measure these only.
        components: shape (…), units to measure in.

    Returns:
        float64, shape (output,) of the base, the largest; infinite where only one of the two is a
        number.

    >>> movement(torch.zeros(1, 2, 1), torch.ones(1, 2, 1), torch.tensor([True, False])).tolist()
    [1.0, 0.0]
    """
    limit = min(base.shape[1], new.shape[1])
    old, new = base[:, :limit].detach(), new[:, :limit].detach()
    size = (old - new).abs().double()
    same = (old == new) | (old.isnan() & new.isnan())
    if components is not None:
        size = size / components
    size = torch.where(same, 0.0, torch.where(size.isnan(), torch.inf, size))
    moved = torch.zeros(base.shape[1], dtype=torch.float64)
    if limit:
        moved[:limit] = size.transpose(0, 1).reshape(limit, -1).amax(dim=1).cpu()
    return moved if kept is None else moved.where(kept, 0.0)


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
    return bool((movement(first, second) > 0).any())
