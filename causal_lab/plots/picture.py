"""What an explorer shows: panels of arrays and words, and nothing about how they are drawn.

The page draws a picture live (``explorers/explorer.js``), Matplotlib draws it as a still
(``plots/still.py``); both get exactly this. Words and colours mean one thing in all panels: "past"
is blue, "future" orange, "missing" and "truth" are grey, "broken" is magenta.
"""

from dataclasses import dataclass, fields, is_dataclass

import numpy as np

FRAMES = ("", "future", "past", "ink")  # a cell is framed for: nothing, a leak, a loss, a change
COLOURS = ("past", "future", "missing", "truth", "broken", "ink", "second", "third")
KINDS = ("seen", "hidden", "changed", "plain")  # how a word of a sentence stands there


@dataclass(frozen=True)
class Heat:
    """A rectangle of cells, a row for each query and a column for each key.

    The queries are the last of the keys: behind a cache there are fewer rows than columns.

    >>> Heat(np.eye(2), blocked=np.triu(np.ones((2, 2)), 1) > 0).frames.tolist()
    [[0, 0], [0, 0]]
    """

    cells: np.ndarray | None = None  # (query, key), 0 to 1; None: open cells have one colour
    blocked: np.ndarray | None = None  # bool, hatched, unless the cell has a weight: then it leaks
    absent: np.ndarray | None = None  # bool, left pale: there is nothing here
    frames: np.ndarray | None = None  # numbers in FRAMES; leaks, if not given
    title: str = ""
    labels: tuple[str, ...] | None = None  # one per key; numbers if not given
    rows: tuple[int, ...] = ()  # marked queries, by position
    columns: tuple[int, ...] = ()  # marked keys
    dim: bool = False  # rows that are not marked are paler
    numbers: bool = False  # cells with room for it show their number
    levels: tuple[str, ...] = ()  # if given, cells are whole numbers that count in these words
    right: tuple[str, ...] = ()  # a word beside each row
    above: tuple[str, ...] = ()  # a word above each column
    names: tuple[str, str, str] = ("query", "key", "weight")  # rows, columns, what a cell holds
    nothing: str = "nothing was computed"  # what a pale cell means
    side: int = 352  # pixels
    moves: tuple[str, ...] = ()  # controls that a click puts at a cell's row, and at its column

    def __post_init__(self):
        if self.frames is None and self.cells is not None and self.blocked is not None:
            cells = np.asarray(self.cells)
            leaks = np.asarray(self.blocked) & (cells != 0) & ~np.isnan(cells)
            _set(self, frames=leaks.astype(np.uint8))
        _tidy(self, "cells", dtype=np.uint8 if self.levels else np.float32)
        _tidy(self, "blocked", "absent", "frames", dtype=np.uint8)


@dataclass(frozen=True)
class Bars:
    """A row of bars, each stacked from parts.

    >>> Bars(np.array([[0.5, 0.25]]), ("past",)).heights.shape
    (1, 2)
    """

    heights: np.ndarray  # (part, bar); NaN leaves a gap with a mark
    parts: tuple[str, ...]  # the parts' colours, from the bottom up, names in COLOURS
    title: str = ""
    meanings: tuple[str, ...] = ()  # what the parts are, for the legend; none if not given
    labels: tuple[str, ...] | None = None  # one per bar; numbers if not given
    outline: np.ndarray | None = None  # (bar,), hollow grey bars: how it should be
    label: str = "weight"  # what the height means
    name: str = "key"  # what a bar is
    top: float = 1.0
    root: bool = False  # the height is the square root of the value, so that small ones are seen
    marked: tuple[int, ...] = ()
    width: int = 480
    height: int = 240

    def __post_init__(self):
        _tidy(self, "heights", "outline")


@dataclass(frozen=True)
class Curves:
    """Curves over one axis.

    >>> Curves(np.zeros((1, 3)), ("leak",), ("future",)).values.shape
    (1, 3)
    """

    values: np.ndarray  # (curve, point); NaN leaves a gap
    names: tuple[str, ...]
    colours: tuple[str, ...]  # names in COLOURS
    title: str = ""
    x: np.ndarray | None = None  # (point,); 0, 1, 2, … if not given
    dashed: tuple[int, ...] = ()  # which curves
    steps: bool = False  # values hold for whole numbers only: draw stairs, not slopes
    marked: float | None = None  # an upright line at this x
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    axis: str = "distance"
    label: str = ""  # what the height means
    width: int = 340
    height: int = 320

    def __post_init__(self):
        _tidy(self, "values", "x", dtype=np.float64)  # leaks of 1e-56 are shown


