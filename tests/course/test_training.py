"""The training loop, its bar, and the batches that it is fed."""

import contextlib
import itertools
import math
import re
import subprocess
import sys

import nbclient
import nbformat
import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from causal_lab.course.training import History, hide_some, random_windows, train
from causal_lab.models.transformer import BERT, GPT


def layer(seed: int = 0) -> nn.Linear:
    linear = nn.Linear(3, 2)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return linear


def draw_batches(steps: int, seed: int = 0) -> list[torch.Tensor]:
    return list(torch.randn(steps, 4, 3, generator=torch.Generator().manual_seed(seed)))


def square(linear: nn.Module):
    return lambda x: (linear(x) - 5.0).square().sum()


@contextlib.contextmanager
def watch_steps():
    """Record learning rate and gradient norm as the optimiser meets them, step by step."""
    seen = []

    def record(optimiser, args, kwargs):
        (group,) = optimiser.param_groups
        gradients = [p.grad for p in group["params"] if p.grad is not None]
        norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
        seen.append((group["lr"], norm))

    handle = register_optimizer_step_pre_hook(record)
    try:
        yield seen
    finally:
        handle.remove()


def counting(steps: int, modulus: int = 5) -> list[torch.Tensor]:
    """Make sequences that count upwards from a random start."""
    starts = torch.randint(modulus, (steps, 8, 1), generator=torch.Generator().manual_seed(0))
    return list((starts + torch.arange(9)) % modulus)


def small(model_class, **options):
    generator = torch.Generator().manual_seed(0)
    return model_class(6, 9, d_model=16, num_heads=2, generator=generator, **options)


# --- what is learned


def test_gpt_learns_to_count():
    model, batches = small(GPT), counting(80)
    before = model.loss(batches[0]).item()
    history = train(model, batches, model.loss, progress=False, learning_rate=1e-2)
    assert history.losses[0] == pytest.approx(before, abs=1e-6)
    assert before > 1.4
    assert history.last(10) < 0.3
    assert model.loss(batches[0]).item() < 0.3


def test_bert_learns_to_fill_the_gaps():
    model = small(BERT, mask_id=5)
    pairs = hide_some(counting(120), 0.25, seed=0)
    history = train(
        model, pairs, lambda pair: model.loss(*pair), progress=False, learning_rate=1e-2
    )
    assert history.losses[0] > 1.4
    assert history.last(10) < 0.5


def test_every_batch_is_shown_once_and_in_order():
    linear, batches, seen = layer(), draw_batches(7), []

    def loss(x):
        seen.append(x)
        return square(linear)(x)

    train(linear, (batch for batch in batches), loss, progress=False)
    assert len(seen) == 7
    assert all(a is b for a, b in zip(seen, batches, strict=True))


@pytest.mark.parametrize(
    "steps",
    [
        *(1, 2, 3, 8),
        9,
        *(10, 11, 19, 20),
    ],
)
def test_the_history_has_one_entry_per_step(steps):
    linear, batches = layer(), draw_batches(steps)
    history = train(linear, batches, square(linear), progress=False)
    assert len(history.losses) == len(history.gradient_norms) == steps
    assert all(isinstance(x, float) for x in history.losses + history.gradient_norms)
    assert history.losses[0] == pytest.approx(square(layer())(batches[0]).item(), rel=1e-5)
    assert repr(history) == f"<History of {steps} steps>"


def test_a_loss_is_the_one_before_its_step():
    linear, batches, given = layer(), draw_batches(6), []

    def loss(x):
        value = square(linear)(x)
        given.append(value.item())
        return value

    assert train(linear, batches, loss, progress=False).losses == given
    assert len(set(given)) == 6


# --- the step


