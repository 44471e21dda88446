"""What an answer did, and when two values are the same."""

import numpy as np
import pytest
import torch

from causal_lab.exercises.outcomes import Outcome, equal, run, same
from tests.exercises.answers import as_cell


def put(x, key, value):
    x[key] = value


@pytest.mark.parametrize(
    ("given", "change", "said"),
    [
        ([1, 2], lambda x: x.append(3), "list"),
        ([1, 2], lambda x: x.reverse(), "list"),
        ([[1], [2]], lambda x: x[1].append(3), "list"),
        ((1, [2]), lambda x: x[1].clear(), "tuple"),
        ([torch.ones(2)], lambda x: x[0].zero_(), "list"),
        ({"a": [1]}, lambda x: x["a"].append(2), "dict"),
        ({"a": 1}, lambda x: put(x, "b", 2), "dict"),
        ({1, 2}, lambda x: x.add(3), "set"),
        ([1.0], lambda x: put(x, 0, float("nan")), "list"),
        ([1], lambda x: put(x, 0, True), "list"),
        (torch.ones(2), lambda x: x.mul_(2), "tensor"),
        (torch.ones(2, 1), lambda x: x.squeeze_(), "tensor"),
        (torch.tensor([1 + 2j]), lambda x: x.conj_physical_(), "tensor"),
    ],
)
def test_whatever_is_changed_in_place_is_noticed(given, change, said):
    kept = repr(given)
    assert run(change, (given,)).changed[0] == said
    assert repr(given) == kept


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
    assert run(lambda x: 0, (given,)).changed is None


def test_an_error_is_told_with_the_line_of_the_learner():
    answer = as_cell("def f(x):\n    y = x + 1\n    return y / 0\n", "f")
    outcome = run(answer, (1,))
    assert outcome.error == "ZeroDivisionError: division by zero"
    assert outcome.line == "return y / 0"
    inside = as_cell("def f(x):\n    return sorted([x], key=lambda y: y.no)\n", "f")
    assert run(inside, (1,)).line == "return sorted([x], key=lambda y: y.no)"
    assert run(lambda x: torch.ones(2) @ torch.ones(3), (1,)).line.startswith("assert run(lambda")


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (True, 1),
        (1.0, True),
        (float("nan"), 0.0),
        ([1, 2], [1]),
        ([1.0], torch.ones(1)),
        ([1.0], np.ones(1)),
        (0.5, 0.5001),
        ("a", "b"),
        (1 + 2j, 1 + 5j),
        (torch.tensor([1 + 2j]), torch.tensor([1 + 5j])),
        (torch.tensor([1 + 2j]), torch.tensor([1.0])),
        (torch.ones(2), torch.ones(2).long()),
        (torch.ones(2), torch.ones(2).bool()),
        (torch.ones(2), torch.ones(2, 1)),
        (0.5, torch.tensor([0.5])),
        ({"a": torch.ones(2)}, {"a": torch.zeros(2)}),
        ({"a": torch.ones(2)}, {"b": torch.ones(2)}),
    ],
)
def test_values_that_differ_are_told_apart(right, wrong):
    assert equal(right, right)
    assert not equal(right, wrong)
    assert not equal(wrong, right)


@pytest.mark.parametrize(
    ("right", "near"),
    [
        (1, 1.0),
        (0.5, torch.tensor(0.5)),
        (0.5, torch.tensor(0.5, requires_grad=True)),
        (0.5, np.float32(0.5)),
        (3, np.int64(3)),
        (3, torch.tensor(3)),
        (True, torch.tensor(True)),
        (True, np.bool_(True)),
        (torch.tensor(0.5), 0.5),
        (torch.ones(2), np.ones(2)),
        (torch.ones(2).long(), torch.ones(2, dtype=torch.int32)),
        (torch.ones(2), torch.ones(2, dtype=torch.float64)),
        ([1, 2], (1, 2)),
        ([0, 1], [np.int64(0), torch.tensor(1)]),
        ((torch.ones(2), torch.ones(1)), [torch.ones(2), np.ones(1)]),
        (1 + 2j, 1 + 2.000001j),
        (torch.tensor([1 + 2j]), torch.tensor([1 + 2.000001j], dtype=torch.complex128)),
        (torch.tensor([complex("nan")]), torch.tensor([complex("nan")])),
        ({"a": torch.ones(2)}, {"a": torch.ones(2) + 1e-6}),
    ],
)
def test_the_same_value_in_another_holder_is_the_same(right, near):
    assert equal(right, near)
    assert equal(near, right)


def test_a_tolerance_may_be_wider():
    assert not equal(1.0, 1.00005)
    assert equal(1.0, 1.00005, 1e-4)


def test_errors_are_compared_by_their_kind():
    assert same(Outcome(error="ValueError: a"), Outcome(error="ValueError: b"))
    assert not same(Outcome(error="ValueError: a"), Outcome(error="TypeError: a"))
    assert not same(Outcome(error="ValueError: a"), Outcome(None))
