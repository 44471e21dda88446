"""The same masks through FlexAttention: forward agreement, with a function instead of a table."""

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from causal_lab.attention.formula import attention
from causal_lab.masks.rules import (
    generate_causal_mask,
    generate_document_mask,
    generate_padding_mask,
    generate_prefix_mask,
    generate_retrieval_mask,
    generate_sliding_window_mask,
    to_mask_mod,
)
from causal_lab.masks.sparse import (
    generate_block_sparse_mask,
    generate_dilated_mask,
    generate_quadrant_mask,
    generate_row_column_mask,
)
from tests.builders import seeded

flex = pytest.importorskip(
    "torch.nn.attention.flex_attention", reason="this PyTorch has no FlexAttention"
)

MASKS = {
    "causal": generate_causal_mask,
    "window": lambda T: generate_sliding_window_mask(T, 3, sinks=1),
    "dilated": lambda T: generate_dilated_mask(T, 3, window=2),
    "blocks": lambda T: generate_block_sparse_mask(T, 3),
    "prefix": lambda T: generate_prefix_mask(T, T // 2),
    "documents": lambda T: generate_document_mask([t // 3 for t in range(T)]),
    "passages": lambda T: generate_retrieval_mask([0, *[t // 3 for t in range(1, T)]]),
    "padding": lambda T: (
        generate_causal_mask(T) | generate_padding_mask([max(T - 2, 0)], T, side="left")[0, 0]
    ),
    "quadrant": lambda T: generate_quadrant_mask(T, 2),
    "row and column": lambda T: generate_row_column_mask(2, T),
    "nothing at all": lambda T: torch.ones(T, T, dtype=torch.bool),
}


def through_flex(q, k, v, blocked):
    """Run FlexAttention with a function that looks the mask up."""
    axes = blocked.shape[:2] if blocked.ndim == 4 else (None, None)
    lengths = q.shape[-2], k.shape[-2]
    with warnings.catch_warnings():
        # Without torch.compile it is slower, not wrong, and says so.
        warnings.filterwarnings("ignore", message="flex_attention called without torch.compile")
        asked = flex.create_block_mask(to_mask_mod(blocked), *axes, *lengths, device="cpu")
        return flex.flex_attention(q, k, v, block_mask=asked)


def vectors(batch, heads, queries, keys, seed):
    generator = seeded(seed)
    q = torch.randn(batch, heads, queries, 8, generator=generator)
    return q, *torch.randn(2, batch, heads, keys, 8, generator=generator)


@pytest.mark.parametrize("name", MASKS)
@settings(max_examples=6, deadline=None, derandomize=True)
@given(T=st.integers(1, 19), batch=st.integers(1, 2), seed=st.integers(0, 99))
def test_flex_attention_gives_what_attention_gives(name, T, batch, seed):
    blocked = MASKS[name](T)
    q, k, v = vectors(batch, 3, *blocked.shape, seed)
    found = through_flex(q, k, v, blocked)
    assert torch.allclose(found, attention(q, k, v, blocked)[0], atol=1e-6)


@pytest.mark.parametrize("axes", [(1, 1), (2, 1), (1, 3), (2, 3)])
def test_a_mask_per_text_and_per_head_is_asked_for_its_own(axes):
    generator = seeded(5)
    blocked = torch.rand(*axes, 5, 7, generator=generator) < 0.5
    q, k, v = vectors(2, 3, 5, 7, 6)
    wanted = attention(q, k, v, blocked)[0]
    assert torch.allclose(through_flex(q, k, v, blocked), wanted, atol=1e-6)


def test_the_function_says_allowed_where_the_mask_says_not_blocked():
    blocked = torch.rand(2, 3, 4, 5, generator=seeded(7)) < 0.5
    asked = to_mask_mod(blocked)
    for place in torch.cartesian_prod(*map(torch.arange, blocked.shape)):
        assert bool(asked(*place)) == (not blocked[tuple(place.tolist())])


def test_the_mask_that_was_handed_over_is_a_copy():
    blocked = generate_causal_mask(3)
    asked = to_mask_mod(blocked)
    blocked.fill_(True)
    assert bool(asked(0, 0, 2, 1))
