"""How a picture of a matrix is drawn: hatching, frames, numbers in cells, labels on axes."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from causal_lab.plots.style import (
    BLOCKED_COLOUR,
    FUTURE_COLOUR,
    HATCH_COLOUR,
    printable,
    tick_positions,
)


def hatch(ax: Axes, hidden: np.ndarray) -> None:
    """Hatch the hidden cells, shape (query, key)."""
    # One bar for each run of them in a row, not one for each cell.
    for row, cells in enumerate(hidden):
        flips = np.flatnonzero(np.diff(np.concatenate(([0], cells.astype(int), [0]))))
        runs = [(start - 0.5, end - start) for start, end in flips.reshape(-1, 2)]
        if runs:
            ax.broken_barh(
                runs,
                (row - 0.5, 1),
                facecolor=BLOCKED_COLOUR,
                edgecolor=HATCH_COLOUR,
                hatch="////",
                linewidth=0,
            )


def frame(ax: Axes, leaking: np.ndarray) -> None:
    """Frame cells, shape (query, key), in the colour of the future."""
    for row, column in np.argwhere(leaking):
        ax.add_patch(
            Rectangle(
                (column - 0.46, row - 0.46),
                0.92,
                0.92,
                fill=False,
                edgecolor=FUTURE_COLOUR,
                linewidth=min(2.0, 40 / len(leaking)),
            )
        )


def write_numbers(
    ax: Axes,
    cells: np.ndarray,
    is_dark: np.ndarray,
    write: Callable[[float], str],
    infinity: str = "",
    room: int = 8,
) -> None:
    """Write the numbers into the cells, shape (query, key); exact zeros show as a bare 0."""
    if max(cells.shape) > room:
        return
    for (row, column), value in np.ndenumerate(cells):
        text = infinity if value == -np.inf else "NaN" if np.isnan(value) else write(value)
        colour = "white" if is_dark[row, column] else "black"
        text = "0" if value == 0 else text
        ax.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)


def dress(
    ax: Axes,
    shape: tuple[int, int],
    tokens: Sequence[str] | None,
    title: str | None,
    grid_colour: str = "white",
) -> None:
    """Give a picture of this shape its labels, its title and lines between the cells."""
    room = _room_for_numbers(ax, shape)
    label_axis(ax.xaxis, shape[1], tokens, room=room)
    label_axis(ax.yaxis, shape[0], tokens, first=shape[1] - shape[0], room=room)
    ax.set_xlabel("key (is looked at)")
    ax.set_ylabel("query (looks)")
    ax.set_title(title or "")
    if max(shape) <= 32:
        ax.set_xticks(np.arange(shape[1] - 1) + 0.5, minor=True)
        ax.set_yticks(np.arange(shape[0] - 1) + 0.5, minor=True)
        ax.grid(which="minor", color=grid_colour, linewidth=0.8)
    ax.tick_params(which="both", length=0)


def _room_for_numbers(ax: Axes, shape: tuple[int, int]) -> int:
    """Say how many column numbers fit side by side under square cells."""
    rows, columns = shape
    pixels = min(ax.bbox.width, ax.bbox.height * columns / rows)
    size = ax.xaxis.get_ticklabels()[0].get_fontsize() * ax.figure.dpi / 72
    # A digit is 0.64 of the font's size wide.
    return int(pixels / (size * (0.64 * len(str(columns - 1)) + 0.5)))


def label_axis(
    axis, length: int, tokens: Sequence[str] | None, first: int = 0, room: int = 16
) -> None:
    """Label with words or numbers; behind a cache the queries begin at position ``first``."""
    first = max(first, 0)
    if tokens is not None and len(tokens) < first + length:
        raise ValueError(
            f"tokens must hold {first + length} labels, one per key, got {len(tokens)}"
        )
    ticks = tick_positions(length, tokens, room=room)
    if tokens is None:
        labels = [str(first + tick) for tick in ticks]
    else:
        labels = [printable(tokens[first + tick]) for tick in ticks]
    rotation = 90 if tokens is not None and axis.axis_name == "x" else 0
    # A dollar sign is a token like any other, not the beginning of a formula.
    axis.set_ticks(list(ticks), labels, rotation=rotation, parse_math=False)


def label_bar(bar: Axes, image, ticks, words, name: str) -> None:
    """Draw the colours of an image into axes, with words at some of them."""
    bar.figure.colorbar(image, cax=bar)
    bar.set_yticks(list(ticks), words, fontsize=7, parse_math=False)
    bar.tick_params(length=2, pad=2, which="major")
    bar.tick_params(length=0, which="minor")
    bar.set_ylabel(name, fontsize=8, parse_math=False)
    bar.spines[:].set_linewidth(0.4)
