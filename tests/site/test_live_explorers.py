"""An explorer is made again from the cells that it needs, and from no others."""

import ast
import json
from pathlib import Path

import pytest
import torch
from live_explorers import names_in, needed, remake, run_cell

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def notebook(tmp_path, *sources, saved="<MaskExplorer T=3>"):
    """Write a notebook whose last cell shows an explorer."""
    output = {"data": {"text/plain": [saved], "image/png": ["AAAA"]}}
    cells = [{"cell_type": "markdown", "source": ["# 99 · A title\n", "## Here"]}]
    cells += [{"cell_type": "code", "source": [source], "outputs": []} for source in sources]
    cells[-1]["outputs"] = [output]
    path = tmp_path / "99_a_title.ipynb"
    path.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    return path


def test_names_are_read_before_they_are_written():
    source = (
        "import a\nfor n in rows:\n    total = n + a.b\ndef f(x):\n    return x + later + total"
    )
    read, written = names_in(compile(source, "cell", "exec"))
    assert read == {"rows", "later"}
    assert written == {"a", "n", "total", "f"}


def test_only_what_an_explorer_needs_is_run(tmp_path):
    path = notebook(
        tmp_path,
        "%pip install nothing",
        "from causal_lab.explorers import MaskExplorer\nlength = 1",
        "raise RuntimeError('nobody needs this cell')",
        "length = length + 2",
        "length = 9\nraise RuntimeError('nor this one')",
        "length = 3",
        "MaskExplorer(length)",
    )
    (live,) = remake(path)
    assert (live.key, live.heading, live.explorer.T) == ("99-MaskExplorer", "Here", 3)


def test_a_notebook_that_turns_gradients_off_does_so_for_itself(tmp_path):
    sources = (
        "import torch\nfrom causal_lab.explorers import MaskExplorer",
        "torch.set_grad_enabled(False)\nlength = 3",
        "assert not torch.is_grad_enabled()\nMaskExplorer(length)",
    )
    remake(notebook(tmp_path, *sources))
    assert torch.is_grad_enabled()


def test_nothing_is_compared_with_a_guess_that_nobody_made(tmp_path):
    sources = (
        "from causal_lab.explorers import MaskExplorer",
        "from causal_lab.course import Predictions\npredict = Predictions()",
        'predict("What?", ["1", "2"])',
        'predict.compare("1")\nMaskExplorer(3)',
    )
    (live,) = remake(notebook(tmp_path, *sources))
    assert live.explorer.T == 3


def test_the_notebook_that_trains_runs_few_cells():
    path = NOTEBOOKS / "07_kv_cache.ipynb"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    sources = {
        n: "".join(cell["source"]) for n, cell in enumerate(cells) if cell["cell_type"] == "code"
    }
    codes = {n: ast.parse(source) for n, source in sources.items() if "%pip" not in source}
    (shown,) = [n for n, source in sources.items() if source.endswith("\nwatch")]
    chosen = [sources[n] for n in needed(codes, {shown})]
    assert len(chosen) == 4  # imports, training, writing, showing
    assert "train(writer" in chosen[1]


@pytest.mark.parametrize(
    ("shown", "keys"),
    [
        ("MaskExplorer(3)", ["99-MaskExplorer", "99-MaskExplorer-3"]),
        ("watch", ["99-MaskExplorer", "99-MaskExplorer"]),
    ],
)
def test_two_explorers_have_records_of_their_own_and_one_that_is_shown_twice_has_one(
    tmp_path, shown, keys
):
    first = "from causal_lab.explorers import MaskExplorer\nwatch = MaskExplorer(3)"
    path = notebook(tmp_path, first, shown)
    written = json.loads(path.read_text(encoding="utf-8"))
    written["cells"].append(written["cells"][-1])
    path.write_text(json.dumps(written), encoding="utf-8")
    assert [live.key for live in remake(path)] == keys


def test_a_saved_output_that_no_run_makes_ends_the_build(tmp_path):
    sources = "from causal_lab.explorers import MaskExplorer", "MaskExplorer(T=4)"
    with pytest.raises(ValueError, match="cell 2 made no <MaskExplorer T=3>"):
        remake(notebook(tmp_path, *sources))


def test_a_cell_is_silent_and_gives_what_it_ends_with(capsys):
    assert run_cell(ast.parse("print('heard')\n1 + 1"), {}) == 2
    assert run_cell(ast.parse("a = 1"), {}) is None
    assert capsys.readouterr().out == ""
