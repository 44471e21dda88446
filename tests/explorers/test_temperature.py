"""SoftmaxExplorer: axis, temperature and shift, written out a second time."""

import numpy as np
import pytest

from causal_lab.explorers import SoftmaxExplorer
from tests.builders import move

BY_ROW, BY_COLUMN = "row by row (right)", "column by column (wrong)"
TEMPERATURES = SoftmaxExplorer().controls()["temperature"].shown["values"]


def softmax(row):
    powers = np.exp(row - row.max())
    return powers / powers.sum()


def weigh(scores, temperature, axis):
    open_to = np.tri(len(scores), dtype=bool)
    square = np.where(open_to, scores / temperature, -np.inf)
    if axis == BY_ROW:
        return np.array([softmax(query) for query in square])
    return np.array([softmax(key) for key in square.T]).T


def entropy_of(row):
    """Sum −w ln w over a row made to sum to 1."""
    shares = row[row > 0] / row.sum()
    return -(shares * np.log(shares)).sum() + 0.0


@pytest.mark.parametrize(("T", "row"), [(1, 0), (2, 1), (8, 5), (17, 2), (64, 63)])
@pytest.mark.parametrize("temperature", [0.01, 0.2, 1.0, 100.0])
@pytest.mark.parametrize("axis", [BY_ROW, BY_COLUMN])
def test_the_picture_is_the_formula(axis, temperature, T, row):
    explorer = SoftmaxExplorer(T=T, temperature=temperature, axis=axis, row=row, shift=2)
    square, curve, bars = explorer.picture.panels
    scores = explorer.scores.numpy()[:T, :T] + 2
    changed = scores.copy()
    changed[T - 1, :] += 2
    changed[:, T - 1] -= 2
    weights = weigh(scores, temperature, axis)
    moved = abs(weigh(changed, temperature, axis) - weights)
    np.testing.assert_allclose(square.cells, weights, rtol=3e-4, atol=1e-38)
    np.testing.assert_array_equal(square.blocked, ~np.tri(T, dtype=bool))
    assert not square.cells[square.blocked > 0].any()
    frames = np.where(np.arange(T) == T - 1, 3, 1)[:, None] * (moved >= 0.0005)
    np.testing.assert_array_equal(square.frames, frames)
    assert square.rows == (row,)
    assert square.right == tuple(f"{total:.2f}" for total in weights.sum(1))
    assert square.above == tuple(f"{total:.2f}" for total in weights.sum(0))
    np.testing.assert_array_equal(bars.heights[0], square.cells[row])
    seen = np.where(np.arange(T) <= row, scores[row], np.nan)
    np.testing.assert_allclose(curve.values[0], seen, rtol=3e-4)
    spread, earlier = entropy_of(weights[row]), moved[:-1].max(initial=0)
    assert explorer.picture.caption == (
        f"query {row}: sum {weights[row].sum():.3f}, entropy {spread:.2f} nats, like "
        f"{np.exp(spread):.1f} equal keys. Last token changed: earlier rows move by {earlier:.3f}"
    )


@pytest.mark.parametrize("T", [2, 8, 33])
@pytest.mark.parametrize("temperature", TEMPERATURES[::10])
def test_only_the_wrong_axis_lets_the_last_token_move_earlier_rows(temperature, T):
    explorer = SoftmaxExplorer(T=T, temperature=temperature)
    assert explorer.picture.caption.endswith("earlier rows move by 0.000")
    assert not explorer.picture.panels[0].frames[:-1].any()
    move(explorer, axis=BY_COLUMN)
    assert not explorer.picture.caption.endswith("earlier rows move by 0.000")
    assert (explorer.picture.panels[0].frames[:-1] == 1).any()


@pytest.mark.parametrize("temperature", TEMPERATURES[::8])
@pytest.mark.parametrize("axis", [BY_ROW, BY_COLUMN])
def test_a_shift_moves_the_scores_and_nothing_else_to_the_last_bit(axis, temperature):
    explorer = SoftmaxExplorer(T=16, temperature=temperature, axis=axis)
    square, curve, bars = explorer.picture.panels
    for shift in (-5, -1, 3, 5):
        shifted = move(explorer, shift=shift).picture
        for name in ("cells", "blocked", "frames"):
            assert np.array_equal(getattr(shifted.panels[0], name), getattr(square, name))
        assert (shifted.panels[0].right, shifted.panels[0].above) == (square.right, square.above)
        assert np.array_equal(shifted.panels[2].heights, bars.heights)
        there = ~np.isnan(curve.values)
        moved = shifted.panels[1].values[there] - curve.values[there]
        np.testing.assert_allclose(moved, shift, atol=3e-3)


def test_every_score_has_room_at_every_shift():
    for shift in (-5, 5):
        curve = SoftmaxExplorer(T=64, shift=shift).picture.panels[1]
        assert curve.low < SoftmaxExplorer().scores.min() + shift
        assert curve.high > SoftmaxExplorer().scores.max() + shift


@pytest.mark.parametrize("T", range(1, 65, 3))
def test_entropy_is_a_number_even_where_a_row_lost_nearly_all_its_weight(T):
    explorer = SoftmaxExplorer(T=T, axis=BY_COLUMN, temperature=0.01)
    for row in range(0, T, 3):
        assert "nan" not in move(explorer, row=row).picture.caption


def test_the_steps_of_the_temperature_and_the_end_of_the_row():
    assert len(TEMPERATURES) == len(set(TEMPERATURES)) == 81
    np.testing.assert_allclose(np.log10(TEMPERATURES), np.arange(-40, 41) / 20, atol=0.03)
    assert {0.01, 0.1, 0.5, 1.0, 2.0, 10.0, 100.0} <= set(TEMPERATURES)
    explorer = SoftmaxExplorer(T=8, row=7)
    assert move(explorer, T=4).row == 3
    assert move(explorer, T=9).row == 7
    with pytest.raises(ValueError, match="temperature must be one of"):
        SoftmaxExplorer(temperature=0.3333)


def test_scores_are_drawn_once_and_sliced():
    few, many = (SoftmaxExplorer(T=T).picture.panels[0].cells for T in (5, 64))
    np.testing.assert_allclose(few, many[:5, :5], rtol=3e-4)
