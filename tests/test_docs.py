"""Pages lead where they say: files exist, named cells are headings, named functions are public."""

import importlib
import json
import pkgutil
import re
from pathlib import Path

import live_explorers
import pytest
from PIL import Image

import causal_lab
from causal_lab import explorers
from tests.exercises.answers import EXERCISES

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])
LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)(?:#[^)]*)?\)")
CELL = re.compile(r"(\d\d) “(.+)”")
# What the paper names one by one; each needs a row of its own.
ITEMS = {
    "7.2": ("chatbots", "text generation", "machine translation", "automatic writing"),
    "8.1": ("triangular", "projection", "spectral theory", "norms"),
    "8.2": ("no future in training", "less understanding", "length of the context"),
    "8.3": ("soft mask", "ALiBi", "rotary", "encoder–decoder"),
    "11": (
        "adaptive causal attention",
        "learnable mask",
        "sparse attention",
        "multi-dimensional",
        "RAG",
    ),
}
SECTIONS = (
    "1 2.1 2.2 2.3 3.1 3.2 3.3 4.1 4.2 4.3 5.1 5.2 6.1 6.2 6.3 7.1 7.2 7.3 8.1 8.2 8.3 9 11 "
    "B.2 B.3 B.4 B.5 B.6 B.7 B.8 B.9 B.10 B.11"
).split()

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())


def links_of(text):
    return LINK.findall(re.sub(r"```.*?```", "", text, flags=re.S))


def place_of(page, target):
    # A leading slash means the repository, as on GitHub.
    return ROOT / target[1:] if target.startswith("/") else page.parent / target


def headings_of(notebook):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    prose = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return set(re.findall(r"^#+ (.+)$", prose, re.M))


def rows_of_the_map():
    text = (ROOT / "docs" / "paper-map.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if re.match(r"\| (\d|B\.)", line)]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def public_names():
    names = set()
    for module in pkgutil.walk_packages(causal_lab.__path__, "causal_lab."):
        names |= set(vars(importlib.import_module(module.name)))
    return names


def exercise_names():
    return {*EXERCISES}


@each_page
def test_links_lead_to_files_that_are_there(page):
    for _, target in links_of(page.read_text(encoding="utf-8")):
        if not re.match(r"\w+:", target):
            assert place_of(page, target).exists(), target


@each_page
def test_files_that_a_page_names_are_there(page):
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:tests|causal_lab|tools|benchmarks|docs)/[\w./-]+)`", text):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"\bcausal_lab(?:\.[A-Za-z_]\w*)+", text):
        pkgutil.resolve_name(name)


@each_page
def test_a_cell_that_is_named_is_a_heading_of_its_notebook(page):
    for text, target in links_of(page.read_text(encoding="utf-8")):
        named = CELL.fullmatch(text)
        if named:
            notebook = place_of(page, target)
            assert notebook.name.startswith(named[1])
            assert named[2] in headings_of(notebook), text


def test_a_wrong_heading_would_be_noticed():
    # The patterns above find what they are for: without this, they could match nothing.
    ((text, target),) = links_of("see [07 “Powers”](../notebooks/07_x.ipynb)")
    assert CELL.fullmatch(text).groups() == ("07", "Powers")
    assert target == "../notebooks/07_x.ipynb"
    found = sum(
        bool(CELL.fullmatch(text))
        for page in PAGES
        for text, _ in links_of(page.read_text(encoding="utf-8"))
    )
    assert found > 60


def test_the_map_has_a_row_for_every_section_of_the_paper():
    numbers = {number.strip() for row in rows_of_the_map() for number in row[0].split(",")}
    assert numbers == set(SECTIONS)


@pytest.mark.parametrize(
    ("section", "item"), [(section, item) for section in ITEMS for item in ITEMS[section]]
)
def test_what_the_paper_names_has_a_row(section, item):
    (row,) = [row for row in rows_of_the_map() if row[0] == section and item in row[1]]
    assert CELL.search(row[2])


def test_every_row_of_the_map_names_a_cell_and_a_function():
    names, exercises = public_names(), exercise_names()
    for row in rows_of_the_map():
        assert len(row) == 5, row
        assert CELL.search(row[2]), row
        functions = re.findall(r"`([^`]+)`", row[3])
        assert functions, row
        for function in functions:
            known = function in names or (ROOT / function).is_file()
            assert known or function in exercises, function


def test_the_map_leads_to_every_notebook():
    text = (ROOT / "docs" / "paper-map.md").read_text(encoding="utf-8")
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        assert f"(../notebooks/{notebook.name})" in text


def test_the_picture_of_the_readme_moves_and_is_small():
    (name,) = re.findall(
        r"!\[[^]]{80,}\]\(([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8")
    )
    assert (ROOT / name).stat().st_size <= 1024 * 1024
    with Image.open(ROOT / name) as picture:
        assert picture.n_frames >= 8


def test_the_page_of_explorers_lists_those_of_the_notebooks():
    text = (ROOT / "docs" / "explorers.md").read_text(encoding="utf-8")
    assert "\n".join(gallery()) in text
    listed = re.findall(r"^\*\*(\w+)\*\* in ", text, re.M)
    assert {*listed} == {name for name in vars(explorers) if re.fullmatch(r"\w+Explorer", name)}


def gallery():
    """Write a line for each kind of explorer, under the title of its notebook."""
    for path in sorted(ROOT.glob("notebooks/*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        over, found = live_explorers.headings(cells), {}
        for heading, cell in zip(over, cells, strict=True):
            for said in map(live_explorers.saved_as, cell.get("outputs", [])):
                if said:
                    found.setdefault(re.match(r"<(\w+)", said)[1], heading)
        title = re.match("# (.+)", "".join(cells[0]["source"]))[1]
        yield f"\n## {title}"
        for kind, heading in found.items():
            what = getattr(explorers, kind).__doc__.partition("\n")[0]
            link = f"[{path.stem[:2]} “{heading}”](../notebooks/{path.name})"
            yield f"\n**{kind}** in {link}: {what[0].lower()}{what[1:]}"
