"""What a model remembers of the tokens it has read: their keys and values, layer by layer.

A causal model's keys and values of old tokens never change when new tokens come, so they are
stored once and read at every step. The memory is taken once, at the start; nothing grows.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from causal_lab.masks.rules import Device, block_future
from causal_lab.validation import check_boolean, check_size, check_tensor, describe


def cache_nbytes(
    num_layers: int,
    num_heads: int,
    head_dim: int,
    length: int,
    *,
    batch: int = 1,
    dtype: torch.dtype = torch.float32,
) -> int:
    """Say how much memory the keys and values of a text need.

    Source: the paper, §7.3 and B.9, where it is "O(T)".

    Args:
        num_heads: heads that have keys and values of their own.

    Returns:
        Bytes: 2 · layers · heads · head_dim · length · batch · bytes per number.

    >>> cache_nbytes(12, 12, 64, 1024) / 2**20  # GPT-2 with its longest text, in MiB
    72.0
    """
    sizes = {
        "num_layers": num_layers,
        "num_heads": num_heads,
        "head_dim": head_dim,
        "length": length,
        "batch": batch,
    }
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"dtype must be a torch.dtype such as torch.float32, got {dtype!r}")
    product = 2 * dtype.itemsize  # a key and a value
    for name, size in sizes.items():
        product *= check_size(name, size)
    return product


class Plan(NamedTuple):
    """Where a chunk of new tokens stands, and whom it may look at.

    Args:
        positions: integer, shape (1 or batch, current_len), counted over the real tokens, the
            cached ones included.
        blocked: bool, broadcastable to (batch, head, query, key), True where a query may not look.
            None: everything may be looked at.

    >>> KVCache(1, 1, 1, 8, 4).plan(2).positions.tolist()
    [[0, 1]]
    """

    positions: Tensor
    blocked: Tensor | None


class KVCache:
    """Keys and values of all tokens read so far, in memory that is taken once (§7.3, B.7, B.9).

    A pass hands a chunk of new tokens to every layer: :meth:`plan`, an :meth:`append` per layer,
    :meth:`commit`. Until the end the cache is as before, so an error on the way changes nothing.
    Without a plan, ``append`` begins a pass itself and ends it when every layer has its part.

    Args:
        capacity: tokens that each text may have, padding included.

    >>> cache = KVCache(num_layers=1, batch=1, num_heads=1, capacity=4, head_dim=2)
    >>> cache.append(0, torch.ones(1, 1, 3, 2), torch.ones(1, 1, 3, 2))[0].shape
    torch.Size([1, 1, 3, 2])
    >>> cache
    <KVCache 3 of 4 tokens, 1 layer, 64 bytes>
    """

    def __init__(
        self,
        num_layers: int,
        batch: int,
        num_heads: int,
        capacity: int,
        head_dim: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: Device = None,
    ):
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise ValueError(f"dtype must be a floating dtype such as torch.float32, got {dtype}")
        self.num_layers = check_size("num_layers", num_layers)
        self.batch = check_size("batch", batch)
        self.num_heads = check_size("num_heads", num_heads)
        self.capacity = check_size("capacity", capacity)
        self.head_dim = check_size("head_dim", head_dim)
        shape = (2, batch, num_heads, capacity, head_dim)  # keys, values
        self._blocks = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(num_layers)]
        self.reset()

    def reset(self) -> None:
        """Forget everything and keep the memory, ready for another text.

        >>> cache = KVCache(1, 1, 1, 4, 2)
        >>> _ = cache.append(0, torch.ones(1, 1, 3, 2), torch.ones(1, 1, 3, 2))
        >>> cache.reset()
        >>> cache.length
        0
        """
        self.length = 0  # columns read, padding included
        self._padding: Tensor | None = None  # (batch, capacity); None as long as there was none
        self._real: Tensor | None = None  # (batch,), read tokens that are no padding; as above
        self._close()

    @property
    def dtype(self) -> torch.dtype:
        """Of keys and values."""
        return self._blocks[0].dtype

    @property
    def device(self) -> torch.device:
        """Where keys and values are kept."""
        return self._blocks[0].device

    @property
    def nbytes(self) -> int:
        """The memory that keys and values really take, measured on their storage."""
        return sum(block.untyped_storage().nbytes() for block in self._blocks)

    def plan(self, current_len: int, padding: Tensor | None = None) -> Plan:
        """Begin a pass: say where the new tokens stand and what they may look at.

        A pass that was begun before and never finished is forgotten.

        Args:
            padding: bool, shape (batch, current_len), True on those new tokens that are padding.

        Returns:
            Positions and mask. A single new token may look at everything, so it needs no mask.

        >>> cache = KVCache(1, 1, 1, 4, 2)
        >>> cache.plan(1).blocked is None
        True
        >>> cache.plan(2).blocked.int().tolist()
        [[0, 1], [0, 0]]
        """
        current_len = self.check_room(current_len)
        padding = self._check_padding(padding, current_len)
        self._close()
        self._planned, self._new_padding = current_len, padding
        return self._make_plan(current_len, padding)

    @property
    def key_positions(self) -> Tensor:
        """Where the keys stand that :meth:`append` gives back in the pass that was planned.

        Integer, shape (1 or batch, key), counted over the real tokens as
        ``Plan.positions`` are; what the mask hides has some number or other.
        """
        if self._planned is None:
            raise ValueError("no pass is planned; call plan(current_len) first")
        return self._where_keys_stand()

    def check_room(self, current_len: int) -> int:
        """Return the number of new tokens if there is a place for them."""
        current_len = check_size("current_len", current_len)
        if self.length + current_len > self.capacity:
            raise ValueError(
                f"{current_len} new tokens do not fit: {self.length} of {self.capacity} places are "
                f"taken; make a cache with capacity={self.length + current_len} or more, or "
                "reset() this one"
            )
        return current_len

    def num_keys(self, current_len: int) -> int:
        """Count the keys that :meth:`append` will give back for so many new tokens."""
        return self.length + current_len if self._planned is None else self.key_positions.shape[1]

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store a layer's new keys and values; give back all that may be looked at.

        Args:
            layer: from 0 on.
            keys, values: shape (batch, head, current_len, head_dim).

        Returns:
            keys, values: shape (batch, head, length + current_len, head_dim), views of the cache,
            not copies. (A sliding cache gives what it still holds, and copies only where a chunk
            comes.)

        >>> cache = KVCache(1, 1, 1, 4, 2)
        >>> for number in (1.0, 2.0):
        ...     new = torch.full((1, 1, 1, 2), number)
        ...     keys, values = cache.append(0, new, new)
        >>> keys[0, 0].tolist()
        [[1.0, 1.0], [2.0, 2.0]]
        """
        self._check_new(layer, keys, values)
        if self._planned is None:
            self.plan(keys.shape[2])
            self._commits_itself = True
        seen = self._store(layer, keys, values)
        self._stored.add(layer)
        if self._commits_itself and len(self._stored) == self.num_layers:
            self.commit()
        return seen

    def commit(self) -> None:
        """End a pass that was planned: from now on its tokens count.

        >>> cache = KVCache(1, 1, 1, 4, 2)
        >>> _ = cache.plan(1)
        >>> _ = cache.append(0, torch.ones(1, 1, 1, 2), torch.ones(1, 1, 1, 2))
        >>> cache.length
        0
        >>> cache.commit()
        >>> cache.length
        1
        """
        if len(self._stored) < self.num_layers:
            missing = sorted(set(range(self.num_layers)) - self._stored)
            raise ValueError(f"layers {missing} have not stored their part of this pass yet")
        self._count_new()
        self._close()

    def reorder(self, order: Tensor) -> None:
        """Let text i go on from what text ``order[i]`` has read, as beam search needs it.

        Args:
            order: integer, shape (batch,), which text each one continues.

        >>> cache = KVCache(1, 2, 1, 4, 1)
        >>> new = torch.tensor([3.0, 5.0]).view(2, 1, 1, 1)
        >>> _ = cache.append(0, new, new)
        >>> cache.reorder(torch.tensor([1, 1]))
        >>> cache.append(0, new, new)[0].flatten(1).tolist()
        [[5.0, 3.0], [5.0, 5.0]]
        """
        order = self._check_order(order)
        self._close()
        filled = min(self.length, self.capacity)
        for block in self._blocks:
            block[:, :, :, :filled] = block[:, order, :, :filled]
        if self._padding is not None:
            self._padding = self._padding[order]
        if self._real is not None:
            self._real = self._real[order]

    def __repr__(self) -> str:
        layers = "1 layer" if self.num_layers == 1 else f"{self.num_layers} layers"
        return (
            f"<{type(self).__name__} {self.length} of {self.capacity} tokens, {layers}, "
            f"{self.nbytes:,} bytes>"
        )

    # --- what a cache with another way of storing does differently

    def _make_plan(self, current_len: int, padding: Tensor | None) -> Plan:
        positions = self._positions(current_len, padding)
        blocked = None
        if current_len > 1:
            # (query, key) = (current_len, length + current_len): the past is what the cache holds.
            blocked = block_future(self.length, current_len, device=self.device)
        if padding is not None and self._padding is None:
            shape = (self.batch, self.capacity)
            self._padding = torch.zeros(shape, dtype=torch.bool, device=self.device)
        if self._padding is not None:
            end = self.length + current_len
            # Also where there is none: a pass that was never finished may have left some.
            self._padding[:, self.length : end] = False if padding is None else padding
            hidden = self._padding[:, None, None, :end]
            blocked = hidden if blocked is None else blocked | hidden
        return Plan(positions, blocked)

    def _where_keys_stand(self) -> Tensor:
        end = self.length + self._planned
        if self._padding is None:
            return torch.arange(end, device=self.device)[None]
        return ((~self._padding[:, :end]).cumsum(dim=1) - 1).clamp_min(0)

    def _store(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        end = self.length + keys.shape[2]
        block = self._blocks[layer]
        block[0, :, :, self.length : end] = keys
        block[1, :, :, self.length : end] = values
        return block[0, :, :, :end], block[1, :, :, :end]

    def _count_new(self) -> None:
        padding, real = self._new_padding, self._real_tokens(self._new_padding)
        if real is not None:
            self._real = real + (self._planned if padding is None else (~padding).sum(dim=1))
        self.length += self._planned

    # --- what all of them share

    def _close(self) -> None:
        """End a pass, or forget one that was never finished."""
        if self._real is None:  # no padding was counted; an unfinished pass may have brought some
            self._padding = None
        self._planned: int | None = None
        self._new_padding: Tensor | None = None
        self._stored: set[int] = set()
        self._commits_itself = False

    def _positions(self, current_len: int, padding: Tensor | None) -> Tensor:
        """Count the real tokens on from those that were read; padding gets what it follows."""
        real = self._real_tokens(padding)
        if real is None:
            return torch.arange(self.length, self.length + current_len, device=self.device)[None]
        if padding is None:
            return real[:, None] + torch.arange(current_len, device=self.device)
        return (real[:, None] + (~padding).cumsum(dim=1) - 1).clamp_min(0)

    def _real_tokens(self, padding: Tensor | None) -> Tensor | None:
        """Say how many tokens of each text were read; None as long as all were real."""
        if self._real is None and padding is not None:
            return torch.full((self.batch,), self.length, device=self.device)
        return self._real

    def _check_padding(self, padding: Tensor | None, current_len: int) -> Tensor | None:
        """Return the padding if there is any."""
        if padding is None:
            return None
        check_boolean("padding", padding)
        if padding.shape != (self.batch, current_len) or padding.device != self.device:
            raise ValueError(
                f"padding must say for each of the new tokens, shape ({self.batch}, {current_len}) "
                f"on {self.device}, whether it is padding, got {tuple(padding.shape)} on "
                f"{padding.device}; the cache remembers which of the old ones were"
            )
        return padding if bool(padding.any()) else None

    def _check_layer(self, layer: int) -> int:
        layer = check_size("layer", layer, minimum=0)
        if layer >= self.num_layers:
            raise ValueError(f"there is no layer {layer}, they go from 0 to {self.num_layers - 1}")
        return layer

    def _check_new(self, layer: int, keys: Tensor, values: Tensor) -> None:
        if self._check_layer(layer) in self._stored:
            raise ValueError(
                f"layer {layer} has stored its part of this chunk already; every layer appends "
                "once per chunk"
            )
        for name, new in (("keys", keys), ("values", values)):
            self._check_tokens(name, new)
        if keys.shape != values.shape:
            raise ValueError(
                f"keys and values must be of one shape, got {tuple(keys.shape)} and "
                f"{tuple(values.shape)}"
            )
        if self._planned is None:
            self.check_room(keys.shape[2])
        elif keys.shape[2] != self._planned:
            raise ValueError(
                f"this pass is about {self._planned} new tokens, layer {layer} brings "
                f"{keys.shape[2]}; every layer of a pass stores the same tokens"
            )

    def _check_tokens(self, name: str, new: Tensor) -> None:
        check_tensor(name, new)
        shape = (self.batch, self.num_heads, "new", self.head_dim)
        fits = new.ndim == 4 and new.shape[2] > 0
        if not fits or any(a != b for a, b in zip(new.shape, shape, strict=True) if b != "new"):
            raise ValueError(
                f"{name} must have shape (batch, head, new, head_dim) = ({self.batch}, "
                f"{self.num_heads}, at least 1, {self.head_dim}), got {tuple(new.shape)}; another "
                "batch or model needs a cache of its own"
            )
        if new.dtype != self.dtype or new.device != self.device:
            raise ValueError(
                f"{name} came as {new.dtype} on {new.device}, the cache keeps {self.dtype} on "
                f"{self.device}; make the cache with the dtype and device of the model"
            )
        if torch.is_grad_enabled() and new.requires_grad:
            raise ValueError(
                f"{name} carry gradients, and a cache keeps numbers only; compute inside "
                "torch.no_grad()"
            )

    def _check_order(self, order: Tensor) -> Tensor:
        check_tensor("order", order)
        whole = order.dtype in (torch.int64, torch.int32)
        if not whole or order.shape != (self.batch,):
            raise ValueError(
                f"order must be integers of shape ({self.batch},), one text for each, got "
                f"{describe(order)} of shape {tuple(order.shape)}"
            )
        if int(order.min()) < 0 or int(order.max()) >= self.batch:
            raise ValueError(f"order must name texts from 0 to {self.batch - 1}, got {order}")
        return order.to(self.device, torch.int64)
