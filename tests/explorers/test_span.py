"""SpanExplorer: gates, weights and their slope, the loss of every span, and what the words say."""

import math

import numpy as np
import pytest

from causal_lab.explorers import SpanExplorer
from causal_lab.explorers.span import EQUAL, GATES, RANDOM
from causal_lab.explorers.span_loss import span_bits
from tests.builders import move


def gates_of(T: int, span: float, ramp: int) -> np.ndarray:
    apart = np.arange(T)[:, None] - np.arange(T)
    return np.clip((span + ramp - apart) / ramp, 0, 1) * (apart >= 0)


@pytest.mark.parametrize(("T", "span", "ramp"), [(1, 0, 1), (11, 3, 4), (32, 5, 16), (32, 31, 1)])
def test_gates_are_gates_and_the_factor_of_the_weights(T, span, ramp):
    explorer = SpanExplorer(T=T, span=span, ramp=ramp)
    gates = gates_of(T, span, ramp)
    square, curves, _ = explorer.picture.panels
    np.testing.assert_allclose(square.cells, gates, rtol=3e-4)
    assert (square.blocked == (gates == 0)).all()
    assert (square.rows, square.names[2]) == ((T - 1,), "gate")
    np.testing.assert_allclose(curves.values[0], gates[-1, ::-1], rtol=3e-4)
    assert (curves.steps, curves.marked, curves.colours) == (True, span, ("past", "second"))
    weights = move(explorer, shown=EQUAL).picture.panels[0].cells
    np.testing.assert_allclose(weights, gates / gates.sum(1, keepdims=True), rtol=3e-4)


def test_random_scores_are_slices_of_one_table_and_no_score_opens_a_gate():
    few, many = (SpanExplorer(T=T, span=4, shown=RANDOM).picture.panels[0] for T in (5, 32))
    np.testing.assert_allclose(few.cells, many.cells[:5, :5], rtol=6e-4)
    assert np.log(many.cells[-1, -5:]).std() > 0.5
    short = SpanExplorer(T=32, span=2, ramp=2, shown=RANDOM).picture.panels[0]
    assert ((short.cells == 0) == (gates_of(32, 2, 2) == 0)).all()
    assert not short.frames.any()


def test_the_slope_is_what_a_small_step_of_the_span_does():
    slope = SpanExplorer(T=12, span=3, ramp=4).picture.panels[1].values[1]
    up, down = (gates_of(12, 3 + step, 4)[-1, ::-1] for step in (1e-4, -1e-4))
    corners = np.isin(np.arange(12), (3, 7))
    np.testing.assert_allclose(slope[~corners], ((up - down) / 2e-4)[~corners], atol=1e-6)
    assert slope[corners].tolist() == [0.25, 0.0]  # at 7 the gate is 0, and sends no gradient


@pytest.mark.parametrize(("window", "ramp"), [(2, 1), (6, 4), (12, 16), (30, 1)])
def test_the_loss_is_what_a_head_pays_for_betting_by_its_weights(window, ramp):
    found = span_bits(window, ramp)
    for place in (0, 17, 100, 320):
        gates, bits = gates_of(24, place / 20, ramp), []
        for t in range(24):
            needed = range(max(0, t - window + 1), t + 1)
            bets = [0.99 * gates[t, key] / gates[t].sum() + 0.01 / 16 for key in needed]
            bits.append(-sum(math.log2(bet) for bet in bets) / len(bets))
        assert found[place] == pytest.approx(sum(bits) / 24, rel=1e-6)


@pytest.mark.parametrize("window", [2, 6, 12])
def test_without_a_price_every_way_leads_to_the_window_and_with_one_there_are_dents(window):
    spans = np.arange(321) / 20
    free = span_bits(window, 1)
    assert np.flatnonzero(np.diff(np.sign(np.diff(free))) > 0).tolist() == [20 * (window - 1) - 1]
    curve = SpanExplorer(ramp=1, window=window, price=0.05).picture.panels[2]
    loss, rising = curve.values
    np.testing.assert_allclose(loss, free + 0.05 * spans, rtol=3e-4)
    uphill = np.diff(free + 0.05 * spans) > 0
    wanted = np.append(uphill, False) | np.insert(uphill, 0, False)
    assert (~np.isnan(rising) == wanted).all()
    assert (rising[wanted] == loss[wanted]).all()
    # A dent in the last part of every step: where the rise begins.
    begins = spans[1:][np.diff(np.insert(uphill, 0, False).astype(int)) > 0] - 1 / 20
    assert len(begins) == window - 1
    assert (begins % 1 > 0.5).all()
    assert curve.low <= loss.min() < loss.max() < curve.high
    assert curve.high - curve.low <= loss.max() - loss.min() + 2


@pytest.mark.parametrize(
    ("values", "caption"),
    [
        (
            {"T": 9, "span": 2, "ramp": 3, "price": 0.0},
            "cells blocked exactly: 36 by the causal mask, 10 by the gate; keys the last query "
            "uses: 5 of 9; need not be kept: 4; downhill from span 2 lies 9.60; "
            "the lowest loss is at 9.60",
        ),
        (
            {"ramp": 1, "span": 8, "price": 0.05},
            "cells blocked exactly: 120 by the causal mask, 28 by the gate; keys the last query "
            "uses: 9 of 16; need not be kept: 7; downhill from span 8 lies 7.60; "
            "the lowest loss is at 10.55",
        ),
        (
            {"ramp": 1, "span": 14, "price": 0.05},
            "cells blocked exactly: 120 by the causal mask, 1 by the gate; keys the last query "
            "uses: 15 of 16; need not be kept: 1; downhill from span 14 lies 10.55; "
            "the lowest loss is at 10.55",
        ),
        (
            {"T": 32, "span": 20, "ramp": 1},
            "cells blocked exactly: 496 by the causal mask, 66 by the gate; keys the last query "
            "uses: 21 of 32; need not be kept: 11; the lowest loss is at 10.55",
        ),
    ],
)
def test_the_caption_reads_the_picture(values, caption):
    picture = SpanExplorer(**values).picture
    assert picture.caption == caption
    span = values["span"]
    assert picture.panels[2].marked == (span if span <= 16 else None)


def test_titles_say_what_is_drawn_and_the_span_stays_within_the_text():
    explorer = SpanExplorer(T=9, span=4, ramp=2, shown=GATES, window=6, price=0.02)
    titles = [panel.title for panel in explorer.picture.panels]
    assert titles == [
        "T = 9, span 4, ramp 2: hatched is exactly 0",
        "1 up to the span, 0 a ramp later",
        "24 tokens, the newest 6 are needed: bits of loss + 0.02 · span",
    ]
    assert move(explorer, T=3).span == 2
    assert move(explorer, T=8).span == 4
