"""The record of where the series was run: counted right, never made poorer silently, true pages."""

import ast
import copy
import getpass
import importlib.util
import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from causal_lab.course.runtime import reproducibility_report

ROOT = Path(__file__).parents[1]
TOOL = ROOT / "tools" / "validate.py"
spec = importlib.util.spec_from_file_location("validate", TOOL)
validate = importlib.util.module_from_spec(spec)
spec.loader.exec_module(validate)

# --- a run of two small notebooks, from the command line

GOOD = (
    ("print(1 + 1)", "2\n"),
    ("# NBVAL_IGNORE_OUTPUT\nprint(object())", "another\n"),
    ("x = 3", ""),
)
BAD = (
    ("print('as saved')", "as saved\n"),
    ("print('not as saved')", "as saved\n"),
    ("from pathlib import Path\nprint(Path.cwd())\nraise OSError(Path.cwd())", ""),
    ("print('goes on')", "goes on\n"),
)


def write_notebook(path, cells):
    """Write a notebook as if each cell had been run and had printed this."""
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "p", "language": "python"}
    for count, (source, printed) in enumerate(cells, start=1):
        outputs = [nbformat.v4.new_output("stream", name="stdout", text=printed)] if printed else []
        cell = nbformat.v4.new_code_cell(source, execution_count=count, outputs=outputs)
        notebook.cells.append(cell)
    notebook.cells[-1].execution_count = None if not printed else count
    nbformat.write(notebook, path)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("validate")
    paths = [write_notebook(folder / f"{n}.ipynb", c) for n, c in (("good", GOOD), ("bad", BAD))]
    command = [sys.executable, str(TOOL), *map(str, paths), "--output", str(folder / "results")]
    run = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", cwd=folder)
    (path,) = (folder / "results").iterdir()
    return run, path


def test_cells_are_counted_as_passed_failed_and_compared(run):
    _, path = run
    notebooks = json.loads(path.read_text(encoding="utf-8"))["notebooks"]
    counts = {
        name: (found["cells"], found["compared"], found["passed"], found["failed"])
        for name, found in notebooks.items()
    }
    # Not compared: the cell that opts out, and the one without an execution count.
    assert counts == {"good": (3, 1, 3, 0), "bad": (4, 4, 2, 2)}
    assert all(found["seconds"] > 0 for found in notebooks.values())


def test_a_failed_cell_is_recorded_said_and_makes_the_command_fail(run):
    process, path = run
    notebooks = json.loads(path.read_text(encoding="utf-8"))["notebooks"]
    assert notebooks["bad"]["failed_cells"] == ["Cell 1", "Cell 2"]
    assert notebooks["good"]["failed_cells"] == []
    assert process.returncode == validate.CELL_FAILED != 0, process.stdout + process.stderr
    assert "failed: bad, Cell 1\nfailed: bad, Cell 2\n" in process.stdout


def test_the_file_holds_the_report_of_b11_and_is_named_after_the_device(run):
    _, path = run
    result = json.loads(path.read_text(encoding="utf-8"))
    report = reproducibility_report(device=validate.default_device())
    assert path.name == f"{validate.slug_of(result['device'])}.json"
    assert result["versions"] == report.versions
    for key in ("mask_implementation", "device", "driver", "platform"):
        assert result[key] == getattr(report, key)
    assert result["threads"] >= 1
    settings = result["configuration"]
    assert settings["dtype"] == "float32"
    assert settings["attention"]["FlexAttention"] == "not used"
    assert "attention" in settings["attention"]["SDPA with a mask"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", result["date"])


def names_of_this_machine():
    """What would tell where a file was made; a name of a few letters could be any word."""
    names = {str(ROOT), str(Path.home()), sys.prefix, socket.gethostname(), getpass.getuser()}
    return {name for name in names if len(name) > 4}


def test_the_file_does_not_say_where_it_was_made(run):
    process, path = run
    folder = path.parents[1]
    text = path.read_text(encoding="utf-8")
    assert str(folder) in process.stdout, "the bad notebook prints its folder"
    for name in {str(folder), *names_of_this_machine()}:
        assert name not in text


def test_a_file_without_cells_stops_the_command_before_anything_is_written(tmp_path):
    path = tmp_path / "empty.ipynb"
    nbformat.write(nbformat.v4.new_notebook(), path)
    with pytest.raises(SystemExit, match=r"empty\.ipynb: nbval found no cell to run; nothing was"):
        validate.main([str(path), "--output", str(tmp_path / "results")])
    assert not (tmp_path / "results").exists()


def test_the_options_are_those_of_make_notebooks_test():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (options,) = re.findall(
        r"-m pytest (?:-n 2 --dist loadscope )?(--nbval .*) notebooks$", makefile, re.M
    )
    assert tuple(options.split()) == validate.STRICT
    assert re.search(r"^validate: .*\n\t\$\(RUN\) tools/validate\.py ", makefile, re.M)


def test_a_bare_machine_can_run_it():
    tree = ast.parse(TOOL.read_text(encoding="utf-8"))
    names = {
        (alias.name if isinstance(node, ast.Import) else node.module).partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert names - sys.stdlib_module_names == {"nbval", "torch", "causal_lab"}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("flex_attention(q, k, v)", "not compiled"),
        ("f = torch.compile(flex_attention)\nflex_attention(q, k, v)", "compiled"),
        ("from torch.nn.attention.flex_attention import flex_attention", "not used"),
    ],
)
def test_the_report_says_how_flex_attention_ran(tmp_path, source, expected):
    path = write_notebook(tmp_path / "flex.ipynb", [(source, "")])
    paths = validate.attention_paths([path], validate.default_device())
    assert paths["FlexAttention"] == expected


