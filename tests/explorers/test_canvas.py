"""Every pixel is the palette number that the formula gives; the rest of the picture stays."""

import io
import math
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from causal_lab.explorers.canvas import (
    _LEFT,
    ABSENT,
    ALLOWED,
    BLACK,
    BLOCKED,
    BROKEN,
    FUTURE,
    HATCH,
    NAN,
    PAST,
    WEIGHT_LEVELS,
    WHITE,
    BarPanel,
    Bars,
    Canvas,
    Cells,
    CurvePanel,
    Curves,
    HeatPanel,
    SizePanel,
    Sizes,
    encode_png,
    level_of_weight,
    palette,
    readable_size,
    weight_of_level,
)
from causal_lab.plots.style import (
    ALLOWED_COLOUR,
    BLOCKED_COLOUR,
    FUTURE_COLOUR,
    HATCH_COLOUR,
    NAN_COLOUR,
    PAST_COLOUR,
    WEIGHT_TICKS,
    colour_of_weight,
    tick_positions,
)

LENGTHS = [1, 7, 64, 512]


def first_column_of_cells() -> int:
    panel = HeatPanel(100)
    picture = panel.background.copy()
    panel.paint(picture, Cells(np.full((1, 1), np.nan)))
    return int(np.flatnonzero((picture == NAN).any(0))[0])


LEFT = first_column_of_cells()


def draw_weights(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape)


def later(queries: int, keys: int) -> np.ndarray:
    """Mark the keys that come after their query, which are the last of them."""
    return np.arange(keys) > np.arange(queries)[:, None] + keys - queries


def area_of(panel: HeatPanel, cells: Cells) -> np.ndarray:
    picture = panel.background.copy()
    panel.paint(picture, cells)
    return picture[: panel.side, LEFT : LEFT + panel.side]


def centre(index: int, length: int, side: int) -> int:
    """Find a pixel that shows a cell: its middle, or its only one."""
    return int((index + 0.5) * side / length)


def pixel_at(area: np.ndarray, query: int, key: int, shape: tuple[int, int]) -> int:
    side = len(area)
    return int(area[centre(query, shape[0], side), centre(key, shape[1], side)])


def cell_of(area: np.ndarray, query: int, key: int, shape: tuple[int, int]) -> np.ndarray:
    """Cut one cell out."""
    side = len(area)
    top, bottom = (int(np.ceil(edge * side / shape[0])) for edge in (query, query + 1))
    left, right = (int(np.ceil(edge * side / shape[1])) for edge in (key, key + 1))
    return area[top:bottom, left:right]


# --- the palette


def test_the_palette_holds_the_colours_of_all_weights_greys_and_names():
    colours = palette()
    assert colours.shape == (256, 3)
    assert colours.dtype == np.uint8
    levels = np.arange(WEIGHT_LEVELS)
    expected = np.rint(255 * colour_of_weight((levels / (WEIGHT_LEVELS - 1)) ** 2))
    assert np.array_equal(colours[:WEIGHT_LEVELS], expected)
    greys = colours[BLACK : WHITE + 1].astype(int)
    assert (greys[0].tolist(), greys[-1].tolist()) == ([0, 0, 0], [255, 255, 255])
    assert (greys == greys[:, :1]).all()
    assert (np.diff(greys[:, 0]) > 0).all()
    names = {
        BLOCKED: BLOCKED_COLOUR,
        HATCH: HATCH_COLOUR,
        ALLOWED: ALLOWED_COLOUR,
        PAST: PAST_COLOUR,
        FUTURE: FUTURE_COLOUR,
        NAN: NAN_COLOUR,
    }
    for number, colour in names.items():
        assert "#{:02x}{:02x}{:02x}".format(*colours[number]) == colour


def test_every_palette_number_means_one_thing():
    named = [BLACK, WHITE, ABSENT, BLOCKED, HATCH, ALLOWED, PAST, FUTURE, NAN]
    assert len(set(named)) == len(named)
    assert min(named) >= WEIGHT_LEVELS
    assert max(named) < 256


def test_levels_are_evenly_spaced_in_the_root_of_the_weight():
    weights = np.linspace(0, 1, 1001).reshape(7, 11, 13)
    expected = np.rint(np.sqrt(weights) * (WEIGHT_LEVELS - 1))
    assert np.array_equal(level_of_weight(weights), expected)
    assert level_of_weight(weights).dtype == np.uint8


def test_what_lies_outside_is_drawn_like_the_nearer_end_and_nan_like_nothing_else():
    levels = level_of_weight(np.array([-1.0, -0.0, 1.5, np.inf, -np.inf, np.nan]))
    top = WEIGHT_LEVELS - 1
    assert levels.tolist() == [0, 0, top, top, 0, NAN]


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0, np.nan])
def test_a_single_weight_has_a_level_too(weight):
    expected = int(level_of_weight(np.array([weight]))[0])
    assert int(level_of_weight(np.array(weight))) == expected


def test_a_level_stands_for_the_weight_that_has_it():
    levels = np.arange(WEIGHT_LEVELS)
    assert np.array_equal(level_of_weight(weight_of_level(levels)), levels)
    weights = draw_weights(500)
    roots = np.sqrt(weight_of_level(level_of_weight(weights)))
    assert np.abs(roots - np.sqrt(weights)).max() <= 0.5 / (WEIGHT_LEVELS - 1) + 1e-12


