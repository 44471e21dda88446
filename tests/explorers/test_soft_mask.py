"""What the explorers of soft masks say: numbers, words, verdicts, and which cells are framed.

That every move shows what the formula says, and the same again, stands in test_widgets.py.
"""

import math

import numpy as np
import pytest
import torch

from causal_lab.explorers import SoftMaskExplorer, SpanExplorer
from causal_lab.explorers import soft_mask as soft_mask_module
from causal_lab.explorers import span as span_module
from causal_lab.explorers.canvas import _LEFT, _TITLE, FUTURE, HATCH, PAST, Curves, HeatPanel, _ink
from causal_lab.explorers.soft_mask import HARD, MAX_DEPTH, SOFT, WISHFUL, soft_mask_state
from causal_lab.explorers.span import GATES, MAX_RAMP, span_state
from causal_lab.masks.rules import generate_causal_mask, generate_sliding_window_mask
from causal_lab.masks.soft import soft_leak, span_gate
from tests.builders import move

# ipywidgets 7, which Colab has, asks ipykernel for its old Comm; a new ipykernel minds.
pytestmark = pytest.mark.filterwarnings("ignore:The `ipykernel.comm.Comm` class:DeprecationWarning")

NO_SCORES = torch.zeros(32, 32)


def words_of(explorer, monkeypatch) -> tuple[list[str], str]:
    """Ask for the titles and the caption of the present picture."""
    words = []
    with monkeypatch.context() as patch:
        patch.setattr(
            explorer.canvas, "paint", lambda _, titles, caption: words.extend([titles, caption])
        )
        explorer.paint(explorer.state)
    return words[0], words[1]


def fits(explorer, monkeypatch) -> None:
    """Titles end before the next panel's begins, and the caption before the picture does."""
    texts = []
    with monkeypatch.context() as patch:
        patch.setattr(
            "causal_lab.explorers.canvas._write", lambda *args, **kw: texts.append((args, kw))
        )
        patch.setattr(HeatPanel, "paint", lambda *_: None)
        explorer.paint(explorer.state)
    ends = [args[2] + _ink(args[1], kw.get("size", 12)).shape[1] for args, kw in texts]
    titles = [i for i, (args, kw) in enumerate(texts) if kw.get("size") == 14]
    assert len(titles) == 2
    assert ends[titles[0]] < texts[titles[1]][0][2]
    assert max(end for end, (_, kw) in zip(ends, texts, strict=True) if "size" in kw) <= (
        explorer.canvas.width
    )


# --- the soft mask


@pytest.mark.parametrize("T", [1, 2, 7, 32])
def test_every_row_of_equal_scores_leaks_what_the_formula_says(T):
    for depth in (0, 1, 5, 40):
        rows = soft_mask_state(T, float(depth), 0, NO_SCORES).rows
        wanted = [soft_leak(T, t, depth) for t in range(1, T + 1)]
        np.testing.assert_allclose(rows, wanted, rtol=1e-5)


@pytest.mark.parametrize("T", [2, 7, 32])
def test_the_curves_are_the_formula_at_every_depth_and_float32_comes_to_its_end(T):
    state = soft_mask_state(T, 3.0, 0, NO_SCORES)
    wanted = np.array([soft_leak(T, 1, depth) for depth in range(MAX_DEPTH + 1)])
    np.testing.assert_allclose(state.exact, wanted, rtol=1e-9)
    np.testing.assert_allclose(state.leaks[:85], wanted[:85], rtol=1e-4)
    assert (state.leaks[106:] == 0).all()
    assert (np.diff(state.exact) < 0).all()
    assert state.exact[-1] > soft_mask_module._LOWEST


@pytest.mark.parametrize("scores", SoftMaskExplorer().scores)
@pytest.mark.parametrize("slope", [0, 1, 10])
def test_the_exact_curve_stays_on_the_axis(scores, slope):
    for T in (2, 3, 8, 32):
        exact = move(SoftMaskExplorer(), T=T, slope=slope, scores=scores).state.exact
        assert (exact > soft_mask_module._LOWEST).all()
        assert (exact <= 1).all()


