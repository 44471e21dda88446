"""Choose two masks, combine them, and see what the result lets through."""

import numpy as np

from causal_lab.explorers.controls import Menu, Slider
from causal_lab.explorers.explorer import Explorer
from causal_lab.explorers.menu import MASKS, WINDOW, make_mask, with_size
from causal_lab.masks.reach import dead_queries, future_pairs, receptive_field, sparsity
from causal_lab.plots.picture import FRAMES, Heat, Picture

OPERATORS = {
    "A | B": lambda a, b: a | b,
    "A & B": lambda a, b: a & b,
    "A": lambda a, b: a,
    "~A": lambda a, b: ~a,
    "A & ~B": lambda a, b: a & ~b,
    "~(~A | ~B)": lambda a, b: ~(~a | ~b),
}


class ComposerExplorer(Explorer):
    """Choose two masks and an operator; see the result, its leaks and its dead rows.

    >>> ComposerExplorer(T=4, operator="~A").picture.caption[:39]
    '62% blocked; 6 pairs see the future (fr'
    """

    first = Menu("A", MASKS, WINDOW)
    first_size = Slider("n of A", 1, 12, 5)
    second = Menu("B", MASKS, "documents of n")
    second_size = Slider("n of B", 1, 12, 4)
    operator = Menu("combine", OPERATORS)
    T = Slider("T, number of tokens", 1, 24, 12)
    layers = Slider("layers", 1, 6, 2)

    GRID = {
        "first": list(MASKS),
        "first_size": (2, 5),
        "second": list(MASKS),
        "operator": list(OPERATORS),
        "T": (4, 8, 12, 16),
        "layers": (1, 2),
    }

    def unused(self, first: str, operator: str, second: str, **others) -> set[str]:  # noqa: D102
        idle = {
            "first_size": not _has_size(first),
            "second": "B" not in operator,
            "second_size": "B" not in operator or not _has_size(second),
        }
        return {name for name, is_idle in idle.items() if is_idle}

    def compute(  # noqa: D102
        self,
        first: str,
        first_size: int,
        second: str,
        second_size: int,
        operator: str,
        T: int,
        layers: int,
    ) -> Picture:
        a, b = make_mask(first, T, first_size), make_mask(second, T, second_size)
        combined = OPERATORS[operator](a, b)
        dead, ahead = dead_queries(combined), future_pairs(combined)
        share, reached = sparsity(combined), 1 - sparsity(~receptive_field(combined, layers))
        panels = (
            Heat(blocked=a.numpy(), title=f"A: {with_size(first, first_size)}", side=224),
            Heat(blocked=b.numpy(), title=f"B: {with_size(second, second_size)}", side=224)
            if "B" in operator
            else _pale(T),
            Heat(
                blocked=combined.numpy(),
                frames=FRAMES.index("future") * (~combined).triu(1).numpy(),
                rows=tuple(dead.nonzero().flatten().tolist()),
                title=operator,
                side=224,
            ),
        )
        return Picture(
            panels,
            f"{share:.0%} blocked; {_count(ahead, 'pair')} the future (framed); "
            f"{_count(int(dead.sum()), 'query')} nothing (marked); {layers} "
            f"{'layer reaches' if layers == 1 else 'layers reach'} {reached:.0%} of all pairs",
        )


def _pale(T: int) -> Heat:
    blocked, absent = np.zeros((T, T), dtype=bool), np.ones((T, T), dtype=bool)
    return Heat(blocked=blocked, absent=absent, title="B: not asked", side=224)


def _has_size(name: str) -> bool:
    return with_size(name, 0) != name


def _count(number: int, thing: str) -> str:
    """Say how many of them see.

    >>> _count(1, "query"), _count(2, "query")
    ('1 query sees', '2 queries see')
    """
    if number == 1:
        return f"1 {thing} sees"
    return f"{number} {thing[:-1] + 'ies' if thing.endswith('y') else thing + 's'} see"
