"""Every reference is right, every misconception is caught with its own sentence."""

import importlib
import pkgutil

import pytest
import torch

from causal_lab import exercises as package
from causal_lab.exercises.frame import Exercise, Misconception, checker

MODULES = [
    importlib.import_module(f"causal_lab.exercises.{module.name}")
    for module in pkgutil.iter_modules(package.__path__)
    if module.name != "frame"
]
EXERCISES = [exercise for module in MODULES for exercise in module.check.exercises]


def name_of(value):
    return getattr(value, "name", None)


def test_every_notebook_so_far_has_exercises():
    assert {module.__name__.rsplit(".", 1)[1] for module in MODULES} >= {
        "start_here",
        "zero_is_not_nothing",
        "minus_infinity",
        "row_by_row",
        "causal_attention",
        "gpt_or_bert",
        "kv_cache",
        "linear_algebra_of_time",
        "where_am_i",
        "a_zoo_of_masks",
        "masks_that_learn",
    }


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rsplit(".")[-1])
def test_a_notebook_has_two_exercises_or_more(module):
    assert len(module.check.exercises) >= 2


@pytest.mark.parametrize("exercise", EXERCISES, ids=name_of)
def test_an_exercise_is_complete(exercise):
    assert exercise.level in ("easy", "medium", "hard")
    assert 1 <= exercise.minutes <= 15
    assert len(exercise.cases) >= 2
    assert len(exercise.misconceptions) >= 4
    messages = [mistake.message for mistake in exercise.misconceptions]
    assert len(set(messages)) == len(messages)


@pytest.mark.parametrize("exercise", EXERCISES, ids=name_of)
def test_the_reference_is_right(exercise):
    verdict = exercise.check(exercise.reference)
    assert verdict.passed is True, verdict
    assert verdict


@pytest.mark.parametrize("exercise", EXERCISES, ids=name_of)
def test_every_misconception_is_caught_with_its_own_sentence(exercise):
    not_caught = {}
    for mistake in exercise.misconceptions:
        verdict = exercise.check(mistake.wrong)
        if (
            verdict.passed is not False
            or verdict.misconception is not mistake
            or not verdict.text.endswith(mistake.message)
            or "it looks like this" in verdict.text
        ):
            not_caught[mistake.name] = verdict.text
    assert not_caught == {}


def test_a_stub_counts_as_not_attempted():
    for exercise in EXERCISES:
        verdict = exercise.check(lambda *arguments: ...)
        assert verdict.passed is None, exercise.name
        assert not verdict
        assert "not attempted yet" in repr(verdict)


def test_a_forgotten_return_is_named():
    for exercise in EXERCISES:
        verdict = exercise.check(lambda *arguments: None)
        assert verdict.passed is False, exercise.name
        assert "yours gives nothing. Is there a return?" in verdict.text


def double(wrong=()):
    return Exercise("double", "easy", 1, lambda x: 2 * x, [(1,), (2,), (3,)], wrong)


def test_the_smallest_counterexample_is_shown():
    verdict = double().check(lambda x: x * x)
    assert verdict.text == "double: not yet.\ndouble(1) should give 2, yours gives 1."


SQUARE = Misconception("square", "That is the square.", lambda x: x * x)
CUBE = Misconception("cube", "That is the cube.", lambda x: x**3)


def test_a_mistake_that_explains_all_wrong_answers_is_offered_as_a_guess():
    # Right for 2, where the square is right too; wrong like the square for 1, like the cube never.
    answers = {1: 1, 2: 4, 3: 9}
    assert double([SQUARE]).check(answers.get).text.endswith("yours gives 1.\nThat is the square.")
    triple = Exercise("triple", "easy", 1, lambda x: 3 * x, [(1,), (2,), (4,)], [SQUARE, CUBE])
    half_right = {1: 1, 2: 4, 4: 12}
    verdict = triple.check(half_right.get)
    assert verdict.misconception is SQUARE
    assert verdict.text.endswith("Where it goes wrong it looks like this: That is the square.")


def test_one_wrong_answer_alone_is_no_evidence():
    assert double([SQUARE]).check({1: 1, 2: 4, 3: 6}.get).misconception is None


def test_two_mistakes_that_fit_are_not_guessed_between():
    other = Misconception("other", "Something else.", lambda x: x * x if x < 4 else 0)
    triple = Exercise("triple", "easy", 1, lambda x: 3 * x, [(1,), (2,), (4,)], [SQUARE, other])
    assert triple.check({1: 1, 2: 4, 4: 12}.get).misconception is None


def test_answers_that_look_alike_are_shown_with_more_digits():
    exercise = Exercise("third", "easy", 1, lambda: 1 / 3, [()], [])
    assert "should give 0.333333, yours gives 0.333." in exercise.check(lambda: 0.333).text


def test_an_int_for_a_float_is_not_held_against_the_learner():
    exercise = Exercise("half", "easy", 1, lambda: 0.5, [()], [])
    assert exercise.check(lambda: 1).text.endswith("should give 0.5, yours gives 1.")


def test_an_error_in_the_answer_is_told_with_the_call():
    verdict = double().check(lambda x: x / 0)
    assert verdict.passed is False
    assert "double(1) stopped with ZeroDivisionError: division by zero." in verdict.text


def test_half_an_attempt_is_an_attempt():
    verdict = double().check(lambda x: 2 if x == 1 else None)
    assert verdict.passed is False
    assert "double(2) should give 4, yours gives nothing." in verdict.text


