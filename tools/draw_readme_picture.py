"""Draw the moving picture at the top of the README: real words, one more at a time.

Usage: python tools/draw_readme_picture.py [FILE]
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.animation import PillowWriter
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from causal_lab.attention.formula import attention_weights
from causal_lab.course.text import learn_word_vectors, split_words
from causal_lab.explorers.sentence import word_inputs
from causal_lab.masks.rules import generate_causal_mask
from causal_lab.plots.drawing import dress, hatch
from causal_lab.plots.style import WEIGHT_MAP, weight_scale

FILE = Path(__file__).parents[1] / "docs" / "images" / "causal_attention.gif"
WORDS = split_words("The function raises an exception if the list is empty")
ROOM = {"left": 0.11, "right": 0.98, "bottom": 0.2, "top": 0.93, "wspace": 0.35}
MASKS = {"no mask": False, "causal mask": True}
SECONDS, LAST = 1.0, 4  # of a frame, and how many of them the whole sentence stays


def draw(path: Path) -> None:
    """Draw attention without a mask and with one, as the sentence grows, and save it."""
    x = word_inputs(WORDS, learn_word_vectors())
    figure = Figure(figsize=(8.8, 4.8), dpi=90)
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = PillowWriter(fps=1 / SECONDS)
    with writer.saving(figure, path, dpi=90):
        for T in [*range(1, len(WORDS) + 1), *[len(WORDS)] * (LAST - 1)]:
            figure.clear()
            axes = figure.subplots(1, 2, gridspec_kw=ROOM)
            for ax, (name, causal) in zip(axes, MASKS.items(), strict=True):
                before, after = (weights(x[:n], causal) for n in (T - 1, T))
                moved = [row for row in range(T - 1) if (before[row] != after[row, :-1]).any()]
                title = f"{name}: {len(moved)} of {T - 1} old rows changed"
                draw_frame(ax, after, causal, moved, title)
            writer.grab_frame()


def weights(x, causal: bool) -> np.ndarray:
    """Let words look at each other; digits that no eye sees are cut off."""
    if not len(x):
        return np.zeros((0, 0))
    return (
        attention_weights(x, x, generate_causal_mask(len(x)) if causal else None).numpy().round(4)
    )


def draw_frame(ax: Axes, cells: np.ndarray, causal: bool, moved: list[int], title: str) -> None:
    """Draw the square of the words so far, in its place in the whole one."""
    T, whole = len(cells), len(WORDS)
    square = np.ma.masked_all((whole, whole))
    square[:T, :T] = cells
    ax.imshow(square, cmap=WEIGHT_MAP, norm=weight_scale())
    ax.set_facecolor("#f3f3f3")
    if causal:
        hatch(ax, np.triu(np.ones((T, T), dtype=bool), 1))
    dress(ax, square.shape, WORDS, title)
    ax.set(xlabel="", ylabel="")
    ax.spines[:].set_visible(False)
    for label in [*ax.get_xticklabels()[T:], *ax.get_yticklabels()[T:]]:
        label.set_color("#c4c4c4")
    for row in moved:
        box = Rectangle((-0.5, row - 0.5), T, 1, fill=False, edgecolor="black", linewidth=2)
        ax.add_patch(box).set_clip_on(False)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else FILE)
