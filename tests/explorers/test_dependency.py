"""DependencyExplorer: one changed token after the other, in 64 bits, through a model of its own."""

from functools import cache

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from causal_lab.causality import check_causality
from causal_lab.explorers import DependencyExplorer
from causal_lab.explorers.dependency import (
    BATCH_NORM,
    MASKS,
    MERGE,
    NOTHING,
    PLANTS,
    TOO_FAR,
    WINDOW_OF_3,
    Reader,
)
from causal_lab.explorers.menu import CAUSAL, NO_MASK
from tests.builders import move

shared = cache(DependencyExplorer)  # it asks the checker once for each mask and bug


def reach(T: int, mask: str, plant: str) -> np.ndarray:
    """Say for each query and key whether one layer's mask lets the query look."""
    back = np.arange(T)[:, None] - np.arange(T)[None, :]
    nearest = -1 if plant == TOO_FAR else 0
    furthest = {CAUSAL: T, WINDOW_OF_3: 2, NO_MASK: T}[mask]
    return (back >= (nearest if mask != NO_MASK else -T)) & (back <= furthest)


def attend(layer, x, may):
    """Two heads of 8 numbers, written out."""
    linear = (layer.query_projection, layer.key_projection, layer.value_projection)
    q, k, v = (x @ one.weight.double().T + one.bias.double() for one in linear)
    heads = []
    for part in (slice(0, 8), slice(8, 16)):
        scores = (q[:, part] @ k[:, part].T / 8**0.5).masked_fill(~may, -torch.inf)
        heads.append(scores.softmax(dim=1) @ v[:, part])
    return heads


@torch.no_grad()
def read(model, ids, layers, mask, plant):
    T = len(ids)
    may = torch.from_numpy(reach(T, mask, plant))
    x = model.token_embedding.weight[ids].double() + model.position.table.weight[:T].double()
    for block in list(model.blocks)[:layers]:
        norm = block.attention_norm
        y = F.layer_norm(x, (16,), norm.weight.double(), norm.bias.double())
        if plant == BATCH_NORM:
            y = F.batch_norm(x, None, None, training=True) if T > 1 else 0 * x
        heads = attend(block.attention, y, may)
        merged = torch.cat(heads) if plant == MERGE else torch.cat(heads, dim=1)
        output = block.attention.output_projection
        x = x + merged.reshape(T, 16) @ output.weight.double().T + output.bias.double()
        norm, (wide, _, narrow) = block.mlp_norm, block.mlp
        y = F.layer_norm(x, (16,), norm.weight.double(), norm.bias.double())
        y = F.gelu(F.linear(y, wide.weight.double(), wide.bias.double()), approximate="tanh")
        x = x + F.linear(y, narrow.weight.double(), narrow.bias.double())
    return x.numpy()


def movements(explorer, T, layers, mask, plant):
    ids = explorer.ids[:T].tolist()
    before, moved = read(explorer.model, ids, layers, mask, plant), np.zeros((T, T))
    for token in range(T):
        others = [*ids[:token], (ids[token] + 1) % 50, *ids[token + 1 :]]
        after = read(explorer.model, others, layers, mask, plant)
        moved[:, token] = np.abs(after - before).max(axis=1)
    return moved / moved.max(axis=1, keepdims=True)


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("T", "layers"), [(1, 1), (2, 6), (9, 1), (9, 2), (16, 3)])
def test_the_picture_is_what_moves(T, layers, mask, plant):
    explorer = move(shared(), T=T, layers=layers, mask=mask, plant=plant)
    plant = NOTHING if mask == NO_MASK else plant
    wanted = movements(explorer, T, layers, mask, plant)
    (square,) = explorer.picture.panels
    seen = square.cells > 0
    np.testing.assert_allclose(square.cells, wanted, rtol=3e-4, atol=1e-5)
    ahead = np.triu(np.ones((T, T), dtype=bool), 1)
    if plant in (NOTHING, TOO_FAR):  # the mask's power says what can be seen
        ways = np.linalg.matrix_power(reach(T, mask, plant).astype(float), layers)
        assert np.array_equal(seen, ways > 0)
    assert np.array_equal(square.blocked, ahead)
    assert np.array_equal(square.absent, ~ahead & ~seen)
    assert np.array_equal(square.frames, ahead & seen)  # 1: a leak
    assert explorer.picture.caption.startswith(
        f"pairs that see the future: {(ahead & seen).sum()}; "
        f"the last output sees {T - seen[-1].argmax()} of {T} tokens. "
    )


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("plant", PLANTS)
def test_the_verdict_is_the_checkers_and_holds_for_other_lengths_and_depths(mask, plant):
    explorer = move(shared(), mask=mask, plant=plant)
    causal = plant == NOTHING and mask != NO_MASK
    verdict = "causal" if causal else "NOT causal, output 0 depends on input 1"
    words = "tokens. A separate check_causality, with 4 tokens and 2 layers, at the first cut: "
    assert explorer.picture.caption.endswith(words + verdict)
    used = NOTHING if mask == NO_MASK else plant
    report = check_causality(Reader(explorer.model, 1, mask, used), explorer.ids[None, :6])
    assert report.causal == causal


def test_batch_norm_is_pytorchs():
    model = shared().model
    x = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(0))
    mine = Reader(model, 1, CAUSAL, BATCH_NORM)._norm(model.blocks[0], x)
    theirs = torch.nn.BatchNorm1d(16, affine=False)(x.mT).mT
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("T", [1, 5, 32])
def test_every_window_of_three_sees_two_more_per_layer(T):
    explorer = move(shared(), T=T, mask=WINDOW_OF_3, plant=NOTHING)
    for layers in range(1, 7):
        caption = move(explorer, layers=layers).picture.caption
        assert f"the future: 0; the last output sees {min(T, 1 + 2 * layers)} of {T}" in caption


def test_the_last_id_of_the_vocabulary_is_changed_too():
    explorer = DependencyExplorer(T=3)
    explorer.ids = torch.tensor([49, 0, 49])
    explorer.refresh()
    assert np.array_equal(explorer.picture.panels[0].cells > 0, np.tril(np.ones((3, 3))))


@pytest.mark.parametrize("layers", [0, 7, 1.5])
def test_layers_out_of_range_are_refused(layers):
    with pytest.raises(ValueError, match="layers must lie between 1 and 6"):
        DependencyExplorer(layers=layers)
