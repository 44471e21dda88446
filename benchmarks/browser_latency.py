"""From a key to changed pixels, in a real browser: an explorer beside ``interact``.

``python benchmarks/browser_latency.py`` opens a notebook with both in JupyterLab and Chromium and
moves their sliders by keyboard, in turn. It then does the same, without a rival, to every control
of every notebook of the series. The results go to ``results/browser_latency.json`` and into the
tables of ``README.md``. It needs a Chromium on PATH and takes about ten minutes.
"""

import statistics
import sys
from datetime import date
from importlib import metadata
from pathlib import Path

import nbformat
from playwright.sync_api import Browser, sync_playwright
from slider_latency import LENGTHS, RESULTS, WARM_UP, command, table, versions

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for the tools, which are no package to install

from tools.browser.examine import DESK, examine  # noqa: E402
from tools.browser.page import Control, NotebookPage, open_browser  # noqa: E402
from tools.browser.server import Lab, running_lab  # noqa: E402

RIVALS = {
    "explorer": "e = bench.HeatExplorer(); e.controls['T'].value = {T}; e",
    "interact": "bench.widgets.interact(\n    bench.draw_with_pyplot,"
    " T=bench.widgets.IntSlider({T}, 1, bench.LONGEST)\n);",
}


def write_notebook(path: Path, T: int) -> None:
    """Write a notebook whose cells 1 and 2 are the rivals."""
    first = f"%matplotlib inline\nimport sys\nsys.path.insert(0, {str(ROOT / 'benchmarks')!r})\n"
    cells = [first + "import slider_latency as bench", *RIVALS.values()]
    cells = [nbformat.v4.new_code_cell(cell.replace("{T}", str(T))) for cell in cells]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)


def compare(browser: Browser, lab: Lab, T: int, pairs: int) -> dict:
    """Move both rivals' sliders in turn, each going first every other time."""
    write_notebook(lab.root / "rivals.ipynb", T)
    context = browser.new_context(viewport=DESK)
    try:
        notebook = NotebookPage(context.new_page(), lab)
        notebook.open("rivals.ipynb")
        notebook.run_all()
        sliders = {name: slider_of(notebook, c) for c, name in enumerate(RIVALS, start=1)}
        times = {name: [] for name in sliders}
        for index in range(WARM_UP + pairs):
            for name in sorted(sliders, reverse=index // 2 % 2 == 1):
                key = "ArrowRight" if index % 2 else "ArrowLeft"
                took = notebook.press(sliders[name], [key], seconds=20)
                if took is None:
                    raise RuntimeError(f"{name} did not answer {key} at T = {T}")
                times[name].append(took)
                notebook.shows(sliders[name].cell)  # all of it is done before the other begins
    finally:
        context.close()
        lab.stop_kernels()
    mine, theirs = (times[name][WARM_UP:] for name in ("explorer", "interact"))
    ratios = [a / b for a, b in zip(mine, theirs, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return {
        "T": T,
        "explorer_ms": round(statistics.median(mine)),
        "interact_ms": round(statistics.median(theirs)),
        "ratio": round(middle, 3),
        "quartiles": [round(low, 3), round(high, 3)],
    }


def slider_of(notebook: NotebookPage, cell: int) -> Control:
    """Find the one slider of a cell."""
    (slider,) = (c for c in notebook.controls() if c.cell == cell and c.kind == "slider")
    return slider


def one_notebook(browser: Browser, lab: Lab, path: Path) -> dict:
    """Move every control of a notebook there and back."""
    times = examine(path, browser, lab).milliseconds
    return {
        "notebook": path.stem,
        "moves": len(times),
        "median_ms": round(statistics.median(times)),
        "slowest_ms": round(max(times)),
    }


def measure(pairs: int) -> dict:
    """Measure all."""
    with sync_playwright() as playwright, open_browser(playwright) as browser, running_lab() as lab:
        return {
            "date": date.today().isoformat(),
            "versions": versions()
            | {"jupyterlab": metadata.version("jupyterlab"), "chromium": browser.version},
            "threads": 1,
            "pairs": pairs,
            "side_by_side": [compare(browser, lab, T, pairs) for T in LENGTHS],
            "notebooks": [
                one_notebook(browser, lab, path)
                for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
            ],
        }


def report(results: dict) -> dict[str, str]:
    """Write each table under the name of its place in the README."""
    rivals = [
        [
            row["T"],
            row["explorer_ms"],
            row["interact_ms"],
            f"**{row['ratio']:.3f}**",
            "{:.3f} to {:.3f}".format(*row["quartiles"]),
        ]
        for row in results["side_by_side"]
    ]
    series = [list(row.values()) for row in results["notebooks"]]
    names = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return {
        "browser-side-by-side": table(
            ["T", "explorer, ms", "`interact`, ms", "ratio", "quartiles"], rivals
        ),
        "browser-notebooks": table(["notebook", "moves", "median, ms", "slowest, ms"], series),
        "browser-versions": f"Measured on {results['date']}, {results['pairs']} pairs per row of"
        f" the first table, one thread: {names}.",
    }


if __name__ == "__main__":
    command(__doc__.splitlines()[0], measure, report, RESULTS.with_name("browser_latency.json"))
