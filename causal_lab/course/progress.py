"""How far has a long computation come? One bar, in a notebook or in a terminal."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm
from tqdm.notebook import tqdm as notebook_tqdm

Step = TypeVar("Step")


def with_bar(steps: Iterable[Step], total: int, text: str) -> Iterator[Step]:
    """Draw a bar while somebody goes through the steps; a notebook saves ``text`` in its place.

    >>> list(with_bar([1, 2], total=2, text="2 steps"))
    [1, 2]
    """
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        get_ipython = display = None
    if get_ipython is None or not hasattr(get_ipython(), "kernel"):
        yield from tqdm(steps, total=total, leave=False)
        return
    bar = notebook_tqdm(steps, total=total, display=False)
    if not hasattr(bar, "container"):  # switched off by TQDM_DISABLE
        yield from steps
        return
    # A bar's own text holds times, which no saved output can repeat; a constant one goes with it.
    view = {"version_major": 2, "version_minor": 0, "model_id": bar.container.model_id}
    view_type = "application/vnd.jupyter.widget-view+json"
    display({"text/plain": text, view_type: view}, raw=True)
    yield from bar