# --- cells


@pytest.mark.parametrize("side", [384, 512])
@pytest.mark.parametrize("T", LENGTHS)
def test_every_cell_shows_the_level_of_its_weight(T, side):
    weights = draw_weights(T, T)
    area = area_of(HeatPanel(side), Cells(weights))
    # Where cells are smaller than a pixel, a pixel shows the cell at its upper left corner.
    shown = range(T) if side >= T else [pixel * T // side for pixel in range(side)]
    pixels = [centre(i, T, side) for i in shown] if side >= T else range(side)
    expected = np.rint(np.sqrt(weights[np.ix_(shown, shown)]) * (WEIGHT_LEVELS - 1))
    assert np.array_equal(area[np.ix_(pixels, pixels)], expected)


def test_from_33_tokens_on_nothing_but_the_cells_is_painted():
    weights = draw_weights(48, 48)
    area = area_of(HeatPanel(384), Cells(weights))
    assert np.array_equal(area, np.kron(level_of_weight(weights), np.ones((8, 8))))


def test_up_to_32_tokens_white_lines_part_the_cells_and_only_they_are_white():
    panel = HeatPanel(384)
    area = area_of(panel, Cells(draw_weights(7, 7)))
    lines = panel.edges(7)[1:-1]
    white = area == WHITE
    assert white[lines].all()
    assert white[:, lines].all()
    between = np.delete(np.delete(white, lines, axis=0), lines, axis=1)
    assert not between.any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 7), (3, 64), (7, 2), (64, 512)])
def test_rectangles_fill_the_square(shape):
    weights = draw_weights(*shape)
    area = area_of(HeatPanel(512), Cells(weights))
    for query in range(shape[0]):
        for key in range(shape[1]):
            expected = round(np.sqrt(weights[query, key]) * (WEIGHT_LEVELS - 1))
            assert pixel_at(area, query, key, shape) == expected


