"""The frame, by a small explorer: moves, wishes, questions of a page, errors, threads, display."""

import base64
import random
import re
import threading
import time

import ipywidgets
import pytest
import torch
from IPython.core.formatters import DisplayFormatter

from causal_lab.explorers import Explorer
from causal_lab.explorers.controls import Slider
from causal_lab.explorers.explorer import fixed_scores
from causal_lab.plots.picture import Picture
from tests.builders import move
from tests.explorers.small import Small, sent


def shown(explorer):
    return {part: explorer._picture[part] for part in ("panels", "caption", "limits", "unused")}


def should_show(explorer):
    """Say what belongs to the values where the controls stand."""
    values = explorer.values()
    limits = {name: list(ends) for name, ends in explorer.limits(**values).items()}
    unused = sorted(explorer.unused(**values))
    return explorer.compute(**values).message() | {"limits": limits, "unused": unused}


def ask(explorer, number=1, **wishes):
    explorer.set_state({"_asked": {"number": number, "wishes": wishes}})


# --- moves


@pytest.mark.parametrize(
    "values", [{"T": 7}, {"t": 4}, {"fill": 1.0}, {"mask": "empty"}, {"words": "c"}]
)
def test_a_move_shows_what_it_leads_to_for_program_and_page_alike(values):
    moved, asked = move(Small(), **values), Small()
    ask(asked, **values)
    fresh = Small(**values)
    assert moved.values() == asked.values() == fresh.values() == Small().values() | values
    assert shown(moved) == shown(asked) == shown(fresh) == should_show(fresh)
    assert moved.picture.message() == fresh.picture.message()


def test_a_wish_waits_until_there_is_room_again():
    explorer = Small(T=9, t=7)
    assert move(explorer, T=5).t == 5
    assert move(explorer, T=6).t == 6
    assert move(explorer, T=9).t == 7
    assert move(explorer, T=5, t=3).t == 3  # a new wish
    assert move(explorer, T=9).t == 3
    assert move(explorer, T=2, t=9).t == 2  # beyond the end
    assert move(explorer, T=8).t == 8
    ask(explorer, T=4, t=6)
    assert (explorer.t, explorer._picture["wishes"]["t"]) == (4, 6)
    assert move(explorer, T=9).t == 6


def test_ends_may_depend_on_what_has_an_end_itself():
    class Chain(Explorer):
        a, b, c = (Slider(name, 0, 9, 5) for name in "abc")

        def limits(self, a, b, c):
            return {"c": (0, b), "b": (0, a)}

        def compute(self, a, b, c):
            return Picture((), f"{a} {b} {c}")

    explorer = Chain()
    assert move(explorer, a=2).picture.caption == "2 2 2"
    assert explorer._picture["limits"] == {"b": [0, 2], "c": [0, 2]}
    assert move(explorer, a=9).picture.caption == "9 5 5"


def test_several_moves_held_together_show_where_all_of_them_lead(monkeypatch):
    explorer = Small()
    messages = sent(explorer, monkeypatch)
    with explorer.hold_trait_notifications():
        explorer.t, explorer.T, explorer.mask = 8, 9, "empty"
    assert explorer.picture.caption == "8 of 9, empty"
    assert shown(explorer) == should_show(explorer)
    assert sum("_picture" in names for names in messages) == 1


def test_one_question_is_one_message_and_a_move_of_a_program_is_not_much_more(monkeypatch):
    explorer = Small(T=4, t=4)
    messages = sent(explorer, monkeypatch)
    ask(explorer, T=2)
    assert messages == [{"T", "t", "_picture"}]
    messages.clear()
    explorer.T = 1
    assert messages == [{"T"}, {"t", "_picture"}]


def test_what_observes_a_control_sees_the_picture_that_belongs_to_it():
    explorer, seen = Small(), []
    explorer.observe(lambda change: seen.append((change.new, explorer.picture.caption)), "T")
    explorer.T = 5
    explorer.T = 5
    assert seen == [(5, "2 of 5, filled")]


@pytest.mark.parametrize("by_page", [False, True])
def test_what_observes_a_control_may_move_another_one(by_page):
    explorer = Small()
    explorer.observe(lambda change: move(explorer, t=change.new - 1), "T")
    ask(explorer, T=7) if by_page else move(explorer, T=7)
    assert explorer.values()["t"] == 6
    assert shown(explorer) == should_show(explorer)


