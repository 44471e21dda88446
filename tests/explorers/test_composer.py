"""ComposerExplorer: masks by their rules, combined cell by cell, and the words under them."""

import pytest

from causal_lab.explorers import ComposerExplorer
from causal_lab.explorers.composer import OPERATORS
from causal_lab.explorers.menu import CAUSAL, MASKS, NO_MASK
from tests.builders import move

# Whether query i may look at key j of T, with the size n.
ALLOWED = {
    CAUSAL: lambda i, j, n, T: j <= i,
    NO_MASK: lambda i, j, n, T: True,
    "window of n": lambda i, j, n, T: 0 <= i - j < n,
    "window of n and a sink": lambda i, j, n, T: 0 <= i - j < n or j == 0,
    "in steps of n": lambda i, j, n, T: j <= i and (i - j) % n == 0,
    "blocks of n": lambda i, j, n, T: j <= i and (i // n == j // n or j % n == n - 1),
    "prefix of n": lambda i, j, n, T: j <= i or j < n,
    "documents of n": lambda i, j, n, T: i // n == j // n,
    "n of padding": lambda i, j, n, T: j >= min(n, T),
    "passages of n": lambda i, j, n, T: j <= i and (i // n == j // n or i // n == (T - 1) // n),
    "image, n wide": lambda i, j, n, T: j <= i and (i // n == j // n or i % n == j % n),
}
COMBINED = {  # of two that are blocked or not
    "A | B": lambda a, b: a or b,
    "A & B": lambda a, b: a and b,
    "A": lambda a, b: a,
    "~A": lambda a, b: not a,
    "A & ~B": lambda a, b: a and not b,
    "~(~A | ~B)": lambda a, b: not (not a or not b),
}


def table(name, T, n):
    return [[not ALLOWED[name](i, j, n, T) for j in range(T)] for i in range(T)]


def reach(blocked, layers):
    T = len(blocked)
    there = [{i} for i in range(T)]
    for _ in range(layers):
        old = [set(known) for known in there]
        for i in range(T):
            there[i].update(*(old[j] for j in range(T) if not blocked[i][j]))
    return sum(map(len, there)) / T**2


def words(blocked, layers):
    T = len(blocked)
    share = sum(map(sum, blocked)) / T**2
    ahead = sum(not blocked[i][j] for i in range(T) for j in range(i + 1, T))
    dead = sum(map(all, blocked))
    pairs = "1 pair sees" if ahead == 1 else f"{ahead} pairs see"
    queries = "1 query sees" if dead == 1 else f"{dead} queries see"
    stack = "1 layer reaches" if layers == 1 else f"{layers} layers reach"
    return (
        f"{share:.0%} blocked; {pairs} the future (framed); {queries} nothing (marked); "
        f"{stack} {reach(blocked, layers):.0%} of all pairs"
    )


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("first", MASKS)
def test_the_third_mask_is_the_first_two_combined(first, operator):
    explorer = move(ComposerExplorer(), first=first, operator=operator)
    for second, T, sizes, layers in [
        ("documents of n", 12, (3, 4), 2),
        ("n of padding", 5, (2, 1), 1),
        (CAUSAL, 2, (12, 12), 6),
        (first, 1, (1, 1), 1),
        ("passages of n", 24, (5, 7), 3),
    ]:
        move(explorer, second=second, T=T, layers=layers)
        move(explorer, first_size=sizes[0], second_size=sizes[1])
        a, b = table(first, T, sizes[0]), table(second, T, sizes[1])
        both = [[COMBINED[operator](a[i][j], b[i][j]) for j in range(T)] for i in range(T)]
        one, two, three = explorer.picture.panels
        assert one.blocked.tolist() == a
        assert three.blocked.tolist() == both
        leaks = [[int(j > i and not both[i][j]) for j in range(T)] for i in range(T)]
        assert three.frames.tolist() == leaks
        assert three.rows == tuple(i for i in range(T) if all(both[i]))
        assert explorer.picture.caption == words(both, layers)
        if "B" in operator:
            assert (two.blocked.tolist(), two.absent) == (b, None)
        else:
            assert two.absent.all()
            assert two.blocked.tolist() == [[0] * T] * T


def test_titles_name_the_sizes_and_the_operator():
    explorer = ComposerExplorer(T=4, operator="A & B", second_size=2)
    assert [panel.title for panel in explorer.picture.panels] == [
        "A: window of 5",
        "B: documents of 2",
        "A & B",
    ]
    assert explorer.picture.caption == (
        "25% blocked; 2 pairs see the future (framed); 0 queries see nothing (marked); "
        "2 layers reach 75% of all pairs"
    )
    move(explorer, operator="A | B", second="n of padding", second_size=1, layers=1)
    assert "0 pairs see the future (framed); 1 query sees nothing (marked); 1 layer reaches" in (
        explorer.picture.caption
    )
    move(explorer, operator="~A")
    assert explorer.picture.panels[1].title == "B: not asked"


@pytest.mark.parametrize(
    ("values", "idle"),
    [
        ({}, set()),
        ({"first": CAUSAL, "operator": "A"}, {"first_size", "second", "second_size"}),
        ({"second": NO_MASK}, {"second_size"}),
    ],
)
def test_a_control_that_changes_nothing_is_greyed_out(values, idle):
    explorer = move(ComposerExplorer(), **values)
    values, before = explorer.values(), explorer.picture.message()
    assert explorer.unused(**values) == idle
    others = {"first_size": 2, "second": CAUSAL, "second_size": 7}
    for name, other in others.items():
        same = explorer.compute(**values | {name: other}).message() == before
        assert same == (name in idle)


@pytest.mark.parametrize("T", [0, 25, 2.5, "8"])
def test_a_composition_out_of_range_is_refused(T):
    with pytest.raises(ValueError, match="T must lie between 1 and 24"):
        ComposerExplorer(T=T)
