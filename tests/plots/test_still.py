"""The still of a picture: what its axes hold, read back, is what the picture holds."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import same_color
from matplotlib.patches import Arc, Rectangle
from matplotlib.text import Text
from PIL import Image

from causal_lab import explorers
from causal_lab.plots.picture import (
    COLOURS,
    Bars,
    Boxes,
    Curves,
    Dials,
    Heat,
    Picture,
    Sentence,
    Sizes,
)
from causal_lab.plots.still import draw_still
from causal_lab.plots.style import ALLOWED_COLOUR, COLOUR_OF, NAN_COLOUR

WORDS = ("the", "$cat$", "sat", "incomprehensible")
BLOCKED = np.triu(np.ones((4, 4), dtype=bool), 1)
WEIGHTS = np.tril(np.full((4, 4), 0.25)) + 0.125 * np.eye(4)[::-1]
WEIGHTS[1, 0] = np.nan


def drawn(panel, caption=""):
    (ax,) = draw_still(Picture((panel,), caption)).axes
    return ax


def ticks(axis) -> dict[float, str]:
    return {
        float(place): label.get_text()
        for place, label in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
    }


def words(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def cells_of(ax, collections) -> np.ndarray:
    """Say which cells of the first image polygons lie on."""
    found = np.zeros(ax.images[0].get_array().shape, dtype=bool)
    for path in (path for collection in collections for path in collection.get_paths()):
        left, low = np.ceil(path.vertices.min(0)).astype(int)
        right, high = np.floor(path.vertices.max(0)).astype(int)
        found[low : high + 1, left : right + 1] = True
    return found


def framed(ax, name: str) -> list:
    polygons = [one for one in ax.collections if isinstance(one, PolyCollection)]
    own = [one for one in polygons if not one.get_hatch() and len(one.get_edgecolor())]
    return np.argwhere(
        cells_of(ax, [one for one in own if same_color(one.get_edgecolor()[0], COLOUR_OF[name])])
    ).tolist()


def hatched(ax) -> np.ndarray:
    return cells_of(ax, [one for one in ax.collections if one.get_hatch()])


def rims(ax, side: str) -> set[int]:
    """List the rows (side "y") or columns with a black tick at the rim."""
    marks = [one for one in ax.patches if not one.get_clip_on() and one.get_fill()]
    assert all(same_color(one.get_facecolor(), "black") for one in marks)
    along = Rectangle.get_height if side == "y" else Rectangle.get_width
    start = Rectangle.get_y if side == "y" else Rectangle.get_x
    return {round(start(one) + 0.5) for one in marks if along(one) == 1}


# --- heat


def test_a_heat_holds_weights_words_marks_and_frames():
    frames = np.zeros((4, 4), dtype=np.uint8)
    frames[0, 3], frames[2, 0], frames[3, 3] = 1, 2, 3
    panel = Heat(WEIGHTS, BLOCKED, frames=frames, labels=WORDS, rows=(2,), columns=(1,))
    ax = drawn(panel)
    np.testing.assert_array_equal(ax.images[0].get_array().filled(np.nan), panel.cells)
    assert same_color(ax.images[0].get_cmap().get_bad(), NAN_COLOUR)
    np.testing.assert_array_equal(hatched(ax), BLOCKED & (WEIGHTS == 0))
    kinds = [framed(ax, name) for name in ("future", "past", "ink")]
    assert kinds == [[[0, 3]], [[2, 0]], [[3, 3]]]
    shortened = dict(enumerate([*WORDS[:3], "incomprehe…"]))
    assert ticks(ax.xaxis) == ticks(ax.yaxis) == shortened
    assert (rims(ax, "y"), rims(ax, "x")) == ({2}, {1})
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("query", "key")
    (bar,) = ax.child_axes
    assert (bar.get_ylabel(), ticks(bar.yaxis)[0.25]) == ("weight", "0.25")
    assert words(ax) == []


def test_what_is_open_without_weights_has_one_colour_and_other_rows_are_paler():
    ax = drawn(Heat(blocked=BLOCKED, rows=(1,), dim=True, absent=np.eye(4) > 0))
    cells, absent, pale = ax.images
    assert same_color(cells.get_cmap()(0), ALLOWED_COLOUR)
    np.testing.assert_array_equal(hatched(ax), BLOCKED)
    np.testing.assert_array_equal(absent.get_array()[..., 3], np.eye(4))
    assert (pale.get_array()[..., 3] > 0).all(axis=1).tolist() == [True, False, True, True]
    assert ax.child_axes == []


def test_behind_a_cache_the_queries_are_the_last_of_the_keys():
    ax = drawn(Heat(WEIGHTS[2:], BLOCKED[2:], rows=(0, 3)))
    assert ticks(ax.yaxis) == {0: "2", 1: "3"}
    assert list(ticks(ax.xaxis).values()) == ["0", "1", "2", "3"]
    assert rims(ax, "y") == {1}


def test_numbers_stand_where_they_have_room_and_something_to_say():
    # Cell by cell: a weight, a leak, NaN, and nothing where it is hatched.
    row = "0.25 - - 0.12 NaN 0.25 0.12 - 0.25 0.38 0.25 - 0.38 0.25 0.25 0.25"
    found = words(drawn(Heat(WEIGHTS, BLOCKED, numbers=True)))
    assert [word or "-" for word in found] == row.split()
    assert words(drawn(Heat(np.full((13, 13), 0.5), numbers=True))) == []


def test_levels_have_colours_and_words_of_their_own():
    panel = Heat(np.array([[0, 1], [2, 1]]), levels=("never", "once", "twice"), numbers=True)
    ax = drawn(panel)
    colours = ax.images[0].cmap(ax.images[0].norm(np.arange(3)))
    assert len({tuple(colour) for colour in colours}) == 3
    assert list(ticks(ax.child_axes[0].yaxis).values()) == ["never", "once", "twice"]
    assert words(ax) == ["0", "1", "2", "1"]


def test_words_stand_beside_rows_and_above_columns():
    ax = drawn(Heat(np.eye(3), right=("a", "b", "c"), above=("d", "e", "f")))
    places = {text.get_text(): text.get_position() for text in ax.texts}
    assert [places[word][1] for word in "abc"] == [places[word][0] for word in "def"] == [0, 1, 2]


# --- bars, curves, sizes


@pytest.mark.parametrize("root", [False, True])
def test_bars_stand_upon_each_other(root):
    panel = Bars(
        np.array([[0.25, 0.5, np.nan], [0.5, 0, 0.25]]),
        ("past", "future"),
        meanings=("itself", "later"),
        labels=WORDS[:3],
        outline=np.array([0.5, 0.5, 0.25]),
        top=2.0,
        root=root,
        marked=(1,),
    )
    ax = drawn(panel)
    for (lower, upper), heights in zip(
        zip(ax.containers[0], ax.containers[1], strict=True), panel.heights.T, strict=True
    ):
        np.testing.assert_array_equal([lower.get_height(), upper.get_height()], heights)
        assert upper.get_y() == np.nan_to_num(heights[0])
        assert same_color(upper.get_facecolor(), COLOUR_OF["future"])
    assert [bar.get_height() for bar in ax.containers[2]] == [0.5, 0.5, 0.25]
    assert not ax.containers[2][0].get_fill()
    assert ax.lines[0].get_xdata().tolist() == [2]
    assert same_color(ax.lines[0].get_color(), NAN_COLOUR)
    assert list(ticks(ax.xaxis).values()) == list(WORDS[:3])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["itself", "later"]
    assert ax.get_ylim() == (0, 2)
    assert rims(ax, "x") == {1}
    half, whole = ax.transData.transform([(0, 0.5), (0, 2)])[:, 1] - ax.bbox.y0
    assert half / whole == pytest.approx(0.5 if root else 0.25)


def test_curves_have_their_axis_colours_and_mark():
    values = np.array([[1.0, np.nan, 1e-50], [0.5, 0.25, 0.0]])
    ax = drawn(
        Curves(
            values,
            ("exact", "float32"),
            ("ink", "second"),
            x=np.array([0.0, 2.0, 4.0]),
            dashed=(0,),
            steps=True,
            marked=2.5,
            low=1e-56,
            log=True,
            axis="depth",
            label="leak",
        )
    )
    mark, *curves = ax.lines
    assert mark.get_xdata() == [2.5, 2.5]
    assert all(mark.get_zorder() < curve.get_zorder() for curve in curves)
    np.testing.assert_allclose([curve.get_ydata() for curve in curves], values, rtol=2.5e-4)
    assert curves[0].get_xdata().tolist() == [0, 2, 4]
    assert [curve.get_linestyle() for curve in curves] == ["--", "-"]
    assert {curve.get_drawstyle() for curve in curves} == {"steps-mid"}
    assert [curve.get_color() for curve in curves] == [COLOUR_OF["ink"], COLOUR_OF["second"]]
    assert (ax.get_yscale(), ax.get_ylim()) == ("log", (1e-56, 1))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("depth", "leak")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["exact", "float32"]
    slopes = drawn(Curves(values, ("a", "b"), ("past", "third"))).lines
    assert {curve.get_drawstyle() for curve in slopes} == {"default"}


def test_sizes_end_where_the_axis_does_and_say_how_large_they_are():
    panel = Sizes(
        np.array([96, 2**20, 2**60, np.nan]),
        ("one token", "one text", "all texts", "somebody's"),
        ("96 bytes", "1 MiB", "1 EiB", "not known"),
        marks=((2.0**34, "a card"), (2.0**36, "a server")),
    )
    ax = drawn(panel)
    ends = [bar.get_x() + bar.get_width() for bar in ax.containers[0]]
    assert (ends[0] > 2**10, ends[1:]) == (True, [2**20, 2**44, 2**10])
    assert set(words(ax)) == {*panel.words, "a card", "a server"}
    assert list(ticks(ax.yaxis).values()) == list(panel.names)
    assert [line.get_xdata()[0] for line in ax.lines] == [2**34, 2**36]


# --- dials, sentences, boxes


def test_dials_have_hands_and_the_smaller_angle_between():
    panel = Dials(np.array([[0.5, 2.0], [3.0, -3.0]]), ("fast", "slow"), ("86°", "16°"))
    ax = drawn(panel)
    hands = np.array([line.get_xydata()[1] - line.get_xydata()[0] for line in ax.lines])
    angles = np.arctan2(hands[:, 1], hands[:, 0]).reshape(2, 2)
    np.testing.assert_allclose(angles, panel.angles, atol=1e-6)
    arcs = [patch.theta2 - patch.theta1 for patch in ax.patches if isinstance(patch, Arc)]
    np.testing.assert_allclose(arcs, np.degrees([1.5, 2 * np.pi - 6]), rtol=1e-3)
    assert words(ax) == ["fast\n86°", "slow\n16°"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["query", "key"]


def test_a_hidden_word_is_there_but_not_to_be_read():
    kinds = ("seen", "hidden", "changed", "plain")
    ax = drawn(Sentence(WORDS, kinds, ring=1))
    *boxes, ring = sorted(ax.patches, key=lambda patch: not patch.get_fill())
    assert words(ax) == list(WORDS)
    same = [
        same_color(text.get_color(), box.get_facecolor())
        for text, box in zip(ax.texts, boxes, strict=True)
    ]
    assert same == [False, True, False, False]
    assert same_color(boxes[2].get_facecolor(), COLOUR_OF["ink"])
    assert ring.get_x() == boxes[1].get_x()


def test_a_long_sentence_goes_on_in_the_next_line_and_stays_inside():
    ax = drawn(Sentence(WORDS * 9, ("seen",) * 36))
    ends = [box.get_x() + box.get_width() for box in ax.patches]
    assert max(ends) <= ax.bbox.width
    assert len({box.get_y() for box in ax.patches}) > 2
    assert max(box.get_y() + box.get_height() for box in ax.patches) <= ax.bbox.height


def test_boxes_grow_into_their_room():
    keys, values = np.random.default_rng(0).normal(size=(2, 3, 4))
    ax = drawn(Boxes((keys, values[:2]), ("keys", "values"), (2, 0), 6, limit=2.0, labels=WORDS))
    for image, box in zip(ax.images, (keys, values[:2]), strict=True):
        np.testing.assert_allclose(image.get_array(), box, rtol=2.5e-4)
        assert image.get_clim() == (-2, 2)
    spans = [(one.get_y() + 0.5, one.get_height()) for one in ax.patches]
    assert spans == [(0, 6), (1, 2), (0, 6)]
    assert words(ax) == ["keys", "values"]
    assert ax.get_ylim() == (5.5, -0.5)


# --- all of them


def test_panels_stand_side_by_side_in_order_below_the_sentence_and_above_the_caption():
    square = Heat(WEIGHTS, BLOCKED, title="a $title$ of the square")
    curve = Curves(np.ones((2, 4)), ("one", "two"), ("past", "third"), title="curves " * 12)
    line = Sentence(WORDS, ("seen",) * 4, title="a line")
    figure = draw_still(Picture((square, line, curve), "a $caption$ " * 30))
    top, left, right = figure.axes
    titles = [ax.get_title(loc="left").replace("\n", " ") for ax in figure.axes]
    assert titles == [line.title, square.title, curve.title.strip()]
    assert figure.texts[0].get_text().replace("\n", " ") == ("a $caption$ " * 30).strip()
    dollars = [text for text in figure.findobj(Text) if "$" in text.get_text()]
    assert [text.get_parse_math() for text in dollars] == [False] * 3
    boxes = [ax.get_tightbbox() for ax in (left, right)]
    assert boxes[0].x1 < boxes[1].x0
    assert top.get_tightbbox().y0 > max(box.y1 for box in boxes)
    assert min(box.y0 for box in boxes) > figure.texts[0].get_window_extent().y1
    figure.canvas.draw()
    for ax in figure.axes:
        box = ax.get_tightbbox()
        assert 0 <= box.x0 < box.x1 <= figure.bbox.width
        assert 0 <= box.y0 < box.y1 <= figure.bbox.height


def test_a_still_is_small_and_the_same_each_time():
    weights = np.random.default_rng(0).uniform(size=(32, 32))
    wide = Heat(weights, np.triu(np.ones((32, 32), dtype=bool), 1), title="leaks")
    files = [draw_still(Picture((wide, wide, wide), "three"))._repr_png_() for _ in range(2)]
    assert files[0] == files[1]
    assert len(files[0]) < 200_000
    image = Image.open(io.BytesIO(files[0]))
    assert image.width <= 1000
    assert image.convert("RGB").getpixel((2, 2)) == (255, 255, 255)


def test_panels_without_room_beside_each_other_begin_a_new_row():
    square = Heat(WEIGHTS, BLOCKED, side=200)
    figure = draw_still(Picture((square,) * 5))
    assert len({round(ax.bbox.y0) for ax in figure.axes}) == 2
    assert figure.bbox.width <= 1000


def test_a_still_has_the_colours_that_a_light_page_has():
    assert tuple(COLOUR_OF) == COLOURS
    page = Path(explorers.__file__).with_name("explorer.js").read_text(encoding="utf-8")
    light = page[page.index("const SHARED") : page.index("const DARK")]
    assert dict(re.findall(r'(\w+): "(#\w+)"', light)).items() >= COLOUR_OF.items()