def test_what_sdpa_chose_is_what_it_was_told_to_choose():
    q = validate.torch.ones(1, 1, 2, 4)

    def call():
        validate.scaled_dot_product_attention(q, q, q)

    with validate.torch.nn.attention.sdpa_kernel(validate.torch.nn.attention.SDPBackend.MATH):
        assert validate.chosen(call) == "math"
    assert validate.chosen(call).startswith("flash_attention")


# --- keeping: a poorer result does not replace a better one


def result_of(device="cpu", driver="none", **passed):
    """Make a result: for each notebook "passed of cells"."""
    notebooks = {}
    for name, (right, cells) in passed.items():
        failed = [f"Cell {number}" for number in range(right, cells)]
        notebooks[name] = {
            "cells": cells,
            "compared": cells,
            "passed": right,
            "failed": len(failed),
            "failed_cells": failed,
            "seconds": 1.5,
            "sha256": "0" * 16,
        }
    return {
        "date": "2026-01-31",
        "mask_implementation": "boolean",
        "versions": {"python": "3.12.0", "torch": "2.11.0"},
        "device": device,
        "driver": driver,
        "platform": "Linux x86_64",
        "threads": 1,
        "configuration": {"dtype": "float32", "attention": {"FlexAttention": "not used"}},
        "notebooks": notebooks,
    }


GPU = {"device": "NVIDIA H100 80GB HBM3", "driver": "580.1, CUDA 12.8"}
THERE = result_of(a=(3, 3), b=(5, 5))
POORER = {
    "a notebook is missing": (result_of(a=(9, 9)), "it lacks b"),
    "a cell failed": (result_of(a=(3, 3), b=(4, 5)), "7 cells passed instead of 8"),
    "cells are gone": (result_of(a=(3, 3), b=(4, 4)), "7 cells passed instead of 8"),
    "another notebook instead": (result_of(a=(3, 3), c=(50, 50)), "it lacks b"),
}
AS_GOOD = {
    "the same again": result_of(a=(3, 3), b=(5, 5)),
    "one more notebook": result_of(a=(3, 3), b=(5, 5), c=(1, 1)),
    "more passed, though more failed": result_of(a=(3, 9), b=(6, 9)),
}


@pytest.fixture
def there(tmp_path):
    path = validate.keep(THERE, tmp_path)
    assert path == tmp_path / "cpu.json"
    return path


@pytest.mark.parametrize("name", POORER)
def test_a_poorer_result_is_not_written_and_it_is_said_why(name, there, capsys):
    result, reason = POORER[name]
    assert validate.keep(result, there.parent) is None
    assert json.loads(there.read_text(encoding="utf-8")) == THERE
    assert f"not written: cpu.json is there and covers more: {reason}." in capsys.readouterr().out


