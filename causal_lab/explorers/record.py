"""Pictures of a whole grid of values in one file, for pages that have no Python behind them.

A record is gzip over: the length of the head (4 bytes), the head as JSON, the arrays. What repeats
(an array, a panel, a caption) is stored once. ``explorer.js`` reads it back.
"""

import base64
import gzip
import itertools
import json
import struct
from pathlib import Path
from typing import Any

import torch


class Store:
    """Things in the order of their first appearance, each once.

    >>> store = Store()
    >>> [store.number(word) for word in ("a", "b", "a")], store.things
    ([0, 1, 0], ['a', 'b'])
    """

    def __init__(self):
        self.numbers: dict[Any, int] = {}
        self.things: list[Any] = []

    def number(self, thing: Any, key: Any = None) -> int:
        """Give the thing's number, a new one if it was not there."""
        key = thing if key is None else key
        if key not in self.numbers:
            self.numbers[key] = len(self.things)
            self.things.append(thing)
        return self.numbers[key]


def pack(explorer, grid: dict[str, Any]) -> bytes:
    """Compute the pictures of a grid and put them into one record.

    Args:
        grid: values by control, all combinations are computed; other controls stay where they are.

    >>> from causal_lab.explorers import MaskExplorer
    >>> len(pack(MaskExplorer(), {"T": range(1, 9)})) < 4096
    True
    """
    names = [name for name in explorer.controls() if name in grid]
    axes = [list(grid[name]) for name in names]
    arrays, panels, pictures, seen, index = Store(), Store(), Store(), {}, []
    present = explorer.values()
    for combination in itertools.product(*axes):
        values = explorer.settled(**present | dict(zip(names, combination, strict=True)))
        unused = sorted(explorer.unused(**values))
        used = tuple((name, value) for name, value in values.items() if name not in unused)
        if used not in seen:
            with torch.no_grad():
                message = explorer.compute(**values).message()
            limits = {name: list(ends) for name, ends in explorer.limits(**values).items()}
            shown = [panels.number(_as_json(panel, arrays)) for panel in message["panels"]]
            entry = [shown, message["caption"], limits, unused]
            seen[used] = pictures.number(json.dumps(entry, ensure_ascii=False))
        index.append(seen[used])
    head = {
        "name": type(explorer).__name__,
        "controls": _controls(explorer, dict(zip(names, axes, strict=True))),
        "first": {name: _nearest(present[name], grid[name]) for name in names},
        "note": _note(explorer, grid),
        "arrays": [[dtype, shape] for dtype, shape, _ in arrays.things],
        "panels": [json.loads(panel) for panel in panels.things],
        "pictures": [json.loads(picture) for picture in pictures.things],
    }
    written = json.dumps(head, ensure_ascii=False, separators=(",", ":")).encode()
    numbers = struct.pack(f"<{len(index)}H", *index)
    data = b"".join(data for _, _, data in arrays.things)
    parts = [struct.pack("<II", len(written), len(index)), written, numbers, data]
    return gzip.compress(b"".join(parts), 9, mtime=0)


def write_page(path: Path, explorer, packed: bytes) -> None:
    """Write a page that holds the module, the record, and a still for who has no JavaScript."""
    name = type(explorer).__name__
    still = explorer._repr_mimebundle_()[0]["image/png"]
    path.write_text(
        f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{name}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>:root {{ color-scheme: light dark }} body {{ font-family: sans-serif }}</style></head><body>
<main><h1>{name}</h1>
<div class="causal-explorer" data-explorer="{name}" data-record="{name}">
<img alt="{name}" src="data:image/png;base64,{still}"></div></main>
<script>{as_script(name, packed)}</script>
<script type="module">{explorer._esm}
wake(document);</script></body></html>
""",
        encoding="utf-8",
    )


def as_script(name: str, packed: bytes) -> str:
    """Write a record as a classic script: a page from disk may load no other kind.

    >>> as_script("a", b"")
    '(window.causalRecords ??= {})["a"] = "";'
    """
    text = base64.b64encode(packed).decode("ascii")
    return f'(window.causalRecords ??= {{}})["{name}"] = "{text}";'


def _as_json(panel: dict, arrays: Store) -> str:
    def number(thing):
        if isinstance(thing, dict):
            key = (thing["dtype"], tuple(thing["shape"]), thing["data"])
            return {"array": arrays.number(key)}
        return [number(one) for one in thing] if isinstance(thing, list) else thing

    return json.dumps({name: number(part) for name, part in panel.items()}, ensure_ascii=False)


def _nearest(value, axis):
    if isinstance(value, str):
        return value if value in axis else next(iter(axis))
    return min(axis, key=lambda one: abs(one - value))


def _note(explorer, grid: dict[str, Any]) -> str:
    """Say what can be moved on a page, and where all of it can."""
    still = [control.label for name, control in explorer.controls().items() if name not in grid]
    stands = f" ({', '.join(still)} stand{'s' * (len(still) == 1)} still here)" if still else ""
    return (
        f"This picture moves without Python, over what was computed beforehand{stands}. "
        "In Jupyter all of it moves, and with numbers of your own."
    )


def _controls(explorer, grid: dict[str, list]) -> list[dict]:
    """Say what can be moved in a record: a slider walks over the values that are there."""
    shown = []
    for name, values in grid.items():
        control = explorer.controls()[name].describe()
        if control["kind"] in ("menu", "text"):
            control |= {"kind": "menu", "options": values}
        else:
            words = dict(zip(control.get("values", ()), control.get("words", ()), strict=True))
            control |= {"kind": "steps", "values": values}
            control["words"] = [words.get(value, str(value)) for value in values]
        shown.append(control)
    return shown
