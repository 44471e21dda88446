"""Copy the notebooks without their outputs into workbook/, for a learner to write in.

Usage: python tools/workbook.py

Needs nothing but Python. What a learner wrote is never overwritten: a copy is refreshed, or removed
when its lesson is gone, only while it is, byte for byte, what was written here.
"""

import hashlib
import json
from pathlib import Path

from publish import strip_outputs

ROOT = Path(__file__).parents[1]


def refresh(root: Path) -> list[str]:
    """Bring the workbook under a folder up to date; give the lines that say what was done."""
    folder = root / "workbook"
    folder.mkdir(exist_ok=True)
    lessons = {
        path.name: strip_outputs(path.read_text(encoding="utf-8")).encode("utf-8")
        for path in sorted((root / "notebooks").glob("*.ipynb"))
    }
    due = {name: hash_of(lesson) for name, lesson in lessons.items()}
    there = {path.name: hash_of(path.read_bytes()) for path in sorted(folder.glob("*.ipynb"))}
    copied = recall(folder)

    yours = [name for name in there if there[name] not in (copied.get(name), due.get(name))]
    written = [name for name in due if name not in yours and there.get(name) != due[name]]
    removed = [name for name in there if name not in yours and name not in due]
    for name in written:
        (folder / name).write_bytes(lessons[name])
    for name in removed:
        (folder / name).unlink()
    # Of the learner's, it stays known which lesson it began as; where that is lost, today's counts.
    remember(folder, due | {name: copied[name] for name in yours if name in copied})

    counts = f"{len(written)} written, {len(removed)} removed, {len(yours)} kept as you left them"
    return [
        f"workbook/{name} stays as you left it, but the lesson "
        f"{'has' if name in copied else 'may have'} changed since. "
        "For the new one, rename or delete yours and run this again."
        for name in yours
        if name in due and copied.get(name) != due[name]
    ] + [f"workbook/ holds the notebooks without outputs: {counts}."]


def hash_of(content: bytes) -> str:
    """Name what a file holds by its sha256."""
    return hashlib.sha256(content).hexdigest()


def recall(folder: Path) -> dict[str, str]:
    """Read what the copies were when written; without it, all that differs is the learner's."""
    try:
        copied = json.loads((folder / ".copied.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return copied if isinstance(copied, dict) else {}


def remember(folder: Path, copied: dict[str, str]) -> None:
    """Note what the copies were when written."""
    text = json.dumps(copied, indent=1, ensure_ascii=False) + "\n"
    (folder / ".copied.json").write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    print("\n".join(refresh(ROOT)))
