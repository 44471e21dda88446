"""What a mask, a score or a weight matrix looks like: tensors in, a Figure out.

A blocked cell is hatched; one that *has* a weight is a leak and gets an orange frame. Drawn into
somebody's ``ax``, a picture gets no legend and no colour bar beside it. Figures are made without
pyplot, whose global state mixes up pictures that are drawn at the same time.
"""

import io
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from causal_lab.plots.drawing import dress, frame, hatch, label_axis, write_numbers
from causal_lab.plots.style import (
    ALLOWED_COLOUR,
    BLOCKED_COLOUR,
    FUTURE_COLOUR,
    HATCH_COLOUR,
    NAN_COLOUR,
    PAST_COLOUR,
    WEIGHT_MAP,
    WEIGHT_TICKS,
    weight_scale,
)
from causal_lab.validation import check_boolean, check_floating, check_size

_SCORE_MAP = colormaps["PRGn"]  # negative purple, positive green; orange would mean a leak


class LabFigure(Figure):
    """A Figure that shows itself where a notebook's cell ends with it.

    >>> LabFigure(figsize=(2, 1), dpi=100)
    <Figure size 200x100 with 0 Axes>
    """

    def __repr__(self) -> str:
        width, height = (self.get_size_inches() * self.dpi).round().astype(int)
        return f"<Figure size {width}x{height} with {len(self.axes)} Axes>"

    __str__ = __repr__  # or print() would show Matplotlib's

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()


def new_figure(width: float = 5.0, height: float = 4.0) -> LabFigure:
    """Make an empty figure that belongs to nobody, in inches of 100 dots, with room for labels.

    >>> new_figure(3, 2)
    <Figure size 300x200 with 0 Axes>
    """
    return LabFigure(figsize=(width, height), dpi=100, layout="constrained")


