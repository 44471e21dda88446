"""What a model remembers under a window: the newest tokens, and the first few for ever."""

import torch
from torch import Tensor

from causal_lab.masks.rules import Device
from causal_lab.models.cache import KVCache, Plan
from causal_lab.validation import check_size


class SlidingKVCache(KVCache):
    """Keys and values of the last tokens only, and of the first few: memory that stays.

    What falls out of the window is overwritten. The results are those of a full pass under
    ``generate_sliding_window_mask(T, window, sinks=sinks)``, and no longer text needs more memory.
    Source: Beltagy et al., "Longformer", 2020, for the window; Xiao et al., "Efficient streaming
    language models with attention sinks", 2023, for the sinks. Unlike there, positions stay those
    of the whole text, so that the results can be compared with a full pass.

    Position p is stored in slot p, if it is a sink, and else in a ring of ``window`` slots. The
    order of the slots is not that of the text: attention does not care, since positions are in the
    keys. What is not named below is as for :class:`causal_lab.models.cache.KVCache`.

    Args:
        window: how many tokens a query sees, its own included.
        sinks: how many of the first tokens of each text are kept for ever.

    >>> cache = SlidingKVCache(1, 1, 1, window=3, head_dim=1, sinks=1)
    >>> for number in range(6):
    ...     new = torch.full((1, 1, 1, 1), float(number))
    ...     keys, _ = cache.append(0, new, new)
    >>> sorted(keys.flatten().tolist())
    [0.0, 3.0, 4.0, 5.0]
    """

    def __init__(
        self,
        num_layers: int,
        batch: int,
        num_heads: int,
        window: int,
        head_dim: int,
        *,
        sinks: int = 0,
        dtype: torch.dtype = torch.float32,
        device: Device = None,
    ):
        self.window = check_size("window", window)
        self.sinks = check_size("sinks", sinks, minimum=0)
        capacity = self.sinks + self.window
        super().__init__(
            num_layers, batch, num_heads, capacity, head_dim, dtype=dtype, device=device
        )

    def reset(self) -> None:  # noqa: D102
        super().reset()
        shape = (self.batch, self.capacity)
        self._held = torch.full(shape, -1, device=self.device)  # the position in each slot

    @property
    def positions(self) -> list[list[int]]:
        """The positions whose keys are held, of each text, in order."""
        return [sorted(p for p in row if p >= 0) for row in self._held.tolist()]

    def reorder(self, order: Tensor) -> None:  # noqa: D102
        super().reorder(order)
        self._held = self._held[order.to(self.device)]

    def __repr__(self) -> str:
        return (
            f"<SlidingKVCache {min(self.length, self.capacity)} of {self.length} tokens kept, "
            f"window {self.window}, sinks {self.sinks}, {self.nbytes:,} bytes>"
        )

    def check_room(self, current_len: int) -> int:  # noqa: D102
        return check_size("current_len", current_len)

    def num_keys(self, current_len: int) -> int:  # noqa: D102
        if self._planned is not None:
            return self.key_positions.shape[1]
        if current_len == 1 and self._real is None:
            return min(self.length + 1, self.capacity)
        return min(self.length, self.capacity) + current_len

    def _make_plan(self, current_len: int, padding: Tensor | None) -> Plan:
        positions = self._positions(current_len, padding)
        if current_len == 1 and self._real_tokens(padding) is None:
            # All that is left in the slots may be looked at, the new token's own included.
            p = self.length
            self._slot = p if p < self.sinks else self.sinks + (p - self.sinks) % self.window
            return Plan(positions, None)
        self._slot, self._waiting = None, {}
        new = positions.expand(self.batch, -1)
        queries = new[:, None, :, None]
        if padding is not None:
            new = new.masked_fill(padding, -1)
        self._places = self._places_of(new)
        filled = min(self.length, self.capacity)
        self._seen = torch.cat([self._held[:, :filled], new], dim=1)
        held = self._seen[:, None, None]  # of the keys
        forgotten = (queries - held >= self.window) & (held >= self.sinks)
        return Plan(positions, (held < 0) | (held > queries) | forgotten)

    def _where_keys_stand(self) -> Tensor:
        if self._slot is None:
            return self._seen.clamp_min(0)
        seen = self._held[:, : min(self.length + 1, self.capacity)].clone()
        seen[:, self._slot] = self.length
        return seen

    def _store(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        block = self._blocks[layer]
        if self._slot is not None:
            # What stood here is out of the window for this token and all that follow: even if
            # the pass is never finished, nobody will miss it.
            block[0, :, :, self._slot] = keys[:, :, 0]
            block[1, :, :, self._slot] = values[:, :, 0]
            filled = min(self.length + 1, self.capacity)
            return block[0, :, :, :filled], block[1, :, :, :filled]
        filled = min(self.length, self.capacity)
        new = torch.stack([keys, values])
        # Written when every layer has its part: an unfinished pass must change nothing.
        rows, columns, _, _ = self._places
        self._waiting[layer] = new[:, rows, :, columns]
        seen = torch.cat([block[:, :, :, :filled], new], dim=3)
        return seen[0], seen[1]

    def _count_new(self) -> None:
        if self._slot is not None:
            self._held[:, self._slot] = self.length
        else:
            rows, _, slots, positions = self._places
            for layer, new in self._waiting.items():
                self._blocks[layer][:, rows, :, slots] = new
            self._held[rows, slots] = positions
            self._waiting = {}
        super()._count_new()

    def _places_of(self, new: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """List the new tokens that stay: text, place in the chunk, slot and position of each."""
        last = new.amax(dim=1, keepdim=True)
        stays = (new >= 0) & ((new < self.sinks) | (new > last - self.window))
        rows, columns = stays.nonzero(as_tuple=True)
        positions = new[rows, columns]
        ring = self.sinks + (positions - self.sinks) % self.window
        return rows, columns, torch.where(positions < self.sinks, positions, ring), positions
