"""One module, one question at a time: what ``check_causality`` refuses, reports, leaves alone."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from torch import nn
from torch.autograd.functional import jacobian

from causal_lab.causality import CausalityReport, Evidence, Leak, check_causality
from causal_lab.causality.futures import changed_values
from causal_lab.masks.rules import generate_causal_mask
from causal_lab.models.transformer import BERT, GPT
from causal_lab.plots.style import FUTURE_COLOUR, PAST_COLOUR

STAYS = "#ffffff"
CALLS = []  # here, since the checker puts back what hangs on the model, closures included


@pytest.fixture(autouse=True)
def no_calls():
    CALLS.clear()


def floats(batch: int = 2, length: int = 7, dim: int = 3) -> torch.Tensor:
    return torch.randn(batch, length, dim, generator=torch.Generator().manual_seed(1))


def tokens(batch: int = 2, length: int = 7, vocabulary: int = 11) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(1, vocabulary, (batch, length), generator=generator)


def small(kind=GPT, length: int = 8, **options):
    generator = torch.Generator().manual_seed(0)
    return kind(11, length, d_model=8, num_heads=2, num_layers=2, generator=generator, **options)


class Module(nn.Module):
    """Makes a module of a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x, **kwargs):
        return self.function(x, **kwargs)


def ahead(x: torch.Tensor, steps: int) -> torch.Tensor:
    """Let output t be input t + steps, or zeros where there is none."""
    moved = torch.zeros_like(x)
    for t in range(x.shape[1]):
        if 0 <= t + steps < x.shape[1]:
            moved[:, t] = x[:, t + steps]
    return moved


def shift(steps: int) -> Module:
    return Module(lambda x: ahead(x, steps))


def reads_all(x: torch.Tensor) -> torch.Tensor:
    return x + x.mean(1, keepdim=True)


# --- what is refused


@pytest.mark.parametrize(
    ("model", "inputs", "advice"),
    [
        (nn.Identity(), torch.tensor([1, 2, 3]), r"\.unsqueeze\(0\)"),
        (nn.Identity(), torch.ones(1, 2, 3, dtype=torch.long), r"shape \(batch, length\)"),
        (nn.Identity(), torch.ones(2, 3), r"\.unsqueeze\(-1\).*\.long\(\)"),
        (nn.Identity(), torch.ones(3), r"\.unsqueeze\(-1\)"),
        (nn.Identity(), torch.ones(2, 3, dtype=torch.bool), "token ids or floating vectors"),
        (nn.Identity(), torch.ones(2, 3, 1, dtype=torch.complex64), "token ids or floating"),
        (nn.Identity(), torch.ones(2, 0, 3), "are empty; give at least one"),
        (nn.Identity(), torch.ones(0, 2, 3), "are empty; give at least one"),
        (nn.Identity(), torch.ones(0, 2, dtype=torch.long), "are empty"),
        (nn.Identity(), [[1, 2, 3]], "inputs must be a tensor"),
        (nn.Identity(), np.ones((1, 2, 3)), "inputs must be a tensor"),
        (nn.Identity, torch.ones(1, 3, 2), "model must be an nn.Module or a function"),
        (3, torch.ones(1, 3, 2), "model must be an nn.Module or a function"),
        (nn.Identity(), {"input_ids": torch.ones(1, 3)}, r"inputs\['input_ids'\]"),
        (nn.Identity(), torch.ones(1, 3, 2, device="meta"), "have no values"),
    ],
)
def test_a_model_and_inputs_that_do_not_fit_are_refused_with_advice(model, inputs, advice):
    with pytest.raises(ValueError, match=advice):
        check_causality(model, inputs)


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"special_ids": [0]}, "special_ids are token ids; .* leave it out"),
        ({"special_ids": 5}, r"a list of ids such as \[0, 2\], got 5"),
        ({"special_ids": [-1]}, "a special id must be an integer of at least 0, got -1"),
        ({"special_ids": [0.5]}, "a special id must be an integer"),
        ({"cuts": []}, "cuts must lie between 1 and 6"),
        ({"cuts": [0]}, "cuts must lie between 1 and 6"),
        ({"cuts": [3, 7]}, "cuts must lie between 1 and 6"),
        ({"cuts": [2], "lookahead": 2}, "cuts must lie between 3 and 6"),
        ({"cuts": [1.5]}, "a cut must be an integer, got 1.5"),
        ({"cuts": ["1"]}, "a cut must be an integer"),
        ({"cuts": 3}, "cuts must be a list of positions, got 3"),
        ({"lookahead": 1.0}, "lookahead must be an integer, got 1.0"),
        ({"lookahead": None}, "lookahead must be an integer"),
        ({"lookahead": True}, "lookahead must be an integer"),
        ({"seed": "0"}, "seed must be an integer"),
        ({"seed": 0.0}, "seed must be an integer"),
        ({"forward_kwargs": [("mask", 1)]}, "forward_kwargs must be a dict of names"),
        ({"forward_kwargs": torch.ones(2)}, "forward_kwargs must be a dict of names"),
    ],
)
def test_options_out_of_range_are_refused_with_advice(options, advice):
    with pytest.raises(ValueError, match=advice):
        check_causality(nn.Identity(), floats(), **options)


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (lambda x: x.mean(1), r"\(2, 3\)"),
        (lambda x: x.transpose(0, 1), r"\(7, 2, 3\)"),
        (lambda x: x.sum(), r"\(\)"),
        (lambda x: "text", "str"),
        (lambda x: {"pooled": x.mean(1), "loss": x.sum()}, r"pooled: \(2, 3\), loss: \(\)"),
        (lambda x: (x.mean(1),), r"0: \(2, 3\)"),
    ],
)
def test_an_output_without_a_time_axis_is_refused_with_its_shapes(function, shape):
    with pytest.raises(ValueError, match=rf"\(2, 7, …\) is needed.*{shape}.*before pooling"):
        check_causality(Module(function), floats())


