"""In JupyterLab: what the page says it drew is what Python computes, array by array."""

import base64
import random
from pathlib import Path

import nbformat
import torch

from tools.browser.instances import make, names
from tools.browser.page import NotebookPage

SETTINGS = 10  # of each explorer
SENTENCES = ["", "raise", "the value of the value", "gewiss an error", "if the list is not empty"]
SETUP = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n" + (
    "from tools.browser.instances import make\nfrom causal_lab.explorers import MaskExplorer as Mask"
)
# Pictures that are not those of the values, each in a place of its own.
PLANTED = {
    "wrong": """
class Wrong(Mask):
    def compute(self, T, position, mask):
        return super().compute(T, position, mask if T < 9 else "none, as in BERT")
Wrong(tokens=make("MaskExplorer").tokens)""",
    "one behind": """
class Behind(Mask):
    last = {}
    def compute(self, **values):
        shown, self.last = self.last or values, values
        return super().compute(**shown)
Behind(tokens=make("MaskExplorer").tokens)""",
    "stale": """
class Stale(Mask):
    _esm = Mask._esm.replace("    redraw();\\n    if (caption", "    last ??= redraw();\\n if (caption")
Stale(tokens=make("MaskExplorer").tokens)""",
    "stale words": """
class StaleWords(Mask):
    _esm = Mask._esm.replace("caption.textContent = picture.caption", "caption.textContent ||= picture.caption")
StaleWords(tokens=make("MaskExplorer").tokens)""",
    "stale control": """
class StaleControl(Mask):
    _esm = Mask._esm.replace('if (state === "ready") place();', "if (!panels.length) place();")
StaleControl(tokens=make("MaskExplorer").tokens)""",
}

# What stands in the page: the picture drawn last, the words beside it, and the controls.
READ = """root => {
  const text = bytes => btoa(Array.from(bytes, byte => String.fromCharCode(byte)).join(""));
  const plain = thing => {
    if (Array.isArray(thing)) return thing.map(plain);
    if (thing === null || typeof thing !== "object") return thing;
    if (ArrayBuffer.isView(thing)) {
      return text(new Uint8Array(thing.buffer, thing.byteOffset, thing.byteLength));
    }
    return Object.fromEntries(Object.entries(thing).map(([key, value]) => [key, plain(value)]));
  };
  const all = (what, read) => [...root.querySelectorAll(what)].map(read);
  const { panels, caption, limits, unused } = root.drawn();
  return {
    picture: plain({ panels, caption, limits, unused }),
    state: root.dataset.state,
    error: root.querySelector(".error").textContent,
    caption: root.querySelector(".caption").textContent,
    titles: all("figcaption", one => one.textContent),
    sentences: all(".words", line => [...line.children].map(e => [e.textContent, e.classList[0]])),
    rings: all(".words", line => [...line.children].findIndex(e => e.classList.contains("ring"))),
    controls: Object.fromEntries(all("[data-control]", ({ dataset, type, value, min, max, disabled }) =>
      [dataset.control, { type, value, min, max, disabled }])),
  };
}"""
# A hand that moves several controls at once: the last word counts.
MOVE = """(root, moves) => {
  for (const [name, value] of moves) {
    const field = root.querySelector(`[data-control="${name}"]`);
    field.value = value;
    field.dispatchEvent(new Event(field.tagName === "SELECT" ? "change" : "input"));
  }
}"""


