"""Who may look at whom when most keys are left out, or when time has two directions.

Sparse masks keep a few keys of the past. Masks on a grid are for an image that is written row by
row: pixel (row, column) is token row · width + column, and T = height · width.
"""

import torch
from torch import Tensor

from causal_lab.masks.rules import Device, generate_causal_mask
from causal_lab.validation import check_size


def generate_dilated_mask(
    T: int,
    dilation: int,  # the step back from one visible token to the next; 1 leaves no gaps
    *,
    window: int | None = None,  # how many tokens a query sees, its own included; all if not given
    device: Device = None,
) -> Tensor:
    """Block the future, and all of the past but every so-many-th token back (WaveNet, 2016).

    With ``window=2`` and dilations 1, 2, 4, … in one layer after the other, k layers see 2ᵏ tokens.

    >>> generate_dilated_mask(5, 2, window=2).int().tolist()[4]  # of (query, key) = (T, T)
    [1, 1, 0, 1, 0]
    """
    # Source: van den Oord et al., "WaveNet", 2016; without a window, the second head of Child et
    # al., "Generating long sequences with sparse transformers", 2019 ("strided").
    dilation = check_size("dilation", dilation)
    blocked = generate_causal_mask(T, device=device)
    position = torch.arange(T, device=blocked.device)
    back = position[:, None] - position
    blocked = blocked | (back % dilation != 0)
    if window is None:
        return blocked
    return blocked | (back >= dilation * check_size("window", window))


def generate_block_sparse_mask(
    T: int,
    block_size: int,  # tokens per block; the last one may be shorter
    *,
    summaries: int = 1,  # how many tokens at the end of a block all later ones see
    device: Device = None,
) -> Tensor:
    """Block the future, and of earlier blocks all but the last few tokens (Child et al., 2019).

    >>> generate_block_sparse_mask(6, 2).int().tolist()[4:]  # of (query, key) = (T, T)
    [[1, 0, 1, 0, 0, 1], [1, 0, 1, 0, 0, 0]]
    """
    # With one summary or more, two layers see the whole past: a block's last token sees the block,
    # and everyone later sees that token. Source: Child et al., "Generating long sequences with
    # sparse transformers", 2019 ("fixed", its two heads in one mask); the paper, §11.
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
    """Block what comes later when an image is read like a page (van den Oord et al., 2016).

    >>> torch.equal(generate_raster_mask(2, 3), generate_causal_mask(6))  # (query, key) = (T, T)
    True
    """
    # It is the causal mask: two directions have become one. Source: van den Oord et al., "Pixel
    # recurrent neural networks", 2016; Parmar et al., "Image transformer", 2018.
    height, width = check_size("height", height), check_size("width", width)
    return generate_causal_mask(height * width, device=device)


def generate_quadrant_mask(height: int, width: int, *, device: Device = None) -> Tensor:
    """Block all but the pixels that are neither below nor to the right (§11; Graves et al., 2007).

    >>> generate_quadrant_mask(2, 2).int().tolist()  # (query, key) = (T, T)
    [[0, 1, 1, 1], [0, 0, 1, 1], [0, 1, 0, 1], [0, 0, 0, 0]]
    """
    # Causality along both axes at once. Of two pixels, neither may be in the other's past: a
    # partial order, where reading order makes one of them wait. Source: the paper, §11
    # ("multi-dimensional"); Graves et al., "Multi-dimensional recurrent neural networks", 2007.
    row, column = _pixels(height, width, device)
    return (row[:, None] < row) | (column[:, None] < column)


def generate_row_column_mask(height: int, width: int, *, device: Device = None) -> Tensor:
    """Block all but what lies to the left in its row, or above in its column (Ho et al., 2019).

    Two layers see the whole quadrant above and to the left, and no number of layers sees more.

    >>> generate_row_column_mask(2, 2).int().tolist()[3]  # of (query, key) = (T, T)
    [1, 0, 0, 0]
    """
    # Source: Ho et al., "Axial attention in multidimensional transformers", 2019, where rows and
    # columns are separate layers; the paper, §11.
    row, column = _pixels(height, width, device)
    apart = (row[:, None] != row) & (column[:, None] != column)
    return generate_quadrant_mask(height, width, device=device) | apart


def _pixels(height: int, width: int, device: Device) -> tuple[Tensor, Tensor]:
    """Give the row and the column of every pixel, in reading order."""
    height, width = check_size("height", height), check_size("width", width)
    pixel = torch.arange(height * width, device=device)
    return pixel // width, pixel % width
