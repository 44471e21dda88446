"""Attention over a sentence of one's own, and what a changed word moves."""

from dataclasses import dataclass

import ipywidgets as widgets
import numpy as np
import torch
from torch import Tensor

from causal_lab.attention.formula import attention
from causal_lab.course.text import WordVectors, learn_word_vectors, split_words
from causal_lab.explorers.canvas import BarPanel, Bars, Canvas, Cells, HeatPanel, shortened
from causal_lab.explorers.explorer import Explorer, choice, slider
from causal_lab.explorers.mask import CAUSAL, NO_MASK, chosen_mask

MAX_TOKENS = 24
SENTENCE = "the function raises an exception if the list of arguments is not a sequence"
SELF_SCORE = 3.0  # what a word's score with itself is scaled to


@dataclass(frozen=True)
class AttentionState:
    """What an :class:`AttentionExplorer` shows.

    Args:
        words: the words in use; one that has no vector is marked with a question mark.
        weights: (query, key) = (T, T).
        blocked: bool, shape (query, key).
        changed: the word that is replaced.
        moved: shape (T,), how far each output moves then, as a share of the replaced vector's
            change.

    >>> AttentionExplorer(text="raise an exception").state.changed
    2
    """

    words: tuple[str, ...]
    weights: np.ndarray
    blocked: np.ndarray
    changed: int
    moved: np.ndarray


def word_inputs(words: list[str], vectors: WordVectors) -> Tensor:
    """Look up words and scale them so that each one's score with itself is the same.

    Returns:
        float32, shape (length, dim), ``x @ x.T / sqrt(dim)`` is 3 · cosine; zeros for an unknown
        word.

    >>> x = word_inputs(["if"], learn_word_vectors())
    >>> round((x @ x.T / x.shape[-1] ** 0.5).item(), 3)
    3.0
    """
    directions = torch.nn.functional.normalize(vectors.look_up(words), dim=-1)
    return directions * (SELF_SCORE * directions.shape[-1] ** 0.5) ** 0.5


def attention_state(
    text: str, T: int, changed: int, mask: str, vectors: WordVectors
) -> AttentionState:
    """Let the first words of a text look at each other; then replace one of them.

    Args:
        text: what the learner typed; without a single word, "…" stands in.
        T: at most this many words are used.
        changed: the word that is replaced by its opposite; beyond the end, the last one is taken.
        mask: ``CAUSAL`` or ``NO_MASK``.

    >>> state = attention_state("raise an exception", 8, 2, CAUSAL, learn_word_vectors())
    >>> state.moved[:2].tolist()
    [0.0, 0.0]
    """
    words = split_words(text)[:T] or ["…"]
    T = len(words)
    changed = min(changed, T - 1)
    blocked = chosen_mask(T, mask)
    x = word_inputs(words, vectors)
    other = x.clone()
    # An unknown word is all zeros; it is replaced by ones, so that something changes.
    other[changed] = -x[changed] if bool(x[changed].any()) else torch.ones_like(x[changed])
    output, weights = attention(x, x, x, blocked)
    moved = (attention(other, other, other, blocked)[0] - output).norm(dim=-1)
    change = (other[changed] - x[changed]).norm()
    known = tuple(word if word in vectors.vocabulary else f"{word}?" for word in words)
    return AttentionState(
        known, weights.numpy(), blocked.numpy(), changed, (moved / change).numpy()
    )


class AttentionExplorer(Explorer):
    """Type a sentence, choose a mask, change a word, and see which positions move.

    Args:
        vectors: the words' vectors; learned from the documentation's text if not given.

    >>> AttentionExplorer(text="raise an exception").state.words
    ('raise', 'an', 'exception')
    """

    def __init__(self, vectors: WordVectors | None = None, text: str = SENTENCE, T: int = 10):
        self.vectors = learn_word_vectors() if vectors is None else vectors
        controls = {
            "text": widgets.Text(
                value=text,
                description="your sentence",
                style={"description_width": "initial"},
                layout=widgets.Layout(width="680px", margin="2px 16px 2px 0"),
            ),
            "T": slider("T, words in use", T, 1, MAX_TOKENS),
            "changed": slider("word to change", 4, 0, MAX_TOKENS - 1),
            "mask": choice("mask", [CAUSAL, NO_MASK]),
        }
        super().__init__(
            controls, Canvas([HeatPanel(352), BarPanel(290, 352, label="moved", root=True)])
        )

    def limits(self, text: str, T: int, **others) -> dict[str, int]:  # noqa: D102
        length = len(split_words(text)[:MAX_TOKENS])
        return {"T": length, "changed": min(T, length) - 1}

    def compute(self, text: str, T: int, changed: int, mask: str) -> AttentionState:  # noqa: D102
        return attention_state(text, T, changed, mask, self.vectors)

    def paint(self, state: AttentionState) -> np.ndarray:  # noqa: D102
        T = len(state.words)
        before = state.moved[: state.changed].max(initial=0.0)
        return self.canvas.paint(
            [
                Cells(state.weights, state.blocked, state.words, marked=state.changed),
                Bars(state.moved, np.arange(T) < state.changed, state.words),
            ],
            titles=[
                f"T = {T}: weights",
                f"how far outputs move: “{shortened(state.words[state.changed])}”",
            ],
            caption=f"word {state.changed} changed: the outputs before it move by at most "
            f"{before:.3g}" + (" (a leak)" if before > 0 else ""),
        )
