"""What nbval cannot see: the saved state of each notebook, its parts, and its solutions."""

import ast
import base64
import configparser
import importlib
import io
import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import publish
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
EXERCISE_MODULES = {
    "00_start_here": "start_here",
    "01_zero_is_not_nothing": "zero_is_not_nothing",
    "02_minus_infinity": "minus_infinity",
    "03_what_the_wall_is_made_of": "what_the_wall_is_made_of",
    "04_row_by_row": "row_by_row",
    "05_causal_attention": "causal_attention",
    "06_gpt_or_bert": "gpt_or_bert",
    "07_kv_cache": "kv_cache",
    "08_writing_on_with_less": "writing_on_with_less",
    "09_linear_algebra_of_time": "linear_algebra_of_time",
    "10_what_a_layer_can_undo": "what_a_layer_can_undo",
    "11_where_am_i": "where_am_i",
    "12_turned_by_distance": "turned_by_distance",
    "13_a_zoo_of_masks": "a_zoo_of_masks",
    "14_several_texts_in_one_row": "several_texts_in_one_row",
    "15_masks_that_learn": "masks_that_learn",
    "16_spans_and_gates": "spans_and_gates",
    "17_a_real_model": "a_real_model",
    "18_heads_that_look_things_up": "heads_that_look_things_up",
}
OPT_OUTS = re.compile(r"NBVAL_(IGNORE_OUTPUT|SKIP)|nbval-(ignore-output|skip)")

each_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def cells(path, kind):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def text_of(cell):
    return "".join(cell["source"])


def prose(path):
    return "\n\n".join(text_of(cell) for cell in cells(path, "markdown"))


def saved_text(cell):
    """All that nbval compares of a cell's saved outputs."""
    parts = []
    for output in cell["outputs"]:
        parts.append("".join(output.get("text", [])))
        parts.append("".join(output.get("data", {}).get("text/plain", [])))
    return "\n".join(parts)


def test_the_series_is_complete():
    assert [path.stem for path in PATHS] == list(EXERCISE_MODULES)


@each_notebook
def test_every_code_cell_was_run_in_order_from_a_fresh_kernel(path):
    counts = [cell["execution_count"] for cell in cells(path, "code")]
    assert counts == list(range(1, len(counts) + 1))


@each_notebook
def test_no_output_is_an_error_or_a_warning(path):
    for cell in cells(path, "code"):
        for output in cell["outputs"]:
            assert output["output_type"] != "error", text_of(cell)
            assert output.get("name") != "stderr", text_of(cell)


