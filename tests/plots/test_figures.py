"""What is in the picture: every claim is read from the artists that matplotlib will draw."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from causal_lab.attention.softmax import masked_softmax
from causal_lab.masks.rules import generate_causal_mask, generate_incremental_mask
from causal_lab.plots import figures as plots
from causal_lab.plots.figures import (
    LabFigure,
    new_figure,
    plot_dependencies,
    plot_mask,
    plot_pair,
    plot_row,
    plot_scores,
    plot_weights,
)
from causal_lab.plots.style import (
    ALLOWED_COLOUR,
    BLOCKED_COLOUR,
    FUTURE_COLOUR,
    NAN_COLOUR,
    PAST_COLOUR,
    colour_of_weight,
    tick_positions,
)

WORDS = ["the", "cat", "sat", "on", "the", "mat"]


def causal_weights(T: int, seed: int = 0) -> torch.Tensor:
    scores = torch.randn(T, T, generator=torch.Generator().manual_seed(seed))
    return masked_softmax(scores, generate_causal_mask(T))


def hatched_cells(ax, shape: tuple[int, int]) -> np.ndarray:
    """Mark the cells whose centre lies inside a hatched bar."""
    cells = np.zeros(shape, dtype=bool)
    for collection in ax.collections:
        assert collection.get_hatch() == "////"
        assert to_hex(collection.get_facecolor()[0]) == BLOCKED_COLOUR
        for path in collection.get_paths():
            (left, top), (right, bottom) = path.get_extents().get_points()
            for row in range(shape[0]):
                for column in range(shape[1]):
                    cells[row, column] |= left < column < right and top < row < bottom
    return cells


def framed_cells(ax) -> set[tuple[int, int]]:
    """List the (query, key) around whose centre a frame in the colour of the future stands."""
    frames = [
        patch for patch in ax.patches if isinstance(patch, Rectangle) and not patch.get_fill()
    ]
    assert all(to_hex(frame.get_edgecolor()) == FUTURE_COLOUR for frame in frames)
    centres = [frame.get_center() for frame in frames]
    return {(round(y), round(x)) for x, y in centres}


def tick_labels(axis) -> dict[float, str]:
    labels = [label.get_text() for label in axis.get_ticklabels()]
    return dict(zip(axis.get_ticklocs().tolist(), labels, strict=True))


def cell_texts(ax) -> dict[tuple[int, int], str]:
    return {(int(t.get_position()[1]), int(t.get_position()[0])): t.get_text() for t in ax.texts}


def draw(figure: Figure) -> np.ndarray:
    """Run everything that drawing runs; with warnings as errors this is a test of its own."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


# --- masks


@pytest.mark.parametrize(
    "blocked",
    [
        generate_causal_mask(1),
        generate_causal_mask(7),
        generate_incremental_mask(4, 3),
        torch.tensor([[True, False, True, True], [False, True, False, True]]),
        torch.ones(2, 3, dtype=torch.bool),
        torch.zeros(2, 3, dtype=torch.bool),
    ],
)
def test_exactly_the_blocked_cells_of_a_mask_are_hatched(blocked):
    ax = plot_mask(blocked).axes[0]
    assert np.array_equal(hatched_cells(ax, tuple(blocked.shape)), blocked.numpy())


def test_the_allowed_cells_of_a_mask_have_one_colour_and_the_legend_says_which():
    figure = plot_mask(generate_causal_mask(4))
    image = figure.axes[0].images[0]
    assert {to_hex(colour) for row in image.to_rgba(image.get_array()) for colour in row} == {
        ALLOWED_COLOUR
    }
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["may look", "blocked"]
    allowed, blocked = legend.get_patches()
    assert (to_hex(allowed.get_facecolor()), allowed.get_hatch()) == (ALLOWED_COLOUR, None)
    assert (to_hex(blocked.get_facecolor()), blocked.get_hatch()) == (BLOCKED_COLOUR, "////")


# --- weights


@pytest.mark.parametrize("T", [1, 2, 7, 40])
def test_the_picture_of_weights_holds_the_weights(T):
    weights = causal_weights(T)
    image = plot_weights(weights).axes[0].images[0]
    np.testing.assert_array_equal(np.asarray(image.get_array()), weights.double().numpy())


