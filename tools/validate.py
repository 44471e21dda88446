"""Run the series under strict nbval on the device that is here, and keep what came of it (B.11).

Usage: python tools/validate.py                      all notebooks; docs/validation/<device>.json
       python tools/validate.py notebooks/00*.ipynb  some of them: a result that covers less
       python tools/validate.py --output DIR         elsewhere; the page is left alone
       python tools/validate.py --force              also in place of a result that covers more
       python tools/validate.py --adopt FILE         take in a result made on another machine
       python tools/validate.py --page               only write docs/validation.md again

Exit status: 0 all is well; 1 a cell failed (the result says which); 3 nothing was written, because
it would cover less than what is there. CAUSAL_LAB_DEVICE=cpu overrules the device, as in the
notebooks. Besides what the notebooks import it needs pytest and nbval only.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import torch
from nbval.plugin import find_comment_markers, find_metadata_tags
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode

from causal_lab.course.runtime import default_device, reproducibility_report
from causal_lab.masks.rules import generate_causal_mask, to_allowed

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
RESULTS = ROOT / "docs" / "validation"
PAGE = ROOT / "docs" / "validation.md"
SANITISER = "tests/nbval_sanitize.cfg"
# What `make notebooks-test` asks for, to the letter; a test holds the two together.
STRICT = ("--nbval", "--nbval-cell-timeout=120", f"--nbval-sanitize-with={SANITISER}")
CELL_FAILED, COVERS_LESS = 1, 3


# --- running


def run_notebook(path: Path) -> dict:
    """Run one notebook under strict nbval, from a fresh kernel of this Python.

    Args:
        path: the notebook.

    Returns:
        Cells, cells compared, passed and failed, which failed, seconds, and the file's digest.

    Raises:
        SystemExit: if pytest finds no cell in it.
    """
    with tempfile.TemporaryDirectory() as folder:
        junit = Path(folder) / "junit.xml"
        sanitise = f"--nbval-sanitize-with={ROOT / SANITISER}"
        # The kernel must be of this Python, or the report would be about another.
        options = [*STRICT[:-1], sanitise, "--nbval-current-env", "-p", "no:cacheprovider", "-q"]
        settings = ["-c", str(ROOT / "pyproject.toml"), f"--junit-xml={junit}"]
        command = [sys.executable, "-m", "pytest", *options, *settings, str(path)]
        started = time.perf_counter()
        subprocess.run(command, check=False)
        seconds = time.perf_counter() - started
        cases = list(ElementTree.parse(junit).iter("testcase")) if junit.exists() else []
    names = dict.fromkeys(case.get("name") for case in cases)  # without a name twice, in order
    bad = {case.get("name") for case in cases if {"failure", "error"} & {e.tag for e in case}}
    left = {case.get("name") for case in cases if case.find("skipped") is not None}
    if not names or names.keys() == {""}:
        raise SystemExit(f"{path.name}: nbval found no cell to run; nothing was written")
    return {
        "cells": len(names),
        "compared": sum(map(is_compared, code_cells(path))),
        "passed": len(names.keys() - bad - left),
        "failed": len(bad),
        "failed_cells": [name for name in names if name in bad],
        "seconds": round(seconds, 1),
        "sha256": digest(path),
    }


def is_compared(cell: dict) -> bool:
    """Whether nbval compares this cell: not opted out, and saved with an execution count."""
    options = dict(find_metadata_tags(cell["metadata"]))
    options |= find_comment_markers("".join(cell["source"]))
    is_wanted = options.get("check", True) and not options.get("skip")
    return bool(is_wanted and cell["execution_count"] is not None)


def digest(path: Path) -> str:
    """Tell one state of a notebook from another, whatever the line endings of the checkout."""
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()[:16]


def validate(paths: list[Path]) -> dict:
    """Run notebooks one by one and put the reproducibility report before what came of them.

    Args:
        paths: the notebooks.

    Returns:
        What the JSON file holds.
    """
    device = default_device()
    report = reproducibility_report(
        device=device,
        dtype=_plain(torch.get_default_dtype()),
        float32_matmul_precision=torch.get_float32_matmul_precision(),
        OMP_NUM_THREADS=os.environ.get("OMP_NUM_THREADS", "not set"),
        CAUSAL_LAB_DEVICE=os.environ.get("CAUSAL_LAB_DEVICE", "not set"),
        nbval=" ".join(STRICT),
        attention=attention_paths(paths, device),
    )
    return {
        "date": datetime.now(UTC).date().isoformat(),
        **asdict(report),
        "notebooks": {path.stem: run_notebook(path) for path in paths},
    }


def attention_paths(paths: list[Path], device: torch.device) -> dict[str, str]:
    """Say through which implementations of masked attention these notebooks go, on this device.

    Args:
        paths: the notebooks.
        device: where they run.

    Returns:
        What PyTorch chose for its ``scaled_dot_product_attention`` with a mask and with
        ``is_causal``, and how FlexAttention ran, if it did.
    """
    source = "\n".join("".join(cell["source"]) for path in paths for cell in code_cells(path))
    flex = "not used"
    if re.search(r"\bflex_attention\(", source):
        compiled = re.search(r"\btorch\.compile\(", source)
        flex = "compiled" if compiled else "not compiled"
    q = torch.randn(1, 2, 8, 16, generator=torch.Generator().manual_seed(0)).to(device)
    allowed = to_allowed(generate_causal_mask(8, device=device))
    return {
        "attention in causal_lab": "scores, mask, softmax, values",
        "SDPA with a mask": chosen(lambda: scaled_dot_product_attention(q, q, q, allowed)),
        "SDPA with is_causal": chosen(
            lambda: scaled_dot_product_attention(q, q, q, is_causal=True)
        ),
        "FlexAttention": flex,
    }


def code_cells(path: Path) -> list[dict]:
    """Read a notebook's code cells."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


