"""A record holds exactly what Python computes, each thing once; a saved page needs nothing else."""

import base64
import itertools
import json
import re

import numpy as np
import pytest

from causal_lab.explorers import MaskExplorer
from causal_lab.explorers.record import Store, as_script
from causal_lab.plots.picture import Heat, Picture
from tests.explorers.small import Small, unpack

GRID = {"T": [1, 4, 9], "t": [1, 5], "fill": [0.0, 1.0], "mask": ["filled", "empty"]}


def test_a_store_keeps_each_thing_once_under_its_key():
    store = Store()
    assert [store.number("a"), store.number("b", key=1), store.number("c", key=1)] == [0, 1, 1]
    assert store.number("a") == 0
    assert store.things == ["a", "b"]


def test_what_is_unpacked_is_what_is_computed():
    explorer = Small(words="ü “x”")
    head, look = unpack(explorer.record(GRID))
    assert [control["name"] for control in head["controls"]] == list(GRID)
    for combination in itertools.product(*GRID.values()):
        asked = dict(zip(GRID, combination, strict=True))
        values = explorer.values() | asked | {"t": min(asked["t"], asked["T"])}
        message, limits, unused = look(**asked)
        assert message == explorer.compute(**values).message()
        assert limits == {"t": [1, values["T"]]}
        assert unused == sorted(explorer.unused(**values))


def test_the_order_of_the_grid_is_that_of_the_class():
    assert Small().record(dict(reversed(GRID.items()))) == Small().record(GRID)


def test_the_same_grid_gives_the_same_bytes_wherever_the_controls_stand():
    moved = Small()
    first = moved.record(GRID)
    moved.T, moved.mask = 9, "empty"
    moved.T, moved.mask = 4, "filled"
    assert moved.record(GRID) == first


def test_what_repeats_is_stored_once():
    head, _ = unpack(Small().record(GRID))
    shapes = [tuple(shape) for _, shape in head["arrays"]]
    # Squares: empty and full of each size. Bars: as many as there are tokens up to t.
    assert sorted(shapes) == sorted(
        [(T, T) for T in GRID["T"] for _ in range(2)] + [(1, t) for t in (1, 4, 5)]
    )
    assert len({json.dumps(panel) for panel in head["panels"]}) == len(head["panels"])
    assert len({json.dumps(picture) for picture in head["pictures"]}) == len(head["pictures"])


def test_equal_numbers_of_another_shape_are_another_array():
    class Twins(Small):
        def compute(self, **values):
            return Picture((Heat(np.zeros((2, 3))), Heat(np.zeros((3, 2)))))

    _, look = unpack(Twins().record({"T": [1]}))
    assert look(T=1)[0] == Twins().picture.message()


def test_what_a_control_without_use_would_change_is_computed_once():
    class Counting(Small):
        computed = 0

        def compute(self, **values):
            type(self).computed += 1
            return super().compute(**values)

    explorer = Counting()
    type(explorer).computed = 0
    explorer.record({"fill": [0.0, 0.5, 1.0], "mask": ["empty"]})
    assert type(explorer).computed == 1


def test_the_first_picture_is_the_nearest_of_the_grid():
    explorer = Small(T=6, t=3, fill=0.5, mask="empty", words="c")
    grid = {"T": [1, 5, 9], "t": [1, 4], "fill": [0.5], "mask": ["filled", "empty"], "words": ["d"]}
    first = unpack(explorer.record(grid))[0]["first"]
    assert first == {"T": 5, "t": 4, "fill": 0.5, "mask": "empty", "words": "d"}


def test_the_note_says_what_stands_still():
    note = unpack(Small().record({"T": [1]}))[0]["note"]
    assert "(a token, fill, mask, words stand still here)" in note
    whole = unpack(Small().record({**GRID, "words": ["a b"]}))[0]["note"]
    assert "stand" not in whole
    assert "(words stands still here)" in unpack(Small().record(GRID))[0]["note"]
    assert "In Jupyter all of it moves" in whole


def test_a_slider_walks_over_the_grid_and_a_line_of_text_becomes_a_choice():
    shown = unpack(Small().record({**GRID, "words": ["a b", "c"]}))[0]["controls"]
    kinds = {control.pop("name"): control for control in shown}
    assert kinds["T"].items() >= {"kind": "steps", "values": [1, 4, 9], "play": True}.items()
    assert kinds["T"]["words"] == ["1", "4", "9"]
    assert kinds["fill"]["words"] == ["none", "all"]
    assert kinds["mask"]["options"] == ["filled", "empty"]
    assert kinds["words"].items() >= {"kind": "menu", "options": ["a b", "c"]}.items()


def test_without_a_grid_the_explorers_own_is_recorded():
    assert Small().record() == Small().record(Small.GRID)


def test_a_page_holds_the_module_the_record_and_a_still_and_needs_no_other_file(tmp_path):
    MaskExplorer(T=4).save(tmp_path / "mask.html", {"T": [2, 4]})
    assert [path.name for path in tmp_path.iterdir()] == ["mask.html"]
    page = (tmp_path / "mask.html").read_text(encoding="utf-8")
    (script,) = re.findall(r"<script>(.*?)</script>", page)
    assert script == as_script("MaskExplorer", MaskExplorer(T=4).record({"T": [2, 4]}))
    (still,) = re.findall(r'<img alt="\w+" src="data:image/png;base64,([^"]*)">', page)
    assert base64.b64decode(still).startswith(b"\x89PNG")
    rest = page.replace(script, "").replace(still, "")
    assert MaskExplorer._esm in rest
    assert not re.findall(r"https?:|\bimport\b *[({\"'*\w]|\bfetch\(|<link|src=\"(?!data:)", rest)


def test_a_page_without_a_title_or_script_of_its_own_is_not_broken_by_words(tmp_path):
    """Words of a learner go into the record alone, where no tag ends a script."""
    Small(words="</script><b>").save(tmp_path / "small.html", {"T": [1, 2]})
    page = (tmp_path / "small.html").read_text(encoding="utf-8")
    assert page.count("</script>") == 2
    assert "<b>" not in page


@pytest.mark.parametrize("grid", [{}, {"T": [3]}])
def test_a_record_of_one_picture_is_one_too(grid):
    head, look = unpack(Small(T=3).record(grid))
    assert look(**head["first"])[0] == Small(T=3).picture.message()
