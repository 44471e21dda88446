"""One table of masks, for the menus of all explorers."""

import re
from collections.abc import Callable

import torch
from torch import Tensor

from causal_lab.masks.rules import (
    generate_causal_mask,
    generate_document_mask,
    generate_padding_mask,
    generate_prefix_mask,
    generate_retrieval_mask,
    generate_sliding_window_mask,
)
from causal_lab.masks.sparse import (
    generate_block_sparse_mask,
    generate_dilated_mask,
    generate_row_column_mask,
)

CAUSAL, NO_MASK = "causal, as in GPT", "none, as in BERT"
WINDOW, SINK, STEPS = "window of n", "window of n and a sink", "in steps of n"
BLOCKS, IMAGE = "blocks of n", "image, n wide"

# Each takes the number of tokens and one size, the n of its name.
MASKS: dict[str, Callable[[int, int], Tensor]] = {
    CAUSAL: lambda T, n: generate_causal_mask(T, device="cpu"),
    NO_MASK: lambda T, n: torch.zeros(T, T, dtype=torch.bool, device="cpu"),
    WINDOW: lambda T, n: generate_sliding_window_mask(T, n, device="cpu"),
    SINK: lambda T, n: generate_sliding_window_mask(T, n, sinks=1, device="cpu"),
    STEPS: lambda T, n: generate_dilated_mask(T, n, device="cpu"),
    BLOCKS: lambda T, n: generate_block_sparse_mask(T, n, device="cpu"),
    "prefix of n": lambda T, n: generate_prefix_mask(T, min(n, T), device="cpu"),
    "documents of n": lambda T, n: generate_document_mask(_pieces(T, n)),
    "n of padding": lambda T, n: _padding(T, n),
    "passages of n": lambda T, n: _passages(T, n),
    # The last row of the image may be short.
    IMAGE: lambda T, n: generate_row_column_mask(-(-T // n), n, device="cpu")[:T, :T],
}


def make_mask(name: str, T: int, n: int = 1) -> Tensor:
    """Make the mask that a menu names.

    Args:
        name: a key of ``MASKS``.
        n: the size in the name, if there is one.

    Returns:
        bool, (query, key) = (T, T), True where blocked, on the CPU, where all explorers compute.

    >>> make_mask(WINDOW, 4, 2).int().tolist()[3]
    [1, 1, 0, 0]
    """
    return MASKS[name](T, n)


def with_size(name: str, n: int) -> str:
    """Put the size in the place of the n; a name without one stays as it is.

    >>> with_size(WINDOW, 3), with_size(CAUSAL, 3)
    ('window of 3', 'causal, as in GPT')
    """
    return re.sub(r"\bn\b", str(n), name)


def _pieces(T: int, n: int) -> Tensor:
    """Cut the text into pieces and give each token the number of its piece, from 1."""
    return torch.arange(T, device="cpu") // n + 1


def _padding(T: int, n: int) -> Tensor:
    padding = generate_padding_mask([max(T - n, 0)], T, side="left", device="cpu")
    return padding[0, 0].expand(T, T)


def _passages(T: int, n: int) -> Tensor:
    """Cut the text into passages; the last piece is a question, which sees all of them."""
    segments = _pieces(T, n)
    return generate_retrieval_mask(segments.where(segments < segments[-1], 0))
