"""ChunkExplorer: three masks of a chunk, cell by cell, and what PyTorch makes of ``is_causal``."""

import numpy as np
import pytest
import torch

from causal_lab.explorers import ChunkExplorer
from tests.builders import move

SIZES = [(0, 1), (0, 5), (1, 1), (9, 1), (4, 3), (24, 8)]
EVERY_SIZE = pytest.mark.parametrize(("past_len", "current_len"), SIZES)


@EVERY_SIZE
def test_every_cell_of_the_three_masks(past_len, current_len):
    panels = move(ChunkExplorer(), past_len=past_len, current_len=current_len).picture.panels
    T = past_len + current_len
    shows = [
        lambda query, key: key <= query,
        lambda query, key: key <= query - past_len,
        lambda query, key: True,
    ]
    for panel, sees in zip(panels, shows, strict=True):
        assert panel.cells is None
        assert panel.blocked.shape == panel.absent.shape == panel.frames.shape == (T, T)
        for query in range(T):
            for key in range(T):
                new, may, should = query >= past_len, sees(query, key), key <= query
                frame = 0 if not new or may == should else 1 if may else 2
                assert panel.absent[query, key] == (not new)
                assert panel.blocked[query, key] == (new and not may)
                assert panel.frames[query, key] == frame


@EVERY_SIZE
def test_upper_left_is_what_pytorch_makes_of_is_causal(past_len, current_len):
    right, upper_left, _ = ChunkExplorer(past_len=past_len, current_len=current_len).picture.panels
    T = past_len + current_len
    query, keys = torch.randn(1, current_len, 4), torch.randn(1, T, 4)
    seen = torch.nn.functional.scaled_dot_product_attention(
        query, keys, torch.eye(T)[None], is_causal=True
    )[0]
    assert np.array_equal(seen.numpy() == 0, upper_left.blocked[past_len:])
    assert np.array_equal(np.triu(np.ones((T, T)), 1)[past_len:], right.blocked[past_len:])


@pytest.mark.parametrize(
    ("past_len", "current_len", "caption"),
    [
        (
            *(0, 5),
            "training or prefill: the whole triangle; 5 of 5 rows computed. Upper left hides "
            "0 cells that must be seen; no mask shows 10 cells of the future",
        ),
        (
            *(1, 1),
            "one step: one row, nothing blocked, no mask needed; 1 of 2 rows computed. Upper left "
            "hides 1 cell that must be seen; no mask shows 0 cells of the future",
        ),
        (
            *(4, 2),
            "a chunk of 2 behind 4; 2 of 6 rows computed. Upper left hides 8 cells that must be "
            "seen; no mask shows 1 cell of the future",
        ),
    ],
)
def test_the_caption_names_the_case_and_counts(past_len, current_len, caption):
    explorer = ChunkExplorer(past_len=past_len, current_len=current_len)
    assert explorer.picture.caption == caption


def test_titles_say_what_is_wrong_here():
    def titles(**sizes):
        return [panel.title for panel in ChunkExplorer(**sizes).picture.panels]

    right, wrong = "right here", "wrong where framed"
    first = "stairs end at the lower right: right"
    assert titles() == [first, f"stairs start at the upper left: {wrong}", f"no mask: {wrong}"]
    assert titles(past_len=0)[1:] == [
        f"stairs start at the upper left: {right}",
        f"no mask: {wrong}",
    ]
    assert titles(current_len=1)[1:] == [
        f"stairs start at the upper left: {wrong}",
        f"no mask: {right}",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [("past_len", -1), ("past_len", 25), ("current_len", 0), ("current_len", 9)],
)
def test_a_chunk_out_of_range_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must lie between"):
        ChunkExplorer(**{name: value})
