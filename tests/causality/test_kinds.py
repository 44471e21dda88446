"""Kinds of models at which the checker once was wrong, each in several members."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from causal_lab.causality import check_cache, check_causality, check_padding

B, T, D = 3, 10, 6


def vectors(*shape: int) -> torch.Tensor:
    return torch.randn(*(shape or (B, T, D)), generator=torch.Generator().manual_seed(0))


def ids(batch=B, length=T) -> torch.Tensor:
    return torch.randint(1, 20, (batch, length), generator=torch.Generator().manual_seed(0))


class Plainly(nn.Module):
    """A function with an embedding before it."""

    def __init__(self, function):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.function = nn.Embedding(20, D), function

    def forward(self, ids, *others, **more):
        return self.function(self.embedding(ids), *others, **more)


# --- some part computes in 32 bits, and hides it


def in_numpy(function):
    def hidden(x):
        return torch.from_numpy(function(x.detach().numpy().astype(np.float32))).to(x.dtype)

    return hidden


def _norm(x: torch.Tensor) -> torch.Tensor:
    y = x.float()
    return (y / (y.square().mean(-1, keepdim=True) + 1e-5).sqrt()).to(x.dtype)


class Rounds(torch.autograd.Function):
    """A kernel of somebody's own, which knows one precision."""

    @staticmethod
    def forward(context, x):
        return in_numpy(lambda y: np.fft.irfft(np.fft.rfft(y, 32, 1), 32, 1)[:, :T].astype("f4"))(x)

    @staticmethod
    def backward(context, gradient):
        return gradient


with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    scripted_norm = torch.jit.script(_norm)


def there_and_back(x):
    """The future is added in 32 bits, and taken off again: rounding alone is left."""
    rest = x.flip(1).cumsum(1).flip(1)
    return in_numpy(lambda y: y)(x + rest) - in_numpy(lambda y: y)(rest)


HIDDEN = {
    "scripted norm": lambda x: scripted_norm(there_and_back(x)).cumsum(1),
    "numpy sums": in_numpy(lambda y: y.sum(1, keepdims=True) - (y[:, ::-1].cumsum(1)[:, ::-1] - y)),
    "a kernel by Fourier transform": lambda x: Rounds.apply(x).cumsum(1),
    "there and back": there_and_back,
    "behind a norm": lambda x: F.layer_norm(there_and_back(x), (D,)),
    "as a tanh": lambda x: there_and_back(x).tanh(),
}


@pytest.mark.parametrize("kind", HIDDEN)
def test_hidden_32_bits_are_never_a_leak(kind):
    report = check_causality(Plainly(HIDDEN[kind]), ids(), allow="pointwise")
    assert report.causal is not False, str(report)
    report = check_causality(Plainly(lambda x: HIDDEN[kind](x) + 1e-3 * x.roll(-2, 1)), ids())
    assert report.causal is False, str(report)


def test_the_rounding_of_hidden_32_bits_is_stated():
    report = check_causality(Plainly(there_and_back), ids(), allow="pointwise")
    assert report.causal is True
    assert "by more than rounding, which was seen at" in str(report)
    assert "some part computes in fewer" in report.reason
    in_full = check_causality(Plainly(lambda x: x.cumsum(1)), ids())
    assert "computes in fewer" not in in_full.reason


# --- positions do not interact, or rows do

