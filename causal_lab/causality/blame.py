"""Trace what was found to the submodule in which it enters, and make it small."""

import contextlib
from dataclasses import replace

import torch
from torch import Tensor

from causal_lab.causality.answer import positions
from causal_lab.causality.gradients import Lookups
from causal_lab.causality.question import Change
from causal_lab.causality.report import Leak
from causal_lab.causality.runner import CannotRunError, Runner
from causal_lab.causality.scene import FINE, Scene
from causal_lab.causality.trials import component_scale
from causal_lab.causality.watch import APART, Blame, Watch, find_entry, past_moved, rows_apart

_LEAST = 1e-3  # × the leak: a part of it this large is looked for, if it is faint itself
_NATIVELY = 1e-3  # of a tensor's size, in the model's own precision
_SHORTEST_TRIED = 8  # lengths, before the whole sequence is taken
_FAINT = 1e-6  # of an output's size: below, no example is worth pasting


def blame_leak(scene: Scene, leaking: list, first: Leak) -> Blame | None:
    """Find the module where a leak enters, and the smallest input that shows it.

    Args:
        leaking: pairs of a method and a trial that leaked.

    >>> from causal_lab.causality import check_causality
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Conv1d(4, 4, 1))
    >>> report = check_causality(model, torch.randn(1, 4, 2), time_axis=1, blame=True)
    >>> report.blame.name
    '1'
    """
    showing = [(m, t) for m, t in leaking if m.leaks_of(scene, t)[first.output]]
    trials = [trial for _, trial in showing]
    natively = bool(trials) and not any(trial.moved(FINE) for trial in trials)
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.suppress(CannotRunError))
        if not natively:
            stack.enter_context(scene.finely())
        if showing:
            method, trial = max(showing, key=lambda one: one[1].size_at(first.output))
            changed, change = method.inputs(scene, trial), trial.change
            size = max(float(sizes[first.output]) for sizes in trial.relative.values())
            after = _calls(scene.run, changed)
        else:
            row = scene.allowed[first.output]
            change = Change(first.input, ~row, torch.arange(len(scene.allowed)) == first.output)
            size, after = _LEAST, _along_the_gradient(scene, change, first)
        kept = change.kept
        if len(kept) != scene.inputs.shape[1]:
            kept = ~change.changed & (torch.arange(scene.inputs.shape[1]) < change.cut)
        threshold = _NATIVELY if natively else min(APART, max(1e-13, _LEAST * size))
        features = {size for weight in scene.run.model.parameters() for size in weight.shape}
        is_apart = past_moved(kept, len(scene.inputs), threshold, features)
        blame = find_entry(_calls(scene.run, scene.inputs), after, is_apart)
        return blame and replace(blame, example=_example(scene))
    return None


def blame_chunk(run: Runner, inputs: Tensor, plan, wrong) -> Blame | None:
    """Find the first module that gives something else in a chunk than in the full pass.

    Args:
        inputs: shape (batch, length, …).
        plan: the schedule that is wrong, and ``wrong``, its result.

    >>> from causal_lab.causality import check_cache
    >>> layer = torch.nn.GRU(2, 2, batch_first=True)
    >>> forgets = lambda chunk, state: (layer(chunk)[0], None)
    >>> check_cache(forgets, torch.randn(2, 6, 2), layer, blame=True).blame.kind
    'GRU'
    """
    number, rows = next(
        (n, rows) for n, rows in enumerate(positions(plan.chunks)) if wrong.first_wrong_row in rows
    )
    place = (inputs.shape[1], len(rows), rows[0])
    with run.precision(torch.float64), contextlib.suppress(CannotRunError):
        full = {call.name: call for call in reversed(_calls(run, inputs, kwargs={}))}
        seen: dict[str, int] = {}
        chunk = []
        for call in _calls(run, inputs, kwargs={"plan": plan}):
            seen[call.name] = seen.get(call.name, 0) + 1
            if seen[call.name] == number + 1 and call.name in full and call.name:
                chunk.append(call)
        return find_entry([full[call.name] for call in chunk], chunk, rows_apart([place]))
    return None


