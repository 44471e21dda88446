"""What a picture keeps of the numbers it is given, and how it is written for the page."""

from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest

from causal_lab.plots.picture import Bars, Boxes, Curves, Dials, Heat, Picture, Sentence, Sizes


def read(written: dict) -> np.ndarray:
    """Read an array as the page does."""
    return np.frombuffer(written["data"], written["dtype"]).reshape(written["shape"])


def test_leaks_are_framed_unless_frames_are_given():
    cells = np.array([[0.5, 0.5, np.nan], [0.0, 1.0, 0.0]])
    blocked = np.array([[False, True, True], [True, False, True]])
    assert Heat(cells, blocked).frames.tolist() == [[0, 1, 0], [0, 0, 0]]
    assert Heat(cells, blocked, frames=2 * blocked).frames.tolist() == [[0, 2, 2], [2, 0, 2]]
    assert Heat(cells).frames is Heat(blocked=blocked).frames is None


def test_numbers_keep_twelve_bits_and_what_is_special_stays_so():
    numbers = np.random.default_rng(0).uniform(1e-30, 1, 999)
    kept = Heat(numbers[None]).cells[0]
    assert kept.dtype == np.float32
    assert (kept.view(np.uint32) % 4096 == 0).all()
    np.testing.assert_allclose(kept, numbers, rtol=2.5e-4)
    special = Bars(np.array([[0.0, -0.0, np.nan, np.inf, 1.0, 0.5]]), ("past",)).heights[0]
    np.testing.assert_array_equal(special, [0, 0, np.nan, np.inf, 1, 0.5])
    assert not np.signbit(special[:2]).any()


@pytest.mark.parametrize("exponent", [-38, -41, -45])
def test_the_smallest_weights_stay_what_they_are(exponent):
    smallest = np.float32(2 * 10.0**exponent)
    leak = Heat(np.array([[1, smallest]], dtype=np.float32), np.array([[False, True]]))
    assert leak.cells[0, 1] == pytest.approx(smallest, rel=2.5e-4, abs=0) != 0
    assert leak.frames.tolist() == [[0, 1]]  # framed, and so it must not be hatched


def test_whole_numbers_are_cut_to_a_byte_only_where_they_count():
    assert Curves(np.array([[300, -1]]), ("a",), ("ink",), x=np.array([0, 400])).x[1] == 400
    assert Bars(np.array([[300, -1]]), ("past",)).heights.tolist() == [[300, -1]]
    levels = tuple("none one two".split())
    assert Heat(np.array([[0, 2]]), levels=levels).cells.dtype == np.uint8


def test_curves_show_what_float32_cannot_hold():
    tiny = Curves(np.array([[1e-56, 1.0]]), ("leak",), ("future",)).values
    assert tiny.dtype == np.float64
    np.testing.assert_allclose(tiny, [[1e-56, 1.0]], rtol=2.5e-4)
    assert Sizes(np.array([2**44 + 1]), ("text",), ("16 TiB",)).nbytes[0] == 2**44 + 1


def test_a_panel_does_not_change_with_what_it_was_made_from():
    cells = np.ones((2, 2), dtype=np.float32)
    panel = Heat(cells)
    cells[:] = 0
    assert (panel.cells == 1).all()
    with pytest.raises(FrozenInstanceError):
        panel.title = "another"


@pytest.mark.parametrize(
    "panel",
    [
        Heat(np.eye(2).T[:, ::-1], np.eye(2) > 0, labels=("a", "b"), rows=(1,), dim=True),
        Bars(np.array([[0.5, 0.25]]), ("past",), outline=np.array([1.0, 0.0])),
        Curves(np.zeros((1, 3)), ("leak",), ("future",), x=np.array([0.0, 2.0, 4.0]), marked=2.0),
        Sizes(np.array([2.0**20]), ("one",), ("1 MiB",), marks=((2.0**34, "a card"),)),
        Dials(np.array([[0.0, 1.0]]), ("fast",), ("57°",)),
        Sentence(("a", "b"), ("seen", "hidden"), ring=0),
        Boxes((np.ones((3, 4)), np.zeros((2, 4))), ("keys", "values"), (1, 0), 8),
    ],
)
def test_the_page_gets_every_field_as_it_is(panel):
    message = Picture((panel,), "words").message()
    (written,) = message["panels"]
    assert message["caption"] == "words"
    assert written.pop("kind") == type(panel).__name__
    assert set(written) == {field.name for field in fields(panel)}

    def same(value, found):
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(read(found), value)
        elif isinstance(value, tuple):
            for one, other in zip(value, found, strict=True):
                same(one, other)
        else:
            assert found == value

    for name, found in written.items():
        same(getattr(panel, name), found)
