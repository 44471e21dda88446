"""What is asked: which inputs are changed at once, and which outputs must not notice."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Change:
    """Inputs that are changed together.

    Args:
        cut: the first of them.
        changed: bool, shape (input,).
        kept: bool, shape (output,), the outputs that may see none of them.
    """

    cut: int
    changed: Tensor
    kept: Tensor


def changes_for(allowed: Tensor) -> list[Change]:
    """List what to change: for each output, all that it must not see.

    For a causal mask these are the cuts: everything from a position on.

    Args:
        allowed: bool, shape (output, input), True where an output may depend on an input.

    >>> [change.cut for change in changes_for(torch.ones(3, 3).tril(1).bool())]
    [2]
    """
    rows = {tuple(row.tolist()): row for row in ~allowed if row.any()}
    found = [
        Change(int(row.int().argmax()), row, ~(allowed & row).any(dim=1)) for row in rows.values()
    ]
    return sorted(found, key=lambda change: (change.cut, -int(change.changed.sum())))


def allowed_up_to(positions: Tensor, length: int, lookahead: int = 0) -> Tensor:
    """Let the output at each position see the inputs up to it.

    Args:
        positions: integer, shape (output,), where among the inputs each output stands.

    Returns:
        bool, shape (output, input).

    >>> allowed_up_to(torch.tensor([1, 3]), 4).int().tolist()
    [[1, 1, 0, 0], [1, 1, 1, 1]]
    """
    return torch.arange(length) <= positions[:, None] + lookahead
