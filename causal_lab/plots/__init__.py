"""What does this mask, score or weight matrix look like? Tensors in, a Figure out."""

from causal_lab.plots.figures import (
    new_figure,
    plot_dependencies,
    plot_mask,
    plot_pair,
    plot_row,
    plot_scores,
    plot_weights,
)
