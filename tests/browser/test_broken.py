"""A notebook in which everything is wrong once: each fault is told, and of its own cell."""

import nbformat

from tools.browser.examine import examine

SETUP = """
import itertools, time
import ipywidgets as widgets
import numpy as np
from IPython.display import SVG, Javascript, display
from causal_lab.explorers.controls import Slider
from causal_lab.explorers.explorer import Explorer
from causal_lab.plots.picture import Heat, Picture

class Right(Explorer):
    n = Slider("n", 0, 50, 10)
    pause = 0.0

    def compute(self, n):
        time.sleep(self.pause * (n > 11))
        return self.square(n)

    def square(self, n):
        return Picture((Heat(np.full((2, 2), n / 50), side=80),), f"n is {n}")

def spoilt(name, before, after):
    assert Right._esm.count(before) == 1
    return type(name, (Right,), {"_esm": Right._esm.replace(before, after)})()
"""
CELLS = {
    "good": "Right()",
    "clicked": """
class Clicked(Right):
    m = Slider("m", 0, 9, 0)
    def compute(self, n, m):
        time.sleep(0.2)  # the picture comes when the finger is at another map
        chosen = Heat(np.eye(2), moves=("m", "n"), side=80)
        return Picture((chosen, *5 * self.square(n).panels), f"m is {m}, n is {n}")
Clicked()""",
    "unwired": """
class Unwired(Right):
    def compute(self, n):
        return self.square(10)
Unwired()""",
    "greyed out": """
class GreyedOut(Right):
    def unused(self, n):
        return {"n"}
GreyedOut()""",
    "noisy": """
class Noisy(Right):
    ticks = itertools.count(100)
    def compute(self, n):
        return self.square(next(self.ticks) % 50)
Noisy()""",
    "behind": """
class Behind(Right):
    last = 10
    def compute(self, n):
        shown, self.last = self.last, n
        return self.square(shown)
Behind()""",
    "raises": """
class Raises(Right):
    def compute(self, n):
        if n != 10:
            raise ZeroDivisionError("in compute")
        return self.square(n)
Raises()""",
    "nameless": """
class Nameless(Right):
    n = Slider("", 0, 50, 10)
Nameless()""",
    "stacked": """
stacker, below = Right(), widgets.Output()
def stack(change):
    with below:
        display(SVG(f"<svg xmlns='http://www.w3.org/2000/svg' height='{change['new'] + 9}'/>"))
stacker.observe(stack, "n")
widgets.VBox([stacker, below])""",
    "lame": """
class Lame(Right):
    n = Slider("n", 0, 50, 10, play=True)
    _esm = Right._esm.replace("timer = setInterval(step, PLAY)", "timer = 1")
Lame()""",
    "forgetful": """
forgetful = spoilt("Forgetful", "    next = wishes;\\n", "")
forgetful.pause = 2.0  # longer than a pull
forgetful""",
    "deaf": """spoilt("Deaf", "event.stopImmediatePropagation();", "return;")""",
    "mute": """spoilt("Mute", "words ? words + ", "false ? words + ")""",
    "pointless": """spoilt("Pointless", '"pointermove"', '"nothing"')""",
    "unseen": """
style = "const STYLE = `"
spoilt("Unseen", style, style + "[data-explorer=Unseen] * { outline: none !important } ")""",
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
    # A control that moves no picture.
    still = {"unwired", "greyed out", "behind", "raises", "lame", "deaf"}
    assert named(seen.unmoved) == still
    # A picture that is not a function of the value.
    assert named(seen.not_back) == {"noisy", "behind", "stacked"}
    # The last place of a fast pull.
    assert {"behind", "forgetful"} <= named(seen.late)
    assert named(seen.late) <= {"behind", "forgetful", "noisy", "stacked"}
    # One picture below the other.
    assert named(seen.stacked) == {"stacked"}
    # What keeps people out.
    assert named(seen.access) == {"nameless", "unseen"}
    assert named(seen.speechless) == {"deaf", "mute", "pointless"}
    # Errors: in an explorer, in a cell, in the console.
    told = f"cell {PLACE['raises']}: ZeroDivisionError: in compute"
    assert told in seen.callbacks
    assert seen.cells == ["ZeroDivisionError: division by zero"]
    assert seen.console == ["the widget is not well"]
    assert set(seen.complaints) == {
        *("cells", "console", "callbacks", "unmoved", "not_back", "late", "stacked", "access"),
        "speechless",
    }
