"""Every broken module of the zoo behind another one: is it the one that is named?"""

import pytest
import torch
from torch import Tensor, nn

from causal_lab.causality import check_cache, check_causality, check_padding
from tests.causality.zoo.broken import BROKEN

# An identity leaks under lookahead −1, so that the first module is to blame; the other one leaks
# only while gradients are recorded.
NOT_THIS_WAY = {"sees_itself", "with_gradients_only", "HintWithoutMask"}


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.rand(4) + 0.5)

    def forward(self, x):
        return x * self.factor.to(x)


def hosted(case) -> nn.Module | None:
    """Put a module between two honest ones, if its outputs are like its inputs."""
    torch.manual_seed(3)
    module, x = case.build(), case.inputs
    if not x.is_floating_point() or case.name in NOT_THIS_WAY:
        return None
    output = module(x.clone())
    if not isinstance(output, Tensor) or output.shape != x.shape or not output.is_floating_point():
        return None
    return nn.Sequential(Scale(), module, Scale())


def test_the_broken_module_is_named():
    right, wrong = [], []
    for case in BROKEN:
        host = hosted(case)
        if host is None:
            continue
        report = check_causality(host, case.inputs, blame=True, **case.options)
        if report.causal is False:  # in this company one of them never meets what it leaks at
            named = report.blame is not None and report.blame.name.split(".")[0] == "1"
            (right if named else wrong).append((case.name, report.blame))
    assert len(right) >= 75
    assert len(right) >= 0.95 * len(right + wrong), wrong


class Layer(nn.Module):
    """Attention with a cache; ``bug`` is what is wrong with it."""

    def __init__(self, bug=""):
        super().__init__()
        self.into, self.bug = nn.Linear(8, 24), bug

    def forward(self, x, cache=None, hidden=None):
        q, k, v = self.into(x).chunk(3, -1)
        if cache is not None:
            k, v = torch.cat([cache[0], k], 1), torch.cat([cache[1], v], 1)
        T, S = x.shape[1], k.shape[1]
        past = 0 if self.bug == "upper-left" else S - T
        blocked = torch.ones(T, S, dtype=torch.bool).triu(1 + past)
        if hidden is not None and self.bug != "ignores":
            blocked = blocked | hidden[:, None]
        scores = (q @ k.mT).masked_fill(blocked, -1e9)
        return scores.softmax(-1) @ v, (k, v)


class Decoder(nn.Module):
    def __init__(self, bug="", at=1):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(20, 8)
        self.layers = nn.ModuleList(Layer(bug if number == at else "") for number in range(3))

    def forward(self, ids, attention_mask=None, caches=None):
        x, new = self.embedding(ids), []
        hidden = None if attention_mask is None else attention_mask == 0
        for number, layer in enumerate(self.layers):
            y, cache = layer(x, None if caches is None else caches[number], hidden)
            x = x + y
            new.append(cache)
        return x if caches is None else (x, new)

    def step(self, chunk, caches):
        return self(chunk, caches=caches or [None] * 3)


def ids() -> Tensor:
    return torch.randint(1, 20, (2, 9), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_cache_is_traced_to_the_layer(at):
    model = Decoder("upper-left", at)
    report = check_cache(model.step, ids(), model, blame=True)
    assert report.same is False
    assert (report.blame.name, report.blame.kind) == (f"layers.{at}", "Layer")
    assert f"it enters at layers.{at} (Layer" in str(report)
    assert check_cache(Decoder().step, ids(), Decoder(), blame=True).blame is None


@pytest.mark.parametrize("at", [0, 1, 2])
def test_padding_is_traced_to_the_layer(at):
    report = check_padding(Decoder("ignores", at), ids(), 0, blame=True)
    assert report.same is False
    assert report.blame.name == f"layers.{at}"
    assert check_padding(Decoder(), ids(), 0, blame=True).blame is None


class Pool(nn.Module):
    def forward(self, x):
        return x.mean(1)


class Gate(nn.Module):
    def forward(self, x, pooled):
        return x * pooled[:, None]


class Squeeze(nn.Module):
    """What is pooled has no time axis; where it is used, is not where it was made."""

    def __init__(self):
        super().__init__()
        self.pool, self.gate = Pool(), Gate()

    def forward(self, x):
        return self.gate(x, self.pool(x))


def test_what_has_no_time_axis_is_blamed_on_who_made_it():
    x = torch.randn(3, 8, 5, generator=torch.Generator().manual_seed(0))
    assert check_causality(Squeeze(), x, blame=True).blame.name == "pool"


def test_an_example_hands_on_what_the_model_needs():
    class Scaled(nn.Module):
        def forward(self, x, factor):
            return x + factor * x.mean(1, keepdim=True)

    x = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    kwargs = {"factor": 0.5}
    example = check_causality(Scaled(), x, forward_kwargs=kwargs, blame=True).blame.example
    printed = []
    exec(example, {"model": Scaled(), "print": printed.append, "forward_kwargs": kwargs})
    assert float(printed[0]) > 0


class Streams(nn.Module):
    """Two sequences behind each other in one axis; ``leak`` is what the second module adds."""

    def __init__(self, leak=0.1):
        super().__init__()
        self.first, self.second, self.leak = nn.Linear(4, 32), nn.Linear(32, 32), Leaks(leak)

    def forward(self, x):
        both = torch.cat([self.first(x), self.first(x)], 1)
        return self.leak(self.second(both)).unflatten(1, (2, -1)).sum(1)


class Leaks(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, both):
        return both + self.size * both.unflatten(1, (2, -1)).mean(2).repeat_interleave(
            both.shape[1] // 2, 1
        )


@pytest.mark.parametrize("length", [8, 11, 16])  # 2 × 16 is as wide as a vector
def test_streams_behind_each_other_are_told_apart(length):
    x = torch.randn(2, length, 4, generator=torch.Generator().manual_seed(0))
    assert check_causality(Streams(), x, blame=True).blame.name == "leak"
    assert check_causality(Streams(0.0), x, allow="pointwise").causal is True