def test_linked_explorers_move_together_whoever_moves():
    first, second = Small(), Small(mask="empty")
    ipywidgets.link((first, "T"), (second, "T"))
    second.T = 6
    assert (first.picture.caption, second.picture.caption) == ("2 of 6, filled", "2 of 6, empty")
    ask(first, T=3)
    assert (first.picture.caption, second.picture.caption) == ("2 of 3, filled", "2 of 3, empty")
    assert shown(second) == should_show(second)


def test_a_fresh_look_has_a_new_edition_and_the_same_picture():
    explorer = Small()
    before, edition = shown(explorer), explorer._picture["edition"]
    move(explorer, T=5, words="c").refresh()
    assert explorer._picture["edition"] == edition + 1
    move(explorer, T=4, words="a b")
    assert explorer._picture["edition"] == edition + 1
    assert shown(explorer) == before


# --- questions of a page


def test_a_question_is_answered_by_its_number_with_the_wishes_that_it_made():
    explorer = Small()
    assert explorer._picture["asked"] is None
    wishes = explorer.values() | {"T": 3, "t": 8}
    ask(explorer, number="view 12", **wishes)
    answer = explorer._picture
    assert (answer["asked"], answer["wishes"], answer["limits"]) == (
        "view 12",
        wishes,
        {"t": [1, 3]},
    )
    assert (explorer.T, explorer.t) == (3, 3)
    ask(explorer, number="view 13", **wishes)  # nothing has changed, but somebody waits
    assert explorer._picture["asked"] == "view 13"


def test_a_question_is_not_sent_back(monkeypatch):
    explorer = Small()
    messages = sent(explorer, monkeypatch)
    ask(explorer, T=3)
    assert not any("_asked" in names for names in messages)


def test_what_a_page_may_want_next_is_answered_and_moves_nothing(monkeypatch):
    explorer, twin = Small(T=6), Small(T=7)
    before, messages = (explorer.values(), explorer._picture), sent(explorer, monkeypatch)
    question = {"number": "view 2", "wishes": twin.values(), "ahead": True}
    explorer.set_state({"_asked": question})
    assert (explorer.values(), explorer._picture) == before
    assert explorer._ahead == twin._picture | {"asked": "view 2"}
    monkeypatch.setattr(explorer, "compute", lambda **values: 1 / 0)
    explorer.set_state({"_asked": question | {"number": 3}})
    assert explorer._ahead == {"asked": 3, "wishes": twin.values()}  # said when it is wanted
    monkeypatch.undo()
    assert messages == [{"_ahead"}, {"_ahead"}]
    move(explorer, t=1)  # the wishes of a page that only looks ahead are nobody's
    assert explorer.T == 6


def test_a_page_that_asks_for_what_cannot_be_is_told():
    explorer = Small()
    with pytest.raises(ValueError, match="got 99"):
        ask(explorer, number=3, T=99)
    assert "ValueError: T must lie between" in explorer._picture["error"]
    assert explorer._picture["asked"] == 3
    ask(explorer, T=5)
    assert shown(explorer) == should_show(explorer)


# --- errors


class Boom(Small):
    def compute(self, T, **others):
        if T > 5:
            raise RuntimeError(f"no <b>{T}</b>")
        return super().compute(T=T, **others)


@pytest.mark.parametrize("by_page", [False, True])
@pytest.mark.parametrize("after", [4, 2])
def test_an_error_is_shown_and_raised_and_goes_with_the_next_good_value(by_page, after):
    go = ask if by_page else move
    explorer = Boom(T=4)
    picture = explorer.picture
    for T in (6, 7):
        with pytest.raises(RuntimeError, match=re.escape(f"no <b>{T}</b>")):
            go(explorer, T=T)
        assert explorer._picture["error"] == f"RuntimeError: no <b>{T}</b>"
        assert explorer._picture["wishes"]["T"] == T
        assert explorer.picture is picture
    go(explorer, T=after)
    assert "error" not in explorer._picture
    assert (explorer.T, shown(explorer)) == (after, should_show(explorer))


