"""However the tokens are told where they stand: causal, and the same behind any cache."""

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from causal_lab.attention.formula import attention
from causal_lab.causality import check_cache, check_causality, check_padding
from causal_lab.masks.rules import generate_causal_mask, generate_sliding_window_mask
from causal_lab.models.generation import cached_step, generate
from causal_lab.models.layers import MultiHeadAttention
from causal_lab.models.position import POSITIONS, NoPosition
from causal_lab.models.transformer import BERT, GPT
from tests.builders import randn, seeded

every_position = pytest.mark.parametrize("position", POSITIONS)


def model_of(position, model=GPT, **options):
    size = {"d_model": 24, "num_heads": 3, "num_layers": 2} | options
    return model(30, 40, position=position, generator=seeded(0), **size).eval()


def some_ids(batch, length, seed=1):
    return torch.randint(1, 30, (batch, length), generator=seeded(seed))


@every_position
def test_no_output_depends_on_the_future(position):
    assert check_causality(model_of(position), some_ids(2, 11)).causal


@every_position
@pytest.mark.parametrize("batch", [1, 3])
def test_in_chunks_behind_a_cache_it_is_the_same(position, batch):
    model = model_of(position)
    report = check_cache(cached_step(model), some_ids(batch, 17), full=model)
    assert report.same, report
    assert len(report.results) >= 4


@every_position
@pytest.mark.parametrize(("window", "sinks"), [(1, 0), (4, 0), (3, 2), (30, 1)])
def test_a_sliding_cache_is_the_same_as_its_mask(position, window, sinks):
    model = model_of(position)

    def windowed(ids):
        T = ids.shape[1]
        return model(ids, blocked=generate_sliding_window_mask(T, window, sinks=sinks))

    step = cached_step(model, window=window, sinks=sinks)
    report = check_cache(step, some_ids(3, 17), full=windowed)
    assert report.same, report


@every_position
def test_padding_on_the_left_changes_nothing_with_and_without_a_cache(position):
    model, ids = model_of(position), some_ids(1, 9)
    padded = torch.cat([torch.zeros(1, 5, dtype=torch.long), ids], dim=1)
    padding = torch.arange(14)[None] < 5
    cache = model.new_cache(1)
    with torch.no_grad():
        alone = model(ids)
        torch.testing.assert_close(model(padded, padding=padding)[:, 5:], alone)
        parts = [model(padded[:, :7], padding=padding[:, :7], cache=cache)[:, 5:]]
        parts += [model(padded[:, i : i + 1], cache=cache) for i in range(7, 14)]
    torch.testing.assert_close(torch.cat(parts, dim=1), alone, atol=1e-5, rtol=0)


@every_position
@pytest.mark.parametrize("window", [None, 4])
def test_padding_in_a_later_chunk_counts_for_nobody(position, window):
    model, ids = model_of(position), some_ids(2, 8)
    holes = torch.zeros(2, 3, dtype=torch.long)
    cache, plain = (model.new_cache(2, window=window) for _ in range(2))
    with torch.no_grad():
        wanted = torch.cat([model(ids[:, :4], cache=plain), model(ids[:, 4:], cache=plain)], dim=1)
        first = model(ids[:, :4], cache=cache)
        chunk = torch.cat([holes, ids[:, 4:6]], dim=1)
        padding = (torch.arange(5) < 3).expand(2, 5)
        second = model(chunk, padding=padding, cache=cache)[:, 3:]
        third = model(ids[:, 6:], cache=cache)
    torch.testing.assert_close(torch.cat([first, second, third], 1), wanted, atol=1e-5, rtol=0)


@every_position
def test_padding_is_seen_by_nobody(position):
    assert check_padding(model_of(position), some_ids(2, 8), pad_id=0).same


@every_position
def test_greedy_writing_with_a_cache_is_writing_without(position):
    model, ids = model_of(position), some_ids(1, 5)
    written = generate(model, ids, max_new_tokens=8)
    for _ in range(8):
        with torch.no_grad():
            ids = torch.cat([ids, model(ids)[:, -1:].argmax(dim=-1)], dim=1)
    assert written.tolist() == ids.tolist()


@every_position
def test_only_learned_positions_are_a_table(position):
    names = [name for name, _ in model_of(position).named_parameters() if "position" in name]
    assert names == (["position.table.weight"] if position == "learned" else [])


@pytest.mark.parametrize("position", ["learned", "sinusoidal", "alibi", "rotary"])
def test_a_position_makes_a_difference(position):
    ids = some_ids(1, 12)
    with torch.no_grad():
        assert not torch.allclose(model_of(position)(ids)[0, 3], model_of("none")(ids)[0, 3])


