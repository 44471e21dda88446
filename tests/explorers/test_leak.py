"""LeakExplorer: five ways to hide the future, written out a second time, and what a push does."""

import numpy as np
import pytest

from causal_lab.explorers import LeakExplorer
from tests.builders import move

NOTHING, BEFORE, AFTER = "nothing", "score × 0, then softmax", "softmax, then weight × 0"
RENORMALISED, RIGHT = "softmax, × 0, renormalise", "score = −∞, then softmax"
ZERO, RANDOM, ONE_TWO = "all zero", "random", "1, 2, then zeros"


def softmax(scores):
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


FORMULAS = {
    NOTHING: lambda s, past: softmax(s),
    BEFORE: lambda s, past: softmax(np.where(past, s, 0)),
    AFTER: lambda s, past: np.where(past, softmax(s), 0),
    RENORMALISED: lambda s, past: np.where(past, softmax(s), 0) / softmax(s)[past].sum(),
    RIGHT: lambda s, past: softmax(np.where(past, s, -np.inf)),
}


def scores_of(explorer, kind, T):
    known = {ZERO: np.zeros(64), ONE_TWO: np.array([1.0, 2.0, *[0] * 62])}
    return known[kind][:T] if kind in known else explorer.drawn[kind].double().numpy()[:T]


@pytest.mark.parametrize(
    ("T", "t", "push"), [(1, 1, 3), (3, 2, 0), (8, 3, 2), (9, 9, 5), (64, 9, 0)]
)
@pytest.mark.parametrize("scores", [ZERO, RANDOM, ONE_TWO])
@pytest.mark.parametrize("way", FORMULAS)
def test_the_bars_are_the_formula(way, scores, T, t, push):
    explorer = LeakExplorer(T=T, t=t, way=way, scores=scores, push=push)
    bars, column = explorer.picture.panels
    numbers, past = scores_of(explorer, scores, T), np.arange(T) < t
    numbers[-1] += push
    wanted, right = (FORMULAS[one](numbers, past) for one in (way, RIGHT))
    np.testing.assert_allclose(bars.heights, [wanted * past, wanted * ~past], rtol=3e-4)
    np.testing.assert_allclose(bars.outline, right, rtol=3e-4)
    assert (bars.parts, column.parts) == (("past", "future"), ("past", "future", "missing"))
    added = f", the last score + {push}" if push else ""
    assert bars.title == f"T = {T}, {t} visible{added}; grey outline: what −∞ gives"
    assert (bars.root, column.root) == (True, False)
    sums = [wanted[past].sum(), wanted[~past].sum(), 1 - wanted.sum()]
    np.testing.assert_allclose(column.heights[:, 0], sums, rtol=3e-4, atol=1e-6)
    assert (column.heights[2] == 0) == (way != AFTER or t == T)
    assert explorer.picture.caption == (
        f"weight on the future {sums[1]:.3f}; sum of all weights {wanted.sum():.3f}; "
        f"farthest from what −∞ gives {abs(wanted - right).max():.3f}"
    )


def test_random_scores_are_drawn_once_and_sliced():
    few, many = (LeakExplorer(T=T, way=NOTHING, scores=RANDOM).picture.panels[0] for T in (5, 64))
    few, many = few.heights.sum(0), many.heights.sum(0)
    np.testing.assert_allclose(few / few[0], many[:5] / many[0], rtol=6e-4)
    assert np.log(many).std() > 0.5
    assert len(np.unique(many)) > 60


@pytest.mark.parametrize("scores", [ZERO, RANDOM, ONE_TWO])
@pytest.mark.parametrize("push", [0, 3, 200])
def test_only_minus_infinity_holds_against_any_push(push, scores):
    def past(way, push):
        explorer = LeakExplorer(way=way, scores=scores, push=push)
        return explorer.picture.panels[0].heights[0, : explorer.t]

    holds = {way for way in FORMULAS if np.array_equal(past(way, push), past(way, 0))}
    assert RIGHT in holds
    # The push is multiplied away with the score; what leaks there leaks in any case.
    assert {NOTHING, AFTER} & holds == ({NOTHING, AFTER} if push == 0 else set())
    assert np.isnan(past(RENORMALISED, push)).all() == (push == 200)


@pytest.mark.parametrize(
    ("push", "past"),
    [
        *[(0, (0.269, 0.731)), (50, (0.269, 0.731)), (103, (2 / 7, 5 / 7)), (104, (0.2, 0.8))],
        *[(105, (0, 1)), (106, (np.nan, np.nan)), (200, (np.nan, np.nan))],
    ],
)
def test_renormalising_is_wrong_before_it_breaks(push, past):
    """Float32 counts in steps of 2⁻¹⁴⁹ down there: e⁻¹⁰³ is one of them, e⁻¹⁰⁴ none."""
    explorer = LeakExplorer(T=3, t=2, way=RENORMALISED, scores=ONE_TWO, push=push)
    bars, column = explorer.picture.panels
    np.testing.assert_allclose(bars.heights[0, :2], past, rtol=1e-3)
    np.testing.assert_allclose(bars.outline, [0.269, 0.731, 0], atol=1e-3)
    broken = push > 105
    sums = [np.nan, np.nan, 0] if broken else [1, 0, 0]
    np.testing.assert_array_equal(column.heights[:, 0], sums)
    nan = "every weight is NaN, 0/0: the future took all there was"
    assert (explorer.picture.caption == nan) == broken


def test_as_many_are_visible_as_there_are():
    explorer = move(LeakExplorer(), t=64)
    assert explorer.t == 8
    assert move(explorer, T=4).t == 4
    assert move(explorer, T=9).t == 9
    with pytest.raises(ValueError, match="t must lie between 1 and 64, got 65"):
        LeakExplorer(t=65)
    with pytest.raises(ValueError, match="push must be one of"):
        LeakExplorer(push=4)
