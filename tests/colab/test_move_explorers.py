"""What moves the explorers on the simulated machine notices what is broken here."""

import hashlib

import pytest
from move_explorers import explorers_in_memory, hidden, move_all, move_there_and_back, other_places

from causal_lab.explorers import AttentionExplorer, ComposerExplorer, FillExplorer, MaskExplorer

# ipywidgets 7, which Colab has, asks ipykernel for its old Comm; a new ipykernel minds.
pytestmark = pytest.mark.filterwarnings("ignore:The `ipykernel.comm.Comm` class:DeprecationWarning")


@pytest.mark.parametrize("make", [MaskExplorer, AttentionExplorer, FillExplorer])
def test_an_explorer_that_works_passes_and_is_left_as_it_was(make):
    explorer = make()
    before, picture = explorer.values(), explorer.image.value
    assert move_all([explorer]) == {
        explorer.image.model_id: hashlib.sha256(picture).hexdigest(),
    }
    assert (explorer.values(), explorer.image.value) == (before, picture)


def test_a_control_without_a_wire_is_noticed():
    explorer = MaskExplorer()
    explorer.controls["position"].unobserve_all()
    with pytest.raises(AssertionError, match=r"position: moved to .* the picture stayed the same"):
        move_all([explorer])


def test_a_picture_that_does_not_come_back_is_noticed(monkeypatch):
    explorer, paint, count = MaskExplorer(), MaskExplorer.paint, iter(range(100))

    def wander(self, state):
        picture = paint(self, state).copy()
        picture[0, 0] = next(count)
        return picture

    monkeypatch.setattr(MaskExplorer, "paint", wander)
    with pytest.raises(AssertionError, match="the picture did not come back"):
        move_all([explorer])


def test_an_error_that_is_shown_is_noticed():
    explorer = MaskExplorer()
    explorer.error.value = "ValueError: boom"
    with pytest.raises(AssertionError, match="boom"):
        move_all([explorer])


def test_an_error_in_a_move_is_noticed(monkeypatch):
    explorer = MaskExplorer()
    monkeypatch.setattr(explorer, "compute", lambda **values: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        move_there_and_back(explorer, "position")


def test_what_is_greyed_out_or_hidden_is_left_out():
    explorer = ComposerExplorer()
    explorer.controls["first"].value = "causal"
    assert hidden(explorer.controls["first_size"])
    move_all([explorer])
    explorer = MaskExplorer()
    for how in ({"display": "none"}, {"visibility": "hidden"}):
        for control in explorer.controls.values():
            control.layout = how
        with pytest.raises(AssertionError, match="no control that can be moved"):
            move_all([explorer])
        for control in explorer.controls.values():
            control.layout = {}
        assert move_all([explorer])


def test_a_notebook_without_explorers_is_noticed():
    with pytest.raises(AssertionError, match="no explorer in memory"):
        move_all([])


def test_every_explorer_in_memory_is_found():
    explorers = [MaskExplorer(), FillExplorer()]
    found = explorers_in_memory()
    assert all(any(one is other for other in found) for one in explorers)


def test_every_kind_of_control_has_somewhere_to_go():
    for explorer in (MaskExplorer(), AttentionExplorer(), FillExplorer()):
        for control in explorer.controls.values():
            field, places = other_places(control)
            assert places
            assert getattr(control, field) not in places
