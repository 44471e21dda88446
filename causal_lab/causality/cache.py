"""Compare a decoder that keeps a cache with one full pass."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from causal_lab.causality.answer import (
    Answer,
    Result,
    left_open,
    listed,
    positions,
    unread,
    verdict_of,
)
from causal_lab.causality.arguments import read_allow
from causal_lab.causality.blame import blame_chunk
from causal_lab.causality.call import reached_by
from causal_lab.causality.compare import compare, how_judged, pair_of, result_of
from causal_lab.causality.parts import choose, take
from causal_lab.causality.report import in_words
from causal_lab.causality.runner import CannotRunError, Runner
from causal_lab.causality.schedules import Schedule, read_schedules
from causal_lab.causality.trials import component_scale, differs, movement
from causal_lab.validation import check_tensor, describe


class CacheReport(Answer):
    """Does a cached decoder say the same as one full pass? Its results are by schedule.

    >>> report = CacheReport(None, "step raised IndexError", {})
    >>> bool(report), print(report)
    Undecided: step raised IndexError
    (False, None)
    """


def check_cache(
    step: Callable,
    inputs: Tensor,
    full: Callable,
    *,
    schedules: Mapping[str, Iterable[int]] | Iterable[str] | None = None,
    rollback: Callable | None = None,
    pad_id: int | None = None,
    tolerance: float = 0.0,
    blame: bool = False,
    allow: str | Iterable[str] = (),
) -> CacheReport:
    """Find out whether a decoder with a cache says the same as one full pass.

    The sequence is handed over in chunks of several lengths, and every row of every schedule is
    compared with the full pass. One by one is not enough: a causal mask that is aligned at the
    upper left is right for one row at a time and wrong for a chunk. What could be rounding is
    computed in 64 bits, and again with all weights shaken a little: rounding is drawn anew by that,
    an error stays.

    The state of all modules that ``full`` and ``step`` reach is afterwards as before, and so are
    the random generators. A cache that is kept in fewer bits than the model computes in is rounding
    too; the report shows how much.

    Args:
        step: ``step(chunk, cache) -> (outputs, cache)``: the next inputs, shape (batch, n, …), and
            what the step before returned, None at the start. Outputs have shape (batch, n, …).
        inputs: shape (batch, length, …), token ids or vectors. At least two different sequences:
            with one, a cache that mixes up the batch looks right.
        full: nn.Module or callable, ``full(inputs) -> outputs`` of shape (batch, length, …), or a
            result with ``logits``, ``last_hidden_state`` or some part of that shape.
        schedules: names of some schedules, or a dict of str to list of int, lengths of the chunks,
            which sum to the length. If not given: "one by one", "prefill, then one by one",
            "chunks of 2", "chunks of 3", "prefill, then chunks", "second prompt" (after another
            one), with ``rollback`` "rollback" and with ``pad_id`` "padded prefill" and
            "right-padded prefill". On request: "two questions" after one cached prompt, which asks
            that a step leaves the cache that it gets as it is.
        rollback: ``rollback(cache, n) -> cache`` with the first n tokens: what follows an offer of
            tokens that was rejected.
        pad_id: of token ids; ``step(chunk, cache, padding)`` is then told, in these two schedules
            alone, by a boolean of shape (batch, n) that is True on padding.
        tolerance: of an output's size; smaller differences are none.
        blame: trace a difference to the first submodule that gives something else in a chunk than
            in the full pass.
        allow: "unread" for a cache on which nothing depends.

    Returns:
        Truthy if the same, and not in vain. ``same`` is None, with the reason, where it cannot be
        decided.

    >>> def step(chunk, total):
    ...     sums = chunk.cumsum(dim=1) + (0.0 if total is None else total)
    ...     return sums, sums[:, -1:]
    >>> inputs = torch.randn(2, 7, 3)
    >>> check_cache(step, inputs, lambda x: x.cumsum(dim=1)).assert_same()
    <CacheReport same=True>
    >>> def forgetful(chunk, total):
    ...     return chunk.cumsum(dim=1), None
    >>> report = check_cache(forgetful, inputs, lambda x: x.cumsum(dim=1))
    >>> report.same, report.results["chunks of 3"].chunk
    (False, [3, 4, 5])
    """
    _check_decoder(step, inputs, full)
    inputs, allow = inputs.detach(), read_allow(allow, ("unread",))
    plans = read_schedules(schedules, inputs, rollback, pad_id)
    if not any(len(plan.chunks) > 1 for plan in plans.values()):
        return CacheReport(None, "no schedule has a second chunk, so no cache is ever read", {})
    if _has_lazy_weights(full, step):
        return CacheReport(None, "some weights have no shape yet; call full once before", {})
    decoder = Decoder(full, step)
    with Runner(decoder, *inputs.shape[:2]) as run:
        measure = _Schedules(run, inputs, plans)
        problem = measure.problem()
        if problem:
            return CacheReport(None, problem, {})
        plain = [name for name, plan in plans.items() if plan.is_plain]
        found = compare(run, inputs, plain, measure, tolerance)
        if not any(one.is_wrong for one in found.values()):  # else the rest would tell no more
            special = [name for name in plans if name not in plain]
            found |= compare(run, inputs, special, measure, tolerance)
        results = {n: result_of(n, one, chunks=plans[n].chunks) for n, one in found.items()}
        report = _report(results, found, measure, allow)
        wrong = next((r for r in results.values() if r.same is False), None)
        if blame and report.same is False:
            report = replace(report, blame=blame_chunk(run, inputs, plans[wrong.name], wrong))
        return report


class Decoder(nn.Module):
    """Holds both ways to compute, so that one runner keeps the state of both."""

    def __init__(self, full: Callable, step: Callable):
        super().__init__()
        self.full, self.step = full, step
        self.reached = [*reached_by(full), *reached_by(step)]

    def forward(self, inputs: Tensor, plan: Schedule | None = None, forget: bool = False) -> Tensor:
        """Give the outputs of the full pass, or those of a schedule."""
        if plan is None:
            return _part("full", self.full(inputs), *inputs.shape[:2])
        if plan.kind == "second prompt":  # whatever the first one leaves behind, it is over
            self._decode(_others(inputs), plan.chunks)
        if plan.kind == "padded":
            return self._decode_padded(inputs, plan)
        return self._decode(inputs, plan.chunks, plan, forget)

    def _decode(self, inputs, chunks, plan: Schedule | None = None, forget=False, padding=None):
        cache, outputs = None, []
        for number, rows in enumerate(positions(chunks)):
            if plan is not None and plan.kind in ("two questions", "rollback") and number == 1:
                cache = self._go_astray(inputs, plan, cache, rows[0])
            # In a memory of its own, as the next token comes in real decoding.
            chunk = inputs[:, rows[0] : rows[-1] + 1].clone()
            told = () if padding is None else (padding[:, rows[0] : rows[-1] + 1].clone(),)
            part, cache = self._step(chunk, None if forget else cache, rows, told)
            # A copy: the next step may write into the memory of this one's outputs.
            outputs.append(part.detach().clone())
        shapes = {tuple(part.shape[2:]) for part in outputs}
        if len(shapes) > 1:
            raise CannotRunError(f"step's outputs have several shapes after (batch, n): {shapes}")
        return torch.cat(outputs, dim=1)

    def _go_astray(self, inputs: Tensor, plan: Schedule, cache: object, start: int) -> object:
        """Go on from the prompt with other tokens, which are then rejected."""
        other = _others(inputs)[:, start : start + 2].clone()
        _, longer = self._step(other, cache, list(range(start, start + other.shape[1])), ())
        if plan.kind == "two questions":
            return cache
        try:
            return plan.rollback(longer, start)
        except Exception as error:  # a stranger's function
            raise CannotRunError(f"rollback raised {type(error).__name__}: {error}") from error

    def _decode_padded(self, inputs: Tensor, plan: Schedule) -> Tensor:
        """Decode prompts of several lengths in one batch; give each token's output its place."""
        batch, length = inputs.shape
        ids, padding = plan.pad(inputs)
        outputs = self._decode(ids, plan.chunks, padding=padding)
        whole = _part("full", self.full(inputs), batch, length).detach().clone()
        for row in range(batch):
            real = (~padding[row]).nonzero().flatten().to(outputs.device)
            whole[row, : len(real)] = outputs[row, real].to(whole.dtype)
        return whole

    def _step(self, chunk: Tensor, cache: object, rows: list[int], told: tuple):
        place = f"at the chunk {listed(rows)}"
        try:
            result = self.step(chunk, cache, *told)
        except Exception as error:  # whatever a stranger's step raises is the finding
            name, message = type(error).__name__, " ".join(str(error).split())[:200]
            raise CannotRunError(f"step raised {name} {place}: {message}") from error
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise CannotRunError(
                f"step must return (outputs, cache), got {describe(result)} {place}"
            )
        return _part(f"step, {place},", result[0], *chunk.shape[:2]), result[1]


