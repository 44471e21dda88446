"""What no one should rely on: verdicts that compared nothing, and honest models accused."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from causal_lab.causality import check_cache, check_causality, check_padding
from causal_lab.models import BERT, GPT

D = 8


def ids(batch=3, length=9, least=1) -> torch.Tensor:
    return torch.randint(least, 20, (batch, length), generator=torch.Generator().manual_seed(0))


# --- parts that compute in 32 bits, whatever they are asked


def _product(h: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return (h.float() @ w.float().t()).to(h.dtype)


with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # old, and still in use
    _scripted = torch.jit.script(_product)


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h, w):
        return torch.from_numpy(_numpy(h, w)).to(h.dtype)

    @staticmethod
    def backward(ctx, gradient):
        return None, None


def _numpy(h, w):
    return h.detach().numpy().astype(np.float32) @ w.detach().numpy().astype(np.float32).T


HIDDEN = {
    "scripted": _scripted,
    "numpy": lambda h, w: torch.from_numpy(_numpy(h, w)).to(h.dtype),
    "function": _Function.apply,
    "plain": lambda h, w: h @ w.t(),
}


class Experts(nn.Module):
    """A mixture of experts: the size of a product changes with the other tokens."""

    def __init__(self, product, leak=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.router = nn.Embedding(20, D), nn.Linear(D, 4)
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(D, D) / 3) for _ in range(4))
        self.norm, self.product, self.leak = nn.LayerNorm(D), product, leak

    def forward(self, ids):
        x = self.embedding(ids)
        x = x + x.cumsum(1) / 9 + self.leak * x.sum(1, keepdim=True)
        flat = x.flatten(0, 1)
        chosen, out = self.router(flat).argmax(-1), torch.zeros_like(flat)
        for number, weight in enumerate(self.weights):
            mine = (chosen == number).nonzero().flatten()
            if len(mine):
                out = out.index_add(0, mine, self.product(flat[mine], weight))
        return self.norm(out.unflatten(0, ids.shape))


@pytest.mark.parametrize("how", HIDDEN)
def test_hidden_32_bits_are_no_leak_and_a_leak_beside_them_is_one(how):
    text = ids(4, 24)
    report = check_causality(Experts(HIDDEN[how]).eval(), text)
    assert report.causal is True, str(report)
    assert check_causality(Experts(HIDDEN[how], leak=1e-3).eval(), text).causal is False


@pytest.mark.parametrize("how", HIDDEN)
def test_a_cache_with_hidden_32_bits_is_right(how):
    model = Experts(HIDDEN[how]).eval()

    def step(chunk, cache):
        seen = chunk if cache is None else torch.cat([cache, chunk], 1)
        return model(seen)[:, -chunk.shape[1] :], seen

    assert check_cache(step, ids(4, 12), model).same is True


# --- state


class Filled(nn.Module):
    """A cache in a buffer, and how full it is as a plain number."""

    def __init__(self):
        super().__init__()
        self.embedding, self.filled = nn.Embedding(20, D), 0
        self.register_buffer("cached", torch.zeros(64, D))

    def forward(self, ids):
        n = ids.shape[1]
        if n > self.filled:
            self.cached[:n] = torch.arange(n)[:, None] / 10
            self.filled = n
        return self.embedding(ids).cumsum(1) + self.cached[:n]


def test_all_state_is_restored_together():
    model = Filled()
    assert check_causality(model, ids())
    assert model.filled == 0


# --- NaN


def test_all_gradients_nan_say_nothing():
    class Root(nn.Module):
        def forward(self, x):
            return x.cumsum(1) + 0 * (x - x).abs().sqrt()

    report = check_causality(Root(), torch.randn(2, 6, 3))
    assert report.evidence_of("gradients").independent is None
    assert "no gradient is a finite number" in str(report)
    assert not (report.dependencies.triu(1) > 0).any()
    assert (report.dependencies.tril() > 0).any()


class Encoder(nn.Module):
    """PyTorch's encoder; ``upside_down`` hides the real tokens, and shows the padding."""

    def __init__(self, upside_down=False, causal=True):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.upside_down, self.causal = nn.Embedding(20, D), upside_down, causal
        layer = nn.TransformerEncoderLayer(D, 2, 16, batch_first=True, dropout=0.0)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, ids, attention_mask=None):
        n = ids.shape[1]
        mask = torch.ones(n, n, dtype=torch.bool).triu(1) if self.causal else None
        hidden = None if attention_mask is None else attention_mask == 0
        return self.encoder(self.embedding(ids), mask=mask, src_key_padding_mask=hidden)


def test_nan_on_one_side_is_a_difference():
    report = check_padding(Encoder().eval(), ids(), pad_id=0)
    assert report.same is False
    assert report.results["left"].difference == float("inf")
    assert "becomes NaN" in report.reason


# --- in vain


class Hides(nn.Module):
    """Attends to the tokens that a mask leaves, and to itself."""

    def __init__(self, reads=lambda mask: mask):
        super().__init__()
        self.embedding, self.reads = nn.Embedding(20, D), reads

    def forward(self, ids, mask):
        x, seen = self.embedding(ids), self.reads(mask)[..., None]
        return x + (x * seen).sum(1, keepdim=True) - x * seen


def given(ids, is_padding):
    return {"mask": (~is_padding).float()}


