"""A small explorer with one control of each kind, and what reads a record back."""

import gzip
import json
import struct

import numpy as np

from causal_lab.explorers import Explorer
from causal_lab.explorers.controls import Menu, Slider, Steps, Text
from causal_lab.plots.picture import Bars, Heat, Picture


class Small(Explorer):
    """The token stands in the text; without a fill the fill changes nothing."""

    T = Slider("T, number of tokens", 1, 9, 4, play=True)
    t = Slider("a token", 1, 9, 2)
    fill = Steps("fill", [0.0, 0.5, 1.0], 0.5, words=["none", "half", "all"])
    mask = Menu("mask", ["filled", "empty"])
    words = Text("words", "a b")

    GRID = {"T": range(1, 10), "t": [1, 4, 9], "mask": ["filled", "empty"], "words": ["a b", "ü"]}

    def limits(self, T, **others):
        return {"t": (1, T)}

    def unused(self, mask, **others):
        return {"fill"} if mask == "empty" else set()

    def compute(self, T, t, fill, mask, words):
        filled = np.full((T, T), fill if mask == "filled" else 0.0)
        panels = Heat(filled, title=words), Bars(np.arange(1, t + 1)[None] / 10, ("past",))
        return Picture(panels, f"{t} of {T}, {mask}")


def arrays_to_bytes(thing, arrays):
    """Put the arrays of a record where they belong, as a picture's message has them."""
    if isinstance(thing, list):
        return [arrays_to_bytes(one, arrays) for one in thing]
    if not isinstance(thing, dict):
        return thing
    if "array" in thing:
        return arrays[thing["array"]]
    return {name: arrays_to_bytes(part, arrays) for name, part in thing.items()}


def unpack(packed):
    """Read a record.

    Returns its head, and what it shows: from the values of the controls, in the head's order, to
    (panels and caption as in a message, limits, unused).
    """
    data = gzip.decompress(packed)
    length, points = struct.unpack_from("<II", data)
    head = json.loads(data[8 : 8 + length])
    index = struct.unpack_from(f"<{points}H", data, 8 + length)
    end, arrays = 8 + length + 2 * points, []
    for dtype, shape in head["arrays"]:
        begin, end = end, end + np.dtype(dtype).itemsize * int(np.prod(shape))
        arrays.append({"dtype": dtype, "shape": shape, "data": data[begin:end]})
    assert end == len(data)

    def look(**values):
        place = 0
        for control in head["controls"]:
            choices = control.get("options") or control["values"]
            place = place * len(choices) + choices.index(values[control["name"]])
        numbers, caption, limits, unused = head["pictures"][index[place]]
        panels = [arrays_to_bytes(head["panels"][number], arrays) for number in numbers]
        return {"panels": panels, "caption": caption}, limits, unused

    return head, look


def sent(explorer, monkeypatch):
    """List the names of the traits in each message that the explorer sends from now on."""
    messages = []

    def note(message, buffers=None):
        messages.append(set(message["state"]))

    monkeypatch.setattr(explorer, "_send", note)
    if getattr(explorer.comm, "kernel", "") is None:  # ipywidgets 7 would send nothing
        monkeypatch.setattr(type(explorer.comm), "kernel", "a kernel")
    return messages