class Hand:
    """Moves one explorer of the page, and its twin in this process by the same values."""

    def __init__(self, notebook, root, twin, seed):
        self.notebook, self.root, self.twin = notebook, root, twin
        self.wishes, self.random = twin.values(), random.Random(seed)

    def move(self) -> None:
        """Put all controls that are not greyed out somewhere."""
        moves = []
        for name, field in self.root.evaluate(READ)["controls"].items():
            if not field["disabled"]:
                control = self.twin.controls()[name].describe()
                shown = self.choose(field, control)
                values = control.get("values")
                self.wishes[name] = values[shown] if values else shown
                moves.append([name, str(shown)])
        self.random.shuffle(moves)
        self.root.evaluate(MOVE, moves)
        self.notebook.settle()

    def choose(self, field: dict, control: dict) -> int | str:
        if field["type"] == "range":
            return self.random.randint(int(field["min"]), int(field["max"]))
        return self.random.choice(control.get("options", SENTENCES))

    def seen(self) -> dict:
        return self.root.evaluate(READ)

    def right(self) -> dict:
        """Say what should stand there."""
        values = self.twin.settled(**self.wishes)
        with torch.no_grad():
            message = plain(self.twin.compute(**values).message())
        limits = {name: list(ends) for name, ends in self.twin.limits(**values).items()}
        unused = sorted(self.twin.unused(**values))
        lines = [panel for panel in message["panels"] if panel["kind"] == "Sentence"]
        return {
            "picture": {**message, "limits": limits, "unused": unused},
            "state": "ready",
            "error": "",
            "caption": message["caption"],
            "titles": [panel["title"] for panel in message["panels"]],
            "sentences": [list(map(list, zip(p["words"], p["kinds"], strict=True))) for p in lines],
            "rings": [-1 if line["ring"] is None else line["ring"] for line in lines],
            "controls": self.stand(values, limits, unused),
        }

    def stand(self, values: dict, limits: dict, unused: list) -> dict:
        found = {}
        for name, control in self.twin.controls().items():
            shown = control.describe()
            places = shown.get("values")
            value = places.index(values[name]) if places else values[name]
            found[name] = {"value": str(value), "disabled": name in unused}
            if shown["kind"] == "slider":
                low, high = limits.get(name, (shown["low"], shown["high"]))
                found[name] |= {"min": str(low), "max": str(high)}
                found[name]["disabled"] |= low == high
        return found


def plain(thing):
    """Write bytes as text, as the page does."""
    if isinstance(thing, dict):
        return {key: plain(value) for key, value in thing.items()}
    if isinstance(thing, list):
        return [plain(one) for one in thing]
    return base64.b64encode(thing).decode() if isinstance(thing, bytes) else thing


def differences(seen, right, where=()) -> list[str]:
    """Say where the page shows something else than is right."""
    if isinstance(right, dict):
        pairs = [(key, seen.get(key, "nothing"), value) for key, value in right.items()]
    elif isinstance(right, list) and isinstance(seen, list) and len(seen) == len(right):
        pairs = [(n, *pair) for n, pair in enumerate(zip(seen, right, strict=True))]
    else:
        same = seen == right or (seen != seen and right != right)
        return [] if same else [f"{'.'.join(map(str, where))}: {seen!r:.80}, not {right!r:.80}"]
    return [line for key, one, two in pairs for line in differences(one, two, (*where, key))]


def hands(sources, twins, browser, lab):
    """Open a notebook with a cell per explorer, and give a hand for each."""
    cells = [nbformat.v4.new_code_cell(source) for source in [SETUP, *sources]]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), lab.root / "same.ipynb")
    context = browser.new_context(viewport={"width": 1300, "height": 1000})
    notebook = NotebookPage(context.new_page(), lab)
    notebook.open("same.ipynb")
    notebook.run_all()
    assert notebook.ask("lab.errors()") == []
    roots = notebook.page.locator(".jp-Cell .causal-explorer")
    assert roots.count() == len(sources)
    return context, [Hand(notebook, roots.nth(n), twin, n) for n, twin in enumerate(twins)]


def test_the_page_shows_what_python_computes(browser, lab):
    context, found = hands(
        [f"make({name!r})" for name in names()], map(make, names()), browser, lab
    )
    try:
        for name, hand in zip(names(), found, strict=True):
            last = None
            for _ in range(SETTINGS):
                hand.move()
                seen, right = hand.seen(), hand.right()
                assert differences(seen, right) == [], (name, hand.wishes)
                assert last is None or last == right or differences(last, right), name
                last = seen
        assert len(found) * SETTINGS >= 100 or len(found) < 15
    finally:
        context.close()
        lab.stop_kernels()


def test_a_wrong_picture_is_told(browser, lab):
    twins = [make("MaskExplorer") for _ in PLANTED]
    context, found = hands(PLANTED.values(), twins, browser, lab)
    where = {}
    try:
        for name, hand in zip(PLANTED, found, strict=True):
            assert differences(hand.seen(), hand.right()) == [], name
            told = []
            for _ in range(6):
                hand.move()
                told += differences(hand.seen(), hand.right())
            where[name] = {line.split(":")[0].split(".")[0] for line in told}
    finally:
        context.close()
        lab.stop_kernels()
    assert where["wrong"] == {"picture", "caption", "sentences"}
    assert where["one behind"] == {"picture", "caption", "titles", "sentences", "rings"}
    assert where["stale"] >= {"picture", "titles", "sentences"}
    assert where["stale words"] == {"caption"}
    assert where["stale control"] == {"controls"}