class _Kernels(TorchDispatchMode):
    """Take down which fused attention is called; plain matrix products are "math"."""

    prefix = "aten::_scaled_dot_product_"

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name
        if name.startswith(self.prefix):
            self.names.add(name.removeprefix(self.prefix))
        return func(*args, **(kwargs or {}))


def chosen(call: Callable) -> str:
    """Name the kernel that PyTorch's fused attention chose during a call."""
    with _Kernels() as kernels:
        call()
    return ", ".join(sorted(kernels.names)) or "math"


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


# --- keeping


def load(path: Path) -> dict:
    """Read a result."""
    return json.loads(path.read_text(encoding="utf-8"))


def series() -> list[str]:
    """Name all notebooks there are, in order."""
    return sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))


def changed_since(result: dict) -> list[str]:
    """Name the notebooks that are not any more what a result was made with."""
    return [
        name
        for name, found in result["notebooks"].items()
        if not (path := NOTEBOOKS / f"{name}.ipynb").exists() or digest(path) != found["sha256"]
    ]


def slug_of(device: str) -> str:
    """Turn a device's name into a file's.

    Args:
        device: as in a report: "cpu", "NVIDIA H100 80GB HBM3".

    Returns:
        Small letters, digits and hyphens.

    >>> slug_of("NVIDIA H100 80GB HBM3")
    'nvidia-h100-80gb-hbm3'
    """
    slug = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
    if not slug:
        raise ValueError(f"a device needs a name with a letter or a digit, got {device!r}")
    return slug


def total(result: dict, what: str) -> int:
    """Add one count up over all notebooks of a result."""
    return sum(notebook[what] for notebook in result["notebooks"].values())


def why_not(new: dict, old: dict) -> str:
    """Say what a new result would lose of an old one; nothing if nothing.

    Args:
        new, old: results for the same device.

    Returns:
        A reason not to overwrite, or "".
    """
    missing = sorted(set(old["notebooks"]) - set(new["notebooks"]))
    if missing:
        return f"it lacks {', '.join(missing)}"
    now, then = total(new, "passed"), total(old, "passed")
    return f"{now} cells passed instead of {then}" if now < then else ""


def keep(result: dict, folder: Path, force: bool = False) -> Path | None:
    """Write a result, unless one that covers more is there.

    Args:
        result: from :func:`validate`.
        folder: where the results are; made if missing.
        force: write it all the same.

    Returns:
        The file, or None if nothing was written.
    """
    path = folder / f"{slug_of(result['device'])}.json"
    if path.exists() and not force:
        reason = why_not(result, load(path))
        if reason:
            print(f"not written: {path.name} is there and covers more: {reason}. --force overrules")
            return None
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8", newline="\n")
    print(f"written: {path.name}")
    return path


# --- the page


def read_results(folder: Path) -> list[dict]:
    """Read all results, those of a GPU first."""
    results = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))
    ]
    return sorted(results, key=lambda result: (not on_gpu(result), result["device"]))


def on_gpu(result: dict) -> bool:
    """Whether a result comes from anything but a CPU."""
    return not result["device"].startswith("cpu")


def is_whole(result: dict, series: list[str]) -> bool:
    """Whether every cell of every notebook of the series passed."""
    complete = set(series) <= set(result["notebooks"])
    return complete and total(result, "passed") == total(result, "cells")


