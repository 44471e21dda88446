"""The frame of every explorer: controls beside one picture."""

import base64
import html
import operator
import threading
from collections.abc import Mapping
from typing import Any

import ipywidgets as widgets
import numpy as np
import torch
from torch import Tensor
from traitlets import Unicode

from causal_lab.explorers.canvas import Canvas, encode_png

_WIDE = {"description_width": "initial"}


class Explorer:
    """Join controls to a picture; a subclass says what is computed and what is painted.

    It shows itself where a cell ends with it: live in a notebook, as a still picture of the present
    state on a page that cannot move.

    A callback may run on another thread while a cell, or another callback, is at work. Each one
    takes the lock, reads the controls *then*, and does nothing if their picture is already shown:
    of many moves that wait, the first draws the last position and the others draw nothing.

    Args:
        controls: by the name under which :meth:`compute` gets the control's value.
        canvas: what :meth:`paint` paints on.

    Attributes:
        state: object, what :meth:`compute` made of the controls' values in the present picture.
        picture: ndarray, uint8, shape (height, width), the present picture as palette numbers.

    >>> from causal_lab.explorers import MaskExplorer
    >>> explorer = MaskExplorer(T=4)
    >>> explorer.controls["T"].value = 5
    >>> explorer
    <MaskExplorer T=5>
    """

    def __init__(self, controls: Mapping[str, widgets.Widget], canvas: Canvas):
        self.controls = dict(controls)
        self.canvas = canvas
        self.state: Any = None
        self.picture = canvas.background
        self.image = _Picture(
            format="png",
            tooltip=(type(self).__doc__ or "").strip().split("\n")[0],
            layout=widgets.Layout(width=f"{canvas.width}px", height=f"{canvas.height}px"),
        )
        self.error = widgets.HTML()
        self.view = widgets.VBox(
            [
                widgets.Box(
                    list(self.controls.values()),
                    # Two beside each other at most, so that pairs stay pairs on a wide screen.
                    layout=widgets.Layout(flex_flow="row wrap", max_width="820px"),
                ),
                self.image,
                self.error,
            ]
        )
        self._lock = threading.RLock()
        self._shown: dict[str, Any] | None = None
        self._wishes, self._placed = self.values(), self.values()
        self._adjusting = False
        for control in self.controls.values():
            control.observe(self._refresh, names="value")
        self._refresh()

    def compute(self, **values) -> Any:
        """Turn the controls' values into arrays, the same for the same values.

        Returns:
            object, becomes ``state``.
        """
        raise NotImplementedError

    def paint(self, state: Any) -> np.ndarray:
        """Paint the arrays.

        Args:
            state: object, what :meth:`compute` returned.

        Returns:
            uint8, shape (height, width).
        """
        raise NotImplementedError

    def limits(self, **values) -> dict[str, int]:
        """Say how far sliders may go, given the values of the others; by default all the way.

        A slider past the end of the text would move and change nothing. When its limit falls it
        follows, and when the limit rises again it returns to where the learner left it.

        Returns:
            The largest useful value, by control.

        >>> from causal_lab.explorers import LeakExplorer
        >>> LeakExplorer().limits(T=5)
        {'t': 5}
        """
        return {}

    def unused(self, **values) -> set[str]:
        """Say which controls change nothing now, given the values of all; by default none.

        They are greyed out until they matter again: a slider that moves and changes nothing looks
        broken.

        >>> from causal_lab.explorers import ComposerExplorer
        >>> explorer = ComposerExplorer()
        >>> explorer.controls["first"].value = "causal"
        >>> explorer.controls["first_size"].disabled
        True
        """
        return set()

    def values(self) -> dict[str, Any]:
        """Read all controls.

        Returns:
            dict of str to object, the present value of each.

        >>> from causal_lab.explorers import LeakExplorer
        >>> LeakExplorer(T=8, t=3).values()["t"]
        3
        """
        return {name: control.value for name, control in self.controls.items()}

    def _refresh(self, change: object = None) -> None:
        with self._lock:
            if self._adjusting:
                return
            try:
                self._adjust()
                values = self.values()
                if values == self._shown:
                    return
                with torch.no_grad():
                    state = self.compute(**values)
                picture = self.paint(state)
            except Exception as error:  # shown, since a notebook shows nothing of a callback
                message = html.escape(f"{type(error).__name__}: {error}")
                self.error.value = f'<pre style="color: #b00020">{message}</pre>'
                self._shown = None
                raise
            self.state, self.picture, self._shown = state, picture, values
            self.image.value = encode_png(picture)
            if self.error.value:
                self.error.value = ""
            unused = self.unused(**values)
            for name, control in self.controls.items():
                control.disabled = name in unused

    def _adjust(self) -> None:
        """Move the ends of the sliders that depend on others."""
        for name in self.limits(**self.values()):
            control = self.controls[name]
            limit = self.limits(**self.values())[name]
            if control.value != self._placed[name]:  # a hand moved it
                self._wishes[name] = control.value
            value = max(min(self._wishes[name], limit), control.min)
            top = max(limit, control.min + 1)  # a slider needs two different ends to be drawn
            self._placed[name] = value
            if (control.max, control.value) == (top, value):
                continue
            self._adjusting = True  # the changes below must not come back as moves of a hand
            try:
                # One message each, and never a value outside the ends: a browser that is told
                # both at once may clip the value to the old end and send that back.
                control.max = max(top, control.max)
                control.value = value
                control.max = top
            finally:
                self._adjusting = False

    def __repr__(self) -> str:
        length = f" T={self.controls['T'].value}" if "T" in self.controls else ""
        return f"<{type(self).__name__}{length}>"

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, Any]:
        return {
            "text/plain": repr(self),
            "image/png": base64.b64encode(self.image.value).decode("ascii"),
            "application/vnd.jupyter.widget-view+json": {
                "version_major": 2,
                "version_minor": 0,
                "model_id": self.view.model_id,
            },
        }


