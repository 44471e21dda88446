"""Say how long a notebook takes, to read and to run.

Usage: python tools/minutes.py notebooks/*.ipynb

A minute for 180 words or 12 lines of code, 20 s for a figure, 45 s for a prediction, 4 minutes for
an explorer; what is folded is not counted. Exercises take what their headings say.
"""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Minutes:
    """What a notebook takes by the formula, and what its first cell says."""

    reading: float
    exercises: int
    stated: tuple[int, int]  # reading, exercises


def minutes(path: Path) -> Minutes:
    """Time one notebook."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    turn, keep = (place_of(title, cells) for title in ("## Your turn", "## What to keep"))
    tasks = "\n".join(map(text_of, cells[turn:keep]))
    exercises = re.findall(r"\((?:easy|medium|hard), (\d+) minutes?\)", tasks)
    stated = re.search(r"(\d+) minutes \+ (\d+)", text_of(cells[0]))
    return Minutes(
        reading_of(cells[:turn] + cells[keep:]),
        sum(map(int, exercises)),
        tuple(map(int, stated.groups())) if stated else (0, 0),
    )


def place_of(title: str, cells: list[dict]) -> int:
    """Number the cell that has a title; all of them stand before one that is not there."""
    found = (number for number, cell in enumerate(cells) if title in text_of(cell))
    return next(found, len(cells))


def reading_of(cells: list[dict]) -> float:
    """Add up what a learner does in these cells."""
    prose = "\n".join(text_of(cell) for cell in cells if cell["cell_type"] == "markdown")
    prose = re.sub(r"<details>.*?</details>", "", prose, flags=re.S)
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    code = [cell for cell in code if "Install causal_lab" not in text_of(cell)]
    lines = [line for cell in code for line in text_of(cell).splitlines() if line.strip()]
    explorers = sum(bool(re.search(r"\w+Explorer\(", text_of(cell))) for cell in code)
    pictures = sum(any("image/png" in o.get("data", {}) for o in cell["outputs"]) for cell in code)
    guesses = prose.count("**Predict") + sum(text_of(cell).count("predict(") for cell in code)
    return (
        len(prose.split()) / 180
        + len(lines) / 12
        + max(pictures - explorers, 0) / 3
        + guesses * 0.75
        + explorers * 4
    )


def text_of(cell: dict) -> str:
    """Join the lines of a cell."""
    return "".join(cell["source"])


if __name__ == "__main__":
    for name in sys.argv[1:]:
        found = minutes(Path(name))
        says = " + ".join(map(str, found.stated))
        print(f"{Path(name).stem:<32} {found.reading:3.0f} + {found.exercises} (says {says})")
