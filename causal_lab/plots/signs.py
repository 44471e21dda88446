"""How a still draws what is no diagram: clocks, a line of words, the boxes of a cache."""

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Arc, Circle, Rectangle

from causal_lab.plots.drawing import label_axis, label_bar
from causal_lab.plots.picture import Boxes, Dials, Sentence
from causal_lab.plots.room import SMALL, Room, cut, explain, longest, wide
from causal_lab.plots.style import COLOUR_OF, NAN_COLOUR, printable

_SIGNED_MAP = colormaps["PRGn"]  # neither end is the colour of the past or of the future
_HANDS = (COLOUR_OF["past"], COLOUR_OF["third"])
_WORD, _LINE = 10, 26  # points of a word of a sentence, pixels between its lines
_LOOKS = {  # colour of the word and of what lies behind it
    "seen": ("black", "none"),
    "hidden": ("#c9c9c9", "#c9c9c9"),
    "changed": ("white", COLOUR_OF["ink"]),
    "plain": ("#5a5a5a", "none"),
}


def room_of_dials(panel: Dials) -> Room:
    """Say how much room the clocks need.

    >>> room_of_dials(Dials(np.zeros((2, 2)), ("fast", "slow"), ("0°", "0°"))).height
    300
    """
    height = (panel.side + 40) * len(panel.angles)
    width = max(panel.side + 20, wide(max((len(name) for name in panel.names), default=0)))
    return Room(width, height, legend=panel.hands)


def draw_dials(ax: Axes, panel: Dials) -> None:
    """Draw clocks with two hands, and below each its name and the angle between the hands."""
    pitch, count = 1 + 40 / panel.side, len(panel.angles)
    for place, hands in enumerate(panel.angles.astype(float)):
        middle = -place * pitch - 0.5
        ax.add_patch(Circle((0, middle), 0.47, fill=False, edgecolor=COLOUR_OF["missing"]))
        between = (hands[1] - hands[0] + np.pi) % (2 * np.pi) - np.pi  # the shorter way round
        ends = np.degrees(sorted((hands[0], hands[0] + between)))
        style = {"theta1": ends[0], "theta2": ends[1], "color": COLOUR_OF["missing"]}
        ax.add_patch(Arc((0, middle), 0.46, 0.46, linewidth=3, **style))
        for hand, colour, long in zip(hands, _HANDS, (0.46, 0.38), strict=True):
            tip = long * np.cos(hand), middle + long * np.sin(hand)
            ax.plot((0, tip[0]), (middle, tip[1]), color=colour, linewidth=2.5)
        words = f"{panel.names[place]}\n{panel.words[place]}"
        below = middle - 0.5
        ax.text(0, below, words, ha="center", va="top", fontsize=SMALL, parse_math=False)
    high = max(count, 1) * pitch
    wide_it_is = high * ax.bbox.width / ax.bbox.height
    ax.set_xlim(-wide_it_is / 2, wide_it_is / 2)
    ax.set_ylim(-high, 0)
    ax.axis("off")
    explain(ax, [Line2D([], [], color=colour, linewidth=2.5) for colour in _HANDS], panel.hands)


def room_of_sentence(panel: Sentence, width: float) -> Room:
    """Say how much room the words need, in lines of this width.

    >>> room_of_sentence(Sentence(("one", "two"), ("seen", "seen")), 400).height
    26
    """
    lines = max((line for line, _, _ in _places(panel.words, width)), default=0) + 1
    return Room(width, lines * _LINE, left=0, right=0, below=4, above=4)


def draw_sentence(ax: Axes, panel: Sentence) -> None:
    """Draw the words line by line; what is hidden is there, but not to be read."""
    width, height = ax.bbox.width, ax.bbox.height
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)
    ax.axis("off")
    style = {"family": "monospace", "fontsize": _WORD, "parse_math": False}
    places = _places(panel.words, width)
    for number, (word, kind, (line, left, wide_it_is)) in enumerate(
        zip(panel.words, panel.kinds, places, strict=True)
    ):
        colour, behind = _LOOKS[kind]
        box = (left - 3, line * _LINE + 3), wide_it_is + 6, _LINE - 6
        ax.add_patch(Rectangle(*box, facecolor=behind, edgecolor="none"))
        if number == panel.ring:
            ring = Rectangle(*box, fill=False, edgecolor="black", linewidth=2, clip_on=False)
            ax.add_patch(ring)
        middle = (line + 0.5) * _LINE
        ax.text(left, middle, printable(word), color=colour, va="center_baseline", **style)


def _places(words: tuple[str, ...], width: float) -> list[tuple[int, float, float]]:
    """Lay words out: the line of each, where it begins there, and how wide it is, in pixels."""
    places, line, left = [], 0, 4.0
    for word in words:
        size = wide(printable(word), _WORD) * 1.004  # all signs are equally wide
        if left > 4 and left + size > width - 4:
            line, left = line + 1, 4.0
        places.append((line, left, size))
        left += size + 12
    return places


def room_of_boxes(panel: Boxes) -> Room:
    """Say how much room the boxes of a cache need, when they will be full.

    >>> room_of_boxes(Boxes((np.zeros((3, 4)),), ("keys",), fresh=(1,), room=8)).height
    320
    """
    labels = len(str(panel.room)) if panel.labels is None else longest(panel.labels)
    count = max(len(panel.boxes), 1)
    width = panel.width * (count + 0.2 * (count - 1))
    return Room(width, panel.height, left=16 + wide(labels), right=60, below=8, above=22)


def draw_boxes(ax: Axes, panel: Boxes) -> None:
    """Draw the rows that are there, frame the fresh ones, and outline the room for the others."""
    image = None
    for place, (box, name, fresh) in enumerate(
        zip(panel.boxes, panel.names, panel.fresh, strict=True)
    ):
        left, tokens = 1.2 * place, len(box)
        if tokens:
            image = ax.imshow(
                box,
                cmap=_SIGNED_MAP.with_extremes(bad=NAN_COLOUR),
                vmin=-panel.limit,
                vmax=panel.limit,
                extent=(left, left + 1, tokens - 0.5, -0.5),
            )
        _outline(ax, left, -0.5, panel.room, COLOUR_OF["missing"], linestyle=":")
        if fresh:
            _outline(ax, left, tokens - fresh - 0.5, fresh, COLOUR_OF["ink"], linewidth=2)
        ax.text(left + 0.5, -0.7, name, ha="center", va="bottom", fontsize=9, parse_math=False)
    ax.set_aspect("auto")
    ax.set_xlim(0, 1.2 * len(panel.boxes) - 0.2)
    ax.set_ylim(panel.room - 0.5, -0.5)
    ax.tick_params(labelsize=SMALL, length=0)
    labels = None if panel.labels is None else [cut(label) for label in panel.labels]
    count = panel.room if labels is None else min(panel.room, len(labels))
    label_axis(ax.yaxis, count, labels, room=int(ax.bbox.height // 14))
    ax.set_xticks([])
    ax.spines[:].set_visible(False)
    if image is not None:
        bar = ax.inset_axes((1 + 10 / ax.bbox.width, 0, 10 / ax.bbox.width, 1))
        ticks = (-panel.limit, 0.0, panel.limit)
        label_bar(bar, image, ticks, [f"{tick:g}".replace("-", "−") for tick in ticks], "")


def _outline(ax: Axes, left: float, top: float, rows: int, colour: str, **style) -> None:
    box = Rectangle((left, top), 1, rows, fill=False, edgecolor=colour, clip_on=False, **style)
    ax.add_patch(box)
