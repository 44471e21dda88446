"""Run notebooks from fresh kernels and save what they print, ready to commit.

Usage: python tools/execute_notebooks.py notebooks/*.ipynb
"""

import base64
import io
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def execute(path: Path) -> None:
    """Run all cells of one notebook in its own folder and save it."""
    notebook = nbformat.read(path, as_version=4)
    started = time.perf_counter()
    NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        store_widget_state=False,
        record_timing=False,
    ).execute()
    tidy(notebook)
    nbformat.write(notebook, path)
    print(f"{path}: {time.perf_counter() - started:.1f} s, {path.stat().st_size // 1024} KiB")


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Keep what a reader needs; what only this run knows would make needless changes.

    A saved widget view points at a model that is gone: pages would show an error instead of
    the still picture that stands beside it.
    """
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {
                "display_name": "Python 3 (ipykernel)",
                "language": "python",
                "name": "python3",
            },
            "language_info": {"name": "python"},
        }
    )
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
            for output in cell.outputs:
                data = output.get("data", {})
                data.pop(WIDGET_VIEW, None)
                if re.match(r"<\w+Explorer", data.get("text/plain", "")):
                    data["image/png"] = in_few_colours(data["image/png"])


def in_few_colours(png: str) -> str:
    """Draw an explorer's still with 256 colours: a third of the bytes, and nobody sees it."""
    file = io.BytesIO()
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    image.quantize(256, Image.Quantize.MAXCOVERAGE).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode("ascii")


def joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Put stream outputs together that follow each other: where they were cut is chance."""
    together = []
    for output in outputs:
        last = together[-1] if together else None
        if last and output.output_type == "stream" and last.get("name") == output.name:
            last.text += output.text
        else:
            together.append(output)
    return together


if __name__ == "__main__":
    for name in sys.argv[1:]:
        execute(Path(name))