def test_weights_are_coloured_on_one_scale_from_0_to_1_whatever_they_are():
    small = plot_weights(torch.full((2, 2), 0.01)).axes[0].images[0]
    large = plot_weights(torch.eye(2)).axes[0].images[0]
    assert small.get_clim() == large.get_clim() == (0.0, 1.0)
    colours = small.to_rgba(np.array([0.0, 0.01, 0.25, 1.0]))[:, :3]
    np.testing.assert_array_equal(colours, large.to_rgba(np.array([0.0, 0.01, 0.25, 1.0]))[:, :3])
    np.testing.assert_allclose(colours, colour_of_weight(np.array([0.0, 0.01, 0.25, 1.0])))


def test_changing_the_limits_of_one_picture_leaves_every_other_alone():
    image = plot_weights(torch.eye(2)).axes[0].images[0]
    try:
        image.set_clim(0, 0.3)
        assert plot_weights(torch.eye(2)).axes[0].images[0].get_clim() == (0.0, 1.0)
    finally:
        image.set_clim(0, 1)


def test_blocked_cells_without_weight_are_hatched_and_leaking_ones_framed():
    weights, blocked = causal_weights(5), generate_causal_mask(5)
    weights[1, 3], weights[0, 4] = 0.2, 1e-6
    ax = plot_weights(weights, blocked=blocked).axes[0]
    leaking = {(1, 3), (0, 4)}
    expected = blocked.numpy().copy()
    for cell in leaking:
        expected[cell] = False
    assert np.array_equal(hatched_cells(ax, (5, 5)), expected)
    assert framed_cells(ax) == leaking


def test_without_a_mask_nothing_is_hatched_or_framed():
    ax = plot_weights(causal_weights(5)).axes[0]
    assert not ax.collections
    assert not ax.patches


def test_the_frame_of_a_leak_stays_inside_its_cell():
    ax = plot_weights(torch.full((3, 3), 1 / 3), blocked=generate_causal_mask(3)).axes[0]
    assert framed_cells(ax) == {(0, 1), (0, 2), (1, 2)}
    for frame in ax.patches:
        x, y = frame.get_center()
        assert frame.get_x() > round(x) - 0.5
        assert frame.get_y() > round(y) - 0.5
        assert 0.8 < frame.get_width() < 1
        assert 0.8 < frame.get_height() < 1


def test_nan_is_drawn_in_a_colour_that_no_weight_has():
    weights = causal_weights(3)
    weights[1] = torch.nan
    figure = plot_weights(weights)
    image = figure.axes[0].images[0]
    colours = image.to_rgba(image.get_array())
    assert [to_hex(colour) for colour in colours[1]] == [NAN_COLOUR] * 3
    assert NAN_COLOUR not in [to_hex(colour) for colour in colours[[0, 2]].reshape(-1, 4)]
    assert cell_texts(figure.axes[0])[1, 0] == "NaN"
    draw(figure)


def test_a_blocked_nan_is_neither_hatched_nor_framed_its_colour_says_it_all():
    weights = torch.tensor([[1.0, torch.nan, 0.0], [0.5, 0.5, 0.1], [0.3, 0.3, 0.4]])
    ax = plot_weights(weights, blocked=generate_causal_mask(3)).axes[0]
    assert framed_cells(ax) == {(1, 2)}
    assert hatched_cells(ax, (3, 3)).nonzero()[1].tolist() == [2]


def test_up_to_8_tokens_every_cell_carries_its_number():
    weights = torch.tensor([[1.0, 0.0], [0.256, 0.0012]])
    blocked = generate_causal_mask(2)
    assert cell_texts(plot_weights(weights).axes[0]) == {
        (0, 0): "1.00",
        (0, 1): "0",
        (1, 0): "0.26",
        (1, 1): "1e-3",
    }
    assert cell_texts(plot_weights(weights, blocked=blocked).axes[0])[0, 1] == ""
    assert len(plot_weights(causal_weights(8)).axes[0].texts) == 64
    assert not plot_weights(causal_weights(9)).axes[0].texts


