"""A lesson takes no longer than it says, and asks for nothing that it has not shown."""

import json

import pytest
from introduced import NOTEBOOKS, missing, tools_of
from minutes import minutes

PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))

each_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


@each_notebook
def test_a_lesson_takes_half_an_hour_at_most_and_says_how_long(path):
    found = minutes(path)
    reading, exercises = found.stated
    assert found.reading <= 30
    assert abs(reading - found.reading) <= found.reading / 5
    assert exercises == found.exercises


@each_notebook
def test_the_install_cell_is_folded(path):
    cell = json.loads(path.read_text(encoding="utf-8"))["cells"][1]
    assert "Install causal_lab" in "".join(cell["source"])
    assert cell["metadata"]["jupyter"]["source_hidden"] is True


def test_nobody_needs_a_name_before_it_was_introduced():
    assert missing(PATHS) == {}


def test_what_a_solution_needs_is_found():
    source = "def f(x):\n    y = x.sum(-1, keepdim=True)[:, None]\n    return cross_entropy(y, x)"
    assert tools_of(source) == {"sum", "keepdim=", "[:, None]", "cross_entropy"}
    assert tools_of("words = sorted(a.append(b.shape))") == set()


def notebook(tmp_path, *cells):
    path = tmp_path / "00_x.ipynb"
    kinds = {"m": "markdown", "c": "code"}
    whole = [
        {"cell_type": kinds[kind], "source": [source], "outputs": [{"data": data}]}
        for kind, source, data in cells
    ]
    path.write_text(json.dumps({"cells": whole}), encoding="utf-8")
    return path


def test_minutes_are_added_up(tmp_path):
    path = notebook(
        tmp_path,
        ("m", "Needs 00 · 5 minutes + 7 for the exercises", {}),
        ("c", "Install causal_lab\n" * 50, {}),
        ("m", "word " * 171 + "<details>" + "word " * 900 + "</details>", {}),
        ("c", "x\n" * 12, {"image/png": ""}),  # 1 minute, and a third
        ("c", 'predict("?", ["a", "b"])', {}),  # 1/12 + 3/4
        ("c", "predict.compare('a')\nMaskExplorer(T=8)", {"image/png": ""}),  # 2/12 + 4
        ("m", "## Your turn\n### 1 · f (easy, 3 minutes)", {}),
        ("c", "x\n" * 120, {}),
        ("m", "### 2 · g (hard, 4 minutes)", {}),
        ("m", "## What to keep", {}),
    )
    found = minutes(path)
    assert (found.stated, found.exercises) == ((5, 7), 7)
    words = (10 + 171 + 4) / 180
    assert found.reading == pytest.approx(words + 1 + 1 / 3 + 1 / 12 + 3 / 4 + 2 / 12 + 4)
