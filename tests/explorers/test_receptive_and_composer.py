"""The explorers of the zoo of masks: what they say, and that it fits into the picture."""

import numpy as np
import pytest

from causal_lab.explorers import ComposerExplorer, ReceptiveExplorer
from causal_lab.explorers.canvas import HeatPanel, _ink
from causal_lab.explorers.composer import MASKS, OPERATORS, composer_state
from causal_lab.explorers.composer import MAX_TOKENS as MAX_COMPOSED
from causal_lab.explorers.receptive import (
    DOUBLING,
    MAX_LAYERS,
    MAX_TOKENS,
    MAX_WINDOW,
    PATTERNS,
    WINDOW,
    receptive_state,
)
from tests.builders import move

# ipywidgets 7, which Colab has, asks ipykernel for its old Comm; a new ipykernel minds.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The `ipykernel.comm.Comm` class:DeprecationWarning"),
    pytest.mark.usefixtures("one_thread"),
]


def words_of(explorer, monkeypatch):
    """List titles and caption of the present picture."""
    texts = []
    with monkeypatch.context() as patch:
        patch.setattr(
            explorer.canvas,
            "paint",
            lambda _, *, titles, caption: texts.extend([*titles, caption]),
        )
        explorer.paint(explorer.state)
    return texts


def fits(explorer, monkeypatch):
    """Titles end before the next title begins, and the caption before the picture does."""
    texts = []

    def look(target, text, x, y, **options):
        if options.get("align") == "left":
            texts.append((x, x + _ink(text, options["size"]).shape[1], y, text))

    with monkeypatch.context() as patch:
        patch.setattr("causal_lab.explorers.canvas._write", look)
        patch.setattr(HeatPanel, "paint", lambda *_: None)
        explorer.paint(explorer.state)
    titles = sorted(text for text in texts if text[2] < 30)
    starts = [title[0] for title in titles[1:]] + [explorer.canvas.width]
    for (_, end, _, text), start in zip(titles, starts, strict=True):
        assert end < start, text
    assert all(end <= explorer.canvas.width for _, end, *_ in texts)


@pytest.mark.parametrize("first", MASKS)
def test_the_words_of_a_composition_fit_into_the_picture(first, monkeypatch):
    explorer = move(ComposerExplorer(24), first_size=12, second_size=12, layers=6, first=first)
    for second in MASKS:
        move(explorer, second=second)
        for operator in OPERATORS:
            fits(move(explorer, operator=operator), monkeypatch)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_words_of_a_reach_fit_into_the_picture(pattern, monkeypatch):
    explorer = move(
        ReceptiveExplorer(MAX_TOKENS, MAX_LAYERS, MAX_WINDOW), pattern=pattern, dilation=8
    )
    fits(explorer, monkeypatch)


def test_a_reach_is_read_out(monkeypatch):
    words = words_of(ReceptiveExplorer(T=32, layers=3, window=4), monkeypatch)
    assert words[1] == "after 3: what each output hangs on"
    assert words[2] == "output 31 hangs on 10 of 32 tokens; a long text: 1 + 3 · (4 − 1) = 10"


def test_a_composition_is_read_out(monkeypatch):
    explorer = ComposerExplorer(T=4)
    move(explorer, operator="A & B", second_size=2)
    assert words_of(explorer, monkeypatch) == [
        "A: window of 5",
        "B: documents of 2",
        "A & B",
        "25% blocked; 2 pairs see the future (framed); 0 queries see nothing (bars); "
        "2 layers reach 75% of all pairs",
    ]
    move(explorer, operator="A | B", second="n of padding", layers=1)
    assert words_of(explorer, monkeypatch)[3].startswith("81% blocked; 0 pairs")
    assert "2 queries see nothing (bars); 1 layer reach" in words_of(explorer, monkeypatch)[3]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("T", [1, 2, 13, MAX_TOKENS])
def test_more_layers_never_lose_a_token_and_never_see_the_future(pattern, T):
    before = np.eye(T, dtype=bool)
    for layers in range(1, MAX_LAYERS + 1):
        state = receptive_state(T, layers, pattern, 3, 2)
        assert (state.needed[before] > 0).all()
        assert not np.triu(state.needed, 1).any()
        before = state.needed > 0


@pytest.mark.parametrize(("pattern", "seen"), [(WINDOW, 1 + 3 * 3), (DOUBLING, 1 + 3 * 7)])
def test_the_formula_is_what_is_seen_in_a_long_text(pattern, seen):
    state = receptive_state(MAX_TOKENS, 3, pattern, 4, 1)
    assert state.seen == seen
    assert state.formula.endswith(f"= {seen}")


@pytest.mark.parametrize("name", MASKS)
def test_every_mask_can_be_composed_at_every_size(name):
    for T in (1, 2, MAX_COMPOSED):
        for size in (1, 5, 12):
            state = composer_state(T, name, size, "A | B", name, size, 1)
            assert state.combined.shape == (T, T)
            assert np.array_equal(state.combined, state.first)


@pytest.mark.parametrize(("T", "layers", "window"), [(0, 3, 4), (65, 3, 4), (9, 9, 4), (9, 1, 17)])
def test_a_reach_out_of_range_is_refused(T, layers, window):
    with pytest.raises(ValueError, match="must lie between"):
        ReceptiveExplorer(T, layers, window)


@pytest.mark.parametrize("T", [0, 25, 2.5, "8"])
def test_a_composition_out_of_range_is_refused(T):
    with pytest.raises(ValueError, match="T, number of tokens must lie between 1 and 24"):
        ComposerExplorer(T)


def test_a_control_that_changes_nothing_is_greyed_out():
    explorer = ComposerExplorer()
    assert not any(control.disabled for control in explorer.controls.values())
    move(explorer, first="causal", operator="A")
    idle = {name for name, control in explorer.controls.items() if control.disabled}
    assert idle == {"first_size", "second", "second_size"}
    move(explorer, first="documents of n", operator="A | B", second="causal")
    idle = {name for name, control in explorer.controls.items() if control.disabled}
    assert idle == {"second_size"}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_slider_of_the_reach_is_idle_exactly_if_it_is_greyed_out(pattern):
    explorer = move(ReceptiveExplorer(), pattern=pattern)
    for name, others in {"window": (2, 5), "dilation": (1, 3)}.items():
        pictures = {move(explorer, **{name: value}).image.value for value in others}
        assert (len(pictures) == 1) == explorer.controls[name].disabled
