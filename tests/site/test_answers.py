"""On the site, what answers a prediction is hidden until asked for, and nothing else is."""

import json
import re
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from build_site import for_the_site
from live_explorers import saved_as
from playwright.sync_api import expect

from tests.chromium import chromium
from tests.site.hand import DESK, PIXELS

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
BUTTON = "details.below-input > summary"
SHOW, HIDE = "Show what happens", "Hide what happens"
SAVED = "Predict: 2 < 3 & *what* else?\n  ○ <b>, nothing\n  ○ much"

# Of each code cell of a page: whether its output can be seen; null without one.
SEEN = """() => Array.from(document.querySelectorAll(".cell"), (cell) =>
    cell.querySelector(".cell_output")?.checkVisibility() ?? null)"""
# Press each button; what was written on it before, and what is after.
PRESS = """(all) => all.map((button) => {
    const before = button.innerText.trim();
    button.click();
    return [before, button.innerText.trim()];
})"""


def code(source, *shown):
    outputs = [{"output_type": "display_data", "data": {"text/plain": [text]}} for text in shown]
    return {"cell_type": "code", "metadata": {}, "source": [source], "outputs": outputs}


def prose(source):
    return {"cell_type": "markdown", "metadata": {}, "source": [source]}


def hidden_in(*cells):
    """List the code cells whose output the site hides, by their source."""
    laid_out = for_the_site({"cells": [code("install"), *cells]}, [])
    return [
        "".join(cell["source"])
        for cell in laid_out["cells"]
        if "hide-output" in cell["metadata"].get("tags", [])
    ]


# --- which cells are hidden


def test_all_that_answers_a_prediction_in_prose_is_hidden():
    assert hidden_in(
        code("before", "seen"),
        prose("## A title\n\n**Predict:** what comes?"),
        code("defines"),
        code("a", "an answer"),
        code("b", "more of it"),
        prose("So it is."),
        code("after", "seen"),
    ) == ["a", "b"]


def test_a_question_that_a_cell_asks_stays_and_what_follows_is_hidden():
    assert hidden_in(
        code("predict = Predictions()", "seen"),
        code('predict("What?", ["1", "2"])', SAVED),
        code("a", "an answer"),
        code('predict("And then?", ["1", "2"])', SAVED),
        code("b", "another"),
        prose("So it is."),
        code('predict.compare("1")', "seen"),
        code("predict.score()", "seen"),
        code("after", "seen"),
    ) == ["a", "b"]


def test_prose_before_the_first_output_does_not_end_the_question():
    assert hidden_in(
        prose("**Predict:** what comes?"),
        code("defines"),
        prose("In the picture, lower is better."),
        code("a", "an answer"),
        prose("So it is. **Predict:** and now?"),
        code("b", "another"),
    ) == ["a", "b"]


def test_the_words_of_the_button_and_those_of_the_install_cell():
    answer = code("a", "an answer")
    cells = for_the_site({"cells": [code("install"), prose("**Predict:** ?"), answer]}, [])["cells"]
    first, last = (cells[n]["metadata"] for n in (0, 2))
    assert (first["tags"], last["tags"]) == (["hide-input"], ["hide-output"])
    assert "install" in first["mystnb"]["code_prompt_show"]
    assert last["mystnb"]["code_prompt_show"] == SHOW
    assert last["mystnb"]["code_prompt_hide"] == HIDE
    assert "image" in last["mystnb"]


def test_a_question_is_written_as_a_list():
    asking = code('predict("…")', SAVED, "Predict: no list")
    shown = for_the_site({"cells": [asking]}, [])["cells"][0]["outputs"]
    assert shown[0]["data"] == {
        "text/html": [
            '<div class="prediction"><p><b>Predict:</b> 2 &lt; 3 &amp; *what* else?</p>'
            "<ul><li>&lt;b&gt;, nothing</li><li>much</li></ul></div>"
        ]
    }
    assert shown[1]["data"] == {"text/plain": ["Predict: no list"]}


def test_the_line_that_names_the_answer_is_left_out():
    sources = ('a = 1\npredict.compare("1 (a)")', 'predict.compare("2")\nb\n\nc', "predict.score()")
    cells = for_the_site({"cells": [code(source) for source in sources]}, [])["cells"]
    assert [cell["source"] for cell in cells] == ["a = 1", "b\n\nc", "predict.score()"]


# --- in the browser


def expected(path):
    """Say of each code cell whether its output is seen at once; None without one.

    A second way: the notebook as a word, P for a prediction, m for prose, c and o for code with
    and without output.
    """
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    word = "".join(letter(cell) for cell in cells)
    hidden = set()
    for found in re.finditer("P[mo]*(c[co]*)", word):
        hidden |= {*range(*found.span(1))}
    return [
        (number not in hidden) if cell["outputs"] else None
        for number, cell in enumerate(cells)
        if cell["cell_type"] == "code"
    ]