def test_without_positions_equal_tokens_stay_equal():
    with torch.no_grad():
        logits = model_of("none")(torch.full((1, 12), 5))[0]
    torch.testing.assert_close(logits, logits[:1].expand_as(logits))


def weights_of(model, ids, **options):
    with torch.no_grad():
        _, weights = model(ids, need_weights=True, **options)
    return weights[0][0].double()  # (head, query, key) of the first block


def scores_of_equal_tokens(position, model=GPT, T=7):
    """Logarithms of the weights, which are the scores up to a constant per row."""
    return weights_of(model_of(position, model), torch.full((1, T), 5)).log()


def test_alibi_takes_off_the_slope_for_every_step_back():
    scores = scores_of_equal_tokens("alibi")
    for head, slope in enumerate([2.0**-4, 2.0**-8, 2.0**-2]):
        for query in range(7):
            for key in range(query + 1):
                taken = scores[head, query, query] - scores[head, query, key]
                assert abs(taken - slope * (query - key)) < 1e-5


def test_alibi_to_both_sides_minds_distance_on_either():
    scores = scores_of_equal_tokens("alibi", BERT)
    for query in range(7):
        for key in range(7):
            taken = scores[2, query, query] - scores[2, query, key]
            assert abs(taken - abs(query - key) / 4) < 1e-5


def test_rotary_scores_depend_on_the_distance_alone():
    scores = scores_of_equal_tokens("rotary")
    relative = scores - scores.diagonal(dim1=1, dim2=2)[..., None]
    for distance in range(1, 7):
        along = relative.diagonal(-distance, dim1=1, dim2=2)
        assert (along - along[:, :1]).abs().max() < 1e-5
        assert along.abs().max() > 1e-3


def test_rotary_turns_as_the_formula_says():
    model = model_of("rotary", d_model=4, num_heads=1, num_layers=1)
    block, T = model.blocks[0].double(), 5
    ids = some_ids(1, T)
    model = model.double()
    with torch.no_grad():
        x = block.attention_norm(model.token_embedding(ids))[0]
        q, k = block.attention.query_projection(x), block.attention.key_projection(x)
    seen = weights_of(model, ids)[0]
    for m in range(T):
        scores = []
        for n in range(m + 1):
            score = 0.0
            for pair, speed in enumerate((1.0, 1 / 100)):  # base^(−2p/4)
                a = complex(q[m, pair], q[m, pair + 2]) * complex(*turn(m * speed))
                b = complex(k[n, pair], k[n, pair + 2]) * complex(*turn(n * speed))
                score += (a * b.conjugate()).real
            scores.append(score / math.sqrt(4))
        wanted = torch.tensor(scores, dtype=torch.float64).softmax(dim=0)
        torch.testing.assert_close(seen[m, : m + 1], wanted, atol=1e-6, rtol=0)


def turn(angle):
    return math.cos(angle), math.sin(angle)


def test_sinusoidal_adds_waves_to_the_scaled_token():
    model = model_of("sinusoidal", d_model=4, num_heads=1)
    x = model.position.embed(torch.ones(1, 3, 4), torch.arange(3)[None])
    for t in range(3):
        waves = [math.sin(t), math.cos(t), math.sin(t / 100), math.cos(t / 100)]
        for place in range(4):
            assert abs(x[0, t, place] - (2 + waves[place])) < 1e-6


@pytest.mark.parametrize("position", ["none", "alibi", "rotary", "sinusoidal"])
def test_without_a_table_the_text_may_be_as_long_as_the_limit_says(position):
    model = GPT(30, 5000, d_model=24, num_heads=3, num_layers=1, position=position).eval()
    with torch.no_grad():
        assert model(some_ids(1, 300)).isfinite().all()
    with pytest.raises(ValueError, match="max_length=40"):
        model_of(position)(some_ids(1, 41))


def test_a_bias_is_added_to_that_of_the_distances():
    model, ids = model_of("alibi"), torch.full((1, 7), 5)
    extra = randn(3, 7, 7, seed=2)
    both = weights_of(model, ids, bias=extra).log()
    plain = weights_of(model, ids).log()
    past = torch.ones(7, 7).tril().bool()
    added = (both - plain) - (both - plain).diagonal(dim1=1, dim2=2)[..., None]
    wanted = (extra - extra.diagonal(dim1=1, dim2=2)[..., None]).double()
    torch.testing.assert_close(added[:, past], wanted[:, past], atol=1e-4, rtol=0)