@each_notebook
def test_no_widget_state_is_saved(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert "widget-view" not in path.read_text(encoding="utf-8")


@each_notebook
def test_the_file_is_small(path):
    assert path.stat().st_size < 500 * 1024


@each_notebook
def test_a_cell_that_opts_out_of_comparison_says_why(path):
    for cell in cells(path, "code"):
        if OPT_OUTS.search(text_of(cell) + " ".join(cell["metadata"].get("tags", []))):
            assert "reason:" in text_of(cell), text_of(cell)


@each_notebook
def test_code_cells_are_short(path):
    for cell in cells(path, "code"):
        if not re.match(r"(import|from) ", text_of(cell)):
            assert len(text_of(cell).splitlines()) <= 16, text_of(cell)


@each_notebook
def test_a_guess_comes_before_every_third_answer_at_least(path):
    clicked = [cell for cell in cells(path, "code") if text_of(cell).startswith("predict(")]
    guesses = prose(path).count("**Predict:**") + len(clicked)
    answers = sum(bool(cell["outputs"]) for cell in cells(path, "code")) - len(clicked)
    assert len(clicked) >= 2
    assert guesses >= answers / 3


@each_notebook
def test_what_came_out_is_an_option_of_a_question_before_it(path):
    options = set()
    for cell in cells(path, "code"):
        if text_of(cell).startswith("predict("):
            (call,) = ast.parse(text_of(cell)).body
            options |= {*ast.literal_eval(call.value.args[1])}
            assert saved_text(cell).strip().startswith("Predict: ")
        for truth in re.findall(r"predict\.compare\((.+)\)", text_of(cell)):
            assert ast.literal_eval(truth) in options
    code = [text_of(cell) for cell in cells(path, "code")]
    asked = [source for source in code if source.startswith("predict(")]
    assert "".join(code).count("predict.compare(") == len(asked)
    assert "predict.score()" in "".join(code)


@each_notebook
def test_the_first_cell_says_what_the_notebook_is(path):
    first = text_of(cells(path, "markdown")[0])
    number = path.stem[:2]
    assert first.startswith(f"# {number} · ")
    assert re.search(r"\d+ minutes", first)
    for part in ("After this notebook you can", "Needs", "a CPU is enough", "paper: "):
        assert part in first


@each_notebook
def test_the_reader_can_go_on_and_back(path):
    first = text_of(cells(path, "markdown")[0])
    place = PATHS.index(path)
    for neighbour in PATHS[max(place - 1, 0) : place + 2]:
        if neighbour != path:
            assert f"({neighbour.name})" in first


@each_notebook
def test_links_between_notebooks_lead_somewhere(path):
    # A copy that is published for Colab has a badge; tests/colab knows where that leads.
    targets = re.findall(r"\]\(([^)#]+)\)", re.sub(publish.ANY_BADGE, "", prose(path)))
    assert targets
    for target in targets:
        assert (path.parent / target).is_file(), target


@each_notebook
def test_the_rhythm_is_kept(path):
    text = prose(path)
    for heading in ("## Break it", "## Your turn", "## What to keep", "**Next question:**"):
        assert heading in text
    code = "\n".join(text_of(cell) for cell in cells(path, "code"))
    assert re.search(r"Explorer\(", code)
    assert text.count("**Try this**\n1. ") >= 1


def exercises_of(path):
    module = importlib.import_module(f"causal_lab.exercises.{EXERCISE_MODULES[path.stem]}")
    return module.check.exercises


@each_notebook
def test_every_exercise_is_announced_as_it_is(path):
    headings = re.findall(r"^### \d · (\w+) \((\w+), (\d+) minutes\)$", prose(path), re.M)
    data = [(exercise.name, exercise.level, exercise.minutes) for exercise in exercises_of(path)]
    assert [(name, level, int(minutes)) for name, level, minutes in headings] == data


@each_notebook
def test_every_stub_is_not_attempted_yet(path):
    code = {text_of(cell): saved_text(cell) for cell in cells(path, "code")}
    for exercise in exercises_of(path):
        (stub,) = [source for source in code if f"check({exercise.name})" in source]
        assert "    return ..." in stub
        assert code[stub].strip().startswith(f"{exercise.name}: not attempted yet.")


@each_notebook
def test_every_folded_solution_is_right(path):
    folded = re.findall(r"<details>.*?```python\n(.*?)```.*?</details>", prose(path), re.S)
    exercises = exercises_of(path)
    assert len(folded) == len(exercises)
    imports = text_of(cells(path, "code")[1])
    for source, exercise in zip(folded, exercises, strict=True):
        namespace = {}
        exec(imports + "\n" + source, namespace)
        verdict = exercise.diagnose(namespace[exercise.name])
        assert verdict.passed is True, verdict
        known = ast.parse(textwrap.dedent(exercise.solutions[0]))
        assert ast.dump(ast.parse(source)) == ast.dump(known), "the folded one is the reference"


@each_notebook
def test_explorers_show_a_still_picture_where_nothing_moves(path):
    found = 0
    for cell in cells(path, "code"):
        for output in cell["outputs"]:
            data = output.get("data", {})
            if re.match(r"<\w+Explorer( T=\d+)?>", "".join(data.get("text/plain", []))):
                png = base64.b64decode(data["image/png"])
                assert len(png) < 60_000, "make notebooks saves it in 256 colours"
                picture = Image.open(io.BytesIO(png))
                assert min(picture.size) > 200
                assert len(set(picture.convert("L").tobytes())) > 20, "an empty picture"
                found += 1
    assert found >= 1


def sanitisers():
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "tests" / "nbval_sanitize.cfg", encoding="utf-8")
    return [(config[name]["regex"], config[name]["replace"]) for name in config.sections()]


def test_the_sanitiser_hides_nothing_but_the_report():
    assert sanitisers()
    for path in PATHS:
        for cell in cells(path, "code"):
            before = after = saved_text(cell)
            for pattern, replacement in sanitisers():
                after = re.sub(pattern, replacement, after)
            if "print(reproducibility_report" in text_of(cell):
                assert before.splitlines()[0] == after.splitlines()[0]
                assert after.count("VALUE") == 10
            else:
                assert before == after


def nbval(notebook, folder):
    """Run strict nbval on a notebook that was tampered with."""
    tampered = folder / "tampered.ipynb"
    tampered.write_text(json.dumps(notebook), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "--nbval", "-p", "no:cacheprovider", "-q"]
    sanitise = f"--nbval-sanitize-with={ROOT / 'tests' / 'nbval_sanitize.cfg'}"
    return subprocess.run(
        [*command, sanitise, str(tampered)], capture_output=True, text=True, cwd=folder
    )


def first_notebook():
    return json.loads(PATHS[0].read_text(encoding="utf-8"))


def test_nbval_notices_a_single_changed_digit_and_a_stripped_output(tmp_path):
    wanted = "cheater  16 of 16 right"
    text = json.dumps(first_notebook())
    assert text.count(wanted) == 1
    notebook = json.loads(text.replace(wanted, "cheater  15 of 16 right"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    (digit,) = [i for i, cell in enumerate(code) if "15 of 16" in saved_text(cell)]
    stripped = next(i for i, cell in enumerate(code) if i != digit and saved_text(cell).strip())
    code[stripped]["outputs"] = []
    run = nbval(notebook, tmp_path)
    assert run.returncode == 1, run.stdout + run.stderr
    failed = {int(number) for number in re.findall(r"^FAILED .*::Cell (\d+)", run.stdout, re.M)}
    assert failed == {digit, stripped}, run.stdout


def test_what_nbval_does_not_notice_is_noticed_here(tmp_path):
    """A cell without its count is run, and whatever it prints is fine for nbval."""
    notebook = first_notebook()
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    assert nbval(notebook, tmp_path).returncode == 0
    with pytest.raises(AssertionError):
        test_every_code_cell_was_run_in_order_from_a_fresh_kernel(tmp_path / "tampered.ipynb")