@pytest.mark.parametrize("clip", [1e-3, 1.0, 1e6])
def test_the_gradient_norm_is_the_one_before_clipping(clip):
    linear, [batch] = layer(), draw_batches(1)
    error = linear(batch).detach() - 5.0  # of (output - 5)², batch by batch
    by_weight = 2 * error.T @ batch
    by_bias = 2 * error.sum(dim=0)
    expected = math.sqrt(by_weight.square().sum().item() + by_bias.square().sum().item())
    history = train(linear, [batch], square(linear), clip=clip, progress=False)
    assert expected > 10
    assert history.gradient_norms[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("clip", [1e-3, 1.0, 30.0])
def test_no_step_takes_a_gradient_longer_than_clip(clip):
    linear = layer()
    with watch_steps() as steps:
        history = train(linear, draw_batches(20), square(linear), clip=clip, progress=False)
    assert len(steps) == 20
    for (_, taken), norm in zip(steps, history.gradient_norms, strict=True):
        assert taken == pytest.approx(min(norm, clip), rel=1e-3)
    assert max(history.gradient_norms) > clip


def test_a_step_clips_at_1_unless_told_otherwise():
    linear = layer()
    with watch_steps() as steps:
        train(linear, draw_batches(3), square(linear), progress=False)
    assert [taken for _, taken in steps] == pytest.approx([1.0] * 3, rel=1e-3)


def test_gradients_do_not_add_up_and_old_ones_are_forgotten():
    linear, [batch] = layer(), draw_batches(1)
    for parameter in linear.parameters():
        parameter.grad = torch.full_like(parameter, 1e4)
    history = train(linear, [batch] * 5, square(linear), learning_rate=1e-9, progress=False)
    fresh = layer()
    square(fresh)(batch).backward()
    expected = math.sqrt(sum(p.grad.square().sum().item() for p in fresh.parameters()))
    assert history.gradient_norms == pytest.approx([expected] * 5, rel=1e-4)


@pytest.mark.parametrize("highest", [3e-3, 0.1])
def test_the_learning_rate_rises_over_a_tenth_and_falls_to_0(highest):
    linear = layer()
    with watch_steps() as seen:
        train(linear, draw_batches(60), square(linear), learning_rate=highest, progress=False)
    rates = [rate for rate, _ in seen]
    top = rates.index(max(rates))
    assert rates[top] == pytest.approx(highest, rel=0.01)
    assert 4 <= top <= 7
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert 0 < rates[0] < 0.1 * highest
    assert 0 < rates[-1] < 0.01 * highest


def test_the_highest_learning_rate_is_3e_3_unless_told_otherwise():
    linear = layer()
    with watch_steps() as seen:
        train(linear, draw_batches(60), square(linear), progress=False)
    assert max(rate for rate, _ in seen) == pytest.approx(3e-3, rel=0.01)


def test_no_parameter_moves_further_in_a_step_than_adam_may():
    linear = layer()
    positions, rates = [], []

    def loss(x):
        positions.append(linear.weight.detach().clone())
        return square(linear)(x)

    with watch_steps() as seen:
        train(linear, draw_batches(40), loss, learning_rate=0.01, progress=False)
    rates = [rate for rate, _ in seen]
    moves = [(b - a).abs().max().item() for a, b in itertools.pairwise(positions)]
    # Adam's steps stay near the rate; far above it means another optimiser, 0 that none is taken.
    assert all(0.1 * rate < move < 2 * rate for move, rate in zip(moves[:10], rates, strict=False))


# --- the mode


@pytest.mark.parametrize("mode", [True, False])
def test_the_model_trains_in_train_mode_and_is_left_in_eval_mode(mode):
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)).train(mode)
    modes = []

    def loss(x):
        modes.append([module.training for module in model.modules()])
        return model(x).square().sum()

    train(model, draw_batches(3), loss, progress=False)
    assert modes == [[True] * 3] * 3
    assert not any(module.training for module in model.modules())


def test_the_same_seed_gives_the_same_history_and_another_another():
    def history(seed):
        torch.manual_seed(seed)
        model = GPT(6, 9, d_model=8, num_heads=2, dropout=0.1)
        return train(model, counting(5), model.loss, progress=False)

    assert history(0) == history(0)
    assert history(0).losses != history(1).losses
    assert history(0).gradient_norms != history(1).gradient_norms


def test_the_bar_changes_nothing(capfd):
    histories = []
    for progress in (True, False):
        linear = layer()
        histories.append(train(linear, draw_batches(4), square(linear), progress=progress))
    assert histories[0] == histories[1]


def test_nothing_to_train_on_is_refused():
    linear = layer()
    for batches in ([], iter(())):
        with pytest.raises(ValueError, match="no batches to train on; give at least one"):
            train(linear, batches, square(linear), progress=False)