LAYERS = {
    "LSTM": lambda: nn.LSTM(D, D, bidirectional=True),
    "GRU": lambda: nn.GRU(D, D, bidirectional=True),
    "RNN": lambda: nn.RNN(D, D, bidirectional=True),
    "encoder": lambda: nn.TransformerEncoderLayer(D, 2, 8, dropout=0.0),
    "encoder of several layers": lambda: nn.TransformerEncoder(
        nn.TransformerEncoderLayer(D, 2, 8, dropout=0.0), 2, enable_nested_tensor=False
    ),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_time_first_is_never_a_plain_yes(kind):
    torch.manual_seed(0)
    layer = LAYERS[kind]().eval()
    for model, inputs in ((layer, vectors()), (layer, vectors(T, B, D))):
        report = check_causality(model, inputs)
        assert not report
        assert {"pointwise", "batch"} <= {caution.name for caution in report.cautions}
    # What is meant is found out.
    assert check_causality(layer, vectors(T, B, D), time_axis=0).causal is False
    report = check_causality(Plainly(lambda x: F.relu(x)), ids())
    assert [caution.name for caution in report.cautions] == ["pointwise"]


@pytest.mark.parametrize("groups", [1, D])
@pytest.mark.parametrize("dilation", [1, 2])
def test_channels_first_are_never_a_plain_answer(groups, dilation):
    pad = nn.ConstantPad1d((2 * dilation, 0), 0.0)
    causal = nn.Sequential(pad, nn.Conv1d(D, D, 3, dilation=dilation, groups=groups))
    x = vectors(B, D, T)
    assert not check_causality(causal, x)
    assert check_causality(causal, x).causal is not False
    assert check_causality(causal, x, time_axis=2)
    ahead = nn.Sequential(nn.Conv1d(D, D, 3, padding=1, groups=groups))
    assert not check_causality(ahead, x)
    assert check_causality(ahead, x, time_axis=2).causal is False


# --- state that is more than tensors


class Tables(nn.Module):
    """A table that grows, and something plain that says how far it has grown."""

    def __init__(self, kind):
        super().__init__()
        self.embedding, self.kind, self.plain = nn.Embedding(20, D), kind, {"n": 0, "seen": []}
        self.register_buffer("table", torch.zeros(32, D))
        self.array, self.n, self.slots = np.zeros((32, D)), 0, [0]

    def forward(self, ids):
        n, rows = ids.shape[1], torch.arange(ids.shape[1])[:, None] / 10
        filled = {"number": self.n, "dict": self.plain["n"], "list": self.slots[0]}
        filled |= {"array": self.n, "seen": len(self.plain["seen"])}
        if n > filled[self.kind]:
            if self.kind == "array":
                self.array[:n] = rows.numpy()
            self.table[:n] = rows
            self.n, self.plain["n"], self.slots[0] = n, n, n
            self.plain["seen"] = list(range(n))
        table = self.table[:n]
        if self.kind == "array":
            table = torch.from_numpy(self.array[:n]).to(table)
        return self.embedding(ids).cumsum(1) + table


@pytest.mark.parametrize("kind", ["number", "dict", "list", "array", "seen"])
def test_a_table_and_how_full_it_is_are_restored_together(kind):
    model = Tables(kind)
    report = check_causality(model, ids())
    assert report, str(report)
    assert (model.n, model.plain["n"], model.slots, model.array.max()) == (0, 0, [0], 0)
    assert float(model.table.max()) == 0


# --- what is a number on one side only


def hidden_from(mask, fill):
    """Attention in which padding is hidden; a row that sees nothing becomes what it becomes."""

    def attend(x, attention_mask=None):
        blocked = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)[None]
        if attention_mask is not None:
            blocked = blocked | (attention_mask == 0)[:, None]
        weights = (x @ x.mT).masked_fill(blocked, fill).softmax(-1)
        if mask == "twice":
            weights = ((weights @ x) @ x.mT).masked_fill(blocked, fill).softmax(-1)
        if mask == "logarithm":
            return (weights @ x).abs().log().cumsum(1)
        return weights @ x

    return attend


@pytest.mark.parametrize("mask", ["once", "twice", "logarithm"])
def test_nan_in_the_real_tokens_is_no_rounding(mask):
    class Model(Plainly):
        def forward(self, ids, attention_mask=None):
            x = self.embedding(ids)
            return self.function(self.function(x, attention_mask).cumsum(1), attention_mask)

    report = check_padding(Model(hidden_from(mask, -torch.inf)), ids(), 0)
    assert report.results["left"].same is not True
    assert report.same is not True


@pytest.mark.parametrize("at", [0, 4])
def test_a_cache_that_gives_nan_is_no_rounding(at):
    def step(chunk, total):
        start, total = total or (0, 0.0)
        sums = chunk.cumsum(1) + total
        wrong = torch.arange(start, start + chunk.shape[1]) == at
        return sums.masked_fill(wrong[:, None], torch.nan), (start + chunk.shape[1], sums[:, -1:])

    report = check_cache(step, vectors(), lambda x: x.cumsum(1))
    assert report.same is False
    assert all(r.difference == float("inf") for r in report.results.values() if r.same is False)