def test_the_point_of_the_curve_at_the_present_depth_is_the_present_leak():
    explorer = SoftMaskExplorer()
    for scores in explorer.scores:
        for depth in (0, 9, 77, 100, MAX_DEPTH):
            state = move(explorer, scores=scores, depth=depth, T=9, slope=2).state
            assert state.largest == pytest.approx(float(state.leaks[depth]), rel=1e-5)
            assert (state.largest == 0) == (state.leaks[depth] == 0)


def test_the_worst_row_need_not_be_the_first():
    scores = torch.zeros(4, 4)
    scores[0, 0], scores[1, 3] = 5.0, 4.0
    state = soft_mask_state(4, 2.0, 0, scores)
    rows = [3 / (math.exp(7) + 3), (1 + math.exp(4)) / (2 * math.exp(2) + 1 + math.exp(4))]
    rows += [1 / (3 * math.exp(2) + 1), 0]
    np.testing.assert_allclose(state.rows, rows, rtol=1e-5)
    assert state.largest == pytest.approx(rows[1], rel=1e-5)
    assert state.leaks[2] == pytest.approx(rows[1], rel=1e-5)
    assert state.exact[2] == pytest.approx(rows[1], rel=1e-9)


def test_the_curve_is_straight_on_its_axis():
    explorer = SoftMaskExplorer()  # every step of 1 in depth divides the leak by e
    heights = explorer.canvas.panels[1].points(Curves(explorer.state.exact[None]))[0, 10:, 1]
    assert set(np.diff(heights)) == {2, 3}


def test_a_wish_of_30_moves_the_curve_by_30():
    explorer = move(SoftMaskExplorer(), T=11, scores="random")
    calm = explorer.state.exact
    eager = move(explorer, scores=WISHFUL).state.exact
    np.testing.assert_allclose(eager[30:], calm[:-30], rtol=1e-5)


def test_the_hard_mask_is_exact_for_every_score_and_every_depth():
    explorer = move(SoftMaskExplorer(), mask=HARD)
    for scores in explorer.scores:
        for depth in (0, 120):
            state = move(explorer, scores=scores, depth=depth, T=13).state
            assert state.depth == np.inf
            assert np.array_equal(state.weights == 0, generate_causal_mask(13).numpy())
            assert state.largest == 0


def test_depth_0_is_no_mask():
    explorer = move(SoftMaskExplorer(), depth=0, T=9, scores="random")
    free = torch.softmax(explorer.scores["random"][:9, :9].double(), -1)
    np.testing.assert_allclose(explorer.state.weights, free, rtol=1e-5)


@pytest.mark.parametrize("T", [3, 8, 32])
def test_what_leaks_is_framed_and_what_does_not_is_hatched(T):
    explorer = SoftMaskExplorer(T=T)
    side = explorer.canvas.panels[0].side

    def count(colour):
        area = explorer.picture[_TITLE : _TITLE + side, _LEFT : _LEFT + side]
        return int((area == colour).sum())

    for depth in (1, 30, 80):
        move(explorer, depth=depth)
        assert count(FUTURE) > 0
        assert count(HATCH) == 0
    for values in ({"depth": 120}, {"depth": 1, "mask": HARD}):
        move(explorer, **values)
        assert count(FUTURE) == 0
        assert count(HATCH) > 0


@pytest.mark.parametrize(
    ("values", "title", "caption"),
    [
        (
            {"depth": 0, "T": 4},
            "T = 4, depth 0: framed cells leak",
            "the future gets 0.75 of row 0, 0.75 of the worst row, 1.5 of all 4; exactly 0: False; "
            "lowered, not blocked",
        ),
        (
            {"depth": 30, "T": 2},
            "T = 2, depth 30: framed cells leak",
            "the future gets 9.36e−14 of row 0, 9.36e−14 of the worst row, 9.36e−14 of all 2; "
            "exactly 0: False; lowered, not blocked",
        ),
        (
            {"depth": 120, "T": 4},
            "T = 4, depth 120: hatched is exactly 0",
            "the future gets 0 of row 0, 0 of the worst row, 0 of all 4; exactly 0: True; "
            "too small for float32, with these scores",
        ),
        (
            {"mask": HARD, "T": 4, "scores": WISHFUL},
            "T = 4, depth ∞: hatched is exactly 0",
            "the future gets 0 of row 0, 0 of the worst row, 0 of all 4; exactly 0: True; "
            "−∞ blocks, whatever the scores",
        ),
        (
            {"T": 1},
            "T = 1, depth 4: hatched is exactly 0",
            "the future gets 0 of row 0, 0 of the worst row, 0 of all 1; exactly 0: True; "
            "one token has no future",
        ),
    ],
)
def test_the_words_read_the_soft_mask(values, title, caption, monkeypatch):
    explorer = move(SoftMaskExplorer(), **values)
    titles, found = words_of(explorer, monkeypatch)
    assert (titles[0], found) == (title, caption)


