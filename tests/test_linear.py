"""The fast product against PyTorch's own, and which of the two is taken when."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from causal_lab.linear import Linear, linear

IN = 96
LARGE = 1024  # 1024 · 96 weights are enough for the fast path
needs_mkl = pytest.mark.skipif(
    not torch.backends.mkl.is_available(), reason="the fast path is a routine of MKL"
)


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def assert_close(actual, expected, atol=1e-4):
    assert expected.abs().max() > 1  # else anything small would do
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


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


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("out", [5, 700, 703, LARGE, 1025, 1039])
@pytest.mark.parametrize("rows", range(1, 21))
def test_any_number_of_rows_times_a_matrix_of_any_size_is_f_linear(rows, out, has_bias):
    x, weight = randn(rows, IN), randn(out, IN, seed=1)
    bias = 10 * randn(out, seed=2) if has_bias else None
    exact = F.linear(x.double(), weight.double(), bias.double() if has_bias else None)
    assert_close(linear(x, weight, bias), exact.float())


@pytest.mark.parametrize("out", [16, 17, 31, 33])
@pytest.mark.parametrize("rows", [1, 2, 8])
def test_so_is_a_matrix_of_few_long_rows(rows, out):
    x, weight = randn(rows, 5000), randn(out, 5000, seed=1)
    assert_close(linear(x, weight), (x.double() @ weight.double().T).float(), 1e-3)


@pytest.mark.parametrize(
    "shape", [(), (1,), (4,), (1, 1), (1, 5), (3, 1), (2, 3), (1, 1, 1), (2, 1, 3), (2, 2, 3)]
)
@pytest.mark.parametrize("out", [7, 703, LARGE])
def test_leading_axes_stay_and_each_row_is_multiplied_by_itself(out, shape):
    x, weight, bias = randn(*shape, IN), randn(out, IN, seed=1), randn(out, seed=2)
    product = linear(x, weight, bias)
    assert product.shape == (*shape, out)
    assert_close(product, F.linear(x.double(), weight.double(), bias.double()).float())


@pytest.mark.parametrize("rows", [1, 4, 20])
def test_rows_and_matrices_that_do_not_lie_in_one_piece_serve_too(rows):
    x, weight = randn(IN, rows).T, randn(IN, LARGE, seed=1).T
    expected = (x.double() @ weight.double().T).float()
    assert_close(linear(x, weight), expected)
    assert_close(linear(x, weight.contiguous()), expected)
    assert_close(linear(x[None].expand(1, rows, IN), weight.contiguous()), expected[None])
    wide = randn(rows, 2 * IN)
    apart = (wide[:, ::2].double() @ weight.double().T).float()
    assert_close(linear(wide[:, ::2], weight.contiguous()), apart)
    part = randn(LARGE, IN + 1, seed=3)[:, 1:]
    assert_close(linear(x, part), (x.double() @ part.double().T).float())


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-12), (torch.bfloat16, 0.3)])
@pytest.mark.parametrize("rows", [1, 4, 20])
def test_other_dtypes_stay_what_they_are(rows, dtype, atol):
    x, weight = randn(rows, IN, dtype=dtype), randn(LARGE, IN, seed=1, dtype=dtype)
    product = linear(x, weight)
    assert product.dtype == dtype
    assert_close(product.double(), x.double() @ weight.double().T, atol)


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("shape", [(1,), (1, 1)])
def test_nothing_that_came_in_is_changed_and_the_product_is_memory_of_its_own(rows, shape):
    x, weight, bias = randn(*shape, rows, IN), randn(LARGE, IN, seed=1), randn(LARGE, seed=2)
    before = [part.clone() for part in (x, weight, bias)]
    first = linear(x, weight, bias)
    kept = first.clone()
    second = linear(x, weight, bias)
    second.zero_()
    assert torch.equal(first, kept)
    assert all(torch.equal(a, b) for a, b in zip((x, weight, bias), before, strict=True))


def test_no_row_gives_no_row():
    assert linear(torch.zeros(0, IN), randn(LARGE, IN)).shape == (0, LARGE)


def test_rows_that_do_not_fit_the_matrix_are_refused_as_by_pytorch():
    for rows in (1, 4, 20):
        for refuses in (linear, F.linear):
            with pytest.raises(RuntimeError):
                refuses(randn(rows, IN + 1), randn(LARGE, IN))


# --- which product is taken


@needs_mkl
@pytest.mark.parametrize("out", [LARGE, 1039])
@pytest.mark.parametrize("rows", [1, 2, 4, 8])
def test_few_rows_take_the_fast_path_in_inference(rows, out, products):
    layer = Linear(IN, out)
    with torch.no_grad():
        layer(randn(rows, IN))
    assert products[0] == "bmm"
    assert ("linear" in products) is (out % 16 > 0)  # for what was left over
    frozen = Linear(IN, out).requires_grad_(False)
    products.clear()
    frozen(randn(rows, IN))
    assert products[0] == "bmm"


@needs_mkl
@pytest.mark.parametrize("shape", [(), (1, 1), (2, 3), (2, 1, 4)])
def test_rows_are_counted_over_all_leading_axes(shape, products):
    linear(randn(*shape, IN), randn(LARGE, IN))
    assert products == ["bmm"]
    linear(randn(3, 3, IN), randn(LARGE, IN))
    assert products == ["bmm", "linear"]


def autocast(x, weight):
    with torch.autocast("cpu", torch.bfloat16):
        return linear(x, weight)


SLOW = {
    "many rows": lambda x, w: linear(x.expand(9, IN), w),
    "a small matrix": lambda x, w: linear(x, w[: 2**16 // IN]),
    "64 bits": lambda x, w: linear(x.double(), w.double()),
    "16 bits": lambda x, w: linear(x.bfloat16(), w.bfloat16()),
    "rows with gradients": lambda x, w: linear(x.requires_grad_(), w),
    "a matrix with gradients": lambda x, w: linear(x, w.requires_grad_()),
    "a matrix in pieces": lambda x, w: linear(x, w.T.contiguous().T),
    "a few rows of a matrix": lambda x, w: linear(x.repeat(1, 200), w.view(-1)[:96000].view(5, -1)),
    "no row": lambda x, w: linear(x[:0], w),
    "autocast": autocast,
    "another device": lambda x, w: linear(x.to("meta"), w.to("meta")),
}


@pytest.mark.parametrize("call", SLOW.values(), ids=SLOW)
def test_everything_else_takes_pytorchs_own(call, products):
    call(randn(1, IN), randn(LARGE, IN))
    assert products == ["linear"]


@needs_mkl
def test_the_smallest_matrix_of_the_fast_path_has_65536_weights(products):
    x = randn(1, 64)
    linear(x, randn(1024, 64))
    linear(x, randn(1023, 64))
    assert products == ["bmm", "linear"]


def test_under_autocast_the_product_comes_in_its_dtype():
    assert autocast(randn(1, IN), randn(LARGE, IN)).dtype == torch.bfloat16


# --- gradients


@pytest.mark.parametrize("learns", ["x", "weight", "bias", "all"])
@pytest.mark.parametrize("rows", [1, 4, 20])
def test_gradients_are_those_of_f_linear_whatever_learns(rows, learns):
    def gradients(product):
        parts = {
            "x": randn(rows, IN),
            "weight": randn(LARGE, IN, seed=1),
            "bias": randn(LARGE, seed=2),
        }
        for name, part in parts.items():
            part.requires_grad_(learns in (name, "all"))
        product(*parts.values()).square().sum().backward()
        return {name: part.grad for name, part in parts.items()}

    ours, theirs = gradients(linear), gradients(F.linear)
    for name, expected in theirs.items():
        assert (expected is not None) is (learns in (name, "all"))
        if expected is not None:
            torch.testing.assert_close(ours[name], expected, rtol=1e-5, atol=1e-4)


# --- the layer


def test_the_layer_is_pytorchs_in_name_and_state():
    torch.manual_seed(0)
    ours = Linear(IN, LARGE)
    torch.manual_seed(0)
    theirs = nn.Linear(IN, LARGE)
    assert isinstance(ours, nn.Linear)
    assert list(ours.state_dict()) == ["weight", "bias"]
    assert torch.equal(ours.weight, theirs.weight)
    assert torch.equal(ours.bias, theirs.bias)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.mul_(3)
    ours.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        for rows in (1, 4, 20):
            assert_close(ours(randn(rows, IN)), theirs(randn(rows, IN)))


def test_a_layer_without_a_constant_has_none():
    layer = Linear(IN, LARGE, bias=False)
    assert layer.bias is None
    with torch.no_grad():
        assert (layer(torch.zeros(1, IN)) == 0).all()
        assert_close(layer(10 * randn(1, IN)), F.linear(10 * randn(1, IN), layer.weight))


def test_the_layer_in_training_gives_what_it_gives_in_inference():
    layer, x = Linear(IN, LARGE), 5 * randn(4, IN)
    with torch.no_grad():
        inference = layer(x)
    assert_close(layer(x).detach(), inference, 1e-5)
