"""How long after a slider moves does its picture come? An explorer beside ``interact``.

``python benchmarks/slider_latency.py`` starts a kernel, as a notebook does, sends it what a
browser sends when a slider moves, and waits for the message that carries the picture. Both
ways to draw live in that one kernel and take turns; what is claimed is their ratio. The
results go to ``results/slider_latency.json`` and into the tables of ``README.md``.

The first half of this file runs in the kernel, which imports it; the second half beside it.
"""

import argparse
import ast
import base64
import hashlib
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from importlib import metadata
from pathlib import Path

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
from IPython import get_ipython
from jupyter_client import KernelManager
from matplotlib.figure import Figure

from causal_lab.attention.softmax import masked_softmax
from causal_lab.explorers import AttentionExplorer, Explorer, MaskExplorer
from causal_lab.explorers.canvas import Canvas, Cells, HeatPanel, encode_png
from causal_lab.explorers.explorer import fixed_scores, slider
from causal_lab.masks.rules import generate_causal_mask
from causal_lab.plots.style import WEIGHT_MAP, WEIGHT_TICKS, tick_positions, weight_scale

HERE = Path(__file__).resolve().parent
README = HERE / "README.md"
RESULTS = HERE / "results" / "slider_latency.json"

LENGTHS = (8, 512)
LONGEST = max(LENGTHS)
BAR = 0.2  # the explorer should take at most this share of interact's time
WARM_UP = 6
BURST = 30
PACKAGES = ("torch", "numpy", "matplotlib", "ipywidgets", "ipykernel", "jupyter_client")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

SCORES = 2 * fixed_scores(LONGEST, LONGEST, seed=0)
CANVAS = Canvas([HeatPanel(512)])
INCHES = (CANVAS.width / 100, CANVAS.height / 100)  # at 100 dots per inch


# In the kernel


@dataclass(frozen=True)
class Source:
    """A slider, the image that answers it (interact has none), and the PNG it should show."""

    slider: widgets.IntSlider
    image: widgets.Image | None
    png_at: Callable[[int], bytes]


def build() -> dict[str, Source]:
    """Make everything that has a slider: the two rivals and the package's own explorers."""
    return {
        "explorer": source_of(HeatExplorer()),
        "interact": interact_source(),
        "MaskExplorer": source_of(MaskExplorer()),
        "AttentionExplorer": source_of(AttentionExplorer()),
    }


def causal_weights(T: int) -> np.ndarray:
    return masked_softmax(SCORES[:T, :T], generate_causal_mask(T)).numpy()


class HeatExplorer(Explorer):
    """One slider, one heat map."""

    def __init__(self):
        super().__init__({"T": slider("T", 8, 1, LONGEST)}, CANVAS)

    def compute(self, T: int) -> np.ndarray:
        return causal_weights(T)

    def paint(self, weights: np.ndarray) -> np.ndarray:
        return self.canvas.paint([Cells(weights)], titles=[title(len(weights))])


def new_pyplot_figure(T: int) -> Figure:
    """Draw the same as the HeatExplorer, the way tutorials do it."""
    figure, ax = plt.subplots(figsize=INCHES, dpi=100)
    image = ax.imshow(causal_weights(T), cmap=WEIGHT_MAP, norm=weight_scale())
    ax.set_xticks(tick_positions(T))
    ax.set_yticks(tick_positions(T))
    ax.set_xlabel("key (is looked at)")
    ax.set_ylabel("query (looks)")
    ax.set_title(title(T))
    figure.colorbar(image, ax=ax, ticks=WEIGHT_TICKS, format="{x:g}").set_label("weight")
    return figure


def title(T: int) -> str:
    return f"T = {T}: weights"


def draw_with_pyplot(T: int) -> None:
    new_pyplot_figure(T)
    plt.show()


def interact_source() -> Source:
    control = widgets.IntSlider(8, 1, LONGEST)
    widgets.interact(draw_with_pyplot, T=control)
    return Source(control, None, lambda T: png_of_figure(new_pyplot_figure(T)))


def source_of(explorer: Explorer) -> Source:
    def png_at(T: int) -> bytes:
        return encode_png(explorer.paint(explorer.compute(**{**explorer.values(), "T": T})))

    return Source(explorer.controls["T"], explorer.image, png_at)


def png_of_figure(figure: Figure) -> bytes:
    """Turn a figure into a PNG by the very function that the inline backend uses."""
    png = get_ipython().display_formatter.formatters["image/png"](figure)
    plt.close(figure)
    return base64.b64decode(png) if isinstance(png, str) else png


def comms(sources: dict[str, Source]) -> dict[str, tuple[str, str | None]]:
    """Name the comm of each slider, and of the image that answers."""
    return {
        name: (source.slider.model_id, source.image and source.image.model_id)
        for name, source in sources.items()
    }