# --- what is left of a first prompt


class Leaves(nn.Module):
    """A decoder of sums that keeps ``what`` over the end of a prompt."""

    def __init__(self, what):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.places, self.what = nn.Embedding(20, D), nn.Embedding(64, D), what
        self.register_buffer("total", torch.zeros(1, 1, D))
        self.kept = {"position": 0, "tokens": [], "scale": None}

    def forward(self, ids):
        return (self.embedding(ids) + self.places(torch.arange(ids.shape[1]))).cumsum(1).tanh()

    def step(self, chunk, cache):
        if cache is None:
            for name, start in (("position", 0), ("tokens", []), ("scale", None)):
                if self.what != name:
                    self.kept[name] = start
            if self.what != "total":
                self.total = torch.zeros(1, 1, D)
        start = len(self.kept["tokens"]) if self.what == "tokens" else self.kept["position"]
        x = self.embedding(chunk) + self.places(torch.arange(start, start + chunk.shape[1]))
        self.kept["position"] += chunk.shape[1]
        self.kept["tokens"] = [*self.kept["tokens"], *range(chunk.shape[1])]
        x = x.cumsum(1) + (self.total if cache is not None or self.what == "total" else 0.0)
        self.total = x[:, -1:]
        if self.kept["scale"] is None:
            self.kept["scale"] = 1.0 if self.what != "scale" else 1.0 + float(chunk[0, 0])
        return (x * (1.0 if self.what != "scale" else self.kept["scale"])).tanh(), "inside"


@pytest.mark.parametrize("what", ["nothing", "position", "tokens", "total", "scale"])
def test_whatever_a_first_prompt_leaves_is_told(what):
    model = Leaves(what)
    report = check_cache(model.step, ids(), model)
    if what == "nothing":
        assert report, str(report)
    else:
        assert report.same is False
    assert model.kept == {"position": 0, "tokens": [], "scale": None}


# --- sources as long as the target


@pytest.mark.parametrize("name", ["source", "memory", "weights", "lengths", "square"])
def test_what_is_as_long_by_chance_is_not_cut(name):
    given = {
        "source": ids(),
        "memory": vectors(),
        "weights": vectors(T).abs(),
        "lengths": torch.full((B,), T),
        "square": vectors(T, T),
    }[name]

    def function(x, **more):
        (value,) = more.values()
        number = value.double().mean().to(x) if name != "source" else value.to(x).mean()
        return x.cumsum(1) * (1 + number)

    report = check_causality(Plainly(function), ids(), forward_kwargs={name: given})
    assert report.causal is True, str(report)
    assert report.length_dependent is False


# --- what could be rounding, and is too large to be called so


def test_a_difference_that_may_be_rounding_and_is_not_small_stays_open():
    def full(x):
        return x.cumsum(1).tanh()

    def step(chunk, total):
        sums = chunk.cumsum(1) + (0.0 if total is None else total)
        rough = (
            in_numpy(lambda y: y + np.float32(1e3))(sums) - 1e3
        )  # 32 bits, of which few are left
        return rough.tanh(), sums[:, -1:]

    report = check_cache(step, vectors(), full)
    assert report.same is None, str(report)
    assert "may be rounding; tolerance=" in report.reason
    assert check_cache(step, vectors(), full, tolerance=1e-3)


class CutsOff(nn.Module):
    """Gives no outputs behind the last token that is not padding, as packed sequences do."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, D)

    def forward(self, ids):
        longest = int(((ids != 0) * torch.arange(1, ids.shape[1] + 1)).max())
        return self.embedding(ids).cumsum(1)[:, : max(longest, 1)]


def test_outputs_that_are_cut_off_are_missing_and_no_reason_to_stop():
    report = check_causality(CutsOff(), ids(), special_ids=[0])
    assert report.evidence_of("special ids").independent is True, str(report)
    assert report