# --- the history


def test_last_averages_the_last_losses():
    history = History([8.0, 4.0, 2.0, 1.0], [0.0] * 4)
    assert history.last(1) == 1.0
    assert history.last(3) == pytest.approx(7 / 3)
    assert history.last(100) == 3.75
    long = History([100.0] * 5 + [1.0] * 10 + [3.0] * 10)
    assert long.last() == 2.0  # of the last 20


def test_histories_do_not_share_their_lists():
    one, other = History(), History()
    one.losses.append(1.0)
    one.gradient_norms.append(1.0)
    assert (other.losses, other.gradient_norms) == ([], [])


def test_an_average_of_nothing_is_refused():
    with pytest.raises(ValueError, match="nothing was trained yet"):
        History().last()
    for steps in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="steps must be an integer of at least 1"):
            History([1.0], [1.0]).last(steps)


# --- windows of a text

TEXT = torch.randperm(50, generator=torch.Generator().manual_seed(0)) + 100


def starts_of(batches: list[torch.Tensor], text: torch.Tensor) -> list[int]:
    """Find where each window begins; every token of the text occurs once."""
    rows = torch.cat(batches)
    starts = [(text == row[0]).nonzero().item() for row in rows]
    for row, start in zip(rows, starts, strict=True):
        assert row.tolist() == text[start : start + len(row)].tolist()
        assert len(row) == len(batches[0][0])
    return starts


@pytest.mark.parametrize("length", [1, 2, 7, 49, 50])
def test_every_window_is_a_piece_of_the_text(length):
    batches = random_windows(TEXT, length, batch_size=3, steps=20, seed=0)
    assert len(batches) == 20
    assert {tuple(batch.shape) for batch in batches} == {(3, length)}
    assert {batch.dtype for batch in batches} == {torch.int64}
    starts = starts_of(batches, TEXT)
    assert 0 <= min(starts) <= max(starts) <= 50 - length


@pytest.mark.parametrize("length", [1, 3, 6])
def test_every_start_is_reached_about_equally_often(length):
    text = TEXT[:6]
    starts = starts_of(random_windows(text, length, batch_size=10, steps=60, seed=0), text)
    counts = [starts.count(start) for start in range(6)]
    reachable = 7 - length
    assert counts[reachable:] == [0] * (length - 1)
    for count in counts[:reachable]:
        assert count == pytest.approx(600 / reachable, abs=50)


def test_the_same_seed_cuts_the_same_windows_and_another_others():
    def cut(seed):
        return torch.stack(random_windows(TEXT, 4, batch_size=3, steps=5, seed=seed))

    before = torch.get_rng_state()
    assert torch.equal(cut(0), cut(0))
    assert not torch.equal(cut(0), cut(1))
    assert torch.equal(torch.get_rng_state(), before)
    batches = cut(0)
    assert len({tuple(batch.flatten().tolist()) for batch in batches}) == 5


def test_windows_are_copies():
    text = TEXT.clone()
    [batch] = random_windows(text, 4, batch_size=1, steps=1, seed=0)
    batch.zero_()
    assert torch.equal(text, TEXT)


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"ids": [1, 2, 3]}, "ids must be a tensor, got list; try torch.tensor(ids)"),
        ({"ids": TEXT[:3]}, "ids must be one row of at least length=4 tokens, got shape (3,)"),
        ({"ids": TEXT[None]}, "ids must be one row of at least length=4 tokens, got shape (1, 50)"),
        ({"ids": torch.tensor(5)}, "ids must be one row of at least length=4 tokens, got shape ()"),
        ({"length": 0}, "length must be an integer of at least 1, got 0"),
        ({"length": 2.0}, "length must be an integer of at least 1, got 2.0"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1, got 0"),
        ({"steps": 0}, "steps must be an integer of at least 1, got 0"),
        ({"steps": True}, "steps must be an integer of at least 1, got True"),
    ],
)
def test_windows_that_cannot_be_cut_are_refused(options, advice):
    options = {"ids": TEXT, "length": 4, "batch_size": 2, "steps": 3, "seed": 0, **options}
    with pytest.raises(ValueError, match=re.escape(advice)):
        random_windows(**options)


# --- hidden tokens


