"""List what an exercise's solution needs and no lesson before it has shown.

Usage: python tools/introduced.py

Of each notebook: the functions of PyTorch, the keywords, and ``[:, None]``, that its exercises'
solutions use, and that stand in no code cell of it or of a notebook before it.
"""

import ast
import importlib
import json
import re
import sys
from pathlib import Path
from textwrap import dedent

import torch
from torch import Tensor
from torch.nn import functional as F

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
PLAIN = {*dir(list), *dir(dict), *dir(str), "shape", "T"}  # Python itself is known


def tools_of(source: str) -> set[str]:
    """Find what some code takes from PyTorch."""
    found = set()
    for node in ast.walk(ast.parse(dedent(source))):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Call):
            found |= {node.func.id} if isinstance(node.func, ast.Name) else set()
            found |= {f"{word.arg}=" for word in node.keywords if word.arg == "keepdim"}
        elif isinstance(node, ast.Subscript) and "None" in ast.unparse(node.slice):
            found.add("[:, None]")
    known = {name for name in found if any(hasattr(place, name) for place in (torch, Tensor, F))}
    return (known | found & {"keepdim=", "[:, None]"}) - PLAIN


def lesson_of(path: Path) -> tuple[str, set[str]]:
    """Give the name of a notebook's exercise module, and the tools that its lesson shows."""
    module, shown = "", set()
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            found = re.search(r"from causal_lab\.exercises\.(\w+) import check", source)
            module = found[1] if found else module
            plain = re.sub(r"^( *)%.*$", r"\1pass", source, flags=re.M)
            shown |= tools_of(plain) if module else set()
    return module, shown


def missing(paths: list[Path]) -> dict[str, set[str]]:
    """Say for every notebook what its exercises need and nobody has shown."""
    shown, found = set(), {}
    for path in paths:
        module, here = lesson_of(path)
        shown |= here
        for exercise in importlib.import_module(f"causal_lab.exercises.{module}").check.exercises:
            if needed := tools_of(exercise.solutions[0]) - shown:
                found.setdefault(path.stem, set()).update(needed)
    return found


if __name__ == "__main__":
    lacking = missing(sorted(NOTEBOOKS.glob("*.ipynb")))
    for name, tools in lacking.items():
        print(f"{name}: {', '.join(sorted(tools))}")
    sys.exit(bool(lacking))
