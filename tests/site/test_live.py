"""The site's explorers in a real browser, opened from disk, with the network off.

Python says what each of them must show: the explorers are made a second time, from the cells of
their notebooks, and asked for the same values.
"""

import gzip
import itertools
import json
import random
import re
import shutil
import struct
from base64 import b64decode
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from live_explorers import remake, saved_as

from causal_lab.explorers import record
from tests.chromium import chromium
from tests.pictures import DRAWN, differences

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SETTINGS = 40  # of each explorer
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}

# What an explorer shows: its picture as data, the words around it, its controls, its canvases.
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
        pixels: Array.from(root.querySelectorAll("canvas"), (one) => one.toDataURL()).join(),
    }};
}}"""
# Move controls as a hand would: one after the other, and no further than they go.
MOVE = f"""(root, steps) => steps.map((moves) => {{
    for (const [name, value] of moves) {{
        const field = root.querySelector(`[data-control="${{name}}"]`);
        if (field.disabled) continue;
        field.value = value;
        field.dispatchEvent(new Event(field.tagName === "SELECT" ? "change" : "input"));
    }}
    return {{ ...({SHOWN})(root), pixels: null }};
}})"""


def keys_in(path):
    """List the explorers of a notebook, without running it, by the names of their records."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    kinds = [re.match(r"<(\w+)", said)[1] for output in outputs if (said := saved_as(output))]
    return [f"{path.stem[:2]}-{kind}" for kind in dict.fromkeys(kinds)]


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


class Opened:
    """A page from disk, whose explorers are awake, and what was heard from it."""

    def __init__(self, browser, file, size=DESK, **options):
        self.context = browser.new_context(viewport=size, offline=True, **options)
        self.page = self.context.new_page()
        self.heard, self.asked = [], []
        self.page.on("console", lambda message: self.heard.append(message.text))
        self.page.on("pageerror", lambda error: self.heard.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(file.as_uri())
        self.roots = self.page.locator(".causal-explorer").all()
        for root in self.roots:
            root.scroll_into_view_if_needed()
            root.locator(".note").wait_for()
            assert root.get_attribute("data-state") == "ready"

    def root(self, key):
        """Give the last explorer with this record: one that is shown twice stands there again."""
        return self.page.locator(f'.causal-explorer[data-record="{key}"]').last


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.stem)
def lesson(request, browser, site):
    """Open the page of a notebook, and make its explorers a second time."""
    path = request.param
    opened = Opened(browser, site / "notebooks" / f"{path.stem}.html", color_scheme="light")
    opened.explorers = {live.key: live.explorer for live in remake(path)}
    assert list(opened.explorers) == keys_in(path)
    yield opened
    opened.context.close()


# --- what Python says


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
        self.first = self.explorer.values()
        self.wishes = dict(self.first)
        for name, axis in self.grid.items():
            if self.wishes[name] not in axis:
                number = not isinstance(self.wishes[name], str)
                near = (
                    min(axis, key=lambda one: abs(one - self.wishes[name])) if number else axis[0]
                )
                self.wishes[name] = near

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

    def complaints(self, shown):
        """Say where a page shows something else than what Python computes for these values."""
        values = self.values
        with torch.no_grad():
            wanted = self.explorer.compute(**values).message()
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
            said = dict(zip(described.get("values", ()), described.get("words", ()), strict=True))
            wanted = said.get(values[name], str(values[name]))
            if control["said"] != wanted:
                found.append(f"{name} says {control['said']!r}, not {wanted!r}")
        return [f"{found_one} at {values}" for found_one in found]


def wander(hand, root, settings=SETTINGS, seed=0):
    """Draw settings at random, move a page there, and list where it shows something else."""
    draw = random.Random(seed)
    expected, steps = [], []
    ghost = Hand(hand.explorer)
    for _ in range(settings):
        names = draw.sample(list(ghost.grid), len(ghost.grid))
        steps.append([(name, ghost.move(name, draw.choice(ghost.grid[name]))) for name in names])
        expected.append(dict(ghost.wishes))
    found = []
    for wishes, shown in zip(expected, root.evaluate(MOVE, steps), strict=True):
        hand.wishes = wishes
        found += hand.complaints(shown)
    return found