@pytest.mark.parametrize("name", POORER)
def test_force_writes_it_all_the_same(name, there):
    result, _ = POORER[name]
    assert validate.keep(result, there.parent, force=True) == there
    assert json.loads(there.read_text(encoding="utf-8")) == result


@pytest.mark.parametrize("name", AS_GOOD)
def test_a_result_that_loses_nothing_is_written(name, there):
    assert validate.keep(AS_GOOD[name], there.parent) == there
    assert json.loads(there.read_text(encoding="utf-8")) == AS_GOOD[name]


def test_each_device_has_a_file_of_its_own(there):
    path = validate.keep(result_of(**GPU, a=(1, 1)), there.parent)
    assert path.name == "nvidia-h100-80gb-hbm3.json"
    assert json.loads(there.read_text(encoding="utf-8")) == THERE


@pytest.mark.parametrize(
    ("device", "slug"),
    [
        ("cpu", "cpu"),
        ("NVIDIA H100 80GB HBM3", "nvidia-h100-80gb-hbm3"),
        ("Tesla T4", "tesla-t4"),
        ("NVIDIA GeForce RTX 4090 / Laptop (x2)", "nvidia-geforce-rtx-4090-laptop-x2"),
        ("mps:0", "mps-0"),
    ],
)
def test_a_device_becomes_a_files_name(device, slug):
    assert validate.slug_of(device) == slug


@pytest.mark.parametrize("device", ["", "…/"])
def test_a_device_without_a_name_is_refused(device):
    with pytest.raises(ValueError, match=r"a name with a letter or a digit, got"):
        validate.slug_of(device)


# --- the command, with a run that is made up


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A repository's docs in an empty folder."""
    page = tmp_path / "validation.md"
    places = ("state", "devices")
    page.write_text(
        "# Top\n\n" + "\n\n".join(f"<!-- begin: {p} -->\nold\n<!-- end: {p} -->" for p in places),
        encoding="utf-8",
    )
    (tmp_path / "notebooks").mkdir()
    for name in "ab":
        (tmp_path / "notebooks" / f"{name}.ipynb").write_text("{}")
    monkeypatch.setattr(validate, "PAGE", page)
    monkeypatch.setattr(validate, "RESULTS", tmp_path / "validation")
    monkeypatch.setattr(validate, "NOTEBOOKS", tmp_path / "notebooks")
    return tmp_path


def run_that_gives(monkeypatch, result):
    monkeypatch.setattr(validate, "validate", lambda paths: copy.deepcopy(result))


def test_the_command_writes_file_and_page(home, monkeypatch, capsys):
    run_that_gives(monkeypatch, THERE)
    assert validate.main([]) == 0
    assert json.loads((home / "validation" / "cpu.json").read_text(encoding="utf-8")) == THERE
    page = validate.PAGE.read_text(encoding="utf-8")
    assert "- cpu: 2 of 2 notebooks, 8 code cells, all passed (2026-01-31)" in page
    assert "old" not in page
    assert "cpu: changed since: a, b" in capsys.readouterr().out


def test_the_command_refuses_with_a_status_of_its_own_unless_forced(home, monkeypatch):
    run_that_gives(monkeypatch, THERE)
    assert validate.main([]) == 0
    before = validate.PAGE.read_text(encoding="utf-8")
    run_that_gives(monkeypatch, result_of(a=(3, 3)))
    assert validate.main([]) == validate.COVERS_LESS != 0
    assert validate.PAGE.read_text(encoding="utf-8") == before
    assert validate.main(["--force"]) == 0
    assert "- cpu: 1 of 2 notebooks, 3 code cells, all passed" in validate.PAGE.read_text("utf-8")


def test_the_command_fails_after_writing_a_failed_cell(home, monkeypatch):
    run_that_gives(monkeypatch, result_of(a=(2, 3), b=(5, 5)))
    assert validate.main([]) == validate.CELL_FAILED
    page = validate.PAGE.read_text(encoding="utf-8")
    assert "2 of 2 notebooks, 8 code cells, **7 passed**" in page
    assert "| a | 3 | 3 | 2 | **Cell 2** | 1.5 |" in page


