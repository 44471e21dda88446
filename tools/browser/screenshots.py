"""Take a picture of every explorer in JupyterLab, and write the page that shows them.

Usage: python -m tools.browser.screenshots    # make screenshots
"""

import io
import json
import re
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageChops
from playwright.sync_api import sync_playwright

from tools.browser.examine import DESK
from tools.browser.page import NotebookPage, open_browser
from tools.browser.server import running_lab

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explorers.md"
PICTURES = ROOT / "docs" / "images" / "explorers"
EXPLORER = re.compile(r"<(\w+Explorer)\b")


@dataclass(frozen=True)
class Shown:
    """An explorer in a notebook."""

    notebook: str
    title: str
    cell: int
    kind: str
    heading: str

    @property
    def picture(self) -> str:
        """Name its picture."""
        return f"{self.notebook[:2]}-{self.kind}.png"


def explorers(path: Path) -> list[Shown]:
    """List the explorers that a notebook shows, each kind once, as its saved outputs tell."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    titles = re.findall(r"^#+ (.+)$", "\n".join(source(cell) for cell in cells), re.M)
    found, heading = [], titles[0]
    for index, cell in enumerate(cells):
        if cell["cell_type"] == "markdown":
            heading = (re.findall(r"^#+ (.+)$", source(cell), re.M) or [heading])[-1]
        for output in cell.get("outputs", []):
            kind = EXPLORER.match("".join(output.get("data", {}).get("text/plain", "")))
            if kind and kind[1] not in {one.kind for one in found}:
                found.append(Shown(path.stem, titles[0], index, kind[1], heading))
    return found


def source(cell: dict) -> str:
    """Give the text of a cell that may hold headings."""
    return "".join(cell["source"]) if cell["cell_type"] == "markdown" else ""


def page(paths: list[Path]) -> str:
    """Write the page: a picture per explorer, under the notebook and with the cell's heading."""
    lines = [
        "# The explorers",
        "",
        "Every picture with sliders, as it stands in JupyterLab before anyone moves it.",
        "",
        "`make screenshots` remakes this page and its pictures.",
    ]
    for path in paths:
        shown = explorers(path)
        if shown:
            lines += ["", f"## {shown[0].title}"]
        for one in shown:
            link = f"[{one.notebook[:2]} “{one.heading}”](../notebooks/{one.notebook}.ipynb)"
            words = f"{one.kind} in JupyterLab: its sliders and menus above its picture"
            lines += ["", f"{link}", "", f"![{words}](images/explorers/{one.picture})"]
    return "\n".join([*lines, ""])


def cropped(png: bytes) -> Image.Image:
    """Cut off the empty paper; what is left needs few colours."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    ink = ImageChops.difference(picture, Image.new("RGB", picture.size, "white")).getbbox()
    left, top, right, bottom = ink
    box = (max(left - 8, 0), max(top - 8, 0), right + 8, bottom + 8)
    return picture.crop(box).quantize(256)


def main() -> None:
    """Open every notebook, run it, and take the pictures."""
    paths = sorted((ROOT / "notebooks").glob("*.ipynb"))
    PICTURES.mkdir(parents=True, exist_ok=True)
    wanted = {one.picture for path in paths for one in explorers(path)}
    for old in PICTURES.glob("*.png"):
        if old.name not in wanted:
            old.unlink()
    with sync_playwright() as playwright, open_browser(playwright) as browser, running_lab() as lab:
        for path in paths:
            (lab.root / path.name).write_bytes(path.read_bytes())
            context = browser.new_context(viewport=DESK)
            notebook = NotebookPage(context.new_page(), lab)
            notebook.open(path.name)
            notebook.run_all()
            for one in explorers(path):
                area = notebook.explorer(one.cell)
                cropped(area.screenshot(animations="disabled")).save(PICTURES / one.picture)
                print(one.picture)
            context.close()
            lab.stop_kernels()
    PAGE.write_text(page(paths), encoding="utf-8")


if __name__ == "__main__":
    main()