def test_enough_settings_are_drawn():
    assert sum(len(keys_in(path)) for path in NOTEBOOKS) * SETTINGS >= 500


def test_what_a_page_drew_is_what_python_computes(lesson):
    for key, explorer in lesson.explorers.items():
        root, hand = lesson.root(key), Hand(explorer)
        assert hand.complaints(root.evaluate(SHOWN)) == []  # before anything moves
        assert wander(hand, root) == []


# --- moved by hand


def test_every_control_moves_the_picture_and_back(lesson):
    for key, explorer in lesson.explorers.items():
        root = lesson.root(key)
        for name in Hand(explorer).grid:
            field = root.locator(f'[data-control="{name}"]')
            find_use_of(field, root, explorer, name)
            before = root.evaluate(SHOWN)
            field.focus()
            there, back = (
                ("ArrowRight", "ArrowLeft") if can_grow(field) else ("ArrowLeft", "ArrowRight")
            )
            lesson.page.keyboard.press(there)
            moved = root.evaluate(SHOWN)
            assert moved["controls"][name] != before["controls"][name], (key, name)
            assert (moved["picture"], moved["pixels"]) != (before["picture"], before["pixels"])
            lesson.page.keyboard.press(back)
            assert root.evaluate(SHOWN) == before, (key, name)


def find_use_of(field, root, explorer, name):
    """Leave a control where it can be moved: one may be greyed out for what the others say."""
    draw, hand = random.Random(name), Hand(explorer)
    while field.is_disabled():
        others = draw.sample([one for one in hand.grid if one != name], len(hand.grid) - 1)
        root.evaluate(
            MOVE, [[(one, hand.move(one, draw.choice(hand.grid[one]))) for one in others]]
        )


def can_grow(field):
    grows = (
        "(one) => one.options ? one.selectedIndex + 1 < one.options.length : one.value < one.max"
    )
    return field.evaluate(
        grows.replace("one.value < one.max", "Number(one.value) < Number(one.max)")
    )


def test_every_control_has_its_label(lesson):
    for key, explorer in lesson.explorers.items():
        root = lesson.root(key)
        shown = root.locator("[data-control]").evaluate_all(
            "all => all.map(o => o.dataset.control)"
        )
        assert shown == list(Hand(explorer).grid)
        for name in shown:
            label = explorer.controls()[name].label
            field = root.get_by_label(label, exact=True)
            assert field.get_attribute("data-control") == name
            focused = field.evaluate(
                "(one) => (one.focus({ focusVisible: true }), getComputedStyle(one).outlineStyle)"
            )
            assert focused != "none" or field.is_disabled()


def test_a_slider_that_is_pulled_fast_ends_with_its_own_picture(lesson):
    for key, explorer in lesson.explorers.items():
        root = lesson.root(key)
        for slider in root.locator("input[type=range]:enabled").all():
            slider.scroll_into_view_if_needed()
            box = slider.bounding_box()
            middle = box["y"] + box["height"] / 2
            lesson.page.mouse.move(box["x"] + 6, middle)
            lesson.page.mouse.down()
            for share in (0.9, 0.2, 0.7, 0.35):
                lesson.page.mouse.move(box["x"] + share * box["width"], middle, steps=8)
            lesson.page.mouse.up()
            shown, hand = root.evaluate(SHOWN), Hand(explorer)
            for name, control in shown["controls"].items():
                value = control["value"]
                hand.wishes[name] = value if hand.is_menu(name) else hand.grid[name][int(value)]
            assert hand.complaints(shown) == []


# --- the page around it


def test_axe_finds_no_barrier(lesson):
    answer = Axe().run(lesson.page, context=".causal-explorer", options={"preload": False})
    found = [
        (violation["id"], node["html"][:160])
        for violation in answer.response["violations"]
        for node in violation["nodes"]
    ]
    assert found == []


