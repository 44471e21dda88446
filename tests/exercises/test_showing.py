"""A counterexample can be compared by eye, and an error is told with its mend."""

import pytest
import torch

from causal_lab.exercises.frame import Exercise
from causal_lab.exercises.outcomes import Outcome
from causal_lab.exercises.rules import hint
from causal_lab.exercises.showing import counterexample, differ_in_kind, show


def shown(due, got, case=(1,), parameters=("x",)):
    return counterexample("f", list(parameters), case, Outcome(due), Outcome(got))


def test_short_values_stand_on_one_line():
    assert shown(2, 1) == "f(1) should give 2, yours gives 1."


def test_nan_infinity_and_rounding_are_shown_plainly():
    values = [float("nan"), -float("inf"), -0.0, 1 / 3, -2.0, 3e-8, 2**-12]
    assert show(values) == "[NaN, −∞, 0, 0.333, −2, 0, 0.000244]"


def test_answers_that_look_alike_are_shown_with_more_digits():
    assert shown(1 / 3, 0.333) == "f(1) should give 0.333333, yours gives 0.333."


def test_a_matrix_stands_on_several_lines_and_what_differs_in_brackets():
    due, got = torch.tensor([[1.0, 0.0], [0.5, 0.5]]), torch.tensor([[1.0, 0.0], [0.25, 0.5]])
    assert shown(due, got, (torch.eye(2), 3), ("q", "n")).splitlines() == [
        "f(q, n) with",
        "    q =  1  0",
        "         0  1",
        "    n = 3",
        "should give    1    0",
        "             0.5  0.5",
        "yours gives     1     0",
        "            [0.25]  0.5",
    ]


def test_a_batch_is_shown_part_by_part():
    lines = shown(torch.zeros(2, 2, 2), torch.zeros(2, 2, 2).index_fill(0, torch.tensor(1), 1.0))
    assert "(1)  0  0" in lines
    assert lines.count("[1][1]") == 2
    pair = shown((torch.ones(2), torch.zeros(2)), (torch.ones(2), torch.ones(2)))
    assert "(0)  1  1" in pair
    assert "(1) [1][1]" in pair


def test_the_smallest_telling_case_is_shown():
    source = "def mask(T):\n    return torch.ones(T, T).triu(1)"
    exercise = Exercise("mask", "easy", 1, [source], [(1,), (2,), (3,)], [])
    # At T = 1 all is wrong, and nothing is learned from it: some is right at T = 2.
    assert "mask(2)" in exercise.diagnose(lambda T: torch.ones(T, T).triu()).text
    # Where nothing is right, four numbers show enough.
    assert "mask(2)" in exercise.diagnose(lambda T: torch.ones(T, T) + 1).text
    # A single number says little of a wrong shape.
    assert "mask(2)" in exercise.diagnose(lambda T: torch.ones(T)).text


@pytest.mark.parametrize(
    ("got", "due", "said"),
    [
        ([2.0, 2.0], torch.ones(2), "The answer must be a floating tensor, yours is a list."),
        (torch.ones(1), torch.ones(2), "Its shape must be (2,), yours is (1,)."),
        (torch.ones(2).long(), torch.ones(2), "a floating tensor, yours is a tensor of integers."),
        (torch.ones(2), torch.ones(2).bool(), "`.bool()`"),
        (torch.ones(2).long(), torch.ones(2).bool(), "`.bool()`"),
        (torch.ones(2), torch.arange(2), "`.long()`"),
        (torch.ones(2) + 0j, torch.ones(2), "`.real`"),
        (torch.ones(2), 0.5, "is a `.sum()` missing"),
        (torch.ones(1), 0.5, "without an axis; yours has shape (1,)."),
        (torch.ones(2).bool(), True, "`.all()`"),
        (1, True, "yes or no"),
        ("2", 2, "must be one number, yours is a text."),
        ({1}, [1], "`sorted(…)`"),
        (torch.ones(1), [1.0], "`.tolist()`"),
        ((torch.ones(1), torch.ones(2)), (torch.ones(1), torch.ones(1)), "Part 2 of 2: Its shape"),
        ([[1]], (torch.ones(1), torch.ones(1)), "`return first, second`"),
        (1, 0.5, ""),
        (torch.tensor(0.5), 0.5, ""),
    ],
)
def test_a_wrong_kind_is_said_in_words(got, due, said):
    words = differ_in_kind(got, due)
    assert said in words
    assert bool(words) == bool(said)


def raised(action):
    try:
        action()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    raise AssertionError("nothing was raised")


MANY, TWO = torch.ones(2, 3), torch.ones(2).bool()


@pytest.mark.parametrize(
    ("action", "said"),
    [
        (lambda: not TWO, "Between masks write `~`"),
        (lambda: MANY.exp() - MANY.max(dim=-1), "take `.values`"),
        (lambda: MANY @ MANY, "A matrix product needs"),
        (lambda: MANY / MANY.sum(-1), "3 against 2"),
        (lambda: torch.cat([MANY, torch.ones(2, 4)]), "`cat` joins along one axis"),
        (lambda: torch.nn.functional.cross_entropy(MANY[None], TWO[None].long()), "cross_entropy"),
        (lambda: torch.zeros(2).long().fill_(float("inf")), "Integers cannot hold ∞"),
        (lambda: 1 - TWO, "Turn them round with `~`"),
        (lambda: MANY.T.view(-1), "use `reshape` or `flatten`"),
        (lambda: MANY.reshape(4), "another number of entries"),
        (lambda: MANY.masked_fill(MANY, 0), "must be boolean"),
        (lambda: [1, 2][torch.tensor(0.5)], "An index is one integer"),
        (lambda: MANY[: (MANY > 0).nonzero()], "take one of them (`[0]`)"),
        (lambda: MANY | MANY, "`.bool()`"),
        (lambda: MANY @ torch.ones(3, 2).double(), "`.float()`"),
        (lambda: torch.ones(2).long().softmax(0), "`.float()`"),
        (lambda: MANY[5], "the last index is the length minus 1"),
        (lambda: MANY.sum(2), "That axis does not exist"),
        (lambda: undefined, "There is no `undefined` here"),  # noqa: F821
        (lambda: max(), "Count them"),
        (lambda: None + 1, "Something that you use is None"),
        (lambda: (0.5).sum(), "`.sum` belongs to tensors"),
        (lambda: MANY.nothing, "There is no `.nothing` here"),
        (lambda: torch.cos(1.0), "wants a tensor"),
        (lambda: MANY.item(), "One number is wanted"),
        (lambda: 1 // 0, "divided by 0"),
    ],
)
def test_a_common_error_is_told_with_its_mend(action, said):
    assert said in hint(raised(action))


def test_a_rare_error_gets_no_guess():
    assert hint("OSError: the disk is full") == ""


def test_an_error_in_the_answer_is_told_with_the_call():
    source = "def half(x):\n    return x / 2"
    exercise = Exercise("half", "easy", 1, [source], [(1,), (2,)], [])
    text = exercise.diagnose(lambda x: x / 0).text
    assert "half(1)\nstopped with ZeroDivisionError: division by zero" in text
    assert "Something is divided by 0." in text
