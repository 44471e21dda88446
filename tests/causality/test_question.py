"""What may be asked: other masks, other axes, other inputs, other rates, what must be seen."""

import itertools
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from causal_lab.causality import budget, check_causality
from causal_lab.causality.budget import Budget
from causal_lab.causality.examine import Plan, examine
from causal_lab.causality.question import allowed_up_to, changes_for
from causal_lab.causality.runner import Runner
from causal_lab.causality.scene import Scene
from causal_lab.causality.verdict import judge

B, T, D = 3, 8, 4


def vectors(*shape: int) -> torch.Tensor:
    return torch.randn(*(shape or (B, T, D)), generator=torch.Generator().manual_seed(0))


def ids() -> torch.Tensor:
    return torch.randint(20, (B, T), generator=torch.Generator().manual_seed(0))


class Mixing(nn.Module):
    """Weights with which every position looks at others."""

    def __init__(self, allowed: torch.Tensor):
        super().__init__()
        weights = torch.rand(allowed.shape, generator=torch.Generator().manual_seed(1)) + 0.1
        self.weights = nn.Parameter(weights * allowed)

    def forward(self, x):
        return (self.weights @ x).tanh()


def triangle(n=T) -> torch.Tensor:
    return torch.ones(n, n, dtype=torch.bool).tril()


def blocks(size=4) -> torch.Tensor:
    place = torch.arange(T) // size
    return place[:, None] >= place


def test_a_triangle_asks_at_every_cut_and_blocks_at_every_block():
    assert [change.cut for change in changes_for(triangle())] == list(range(1, T))
    (change,) = changes_for(blocks())
    assert change.changed.tolist() == [False] * 4 + [True] * 4
    assert change.kept.tolist() == [True] * 4 + [False] * 4


def test_what_is_allowed_takes_the_place_of_the_triangle():
    model = Mixing(blocks())
    assert check_causality(model, vectors()).causal is False
    report = check_causality(model, vectors(), allowed=blocks())
    assert report.causal is True
    assert "not allowed to see" in report.reason
    narrow = blocks(2)
    report = check_causality(model, vectors(), allowed=narrow)
    assert report.causal is False
    leak = report.first_leak
    assert not narrow[leak.output, leak.input]
    assert torch.equal(report.dependencies > 0, blocks())


def test_a_mask_that_is_no_stairs_is_asked_row_by_row():
    allowed = torch.eye(T, dtype=torch.bool) | torch.eye(T, dtype=torch.bool).flip(0)
    assert check_causality(Mixing(allowed), vectors(), allowed=allowed).causal is True
    broken = allowed.clone()
    broken[2, 6] = True
    report = check_causality(Mixing(broken), vectors(), allowed=allowed)
    assert (report.first_leak.output, report.first_leak.input) == (2, 6)


