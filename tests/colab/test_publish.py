"""Stamping: all notebooks alike, there and back again, and what the install cell does."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import publish
import pytest
from IPython.core.inputtransformer2 import TransformerManager

from tests.builders import as_in_a_workbook

ROOT = Path(__file__).parents[2]
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in PATHS}
README = (ROOT / "README.md").read_text(encoding="utf-8")
NOW = publish.address_of(TEXTS["00_start_here.ipynb"])

each_notebook = pytest.mark.parametrize("name", TEXTS)


def without(name):
    return publish.stamp_notebook(TEXTS[name], name, "")


def sources(text, kind):
    return ["".join(c["source"]) for c in json.loads(text)["cells"] if c["cell_type"] == kind]


def install_cell(address=""):
    text = publish.stamp_notebook(TEXTS["00_start_here.ipynb"], "00_start_here.ipynb", address)
    return sources(text, "code")[0]


# The state of the notebooks that are kept here


def test_all_notebooks_share_one_install_cell_and_so_one_state():
    assert len({sources(text, "code")[0] for text in TEXTS.values()}) == 1
    assert not any(json.loads(text)["cells"][1]["outputs"] for text in TEXTS.values())


@each_notebook
def test_the_badge_agrees_with_the_install_cell(name):
    branches = set(re.findall(r"/blob/(.+?)/notebooks/", TEXTS[name])) or {"main"}
    (branch,) = branches
    badge = publish.badge(NOW, name, branch)
    assert re.findall(publish.ANY_BADGE, TEXTS[name]) == ([badge] if badge else [])


def test_the_readme_has_the_badges_of_the_notebooks():
    named = re.findall(r"blob/(.+?)/notebooks/", README)
    assert publish.stamp_readme(README, NOW, *named[:1]) == README


# Stamping


@each_notebook
@pytest.mark.parametrize("address", ["owner/lab", "https://git.example/owner/lab"])
def test_there_and_back_is_where_it_was(name, address):
    plain = without(name)
    stamped = publish.stamp_notebook(plain, name, address)
    assert stamped != plain
    assert publish.address_of(stamped) == address
    assert publish.stamp_notebook(stamped, name, address) == stamped
    assert publish.stamp_notebook(stamped, name, "") == plain
    other = publish.stamp_notebook(stamped, name, "other/copy", "spring")
    assert other == publish.stamp_notebook(plain, name, "other/copy", "spring")


@each_notebook
def test_a_stamp_changes_two_cells_and_nothing_else_in_the_file(name):
    plain, stamped = without(name), publish.stamp_notebook(without(name), name, "owner/lab")
    old, new = plain.splitlines(), stamped.splitlines()
    gone = [line for line in old if line not in new]
    come = [line for line in new if line not in old]
    assert [line.strip() for line in gone] == [
        r'"REPOSITORY = \"\"  # @param {type:\"string\"}\n",'
    ]
    badge = f'"{publish.badge("owner/lab", name)}\\n",'
    field = r'"REPOSITORY = \"owner/lab\"  # @param {type:\"string\"}\n",'
    assert [line.strip() for line in come] == [badge, field]
    assert len(new) == len(old) + 2  # the badge and an empty line
    nbformat.validate(nbformat.reads(stamped, as_version=4))
    assert nbformat.writes(nbformat.reads(stamped, as_version=4)) + "\n" == stamped


@each_notebook
def test_the_badge_stands_under_the_title_and_opens_this_notebook(name):
    stamped = publish.stamp_notebook(without(name), name, "owner/lab", "spring")
    first = sources(stamped, "markdown")[0]
    title, empty, badge, below, *_ = first.split("\n")
    assert title.startswith(f"# {name[:2]} · ")
    assert (empty, below) == ("", "")
    opened = f"https://colab.research.google.com/github/owner/lab/blob/spring/notebooks/{name}"
    assert badge == (
        f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({opened})"
    )


def test_colab_cannot_open_what_is_not_on_github():
    assert publish.badge("https://git.example/owner/lab", "x.ipynb") == ""
    assert publish.badge("", "x.ipynb") == ""


def test_the_readme_gets_a_badge_in_every_row_and_loses_it_again():
    plain = publish.stamp_readme(README, "")
    stamped = publish.stamp_readme(plain, "owner/lab")
    rows = [line for line in stamped.splitlines() if "colab-badge.svg" in line]
    assert len(rows) == len(PATHS)
    for row, name in zip(rows, TEXTS, strict=True):
        assert f"](notebooks/{name}) {publish.badge('owner/lab', name)} | " in row
    assert publish.stamp_readme(stamped, "other/copy").count("owner/lab") == 0
    assert publish.stamp_readme(stamped, "") == plain


# Addresses


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("owner/lab", "owner/lab"),
        ("  owner/lab/ ", "owner/lab"),
        ("owner/lab.git", "owner/lab"),
        ("ada-l/causal_lab.2", "ada-l/causal_lab.2"),
        ("https://github.com/owner/lab", "owner/lab"),
        ("https://github.com/owner/lab.git/", "owner/lab"),
        ("https://git.example/owner/lab.git/", "https://git.example/owner/lab.git"),
        ("file:///home/owner/lab", "file:///home/owner/lab"),
    ],
)
def test_an_address_is_brought_into_one_form(text, address):
    assert publish.parse_address(text) == address
    assert publish.parse_address(address) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "ada",
        "ada/",
        "/lab",
        "ada/..",
        "owner/lab/tree/main",
        "https://github.com/owner",
        "https://github.com/owner/lab/tree/main",
        "http://git.example/owner/lab",
        "https://ada:secret@git.example/owner/lab",
        "git@github.com:owner/lab.git",
        'owner/lab"; print("',
        "owner/lab{x}",
        "https://git.example/a b",
        "https://git.example/$HOME",
        "owner/lab\nada/lab",
    ],
)
def test_what_is_no_address_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match=r"must be owner/name.*make publish REPOSITORY=owner/name"):
        publish.parse_address(text)


# A whole copy of the repository, by command


@pytest.fixture
def copy(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    for name in TEXTS:
        (tmp_path / "notebooks" / name).write_text(without(name), encoding="utf-8", newline="\n")
    plain = publish.stamp_readme(README, "")
    (tmp_path / "README.md").write_text(plain, encoding="utf-8", newline="\n")
    monkeypatch.setattr(publish, "ROOT", tmp_path)
    return tmp_path


def content(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}


def test_one_command_stamps_all_and_one_takes_it_back(copy, capsys):
    plain = content(copy)
    assert publish.main(["owner/lab"]) == 0
    stamped = content(copy)
    assert len(stamped) == len(PATHS) + 1
    assert not [name for name in plain if stamped[name] == plain[name]]
    assert {publish.address_of(stamped[name].decode()) for name in TEXTS} == {"owner/lab"}
    assert publish.main(["--remove"]) == 0
    assert content(copy) == plain
    assert "install from owner/lab" in capsys.readouterr().out


def test_where_asked_for_the_outputs_go_the_answers_are_veiled_and_no_more(copy, capsys):
    assert publish.main(["owner/lab", "--without-outputs"]) == 0
    assert "git has them" in capsys.readouterr().out
    assert publish.badge("owner/lab", PATHS[0].name) in (copy / "README.md").read_text("utf-8")
    for name in TEXTS:
        stamped = publish.stamp_notebook(without(name), name, "owner/lab")
        due = nbformat.writes(as_in_a_workbook(nbformat.reads(stamped, as_version=4))) + "\n"
        assert (copy / "notebooks" / name).read_bytes().decode("utf-8") == due


@pytest.mark.parametrize("arguments", [[], [""], ["ada"], ["owner/lab", "--branch", "a b"]])
def test_a_bad_command_says_what_is_needed_and_writes_nothing(copy, arguments, capsys):
    plain = content(copy)
    assert publish.main(arguments) == 2
    assert re.search("must be owner/name|a branch is letters", capsys.readouterr().err)
    assert content(copy) == plain


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("REPOSITORY = ", "ADDRESS = ", "must be the install cell"),
        ('"# ', '"', "must begin with its title"),
        ('\n "nbformat"', '\n  "nbformat"', "not saved as nbformat saves it"),
    ],
)
def test_one_notebook_that_cannot_be_stamped_stops_all(copy, old, new, said, capsys):
    last = copy / "notebooks" / PATHS[-1].name
    last.write_text(without(last.name).replace(old, new), encoding="utf-8", newline="\n")
    before = content(copy)
    assert publish.main(["owner/lab"]) == 2
    assert re.search(f"{last.name}.*{said}|{said}", capsys.readouterr().err)
    assert content(copy) == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no make")
def test_make_publish_says_what_it_needs():
    asked = subprocess.run(
        ["make", "publish", "REPOSITORY="], cwd=ROOT, capture_output=True, text=True
    )
    assert asked.returncode != 0
    assert "make publish REPOSITORY=owner/name" in asked.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no make")
@pytest.mark.parametrize(("asked", "passed"), [("", False), ("OUTPUTS=no", True)])
def test_make_publish_passes_on_that_the_outputs_go(asked, passed):
    command = ["make", "--dry-run", "publish", "REPOSITORY=owner/lab", *asked.split()]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert ("--without-outputs" in told) == passed


# The install cell


class Shell:
    """Stands for IPython: notes what would be installed, and says whether it came."""

    def __init__(self, monkeypatch, arrives=True, colab=True):
        self.lines, self.arrives, self.names = [], arrives, {}
        self.names["get_ipython"] = lambda: SimpleNamespace(run_line_magic=self.magic)
        monkeypatch.setattr(importlib.util, "find_spec", self.find)
        if colab:
            monkeypatch.setitem(sys.modules, "google.colab", object())
        else:
            monkeypatch.delitem(sys.modules, "google.colab", raising=False)

    def find(self, name):
        assert name == "causal_lab"
        return object() if self.lines and self.arrives else None

    def magic(self, name, line):
        self.lines.append(" ".join(f"{name} {line}".format(**self.names).split()))

    def run(self, cell):
        exec(TransformerManager().transform_cell(cell), self.names)
        return self.lines


def test_where_the_package_is_installed_the_cell_does_nothing():
    for address in ("", "owner/lab"):  # without get_ipython: %pip would be a NameError
        exec(TransformerManager().transform_cell(install_cell(address)), {})


@pytest.mark.parametrize(
    ("pasted", "fetched"),
    [
        ("owner/lab", "git+https://github.com/owner/lab"),
        (" owner/lab/ ", "git+https://github.com/owner/lab"),
        ("https://github.com/owner/lab.git", "git+https://github.com/owner/lab.git"),
        ("https://git.example/owner/lab/", "git+https://git.example/owner/lab"),
        ("file:///home/owner/lab", "git+file:///home/owner/lab"),
    ],
)
def test_what_a_learner_pastes_is_installed_and_nothing_else(pasted, fetched, monkeypatch):
    cell = install_cell().replace('REPOSITORY = ""', f'REPOSITORY = "{pasted}"')
    # Beside the package what Colab lacks; pip leaves alone what is there.
    wanted = f"pip install --quiet --no-deps anywidget psygnal {fetched}"
    assert Shell(monkeypatch).run(cell) == [wanted]


@pytest.mark.parametrize("pasted", ["", "   ", "/"])
def test_without_an_address_the_cell_says_what_to_do(pasted, monkeypatch):
    shell = Shell(monkeypatch)
    with pytest.raises(ModuleNotFoundError, match="paste the address of your copy above"):
        shell.run(install_cell().replace('REPOSITORY = ""', f'REPOSITORY = "{pasted}"'))
    assert shell.lines == []


def test_outside_colab_the_cell_installs_nothing_and_names_make_lab(monkeypatch):
    shell = Shell(monkeypatch, colab=False)
    with pytest.raises(ModuleNotFoundError, match="Elsewhere: make lab"):
        shell.run(install_cell("owner/lab"))
    assert shell.lines == []


def test_when_pip_fails_the_cell_does_not_go_on(monkeypatch):
    shell = Shell(monkeypatch, arrives=False)
    with pytest.raises(ModuleNotFoundError, match=r"pip did not install git\+https"):
        shell.run(install_cell("owner/lab"))


def test_in_colab_the_cell_folds_into_a_form():
    title, *rest = install_cell().splitlines()
    assert re.fullmatch(r'# @title .+ \{ display-mode: "form" \}', title)
    assert 'REPOSITORY = ""  # @param {type:"string"}' in rest
