"""Positions against loops in float64, against the laws they must keep, and against transformers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.gptj import modeling_gptj
from transformers.models.llama import modeling_llama

from causal_lab.attention.positions import (
    LAYOUTS,
    alibi_bias,
    alibi_slopes,
    rotary_angles,
    rotate,
    rotation,
    sinusoidal_positions,
    to_half,
    to_interleaved,
)
from causal_lab.models.transformer import GPT
from tests.builders import randn, seeded

few = settings(max_examples=25, deadline=None, derandomize=True)
seeds = st.integers(0, 2**16)
dims = st.integers(1, 9).map(lambda pairs: 2 * pairs)
bases = st.sampled_from([1.5, 2.0, 100.0, 10000.0, 500000.0])
layouts = st.sampled_from(LAYOUTS)
places = st.integers(-40, 40)
lengths = st.integers(1, 7)
every_layout = pytest.mark.parametrize("layout", LAYOUTS)
HEADS = [*range(1, 18)]


def numbers(*shape, seed=0, dtype=torch.float64):
    return randn(*shape, seed=seed, dtype=torch.float64).to(dtype)


def units(*shape, seed=0):
    """Vectors of length 1, so that an error of an angle is at most that of a score."""
    x = numbers(*shape, seed=seed)
    return x / x.norm(dim=-1, keepdim=True)


def some_positions(*shape, seed=0):
    return torch.randint(-40, 41, shape, generator=seeded(seed))


def near(actual, wanted, atol=1e-5):
    torch.testing.assert_close(actual.double(), wanted.double(), atol=atol, rtol=0)


# Loops that share nothing with the code: one number at a time, in float64.


def angle(position, pair, dim, base):
    return position * math.exp(-2 * pair / dim * math.log(base))


def looped_waves(positions, dim, base):
    rows = []
    for position in positions:
        row = [0.0] * dim
        for pair in range(dim // 2):
            row[2 * pair] = math.sin(angle(position, pair, dim, base))
            row[2 * pair + 1] = math.cos(angle(position, pair, dim, base))
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)


def looped_rotate(x, positions, base, layout):
    """Multiply each pair, read as a complex number, by e^(i·angle)."""
    length, dim = x.shape
    turned = torch.empty(length, dim, dtype=torch.float64)
    for t in range(length):
        for pair in range(dim // 2):
            one, other = {
                "half": (pair, pair + dim // 2),
                "interleaved": (2 * pair, 2 * pair + 1),
            }[layout]
            theta = angle(positions[t], pair, dim, base)
            number = complex(x[t, one], x[t, other]) * complex(math.cos(theta), math.sin(theta))
            turned[t, one], turned[t, other] = number.real, number.imag
    return turned


def paper_slopes(heads):
    """As in the paper's code: the rule for powers of two, filled up from twice as many heads."""
    if heads & (heads - 1) == 0:
        ratio = 2 ** (-8 / heads)
        series = [ratio]
        while len(series) < heads:
            series.append(series[-1] * ratio)
        return series
    below = 1
    while below * 2 < heads:
        below *= 2
    return paper_slopes(below) + paper_slopes(2 * below)[::2][: heads - below]


