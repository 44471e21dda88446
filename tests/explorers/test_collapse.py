"""The explorer of the collapse, and what its pictures are meant to show.

That every move shows what the formula says, and that pixels follow numbers, is held with all
other explorers in test_widgets.py.
"""

import numpy as np
import pytest
import torch

from causal_lab.attention.spectral import is_causal_attention, leaking_cuts
from causal_lab.explorers import CollapseExplorer
from causal_lab.explorers.canvas import HeatPanel, _ink
from causal_lab.explorers.collapse import (
    ALONE,
    MAX_DEPTH,
    MAX_TOKENS,
    PREVIOUS,
    RANDOM,
    RANDOM_LAYERS,
    RESIDUAL,
    SINK,
    UNIFORM,
    CollapseState,
    chosen_layers,
    collapse_state,
)

KINDS = [RANDOM, RANDOM_LAYERS, UNIFORM, SINK, PREVIOUS]
EVERY_KIND = pytest.mark.parametrize("attention", KINDS)
EVERY_PATH = pytest.mark.parametrize("path", [ALONE, RESIDUAL])

pytestmark = pytest.mark.filterwarnings("ignore:The `ipykernel.comm.Comm` class:DeprecationWarning")


def shown(T: int, depth: int, attention: str, path: str = ALONE) -> CollapseExplorer:
    explorer = CollapseExplorer()
    values = {"T": T, "depth": depth, "attention": attention, "path": path}
    for name, value in values.items():
        explorer.controls[name].value = value
    return explorer


def test_the_menus_are_known_here():
    explorer = CollapseExplorer()
    assert list(explorer.controls["attention"].options) == KINDS
    assert list(explorer.controls["path"].options) == [ALONE, RESIDUAL]


@EVERY_KIND
@pytest.mark.parametrize("T", [1, 2, 7, MAX_TOKENS])
def test_every_layer_is_causal_attention(T, attention):
    layers = chosen_layers(T, attention, CollapseExplorer().scores)
    assert layers.shape == (MAX_DEPTH, T, T)
    assert layers.dtype == torch.float64
    for A in layers:
        assert is_causal_attention(A)
    differ = not torch.equal(layers[0], layers[-1])
    assert differ == (attention == RANDOM_LAYERS and T > 1)


@EVERY_KIND
@EVERY_PATH
@pytest.mark.parametrize("T", [2, 11])
def test_nothing_in_the_menus_breaks_causality_and_the_distance_never_grows(T, attention, path):
    scores = CollapseExplorer().scores
    for depth in (0, 1, 5, MAX_DEPTH):
        state = collapse_state(T, depth, attention, path, scores)
        assert leaking_cuts(torch.from_numpy(state.product)) == []
        np.testing.assert_allclose(state.product.sum(axis=1), 1)
        weights = state.product[:, 1:].sum(axis=1)
        assert state.distances[depth] == pytest.approx(weights.max(), abs=1e-12)
    assert state.distances[0] == 1
    assert (np.diff(state.distances) <= 1e-12).all()
    assert (state.eigenvalues <= state.distances + 1e-12).all()


@EVERY_KIND
def test_the_residual_path_is_slower(attention):
    scores = CollapseExplorer().scores
    alone, residual = (
        collapse_state(12, 20, attention, path, scores) for path in (ALONE, RESIDUAL)
    )
    assert (residual.eigenvalues[1:] > alone.eigenvalues[1:]).all()
    assert residual.distances[20] > alone.distances[20]


def test_what_the_notebook_asks_to_see():
    """Same orange line, another blue one; and layers that differ collapse all the same."""
    sink, previous = (shown(16, 20, kind).state for kind in (SINK, PREVIOUS))
    np.testing.assert_allclose(sink.eigenvalues, previous.eigenvalues)
    np.testing.assert_allclose(sink.distances, sink.eigenvalues)
    assert previous.distances[20] > 0.97
    assert shown(16, 40, RANDOM_LAYERS).state.distances[40] < 1e-6
    below = [
        int((shown(8, 1, RANDOM, path).state.distances > 1e-3).sum()) for path in (ALONE, RESIDUAL)
    ]
    assert below[0] < below[1] <= MAX_DEPTH


