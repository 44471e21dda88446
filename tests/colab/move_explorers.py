"""Move every control of every explorer in memory; the source of this file also runs as a cell."""

import gc
import hashlib
import itertools
import json

from causal_lab.explorers import Explorer

QUESTIONS = itertools.count(1)


def explorers_in_memory():
    """Find what a notebook has made and still shows."""
    gc.collect()
    # By type(thing): isinstance asks the thing, and some of PyTorch's warn when they are asked.
    found = [thing for thing in gc.get_objects() if issubclass(type(thing), Explorer)]
    return sorted(found, key=repr)


def digest(message):
    """Hash what a browser gets; the number of its own question left out."""
    kept = {name: part for name, part in message.items() if name != "asked"}
    written = json.dumps(kept, sort_keys=True, default=lambda data: bytes(data).hex())
    return hashlib.sha256(written.encode()).hexdigest()


def other_places(explorer, name):
    """List where else a control could stand while the others stay."""
    control, here = explorer.controls()[name].describe(), getattr(explorer, name)
    low, high = control.get("low"), control.get("high")
    low, high = explorer.limits(**explorer.values()).get(name, (low, high))
    if control["kind"] == "slider":
        places = [high, low, here - 1, here + 1]
    elif control["kind"] == "text":
        places = [f"{here} again", "one two"]
    else:
        places = control.get("options", control.get("values"))
    return [p for p in places if p != here and (low is None or low <= p <= high)]


def ask(explorer, wishes):
    """Ask for a picture as a browser does."""
    number = f"view {next(QUESTIONS)}"
    explorer.set_state({"_asked": {"number": number, "wishes": wishes}})
    answer = explorer._picture
    assert "error" not in answer, f"{explorer}: {answer['error']}"
    assert answer["asked"] == number, f"{explorer} did not answer the question about {wishes}"
    return answer


def surroundings(explorer, name):
    """List wishes for all controls: as they are, and one by one with another control elsewhere."""
    wishes = explorer._picture["wishes"]
    others = [other for other in explorer.controls() if other != name]
    places = [{other: place} for other in others for place in other_places(explorer, other)]
    return [wishes, *({**wishes, **place} for place in places)]


def move_there_and_back(explorer, name):
    """Move one control as a browser's message does, until the picture changes, and back."""
    home, *elsewhere = surroundings(explorer, name)
    for wishes in (home, *elsewhere):
        here = ask(explorer, wishes)
        for place in other_places(explorer, name):
            there = ask(explorer, {**wishes, name: place})
            changed = [there[part] != here[part] for part in ("panels", "caption")]
            back = ask(explorer, wishes)
            assert digest(back) == digest(here), f"{explorer} {name}: it did not come back"
            if any(changed):
                return ask(explorer, home)
    raise AssertionError(f"{explorer} {name}: wherever it was moved, the picture stayed the same")


def move_all(explorers):
    """Move all controls that can be moved; give each explorer's picture by its widget's id."""
    assert explorers, "no explorer in memory"
    for explorer in explorers:
        assert "error" not in explorer._picture, f"{explorer}: {explorer._picture['error']}"
        movable = [
            name
            for name in explorer.controls()
            if name not in explorer._picture["unused"] and other_places(explorer, name)
        ]
        assert movable, f"{explorer} has no control that can be moved"
        for name in movable:
            move_there_and_back(explorer, name)
    return {explorer.model_id: digest(explorer._picture) for explorer in explorers}
