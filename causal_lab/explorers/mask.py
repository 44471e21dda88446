"""Who may look at whom, as the text grows."""

from collections.abc import Sequence

from causal_lab.explorers.controls import Menu, Slider
from causal_lab.explorers.explorer import Explorer
from causal_lab.explorers.menu import CAUSAL, NO_MASK, make_mask
from causal_lab.plots.picture import Heat, Picture, Sentence


class MaskExplorer(Explorer):
    """Slide over the number of tokens and ask one of them whom it may look at.

    Args:
        T: tokens at first; 8 if not given, or all words if they are fewer.
        max_T: the slider's end, up to 512; the number of words if ``tokens`` is given.
        tokens: words to label the rows and columns with.

    >>> MaskExplorer(T=4).picture.panels[-1].blocked.tolist()
    [[0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
    """

    T = Slider("T, number of tokens", 1, 512, 8, play=True)
    position = Slider("query: who looks", 0, 511, 2)
    mask = Menu("mask", [CAUSAL, NO_MASK])

    GRID = {"T": range(1, 17), "position": range(16), "mask": [CAUSAL, NO_MASK]}

    def __init__(
        self, T: int | None = None, *, max_T: int = 512, tokens: Sequence[str] | None = None
    ):
        self.tokens = None if tokens is None else tuple(tokens)
        self.max_T = max_T if self.tokens is None else len(self.tokens)
        T = min(8, self.max_T) if T is None else T
        super().__init__(T=T, position=min(2, T - 1))

    def limits(self, T: int, **others) -> dict[str, tuple[int, int]]:  # noqa: D102
        return {"T": (1, self.max_T), "position": (0, min(T, self.max_T) - 1)}

    def compute(self, T: int, position: int, mask: str) -> Picture:  # noqa: D102
        blocked = make_mask(mask, T).numpy()
        words = None if self.tokens is None else self.tokens[:T]
        square = Heat(
            blocked=blocked,
            labels=words,
            rows=(position,),
            dim=True,
            title=f"T = {T}: blue may be looked at, hatched is blocked",
            side=384,
        )
        seen = ~blocked[position]
        panels, name = [square], f"query {position}"
        if words is not None:
            kinds = tuple("seen" if may else "hidden" for may in seen)
            line = Sentence(words, kinds, f"what “{words[position]}” may see", ring=position)
            panels, name = [line, square], f"{name} “{words[position]}”"
        return Picture(
            tuple(panels),
            f"{name} sees {seen.sum()} of {T} tokens; blocked cells: {blocked.sum()} of {T * T}",
        )