def test_the_colour_bar_is_labelled_and_its_ticks_are_fixed():
    bar = plot_weights(torch.eye(2)).axes[1]
    assert bar.get_ylabel() == "weight"
    assert bar.get_yticks().tolist() == [0.0, 0.01, 0.1, 0.25, 0.5, 1.0]


# --- scores


def test_scores_are_coloured_around_0_up_to_the_largest_finite_one():
    scores = torch.tensor([[1.0, -torch.inf], [-3.0, 2.0]])
    image = plot_scores(scores).axes[0].images[0]
    assert image.get_clim() == (-3.0, 3.0)
    assert np.asarray(image.get_array())[[0, 1, 1], [0, 0, 1]].tolist() == [1.0, -3.0, 2.0]


@pytest.mark.parametrize("scores", [torch.zeros(2, 2), torch.full((2, 2), -torch.inf)])
def test_scores_that_are_all_0_or_minus_infinity_have_limits_of_1(scores):
    figure = plot_scores(scores)
    assert figure.axes[0].images[0].get_clim() == (-1.0, 1.0)
    draw(figure)


def test_no_score_has_the_orange_of_a_leak():
    image = plot_scores(torch.tensor([[-1.0, 1.0]])).axes[0].images[0]
    for red, green, blue, _ in image.to_rgba(image.get_array())[0]:
        assert not red > green > blue


def test_a_limit_makes_two_pictures_of_scores_comparable():
    for scores in (torch.eye(2), 5 * torch.eye(2)):
        assert plot_scores(scores, limit=4).axes[0].images[0].get_clim() == (-4.0, 4.0)


def test_minus_infinity_is_hatched_and_named_and_nan_is_pink():
    scores = torch.zeros(3, 3).masked_fill(generate_causal_mask(3), -torch.inf)
    scores[2, 0] = torch.nan
    figure = plot_scores(scores)
    ax = figure.axes[0]
    assert np.array_equal(hatched_cells(ax, (3, 3)), generate_causal_mask(3).numpy())
    texts = cell_texts(ax)
    assert (texts[0, 1], texts[0, 0], texts[2, 0]) == ("−∞", "0", "NaN")
    image = ax.images[0]
    assert to_hex(image.to_rgba(image.get_array())[2, 0]) == NAN_COLOUR
    assert figure.axes[1].get_ylabel() == "score"


def test_scores_carry_two_decimals_and_never_a_minus_in_front_of_zero():
    scores = torch.tensor([[1.256, -0.001], [0.0, -2.0]])
    assert cell_texts(plot_scores(scores).axes[0]) == {
        (0, 0): "1.26",
        (0, 1): "0.00",
        (1, 0): "0",
        (1, 1): "-2.00",
    }


# --- one row


def test_the_bars_of_a_row_are_its_weights_and_the_future_has_its_own_colour():
    weights = torch.tensor([0.1, 0.6, 0.2, 0.1])
    ax = plot_row(weights, visible=2).axes[0]
    bars = sorted(ax.patches, key=lambda bar: bar.get_x())
    assert [bar.get_height() for bar in bars] == pytest.approx(weights.tolist())
    assert [bar.get_x() + bar.get_width() / 2 for bar in bars] == pytest.approx([0, 1, 2, 3])
    colours = [to_hex(bar.get_facecolor()) for bar in bars]
    assert colours == [PAST_COLOUR] * 2 + [FUTURE_COLOUR] * 2
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["past and itself", "future"]


def test_without_a_future_all_bars_are_the_past_and_there_is_no_legend():
    ax = plot_row(torch.tensor([0.5, 0.5])).axes[0]
    assert [to_hex(bar.get_facecolor()) for bar in ax.patches] == [PAST_COLOUR] * 2
    assert ax.get_legend() is None


@pytest.mark.parametrize(("largest", "top"), [(0.01, 1.0), (1.0, 1.05), (2.0, 2.1)])
def test_the_height_of_a_row_runs_from_0_to_at_least_1(largest, top):
    ax = plot_row(torch.tensor([0.0, largest])).axes[0]
    assert ax.get_ylim() == (0.0, pytest.approx(top))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("key", "weight")


