"""Every notebook in a real JupyterLab: it runs, and all that can be moved moves a picture."""

import io
from pathlib import Path

import pytest
from PIL import Image

from tools.browser.examine import examine

PATHS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
# One worker takes all tests of a notebook, which is run once for them.
EACH = [pytest.param(p, id=p.stem, marks=pytest.mark.xdist_group(p.stem)) for p in PATHS]


@pytest.fixture(scope="module", params=EACH)
def seen(request, browser, lab):
    return examine(request.param, browser, lab)


def test_all_cells_run_and_all_widgets_stand(seen):
    assert seen.cells == []


def test_the_console_is_silent(seen):
    assert seen.console == []


def test_no_callback_complains(seen):
    assert seen.callbacks == []


def test_every_control_moves_a_picture_by_keyboard(seen):
    assert len(seen.controls) >= 2
    assert seen.unmoved == []
    assert len(seen.milliseconds) == 2 * len(seen.controls)


def test_back_at_its_value_it_shows_the_first_picture(seen):
    assert seen.not_back == []


def test_of_a_fast_pull_the_last_place_wins(seen):
    assert seen.late == []


def test_pictures_take_each_others_place(seen):
    assert seen.stacked == []


def test_everyone_can_use_it(seen):
    assert seen.access == []


def test_the_screenshots_show_something(seen):
    assert seen.screenshots
    for png in seen.screenshots.values():
        picture = Image.open(io.BytesIO(png)).convert("L")
        assert min(picture.size) > 200
        assert len(set(picture.tobytes())) > 40
