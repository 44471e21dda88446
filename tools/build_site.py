"""Build the site: the notebooks with their saved pictures, the pages of docs/, and the API.

Usage: python tools/build_site.py [build/site]

The source of the site is laid out under build/site-source as the repository is, so that the links
of every page lead where they lead on GitHub. Changed on the way are only
- notebooks: an explorer moves without a kernel (see live_explorers.py), the install cell is folded,
  what answers a prediction is hidden until asked for, and the line that compares is left out,
- paragraphs that begin with **MaskExplorer** in [00 …](…), which are followed by that explorer,
- links such as [05 “How large is a score?”](../notebooks/05_causal_attention.ipynb), which lead to
  that heading,
- docs/index.md, which becomes the first page, and docs/api.md, which gets one page per module.
"""

import argparse
import json
import re
import subprocess
import sys
from html import escape
from pathlib import Path

from live_explorers import (
    RECORDS,
    Live,
    headings,
    remake,
    saved_as,
    without_comparing,
    write_records,
)
from myst_parser.slugs import github_slugify

ROOT = Path(__file__).parents[1]
PAGES = ("docs/**/*.md", "benchmarks/README.md", "CONTRIBUTING.md", "CHANGELOG.md")
FILES = ("docs/**/*.png", "docs/**/*.json", "benchmarks/images/*.png", "LICENSE")
NAMED_CELL = re.compile(r"(\[\d\d “([^]]+)”\]\([^)#\s]+\.ipynb)\)")
ASKING = {"markdown": re.compile(r"\*\*Predict"), "code": re.compile(r"^predict\(", re.M)}
QUESTION = re.compile(r"Predict: (.+)((?:\n  ○ .+)+)\n?")  # as what predict(…) is saved
MOVED = {  # pages that had another number, and where they are now
    "03_row_by_row": "04",
    "04_causal_attention": "05",
    "05_gpt_or_bert": "06",
    "06_kv_cache": "07",
    "07_linear_algebra_of_time": "09",
    "08_where_am_i": "11",
    "09_a_zoo_of_masks": "13",
    "10_masks_that_learn": "15",
}
NAMED_EXPLORER = re.compile(r"^\*\*(\w+Explorer)\*\* in \[(\d\d) .+(?:\n.+)*", re.M)


