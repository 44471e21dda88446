"""Which other futures are tried after a cut."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from causal_lab.causality.question import Change

OTHER_VALUES = "other values"
LARGE_VALUES = "large values"
SPECIAL_IDS = "special ids"
REPEATED = "one id repeated"
LARGE = 1e5  # times the inputs' spread: out-votes a mask of −10⁴, not one of −10⁹


def changed_values(inputs: Tensor, vocabulary: int, special_ids: tuple[int, ...] = ()) -> "Futures":
    """Make the source of other futures for these inputs.

    Args:
        inputs: shape (batch, length) of integers or (batch, length, …) of floats.
        vocabulary: for token ids, how many there are.
        special_ids: ids to try ahead, besides others.

    >>> futures = changed_values(torch.tensor([[1, 2, 3]]), vocabulary=5)
    >>> changed = futures.other_values(2, torch.Generator().manual_seed(0))
    >>> changed[0, :2].tolist(), changed[0, 2].item() == 3
    ([1, 2], False)
    """
    kind = FloatFutures if inputs.is_floating_point() else TokenFutures
    return kind(inputs, vocabulary, special_ids)


class Futures:
    """Inputs that agree with the real ones before a cut and differ from it on."""

    def __init__(self, inputs: Tensor, vocabulary: int = 0, special_ids: tuple[int, ...] = ()):
        self.inputs, self.vocabulary, self.special_ids = inputs, vocabulary, special_ids
        self.batch, self.length = inputs.shape[:2]

    def draw(
        self, way: Callable, change: Change, generator: torch.Generator, offset: int
    ) -> Tensor:
        """Change what is to be changed, the same in every precision; give the inputs' shape."""
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        try:
            with torch._C.DisableTorchFunction():
                drawn = way(change.cut, generator, offset=offset)
                changed = change.changed.to(drawn.device)
                changed = changed.reshape(-1, *[1] * (drawn.ndim - 2))
                return torch.where(changed, drawn, self.inputs)
        finally:
            torch.set_default_dtype(default)

    def tame_values(self, cut: int, generator: torch.Generator, *, offset: int = 0) -> Tensor:
        """Draw other values of kinds that are among the inputs, of their shape."""
        return self.other_values(cut, generator, offset=offset, tame=True)

    def _kind(self, cut: int, kinds: int) -> Tensor:
        """Deal the kinds of future out over rows and cuts, so that each gets its turn."""
        return (torch.arange(self.batch) + cut) % kinds

    def _join(self, cut: int, future: Tensor) -> Tensor:
        future = future.to(device=self.inputs.device, dtype=self.inputs.dtype)
        return torch.cat([self.inputs[:, :cut], future], dim=1)


class TokenFutures(Futures):
    """Other token ids after a cut."""

    @property
    def ways(self) -> dict:
        """How to draw, by name; where the model refuses the first way, the next is tried."""
        ways = {OTHER_VALUES: (self.other_values, self.tame_values)}
        if self.special_ids:
            return ways | {SPECIAL_IDS: (self._all_special,)}
        return ways | {REPEATED: (self._all_one, self.tame_values)}

    def other_values(
        self, cut: int, generator: torch.Generator, *, offset: int = 0, tame: bool = False
    ) -> Tensor:
        """Replace every id after the cut, by turns in four ways.

        Any ids, half of them the sequence's own (for models that look for equal tokens); the last
        id once more and then any; special ids among them; one id repeated. A tame future has the
        sequence's own ids only. Another ``offset`` deals the kinds out in another order. Gives the
        shape of the inputs.
        """
        old = self.inputs[:, cut:].cpu().long()
        mixed = self._mixed(old, generator, tame)
        kind = self._kind(cut + offset, 4)[:, None]
        last = self.inputs[:, max(cut - 1, 0) : max(cut, 1)].cpu().long()
        again = torch.cat([last, mixed[:, 1:]], dim=1)
        new = torch.where(kind == 1, again, mixed)
        new = torch.where(kind == 2, self._sprinkled(mixed, generator), new)
        new = torch.where(kind == 3, mixed[:, -1:].expand_as(mixed), new)
        # An id that stays what it was would be no change.
        return self._join(cut, torch.where(new == old, mixed, new))

    def _mixed(self, old: Tensor, generator: torch.Generator, tame: bool) -> Tensor:
        shift = torch.randint(1, max(self.vocabulary, 2), old.shape, generator=generator)
        any_other = (old + shift) % max(self.vocabulary, 2)
        where = torch.randint(self.length, old.shape, generator=generator)
        own = self.inputs.cpu().long().gather(1, where)
        take_own = torch.rand(old.shape, generator=generator) < (2.0 if tame else 0.5)
        return torch.where(take_own & ((own != old) | tame), own, any_other)

    def _sprinkled(self, ids: Tensor, generator: torch.Generator) -> Tensor:
        if not self.special_ids:
            return ids
        chosen = torch.randint(len(self.special_ids), ids.shape, generator=generator)
        takes = torch.rand(ids.shape, generator=generator) < 0.25
        takes[:, 0] = torch.rand(len(ids), generator=generator) < 0.5
        return torch.where(takes, torch.tensor(self.special_ids)[chosen], ids)

    def _all_special(self, cut: int, generator: torch.Generator, *, offset: int = 0) -> Tensor:
        """Fill the future with a special id, each row with another one, by turns."""
        special = torch.tensor(self.special_ids)[self._kind(cut, len(self.special_ids))]
        return self._join(cut, special[:, None].expand(-1, self.length - cut))

    def _all_one(self, cut: int, generator: torch.Generator, *, offset: int = 0) -> Tensor:
        """Fill the future with one id: by turns the last one before the cut, or any."""
        any_id = torch.randint(self.vocabulary, (self.batch, 1), generator=generator)
        last = self.inputs[:, max(cut - 1, 0) : max(cut, 1)].cpu().long()
        one = torch.where(self._kind(cut, 2)[:, None] == 0, last, any_id)
        old = self.inputs[:, cut:].cpu().long()
        one = torch.where((old == one).all(1, keepdim=True), (one + 1) % self.vocabulary, one)
        return self._join(cut, one.expand(-1, self.length - cut))


