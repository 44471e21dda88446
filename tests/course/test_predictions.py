"""A guess is remembered, compared and counted; without one nothing is said."""

import IPython.display
import ipywidgets
import pytest

from causal_lab.course import Predictions
from causal_lab.course.predictions import veil

VIEW = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def predict():
    return Predictions()


def test_an_unanswered_question_is_silent(predict, capsys):
    predict("How many?", ["1", "2"])
    predict.compare("2")
    predict.score()
    assert capsys.readouterr().out == ""


def test_the_guess_stands_beside_what_came_out(predict, capsys):
    predict("How many?", ["1", "2"]).guess = "1"
    predict.compare("2")
    predict("Which?", ["left", "right"]).guess = "right"
    predict.compare("right")
    predict("Not answered?", ["yes", "no"])
    predict.compare("no")
    predict.score()
    lines = ["You guessed: 1. It is: 2.", "You guessed: right. Just so."]
    assert capsys.readouterr().out.splitlines() == [*lines, "You guessed right: 1 of 2."]


def test_what_came_out_belongs_to_the_newest_question_that_may_have_it(predict, capsys):
    first = predict("Does it move?", ["yes", "no"])
    predict("Which?", ["left", "right"])
    predict.compare("yes")
    assert first.truth == "yes"
    again = predict("And now?", ["yes", "no"])
    predict.compare("no")
    assert (first.truth, again.truth) == ("yes", "no")
    predict("Does it move?", ["yes", "no"]).guess = "yes"  # its cell is run once more
    predict.compare("no")
    assert "You guessed: yes. It is: no." in capsys.readouterr().out


def test_an_answer_may_be_veiled_and_is_told_plainly(predict, capsys):
    predict("How many?", ["1", "2", "3"]).guess = "1"
    predict.compare(veil("2"))
    predict("And now?", ["1", "2", "3"]).guess = "3"
    predict.compare(veil("3"))
    predict.score()
    lines = ["You guessed: 1. It is: 2.", "You guessed: 3. Just so."]
    assert capsys.readouterr().out.splitlines() == [*lines, "You guessed right: 1 of 2."]


def test_a_guess_that_has_not_been_compared_is_not_counted(predict, capsys):
    predict("How many?", ["1", "2"]).guess = "1"
    predict.score()
    assert capsys.readouterr().out == ""


def test_a_click_is_a_guess(predict, monkeypatch):
    shown, made = [], []
    monkeypatch.setattr(IPython.display, "display", lambda data, raw: shown.append(data))
    whole = ipywidgets.RadioButtons
    monkeypatch.setattr(
        ipywidgets, "RadioButtons", lambda **options: made.append(whole(**options)) or made[-1]
    )
    question = predict("How many < 3?", ["1", "2"])
    question._ipython_display_()
    assert made[0].value is None
    made[0].value = "2"
    assert question.guess == "2"
    assert shown[0]["text/plain"] == "Predict: How many < 3?\n  ○ 1\n  ○ 2"
    box = ipywidgets.widgets.widget._instances[shown[0][VIEW]["model_id"]]
    assert box.children[0].value == "<b>Predict:</b> How many &lt; 3?"
    assert box.children[1] is made[0]
    question._ipython_display_()  # shown again, the guess is still there
    assert made[1].value == "2"


@pytest.mark.parametrize("options", [[], ["only one"], ["twice", "twice"]])
def test_a_question_needs_options(predict, options):
    with pytest.raises(ValueError, match="two options or more"):
        predict("How many?", options)


def test_a_cell_may_be_run_without_the_one_that_asks(predict, capsys):
    predict.compare("3")
    predict("How many?", ["1", "2"]).guess = "1"
    predict.compare("3")
    predict.score()
    assert capsys.readouterr().out == ""
