"""The workbook: lessons without answers, and what a learner wrote in it stays."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tests.builders import as_in_a_workbook
from tools import workbook  # by its folder: where the workbook lies, its name is that one's too

ROOT = Path(__file__).parents[1]
FIRST, LAST = "00_start_here.ipynb", "01_next.ipynb"


def change(path, old="is here", new="was here"):
    """Edit a notebook as an editor would; give what it holds then."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8", newline="\n")
    return path.read_bytes()


def outside(root):
    files = [path for path in root.rglob("*") if path.is_file()]
    return {path: path.read_bytes() for path in files if path.parent.name != "workbook"}


@pytest.fixture
def lab(tmp_path):
    """Make a repository of two lessons that were run, with their copies."""
    (tmp_path / "notebooks").mkdir()
    for name in (FIRST, LAST):
        printed = nbformat.v4.new_output("stream", text="the answer")
        cells = [
            nbformat.v4.new_markdown_cell(f"# √d is here, {name}"),
            nbformat.v4.new_code_cell("print(answer)", outputs=[printed], execution_count=1),
        ]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "notebooks" / name)
    workbook.refresh(tmp_path)
    return tmp_path


@pytest.mark.parametrize("path", sorted(ROOT.glob("notebooks/*.ipynb")), ids=lambda path: path.name)
def test_a_copy_is_its_lesson_without_outputs(path, tmp_path):
    (tmp_path / "notebooks").mkdir()
    shutil.copy(path, tmp_path / "notebooks")
    workbook.refresh(tmp_path)
    copy = (tmp_path / "workbook" / path.name).read_bytes().decode("utf-8")
    due = as_in_a_workbook(nbformat.read(path, as_version=4))
    assert copy.count('predict.compare(\\"#') >= 2
    assert copy == nbformat.writes(due) + "\n"


def test_an_untouched_copy_follows_its_lesson(lab):
    change(lab / "notebooks" / FIRST)
    (said,) = workbook.refresh(lab)
    assert "√d was here" in (lab / "workbook" / FIRST).read_text(encoding="utf-8")
    assert "1 written, 0 removed, 0 kept" in said
    assert "0 written" in workbook.refresh(lab)[0]


def test_what_a_learner_wrote_stays_and_a_newer_lesson_is_announced(lab):
    path = lab / "workbook" / FIRST
    written = change(path, new="is mine")
    (said,) = workbook.refresh(lab)
    assert "0 written, 0 removed, 1 kept as you left them" in said
    change(lab / "notebooks" / FIRST)
    for _ in range(2):  # until something is done about it
        advice, _ = workbook.refresh(lab)
        assert path.read_bytes() == written
        assert advice.startswith(f"workbook/{FIRST} stays as you left it, but the lesson has ")
        assert "rename or delete yours" in advice
    path.rename(path.with_name("mine.ipynb"))
    assert "1 written, 0 removed, 1 kept" in workbook.refresh(lab)[0]
    assert path.with_name("mine.ipynb").read_bytes() == written
    assert "was here" in path.read_text(encoding="utf-8")


def test_of_lessons_that_are_gone_only_untouched_copies_go(lab):
    mine = lab / "workbook" / FIRST
    written = change(mine, new="is mine")
    for name in (FIRST, LAST):
        (lab / "notebooks" / name).rename(lab / "notebooks" / f"1{name}")
    (said,) = workbook.refresh(lab)
    assert "2 written, 1 removed, 1 kept" in said
    assert {path.name for path in mine.parent.glob("*.ipynb")} == {FIRST, f"1{FIRST}", f"1{LAST}"}
    assert mine.read_bytes() == written
    (lab / "notebooks" / f"1{FIRST}").rename(lab / "notebooks" / FIRST)
    assert len(workbook.refresh(lab)) == 1, "the lesson is back, and is what it was"


@pytest.mark.parametrize("memory", [None, b"", b"[1]", b'{"00', b"\xff", b"{}"])
def test_without_a_memory_all_that_differs_is_the_learners(lab, memory):
    change(lab / "notebooks" / FIRST)
    old, remembered = (lab / "workbook" / FIRST).read_bytes(), lab / "workbook" / ".copied.json"
    remembered.unlink()
    if memory is not None:
        remembered.write_bytes(memory)
    advice, said = workbook.refresh(lab)
    assert "may have changed" in advice
    assert "0 written, 0 removed, 1 kept" in said
    assert (lab / "workbook" / FIRST).read_bytes() == old
    assert len(workbook.refresh(lab)) == 1, "said once: nobody knows whether it is true"
    assert set(json.loads(remembered.read_text(encoding="utf-8"))) == {FIRST, LAST}


def test_nothing_outside_the_workbook_is_written_or_removed(lab):
    (lab / "mine.ipynb").write_bytes(b"mine")
    names = {"../mine.ipynb": workbook.hash_of(b"mine"), FIRST: "another"}
    (lab / "workbook" / ".copied.json").write_text(json.dumps(names), encoding="utf-8")
    change(lab / "notebooks" / LAST)
    before = outside(lab)
    workbook.refresh(lab)
    assert outside(lab) == before
    assert all(b"the answer" in before[lab / "notebooks" / name] for name in (FIRST, LAST))


def test_git_ignores_it(lab):
    shutil.copy(ROOT / ".gitignore", lab)
    subprocess.run(["git", "init", "--quiet"], cwd=lab, check=True)
    subprocess.run(["git", "check-ignore", "--quiet", "workbook/" + FIRST], cwd=lab, check=True)


def test_the_command_needs_nothing_that_is_installed(lab):
    (lab / "tools").mkdir()
    for name in ("workbook.py", "publish.py"):
        shutil.copy(ROOT / "tools" / name, lab / "tools")
    (lab / "workbook" / LAST).unlink()
    alone = [sys.executable, "-S", "tools/workbook.py"]  # -S: without what is installed
    answer = subprocess.run(alone, cwd=lab, capture_output=True, text=True, check=True)
    assert "1 written, 0 removed, 0 kept" in answer.stdout
    assert (lab / "workbook" / LAST).exists()