def _others(inputs: Tensor) -> Tensor:
    return inputs.flip(0, 1)


def _part(who: str, result: object, batch: int, length: int) -> Tensor:
    """Choose the part with a batch and a time axis."""

    def fits(part: Tensor) -> bool:
        return tuple(part.shape[:2]) == (batch, length)

    try:
        part = take(result, choose(result, fits, ""))
    except ValueError:
        part = None
    if not isinstance(part, Tensor) or not fits(part):
        shape = tuple(result.shape) if isinstance(result, Tensor) else describe(result)
        raise CannotRunError(
            f"{who} must give outputs of shape (batch, length, …) = ({batch}, {length}, …), "
            f"got {shape}"
        )
    return part


class _Schedules:
    """Runs the full pass and the schedules, in whatever precision the runner is."""

    def __init__(self, run: Runner, inputs: Tensor, plans: dict[str, Schedule]):
        self.run, self.inputs, self.plans = run, inputs, plans

    def __call__(self, names: list[str]) -> dict:
        base = self._call()
        if isinstance(base, CannotRunError):
            return dict.fromkeys(names, base)
        return {name: self._against(base, plan=self.plans[name]) for name in names}

    def problem(self) -> str:
        """Say why there is nothing to compare with, if so."""
        first, again = self._call(), self._call()
        failure = next((x for x in (first, again) if isinstance(x, CannotRunError)), None)
        if failure:
            return str(failure)
        if not first.isfinite().any():
            return "no output of the full pass is a finite number"
        if differs(first, again):
            return "the full pass gives another output when it is run again"
        return ""

    def needs_the_past(self) -> bool:
        """Say whether a decoder that always starts anew would be noticed at all."""
        for plan in self.plans.values():
            if not plan.is_plain:
                continue
            pair = self._against(self._call(), plan=plan, forget=True)
            if not isinstance(pair, tuple):
                return True
            moved = movement(*pair, None, component_scale(pair[0])).max()
            if moved > 100 * torch.finfo(self.run.coarsest(pair[0])).eps:
                return True
        return False

    def _against(self, base: Tensor, **kwargs) -> tuple[Tensor, Tensor] | CannotRunError:
        new = self._call(**kwargs)
        return new if isinstance(new, CannotRunError) else pair_of(base, new)

    def _call(self, **kwargs) -> Tensor | CannotRunError:
        try:
            return self.run(self.inputs, kwargs=kwargs)
        except CannotRunError as failure:
            inner = failure.__cause__
            if isinstance(inner, CannotRunError):
                return inner
            return CannotRunError(str(failure).replace("the model", "full", 1))


