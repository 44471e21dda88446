"""Move every control of every explorer in memory; the source of this file also runs as a cell."""

import gc
import hashlib

from causal_lab.explorers import Explorer


def explorers_in_memory():
    """Find what a notebook has made and still shows."""
    gc.collect()
    # By type(thing): isinstance asks the thing, and some of PyTorch's warn when they are asked.
    found = [thing for thing in gc.get_objects() if issubclass(type(thing), Explorer)]
    return sorted(found, key=repr)


def hidden(control):
    layout = control.layout
    return control.disabled or layout.display == "none" or layout.visibility == "hidden"


def other_places(control):
    """List, under the name that a browser sends, where else the control could be put."""
    if hasattr(control, "options"):
        places = range(len(control.options))
        return "index", [place for place in places if place != control.index]
    if hasattr(control, "max"):
        low, high = control.min, control.max
        places = [high, low, control.value - control.step, control.value + control.step]
        return "value", [v for v in places if low <= v <= high and v != control.value]
    if isinstance(control.value, bool):
        return "value", [not control.value]
    return "value", [f"{control.value} again", "one two"]


def move_there_and_back(explorer, name):
    """Move one control as a browser's message does, until the picture changes, and back."""
    control = explorer.controls[name]
    field, places = other_places(control)
    home, picture = getattr(control, field), explorer.image.value
    for place in places:
        control.set_state({field: place})
        assert not explorer.error.value, f"{explorer} {name}={place}: {explorer.error.value}"
        changed = explorer.image.value != picture
        control.set_state({field: home})
        assert explorer.image.value == picture, f"{explorer} {name}: the picture did not come back"
        if changed:
            return
    raise AssertionError(f"{explorer} {name}: moved to {places}, the picture stayed the same")


def move_all(explorers):
    """Move all controls that can be moved; give each explorer's picture by its widget's id."""
    assert explorers, "no explorer in memory"
    for explorer in explorers:
        assert not explorer.error.value, f"{explorer}: {explorer.error.value}"
        movable = [name for name, c in explorer.controls.items() if not hidden(c)]
        assert movable, f"{explorer} has no control that can be moved"
        for name in movable:
            move_there_and_back(explorer, name)
    return {e.image.model_id: hashlib.sha256(e.image.value).hexdigest() for e in explorers}
