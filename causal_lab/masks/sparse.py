"""Who may look at whom when most keys are left out, or when time has two directions.

Sparse masks keep a few keys of the past. Masks on a grid are for an image that is written row by
row: pixel (row, column) is token row · width + column, and T = height · width.
"""

import torch
from torch import Tensor

from causal_lab.masks.rules import Device, generate_causal_mask
from causal_lab.validation import check_size


def generate_dilated_mask(
    T: int, dilation: int, *, window: int | None = None, device: Device = None
) -> Tensor:
    """Block the future, and all of the past but every so-many-th token back: (query, key) = (T, T).

    With ``window=2`` and dilations 1, 2, 4, … in one layer after the other, k layers see 2ᵏ tokens.
    Source: van den Oord et al., "WaveNet", 2016; Child et al., "Sparse transformers", 2019.

    Args:
        dilation: the step back from one visible token to the next; 1 leaves no gaps.
        window: how many tokens a query sees, its own included; all if not given.

    >>> generate_dilated_mask(5, 2, window=2).int().tolist()[4]
    [1, 1, 0, 1, 0]
    """
    # Without a window: the second head of Child et al. ("strided").
    dilation = check_size("dilation", dilation)
    blocked = generate_causal_mask(T, device=device)
    position = torch.arange(T, device=blocked.device)
    back = position[:, None] - position
    blocked = blocked | (back % dilation != 0)
    if window is None:
        return blocked
    return blocked | (back >= dilation * check_size("window", window))


def generate_block_sparse_mask(
    T: int, block_size: int, *, summaries: int = 1, device: Device = None
) -> Tensor:
    """Block the future, and of earlier blocks all but the last few tokens: (query, key) = (T, T).

    Source: Child et al., "Generating long sequences with sparse transformers", 2019 ("fixed"); §11.

    Args:
        block_size: tokens per block; the last one may be shorter.
        summaries: how many tokens at the end of a block all later ones see, 0 to ``block_size``.

    >>> generate_block_sparse_mask(6, 2).int().tolist()[4:]
    [[1, 0, 1, 0, 0, 1], [1, 0, 1, 0, 0, 0]]
    """
    # With one summary or more, two layers see the whole past: a block's last token sees the block,
    # and everyone later sees that token. Child et al. have two heads, here in one mask.
    block_size = check_size("block_size", block_size)
    summaries = check_size("summaries", summaries, minimum=0)
    if summaries > block_size:
        raise ValueError(f"summaries must be at most block_size={block_size}, got {summaries}")
    blocked = generate_causal_mask(T, device=device)
    position = torch.arange(T, device=blocked.device)
    block = position // block_size
    is_summary = position % block_size >= block_size - summaries
    return blocked | ((block[:, None] != block) & ~is_summary)


def generate_raster_mask(height: int, width: int, *, device: Device = None) -> Tensor:
    """Block what comes later when an image is read like a page: bool, (query, key) = (T, T).

    Source: van den Oord et al., "PixelRNN", 2016; Parmar et al., "Image transformer", 2018.

    >>> torch.equal(generate_raster_mask(2, 3), generate_causal_mask(6))
    True
    """
    # It is the causal mask: two directions have become one.
    height, width = check_size("height", height), check_size("width", width)
    return generate_causal_mask(height * width, device=device)


def generate_quadrant_mask(height: int, width: int, *, device: Device = None) -> Tensor:
    """Block all but the pixels neither below nor to the right: (query, key) = (T, T) (§11).

    Source: Graves et al., "Multi-dimensional recurrent neural networks", 2007.

    >>> generate_quadrant_mask(2, 2).int().tolist()
    [[0, 1, 1, 1], [0, 0, 1, 1], [0, 1, 0, 1], [0, 0, 0, 0]]
    """
    # Causality along both axes at once. Of two pixels, neither may be in the other's past: a
    # partial order, where reading order makes one of them wait.
    row, column = _pixels(height, width, device)
    return (row[:, None] < row) | (column[:, None] < column)


def generate_row_column_mask(height: int, width: int, *, device: Device = None) -> Tensor:
    """Block all but what is to the left in its row, or above in its column: (query, key) = (T, T).

    Two layers see the whole quadrant above and to the left, and no number of layers sees more.
    Source: Ho et al., "Axial attention in multidimensional transformers", 2019; §11.

    >>> generate_row_column_mask(2, 2).int().tolist()[3]
    [1, 0, 0, 0]
    """
    # Both in one mask; for Ho et al., rows and columns are separate layers.
    row, column = _pixels(height, width, device)
    apart = (row[:, None] != row) & (column[:, None] != column)
    return generate_quadrant_mask(height, width, device=device) | apart


def _pixels(height: int, width: int, device: Device) -> tuple[Tensor, Tensor]:
    """Give the row and the column of every pixel, in reading order."""
    height, width = check_size("height", height), check_size("width", width)
    pixel = torch.arange(height * width, device=device)
    return pixel // width, pixel % width
