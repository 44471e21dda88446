"""Sparse masks and masks of grids: each against its rule, pair by pair, at random sizes."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from causal_lab.masks.rules import (
    generate_causal_mask,
    generate_document_mask,
    generate_prefix_mask,
    generate_retrieval_mask,
    generate_sliding_window_mask,
)
from causal_lab.masks.sparse import (
    generate_block_sparse_mask,
    generate_dilated_mask,
    generate_quadrant_mask,
    generate_raster_mask,
    generate_row_column_mask,
)
from tests.masks.drawn import OF_SPARSE, by_pairs, each, lengths, many

BAD_SIZES = [0, -1, True, 2.0, "2", None]


@each(OF_SPARSE)
@many
@given(data=st.data(), T=lengths)
def test_a_mask_blocks_exactly_what_its_rule_blocks(rule, data, T):
    mask, is_blocked = rule(data.draw, T)
    assert mask.dtype == torch.bool
    assert mask.tolist() == by_pairs(T, is_blocked)


@many
@given(height=st.integers(1, 5), width=st.integers(1, 5))
def test_masks_on_a_grid_block_exactly_what_their_rules_block(height, width):
    pixels = list(itertools.product(range(height), range(width)))

    def table(is_seen):
        return [[not is_seen(*here, *there) for there in pixels] for here in pixels]

    raster, quadrant, cross = (
        make(height, width)
        for make in (generate_raster_mask, generate_quadrant_mask, generate_row_column_mask)
    )
    assert raster.tolist() == table(lambda r, c, y, x: y < r or (y == r and x <= c))
    assert quadrant.tolist() == table(lambda r, c, y, x: y <= r and x <= c)
    assert cross.tolist() == table(lambda r, c, y, x: (y == r and x <= c) or (x == c and y <= r))


def test_special_cases_are_masks_that_are_known_already():
    for T in (1, 5, 9):
        triangle = generate_causal_mask(T)
        assert torch.equal(generate_prefix_mask(T, 0), triangle)
        assert not generate_prefix_mask(T, T).any()
        assert torch.equal(generate_dilated_mask(T, 1), triangle)
        assert torch.equal(
            generate_dilated_mask(T, 1, window=3), generate_sliding_window_mask(T, 3)
        )
        assert torch.equal(generate_block_sparse_mask(T, T), triangle)
        assert torch.equal(generate_block_sparse_mask(T, 3, summaries=3), triangle)
        assert torch.equal(generate_retrieval_mask([0] * T), triangle)
        assert torch.equal(generate_raster_mask(1, T), triangle)
        assert torch.equal(generate_quadrant_mask(T, 1), triangle)
        assert torch.equal(
            generate_block_sparse_mask(T, 3, summaries=0),
            triangle | generate_document_mask([t // 3 for t in range(T)]),
        )


# --- where masks are made


@pytest.mark.parametrize(
    "make",
    [
        lambda device: generate_dilated_mask(5, 2, window=2, device=device),
        lambda device: generate_block_sparse_mask(5, 2, device=device),
        lambda device: generate_raster_mask(2, 3, device=device),
        lambda device: generate_quadrant_mask(2, 3, device=device),
        lambda device: generate_row_column_mask(2, 3, device=device),
    ],
)
def test_a_sparse_mask_is_made_on_the_device_asked_for_and_else_on_the_cpu(make):
    assert make("meta").device.type == "meta"
    assert make(None).device.type == "cpu"


# --- bad input


@pytest.mark.parametrize("size", BAD_SIZES)
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("T", lambda n: generate_dilated_mask(n, 2)),
        ("dilation", lambda n: generate_dilated_mask(5, n)),
        ("T", lambda n: generate_block_sparse_mask(n, 2)),
        ("block_size", lambda n: generate_block_sparse_mask(5, n)),
        ("height", lambda n: generate_raster_mask(n, 2)),
        ("width", lambda n: generate_raster_mask(2, n)),
        ("height", lambda n: generate_quadrant_mask(n, 2)),
        ("width", lambda n: generate_quadrant_mask(2, n)),
        ("height", lambda n: generate_row_column_mask(n, 2)),
        ("width", lambda n: generate_row_column_mask(2, n)),
    ],
)
def test_sizes_are_whole_and_at_least_one(name, make, size):
    with pytest.raises(ValueError, match=f"{name} must be an integer of at least 1"):
        make(size)


@pytest.mark.parametrize("size", [-1, True, 2.0, "2", None])
def test_summaries_may_be_none_but_not_less(size):
    with pytest.raises(ValueError, match="summaries must be an integer of at least 0"):
        generate_block_sparse_mask(4, 2, summaries=size)


@pytest.mark.parametrize("size", [0, -1, True, 2.0, "2"])
def test_a_dilated_window_is_a_size(size):
    with pytest.raises(ValueError, match="window must be an integer of at least 1"):
        generate_dilated_mask(4, 2, window=size)


def test_a_block_has_no_more_summaries_than_tokens():
    with pytest.raises(ValueError, match="summaries must be at most block_size=2, got 3"):
        generate_block_sparse_mask(4, 2, summaries=3)
