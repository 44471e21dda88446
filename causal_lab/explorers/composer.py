"""Choose two masks, combine them, and see what the result lets through."""

import re
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from causal_lab.explorers.canvas import Canvas, Cells, HeatPanel
from causal_lab.explorers.explorer import Explorer, choice, slider
from causal_lab.masks.reach import dead_queries, future_pairs, receptive_field, sparsity
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

MAX_TOKENS, MAX_SIZE, MAX_LAYERS = 24, 12, 6
# Each takes the number of tokens and one size.
MASKS = {
    "causal": lambda T, n: generate_causal_mask(T, device="cpu"),
    "window of n": lambda T, n: generate_sliding_window_mask(T, n, device="cpu"),
    "window of n and a sink": lambda T, n: generate_sliding_window_mask(
        T, n, sinks=1, device="cpu"
    ),
    "in steps of n": lambda T, n: generate_dilated_mask(T, n, device="cpu"),
    "blocks of n": lambda T, n: generate_block_sparse_mask(T, n, device="cpu"),
    "prefix of n": lambda T, n: generate_prefix_mask(T, min(n, T), device="cpu"),
    "documents of n": lambda T, n: generate_document_mask(_number(T, n)),
    "n of padding": lambda T, n: _padding(T, n),
    "passages of n": lambda T, n: _passages(T, n),
    "image, n wide": lambda T, n: _image(T, n),
    "nothing blocked": lambda T, n: torch.zeros(T, T, dtype=torch.bool, device="cpu"),
}
OPERATORS = {
    "A | B": lambda a, b: a | b,
    "A & B": lambda a, b: a & b,
    "A": lambda a, b: a,
    "~A": lambda a, b: ~a,
    "A & ~B": lambda a, b: a & ~b,
    "~(~A | ~B)": lambda a, b: ~(~a | ~b),
}


@dataclass(frozen=True)
class ComposerState:
    """What a :class:`ComposerExplorer` shows.

    Args:
        first, second, combined: bool, (query, key) = (T, T), the two masks and what became of them,
            True where the query may not look.
        titles: what each of the three is.
        layers: how many layers use the mask.
        reached: share of all pairs through which information came after these layers.

    >>> ComposerExplorer(T=4).state.combined.shape
    (4, 4)
    """

    first: np.ndarray
    second: np.ndarray
    combined: np.ndarray
    titles: tuple[str, str, str]
    layers: int
    reached: float

    @property
    def ahead(self) -> int:
        """How many pairs see the future."""
        return future_pairs(torch.from_numpy(self.combined))

    @property
    def dead(self) -> list[int]:
        """Which queries see nothing."""
        return np.flatnonzero(dead_queries(torch.from_numpy(self.combined))).tolist()


def composer_state(
    T: int, first: str, first_size: int, operator: str, second: str, second_size: int, layers: int
) -> ComposerState:
    """Compute what a :class:`ComposerExplorer` shows.

    Args:
        first, second: names in ``MASKS``.
        first_size, second_size: the n in the name.
        operator: a name in ``OPERATORS``.
        layers: for the share that is reached.

    >>> composer_state(4, "causal", 1, "~A", "causal", 1, 1).ahead
    6
    """
    a, b = MASKS[first](T, first_size), MASKS[second](T, second_size)
    combined = OPERATORS[operator](a, b)
    reached = 1 - sparsity(~receptive_field(combined, layers))
    titles = "A: " + _named(first, first_size), "B: " + _named(second, second_size), operator
    return ComposerState(a.numpy(), b.numpy(), combined.numpy(), titles, layers, reached)


class ComposerExplorer(Explorer):
    """Choose two masks and an operator; see the result, its leaks and its dead rows.

    Args:
        T: tokens at first, 1 to 24.

    >>> explorer = ComposerExplorer(T=8)
    >>> explorer.controls["operator"].value = "A & B"
    >>> explorer.state.ahead
    12
    """

    def __init__(self, T: int = 12):
        names = list(MASKS)
        controls = {
            "first": choice("A", names, "window of n"),
            "first_size": slider("n of A", 5, 1, MAX_SIZE),
            "second": choice("B", names, "documents of n"),
            "second_size": slider("n of B", 4, 1, MAX_SIZE),
            "operator": choice("combine", list(OPERATORS)),
            "T": slider("T, number of tokens", T, 1, MAX_TOKENS),
            "layers": slider("layers", 2, 1, MAX_LAYERS),
        }
        panels = [HeatPanel(224, colour_bar=False, words=False) for _ in range(3)]
        super().__init__(controls, Canvas(panels))

    def unused(  # noqa: D102
        self, first: str, operator: str, second: str, **others
    ) -> set[str]:
        idle = {
            name
            for name, mask in (("first_size", first), ("second_size", second))
            if not _has_size(mask)
        }
        return idle | ({"second", "second_size"} if "B" not in operator else set())

    def compute(self, **values) -> ComposerState:  # noqa: D102
        return composer_state(**values)

    def paint(self, state: ComposerState) -> np.ndarray:  # noqa: D102
        T = len(state.combined)
        ahead = ~state.combined & np.triu(np.ones((T, T), dtype=bool), 1)
        share = sparsity(torch.from_numpy(state.combined))
        return self.canvas.paint(
            [
                Cells(None, state.first),
                Cells(None, state.second),
                Cells(None, state.combined, framed=ahead, marked=state.dead),
            ],
            titles=state.titles,
            caption=f"{share:.0%} blocked; {state.ahead} pairs see the future (framed); "
            f"{len(state.dead)} queries see nothing (bars); {state.layers} "
            f"layer{'s' * (state.layers > 1)} reach {state.reached:.0%} of all pairs",
        )


def _has_size(name: str) -> bool:
    return _named(name, 0) != name


def _named(name: str, size: int) -> str:
    """Put the size in the place of the n."""
    return re.sub(r"\bn\b", str(size), name)


def _number(T: int, size: int) -> Tensor:
    """Cut the text into pieces and give each token the number of its piece, from 1."""
    return torch.arange(T, device="cpu") // size + 1


def _padding(T: int, size: int) -> Tensor:
    padding = generate_padding_mask([max(T - size, 0)], T, side="left", device="cpu")
    return padding[0, 0].expand(T, T)


def _passages(T: int, size: int) -> Tensor:
    """Cut the text into passages; the last piece is a question, which sees all of them."""
    segments = _number(T, size)
    return generate_retrieval_mask(segments.where(segments < segments[-1], 0))


def _image(T: int, width: int) -> Tensor:
    """Cut an image off after T pixels; its last row may be short."""
    return generate_row_column_mask(-(-T // width), width, device="cpu")[:T, :T]
