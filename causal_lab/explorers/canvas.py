"""How a heatmap repaints in a few milliseconds: pictures made of palette numbers.

A picture is a ``uint8`` array with one palette number per pixel. What never changes is
drawn once; a repaint looks colours up, repeats cells to pixels and pastes them. Drawing
the same with a plotting library costs ten times as much, which a moving slider shows.
"""

import io
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from causal_lab.plots.style import (
    ALLOWED_COLOUR,
    BLOCKED_COLOUR,
    FUTURE_COLOUR,
    HATCH_COLOUR,
    NAN_COLOUR,
    PAST_COLOUR,
    WEIGHT_TICKS,
    colour_of_weight,
    printable,
    tick_positions,
)

WEIGHT_LEVELS = 200  # palette numbers 0 to 199: weights from 0 to 1
_GREYS = 40  # then greys from black to white
BLACK, WHITE = WEIGHT_LEVELS, WEIGHT_LEVELS + _GREYS - 1
BLOCKED, HATCH, ALLOWED, PAST, FUTURE, NAN = range(WHITE + 1, WHITE + 7)
ABSENT = WHITE - 2  # nearly white: there is nothing to see here, not even a 0
BROKEN = NAN  # one colour for what went wrong; FUTURE frames what should not be seen

_TITLE, _CAPTION, _COLOUR_BAR = 30, 26, 84
_LEFT = 96
_BELOW_NUMBERS, _BELOW_WORDS = 46, 92
_NUMBER = 26  # what a number of two digits and the gap behind it take
_LABEL_LENGTH = 11
_GRID_UNTIL = 32  # more tokens than this, and grid lines would hide the cells
_NAMES, _BEHIND, _ABOVE, _BETWEEN = 200, 104, 24, 44  # of a SizePanel: room beside and above, pitch
_BINARY = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def palette() -> np.ndarray:
    """List the colours behind the palette numbers.

    Returns:
        uint8, shape (256, 3), red, green and blue, 0 to 255.

    >>> palette()[WHITE].tolist()
    [255, 255, 255]
    """
    colours = np.zeros((256, 3))
    colours[:WEIGHT_LEVELS] = colour_of_weight(weight_of_level(np.arange(WEIGHT_LEVELS)))
    colours[BLACK : WHITE + 1] = np.linspace(0, 1, _GREYS)[:, None]
    named = (BLOCKED_COLOUR, HATCH_COLOUR, ALLOWED_COLOUR, PAST_COLOUR, FUTURE_COLOUR, NAN_COLOUR)
    for number, colour in enumerate(named, start=BLOCKED):
        colours[number] = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return np.rint(colours * 255).astype(np.uint8)


def level_of_weight(weights: np.ndarray) -> np.ndarray:
    """Find the palette number of each weight; NaN gets a colour of its own.

    Args:
        weights: any shape, 0 to 1; what lies outside is drawn like the nearer end.

    Returns:
        uint8, same shape, evenly spaced in √weight, so that a small leak is seen.

    >>> level_of_weight(np.array([0.0, 0.25, 1.0])).tolist()
    [0, 100, 199]
    """
    broken = np.isnan(weights)
    root = np.sqrt(np.clip(np.where(broken, 0, weights), 0, 1))
    levels = np.rint(root * (WEIGHT_LEVELS - 1))
    return np.where(broken, NAN, levels).astype(np.uint8)


def weight_of_level(levels: np.ndarray) -> np.ndarray:
    """Find the weight that a palette number stands for.

    Args:
        levels: integer, 0 to ``WEIGHT_LEVELS - 1``.

    Returns:
        same shape, 0 to 1.

    >>> weight_of_level(np.array([0, 199])).tolist()
    [0.0, 1.0]
    """
    return (np.asarray(levels) / (WEIGHT_LEVELS - 1)) ** 2