def test_a_result_for_elsewhere_leaves_the_page_alone_and_can_be_adopted(home, monkeypatch):
    run_that_gives(monkeypatch, result_of(**GPU, a=(3, 3), b=(5, 5)))
    before = validate.PAGE.read_text(encoding="utf-8")
    assert validate.main(["--output", str(home / "out")]) == 0
    assert validate.PAGE.read_text(encoding="utf-8") == before
    assert not validate.RESULTS.exists()
    (path,) = (home / "out").iterdir()
    assert validate.main(["--adopt", str(path)]) == 0
    assert (validate.RESULTS / path.name).read_bytes() == path.read_bytes()
    assert "**Validated on a GPU** (NVIDIA H100 80GB HBM3)" in validate.PAGE.read_text("utf-8")
    poorer = home / "poorer.json"
    poorer.write_text(json.dumps(result_of(**GPU, a=(3, 3))), encoding="utf-8")
    assert validate.main(["--adopt", str(poorer)]) == validate.COVERS_LESS


@pytest.mark.parametrize("change", [lambda text: text * 2, lambda text: "# nothing here\n"])
def test_a_page_without_a_place_is_refused(home, change):
    text = change(validate.PAGE.read_text(encoding="utf-8"))
    validate.PAGE.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="must have one place for state, has"):
        validate.write_page(validate.PAGE, validate.RESULTS)


# --- the page


NOT_YET = "**Not yet validated on a GPU"


@pytest.mark.parametrize(
    ("results", "is_said"),
    [
        ([], False),
        ([THERE], False),
        ([result_of(**GPU, a=(3, 3))], False),
        ([result_of(**GPU, a=(3, 3), b=(4, 5)), THERE], False),
        ([result_of(**GPU, a=(3, 3), b=(5, 5)), THERE], True),
    ],
    ids=["no file", "a CPU", "a part on a GPU", "a failure on a GPU", "all on a GPU"],
)
def test_a_gpu_is_claimed_only_where_every_cell_passed_on_one(results, is_said):
    state = validate.sections(results, ["a", "b"])["state"]
    assert ("**Validated on a GPU** (NVIDIA H100 80GB HBM3)" in state) == is_said
    assert state.startswith(NOT_YET) != is_said


def test_every_number_of_a_file_is_on_the_page():
    result = result_of(**GPU, a=(3, 4), b=(5, 5))
    words = validate.sections([result, THERE], ["a", "b"])["devices"]
    assert "### NVIDIA H100 80GB HBM3\n" in words
    assert "### cpu\n" in words
    for row in (
        "| a | 4 | 4 | 3 | **Cell 3** | 1.5 |",
        "| b | 5 | 5 | 5 | 0 | 1.5 |",
        "| all | 9 | 9 | 8 | 1 | 3.0 |",
        "| torch | 2.11.0 |",
        "| driver | 580.1, CUDA 12.8 |",
        "| FlexAttention | not used |",
        "| dtype | float32 |",
    ):
        assert f"{row}\n" in words


FILES = sorted(validate.RESULTS.glob("*.json"))
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)


def test_the_page_says_what_the_files_say():
    text = validate.PAGE.read_text(encoding="utf-8")
    for name, words in validate.sections(
        validate.read_results(validate.RESULTS), validate.series()
    ).items():
        (found,) = re.findall(rf"<!-- begin: {name} -->\n(.*?)\n<!-- end: {name} -->", text, re.S)
        assert found == words, "run: python tools/validate.py --page"


def test_outside_its_places_the_page_claims_nothing():
    text = validate.PAGE.read_text(encoding="utf-8")
    rest = re.sub(r"<!-- begin: (\w+) -->.*?<!-- end: \1 -->", "", text, flags=re.S)
    assert not re.search(r"(?i)validated on|passed on|nvidia|h100", rest)


def test_there_is_a_result_for_the_cpu():
    assert "cpu.json" in [path.name for path in FILES]


@each_file
def test_a_file_is_whole(path):
    result = validate.load(path)
    assert path.name == f"{validate.slug_of(result['device'])}.json"
    assert validate.on_gpu(result) == (result["driver"] != "none") == (path.name != "cpu.json")
    for found in result["notebooks"].values():
        assert found["passed"] + found["failed"] <= found["cells"]
        assert found["failed"] == len(found["failed_cells"])
        assert 0 < found["compared"] <= found["cells"]


@each_file
def test_a_kept_file_does_not_say_where_it_was_made(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.:])(/|~/|[A-Z]:\\)\w", text)
    for name in names_of_this_machine():
        assert name not in text
