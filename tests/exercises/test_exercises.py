"""Every solution is right, every misconception has its own sentence, hints come one by one."""

import ast

import pytest
import torch

from causal_lab.exercises.frame import Exercise, Misconception, checker
from tests.exercises.answers import EXERCISES, MODULES, as_cell

ALL = EXERCISES.values()


def name_of(value):
    return getattr(value, "name", None)


def test_every_notebook_so_far_has_exercises():
    assert len(MODULES) >= 11
    assert all(len(module.check.exercises) >= 2 for module in MODULES)


@pytest.mark.parametrize("exercise", ALL, ids=name_of)
def test_an_exercise_is_complete(exercise):
    assert exercise.level in ("easy", "medium", "hard")
    assert 1 <= exercise.minutes <= 15
    assert len(exercise.cases) >= 2
    assert len(exercise.misconceptions) >= 2
    messages = [mistake.message for mistake in exercise.misconceptions]
    assert len(set(messages)) == len(messages)
    assert not [message for message in messages if " _" in message or "(_" in message]


@pytest.mark.parametrize("exercise", ALL, ids=name_of)
def test_every_solution_is_right(exercise):
    for program in exercise.programs:
        verdict = exercise.diagnose(program.function)
        assert verdict.passed is True, verdict
        assert verdict
        assert exercise.accepts(program.function)


@pytest.mark.parametrize("exercise", ALL, ids=name_of)
def test_every_misconception_is_caught_with_its_own_sentence(exercise):
    not_caught = {}
    for mistake in exercise.misconceptions:
        verdict = exercise.diagnose(mistake.wrong)
        own = verdict.misconception is mistake and verdict.hints[-1] == mistake.message
        if verdict.passed is not False or not own:
            not_caught[mistake.name] = verdict.text
    assert not_caught == {}


def test_a_stub_counts_as_not_attempted():
    for exercise in ALL:
        verdict = exercise.diagnose(lambda *arguments: ...)
        assert verdict.passed is None, exercise.name
        assert not verdict
        assert "not attempted yet" in repr(verdict)


def test_a_forgotten_return_is_named():
    for exercise in ALL:
        verdict = exercise.diagnose(lambda *arguments: None)
        assert verdict.passed is False, exercise.name
        assert "yours gives nothing. Is there a return?" in verdict.text


def test_half_an_attempt_is_an_attempt():
    verdict = double().diagnose(lambda x: 2 if x == 1 else None)
    assert verdict.passed is False
    assert "yours gives nothing." in verdict.text


def double(wrong=(), **more):
    source = "def double(x):\n    return 2 * x"
    return Exercise("double", "easy", 1, [source], [(1,), (3,), (4,), (5,), (7,)], wrong, **more)


CUBE = Misconception("cube", "That is the cube.", lambda x: x**3)


def test_a_sign_betrays_a_misconception_whatever_else_is_wrong():
    odd = Misconception("odd", "An even number is due.", lambda x: 2 * x + 1, lambda a, b: a % 2)
    verdict = double([odd]).diagnose(lambda x: 2 * x * x + 13)
    assert verdict.hints[-1] == "An even number is due."
    assert verdict.misconception is odd
    assert double([odd]).diagnose(lambda x: "text").misconception is None  # the sign cannot say


def test_what_changes_its_input_is_told_so_even_if_its_values_are_a_misconceptions():
    def first_and_more(x):
        x.append(7)
        return x[0]

    source = "def total(x):\n    return sum(x)"
    first = Misconception("first", "You take the first.", lambda x: x[0])
    exercise = Exercise("total", "easy", 1, [source], [([1, 2],), ([3, 5, 4],), ([0, 2],)], [first])
    verdict = exercise.diagnose(first_and_more)
    assert verdict.layer == "changed"
    assert "You write into the list that you were given" in verdict.hints[-1]
    assert exercise.diagnose(lambda x: x[0]).misconception is first


def test_what_is_right_by_what_is_forbidden_is_not_accepted():
    exercise = double(forbidden={"sum": "not by sum."})
    assert exercise.diagnose(lambda x: x + x).passed is True
    verdict = exercise.diagnose(lambda x: next(sum([y, y]) for y in [x]))
    assert verdict.text == "double: the answers are right, but not by sum."
    assert not exercise.accepts(lambda x: sum([x, x]))
    assert exercise.diagnose(lambda x: sum([x])).hints[-1] == "Besides, not by sum."


