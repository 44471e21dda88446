"""Slips are rules on the solution's tree, and a neighbour is named only if it behaves the same."""

import ast
import random

import pytest
import torch

from causal_lab.exercises.explain import LEAD, Trial, explain
from causal_lab.exercises.frame import Exercise, Misconception
from causal_lab.exercises.neighbours import ROUNDS, Program, fill, match, parse, rebuild, rules
from causal_lab.exercises.outcomes import equal, run, same
from tests.exercises.answers import EXERCISES, as_cell


def neighbour(source, told, *arguments):
    """Run the one neighbour of a function whose sentence begins so."""
    program = Program.of(source)
    found = [one for one in program.neighbours if one.slip[-1].startswith(told)]
    assert found, [one.slip[-1] for one in program.neighbours]
    return found[0].function(*arguments)


ONES = torch.ones(3, 3)
SQUARE = torch.arange(9.0).reshape(3, 3)


@pytest.mark.parametrize(
    ("body", "told", "given", "becomes"),
    [
        ("x.triu(1)", "the triangle begins one diagonal too high", ONES, ONES.triu(2)),
        ("x.triu(1)", "the triangle begins one diagonal too low", ONES, ONES.triu(0)),
        ("x.triu(1)", "the lower triangle stands", ONES, ONES.tril(1)),
        ("x.tril()", "the triangle begins one place lower", ONES, ONES.tril(-1)),
        ("x.sum(-1)", "sum goes along axis 0", SQUARE, SQUARE.sum(0)),
        ("torch.softmax(x, dim=-1)", "softmax goes along axis 0", SQUARE, SQUARE.softmax(0)),
        ("x / x.sum(-1, keepdim=True)", "`keepdim=True` is missing", ONES, ONES / 3),
        ("x / x.shape[-1] ** 0.5", "the division is by `x.shape[-1]`", ONES, ONES / 3),
        ("x / x.shape[-1] ** 0.5", "nothing is divided by", ONES, ONES),
        ("~(x > 1)", "a `~` is missing", SQUARE, SQUARE > 1),
        ("x > 4", "equality is let in", SQUARE, SQUARE >= 4),
        ("x > 4", "the comparison with 4 is turned round", SQUARE, SQUARE < 4),
        ("x + 1", "1 is subtracted instead of added", ONES, ONES - 1),
        ("x + 1", "1 is not added", ONES, ONES),
        ("x @ x.T", "a transpose is missing", SQUARE, SQUARE @ SQUARE),
        ("x[:2]", "a slice ends one place too late", SQUARE, SQUARE[:3]),
        ("x[1:]", "what comes before 1 is taken", SQUARE, SQUARE[:1]),
        ("x.masked_fill(x > 4, float('-inf'))", "zeros stand where −∞", ONES, ONES),
        ("x.cumsum(0)", "the sum runs from the end", ONES, ONES.cumsum(0).flip(0)),
        ("torch.cat([x, 2 * x])", "`2 * x` is put before `x`", ONES, torch.cat([2 * ONES, ONES])),
    ],
)
def test_a_slip_does_what_its_sentence_says(body, told, given, becomes):
    assert equal(neighbour(f"def f(x):\n    return {body}", told, given), becomes)


@pytest.mark.parametrize(
    ("source", "told", "given", "becomes"),
    [
        ("y = x.clone()\n    y[0] += 1\n    return y", "a column is changed", (ONES,), None),
        ("return [i for i in range(x)]", "the count begins at 1", (4,), [1, 2, 3]),
        ("return [i for i in range(x)]", "the count runs backwards", (3,), [2, 1, 0]),
        ("return [i for i in range(x)]", "only the first round", (3,), [0]),
        ("y = x + 1\n    return 2 * y", "a step is missing, that with `x + 1`", (3,), None),
        ("y = x + 1\n    return 2 * y", "the last step is missing: `x + 1`", (3,), 4),
    ],
)
def test_statements_and_loops_slip_too(source, told, given, becomes):
    source = f"def f(x):\n    {source}"
    if "a step is missing" in told:
        with pytest.raises(NameError):
            neighbour(source, told, *given)
        return
    result = neighbour(source, told, *given)
    if becomes is None:
        becomes = ONES.clone()
        becomes[:, 0] += 1
    assert equal(result, becomes)


def test_arguments_are_exchanged_and_names_mixed_up():
    source = "def f(a, b):\n    return a - 2 * b"
    assert neighbour(source, "`a` and `b` are exchanged", 5, 1) == 1 - 10
    assert neighbour(source, "`b` stands where `a` belongs", 5, 1) == -1


def test_a_number_and_the_minus_before_it_are_one():
    assert neighbour("def f(x):\n    return x * -3", "one more than −3 stands", 5) == 5 * -2
    assert neighbour("def f(x):\n    return x * -3", "the sign of −3 is exchanged", 5) == 5 * 3


