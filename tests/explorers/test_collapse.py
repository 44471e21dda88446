"""CollapseExplorer: products of layers, multiplied a second time, and what the lesson asks."""

import numpy as np
import pytest

from causal_lab.explorers import CollapseExplorer
from causal_lab.explorers.collapse import (
    ALONE,
    ATTENTIONS,
    PREVIOUS,
    RANDOM,
    RANDOM_LAYERS,
    RESIDUAL,
    SILENT,
    SINK,
    UNIFORM,
)
from tests.builders import move

EVERY_ATTENTION = pytest.mark.parametrize("attention", ATTENTIONS)


def row_of(attention: str, scores: np.ndarray, i: int) -> np.ndarray:
    """Write down what output i takes from each token."""
    row = np.zeros(len(scores))
    if attention in (RANDOM, RANDOM_LAYERS, UNIFORM):
        weights = np.exp(scores[i, : i + 1]) if attention != UNIFORM else np.ones(i + 1)
        row[: i + 1] = weights / weights.sum()
    elif i == 0:
        row[0] = 1
    else:
        row[i] = 0.5
        row[i - 1 if attention == PREVIOUS else 0] += 0.0 if attention == SILENT else 0.5
    return row


def expected(T, attention, path):
    scores = CollapseExplorer().scores[:, :T, :T].double().numpy()
    products = [np.eye(T)]
    for layer in range(64):
        own = scores[layer if attention == RANDOM_LAYERS else 0]
        A = np.array([row_of(attention, own, i) for i in range(T)])
        A = (A + np.eye(T)) / 2 if path == RESIDUAL else A
        products.append(A @ products[-1])
    shares = [product / product.sum(axis=1, keepdims=True) for product in products]
    distances = [share[:, 1:].sum(axis=1).max() for share in shares]
    eigenvalues = [np.diag(product)[1:].max(initial=0.0) for product in products]
    return np.array(shares), np.array([distances, eigenvalues])


@EVERY_ATTENTION
@pytest.mark.parametrize("path", [ALONE, RESIDUAL])
@pytest.mark.parametrize("T", [1, 2, 7, 24])
def test_the_picture_is_the_product(T, attention, path):
    explorer = move(CollapseExplorer(), T=T, attention=attention, path=path)
    shares, lines = expected(T, attention, path)
    for depth in (0, 1, 2, 9, 64):
        square, curves = move(explorer, depth=depth).picture.panels
        np.testing.assert_allclose(square.cells, shares[depth], rtol=3e-4, atol=1e-35)
        assert np.array_equal(square.blocked, np.triu(np.ones((T, T)), 1))
        assert not square.frames.any()
        np.testing.assert_allclose(curves.values, lines, rtol=3e-4)
        assert (curves.marked, curves.log) == (depth, True)


def test_the_lines_can_be_told_apart_where_they_are_the_same():
    curves = CollapseExplorer(attention=SINK).picture.panels[1]
    assert np.array_equal(*curves.values)
    assert (curves.names, curves.dashed) == (("distance", "2nd eigenvalue of the product"), (1,))
    assert (curves.colours, curves.label) == (("past", "second"), "distance")


def test_what_the_notebook_asks_to_see():
    def lines(**values):
        return CollapseExplorer(**values).picture.panels[1].values

    sink, silent, previous = (lines(T=16, attention=a) for a in (SINK, SILENT, PREVIOUS))
    np.testing.assert_allclose(sink[1], previous[1])  # the same eigenvalue, ...
    assert sink[0, 20] < 1e-5 < 0.97 < previous[0, 20]  # ... and another distance
    assert (silent[0] == 1).all()  # who looks at nothing is not mixed with anything
    np.testing.assert_array_equal(silent[1], sink[1])
    assert lines(T=16, attention=RANDOM_LAYERS)[0, 40] < 1e-6
    alone, residual = (int((lines(path=path)[0] > 1e-3).sum()) for path in (ALONE, RESIDUAL))
    assert alone < residual < 64


@pytest.mark.parametrize("attention", [RANDOM, RANDOM_LAYERS])
def test_random_layers_are_sliced_not_drawn_anew(attention):
    few, many = (
        CollapseExplorer(T=T, depth=3, attention=attention).picture.panels[0].cells for T in (5, 24)
    )
    np.testing.assert_allclose(few, many[:5, :5], rtol=3e-4)
    assert 1.45 < CollapseExplorer().scores.std() < 1.55  # as learned scores are


@pytest.mark.parametrize(
    ("values", "title", "row", "caption"),
    [
        (
            {"attention": SINK, "depth": 1},
            "T = 6, after 1 layer",
            5,
            "distance: token 5 (marked) has 0.5 of its weight elsewhere than on token 0; "
            "2nd eigenvalue of the product: 0.5",
        ),
        (
            {"attention": PREVIOUS, "depth": 3},
            "T = 6, after 3 layers",
            5,
            "distance: token 5 (marked) has 1 of its weight elsewhere than on token 0; "
            "2nd eigenvalue of the product: 0.12",
        ),
        (
            {"attention": SILENT, "depth": 2, "path": RESIDUAL},
            "T = 6, after 2 layers",
            5,
            "token 0's value is 0: outputs shrink, and nothing is mixed in; distance: token 5 "
            "(marked) has 1 of what is left of it elsewhere than on token 0; "
            "2nd eigenvalue of the product: 0.56",
        ),
        (
            {"attention": RANDOM, "T": 8},
            "T = 8, after 1 layer",
            5,
            "distance: token 5 (marked) has 0.97 of its weight elsewhere than on token 0; "
            "2nd eigenvalue of the product: 0.5",
        ),
    ],
)
def test_the_words_say_depth_token_and_numbers(values, title, row, caption):
    picture = CollapseExplorer(**{"T": 6} | values).picture
    assert (picture.panels[0].title, picture.panels[0].rows) == (title, (row,))
    assert picture.caption == caption


@pytest.mark.parametrize(("name", "value"), [("T", 0), ("T", 25), ("depth", -1), ("depth", 65)])
def test_numbers_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=name):
        CollapseExplorer(**{name: value})
