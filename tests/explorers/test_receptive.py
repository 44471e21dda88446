"""ReceptiveExplorer: reach by walking from look to look, and the words under it."""

import numpy as np
import pytest

from causal_lab.explorers import ReceptiveExplorer
from causal_lab.explorers.menu import BLOCKS, CAUSAL, IMAGE, SINK, WINDOW
from causal_lab.explorers.receptive import DILATED, DOUBLING, LOCAL_GLOBAL, PATTERNS
from tests.builders import move

# Whether query i may look at key j, in a layer counted from 1, with a window n and a dilation d.
RULES = {
    WINDOW: lambda i, j, layer, n, d: i - j < n,
    SINK: lambda i, j, layer, n, d: i - j < n or j == 0,
    DILATED: lambda i, j, layer, n, d: (i - j) % d == 0 and i - j < n * d,
    DOUBLING: lambda i, j, layer, n, d: i - j in [m * 2 ** (layer - 1) for m in range(n)],
    LOCAL_GLOBAL: lambda i, j, layer, n, d: i - j < n or layer in (4, 8),
    BLOCKS: lambda i, j, layer, n, d: i // n == j // n or j % n == n - 1,
    IMAGE: lambda i, j, layer, n, d: i // n == j // n or i % n == j % n,
    CAUSAL: lambda i, j, layer, n, d: True,
}


def sees(pattern, T, layer, n, d):
    rule = RULES[pattern]
    return np.array([[j <= i and rule(i, j, layer, n, d) for j in range(T)] for i in range(T)])


def walk(pattern, T, layers, n, d):
    """After how many layers each token is there, one dictionary per output."""
    there = [{i: 0} for i in range(T)]
    for layer in range(1, layers + 1):
        look = sees(pattern, T, layer, n, d)
        before = [set(known) for known in there]
        for i in range(T):
            for j in np.flatnonzero(look[i]):
                for token in before[j]:
                    there[i].setdefault(token, layer)
    return there


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(
    ("T", "layers", "shown", "n", "d"), [(1, 1, 1, 1, 1), (13, 2, 2, 3, 2), (21, 5, 4, 2, 3)]
)
def test_the_field_is_where_one_can_walk_to(pattern, T, layers, shown, n, d):
    explorer = ReceptiveExplorer(
        T=T, layers=layers, pattern=pattern, window=n, dilation=d, shown=shown, output=T // 2
    )
    mask, field = explorer.picture.panels
    assert (~sees(pattern, T, shown, n, d)).tolist() == (mask.blocked > 0).tolist()
    there = walk(pattern, T, layers, n, d)
    cells = [[there[i].get(j, 0) for j in range(T)] for i in range(T)]
    assert field.cells.tolist() == cells
    assert field.blocked.tolist() == [[j not in there[i] for j in range(T)] for i in range(T)]
    assert field.levels == tuple("012345678")
    assert field.names == ("output", "token", "layers needed")
    assert mask.rows == field.rows == (T // 2,)
    assert not field.frames.any()
    count = len(there[T // 2])
    assert explorer.picture.caption.startswith(f"output {T // 2} hangs on {count} of {T} tokens: ")


@pytest.mark.parametrize(
    ("values", "caption"),
    [
        ({}, "output 31 hangs on 10 of 32 tokens: 22 to 31; in a long text: 1 + 3 · (4 − 1) = 10"),
        (
            {"pattern": DOUBLING, "T": 64},
            "output 63 hangs on 22 of 64 tokens: 42 to 63; "
            "in a long text: 1 + (4 − 1) · (2^3 − 1) = 22",
        ),
        ({"pattern": SINK, "output": 20}, "output 20 hangs on 11 of 32 tokens: 0, 11 to 20"),
        ({"pattern": CAUSAL, "output": 0}, "output 0 hangs on 1 of 32 tokens: 0"),
        (
            {"pattern": LOCAL_GLOBAL},
            "output 31 hangs on 10 of 32 tokens: 22 to 31; in a long text: 1 + 3 · (4 − 1) = 10",
        ),
        ({"pattern": LOCAL_GLOBAL, "layers": 4}, "output 31 hangs on 32 of 32 tokens: 0 to 31"),
        (
            {"dilation": 2},
            "output 31 hangs on 10 of 32 tokens: …, 17, 19, 21, 23, 25, 27, 29, 31; "
            "in a long text: 1 + 3 · (4 − 1) = 10",
        ),
    ],
)
def test_the_caption_names_the_tokens(values, caption):
    assert move(ReceptiveExplorer(), **values).picture.caption == caption


def test_the_left_picture_names_its_layer_where_layers_differ():
    explorer = move(ReceptiveExplorer(), pattern=DOUBLING, shown=8)
    assert explorer.shown == 3
    assert explorer.picture.panels[0].title == f"layer 3 of 3, {DOUBLING}: who may look"
    assert move(explorer, layers=8).shown == 8  # as it was wished
    move(explorer, pattern=WINDOW, window=5)
    assert explorer.picture.panels[0].title == "each layer of 8, window of 5: who may look"
    assert explorer.picture.panels[1].title == "after 8: what each output hangs on"


@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_is_greyed_out_changes_nothing_and_all_else_does(pattern):
    explorer = move(ReceptiveExplorer(), pattern=pattern, dilation=2, window=3)
    values = explorer.values()
    for name, other in {"window": 5, "dilation": 3, "shown": 3, "output": 9}.items():
        moved = explorer.compute(**values | {name: other})
        same = moved.message() == explorer.compute(**values).message()
        assert same == (name in explorer.unused(**values))


@pytest.mark.parametrize("values", [{"T": 0}, {"T": 65}, {"layers": 9}, {"window": 17}])
def test_a_reach_out_of_range_is_refused(values):
    with pytest.raises(ValueError, match="must lie between"):
        ReceptiveExplorer(**values)


def test_the_output_follows_the_text_and_comes_back():
    explorer = ReceptiveExplorer(output=20)
    assert move(explorer, T=8).output == 7
    assert move(explorer, T=40).output == 20
    with pytest.raises(ValueError, match="output must lie between 0 and 7, got 8"):
        ReceptiveExplorer(T=8, output=8)
