"""A page of the site, opened from disk, and what Python says that its explorers must show."""

import random
from dataclasses import dataclass

import torch

from tests.pictures import DRAWN, differences

SETTINGS = 40  # of each explorer
DESK = {"width": 1280, "height": 900}

# What an explorer shows: its picture as data, the words around it, its controls.
SHOWN = f"""(root) => {{
    const texts = (chosen) => Array.from(root.querySelectorAll(chosen), (one) => one.textContent);
    const controls = Array.from(root.querySelectorAll("[data-control]"), (field) => [
        field.dataset.control,
        {{
            value: field.value,
            said: field.parentElement.querySelector("output")?.textContent ?? field.value,
            still: field.disabled,
        }},
    ]);
    return {{
        state: root.dataset.state,
        picture: ({DRAWN})(root),
        caption: root.querySelector(".caption").textContent,
        titles: texts("figcaption"),
        error: texts(".error").join(""),
        controls: Object.fromEntries(controls),
    }};
}}"""
# What answers a prediction is hidden until asked for, an explorer as well.
FOLDED = "details:has(.causal-explorer)"
OPEN = "(all) => all.forEach((one) => { one.open = true; })"
PIXELS = """(root) => Array.from(root.querySelectorAll("canvas"), (one) => one.toDataURL())"""
# Move controls as a hand would: one after the other, and no further than they go.
MOVE = f"""(root, steps) => steps.map((moves) => {{
    for (const [name, value] of moves) {{
        const field = root.querySelector(`[data-control="${{name}}"]`);
        if (field.disabled) continue;
        field.value = value;
        field.dispatchEvent(new Event(field.tagName === "SELECT" ? "change" : "input"));
    }}
    return ({SHOWN})(root);
}})"""


class Opened:
    """A page from disk, whose explorers are awake, and what was heard from it."""

    def __init__(self, browser, file, size=DESK, **options):
        self.context = browser.new_context(viewport=size, offline=True, **options)
        self.page = self.context.new_page()
        self.heard, self.asked = [], []
        self.page.on("console", self.hear)
        self.page.on("pageerror", lambda error: self.heard.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(file.as_uri())
        self.page.locator(FOLDED).evaluate_all(OPEN)
        self.roots = self.page.locator(".causal-explorer").all()
        for root in self.roots:
            root.scroll_into_view_if_needed()
            root.locator(".note").wait_for()
            assert root.get_attribute("data-state") == "ready"

    def hear(self, message):
        if not message.text.startswith("Changed to"):  # the theme says so itself
            self.heard.append(message.text)

    def root(self, key):
        """Give the last explorer with this record: one that is shown twice stands there again."""
        return self.page.locator(f'.causal-explorer[data-record="{key}"]').last


@dataclass
class Hand:
    """What the controls of a recorded page do, written out a second time.

    They walk over the values of ``GRID`` and stop where the other controls leave no room; what was
    wished is kept.
    """

    explorer: object

    def __post_init__(self):
        grid = self.explorer.GRID
        self.grid = {name: list(grid[name]) for name in self.explorer.controls() if name in grid}
        self.wishes = {
            name: self.nearest(name, value) for name, value in self.explorer.values().items()
        }

    def nearest(self, name, value):
        axis = self.grid.get(name, [value])
        if value in axis or isinstance(value, str):
            return value if value in axis else axis[0]
        return min(axis, key=lambda one: abs(one - value))

    @property
    def values(self):
        return self.explorer.settled(**self.wishes)

    def move(self, name, value):
        """Move one control towards a value of its axis; give what its field is set to."""
        axis, values = self.grid[name], self.values
        low, high = self.explorer.limits(**values).get(name, (None, None))
        room = [one for one in axis if low is None or low <= one <= high] or axis[:1]
        if name not in self.explorer.unused(**values) and (low is None or low < high):
            self.wishes[name] = value if value in room else max(room) if value > high else min(room)
        return value if self.is_menu(name) else axis.index(value)

    def is_menu(self, name):
        return self.explorer.controls()[name].kind in ("menu", "text")

    def computed(self):
        with torch.no_grad():
            return self.explorer.compute(**self.values).message()

    def drawn(self):
        """Give what stands on the canvases; titles and sentences stand beside them."""
        panels = [panel for panel in self.computed()["panels"] if panel["kind"] != "Sentence"]
        return [{**panel, "title": ""} for panel in panels]

    def complaints(self, shown):
        """Say where a page shows something else than what Python computes for these values."""
        values, wanted = self.values, self.computed()
        found = differences(shown["picture"], wanted)
        words = {
            "state": "ready",
            "error": "",
            "caption": wanted["caption"],
            "titles": [panel["title"] for panel in wanted["panels"]],
        }
        found += [f"{name}: {shown[name]!r}" for name in words if shown[name] != words[name]]
        for name, control in shown["controls"].items():
            described = self.explorer.controls()[name].describe()
            as_said = dict(
                zip(described.get("values", ()), described.get("words", ()), strict=True)
            )
            if control["said"] != as_said.get(values[name], str(values[name])):
                found.append(f"{name} says {control['said']!r}")
        return [f"{one} at {values}" for one in found]


def wander(hand, root, settings=SETTINGS, seed=0):
    """Draw settings at random, move a page there, and list where it shows something else."""
    draw, wishes, steps, found = random.Random(seed), [], [], []
    for _ in range(settings):
        # Some of the controls: those that stay must keep what was wished.
        names = draw.sample(list(hand.grid), draw.randint(1, len(hand.grid)))
        steps.append([(name, hand.move(name, draw.choice(hand.grid[name]))) for name in names])
        wishes.append(dict(hand.wishes))
    for hand.wishes, shown in zip(wishes, root.evaluate(MOVE, steps), strict=True):
        found += hand.complaints(shown)
    return found
