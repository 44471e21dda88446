"""PositionExplorer: scores from the distance alone, hands of clocks, and the words under them."""

import numpy as np
import pytest
import torch

from causal_lab.explorers import PositionExplorer, schemes
from causal_lab.explorers.schemes import RANGES
from tests.builders import move

SPEEDS = 10000.0 ** (-np.arange(16) / 16)
SCORES = {  # of a query and a key so many places before it
    "none": lambda d: 0.0 * d,
    "sinusoidal": lambda d: 4 * np.cos(d[..., None] * SPEEDS).mean(-1),
    "ALiBi, head 1 of 8": lambda d: -d / 2,
    "ALiBi, head 8 of 8": lambda d: -d / 256,
    "rotary, q equals k": lambda d: 4 * np.cos(d[..., None] * SPEEDS).mean(-1),
    "rotary, q turned 7 back": lambda d: 4 * np.cos((d[..., None] - 7) * SPEEDS).mean(-1),
}


@pytest.mark.parametrize("scheme", SCORES)
@pytest.mark.parametrize(
    ("T", "query", "key", "start"), [(1, 0, 0, 0), (9, 8, 2, 5), (64, 63, 0, 1000), (24, 5, 5, 17)]
)
def test_weights_and_scores_are_those_of_the_distances(scheme, T, query, key, start):
    explorer = move(PositionExplorer(scheme=scheme), T=T, query=query, key=key, start=start)
    square, curve, *_ = explorer.picture.panels
    apart = np.arange(T)[:, None] - np.arange(T)
    open_ = np.exp(SCORES[scheme](apart)) * (apart >= 0)
    np.testing.assert_allclose(square.cells, open_ / open_.sum(1, keepdims=True), rtol=6e-4)
    assert square.blocked.tolist() == (apart < 0).tolist()
    assert (square.rows, square.columns, curve.marked) == ((query,), (key,), query - key)
    np.testing.assert_allclose(curve.values[0], SCORES[scheme](apart[query, query::-1]), atol=2e-3)


@pytest.mark.parametrize("scheme", SCORES)
def test_the_score_axis_stays_and_holds_every_distance_closely(scheme):
    low, high = RANGES[scheme]
    scores = SCORES[scheme](np.arange(64))
    assert low <= scores.min() <= scores.max() <= high
    assert scheme == "none" or scores.max() - scores.min() > 0.8 * (high - low)
    for T in (3, 40):
        curve = PositionExplorer(scheme=scheme, T=T).picture.panels[1]
        assert (curve.low, curve.high) == (low, high)


@pytest.mark.parametrize(
    ("scheme", "back"),
    [("rotary, q equals k", 0), ("sinusoidal", 0), ("rotary, q turned 7 back", 7)],
)
def test_hands_turn_with_the_text_and_the_angle_between_them_stays(scheme, back):
    explorer = PositionExplorer(scheme=scheme, T=24, query=20, key=8)
    speeds, angles = np.array([1, 0.1, 0.01]), []
    for start in (0, 1, 500):
        dials = move(explorer, start=start).picture.panels[2]
        hands = speeds[:, None] * np.array([start + 20 - back, start + 8])
        np.testing.assert_allclose(np.cos(dials.angles), np.cos(hands), atol=2e-3)
        np.testing.assert_allclose(np.sin(dials.angles), np.sin(hands), atol=2e-3)
        angles.append(dials.angles)
        between = np.degrees((12 - back) * speeds) % 360
        assert dials.words == tuple(f"{min(one, 360 - one):.1f}°" for one in between)
    assert (angles[0] != angles[1]).all()
    assert dials.names[0] == "pair 0: 57.3° a step"
    assert dials.hands == ("query", "key")


def test_that_the_picture_stays_is_computed_and_not_assumed(monkeypatch):
    def place(scheme, positions):
        return positions[:, None] * torch.ones(len(positions))

    monkeypatch.setattr(schemes, "scheme_scores", place)
    curve = PositionExplorer(T=3, query=2, start=777).picture.panels[1]
    np.testing.assert_allclose(curve.values[0], 779, rtol=3e-4)


@pytest.mark.parametrize("scheme", ["none", "ALiBi, head 1 of 8", "ALiBi, head 8 of 8"])
def test_nothing_turns_where_no_scheme_turns(scheme):
    assert len(PositionExplorer(scheme=scheme).picture.panels) == 2


@pytest.mark.parametrize(
    ("values", "caption"),
    [
        (
            {"scheme": "rotary, q turned 7 back", "T": 12, "start": 100, "key": 3},
            "query 11 stands at position 111, key 3 at 103: distance 8, score 3.83; "
            "the highest score, 4.00, is at distance 7",
        ),
        (
            {"scheme": "none", "T": 12, "key": 0},
            "query 11 stands at position 11, key 0 at 0: distance 11, score 0.00; "
            "the highest score, 0.00, ties at 12 distances",
        ),
        (
            {"scheme": "ALiBi, head 1 of 8", "T": 4, "key": 0},
            "query 3 stands at position 3, key 0 at 0: distance 3, score −1.50; "
            "the highest score, 0.00, is at distance 0",
        ),
        (
            {"scheme": "none", "T": 1},
            "query 0 stands at position 0, key 0 at 0: distance 0, score 0.00; "
            "the highest score, 0.00, is at distance 0",
        ),
    ],
)
def test_the_caption_reads_the_picture(values, caption):
    assert move(PositionExplorer(), **values).picture.caption == caption


def test_a_key_is_never_after_its_query():
    explorer = PositionExplorer(T=10, query=4, key=4)
    assert move(explorer, query=2).key == 2
    assert move(explorer, query=9).key == 4
    with pytest.raises(ValueError, match="key must lie between 0 and 4, got 5"):
        PositionExplorer(query=4, key=5)


def test_a_notebook_may_offer_a_few_of_the_ways():
    few = ["sinusoidal", "none"]
    explorer = PositionExplorer(schemes=few, T=6)
    assert explorer.scheme == "sinusoidal"
    assert explorer._controls[0]["options"] == explorer.GRID["scheme"] == few
    assert [control["name"] for control in explorer._controls] == list(explorer.controls())
    assert PositionExplorer()._controls[0]["options"] == PositionExplorer.GRID["scheme"]
