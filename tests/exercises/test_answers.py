"""Fresh answers: what is right is accepted, what is wrong is not, and most of it is explained."""

from collections import Counter

import pytest

from tests.exercises.answers import ANSWERS, EXERCISES, read


@pytest.mark.parametrize("name", EXERCISES)
def test_right_answers_are_accepted_and_wrong_ones_are_not(name):
    mine = [answer for answer in ANSWERS if answer.exercise == name]
    assert Counter(answer.kind == "wrong" for answer in mine)[True] >= 14
    for answer in mine:
        accepted = EXERCISES[name].accepts(answer.function())
        assert accepted == (answer.kind != "wrong"), f"{answer.belief}\n{answer.source}"


def test_the_halves_are_as_large_as_they_are_said_to_be():
    counts = Counter((answer.half, answer.kind) for answer in ANSWERS)
    assert counts["first", "wrong"] + counts["first", "fine"] == 350
    assert counts["second", "wrong"] == 175
    assert counts["first", "right"] + counts["second", "right"] == 210


def test_few_wrong_answers_get_a_counterexample_and_no_more():
    """Whether a sentence fits no test can say: they were scored one by one (docs/teaching.md)."""
    wrong = [answer for answer in read("second") if answer.kind == "wrong"]
    layers = Counter()
    for answer in wrong:
        verdict = EXERCISES[answer.exercise].diagnose(answer.function())
        assert verdict.passed is False
        # A word on the kind of value, or on what was changed in place, is an explanation, too.
        said = "must be" in verdict.text or "answers are right, but" in verdict.text
        layers[verdict.layer or ("kind" if said else "none")] += 1
    assert layers["known"] >= 70
    assert layers["neighbour"] + layers["two slips"] + layers["composed"] >= 20
    assert layers["none"] <= 0.12 * len(wrong)