def main() -> int:
    """Lay out the source, then let Sphinx build it; any warning is an error."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("site", type=Path, nargs="?", default=ROOT / "build" / "site")
    parser.add_argument("--root", type=Path, default=ROOT, help="a copy of the repository")
    arguments = parser.parse_args()
    source = arguments.site.with_name(f"{arguments.site.name}-source")
    notebooks = sorted(arguments.root.glob("notebooks/*.ipynb"))
    lives = {path.name: remake(path) for path in notebooks}
    lay_out(arguments.root, source, lives)
    sphinx = [
        *(sys.executable, "-m", "sphinx", "-b", "html", "-c", arguments.root / "docs"),
        *("-E", "-W", "--keep-going", "-n", "-q"),
        *("-j", "2" if sys.platform == "linux" else "1"),  # elsewhere a fork is not safe
        *("-d", source / ".doctrees", source, arguments.site),
    ]
    with subprocess.Popen(sphinx) as building:  # meanwhile
        write_records(
            [live for shown in lives.values() for live in shown], arguments.site / RECORDS
        )
    forward(arguments.site / "notebooks")
    return building.returncode


def forward(pages: Path) -> None:
    """Lead the old address of a page to the new one."""
    pages.mkdir(parents=True, exist_ok=True)
    for old, number in MOVED.items():
        new = f"{number}{old[2:]}.html"
        text = f'<!doctype html><meta http-equiv="refresh" content="0; url={new}"><a href="{new}">'
        (pages / f"{old}.html").write_text(f"{text}{new}</a>\n", encoding="utf-8")


def lay_out(root: Path, source: Path, lives: dict[str, list[Live]]) -> None:
    """Write the source of the site, and take away what a former build left there."""
    written = {}
    by_key = {live.key: live for shown in lives.values() for live in shown}
    for pattern in PAGES:
        for path in root.glob(pattern):
            name = path.relative_to(root).as_posix()
            name = "index.md" if name == "docs/index.md" else name
            text = with_explorers(path.read_text(encoding="utf-8"), by_key, name.count("/"))
            written[name] = with_anchors(text).encode()
    for path in root.glob("notebooks/*.ipynb"):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        text = json.dumps(for_the_site(notebook, lives[path.name]), ensure_ascii=False)
        written[path.relative_to(root).as_posix()] = text.encode()
    for pattern in FILES:
        for path in root.glob(pattern):
            written[path.relative_to(root).as_posix()] = path.read_bytes()
    written |= {name: text.encode() for name, text in api_pages(root).items()}
    for path in source.rglob("*"):
        name = path.relative_to(source).as_posix()
        if path.is_file() and name not in written and not name.startswith(".doctrees/"):
            path.unlink()
    for name, content in written.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def with_anchors(text: str) -> str:
    """Lead links that name a cell to its heading."""
    return NAMED_CELL.sub(lambda found: f"{found[1]}#{github_slugify(found[2])})", text)


def with_explorers(text: str, lives: dict[str, Live], depth: int) -> str:
    """Put an explorer under each paragraph that names one first."""

    def followed(found: re.Match) -> str:
        live = lives.get(f"{found[2]}-{found[1]}")
        return f"{found[0]}\n\n{live.as_html(depth)}" if live else found[0]

    return NAMED_EXPLORER.sub(followed, text)


# --- notebooks


def for_the_site(notebook: dict, lives: list[Live]) -> dict:
    """Change a notebook as little as a page needs."""
    install, waiting, cells = True, iter(lives), notebook["cells"]
    hidden = answers(cells)
    for number, (cell, heading) in enumerate(zip(cells, headings(cells), strict=True)):
        if cell["cell_type"] == "markdown":
            cell["source"] = with_anchors("".join(cell["source"]))
            continue
        if cell["cell_type"] != "code":
            continue
        if install:
            fold(cell, "hide-input", "The install cell, for Colab", "The install cell, for Colab")
            install = False
        if number in hidden:
            fold(cell, "hide-output", "Show what happens", "Hide what happens")
        cell["source"] = without_comparing("".join(cell["source"]))
        settings = cell["metadata"].setdefault("mystnb", {})
        settings["image"] = {"alt": f"Picture under the heading “{heading}”"}
        cell["outputs"] = [
            as_output(next(waiting)) if saved_as(output) else with_options(output)
            for output in cell["outputs"]
        ]
    return notebook


def answers(cells: list[dict]) -> set[int]:
    """Number the code cells that answer a prediction: up to the prose after what they show."""
    found, asked, shown = set(), False, False
    for number, cell in enumerate(cells):
        kind, source = cell["cell_type"], "".join(cell["source"])
        if kind in ASKING and ASKING[kind].search(source):
            asked, shown = True, False
        elif kind == "markdown":
            asked = asked and not shown
        elif kind == "code" and asked and cell["outputs"]:
            found.add(number)
            shown = True
    return found


def fold(cell: dict, tag: str, show: str, hide: str) -> None:
    """Put a part of a cell behind a button with these words."""
    cell["metadata"].setdefault("tags", []).append(tag)
    prompts = {"code_prompt_show": show, "code_prompt_hide": hide}
    cell["metadata"].setdefault("mystnb", {}).update(prompts)


def with_options(output: dict) -> dict:
    """Write the question of a prediction as a list, which breaks its lines; leave the rest."""
    text = "".join(output.get("data", {}).get("text/plain", []))
    question = QUESTION.fullmatch(text)
    if not question:
        return output
    options = "".join(f"<li>{escape(one)}</li>" for one in question[2].split("\n  ○ ")[1:])
    written = f"<p><b>Predict:</b> {escape(question[1])}</p><ul>{options}</ul>"
    data = {"text/html": [f'<div class="prediction">{written}</div>']}
    return {"output_type": "display_data", "metadata": {}, "data": data}


def as_output(live: Live) -> dict:
    """Write an explorer as the output of a cell."""
    data = {"text/html": [live.as_html(depth=1)]}
    return {"output_type": "display_data", "metadata": {}, "data": data}


# --- the API


def api_pages(root: Path) -> dict[str, str]:
    """Write one page per room of the house, from its docstrings, and a page that lists them."""
    package = root / "causal_lab"
    rows = re.findall(
        r"^(-?\d)\s+``(\w+)``\s+(.+)$", (package / "__init__.py").read_text(encoding="utf-8"), re.M
    )
    pages = {}
    listed = ["| floor | module | what it answers |", "|---|---|---|"]
    for floor, module, question in rows:
        listed.append(f"| {floor} | [`{module}`](api/{module}.md) | {question} |")
        names = [f"causal_lab.{module}"]
        names += [
            f"causal_lab.{module}.{path.stem}"
            for path in sorted((package / module).glob("*.py"))
            if path.stem != "__init__"
        ]
        pages[f"docs/api/{module}.md"] = api_page(module, names)
    listed += ["", "```{toctree}", ":hidden:", "", *(f"api/{row[1]}" for row in rows), "```", ""]
    begin = (root / "docs" / "api.md").read_text(encoding="utf-8")
    return pages | {"docs/api.md": begin + "\n" + "\n".join(listed)}


def api_page(module: str, names: list[str]) -> str:
    """Write the page of one module, or of a package and its modules."""
    lines = [f"# causal_lab.{module}"]
    for name in names:
        if len(names) > 1 and name != names[0]:
            lines += ["", f"## {name.rsplit('.', 1)[1]}"]
        lines += ["", "```{eval-rst}", f".. automodule:: {name}", "   :members:", "```"]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
