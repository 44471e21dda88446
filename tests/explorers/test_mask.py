"""MaskExplorer: the square, the sentence, and the numbers under them, written out a second time."""

import pytest

from causal_lab.explorers import MaskExplorer
from causal_lab.explorers.menu import CAUSAL, NO_MASK
from tests.builders import move

WORDS = tuple("a model that can see the next word".split())


@pytest.mark.parametrize(("T", "position"), [(1, 0), (2, 1), (5, 0), (8, 7)])
@pytest.mark.parametrize("mask", [CAUSAL, NO_MASK])
def test_the_picture_is_the_rule(T, position, mask):
    explorer = move(MaskExplorer(tokens=WORDS), T=T, position=position, mask=mask)
    line, square = explorer.picture.panels
    blocked = [[mask == CAUSAL and key > query for key in range(T)] for query in range(T)]
    assert square.blocked.tolist() == blocked
    assert square.cells is None
    assert (square.labels, square.rows, square.dim) == (WORDS[:T], (position,), True)
    assert line.kinds == tuple("hidden" if hidden else "seen" for hidden in blocked[position])
    assert (line.words, line.ring) == (WORDS[:T], position)
    assert explorer.picture.caption == (
        f"query {position} “{WORDS[position]}” sees {T - sum(blocked[position])} of {T} tokens; "
        f"blocked cells: {sum(map(sum, blocked))} of {T * T}"
    )


def test_without_words_there_is_no_sentence_and_rows_have_numbers():
    (square,) = MaskExplorer(T=3).picture.panels
    assert square.labels is None
    assert MaskExplorer(T=3).picture.caption.startswith("query 2 sees 3 of 3 tokens")


def test_the_words_end_the_slider_and_the_query_follows_the_text():
    explorer = MaskExplorer(tokens=WORDS)
    move(explorer, T=512, position=511)
    assert (explorer.T, explorer.position) == (8, 7)
    assert move(explorer, T=3).position == 2
    assert move(explorer, T=6).position == 5


def test_more_tokens_than_words_are_refused():
    with pytest.raises(ValueError, match="T must lie between 1 and 8, got 9"):
        MaskExplorer(tokens=WORDS, T=9)