@dataclass(frozen=True)
class Sizes:
    """Sizes in bytes, as bars on a logarithmic axis from 1 KiB to 16 TiB.

    >>> Sizes(np.array([2**20]), ("one text",), ("1 MiB",)).nbytes.tolist()
    [1048576.0]
    """

    nbytes: np.ndarray  # (row,); NaN: not known
    names: tuple[str, ...]
    words: tuple[str, ...]  # the sizes for a reader
    title: str = ""
    marks: tuple[tuple[float, str], ...] = ()  # upright lines: bytes, what they are
    width: int = 560

    def __post_init__(self):
        _set(self, nbytes=np.asarray(self.nbytes, dtype=np.float64))


@dataclass(frozen=True)
class Dials:
    """Clocks with two hands each, and the angle between them.

    >>> Dials(np.zeros((1, 2)), ("fast",), ("0°",)).angles.shape
    (1, 2)
    """

    angles: np.ndarray  # (dial, hand) = (dial, 2), radians from the right, against the clock
    names: tuple[str, ...]
    words: tuple[str, ...]  # the angle between, for a reader
    title: str = ""
    hands: tuple[str, str] = ("query", "key")
    side: int = 110

    def __post_init__(self):
        _tidy(self, "angles")


@dataclass(frozen=True)
class Sentence:
    """Words in a line: dark, blotted out, or changed; one of them ringed.

    >>> Sentence(("a", "b"), ("seen", "hidden")).words
    ('a', 'b')
    """

    words: tuple[str, ...]
    kinds: tuple[str, ...]  # names in KINDS
    title: str = ""
    ring: int | None = None


@dataclass(frozen=True)
class Boxes:
    """Boxes that grow by a row for each token: the keys and the values of a cache.

    >>> Boxes((np.zeros((3, 4)),), ("keys",), fresh=(1,), room=8).room
    8
    """

    boxes: tuple[np.ndarray, ...]  # each (token, number)
    names: tuple[str, ...]
    fresh: tuple[int, ...]  # how many of the last rows of each were computed just now
    room: int  # rows that there will be
    title: str = ""
    limit: float = 1.0  # colours run from −limit to limit
    labels: tuple[str, ...] | None = None  # one per row; numbers if not given
    width: int = 110  # of one box, pixels
    height: int = 320

    def __post_init__(self):
        _set(self, boxes=tuple(_kept(box) for box in self.boxes))


@dataclass(frozen=True)
class Picture:
    """Panels side by side over one caption that reads them.

    >>> Picture((Sentence(("a",), ("seen",)),), "one word").message()["panels"][0]["kind"]
    'Sentence'
    """

    panels: tuple[Heat | Bars | Curves | Sizes | Dials | Sentence | Boxes, ...]
    caption: str = ""

    def message(self) -> dict:
        """Write the picture as the page wants it: dictionaries, and arrays as bytes."""
        panels = [{"kind": type(panel).__name__, **_written(panel)} for panel in self.panels]
        return {"panels": panels, "caption": self.caption}


def _written(thing):
    if is_dataclass(thing):
        return {field.name: _written(getattr(thing, field.name)) for field in fields(thing)}
    if isinstance(thing, np.ndarray):
        return {"dtype": thing.dtype.name, "shape": list(thing.shape), "data": thing.tobytes()}
    return [_written(one) for one in thing] if isinstance(thing, tuple) else thing


def _tidy(panel, *names: str, dtype: type = np.float32) -> None:
    arrays = {name: getattr(panel, name) for name in names}
    kept = {name: _kept(array, dtype) for name, array in arrays.items() if array is not None}
    _set(panel, **kept)


def _set(panel, **values) -> None:
    for name, value in values.items():
        object.__setattr__(panel, name, value)  # the panel is frozen once it is made


def _kept(array, dtype: type = np.float32) -> np.ndarray:
    """Keep of an array what a picture can show: of a float its first 12 bits, and no −0."""
    array = np.asarray(array)
    if dtype is np.uint8:
        return np.ascontiguousarray(array, dtype=dtype)
    array = np.ascontiguousarray(array, dtype=dtype) + dtype(0)
    whole, cut = (np.uint32, 12) if dtype is np.float32 else (np.uint64, 41)
    bits = array.view(whole)
    # Half of the last kept bit is added before the others are cut off. ∞ and NaN have none, and
    # the smallest numbers, which have fewer bits, would become 0.
    rounded = (bits + whole(1 << (cut - 1)) & ~whole((1 << cut) - 1)).view(dtype)
    return np.where(np.isfinite(array) & (np.abs(array) >= np.finfo(dtype).tiny), rounded, array)