def test_a_loop_that_a_slip_makes_endless_ends():
    source = "def f(x):\n    while x > 0:\n        x = x - 1\n    return x"
    assert Program.of(source).function(ROUNDS // 2) == 0
    with pytest.raises(RuntimeError, match="does not end"):
        neighbour(source, "1 is added instead of subtracted", 1)


def test_every_rule_can_be_read_and_does_something():
    told = [rule for same_root in rules().values() for rule in same_root]
    assert len(told) > 200
    for pattern, new, sentence in told:
        assert ast.dump(pattern) != ast.dump(new)
        assert sentence
        assert sentence == sentence.strip()
        assert not sentence.endswith(".")


def test_a_letter_stands_for_the_same_thing_everywhere():
    assert match(parse("X + X"), parse("a[0] + a[0]"), {})
    assert not match(parse("X + X"), parse("a[0] + a[1]"), {})
    assert not match(parse("X.F(N)"), parse("x.triu(1)"), {})  # F goes along an axis
    assert not match(parse("X.F(N)"), parse("torch.sum(x)"), {})  # a module is no expression
    found = {}
    assert match(parse("X.sum(N, *R)"), parse("y.sum(0, keepdim=True)"), found)
    assert ast.unparse(fill(parse("X.mean(N, *R)"), found)) == "y.mean(0, keepdim=True)"


def test_a_tree_is_copied_only_where_it_changes():
    tree = ast.parse("f(a) + g(b)")
    a, g = tree.body[0].value.left.args[0], tree.body[0].value.right
    other = rebuild(tree, lambda one: ast.Name("z", ast.Load()) if one is a else None)
    assert ast.unparse(other) == "f(z) + g(b)"
    assert ast.unparse(tree) == "f(a) + g(b)"
    assert other.body[0].value.right is g
    assert rebuild(tree, lambda one: None) is tree


# --- used in an exercise


def exercise(source, cases, wrong=()):
    name = source.split("(")[0].removeprefix("def ")
    return Exercise(name, "easy", 1, [source], cases, wrong)


def test_one_slip_and_two_are_named():
    normal = exercise(
        "def normal(x):\n    kept = x.tril()\n    return kept / kept.sum(-1, keepdim=True)",
        [(SQUARE + 1,), (torch.arange(4.0).reshape(2, 2) + 1,)],
    )
    one = normal.diagnose(lambda x: x.tril() / x.tril().sum(0, keepdim=True))
    assert one.layer == "neighbour"
    assert one.hints[-1].startswith(LEAD + "sum goes along axis 0")
    two = normal.diagnose(lambda x: x.triu() / x.triu().sum(0, keepdim=True))
    assert two.layer == "two slips"
    assert "sum goes along axis 0" in two.hints[-1]
    assert "the upper triangle stands where the lower one belongs" in two.hints[-1]


def test_a_misconception_with_a_slip_is_named_by_both():
    mistake = Misconception("bits", "You count in bits.", lambda p: -(p * p.log2()).sum(-1))
    entropy = exercise(
        "def entropy(p):\n    return torch.special.entr(p).sum(-1)",
        [(torch.tensor([[0.5, 0.5], [0.2, 0.8]]),), (torch.tensor([[0.1, 0.9], [0.3, 0.7]]),)],
        [mistake],
    )
    verdict = entropy.diagnose(lambda p: -(p * p.log2()).sum(0))
    assert verdict.layer == "composed"
    assert verdict.misconception is mistake
    assert verdict.hints[-1].startswith("You count in bits. Besides, it is as if sum goes along ax")


def test_of_slips_that_behave_alike_the_one_most_like_the_code_is_named():
    half = exercise("def half(x):\n    return x * 2 / 4", [(2.0,), (4.0,), (6.0,)])
    for body, said in (("x * 2", "nothing is divided by 4"), ("x * 2 / 1", "1 stands where 4")):
        assert said in half.diagnose(as_cell(f"def half(x):\n    return {body}\n", "half")).text


@pytest.mark.parametrize("name", EXERCISES)
def test_a_named_neighbour_never_contradicts_the_counterexample(name):
    """Whatever sentence a neighbour gets, the slip that it names gives the very values shown."""
    one, draw = EXERCISES[name], random.Random(name)
    slips = [slip for program in one.programs for slip in program.neighbours]
    for slip in draw.sample(slips, min(3, len(slips))):
        function = slip.function
        if function is None or one.accepts(function):
            continue
        trial = Trial(one, function)
        layer, sentence, mistake = explain(trial)
        if layer == "neighbour":
            told = sentence.removeprefix(LEAD).removesuffix(".")
            shown = trial.got[trial.telling]
            named = [other.function for other in slips if other.slip[-1] == told]
            values = [run(other, one.cases[trial.telling]) for other in named if other]
            assert any(same(value, shown) for value in values), (told, shown)
        elif mistake:
            assert mistake.message in sentence
