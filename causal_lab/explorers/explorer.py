"""The frame of every explorer: controls are traits, a pure function makes their picture."""

import base64
import contextlib
import threading
from pathlib import Path
from typing import Any, ClassVar

import anywidget
import torch
from torch import Tensor
from traitlets import Dict, List, Unicode

from causal_lab.explorers import record
from causal_lab.explorers.controls import Control
from causal_lab.plots.picture import Picture
from causal_lab.plots.still import draw_still


class Explorer(anywidget.AnyWidget):
    """Join controls to a picture; a subclass says what is computed.

    It shows itself where a cell ends with it: live where there is a kernel or a record of it, as a
    still picture elsewhere. The controls are traits: set them, observe them, link them.

    What a hand or a program asked of a control is kept as its *wish*. Where another control leaves
    no room for it, the control stands at the nearest end, and returns when there is room again.

    Args:
        **values: the controls' first values, by name; their defaults if not given.

    Attributes:
        picture: Picture, what is shown for the present values.

    >>> from causal_lab.explorers import MaskExplorer
    >>> explorer = MaskExplorer(T=4)
    >>> explorer.T = 5
    >>> explorer
    <MaskExplorer T=5>
    """

    _esm = (Path(__file__).parent / "explorer.js").read_text(encoding="utf-8")
    _name = Unicode().tag(sync=True)
    _controls = List().tag(sync=True)
    _picture = Dict().tag(sync=True)
    _asked = Dict().tag(sync=True, echo_update=False)  # a page's wishes, its question's number
    _ahead = Dict().tag(sync=True)  # a picture that a page may want next
    _ipython_display_ = None  # ipywidgets 7 has one, which would show no still

    # What a record of it holds: values by control. A control that is not named stands still there.
    GRID: ClassVar[dict[str, Any]] = {}

    def __init__(self, **values):
        self._lock = threading.RLock()
        self._placing = False
        self._edition = 0
        super().__init__(_name=type(self).__name__, **values)
        self._wishes = self.values()
        self._placed = self.settled(**self._wishes)
        for name, value in self._placed.items():
            if name in values and value != values[name]:
                low, high = self.limits(**self._wishes)[name]
                raise ValueError(f"{name} must lie between {low} and {high}, got {values[name]!r}")
        self._controls = [control.describe() for control in self.controls().values()]
        self.observe(self._moved, names=list(self._wishes))
        self.observe(self._hear, names="_asked")
        self.refresh()

    @classmethod
    def controls(cls) -> dict[str, Control]:
        """List the controls by name, in the order in which they are written down.

        >>> from causal_lab.explorers import LeakExplorer
        >>> list(LeakExplorer.controls())[:2]
        ['T', 't']
        """
        # Of the class that was written down: each widget gets a class of its own under its own.
        own = [vars(owner) for owner in reversed(cls.__mro__)]
        return {n: t for owner in own for n, t in owner.items() if isinstance(t, Control)}

    def compute(self, **values) -> Picture:
        """Turn the controls' values into a picture, the same for the same values."""
        raise NotImplementedError

    def limits(self, **values) -> dict[str, tuple[int, int]]:
        """Say between which ends controls may stand, given the values of all; by default all may.

        >>> from causal_lab.explorers import LeakExplorer
        >>> LeakExplorer().limits(T=5)["t"]
        (1, 5)
        """
        return {}

    def unused(self, **values) -> set[str]:
        """Say which controls change nothing now, given the values of all; they are greyed out.

        >>> from causal_lab.explorers import ReceptiveExplorer
        >>> explorer = ReceptiveExplorer()
        >>> "window" in explorer.unused(**explorer.values() | {"pattern": "causal, as in GPT"})
        True
        """
        return set()

    def values(self) -> dict[str, Any]:
        """Read all controls.

        >>> from causal_lab.explorers import LeakExplorer
        >>> LeakExplorer(T=8, t=3).values()["t"]
        3
        """
        return {name: getattr(self, name) for name in self.controls()}

    def settled(self, **wishes) -> dict[str, Any]:
        """Put every control at the place nearest to its wish that the others leave it."""
        values = wishes
        while True:  # an end may depend on a control that has an end itself
            limits = self.limits(**values)
            ends = {name: min(max(wishes[name], low), high) for name, (low, high) in limits.items()}
            if values == wishes | ends:
                return values
            values = wishes | ends

    def record(self, grid: dict[str, Any] | None = None) -> bytes:
        """Compute the pictures of a grid of values and pack them for a page without a kernel.

        Args:
            grid: values by control; the explorer's own choice if not given.

        >>> from causal_lab.explorers import MaskExplorer
        >>> MaskExplorer(T=4).record({"T": [2, 4]})[:2].hex()  # gzip
        '1f8b'
        """
        return record.pack(self, self.GRID if grid is None else grid)

    def save(self, path: str | Path, grid: dict[str, Any] | None = None) -> None:
        """Write one page that moves without Python and without a network.

        Args:
            grid: as for :meth:`record`.
        """
        record.write_page(Path(path), self, self.record(grid))

    def refresh(self) -> None:
        """Compute and show the picture anew, for one whose data has changed."""
        with self._lock:
            self._edition += 1
            self._show()

    def _hear(self, change) -> None:
        """Answer a page."""
        with self._lock:
            if change.new.get("ahead"):  # no control moves for it
                self._foresee(change.new["wishes"])
            else:
                self._wishes |= change.new["wishes"]
                self._show()

    def _moved(self, change) -> None:
        """Follow a program that moved a control."""
        with self._lock:
            if not self._placing:
                moved = {n: v for n, v in self.values().items() if v != self._placed[n]}
                # Where it is by now is not asked: another thread may have placed it again.
                self._wishes |= moved | {change.name: change.new}
                self._show()
            elif change.new != self._placed[change.name]:  # moved by who observes another control
                self._wishes[change.name] = change.new

    def _show(self) -> None:
        """Compute what the wishes lead to; an error is shown, since a callback has no cell."""
        answer = {"wishes": dict(self._wishes), "asked": self._asked.get("number")}
        try:
            values, picture, message = self._look(self._wishes)
            with self.hold_sync():  # one message
                self._place(values)
                self.picture = picture
                self._picture = answer | message
        except Exception as error:
            self._picture = {**answer, "error": f"{type(error).__name__}: {error}"}
            raise
        if self._wishes != answer["wishes"]:
            self._show()

    def _foresee(self, wishes: dict[str, Any]) -> None:
        """Compute what a page may want next; what fails will be said when it is wanted."""
        answer = {"wishes": wishes, "asked": self._asked["number"]}
        with contextlib.suppress(Exception):
            answer |= self._look(wishes)[2]
        self._ahead = answer

    def _look(self, wishes: dict[str, Any]) -> tuple[dict[str, Any], Picture, dict[str, Any]]:
        """Compute where wishes put the controls, the picture there, and what a page needs of it."""
        values = self.settled(**wishes)
        with torch.no_grad():
            picture = self.compute(**values)
        room = {
            "limits": {name: list(ends) for name, ends in self.limits(**values).items()},
            "unused": sorted(self.unused(**values)),
            "edition": self._edition,
        }
        return values, picture, room | picture.message()

    def _place(self, values: dict[str, Any]) -> None:
        """Move the controls to where they stand; this must not come back as moves of a hand."""
        self._placed, self._placing = values, True
        try:
            for name, value in values.items():
                setattr(self, name, value)
        finally:
            self._placing = False

    def __repr__(self) -> str:
        length = f" T={self.T}" if "T" in self.controls() else ""
        return f"<{type(self).__name__}{length}>"

    def _repr_mimebundle_(self, **options):
        shown = super()._repr_mimebundle_(**options)
        data, metadata = shown if isinstance(shown, tuple) else (shown, {})
        still = draw_still(self.picture)._repr_png_()
        data["text/plain"] = repr(self)
        data["image/png"] = base64.b64encode(still).decode("ascii")
        return data, metadata


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