@pytest.mark.parametrize("output", ["nothing", 5, lambda result: result["nothing"]])
def test_an_output_that_names_nothing_is_refused_with_what_there_is(output):
    model = Module(lambda x: {"logits": x, "loss": x.sum()})
    with pytest.raises(ValueError, match=r"is no part of the model's result.*'logits', 'loss'"):
        check_causality(model, floats(), output=output)


@pytest.mark.parametrize("output", [2, -3, "logits"])
def test_an_index_or_name_outside_a_tuple_is_refused(output):
    with pytest.raises(ValueError, match=r"is no part of the model's result.*\[0, 1\]"):
        check_causality(Module(lambda x: (x, x)), floats(), output=output)


def test_a_chosen_output_without_a_time_axis_is_refused():
    with pytest.raises(ValueError, match="is needed to ask what each position depends on"):
        check_causality(Module(lambda x: {"y": x, "loss": x.sum()}), floats(), output="loss")


# --- what cannot be decided


def raising(x):
    raise KeyError("no such thing")


def test_one_position_alone_has_no_future():
    report = check_causality(nn.Identity(), floats(length=1))
    assert report.causal is None
    assert "a sequence of 1 has nothing after the lookahead of 0; give a longer" in report.reason
    assert report.cuts == ()
    assert report.dependencies.shape == (1, 1)
    assert report.dependencies.isnan().all()


@pytest.mark.parametrize(("lookahead", "causal"), [(5, True), (6, None), (7, None), (100, None)])
def test_a_lookahead_as_long_as_the_sequence_leaves_nothing_to_ask(lookahead, causal):
    report = check_causality(nn.Identity(), floats(length=7), lookahead=lookahead)
    assert report.causal is causal
    assert ("nothing after the lookahead" in report.reason) is (causal is None)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (raising, "the model raised KeyError: 'no such thing'"),
        (lambda x: x * torch.nan, "no output for the real inputs is a finite number"),
        (lambda x: x[..., :0], "the output is empty"),
    ],
)
def test_a_model_that_gives_no_numbers_is_undecided(function, reason):
    report = check_causality(Module(function), floats())
    assert report.causal is None
    assert report.reason == reason
    assert report.first_leak is None
    assert report.evidence == ()


class Counts(nn.Module):
    """Adds how often it was called, which is written where no attribute can be put back."""

    calls = 0

    def forward(self, x):
        Counts.calls += 1
        return x + Counts.calls


def test_a_state_that_changes_from_call_to_call_is_undecided():
    report = check_causality(Counts(), floats())
    assert report.causal is None
    assert "its state changes from call to call" in report.reason


def test_a_cache_that_the_model_grows_in_its_own_attributes_is_said():
    class Remembers(nn.Module):
        last = None

        def forward(self, x):
            y = x if self.last is None else x + self.last
            self.last = x.detach()
            return y

    report = check_causality(Remembers(), floats())
    assert report.causal is None
    assert "its state changes from call to call" in report.reason


# --- the report


