"""A training loop short enough to read, with a progress bar and what it saw on the way."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from causal_lab.course.progress import with_bar
from causal_lab.validation import check_size, check_tensor


@dataclass
class History:
    """What a training saw, step by step.

    Args:
        losses: in nats.
        gradient_norms: of all parameters together, before clipping.

    >>> History([2.0, 1.0], [0.5, 0.5])
    <History of 2 steps>
    """

    losses: list[float] = field(default_factory=list)
    gradient_norms: list[float] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"<History of {len(self.losses)} steps>"

    def last(self, steps: int = 20) -> float:
        """Average the last losses, which jump from batch to batch.

        >>> History([9.0, 2.0, 1.0], [0.5, 0.5, 0.5]).last(2)
        1.5
        """
        if not self.losses:
            raise ValueError("nothing was trained yet")
        recent = self.losses[-check_size("steps", steps) :]
        return sum(recent) / len(recent)


def train(
    model: nn.Module,
    batches: Iterable,
    loss: Callable[..., Tensor],
    *,
    learning_rate: float = 3e-3,
    clip: float = 1.0,
    progress: bool = True,
) -> History:
    """Show the model one batch after the other, and turn each loss into a step.

    Args:
        model: trained in place; left in eval mode.
        batches: one per step.
        loss: ``loss(batch)`` gives a scalar that hangs on the model's parameters.
        learning_rate: the highest; it rises over the first tenth of the steps and falls to 0.
        clip: longest gradient that a step may take.

    >>> layer = nn.Linear(1, 1)
    >>> history = train(layer, [torch.ones(4, 1)] * 50, lambda x: layer(x).square().mean(),
    ...                 progress=False)
    >>> history.losses[-1] < history.losses[0]
    True
    """
    batches = list(batches)
    if not batches:
        raise ValueError("there are no batches to train on; give at least one")
    optimiser = torch.optim.AdamW(model.parameters(), lr=learning_rate, fused=True)
    # Below ten steps a tenth of them is less than one, which the schedule cannot divide by.
    rise = max(0.1, 2 / (len(batches) + 1))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, learning_rate, total_steps=len(batches) + 1, pct_start=min(rise, 1.0)
    )
    history = History()
    model.train()
    steps = (
        with_bar(batches, len(batches), f"{len(batches)} training steps") if progress else batches
    )
    for batch in steps:
        value = loss(batch)
        optimiser.zero_grad()
        value.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimiser.step()
        schedule.step()
        history.losses.append(value.item())
        history.gradient_norms.append(norm.item())
    model.eval()
    return history


def random_windows(
    ids: Tensor, length: int, batch_size: int, steps: int, *, seed: int
) -> list[Tensor]:
    """Cut windows, shape (batch, length), out of a text of ids, shape (text,), at random places.

    The same seed gives the same windows, on every device; they stay on that of ``ids``.

    Args:
        steps: how many batches.

    >>> [batch] = random_windows(torch.arange(100), length=3, batch_size=2, steps=1, seed=0)
    >>> (batch[:, 1:] - batch[:, :-1]).tolist()
    [[1, 1], [1, 1]]
    """
    check_tensor("ids", ids)
    length, batch_size = check_size("length", length), check_size("batch_size", batch_size)
    if ids.ndim != 1 or len(ids) < length:
        raise ValueError(
            f"ids must be one row of at least length={length} tokens, got shape {tuple(ids.shape)}"
        )
    generator = torch.Generator().manual_seed(seed)
    shape = (check_size("steps", steps), batch_size, 1)
    starts = torch.randint(len(ids) - length + 1, shape, generator=generator)
    return list(ids[(starts + torch.arange(length)).to(ids.device)])


def hide_some(batches: Iterable[Tensor], share: float, *, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Pair every batch with a boolean mask, True on the tokens that a model must guess.

    The same seed hides the same tokens, on every device.

    Args:
        batches: each of shape (batch, length), as is its mask.
        share: of the tokens, above 0 and below 1; at least one per sequence.

    >>> [(ids, hidden)] = hide_some([torch.zeros(2, 8)], 0.25, seed=0)
    >>> hidden.sum(dim=1).tolist()
    [2, 2]
    """
    if not isinstance(share, float) or not 0 < share < 1:
        raise ValueError(f"share must lie between 0 and 1, got {share!r}")
    generator = torch.Generator().manual_seed(seed)
    pairs = []
    for ids in batches:
        order = torch.rand(ids.shape, generator=generator).argsort(dim=1)
        hidden = order < max(1, round(share * ids.shape[1]))
        pairs.append((ids, hidden.to(ids.device)))
    return pairs