@pytest.mark.parametrize("length", [1, 3, 7, 64, 384])
def test_edges_part_the_side_into_cells_that_differ_by_a_pixel_at_most(length):
    edges = HeatPanel(384).edges(length)
    assert (edges[0], edges[-1], len(edges)) == (0, 384, length + 1)
    assert set(np.diff(edges)) <= {384 // length, -(-384 // length)}


# --- blocked cells


@pytest.mark.parametrize("T", LENGTHS)
def test_blocked_cells_without_weight_are_hatched_and_no_other(T):
    blocked = later(T, T)
    weights = np.where(blocked, 0.0, np.maximum(draw_weights(T, T), 0.01))
    area = area_of(HeatPanel(512), Cells(weights, blocked))
    pixels = [centre(index, T, 512) for index in range(T)]
    assert np.array_equal(np.isin(area[np.ix_(pixels, pixels)], [BLOCKED, HATCH]), blocked)


def test_a_visible_weight_of_0_is_not_hatched():
    area = area_of(HeatPanel(384), Cells(np.zeros((3, 3)), later(3, 3)))
    assert pixel_at(area, 1, 0, (3, 3)) == 0
    assert pixel_at(area, 0, 1, (3, 3)) in (BLOCKED, HATCH)


def test_a_hatched_cell_shows_both_colours_and_nothing_else():
    area = area_of(HeatPanel(384), Cells(np.zeros((4, 4)), later(4, 4)))
    cell = cell_of(area, 0, 3, (4, 4))[1:, 1:]  # without the grid
    assert set(np.unique(cell)) == {BLOCKED, HATCH}
    assert 0.1 < (cell == HATCH).mean() < 0.5


@pytest.mark.parametrize("T", LENGTHS)
def test_a_mask_alone_is_one_colour_where_allowed_and_hatched_where_blocked(T):
    area = area_of(HeatPanel(512), Cells(None, later(T, T)))
    pixels = [centre(index, T, 512) for index in range(T)]
    shown = area[np.ix_(pixels, pixels)]
    assert np.array_equal(shown == ALLOWED, ~later(T, T))
    assert np.array_equal(np.isin(shown, [BLOCKED, HATCH]), later(T, T))


@pytest.mark.parametrize("T", [2, 7, 32])
def test_a_blocked_cell_with_a_weight_is_framed_and_shows_its_weight_inside(T):
    weights, blocked = np.where(later(T, T), 0.0, 0.5), later(T, T)
    leaking = {(0, T - 1), (T // 2 - 1, T // 2)}
    for cell in leaking:
        weights[cell] = 0.04
    area = area_of(HeatPanel(384), Cells(weights, blocked))
    for query in range(T):
        for key in range(T):
            cell = cell_of(area, query, key, (T, T))
            cell = cell[query > 0 :, key > 0 :]  # without the grid
            border = np.concatenate([cell[0], cell[-1], cell[:, 0], cell[:, -1]])
            if (query, key) in leaking:
                assert (border == FUTURE).all()
                assert cell[len(cell) // 2, cell.shape[1] // 2] == level_of_weight(np.array([0.04]))
            else:
                assert not (cell == FUTURE).any()


def test_a_leak_too_small_for_a_frame_still_shows_its_weight():
    weights, blocked = np.zeros((64, 64)), later(64, 64)
    weights[3, 60] = 1e-4
    area = area_of(HeatPanel(384), Cells(weights, blocked))
    assert pixel_at(area, 3, 60, (64, 64)) == round(0.01 * (WEIGHT_LEVELS - 1))
    assert pixel_at(area, 3, 61, (64, 64)) in (BLOCKED, HATCH)


@pytest.mark.parametrize("blocked", [None, later(7, 7)], ids=["without mask", "with mask"])
def test_nan_fills_its_cell_with_the_colour_of_nan_blocked_or_not(blocked):
    weights = np.where(later(7, 7), 0.0, 0.5)
    weights[2] = np.nan
    area = area_of(HeatPanel(384), Cells(weights, blocked))
    for key in range(7):
        assert (cell_of(area, 2, key, (7, 7))[1:, key > 0 :] == NAN).all()  # without the grid
    assert not (np.delete(area, slice(*HeatPanel(384).edges(7)[2:4]), axis=0) == NAN).any()


# --- absent and framed cells


@pytest.mark.parametrize("T", [1, 7, 64])
@pytest.mark.parametrize("with_weights", [False, True])
def test_absent_cells_are_pale_whatever_else_they_are_and_the_others_stay(T, with_weights):
    weights = draw_weights(T, T) if with_weights else None
    absent = np.zeros((T, T), dtype=bool)
    absent[: (T + 1) // 2] = True
    plain = area_of(HeatPanel(384), Cells(weights, later(T, T)))
    area = area_of(HeatPanel(384), Cells(weights, later(T, T), absent=absent))
    for query in range(T):
        for key in range(T):
            pixel = pixel_at(area, query, key, (T, T))
            wanted = ABSENT if absent[query, key] else pixel_at(plain, query, key, (T, T))
            assert pixel == wanted
    below = HeatPanel(384).edges(T)[(T + 1) // 2]
    assert np.array_equal(area[below:], plain[below:])


@pytest.mark.parametrize("T", [2, 7, 32])
def test_framed_cells_and_no_others_have_a_frame_of_their_own_colour(T):
    framed = np.zeros((T, T), dtype=bool)
    framed[0, T - 1] = framed[T - 1, T - 1] = True
    plain = area_of(HeatPanel(384), Cells(None, later(T, T)))
    area = area_of(HeatPanel(384), Cells(None, later(T, T), framed=framed))
    for query in range(T):
        for key in range(T):
            cell = cell_of(area, query, key, (T, T))[query > 0 :, key > 0 :]  # without the grid
            border = np.concatenate([cell[0], cell[-1], cell[:, 0], cell[:, -1]])
            assert (border == BROKEN).all() == framed[query, key]
            assert (cell == BROKEN).any() == framed[query, key]
            middle = pixel_at(plain, query, key, (T, T))
            assert pixel_at(area, query, key, (T, T)) == middle  # the frame does not hide it
    assert not (area == FUTURE).any()


def test_where_there_is_no_room_nothing_is_framed():
    framed = np.ones((33, 33), dtype=bool)
    cells = Cells(None, later(33, 33))
    framed_cells = Cells(None, later(33, 33), framed=framed)
    assert np.array_equal(area_of(HeatPanel(384), cells), area_of(HeatPanel(384), framed_cells))


def test_nothing_absent_and_nothing_framed_is_the_usual_picture():
    nothing = np.zeros((5, 5), dtype=bool)
    weights = draw_weights(5, 5)
    usual = area_of(HeatPanel(384), Cells(weights, later(5, 5)))
    spelt = area_of(HeatPanel(384), Cells(weights, later(5, 5), absent=nothing, framed=nothing))
    assert np.array_equal(usual, spelt)


# --- labels and marks


def outside_the_cells(panel: HeatPanel, cells: Cells) -> np.ndarray:
    picture = panel.background.copy()
    panel.paint(picture, cells)
    picture[: panel.side, LEFT : LEFT + panel.side] = WHITE
    return picture


def test_labels_of_queries_and_keys_are_written_and_differ():
    panel = HeatPanel(384)
    weights = np.eye(3)
    numbers = outside_the_cells(panel, Cells(weights))
    words = outside_the_cells(panel, Cells(weights, labels=["the", "cat", "sat"]))
    others = outside_the_cells(panel, Cells(weights, labels=["the", "cat", "mat"]))
    beside, below = (slice(0, 384), slice(20, LEFT)), (slice(384, None), slice(LEFT, None))
    for place in (beside, below):
        assert not np.array_equal(numbers[place], panel.background[place])
        assert not np.array_equal(numbers[place], words[place])
        assert not np.array_equal(words[place], others[place])


def written_below(panel, T):
    picture = panel.background.copy()
    panel.paint(picture, Cells(None, blocked=np.ones((T, T), dtype=bool)))
    line = picture[panel.side + 8 : panel.side + 18, _LEFT:]
    return np.flatnonzero((line != WHITE).any(0))


@pytest.mark.parametrize("side", [224, 288, 320, 384, 440])
@pytest.mark.parametrize("T", [8, 12, 16, 24, 32, 64])
def test_numbers_below_stand_apart(side, T):
    gaps = np.diff(written_below(HeatPanel(side, colour_bar=False, words=False), T))
    numbers = (gaps > 5).sum() + 1  # within a number digits are closer
    assert numbers == len(tick_positions(T, room=side // 26))
    assert numbers >= min(T, 6) / 2


def test_a_label_does_not_cover_the_one_above_it():
    def column(labels):
        panel = HeatPanel(26, colour_bar=False)
        picture = panel.background.copy()
        panel.paint(picture, Cells(None, blocked=np.ones((2, 2), dtype=bool), labels=labels))
        return picture[:, : _LEFT - 6]

    # The ink of both is what each would leave alone.
    np.testing.assert_array_equal(
        column(["␣", "c"]), np.minimum(column(["␣", ""]), column(["", "c"]))
    )


def test_behind_a_cache_the_labels_of_the_queries_are_those_of_the_last_positions():
    panel = HeatPanel(384)
    words = ["a", "b", "c", "d"]
    chunk = outside_the_cells(panel, Cells(np.zeros((2, 4)), labels=words))
    alone = outside_the_cells(panel, Cells(np.zeros((2, 2)), labels=["c", "d"]))
    wrong = outside_the_cells(panel, Cells(np.zeros((2, 2)), labels=["a", "b"]))
    beside = (slice(0, 384), slice(20, LEFT))
    assert np.array_equal(chunk[beside], alone[beside])
    assert not np.array_equal(chunk[beside], wrong[beside])


def test_a_marked_query_is_pointed_at_on_both_sides_of_its_row_only():
    panel = HeatPanel(384)
    plain = outside_the_cells(panel, Cells(np.eye(4)))
    marked = outside_the_cells(panel, Cells(np.eye(4), marked=2))
    rows, columns = np.nonzero(marked != plain)
    assert set(rows) == set(range(192, 288))
    assert columns.min() < LEFT
    assert columns.max() >= LEFT + 384
    assert (marked[rows, columns] == BLACK).all()


@pytest.mark.parametrize(
    ("marked", "rows"),
    [
        ([1, 3], {1, 3}),
        (range(4), {0, 1, 2, 3}),
        (range(2, 9), {2, 3}),
        (np.int64(2), {2}),
        (np.array([0]), {0}),
        ([], set()),
    ],
)
def test_several_queries_can_be_marked(marked, rows):
    panel = HeatPanel(384)
    plain = outside_the_cells(panel, Cells(np.eye(4)))
    with_marks = outside_the_cells(panel, Cells(np.eye(4), marked=marked))
    differing = set(np.nonzero((plain != with_marks).any(1))[0])
    assert differing == {pixel for row in rows for pixel in range(96 * row, 96 * (row + 1))}


@pytest.mark.parametrize(("marked", "row"), [(5, 0), (7, 2)])
def test_behind_a_cache_the_mark_stands_at_the_querys_position(marked, row):
    panel = HeatPanel(384)
    weights = np.zeros((3, 8))
    plain = outside_the_cells(panel, Cells(weights))
    with_mark = outside_the_cells(panel, Cells(weights, marked=marked))
    rows = np.nonzero((plain != with_mark).any(1))[0]
    assert set(rows) == set(range(128 * row, 128 * (row + 1)))


@pytest.mark.parametrize("marked", [4, 8, 100, -1])
def test_a_mark_outside_the_queries_changes_nothing(marked):
    panel = HeatPanel(384)
    weights = np.zeros((3, 8))
    plain = outside_the_cells(panel, Cells(weights))
    assert np.array_equal(outside_the_cells(panel, Cells(weights, marked=marked)), plain)


def test_the_colour_bar_runs_from_1_above_to_0_below():
    panel = HeatPanel(384)
    coloured = panel.background[:384] < WEIGHT_LEVELS
    ramp = panel.background[:384, coloured.all(0)].astype(int)
    assert ramp.shape[1] > 5
    assert (ramp == ramp[:, :1]).all()
    assert (ramp[0, 0], ramp[-1, 0]) == (WEIGHT_LEVELS - 1, 0)
    assert (np.diff(ramp[:, 0]) <= 0).all()
    without = HeatPanel(384, colour_bar=False)
    assert without.width < panel.width
    assert not (without.background < WEIGHT_LEVELS).any()


@pytest.mark.parametrize("labels", [None, ["one", "two", "three"]], ids=["numbers", "words"])
def test_each_of_the_three_names_stands_in_a_place_of_its_own(labels):
    def differing(*names):
        one = outside_the_cells(HeatPanel(200, names=("aaa", "aaa", "aaa")), cells)
        rows, columns = np.nonzero(one != outside_the_cells(HeatPanel(200, names=names), cells))
        return rows.min(), rows.max(), columns.min(), columns.max()

    cells = Cells(np.eye(3), labels=labels)
    top, bottom, left, right = differing("bbb", "aaa", "aaa")  # the rows: beside, on the left
    assert 0 <= top <= bottom < 200
    assert 0 <= left <= right < 24
    top, bottom, left, right = differing("aaa", "bbb", "aaa")  # the columns: below
    assert 200 < top <= bottom
    assert LEFT < left <= right < LEFT + 200
    top, bottom, left, right = differing("aaa", "aaa", "bbb")  # the colours: beside their bar
    assert 0 <= top <= bottom < 200
    assert LEFT + 200 < left <= right


def test_without_names_the_axes_are_queries_keys_and_weights():
    named = HeatPanel(200, names=("query (looks)", "key (is looked at)", "weight"))
    others = HeatPanel(200, names=("output", "changed token", "move"))
    cells = Cells(np.eye(3))
    usual = outside_the_cells(HeatPanel(200), cells)
    assert np.array_equal(usual, outside_the_cells(named, cells))
    assert not np.array_equal(usual, outside_the_cells(others, cells))
    assert np.array_equal(area_of(named, cells), area_of(others, cells))


def test_without_a_colour_bar_its_name_is_not_written():
    one, other = (HeatPanel(200, colour_bar=False, names=("a", "b", c)) for c in ("c", "d"))
    assert np.array_equal(one.background, other.background)


def test_a_panel_paints_nothing_outside_itself_and_takes_labels_of_any_length():
    panel = HeatPanel(64)
    labels = ["a word much longer than there is room for", ""]
    area_of(panel, Cells(np.eye(2), labels=labels))  # into a picture of exactly its size
    cut = outside_the_cells(panel, Cells(np.eye(2), labels=["a word muc…", ""]))
    assert np.array_equal(outside_the_cells(panel, Cells(np.eye(2), labels=labels)), cut)


# --- bars


def bars_of(panel: BarPanel, bars: Bars) -> np.ndarray:
    picture = panel.background.copy()
    panel.paint(picture, bars)
    return picture[: panel.bar_height]


def height_of(picture: np.ndarray, span: tuple[int, int], colour: int) -> int:
    """Count the pixels of a bar's middle column and make sure that they stand on the ground."""
    column = picture[:, (span[0] + span[1] - 1) // 2] == colour
    height = int(column.sum())
    assert column[len(column) - height :].all()
    return height


@pytest.mark.parametrize("root", [False, True])
@pytest.mark.parametrize("length", LENGTHS)
def test_the_height_of_every_bar_is_within_a_pixel_of_the_formula(length, root):
    heights = draw_weights(length)
    panel = BarPanel(640, 240, root=root)
    picture = bars_of(panel, Bars(heights, np.zeros(length, dtype=bool)))
    for span, height in zip(panel.spans(length), heights, strict=True):
        share = np.sqrt(height) if root else height
        # 0 is the lowest row of pixels and 1 the highest, 239 rows above it.
        assert height_of(picture, span, PAST) - 1 == pytest.approx(share * 239, abs=1)


def test_the_smallest_leak_is_a_pixel_high_and_the_root_makes_it_higher():
    bars = Bars(np.array([1e-4]), np.array([True]))
    heights = []
    for root in (False, True):
        panel = BarPanel(400, 200, root=root)
        heights.append(height_of(bars_of(panel, bars), panel.spans(1)[0], FUTURE))
    assert heights == [1, 3]


def test_bars_of_0_are_not_drawn_bars_of_1_fill_the_panel_and_more_is_cut():
    panel = BarPanel(400, 200)
    picture = bars_of(panel, Bars(np.array([0.0, 1.0, 7.0]), np.zeros(3, dtype=bool)))
    heights = [height_of(picture, span, PAST) for span in panel.spans(3)]
    assert heights == [0, 200, 200]


def test_the_future_has_a_colour_of_its_own():
    panel = BarPanel(400, 200)
    is_future = np.array([False, True, False, True])
    picture = bars_of(panel, Bars(np.full(4, 0.5), is_future))
    for (start, end), future in zip(panel.spans(4), is_future, strict=True):
        bar = picture[150, start:end]
        assert (bar == (FUTURE if future else PAST)).all()
        assert end - start > 50


def test_a_bar_of_nan_is_marked_over_the_whole_height_and_its_neighbours_are_not():
    panel = BarPanel(400, 200)
    picture = bars_of(panel, Bars(np.array([0.5, np.nan]), np.zeros(2, dtype=bool)))
    first, second = panel.spans(2)
    assert (picture[:, second[0] : second[1]] == NAN).all()
    assert not (picture[:, : second[0]] == NAN).any()
    assert height_of(picture, first, PAST) == pytest.approx(100, abs=1)


@pytest.mark.parametrize("length", LENGTHS)
def test_bars_stand_in_order_inside_the_panel_and_apart_where_there_is_room(length):
    spans = BarPanel(480).spans(length)
    assert len(spans) == length
    assert spans[0][0] >= LEFT
    assert spans[-1][1] <= LEFT + 480 + 1
    assert all(start < end for start, end in spans)
    assert spans == sorted(spans)
    if length < 100:
        assert all(end < start for (_, end), (start, _) in pairwise(spans))


@pytest.mark.parametrize("root", [False, True])
def test_the_lines_behind_the_bars_stand_at_their_values(root):
    panel = BarPanel(400, 201, root=root)
    column = panel.background[:201, LEFT + 200]
    values = WEIGHT_TICKS if root else (0.0, 0.25, 0.5, 0.75, 1.0)
    expected = {round(200 * (1 - (value**0.5 if root else value))) for value in values}
    assert set(np.flatnonzero(column != WHITE)) == expected


def test_bars_are_labelled_with_numbers_or_words():
    panel, heights = BarPanel(400, 200), np.array([0.5, 0.5])
    pictures = []
    for labels in (None, ["the", "cat"], ["the", "mat"]):
        picture = panel.background.copy()
        panel.paint(picture, Bars(heights, np.zeros(2, dtype=bool), labels))
        pictures.append(picture[200:])
    assert not np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[1], pictures[2])


# --- sizes


MARKS = ((16 * 2**30, "a small one"), (80 * 2**30, "a large one"))


def sizes_of(panel: SizePanel, nbytes: list[int]) -> np.ndarray:
    picture = panel.background.copy()
    panel.paint(picture, Sizes(nbytes))
    return picture


@pytest.mark.parametrize("nbytes", [2**10, 2**11, 3 * 2**20, 10**9, 2**30, 5 * 2**40, 2**44])
def test_a_bar_is_as_long_as_the_logarithm_of_its_size(nbytes):
    panel = SizePanel(["one"], width=680)
    top, bottom = panel.span(0)
    bar = sizes_of(panel, [nbytes])[top:bottom] == PAST
    length = 680 * math.log2(nbytes / 2**10) / 34  # 16 TiB are 2**34 KiB
    assert (bar.sum(axis=1) == max(round(length), 2)).all()
    start = panel.x_of(0)
    assert bar[:, start : start + max(round(length), 2)].all()


@pytest.mark.parametrize("nbytes", [1, 32, 1023])
def test_what_is_less_than_the_axis_is_a_thin_line_at_its_start(nbytes):
    panel = SizePanel(["one"])
    middle = sum(panel.span(0)) // 2
    line = sizes_of(panel, [nbytes])[middle] == PAST
    assert np.flatnonzero(line).tolist() == [panel.x_of(0), panel.x_of(0) + 1]


def test_what_is_more_than_the_axis_has_a_point():
    panel = SizePanel(["one", "two"])
    picture = sizes_of(panel, [2**44, 2**44 + 1])
    lengths = []
    for row in range(2):
        top, bottom = panel.span(row)
        lengths.append((picture[top:bottom] == PAST).sum(axis=1))
    assert set(lengths[0]) == {panel.bar_width}
    assert lengths[1].max() > lengths[1][0] == lengths[1][-1] == panel.bar_width
    assert np.array_equal(lengths[1], lengths[1][::-1])


def test_every_bar_has_its_size_behind_it_and_it_ends_inside_the_panel():
    panel = SizePanel(["one", "two", "three"], MARKS)
    picture = sizes_of(panel, [1, 17 * 2**30, 1023 * 2**50])
    for row, end in enumerate([0, 17 * 2**30, 2**50]):
        top, bottom = panel.span(row)
        behind = picture[top:bottom, max(panel.x_of(end), panel.x_of(0) + 2) + 20 :]
        assert (behind == BLACK).any()
        assert (behind[:, -4:] == WHITE).all()
    others = sizes_of(panel, [2, 17 * 2**30, 1023 * 2**50])
    rows = np.nonzero((picture != others).any(1))[0]
    assert panel.span(0)[0] <= rows.min() <= rows.max() <= panel.span(0)[1]


def test_the_lines_of_a_size_panel_stand_where_their_sizes_do():
    panel = SizePanel(["one"], MARKS)
    edge = panel.span(0)[0] - 2  # above the bar, below the names of the marks
    row = sizes_of(panel, [2**10])[edge]
    ticks = {panel.x_of(1024**step) for step in (1, 2, 3, 4)}
    assert set(np.flatnonzero(row == BLACK)) == {panel.x_of(16 * 2**30), panel.x_of(80 * 2**30)}
    assert set(np.flatnonzero((row != BLACK) & (row != WHITE))) == ticks
    assert panel.x_of(2**10) < panel.x_of(2**20) < panel.x_of(2**30) < panel.x_of(2**40)


def test_names_of_rows_marks_ticks_and_axis_are_written_apart():
    plain, named = SizePanel(["aaa"], MARKS), SizePanel(["bbb"], MARKS)
    rows, columns = np.nonzero(plain.background != named.background)
    assert columns.max() < plain.x_of(0)
    assert plain.span(0)[0] <= rows.min() <= rows.max() <= plain.span(0)[1]
    without = SizePanel(["aaa"])
    rows, columns = np.nonzero(plain.background != without.background)
    assert rows.max() < plain.span(0)[0]
    between = range(plain.x_of(16 * 2**30), plain.x_of(80 * 2**30) + 1)
    assert not set(columns) & set(between)
    below = plain.background[plain.bar_height :] != WHITE
    assert below.any()
    assert not below[-1].any()


@pytest.mark.parametrize("nbytes", [[], [1], [1, 2, 3]])
def test_a_size_panel_needs_one_size_per_name(nbytes):
    with pytest.raises(ValueError, match="one size per name, 2, got"):
        sizes_of(SizePanel(["one", "two"]), nbytes)


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1023 bytes"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (999 * 1024, "999 KiB"),
        (1010 * 1024, "1010 KiB"),
        (2**20 - 1, "1 MiB"),
        (2**20, "1 MiB"),
        (72 * 2**20, "72 MiB"),
        (2**31, "2 GiB"),
        (160 * 2**30, "160 GiB"),
        (9 * 2**47, "1.12 PiB"),
        (2**70, "1024 EiB"),
    ],
)
def test_sizes_are_written_for_a_reader(nbytes, text):
    assert readable_size(nbytes) == text


# --- the canvas


def two_panels() -> Canvas:
    return Canvas([HeatPanel(100), BarPanel(120, 80)])


CONTENTS = (Cells(np.eye(3), later(3, 3)), Bars(np.array([1.0, 0.5]), np.array([False, True])))


def test_a_canvas_paints_each_panel_where_it_stands():
    canvas = two_panels()
    picture = canvas.paint(CONTENTS, titles=["a", "b"], caption="c")
    assert picture.shape == (canvas.height, canvas.width)
    left = 0
    for panel, content in zip(canvas.panels, CONTENTS, strict=True):
        alone = panel.background.copy()
        panel.paint(alone, content)
        strip = picture[:, left : left + panel.width]
        places = np.lib.stride_tricks.sliding_window_view(strip, panel.height, axis=0)
        matches = [top for top in range(places.shape[0]) if np.array_equal(places[top].T, alone)]
        assert len(matches) == 1
        left += panel.width
    assert left == canvas.width


def test_painting_leaves_the_backgrounds_and_the_contents_alone():
    canvas = two_panels()
    backgrounds = [canvas.background, *(panel.background for panel in canvas.panels)]
    before = [background.copy() for background in backgrounds]
    weights = draw_weights(3, 3)
    cells = Cells(weights.copy(), later(3, 3), labels=["x", "y", "z"], marked=1)
    canvas.paint([cells, CONTENTS[1]], titles=["long title", "b"], caption="a caption")
    for background, copy in zip(backgrounds, before, strict=True):
        assert np.array_equal(background, copy)
    assert np.array_equal(cells.weights, weights)
    assert np.array_equal(cells.blocked, later(3, 3))


def test_nothing_of_an_earlier_picture_is_left_in_a_later_one():
    canvas = two_panels()
    fresh = two_panels().paint(CONTENTS, titles=["a", "b"])
    busy = Cells(np.full((9, 9), 0.3), later(9, 9), labels=["word"] * 9, marked=4)
    bars = Bars(np.full(9, np.nan), np.ones(9, dtype=bool), ["word"] * 9)
    first = canvas.paint([busy, bars], titles=["title", "title"], caption="caption")
    again = canvas.paint(CONTENTS, titles=["a", "b"])
    assert np.array_equal(again, fresh)
    assert not np.array_equal(first, again)


def test_titles_are_written_above_their_panel_and_the_caption_below_all():
    canvas = two_panels()
    contents = (Cells(np.full((1, 1), np.nan)), CONTENTS[1])
    plain = canvas.paint(contents, titles=["", ""])
    cells = np.flatnonzero((plain == NAN).any(1))
    rows, columns = np.nonzero(plain != canvas.paint(contents, titles=["", "title"]))
    assert columns.min() >= canvas.panels[0].width
    assert rows.max() < cells.min()
    rows, _ = np.nonzero(plain != canvas.paint(contents, titles=["", ""], caption="caption"))
    assert rows.min() > cells.max()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_canvas_needs_one_content_and_one_title_per_panel(count):
    contents, titles = (*CONTENTS, CONTENTS[0])[:count], ["a", "b", "c"][:count]
    with pytest.raises(ValueError, match=r"zip\(\)|one per panel"):
        two_panels().paint(contents, titles=["a", "b"])
    with pytest.raises(ValueError, match=r"zip\(\)|one per panel"):
        two_panels().paint(CONTENTS, titles=titles)


@pytest.mark.parametrize("is_future", [np.zeros(1, dtype=bool), np.zeros(3, dtype=bool)])
def test_every_bar_is_future_or_not(is_future):
    panel = BarPanel(100, 50)
    with pytest.raises(ValueError, match=r"zip\(\)|is_future"):
        panel.paint(panel.background.copy(), Bars(np.zeros(2), is_future))


# --- PNG


def test_a_png_decodes_to_exactly_the_palette_numbers_and_their_colours():
    picture = np.random.default_rng(0).integers(0, 256, (37, 53), dtype=np.uint8)
    decoded = Image.open(io.BytesIO(encode_png(picture)))
    assert (decoded.format, decoded.mode) == ("PNG", "P")
    assert np.array_equal(np.asarray(decoded), picture)
    assert np.array_equal(np.asarray(decoded.convert("RGB")), palette()[picture])


def test_the_png_of_a_canvas_decodes_to_its_picture():
    picture = two_panels().paint(CONTENTS, titles=["a", "b"], caption="c")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_png(picture)))), picture)


def test_the_same_content_gives_the_same_bytes():
    first, second = (
        encode_png(two_panels().paint(CONTENTS, titles=["a", "b"], caption="c")) for _ in range(2)
    )
    assert first == second


# --- curves

SMALL = {"width": 101, "height": 51}


def painted(panel, curves):
    picture = panel.background.copy()
    panel.paint(picture, curves)
    return picture[: panel.curve_height, _LEFT : _LEFT + panel.curve_width], picture


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-6.0, 2.0), (3.0, 7.0)])
def test_a_curve_stands_as_high_as_its_values_say(low, high):
    panel = CurvePanel(["one"], low, high, **SMALL)
    values = np.linspace(low, high, 5)
    points = panel.points(Curves(values[None]))[0]
    np.testing.assert_allclose(points[:, 1], [50, 37.5, 25, 12.5, 0], atol=0.5)
    np.testing.assert_allclose(points[:, 0], [8, 29, 50, 71, 92])