def test_a_report_is_true_only_if_causal():
    yes = check_causality(Module(lambda x: x.cumsum(1)), floats())
    no = check_causality(Module(reads_all), floats())
    open_question = check_causality(nn.Identity(), floats(length=1))
    assert [report.causal for report in (yes, no, open_question)] == [True, False, None]
    assert [bool(report) for report in (yes, no, open_question)] == [True, False, False]
    assert yes.assert_causal() is yes
    for report in (no, open_question):
        with pytest.raises(AssertionError) as raised:
            report.assert_causal()
        assert str(raised.value) == str(report)
        assert report.reason in str(raised.value)


def test_the_text_says_verdict_evidence_output_input_and_counts():
    report = check_causality(Module(lambda x: {"y": ahead(x, 2)}), floats())
    lines = str(report).splitlines()
    assert lines[0].startswith("NOT causal: output 0 depends on input 2 (")
    assert [line.strip() for line in lines[1:-1]] == [str(seen) for seen in report.evidence]
    passes = f"{report.forwards} forward and {report.backwards} backward passes"
    assert lines[-1].strip() == f"(output 'y'; {passes})"
    assert repr(report) == f"<CausalityReport causal=False: {report.reason}>"
    assert str(check_causality(nn.Identity(), floats())).startswith("Causal: no output depends")
    undecided = check_causality(nn.Identity(), floats(length=1))
    assert str(undecided).startswith("Undecided: a sequence of 1")


def test_every_method_has_its_say_and_can_be_looked_up():
    report = check_causality(Module(reads_all), floats())
    names = [seen.method for seen in report.evidence]
    assert names == ["other values", "large values", "gradients", "prefix alone"]
    for name in names:
        evidence = report.evidence_of(name)
        assert isinstance(evidence, Evidence)
        assert evidence.method == name
        assert evidence.independent is False
    with pytest.raises(ValueError, match=r"no method 'magic' .* there are other values, large"):
        report.evidence_of("magic")


def test_the_evidence_of_token_ids_names_special_ids_or_one_id_repeated():
    with_special = check_causality(small().eval(), tokens(), special_ids=[0])
    without = check_causality(small().eval(), tokens())
    assert [e.method for e in with_special.evidence][:2] == ["other values", "special ids"]
    assert [e.method for e in without.evidence][:2] == ["other values", "one id repeated"]
    for report in (with_special, without):
        assert all(evidence.independent is True for evidence in report.evidence)


def test_nothing_depending_on_anything_is_causal_and_said():
    report = check_causality(Module(torch.zeros_like), floats())
    assert report.causal is True
    assert [caution.name for caution in report.cautions] == ["constant"]
    assert "no output depends on any input at all" in str(report)
    assert not report.dependencies.any()


def colours_of(figure) -> list[list[str]]:
    image = figure.axes[0].images[0]
    return [[to_hex(cell) for cell in row] for row in image.to_rgba(image.get_array())]


def fake(dependencies: torch.Tensor, lookahead: int) -> CausalityReport:
    return CausalityReport(
        None, "", None, dependencies, (), None, lookahead, (), "the output", 0, 0, 0.0
    )


def expected_colours(depends, lookahead: int) -> list[list[str]]:
    return [
        [
            STAYS if not cell > 0 else FUTURE_COLOUR if s > t + lookahead else PAST_COLOUR
            for s, cell in enumerate(row)
        ]
        for t, row in enumerate(depends.tolist())
    ]


@pytest.mark.parametrize("lookahead", [-1, 0, 1, 2])
def test_the_plot_colours_the_future_and_leaves_nan_and_zero_white(lookahead):
    depends = torch.tensor(
        [[0.0, 2.0, 1e-9, torch.nan], [1.0, 1.0, 0.0, 3.0], [0.0, 0, 0, 0], [1, torch.nan, 1, 1]],
        dtype=torch.float64,
    )
    figure = fake(depends, lookahead).plot(title="a title", tokens=list("abcd"))
    assert colours_of(figure) == expected_colours(depends, lookahead)
    assert figure.axes[0].get_title() == "a title"


def test_the_plot_of_a_measured_report_shows_its_dependencies():
    report = check_causality(Module(lambda x: x + ahead(x, 1)), floats(length=4))
    wanted = [[1, 2, 0, 0], [0, 1, 2, 0], [0, 0, 1, 2], [0, 0, 0, 1]]
    names = [STAYS, PAST_COLOUR, FUTURE_COLOUR]
    assert colours_of(report.plot()) == [[names[cell] for cell in row] for row in wanted]


