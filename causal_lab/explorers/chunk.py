"""A chunk of new tokens behind a cache: at which corner the triangle must be."""

from dataclasses import dataclass

import numpy as np
import torch

from causal_lab.explorers.canvas import Canvas, Cells, HeatPanel
from causal_lab.explorers.explorer import Explorer, slider
from causal_lab.masks.rules import generate_incremental_mask

MAX_PAST, MAX_CURRENT = 24, 8
_AXES = ("query (looks); pale: computed earlier", "key (is looked at)", "")


@dataclass(frozen=True)
class ChunkState:
    """What a :class:`ChunkExplorer` shows.

    Args:
        lower_right: bool, (query, key) = (current_len, past_len + current_len), True where a new
            token may not look: at what comes after it.
        upper_left: bool, same shape, the same triangle, put at the wrong corner.

    >>> ChunkExplorer(past_len=2, current_len=2).state.lower_right.astype(int).tolist()
    [[0, 0, 0, 1], [0, 0, 0, 0]]
    """

    lower_right: np.ndarray
    upper_left: np.ndarray

    @property
    def past_len(self) -> int:
        """How many tokens are cached."""
        return self.lower_right.shape[1] - self.lower_right.shape[0]

    @property
    def current_len(self) -> int:
        """How many tokens are new, which is how many rows are computed."""
        return len(self.lower_right)

    @property
    def wrong(self) -> int:
        """How many cells are blocked at the upper left that should be seen."""
        return int((self.upper_left != self.lower_right).sum())


def chunk_state(past_len: int, current_len: int) -> ChunkState:
    """Compute what a :class:`ChunkExplorer` shows.

    Returns:
        Both masks. The one at the upper left is what PyTorch's ``scaled_dot_product_attention``
        makes of ``is_causal=True`` when there are more keys than queries.

    >>> chunk_state(2, 2).upper_left.astype(int).tolist()
    [[0, 1, 1, 1], [0, 0, 1, 1]]
    """
    everywhere = torch.ones(current_len, past_len + current_len, dtype=torch.bool, device="cpu")
    lower_right = generate_incremental_mask(past_len, current_len, device="cpu")
    return ChunkState(lower_right.numpy(), everywhere.triu(1).numpy())


class ChunkExplorer(Explorer):
    """Slide over cached and new tokens, and see which rows are computed and what they may see.

    Source: the paper, B.7. Training is the case of no past, a step of decoding that of one new
    token.

    Args:
        past_len: cached tokens at first, 0 to 24.
        current_len: new tokens at first, 1 to 8.

    >>> ChunkExplorer(past_len=4, current_len=3).state.wrong
    12
    """

    def __init__(self, past_len: int = 4, current_len: int = 3):
        controls = {
            "past_len": slider("past_len, cached tokens", past_len, 0, MAX_PAST),
            "current_len": slider("current_len, new tokens", current_len, 1, MAX_CURRENT),
        }
        panels = [HeatPanel(320, colour_bar=False, words=False, names=_AXES) for _ in range(2)]
        super().__init__(controls, Canvas(panels))

    def compute(self, past_len: int, current_len: int) -> ChunkState:  # noqa: D102
        return chunk_state(past_len, current_len)

    def paint(self, state: ChunkState) -> np.ndarray:  # noqa: D102
        wrong = state.wrong
        if wrong:
            verdict = f"Upper left blocks {wrong} cell{'s' * (wrong > 1)} that must be seen"
        else:
            verdict = "Both corners give the same mask"
        return self.canvas.paint(
            [_square(state, state.lower_right), _square(state, state.upper_left)],
            titles=[
                "triangle at the lower right: right",
                "at the upper left: " + ("wrong where framed" if wrong else "the same, so right"),
            ],
            caption=f"{_name_of_case(state)}; {state.current_len} of "
            f"{state.past_len + state.current_len} rows computed. {verdict}",
        )


def _square(state: ChunkState, blocked: np.ndarray) -> Cells:
    """Put the rows of a chunk below those of the cached tokens, which are not computed."""
    T, past_len = state.past_len + state.current_len, state.past_len
    squares = np.zeros((3, T, T), dtype=bool)
    squares[0, past_len:] = blocked
    squares[1, :past_len] = True
    squares[2, past_len:] = blocked != state.lower_right
    return Cells(None, squares[0], absent=squares[1], framed=squares[2])


def _name_of_case(state: ChunkState) -> str:
    if state.past_len == 0:
        return "training or prefill: the whole triangle"
    if state.current_len == 1:
        return "one step: one row, nothing blocked, no mask needed"
    return f"a chunk of {state.current_len} behind {state.past_len}"