def test_gradients_of_nan_are_noticed_where_the_lesson_is_about_them():
    def root(x):
        return torch.where(x > 0, x.sqrt(), 0.0)  # right at 0, and its gradient there is 0 · ∞

    source = "def root(x):\n    return x.clamp(min=1e-30).sqrt() * (x > 0)"
    for compared in (True, False):
        exercise = Exercise(
            "root",
            "easy",
            1,
            [source],
            [(torch.tensor([0.0, 4.0]),)],
            [],
            compare_gradients=compared,
        )
        assert exercise.accepts(root) is not compared
    assert "gradients are not: some are NaN" in exercise_of(source).diagnose(root).text


def test_gradients_that_differ_are_noticed_too():
    exercise = exercise_of("def root(x):\n    return x.clamp(min=1e-30).sqrt() * (x > 0)")
    assert exercise.accepts(lambda x: x.clamp(min=1e-30) ** 0.5 * (x > 0))
    half_cut = exercise.diagnose(lambda x: (x.clamp(min=1e-30).sqrt() + x.detach() - x) * (x > 0))
    assert half_cut.passed is False  # 2 + 4 - 4 at 4: the value is right
    assert "cut out of the graph" in half_cut.text


def test_an_answer_without_a_graph_has_no_gradients_to_compare():
    exercise = exercise_of("def root(x):\n    return x.clamp(min=1e-30).sqrt() * (x > 0)")
    assert exercise.accepts(lambda x: torch.tensor([value**0.5 for value in x.tolist()]))
    assert not exercise.accepts(lambda x: x.sqrt_())  # in place; told by the change, not here


def test_what_is_forbidden_is_found_in_inner_functions_too():
    def root(x):
        def inner(y):
            return y.sqrt()

        return torch.stack([inner(y) for y in x])

    exercise = double(forbidden={"sqrt": "no."})
    assert exercise.forbidden_in(root) == "no."
    assert exercise.forbidden_in(lambda x: x**0.5) == ""
    assert exercise.forbidden_in(len) == ""


def exercise_of(source):
    return Exercise(
        "root", "easy", 1, [source], [(torch.tensor([0.0, 4.0]),)], [], compare_gradients=True
    )


# --- hints by degrees


def wrong_by_a_step(name):
    return as_cell("def double(x):\n    return 2 * (x + 1)\n", name)


def test_the_same_answer_gets_one_hint_more():
    check = checker(double())
    answer = wrong_by_a_step("double")
    full = double().diagnose(answer).hints
    assert len(full) >= 2
    for degree in (*range(1, len(full) + 1), len(full)):
        more = ("Check it again as it is for a hint.",) if degree < len(full) else ()
        assert check(answer).hints == full[:degree] + more


def test_another_answer_starts_again_and_so_does_a_right_one():
    check = checker(double())
    first = check(wrong_by_a_step("double"))
    check(wrong_by_a_step("double"))
    check(as_cell("def double(x):\n    return x ** 2 + 50\n", "double"))
    assert check(wrong_by_a_step("double")).text == first.text
    assert check(as_cell("def double(x):\n    return x + x\n", "double")).passed is True
    assert check(wrong_by_a_step("double")).text == first.text


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
        double().diagnose(4)


# --- nobody sees what is not his


def test_no_private_name_is_printed():
    """Helpers of the exercises and of the frame stay behind the curtain."""
    for exercise in ALL:
        for mistake in exercise.misconceptions:
            text = exercise.diagnose(mistake.wrong).text
            line = text.partition("in the line\n")[2].partition("\n")[0]  # the learner's own
            words = {word.strip("`.,(){}[]=:") for word in text.replace(line, "").split()}
            assert not {word for word in words if word.startswith("_") and word != "_"}, text


def test_solutions_are_whole_functions_of_the_exercise():
    for exercise in ALL:
        for program in exercise.programs:
            assert isinstance(program.tree, ast.FunctionDef)
            assert program.tree.name == exercise.name