def encode_png(picture: np.ndarray) -> bytes:
    """Turn palette numbers into a PNG, quickly rather than small.

    Args:
        picture: uint8, shape (height, width), palette numbers.

    >>> encode_png(np.full((2, 2), WHITE, dtype=np.uint8))[1:4]
    b'PNG'
    """
    image = Image.fromarray(picture)
    image.putpalette(_flat_palette())
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


@lru_cache
def _flat_palette() -> bytes:
    return palette().tobytes()


@dataclass(frozen=True)
class Cells:
    """What a :class:`HeatPanel` shows.

    Args:
        weights: shape (query, key), 0 to 1; None paints all allowed cells in one colour.
        blocked: bool, shape (query, key), hatched where the weight is 0; a blocked cell with a
            weight is a leak and framed.
        labels: one per key; numbers if not given.
        marked: a query to point at, or several.
        absent: bool, shape (query, key), left pale: what was never computed here, which is neither
            a 0 nor blocked.
        framed: bool, shape (query, key), framed because it is wrong, in another colour than a leak
            is. Like that of a leak, the frame needs cells with room for it, at most 32 along a
            side.

    >>> Cells(weights=np.eye(2)).weights.shape
    (2, 2)
    """

    weights: np.ndarray | None
    blocked: np.ndarray | None = None
    labels: Sequence[str] | None = None
    marked: int | Sequence[int] | None = None
    absent: np.ndarray | None = None
    framed: np.ndarray | None = None


@dataclass(frozen=True)
class Bars:
    """What a :class:`BarPanel` shows.

    Args:
        heights: shape (length,), 0 to 1; NaN leaves a gap with a mark.
        is_future: bool, shape (length,), which bars take the colour of the future.
        labels: one per bar; numbers if not given.

    >>> Bars(np.array([0.5]), np.array([False])).heights.tolist()
    [0.5]
    """

    heights: np.ndarray
    is_future: np.ndarray
    labels: Sequence[str] | None = None


@dataclass(frozen=True)
class Sizes:
    """What a :class:`SizePanel` shows.

    Args:
        nbytes: shape (row,).

    >>> Sizes([2**10, 2**20]).nbytes
    [1024, 1048576]
    """

    nbytes: Sequence[int] | np.ndarray


@dataclass(frozen=True)
class Curves:
    """What a :class:`CurvePanel` shows.

    Args:
        values: shape (curve, length), what leaves the axis is cut off there; NaN leaves a gap.
        first: the whole number that the leftmost value belongs to.
        marked: a whole number to draw an upright line at.

    >>> Curves(np.zeros((1, 3))).first
    0
    """

    values: np.ndarray
    first: int = 0
    marked: int | None = None