@pytest.mark.parametrize("share", [0.01, 0.15, 0.3, 0.5, 0.99])
@pytest.mark.parametrize("length", [1, 2, 7, 20])
def test_each_sequence_hides_its_share_and_at_least_one(length, share):
    batches = [torch.arange(5 * length).reshape(5, length) + step for step in range(4)]
    pairs = hide_some(batches, share, seed=0)
    assert len(pairs) == 4
    expected = max(1, round(share * length))
    for (ids, hidden), batch in zip(pairs, batches, strict=True):
        assert torch.equal(ids, batch)
        assert hidden.dtype == torch.bool
        assert hidden.sum(dim=1).tolist() == [expected] * 5
        assert hidden.shape == ids.shape


def test_the_same_seed_hides_the_same_tokens_and_another_others():
    def hidden(seed):
        return torch.stack([h for _, h in hide_some([torch.zeros(4, 20)] * 3, 0.3, seed=seed)])

    before = torch.get_rng_state()
    assert torch.equal(hidden(0), hidden(0))
    assert not torch.equal(hidden(0), hidden(1))
    assert torch.equal(torch.get_rng_state(), before)
    rows = hidden(0).flatten(0, 1).tolist()
    assert len({tuple(row) for row in rows}) == 12  # no row and no batch repeats another


def test_every_choice_of_places_is_about_equally_likely():
    [(_, hidden)] = hide_some([torch.zeros(6000, 4)], 0.5, seed=0)
    rows = [tuple(row) for row in hidden.tolist()]
    for chosen in itertools.combinations(range(4), 2):
        places = tuple(t in chosen for t in range(4))
        assert rows.count(places) == pytest.approx(1000, abs=130)


@pytest.mark.parametrize("share", [0.15, 0.75])
def test_every_place_is_hidden_about_equally_often(share):
    [(_, hidden)] = hide_some([torch.zeros(4000, 20)], share, seed=1)
    for count in hidden.sum(dim=0).tolist():
        assert count == pytest.approx(4000 * share, abs=130)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, math.nan, 1, True, "0.5", None])
def test_a_share_out_of_range_is_refused(share):
    advice = f"share must lie between 0 and 1, got {share!r}"
    with pytest.raises(ValueError, match=re.escape(advice)):
        hide_some([torch.zeros(2, 4)], share, seed=0)


# --- the bar

CODE = """import torch
from torch import nn
from causal_lab.course.training import train
layer = nn.Linear(1, 1)
history = train(layer, [torch.ones(4, 1)] * 50, lambda x: layer(x).square().mean())"""


def test_outside_a_notebook_the_bar_leaves_nothing_behind():
    answer = subprocess.run(
        [sys.executable, "-W", "error", "-c", CODE], capture_output=True, check=True
    )
    assert answer.stdout == b""
    drawn = answer.stderr.decode()
    assert "50" in drawn  # there was a bar
    assert "\n" not in drawn
    *_, wiped, rest = drawn.split("\r")
    assert (wiped.strip(), rest) == ("", "")


def test_without_a_bar_nothing_is_written(capfd):
    linear = layer()
    train(linear, draw_batches(3), square(linear), progress=False)
    assert capfd.readouterr() == ("", "")
    train(linear, draw_batches(3), square(linear))
    written = capfd.readouterr()
    assert written.out == ""
    assert "3" in written.err


def test_in_a_notebook_the_bar_is_one_widget_beside_a_constant_text():
    quiet = CODE.replace("square().mean())", "square().mean(), progress=False)")
    assert quiet != CODE
    cells = [nbformat.v4.new_code_cell(code) for code in (CODE, quiet)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    loud, silent = (cell.outputs for cell in notebook.cells)
    assert silent == []
    [output] = loud
    view = "application/vnd.jupyter.widget-view+json"
    assert output.output_type == "display_data"
    assert set(output.data) == {"text/plain", view}
    assert output.data["text/plain"] == "50 training steps"
    # The view shows the bar, which is full at the end.
    widgets = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"].state
    box = widgets[output.data[view].model_id].state
    parts = [widgets[child.removeprefix("IPY_MODEL_")].state for child in box.children]
    [bar] = [part for part in parts if part._model_name == "FloatProgressModel"]
    assert (bar.value, bar.max, bar.bar_style) == (50.0, 50.0, "success")
