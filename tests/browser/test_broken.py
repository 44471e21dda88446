"""A notebook in which everything is wrong once: each fault is told, and of its own cell."""

import nbformat

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


def named(complaints):
    """Which cells are complained of."""
    words = [line.replace(":", " ").split() for line in complaints]
    numbers = {int(line[line.index("cell") + 1]) for line in words}
    return {name for name in CELLS if PLACE[name] in numbers}


def test_each_fault_is_told(tmp_path, browser, lab):
    """One test, since a second one on another worker would examine all of it again."""
    cells = [nbformat.v4.new_code_cell(source) for source in [SETUP, *CELLS.values()]]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    path = tmp_path / "broken.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    seen = examine(path, browser, lab)
    # A slider that moves no picture.
    assert named(seen.unmoved) == {"unwired", "greyed out", "behind"}
    # A picture that is not a function of the value.
    assert named(seen.not_back) == {"noisy", "behind", "stacked"}
    # The last place of a fast pull.
    assert {"lazy", "behind"} <= named(seen.late) <= {"lazy", "behind", "noisy", "stacked"}
    # One picture below the other.
    assert named(seen.stacked) == {"stacked"}
    # What keeps people out.
    assert named(seen.access) >= {"nameless", "speechless"}
    assert "good" not in named(seen.access)
    # Errors: in a callback, in a cell, in the console.
    assert any("ZeroDivisionError: in a callback" in line for line in seen.callbacks)
    assert seen.cells == ["ZeroDivisionError: division by zero"]
    assert seen.console == ["the widget is not well"]
    kinds = {"cells", "console", "callbacks", "unmoved", "not_back", "late", "stacked", "access"}
    assert set(seen.complaints) == kinds
