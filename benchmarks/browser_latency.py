"""From a key to changed pixels: an explorer beside ``interact``, and every explorer of the site.

``python benchmarks/browser_latency.py`` opens both rivals in JupyterLab and Chromium and moves
their sliders by keyboard, in turn; then it builds the site, opens its pages from disk with the
network off and moves every control of every explorer. The results go to
``results/browser_latency.json`` and into the tables of ``README.md``. It needs a Chromium on PATH
and takes about five minutes.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from datetime import date
from importlib import metadata
from pathlib import Path

import nbformat
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for the tools, which are no package to install

from tools.browser.examine import DESK  # noqa: E402
from tools.browser.page import NotebookPage, open_browser  # noqa: E402
from tools.browser.server import running_lab  # noqa: E402

README = ROOT / "benchmarks" / "README.md"
RESULTS = ROOT / "benchmarks" / "results" / "browser_latency.json"
LENGTHS, WARM_UP, FRAME = (8, 64, 512), 4, 1000 / 60
PACKAGES = ("torch", "matplotlib", "ipywidgets", "anywidget", "ipykernel", "jupyterlab")
RIVALS = {
    "explorer": "rivals.HeatExplorer(T={T})",
    "interact": "import ipywidgets\n"
    "ipywidgets.interact(rivals.draw_with_pyplot, T=ipywidgets.IntSlider({T}, 1, 512));",
    "surprised": "rivals.SurprisedExplorer(T={T})",
}
# What is seen: an explorer's picture as data, or the image that interact puts into the cell. The
# clock stops at the first frame that has another one.
CLOCK = """(seen) => {
    const before = seen();
    window.took = null;
    window.pressed = ({ timeStamp }) => {
        const look = () => {
            const now = seen();
            if (now !== null && now !== before) window.took = performance.now() - timeStamp;
            else if (window.pressed) requestAnimationFrame(look);
        };
        requestAnimationFrame(look);
    };
}"""
# Before anybody else's: an explorer lets nobody hear its keys.
LISTEN = "window.addEventListener('keydown', (event) => window.pressed?.(event), true)"
PICTURE = "() => document.querySelectorAll('.causal-explorer')[{n}].drawn()"
IMAGE = """() => {
    const image = document.querySelectorAll('.jp-Cell')[2].querySelector('img');
    return image?.complete && image.naturalWidth ? image.src : null;
}"""


def press(page: Page, field, key: str, seen: str, seconds: float = 20) -> float | None:
    """Press a key on a control; give the milliseconds until another picture is seen."""
    field.focus()
    page.evaluate(f"({CLOCK})({seen})")
    page.keyboard.press(key)
    end = time.monotonic() + seconds
    while (took := page.evaluate("window.took")) is None and time.monotonic() < end:
        page.wait_for_timeout(5)
    page.evaluate("window.pressed = null")
    return took


def beside_interact(browser, lab, T: int, pairs: int) -> dict:
    """Move the rivals in turn, to lengths never seen, then the explorer all the way back."""
    path = f"import sys\nsys.path.insert(0, {str(ROOT / 'benchmarks')!r})\n"
    cells = ["%matplotlib inline\n" + path + "import rivals", *RIVALS.values()]
    cells = [nbformat.v4.new_code_cell(cell.replace("{T}", str(T))) for cell in cells]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    nbformat.write(
        nbformat.v4.new_notebook(cells=cells, metadata=kernel), lab.root / "rivals.ipynb"
    )
    context = browser.new_context(viewport=DESK)
    try:
        context.add_init_script(LISTEN)
        notebook = NotebookPage(context.new_page(), lab)
        notebook.open("rivals.ipynb")
        notebook.run_all()
        page, times = notebook.page, {name: [] for name in [*RIVALS, "seen before"]}
        ranges = page.locator(".causal-explorer input")
        fields = {
            "explorer": (ranges.nth(0), PICTURE.replace("{n}", "0")),
            "interact": (page.locator(".jp-Cell").nth(2).locator(".noUi-handle"), IMAGE),
            "surprised": (ranges.nth(1), PICTURE.replace("{n}", "1")),
        }
        on, back = ("ArrowLeft", "ArrowRight") if T == LENGTHS[-1] else ("ArrowRight", "ArrowLeft")
        for index in range(WARM_UP + pairs):
            for turn in range(len(RIVALS)):
                name = list(RIVALS)[(index + turn) % len(RIVALS)]
                field, seen = fields[name]
                times[name].append(press(page, field, on, seen))
                notebook.settle()  # all of it is done before the next one begins
        for _ in range(pairs):
            field, seen = fields["explorer"]
            times["seen before"].append(press(page, field, back, seen))
            notebook.settle()
    finally:
        context.close()
        lab.stop_kernels()
    counted = {name: taken[-pairs:] for name, taken in times.items()}
    row = {"T": T} | {name: round(statistics.median(one), 1) for name, one in counted.items()}
    for name in ("explorer", "surprised"):
        ratios = [a / b for a, b in zip(counted[name], counted["interact"], strict=True)]
        quartiles = statistics.quantiles(ratios, n=4, method="inclusive")
        row[f"{name} / interact"] = [round(one, 3) for one in quartiles]
    return row


def on_the_site(browser, site: Path, moves: int) -> list[dict]:
    """Move every control of every explorer of pages from disk, to and fro."""
    rows = []
    context = browser.new_context(viewport=DESK, offline=True)
    context.add_init_script(LISTEN)
    for path in sorted((site.resolve() / "notebooks").glob("*.html")):
        page = context.new_page()
        page.goto(path.as_uri())
        # What answers a prediction is hidden until asked for.
        folds = page.locator("details:has(.causal-explorer)")
        folds.evaluate_all("(all) => all.forEach((one) => { one.open = true; })")
        for n, root in enumerate(page.locator(".causal-explorer").all()):
            root.scroll_into_view_if_needed()
            root.locator(".note").wait_for()
            times = []
            for field in root.locator("[data-control]").all():
                for move in range(moves if field.is_enabled() else 0):
                    key = ("ArrowLeft", "ArrowRight")[move % 2]
                    before = field.input_value()
                    took = press(page, field, key, PICTURE.replace("{n}", str(n)), 0.3)
                    if took is not None or field.input_value() != before:  # else: at its end
                        times.append(300.0 if took is None else took)
            rows.append({"explorer": root.get_attribute("data-explorer"), "times": times})
        page.close()
    context.close()
    return rows


def measure(pairs: int, site: Path | None) -> dict:
    """Measure all."""
    if site is None:
        site = ROOT / "build" / "site"
        subprocess.run([sys.executable, ROOT / "tools" / "build_site.py", site], check=True)
    with sync_playwright() as playwright, open_browser(playwright) as browser:
        rows = on_the_site(browser, site, moves=12)
        with running_lab() as lab:
            rivals = [beside_interact(browser, lab, T, pairs) for T in LENGTHS]
        versions = {name: metadata.version(name) for name in PACKAGES}
        versions |= {"python": platform.python_version(), "chromium": browser.version}
    every = [took for row in rows for took in row["times"]]
    rows.append({"explorer": "all", "times": every})
    return {
        "date": date.today().isoformat(),
        "versions": versions,
        "pairs": pairs,
        "side_by_side": rivals,
        "site": [
            {
                "explorer": row["explorer"],
                "moves": len(row["times"]),
                "median": round(statistics.median(row["times"]), 1),
                "95 %": round(statistics.quantiles(row["times"], n=20)[-1], 1),
            }
            for row in rows
        ],
    }


def report(results: dict) -> dict[str, str]:
    """Write each table under the name of its place in the README."""
    rivals, site = [], []
    for row in results["side_by_side"]:
        cells = [row[name] for name in ("T", "explorer", "surprised", "seen before", "interact")]
        for name in ("explorer", "surprised"):
            cells.append("**{1:.3f}** ({0:.3f} to {2:.3f})".format(*row[f"{name} / interact"]))
        rivals.append(cells)
    for row in results["site"]:
        frames = f"{row['median'] / FRAME:.1f} and {row['95 %'] / FRAME:.1f}"
        site.append([f"`{row['explorer']}`", row["moves"], row["median"], row["95 %"], frames])
    names = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    header = [
        "T",
        "the next step, ms",
        "a jump, ms",
        "where it was before, ms",
        "`interact`, ms",
        "next step / `interact`",
        "jump / `interact`",
    ]
    return {
        "side-by-side": table(header, rivals),
        "site": table(["explorer", "moves", "median, ms", "95 %, ms", "in frames of 60 Hz"], site),
        "slider-versions": f"Measured on {results['date']}, {results['pairs']} pairs per row of"
        f" the first table, one thread: {names}.",
    }


def table(header: list[str], rows: list[list]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def fill_in(text: str, places: dict[str, str]) -> str:
    """Replace what stands between ``<!-- begin: name -->`` and ``<!-- end: name -->``."""
    for name, content in places.items():
        begin, end = f"<!-- begin: {name} -->", f"<!-- end: {name} -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{content}\n{end}{rest.split(end)[1]}"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=30, help="moves of each rival per row")
    parser.add_argument("--dry", action="store_true", help="print, but write no file")
    parser.add_argument("--site", type=Path, help="a site that is built already")
    arguments = parser.parse_args()
    results = measure(arguments.pairs, arguments.site)
    places = report(results)
    print("\n\n".join(places.values()))
    if not arguments.dry:
        README.write_text(fill_in(README.read_text("utf-8"), places), "utf-8")
        RESULTS.write_text(json.dumps(results, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