@pytest.mark.parametrize("visible", [0, 1])
def test_one_key_alone_is_a_row(visible):
    ax = plot_row(torch.tensor([1.0]), visible=visible).axes[0]
    bar = ax.patches[-1]
    assert to_hex(bar.get_facecolor()) == (PAST_COLOUR if visible else FUTURE_COLOUR)
    assert tick_labels(ax.xaxis) == {0: "0"}
    draw(ax.figure)


def test_a_row_of_nan_is_drawn():
    draw(plot_row(torch.full((3,), torch.nan), visible=1))


def test_a_row_of_something_else_is_called_what_it_is():
    assert plot_row(torch.ones(2), label="share").axes[0].get_ylabel() == "share"


# --- dependencies


def colours_of(figure: Figure) -> list[list[str]]:
    image = figure.axes[0].images[0]
    return [[to_hex(cell) for cell in row] for row in image.to_rgba(image.get_array())]


STAYS = "#ffffff"


@pytest.mark.parametrize(
    ("moved", "expected"),
    [
        ([[1]], [[PAST_COLOUR]]),
        ([[1, 1], [0, 1]], [[PAST_COLOUR, FUTURE_COLOUR], [STAYS, PAST_COLOUR]]),
        ([[0, 0], [0, 0]], [[STAYS, STAYS], [STAYS, STAYS]]),
        ([[1, 1], [1, 1]], [[PAST_COLOUR, FUTURE_COLOUR], [PAST_COLOUR, PAST_COLOUR]]),
        ([[1, 1, 1], [1, 1, 1]], [[PAST_COLOUR] * 2 + [FUTURE_COLOUR], [PAST_COLOUR] * 3]),
    ],
)
def test_outputs_that_move_are_blue_and_those_that_the_future_moves_orange(moved, expected):
    assert colours_of(plot_dependencies(torch.tensor(moved).bool())) == expected


@pytest.mark.parametrize("lookahead", [-4, -1, 0, 1, 2, 3, 9])
@pytest.mark.parametrize("shape", [(4, 4), (2, 4)])
def test_the_future_begins_behind_the_lookahead(shape, lookahead):
    outputs, length = shape
    figure = plot_dependencies(torch.ones(shape).bool(), lookahead=lookahead)
    past = length - outputs  # the outputs are the last positions
    assert colours_of(figure) == [
        [FUTURE_COLOUR if s > past + t + lookahead else PAST_COLOUR for s in range(length)]
        for t in range(outputs)
    ]


def test_what_stays_is_white_whatever_the_lookahead():
    for lookahead in (-1, 0, 2):
        figure = plot_dependencies(torch.zeros(3, 3).bool(), lookahead=lookahead)
        assert colours_of(figure) == [[STAYS] * 3] * 3


def test_dependencies_name_their_axes_and_their_colours():
    figure = plot_dependencies(torch.ones(3, 3).bool(), tokens=WORDS[:3], title="a title")
    ax = figure.axes[0]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("changed token", "output")
    assert ax.get_title() == "a title"
    assert list(tick_labels(ax.xaxis).values()) == WORDS[:3]
    (legend,) = figure.legends
    meanings = {
        text.get_text(): to_hex(patch.get_facecolor())
        for text, patch in zip(legend.get_texts(), legend.get_patches(), strict=True)
    }
    assert meanings == {"moves": PAST_COLOUR, "moves: a leak": FUTURE_COLOUR, "stays": STAYS}


# --- pairs


def test_a_pair_stands_side_by_side_on_the_same_scale_with_one_colour_bar():
    before, after = torch.eye(3), torch.full((3, 3), 1 / 3)
    figure = plot_pair(
        before, after, titles=("a", "b"), blocked=generate_causal_mask(3), tokens=WORDS[:3]
    )
    left, right, bar = figure.axes
    assert (left.get_title(), right.get_title(), bar.get_ylabel()) == ("a", "b", "weight")
    for ax, weights in ((left, before), (right, after)):
        image = ax.images[0]
        assert image.get_clim() == (0.0, 1.0)
        np.testing.assert_array_equal(np.asarray(image.get_array()), weights.double().numpy())
        assert list(tick_labels(ax.xaxis).values()) == WORDS[:3]
    assert hatched_cells(left, (3, 3)).sum() == 3
    assert framed_cells(right) == {(0, 1), (0, 2), (1, 2)}


