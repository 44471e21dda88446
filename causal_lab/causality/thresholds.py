"""Every threshold of the checker, and why it stands where it stands.

What could be rounding is not judged by its size. All weights and vectors are *shaken*, by
more than rounding and by less than anyone would notice: rounding is drawn anew by that, a
dependence stays what it was.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

SHAKE = 1e-5  # relative: 100 × eps of 32 bits, so that hidden parts in 32 bits are drawn anew
SHAKE_EPS = 4.0  # × eps of a coarser precision, for the same reason
FOLLOWS = 1e-2  # × its size: so much may a dependence change when it is shaken by SHAKE
FOLLOWS_COARSE = 10.0  # × the shake, where that is larger
ABOVE_NOISE = 10.0  # × the largest rounding seen: what a few samples did not show lies below
NOISE = 100.0  # × eps: what sums of some hundred terms may lose; smaller is not looked at
SURE = 1e-3  # of an output's size: in 64 bits no rounding comes to this, and nothing is shaken
SURE_NATIVE = 1e-2  # in the model's own precision: only from here on does it speak for itself
FINE_EPS = 1e-12  # in coarser numbers nothing is sure by its size alone
STATED = 1e-10  # of an output's size: rounding below this is that of 64 bits, and no word on it
BOUND = 1e-5  # of an output's size: rounding up to this is stated, above it the verdict stays open
COARSE_BOUND = 1e-4  # BOUND where 32 bits are the finest that a model can compute in
MOST_COARSE_BOUND = 0.1  # BOUND in half precision, where else everything would be rounding
LARGE_AMPLITUDE = 10.0  # inputs may be so much larger than outputs before SURE grows with them
SAME_LENGTH = 1e-9  # of an output's size, between a prefix alone and the whole


def shake_for(eps: float) -> float:
    """Say by how much everything is shaken, in a precision.

    >>> shake_for(torch.finfo(torch.float64).eps)
    1e-05
    """
    return max(SHAKE, SHAKE_EPS * eps)


def bound_for(eps: float) -> float:
    """Say how large, of an output's size, what may be rounding can be without leaving all open.

    >>> bound_for(torch.finfo(torch.float64).eps), bound_for(torch.finfo(torch.float32).eps)
    (1e-05, 0.0001)
    """
    if eps <= FINE_EPS:
        return BOUND
    return min(COARSE_BOUND * eps / torch.finfo(torch.float32).eps, MOST_COARSE_BOUND)


@dataclass(frozen=True)
class Border:
    """Where a movement begins to count, and from where on it is no rounding.

    Args:
        floor, sure: of an output's size; between them everything is shaken.
    """

    floor: float
    sure: float

    @classmethod
    def of(cls, eps: float, amplitude: float = 1.0, is_second: bool = False) -> "Border":
        """Set it for outputs that were rounded to ``eps``.

        Args:
            amplitude: how much larger the inputs are than the outputs; rounding grows with it.
            is_second: whether a finer precision says the rest.
        """
        grows = min(amplitude, LARGE_AMPLITUDE)
        if eps <= FINE_EPS:
            return cls(NOISE * eps * amplitude, SURE * grows)
        return cls(SURE_NATIVE * grows if is_second else 0.0, math.inf)

    def is_doubtful(self, sizes: Tensor) -> Tensor:
        """Say which sizes, of any shape, lie between."""
        return (sizes > self.floor) & (sizes < self.sure)

    def is_dependence(self, sizes: Tensor, noise: "Noise") -> Tensor:
        """Say which sizes, of any shape, are more than the rounding that was seen."""
        return (sizes > self.floor) & ((sizes >= self.sure) | ~noise.is_below(sizes))


def eps_of(output: Tensor) -> float:
    """See in shaken numbers, of any shape, to what they were rounded, which code may do unseen.

    >>> eps_of(torch.ones(3).double() / 3) < 1e-15 < eps_of((torch.ones(3) / 3).double())
    True
    """
    finite = output.detach()[output.detach().isfinite()]
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        with torch._C.DisableTorchFunction():
            if torch.equal(finite.to(dtype).to(finite.dtype), finite):
                return torch.finfo(dtype).eps
    return torch.finfo(torch.float64).eps


class Noise:
    """Rounding, as it shows when everything is shaken: what was moved moves otherwise."""

    def __init__(self, eps: float = 0.0):
        self.size = 0.0
        self.follows = max(FOLLOWS, FOLLOWS_COARSE * shake_for(eps))

    def see(self, moved: Tensor, again: Tensor) -> None:
        """Compare a movement with the same one after the shake, in the same units."""
        apart = (moved.double() - again.double()).abs()
        # A dependence changes smoothly, and by little.
        other = apart[(apart > self.follows * moved.abs()) & apart.isfinite()]
        if other.numel():
            self.size = max(self.size, float(other.max()))

    def is_below(self, sizes: Tensor) -> Tensor:
        """Say which sizes, of any shape, rounding explains."""
        return sizes <= ABOVE_NOISE * self.size
