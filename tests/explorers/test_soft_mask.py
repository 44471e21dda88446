"""SoftMaskExplorer: what a finite depth lets through, by its formula, and what the words say."""

import math

import numpy as np
import pytest

from causal_lab.explorers import SoftMaskExplorer
from causal_lab.explorers.soft_mask import EQUAL, HARD, MAX_DEPTH, RANDOM, SOFT, WISHFUL
from tests.builders import move

DEPTHS = np.arange(MAX_DEPTH + 1)


def leaks_of(picture) -> np.ndarray:
    square = picture.panels[0]
    return (square.cells * square.blocked).sum(axis=1)


@pytest.mark.parametrize("T", [2, 7, 32])
@pytest.mark.parametrize("slope", [0, 3])
def test_at_equal_scores_rows_and_curves_are_the_formula(T, slope):
    explorer = SoftMaskExplorer(T=T, slope=slope, depth=5)
    ahead = [sum(math.exp(-slope * step) for step in range(T - t)) for t in range(1, T + 1)]
    rows = [more * math.exp(-5) / (t + more * math.exp(-5)) for t, more in enumerate(ahead, 1)]
    np.testing.assert_allclose(leaks_of(explorer.picture), rows, rtol=3e-4)
    curves = explorer.picture.panels[1]
    wanted = ahead[0] * np.exp(-DEPTHS) / (1 + ahead[0] * np.exp(-DEPTHS))  # row 0 leaks most
    np.testing.assert_allclose(curves.values[1], wanted, rtol=3e-4)
    np.testing.assert_allclose(curves.values[0, :85], wanted[:85], rtol=6e-4)
    assert (curves.values[0, 106:] == 0).all()
    assert (curves.values[1] > curves.low).all()
    assert (curves.names, curves.colours) == (("float32", "exact"), ("second", "ink"))
    assert (curves.dashed, curves.marked, curves.log) == ((1,), 5, True)


def test_the_worst_row_need_not_be_the_first_and_the_curve_meets_the_picture():
    explorer = SoftMaskExplorer(T=9, slope=2)
    worst = set()
    for scores in (EQUAL, RANDOM, WISHFUL):
        for depth in (0, 9, 77, 100, MAX_DEPTH):
            picture = move(explorer, scores=scores, depth=depth).picture
            leaks, found = leaks_of(picture), picture.panels[1].values[0, depth]
            if found > 1e-37:  # a picture's cells cannot hold less
                assert leaks.max() == pytest.approx(found, rel=6e-4, abs=0)
            assert picture.panels[0].frames.any() == (found > 0)
            single, exact = picture.panels[1].values
            np.testing.assert_allclose(single[:85], exact[:85], rtol=6e-4)
            assert (exact > picture.panels[1].low).all()
            worst.add((scores, int(leaks.argmax())))
    assert {(EQUAL, 0), (RANDOM, 1), (WISHFUL, 1)} <= worst


def test_a_wish_of_30_moves_the_curve_by_30():
    explorer = SoftMaskExplorer(T=11, scores=RANDOM)
    calm = explorer.picture.panels[1].values[1]
    eager = move(explorer, scores=WISHFUL).picture.panels[1].values[1]
    np.testing.assert_allclose(eager[30:], calm[:-30], rtol=6e-4)


def test_the_hard_mask_is_exact_and_the_soft_one_stands_behind_it_in_grey():
    for scores in (EQUAL, RANDOM, WISHFUL):
        explorer = SoftMaskExplorer(T=13, mask=HARD, scores=scores)
        square, curves = explorer.picture.panels
        assert ((square.cells == 0) == square.blocked).all()
        assert not square.frames.any()
        soft = move(explorer, mask=SOFT).picture.panels[1]
        assert (curves.values == soft.values).all()
        assert (curves.colours, curves.marked) == (("missing", "missing"), None)
        wanted = "−∞ leaks 0, which is not on this axis; grey: the soft mask at every depth"
        assert curves.title == wanted
    assert explorer.unused(**explorer.values() | {"mask": HARD}) == {"depth"}
    assert explorer.unused(**explorer.values()) == set()


def test_depth_0_is_no_mask_and_scores_are_slices_of_one_table():
    few, many = (SoftMaskExplorer(T=T, depth=0, scores=RANDOM).picture for T in (9, 32))
    odds = [p.panels[0].cells[:9, :9] / p.panels[0].cells[:9, :1] for p in (few, many)]
    np.testing.assert_allclose(*odds, rtol=1e-3)
    np.testing.assert_allclose(few.panels[0].cells.sum(1), 1, rtol=3e-4)
    assert np.log(odds[0]).std() > 0.5


@pytest.mark.parametrize(
    ("values", "title", "end", "caption"),
    [
        (
            {"depth": 0, "T": 4},
            "T = 4, depth 0: framed cells leak",
            "float32 says 0 from depth 104 on",
            "0.75 of row 0, 0.75 of the worst row, 1.5 of 4 rows; exactly 0: no; "
            "lowered, not blocked",
        ),
        (
            {"depth": 30, "T": 2},
            "T = 2, depth 30: framed cells leak",
            "float32 says 0 from depth 104 on",
            "9.36e−14 of row 0, 9.36e−14 of the worst row, 9.36e−14 of 2 rows; exactly 0: no; "
            "lowered, not blocked",
        ),
        (
            {"depth": 120, "T": 4},
            "T = 4, depth 120: hatched is exactly 0",
            "float32 says 0 from depth 104 on",
            "0 of row 0, 0 of the worst row, 0 of 4 rows; exactly 0: yes; "
            "too small for float32, with these scores",
        ),
        (
            {"depth": 110, "T": 4, "scores": WISHFUL},
            "T = 4, depth 110: framed cells leak",
            "float32 never says 0",
            "1.84e−35 of row 0, 1.72e−34 of the worst row, 1.92e−34 of 4 rows; exactly 0: no; "
            "lowered, not blocked",
        ),
        (
            {"T": 1},
            "T = 1, depth 4: hatched is exactly 0",
            "float32 says 0 from depth 0 on",
            "0 of row 0, 0 of the worst row, 0 of 1 row; exactly 0: yes; one token has no future",
        ),
    ],
)
def test_the_words_read_the_picture(values, title, end, caption):
    picture = SoftMaskExplorer(**values).picture
    assert picture.panels[0].title == title
    assert picture.panels[1].title == f"the worst row at every depth; {end}"
    assert picture.caption == f"the future gets {caption}"
    hard = move(SoftMaskExplorer(**values), mask=HARD)
    verdict = "one token has no future" if hard.T == 1 else "−∞ blocks, whatever the scores"
    assert hard.picture.caption.endswith(f"exactly 0: yes; {verdict}")