@pytest.mark.parametrize("T", [1, 5, MAX_TOKENS - 1])
@pytest.mark.parametrize("attention", [RANDOM, RANDOM_LAYERS])
def test_random_layers_are_sliced_not_drawn_anew(T, attention):
    few, many = (shown(length, 3, attention).state.product for length in (T, MAX_TOKENS))
    np.testing.assert_allclose(few, many[:T, :T], rtol=1e-10)


def test_the_slowest_token_is_the_last_of_those_with_most_weight_elsewhere():
    product = np.array([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25, 0, 0.75, 0], [0.25, 0.75, 0, 0]])
    ones = np.ones(2)
    assert CollapseState(product, ones, ones, 1).slowest == 3
    assert CollapseState(product[:3, :3], ones, ones, 1).slowest == 2
    assert CollapseState(product[:2, :2], ones, ones, 1).slowest == 1
    assert CollapseState(np.ones((1, 1)), ones, ones, 0).slowest == 0


def words_of(explorer, monkeypatch) -> tuple[list[str], str]:
    seen = {}
    with monkeypatch.context() as patch:
        patch.setattr(explorer.canvas, "paint", lambda *_, **words: seen.update(words))
        explorer.paint(explorer.state)
    return seen["titles"], seen["caption"]


def test_the_words_say_depth_token_and_numbers(monkeypatch):
    titles, caption = words_of(shown(6, 1, SINK), monkeypatch)
    assert titles == ["T = 6, after 1 layer", "how far from a collapse"]
    assert caption == (
        "distance: token 5 (marked) has 0.5 of its weight elsewhere than on token 0; "
        "2nd eigenvalue: 0.5"
    )
    titles, caption = words_of(shown(6, 3, SINK, RESIDUAL), monkeypatch)
    assert titles[0] == "T = 6, after 3 layers"
    assert "has 0.42 of" in caption
    assert words_of(shown(6, 0, SINK), monkeypatch)[0][0] == "T = 6, after 0 layers"
    caption = words_of(shown(6, 3, PREVIOUS), monkeypatch)[1]
    assert "has 1 of" in caption
    assert caption.endswith("2nd eigenvalue: 0.12")


def test_the_curves_are_marked_at_the_depth(monkeypatch):
    explorer, seen = shown(6, 3, PREVIOUS), []
    monkeypatch.setattr(explorer.canvas, "paint", lambda contents, **_: seen.extend(contents))
    explorer.paint(explorer.state)
    assert (seen[1].marked, seen[1].first) == (3, 0)
    assert explorer.canvas.panels[1].axis == "depth"
    assert explorer.canvas.panels[1].names == ("distance", "2nd eigenvalue")


def test_random_scores_are_spread_as_learned_ones_are():
    assert 1.45 < CollapseExplorer().scores.std() < 1.55


@EVERY_KIND
def test_the_words_fit_into_the_picture(attention, monkeypatch):
    explorer, texts = shown(MAX_TOKENS, 63, attention), []

    def look(target, text, x, y, **options):
        texts.append((text, x, options))

    with monkeypatch.context() as patch:
        patch.setattr("causal_lab.explorers.canvas._write", look)
        patch.setattr(HeatPanel, "paint", lambda *_: None)
        explorer.paint(explorer.state)
    assert texts
    for text, x, options in texts:
        if options.get("align") == "left":
            assert x + _ink(text, options.get("size", 12)).shape[1] <= explorer.canvas.width, text


@pytest.mark.parametrize(("name", "value"), [("T", 0), ("T", 25), ("depth", -1), ("depth", 65)])
def test_numbers_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=name):
        CollapseExplorer(**{name: value})
