"""The explorers of the notebooks, made again for pages that have no kernel.

The cells that an explorer comes from are run once more, in their order, and no others: its
arguments are the notebook's own, down to a model that is trained there.
"""

import ast
import base64
import contextlib
import dis
import io
import json
import re
from dataclasses import dataclass
from html import escape
from pathlib import Path
from types import CodeType
from unittest import mock

import torch

from causal_lab.explorers import Explorer
from causal_lab.explorers.record import as_script

SAVED = re.compile(r"<(\w+Explorer)( [^>]*)?>")  # as what an explorer is saved in a notebook
COMPARING = re.compile(r"^predict\.compare\(.*\)\n?", re.M)
RECORDS = "_static/records"  # where the site has them


@dataclass(frozen=True)
class Live:
    """An explorer in an output of a notebook.

    Args:
        key: names its record; two outputs of one explorer share it.
        heading: what it stands under.
        still: its saved picture, base64.
    """

    key: str
    heading: str
    still: str
    explorer: Explorer

    def as_html(self, depth: int) -> str:
        """Write it for a page so many folders deep: a still, until the page's module wakes it."""
        kind, place = self.key.split("-")[1], "../" * depth + f"{RECORDS}/{self.key}"
        words = f"{kind} under the heading “{self.heading}”: {self.explorer.picture.caption}"
        return (
            f'<div class="causal-explorer" data-explorer="{kind}" data-record="{self.key}" '
            f'data-src="{place}.js">\n<img src="{place}.png" alt="{escape(words)}">\n'
            "<noscript><p>Without JavaScript this picture stands still; in Jupyter it moves.</p>"
            "</noscript>\n</div>"
        )


def saved_as(output: dict) -> str:
    """Say as what an explorer is saved in an output; nothing if it is none."""
    text = "".join(output.get("data", {}).get("text/plain", []))
    return text if SAVED.fullmatch(text) else ""


def without_comparing(source: str) -> str:
    """Leave out the line that sets a guess beside the answer: here nobody guessed, and it tells."""
    return COMPARING.sub("", source).rstrip("\n")


def headings(cells: list[dict]) -> list[str]:
    """Give the heading that each cell stands under."""
    found, heading = [], ""
    for cell in cells:
        if cell["cell_type"] == "markdown":
            heading = (re.findall(r"^#+ (.+)$", "".join(cell["source"]), re.M) or [heading])[-1]
        found.append(heading)
    return found


def remake(path: Path) -> list[Live]:
    """Make the explorers of a notebook again, one for each output that is one."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    over, lives, keys = headings(cells), [], {}
    outputs = [
        (number, output)
        for number, cell in enumerate(cells)
        for output in cell.get("outputs", [])
        if saved_as(output)
    ]
    made = run(path, cells, [(number, saved_as(output)) for number, output in outputs])
    for (number, output), explorer in zip(outputs, made, strict=True):
        name = f"{path.stem[:2]}-{SAVED.fullmatch(saved_as(output))[1]}"
        name = f"{name}-{number}" if name in keys.values() else name
        key = keys.setdefault(id(explorer), name)
        still = "".join(output["data"]["image/png"])
        lives.append(Live(key, over[number], still, explorer))
    return lives


def write_records(lives: list[Live], folder: Path) -> None:
    """Write what the explorers can show, and their stills, and take away what lay there."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for live in {live.key: live for live in lives}.values():  # of one shown twice, the last still
        script = as_script(live.key, live.explorer.record())
        (folder / f"{live.key}.js").write_text(script, encoding="ascii")
        (folder / f"{live.key}.png").write_bytes(base64.b64decode(live.still))


# --- the cells that an explorer comes from


def run(path: Path, cells: list[dict], saved: list[tuple[int, str]]) -> list[Explorer]:
    """Run what leads to the explorers, and find them among what the cells made."""
    codes = {}
    for number, cell in enumerate(cells):
        # The one that installs the package is no Python, and nothing needs it.
        with contextlib.suppress(SyntaxError):
            if cell["cell_type"] == "code":
                codes[number] = ast.parse(without_comparing("".join(cell["source"])))
    names, found = {"__name__": "__main__"}, []
    with torch.enable_grad():  # a cell may turn gradients off; here that ends with the notebook
        for number in needed(codes, {number for number, _ in saved}):
            shown = run_cell(codes[number], names)
            for text in (text for cell, text in saved if cell == number):
                made = [one for one in [*names.values(), shown] if isinstance(one, Explorer)]
                fitting = [one for one in made if repr(one) == text]
                if not fitting:
                    raise ValueError(f"{path.name}: running cell {number} made no {text}")
                found.append(fitting[-1])
    return found


def needed(codes: dict[int, ast.Module], wanted: set[int]) -> list[int]:
    """List the wanted cells and those that define what they use, in their order."""
    chosen, missing = [], set()
    for number in sorted(codes, reverse=True):
        read, written = names_in(compile(codes[number], "cell", "exec"))
        if number in wanted or written & missing:
            chosen.append(number)
            missing = missing - written | read
    return chosen[::-1]


def names_in(code: CodeType) -> tuple[set[str], set[str]]:
    """List the names that a cell reads before it writes them, and those that it writes."""
    read, written = set(), set()
    for step in dis.get_instructions(code):
        if step.opname in ("STORE_NAME", "STORE_GLOBAL"):
            written.add(step.argval)
        elif step.opname in ("LOAD_NAME", "LOAD_GLOBAL"):
            read |= {step.argval} - written
        elif isinstance(step.argval, CodeType):
            read |= names_in(step.argval)[0] - written
    return read, written


def run_cell(tree: ast.Module, names: dict) -> object:
    """Run a cell and give the value that it ends with, which a notebook would show."""
    *first, last = tree.body
    ending = isinstance(last, ast.Expr)
    unheard = io.StringIO()  # what it prints is in the notebook
    with (
        contextlib.redirect_stdout(unheard),
        contextlib.redirect_stderr(unheard),
        mock.patch("time.sleep"),  # for those who watch, and here nobody does
    ):
        exec(compile(ast.Module(first if ending else tree.body, []), "cell", "exec"), names)
        return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if ending else None