def sections(results: list[dict], series: list[str]) -> dict[str, str]:
    """Put results into words and tables, by the name of their place on the page.

    Args:
        results: from :func:`read_results`.
        series: the names of all notebooks there are.

    Returns:
        Markdown for each place.
    """
    devices = "\n\n".join(_device(result) for result in results)
    return {"state": _state(results, series), "devices": devices or "None yet."}


def _state(results: list[dict], series: list[str]) -> str:
    wholly = [r["device"] for r in results if on_gpu(r) and is_whole(r, series)]
    if wholly:
        first = f"**Validated on a GPU** ({', '.join(wholly)}): what is saved passed there."
    elif any(map(on_gpu, results)):
        first = "**Not yet validated on a GPU**: no result for one has every cell passed."
    else:
        first = "**Not yet validated on a GPU.** There is no result for one."
    lines = []
    for result in results:
        cells, passed = total(result, "cells"), total(result, "passed")
        verdict = "all passed" if passed == cells else f"**{passed} passed**"
        covered = len(set(series) & set(result["notebooks"]))
        lines.append(
            f"- {result['device']}: {covered} of {len(series)} notebooks, {cells} code cells, "
            f"{verdict} ({result['date']})"
        )
    return "\n".join([first, "", *lines]).strip()


def _device(result: dict) -> str:
    rows = [
        f"### {result['device']}",
        "",
        "| notebook | cells | compared | passed | failed | seconds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, found in result["notebooks"].items():
        failed = f"**{', '.join(found['failed_cells'])}**" if found["failed"] else "0"
        rows.append(
            f"| {name} | {found['cells']} | {found['compared']} | {found['passed']} | {failed} "
            f"| {found['seconds']:.1f} |"
        )
    sums = [total(result, what) for what in ("cells", "compared", "passed", "failed")]
    seconds = sum(found["seconds"] for found in result["notebooks"].values())
    rows.append(f"| all | {' | '.join(map(str, sums))} | {seconds:.1f} |")
    return "\n".join([*rows, "", "| B.11 | |", "| --- | --- |", *_report_rows(result)])


def _report_rows(result: dict) -> list[str]:
    settings = dict(result["configuration"])
    paths = settings.pop("attention")
    pairs = [
        ("mask", result["mask_implementation"]),
        *paths.items(),
        *result["versions"].items(),
        ("driver", result["driver"]),
        ("platform", result["platform"]),
        ("threads", result["threads"]),
        *settings.items(),
    ]
    return [f"| {name} | {value} |" for name, value in pairs]


def write_page(page: Path, folder: Path) -> None:
    """Put the results into their places on the page.

    Args:
        page: a page with ``<!-- begin: name -->`` and ``<!-- end: name -->`` around each place.
        folder: where the results are.
    """
    text = page.read_text(encoding="utf-8")
    for name, words in sections(read_results(folder), series()).items():
        place = rf"(<!-- begin: {name} -->\n).*?(\n<!-- end: {name} -->)"
        text, count = re.subn(place, lambda f, w=words: f[1] + w + f[2], text, flags=re.S)
        if count != 1:
            raise ValueError(f"{page.name} must have one place for {name}, has {count}")
    page.write_text(text, encoding="utf-8", newline="\n")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="all, if not given")
    parser.add_argument("--output", type=Path, help="a folder for the result; no page is written")
    parser.add_argument("--force", action="store_true", help="overwrite what covers more")
    parser.add_argument("--adopt", type=Path, metavar="FILE", help="a result from elsewhere")
    parser.add_argument("--page", action="store_true", help="only write the page again")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says and return the exit status."""
    wanted = parse(arguments)
    folder = wanted.output or RESULTS
    failed = False
    if not wanted.page:
        if wanted.adopt:
            result = load(wanted.adopt)
        else:
            result = validate(wanted.notebooks or sorted(NOTEBOOKS.glob("*.ipynb")))
        for name, found in result["notebooks"].items():
            for cell in found["failed_cells"]:
                print(f"failed: {name}, {cell}")
        failed = total(result, "passed") < total(result, "cells")
        if keep(result, folder, wanted.force) is None:
            return COVERS_LESS
    if wanted.output is None:
        write_page(PAGE, RESULTS)
        for result in read_results(RESULTS):
            if changed := changed_since(result):
                print(f"{result['device']}: changed since: {', '.join(changed)}")
    return CELL_FAILED if failed else 0


if __name__ == "__main__":
    sys.exit(main())
