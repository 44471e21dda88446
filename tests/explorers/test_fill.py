"""FillExplorer: a fill in three dtypes, written out a second time, cell by cell."""

import numpy as np
import pytest
import torch

from causal_lab.explorers import FillExplorer
from tests.builders import move

FILLS = ("0", "-1", "-5", "-10", "-20", "-100", "-1e4", "-1e9", "lowest finite", "-inf")
DTYPES = ("float32", "bfloat16", "float16")
RAW, ZEROS = "as softmax gives them", "zeros"


def softmax(row):
    """Weigh one row in float64; a row of nothing but −∞ gives NaN."""
    if row.max() == -np.inf:
        return np.full(row.shape, np.nan)
    powers = np.exp(row - row.max())
    return powers / powers.sum()


def by_hand(explorer, T, fill, wish, pads, dtype, dead):
    number = getattr(torch, dtype)
    value = torch.finfo(number).min if fill == "lowest finite" else float(fill)
    M = torch.tensor(value, dtype=torch.float64).to(number)
    sums, blocked = explorer.scores[:T, :T].clone(), np.zeros((T, T), dtype=bool)
    for query in range(T):
        blocked[query, query + 1 :] = blocked[query, :pads] = True
        sums[query, blocked[query]] += wish
    sums = sums.to(number)
    for query in range(T):
        sums[query, query + 1 :] += M
        sums[query, :pads] += M
    weights = np.array([softmax(row) for row in sums.double().numpy()])
    if dead == ZEROS:
        weights[:pads] = 0
    return weights, blocked


@pytest.mark.parametrize(
    ("T", "wish", "pads", "dead"),
    [(1, 0, 1, RAW), (2, 50, 0, RAW), (6, 0, 2, ZEROS), (8, 3, 3, RAW), (32, 9, 8, RAW)],
)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fill", FILLS)
def test_the_cells_are_the_formula(fill, dtype, T, wish, pads, dead):
    values = {"T": T, "fill": fill, "wish": wish, "pads": pads, "dtype": dtype, "dead": dead}
    explorer = FillExplorer(**values)
    (square,) = explorer.picture.panels
    weights, blocked = by_hand(explorer, **values)
    # One rounding of the dtype itself, and 16 bits have no smaller number than 6e-8 or so.
    precise = {"float32": 3e-4, "bfloat16": 1e-2, "float16": 2e-3}[dtype]
    tiny = {"float32": 1e-38, "bfloat16": 1e-38, "float16": 1e-7}[dtype]
    np.testing.assert_allclose(square.cells, weights, rtol=precise, atol=tiny)
    np.testing.assert_array_equal(square.blocked, blocked)
    assert (square.frames[blocked & (square.cells > 0)] == 1).all()
    assert not square.frames[~blocked | ~(weights > 1e-46)].any()
    assert square.numbers
    if fill == "-inf":
        assert not np.nan_to_num(square.cells[square.blocked > 0]).any()
    broken = int(np.isnan(weights).any(1).sum())
    caption = explorer.picture.caption
    assert f"; rows of NaN: {broken}; gradient finite: {'no' if broken else 'yes'}" in caption
    twice = f"rows 0 to {pads - 2}" if pads > 2 else "row 0"
    assert caption.endswith(f"; in {twice}, padding ahead got the fill twice") == (
        pads > 1 and dead == RAW
    )


@pytest.mark.parametrize(
    ("dtype", "fill", "added"),
    [
        *[("float32", "-5", "−5"), ("float32", "-1e9", "−1e9"), ("float32", "-inf", "−∞")],
        *[("float32", "lowest finite", "−3.4e38"), ("bfloat16", "-1e4", "−9.98e3")],
        *[("float16", "-1e4", "−1e4"), ("float16", "-1e9", "−∞")],
        ("float16", "lowest finite", "−6.55e4"),
    ],
)
def test_the_title_says_what_was_added_in_that_dtype(dtype, fill, added):
    (square,) = FillExplorer(dtype=dtype, fill=fill).picture.panels
    assert square.title == f"T = 8, {dtype}, blocked scores + ({added}): orange frames are leaks"


def test_the_caption_is_the_largest_leak_a_wish_makes():
    explorer = FillExplorer()
    for wish, leak in ((0, "0.053"), (5, "0.39"), (10, "0.84"), (50, "1")):
        move(explorer, wish=wish)
        wanted = f"largest weight on a blocked key {leak}; rows of NaN: 0; gradient finite: yes"
        assert explorer.picture.caption == wanted
    assert " key 1.5e−8; " in move(explorer, wish=0, fill="-20", T=2).picture.caption


def test_two_lowest_masks_add_up_to_minus_infinity():
    explorer = FillExplorer(T=4, pads=2, fill="lowest finite")
    assert (explorer.picture.panels[0].cells[0] > 0).tolist() == [True, False, True, True]
    move(explorer, pads=4)
    assert explorer.picture.panels[0].cells[0].tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("pads", [1, 8])
def test_zeros_for_dead_rows_are_finite_backward_too(fill, pads):
    explorer = FillExplorer(fill=fill, pads=pads, dead=ZEROS, dtype="float16")
    assert not explorer.picture.panels[0].cells[:pads].any()
    assert "rows of NaN: 0; gradient finite: yes" in explorer.picture.caption


def test_without_padding_no_row_is_dead_and_padding_ends_with_the_text():
    explorer = FillExplorer(pads=8)
    assert explorer.unused(**explorer.values()) == set()
    assert move(explorer, T=3).pads == 3
    assert move(explorer, pads=0).unused(**explorer.values()) == {"dead"}
    with pytest.raises(ValueError, match="fill must be one of"):
        FillExplorer(fill="-7")


def test_scores_are_drawn_once_and_sliced():
    few, many = (FillExplorer(T=T, fill="-inf").picture.panels[0].cells for T in (5, 32))
    np.testing.assert_allclose(few, many[:5, :5], rtol=3e-4)
    assert len(np.unique(many)) > 500