def test_on_a_logarithmic_axis_every_factor_takes_the_same_room():
    panel = CurvePanel(["one"], 1e-4, 1.0, log=True, **SMALL)
    points = panel.points(Curves(np.array([[1.0, 0.1, 0.01, 1e-3, 1e-4]])))[0]
    np.testing.assert_allclose(points[:, 1], [0, 12.5, 25, 37.5, 50], atol=0.5)


def test_each_curve_is_drawn_in_its_own_colour_at_its_points():
    panel = CurvePanel(["a", "b", "c", "d"], 0.0, 1.0, **SMALL)
    curves = Curves(np.array([[0.1, 0.1], [0.4, 0.4], [0.6, 0.6], [0.9, 0.9]]))
    area, picture = painted(panel, curves)
    for row, colour in zip(panel.points(curves), panel.COLOURS, strict=True):
        assert (area[int(row[0, 1]), 8:93] == colour).all()
    legend = picture[:, _LEFT + panel.curve_width :]
    for number, colour in enumerate(panel.COLOURS):
        assert (legend[10 + 20 * number : 14 + 20 * number] == colour).any()


def test_a_gap_is_left_where_there_is_no_number():
    panel = CurvePanel(["one"], 0.0, 1.0, **SMALL)
    area, _ = painted(panel, Curves(np.array([[0.5, 0.5, np.nan, 0.5, 0.5]])))
    assert (area[25] == PAST).sum() == 2 * (29 - 8 + 1 + 4)  # two lines, and half a point each end
    assert not (area[:, 40:60] == PAST).any()


