"""In JupyterLab, what a page says it drew is what Python computes: numbers, words and controls."""

import random
from contextlib import contextmanager
from pathlib import Path

import nbformat
import torch

from tests.explorers.test_every_explorer import NAMES, make
from tests.pictures import DRAWN, differences
from tools.browser.examine import DESK
from tools.browser.page import NotebookPage

SETTINGS = 8  # of each explorer
SENTENCES = ["", "raise", "the value of the value", "gewiss an error", "if the list is not empty"]
SETUP = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from causal_lab.explorers import MaskExplorer
from tests.explorers.test_every_explorer import make

def spoilt(before, after):
    assert MaskExplorer._esm.count(before) == 1
    return type("Spoilt", (MaskExplorer,), {{"_esm": MaskExplorer._esm.replace(before, after)}})()
"""
# What the page shows that is not what belongs to the values, and where that is seen.
PLANTED = {
    "a wrong picture": (
        """
class Wrong(MaskExplorer):
    def compute(self, T, position, mask):
        return super().compute(T, position, mask if T < 20 else "none, as in BERT")
Wrong()""",
        {"picture.panels", "picture.caption", "caption"},
    ),
    "one behind": (
        """
class Behind(MaskExplorer):
    last = {}
    def compute(self, **values):
        shown, self.last = self.last or values, values
        return super().compute(**shown)
Behind()""",
        {"picture.panels", "picture.caption", "caption", "titles"},
    ),
    "a stale picture": (
        """
once = "    redraw();\\n    if (caption"
spoilt(once, once.replace("redraw()", "last ??= (redraw(), picture)"))""",
        {"picture.panels", "picture.caption", "titles"},
    ),
    "stale words": (
        """
spoilt("caption.textContent = picture", "caption.textContent ||= picture")""",
        {"caption"},
    ),
    "stale controls": (
        """spoilt('if (state === "ready") place();', "if (!panels.length) place();")""",
        {"controls.position.max"},
    ),
}

# What stands in the page: the picture drawn last, the words beside it, and the controls.
SHOWN = f"""(root) => {{
    const all = (chosen, read) => Array.from(root.querySelectorAll(chosen), read);
    const words = (line) => Array.from(line.children, (one) => [one.textContent, one.className]);
    const field = ({{ dataset, value, min, max, disabled }}) => (
        [dataset.control, {{ value, min, max, disabled }}]
    );
    return {{
        picture: ({DRAWN})(root),
        state: root.dataset.state,
        error: root.querySelector(".error").textContent,
        caption: root.querySelector(".caption").textContent,
        titles: all("figcaption", (one) => one.textContent),
        lines: all(".words", words),
        controls: Object.fromEntries(all("[data-control]", field)),
    }};
}}"""
# A hand that moves several controls before a picture can come: the last state counts.
MOVE = """(root, moves) => {
    for (const [name, value] of moves) {
        const field = root.querySelector(`[data-control="${name}"]`);
        field.value = value;
        field.dispatchEvent(new Event(field.tagName === "SELECT" ? "change" : "input"));
    }
}"""


class Hand:
    """Moves one explorer of a page, and says what should be seen there.

    Args:
        twin: the same explorer in this process.
    """

    def __init__(self, notebook, root, twin):
        self.notebook, self.root, self.twin = notebook, root, twin
        self.wishes, self.dice = twin.values(), random.Random(0)

    def move(self):
        """Put every control that is not greyed out somewhere."""
        moves = []
        for name, field in self.seen()["controls"].items():
            control = self.twin.controls()[name].describe()
            if field["disabled"]:
                continue
            if field["max"]:
                place = self.dice.randint(int(field["min"]), int(field["max"]))
            else:
                place = self.dice.choice(control.get("options", SENTENCES))
            self.wishes[name] = control["values"][place] if "values" in control else place
            moves.append([name, str(place)])
        self.dice.shuffle(moves)
        self.root.evaluate(MOVE, moves)
        self.notebook.settle()

    def seen(self):
        return self.root.evaluate(SHOWN)

    def right(self):
        values = self.twin.settled(**self.wishes)
        with torch.no_grad():
            picture = self.twin.compute(**values).message()
        lines = [panel for panel in picture["panels"] if panel["kind"] == "Sentence"]
        return {
            "picture": picture,
            "state": "ready",
            "error": "",
            "caption": picture["caption"],
            "titles": [panel["title"] for panel in picture["panels"]],
            "lines": [words_of(line) for line in lines],
            "controls": {name: self.stand(name, values) for name in values},
        }

    def stand(self, name, values):
        """Say where a control stands, and between which ends."""
        shown = self.twin.controls()[name].describe()
        low, high = self.twin.limits(**values).get(name, (shown.get("low"), shown.get("high")))
        steps = shown.get("values")
        if steps:
            room = [n for n, one in enumerate(steps) if low is None or low <= one <= high]
            low, high = room[0], room[-1]
        place = steps.index(values[name]) if steps else values[name]
        there = low is not None
        return {
            "value": str(place),
            "min": str(low) if there else "" if shown["kind"] == "text" else None,
            "max": str(high) if there else "" if shown["kind"] == "text" else None,
            "disabled": name in self.twin.unused(**values) or (there and low == high),
        }


def words_of(line):
    pairs = zip(line["words"], line["kinds"], strict=True)
    return [[w, k + " ring" * (n == line["ring"])] for n, (w, k) in enumerate(pairs)]


IDS = "[...document.querySelectorAll('.causal-explorer [id]')].map((one) => one.id)"


@contextmanager
def hands(browser, lab, cells, twins, silent=True):
    """Run a notebook of explorers; give a hand for each."""
    cells = [nbformat.v4.new_code_cell(source) for source in [SETUP, *cells]]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), lab.root / "same.ipynb")
    context = browser.new_context(viewport=DESK)
    try:
        notebook = NotebookPage(context.new_page(), lab)
        notebook.open("same.ipynb")
        notebook.run_all()
        assert notebook.ask("lab.errors()") == []
        roots = notebook.page.locator(".jp-Cell .causal-explorer").all()
        yield [Hand(notebook, root, twin) for root, twin in zip(roots, twins, strict=True)]
        if silent:
            assert notebook.ask("lab.heard()") == notebook.console == []
    finally:
        context.close()
        lab.stop_kernels()


def test_the_page_shows_what_python_computes(browser, lab):
    assert len(NAMES) * SETTINGS >= 100
    with hands(browser, lab, [f"make({n!r})" for n in NAMES], map(make, NAMES)) as found:
        ids = found[0].notebook.page.evaluate(IDS)  # each widget has a module of its own
        assert len(ids) == len(set(ids)) > 2 * len(NAMES)
        for name, hand in zip(NAMES, found, strict=True):
            assert differences(hand.seen(), hand.right(), name) == []
            for _ in range(SETTINGS):
                before = hand.seen()
                hand.move()
                assert differences(hand.seen(), hand.right(), name) == [], hand.wishes
                # Had nothing moved, this would have been seen.
                assert differences(before, hand.right()) != [], hand.wishes


def test_a_wrong_picture_is_told(browser, lab):
    cells = [cell for cell, _ in PLANTED.values()]
    twins = [make("MaskExplorer") for _ in PLANTED]
    with hands(browser, lab, cells, twins) as found:
        for (name, (_, where)), hand in zip(PLANTED.items(), found, strict=True):
            assert differences(hand.seen(), hand.right()) == [], name
            told = []
            for _ in range(4):
                hand.move()
                told += differences(hand.seen(), hand.right(), "")
            told = {line.split(": ")[0].split("[")[0].removeprefix(".") for line in told}
            assert told == where, name
