"""Several heads: how vectors are cut and joined, and PyTorch's own layer with a causal mask."""

import torch  # noqa: F401 (the examples use it)
from torch import Tensor, nn

from causal_lab.masks.rules import generate_causal_mask
from causal_lab.validation import check_heads, check_size, check_tensor, check_tokens


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """Cut the last axis into heads and bring them before the sequence.

    Args:
        x: (…, length, num_heads · dim).

    Returns:
        (…, head, length, dim).

    >>> split_heads(torch.arange(6.0).reshape(1, 6), num_heads=3).tolist()
    [[[0.0, 1.0]], [[2.0, 3.0]], [[4.0, 5.0]]]
    """
    num_heads = check_size("num_heads", num_heads)
    if check_tensor("x", x).ndim < 2 or x.shape[-1] % num_heads:
        raise ValueError(
            f"x of shape {tuple(x.shape)} cannot be cut into {num_heads} heads; its shape must "
            "be (…, length, d_model) with d_model a multiple of num_heads"
        )
    return x.unflatten(-1, (num_heads, -1)).transpose(-3, -2)


def merge_heads(x: Tensor) -> Tensor:
    """Put the heads of each token side by side again: undo :func:`split_heads`.

    Args:
        x: (…, head, length, dim).

    Returns:
        (…, length, head · dim).

    >>> merge_heads(split_heads(torch.arange(6.0).reshape(1, 6), num_heads=3)).tolist()
    [[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]]
    """
    if check_tensor("x", x).ndim < 3:
        raise ValueError(f"x must have shape (…, head, length, dim), got {tuple(x.shape)}")
    # Heads go behind the sequence first; a plain reshape would mix positions, the future among
    # them.
    return x.transpose(-3, -2).flatten(-2)


class CausalAttention(nn.Module):
    """Wrap ``nn.MultiheadAttention`` so that no position sees a later one (the paper, B.6).

    Args:
        d_model: size of a token's vector; a multiple of ``num_heads``.

    >>> output, weights = CausalAttention(64, 4)(torch.zeros(2, 5, 64))
    >>> tuple(output.shape), tuple(weights.shape)
    ((2, 5, 64), (2, 5, 5))
    """

    def __init__(self, d_model: int, num_heads: int):
        super().__init__()
        check_heads(d_model, num_heads)
        self.attn = nn.MultiheadAttention(d_model, num_heads, batch_first=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Look from every token at itself and the tokens before it.

        Args:
            x: (batch, length, d_model).

        Returns:
            The output, alike; the weights, (batch, query, key), averaged over the heads.

        >>> CausalAttention(4, 2)(torch.zeros(1, 1, 4))[1].tolist()
        [[[1.0]]]
        """
        check_tokens("x", x, self.attn.out_proj.weight)
        T = x.shape[1]
        # attn_mask is True where blocked, like every mask here.
        mask = generate_causal_mask(T, device=x.device)
        out, weights = self.attn(x, x, x, attn_mask=mask)
        return out, weights
