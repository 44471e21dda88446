"""What moves the explorers on the simulated machine notices what is broken here."""

import itertools

import pytest
from move_explorers import digest, explorers_in_memory, move_all, move_there_and_back, other_places

from causal_lab.plots.picture import Picture
from tests.explorers.small import Small


class Deaf(Small):
    """A hand may move the token, and sees nothing of it."""

    def compute(self, t, **others):
        return super().compute(t=1, **others)


class Late(Small):
    """Shows the words in one of two cases."""

    def compute(self, mask, words, **others):
        words = words if mask == "empty" else "a b"
        return super().compute(mask=mask, words=words, **others)


class Wanderer(Small):
    """Never the same picture twice."""

    COUNT = itertools.count()

    def compute(self, **values):
        picture = super().compute(**values)
        return Picture(picture.panels, f"{picture.caption} {next(self.COUNT)}")


class Greyed(Deaf):
    """Says of a control that it changes nothing."""

    WHICH = frozenset({"t"})

    def unused(self, **values):
        return self.WHICH


class Broken(Small):
    """Works as it is, and nowhere else."""

    def compute(self, T, **others):
        return super().compute(T=T if T == 4 else 1 / 0, **others)


def test_an_explorer_that_works_passes_and_is_left_as_it_was():
    explorer = Small()
    before, message = explorer.values(), explorer._picture
    assert move_all([explorer]) == {explorer.model_id: digest(message)}
    assert explorer.values() == before


def test_a_control_that_moves_nothing_is_noticed():
    with pytest.raises(AssertionError, match=r"t: wherever it was moved"):
        move_all([Deaf()])


def test_a_control_that_moves_something_where_another_one_stands_elsewhere_is_enough():
    explorer = Late()
    before = explorer.values()
    assert move_all([explorer])
    assert explorer.values() == before


def test_a_picture_that_does_not_come_back_is_noticed():
    with pytest.raises(AssertionError, match="it did not come back"):
        move_all([Wanderer()])


def test_an_explorer_that_does_not_hear_is_noticed():
    explorer = Small()
    explorer.unobserve(explorer._hear, names="_asked")
    with pytest.raises(AssertionError, match="did not answer the question"):
        move_all([explorer])


def test_an_error_that_is_shown_is_noticed():
    explorer = Broken()
    with pytest.raises(ZeroDivisionError):
        explorer.T = 5
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        move_all([explorer])


def test_an_error_in_a_move_is_noticed():
    with pytest.raises(ZeroDivisionError):
        move_there_and_back(Broken(), "T")


def test_what_is_greyed_out_or_has_no_room_is_left_out(monkeypatch):
    assert move_all([Greyed()])
    assert move_all([Small(T=1, t=1)])
    monkeypatch.setattr(Greyed, "WHICH", frozenset(Small.controls()))
    with pytest.raises(AssertionError, match="no control that can be moved"):
        move_all([Greyed()])


def test_a_notebook_without_explorers_is_noticed():
    with pytest.raises(AssertionError, match="no explorer in memory"):
        move_all([])


def test_every_explorer_in_memory_is_found():
    explorers = [Small(), Deaf()]
    found = explorers_in_memory()
    assert all(any(one is other for other in found) for one in explorers)


def test_every_kind_of_control_goes_where_it_is_not_and_may_be():
    explorer = Small()
    assert [other_places(explorer, name) for name in explorer.controls()] == [
        [9, 1, 3, 5],
        [4, 1, 1, 3],
        [0.0, 1.0],
        ["empty"],
        ["a b again", "one two"],
    ]


def test_a_digest_is_of_all_but_the_number_of_the_question():
    message = {"asked": 1, "caption": "a", "panels": [{"data": b"1"}]}
    same = {"asked": 2, "caption": "a", "panels": [{"data": memoryview(b"1")}]}
    assert digest(message) == digest(same)
    assert digest(message) != digest({**message, "caption": "b"})
    assert digest(message) != digest({**message, "panels": [{"data": b"2"}]})
