"""AttentionExplorer: a sentence, a changed word, and what moves, written out a second time."""

from functools import cache

import numpy as np
import pytest
import torch

from causal_lab.course.text import UNKNOWN, Vocabulary, WordVectors, learn_word_vectors
from causal_lab.explorers import AttentionExplorer
from causal_lab.explorers.menu import CAUSAL, NO_MASK
from causal_lab.explorers.sentence import (
    AFTER,
    BEFORE,
    FIRST,
    HEADS,
    SECOND,
    SENTENCE,
    SENTENCES,
    WHOLE,
    word_inputs,
)
from tests.builders import move

vectors = cache(learn_word_vectors)
PARTS = {WHOLE: slice(0, 48), FIRST: slice(0, 24), SECOND: slice(24, 48)}
TEXTS = {
    SENTENCE: "the function raises an exception if the list is empty".split(),
    "If zzyzx, IF else!": ["if", "zzyzx", "if", "else"],
    "": ["…"],
}


def input_of(word: str, head: str) -> np.ndarray:
    tokens = vectors().vocabulary.tokens
    number = tokens.index(word) if word in tokens else 0
    part = vectors().vectors[number].double().numpy()[PARTS[head]]
    length = np.sqrt(3 * np.sqrt(len(part)))
    return part if number == 0 else part / np.linalg.norm(part) * length


def attend(x: np.ndarray, mask: str) -> tuple[np.ndarray, np.ndarray]:
    scores = np.exp(x @ x.T / np.sqrt(x.shape[1]))
    scores = np.tril(scores) if mask == CAUSAL else scores
    weights = scores / scores.sum(axis=1, keepdims=True)
    return weights, weights @ x


@pytest.mark.parametrize("text", TEXTS, ids=["known", "unknown", "empty"])
@pytest.mark.parametrize("mask", [CAUSAL, NO_MASK])
@pytest.mark.parametrize("head", HEADS)
def test_the_picture_is_the_formula(text, mask, head):
    explorer = AttentionExplorer(vectors(), text, mask=mask, head=head)
    words = TEXTS[text]
    T, dim = len(words), 48 if head == WHOLE else 24
    known = vectors().vocabulary.tokens[1:]
    labels = tuple(word if word in known else word + "?" for word in words)
    x = np.array([input_of(word, head) for word in words])
    for changed in range(T):
        other = x.copy()
        other[changed] = -x[changed] if x[changed].any() else np.ones(dim)
        (before, output), (after, moved) = attend(x, mask), attend(other, mask)
        moved = np.linalg.norm(moved - output, axis=1) / np.linalg.norm((other - x)[changed])
        for shown, weights in ((BEFORE, before), (AFTER, after)):
            line, square, bars = move(explorer, changed=changed, weights=shown).picture.panels
            np.testing.assert_allclose(square.cells, weights, rtol=3e-4)
            assert square.title == f"T = {T}: weights {shown}"
            assert (square.columns, square.rows, square.labels) == ((changed,), (), labels)
        blocked = np.triu(np.ones((T, T)), 1) * (mask == CAUSAL)
        assert np.array_equal(square.blocked, blocked)
        np.testing.assert_allclose(bars.heights.sum(axis=0), moved, rtol=3e-4, atol=1e-6)
        assert (bars.parts, bars.labels, bars.marked) == (("past", "future"), labels, (changed,))
        assert not bars.heights[0, :changed].any()
        assert not bars.heights[1, changed:].any()
        assert (bars.heights[1, :changed] > 0).all() == (mask == NO_MASK or changed == 0)
        seen = ["plain" if mask == CAUSAL and i < changed else "seen" for i in range(T)]
        assert line.kinds == (*seen[:changed], "changed", *seen[changed + 1 :])
        assert line.words == labels
        assert line.title == f"who notices that “{labels[changed]}” has changed"


def test_the_caption_measures_the_leak():
    explorer = AttentionExplorer(vectors(), changed=2)
    words = "word 2 “raises” changed: the outputs before it move by at most "
    assert explorer.picture.caption == words + "0"
    caption = move(explorer, mask=NO_MASK).picture.caption
    largest = explorer.picture.panels[2].heights[1].max()
    assert caption.startswith(words)
    assert caption.endswith(" (a leak)")
    number = float(caption.removeprefix(words).removesuffix(" (a leak)"))
    assert number == pytest.approx(largest, rel=6e-3)


def test_the_heads_look_at_different_things():
    squares = [AttentionExplorer(vectors(), head=head).picture.panels[1].cells for head in HEADS]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(squares[one] - squares[other]).max() > 0.1


def test_every_known_word_has_the_same_score_with_itself():
    x = word_inputs(["if", "the", "zzyzx"], vectors())
    np.testing.assert_allclose((x * x).sum(1) / x.shape[1] ** 0.5, [3, 3, 0], rtol=1e-5)


def test_sliders_end_where_the_text_does_and_return():
    explorer = AttentionExplorer(vectors(), changed=7)
    move(explorer, text="only four known words")
    assert (explorer.T, explorer.changed) == (4, 3)
    move(explorer, text=SENTENCE)
    assert (explorer.T, explorer.changed) == (10, 7)
    assert move(explorer, T=5).changed == 4
    assert move(explorer, text="if " * 30, T=24).T == 24
    assert len(explorer.picture.panels[0].words) == 24
    assert move(explorer, text="?!").picture.panels[0].words == ("…?",)


def test_recorded_sentences_are_known_words():
    known = vectors().vocabulary
    assert all(word in known for text in SENTENCES for word in text.lower().split())
    assert AttentionExplorer(vectors()).text == SENTENCES[0]


def test_vectors_of_ones_own_and_those_that_no_head_can_cut():
    own = WordVectors(Vocabulary((UNKNOWN, "a", "b")), torch.tensor([[0.0], [1.0], [-1.0]]))
    explorer = AttentionExplorer(own, "a b", T=2)
    weight = np.exp(-3) / (np.exp(-3) + np.exp(3))
    cells = explorer.picture.panels[1].cells
    np.testing.assert_allclose(cells, [[1, 0], [weight, 1 - weight]], rtol=3e-4)
    with pytest.raises(ValueError, match="cannot be cut into 2 heads"):
        explorer.head = FIRST


@pytest.mark.parametrize(("name", "value"), [("T", 0), ("T", 25), ("T", 11), ("changed", 10)])
def test_numbers_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must lie between"):
        AttentionExplorer(vectors(), **{name: value})