def test_a_pair_is_called_before_and_after_unless_you_say_so():
    figure = plot_pair(torch.eye(2), torch.eye(2))
    assert [ax.get_title() for ax in figure.axes[:2]] == ["before", "after"]


# --- what all matrices share

MATRICES = {
    "mask": lambda shape, **options: plot_mask(torch.zeros(shape, dtype=torch.bool), **options),
    "weights": lambda shape, **options: plot_weights(torch.zeros(shape), **options),
    "scores": lambda shape, **options: plot_scores(torch.zeros(shape), **options),
}
EVERY_MATRIX = pytest.mark.parametrize("plot", MATRICES.values(), ids=MATRICES)


@EVERY_MATRIX
def test_axes_are_called_query_and_key_and_the_first_query_stands_on_top(plot):
    ax = plot((4, 4), title="a title").axes[0]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("key (is looked at)", "query (looks)")
    assert ax.get_title() == "a title"
    bottom, top = ax.get_ylim()
    assert bottom > top
    assert plot((4, 4)).axes[0].get_title() == ""


@EVERY_MATRIX
def test_positions_are_labelled_with_their_numbers(plot):
    ax = plot((5, 5)).axes[0]
    expected = {position: str(position) for position in range(5)}
    assert tick_labels(ax.xaxis) == expected
    assert tick_labels(ax.yaxis) == expected


@EVERY_MATRIX
def test_positions_are_labelled_with_their_words(plot):
    ax = plot((6, 6), tokens=WORDS).axes[0]
    assert tick_labels(ax.xaxis) == dict(enumerate(WORDS))
    assert tick_labels(ax.yaxis) == dict(enumerate(WORDS))


@EVERY_MATRIX
def test_behind_a_cache_the_first_query_stands_at_past_len(plot):
    past_len, current_len = 4, 2
    ax = plot((current_len, past_len + current_len)).axes[0]
    assert tick_labels(ax.yaxis) == {0: "4", 1: "5"}
    assert tick_labels(ax.xaxis) == {position: str(position) for position in range(6)}
    ax = plot((current_len, past_len + current_len), tokens=WORDS).axes[0]
    assert tick_labels(ax.yaxis) == {0: "the", 1: "mat"}


@EVERY_MATRIX
def test_a_single_token_and_more_queries_than_keys_are_drawn(plot):
    assert tick_labels(plot((1, 1)).axes[0].yaxis) == {0: "0"}
    assert list(tick_labels(plot((5, 2)).axes[0].yaxis).values()) == ["0", "1", "2", "3", "4"]
    for shape in ((1, 1), (5, 2), (1, 6)):
        draw(plot(shape))


@EVERY_MATRIX
def test_many_positions_get_few_labels(plot):
    ax = plot((64, 64)).axes[0]
    labels = tick_labels(ax.xaxis)
    assert labels == {position: str(position) for position in range(0, 64, 8)}
    assert tick_labels(ax.yaxis) == labels


@pytest.mark.parametrize(
    ("width", "height", "panels"), [(4, 3.8, 1), (9, 3.8, 2), (8, 3.2, 2), (11, 3, 4)]
)
@pytest.mark.parametrize("T", [6, 10, 12, 14, 16, 20, 32, 64])
def test_numbers_below_do_not_touch(width, height, panels, T):
    figure = new_figure(width, height)
    for ax in figure.subplots(1, panels, squeeze=False)[0]:
        plot_mask(generate_causal_mask(T), ax=ax)
    draw(figure)
    for ax in figure.axes:
        boxes = [label.get_window_extent() for label in ax.xaxis.get_ticklabels()]
        assert len(boxes) >= 3
        for left, right in pairwise(boxes):
            assert right.x0 - left.x1 >= 2


EVERYTHING = {
    **MATRICES,
    "dependencies": lambda shape, **options: plot_dependencies(
        torch.zeros(shape, dtype=torch.bool), **options
    ),
    "row": lambda shape, **options: plot_row(torch.zeros(shape[1]), **options),
}


@pytest.mark.parametrize("plot", EVERYTHING.values(), ids=EVERYTHING)
def test_a_picture_is_drawn_into_the_axes_given_and_nowhere_else(plot):
    figure = new_figure()
    left, right = figure.subplots(1, 2)
    assert plot((3, 3), ax=right, title="here") is figure
    assert right.get_title() == "here"
    assert right.has_data()
    assert not left.has_data()
    assert figure.axes == [left, right]  # no colour bar is added to somebody else's figure


