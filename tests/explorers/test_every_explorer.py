"""What holds for every explorer: all is moved, comes back, is pure, and is recorded as computed."""

import inspect
import itertools
import json
import random
from functools import cache

import numpy as np
import pytest
import torch

from causal_lab import explorers
from causal_lab.explorers import Explorer
from tests.builders import build, draw_ids
from tests.colab.move_explorers import ask, move_all, other_places
from tests.explorers.small import sent, unpack

pytestmark = pytest.mark.usefixtures("one_thread")


@cache
def arguments_of(name):
    """Say what an explorer cannot be made without; made once, whatever is set later."""
    return {
        "GenerationExplorer": lambda: (build(max_length=24), draw_ids(4), None, 12),
        "HeadExplorer": lambda: (build(), draw_ids(4), None, 0),
    }.get(name, tuple)()


def make(name):
    explorer = getattr(explorers, name)(*arguments_of(name))
    if name == "GenerationExplorer":
        list(explorer.stream())
    return explorer


NAMES = [
    name
    for name, thing in vars(explorers).items()
    if inspect.isclass(thing) and issubclass(thing, Explorer) and thing is not Explorer
]
every = pytest.mark.parametrize("name", NAMES)


def shown(explorer):
    return {part: explorer._picture[part] for part in ("panels", "caption", "limits", "unused")}


def choices(control):
    """List where a control could be put, whatever the others say."""
    told = control.describe()
    if told["kind"] == "slider":
        return range(told["low"], min(told["high"], 24) + 1)
    return told.get("options") or told.get("values") or ["one two", "a b a", ""]


def walk(explorer, steps, seed=0):
    """Give some settings of all controls."""
    dice = random.Random(seed)
    return [
        {name: dice.choice(choices(control)) for name, control in explorer.controls().items()}
        for _ in range(steps)
    ]


def put(explorer, wishes):
    with explorer.hold_trait_notifications():
        for name, value in wishes.items():
            setattr(explorer, name, value)


def first_with_a_choice(explorer):
    """Name a control that can be moved, and where to."""
    for name in explorer.controls():
        if name not in explorer._picture["unused"] and other_places(explorer, name):
            return name, other_places(explorer, name)


# --- moves


@every
def test_every_control_moves_the_picture_and_it_comes_back(name):
    """As a page moves them, from where they begin and from elsewhere."""
    explorer = make(name)
    move_all([explorer])
    for wishes in walk(explorer, 2):
        ask(explorer, wishes)
        for control in explorer.controls():
            home = explorer._picture
            for place in other_places(explorer, control)[:2]:
                there = ask(explorer, wishes | {control: place})
                same = [there[part] == home[part] for part in ("panels", "caption")]
                assert all(same) or control not in home["unused"], (control, place)
                ask(explorer, wishes)
                assert shown(explorer) == {part: home[part] for part in shown(explorer)}


@every
def test_a_program_moves_it_as_a_page_does(name):
    explorer, other = make(name), make(name)
    for wishes in walk(explorer, 2, seed=1):
        put(explorer, wishes)
        ask(other, wishes)
        assert explorer.values() == other.values() == explorer._placed
        assert shown(explorer) == shown(other)


@every
def test_controls_stand_as_near_to_the_wish_as_the_others_let_them(name):
    explorer = make(name)
    for wishes in walk(explorer, 5, seed=2):
        answer = ask(explorer, wishes)
        values = explorer.values()
        for control, value in values.items():
            low, high = answer["limits"].get(control, (value, value))
            wish = wishes[control]
            ends = (low, high) if control in answer["limits"] else (wish, wish)
            assert value == (wish if isinstance(wish, str) else min(max(wish, ends[0]), ends[1]))
        assert answer["wishes"] == wishes


@every
def test_one_question_is_answered_with_one_message(name, monkeypatch):
    explorer = make(name)
    messages = sent(explorer, monkeypatch)
    control, places = first_with_a_choice(explorer)
    ask(explorer, explorer.values() | {control: places[-1]})
    assert len(messages) == 1
    assert {control, "_picture"} <= messages[0]


@every
def test_an_error_is_shown_raised_and_gone_with_the_next_good_value(name, monkeypatch):
    explorer = make(name)
    control, places = first_with_a_choice(explorer)
    home, compute = getattr(explorer, control), explorer.compute

    def fail_there(**values):
        if values[control] != home:
            raise ZeroDivisionError("there")
        return compute(**values)

    before = shown(explorer)
    monkeypatch.setattr(explorer, "compute", fail_there)
    with pytest.raises(ZeroDivisionError, match="there"):
        setattr(explorer, control, places[0])
    assert explorer._picture["error"] == "ZeroDivisionError: there"
    setattr(explorer, control, home)
    assert shown(explorer) == before


@every
def test_two_explorers_share_nothing(name):
    first, second = make(name), make(name)
    before, message = second.values(), second._picture
    for wishes in walk(first, 2, seed=3):
        ask(first, wishes)
    assert (second.values(), second._picture) == (before, message)


# --- purity