@every_position
def test_positions_of_ones_own_are_used(position):
    model, ids = model_of(position), some_ids(2, 6)
    shifted = torch.arange(9, 15).expand(2, 6)
    stretched = torch.arange(0, 18, 3).expand(2, 6)
    with torch.no_grad():
        plain = model(ids)
        moved, wide = model(ids, positions=shifted), model(ids, positions=stretched)
    relative = position in ("none", "alibi", "rotary")  # only distances matter
    assert torch.allclose(moved, plain, atol=1e-4) == relative
    assert torch.allclose(wide, plain, atol=1e-4) == (position == "none")


@pytest.mark.parametrize("position", [p for p in POSITIONS if not POSITIONS[p].on_scores])
@pytest.mark.parametrize("chunks", [(2, 2, 2), (1, 5), (3, 1, 1, 1)], ids=str)
def test_positions_of_ones_own_are_used_behind_a_cache_too(position, chunks):
    model, ids = model_of(position), some_ids(2, 6)
    positions = torch.tensor([[0, 3, 4, 9, 9, 30], [7, 2, 8, 1, 0, 5]])
    cache, outputs, start = model.new_cache(2), [], 0
    with torch.no_grad():
        wanted = model(ids, positions=positions)
        for size in chunks:
            span = slice(start, start + size)
            outputs.append(model(ids[:, span], positions=positions[:, span], cache=cache))
            start += size
    torch.testing.assert_close(torch.cat(outputs, dim=1), wanted, atol=1e-5, rtol=0)


def test_alibi_beside_a_cache_counts_by_itself():
    model, ids = model_of("alibi"), some_ids(2, 6)
    cache = model.new_cache(2)
    with torch.no_grad():
        wanted = model(ids)
        model(ids[:, :2], cache=cache)
        with pytest.raises(ValueError, match="leave positions out"):
            model(ids[:, 2:], positions=torch.arange(2, 6)[None], cache=cache)
        assert cache.length == 2
        torch.testing.assert_close(model(ids[:, 2:], cache=cache), wanted[:, 2:])


@pytest.mark.parametrize("position", ["none", "sinusoidal", "alibi", "rotary"])
def test_what_is_no_table_has_room_between_two_places(position):
    model, ids = model_of(position), some_ids(1, 6)
    halves = torch.arange(6.0)[None] / 2
    with torch.no_grad():
        moved = (model(ids, positions=halves) - model(ids)).abs().max()
        doubled = model(ids, positions=2 * halves)
    assert (moved > 1e-3) == (position != "none")
    torch.testing.assert_close(doubled, model(ids).detach())


@every_position
@pytest.mark.parametrize("window", [1, 3, 7])
def test_under_a_window_only_added_positions_tell_a_late_token_from_an_early_one(position, window):
    model, ids = model_of(position, num_layers=1), some_ids(2, 19)
    blocked = generate_sliding_window_mask(19, window)
    with torch.no_grad():
        late = model(ids, blocked=blocked)[:, window:]
        alone = [model(ids[:, t - window + 1 : t + 1])[:, -1] for t in range(window, 19)]
    apart = (late - torch.stack(alone, dim=1)).abs().amax(dim=(0, 2))
    if position in ("none", "alibi", "rotary"):
        assert (apart < 1e-4).all()
    else:
        assert (apart > 1e-2).all()


ROOT = Path(__file__).parents[2]

PROPERTY = settings(max_examples=20, deadline=None, derandomize=True)


# --- what order a model without positions sees, and a length never trained (notebooks 11, 12)


def model_without_positions(kind, num_layers, seed):
    size = {"d_model": 24, "num_heads": 3, "num_layers": num_layers}
    return kind(40, 32, position="none", generator=seeded(seed), **size).eval()


@PROPERTY
@given(st.integers(1, 12), st.integers(0, 10**6))
def test_without_mask_and_positions_attention_is_permutation_equivariant(T, seed):
    layer = MultiHeadAttention(12, 3)
    x = torch.randn(2, T, 12, generator=seeded(seed))
    order = torch.randperm(T, generator=seeded(seed + 1))
    with torch.no_grad():
        torch.testing.assert_close(layer(x[:, order])[0], layer(x)[0][:, order])


@PROPERTY
@given(st.integers(2, 12), st.integers(1, 3), st.integers(0, 10**6))
def test_so_is_a_whole_bert(T, num_layers, seed):
    model = model_without_positions(BERT, num_layers, seed)
    ids = torch.randint(40, (1, T), generator=seeded(seed))
    order = torch.randperm(T, generator=seeded(seed + 1))
    with torch.no_grad():
        wanted = model(ids)[:, order]
        torch.testing.assert_close(model(ids[:, order]), wanted, atol=1e-4, rtol=0)