def right_picture(source: Source, T: int) -> tuple[str, tuple[int, int]]:
    """Draw what the source should show at T, and say its digest, width and height."""
    png = source.png_at(T)
    size = int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
    return hashlib.sha256(png).hexdigest(), size


# Beside the kernel


class Kernel:
    """A running kernel, its sliders, and what their pictures should be."""

    def __init__(self, client):
        self.client = client
        self.run("%matplotlib inline\nimport sys")
        if self.ask("sys.executable") != sys.executable:
            raise RuntimeError("the kernel runs another Python; install ipykernel in this one")
        self.run("import slider_latency as bench\nsources = bench.build()")
        self.comms = self.ask("bench.comms(sources)")
        self._right = {}  # filled before a clock starts

    def run(self, code: str, **expressions: str) -> dict:
        reply = self.client.execute(code, user_expressions=expressions, reply=True, timeout=120)
        for _ in self.answers(reply["parent_header"]["msg_id"]):
            pass  # so that nothing of it is left when a clock starts
        if reply["content"]["status"] != "ok":
            raise RuntimeError("\n".join(reply["content"]["traceback"]))
        return reply["content"]["user_expressions"]

    def ask(self, expression: str):
        answer = self.run("", answer=expression)["answer"]
        if answer["status"] != "ok":
            raise RuntimeError("\n".join(answer["traceback"]))
        return ast.literal_eval(answer["data"]["text/plain"])

    def right(self, name: str, T: int) -> tuple[str, tuple[int, int]]:
        if (name, T) not in self._right:
            self._right[name, T] = self.ask(f"bench.right_picture(sources[{name!r}], {T})")
        return self._right[name, T]

    def send(self, name: str, T: int) -> str:
        """Send what a browser sends when the slider has been moved to T."""
        data = {"method": "update", "state": {"value": T}, "buffer_paths": []}
        content = {"comm_id": self.comms[name][0], "data": data}
        message = self.client.session.msg("comm_msg", content)
        self.client.shell_channel.send(message)
        return message["header"]["msg_id"]

    def answers(self, message_id: str) -> Iterator[dict]:
        """Yield what the kernel publishes because of one message, until it is idle."""
        while True:
            message = self.client.iopub_channel.get_msg(timeout=120)
            if message["parent_header"].get("msg_id") != message_id:
                continue
            if message["content"].get("execution_state") == "idle":
                return
            yield message

    def picture_in(self, name: str, message: dict) -> bytes | None:
        """Take the PNG out of a message, if it carries one."""
        image_id, content = self.comms[name][1], message["content"]
        if not image_id:
            png = content.get("data", {}).get("image/png")
            return None if png is None else base64.b64decode(png)
        if message["msg_type"] != "comm_msg" or content["comm_id"] != image_id:
            return None
        paths = content["data"].get("buffer_paths", [])
        return bytes(message["buffers"][paths.index(["value"])]) if ["value"] in paths else None

    def is_right(self, name: str, T: int, png: bytes) -> bool:
        return hashlib.sha256(png).hexdigest() == self.right(name, T)[0]

    def move(self, name: str, T: int) -> float:
        """Move a slider, wait for its picture, and say how many milliseconds it took."""
        start = time.perf_counter()
        message_id = self.send(name, T)
        pictures = []
        for message in self.answers(message_id):
            png = self.picture_in(name, message)
            if png is not None:
                pictures.append((time.perf_counter(), png))
        if len(pictures) != 1 or not self.is_right(name, T, pictures[0][1]):
            raise RuntimeError(
                f"{name} should answer T = {T} with its picture, once; got {len(pictures)} pictures"
            )
        return 1000 * (pictures[0][0] - start)

    def burst(self, name: str, lengths: list[int]) -> dict:
        """Move a slider many times without waiting; count the pictures and check the last."""
        start = time.perf_counter()
        message_ids = [self.send(name, T) for T in lengths]
        pictures, last = 0, None
        for message_id in message_ids:
            for message in self.answers(message_id):
                png = self.picture_in(name, message)
                if png is not None:
                    pictures, last, end = pictures + 1, png, time.perf_counter()
        return {
            "who": name,
            "moves": len(lengths),
            "pictures": pictures,
            "last_is_right": self.is_right(name, lengths[-1], last),
            "last_after_ms": round(1000 * (end - start), 1),
        }