# --- where the leak is


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_first_leak_of_a_shift_is_exact(steps):
    report = check_causality(shift(steps), floats(length=9))
    assert report.causal is False
    assert isinstance(report.first_leak, Leak)
    assert (report.first_leak.output, report.first_leak.input) == (0, steps)
    assert torch.equal(
        report.dependencies > 0,
        torch.ones(9, 9).bool() & torch.eye(9).roll(steps, 1).bool().triu(steps),
    )
    assert report.evidence_of("gradients").independent is False
    assert report.evidence_of("other values").independent is False


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_first_leak_of_a_shift_of_tokens_without_gradients_is_exact_too(steps):
    model = Module(lambda ids: ahead(ids, steps).double()[..., None])
    report = check_causality(model, tokens(length=9))
    assert report.causal is False
    assert (report.first_leak.output, report.first_leak.input) == (0, steps)
    assert torch.equal(report.dependencies > 0, torch.ones(9, 9).tril(steps).triu(steps) > 0)


@pytest.mark.parametrize("at", [0, 3, 6])
def test_one_leaking_output_alone_is_the_first_leak(at):
    def function(x):
        y = x.clone()
        y[:, at] = y[:, at] + x[:, at + 2]
        return y

    report = check_causality(Module(function), floats(length=9))
    assert (report.first_leak.output, report.first_leak.input) == (at, at + 2)
    wanted = torch.eye(9)
    wanted[at, at + 2] = 1
    assert torch.equal(report.dependencies > 0, wanted > 0)


@pytest.mark.parametrize("lookahead", [-1, 0, 1, 2])
@pytest.mark.parametrize("steps", [-1, 0, 1, 2, 3])
def test_a_shift_is_causal_if_it_looks_no_further_than_allowed(steps, lookahead):
    report = check_causality(shift(steps), floats(), lookahead=lookahead)
    assert report.causal is (steps <= lookahead)
    assert report.lookahead == lookahead
    assert report.cuts == tuple(range(max(0, lookahead + 1), 7))
    if report.causal:
        assert report.first_leak is None
    else:
        first = (max(0, -steps), max(0, steps))
        assert (report.first_leak.output, report.first_leak.input) == first
    if lookahead > 0 and report.causal:
        assert f"by more than {lookahead}" in report.reason


@pytest.mark.parametrize(("steps", "lookahead"), [(0, -1), (0, 0), (1, 0), (1, 1), (2, 1), (2, 2)])
def test_a_lookahead_holds_without_gradients_too(steps, lookahead):
    model = Module(lambda x: ahead(x.detach().sign(), steps))
    report = check_causality(model, floats(), lookahead=lookahead)
    assert report.causal is (steps <= lookahead), str(report)


# --- which futures are tried