class HeatPanel:
    """A square of cells, a row for each query and a column for each key.

    Args:
        side: width and height of the cells' area, pixels. From ``side`` tokens on, cells are
            smaller than a pixel, and of those that share a pixel one is shown.
        colour_bar: whether the scale of the weights stands beside it.
        words: whether there is room for words below, not only for numbers and single letters.
        names: what the rows, the columns and the colours are; queries, keys and weights if not
            given.

    >>> HeatPanel(side=100).width
    280
    """

    def __init__(
        self,
        side: int = 384,
        *,
        colour_bar: bool = True,
        words: bool = True,
        names: tuple[str, str, str] = ("query (looks)", "key (is looked at)", "weight"),
    ):
        self.side, self.words, self.names = side, words, names
        self.width = _LEFT + side + (_COLOUR_BAR if colour_bar else 12)
        self.height = side + (_BELOW_WORDS if words else _BELOW_NUMBERS)
        self.background = np.full((self.height, self.width), WHITE, dtype=np.uint8)
        _write(self.background, names[0], 12, side // 2, turned=True)
        if colour_bar:
            self._draw_colour_bar()
        rows, columns = np.ogrid[:side, :side]
        self._hatching = np.where((rows + columns) % 8 < 2, HATCH, BLOCKED).astype(np.uint8)

    def _draw_colour_bar(self) -> None:
        x = _LEFT + self.side + 14
        ramp = np.linspace(WEIGHT_LEVELS - 1, 0, self.side).astype(np.uint8)
        self.background[: self.side, x : x + 12] = ramp[:, None]
        for weight in WEIGHT_TICKS:
            y = round((1 - weight**0.5) * (self.side - 1))
            y = min(max(y, 6), self.side - 7)
            _write(self.background, f"{weight:g}", x + 16, y, align="left")
        _write(self.background, self.names[2], x + 60, self.side // 2, turned=True)

    def edges(self, length: int) -> np.ndarray:
        """Say at which pixel each cell begins.

        Returns:
            int, shape (length + 1,), the last entry is the end of the last cell.

        >>> HeatPanel(side=100).edges(4).tolist()
        [0, 25, 50, 75, 100]
        """
        return np.ceil(np.arange(length + 1) * self.side / length).astype(int)

    def paint(self, target: np.ndarray, cells: Cells) -> None:
        """Paste the cells and the tick labels into a picture.

        Args:
            target: uint8, shape (height, width), a copy of the background; changed in place.

        >>> panel = HeatPanel(side=100)
        >>> picture = panel.background.copy()
        >>> panel.paint(picture, Cells(weights=np.eye(2)))
        >>> int(picture[20, 96 + 20]), int(picture[20, 96 + 70])
        (199, 0)
        """
        shape = (cells.blocked if cells.weights is None else cells.weights).shape
        # Which cell each pixel shows: repeating rows is cheap, repeating cells is not.
        row_of, column_of = (np.arange(self.side) * length // self.side for length in shape)
        if cells.weights is None:
            levels = np.full(shape, ALLOWED, dtype=np.uint8)
        else:
            levels = level_of_weight(cells.weights)
        area = np.take(np.take(levels, column_of, axis=1), row_of, axis=0)
        inner = self._inner_frame(shape)
        if cells.blocked is not None:
            silent = (
                cells.blocked if cells.weights is None else cells.blocked & (cells.weights == 0)
            )
            hidden = np.take(np.take(silent, column_of, axis=1), row_of, axis=0)
            np.copyto(area, self._hatching, where=hidden)
            leaking = cells.blocked & ~silent
            if cells.weights is not None:
                leaking &= ~np.isnan(cells.weights)  # NaN has a colour that says it all
            if inner is not None and leaking.any():
                frame = np.take(np.take(leaking, column_of, axis=1), row_of, axis=0) & inner
                area[frame] = FUTURE
        if cells.absent is not None:
            area[np.take(np.take(cells.absent, column_of, axis=1), row_of, axis=0)] = ABSENT
        if cells.framed is not None and inner is not None:
            frame = np.take(np.take(cells.framed, column_of, axis=1), row_of, axis=0) & inner
            area[frame] = BROKEN
        if max(shape) <= _GRID_UNTIL:
            area[self.edges(shape[0])[1:-1]] = WHITE
            area[:, self.edges(shape[1])[1:-1]] = WHITE
        target[: self.side, _LEFT : _LEFT + self.side] = area
        self._label(target, shape, cells)
        words = self.words and cells.labels is not None
        _name_axis(target, self.names[1], _LEFT + self.side // 2, self.side, words)

    def _inner_frame(self, shape: tuple[int, int]) -> np.ndarray | None:
        """Mark the pixels within three of their cell's border, for cells that have room."""
        if max(shape) > _GRID_UNTIL:
            return None
        near = []
        for length in shape:
            edges = self.edges(length)
            line = np.zeros(self.side, dtype=bool)
            for offset in (-3, -2, -1, 0, 1, 2, 3):
                line[np.clip(edges + offset, 0, self.side - 1)] = True
            near.append(line)
        return near[0][:, None] | near[1][None, :]

    def _label(self, target: np.ndarray, shape: tuple[int, int], cells: Cells) -> None:
        row_edges, column_edges = self.edges(shape[0]), self.edges(shape[1])
        first = shape[1] - shape[0]  # the queries are the last positions
        ticks = tick_positions(shape[1], cells.labels, room=self.side // _NUMBER)
        for key in ticks:
            text = _label_of(key, cells.labels)
            x = _LEFT + (column_edges[key] + column_edges[key + 1]) // 2
            _write(target, text, x, self.side + 6, align="top", turned=cells.labels is not None)
        for position in ticks:
            if position < first:
                continue
            y = (row_edges[position - first] + row_edges[position - first + 1]) // 2
            _write(target, _label_of(position, cells.labels), _LEFT - 8, y, align="right")
        marked = [] if cells.marked is None else np.atleast_1d(cells.marked)
        for row in (position - first for position in marked if first <= position < shape[1]):
            top, bottom = row_edges[row], row_edges[row + 1]
            left, right = _LEFT - 5, _LEFT + self.side + 4
            target[top:bottom, left : left + 4] = BLACK
            target[top:bottom, right - 4 : right] = BLACK


class BarPanel:
    """A row of bars between 0 and 1.

    Args:
        width, height: of the bars' area, pixels.
        label: what the height means.
        root: whether the height is the square root of the value, so that small ones are seen.
        words: whether there is room for words below, not only for numbers.

    >>> BarPanel(width=400, height=200, label="weight").height
    292
    """

    def __init__(
        self,
        width: int = 480,
        height: int = 240,
        *,
        label: str = "weight",
        root: bool = False,
        words: bool = True,
    ):
        self.bar_width, self.bar_height, self.root = width, height, root
        self.width = _LEFT + width + 20
        self.height = height + (_BELOW_WORDS if words else _BELOW_NUMBERS)
        self.background = np.full((self.height, self.width), WHITE, dtype=np.uint8)
        _write(self.background, label, _LEFT - 50, height // 2, turned=True)
        for share in WEIGHT_TICKS if root else (0.0, 0.25, 0.5, 0.75, 1.0):
            y = self._y_of(share)
            self.background[y, _LEFT : _LEFT + width] = WHITE - 6
            _write(
                self.background, f"{share:g}", _LEFT - 8, min(max(y, 7), height - 7), align="right"
            )

    def _y_of(self, share: float) -> int:
        height = share**0.5 if self.root else share
        return round((1 - height) * (self.bar_height - 1))

    def spans(self, length: int) -> list[tuple[int, int]]:
        """Say where each bar begins and ends.

        Returns:
            Pixels from the left of the picture.

        >>> BarPanel(width=100).spans(2)
        [(101, 141), (151, 191)]
        """
        pitch = self.bar_width / length
        gap = pitch * 0.1
        spans = []
        for index in range(length):
            start = _LEFT + round(index * pitch + gap)
            spans.append((start, max(start + 1, _LEFT + round((index + 1) * pitch - gap))))
        return spans

    def paint(self, target: np.ndarray, bars: Bars) -> None:
        """Paste the bars and their labels into a picture.

        Args:
            target: uint8, shape (height, width), a copy of the background; changed in place.

        >>> panel = BarPanel(width=100, height=50)
        >>> picture = panel.background.copy()
        >>> panel.paint(picture, Bars(np.array([1.0, 0.0]), np.array([False, True])))
        >>> int(picture[25, 120]) == PAST, int(picture[25, 170]) == WHITE
        (True, True)
        """
        length = len(bars.heights)
        spans = self.spans(length)
        for (start, end), height, future in zip(spans, bars.heights, bars.is_future, strict=True):
            if np.isnan(height):
                target[: self.bar_height, start:end] = NAN
            elif height > 0:
                top = self._y_of(min(float(height), 1.0))
                target[top : self.bar_height, start:end] = FUTURE if future else PAST
        for index in tick_positions(length, bars.labels, room=self.bar_width // _NUMBER):
            x = sum(spans[index]) // 2
            turned = bars.labels is not None
            text = _label_of(index, bars.labels)
            _write(target, text, x, self.bar_height + 6, align="top", turned=turned)
        middle = _LEFT + self.bar_width // 2
        _name_axis(target, "position", middle, self.bar_height, bars.labels is not None)


class CurvePanel:
    """Up to four curves over the whole numbers, on a fixed upright axis.

    Args:
        names: one per curve; they stand beside the panel in the curves' colours.
        low, high: ends of the upright axis.
        label: what the height means.
        axis: what the whole numbers are.
        log: whether every tick of the upright axis is ten, or a power of ten, times the one below
            it.
        width, height: of the curves' area, pixels.

    >>> CurvePanel(["score"], -1, 1, width=100, height=50).height
    96
    """

    COLOURS = (PAST, FUTURE, BLACK, NAN)

    def __init__(
        self,
        names: Sequence[str],
        low: float,
        high: float,
        *,
        label: str = "score",
        axis: str = "distance",
        log: bool = False,
        width: int = 420,
        height: int = 240,
    ):
        if not 1 <= len(names) <= len(self.COLOURS):
            raise ValueError(f"names must name one to four curves, got {len(names)}")
        if not low < high or (log and low <= 0):
            raise ValueError(
                f"low must be below high, and above 0 on a logarithmic axis, got {low} and {high}"
            )
        self.names, self.low, self.high, self.axis, self.log = tuple(names), low, high, axis, log
        self.curve_width, self.curve_height = width, height
        self.width = _LEFT + width + 24 + max(_ink(name, 12).shape[1] for name in names) + 30
        self.height = height + _BELOW_NUMBERS
        self.background = np.full((self.height, self.width), WHITE, dtype=np.uint8)
        _write(self.background, label, _LEFT - 76, height // 2, turned=True)
        for tick in self._ticks():
            y = int(np.clip(self._y_of(tick), 0, height - 1))
            self.background[y, _LEFT : _LEFT + width] = WHITE - 6
            text = f"{tick:.0e}" if log and tick < 1e-3 else f"{tick:g}".replace("-", "−")
            _write(self.background, text, _LEFT - 8, min(max(y, 7), height - 7), align="right")
        for row, (name, colour) in enumerate(zip(self.names, self.COLOURS, strict=False)):
            x, y = _LEFT + width + 12, 12 + 20 * row
            self.background[y - 2 : y + 2, x : x + 22] = colour
            _write(self.background, name, x + 28, y, align="left")

    def _ticks(self) -> np.ndarray:
        if not self.log:
            return np.linspace(self.low, self.high, 5)
        lowest, highest = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
        step = max(1, math.ceil((highest - lowest) / 5))
        return 10.0 ** np.arange(highest, lowest - 1, -step)

    def _y_of(self, values: np.ndarray | float) -> np.ndarray:
        """Pixels from above; far outside where the value is, so that a line is cut off there."""
        scale = (lambda x: np.log10(np.maximum(x, 1e-300))) if self.log else np.asarray
        low, high = scale(self.low), scale(self.high)
        share = (scale(values) - low) / (high - low)
        return np.rint((1 - np.clip(share, -50, 51)) * (self.curve_height - 1))

    def points(self, curves: Curves) -> np.ndarray:
        """Say where each value stands.

        Returns:
            shape (curve, length, 2), pixels from the left and from the top of the curves' area; NaN
            where a value is.

        >>> panel = CurvePanel(["score"], 0, 1, width=101, height=51)
        >>> panel.points(Curves(np.array([[0.0, 1.0]]))).tolist()
        [[[8.0, 50.0], [92.0, 0.0]]]
        """
        values = np.asarray(curves.values, dtype=float)
        x = np.rint(np.linspace(8, self.curve_width - 9, values.shape[1]))
        return np.stack(np.broadcast_arrays(x, self._y_of(values)), axis=-1)

    def paint(self, target: np.ndarray, curves: Curves) -> None:
        """Paste the curves and the numbers below them into a picture.

        Args:
            target: uint8, shape (height, width), a copy of the background; changed in place.
            curves: what to show, one row per name.

        >>> panel = CurvePanel(["score"], 0, 1, width=101, height=51)
        >>> picture = panel.background.copy()
        >>> panel.paint(picture, Curves(np.array([[0.5, 0.5]])))
        >>> int(picture[25, 96 + 50]) == PAST
        True
        """
        if len(curves.values) != len(self.names):
            raise ValueError(
                f"values must hold one row per name, {len(self.names)}, got {len(curves.values)}"
            )
        points = self.points(curves)
        last = curves.first + points.shape[1] - 1
        if curves.marked is not None and not curves.first <= curves.marked <= last:
            raise ValueError(
                f"marked must lie between first={curves.first} and {last}, where the curves end, "
                f"got {curves.marked}; leave it out to mark nothing"
            )
        area = target[: self.curve_height, _LEFT : _LEFT + self.curve_width]
        image = Image.fromarray(np.ascontiguousarray(area))
        pen = ImageDraw.Draw(image)
        if curves.marked is not None:
            x = points[0, curves.marked - curves.first, 0]
            pen.line([(x, 0), (x, self.curve_height)], fill=WHITE - 14, width=2)
        for row, colour in zip(points, self.COLOURS, strict=False):
            self._draw(pen, row, colour)
        area[:] = np.asarray(image)
        length = points.shape[1]
        for index in tick_positions(length, room=self.curve_width // _NUMBER):
            x = _LEFT + int(points[0, index, 0])
            _write(target, str(curves.first + index), x, self.curve_height + 6, align="top")
        _name_axis(target, self.axis, _LEFT + self.curve_width // 2, self.curve_height, False)

    def _draw(self, pen: ImageDraw.ImageDraw, row: np.ndarray, colour: int) -> None:
        for start, end in itertools.pairwise(row):
            if not np.isnan([start[1], end[1]]).any():
                pen.line([*start, *end], fill=colour, width=2)
        if len(row) <= 2 * _GRID_UNTIL:
            for x, y in row[~np.isnan(row[:, 1])]:
                pen.rectangle([x - 2, y - 2, x + 2, y + 2], fill=colour)


class SizePanel:
    """Sizes in bytes as bars that lie, on an axis where every step is 1,024 times the last.

    The axis goes from 1 KiB to 16 TiB. What is smaller is a thin line at its start; what is larger
    goes through to its end and beyond, with a point like an arrow's. The size itself stands behind
    every bar.

    Args:
        names: what each row is, from above.
        marks: up to two sizes to compare with, the smaller first, and their names.
        width: of the bars' area, pixels.

    >>> SizePanel(["one token"], width=100).width
    404
    """

    LOW, HIGH = 2**10, 2**44

    def __init__(
        self, names: Sequence[str], marks: Sequence[tuple[int, str]] = (), *, width: int = 560
    ):
        self.names, self.marks, self.bar_width = tuple(names), tuple(marks), width
        self.bar_height = _ABOVE + _BETWEEN * len(self.names)
        self.width = _NAMES + width + _BEHIND
        self.height = self.bar_height + _BELOW_NUMBERS
        self.background = np.full((self.height, self.width), WHITE, dtype=np.uint8)
        for step in range(1, 5):
            x = self.x_of(1024**step)
            self.background[_ABOVE : self.bar_height, x] = WHITE - 6
            _write(self.background, f"1 {_BINARY[step]}", x, self.bar_height + 6, align="top")
        for row, name in enumerate(self.names):
            _write(self.background, name, _NAMES - 10, sum(self.span(row)) // 2, align="right")
        for number, (size, name) in enumerate(self.marks):
            x, align = (self.x_of(size) + 5, "left") if number else (self.x_of(size) - 4, "right")
            _write(self.background, name, x, _ABOVE // 2, align=align)
        _write(
            self.background,
            "bytes, on a logarithmic axis",
            _NAMES + width // 2,
            self.bar_height + 34,
        )

    def x_of(self, size: int) -> int:
        """Say how far to the right a size lies.

        Args:
            size: bytes; what lies outside the axis is put at the nearer end.

        Returns:
            Pixels from the left of the panel.

        >>> panel = SizePanel(["one token"], width=340)
        >>> [panel.x_of(size) - panel.x_of(0) for size in (2**10, 2**20, 2**44, 2**50)]
        [0, 100, 340, 340]
        """
        size = min(max(int(size), self.LOW), self.HIGH)
        return _NAMES + round(self.bar_width * math.log2(size / self.LOW) / 34)

    def span(self, row: int) -> tuple[int, int]:
        """Say where a bar begins and ends, from above.

        Args:
            row: counted from 0.

        Returns:
            Pixels from the top of the panel.

        >>> SizePanel(["one token"]).span(0)
        (34, 58)
        """
        top = _ABOVE + row * _BETWEEN + 10
        return top, top + _BETWEEN - 20

    def paint(self, target: np.ndarray, sizes: Sizes) -> None:
        """Paste the bars and their sizes into a picture.

        Args:
            target: uint8, shape (height, width), a copy of the background; changed in place.
            sizes: what to show, one per name.

        >>> panel = SizePanel(["one token"], width=340)
        >>> picture = panel.background.copy()
        >>> panel.paint(picture, Sizes([2**20]))
        >>> int((picture[46] == PAST).sum())
        100
        """
        if len(sizes.nbytes) != len(self.names):
            raise ValueError(
                f"nbytes must hold one size per name, {len(self.names)}, got {len(sizes.nbytes)}"
            )
        behind = []
        for row, size in enumerate(sizes.nbytes):
            top, bottom = self.span(row)
            end = max(self.x_of(size), _NAMES + 2)
            target[top:bottom, _NAMES:end] = PAST
            if size > self.HIGH:
                height = bottom - top
                for y in range(height):
                    point = min(y, height - 1 - y)
                    target[top + y, end : end + point] = PAST
                end += height // 2
            behind.append((readable_size(int(size)), end + 6, (top + bottom) // 2))
        for size, _ in self.marks:
            target[_ABOVE - 4 : self.bar_height, self.x_of(size)] = BLACK
        for text, x, y in behind:  # last, so that no line goes through a number
            _write(target, text, x, y, align="left", size=13)


class Canvas:
    """Panels side by side, each with a title, over one caption.

    >>> canvas = Canvas([HeatPanel(side=100)])
    >>> canvas.paint([Cells(np.eye(2))], titles=["weights"], caption="two tokens").shape
    (248, 280)
    """

    def __init__(self, panels: Sequence[HeatPanel | BarPanel | CurvePanel | SizePanel]):
        self.panels = list(panels)
        self.width = sum(panel.width for panel in self.panels)
        self.height = _TITLE + max(panel.height for panel in self.panels) + _CAPTION
        self.background = np.full((self.height, self.width), WHITE, dtype=np.uint8)
        for area, panel in self._areas(self.background):
            area[:] = panel.background

    def _areas(self, picture: np.ndarray):
        left = 0
        for panel in self.panels:
            yield picture[_TITLE : _TITLE + panel.height, left : left + panel.width], panel
            left += panel.width

    def paint(
        self,
        contents: Sequence[Cells | Bars | Curves | Sizes],
        *,
        titles: Sequence[str],
        caption: str = "",
    ) -> np.ndarray:
        """Paint what the panels show into a new picture.

        Args:
            contents, titles: one per panel.
            caption: one line below, which reads the picture.

        Returns:
            uint8, shape (height, width).

        >>> canvas = Canvas([BarPanel(width=50, height=50)])
        >>> bars = Bars(np.array([1.0]), np.array([False]))
        >>> canvas.paint([bars], titles=["all on one"]).dtype.name
        'uint8'
        """
        picture = self.background.copy()
        left = 0
        for (area, panel), content, title in zip(
            self._areas(picture), contents, titles, strict=True
        ):
            panel.paint(area, content)
            _write(picture, title, left + _LEFT, _TITLE // 2, align="left", size=14)
            left += panel.width
        _write(picture, caption, 16, self.height - _CAPTION // 2, align="left", size=13)
        return picture


def _name_axis(target: np.ndarray, name: str, x: int, bottom: int, words: bool) -> None:
    """Name the horizontal axis: close to numbers, below the longest word."""
    _write(target, name, x, bottom + (_BELOW_WORDS - 10 if words else 34), align="centre")


def shortened(label: str) -> str:
    """Cut a word to the room that there is on an axis.

    Returns:
        The token, or its beginning and three dots in one sign.

    >>> shortened("a"), shortened("incomprehensible")
    ('a', 'incomprehe…')
    """
    text = printable(label[: 2 * _LABEL_LENGTH])
    return text if len(text) <= _LABEL_LENGTH else text[: _LABEL_LENGTH - 1] + "…"


def readable_size(nbytes: int) -> str:
    """Write a size for a reader, in the largest unit that it fills.

    Returns:
        Three digits or four, and the unit.

    >>> readable_size(96), readable_size(2**31), readable_size(1_000_000)
    ('96 bytes', '2 GiB', '977 KiB')
    """
    if nbytes == 1:
        return "1 byte"
    unit = min(max(nbytes.bit_length() - 1, 0) // 10, len(_BINARY) - 1)
    number = nbytes / 1024**unit
    if unit + 1 < len(_BINARY) and round(number) == 1024:  # 1023.9 KiB would look like 1 MiB too
        unit, number = unit + 1, 1.0
    return f"{number:.3g} {_BINARY[unit]}" if number < 1000 else f"{number:.0f} {_BINARY[unit]}"


def _label_of(index: int, labels: Sequence[str] | None) -> str:
    return str(index) if labels is None else shortened(labels[index])


def _write(
    target: np.ndarray,
    text: str,
    x: int,
    y: int,
    *,
    align: str = "centre",
    turned: bool = False,
    size: int = 12,
) -> None:
    """Paste a line of text; ``align`` says which part of it stands at (x, y)."""
    if not text:
        return
    ink = _ink(printable(text), size)
    if turned:
        ink = np.rot90(ink)
    height, width = ink.shape
    left = {"left": x, "right": x - width}.get(align, x - width // 2)
    top = y if align == "top" else y - height // 2
    left, top = max(int(left), 0), max(int(top), 0)
    place = target[top : top + height, left : left + width]
    ink = ink[: place.shape[0], : place.shape[1]]
    # The paper around a label must not cover its neighbour, such as the low ␣ of the row above.
    np.copyto(place, ink, where=ink != WHITE)


@lru_cache(maxsize=2048)
def _ink(text: str, size: int) -> np.ndarray:
    """Draw a line of text once, as greys; the pictures are pure, so sharing it is safe."""
    font = _font(size)
    left, _, right, _ = font.getbbox(text)
    ascent, descent = font.getmetrics()
    image = Image.new("L", (max(right - min(left, 0), 1), ascent + descent), 255)
    ImageDraw.Draw(image).text((-min(left, 0), 0), text, fill=0, font=font)
    greys = np.asarray(image, dtype=np.uint16) * (_GREYS - 1) // 255 + BLACK
    greys = greys.astype(np.uint8)
    greys.setflags(write=False)
    return greys


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)
