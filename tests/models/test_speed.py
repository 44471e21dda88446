"""The fast product against PyTorch's own, which of the two is taken when, and the switch."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from causal_lab.models.generation import generate
from causal_lab.models.speed import speed_up
from causal_lab.models.transformer import BERT, GPT
from tests import builders
from tests.builders import randn, seeded

IN = 96
LARGE = 1024  # 1024 · 96 weights are enough for the fast path
needs_mkl = pytest.mark.skipif(
    not torch.backends.mkl.is_available(), reason="the fast path is a routine of MKL"
)
ROWS = pytest.mark.parametrize("rows", [1, 4, 20])


def assert_close(actual, expected, atol=1e-4):
    assert expected.abs().max() > 1  # else anything small would do
    builders.assert_close(actual, expected, atol)


def fast(weight: torch.Tensor, bias: torch.Tensor | None = None, learns: bool = False) -> nn.Linear:
    """Make a layer with these weights as they lie in memory, and turn the fast product on."""
    layer = nn.Linear(1, 1, bias=bias is not None)
    layer.weight = nn.Parameter(weight, requires_grad=learns)
    if bias is not None:
        layer.bias = nn.Parameter(bias, requires_grad=learns)
    return speed_up(layer)


@pytest.fixture
def products(monkeypatch):
    """Count which product is taken."""
    taken = []
    for owner, name in ((torch, "bmm"), (F, "linear")):
        original = getattr(owner, name)

        def spy(*arguments, original=original, name=name):
            taken.append(name)
            return original(*arguments)

        monkeypatch.setattr(owner, name, spy)
    return taken


# --- the same numbers


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 8, 9, 20])
def test_any_number_of_rows_times_a_matrix_of_any_size_is_f_linear(rows):
    # Below the fast path, no divisor near 16, 16 parts, and a rest of 1 or 15 rows.
    for out in (5, 703, LARGE, 1025, 1039):
        x, weight, bias = randn(rows, IN), randn(out, IN, seed=1), 10 * randn(out, seed=2)
        product = x.double() @ weight.double().T
        assert_close(fast(weight)(x), product.float())
        assert_close(fast(weight, bias)(x), (product + bias).float())


@pytest.mark.parametrize("rows", [1, 2, 8])
def test_so_is_a_matrix_of_few_long_rows(rows):
    for out in (15, 16, 17, 31, 33):
        x, weight = randn(rows, 5000), randn(out, 5000, seed=1)
        assert_close(fast(weight)(x), (x.double() @ weight.double().T).float(), 1e-3)


@pytest.mark.parametrize("shape", [(), (4,), (1, 1), (1, 5), (2, 3), (1, 1, 1), (2, 1, 3)])
def test_leading_axes_stay_and_each_row_is_multiplied_by_itself(shape):
    for out in (7, 703, LARGE):
        x, weight, bias = randn(*shape, IN), randn(out, IN, seed=1), randn(out, seed=2)
        product = fast(weight, bias)(x)
        assert product.shape == (*shape, out)
        assert_close(product, F.linear(x.double(), weight.double(), bias.double()).float())


@ROWS
def test_rows_and_matrices_that_do_not_lie_in_one_piece_serve_too(rows):
    weight, turned, wide = randn(LARGE, IN, seed=1), randn(IN, rows).T, randn(rows, 2 * IN)[:, ::2]
    many = turned[None].expand(1, rows, IN)
    for x in (turned, wide, many):
        for matrix in (weight, weight.T.contiguous().T, randn(LARGE, IN + 1, seed=3)[:, 1:]):
            assert_close(fast(matrix)(x), (x.double() @ matrix.double().T).float())


@ROWS
def test_other_dtypes_stay_what_they_are(rows):
    for dtype, atol in ((torch.float64, 1e-12), (torch.bfloat16, 0.3)):
        x, weight = randn(rows, IN, dtype=dtype), randn(LARGE, IN, seed=1, dtype=dtype)
        product = fast(weight)(x)
        assert product.dtype == dtype
        assert_close(product.double(), x.double() @ weight.double().T, atol)


@pytest.mark.parametrize("shape", [(1, IN), (1, 4, IN)])
def test_nothing_that_came_in_is_changed_and_the_product_is_memory_of_its_own(shape):
    x, weight, bias = randn(*shape), randn(LARGE, IN, seed=1), randn(LARGE, seed=2)
    before = [part.clone() for part in (x, weight, bias)]
    layer = fast(weight, bias)
    first = layer(x)
    kept = first.clone()
    layer(x).zero_()
    assert torch.equal(first, kept)
    assert all(torch.equal(a, b) for a, b in zip((x, weight, bias), before, strict=True))


@ROWS
def test_rows_that_do_not_fit_the_matrix_are_refused_as_by_pytorch(rows):
    with pytest.raises(RuntimeError):
        fast(randn(LARGE, IN))(randn(rows, IN + 1))


@ROWS
def test_gradients_are_those_of_f_linear_whatever_learns(rows):
    for x_learns, layer_learns in ((True, False), (False, True), (True, True)):
        found = []
        for turn_on in (True, False):
            layer = fast(randn(LARGE, IN, seed=1), randn(LARGE, seed=2), learns=layer_learns)
            x = randn(rows, IN).requires_grad_(x_learns)
            speed_up(layer, on=turn_on)(x).square().sum().backward()
            found.append([part.grad for part in (x, layer.weight, layer.bias)])
        for ours, theirs, learns in zip(*found, (x_learns, *2 * [layer_learns]), strict=True):
            assert (ours is not None) is (theirs is not None) is learns
            if learns:
                torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)


# --- which product is taken


@needs_mkl
@pytest.mark.parametrize("shape", [(1,), (8,), (), (1, 1), (2, 3), (2, 1, 4)])
def test_few_rows_take_the_fast_path_in_inference(shape, products):
    x = randn(*shape, IN)
    fast(randn(LARGE, IN))(x)
    with torch.no_grad():
        fast(randn(LARGE, IN), learns=True)(x)
    assert products == ["bmm", "bmm"]
    fast(randn(1039, IN))(x)
    assert products[2:] == ["bmm", "linear"]  # for what was left over


def with_autocast(x, weight):
    with torch.autocast("cpu", torch.bfloat16):
        product = fast(weight)(x)
    assert product.dtype == torch.bfloat16


SLOW = {
    "nine rows": lambda x, w: fast(w)(x.expand(3, 3, IN)),
    "64 bits": lambda x, w: fast(w.double())(x.double()),
    "16 bits": lambda x, w: fast(w.bfloat16())(x.bfloat16()),
    "rows with gradients": lambda x, w: fast(w)(x.requires_grad_()),
    "a matrix with gradients": lambda x, w: fast(w, learns=True)(x),
    "a matrix in pieces": lambda x, w: fast(w.T.contiguous().T)(x),
    "a few rows of a matrix": lambda x, w: fast(torch.ones(15, 5000))(torch.ones(1, 5000)),
    "65,535 weights": lambda x, w: fast(torch.ones(21845, 3))(torch.ones(1, 3)),
    "no row": lambda x, w: fast(w)(x[:0]),
    "autocast": with_autocast,
    "another device": lambda x, w: fast(w.to("meta"))(x.to("meta")),
    "switched off": lambda x, w: speed_up(fast(w), on=False)(x),
    "never switched on": lambda x, w: nn.Linear(IN, LARGE).requires_grad_(False)(x),
}


@pytest.mark.parametrize("call", SLOW.values(), ids=SLOW)
def test_everything_else_takes_pytorchs_own(call, products):
    call(randn(1, IN), randn(LARGE, IN))
    assert products == ["linear"]


@needs_mkl
def test_the_smallest_matrix_of_the_fast_path_has_65536_weights(products):
    fast(randn(1024, 64))(randn(1, 64))
    assert products == ["bmm"]


# --- the switch


SIZES = {"d_model": 128, "num_heads": 4, "num_layers": 1}  # only the MLP and the head are large
MODELS = {
    "GPT": (lambda: GPT(LARGE, 12, **SIZES), 4 * ["linear"] + 3 * ["bmm"]),
    "BERT": (
        lambda: BERT(LARGE, 12, head_transform=True, **SIZES),
        [*4 * ["linear"], "bmm", "bmm", "linear", "bmm"],
    ),
    "another's": (
        lambda: nn.Sequential(nn.Embedding(LARGE, 128), nn.Linear(128, LARGE), nn.Linear(LARGE, 9)),
        ["bmm", "linear"],
    ),
}
EACH_MODEL = pytest.mark.parametrize(("make", "taken"), MODELS.values(), ids=MODELS)


@torch.no_grad()
def run(model: nn.Module) -> torch.Tensor:
    return model.eval()(torch.tensor([[5, 1, 599]]))


@needs_mkl
@EACH_MODEL
def test_the_switch_is_off_at_first_and_reaches_every_layer_and_the_tied_head(
    make, taken, products
):
    model = make()
    plain = run(model)
    assert "bmm" not in products
    products.clear()
    assert speed_up(model) is model
    torch.testing.assert_close(run(speed_up(model)), plain, rtol=0, atol=1e-5)  # on twice is on
    assert products == taken
    products.clear()
    assert torch.equal(run(speed_up(model, on=False)), plain)
    assert "bmm" not in products


@EACH_MODEL
def test_the_weights_are_the_same_under_the_same_names(make, taken):
    model = make()
    before, state = dict(model.named_parameters()), copy.deepcopy(model.state_dict())
    speed_up(model)
    after = dict(model.named_parameters())
    assert list(after) == list(before)
    assert all(after[name] is parameter for name, parameter in before.items())
    fresh = make()
    fresh.load_state_dict(model.state_dict(), strict=True)
    model.load_state_dict(state, strict=True)
    torch.testing.assert_close(run(model), run(fresh), rtol=0, atol=1e-5)


@needs_mkl
@EACH_MODEL
def test_a_copy_and_a_pickled_model_stay_fast_and_can_be_made_plain(make, taken, products):
    model = speed_up(make())
    expected = run(model)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        products.clear()
        assert torch.equal(run(other), expected)
        assert products == taken
        products.clear()
        run(speed_up(other, on=False))
        assert "bmm" not in products
    products.clear()
    run(model)
    assert products == taken


def test_other_models_of_the_class_and_layers_of_a_subclass_are_left_alone():
    class Own(nn.Linear):
        pass

    one, other, own = GPT(9, 4, d_model=8), GPT(9, 4, d_model=8), nn.Sequential(Own(2, 3))
    speed_up(one), speed_up(own)
    assert other.product is F.linear is GPT.product
    assert type(other.blocks[0].mlp[0]) is nn.Linear
    assert type(own[0]) is Own


def test_what_is_written_is_the_same():
    model = GPT(LARGE, 32, generator=seeded(0), **SIZES).eval()
    plain = generate(model, [[1, 2, 3], [4]], 20)
    assert torch.equal(generate(speed_up(model), [[1, 2, 3], [4]], 20), plain)


def test_what_is_no_model_is_refused():
    with pytest.raises(ValueError, match=r"speed_up needs an nn\.Module, got a torch"):
        speed_up(torch.zeros(2))
