"""Controls: what they take, what they say of what they do not take, and what the page is told."""

import numpy as np
import pytest

from causal_lab.explorers.controls import Menu
from tests.explorers.small import Small


@pytest.mark.parametrize(
    ("name", "value"),
    [("T", 9), ("T", 1), ("t", np.int64(3)), ("fill", 1), ("fill", 0.5), ("mask", "empty")],
)
def test_what_a_control_has_room_for_it_takes(name, value):
    explorer = Small()
    setattr(explorer, name, value)
    assert getattr(explorer, name) == value
    assert type(getattr(explorer, name)) is type(Small.controls()[name].default_value)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("T", 0, "T must lie between 1 and 9, got 0"),
        ("T", 10, "T must lie between 1 and 9, got 10"),
        ("T", 2.0, r"T must lie between 1 and 9, got 2\.0"),
        ("T", True, "T must lie between 1 and 9, got True"),
        ("T", "3", "T must lie between 1 and 9, got '3'"),
        ("t", None, "t must lie between 1 and 9, got None"),
        ("fill", 0.25, r"fill must be one of \[0\.0, 0\.5, 1\.0\], got 0\.25"),
        ("fill", "half", r"fill must be one of \[0\.0, 0\.5, 1\.0\], got 'half'"),
        ("mask", "fill", "mask must be one of filled, empty, got 'fill'"),
        ("mask", 0, "mask must be one of filled, empty, got 0"),
        ("words", 3, "words must be a text, got 3"),
    ],
)
def test_what_it_does_not_take_is_refused_in_words_and_changes_nothing(name, value, said):
    explorer = Small()
    before, message = explorer.values(), explorer._picture
    with pytest.raises(ValueError, match=f"^{said}$"):
        setattr(explorer, name, value)
    assert (explorer.values(), explorer._picture) == (before, message)
    with pytest.raises(ValueError, match=f"^{said}$"):
        Small(**{name: value})


def test_the_page_is_told_what_it_needs_in_the_order_of_the_class():
    assert Small()._controls == [
        {"name": "T", "kind": "slider", "label": "T, number of tokens"}
        | {"low": 1, "high": 9, "play": True},
        {"name": "t", "kind": "slider", "label": "a token", "low": 1, "high": 9, "play": False},
        {"name": "fill", "kind": "steps", "label": "fill", "values": [0.0, 0.5, 1.0]}
        | {"words": ["none", "half", "all"], "play": False},
        {"name": "mask", "kind": "menu", "label": "mask", "options": ["filled", "empty"]},
        {"name": "words", "kind": "text", "label": "words"},
    ]


def test_a_subclass_has_the_controls_of_its_base_first():
    class More(Small):
        more = Menu("more", ["x"])

        def compute(self, more, **values):
            return super().compute(**values)

    assert list(More().controls()) == [*Small.controls(), "more"]


def test_two_explorers_have_controls_of_their_own():
    first, second = Small(), Small()
    first.T = 7
    assert second.T == 4
