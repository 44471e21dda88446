"""What fingers and keys do on a saved page: point, click, pin, play."""

import re

import pytest
import torch
from playwright.sync_api import expect

from causal_lab.explorers import (
    FillExplorer,
    MaskExplorer,
    PositionExplorer,
    SoftMaskExplorer,
    SoftmaxExplorer,
)
from causal_lab.explorers.heads import THIS_HEAD, HeadExplorer
from causal_lab.explorers.schemes import NONE, SINUSOIDAL
from causal_lab.explorers.soft_mask import HARD, SOFT
from tests.builders import build
from tests.chromium import chromium
from tests.site.hand import MOVE, SHOWN, Hand, Opened

LEFT, TOP, SIDE = 46, 8, 352  # where explorer.js puts the cells of a map, in pixels
LAYERS, HEADS = 2, 3  # fewer rows than columns: they are counted from 0 all the same
# In which rows of the map the frame of the chosen layer begins. Reading pixels twice is warned of.
MARKED = f"""(canvas) => {{
    const edge = canvas.getContext("2d").getImageData({LEFT - 1}, {TOP}, 1, {SIDE}).data;
    const middle = (row) => Math.floor((row + 0.5) * {SIDE / LAYERS});
    return [...Array({LAYERS}).keys()].filter((row) => edge[4 * middle(row) + 3] > 0);
}}"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    explorer = HeadExplorer(build(num_layers=LAYERS), torch.tensor([3, 1, 4, 7]), start=0)
    path = tmp_path_factory.mktemp("saved") / "heads.html"
    explorer.save(path)
    with chromium() as browser:
        yield browser, path, explorer


@pytest.fixture
def shown(saved):
    """Open the page: its root, and the hand that says what must stand there."""
    browser, path, explorer = saved
    opened, hand = Opened(browser, path), Hand(explorer)
    (root,) = opened.roots
    root.evaluate(MOVE, [[("cut", hand.move("cut", THIS_HEAD))]])  # must stay so
    yield root, hand
    assert opened.heard == []
    opened.context.close()


def test_a_click_on_a_cell_chooses_layer_and_head(shown):
    root, hand = shown
    for layer, head in [(1, 1), (0, 2), (1, 0)]:
        cell = {"x": LEFT + (head + 0.5) * SIDE / HEADS, "y": TOP + (layer + 0.5) * SIDE / LAYERS}
        root.locator("canvas").first.hover(position=cell)
        assert root.locator(".said").inner_text().startswith(f"layer {layer} → head {head}: ")
        assert hand.complaints(root.evaluate(SHOWN)) == []  # to point there moves nothing
        root.locator("canvas").first.click(position=cell)
        hand.wishes |= {"layer": layer, "head": head}
        assert hand.complaints(root.evaluate(SHOWN)) == []
        assert root.locator(".said").inner_text().endswith(" (pinned)")


def test_words_under_a_resting_finger_follow_the_controls(shown):
    root, hand = shown
    cell = {"x": LEFT + 0.5 * SIDE / HEADS, "y": TOP + 0.5 * SIDE / LAYERS}
    heads, said = root.locator("canvas").first, root.locator(".said")
    heads.hover(position=cell)
    before = said.inner_text()
    root.evaluate(MOVE, [[("look", hand.move("look", "one token back"))]])
    after = said.inner_text()
    root.page.mouse.move(0, 0)
    assert said.inner_text() == ""
    heads.hover(position=cell)
    assert said.inner_text() == after != before


@pytest.mark.parametrize("key", ["Enter", " "])
def test_arrow_keys_walk_to_a_cell_and_enter_chooses_it(shown, key):
    root, hand = shown
    heads, pattern = root.locator("canvas").all()[:2]
    # The first key shows where one is, and does no more; a pointer that passes by changes nothing.
    heads.press(key)
    assert root.locator(".said").inner_text().startswith("layer 0 → head 0: ")
    assert not root.locator(".said").inner_text().endswith(" (pinned)")
    heads.blur()
    for arrow in ("ArrowDown", "ArrowDown", "ArrowRight"):
        heads.press(arrow)
    assert root.locator(".said").inner_text().startswith("layer 1 → head 1: ")
    assert hand.complaints(root.evaluate(SHOWN)) == []
    pattern.hover()
    root.page.mouse.move(0, 0)
    heads.press("ArrowUp")
    assert root.locator(".said").inner_text().startswith("layer 1 → head 1: ")
    heads.press(key)
    hand.wishes |= {"layer": 1, "head": 1}
    assert hand.complaints(root.evaluate(SHOWN)) == []
    assert heads.evaluate(MARKED) == [1]
    pattern.press("ArrowDown")
    pattern.press(key)  # a map that names no controls moves none
    assert hand.complaints(root.evaluate(SHOWN)) == []


@pytest.fixture
def open_one(saved, tmp_path):
    """Give what saves an explorer and opens the page."""
    pages = []

    def open_one(explorer, grid, **options):
        path = tmp_path / "explorer.html"
        explorer.save(path, grid)
        pages.append(Opened(saved[0], path, **options))
        (root,) = pages[-1].roots
        return pages[-1], root

    yield open_one
    for opened in pages:
        assert opened.heard == []
        opened.context.close()


def test_a_click_where_nothing_was_recorded_shows_what_was(saved, open_one):
    explorer = saved[2]
    _, root = open_one(explorer, {**explorer.GRID, "layer": [0]})
    cell = {"x": LEFT + 0.5 * SIDE / HEADS, "y": TOP + 1.5 * SIDE / LAYERS}  # layer 1
    root.locator("canvas").first.click(position=cell)
    assert root.evaluate("(root) => root.dataset.state") == "ready"
    assert root.locator(".caption").inner_text().startswith("0.0 looks")


def test_a_pin_stays_while_its_map_does(open_one):
    opened, root = open_one(PositionExplorer(T=3), {"scheme": [SINUSOIDAL, NONE]})
    said, weights = root.locator(".said"), root.locator("canvas").first

    def choose(scheme):
        root.evaluate(MOVE, [[("scheme", scheme)]])

    weights.click(position={"x": LEFT + 5, "y": TOP + 300})
    opened.page.mouse.move(0, 0)
    before = said.inner_text()
    assert before.startswith("query 2 → key 0: ")
    choose(NONE)  # which has no dials
    assert said.inner_text() == "query 2 → key 0: 0.333 (pinned)" != before
    choose(SINUSOIDAL)
    assert said.inner_text() == before
    root.locator("canvas").last.click()
    opened.page.mouse.move(0, 0)
    assert said.inner_text().endswith(" (pinned)")
    choose(NONE)
    assert said.inner_text() == ""
    choose(SINUSOIDAL)
    assert said.inner_text() == ""


def test_only_the_pinned_place_is_called_pinned(open_one):
    opened, root = open_one(PositionExplorer(T=3), {"T": [3]})
    said, (weights, curve, _) = root.locator(".said"), root.locator("canvas").all()
    weights.click(position={"x": LEFT + 5, "y": TOP + 300})
    before = said.inner_text()
    assert before.startswith("query 2 → key 0: ")
    assert before.endswith(" (pinned)")
    weights.hover(position={"x": LEFT + 5, "y": TOP + 5})
    assert said.inner_text() == "query 0 → key 0: 1"
    curve.hover()
    assert said.inner_text().startswith("distance ")
    assert not said.inner_text().endswith(" (pinned)")
    opened.page.mouse.move(0, 0)
    assert said.inner_text() == before


def test_a_gap_in_a_curve_has_no_number(open_one):
    _, root = open_one(SoftmaxExplorer(T=4, row=0), {"T": [4]})
    curve = root.locator(".panel.curves canvas").first
    curve.press("ArrowRight")
    said = [root.locator(".said").inner_text()]
    for _ in range(3):
        curve.press("ArrowRight")
        said.append(root.locator(".said").inner_text())
    assert re.fullmatch(r"key 0: score −?[\d.]+", said[0])
    assert said[1:] == ["key 1: nothing", "key 2: nothing", "key 3: nothing"]


def test_no_track_changes_its_length_under_the_hand(open_one):
    _, root = open_one(FillExplorer(), {"fill": list(FillExplorer.GRID["fill"]), "T": [8, 16]})
    for name in ("fill", "T"):
        field = root.locator(f"[data-control={name}]")
        field.press("Home")
        widths = [field.bounding_box()["width"]]
        for _ in range(int(field.get_attribute("max"))):
            field.press("ArrowRight")
            widths.append(field.bounding_box()["width"])
        assert len(widths) > 1
        assert max(widths) - min(widths) < 1, name


def test_words_stay_in_sight_on_a_phone(open_one):
    size = {"width": 390, "height": 844}
    _, root = open_one(PositionExplorer(T=3), {"T": [3]}, size=size, has_touch=True)
    root.locator("canvas").first.tap(position={"x": LEFT + 5, "y": TOP + 5})
    said = root.locator(".said")
    assert said.inner_text() == "query 0 → key 0: 1 (pinned)"
    box = said.bounding_box()
    assert 0 <= box["y"] <= box["y"] + box["height"] <= 844


def test_words_do_not_come_between_a_pointer_and_its_cell(open_one):
    opened, root = open_one(PositionExplorer(T=3), {"T": [3]}, size={"width": 800, "height": 400})
    box = root.locator("canvas").first.bounding_box()
    for x in (box["x"] + 60, box["x"] + 61):
        opened.page.mouse.move(x, 395)  # where the words come to stand
        assert root.locator(".said").inner_text().startswith("query ")


def test_hidden_words_are_hidden_from_all(open_one):
    words = "one two three".split()
    explorer = MaskExplorer(T=3, tokens=words)
    _, root = open_one(explorer, {"T": [3], "position": [0]}, forced_colors="active")
    shown = root.locator(".words").aria_snapshot()
    assert "one" in shown
    assert "two" not in shown
    colours = root.locator(".words .hidden").evaluate_all(
        "(all) => all.map((one) => getComputedStyle(one).color)"
    )
    assert colours == ["rgba(0, 0, 0, 0)"] * 2


@pytest.fixture
def playing(open_one, request):
    """Press play: the page, the slider, its button."""
    motion = getattr(request, "param", "no-preference")
    grid = {"depth": [0, 1, 2, 4, 10, 20, 30, 60, 103, 104, 120], "mask": [SOFT, HARD]}
    _, root = open_one(SoftMaskExplorer(T=3, depth=0), grid, reduced_motion=motion)
    button = root.get_by_role("button")
    button.click()
    return root, root.locator("[data-control=depth]"), button


def test_what_plays_stops_where_its_slider_means_nothing(playing):
    root, slider, button = playing
    expect(slider).to_have_value("2")
    assert button.inner_text() == "⏸"
    root.evaluate(MOVE, [[("mask", HARD)]])
    there = slider.input_value()
    expect(button).to_be_disabled()
    root.page.wait_for_timeout(1200)  # two steps
    assert slider.input_value() == there
    root.evaluate(MOVE, [[("mask", SOFT)]])
    assert (slider.input_value(), button.inner_text()) == (there, "▶")
    button.click()
    expect(slider).not_to_have_value(there)


@pytest.mark.parametrize("playing", ["reduce"], indirect=True)
def test_who_wants_less_motion_gets_a_step_for_a_press(playing):
    root, slider, button = playing
    root.page.wait_for_timeout(1200)
    assert (slider.input_value(), button.inner_text()) == ("1", "▶")
    button.click()
    assert slider.input_value() == "2"


SILENT = """async ([source, controls, picture]) => {
    const address = `data:text/javascript,${encodeURIComponent(source)}`;
    const { render } = (await import(address)).default;
    const told = { _name: "Silent", _controls: controls, _picture: picture, _ahead: null };
    const model = { get: (name) => told[name], set() {}, save_changes() {}, on() {}, off() {} };
    render({ model, el: document.body });
}"""


def test_a_slider_tells_where_it_is_before_python_answers(saved):
    explorer = FillExplorer(fill="-5")
    picture = {**explorer._picture, "panels": []}  # this Python draws nothing
    context = saved[0].new_context()
    page = context.new_page()
    page.evaluate(SILENT, [explorer._esm, explorer._controls, picture])
    fill = page.locator("[data-control=fill]")
    assert fill.get_attribute("aria-valuetext") == "−5"
    fill.press("ArrowRight")
    words = page.locator("output[for='" + fill.get_attribute("id") + "']").inner_text()
    assert fill.get_attribute("aria-valuetext") == words != "−5"
    context.close()
