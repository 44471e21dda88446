"""HeadExplorer: scores, losses and cuts, computed a second time by hand."""

from functools import lru_cache

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from causal_lab.explorers.heads import CAUSAL, LOOKS, NO_MASK, NOTHING, THIS_HEAD, HeadExplorer
from causal_lab.models import BERT, Llama
from tests.builders import build, move

TOKENS, START = [3, 1, 4, 7], 0
INDUCTION, PREVIOUS, SAME = LOOKS
IDS = torch.tensor([[START, *TOKENS, *TOKENS]])
N, T = len(TOKENS), 2 * len(TOKENS) + 1


@lru_cache
def model(kind="GPT"):
    return build() if kind == "GPT" else build(Llama, d_model=24, num_heads=6, num_kv_heads=2)


@lru_cache
def explorer(kind="GPT"):
    return HeadExplorer(model(kind), torch.tensor(TOKENS), "abcdefghijklm", START)


def without(kind, layer, head):
    """Cut a head out in the weights: what it gives is multiplied by 0."""
    from copy import deepcopy

    cut = deepcopy(model(kind))
    attention = cut.blocks[layer].attention
    dim = attention.head_dim
    with torch.no_grad():
        attention.output_projection.weight[:, head * dim : (head + 1) * dim] = 0
    return cut


@torch.no_grad()
def by_hand(one, ids=IDS):
    logits, weights = one(ids, need_weights=True)
    bits = F.cross_entropy(logits[0, -N:-1], ids[0, 1 - N :]).item() / np.log(2)
    return bits, torch.cat(weights).numpy()


def score(weights, back):
    return np.mean([weights[..., q, q - back] for q in range(T - N, T)], axis=0)


@pytest.mark.parametrize("kind", ["GPT", "Llama"])
def test_the_map_and_the_pattern_are_the_models(kind):
    bits, weights = by_hand(model(kind))
    for look, back in ((INDUCTION, N - 1), (PREVIOUS, 1), (SAME, N)):
        shown = explorer(kind).compute(1, 2, look, CAUSAL, NOTHING)
        heads, pattern, losses = shown.panels
        np.testing.assert_allclose(heads.cells, score(weights, back), atol=6e-3)
        np.testing.assert_allclose(pattern.cells, weights[1, 2], atol=6e-3)
        assert pattern.labels == ("a", "d", "b", "e", "h", "d", "b", "e", "h")
        assert pattern.moves == ()
        assert (heads.rows, heads.columns, heads.moves) == ((1,), (2,), ("layer", "head"))
        np.testing.assert_allclose(losses.heights, [[bits, bits]], atol=0.06)
        assert shown.caption == (
            f"1.2 looks {look}: {score(weights, back)[1, 2]:.2f}. Second copy: {bits:.1f} bits"
        )


@pytest.mark.parametrize("kind", ["GPT", "Llama"])
@pytest.mark.parametrize(("layer", "head"), [(0, 1), (1, 2)])
def test_a_head_that_is_cut_out_gives_nothing(kind, layer, head):
    bits, weights = by_hand(without(kind, layer, head))
    whole, _ = by_hand(model(kind))
    assert abs(bits - whole) > 0.01  # else nothing would be seen
    shown = explorer(kind).compute(layer, head, INDUCTION, CAUSAL, THIS_HEAD)
    np.testing.assert_allclose(shown.panels[0].cells, score(weights, N - 1), atol=6e-3)
    np.testing.assert_allclose(shown.panels[2].heights, [[whole, bits]], atol=0.06)
    assert shown.caption.endswith(f"{bits:.1f} bits without it, {whole:.1f} with all heads")


def test_without_the_mask_the_future_is_framed_and_nothing_is_cut():
    bare = model()
    bare.causal = False
    try:
        bits, weights = by_hand(bare)
    finally:
        bare.causal = True
    one = move(explorer(), layer=0, head=1, look=INDUCTION, mask=NO_MASK, cut=THIS_HEAD)
    heads, pattern, losses = one.picture.panels
    np.testing.assert_allclose(heads.cells, score(weights, N - 1), atol=6e-3)
    np.testing.assert_allclose(losses.heights, [[bits, bits]], atol=0.06)
    assert (pattern.frames > 0).sum() > 10
    assert one.unused(**one.values()) == {"cut"}
    assert model().causal is True
    move(one, mask=CAUSAL, cut=NOTHING)
    assert (one.picture.panels[1].frames > 0).sum() == 0


def test_what_cannot_be_shown_is_refused():
    with pytest.raises(ValueError, match="not causal"):
        HeadExplorer(build(BERT), torch.tensor(TOKENS))
    with pytest.raises(ValueError, match="prompt must be a tensor"):
        HeadExplorer(model(), TOKENS)
    with pytest.raises(ValueError, match="max_length"):
        HeadExplorer(model(), torch.arange(7))


def test_without_a_token_at_the_start_only_the_copies_are_read():
    bare = HeadExplorer(model(), torch.tensor(TOKENS))
    heads, pattern, losses = bare.picture.panels
    bits, weights = by_hand(model(), IDS[:, 1:])
    np.testing.assert_allclose(pattern.cells, weights[0, 0], atol=6e-3)
    expected = np.mean([weights[..., q, q - N + 1] for q in range(N, 2 * N)], axis=0)
    np.testing.assert_allclose(heads.cells, expected, atol=6e-3)
    np.testing.assert_allclose(losses.heights, [[bits, bits]], atol=0.06)


def test_a_layer_is_read_again_once_for_all_of_its_heads(monkeypatch):
    one, read = HeadExplorer(model(), torch.tensor(TOKENS)), []
    go_on = one._go_on
    monkeypatch.setattr(one, "_go_on", lambda layer: read.append(layer) or go_on(layer))
    for layer, head in [(0, 0), (0, 2), (1, 1), (0, 1), (1, 0)]:
        one.compute(layer, head, SAME, CAUSAL, THIS_HEAD)
    assert read == [0, 1]


def test_a_pass_that_fails_leaves_the_model_as_it_was(monkeypatch):
    one = build()
    monkeypatch.setattr(one.blocks[1], "forward", lambda *given, **named: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        HeadExplorer(one, torch.tensor(TOKENS))
    assert one.causal is True
    assert not any(module._forward_pre_hooks for module in one.modules())


def test_bars_of_a_model_that_is_far_off_have_room():
    far = build()
    with torch.no_grad():
        far.token_embedding.weight *= 30
    losses = HeadExplorer(far, torch.tensor(TOKENS)).picture.panels[2]
    assert losses.top >= losses.heights.max() > 20


def test_the_longest_text_is_as_long_as_the_model_reads():
    assert len(HeadExplorer(model(), torch.arange(5), start=0).ids) == 11
    with pytest.raises(ValueError, match="6 tokens and 7 steps"):
        HeadExplorer(model(), torch.arange(6), start=0)


def test_all_heads_are_recorded_with_and_without_mask_and_cut():
    grid = explorer().GRID
    assert (list(grid["layer"]), list(grid["head"])) == ([0, 1], [0, 1, 2])
    assert (grid["mask"], grid["cut"]) == ([CAUSAL, NO_MASK], [NOTHING, THIS_HEAD])