class FloatFutures(Futures):
    """Other vectors after a cut; of its arguments only the inputs matter."""

    def __init__(self, inputs: Tensor, vocabulary: int = 0, special_ids: tuple[int, ...] = ()):
        super().__init__(inputs, vocabulary, special_ids)
        values = inputs.detach().cpu().double()
        values = torch.where(values.isfinite(), values, 0.0)
        self._mean = values.mean(dim=(0, 1))
        spread = values.std(dim=(0, 1), correction=0)
        whole = values.std(correction=0)
        whole = whole if whole > 0 else torch.ones_like(whole)
        self._spread = torch.where(spread > 1e-6 * whole, spread, whole)
        # Tried in this order, the smaller ones where the larger overflow.
        self.scales = (LARGE, 1e3, 30.0) if inputs.dtype != torch.float16 else (1e3, 30.0)

    @property
    def ways(self) -> dict:
        """How to draw, by name; where a model refuses or overflows, the next way is tried."""
        large = tuple(partial(self.large_values, scale=scale) for scale in self.scales)
        return {OTHER_VALUES: (self.other_values, self.tame_values), LARGE_VALUES: large}

    def other_values(
        self, cut: int, generator: torch.Generator, *, offset: int = 0, tame: bool = False
    ) -> Tensor:
        """Draw vectors of the inputs' own spread, by turns in four ways.

        All drawn; the last vector once more and then drawn ones; all zeros; drawn ones that end in
        zeros. Repeats and zeros are common signs of padding. A tame future mixes the vectors that
        were really there, for models that take no others. Another ``offset`` deals the kinds out in
        another order. Gives the shape of the inputs.
        """
        if tame:
            return self._join(cut, self._within_range(cut, generator))
        drawn = self._draw(cut, generator)
        kind = self._kind(cut + offset, 4).reshape(-1, *[1] * (drawn.ndim - 1))
        old = self.inputs[:, cut:].cpu().double()
        last = self.inputs[:, max(cut - 1, 0) : max(cut, 1)].cpu().double()
        again = torch.cat([last, drawn[:, 1:]], dim=1)
        ending = drawn.clone()
        ending[:, (self.length - cut + 1) // 2 :] = 0.0
        new = torch.where(kind == 1, again, drawn)
        new = torch.where(kind == 2, torch.zeros_like(drawn), new)
        new = torch.where(kind == 3, ending, new)
        return self._join(cut, torch.where(new == old, drawn, new))

    def large_values(
        self,
        cut: int,
        generator: torch.Generator,
        scale: float | None = None,
        *,
        offset: int = 0,
    ) -> Tensor:
        """Draw vectors of both signs, many times larger than the inputs, of their shape.

        Args:
            scale: how many times larger; the largest of ``scales`` if not given.
        """
        scale = self.scales[0] if scale is None else scale
        return self._join(cut, self._draw(cut, generator, scale))

    def _draw(self, cut: int, generator: torch.Generator, scale: float = 1.0) -> Tensor:
        shape = (self.batch, self.length - cut, *self.inputs.shape[2:])
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        if scale > 1.0:  # each number with both signs, in two rows
            noise[1::2] = -noise[: self.batch // 2 * 2 : 2]
        return self._mean + scale * self._spread * noise

    def _within_range(self, cut: int, generator: torch.Generator) -> Tensor:
        """Mix pairs of real vectors: no number leaves the range of its column."""
        flat = self.inputs.detach().cpu().double().flatten(0, 1)
        shape = (2, self.batch, self.length - cut)
        one, other = flat[torch.randint(len(flat), shape, generator=generator)]
        share = torch.rand(shape[1:], generator=generator, dtype=torch.float64)
        share = share.reshape(*share.shape, *[1] * (one.ndim - 2))
        return share * one + (1 - share) * other
