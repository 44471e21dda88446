"""A chunk of new tokens behind a cache: in which corner its stairs end or start."""

import numpy as np
import torch

from causal_lab.explorers.controls import Slider
from causal_lab.explorers.explorer import Explorer
from causal_lab.masks.rules import generate_incremental_mask
from causal_lab.plots.picture import FRAMES, Heat, Picture


class ChunkExplorer(Explorer):
    """Slide over cached and new tokens, and see which rows are computed and what they may see.

    Source: the paper, B.7. Training is the case of no past, a step of decoding that of one new
    token. PyTorch's ``scaled_dot_product_attention`` starts the stairs at the upper left when it is
    told ``is_causal=True`` and there are more keys than queries.

    >>> ChunkExplorer(past_len=1, current_len=2).picture.panels[0].blocked.tolist()
    [[0, 0, 0], [0, 0, 1], [0, 0, 0]]
    """

    past_len = Slider("past_len, cached tokens", 0, 24, 4)
    current_len = Slider("current_len, new tokens", 1, 8, 3)

    GRID = {"past_len": range(25), "current_len": range(1, 9)}

    def compute(self, past_len: int, current_len: int) -> Picture:  # noqa: D102
        right = generate_incremental_mask(past_len, current_len, device="cpu").numpy()
        everywhere = torch.ones(current_len, past_len + current_len, dtype=torch.bool, device="cpu")
        upper_left = everywhere.triu(1).numpy()
        lost, leaks = int((upper_left & ~right).sum()), int(right.sum())
        wrong = {False: "right here", True: "wrong where framed"}
        return Picture(
            (
                _square(right, right, "stairs end at the lower right: right"),
                _square(upper_left, right, f"stairs start at the upper left: {wrong[lost > 0]}"),
                _square(np.zeros_like(right), right, f"no mask: {wrong[leaks > 0]}"),
            ),
            f"{_name_of_case(past_len, current_len)}; {current_len} of {past_len + current_len} "
            f"rows computed. Upper left hides {_cells(lost)} that must be seen; "
            f"no mask shows {_cells(leaks)} of the future",
        )


def _square(blocked: np.ndarray, right: np.ndarray, title: str) -> Heat:
    """Put the rows of a chunk below those of the cached tokens, which are not computed."""
    current_len, T = blocked.shape
    hatched, frames, absent = np.zeros((3, T, T), dtype=np.uint8)
    hatched[-current_len:] = blocked
    frames[-current_len:][blocked & ~right] = FRAMES.index("past")
    frames[-current_len:][right & ~blocked] = FRAMES.index("future")
    absent[:-current_len] = True
    return Heat(
        blocked=hatched,
        absent=absent,
        frames=frames,
        title=title,
        names=("query, pale: computed earlier", "key", "weight"),
        side=256,
    )


def _name_of_case(past_len: int, current_len: int) -> str:
    if past_len == 0:
        return "training or prefill: the whole triangle"
    if current_len == 1:
        return "one step: one row, nothing blocked, no mask needed"
    return f"a chunk of {current_len} behind {past_len}"


def _cells(count: int) -> str:
    return f"{count} cell{'s' * (count != 1)}"