def test_a_mask_that_hides_all_in_the_baseline_too_is_told():
    right = check_padding(Hides(), ids(), 0, forward_kwargs=given)
    assert right.assert_same()
    report = check_padding(Hides(lambda mask: 0 * mask), ids(), 0, forward_kwargs=given)
    assert report.same is True
    assert [caution.name for caution in report.cautions] == ["unseen"]
    assert "is it upside down?" in report.reason
    with pytest.raises(AssertionError, match="upside down"):
        report.assert_same()
    zero = nn.Embedding(20, D)
    report = check_padding(zero, ids(), 0, allow=("unseen", "unread"))
    assert report


def test_padding_that_would_not_matter_is_told():
    gpt = GPT(20, 16, d_model=8, num_heads=2).eval()
    report = check_padding(gpt, ids(), 0, sides="right")
    assert report.same is True
    assert [caution.name for caution in report.cautions] == ["unread"]
    assert check_padding(gpt, ids(), 0, sides="right", allow="unread")
    assert check_padding(gpt, ids(), 0).cautions == ()
    assert check_padding(BERT(20, 16, d_model=8, num_heads=2).eval(), ids(), 0, sides="right")


def test_the_report_names_what_a_function_gave():
    report = check_padding(Hides(), ids(), 0, forward_kwargs=given)
    assert "told by mask" in report.reason
    report = check_padding(Hides(torch.ones_like), ids(), 0, forward_kwargs=given)
    assert "the mask is not used everywhere" in report.reason


@pytest.mark.parametrize("n", [8, 9, 10])
def test_a_source_as_long_as_the_target_is_not_cut_with_it(n):
    class Reads(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(20, D)

        def forward(self, ids, source):
            return self.embedding(ids).cumsum(1) + self.embedding(source).mean(1, keepdim=True)

    report = check_causality(Reads(), ids(length=9), forward_kwargs={"source": ids(length=n)})
    assert report
    assert report.length_dependent is False


# --- a tolerance


def test_what_is_small_can_be_said():
    model = nn.GRU(D, D, batch_first=True)

    def step(chunk, state):
        outputs, state = model(chunk, state)
        return outputs * (1 + 1e-7), state

    x = torch.randn(2, 8, D, generator=torch.Generator().manual_seed(0))
    report = check_cache(step, x, lambda x: model(x)[0])
    assert report.same is False
    worst = max(result.difference for result in report.results.values())
    assert 1e-8 < worst < 2e-7  # in 64 bits
    assert check_cache(step, x, lambda x: model(x)[0], tolerance=1e-6)
    assert check_cache(step, x, lambda x: model(x)[0], tolerance=1e-9).same is False


# --- schedules


class Pointer(nn.Module):
    """Keys and the next position stay in the module; ``forgets`` says what is not reset."""

    def __init__(self, forgets=""):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.places = nn.Embedding(20, D), nn.Embedding(64, D)
        self.forgets, self.next, self.sums = forgets, 0, None

    def forward(self, ids):
        return (self.embedding(ids) + self.places(torch.arange(ids.shape[1]))).cumsum(1).tanh()

    def step(self, chunk, cache):
        if cache is None:
            self.next = self.next if self.forgets == "next" else 0
            self.sums = self.sums if self.forgets == "sums" else None
        x = self.embedding(chunk) + self.places(torch.arange(self.next, self.next + len(chunk[0])))
        self.next += chunk.shape[1]
        x = x.cumsum(1) + (0 if self.sums is None else self.sums)
        self.sums = x[:, -1:]
        return x.tanh(), "in the module"


@pytest.mark.parametrize("forgets", ["", "next", "sums"])
def test_a_second_prompt_shows_what_the_first_one_left(forgets):
    model = Pointer(forgets)
    report = check_cache(model.step, ids(), model)
    wrong = [name for name, result in report.results.items() if not result.same]
    assert wrong == ["second prompt"] * bool(forgets)
    assert (model.next, model.sums) == (0, None)


class Summing(nn.Module):
    """A cache of sums: copied, or changed in place."""

    def __init__(self, in_place=False, padded=True):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.in_place, self.padded = nn.Embedding(20, D), in_place, padded

    def forward(self, ids):
        return self.embedding(ids).cumsum(1).tanh()

    def step(self, chunk, cache, padding=None):
        x = self.embedding(chunk)
        if padding is not None and self.padded:
            x = x.masked_fill(padding[..., None], 0.0)
        history = [] if cache is None else cache if self.in_place else list(cache)
        start = history[-1] if history else 0
        x = x.cumsum(1) + start
        history.extend(x.split(1, dim=1))
        return x.tanh(), history


@pytest.mark.parametrize("in_place", [True, False])
def test_two_questions_after_one_prompt_show_a_cache_that_is_shared(in_place):
    model = Summing(in_place)
    assert check_cache(model.step, ids(), model).same is True
    report = check_cache(model.step, ids(), model, schedules=["two questions"])
    assert report.same is not in_place
    assert in_place is ("share one" in report.reason)


@pytest.mark.parametrize("keeps", [0, 1])
def test_a_rollback_is_asked_to_leave_nothing(keeps):
    model = Summing(in_place=True)

    def rollback(cache, n):
        del cache[n + keeps :]
        return cache

    report = check_cache(model.step, ids(), model, rollback=rollback)
    assert report.same is not bool(keeps)
    assert bool(keeps) is ("rollback leaves something" in report.reason)


@pytest.mark.parametrize("padded", [True, False])
def test_prompts_of_several_lengths_are_padded_in_one_batch(padded):
    model = Summing(padded=padded)
    report = check_cache(model.step, ids(), model, pad_id=0)
    assert {"padded prefill", "right-padded prefill"} <= set(report.results)
    assert report.same is padded
    assert padded is not ("padding" in report.reason)
