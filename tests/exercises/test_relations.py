"""What came is told by what was due: as a whole, by its place, or by the cases that go wrong."""

import math

import pytest
import torch

from causal_lab.exercises.frame import Exercise
from causal_lab.exercises.relations import (
    place,
    relation,
    unseen,
    which_cases,
)

X = [torch.arange(6.0).reshape(2, 3) + 1, torch.arange(12.0).reshape(3, 4) ** 2]
ROW = [torch.tensor([3.0, 1.0, 2.0]), torch.tensor([1.0, 5.0, 0.0, 2.0])]


@pytest.mark.parametrize(
    ("change", "due", "said"),
    [
        (lambda x: x.T, X, "transposed"),
        (lambda x: x.flip(0), X, "back to front along the rows"),
        (lambda x: x.flip(1), X, "back to front along the columns"),
        (lambda x: x.roll(1, 0), X, "moved one place later along the rows"),
        (lambda x: x.roll(-1, 1), X, "moved one place earlier along the columns"),
        (lambda x: x[:-1], X, "without the last one along the rows"),
        (lambda x: x[:, 1:], X, "without the first one along the columns"),
        (lambda x: x[-1], X, "cut down to the last one along the rows"),
        (lambda x: x[None], X, "an axis of length 1 too many"),
        (lambda x: x.sort().values, ROW, "in another order"),
        (lambda x: x.double().exp(), X, "after an exponential"),
        (lambda x: x.sum(0), X, "One step too far: you give the sum along the rows"),
        (lambda x: x / 2, X, "the right one times 0.5"),
        (lambda x: x / math.log(2), X, "as if in bits"),
        (lambda x: -x, X, "the sign is exchanged"),
        (lambda x: x + 3, X, "3 too large"),
        (lambda x: x - 3, X, "3 too small"),
        (lambda x: x * 0 + 7, X, "You give 7 everywhere."),
        (lambda x: (x, 0), X, "return it alone"),
        (lambda x: x.tolist(), X, "The numbers are right; what holds them is not."),
        (lambda x: x * x + 100, X, ""),
    ],
)
def test_a_relation_is_found(change, due, said):
    words = relation([change(x) for x in due], due)
    assert said in words if said else not words


def test_a_last_step_may_be_missing():
    assert "the sum along the columns of what you return" in relation(X, [x.sum(1) for x in X])


def test_an_axis_has_the_name_that_the_exercise_gives_it():
    assert "along the query" in relation([x.flip(0) for x in X], X, ("query", "key"))


def test_a_mask_may_hold_something_else_in_the_right_places():
    masks = [torch.ones(n, n).triu(1).bool() for n in (2, 3)]
    words = relation([mask.float() * 5 for mask in masks], masks)
    assert words == "Where 1 belongs, yours has 5. The pattern is right."
    assert "True and False exchanged" in relation([~m for m in masks], masks) or "Where 0" in (
        relation([~m for m in masks], masks)
    )


def test_it_must_hold_in_every_case():
    assert not relation([X[0].T, X[1] * 3 + 1], X)


def test_the_parts_of_a_pair_are_told_apart():
    due = [(x, x + 1) for x in X]
    words = relation([(x, x.flip(0) + 1) for x in X], due)
    assert words == "Part 2 of 2 is wrong. You have the right answer back to front along the rows."
    assert not relation([(x, x * x) for x in X], due)


def of(source, cases):
    return Exercise("f", "easy", 1, [source], cases, [])


def test_an_argument_that_is_never_looked_at_is_told():
    leak = of("def f(T, t):\n    return (T - t) / T", [(2, 1), (3, 1), (3, 2), (5, 1)])
    assert "does not depend on `t`" in unseen(lambda T, t: T + 0.5, leak)
    assert "does not depend on `T`" in unseen(lambda T, t: t, leak)
    assert "the same answer, whatever numbers" in unseen(lambda T, t: 7, leak)
    assert unseen(lambda T, t: T - t, leak) == ""


def test_one_exchange_is_no_evidence_that_an_argument_is_not_looked_at():
    product = of("def f(a, b):\n    return a * b", [(0, 1), (5, 2)])
    assert unseen(lambda a, b: a, product) == ""


def test_the_cases_that_go_wrong_are_told_by_what_they_have_in_common():
    cases = [
        (torch.ones(2, 2), 1),
        (torch.ones(3, 3), 2),
        (torch.ones(2, 5), 1),
        (torch.ones(1, 4), 1),
    ]
    words = which_cases(cases, [2, 3], ["q", "n"])
    assert words.endswith("only those are right where q is square.")
    assert not which_cases(cases, [0, 1, 2, 3], ["q", "n"])
    assert not which_cases(cases, [0, 2], ["q", "n"])
    words = [(["a", "b"],), (["a", "a"],)]
    assert "something stands in x twice" in which_cases(words, [1], ["x"])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda x: x.fill_diagonal_(9), "on the diagonal"),
        (lambda x: x + torch.ones(4, 4).triu(1), "above the diagonal"),
        (lambda x: x + torch.ones(4, 4).triu(1).tril(1), "just above the diagonal"),
        (lambda x: x + torch.ones(4, 4).tril(-1), "below the diagonal"),
        (lambda x: x.index_fill(0, torch.tensor(1), 9.0), "after the first row"),
        (lambda x: x.index_fill(1, torch.tensor(2), 9.0), "after the first column"),
        (lambda x: x.masked_fill(x == 1, torch.nan), "where yours is NaN"),
    ],
)
def test_the_place_of_what_is_wrong_is_told(spoil, said):
    due = torch.arange(16.0).reshape(4, 4)
    words = place([spoil(due.clone())], [due], ("query", "key"))
    assert said in words
    assert not place([due + 1], [due], ("query", "key"))


def test_a_place_holds_in_every_case_and_is_not_all_of_it():
    due = [torch.arange(4.0).reshape(1, 4), torch.arange(16.0).reshape(4, 4)]
    first = [torch.tensor([[9.0, 1.0, 2.0, 3.0]]), due[1]]
    assert place(first, due, ("query", "key")) == "All that is wrong stands on the diagonal."
    assert not place([first[0], due[1] + 1], due, ("query", "key"))
    assert not place([due[0] + 1, due[1]], due)  # "in the first row" of a single row


def test_a_matrix_of_values_has_no_diagonal_to_speak_of():
    due = torch.arange(16.0).reshape(4, 4)
    assert "diagonal" not in (place([due + torch.eye(4)], [due]))
