"""What a mask lets through: how much, how far ahead, to whom nothing, and how far in many layers.

One layer carries what a key holds to every query that may look at it. The next layer carries it
on. So after k layers an output hangs on all tokens from which a path of at most k steps leads to
it: a power of the matrix of allowed pairs, in which + means "or".
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from causal_lab.validation import check_boolean, check_size


def receptive_field(blocked: Tensor, layers: int = 1, *, residual: bool = True) -> Tensor:
    """Find what outputs can depend on, shape (…, output, token), in layers with the same mask.

    Source: Luo et al., "Understanding the effective receptive field", 2016.

    Args:
        blocked: bool, (…, length, length), True where blocked.
        layers: how many; after 0, each output is its own token.
        residual: whether each layer adds its result to what came in, as all Transformers do.

    >>> from causal_lab.masks.rules import generate_sliding_window_mask
    >>> receptive_field(generate_sliding_window_mask(9, window=3), layers=3)[8].sum()
    tensor(7)
    """
    # A window w reaches 1 + k(w − 1) tokens in k layers. Most of them count little, as
    # Luo et al. find. True is what is *reached*, where in a mask it is what is blocked.
    mask, layers = _square(blocked), check_size("layers", layers, minimum=0)
    return _reached(mask, [mask] * layers, residual)


def stacked_receptive_field(blocked: Sequence[Tensor], *, residual: bool = True) -> Tensor:
    """Find what outputs can depend on, shape (…, output, token), when each layer has its own mask.

    Args:
        blocked: bool, (length, length) each, the first next to the input.
        residual: as for :func:`receptive_field`.

    >>> from causal_lab.masks.sparse import generate_dilated_mask
    >>> stack = [generate_dilated_mask(16, 2**layer, window=2) for layer in range(3)]
    >>> stacked_receptive_field(stack)[15].sum()
    tensor(8)
    """
    masks = [_square(mask) for mask in blocked]
    if not masks:
        raise ValueError(
            "give at least one mask: without any, nothing says how many tokens there are; "
            "receptive_field(blocked, layers=0) is what no layer reaches"
        )
    if len({mask.shape[-1] for mask in masks}) > 1:
        raise ValueError(
            "give one mask per layer, all of the same length, got lengths "
            f"{[mask.shape[-1] for mask in masks]}"
        )
    return _reached(masks[0], masks, residual)


def sparsity(blocked: Tensor) -> float:
    """Calculate which share of all pairs is blocked, any shape; (T − 1) / 2T for the causal mask.

    >>> sparsity(torch.tensor([[False, True], [False, False]]))
    0.25
    """
    if not check_boolean("blocked", blocked).numel():
        raise ValueError(f"blocked of shape {tuple(blocked.shape)} is empty; give at least one key")
    return int(blocked.sum()) / blocked.numel()


def future_pairs(blocked: Tensor) -> int:
    """Count the pairs in which a query may look at a later token, shape (…, query, key).

    >>> future_pairs(torch.tensor([[False, False], [True, False]]))  # 0 for every causal mask
    1
    """
    queries, keys = _matrix(blocked).shape[-2:]
    # Behind a cache, the queries are the last of the tokens.
    return int((~blocked).triu(1 + keys - queries).sum())


def dead_queries(blocked: Tensor) -> Tensor:
    """Find the queries that see no key, shape (…, query): attention gives zeros there.

    >>> dead_queries(torch.tensor([[True, True], [False, True]])).tolist()
    [True, False]
    """
    return _matrix(blocked).all(dim=-1)


def _matrix(blocked: Tensor) -> Tensor:
    if check_boolean("blocked", blocked).ndim < 2 or 0 in blocked.shape:
        raise ValueError(
            "blocked must have shape (…, query, key) with no empty axis, got "
            f"{tuple(blocked.shape)}"
        )
    return blocked


def _square(blocked: Tensor) -> Tensor:
    if _matrix(blocked).shape[-1] != blocked.shape[-2]:
        raise ValueError(
            "in a stack of layers there are as many queries as keys, shape (…, length, length); "
            f"got {tuple(blocked.shape)}"
        )
    return blocked


def _reached(like: Tensor, masks: Sequence[Tensor], residual: bool) -> Tensor:
    # Every token begins at its own place, in the shape of a mask; without layers it stays there.
    own = torch.eye(like.shape[-1], dtype=torch.float32, device=like.device)
    reached = own.expand(like.shape)
    for mask in masks:
        # A product from the left, like the attention matrices themselves. Causal masks give causal
        # products: stacking cannot open the future. Counted paths grow beyond every number; whether
        # there is one is all that is asked.
        passed = (~mask).float() @ reached
        # Each layer adds its result to what was there, as all Transformers do: then an output hangs
        # on its own token even where the mask blocks that.
        reached = ((passed + reached if residual else passed) > 0).float()
    return reached > 0
