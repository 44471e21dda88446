"""A picture of an explorer that stands still, for pages without JavaScript."""

import textwrap
from dataclasses import dataclass

from causal_lab.plots.diagrams import (
    draw_bars,
    draw_curves,
    draw_sizes,
    room_of_bars,
    room_of_curves,
    room_of_sizes,
)
from causal_lab.plots.figures import LabFigure
from causal_lab.plots.heat import draw_heat, room_of_heat
from causal_lab.plots.picture import Bars, Boxes, Curves, Dials, Heat, Picture, Sentence, Sizes
from causal_lab.plots.room import Room, legend_shape
from causal_lab.plots.signs import (
    draw_boxes,
    draw_dials,
    draw_sentence,
    room_of_boxes,
    room_of_dials,
    room_of_sentence,
)

_WIDEST, _EDGE, _GAP = 1000, 10, 12  # pixels: a still, around it, between its panels
_TITLE, _CAPTION, _LEGEND = 18, 18, 17  # pixels of a line of each
_LEAST = 0.55  # panels that would shrink further begin a new row
_PARTS = {
    Heat: (room_of_heat, draw_heat),
    Bars: (room_of_bars, draw_bars),
    Curves: (room_of_curves, draw_curves),
    Sizes: (room_of_sizes, draw_sizes),
    Dials: (room_of_dials, draw_dials),
    Boxes: (room_of_boxes, draw_boxes),
}


def draw_still(picture: Picture) -> LabFigure:
    """Draw the panels side by side over the caption, sentences above them.

    >>> draw_still(Picture((), "nothing"))
    <Figure size 480x38 with 0 Axes>
    """
    sentences = [panel for panel in picture.panels if isinstance(panel, Sentence)]
    rows = _rows([panel for panel in picture.panels if not isinstance(panel, Sentence)])
    width = max([_width(row) * _scale(row) + _around(row) for row in rows] + [460.0])
    rows = [[(line, room_of_sentence(line, width))] for line in sentences] + rows
    places, down = [], float(_EDGE)
    for row in rows:
        more, down = _lay_out(row, down)
        places += more
    caption = textwrap.fill(picture.caption, int(width / 7.3))
    width, height = width + 2 * _EDGE, down + _CAPTION * (caption.count("\n") + 1) + _EDGE
    figure = LabFigure(figsize=(round(width) / 100, round(height) / 100), dpi=100)
    for place in places:
        place.draw(figure, width, height)
    style = {"va": "top", "fontsize": 9.5, "parse_math": False}
    figure.text(_EDGE / width, 1 - down / height, caption, **style)
    return figure


@dataclass
class _Place:
    """Where the axes of a panel lie, in pixels from the upper left."""

    panel: object
    title: str
    left: float
    top: float
    width: float
    height: float
    before: float  # how far left of the axes the title begins
    above: float  # how far above them it ends

    def draw(self, figure: LabFigure, width: float, height: float) -> None:
        box = (self.left, height - self.top - self.height, self.width, self.height)
        x, y, *size = box
        ax = figure.add_axes((x / width, y / height, size[0] / width, size[1] / height))
        draw = draw_sentence if isinstance(self.panel, Sentence) else _PARTS[type(self.panel)][1]
        draw(ax, self.panel)
        ax.set_title(
            self.title,
            loc="left",
            x=-self.before / self.width,
            y=1,
            pad=self.above * 0.72,
            fontsize=10,
            parse_math=False,
        )


def _rows(panels: list) -> list[list[tuple[object, Room]]]:
    """Put panels side by side until they would become too small."""
    rows: list[list[tuple[object, Room]]] = []
    for panel in panels:
        one = (panel, _PARTS[type(panel)][0](panel))
        if rows and _scale([*rows[-1], one]) >= _LEAST:
            rows[-1].append(one)
        else:
            rows.append([one])
    return rows


def _width(row: list) -> float:
    return sum(room.width for _, room in row)


def _around(row: list) -> float:
    return sum(room.left + room.right for _, room in row) + _GAP * (len(row) - 1)


def _scale(row: list) -> float:
    """Say by how much the axes of a row shrink, so that it fits."""
    return min(1.0, (_WIDEST - 2 * _EDGE - _around(row)) / _width(row))


def _lay_out(row: list, down: float) -> tuple[list[_Place], float]:
    """Place a row of panels, their axes beginning at one height; say where the next row begins."""
    scale, left, places = _scale(row), float(_EDGE), []
    for panel, room in row:
        width, height = room.width * scale, room.height * scale
        whole = room.left + width + room.right
        title = textwrap.fill(panel.title, max(int(whole / 7.4), 12))
        above = room.above + _LEGEND * legend_shape(room.legend, width)[0]
        places.append(_Place(panel, title, left + room.left, 0.0, width, height, room.left, above))
        left += whole + _GAP
    top = down + max(
        place.above + _TITLE * (place.title.count("\n") + bool(place.title)) for place in places
    )
    for place in places:
        place.top = top
    below = max(place.height + room.below for place, (_, room) in zip(places, row, strict=True))
    return places, top + below + 8