@pytest.mark.parametrize("plot", EVERYTHING.values(), ids=EVERYTHING)
def test_every_picture_is_a_figure_of_its_own_and_shows_itself_as_a_png(plot):
    first, second = plot((3, 3)), plot((3, 3))
    assert first is not second
    assert isinstance(first, LabFigure)
    assert first._repr_png_().startswith(b"\x89PNG\r\n\x1a\n")
    assert repr(first) == repr(second)


def test_a_figure_says_its_pixels_and_its_axes():
    figure = new_figure(3, 2)
    assert repr(figure) == "<Figure size 300x200 with 0 Axes>"
    figure.subplots(1, 2)
    assert repr(figure) == str(figure) == f"{figure}" == "<Figure size 300x200 with 2 Axes>"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_tensors_of_any_precision_that_need_a_gradient_are_drawn_and_left_alone(dtype):
    weights = causal_weights(3).to(dtype).requires_grad_()
    before = weights.detach().clone()
    for figure in (
        plot_weights(weights, blocked=generate_causal_mask(3)),
        plot_scores(weights),
        plot_pair(weights, weights),
    ):
        shown = np.asarray(figure.axes[0].images[0].get_array())
        np.testing.assert_array_equal(shown, before.double().numpy())
    bars = plot_row(weights[2]).axes[0].patches
    assert [bar.get_height() for bar in bars] == before[2].double().tolist()
    assert torch.equal(weights, before)
    assert weights.requires_grad


def test_the_drawn_pixels_of_a_hatched_cell_are_not_those_of_a_zero_weight():
    pixels = draw(plot_weights(torch.eye(2), blocked=generate_causal_mask(2)))
    colours = {to_hex(colour / 255) for colour in np.unique(pixels.reshape(-1, 4), axis=0)}
    assert BLOCKED_COLOUR in colours
    assert to_hex(colour_of_weight(np.array([0.0]))[0]) in colours  # the cell below


def test_pyplot_is_never_imported():
    code = """
import sys, torch
from causal_lab.plots import figures as plots
blocked = torch.ones(3, 3, dtype=torch.bool).triu(1)
for figure in (
    plots.plot_mask(blocked),
    plots.plot_weights(torch.eye(3), blocked=blocked),
    plots.plot_scores(torch.eye(3)),
    plots.plot_row(torch.ones(3) / 3, visible=2),
    plots.plot_dependencies(blocked),
    plots.plot_pair(torch.eye(3), torch.eye(3)),
):
    figure._repr_png_()
print("matplotlib.pyplot" in sys.modules)
"""
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"


# --- the style


@pytest.mark.parametrize("labels", [None, ["word"] * 512], ids=["numbers", "words"])
@pytest.mark.parametrize("length", [1, 2, 16, 17, 32, 33, 64, 100, 512])
def test_labels_are_evenly_spaced_begin_with_0_and_are_as_many_as_fit(length, labels):
    room = 16 if labels is None else 32
    ticks = list(tick_positions(length, labels))
    step = ticks[1] if len(ticks) > 1 else length
    assert ticks == list(range(0, length, step))
    assert len(ticks) <= room
    assert step == 1 or length > room * step / 2  # with half the step they would not fit


def test_the_colour_of_a_weight_is_a_square_root_along_viridis_for_arrays_of_any_shape():
    weights = np.array([[0.0, 0.01, 0.25], [0.5, 0.81, 1.0]])
    expected = colormaps["viridis"](np.sqrt(weights))[..., :3]
    np.testing.assert_allclose(colour_of_weight(weights), expected)
    for index in np.ndindex(weights.shape):
        alone = colour_of_weight(np.array(weights[index]))
        assert alone.shape == (3,)
        np.testing.assert_allclose(alone, expected[index])


# --- bad input

SQUARE = torch.eye(3)