def letter(cell):
    source = "".join(cell["source"])
    if ("predict(" if cell["cell_type"] == "code" else "**Predict") in source:
        return "P"
    return ("c" if cell["outputs"] else "o") if cell["cell_type"] == "code" else "m"


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def opened(browser, site):
    """Open pages of the site, in a context of their own."""
    contexts = []

    def open_page(path, **options):
        contexts.append(browser.new_context(viewport=DESK, offline=True, **options))
        page = contexts[-1].new_page()
        page.goto((site / "notebooks" / f"{path.stem}.html").as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_answers_are_hidden_until_asked_for_and_all_else_is_seen(opened, path):
    page, wanted = opened(path), expected(path)
    assert page.evaluate(SEEN) == wanted
    assert page.locator(BUTTON).evaluate_all(PRESS) == wanted.count(False) * [[SHOW, HIDE]] != []
    assert page.evaluate(SEEN) == [None if seen is None else True for seen in wanted]
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    asking = [cell for cell in cells if cell["cell_type"] == "code" and letter(cell) == "P"]
    assert page.locator(".prediction").count() == len(asking)
    assert page.locator(".cell_input", has_text="predict.compare").count() == 0


def test_a_button_is_pressed_by_hand_and_by_keyboard_and_read_aloud_as_written(opened):
    page = opened(NOTEBOOKS[0])
    button, answer = page.locator(BUTTON).first, page.locator("details.below-input > *").nth(1)
    expect(button).to_have_accessible_name(SHOW)
    button.click()
    assert answer.is_visible()
    button.click()
    assert not answer.is_visible()
    page.locator("h1").first.click()  # the focus goes away
    for _ in range(100):  # far more links than stand above it
        page.keyboard.press("Tab")
        if button.evaluate("(one) => one === document.activeElement"):
            break
    assert button.evaluate("(one) => one === document.activeElement")
    assert button.evaluate("(one) => getComputedStyle(one).outlineStyle") != "none"
    for key, seen, words in (("Enter", True, HIDE), ("Space", False, SHOW)):
        page.keyboard.press(key)
        assert answer.is_visible() == seen
        expect(button).to_have_accessible_name(words)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_barrier_at_the_buttons(opened, theme):
    page = opened(NOTEBOOKS[0], color_scheme=theme)
    options = {"preload": False}
    for _ in ("shut", "open"):
        found = Axe().run(page, context="details.below-input", options=options).response
        assert [one["id"] for one in found["violations"]] == []
        assert "color-contrast" in [one["id"] for one in found["passes"]]
        for button in page.locator(BUTTON).all():
            button.click()
        # What opens fades in: half faded, no text has contrast enough.
        page.evaluate("Promise.all(document.getAnimations().map((one) => one.finished))")


# Browsers fold in two ways: what is not drawn keeps its size, or, in older ones, has none.
@pytest.mark.parametrize("style", ["/**/", "details:not([open]) > :not(summary) { display: none }"])
def test_a_hidden_explorer_wakes_when_it_is_asked_for_and_keeps_its_size(opened, style):
    hidden = [path for path in NOTEBOOKS if False in expected(path) and explorer_is_hidden(path)]
    page = opened(hidden[-1])
    page.add_style_tag(content=style)
    fold = page.locator("details.below-input:has(.causal-explorer)").first
    root, button = fold.locator(".causal-explorer"), fold.locator("summary")
    button.scroll_into_view_if_needed()
    page.wait_for_timeout(500)  # time enough to wake, if it were seen
    assert root.get_attribute("data-state") is None
    button.click()
    root.locator(".note").wait_for()
    assert root.get_attribute("data-state") == "ready"
    wide = widths(root)
    assert min(wide) > 100
    pixels = root.evaluate(PIXELS)
    button.click()
    page.set_viewport_size({"width": 390, "height": 844})  # resized while nobody sees it
    button.click()
    narrow = "() => [...document.querySelectorAll('[open] canvas')].every(o => o.clientWidth < 390)"
    page.wait_for_function(narrow)
    assert min(widths(root)) > 100
    page.set_viewport_size(DESK)
    expect(root.locator("canvas").first).to_have_css("width", f"{wide[0]}px")
    assert (widths(root), root.evaluate(PIXELS)) == (wide, pixels)


def explorer_is_hidden(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    cells = [cell for cell in cells if cell["cell_type"] == "code"]
    return any(
        seen is False and any(map(saved_as, cell["outputs"]))
        for cell, seen in zip(cells, expected(path), strict=True)
    )


def widths(root):
    return root.locator("canvas").evaluate_all("(all) => all.map((one) => one.clientWidth)")
