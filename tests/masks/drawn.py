"""Masks drawn at random, each with its rule written out a second time, pair by pair."""

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import nn

from causal_lab.causality import check_causality
from causal_lab.masks.rules import (
    generate_causal_mask,
    generate_document_mask,
    generate_padding_mask,
    generate_prefix_mask,
    generate_retrieval_mask,
    generate_sliding_window_mask,
)
from causal_lab.masks.sparse import generate_block_sparse_mask, generate_dilated_mask
from causal_lab.models.layers import Block
from tests.builders import randn, seeded

many = settings(max_examples=60, deadline=None, derandomize=True)
few = settings(max_examples=12, deadline=None, derandomize=True)
lengths = st.integers(1, 17)
small = st.integers(1, 7)


def by_pairs(T: int, is_blocked) -> list[list[bool]]:
    return [[bool(is_blocked(query, key)) for key in range(T)] for query in range(T)]


# A rule for each mask: what is drawn, the mask, and whether a pair is blocked.


def causal(draw, T):
    return generate_causal_mask(T), lambda q, k: k > q


def window(draw, T):
    w, sinks = draw(small), draw(st.integers(0, 3))
    mask = generate_sliding_window_mask(T, w, sinks=sinks)
    return mask, lambda q, k: k > q or (q - k >= w and k >= sinks)


def prefix(draw, T):
    n = draw(st.integers(0, T))
    return generate_prefix_mask(T, n), lambda q, k: not (k <= q or k < n)


def documents(draw, T):
    ids = draw(st.lists(st.integers(-2, 2), min_size=T, max_size=T))
    return generate_document_mask(ids), lambda q, k: ids[q] != ids[k]


def passages(draw, T):
    ids = draw(st.lists(st.integers(0, 3), min_size=T, max_size=T))

    def is_blocked(q, k):
        return k > q or (0 not in (ids[q], ids[k]) and ids[q] != ids[k])

    return generate_retrieval_mask(ids), is_blocked


def padded(draw, T):
    n = draw(st.integers(0, T))
    return generate_padding_mask([n], T, side="left").expand(1, 1, T, T)[0, 0], (
        lambda q, k: k < T - n
    )


def dilated(draw, T):
    d, w = draw(small), draw(st.none() | small)
    seen = 10**6 if w is None else w
    mask = generate_dilated_mask(T, d, window=w)
    return mask, lambda q, k: not any(q - i * d == k for i in range(min(seen, T)))


def blocks(draw, T):
    size = draw(small)
    c = draw(st.integers(0, size))
    mask = generate_block_sparse_mask(T, size, summaries=c)

    def is_blocked(q, k):
        mine = range(q - q % size, q + 1)
        ends = [b * size + size - 1 - i for b in range(T) for i in range(c)]
        return not (k in mine or (k in ends and k <= q))

    return mask, is_blocked


OF_RULES = [causal, window, prefix, documents, passages, padded]
OF_SPARSE = [dilated, blocks]
RULES = [*OF_RULES, *OF_SPARSE]
NEVER_AHEAD = [causal, window, dilated, blocks, passages]


def each(rules):
    return pytest.mark.parametrize("rule", rules, ids=lambda rule: rule.__name__)


class Stack(nn.Module):
    """Blocks with random weights, each with a mask of its own."""

    def __init__(self, masks, num_heads=1, seed=0):
        super().__init__()
        self.masks = masks
        generator = seeded(seed)
        self.blocks = nn.ModuleList(Block(6 * num_heads, num_heads) for _ in masks)
        with torch.no_grad():
            for weight in self.parameters():
                weight.normal_(0.0, 0.5, generator=generator)

    def forward(self, x):
        for block, mask in zip(self.blocks, self.masks, strict=True):
            x = block(x, mask)
        return x


def measured(model, T, dim):
    x = randn(1, T, dim, seed=1)
    report = check_causality(model, x)
    return report.dependencies > 0, report.causal