@pytest.mark.parametrize(
    "blocked", [torch.zeros(3, 3), torch.zeros(3, 3).int(), [[True]], np.zeros((3, 3), bool)]
)
def test_only_a_boolean_mask_is_drawn(blocked):
    with pytest.raises(ValueError, match=r"blocked must be a boolean tensor.*\.bool\(\)"):
        plot_mask(blocked)
    with pytest.raises(ValueError, match=r"blocked must be a boolean tensor.*\.bool\(\)"):
        plot_weights(SQUARE, blocked=blocked)
    with pytest.raises(ValueError, match=r"moved must be a boolean tensor.*\.bool\(\)"):
        plot_dependencies(blocked)


@pytest.mark.parametrize("shape", [(3,), (2, 3, 3), (1, 1, 3, 3), (0, 3), (3, 0), ()])
def test_only_a_matrix_is_drawn_and_batches_are_told_how_to_become_one(shape):
    for plot in (plot_mask, plot_dependencies):
        with pytest.raises(ValueError, match=r"must have shape \(query, key\).*weights\[0, 0\]"):
            plot(torch.zeros(shape, dtype=torch.bool))
    for plot in (plot_weights, plot_scores):
        with pytest.raises(ValueError, match=r"must have shape \(query, key\).*weights\[0, 0\]"):
            plot(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"must have shape \(query, key\)"):
        plot_pair(SQUARE, torch.zeros(shape))


@pytest.mark.parametrize("plot", [plot_weights, plot_scores, plot_row])
@pytest.mark.parametrize("cells", [SQUARE.int(), SQUARE.bool(), [[1.0]], np.eye(3)])
def test_only_floating_tensors_are_drawn(plot, cells):
    with pytest.raises(ValueError, match=r"must be a floating tensor.*\.float\(\)"):
        plot(cells)


def test_a_mask_of_another_shape_is_refused():
    for blocked in (generate_causal_mask(4), generate_incremental_mask(1, 3)):
        with pytest.raises(ValueError, match=r"blocked must have the shape \(3, 3\)"):
            plot_weights(SQUARE, blocked=blocked)
        with pytest.raises(ValueError, match=r"blocked must have the shape \(3, 3\)"):
            plot_pair(SQUARE, SQUARE, blocked=blocked)


@pytest.mark.parametrize("plot", EVERYTHING.values(), ids=EVERYTHING)
def test_too_few_labels_are_counted(plot):
    with pytest.raises(ValueError, match="tokens must hold 4 labels, one per key, got 3"):
        plot((2, 4), tokens=["a", "b", "c"])


@pytest.mark.parametrize("limit", [0, -1.0, torch.nan, "1"])
def test_the_limit_of_scores_is_positive(limit):
    with pytest.raises(ValueError, match=r"limit must be .*positive"):
        plot_scores(SQUARE, limit=limit)


@pytest.mark.parametrize("visible", [-1, 4, 1.5, "2", True])
def test_the_visible_positions_of_a_row_are_some_of_them(visible):
    with pytest.raises(ValueError, match=r"visible must (be an integer|lie between 0)"):
        plot_row(torch.ones(3) / 3, visible=visible)


@pytest.mark.parametrize("shape", [(3, 3), (), (0,)])
def test_a_row_is_one_row_with_at_least_one_key(shape):
    with pytest.raises(ValueError, match=r"weights must be one row, shape \(key,\)"):
        plot_row(torch.zeros(shape))


@pytest.mark.parametrize("titles", [(), ("a",), ("a", "b", "c")])
def test_a_pair_has_two_titles(titles):
    with pytest.raises(ValueError, match="titles must be two"):
        plot_pair(SQUARE, SQUARE, titles=titles)


@pytest.mark.parametrize("size", [-1, torch.nan])
def test_a_figure_has_a_positive_size(size):
    with pytest.raises(ValueError, match="positive"):
        new_figure(size, 2)


def test_the_module_offers_no_picture_that_these_tests_do_not_know():
    offered = {name for name in vars(plots) if name.startswith("plot_")}
    assert offered == {f"plot_{name}" for name in (*EVERYTHING, "pair")}


def test_a_dollar_sign_in_a_token_is_no_formula():
    figure = plot_mask(generate_causal_mask(2), tokens=["$\\x$", "$a$"])
    assert figure._repr_png_()[1:4] == b"PNG"  # a formula of an unknown sign cannot be drawn