@PROPERTY
@given(st.integers(2, 16), st.integers(0, 10**6))
def test_one_causal_layer_sees_a_bag_of_the_past(T, seed):
    model = model_without_positions(GPT, 1, seed)
    ids = torch.randint(40, (1, T), generator=seeded(seed))
    shuffled = ids.clone()
    shuffled[0, :-1] = ids[0, torch.randperm(T - 1, generator=seeded(seed + 1))]
    with torch.no_grad():
        torch.testing.assert_close(model(shuffled)[:, -1], model(ids)[:, -1], atol=1e-4, rtol=0)


@PROPERTY
@given(st.integers(3, 16), st.integers(2, 4), st.integers(0, 10**6))
def test_two_causal_layers_see_order(T, num_layers, seed):
    model = model_without_positions(GPT, num_layers, seed)
    ids = torch.arange(T)[None] + 1  # all different
    i, j = torch.randperm(T - 1, generator=seeded(seed))[:2].tolist()  # neighbours, too
    exchanged = ids.clone()
    exchanged[0, [i, j]] = ids[0, [j, i]]
    with torch.no_grad():
        moved = (model(exchanged)[0, -1] - model(ids)[0, -1]).abs().max()
    assert moved > 1e-4


@PROPERTY
@given(st.integers(1, 40))
def test_one_uniform_head_counts(T):
    is_first = (torch.arange(T) == 0).float()[:, None]
    output, _ = attention(torch.zeros(T, 2), torch.zeros(T, 2), is_first, generate_causal_mask(T))
    torch.testing.assert_close(1 / output[:, 0] - 1, torch.arange(T).float(), atol=1e-4, rtol=0)


def measured():
    path = ROOT / "benchmarks" / "results" / "position_lengths.json"
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("steps", ["300", "1200"])
def test_what_the_page_and_the_notebook_say_holds_for_every_seed(steps):
    runs = measured()[steps]
    seeds = {run["seed"] for run in runs}
    assert len(seeds) >= 5
    for seed in seeds:
        bits = {run["position"]: run for run in runs if run["seed"] == seed}
        inside = {name: run["8 to 31"] for name, run in bits.items()}
        twice = {name: run["32 to 63"] for name, run in bits.items()}
        four = {name: run["64 to 127"] for name, run in bits.items()}
        assert min(inside, key=inside.get) == min(twice, key=twice.get) == "rotary"
        assert max(inside, key=inside.get) == "none"
        assert min(four, key=four.get) == "alibi"
        assert max(twice, key=twice.get) == max(four, key=four.get) == "learned"
        assert four["alibi"] < inside["alibi"]
        assert four["rotary"] > inside["rotary"]
        assert four["sinusoidal"] > inside["sinusoidal"]
        assert min(twice["learned"], twice["sinusoidal"]) > twice["none"]
        if steps == "1200":
            assert four["rotary"] > four["none"]
        # Under a window no distance is new: rotary is mended, what is added to tokens is not.
        window = {name: run["64 to 127, window of 32"] for name, run in bits.items()}
        assert min(window, key=window.get) == "rotary"
        assert window["rotary"] < inside["rotary"]
        assert window["rotary"] < four["alibi"]
        for name in ("learned", "sinusoidal"):
            assert window[name] > inside[name] + 0.2


class Buckets(NoPosition):
    """A way that somebody adds: a learned number per head and distance."""

    on_scores = True

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.buckets = nn.Embedding(4, self.num_heads)

    def bias(self, positions, cache=None):
        keys = positions if cache is None else cache.key_positions
        distance = (positions[..., :, None] - keys[..., None, :]).clamp(0, 3)
        return self.buckets(distance).movedim(-1, 1)


@torch.no_grad()
def test_a_new_way_is_a_class_with_one_hook_and_a_row(monkeypatch):
    monkeypatch.setitem(POSITIONS, "buckets", Buckets)
    first, again = model_of("buckets"), model_of("buckets")
    assert torch.equal(first.position.buckets.weight, again.position.buckets.weight)
    assert first.position.buckets.weight.abs().max() > 0.1
    ids, cache = some_ids(2, 6), first.new_cache(2)
    whole = first(ids)
    chunks = [first(ids[:, :4], cache=cache), first(ids[:, 4:], cache=cache)]
    torch.testing.assert_close(torch.cat(chunks, dim=1), whole, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="with a cache Buckets measures distances"):
        first(ids[:, :1], positions=torch.tensor([[6]]), cache=cache)