def _report(results: dict, found: dict, measure, allow) -> CacheReport:
    if reason := left_open(results.values(), measure.run.draws_randomness, measure.run.model):
        return CacheReport(None, reason, results)
    if not verdict_of(results.values()):
        return CacheReport(False, _what_is_wrong(results), results)
    reason = f"every row of {len(results)} schedules agrees with the full pass"
    cautions = ()
    if not measure.needs_the_past():
        why = "so would a cache that is never read: no output needs what came before it"
        cautions = (unread(why, allow),)
    return CacheReport(True, reason + how_judged(found) + in_words(cautions), results, cautions)


def _what_is_wrong(results: dict[str, Result]) -> str:
    """Name the schedule that tells most, and what the pattern of wrong rows suggests."""
    wrong = [result for result in results.values() if result.same is False]
    hint = _hint(wrong, [result for result in results.values() if result.same])
    return f"{wrong[0]}{'; ' + hint if hint else ''}"


_SPECIAL = {
    "second prompt": "alone a prompt is right: perhaps something of the first one is left in a "
    "module, such as keys or a position",
    "two questions": "perhaps step writes into the cache that it gets, so that two questions "
    "cannot share one",
    "rollback": "perhaps rollback leaves something of the rejected tokens, such as a position",
    "padded prefill": "perhaps padding that is hidden in the prompt is seen later, or positions "
    "count it",
    "right-padded prefill": "perhaps padding behind a short prompt enters its state",
}