def test_a_right_answer_that_changes_its_input_is_not_right():
    exercise = Exercise("twice", "easy", 1, lambda x: 2 * x, [(torch.ones(2),)], [])
    verdict = exercise.check(lambda x: x.mul_(2))
    assert verdict.passed is False
    assert "x.clone()" in verdict.text
    assert exercise.cases[0][0].tolist() == [1.0, 1.0]


def put(x, key, value):
    x[key] = value


@pytest.mark.parametrize(
    ("given", "change", "said"),
    [
        ([1, 2], lambda x: x.append(3), "changes the list it was given"),
        ([1, 2], lambda x: x.reverse(), "changes the list it was given"),
        ([[1], [2]], lambda x: x[1].append(3), "changes the list it was given"),
        ((1, [2]), lambda x: x[1].clear(), "changes the tuple it was given"),
        ([torch.ones(2)], lambda x: x[0].zero_(), "changes the list it was given"),
        ({"a": [1]}, lambda x: x["a"].append(2), "changes the dict it was given"),
        ({"a": 1}, lambda x: put(x, "b", 2), "changes the dict it was given"),
        ({1, 2}, lambda x: x.add(3), "changes the set it was given"),
        ([1.0], lambda x: put(x, 0, float("nan")), "changes the list it was given"),
        ([1], lambda x: put(x, 0, True), "changes the list it was given"),
        (torch.ones(2, 1), lambda x: x.squeeze_(), "changes the tensor it was given"),
        (torch.tensor([1 + 2j]), lambda x: x.conj_physical_(), "changes the tensor it was given"),
    ],
)
def test_whatever_is_changed_in_place_is_noticed(given, change, said):
    exercise = Exercise("nothing", "easy", 1, lambda x: 0, [(given,)], [])

    def answer(x):
        change(x)
        return 0

    verdict = exercise.check(answer)
    assert verdict.passed is False
    assert said in verdict.text
    assert exercise.check(lambda x: 0).passed is True  # the case itself is as it was


@pytest.mark.parametrize(
    "given",
    [
        torch.tensor([float("nan"), 1.0]),
        torch.tensor([complex(float("nan"), 1.0)]),
        [float("nan"), torch.tensor(float("nan"))],
        {"a": (float("nan"), None, "text", b"bytes", {1})},
        torch.tensor([True]),
        object(),
        len,
    ],
)
def test_what_is_left_alone_was_not_changed(given):
    exercise = Exercise("nothing", "easy", 1, lambda x: 0, [(given,)], [])
    assert exercise.check(lambda x: 0).passed is True


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda x: [2.0, 2.0], "The answer must be a floating tensor, yours is a list."),
        (lambda x: x[:1] * 2, "Its shape must be (2,), yours is (1,)."),
        (lambda x: x.long() * 2, "The answer must be a floating tensor, yours is a tensor of"),
        (lambda x: x > 0, "The answer must be a floating tensor, yours is a boolean tensor."),
    ],
)
def test_a_wrong_kind_is_said_in_words(answer, said):
    exercise = Exercise("twice", "easy", 1, lambda x: 2 * x, [(torch.ones(2),)], [])
    assert said in exercise.check(answer).text


def test_a_wrong_kind_of_plain_answer_is_said_in_words():
    assert "must be an int, yours is a str" in double().check(lambda x: "2").text


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (True, 1),
        (1.0, True),
        (float("nan"), 0.0),
        ([1, 2], [1]),
        (0.5, 0.5001),
        ("a", "b"),
        (1 + 2j, 1 + 5j),
        (torch.tensor([1 + 2j]), torch.tensor([1 + 5j])),
        (torch.tensor([1 + 2j]), torch.tensor([1.0])),
        ({"a": torch.ones(2)}, {"a": torch.zeros(2)}),
        ({"a": torch.ones(2)}, {"b": torch.ones(2)}),
    ],
)
def test_values_that_differ_are_told_apart(right, wrong):
    exercise = Exercise("value", "easy", 1, lambda: right, [()], [])
    assert exercise.check(lambda: right).passed is True
    assert exercise.check(lambda: wrong).passed is False


@pytest.mark.parametrize(
    ("right", "near"),
    [
        (1 + 2j, 1 + 2.000001j),
        (torch.tensor([1 + 2j]), torch.tensor([1 + 2.000001j], dtype=torch.complex128)),
        (torch.tensor([complex("nan")]), torch.tensor([complex("nan")])),
        ({"a": torch.ones(2)}, {"a": torch.ones(2) + 1e-6}),
    ],
)
def test_rounding_is_not_held_against_the_learner(right, near):
    exercise = Exercise("value", "easy", 1, lambda: right, [()], [])
    assert exercise.check(lambda: near).passed is True


def test_nan_infinity_and_rounding_are_shown_plainly():
    values = torch.tensor([float("nan"), -float("inf"), -0.0, 1 / 3])
    exercise = Exercise("value", "easy", 1, lambda: torch.zeros(4), [()], [])
    assert "[NaN, −∞, 0, 0.333]" in exercise.check(lambda: values).text


def test_check_finds_the_exercise_by_name():
    def triple(x):
        return 3 * x

    check = checker(double())
    with pytest.raises(ValueError, match="check knows double, not triple"):
        check(triple)
    triple.__name__ = "double"
    assert check(triple).passed is False


def test_check_wants_the_function_not_its_answer():
    with pytest.raises(ValueError, match="the function itself"):
        checker(double())(4)
    with pytest.raises(ValueError, match=r"check\(double\)"):
        double().check(4)


def test_a_complex_answer_is_called_complex():
    def answer(A):
        return torch.linalg.eigvals(A)

    (exercise,) = [exercise for exercise in EXERCISES if exercise.name == "eigenvalues"]
    assert "a complex tensor" in str(exercise.check(answer))