@few
@given(length=lengths, dim=dims, base=bases, seed=seeds)
def test_angles_are_the_position_times_the_speed_of_the_pair(length, dim, base, seed):
    positions = some_positions(length, seed=seed)
    angles = rotary_angles(positions, dim, base=base)
    assert angles.shape == (length, dim // 2)
    assert angles.dtype == torch.float32
    for t, position in enumerate(positions.tolist()):
        for pair in range(dim // 2):
            assert abs(angles[t, pair].item() - angle(position, pair, dim, base)) < 1e-5


@few
@given(length=lengths, dim=dims, base=bases, seed=seeds)
def test_waves_are_sines_and_cosines_in_turn(length, dim, base, seed):
    positions = some_positions(length, seed=seed)
    waves = sinusoidal_positions(positions, dim, base=base)
    assert waves.dtype == torch.float32
    near(waves, looped_waves(positions.tolist(), dim, base))


@few
@given(length=lengths, dim=dims, base=bases, layout=layouts, seed=seeds)
def test_rotating_is_multiplying_complex_numbers(length, dim, base, layout, seed):
    x, positions = units(length, dim, seed=seed), some_positions(length, seed=seed)
    wanted = looped_rotate(x, positions.tolist(), base, layout)
    near(rotate(x, positions, base=base, layout=layout), wanted)
    near(rotation(positions, dim, base=base, layout=layout)(x), wanted)


@few
@given(queries=lengths, keys=lengths, heads=st.integers(1, 20), seed=seeds)
def test_the_bias_takes_the_slope_for_every_step(queries, keys, heads, seed):
    at, of = some_positions(queries, seed=seed), some_positions(keys, seed=seed + 1)
    bias, slopes = alibi_bias(at, of, heads), paper_slopes(heads)
    assert bias.shape == (heads, queries, keys)
    assert bias.dtype == torch.float32
    for head in range(heads):
        for query in range(queries):
            for key in range(keys):
                wanted = -slopes[head] * (at[query].item() - of[key].item())
                assert abs(bias[head, query, key].item() - wanted) < 1e-5


# What a base of 10000 and the layout of halves are by default.


def test_the_defaults_are_those_of_the_papers():
    x, positions = units(6, 8), torch.arange(6)
    near(rotary_angles(torch.tensor(1), 8), torch.tensor([1.0, 0.1, 0.01, 0.001]), atol=1e-8)
    near(sinusoidal_positions(positions, 8), looped_waves(range(6), 8, 10000))
    near(rotate(x, positions), looped_rotate(x, range(6), 10000, "half"), atol=1e-6)
    near(rotation(positions, 8)(x), looped_rotate(x, range(6), 10000, "half"), atol=1e-6)


# Laws of sinusoidal positions.


@few
@given(m=places, n=places, shift=places, dim=dims, base=bases)
def test_the_product_of_two_waves_is_a_sum_of_cosines_of_the_distance(m, n, shift, dim, base):
    def product(one, other):
        a, b = sinusoidal_positions(torch.tensor([one, other]), dim, base=base).double()
        return (a @ b).item()

    wanted = sum(math.cos(angle(m - n, pair, dim, base)) for pair in range(dim // 2))
    assert abs(product(m, n) - wanted) < 1e-5 * dim
    assert abs(product(m + shift, n + shift) - wanted) < 1e-5 * dim
    assert abs(product(n, m) - wanted) < 1e-5 * dim
    assert abs(product(m, m) - dim / 2) < 1e-5


# Laws of rotary positions.


@few
@given(places, places, dims, bases)
def test_going_on_is_turning_the_waves_by_the_same_angles_everywhere(m, k, dim, base):
    # A row holds (sin, cos): its hands turn the other way round than those that hold (cos, sin).
    row, further = sinusoidal_positions(torch.tensor([m, m + k]), dim, base=base).split(1)
    back = torch.tensor([-k])
    near(rotate(row, back, base=base, layout="interleaved"), further, atol=2e-5)
    if abs(k) in (1, 2, 3):  # and not any angles do: the quickest wave is far from a whole turn
        assert (row - further).abs().max() > 0.05


@few
@given(m=places, n=places, shift=places, dim=dims, base=bases, layout=layouts, seed=seeds)
def test_a_rotary_score_depends_on_the_distance_only(m, n, shift, dim, base, layout, seed):
    q, k = units(1, dim, seed=seed), units(1, dim, seed=seed + 1)

    def score(query, key):
        turned = [
            rotate(x, torch.tensor([position]), base=base, layout=layout)
            for x, position in [(q, query), (k, key)]
        ]
        return (turned[0] * turned[1]).sum().item()

    assert abs(score(m + shift, n + shift) - score(m, n)) < 3e-5
    assert abs(score(m - n, 0) - score(m, n)) < 3e-5
    assert abs(score(m, m) - (q * k).sum().item()) < 1e-5


@few
@given(length=lengths, dim=dims, base=bases, layout=layouts, seed=seeds)
def test_a_rotation_keeps_the_length_of_every_pair(length, dim, base, layout, seed):
    x, positions = units(2, length, dim, seed=seed), some_positions(length, seed=seed)
    turned = rotate(x, positions, base=base, layout=layout)
    near(turned.norm(dim=-1), x.norm(dim=-1), atol=1e-6)
    if layout == "interleaved":
        x, turned = to_half(x), to_half(turned)
    near(turned.unflatten(-1, (2, -1)).norm(dim=-2), x.unflatten(-1, (2, -1)).norm(dim=-2), 1e-6)


@few
@given(length=lengths, dim=dims, base=bases, layout=layouts, seed=seeds)
def test_rotating_by_a_and_then_by_b_is_rotating_by_both(length, dim, base, layout, seed):
    x = units(length, dim, seed=seed)
    a, b = some_positions(length, seed=seed), some_positions(length, seed=seed + 1)
    options = {"base": base, "layout": layout}
    near(rotate(rotate(x, a, **options), b, **options), rotate(x, a + b, **options), atol=3e-5)
    near(rotate(rotate(x, a, **options), -a, **options), x, atol=1e-6)


@few
@given(length=lengths, dim=dims, base=bases, layout=layouts, seed=seeds)
def test_rotating_by_nothing_changes_nothing(length, dim, base, layout, seed):
    x, nowhere = numbers(2, length, dim, seed=seed), torch.zeros(length, dtype=torch.long)
    assert torch.equal(rotate(x, nowhere, base=base, layout=layout), x)


@few
@given(length=lengths, dim=dims, layout=layouts, seed=seeds)
def test_a_prepared_rotation_is_the_rotation_for_all_layers(length, dim, layout, seed):
    positions = some_positions(length, seed=seed)
    apply_rotation = rotation(positions, dim, base=100.0, layout=layout)
    for shape in [(length, dim), (3, length, dim), (2, 3, length, dim)]:
        x = numbers(*shape, seed=seed)
        before = x.clone()
        assert torch.equal(apply_rotation(x), rotate(x, positions, base=100.0, layout=layout))
        assert torch.equal(x, before)  # its input is left alone


@every_layout
def test_the_gradient_is_turned_back(layout):
    x, positions = numbers(5, 8).requires_grad_(), torch.arange(5)
    gradient = numbers(5, 8, seed=1)
    rotate(x, positions, layout=layout).backward(gradient)
    near(x.grad, rotate(gradient, -positions, layout=layout), atol=1e-6)


# The two layouts.


@few
@given(length=lengths, dim=dims, base=bases, seed=seeds)
def test_the_layouts_are_the_same_up_to_an_order(length, dim, base, seed):
    x, positions = numbers(2, length, dim, seed=seed), some_positions(length, seed=seed)
    halves = rotate(to_half(x), positions, base=base, layout="half")
    pairs = rotate(x, positions, base=base, layout="interleaved")
    near(halves, to_half(pairs), atol=1e-12)
    near(to_interleaved(halves), pairs, atol=1e-12)


@few
@given(length=lengths, dim=dims, seed=seeds)
def test_to_interleaved_is_the_way_back_from_to_half(length, dim, seed):
    x = numbers(2, length, dim, seed=seed)
    assert torch.equal(to_interleaved(to_half(x)), x)
    assert torch.equal(to_half(to_interleaved(x)), x)


@few
@given(dim=dims)
def test_the_order_puts_the_first_numbers_first(dim):
    halves, pairs = to_half(torch.arange(dim)).tolist(), to_interleaved(torch.arange(dim)).tolist()
    assert halves == [*range(0, dim, 2), *range(1, dim, 2)]
    assert pairs == [place // 2 + place % 2 * (dim // 2) for place in range(dim)]


def test_the_transpose_of_a_weight_may_be_reordered():
    x, query, key = numbers(5, 12), numbers(8, 12, seed=1), numbers(8, 12, seed=2)
    near(x @ to_half(query.T), to_half(x @ query.T), atol=1e-12)
    scores = []
    for layout, order in [("interleaved", lambda weight: weight), ("half", to_half)]:
        q, k = (rotate(x @ order(w.T), torch.arange(5), layout=layout) for w in (query, key))
        scores.append(q @ k.T)
    near(scores[0], scores[1], atol=1e-9)


# Slopes.


@pytest.mark.parametrize("heads", [1, 2, 4, 8, 16, 32, 64, 128])
def test_the_slopes_of_a_power_of_two_are_a_geometric_series_down_to_one_256th(heads):
    slopes = alibi_slopes(heads)
    assert slopes.dtype == torch.float32
    assert slopes.shape == (heads,)
    assert slopes[-1] == 2.0**-8
    near(slopes[1:] / slopes[:-1], torch.full((heads - 1,), 2 ** (-8 / heads)), atol=1e-6)
    near(slopes[:1], torch.tensor([2 ** (-8 / heads)], dtype=torch.float64), atol=1e-7)


@few
@given(heads=st.integers(1, 200))
def test_other_slopes_are_filled_up_from_twice_as_many_heads(heads):
    slopes = alibi_slopes(heads)
    assert slopes.shape == (heads,)
    near(slopes, torch.tensor(paper_slopes(heads), dtype=torch.float64), atol=1e-7)
    assert len(set(slopes.tolist())) == heads


def test_slopes_written_out():
    assert alibi_slopes(8).tolist() == [1 / 2**power for power in range(1, 9)]
    assert alibi_slopes(6).tolist() == [0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125]
    assert alibi_slopes(np.int64(2)).tolist() == [0.0625, 0.00390625]


# The same as transformers.


@pytest.mark.parametrize("base", [10000.0, 500000.0])
@pytest.mark.parametrize("dim", [2, 6, 8, 64])
def test_halves_are_the_rotation_of_llama(base, dim):
    rope = {"rope_type": "default", "rope_theta": base}
    config = LlamaConfig(
        hidden_size=3 * dim, num_attention_heads=3, head_dim=dim, rope_parameters=rope
    )
    q, k = (numbers(2, 3, 11, dim, seed=seed, dtype=torch.float32) for seed in (1, 2))
    positions = torch.stack([torch.arange(11), torch.arange(90, 101)])
    cos, sin = modeling_llama.LlamaRotaryEmbedding(config)(q, positions)
    wanted = modeling_llama.apply_rotary_pos_emb(q, k, cos, sin)
    for x, theirs in zip((q, k), wanted, strict=True):
        near(rotate(x, positions[:, None], base=base), theirs, atol=1e-6)


@pytest.mark.parametrize("dim", [2, 6, 8, 64])
def test_pairs_are_the_rotation_of_gptj(dim):
    x = numbers(2, 11, 3, dim, dtype=torch.float32)  # its heads come after the length
    positions = torch.stack([torch.arange(11), torch.arange(90, 101)])
    table = modeling_gptj.create_sinusoidal_positions(101, dim)
    sin, cos = table[positions].split(dim // 2, dim=-1)
    wanted = modeling_gptj.apply_rotary_pos_emb(x, sin, cos).transpose(1, 2)
    ours = rotate(x.transpose(1, 2), positions[:, None], layout="interleaved")
    near(ours, wanted, atol=1e-6)
    near(to_half(sinusoidal_positions(positions, dim)), table[positions], atol=1e-6)


@pytest.mark.parametrize("heads", HEADS)
def test_slopes_are_those_of_bloom(heads):
    theirs = build_alibi_tensor(torch.ones(1, 9, dtype=torch.long), heads, torch.float32)
    assert theirs.shape == (heads, 1, 9)
    near(alibi_slopes(heads), theirs[:, 0, 1], atol=1e-7)


@pytest.mark.parametrize("heads", HEADS)
def test_weights_are_those_of_bloom_though_its_bias_counts_from_the_first_key(heads):
    theirs = build_alibi_tensor(torch.ones(1, 9, dtype=torch.long), heads, torch.float32)
    ours = alibi_bias(torch.arange(9), torch.arange(9), heads)
    assert (ours - theirs).abs().max() > 1e-2
    scores = numbers(heads, 9, 9, dtype=torch.float32)
    future = torch.ones(9, 9, dtype=torch.bool).triu(1)
    weights = [
        (scores + bias).masked_fill(future, -math.inf).softmax(dim=-1) for bias in (ours, theirs)
    ]
    near(weights[0], weights[1], atol=1e-6)


# A chunk behind a cache.


@pytest.mark.parametrize("past_len", [0, 1, 5, 90])
@pytest.mark.parametrize("chunk", [1, 4])
def test_a_chunk_behind_a_cache_is_the_end_of_the_whole(past_len, chunk):
    T = past_len + chunk
    whole, later = torch.arange(T), torch.arange(past_len, T)
    last = slice(past_len, None)
    near(sinusoidal_positions(later, 6), sinusoidal_positions(whole, 6)[last], atol=1e-6)
    near(rotary_angles(later, 6), rotary_angles(whole, 6)[last], atol=1e-6)
    x = numbers(2, 3, T, 6)
    for layout in LAYOUTS:
        wanted = rotate(x, whole, layout=layout)[:, :, last]
        near(rotate(x[:, :, last], later, layout=layout), wanted, atol=1e-6)
    near(alibi_bias(later, whole, 3), alibi_bias(whole, whole, 3)[:, last], atol=0)
    model = GPT(5, 100, d_model=6, num_heads=1, num_layers=1, position="learned")
    tokens = numbers(1, T, 6, dtype=torch.float32)
    with torch.no_grad():
        wanted = model.position.embed(tokens, whole[None])[:, last]
        near(model.position.embed(tokens[:, last], later[None]), wanted, atol=0)


# Shapes, dtypes and devices.


@few
@given(batch=st.integers(1, 3), length=lengths, dim=dims, seed=seeds)
def test_rows_of_a_batch_stand_where_they_say(batch, length, dim, seed):
    positions, x = some_positions(batch, length, seed=seed), numbers(batch, 3, length, dim)
    waves = sinusoidal_positions(positions, dim)
    angles = rotary_angles(positions, dim)
    bias = alibi_bias(positions[:, -2:], positions, 3)
    one_row = alibi_bias(positions[0], positions, 3)
    assert waves.shape == (batch, length, dim)
    assert angles.shape == (batch, length, dim // 2)
    assert bias.shape == (batch, 3, min(length, 2), length)
    assert one_row.shape == (batch, 3, length, length)
    for row in range(batch):
        near(waves[row], sinusoidal_positions(positions[row], dim), atol=1e-6)
        near(angles[row], rotary_angles(positions[row], dim), atol=1e-6)
        near(bias[row], alibi_bias(positions[row, -2:], positions[row], 3), atol=0)
        near(one_row[row], alibi_bias(positions[0], positions[row], 3), atol=0)
        for layout in LAYOUTS:
            turned = rotate(x, positions[:, None], layout=layout)
            near(turned[row], rotate(x[row], positions[row], layout=layout), atol=1e-5)


@every_layout
def test_positions_may_be_shared(layout):
    x = numbers(2, 3, 5, 8)
    everywhere = torch.full((2, 3, 5), 7)
    wanted = rotate(x, everywhere, layout=layout)
    for shape in [(), (1,), (5,), (1, 5), (2, 1, 1), (3, 1)]:
        near(rotate(x, torch.full(shape, 7), layout=layout), wanted, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.float32, torch.float64])
def test_positions_are_numbers_of_any_kind(dtype):
    positions = torch.tensor([0, 3, 11], dtype=dtype)
    assert rotary_angles(positions, 4).dtype == torch.float32
    assert sinusoidal_positions(positions, 4).dtype == torch.float32
    near(sinusoidal_positions(positions, 4), looped_waves([0, 3, 11], 4, 10000))
    x = units(3, 4)
    near(rotate(x, positions), looped_rotate(x, [0, 3, 11], 10000, "half"))


def test_one_may_stand_between_two_places():
    x, between = units(3, 4), torch.tensor([0.5, 1.25, -2.5])
    near(sinusoidal_positions(between, 4), looped_waves(between.tolist(), 4, 10000))
    for layout in LAYOUTS:
        wanted = looped_rotate(x, between.tolist(), 10000, layout)
        near(rotate(x, between, layout=layout), wanted)


@every_layout
@pytest.mark.parametrize(
    ("dtype", "atol"),
    [(torch.float16, 4e-3), (torch.bfloat16, 3e-2), (torch.float32, 1e-6), (torch.float64, 1e-6)],
)
def test_a_rotation_keeps_the_dtype(layout, dtype, atol):
    x, positions = units(2, 6, 8).to(dtype), torch.arange(6)
    turned = rotate(x, positions, layout=layout)
    assert turned.dtype == dtype
    for row in range(2):
        near(turned[row], looped_rotate(x[row], range(6), 10000, layout), atol=atol)


@every_layout
def test_in_half_precision_the_angles_are_not_rounded(layout):
    x, positions = units(3, 8).half(), torch.tensor([1001, 1003, 2049])  # 2049 is no half
    near(rotate(x, positions, layout=layout), looped_rotate(x, positions, 10000, layout), atol=4e-3)


def test_nobody_stands_nowhere():
    nowhere = torch.zeros(0, dtype=torch.long)
    assert sinusoidal_positions(nowhere, 4).shape == (0, 4)
    assert rotate(torch.zeros(2, 0, 4), nowhere).shape == (2, 0, 4)
    assert alibi_bias(nowhere, torch.arange(3), 2).shape == (2, 0, 3)


def test_everything_is_made_where_the_positions_are():
    positions = torch.arange(3, device="meta")
    x = torch.zeros(2, 3, 4, device="meta")
    assert alibi_slopes(3).device == torch.zeros(1).device
    made = [
        alibi_slopes(3, device="meta"),
        alibi_slopes(3, device=torch.device("meta")),
        alibi_bias(positions, positions, 3),
        rotary_angles(positions, 4),
        sinusoidal_positions(positions, 4),
        *(rotate(x, positions, layout=layout) for layout in LAYOUTS),
    ]
    assert all(tensor.device.type == "meta" for tensor in made)


# What cannot be.

ANGLED = {
    "sinusoidal": sinusoidal_positions,
    "angles": rotary_angles,
    "rotation": rotation,
    "rotate": lambda positions, dim, **options: rotate(torch.zeros(3, dim), positions, **options),
}
every_angled = pytest.mark.parametrize("made", ANGLED.values(), ids=ANGLED.keys())


@every_angled
@pytest.mark.parametrize("dim", [1, 3, 7])
def test_an_odd_size_has_no_pairs(made, dim):
    with pytest.raises(ValueError, match=rf"dim must be even.*pairs, got {dim}$"):
        made(torch.arange(3), dim)


@every_angled
def test_a_size_of_nothing_has_no_pairs(made):
    with pytest.raises(ValueError, match="dim must be an integer of at least 1, got 0"):
        made(torch.arange(3), 0)


@pytest.mark.parametrize("made", [sinusoidal_positions, rotary_angles, rotation])
@pytest.mark.parametrize("dim", [-2, 4.0, True, None])
def test_a_size_is_a_whole_number(made, dim):
    with pytest.raises(ValueError, match="dim must be an integer of at least 1"):
        made(torch.arange(3), dim)


@every_angled
@pytest.mark.parametrize("base", [1, 1.0, 0.5, 0, -10000.0, math.nan])
def test_a_base_is_above_one(made, base):
    with pytest.raises(ValueError, match="base must be above 1, got"):
        made(torch.arange(3), 4, base=base)


@every_angled
@pytest.mark.parametrize("base", ["10000", None, True, math.inf, torch.tensor([2.0, 3.0])], ids=str)
def test_a_base_is_a_number(made, base):
    with pytest.raises(ValueError, match=r"base must be above 1, got.*10000.0 is usual"):
        made(torch.arange(3), 4, base=base)


@every_angled
@pytest.mark.parametrize("dtype", [torch.bool, torch.complex64])
def test_a_position_is_a_number(made, dtype):
    with pytest.raises(ValueError, match=f"positions must be numbers such as .*got a {dtype}"):
        made(torch.ones(3).to(dtype), 4)


@every_angled
def test_positions_are_a_tensor(made):
    with pytest.raises(ValueError, match="positions must be a tensor, got list"):
        made([0, 1, 2], 4)


@pytest.mark.parametrize("layout", ["halves", "Half", "", None])
def test_there_are_two_layouts(layout):
    message = f'layout must be "half" or "interleaved", got {layout!r}'
    with pytest.raises(ValueError, match=message):
        rotate(torch.zeros(3, 4), torch.arange(3), layout=layout)
    with pytest.raises(ValueError, match=message):
        rotation(torch.arange(3), 4, layout=layout)


@pytest.mark.parametrize(
    ("x", "got"),
    [
        (torch.zeros(3, 4, dtype=torch.long), "a torch.int64 tensor"),
        (torch.zeros(3, 4, dtype=torch.bool), "a torch.bool tensor"),
        (torch.zeros(3, 4, dtype=torch.complex64), "a torch.complex64 tensor"),
        ([[0.0, 1.0]], "list"),
    ],
)
def test_only_floating_numbers_are_turned(x, got):
    with pytest.raises(ValueError, match=f"x must be a floating tensor, got {got}"):
        rotate(x, torch.arange(3))


@pytest.mark.parametrize("shape", [(), (4,)])
def test_what_is_turned_has_a_length(shape):
    with pytest.raises(ValueError, match=r"x must have axes \(…, length, dim\), got shape"):
        rotate(torch.zeros(shape), torch.tensor(0))


@every_layout
@pytest.mark.parametrize(
    ("positions", "x"),
    [
        ((4,), (5, 8)),
        ((6,), (5, 8)),
        ((5,), (1, 8)),
        ((2, 5), (5, 8)),
        ((1, 5), (5, 8)),
        ((2, 5), (2, 3, 5, 8)),
        ((3, 1, 5), (2, 4, 5, 8)),
    ],
)
def test_positions_that_do_not_fit_are_told(layout, positions, x):
    message = rf"positions of shape \({', ?'.join(map(str, positions))},?\) do not fit x of shape"
    where = torch.zeros(positions, dtype=torch.long)
    with pytest.raises(ValueError, match=message):
        rotate(torch.zeros(x), where, layout=layout)
    apply_rotation = rotation(where, x[-1], layout=layout)
    with pytest.raises(ValueError, match=message):
        apply_rotation(torch.zeros(x))


@every_layout
@pytest.mark.parametrize("dim", [2, 6, 12])
def test_a_rotation_turns_vectors_of_its_own_size_only(layout, dim):
    # Of these, dim=2 has one angle, which would broadcast over all pairs.
    apply_rotation = rotation(torch.arange(5), dim, layout=layout)
    assert apply_rotation(torch.zeros(5, dim)).shape == (5, dim)
    with pytest.raises(ValueError, match=rf"for dim={dim}, got x of shape \(5, 8\)"):
        apply_rotation(torch.zeros(5, 8))
    with pytest.raises(ValueError, match="x must be a floating tensor"):
        apply_rotation(torch.zeros(5, dim, dtype=torch.long))
    with pytest.raises(ValueError, match=r"got x of shape \(\)"):
        apply_rotation(torch.tensor(0.0))


def test_positions_lie_where_the_vectors_do():
    with pytest.raises(ValueError, match="positions lives on meta, x on cpu"):
        rotate(torch.zeros(3, 4), torch.arange(3, device="meta"))
    with pytest.raises(ValueError, match="key_positions lives on cpu, query_positions on meta"):
        alibi_bias(torch.arange(3, device="meta"), torch.arange(3), 2)


@pytest.mark.parametrize("heads", [0, -1, 2.0, True, None, "3"])
def test_there_is_at_least_one_head(heads):
    message = f"num_heads must be an integer of at least 1, got {heads!r}"
    with pytest.raises(ValueError, match=message):
        alibi_slopes(heads)
    with pytest.raises(ValueError, match=message):
        alibi_bias(torch.arange(3), torch.arange(3), heads)


def test_places_of_queries_and_keys_are_tensors():
    with pytest.raises(ValueError, match="query_positions must be a tensor, got int"):
        alibi_bias(3, torch.arange(3), 2)
    with pytest.raises(ValueError, match="key_positions must be a tensor, got range"):
        alibi_bias(torch.arange(3), range(3), 2)


@pytest.mark.parametrize(("name", "at"), [("query_positions", 0), ("key_positions", 1)])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.tensor(3), "must have an axis, one number per token"),
        (torch.ones(3).bool(), "must be numbers such as .*got a torch.bool tensor"),
    ],
    ids=["no axis", "flags"],
)
def test_places_of_queries_and_keys_are_rows_of_numbers(name, at, wrong, message):
    places = [torch.arange(3), torch.arange(3)]
    places[at] = wrong
    with pytest.raises(ValueError, match=f"{name} {message}"):
        alibi_bias(*places, 2)


def test_places_of_queries_and_keys_agree_in_the_texts():
    message = r"query_positions \(2, 3\) and key_positions \(3, 4\) must agree in the axes before"
    with pytest.raises(ValueError, match=message):
        alibi_bias(torch.zeros(2, 3), torch.zeros(3, 4), 2)
    assert alibi_bias(torch.zeros(2, 3), torch.zeros(1, 4), 5).shape == (2, 5, 3, 4)
    assert alibi_bias(torch.zeros(2, 3), torch.zeros(4), 5).shape == (2, 5, 3, 4)


@pytest.mark.parametrize("reorder", [to_half, to_interleaved])
def test_only_pairs_are_reordered(reorder):
    for shape in [(5,), (2, 3), ()]:
        with pytest.raises(ValueError, match="last axis must be even, a number of pairs, got"):
            reorder(torch.zeros(shape))
    with pytest.raises(ValueError, match="x must be a tensor, got list"):
        reorder([0, 1])


@pytest.mark.parametrize("dim", [2, 4])
@pytest.mark.parametrize("wrong", [3, 5, 8])
def test_what_is_turned_must_have_the_size_that_was_prepared(dim, wrong):
    with pytest.raises(ValueError, match=f"dim={dim}"):
        rotation(torch.arange(3), dim)(torch.ones(3, wrong))


def test_integers_are_not_turned():
    with pytest.raises(ValueError, match="x must"):
        rotation(torch.arange(3), 4)(torch.ones(3, 4, dtype=torch.long))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int32])
def test_positions_in_small_integers_do_not_overflow(dtype):
    queries, keys = torch.tensor([2, 100], dtype=dtype), torch.tensor([0, 1, 127], dtype=dtype)
    wanted = alibi_bias(queries.long(), keys.long(), 3)
    torch.testing.assert_close(alibi_bias(queries, keys, 3), wanted)
    assert wanted[0, 0, 0] < 0
