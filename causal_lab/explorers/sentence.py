"""Attention over a sentence of one's own, and what a changed word moves."""

import numpy as np
import torch
from torch import Tensor

from causal_lab.attention.formula import attention
from causal_lab.attention.heads import split_heads
from causal_lab.course.text import WordVectors, learn_word_vectors, split_words
from causal_lab.explorers.controls import Menu, Slider, Text
from causal_lab.explorers.explorer import Explorer
from causal_lab.explorers.menu import CAUSAL, NO_MASK, make_mask
from causal_lab.plots.picture import Bars, Heat, Picture, Sentence

MAX_TOKENS = 24
SENTENCE = "The function raises an exception if the list is empty"
SENTENCES = [
    SENTENCE,
    "the value of the name is the value of the object that the name refers to",
    "raise an error",
]
BEFORE, AFTER = "before the change", "after the change"
WHOLE, FIRST, SECOND = "the whole vectors", "head 1 of 2: first half", "head 2 of 2: second half"
HEADS = [WHOLE, FIRST, SECOND]
SELF_SCORE = 3.0  # what a word's score with itself is scaled to


class AttentionExplorer(Explorer):
    """Type a sentence, choose a mask, change a word, and see which positions move.

    Args:
        vectors: the words' vectors; learned from the documentation's text if not given.
        text: the sentence at first; without a single word in it, "…" stands in.

    >>> explorer = AttentionExplorer(text="raise an exception")
    >>> explorer.picture.panels[2].heights[1].tolist()  # of the words before the changed one
    [0.0, 0.0, 0.0]
    """

    text = Text("your sentence", SENTENCE)
    T = Slider("T, words in use", 1, MAX_TOKENS, 10)
    changed = Slider("word to change", 0, MAX_TOKENS - 1, 4, play=True)
    mask = Menu("mask", [CAUSAL, NO_MASK])
    weights = Menu("weights", [BEFORE, AFTER])
    head = Menu("head", HEADS)

    GRID = {
        "text": SENTENCES,
        "T": [*range(1, 9), 10, 12, 14, 16],
        "changed": range(16),
        "mask": [CAUSAL, NO_MASK],
        "weights": [BEFORE, AFTER],
        "head": HEADS,
    }

    def __init__(self, vectors: WordVectors | None = None, text: str = SENTENCE, **values):
        self.vectors = learn_word_vectors() if vectors is None else vectors
        super().__init__(text=text, **values)

    def limits(self, text: str, T: int, **others) -> dict[str, tuple[int, int]]:  # noqa: D102
        length = len(split_words(text)[:MAX_TOKENS]) or 1
        return {"T": (1, length), "changed": (0, min(T, length) - 1)}

    def compute(  # noqa: D102
        self, text: str, T: int, changed: int, mask: str, weights: str, head: str
    ) -> Picture:
        words = split_words(text)[:T] or ["…"]
        blocked = make_mask(mask, len(words))
        x = _one_head(word_inputs(words, self.vectors), head)
        other = x.clone()
        # An unknown word is all zeros; it is replaced by ones, so that something changes.
        other[changed] = -x[changed] if bool(x[changed].any()) else torch.ones_like(x[changed])
        output, before = attention(x, x, x, blocked)
        output_after, after = attention(other, other, other, blocked)
        change = (other[changed] - x[changed]).norm()
        moved = ((output_after - output).norm(dim=-1) / change).numpy()
        names = tuple(word if word in self.vectors.vocabulary else f"{word}?" for word in words)
        shown = (before if weights == BEFORE else after).numpy()
        return Picture(
            (
                _line(names, changed, moved),
                Heat(
                    shown,
                    blocked.numpy(),
                    title=f"T = {len(words)}: weights {weights}",
                    labels=names,
                    columns=(changed,),
                ),
                _bars(names, changed, moved),
            ),
            _caption(names, changed, moved),
        )


def word_inputs(words: list[str], vectors: WordVectors) -> Tensor:
    """Look up words and scale them so that each one's score with itself is the same.

    Returns:
        float32, shape (length, dim), ``x @ x.T / sqrt(dim)`` is 3 · cosine; zeros for an unknown
        word.

    >>> x = word_inputs(["if"], learn_word_vectors())
    >>> round((x @ x.T / x.shape[-1] ** 0.5).item(), 3)
    3.0
    """
    return _stretched(vectors.look_up(words))


def _stretched(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x, dim=-1) * (SELF_SCORE * x.shape[-1] ** 0.5) ** 0.5


def _one_head(x: Tensor, head: str) -> Tensor:
    """Cut the vectors in two as heads do, and let what one of them sees be as long as the whole."""
    return x if head == WHOLE else _stretched(split_heads(x, 2)[HEADS.index(head) - 1])


def _line(words: tuple[str, ...], changed: int, moved: np.ndarray) -> Sentence:
    kinds = ["seen" if far > 0 else "plain" for far in moved]
    kinds[changed] = "changed"
    return Sentence(words, tuple(kinds), f"who notices that “{words[changed]}” has changed")


def _bars(words: tuple[str, ...], changed: int, moved: np.ndarray) -> Bars:
    leaks = np.arange(len(words)) < changed
    return Bars(
        np.stack([np.where(leaks, 0.0, moved), np.where(leaks, moved, 0.0)]),
        ("past", "future"),
        title="how far outputs move",
        meanings=("it and the words after it", "words before it: a leak"),
        labels=words,
        label="moved, as a share of the change",
        name="word",
        root=True,
        marked=(changed,),
        width=360,
        height=352,
    )


def _caption(words: tuple[str, ...], changed: int, moved: np.ndarray) -> str:
    before = moved[:changed].max(initial=0.0)
    leak = " (a leak)" if before > 0 else ""
    return (
        f"word {changed} “{words[changed]}” changed: the outputs before it move by at most "
        f"{before:.3g}{leak}"
    )