def blame_padding(run: Runner, alone: tuple, padded: tuple, places: list) -> Blame | None:
    """Find the first module that gives something else with padding than without.

    Args:
        alone, padded: inputs and further arguments of a run, each.
        places: where the one lies in the other, as ``watch.rows_apart`` needs it.

    >>> from causal_lab.causality import check_padding
    >>> class Means(torch.nn.Module):
    ...     def forward(self, x):
    ...         return x - x.mean(1, keepdim=True)
    >>> model = torch.nn.Sequential(torch.nn.Embedding(9, 2), Means())
    >>> check_padding(model, torch.tensor([[1, 2, 3]]), 0, blame=True).blame.name
    '1'
    """
    with run.precision(torch.float64), contextlib.suppress(CannotRunError):
        calls = []
        for ids, kwargs in (padded, alone):
            run.batch, run.length = ids.shape
            calls.append(_calls(run, ids, kwargs=kwargs))
        return find_entry(*calls, rows_apart(places))
    return None


def _calls(run: Runner, inputs: Tensor, mode=None, **options) -> list:
    watch = Watch(run.model, mode)
    run(inputs, mode=watch, **options)
    return watch.calls


def _along_the_gradient(scene: Scene, change: Change, first: Leak) -> list:
    """Move what must not be seen along the gradient that was found."""
    paths = scene.paths()
    direction = torch.ones_like(paths.output)
    moves = paths.moves(first.output, direction, change.changed, step=1e-2)
    if -1 in moves:
        return _calls(scene.run, paths.leaves[-1].detach() + moves[-1])
    return _calls(scene.run, scene.inputs, Lookups(scene.run.tables, moves))


def _example(scene: Scene) -> str:
    """Write the smallest input at which one changed input moves an earlier output, as code."""
    if not scene.allowed.shape[0] == scene.inputs.shape[1] or scene.run.time_axes != (1, 1):
        return ""
    kwargs, length = scene.run.forward_kwargs, scene.inputs.shape[1]
    if callable(kwargs) or any(name.startswith("inputs[") for name in kwargs):
        return ""
    fixed = any(isinstance(value, Tensor) for value in kwargs.values())
    for short in [*([] if fixed else range(2, min(length, _SHORTEST_TRIED))), length]:
        found = _shown_at(scene, short)
        if found:
            return _as_code(scene, short, *found)
    return ""


def _shown_at(scene: Scene, short: int):
    inputs = scene.inputs[:, :short]
    try:
        base = next(scene.run.prefix(inputs))
        for position in range(short - 1, 0, -1):
            for changed in _other_values(scene, inputs, position):
                output = next(scene.run.prefix(changed))
                size = (output - base)[:, :position].abs().nan_to_num(0.0)
                scale = component_scale(base)
                seen = (size / torch.where(scale > 0, scale, 1.0)).flatten(2).amax(-1)
                seen[:, scene.allowed[:position, position].to(seen.device)] = 0.0
                if float(seen.max()) > _FAINT:
                    row, output = divmod(int(seen.argmax()), position)
                    return inputs[row], changed[row], position, output
    except (CannotRunError, ValueError):
        return None
    return None


def _other_values(scene: Scene, inputs: Tensor, position: int):
    if scene.is_tokens:
        known = [*scene.special_ids, *scene.inputs.unique().tolist()[:4]]
        values = [torch.full_like(inputs[:, position], value) for value in known]
    else:
        values = [inputs[:, position] + 1, torch.zeros_like(inputs[:, position])]
    for value in values:
        changed = inputs.clone()
        changed[:, position] = value
        if not torch.equal(changed, inputs):
            yield changed


def _as_code(scene: Scene, short: int, row: Tensor, changed: Tensor, position: int, output: int):
    judged = scene.run.judged
    part = f".{judged}" if isinstance(judged, str) else "" if judged is None else f"[{judged!r}]"
    part = f", **forward_kwargs){part}" if scene.run.forward_kwargs else f"){part}"
    if callable(judged):
        return ""
    if scene.is_tokens:
        made = f"inputs = torch.tensor([{row.tolist()}])\n"
        made += f"changed = torch.tensor([{changed.tolist()}])\n"
    elif row.numel() <= 40:
        made = (
            f"inputs = torch.tensor([{[[round(float(v), 3) for v in x.flatten()] for x in row]}])"
        )
        made += f"\nchanged = inputs.clone()\nchanged[0, {position}] += 1\n"
    else:
        made = f"inputs = torch.randn(1, {short}, {', '.join(map(str, row.shape[1:]))})\n"
        made += f"changed = inputs.clone()\nchanged[0, {position}] += 1\n"
    return (
        f"import torch\n\n{made}with torch.no_grad():\n"
        f"    before, after = model(inputs{part}, model(changed{part}\n"
        f"print((before - after)[0, {output}].abs().max())  # not 0: output {output} saw input "
        f"{position}"
    )