def pictures(name, settings):
    explorer = make(name)
    return [explorer.compute(**explorer.settled(**one)).message() for one in settings]


@every
def test_a_fresh_explorer_shows_what_a_moved_one_shows(name):
    explorer, seen = make(name), []
    settings = walk(explorer, 3, seed=4)
    for wishes in settings:
        put(explorer, wishes)
        seen.append({part: explorer._picture[part] for part in ("panels", "caption")})
        assert explorer.picture.message() == seen[-1]
    assert pictures(name, settings) == seen
    assert pictures(name, settings[::-1]) == seen[::-1]


@every
def test_neither_the_seed_nor_the_default_device_nor_the_dtype_matters(name):
    """A learner may have said ``torch.set_default_device("cuda")``; "meta" is one like it."""
    settings = walk(make(name), 2, seed=5)
    wanted = pictures(name, settings)
    for module in (torch.random, np.random, random):
        getattr(module, "manual_seed", module.seed)(7)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    assert pictures(name, settings) == wanted, "another seed"
    assert torch.equal(torch.get_rng_state(), before[0]), "numbers were drawn"
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]
    with torch.device("meta"):
        assert pictures(name, settings) == wanted, "another device"
    torch.set_default_dtype(torch.float64)
    try:
        assert pictures(name, settings) == wanted, "another dtype"
    finally:
        torch.set_default_dtype(torch.float32)


@every
def test_no_gradient_is_kept(name):
    explorer = make(name)
    with torch.enable_grad():
        for wishes in walk(explorer, 2, seed=6):
            ask(explorer, wishes)
        assert torch.is_grad_enabled()
    kept = [thing for thing in vars(explorer).values() if isinstance(thing, torch.Tensor)]
    assert not any(tensor.requires_grad for tensor in kept)


# --- what is said


@every
def test_the_text_says_the_length_and_no_more(name):
    explorer, texts = make(name), set()
    for wishes in walk(explorer, 4, seed=7):
        texts.add(repr(explorer).replace(f" T={explorer.values().get('T')}", ""))
        ask(explorer, wishes)
    assert texts == {f"<{name}>"}
    has_length = "T" in explorer.controls()
    assert repr(explorer) == f"<{name} T={explorer.T}>" if has_length else f"<{name}>"
    data, _ = explorer._repr_mimebundle_()
    assert data["text/plain"] == repr(explorer)
    assert {"image/png", "application/vnd.jupyter.widget-view+json"} < set(data)


@every
def test_every_control_says_what_it_is(name):
    told = make(name)._controls
    labels = [control["label"] for control in told]
    assert all(label.strip() for label in labels)
    assert len(set(labels)) == len(labels)
    for control in told:
        values = control.get("values", [])
        assert len(control.get("words", [])) == len(values) == len(set(values))
        assert len(control.get("options", [])) == len(set(control.get("options", [])))
    assert json.loads(json.dumps(told)) == told


@every
def test_every_picture_reads_itself(name):
    explorer = make(name)
    for wishes in walk(explorer, 4, seed=8):
        picture = ask(explorer, wishes)
        assert picture["panels"]
        assert picture["caption"].strip()


# --- records


@every
def test_the_grid_is_one_that_a_page_can_walk(name):
    explorer = make(name)
    controls, grid = explorer.controls(), explorer.GRID
    assert grid
    assert grid.keys() <= controls.keys()
    for control, values in grid.items():
        assert len(set(values)) == len(values) > 1
        assert [controls[control].validate(explorer, value) for value in values] == list(values)
        told = controls[control].describe()
        assert set(values) == set(told.get("options", values)), "every entry of a menu"
        order = told.get("values", sorted(values) if told["kind"] == "slider" else values)
        assert list(values) == [value for value in order if value in values]
    menus = {c for c, control in controls.items() if control.kind == "menu"}
    assert menus <= grid.keys(), "every menu"
    if "T" in controls:
        assert max(grid["T"]) >= 16
    assert np.prod([len(values) for values in grid.values()]) <= 60_000


def corners(values):
    """Thin the values of a grid: its ends and one between."""
    values = list(values)
    return [values[n] for n in sorted({0, len(values) // 2, len(values) - 1})]


@every
def test_a_record_unpacks_to_what_is_computed_array_by_array(name):
    explorer = make(name)
    # The first controls by three values each, the others by two, until there are enough.
    grid, points = {}, 1
    for control, values in explorer.GRID.items():
        thin = corners(values)[:: 1 if points * 3 <= 54 else 2]
        if points * len(thin) <= 108:
            grid[control] = thin
            points *= len(thin)
    head, look = unpack(explorer.record(grid))
    assert head["name"] == name
    for combination in itertools.product(*(grid[control["name"]] for control in head["controls"])):
        asked = dict(zip((c["name"] for c in head["controls"]), combination, strict=True))
        values = explorer.settled(**(explorer.values() | asked))
        message, limits, unused = look(**asked)
        assert message == explorer.compute(**values).message(), asked
        assert limits == {n: list(ends) for n, ends in explorer.limits(**values).items()}
        assert unused == sorted(explorer.unused(**values))
    assert look(**head["first"])
