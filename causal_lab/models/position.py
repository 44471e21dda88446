"""How a model tells its tokens where they stand: five ways, three places where one may act."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from causal_lab.attention.positions import alibi_bias, rotation, sinusoidal_positions
from causal_lab.models.cache import KVCache


class NoPosition(nn.Module):
    """Tell nothing; each of the other ways overrides the one hook where it acts.

    A table of its own is drawn with the model's other weights, from the model's generator.
    """

    on_scores = False  # True for a bias: behind a cache it needs positions that the cache counted

    def __init__(self, max_length: int, d_model: int, num_heads: int, causal: bool):
        super().__init__()
        self.num_heads, self.head_dim, self.causal = num_heads, d_model // num_heads, causal

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """Act on the tokens' vectors, (batch, length, d_model)."""
        return x

    def bias(self, positions: Tensor, cache: KVCache | None = None) -> Tensor | None:
        """Act on the scores, broadcastable to (batch, head, query, key).

        With a cache, the keys stand at ``cache.key_positions``; ``on_scores`` must say True.
        """
        return None

    def rotation(self, positions: Tensor) -> Callable[[Tensor], Tensor] | None:
        """Act on queries and keys, (batch, head, length, dim): a function that turns them."""
        return None


class LearnedPosition(NoPosition):
    """Add a vector from a table, one per position; they start as waves."""

    def __init__(self, max_length: int, d_model: int, num_heads: int, causal: bool):
        super().__init__(max_length, d_model, num_heads, causal)
        self.table = nn.Embedding(max_length, d_model)
        # Waves of many lengths make "one before" easy to find.
        half = (d_model + 1) // 2
        speed = torch.exp(-math.log(100.0) * torch.arange(half) / half)
        angle = torch.arange(max_length)[:, None] * speed
        waves = torch.cat([angle.sin(), angle.cos()], dim=1)[:, :d_model]
        self.table.weight.data.copy_(0.15 * waves)

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """Add the table's rows."""
        return x + self.table(positions)


class SinusoidalPosition(NoPosition):
    """Add waves of many lengths; the token's own vector grows by √d_model."""

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """Add the waves."""
        waves = sinusoidal_positions(positions, x.shape[-1])
        return math.sqrt(x.shape[-1]) * x + waves.to(x.dtype)


class ALiBi(NoPosition):
    """Take from a score in proportion to the distance."""

    on_scores = True

    def bias(self, positions: Tensor, cache: KVCache | None = None) -> Tensor | None:
        """Measure the distances, those to cached keys included."""
        keys = positions if cache is None else cache.key_positions
        bias = alibi_bias(positions, keys, self.num_heads)
        # To both sides, what is far counts less, on whichever side.
        return bias if self.causal else -bias.abs()


class RotaryPosition(NoPosition):
    """Turn queries and keys, so that scores depend on the distance."""

    base = 10_000.0  # the larger, the slower the slowest turn; a Llama has one of its own

    def rotation(self, positions: Tensor) -> Callable[[Tensor], Tensor] | None:
        """Prepare the turn, the same for every layer and head."""
        return rotation(positions[:, None], self.head_dim, base=self.base)


POSITIONS = {
    "learned": LearnedPosition,
    "none": NoPosition,
    "sinusoidal": SinusoidalPosition,
    "alibi": ALiBi,
    "rotary": RotaryPosition,
}
