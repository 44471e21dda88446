"""How a still draws a rectangle of cells, and all that can be said about one."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import BoundaryNorm, ListedColormap

from causal_lab.plots.drawing import hatch, label_axis, label_bar, write_numbers
from causal_lab.plots.picture import FRAMES, Heat
from causal_lab.plots.room import SMALL, Room, cut, longest, mark, wide
from causal_lab.plots.style import (
    ALLOWED_COLOUR,
    COLOUR_OF,
    NAN_COLOUR,
    WEIGHT_MAP,
    WEIGHT_TICKS,
    weight_scale,
)

_FINE = 32  # with more cells in a row, there is no room for frames and lines between them
_PALE = (0.965, 0.965, 0.965)
_BAR = 74  # pixels that a colour bar takes, with its numbers and its name


def room_of_heat(panel: Heat) -> Room:
    """Say how much room a rectangle of cells and its words need.

    >>> room_of_heat(Heat(np.eye(2), side=100)).width
    100.0
    """
    rows, columns = _shape(panel)
    cell = panel.side / max(rows, columns)
    labels = len(str(columns)) if panel.labels is None else longest(panel.labels)
    turned = panel.labels is not None and wide(labels) > cell / 2
    right = 14 + (wide(longest(panel.right)) if panel.right else 0)
    if panel.cells is not None:
        right += _BAR + (wide(longest(panel.levels)) - 20 if panel.levels else 0)
    return Room(
        max(columns * cell, 24.0),
        max(rows * cell, 24.0),  # a single row of cells is as high as its label
        left=36 + wide(labels),
        right=right,
        below=28 + (wide(labels) if turned else 14),
        above=8 + (max(14, wide(longest(panel.above))) if panel.above else 0),
    )


def draw_heat(ax: Axes, panel: Heat) -> None:
    """Draw cells, what is blocked, absent, framed or marked, and the words around them."""
    shape = _shape(panel)
    # The queries are the last of the keys, unless rows are something else that can be chosen.
    first = 0 if panel.moves else max(shape[1] - shape[0], 0)
    rows = [position - first for position in panel.rows if first <= position < first + shape[0]]
    image = ax.imshow(**_coloured(panel, shape), aspect="auto")
    if panel.blocked is not None:
        silent = panel.blocked > 0
        hatch(ax, silent if panel.cells is None else silent & (panel.cells == 0))
    if panel.absent is not None:
        _cover(ax, panel.absent > 0, (*_PALE, 1.0))
    if panel.dim:
        _cover(ax, ~np.isin(np.indices(shape)[0], rows), (1.0, 1.0, 1.0, 0.55))
    if panel.frames is not None and max(shape) <= _FINE:
        _frame(ax, panel.frames)
    if max(shape) <= _FINE:
        ax.vlines(np.arange(1, shape[1]) - 0.5, -0.5, shape[0] - 0.5, color="white", linewidth=0.8)
        ax.hlines(np.arange(1, shape[0]) - 0.5, -0.5, shape[1] - 0.5, color="white", linewidth=0.8)
    if panel.numbers and panel.cells is not None:
        _write_numbers(ax, panel, shape)
    labels = None if panel.labels is None else [cut(label) for label in panel.labels]
    cell = min(ax.bbox.width / shape[1], ax.bbox.height / shape[0])
    ax.tick_params(labelsize=min(SMALL, max(5, 0.7 * cell)) if labels else SMALL, pad=7)
    label_axis(ax.xaxis, shape[1], labels, room=int(ax.bbox.width // 20))
    label_axis(ax.yaxis, shape[0], labels, first, room=int(ax.bbox.height // 14))
    if labels and wide(longest(labels)) < cell:
        ax.tick_params(axis="x", labelrotation=0)
    ax.tick_params(length=0)
    ax.set_ylabel(panel.names[0], fontsize=9, parse_math=False)
    ax.set_xlabel(panel.names[1], fontsize=9, parse_math=False)
    mark(ax, "y", rows)
    mark(ax, "x", panel.columns)
    _write_around(ax, panel, shape)
    if panel.cells is not None:
        _draw_bar(ax, image, panel)


def _shape(panel: Heat) -> tuple[int, int]:
    shown = (panel.cells, panel.blocked, panel.absent)
    return next(one.shape for one in shown if one is not None)


def _coloured(panel: Heat, shape: tuple[int, int]) -> dict:
    """Choose what the image holds and its colours."""
    if panel.cells is None:
        return {"X": np.zeros(shape), "cmap": ListedColormap([ALLOWED_COLOUR])}
    if not panel.levels:
        colours = WEIGHT_MAP.with_extremes(bad=NAN_COLOUR)
        return {"X": panel.cells, "cmap": colours, "norm": weight_scale()}
    count = len(panel.levels)
    colours = ListedColormap(WEIGHT_MAP(np.linspace(1, 0.1, count))).with_extremes(bad=NAN_COLOUR)
    norm = BoundaryNorm(np.arange(count + 1) - 0.5, count)
    return {"X": panel.cells, "cmap": colours, "norm": norm}


def _cover(ax: Axes, cells: np.ndarray, colour: tuple[float, ...]) -> None:
    """Paint one colour, red, green, blue and alpha, over cells."""
    layer = np.zeros((*cells.shape, 4))
    layer[cells] = colour
    ax.imshow(layer, zorder=1, aspect="auto")


def _frame(ax: Axes, frames: np.ndarray) -> None:
    """Frame the cells of each kind; all frames of a kind are one artist, which draws fast."""
    corners = np.array([(-0.46, -0.46), (0.46, -0.46), (0.46, 0.46), (-0.46, 0.46)])
    style = {"facecolor": "none", "zorder": 1}
    width = min(2.0, 40 / max(frames.shape))
    for number, name in enumerate(FRAMES):
        places = np.argwhere(frames == number)[:, ::-1]
        if name and len(places):
            squares = places[:, None] + corners
            if name != "future":  # black and blue are not seen on dark cells
                halo = PolyCollection(squares, edgecolor="white", linewidth=2 * width, **style)
                ax.add_collection(halo, autolim=False)
            frame = PolyCollection(squares, edgecolor=COLOUR_OF[name], linewidth=width, **style)
            ax.add_collection(frame, autolim=False)


def _write_numbers(ax: Axes, panel: Heat, shape: tuple[int, int]) -> None:
    room = ax.bbox.width / shape[1], ax.bbox.height / shape[0]
    if room[0] < (13 if panel.levels else 25) or room[1] < 12:
        return
    cells, silent = panel.cells, np.zeros(shape, dtype=bool)
    for hidden in (panel.blocked, panel.absent):
        silent |= False if hidden is None else (hidden > 0) & (cells == 0)
    dark = cells > 0.55 * len(panel.levels) if panel.levels else cells < 0.25
    written = np.where(silent, -np.inf, cells)
    write = (lambda cell: f"{cell:.0f}") if panel.levels else _short
    write_numbers(ax, written, dark | np.isnan(cells), write, room=12)


def _write_around(ax: Axes, panel: Heat, shape: tuple[int, int]) -> None:
    """Write a word beside each row and above each column, where there is room for it."""
    across, down = ax.bbox.width / shape[1], ax.bbox.height / shape[0]
    style = {"fontsize": SMALL, "parse_math": False}
    if down >= 10:
        for row, word in enumerate(panel.right):
            x, move = 1 + 9 / ax.bbox.width, ax.get_yaxis_transform()
            ax.text(x, row, cut(word), transform=move, va="center", **style)
    if across >= 10:
        turned = 90 if wide(longest(panel.above)) > across else 0
        for column, word in enumerate(panel.above):
            y, move = 1 + 9 / ax.bbox.height, ax.get_xaxis_transform()
            style |= {"rotation": turned, "ha": "center", "va": "bottom"}
            ax.text(column, y, cut(word), transform=move, **style)


def _draw_bar(ax: Axes, image, panel: Heat) -> None:
    width, height = ax.bbox.width, ax.bbox.height
    left = 1 + (14 + (wide(longest(panel.right)) if panel.right else 0)) / width
    high = max(1.0, 110 / height)  # of a single row of cells, the bar hangs down
    bar = ax.inset_axes((left, 1 - high, 12 / width, high))
    ticks = range(len(panel.levels)) if panel.levels else WEIGHT_TICKS
    words = [cut(word) for word in panel.levels] or [f"{tick:g}" for tick in WEIGHT_TICKS]
    label_bar(bar, image, ticks, words, panel.names[2])


def _short(weight: float) -> str:
    return f"{weight:.2f}" if weight >= 0.005 else f"{weight:.0e}".replace("e-0", "e-")