def test_a_wish_undoes_the_luck_of_float32(monkeypatch):
    explorer = move(SoftMaskExplorer(), depth=MAX_DEPTH, scores="random")
    assert explorer.state.largest == 0
    move(explorer, scores=WISHFUL)
    assert explorer.state.exact[MAX_DEPTH] > 1e-40
    assert move(explorer, depth=110).state.largest > 0
    assert words_of(explorer, monkeypatch)[1].endswith("lowered, not blocked")


def test_the_words_of_the_soft_mask_fit(monkeypatch):
    explorer = SoftMaskExplorer()
    for values in (
        {"T": 32, "depth": 100, "scores": "random"},
        {"depth": 120, "scores": WISHFUL, "slope": 10},
        {"scores": "all equal"},
        {"mask": HARD},
    ):
        fits(move(explorer, **values), monkeypatch)


def test_the_bias_comes_from_the_module_of_soft_masks(monkeypatch):
    calls = []

    def bias(T, depth, *, slope, device):
        calls.append((depth, slope))
        return torch.zeros(T, T)

    monkeypatch.setattr(soft_mask_module, "soft_causal_bias", bias)
    soft_mask_state(3, 5.0, 2, NO_SCORES)
    assert (5.0, 2) in calls


# --- the span


@pytest.mark.parametrize(("span", "ramp"), [(0, 1), (2, 3), (5, 16), (31, 1)])
def test_as_many_keys_are_kept_as_lie_within_span_and_ramp(span, ramp):
    for T in (1, 4, 9, 32):
        state = span_state(T, span, ramp, GATES, NO_SCORES)
        assert state.kept == min(T, span + ramp)
        window = generate_sliding_window_mask(T, span + ramp).numpy()
        assert np.array_equal(state.blocked, window)
        assert state.closed == int(window.sum()) - T * (T - 1) // 2


@pytest.mark.parametrize("shown", SpanExplorer().controls["shown"].options)
def test_gates_are_gates_and_weights_sum_to_1(shown):
    explorer = move(SpanExplorer(), T=11, span=3, ramp=4, shown=shown)
    state, position = explorer.state, torch.arange(11)
    gates = span_gate(position[:, None] - position, 3, 4).masked_fill(generate_causal_mask(11), 0)
    assert np.array_equal(state.cells == 0, (gates == 0).numpy())
    if shown == GATES:
        assert np.array_equal(state.cells, gates.numpy())
    else:
        np.testing.assert_allclose(state.cells.sum(1), 1, rtol=1e-6)
        # The gate is the factor between a weight and what it would be without one.
        free = torch.exp(explorer.scores[:11, :11]) if "random" in shown else torch.ones(11, 11)
        odds = state.cells / state.cells.diagonal()[:, None]
        wanted = gates * free / free.diagonal()[:, None]
        np.testing.assert_allclose(odds, wanted, rtol=1e-5)


def test_the_slope_is_what_a_small_step_of_the_span_does():
    state = span_state(12, 3, 4, GATES, NO_SCORES)
    distance, step = torch.arange(12, dtype=torch.float64), 1e-4
    up, down = (span_gate(distance, 3 + move, 4).numpy() for move in (step, -step))
    corners = np.isin(np.arange(12), (3, 7))
    slope = (up - down) / (2 * step)
    np.testing.assert_allclose(state.slope[~corners], slope[~corners], atol=1e-6)
    assert state.slope[corners].tolist() == [0.25, 0.25]


