"""Draw the picture at the top of the README: real words under the causal mask and without.

Usage: python tools/draw_readme_picture.py [FILE]
"""

import sys
from pathlib import Path

from causal_lab.attention.formula import attention_weights
from causal_lab.course.text import learn_word_vectors, split_words
from causal_lab.explorers.sentence import word_inputs
from causal_lab.masks.rules import generate_causal_mask
from causal_lab.plots.figures import new_figure, plot_weights

FILE = Path(__file__).parents[1] / "docs" / "images" / "causal_attention.png"


def draw(path: Path) -> None:
    """Draw the same sentence twice and save it."""
    words = split_words("The function raises an exception if the list is empty")
    x = word_inputs(words, learn_word_vectors())
    blocked = generate_causal_mask(len(words))
    figure = new_figure(9.6, 4.6)
    masks = {
        "no mask: every word sees every word": None,
        "causal mask: no word sees ahead": generate_causal_mask(len(words)),
    }
    for ax, (title, blocked) in zip(figure.subplots(1, 2), masks.items(), strict=True):
        weights = attention_weights(x, x, blocked)
        plot_weights(weights, blocked=blocked, tokens=words, title=title, ax=ax)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else FILE)
