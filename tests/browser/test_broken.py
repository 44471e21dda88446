"""A notebook in which everything is wrong once: each fault is told, and of its own cell."""

import nbformat
import pytest

from tools.browser.examine import examine

SETUP = """
import io, itertools, time
import ipywidgets as widgets
import numpy as np
from IPython.display import Javascript, display
from PIL import Image
from traitlets import Unicode

class Titled(widgets.Image):
    tooltip = Unicode("a grey square").tag(sync=True)
    description = Unicode().tag(sync=True)

def png(value):
    buffer = io.BytesIO()
    Image.fromarray(np.full((60, 60), 5 * value, dtype=np.uint8)).save(buffer, "png")
    return buffer.getvalue()

def frame(draw, description="n", **options):
    slider = widgets.IntSlider(10, 0, 50, description=description, **options)
    image = Titled(value=png(10), width=60, height=60)
    slider.observe(lambda change: draw(image, change["new"]), "value")
    return widgets.VBox([slider, image])

def right(image, value):
    image.value = png(value)
"""
CELLS = {
    "good": "frame(right)",
    "unwired": "frame(lambda image, value: None)",
    "greyed out": "frame(right, disabled=True)",
    "noisy": """
ticks = itertools.count(100)
def noisy(image, value):
    image.value = png(next(ticks) % 50)
frame(noisy)""",
    "behind": """
last = [10]
def behind(image, value):
    image.value = png(last[0])
    last[0] = value
frame(behind)""",
    "lazy": """
drawn = [0.0]
def lazy(image, value):  # what comes too soon after another is dropped
    if time.monotonic() - drawn[0] > 0.15:
        image.value = png(value)
        drawn[0] = time.monotonic()
frame(lazy)""",
    "raises": """
def raises(image, value):
    image.value = png(value)
    raise ZeroDivisionError("in a callback")
frame(raises)""",
    "nameless": 'frame(right, description="")',
    "speechless": """
mute = frame(right)
mute.children[1].tooltip = ""
mute""",
    "stacked": """
output, slider = widgets.Output(), widgets.IntSlider(10, 0, 50, description="n")
def stack(change):
    with output:
        display(Image.fromarray(np.full((60, 60), 5 * change["new"], dtype=np.uint8)))
slider.observe(stack, "value")
stack({"new": 10})
widgets.VBox([slider, output])""",
    "console": "Javascript(\"console.error('the widget is not well')\")",
    "cell": "1 / 0",
}
PLACE = {name: index for index, name in enumerate(CELLS, start=1)}


@pytest.fixture(scope="module")
def seen(tmp_path_factory, browser, lab):
    cells = [nbformat.v4.new_code_cell(source) for source in [SETUP, *CELLS.values()]]
    path = tmp_path_factory.mktemp("broken") / "broken.ipynb"
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return examine(path, browser, lab)


pytestmark = pytest.mark.xdist_group("broken")


def named(complaints):
    """Which cells are complained of."""
    words = [line.replace(":", " ").split() for line in complaints]
    numbers = {int(line[line.index("cell") + 1]) for line in words}
    return {name for name in CELLS if PLACE[name] in numbers}


def test_an_unwired_slider(seen):
    assert named(seen.unmoved) == {"unwired", "greyed out", "behind"}


def test_a_picture_that_is_not_a_function_of_the_value(seen):
    assert named(seen.not_back) == {"noisy", "behind", "stacked"}


def test_the_last_place_of_a_fast_pull(seen):
    assert {"lazy", "behind"} <= named(seen.late) <= {"lazy", "behind", "noisy", "stacked"}


def test_a_stacked_picture(seen):
    assert named(seen.stacked) == {"stacked"}


def test_what_keeps_people_out(seen):
    assert named(seen.access) >= {"nameless", "speechless"}
    assert "good" not in named(seen.access)


def test_an_error_in_a_callback(seen):
    assert any("ZeroDivisionError: in a callback" in line for line in seen.callbacks)


def test_an_error_in_a_cell(seen):
    assert seen.cells == ["ZeroDivisionError: division by zero"]


def test_an_error_in_the_console(seen):
    assert seen.console == ["the widget is not well"]