@contextmanager
def running_kernel() -> Iterator[Kernel]:
    manager = KernelManager(kernel_name="python3")
    quiet = ["--IPKernelApp.log_level=ERROR"]
    environment = {**os.environ, **ONE_THREAD}
    manager.start_kernel(extra_arguments=quiet, env=environment, cwd=str(HERE))
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=120)
        yield Kernel(client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def neighbours(T: int, count: int) -> list[int]:
    """List T − 1 and T in turn, so that every move changes the picture."""
    return [T - 1 + index % 2 for index in range(count)]


def compare(kernel: Kernel, T: int, pairs: int) -> dict:
    """Move both rivals' sliders in turn, each going first every other time."""
    times = {"explorer": [], "interact": []}
    for index, length in enumerate(neighbours(T, WARM_UP + pairs)):
        for name in sorted(times, reverse=index // 2 % 2 == 1):
            kernel.right(name, length)
            times[name].append(kernel.move(name, length))
    explorer, interact = times["explorer"][WARM_UP:], times["interact"][WARM_UP:]
    ratios = [mine / theirs for mine, theirs in zip(explorer, interact, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return {
        "T": T,
        "explorer_ms": round(statistics.median(explorer), 1),
        "interact_ms": round(statistics.median(interact), 1),
        "ratio": round(middle, 3),
        "quartiles": [round(low, 3), round(high, 3)],
        "explorer_pixels": kernel.right("explorer", T)[1],
        "interact_pixels": kernel.right("interact", T)[1],
    }


def time_alone(kernel: Kernel, name: str, T: int, moves: int) -> dict:
    """Time one of the package's own explorers; its figure is for information."""
    lengths = neighbours(T, WARM_UP + moves)
    for length in lengths[:2]:
        kernel.right(name, length)
    times = [kernel.move(name, length) for length in lengths][WARM_UP:]
    return {"who": name, "T": T, "ms": round(statistics.median(times), 1)}


def measure(pairs: int) -> dict:
    with running_kernel() as kernel:
        side_by_side = [compare(kernel, T, pairs) for T in LENGTHS]
        bursts = [
            {"T": T, **kernel.burst(name, list(range(T - BURST + 1, T + 1)))}
            for T in (BURST + 1, LONGEST)
            for name in ("explorer", "interact")
        ]
        own = [("MaskExplorer", 8), ("MaskExplorer", 512), ("AttentionExplorer", 8)]
        alone = [time_alone(kernel, name, T, pairs) for name, T in own]
    return {
        "date": date.today().isoformat(),
        "versions": versions(),
        "threads": 1,
        "pairs": pairs,
        "bar": BAR,
        "side_by_side": side_by_side,
        "bursts": bursts,
        "explorers": alone,
    }


def versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
    }


# What is written


def table(header: list[str], rows: list[list]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def side_by_side_table(results: dict) -> str:
    rows = [
        [
            row["T"],
            row["explorer_ms"],
            row["interact_ms"],
            f"**{row['ratio']:.3f}**",
            "{:.3f} to {:.3f}".format(*row["quartiles"]),
            "met" if row["ratio"] <= results["bar"] else "missed",
        ]
        for row in results["side_by_side"]
    ]
    bar = f"bar: at most {results['bar']}"
    return table(["T", "explorer, ms", "`interact`, ms", "ratio", "quartiles", bar], rows)


def burst_table(results: dict) -> str:
    rows = [
        [
            row["T"],
            f"`{row['who']}`" if row["who"] == "interact" else row["who"],
            f"{row['pictures']} of {row['moves']}",
            "yes" if row["last_is_right"] else "no",
            row["last_after_ms"],
        ]
        for row in results["bursts"]
    ]
    return table(["up to T", "who", "pictures", "last one is right", "it came after, ms"], rows)


def explorers_table(results: dict) -> str:
    rows = [[f"`{row['who']}`", row["T"], row["ms"]] for row in results["explorers"]]
    return table(["explorer", "T", "ms"], rows)


def foot(results: dict) -> str:
    names = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return f"Measured on {results['date']}, {results['pairs']} pairs per row, one thread: {names}."


def report(results: dict) -> dict[str, str]:
    """Write each table under the name of its place in the README."""
    return {
        "side-by-side": side_by_side_table(results),
        "burst": burst_table(results),
        "explorers": explorers_table(results),
        "versions": foot(results),
    }


def fill_in(text: str, places: dict[str, str]) -> str:
    """Replace what stands between ``<!-- begin: name -->`` and ``<!-- end: name -->``."""
    for name, content in places.items():
        begin, end = f"<!-- begin: {name} -->", f"<!-- end: {name} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"README.md must hold {begin} and {end} once each")
        before, rest = text.split(begin)
        after = rest.split(end)[1]
        text = f"{before}{begin}\n{content}\n{end}{after}"
    return text


def command(
    description: str,
    measure: Callable[[int], dict],
    report: Callable[[dict], dict[str, str]],
    path: Path,
) -> None:
    """Read the command line; measure, print, and write the tables and the results."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--pairs", type=int, default=40, help="moves of each rival per row")
    parser.add_argument("--dry", action="store_true", help="print, but write no file")
    arguments = parser.parse_args()
    if arguments.pairs < 2:
        parser.error("--pairs must be at least 2")
    results = measure(arguments.pairs)
    places = report(results)
    print("\n\n".join(places.values()))
    if not arguments.dry:
        README.write_text(fill_in(README.read_text("utf-8"), places), "utf-8")
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(results, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    command(__doc__.splitlines()[0], measure, report, RESULTS)