@pytest.mark.parametrize("batch_first", [True, False])
def test_the_time_axis_can_be_the_first(batch_first):
    model = nn.GRU(D, D, batch_first=batch_first)
    x = vectors() if batch_first else vectors(T, B, D)
    axis = 1 if batch_first else 0
    report = check_causality(model, x, time_axis=axis)
    assert report
    assert torch.equal(report.dependencies > 0, triangle())
    both = nn.GRU(D, D // 2, batch_first=batch_first, bidirectional=True)
    assert check_causality(both, x, time_axis=axis).causal is False


def test_the_time_axis_can_be_the_last_and_another_one_in_the_output():
    padded = nn.Sequential(nn.ConstantPad1d((2, 0), 0.0), nn.Conv1d(D, D, 3))
    x = vectors(B, D, T)
    report = check_causality(padded, x, time_axis=2)
    assert report
    assert torch.equal(report.dependencies > 0, triangle() & triangle().T.tril(2).T)
    assert check_causality(padded, x).causal is None  # which axis is meant?
    assert "say which is the time axis" in check_causality(padded, x).reason

    class Last(nn.Module):
        def forward(self, x):
            return padded(x).transpose(1, 2)

    assert check_causality(Last(), x, time_axis=(2, 1))


def test_a_forgotten_batch_first_is_told():
    report = check_causality(nn.LSTM(D, D, bidirectional=True), vectors())
    assert report.causal is True
    assert [caution.name for caution in report.cautions] == ["pointwise", "batch"]
    assert not report
    with pytest.raises(AssertionError, match=r"time_axis=, batch_first"):
        report.assert_causal()
    allowed = check_causality(nn.Linear(D, D), vectors(), allow="pointwise")
    assert allowed.assert_causal()
    assert "(allowed)" in str(allowed)


class TwoInputs(nn.Module):
    """Past values are summed; of the known future all is read."""

    def __init__(self, leak=0.5):
        super().__init__()
        self.leak = leak

    def forward(self, x, known=None):
        return x.cumsum(1) + (0.0 if known is None else self.leak * known.sum(1, keepdim=True))


@pytest.mark.parametrize("by_name", [True, False])
def test_any_of_several_inputs_can_be_varied(by_name):
    x, known = vectors(), vectors() + 1
    given = {"forward_kwargs": {"known": known}} if by_name else {}
    inputs = x if by_name else (x, known)
    first = check_causality(TwoInputs(), inputs, **given)
    assert first.causal is True
    wrt = "known" if by_name else 1
    report = check_causality(TwoInputs(), inputs, wrt=wrt, **given)
    assert report.causal is False
    assert check_causality(TwoInputs(0.0), inputs, wrt=wrt, **given).causal is True
    assert any("known runs along" in what for what in first.untried) is by_name
    both = (vectors(B, D, T), vectors(B, D, T))  # the other argument is asked along axis 2, too
    last = lambda a, b: a * 0 + b.cumsum(2)  # noqa: E731
    assert check_causality(last, both, wrt=1).causal is not False


def test_what_runs_along_and_was_not_varied_is_named():
    report = check_causality(TwoInputs(), vectors(), forward_kwargs={"known": vectors()})
    assert "not tried: known runs along the sequence" in str(report)
    mask = {"known": torch.ones(B, T, D)}
    assert check_causality(TwoInputs(), vectors(), forward_kwargs=mask).untried == ()


def test_a_function_and_arguments_made_of_the_inputs_will_do():
    layer = nn.Linear(D, D)
    report = check_causality(lambda x: layer(x).cumsum(1), vectors())
    assert report
    assert layer.weight.dtype == torch.float32

    def scaled(x, factor):
        return x.cumsum(1) * factor

    lengths = []

    def make(x):
        lengths.append(x.shape[1])
        return {"factor": torch.ones(x.shape[1], 1)}

    report = check_causality(scaled, vectors(), forward_kwargs=make)
    assert report
    assert report.length_dependent is False
    assert set(lengths) == set(range(1, T + 1))


class EverySecond(nn.Module):
    """One output for two inputs; ``ahead`` of them are read too early."""

    def __init__(self, ahead=0):
        super().__init__()
        self.ahead = ahead

    def forward(self, x):
        sums = x.cumsum(1).roll(-self.ahead, 1)
        return sums[:, 1::2]


def test_outputs_of_another_rate_are_judged_by_where_they_stand():
    places = range(1, T, 2)
    report = check_causality(EverySecond(), vectors(), output_positions=places)
    assert report
    assert report.dependencies.shape == (T // 2, T)
    assert torch.equal(report.dependencies > 0, allowed_up_to(torch.tensor(places), T))
    report = check_causality(EverySecond(ahead=1), vectors(), output_positions=places)
    assert (report.first_leak.output, report.first_leak.input) == (0, 2)
    assert check_causality(EverySecond(1), vectors(), output_positions=places, lookahead=1).causal


def test_what_must_be_seen_is_asked_too():
    model = Mixing(triangle() & ~torch.eye(T, dtype=torch.bool).roll(3, 0).tril())
    assert check_causality(model, vectors())
    report = check_causality(model, vectors(), expected=triangle())
    assert report.causal is True
    assert not report
    assert "output 3 does not depend on input 0, which is expected (5 such pairs)" in report.reason
    assert check_causality(Mixing(triangle()), vectors(), expected=triangle())
    # What rounds with every input, as a sum that is taken off again, is not seen for that.
    rounds = lambda x: model(x) + 1e3 * x.sum(1, keepdim=True) - 1e3 * x.sum(1, keepdim=True)  # noqa: E731
    assert not check_causality(rounds, vectors(), expected=triangle())
    # Without gradients changed inputs show it.
    report = check_causality(lambda x: x.detach().cumsum(1), vectors(), expected=triangle())
    assert report


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"allowed": torch.ones(T, T)}, "boolean"),
        ({"allowed": torch.ones(T, T - 1).bool()}, r"\(output, input\) with 8 inputs"),
        ({"expected": torch.ones(T, T - 1).bool()}, r"expected must have shape .* = \(8, 8\)"),
        ({"output_positions": [1, T]}, "places among the 8 inputs"),
        ({"output_positions": []}, "places among the 8 inputs"),
        ({"time_axis": -1}, "counts from the front"),
        ({"time_axis": (1, 2, 3)}, "one axis or a pair"),
        ({"time_axis": 5}, "no axis of inputs"),
        ({"wrt": 1}, "among the 1 inputs"),
        ({"wrt": "mask"}, "not among the forward_kwargs"),
        ({"effort": "some"}, "one of quick, thorough"),
        ({"allow": "leaks"}, "one of pointwise, constant, batch"),
        ({"forward_kwargs": lambda x: 3}, "must return a dict"),
    ],
)
def test_what_cannot_be_asked_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        check_causality(nn.Identity(), vectors(), **options)


