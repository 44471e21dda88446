"""How much room the parts of a still take, in pixels, before any of them is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from causal_lab.plots.style import printable

SMALL = 8  # points, of the words around an axis
_LABEL_LENGTH = 11


@dataclass(frozen=True)
class Room:
    """The size of a panel's axes, and what stands around them, in pixels.

    >>> Room(100, 50).height
    50
    """

    width: float
    height: float
    left: float = 12
    right: float = 12
    below: float = 8
    above: float = 8
    legend: tuple[str, ...] = ()  # what it explains; it stands in rows above the axes


def wide(text: str | int, size: float = SMALL) -> float:
    """Estimate how many pixels a text takes, or so many signs of one.

    >>> round(wide("query", 10))
    42
    """
    return 0.6 * size / 0.72 * (text if isinstance(text, int) else len(text))


def longest(words: Sequence[str]) -> int:
    """Count the signs of the longest word, 0 without words, after they were cut.

    >>> longest(["a", "bc"])
    2
    """
    return max((len(cut(word)) for word in words), default=0)


def cut(label: str) -> str:
    """Cut a word to the room that there is on an axis.

    >>> cut("a"), cut("incomprehensible")
    ('a', 'incomprehe…')
    """
    text = printable(label[: 2 * _LABEL_LENGTH])
    return text if len(text) <= _LABEL_LENGTH else text[: _LABEL_LENGTH - 1] + "…"


def legend_shape(words: Sequence[str], width: float) -> tuple[int, int]:
    """Say in how many rows and columns a legend fits over axes of this width.

    >>> legend_shape(["exact", "float32"], 300)
    (1, 2)
    """
    if not words:
        return 0, 1
    room = int(width // (38 + wide(max(len(word) for word in words))))
    columns = max(1, min(room, len(words)))
    return -(-len(words) // columns), columns


def explain(ax: Axes, handles: Sequence, words: Sequence[str]) -> None:
    """Put a legend over the axes, in the rows that :func:`legend_shape` says."""
    legend = ax.legend(
        handles,
        words,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=legend_shape(words, ax.bbox.width)[1],
        frameon=False,
        fontsize=SMALL,
        borderaxespad=0.1,
        borderpad=0.2,
        handlelength=1.6,
        handletextpad=0.5,
        columnspacing=1.2,
        labelspacing=0.3,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def mark(ax: Axes, side: str, places: Sequence[int], *, both: bool = True) -> None:
    """Put black ticks at the rim beside rows (side "y") or columns ("x")."""
    deep = 4 / (ax.bbox.width if side == "y" else ax.bbox.height)
    for place in places:
        for edge in (-1.4 * deep, 1 + 0.4 * deep) if both else (-1.4 * deep,):
            corner, size = (edge, place - 0.5), (deep, 1)
            move = ax.get_yaxis_transform()
            if side == "x":
                corner, size, move = corner[::-1], size[::-1], ax.get_xaxis_transform()
            ax.add_patch(
                Rectangle(corner, *size, transform=move, clip_on=False, color="black", linewidth=0)
            )