def test_the_switch_of_the_site_darkens_and_lightens_the_explorers(lesson):
    for theme in ("dark", "light"):
        lesson.page.locator(".theme-toggle:visible").first.click()
        for root in lesson.roots:
            lesson.page.wait_for_function(
                "([root, theme]) => root.dataset.theme === theme",
                arg=[root.element_handle(), theme],
            )
            drawn = root.evaluate("(root) => getComputedStyle(root).color")
            assert drawn == {"dark": "rgb(236, 236, 236)", "light": "rgb(27, 27, 27)"}[theme]


def test_nothing_was_complained_of_or_asked_of_the_network(lesson):
    assert lesson.heard == []
    foreign = [url for url in lesson.asked if not url.startswith(("file:", "data:", "blob:"))]
    assert foreign == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_phone_shows_all_of_it_dark(browser, site, path):
    opened = Opened(browser, site / "notebooks" / f"{path.stem}.html", PHONE, color_scheme="dark")
    try:
        assert {root.get_attribute("data-theme") for root in opened.roots} == {"dark"}
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        right = "(all) => Math.max(...all.map((one) => one.getBoundingClientRect().right))"
        parts = opened.page.locator(".causal-explorer *")
        assert parts.evaluate_all(right) <= PHONE["width"]
        assert opened.heard == []
    finally:
        opened.context.close()


def test_the_gallery_shows_every_explorer_alive(browser, site):
    opened = Opened(browser, site / "docs" / "explorers.html")
    try:
        shown = [root.get_attribute("data-record") for root in opened.roots]
        assert shown == [key for path in NOTEBOOKS for key in keys_in(path)]
        assert opened.heard == []
    finally:
        opened.context.close()


def test_without_javascript_a_still_stands_there(browser, site):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((site / "notebooks" / f"{NOTEBOOKS[0].stem}.html").as_uri())
    root = page.locator(".causal-explorer")
    assert root.locator("img").evaluate("(image) => image.naturalWidth") > 200
    assert "stands still" in root.inner_text()
    context.close()


# --- sizes


def test_records_and_module_are_small(site):
    records = list((site / "_static" / "records").glob("*.js"))
    assert {path.stem for path in records} == {key for path in NOTEBOOKS for key in keys_in(path)}
    assert max(path.stat().st_size for path in records) <= 400 * 1024
    assert sum(path.stat().st_size for path in records) <= 4 * 1024 * 1024
    module = ROOT / "causal_lab" / "explorers" / "explorer.js"
    assert len(module.read_text(encoding="utf-8").splitlines()) <= 900


# --- broken on purpose: each must be seen


def other_numbers(head, index, data):
    return head, index, data[:-1] + bytes([data[-1] ^ 1])


def other_words(head, index, data):
    return head.replace(b" tokens; blocked", b" token; blocked"), index, data


def one_behind(head, index, data):
    return head, index[-2:] + index[:-2], data


def stale(head, index, data):
    return head, index[:2] * (len(index) // 2), data


@pytest.mark.parametrize("spoil", [other_numbers, other_words, one_behind, stale])
def test_a_record_that_is_wrong_is_seen(browser, site, tmp_path, spoil):
    page, key = f"{NOTEBOOKS[0].stem}.html", "00-MaskExplorer"
    shutil.copytree(site / "_static", tmp_path / "_static")
    (tmp_path / "notebooks").mkdir()
    shutil.copy(site / "notebooks" / page, tmp_path / "notebooks" / page)
    script = tmp_path / "_static" / "records" / f"{key}.js"
    packed = gzip.decompress(b64decode(script.read_text(encoding="ascii").split('"')[-2]))
    length, points = struct.unpack_from("<II", packed)
    cuts = 8, 8 + length, 8 + length + 2 * points, len(packed)
    head, index, data = spoil(*(packed[a:b] for a, b in itertools.pairwise(cuts)))
    spoilt = struct.pack("<II", len(head), points) + head + index + data
    script.write_text(record.as_script(key, gzip.compress(spoilt)), encoding="ascii")
    ((live,),) = [remake(NOTEBOOKS[0])]
    opened = Opened(browser, tmp_path / "notebooks" / page)
    try:
        assert wander(Hand(live.explorer), opened.root(key)) != []
    finally:
        opened.context.close()