def test_an_error_in_the_first_picture_is_raised():
    with pytest.raises(RuntimeError, match=re.escape("no <b>8</b>")):
        Boom(T=8)


def test_a_subclass_must_say_what_it_computes():
    class Silent(Explorer):
        T = Slider("T", 1, 2, 1)

    with pytest.raises(NotImplementedError):
        Silent()


def test_first_values_outside_the_ends_are_refused():
    with pytest.raises(ValueError, match=r"^t must lie between 1 and 3, got 5$"):
        Small(T=3, t=5)
    assert Small(T=1).t == 1  # nobody asked for t


# --- threads


def start(function, *arguments):
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


def join(*threads):
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "a move never came back"


def test_hands_on_many_threads_are_heard_one_by_one_and_leave_one_picture():
    dice, busy, seen = random.Random(0), set(), set()

    class Slow(Small):
        def compute(self, **values):
            busy.add(threading.get_ident())
            time.sleep(dice.random() / 500)
            seen.add(len(busy))
            busy.remove(threading.get_ident())
            return super().compute(**values)

    explorer = Slow()

    def wander(steps):
        for T, t in steps:
            move(explorer, T=T, t=t) if t % 2 else ask(explorer, T=T, t=t)

    walks = [[(dice.randint(1, 9), dice.randint(1, 9)) for _ in range(25)] for _ in range(4)]
    join(*[start(wander, walk) for walk in walks])
    assert seen == {1}
    assert shown(explorer) == should_show(explorer)
    assert explorer.values() == explorer.settled(**explorer._picture["wishes"])


def test_a_move_while_another_picture_is_computed_is_not_lost():
    computing, go_on = threading.Event(), threading.Event()

    class Slow(Small):
        def compute(self, T, **others):
            if T == 9:
                computing.set()
                assert go_on.wait(20)
            return super().compute(T=T, **others)

    explorer = Slow()
    first = start(lambda: move(explorer, T=9))
    assert computing.wait(20)
    second = start(lambda: move(explorer, t=5))
    deadline = time.monotonic() + 20
    while explorer.t != 5:
        assert time.monotonic() < deadline
    go_on.set()
    join(first, second)
    assert explorer.picture.caption == "5 of 9, filled"
    assert shown(explorer) == should_show(explorer)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_no_gradient_is_kept_on_any_thread(elsewhere):
    enabled = []

    class Look(Small):
        def compute(self, **values):
            enabled.append(torch.is_grad_enabled())
            return super().compute(**values)

    with torch.enable_grad():
        explorer = Look()
        join(start(lambda: move(explorer, T=3))) if elsewhere else ask(explorer, T=3)
        explorer.record({"T": [5]})
        assert torch.is_grad_enabled()
    assert enabled == [False] * 3


# --- display


def test_it_shows_itself_as_one_bundle_of_view_still_and_constant_text(capsys):
    explorer = move(Small(), T=5, mask="empty", words="c")
    bundle, metadata = DisplayFormatter().format(explorer)
    assert capsys.readouterr() == ("", "")
    view = "application/vnd.jupyter.widget-view+json"
    assert set(bundle) == {"text/plain", "image/png", view}
    assert bundle["text/plain"] == "<Small T=5>"
    assert bundle[view]["model_id"] == explorer.model_id
    assert metadata == {}
    assert explorer._repr_mimebundle_() == (bundle, {})


def test_the_still_is_of_the_picture_that_is_shown():
    explorer = Small()
    still = explorer._repr_mimebundle_()[0]["image/png"]
    assert base64.b64decode(still).startswith(b"\x89PNG")
    assert move(explorer, T=7)._repr_mimebundle_()[0]["image/png"] != still
    assert move(explorer, T=4)._repr_mimebundle_()[0]["image/png"] == still


def test_fixed_scores_are_the_same_whatever_else_is_set():
    wanted = fixed_scores(3, 4, seed=2)
    torch.manual_seed(5)
    try:
        torch.set_default_dtype(torch.float64)
        with torch.device("meta"):
            again = fixed_scores(3, 4, seed=2)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(again, wanted)
    assert (wanted.dtype, wanted.device.type) == (torch.float32, "cpu")
    assert not torch.equal(fixed_scores(3, 4, seed=3), wanted)
