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
    first = text_of(cells[0])
    stated = re.search(r"(\d+) minutes \+ (\d+)", first)
    places = [number for number, cell in enumerate(cells) if "## Your turn" in text_of(cell)]
    turn = places[0] if places else len(cells)
    keep = [number for number, cell in enumerate(cells) if "## What to keep" in text_of(cell)]
    keep = keep[0] if keep else len(cells)
    tasks = "\n".join(map(text_of, cells[turn:keep]))
    exercises = re.findall(r"\((?:easy|medium|hard), (\d+) minutes?\)", tasks)
    return Minutes(
        reading_of(cells[:turn] + cells[keep:]),
        sum(map(int, exercises)),
        tuple(map(int, stated.groups())) if stated else (0, 0),
    )


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
