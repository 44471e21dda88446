"""A Llama: the GPT of transformer.py with three parts exchanged.

The norm divides by the size and takes no mean away, the thinking has a gate, and positions turn
queries and keys instead of being added. Several heads of queries may share a head of keys. Mask,
block, cache and everything else are the GPT's.
"""

from collections.abc import Mapping

import torch  # noqa: F401 (the examples use it)
from torch import Tensor, nn
from torch.nn import functional as F

from causal_lab.models.layers import Block
from causal_lab.models.transformer import GPT


class GatedMLP(nn.Module):
    """Think in two branches: one says what, the other how much of it.

    Source: Shazeer, "GLU variants improve transformer", 2020 (SwiGLU).

    >>> GatedMLP(8, 24)(torch.zeros(1, 3, 8)).shape
    torch.Size([1, 3, 8])
    """

    def __init__(self, d_model: int, mlp_size: int):
        super().__init__()
        self.gate = nn.Linear(d_model, mlp_size, bias=False)
        self.up = nn.Linear(d_model, mlp_size, bias=False)
        self.down = nn.Linear(mlp_size, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Pass each token through, (…, d_model)."""
        return self.down(F.silu(self.gate(x)) * self.up(x))


class LlamaBlock(Block):
    """The same block of other parts."""

    norm = nn.RMSNorm  # Zhang & Sennrich, "Root mean square layer normalization", 2019
    has_biases = False

    def make_mlp(self, d_model: int, mlp_size: int, activation: str) -> nn.Module:  # noqa: D102
        return GatedMLP(d_model, mlp_size)


class Llama(GPT):
    """Read from left to right, as GPT does, with the parts that most models have today.

    Source: Touvron et al., "Llama 2", 2023.

    Args:
        num_kv_heads: heads of keys and values; as many as ``num_heads`` if not given.
        base: of the rotary positions; the larger, the slower the slowest turn.
        **options: as for :class:`causal_lab.models.transformer.Transformer`.

    >>> model = Llama(10, 8, d_model=8, num_heads=4, num_kv_heads=2)
    >>> model(torch.zeros(2, 5, dtype=torch.long)).shape, model.new_cache(batch=1).num_heads
    (torch.Size([2, 5, 10]), 2)
    """

    block_class = LlamaBlock

    def __init__(
        self,
        vocabulary_size: int,
        max_length: int,
        *,
        num_kv_heads: int | None = None,
        base: float = 10_000.0,
        **options,
    ):
        options |= {"position": "rotary", "num_kv_heads": num_kv_heads}
        super().__init__(vocabulary_size, max_length, **options)
        self.position.base = base

    @classmethod
    def from_hf_state_dict(
        cls,
        state_dict: Mapping[str, Tensor],
        num_heads: int,
        *,
        max_length: int = 2048,
        base: float = 10_000.0,
        epsilon: float = 1e-6,
    ) -> "Llama":
        """Take over the weights of a Llama of Hugging Face's ``transformers``, in eval mode.

        No weight is copied: the model shares them with ``state_dict``. What only a configuration
        says is to be given: ``max_position_embeddings``, ``rope_theta``, ``rms_norm_eps``.
        """
        from causal_lab.models.huggingface import load_llama

        options = {"max_length": max_length, "base": base, "epsilon": epsilon}
        return load_llama(cls, state_dict, num_heads, **options)