def plot_mask(
    blocked: Tensor,
    *,
    tokens: Sequence[str] | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw who may look at whom.

    Args:
        blocked: bool, shape (query, key), True where the query may not look.
        tokens: labels, one per key; the queries are the last of them.

    >>> from causal_lab.masks.rules import generate_causal_mask
    >>> plot_mask(generate_causal_mask(4))
    <Figure size 540x400 with 1 Axes>
    """
    blocked = _matrix("blocked", check_boolean("blocked", blocked)).astype(bool)
    own_figure = ax is None
    ax = _axes(ax, 5.4, 4.0)
    ax.imshow(np.zeros(blocked.shape), cmap=_one_colour(ALLOWED_COLOUR))
    hatch(ax, blocked)
    dress(ax, blocked.shape, tokens, title)
    if own_figure:
        open_patch = Patch(facecolor=ALLOWED_COLOUR, label="may look")
        closed_patch = Patch(
            facecolor=BLOCKED_COLOUR, edgecolor=HATCH_COLOUR, hatch="////", label="blocked"
        )
        ax.figure.legend(
            handles=[open_patch, closed_patch], loc="outside right upper", frameon=False
        )
    return ax.figure


def plot_weights(
    weights: Tensor,
    *,
    blocked: Tensor | None = None,
    tokens: Sequence[str] | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw how much each query looks at each key; up to 8 tokens, in numbers as well.

    Args:
        weights: shape (query, key), 0 to 1. NaN is drawn pink, a colour that no weight has.
        blocked: bool, shape (query, key), what should be 0: hatched where it is, framed in orange
            where it leaks.
        tokens, title, ax: as for :func:`plot_mask`.

    >>> plot_weights(torch.eye(4))
    <Figure size 520x400 with 2 Axes>
    """
    cells = _matrix("weights", check_floating("weights", weights))
    hidden = _blocked_like(blocked, cells)
    own_figure = ax is None
    ax = _axes(ax, 5.2, 4.0)
    image = ax.imshow(cells, cmap=_with_nan(WEIGHT_MAP), norm=weight_scale())
    hatch(ax, hidden & (cells == 0))
    frame(ax, hidden & (cells != 0) & ~np.isnan(cells))
    dress(ax, cells.shape, tokens, title)
    written = np.where(hidden & (cells == 0), -np.inf, cells)
    write_numbers(ax, written, np.isnan(cells) | (cells < 0.25), _short)
    if own_figure:
        bar = ax.figure.colorbar(image, ax=ax, ticks=WEIGHT_TICKS, format="{x:g}")
        bar.set_label("weight")
    return ax.figure


def plot_scores(
    scores: Tensor,
    *,
    tokens: Sequence[str] | None = None,
    title: str | None = None,
    limit: float | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw scores, which may be negative; −∞ is hatched; up to 8 tokens, in numbers as well.

    Args:
        scores: shape (query, key), scores before the softmax.
        tokens, title, ax: as for :func:`plot_mask`.
        limit: the scale runs from −limit to limit; the largest finite score if not given. Give it
            to compare two pictures.

    >>> plot_scores(torch.zeros(2, 2))
    <Figure size 520x400 with 2 Axes>
    """
    cells = _matrix("scores", check_floating("scores", scores))
    finite = np.abs(cells[np.isfinite(cells)])
    if limit is None:
        limit = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
    if not isinstance(limit, int | float) or not limit > 0:
        raise ValueError(f"limit must be a positive number, got {limit!r}")
    own_figure = ax is None
    ax = _axes(ax, 5.2, 4.0)
    below = cells == -np.inf
    shown = np.where(below, 0, cells)
    image = ax.imshow(shown, cmap=_with_nan(_SCORE_MAP), vmin=-limit, vmax=limit)
    hatch(ax, below)
    dress(ax, cells.shape, tokens, title)
    write_numbers(ax, cells, np.isnan(cells) | (np.abs(shown) > 0.6 * limit), _two_decimals, "−∞")
    if own_figure:
        ax.figure.colorbar(image, ax=ax).set_label("score")
    return ax.figure


def plot_row(
    weights: Tensor,
    *,
    visible: int | None = None,
    tokens: Sequence[str] | None = None,
    label: str = "weight",
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw one query's weights as bars from 0 to at least 1, the future in a colour of its own.

    Args:
        weights: shape (key,), one row of a weight matrix.
        visible: how many positions are not the future; all if not given.
        label: what the height means.
        tokens, title, ax: as for :func:`plot_mask`.

    >>> plot_row(torch.tensor([0.5, 0.5, 0.0]), visible=2)
    <Figure size 560x300 with 1 Axes>
    """
    check_floating("weights", weights)
    if weights.ndim != 1 or not len(weights):
        raise ValueError(f"weights must be one row, shape (key,), got {tuple(weights.shape)}")
    heights = _numbers(weights)
    visible = len(heights) if visible is None else check_size("visible", visible, minimum=0)
    if visible > len(heights):
        raise ValueError(f"visible must lie between 0 and {len(heights)}, got {visible!r}")
    ax = _axes(ax, 5.6, 3.0)
    positions = np.arange(len(heights))
    ax.bar(positions[:visible], heights[:visible], color=PAST_COLOUR, label="past and itself")
    if visible < len(heights):
        ax.bar(positions[visible:], heights[visible:], color=FUTURE_COLOUR, label="future")
        ax.legend(frameon=False)
    ax.set_ylim(0, max(1.0, float(np.nanmax(heights, initial=0)) * 1.05))
    ax.set_xlabel("key")
    ax.set_ylabel(label)
    label_axis(ax.xaxis, len(heights), tokens)
    ax.set_title(title or "")
    return ax.figure


def plot_dependencies(
    moved: Tensor,
    *,
    tokens: Sequence[str] | None = None,
    title: str | None = None,
    ax: Axes | None = None,
    lookahead: int = 0,
) -> Figure:
    """Draw which outputs move when a token changes: blue, or orange where it is a later one.

    Args:
        moved: bool, shape (output, token), True where the output moves when the token changes.
        tokens, title, ax: as for :func:`plot_mask`.
        lookahead: how many later tokens an output may see.

    >>> plot_dependencies(torch.ones(4, 4).tril().bool())
    <Figure size 600x400 with 1 Axes>
    """
    cells = _matrix("moved", check_boolean("moved", moved)).astype(bool)
    rows, columns = np.indices(cells.shape)
    is_future = columns > rows + lookahead + cells.shape[1] - cells.shape[0]
    colours = ListedColormap(["white", PAST_COLOUR, FUTURE_COLOUR])
    own_figure = ax is None
    ax = _axes(ax, 6.0, 4.0)
    ax.imshow(np.where(cells, 1 + is_future, 0), cmap=colours, vmin=0, vmax=2)
    dress(ax, cells.shape, tokens, title, grid_colour="#d0d0d0")
    ax.set_xlabel("changed token")
    ax.set_ylabel("output")
    if own_figure:
        meanings = {PAST_COLOUR: "moves", FUTURE_COLOUR: "moves: a leak", "white": "stays"}
        handles = [
            Patch(facecolor=colour, edgecolor="#d0d0d0", label=label)
            for colour, label in meanings.items()
        ]
        ax.figure.legend(handles=handles, loc="outside right upper", frameon=False)
    return ax.figure


def plot_pair(
    before: Tensor,
    after: Tensor,
    *,
    titles: tuple[str, str] = ("before", "after"),
    blocked: Tensor | None = None,
    tokens: Sequence[str] | None = None,
) -> Figure:
    """Draw two weight matrices, shape (query, key), side by side, as :func:`plot_weights` does.

    >>> plot_pair(torch.eye(2), torch.full((2, 2), 0.5))
    <Figure size 860x400 with 3 Axes>
    """
    if len(titles) != 2:
        raise ValueError(f"titles must be two, one above each picture, got {titles!r}")
    figure = new_figure(8.6, 4.0)
    left, right = figure.subplots(1, 2)
    for ax, weights, title in ((left, before, titles[0]), (right, after, titles[1])):
        plot_weights(weights, blocked=blocked, tokens=tokens, title=title, ax=ax)
    bar = figure.colorbar(right.images[0], ax=[left, right], ticks=WEIGHT_TICKS, format="{x:g}")
    bar.set_label("weight")
    return figure


def _numbers(tensor: Tensor) -> np.ndarray:
    return tensor.detach().to("cpu", torch.float64).numpy()


def _matrix(name: str, tensor: Tensor) -> np.ndarray:
    if tensor.ndim != 2 or 0 in tensor.shape:
        raise ValueError(
            f"{name} must have shape (query, key), got {tuple(tensor.shape)}; choose one sequence "
            "and head first, such as weights[0, 0]"
        )
    return _numbers(tensor)


def _blocked_like(blocked: Tensor | None, cells: np.ndarray) -> np.ndarray:
    if blocked is None:
        return np.zeros(cells.shape, dtype=bool)
    hidden = _matrix("blocked", check_boolean("blocked", blocked)).astype(bool)
    if hidden.shape != cells.shape:
        raise ValueError(f"blocked must have the shape {cells.shape}, got {hidden.shape}")
    return hidden


def _axes(ax: Axes | None, width: float, height: float) -> Axes:
    return new_figure(width, height).subplots() if ax is None else ax


def _one_colour(colour: str):
    return ListedColormap([colour])


def _with_nan(colour_map):
    return colour_map.with_extremes(bad=NAN_COLOUR)


def _two_decimals(score: float) -> str:
    return f"{round(score, 2) + 0.0:.2f}"  # + 0.0 turns −0.0 into 0.0


def _short(weight: float) -> str:
    return f"{weight:.2f}" if weight >= 0.005 else f"{weight:.0e}".replace("e-0", "e-")
