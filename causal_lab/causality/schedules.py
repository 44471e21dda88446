"""The ways to hand a sequence over in chunks, each by its name."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from causal_lab.validation import check_size

ON_REQUEST = "two questions"


@dataclass(frozen=True)
class Schedule:
    """One way to hand a sequence over.

    Args:
        chunks: their lengths.
        kind: {"plain", "second prompt", "rollback", "two questions", "padded"}.
    """

    name: str
    chunks: tuple[int, ...]
    kind: str = "plain"
    rollback: Callable | None = None
    pad_id: int | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it does nothing but cut the sequence."""
        return self.kind == "plain"

    def pad(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Pad the rows by 1, 2, 0, 1, … tokens in turn.

        Args:
            ids: integer, shape (batch, length).

        Returns:
            ids, of which the last are left out, and a boolean that is True on padding.
        """
        batch, length = ids.shape
        amounts = (torch.arange(batch, device=ids.device) + 1) % 3
        amounts = amounts.clamp(max=length - 1)[:, None]
        places = torch.arange(length, device=ids.device)
        if self.name == "padded prefill":
            padding = places < amounts
        else:  # behind the prompt, which is the first chunk
            prompt = self.chunks[0]
            short = (prompt - amounts).clamp(min=1)
            padding = (places >= short) & (places < prompt)
        order = (~padding).long().cumsum(dim=1) - 1
        padded = ids.gather(1, order.clamp(min=0))
        return padded.masked_fill(padding, self.pad_id), padding


def read_schedules(
    schedules: Mapping | Iterable | None,
    inputs: Tensor,
    rollback: Callable | None,
    pad_id: int | None,
) -> dict[str, Schedule]:
    """Read what the caller wants: all that apply, some by name, or chunks of its own.

    Args:
        inputs: shape (batch, length, …).

    >>> list(read_schedules(["chunks of 2"], torch.ones(1, 5), None, None))
    ['chunks of 2']
    """
    known = _named(inputs, rollback, pad_id)
    if schedules is None:
        return {name: plan for name, plan in known.items() if name != ON_REQUEST}
    if isinstance(schedules, Mapping) and schedules:
        length = inputs.shape[1]
        return {
            str(name): Schedule(str(name), _chunks(name, chunks, length))
            for name, chunks in schedules.items()
        }
    try:
        names = [schedules] if isinstance(schedules, str) else list(schedules)
    except TypeError:
        names = []
    if not names or not all(isinstance(name, str) and name in known for name in names):
        raise ValueError(
            "schedules must be a dict such as {'chunks of 2': [2, 2, 1]}, with at least one "
            f"entry, or names among {list(known)} (rollback= and pad_id= bring more), got "
            f"{schedules!r}"
        )
    return {name: known[name] for name in names}


def _chunks(name: str, chunks: Iterable[int], length: int) -> tuple[int, ...]:
    try:
        sizes = tuple(check_size(f"a chunk of {name!r}", size) for size in chunks)
    except TypeError:
        raise ValueError(f"schedule {name!r} must be a list of lengths, got {chunks!r}") from None
    if sum(sizes) != length:
        raise ValueError(
            f"schedule {name!r} must sum to the length of the inputs, {length}; {list(sizes)} "
            f"sums to {sum(sizes)}"
        )
    return sizes


def _named(inputs: Tensor, rollback: Callable | None, pad_id: int | None) -> dict[str, Schedule]:
    length = inputs.shape[1]
    start = max(1, length // 2)
    rest = length - start
    singly = (start, *(1,) * rest)
    plans = [
        Schedule("one by one", (1,) * length),
        Schedule("prefill, then one by one", singly),
        Schedule("chunks of 2", _pieces(length, 2)),
        Schedule("chunks of 3", _pieces(length, 3)),
        Schedule("prefill, then chunks", (start, *_pieces(rest, 3))),
        Schedule("second prompt", singly, "second prompt"),
        Schedule(ON_REQUEST, singly, ON_REQUEST),
    ]
    if rollback is not None:
        plans.append(Schedule("rollback", singly, "rollback", rollback=rollback))
    if pad_id is not None:
        if inputs.is_floating_point() or inputs.ndim != 2:
            raise ValueError("pad_id is for token ids; the inputs are vectors, leave it out")
        pad_id = check_size("pad_id", pad_id, minimum=0)
        for name in ("padded prefill", "right-padded prefill"):
            plans.append(Schedule(name, singly, "padded", pad_id=pad_id))
    return {plan.name: plan for plan in plans}


def _pieces(length: int, size: int) -> tuple[int, ...]:
    return tuple(min(size, length - start) for start in range(0, length, size))