@pytest.mark.parametrize("value", [-40.0, 40.0, 1e12, -1e12, np.inf])
def test_a_value_beyond_the_axis_is_cut_off_and_nothing_is_drawn_outside(value):
    panel = CurvePanel(["one"], 0.0, 1.0, **SMALL)
    _, picture = painted(panel, Curves(np.array([[0.5, value]])))
    assert (picture[25, _LEFT + 6 : _LEFT + 9] == PAST).all()
    outside = picture[panel.curve_height :]
    assert not (outside == PAST).any()
    assert (picture[:, :_LEFT] == panel.background[:, :_LEFT]).all()


def test_zero_on_a_logarithmic_axis_goes_down_out_of_the_picture():
    panel = CurvePanel(["one"], 1e-4, 1.0, log=True, **SMALL)
    area, _ = painted(panel, Curves(np.array([[1.0, 1.0, 0.0]])))
    assert (area[40, 50:93] == PAST).any()


def test_the_mark_stands_at_its_number():
    panel = CurvePanel(["one"], 0.0, 1.0, **SMALL)
    curves = Curves(np.zeros((1, 5)), first=3, marked=5)
    with_mark, _ = painted(panel, curves)
    without, _ = painted(panel, Curves(np.zeros((1, 5)), first=3))
    columns = np.flatnonzero((with_mark != without).any(axis=0))
    assert set(columns) <= {49, 50, 51}
    assert len(columns)


