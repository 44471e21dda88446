"""Take pictures of every explorer of the notebooks, to look at: light and dark, wide and narrow.

Usage: python -m tools.browser.screenshots    # make screenshots; they lie in build/screenshots
"""

import itertools
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tools.browser.page import open_browser
from tools.live_explorers import remake

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "build" / "screenshots"
WIDTHS = (1280, 390)
SCHEMES = ("light", "dark")


def take(browser: Browser, page: Path, name: str) -> None:
    """Open a saved page in each width and scheme, and take a picture of all of it."""
    for width, scheme in itertools.product(WIDTHS, SCHEMES):
        size = {"width": width, "height": 800}
        context = browser.new_context(viewport=size, color_scheme=scheme, offline=True)
        shown = context.new_page()
        shown.goto(page.as_uri())
        shown.locator(".causal-explorer[data-state=ready]").wait_for()
        path = PICTURES / f"{name}-{width}-{scheme}.png"
        shown.screenshot(path=path, full_page=True)
        print(path.relative_to(ROOT))
        context.close()


def main() -> None:
    """Make the explorers of the notebooks again, save each as a page, and take its pictures."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    for old in PICTURES.glob("*.png"):
        old.unlink()
    with (
        sync_playwright() as playwright,
        open_browser(playwright) as browser,
        tempfile.TemporaryDirectory() as folder,
    ):
        page = Path(folder) / "explorer.html"
        for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
            for live in remake(path):
                live.explorer.save(page)
                take(browser, page, live.key)


if __name__ == "__main__":
    main()