class EndsInPadding(nn.Module):
    """Gives another output where five tokens or more follow and all of them are padding."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(1000, 4)

    def forward(self, ids):
        y = self.embedding(ids)
        ends = [(ids[:, t + 1 :] == 0).all(1) & (ids.shape[1] - t > 5) for t in range(len(ids[0]))]
        return y + 1.0 * torch.stack(ends, dim=1)[..., None]


def test_only_special_ids_show_what_special_ids_do():
    ids = tokens(length=9)
    report = check_causality(EndsInPadding(), ids, special_ids=[0])
    assert report.causal is False
    assert report.evidence_of("special ids").independent is False
    assert report.evidence_of("other values").independent is True
    assert check_causality(EndsInPadding(), ids).causal is True


def test_only_large_values_show_what_large_values_do():
    model = Module(lambda x: x + (ahead(x, 1) - 1000).clamp(min=0))
    report = check_causality(model, floats())
    assert report.causal is False
    assert report.evidence_of("large values").independent is False
    assert report.evidence_of("other values").independent is True
    assert report.evidence_of("gradients").independent is True
    assert (report.first_leak.output, report.first_leak.input) == (0, 1)


def test_rounding_that_comes_from_the_future_is_seen_and_is_no_leak():
    def function(x):
        return x + x.sum(1, keepdim=True) - x.flip(1).sum(1, keepdim=True)

    report = check_causality(Module(function), floats(length=40))
    assert report.causal is True, str(report)
    assert "by more than rounding, which was seen at" in str(report)


def test_nan_that_stays_nan_is_no_leak():
    def function(x):
        return torch.cat([x, torch.full_like(x[..., :1], torch.nan)], dim=-1)

    assert check_causality(Module(function), floats()).causal is True


# --- some cuts only


def test_some_cuts_find_only_what_they_show():
    def function(x):
        y = x.clone()
        y[:, 1] = y[:, 1] + x[:, 2]  # shows at cut 2 only
        y[:, 4] = y[:, 4] + x[:, 6]  # shows at cuts 5 and 6
        return y

    def found(*cuts):
        report = check_causality(Module(function), floats(length=8), cuts=cuts)
        assert report.cuts == tuple(sorted(set(cuts)))
        measured = {cut - 1 for cut in cuts}
        for row in range(8):
            past = report.dependencies[row, : row + 1]
            assert bool(past.isnan().all()) is (row not in measured)
            assert bool(past.isnan().any()) is (row not in measured)
        return report.causal, report.first_leak and (report.first_leak.output)

    assert found(2) == (False, 1)
    assert found(5) == (False, 4)
    assert found(3) == (True, None)
    assert found(7, 4, 4, 1) == (True, None)
    assert found(5, 2) == (False, 1)
    only = check_causality(Module(function), floats(length=8), cuts=[3, 7])
    assert "an input after it, at the cuts [3, 7]" in only.reason


def test_rows_that_were_not_measured_are_nan_in_the_future_too():
    report = check_causality(shift(1), floats(length=8), cuts=[2])
    assert report.dependencies[4].isnan().all()


def test_a_generator_of_cuts_and_integers_of_numpy_are_read():
    report = check_causality(nn.Identity(), floats(), cuts=(np.int64(cut) for cut in (4, 2)))
    assert report.cuts == (2, 4)


# --- which part of the result


def pairs(x):
    return {"past": x, "future": ahead(x, 1), "loss": x.sum()}


@pytest.mark.parametrize(
    ("function", "past", "future"),
    [
        (pairs, "past", "future"),
        (lambda x: tuple(pairs(x).values()), 0, 1),
        (lambda x: list(pairs(x).values()), -3, -2),
        (lambda x: SimpleNamespace(**pairs(x)), "past", "future"),
        (pairs, lambda result: result["past"], lambda result: result["future"]),
    ],
    ids=["dict", "tuple", "list", "object", "callable"],
)
def test_the_part_that_is_asked_for_is_judged(function, past, future):
    model = Module(function)
    assert check_causality(model, floats(), output=past).causal is True
    assert check_causality(model, floats(), output=future).causal is False
    assert check_causality(model, floats()).causal is True  # the first with a time axis


def test_logits_come_before_all_others():
    model = Module(lambda x: {"y": x, "last_hidden_state": x, "logits": ahead(x, 1)})
    report = check_causality(model, floats())
    assert report.causal is False
    assert report.judged == "output 'logits'"
    model = Module(lambda x: {"y": x, "last_hidden_state": ahead(x, 1)})
    assert check_causality(model, floats()).judged == "output 'last_hidden_state'"
    assert check_causality(nn.Identity(), floats()).judged == "the output"


# --- further arguments


def test_an_attention_mask_is_cut_with_the_prefix():
    def function(x, attention_mask):
        CALLS.append((x.shape[1], tuple(attention_mask.shape)))
        return (x * attention_mask[..., None]).cumsum(1)

    mask = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1, 1]])
    report = check_causality(Module(function), floats(), forward_kwargs={"attention_mask": mask})
    assert report.causal is True
    assert report.length_dependent is False
    assert set(CALLS) == {(length, (2, length)) for length in range(1, 8)}


@pytest.mark.parametrize("causal", [True, False])
def test_a_square_mask_decides_and_is_cut_on_both_sides(causal):
    def function(x, blocked):
        CALLS.append(tuple(blocked.shape))
        scores = (x @ x.transpose(1, 2)).masked_fill(blocked, -torch.inf)
        return scores.softmax(-1) @ x

    blocked = generate_causal_mask(7) if causal else torch.zeros(7, 7, dtype=torch.bool)
    report = check_causality(Module(function), floats(), forward_kwargs={"blocked": blocked})
    assert report.causal is causal
    assert report.length_dependent is (not causal)
    assert set(CALLS) == {(length, length) for length in range(1, 8)}


def looking(x, blocked, real=None):
    """Attend without parameters; keep the shapes of the masks."""
    CALLS.append((tuple(blocked.shape), None if real is None else tuple(real.shape)))
    if real is not None:
        blocked = blocked | ~real.bool()[:, None]
    weights = (x @ x.transpose(1, 2)).masked_fill(blocked, -torch.inf).softmax(-1)
    return weights.nan_to_num() @ x


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("length", [2, 3, 5])
def test_a_square_mask_is_cut_on_both_sides_where_batch_equals_length(length, causal):
    everything = torch.zeros(length, length, dtype=torch.bool)
    blocked = generate_causal_mask(length) if causal else everything
    inputs = torch.randn(length, length, 3, generator=torch.Generator().manual_seed(0))
    report = check_causality(Module(looking), inputs, forward_kwargs={"blocked": blocked})
    assert report.causal is causal
    assert report.length_dependent is (not causal)
    assert "raised" not in str(report)
    assert {((short, short), None) for short in range(1, length + 1)} <= set(CALLS)


def test_a_square_mask_and_one_of_rows_are_told_apart_where_batch_equals_length():
    inputs = torch.randn(5, 5, 3, generator=torch.Generator().manual_seed(0))
    masks = {"blocked": generate_causal_mask(5), "real": 1 - torch.eye(5).long()}
    report = check_causality(Module(looking), inputs, forward_kwargs=masks)
    assert (report.causal, report.length_dependent) == (True, False)
    assert {((short, short), (5, short)) for short in range(1, 6)} <= set(CALLS)


def test_rows_of_a_mask_stay_whole_where_batch_equals_length():
    def function(x, attention_mask):
        CALLS.append(tuple(attention_mask.shape))
        return (x * attention_mask[..., None]).cumsum(1)

    inputs = torch.randn(5, 5, 3, generator=torch.Generator().manual_seed(0))
    mask = 1 - torch.eye(5)
    report = check_causality(Module(function), inputs, forward_kwargs={"attention_mask": mask})
    assert (report.causal, report.length_dependent) == (True, False)
    assert set(CALLS) == {(5, short) for short in range(1, 6)}


@pytest.mark.parametrize(
    ("shape", "use"),
    [
        ((5,), lambda x, more: x.cumsum(1) * more[:, None, None]),  # a number per row
        ((5,), lambda x, more: x.cumsum(1) * more[:, None]),  # a number per position
        ((5, 5, 5), lambda x, more: torch.cat([x, more], dim=-1).cumsum(1)),  # a vector each
        ((5, 1, 5, 5), lambda x, more: x.cumsum(1) + more[:, 0].tril().sum(2, keepdim=True)),
    ],
)
def test_an_argument_of_any_shape_is_cut_so_that_the_model_can_run(shape, use):
    generator = torch.Generator().manual_seed(0)
    inputs, more = (torch.randn(size, generator=generator) for size in ((5, 5, 3), shape))
    report = check_causality(Module(use), inputs, forward_kwargs={"more": more})
    assert (report.causal, report.length_dependent) == (True, False)


def test_an_output_as_wide_as_the_sequence_is_long_is_not_compared_with_a_shorter_one():
    report = check_causality(Module(lambda x: (x @ x.transpose(1, 2)).tril()), floats())
    assert (report.causal, report.length_dependent) == (True, None)
    assert "its output has another shape there: (2, 6, 6)" in str(report)


def test_a_model_that_takes_no_prefix_says_what_it_said_first():
    def function(x, blocked):
        if x.shape[1] < 5:
            raise RuntimeError(f"no prefix, got {tuple(blocked.shape)}")
        return x.cumsum(1)

    inputs = torch.randn(5, 5, 3, generator=torch.Generator().manual_seed(0))
    kwargs = {"blocked": generate_causal_mask(5)}
    report = check_causality(Module(function), inputs, forward_kwargs=kwargs)
    assert (report.causal, report.length_dependent) == (True, None)
    assert "no prefix, got (5, 4)" in str(report)


def test_a_cache_that_is_written_into_is_fresh_for_every_call():
    class Cache:
        def __init__(self):
            self.seen, self.tensor = [], torch.zeros(1)

    def function(x, cache, parts):
        assert not cache.seen
        assert parts == {"list": []}
        assert not cache.tensor.any()
        cache.seen.append(x)
        cache.tensor += 1
        parts["list"].append(1)
        return x + len(cache.seen)

    cache, parts = Cache(), {"list": []}
    options = {"forward_kwargs": {"cache": cache, "parts": parts}}
    report = check_causality(Module(function), floats(), **options)
    assert report.causal is True
    assert cache.seen == []
    assert cache.tensor.item() == 0
    assert parts == {"list": []}


# --- modes


class Norms(nn.Module):
    """Batch norm over all positions: sees the future in train mode only."""

    def __init__(self):
        super().__init__()
        self.norm, self.drop = nn.BatchNorm1d(3), nn.Dropout(0.5)
        self.still = nn.Dropout(0.5).eval()
        self.modes = []

    def forward(self, x):
        return self.drop(self.still(self.norm(x.transpose(1, 2)).transpose(1, 2)))


@pytest.mark.parametrize("came", [True, False])
@pytest.mark.parametrize("train", [True, False, None])
def test_batch_norm_leaks_in_train_mode_and_every_mode_comes_back(came, train):
    model = Norms().train(came)
    model.still.train(not came)
    modes = {name: part.training for name, part in model.named_modules()}
    state = {name: value.clone() for name, value in model.state_dict().items()}
    report = check_causality(model, floats(), train=train)
    trains = came if train is None else train
    assert report.causal is (not trains), str(report)
    assert {name: part.training for name, part in model.named_modules()} == modes
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name


@pytest.mark.parametrize("train", [True, False])
def test_dropout_is_no_leak_in_any_mode(train):
    model = small(dropout=0.3)
    report = check_causality(model, tokens(), train=train)
    assert report.causal is True, str(report)
    # Where random numbers are drawn, two lengths cannot be compared.
    assert report.length_dependent is (None if train else False)
    assert model.training


# --- the length


def test_what_divides_by_the_length_depends_on_it_and_a_gpt_does_not():
    divides = check_causality(Module(lambda x: x / x.shape[1]), floats())
    assert divides.causal is True
    assert divides.length_dependent is True
    assert divides.evidence_of("prefix alone").independent is False
    assert "output 0 is another one when only the first 1" in str(divides)
    gpt = check_causality(small().eval(), tokens())
    assert gpt.causal is True
    assert gpt.length_dependent is False


def test_a_bert_is_not_causal_and_sees_everything():
    report = check_causality(small(BERT).eval(), tokens())
    assert report.causal is False
    assert (report.first_leak.output, report.first_leak.input) == (0, 1)
    assert (report.dependencies > 0).all()


# --- what is left alone


class Stirs(nn.Module):
    """Draws from every generator and writes wherever a module can write."""

    def __init__(self, raises_at: int | None = None):
        super().__init__()
        self.register_buffer("count", torch.zeros(1))
        self.weight = nn.Parameter(torch.ones(1))
        self.note, self.raises_at = "before", raises_at
        self.calls = []

    def forward(self, x):
        torch.rand(3), np.random.rand(3), random.random()
        self.count += 1
        with torch.no_grad():
            self.weight += 1
        self.note = "after"
        self.train(not self.training)
        torch.set_default_dtype(torch.float16)
        torch.set_grad_enabled(not torch.is_grad_enabled())
        CALLS.append(1)
        y = x * 2
        x.zero_()
        if self.raises_at is not None and len(CALLS) >= self.raises_at:
            raise RuntimeError("in the middle")
        return y


def world() -> list:
    name, numbers, *rest = np.random.get_state()
    return [
        torch.get_rng_state().tolist(),
        (name, numbers.tolist(), *rest),
        random.getstate(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
    ]


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("raises_at", [None, 1, 2, 4, 9])
def test_everything_is_afterwards_as_before_also_if_the_model_raises(raises_at, grad):
    model, inputs = Stirs(raises_at), floats()
    copy = inputs.clone()
    with torch.set_grad_enabled(grad):
        before = world()
        report = check_causality(model, inputs)
        assert world() == before
    assert len(CALLS) == report.forwards
    assert report.causal is (True if raises_at is None else None)
    assert torch.equal(inputs, copy)
    assert (model.count.item(), model.weight.item(), model.note) == (0, 1, "before")
    assert model.training
    assert model.weight.grad is None


def test_a_default_dtype_that_one_call_leaves_behind_is_not_met_by_the_next():
    def function(x):
        came = torch.get_default_dtype()
        torch.set_default_dtype(torch.float16)
        return 2 * x if came == torch.float16 else x

    report = check_causality(Module(function), floats())
    assert report.causal is True, str(report)
    assert torch.equal(report.dependencies > 0, torch.eye(7) > 0)


def test_a_refusal_in_the_middle_leaves_everything_as_before_too():
    class Pools(Stirs):
        def forward(self, x):
            return super().forward(x).mean(1)

    model, inputs = Pools(), floats()
    before, copy = world(), inputs.clone()
    with pytest.raises(ValueError, match="before pooling"):
        check_causality(model, inputs, train=False)
    assert world() == before
    assert (model.count.item(), model.weight.item(), model.note) == (0, 1, "before")
    assert model.training
    assert torch.equal(inputs, copy)


def test_gradients_that_were_there_stay_and_inputs_keep_theirs():
    model = nn.Linear(3, 3)
    inputs = floats().requires_grad_()
    model(inputs).sum().backward()
    kept = [parameter.grad.clone() for parameter in (inputs, *model.parameters())]
    assert check_causality(model, inputs).causal is True
    for parameter, grad in zip((inputs, *model.parameters()), kept, strict=True):
        assert torch.equal(parameter.grad, grad)


# --- the same again


def same(one: CausalityReport, other: CausalityReport) -> bool:
    alike = torch.equal(one.dependencies.nan_to_num(-1), other.dependencies.nan_to_num(-1))
    names = [name for name in vars(one) if name not in ("dependencies", "seconds")]
    return alike and all(getattr(one, name) == getattr(other, name) for name in names)


@pytest.mark.parametrize("kind", [GPT, BERT])
def test_the_same_seed_gives_the_same_report_whatever_the_global_seed(kind):
    reports = []
    for number, seed in ((1, 0), (2, 0), (1, 5)):
        torch.manual_seed(number)
        reports.append(check_causality(small(kind).eval(), tokens(), seed=seed))
    assert same(reports[0], reports[1])
    assert not same(reports[0], reports[2])
    assert reports[0].causal is reports[2].causal


# --- against PyTorch's own Jacobian


class OnVectors(nn.Module):
    """A GPT's or BERT's blocks behind vectors instead of token ids."""

    def __init__(self, model, window: int | None = None):
        super().__init__()
        self.model, self.window = model, window

    def forward(self, x):
        T = x.shape[1]
        if self.model.causal:
            blocked = generate_causal_mask(T)
        else:
            blocked = torch.zeros(T, T, dtype=torch.bool)
        if self.window is not None:
            blocked = blocked | ~torch.ones(T, T, dtype=torch.bool).triu(1 - self.window)
        for block in self.model.blocks:
            x = block(x, blocked)
        return x


@pytest.mark.parametrize("kind", [GPT, BERT])
@pytest.mark.parametrize("window", [None, 2])
def test_the_zeros_of_the_dependencies_are_those_of_the_jacobian(kind, window):
    model, inputs = OnVectors(small(kind).eval(), window), floats(dim=8)
    full = jacobian(model.double(), inputs.double())  # (b, T, d, b, T, d)
    depends = full.abs().amax(dim=(0, 2, 3, 5)) > 1e-12
    model.float()
    report = check_causality(model, inputs)
    assert torch.equal(report.dependencies > 0, depends)
    assert report.causal is (kind is GPT)
    assert not depends.all() or kind is BERT


def test_a_dependency_is_as_large_as_the_gradient_not_merely_there():
    sizes = torch.tensor([1.0, 10.0, 100.0, 1000.0])
    model = Module(lambda x: (x * sizes[:, None]).cumsum(1))
    report = check_causality(model, floats(batch=1, length=4, dim=1))
    for t in range(4):
        ratios = report.dependencies[t, : t + 1] / report.dependencies[t, 0]
        torch.testing.assert_close(ratios, sizes[: t + 1].double(), rtol=1e-5, atol=0)


# --- what it costs


def test_the_work_of_a_gpt_is_bounded_and_counted_as_it_was_done():
    T = 32
    model = small(length=T).eval()
    hook = model.register_forward_hook(lambda *call: CALLS.append(call[1][0].shape[1]))
    report = check_causality(model, tokens(length=T))
    hook.remove()
    assert report.causal is True
    assert report.forwards == len(CALLS)
    assert report.forward_equivalents == pytest.approx(sum(CALLS) / T)
    assert report.forward_equivalents <= 4 * T
    assert 0 < report.backwards <= T


def test_fewer_cuts_are_less_work():
    model = small(length=32).eval()
    few = check_causality(model, tokens(length=32), cuts=[16])
    assert few.forward_equivalents < 20
    assert few.backwards <= 1


@pytest.mark.parametrize("special", [(), (0, 3)])
def test_every_id_of_another_future_is_another(special):
    ids = tokens(batch=4, vocabulary=5)
    futures = changed_values(ids, 5, special)
    for cut in range(7):
        for offset in range(4):
            generator = torch.Generator().manual_seed(cut)
            new = futures.other_values(cut, generator, offset=offset)
            assert torch.equal(new[:, :cut], ids[:, :cut])
            assert bool((new[:, cut:] != ids[:, cut:]).all())


@pytest.mark.parametrize("lookahead", [-1, 0, 1])
def test_a_cut_measures_the_last_output_that_must_not_see_it(lookahead):
    report = check_causality(nn.Identity(), floats(), lookahead=lookahead, cuts=[3])
    measured = ~report.dependencies.isnan().all(dim=1)
    assert measured.nonzero().flatten().tolist() == [2 - lookahead]
