"""Who may look at whom, as the text grows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from causal_lab.explorers.canvas import Canvas, Cells, HeatPanel, shortened
from causal_lab.explorers.explorer import Explorer, choice, slider
from causal_lab.masks.rules import generate_causal_mask

CAUSAL, NO_MASK = "causal, as in GPT", "none, as in BERT"


@dataclass(frozen=True)
class MaskState:
    """What a :class:`MaskExplorer` shows.

    Args:
        blocked: bool, (query, key) = (T, T), True where the query may not look.
        position: the query that is pointed at, 0 to T − 1.

    >>> MaskExplorer(T=4).state.position
    2
    """

    blocked: np.ndarray
    position: int


def mask_state(T: int, position: int, mask: str) -> MaskState:
    """Compute what a :class:`MaskExplorer` shows.

    Args:
        position: the query to point at; beyond the end, the last one is taken.
        mask: ``CAUSAL`` or ``NO_MASK``.

    >>> mask_state(3, 1, CAUSAL).blocked.sum()
    np.int64(3)
    """
    return MaskState(chosen_mask(T, mask).numpy(), min(position, T - 1))


def chosen_mask(T: int, mask: str) -> Tensor:
    """Make the mask that a menu names.

    Args:
        mask: ``CAUSAL`` or ``NO_MASK``.

    Returns:
        bool, (query, key) = (T, T), on the CPU, where all explorers compute.

    >>> int(chosen_mask(3, NO_MASK).sum())
    0
    """
    blocked = generate_causal_mask(T, device="cpu")
    return blocked if mask == CAUSAL else torch.zeros_like(blocked)


class MaskExplorer(Explorer):
    """Slide over the number of tokens and ask one of them whom it may look at.

    Args:
        T: tokens at first; 8 if not given, or all words if they are fewer.
        max_T: the slider's end; the number of words if ``tokens`` is given.
        tokens: words to label the rows and columns with.

    >>> MaskExplorer(T=4).state.blocked.astype(int).tolist()
    [[0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
    """

    def __init__(
        self,
        T: int | None = None,
        *,
        max_T: int = 512,
        tokens: Sequence[str] | None = None,
    ):
        self.tokens = None if tokens is None else tuple(tokens)
        max_T = max_T if self.tokens is None else len(self.tokens)
        T = min(8, max_T) if T is None else T
        controls = {
            "T": slider("T, number of tokens", T, 1, max_T),
            "position": slider("query: who looks", min(2, T - 1), 0, max_T - 1),
            "mask": choice("mask", [CAUSAL, NO_MASK]),
        }
        side = 512 if max_T > 64 else 384
        super().__init__(
            controls, Canvas([HeatPanel(side, colour_bar=False, words=tokens is not None)])
        )

    def limits(self, T: int, **others) -> dict[str, int]:  # noqa: D102
        return {"position": T - 1}

    def compute(self, T: int, position: int, mask: str) -> MaskState:  # noqa: D102
        return mask_state(T, position, mask)

    def paint(self, state: MaskState) -> np.ndarray:  # noqa: D102
        T = len(state.blocked)
        labels = None if self.tokens is None else self.tokens[:T]
        seen = int((~state.blocked[state.position]).sum())
        name = f"query {state.position}" + (
            f" “{shortened(labels[state.position])}”" if labels else ""
        )
        return self.canvas.paint(
            [Cells(None, state.blocked, labels, marked=state.position)],
            titles=[f"T = {T}: blue may be looked at, hatched is blocked"],
            caption=f"{name} sees {seen} of {T} tokens; blocked cells: "
            f"{int(state.blocked.sum())} of {T * T}",
        )