def _hint(wrong: list[Result], right: list[Result]) -> str:
    if all(result.name in _SPECIAL for result in wrong):
        return _SPECIAL[wrong[0].name]
    wrong = [result for result in wrong if result.name not in _SPECIAL]
    singles_agree = any(len(r.chunks) > 1 and max(r.chunks) == 1 for r in right)
    early = [r for r in wrong if r.first_wrong_row < r.chunks[0]]
    if early and not singles_agree:
        return (
            "this is in the first chunk, to which no cache is handed: perhaps step is not the "
            "function that full is (another first position, mode or weight)"
        )
    if early:
        return (
            "one by one they agree: perhaps the rows of a chunk see each other's future (no mask, "
            "or one row of it for all)"
        )
    if singles_agree and all(max(r.chunks[1:]) > 1 for r in wrong):
        return (
            "one by one they agree: the mask of a chunk is perhaps aligned upper-left, or one row "
            "of it serves the whole chunk, or a recurrent state starts anew in a chunk"
        )
    if singles_agree:
        return "one by one they agree: perhaps a longer chunk is not stored whole, or in its order"
    if any(len(r.chunks) > 1 and r.name not in _SPECIAL for r in right):
        return ""
    if all(r.first_wrong_row == r.chunks[0] for r in wrong):
        return (
            "everything from the second chunk on: perhaps positions start anew and forget the "
            "offset, or the cache is not used, not returned, or changed on the way"
        )
    return (
        "the first rows after the start still agree: perhaps the cache keeps only its last "
        "entries, or changes old ones as it grows"
    )


def _check_decoder(step: Callable, inputs: Tensor, full: Callable) -> None:
    signs = {"step": "step(chunk, cache) -> (outputs, cache)", "full": "full(inputs) -> outputs"}
    for name, value in (("step", step), ("full", full)):
        if not callable(value):
            raise ValueError(f"{name} must be callable as {signs[name]}, got {describe(value)}")
    check_tensor("inputs", inputs)
    if inputs.ndim < 2 or 0 in inputs.shape:
        raise ValueError(
            "inputs must have shape (batch, length, …) with at least one of each, got "
            f"{tuple(inputs.shape)}; one sequence of ids becomes a batch with .unsqueeze(0)"
        )


def _has_lazy_weights(*parts: object) -> bool:
    modules = (part for part in parts if isinstance(part, nn.Module))
    return any(is_lazy(t) for module in modules for t in (*module.parameters(), *module.buffers()))