def test_the_gate_and_its_slope_are_both_painted():
    explorer = SpanExplorer()
    panel = explorer.canvas.panels[1]
    left = explorer.canvas.panels[0].width + _LEFT
    area = explorer.picture[_TITLE : _TITLE + panel.curve_height, left : left + panel.curve_width]
    x = np.rint(np.linspace(8, panel.curve_width - 9, 16)).astype(int)
    for distance, wanted in ((0, 1.0), (5, 0.75), (6, 0.5)):
        y = round((1 - wanted) * (panel.curve_height - 1))
        assert (area[max(y - 2, 0) : y + 3, x[distance]] == PAST).any()


@pytest.mark.parametrize(
    ("values", "title", "caption"),
    [
        (
            {"T": 9, "span": 2, "ramp": 3},
            "T = 9, span 2, ramp 3: hatched is exactly 0",
            "cells blocked exactly: 36 by the causal mask, 10 by the gate; keys the last query "
            "uses: 5 of 9; need not be kept: 4",
        ),
        (
            {"T": 1},
            "T = 1, span 0, ramp 4: hatched is exactly 0",
            "cells blocked exactly: 0 by the causal mask, 0 by the gate; keys the last query "
            "uses: 1 of 1; need not be kept: 0",
        ),
    ],
)
def test_the_words_read_the_span(values, title, caption, monkeypatch):
    titles, found = words_of(move(SpanExplorer(), **values), monkeypatch)
    assert (titles[0], found) == (title, caption)


def test_the_words_of_the_span_fit(monkeypatch):
    explorer = SpanExplorer()
    fits(explorer, monkeypatch)
    fits(move(explorer, T=32, span=31, ramp=MAX_RAMP), monkeypatch)


def test_gates_come_from_the_module_of_soft_masks(monkeypatch):
    monkeypatch.setattr(span_module, "span_gate", lambda d, s, r: torch.ones(d.shape) * s)
    assert (span_state(3, 1, 1, GATES, NO_SCORES).gate == 1).all()


# --- both


def test_random_scores_are_sliced_not_drawn_anew():
    few, many = (
        move(SoftMaskExplorer(), T=T, mask=HARD, scores="random").state.weights for T in (5, 32)
    )
    np.testing.assert_allclose(few, many[:5, :5], rtol=1e-5)
    few, many = (move(SpanExplorer(), T=T, shown=span_module.RANDOM).state.cells for T in (5, 32))
    np.testing.assert_allclose(few, many[:5, :5], rtol=1e-5)
    for explorer in (SoftMaskExplorer(), SpanExplorer()):
        scores = (
            explorer.scores if isinstance(explorer, SpanExplorer) else explorer.scores["random"]
        )
        assert scores.std() > 0.5
        assert scores.unique().numel() == scores.numel()


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: SoftMaskExplorer(T=0), "T"),
        (lambda: SoftMaskExplorer(T=33), "T"),
        (lambda: SoftMaskExplorer(depth=-1), "depth"),
        (lambda: SoftMaskExplorer(depth=MAX_DEPTH + 1), "depth"),
        (lambda: SoftMaskExplorer(depth=2.5), "depth"),
        (lambda: SpanExplorer(T=33), "T"),
        (lambda: SpanExplorer(span=-1), "span"),
        (lambda: SpanExplorer(span=32), "span"),
        (lambda: SpanExplorer(ramp=0), "ramp"),
        (lambda: SpanExplorer(ramp=MAX_RAMP + 1), "ramp"),
    ],
)
def test_first_values_out_of_range_are_refused(make, name):
    with pytest.raises(ValueError, match=f"^{name}, .* must lie between"):
        make()


def test_first_values_are_taken():
    explorer = SoftMaskExplorer(T=5, depth=17)
    assert (explorer.values()["T"], explorer.state.depth) == (5, 17)
    assert explorer.values()["mask"] == SOFT
    explorer = SpanExplorer(T=9, span=3, ramp=2)
    assert (explorer.values()["T"], explorer.state.span, explorer.state.ramp) == (9, 3, 2)