class _Picture(widgets.Image):
    """An image with words for those who do not see it.

    ipywidgets 8 makes a tooltip the image's title, but fails where the widget has no description,
    not even an empty one; version 7 shows neither.
    """

    tooltip = Unicode().tag(sync=True)
    description = Unicode().tag(sync=True)


def fixed_scores(*shape: int, seed: int) -> Tensor:
    """Draw scores once, at their largest size, for an explorer to take slices of.

    Args:
        seed: the same seed gives the same scores, whatever else was drawn.

    Returns:
        float32, shape ``shape``, standard normal, on the CPU, where all explorers compute.

    >>> fixed_scores(2, 3, seed=1).shape == (2, 3)
    True
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float32, device="cpu")


def slider(description: str, value: int, low: int, high: int) -> widgets.IntSlider:
    """Make a slider over whole numbers that follows the hand.

    Args:
        value, low, high: where it begins, and its ends.

    >>> slider("T", 8, 1, 64).value
    8
    """
    try:
        inside = low <= operator.index(value) <= high
    except TypeError:
        inside = False
    if not inside:
        raise ValueError(f"{description} must lie between {low} and {high}, got {value!r}")
    return widgets.IntSlider(
        value, low, high, description=description, style=_WIDE, layout=_width("380px")
    )


def choice(description: str, options: list[str], value: str | None = None) -> widgets.Dropdown:
    """Make a menu.

    Args:
        value: what is chosen first; the first option if not given.

    >>> choice("mask", ["causal", "none"]).value
    'causal'
    """
    value = options[0] if value is None else value
    if value not in options:
        raise ValueError(f"{description} must be one of {', '.join(options)}, got {value!r}")
    return widgets.Dropdown(
        options=options, value=value, description=description, style=_WIDE, layout=_width("340px")
    )


def _width(width: str) -> widgets.Layout:
    return widgets.Layout(width=width, margin="2px 16px 2px 0")
