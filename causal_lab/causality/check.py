"""Change the future, compare the past, at every cut."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from causal_lab.causality import thresholds
from causal_lab.causality.arguments import Question
from causal_lab.causality.blame import blame_leak
from causal_lab.causality.budget import Budget
from causal_lab.causality.examine import Plan, Seen, examine
from causal_lab.causality.prefixes import PREFIX
from causal_lab.causality.report import CausalityReport, in_words
from causal_lab.causality.runner import Runner
from causal_lab.causality.scene import Scene, UndecidedError
from causal_lab.causality.verdict import all_leaks, join, judge

_FEWEST_TRIALS = 12  # of other values, where the sequence is short
_QUICK = 8  # cuts: most leaks show at any
_QUICK_OUTPUTS = 32  # whose gradients are taken: they find what shows at one cut only
_MOST = 128, 192  # cuts, and outputs whose gradients are taken, where a sequence is longer


def check_causality(
    model: nn.Module | Callable,
    inputs: Tensor | tuple,
    *,
    lookahead: int = 0,
    allowed: Tensor | None = None,
    output_positions: Iterable[int] | None = None,
    expected: Tensor | None = None,
    time_axis: int | tuple[int, int] | None = None,
    wrt: int | str = 0,
    special_ids: Iterable[int] = (),
    forward_kwargs: Mapping | Callable | None = None,
    output: str | int | Callable | None = None,
    train: bool | None = None,
    cuts: Iterable[int] | None = None,
    effort: str | None = None,
    time_limit: float | None = None,
    progress: bool = False,
    blame: bool = False,
    allow: str | Iterable[str] = (),
    seed: int = 0,
) -> CausalityReport:
    """Find out whether any output of a model depends on an input that comes after it.

    At every cut, the inputs after it are replaced by others and the outputs before it are compared,
    in the model's own precision and in 64 bits. Gradients from every output to every input show
    leaks that rounding hides. What could be rounding is looked at again with all weights shaken a
    little: rounding is drawn anew by that, a leak stays. There is no tolerance to choose. Every
    prefix is also run alone, which shows dependence on the *length*.

    True means: at these inputs, for the futures that were tried, nothing came through. It is a
    test, not a proof; a condition that no tried future meets stays unseen.

    Args:
        model: any module or function that is called as ``model(inputs, **forward_kwargs)``, the
            batch first. Its random state, buffers, attributes and modes are afterwards as before.
        inputs: token ids, integer, shape (batch, length), or vectors, floating, shape
            (batch, length, dim, …); a tuple of all positional arguments if there are several. Real
            ones, or as the model would meet: what is true is what is tried.
        lookahead: how many later inputs an output may see; −1 asks that it does not see its own
            either.
        allowed: bool, shape (output, input), True where an output may depend on an input, in place
            of the triangle that ``lookahead`` makes: blocks, prefixes, images.
        output_positions: where among the inputs each output stands, if they have another rate.
        expected: bool, shape (output, input), True where an output must depend on an input.
        time_axis: of the inputs and of the output, or a pair for both, if it is not 1.
        wrt: which argument is varied: its place in the tuple, or a name in ``forward_kwargs``.
        special_ids: ids such as padding or end of text, to be tried in the future as well.
        forward_kwargs: further arguments for every call, or a function of the inputs that gives
            them. A tensor that runs along the sequence is cut with it; where its shape leaves that
            open, in each way in which the model can run.
        output: which part of the model's result to judge: a name, an index, or a function of the
            result. If not given: the result itself, ``logits``, ``last_hidden_state``, or the first
            part of shape (batch, length, …).
        train: judge in train mode (True) or eval mode (False); if not given, as the model came.
        cuts: try only these: the first changed input of each. All of them if not given, since a
            leak from one position to the next shows at one cut only.
        effort: {"quick", "thorough"}: a few cuts, or all of them (if not given: up to 64 inputs).
        time_limit: seconds; what was not tried by then is said.
        progress: show a bar on stderr.
        blame: trace a leak to the submodule where it enters.
        allow: cautions that are known and do not matter: "pointwise", "constant", "batch".

    Returns:
        Truthy if causal, and not in vain. ``causal`` is None, with the reason, where it cannot be
        decided.

    >>> ahead = nn.Sequential(nn.ConstantPad1d((-1, 1), 0.0))  # every output is the next input
    >>> class Shift(nn.Module):
    ...     def forward(self, x):
    ...         return ahead(x.transpose(1, 2)).transpose(1, 2)
    >>> report = check_causality(Shift(), torch.randn(2, 5, 3))
    >>> report.causal, report.first_leak.output, report.first_leak.input
    (False, 0, 1)
    >>> check_causality(Shift(), torch.randn(2, 5, 3), lookahead=1).causal
    True

    One line for a test suite:

    >>> check_causality(nn.GRU(3, 3, batch_first=True), torch.randn(2, 5, 3)).assert_causal()
    <CausalityReport causal=True>
    """
    asked = Question.read(locals())
    outputs, length = asked.allowed.shape
    run = Runner(
        asked.model,
        *asked.inputs.shape[:2],
        forward_kwargs=asked.forward_kwargs,
        output=output,
        train=train,
        outputs=None if outputs == length else outputs,
        time_axes=asked.time_axes,
    )
    budget = Budget(time_limit, progress)
    scene = Scene(run, asked.inputs, asked.allowed, asked.special_ids, asked.seed, budget)
    seen, undecided, culprit = Seen(), "", None
    if not asked.changes:
        undecided = (
            f"a sequence of {length} has nothing after the lookahead of {lookahead}; give a longer "
            "one"
        )
    else:
        try:
            with run:
                seen = examine(scene, _plan(asked), asked.expected)
                _, _, leak = judge(seen.findings)
                culprit = blame_leak(scene, seen.leaking, leak) if blame and leak else None
        except UndecidedError as reason:
            undecided = str(reason)
        finally:
            budget.close()
    report = replace(_report(asked, scene, seen, undecided), blame=culprit)
    if report.causal is False and asked.may_be_channels_first:
        given = {"wrt": wrt, "forward_kwargs": forward_kwargs, "output": output, "train": train}
        if _is_causal_along_axis_2(model, inputs, seed=seed, **given):
            why = (
                f"along axis 1 {report.reason}, but along axis 2 the model is causal: say which is "
                "the time axis, time_axis=2 or time_axis=1"
            )
            return replace(report, causal=None, reason=why)
    return report


def _is_causal_along_axis_2(model, inputs, **options) -> bool:
    """Look along the other axis: channels may stand before the time."""
    options |= {"time_axis": 2, "effort": "quick", "allow": "batch"}
    try:
        return bool(check_causality(model, inputs, **options))
    except ValueError:  # the output has no such axis
        return False


def _plan(asked: Question) -> Plan:
    """Choose how much to try."""
    changes, positions = asked.changes, list(range(len(asked.allowed)))
    if not changes:
        return Plan([], 0, [], [], False)
    if asked.all_cuts and asked.effort == "thorough":
        rounds = max(1, -(-_FEWEST_TRIALS // len(changes)))
        changes, positions = _spread(changes, _MOST[0]), _spread(positions, _MOST[1])
        return Plan(changes, rounds, positions, [change.cut for change in changes], True)
    if asked.effort == "quick":
        changes, positions = _spread(changes, _QUICK), _spread(positions, _QUICK_OUTPUTS)
    else:  # the outputs just before the cuts
        positions = sorted(
            {int(change.kept.nonzero()[-1]) for change in changes if change.kept.any()}
        )
    return Plan(changes, 1, positions, [change.cut for change in changes], False)


def _spread(items: list, count: int) -> list:
    """Take some, both ends among them."""
    if len(items) <= count:
        return items
    places = torch.linspace(0, len(items) - 1, count).round().long().unique().tolist()
    return [items[place] for place in places]


def _report(asked: Question, scene: Scene, seen: Seen, undecided: str) -> CausalityReport:
    causal, reason, first = judge(seen.findings)
    if undecided:
        causal, reason = None, undecided
    elif causal:
        reason = _all_is_well(asked, seen, scene.budget)
    nothing = torch.full(asked.allowed.shape, torch.nan, dtype=torch.float64)
    evidence = tuple(finding.evidence for finding in seen.findings)
    same_alone = next((e.independent for e in evidence if e.method == PREFIX), None)
    judged, run = scene.run.judged, scene.run
    cautions = tuple(
        replace(caution, allowed=caution.name in asked.allow) for caution in seen.cautions if causal
    )
    return CausalityReport(
        causal=causal,
        reason=reason + in_words(cautions),
        first_leak=first,
        dependencies=join(
            nothing if seen.map is None else seen.map, asked.allowed, all_leaks(seen.findings)
        ),
        evidence=evidence,
        length_dependent=None if same_alone is None else not same_alone,
        lookahead=asked.lookahead,
        cuts=tuple(dict.fromkeys(change.cut for change in _plan(asked).changes)),
        judged="the output" if judged is None else f"output {judged!r}",
        forwards=run.forwards,
        backwards=run.backwards,
        forward_equivalents=run.forward_equivalents,
        cautions=cautions,
        untried=asked.untried,
        seconds=scene.budget.spent,
    )


def _all_is_well(asked: Question, seen: Seen, budget: Budget) -> str:
    cuts = [change.cut for change in _plan(asked).changes]
    at = f"at any of {len(cuts)} cuts" if asked.all_cuts else f"at the cuts {cuts}"
    if len(cuts) < len(asked.changes):
        at = f"at {len(cuts)} of {len(asked.changes)} cuts"
    if asked.effort == "quick":
        at += ", quickly"
    if budget.is_over:
        at = f"as far as {budget.seconds:g} s went, see below"
    if asked.is_triangle:
        ahead = f" by more than {asked.lookahead}" if asked.lookahead > 0 else ""
        well = f"no output depends on an input after it{ahead}, {at}"
    else:
        well = f"no output depends on an input that it is not allowed to see, {at}"
    bound = max((finding.bound for finding in seen.findings), default=0.0)
    if bound > thresholds.STATED:
        well += (
            f"; what moved by up to {bound:.1g} of its size is rounding, which is no smaller in 64 "
            "bits: some part computes in fewer"
        )
    return well
