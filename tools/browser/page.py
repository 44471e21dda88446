"""One notebook in the browser: run it, take hold of its controls, look at its pictures."""

import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Browser, Locator, Page, Playwright

from tools.browser.server import Lab

INSIDE = (Path(__file__).parent / "inside.js").read_text(encoding="utf-8")
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ARGUMENTS = [
    "--no-sandbox",  # CI runs as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    # Nothing outside 127.0.0.1 is needed, and looking for it only costs time.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# What a stock JupyterLab writes to the console without any notebook: files that nobody made yet.
STOCK = re.compile(
    r"favicon|service-worker|/lsp/|/api/me\b|/translations|/api/contents/|/workspaces/"
)
THUMB = 16  # pixels, of a native slider in Chromium


def find_chromium() -> str | None:
    """Give the path of a Chromium on PATH, if there is one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def open_browser(playwright: Playwright) -> Iterator[Browser]:
    """Start the system's Chromium without a window."""
    path = find_chromium()
    if path is None:
        raise RuntimeError(f"no Chromium on PATH; install one of {', '.join(NAMES)}")
    browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
    try:
        yield browser
    finally:
        browser.close()


@dataclass(frozen=True)
class Control:
    """A slider, a menu, a text box or a play button of an explorer in an output."""

    index: int
    cell: int
    kind: str  # range, select, text, play
    label: str

    def __str__(self) -> str:
        return f"{self.kind} {self.label!r} in cell {self.cell}"


class NotebookPage:
    """A notebook, opened and run.

    Args:
        page: where it is shown.
        lab: the server; the notebook lies in its folder.
    """

    def __init__(self, page: Page, lab: Lab):
        self.page = page
        self.lab = lab
        self.console: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.console.append(f"page: {error}"))
        page.add_init_script(INSIDE)

    def _hear(self, message) -> None:
        where = message.location.get("url", "")
        if message.type == "error" and not STOCK.search(f"{message.text} {where}"):
            self.console.append(message.text)

    def open(self, name: str) -> None:
        """Open a notebook and wait for its kernel."""
        # `doc` is JupyterLab with this one document and nothing beside it.
        self.page.goto(self.lab.url(f"doc/tree/{quote(name)}"), timeout=120_000)
        ready = "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel"
        self.page.wait_for_function(ready, timeout=120_000)
        self.settle(120)
        self.page.evaluate("() => lab.listen()")

    def run_all(self, timeout: float = 300) -> None:
        """Run all cells and wait until the explorers stand."""
        command = "() => window.jupyterapp.commands.execute('notebook:run-all-cells')"
        self.page.set_default_timeout(1000 * timeout)
        self.page.evaluate(command)
        self.page.set_default_timeout(30_000)
        self.settle(timeout)
        self.until(lambda: not self.ask("lab.failed()"), 20)

    def ask(self, expression: str, *arguments):
        """Evaluate a call of ``lab`` in the page."""
        return self.page.evaluate(f"async ([a, b]) => {expression}", [*arguments, None, None][:2])

    def until(self, done: Callable[[], bool], seconds: float) -> bool:
        """Wait for something, and say whether it came."""
        end = time.monotonic() + seconds
        while not (there := done()) and time.monotonic() < end:
            self.page.wait_for_timeout(20)
        return bool(there)

    def settle(self, seconds: float = 30) -> None:
        """Wait until the kernel has answered everything and every picture is drawn."""
        if not self.ask("lab.still(a)", seconds):
            raise TimeoutError(f"the page did not come to rest within {seconds} seconds")

    def controls(self) -> list[Control]:
        """List what can be moved, from top to bottom, and mark it in the page."""
        return [Control(index, **found) for index, found in enumerate(self.ask("lab.controls()"))]

    def shows(self, cell: int) -> list[str]:
        """Give a digest of every picture and every word under a cell, once all stand still."""
        self.settle()
        return self.ask("lab.shows(a)", cell)

    def value(self, control: Control) -> str:
        """Read a control; of a play button, that of its slider."""
        return self.ask("lab.value(a)", control.index)

    def is_disabled(self, control: Control) -> bool:
        """Say whether it is greyed out."""
        return self.ask("lab.disabled(a)", control.index)

    def at_end(self, control: Control) -> bool:
        """Say whether it stands at its last value."""
        return self.ask("lab.atEnd(a)", control.index)

    def handle(self, control: Control) -> Locator:
        """Find it in the page."""
        return self.page.locator(f'[data-lab-control="{control.index}"]')

    def press(self, control: Control, keys: Iterable[str]) -> None:
        """Press keys on a control."""
        self.handle(control).focus()
        for key in keys:
            self.page.keyboard.press(key)

    def drag(self, control: Control) -> None:
        """Pull a slider's thumb along a third of its track, faster than pictures can come."""
        handle = self.handle(control)
        handle.scroll_into_view_if_needed()
        box, share = handle.bounding_box(), self.ask("lab.share(a)", control.index)
        x = box["x"] + THUMB / 2 + share * (box["width"] - THUMB)
        y = box["y"] + box["height"] / 2
        far = (1 if share < 0.5 else -1) * box["width"] / 3
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        for step in range(1, 11):
            self.page.mouse.move(x + far * step / 10, y)
        self.page.mouse.up()

    def canvases(self, cell: int) -> dict[str, Locator]:
        """Find the canvases of a cell's explorers, and mark them in the page."""
        names = self.ask("lab.canvases(a)", cell)
        return {name: self.page.locator(f'[data-lab-canvas="{name}"]') for name in names}

    def close_up(self, handle: Locator) -> bytes:
        """Take a picture of something and a little around it."""
        handle.scroll_into_view_if_needed()
        box = handle.bounding_box()
        around = {
            "x": box["x"] - 6,
            "y": box["y"] - 6,
            "width": box["width"] + 12,
            "height": box["height"] + 12,
        }
        return self.page.screenshot(clip=around, animations="disabled", caret="hide")

    def screenshot(self, cell: int) -> bytes:
        """Take a picture of a cell's output."""
        area = self.page.locator(".jp-Cell").nth(cell).locator(".jp-Cell-outputArea")
        return area.screenshot(animations="disabled")