def test_little_effort_and_little_time_are_said():
    model = nn.GRU(D, D, batch_first=True)
    report = check_causality(model, vectors(2, 40, D), effort="quick")
    assert report
    assert "at 8 of 39 cuts, quickly" in report.reason
    long = check_causality(model, vectors(2, 70, D))
    assert "of 69 cuts, quickly" in long.reason
    assert long.forwards < check_causality(model, vectors(2, 40, D)).forwards
    many = check_causality(model, vectors(1, 200, D), effort="thorough")
    assert "at 128 of 199 cuts" in many.reason
    assert many.backwards == 192
    assert "(192 of 200 outputs)" in str(many)
    short = check_causality(model, vectors(), time_limit=0)
    assert short.causal is None
    assert "after 0 s" in short.reason


def test_time_that_runs_out_in_the_middle_is_said():
    clock = iter(range(10_000))

    class Ticks(Budget):
        spent = property(lambda self: next(clock))

    model = nn.GRU(D, D, batch_first=True)
    scene = Scene(Runner(model, B, T), vectors(), triangle(), budget=Ticks(seconds=12.0))
    with scene.run:
        seen = examine(scene, Plan(changes_for(triangle()), 2, list(range(T)), [1, 2], True))
    methods = [str(finding.evidence) for finding in seen.findings]
    assert scene.budget.is_over
    assert any("then the time was up" in text or "nothing was run" in text for text in methods)
    assert judge(seen.findings)[0] is None  # not all kinds were tried


def test_a_bar_is_shown_and_wiped_off(capsys, monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(budget, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    model = nn.GRU(D, D, batch_first=True)
    check_causality(model, vectors(), progress=True)
    shown = capsys.readouterr().err
    assert "█" in shown
    assert "gradients 4/8" in shown
    assert shown.endswith("\r")
    check_causality(model, vectors())
    assert capsys.readouterr().err == ""


class Leaky(nn.Module):
    def __init__(self, size=0.01):
        super().__init__()
        self.size = size

    def forward(self, x):
        return x + self.size * x.mean(1, keepdim=True)


class Model(nn.Module):
    """Three GRUs with something between them."""

    def __init__(self, between: nn.Module):
        super().__init__()
        self.embedding = nn.Embedding(20, D)
        self.layers = nn.ModuleList(nn.GRU(D, D, batch_first=True) for _ in range(3))
        self.between, self.head = between, nn.Linear(D, 20)

    def forward(self, ids):
        x = self.embedding(ids)
        for number, layer in enumerate(self.layers):
            x = layer(x)[0]
            x = self.between(x) if number == 1 else x
        return self.head(x)


@pytest.mark.parametrize("size", [0.5, 1e-3, 1e-8])
def test_a_leak_is_traced_to_the_innermost_module_where_it_enters(size):
    model = Model(nn.Sequential(nn.Linear(D, D), Leaky(size), nn.Tanh()))
    report = check_causality(model, ids(), blame=True)
    assert report.causal is False
    assert (report.blame.name, report.blame.kind) == ("between.1", "Leaky")
    assert report.blame.source.startswith("causality/test_question.py:")
    assert "it enters at between.1 (Leaky" in str(report)
    with pytest.raises(AssertionError, match=r"between\.1"):
        report.assert_causal()
    assert check_causality(model, ids()).blame is None
    assert not any(module._forward_hooks for module in model.modules())


def test_a_leak_between_submodules_is_that_of_the_module_around_them():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.GRU(D, D, batch_first=True)

        def forward(self, x):
            return self.layer(x)[0].roll(-1, 1)

    blame = check_causality(nn.Sequential(nn.Tanh(), Outer()), vectors(), blame=True).blame
    assert (blame.name, blame.kind) == ("1", "Outer")
    assert check_causality(Outer(), vectors(), blame=True).blame.name == ""


def test_the_example_can_be_pasted_and_run():
    model = Model(Leaky(0.5)).eval()
    example = check_causality(model, ids(), blame=True).blame.example
    printed = []
    exec(example, {"model": model, "print": printed.append})
    assert float(printed[0]) > 0
    assert "torch.tensor([[" in example
    assert example.count(",") < 12  # two tokens will do
    model = nn.Sequential(nn.Linear(D, D), Leaky(0.5))
    example = check_causality(model, vectors(), blame=True).blame.example
    exec(example, {"model": model, "print": printed.append})
    assert float(printed[1]) > 0


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x.cumsum(1)


GLOBAL = Counting()


def reads_a_global(x):
    return GLOBAL(x)


def test_what_a_function_reaches_by_name_is_as_before_too():
    assert check_causality(reads_a_global, vectors())
    assert GLOBAL.calls == 0
