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
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from live_explorers import remake, saved_as

from causal_lab.explorers import record
from tests.chromium import chromium
from tests.site.hand import MOVE, PIXELS, SETTINGS, SHOWN, Hand, Opened, wander

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PHONE = {"width": 390, "height": 844}


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


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.stem)
def lesson(request, browser, site):
    """Open the page of a notebook, and make its explorers a second time."""
    path = request.param
    opened = Opened(browser, site / "notebooks" / f"{path.stem}.html", color_scheme="light")
    opened.hands = {live.key: Hand(live.explorer) for live in remake(path)}
    assert list(opened.hands) == keys_in(path)
    yield opened
    opened.context.close()


def test_enough_settings_are_drawn():
    assert sum(len(keys_in(path)) for path in NOTEBOOKS) * SETTINGS >= 500


def test_what_a_page_drew_is_what_python_computes(lesson):
    for key, hand in lesson.hands.items():
        root = lesson.root(key)
        assert hand.complaints(root.evaluate(SHOWN)) == []  # before anything moves
        assert wander(hand, root) == []


# --- moved by hand


def test_every_control_moves_the_picture_and_back(lesson):
    for key, hand in lesson.hands.items():
        root = lesson.root(key)
        for name in hand.grid:
            stood, there, back = find_use_of(hand, name, root)
            first, pixels, drawn = root.evaluate(SHOWN), root.evaluate(PIXELS), hand.drawn()
            root.locator(f'[data-control="{name}"]').focus()
            lesson.page.keyboard.press(there)
            step = 1 if there == "ArrowRight" else -1
            hand.move(name, hand.grid[name][hand.grid[name].index(stood) + step])
            assert hand.complaints(root.evaluate(SHOWN)) == []
            assert (root.evaluate(PIXELS) != pixels) == (hand.drawn() != drawn), (key, name)
            lesson.page.keyboard.press(back)
            hand.move(name, stood)
            assert (root.evaluate(SHOWN), root.evaluate(PIXELS)) == (first, pixels), (key, name)


def find_use_of(hand, name, root):
    """Go on until a control changes the picture; say where it stands, and the keys to and fro."""
    draw, axis = random.Random(name), hand.grid[name]
    for _ in range(100):
        stood, before, wishes = hand.values[name], hand.computed(), dict(hand.wishes)
        ways = (("ArrowRight", "ArrowLeft", 1), ("ArrowLeft", "ArrowRight", -1))
        for there, back, step in ways if stood in axis else ():
            if 0 <= axis.index(stood) + step < len(axis):
                hand.move(name, axis[axis.index(stood) + step])
                changed = hand.computed() != before
                hand.wishes = dict(wishes)
                if changed:
                    return stood, there, back
        root.evaluate(
            MOVE, [[(one, hand.move(one, draw.choice(hand.grid[one]))) for one in hand.grid]]
        )
    raise AssertionError(f"{name} changes nothing")


def test_every_control_has_its_label(lesson):
    for key, hand in lesson.hands.items():
        root = lesson.root(key)
        shown = root.locator("[data-control]").evaluate_all(
            "all => all.map(o => o.dataset.control)"
        )
        assert shown == list(hand.grid)
        for name in shown:
            field = root.get_by_label(hand.explorer.controls()[name].label, exact=True)
            assert field.get_attribute("data-control") == name
            outline = (
                "(one) => (one.focus({ focusVisible: true }), getComputedStyle(one).outlineStyle)"
            )
            assert field.is_disabled() or field.evaluate(outline) != "none"


def test_a_slider_that_is_pulled_fast_ends_with_its_own_picture(lesson):
    for key, hand in lesson.hands.items():
        root = lesson.root(key)
        for slider in root.locator("input[type=range]:enabled").all():
            slider.scroll_into_view_if_needed()
            box = slider.bounding_box()
            middle = box["y"] + box["height"] / 2
            lesson.page.mouse.move(box["x"] + 6, middle)
            lesson.page.mouse.down()
            for share in (0.9, 0.2, 0.7, 0.35):
                lesson.page.mouse.move(box["x"] + share * box["width"], middle, steps=5)
            lesson.page.mouse.up()
            name = slider.get_attribute("data-control")
            hand.wishes[name] = hand.grid[name][int(slider.input_value())]
            assert hand.complaints(root.evaluate(SHOWN)) == []


# --- the page around it


def barriers(page):
    """Ask axe-core what keeps people from using the explorers of a page."""
    answer = Axe().run(page, context=".causal-explorer", options={"preload": False})
    violations = answer.response["violations"]
    return [(one["id"], node["html"][:160]) for one in violations for node in one["nodes"]]


def test_axe_finds_no_barrier(lesson):
    assert barriers(lesson.page) == []


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


@pytest.mark.parametrize("name", ["index", "docs/explorers", "notebooks/07_kv_cache"])
def test_a_phone_shows_all_of_it_dark(browser, site, name):
    opened = Opened(browser, site / f"{name}.html", PHONE, color_scheme="dark")
    try:
        assert {root.get_attribute("data-theme") for root in opened.roots} == {"dark"}
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        right = "(all) => Math.max(...all.map((one) => one.getBoundingClientRect().right))"
        parts = opened.page.locator(".causal-explorer *")
        assert parts.evaluate_all(right) <= PHONE["width"]
        assert opened.heard == []
        assert barriers(opened.page) == []
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
