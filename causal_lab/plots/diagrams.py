"""How a still draws what stands on axes with numbers: bars, curves, and sizes in bytes."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from causal_lab.plots.drawing import label_axis
from causal_lab.plots.picture import Bars, Curves, Sizes
from causal_lab.plots.room import SMALL, Room, cut, explain, longest, mark, wide
from causal_lab.plots.style import COLOUR_OF, NAN_COLOUR, PAST_COLOUR, WEIGHT_TICKS

_PALE, _GREY = "#e6e6e6", COLOUR_OF["truth"]
_LEAST, _MOST = 2**10, 2**44  # ends of the axis of sizes
_UNITS = {2**10: "1 KiB", 2**20: "1 MiB", 2**30: "1 GiB", 2**40: "1 TiB"}


def room_of_bars(panel: Bars) -> Room:
    """Say how much room the bars and their labels need.

    >>> room_of_bars(Bars(np.array([[0.5]]), ("past",))).width
    480
    """
    below = 42 if panel.labels is None else 30 + wide(longest(panel.labels))
    return Room(panel.width, panel.height, left=58, below=below, legend=panel.meanings)


def draw_bars(ax: Axes, panel: Bars) -> None:
    """Draw bars, part upon part, and hollow ones for how it should be."""
    count = panel.heights.shape[1]
    places, bottom = np.arange(count), np.zeros(count)
    for heights, colour in zip(panel.heights, panel.parts, strict=True):
        ax.bar(places, heights, bottom=bottom, color=COLOUR_OF[colour], width=0.8)
        bottom = bottom + np.nan_to_num(heights)
    gaps = np.flatnonzero(np.isnan(panel.heights).any(axis=0))
    if len(gaps):
        rim = ax.get_xaxis_transform()
        ax.plot(gaps, [0.04] * len(gaps), "x", color=NAN_COLOUR, transform=rim, clip_on=False)
    if panel.outline is not None:
        ax.bar(places, panel.outline, width=0.8, fill=False, edgecolor=_GREY, linewidth=1.5)
    if panel.root:
        ax.set_yscale("function", functions=(lambda y: np.sqrt(np.maximum(y, 0)), np.square))
        ax.set_yticks([panel.top * tick for tick in WEIGHT_TICKS])
        ax.yaxis.set_major_formatter("{x:g}")
    ax.set_ylim(0, panel.top)
    ax.set_xlim(-0.6, count - 0.4)
    _dress(ax, panel.name, panel.label)
    labels = None if panel.labels is None else [cut(label) for label in panel.labels]
    label_axis(ax.xaxis, count, labels, room=int(ax.bbox.width // 26))
    if labels and wide(longest(labels)) < ax.bbox.width / count:
        ax.tick_params(axis="x", labelrotation=0)
    mark(ax, "x", panel.marked, both=False)
    if panel.meanings:
        explain(ax, [Patch(color=COLOUR_OF[part]) for part in panel.parts], panel.meanings)


def room_of_curves(panel: Curves) -> Room:
    """Say how much room the curves need.

    >>> room_of_curves(Curves(np.zeros((1, 3)), ("leak",), ("future",))).legend
    ('leak',)
    """
    return Room(panel.width, panel.height, left=62, right=16, below=42, legend=panel.names)


def draw_curves(ax: Axes, panel: Curves) -> None:
    """Draw curves, cut off where they leave the axis, and an upright line behind them."""
    x = np.arange(panel.values.shape[1]) if panel.x is None else panel.x
    if panel.marked is not None:
        ax.axvline(panel.marked, color=COLOUR_OF["missing"], linewidth=1, zorder=1)
    lines = []
    for number, (values, colour) in enumerate(zip(panel.values, panel.colours, strict=True)):
        lines += ax.plot(
            x,
            values,
            color=COLOUR_OF[colour],
            linewidth=1.8,
            linestyle="--" if number in panel.dashed else "-",
            drawstyle="steps-mid" if panel.steps else "default",
            marker="o" if len(x) <= 32 and not panel.steps else "",
            markersize=3,
        )
    if panel.log:
        ax.set_yscale("log", nonpositive="mask")
        ax.yaxis.set_major_formatter(lambda power, _: f"{power:g}".replace("e-0", "e-"))
    ax.set_ylim(panel.low, panel.high)
    _dress(ax, panel.axis, panel.label)
    if panel.names:
        handles = [
            Line2D([], [], color=line.get_color(), linestyle=line.get_linestyle(), linewidth=2)
            for line in lines
        ]
        explain(ax, handles, panel.names)


def room_of_sizes(panel: Sizes) -> Room:
    """Say how much room the sizes, their names before and their words behind them need.

    >>> room_of_sizes(Sizes(np.array([2**20]), ("one text",), ("1 MiB",))).height
    36
    """
    before = wide(max((len(name) for name in panel.names), default=0)) + 16
    behind = wide(max((len(word) for word in panel.words), default=0)) + 20
    return Room(panel.width, 36 * len(panel.names), left=before, right=behind, below=42, above=24)


def draw_sizes(ax: Axes, panel: Sizes) -> None:
    """Draw sizes as bars that lie on a logarithmic axis, and what to compare them with."""
    count = len(panel.nbytes)
    shown = np.clip(panel.nbytes, 1.2 * _LEAST, _MOST)  # the smallest is a thin line
    shown = np.nan_to_num(shown, nan=_LEAST)
    ax.set_xscale("log", base=2)
    ax.set_xlim(_LEAST, _MOST)
    ax.set_ylim(count - 0.5, -0.5)
    ax.barh(range(count), shown - _LEAST, left=_LEAST, height=0.55, color=PAST_COLOUR)
    for number, (size, what) in enumerate(panel.marks):
        ax.axvline(size, color="black", linewidth=1)
        side, gap = ("left", 3) if number else ("right", -3)
        ax.annotate(
            what,
            (size, 1),
            (gap, 4),
            xycoords=ax.get_xaxis_transform(),
            textcoords="offset points",
            ha=side,
            fontsize=SMALL,
            parse_math=False,
        )
    for row, (size, word) in enumerate(zip(shown, panel.words, strict=True)):
        style = {"va": "center", "fontsize": 9, "parse_math": False, "annotation_clip": False}
        style["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # over a mark
        ax.annotate(word, (size, row), (4, 0), textcoords="offset points", **style)
    _dress(ax, "bytes, on a logarithmic axis", "")
    ax.set_xticks(list(_UNITS), _UNITS.values())
    ax.set_xticks([], minor=True)
    ax.set_yticks(range(count), panel.names, parse_math=False)
    ax.grid(axis="y", visible=False)


def _dress(ax: Axes, below: str, beside: str) -> None:
    ax.set_xlabel(below, fontsize=9, parse_math=False)
    ax.set_ylabel(beside, fontsize=9, parse_math=False)
    ax.tick_params(labelsize=SMALL)
    ax.grid(axis="y", color=_PALE, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