def test_the_numbers_below_begin_where_the_curve_does():
    panel = CurvePanel(["one"], 0.0, 1.0, **SMALL)
    _, zero = painted(panel, Curves(np.zeros((1, 3))))
    _, seven = painted(panel, Curves(np.zeros((1, 3)), first=7))
    assert (zero[panel.curve_height :] != seven[panel.curve_height :]).any()
    assert (zero[: panel.curve_height] == seven[: panel.curve_height]).all()


@pytest.mark.parametrize("names", [[], list("abcde")])
def test_a_curve_panel_needs_one_to_four_names(names):
    with pytest.raises(ValueError, match="one to four"):
        CurvePanel(names, 0, 1)


@pytest.mark.parametrize(("low", "high", "log"), [(1, 1, False), (2, 1, False), (0, 1, True)])
def test_a_curve_panel_needs_ends_in_order(low, high, log):
    with pytest.raises(ValueError, match="low must be below high"):
        CurvePanel(["one"], low, high, log=log)


def test_curves_need_one_row_per_name():
    panel = CurvePanel(["one"], 0, 1)
    with pytest.raises(ValueError, match="one row per name, 1, got 2"):
        panel.paint(panel.background.copy(), Curves(np.zeros((2, 3))))


@pytest.mark.parametrize("marked", [-1, 2, 6, 99])
def test_a_mark_beside_the_curves_is_refused(marked):
    panel = CurvePanel(["one"], 0, 1)
    with pytest.raises(ValueError, match=rf"between first=3 and 5.*got {marked}; leave it out"):
        panel.paint(panel.background.copy(), Curves(np.zeros((1, 3)), first=3, marked=marked))
