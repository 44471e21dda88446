"""Compare a cached decoder with one full pass, and padded sequences with unpadded ones."""

import inspect
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from causal_lab.causality.runner import CannotRunError, Runner, _choose, _take
from causal_lab.causality.trials import Border, Trial, component_scale, differs, movement
from causal_lab.validation import check_size, check_tensor, describe

_LIMIT = 1e-4  # of the outputs' size in 32 bits, where no finer computation is possible
_MOST_LIMIT = 0.1  # in half precision, whose eps is so large that everything would be rounding
_MOST_NAMED = 8  # rows of a chunk that are written out
_AMOUNTS = (1, 2, 3)  # of padding
_SIDES = ("right", "left")


class _Answer:
    """What the two reports have in common."""

    def __bool__(self) -> bool:
        return self.same is True

    def __repr__(self) -> str:
        return f"<{type(self).__name__} same={self.same}>"

    def __str__(self) -> str:
        verdict = {True: "The same", False: "NOT the same", None: "Undecided"}[self.same]
        return "\n".join([f"{verdict}: {self.reason}", *(f"  {r}" for r in self.results.values())])

    def assert_same(self):
        """Raise unless all was found to be the same: the line for a test suite.

        Raises:
            AssertionError: with the whole report, if something differs or nothing could be decided.

        >>> CacheReport(True, "every row agrees", {}).assert_same()
        <CacheReport same=True>
        """
        if self.same is not True:
            raise AssertionError(str(self))
        return self


@dataclass(frozen=True)
class ScheduleResult:
    """What one way to cut the sequence into chunks gave.

    Args:
        same: whether every row agrees with the full pass; None if it could not be run.
        difference: the worst one, rounding included; infinite where only one of the two is a
            number.
        wrong_rows: positions that differ by more than rounding.
        failure: why it could not be run, else empty.

    >>> result = ScheduleResult("chunks of 3", (3, 3, 1), False, 0.3, (3, 4, 5))
    >>> result.first_wrong_row, result.chunk
    (3, [3, 4, 5])
    >>> print(result)
    chunks of 3: rows 3 to 5, in the chunk [3, 4, 5], differ by up to 0.3
    """

    name: str
    chunks: tuple[int, ...]
    same: bool | None
    difference: float
    wrong_rows: tuple[int, ...] = ()
    failure: str = ""

    @property
    def first_wrong_row(self) -> int | None:
        """The first position that differs, if any does."""
        return self.wrong_rows[0] if self.wrong_rows else None

    @property
    def chunk(self) -> list[int] | None:
        """The positions of the chunk in which the first wrong row lies."""
        return next((c for c in _positions(self.chunks) if self.first_wrong_row in c), None)

    def __str__(self) -> str:
        if self.same is None:
            return f"{self.name}: could not be run; {self.failure}"
        if self.same:
            return f"{self.name}: agrees{_aside(self.difference)}"
        return f"{self.name}: {self._where()}"

    def _where(self) -> str:
        place = f"in the chunk {_listed(self.chunk)}"
        rows, size = _rows(self.wrong_rows), f"by up to {self.difference:.2g}"
        verb = "differs" if len(self.wrong_rows) == 1 else "differ"
        if self.wrong_rows[-1] in self.chunk:
            return f"{rows}, {place}, {verb} {size}"
        return f"{rows} {verb} {size}, the first {place}"


@dataclass(frozen=True, repr=False)
class CacheReport(_Answer):
    """Does a cached decoder say the same as one full pass? Yes, no, or why it cannot be said.

    Args:
        same: True: every row of every schedule agrees. False: some row differs by more than
            rounding. None: it could not be decided, see ``reason``.
        reason: why, and where the pattern of the wrong rows suggests it, what may have caused it.
        results: by the name of the schedule.

    >>> report = CacheReport(None, "step raised IndexError", {})
    >>> bool(report), print(report)
    Undecided: step raised IndexError
    (False, None)
    """

    same: bool | None
    reason: str
    results: dict[str, ScheduleResult]


@dataclass(frozen=True)
class SideResult:
    """What padding on one side gave.

    Args:
        side: {"right", "left"}, where the padding stands.
        same: whether every real token gets what it gets without padding; None if it could not be
            run.
        difference: the worst one, rounding included; infinite where only one of the two is a
            number.
        wrong_rows: positions that differ by more than rounding, counted over the real tokens.
        amounts: how many padding tokens changed something.
        failure: why it could not be run, else empty.

    >>> print(SideResult("left", False, 0.25, (0, 1, 2), (1, 2, 3)))
    left: rows 0 to 2 of the real tokens differ by up to 0.25
    """

    side: str
    same: bool | None
    difference: float
    wrong_rows: tuple[int, ...] = ()
    amounts: tuple[int, ...] = ()
    failure: str = ""

    def __str__(self) -> str:
        if self.same is None:
            return f"{self.side}: could not be run; {self.failure}"
        if self.same:
            return f"{self.side}: changes no real token{_aside(self.difference)}"
        few = f" under {_and(self.amounts)} padding tokens" if len(self.amounts) == 1 else ""
        verb = "differs" if len(self.wrong_rows) == 1 else "differ"
        rows = f"{_rows(self.wrong_rows)} of the real tokens {verb}"
        return f"{self.side}: {rows} by up to {self.difference:.2g}{few}"


@dataclass(frozen=True, repr=False)
class PaddingReport(_Answer):
    """Does padding change what the real tokens get? No, yes, or why it cannot be said.

    Args:
        same: True: no real token gets anything else than without padding. False: one does. None: it
            could not be decided, see ``reason``.
        reason: why, how the model was told about the padding, and what may have caused a
            difference.
        results: by "right" and "left".

    >>> PaddingReport(True, "padding changes no real token", {}).same
    True
    """

    same: bool | None
    reason: str
    results: dict[str, SideResult]


def check_cache(
    step: Callable,
    inputs: Tensor,
    full: Callable,
    *,
    schedules: Mapping[str, Iterable[int]] | None = None,
) -> CacheReport:
    """Find out whether a decoder with a cache says the same as one full pass.

    The sequence is handed over in chunks of several lengths, and every row of every schedule is
    compared with the full pass. One by one is not enough: a causal mask that is aligned at the
    upper left is right for one row at a time and wrong for a chunk. What could be rounding is
    computed again in another precision, where rounding changes by many orders of magnitude and an
    error does not: there is no tolerance to choose.

    The state of all modules that ``full`` and ``step`` reach is afterwards as before, and so are
    the random generators. Where they compute in no other precision, relative differences of up to
    1e-4 in 32 bits count as rounding, and the report says so. A cache that is kept in fewer bits
    than the model computes in is rounding too; the report shows how much.

    Args:
        step: ``step(chunk, cache) -> (outputs, cache)``: the next inputs, shape (batch, n, …), and
            what the step before returned, None at the start. Outputs have shape (batch, n, …).
        inputs: shape (batch, length, …), token ids or vectors. At least two different sequences:
            with one, a cache that mixes up the batch looks right.
        full: nn.Module or callable, ``full(inputs) -> outputs`` of shape (batch, length, …), or a
            result with ``logits``, ``last_hidden_state`` or some part of that shape.
        schedules: dict of str to list of int, lengths of the chunks, which sum to the length. If
            not given: one by one; a prefill, then one by one; chunks of 2; chunks of 3; a prefill,
            then chunks.

    Returns:
        Truthy if the same. ``same`` is None, with the reason, where it cannot be decided.

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
    inputs = inputs.detach()
    plans = _check_schedules(schedules, inputs.shape[1])
    if not any(len(chunks) > 1 for chunks in plans.values()):
        return CacheReport(None, "no schedule has a second chunk, so no cache is ever read", {})
    if _has_lazy_weights(full, step):
        return CacheReport(None, "some weights have no shape yet; call full once before", {})
    decoder = _Decoder(full, step)
    with Runner(decoder, *inputs.shape[:2]) as run:
        measure = _Schedules(run, inputs, plans)
        problem = measure.problem()
        if problem:
            return CacheReport(None, problem, {})
        found = _compare(run, inputs, list(plans), measure)
        results = {name: _schedule_result(name, plans[name], found[name]) for name in plans}
        return _cache_report(results, found, run.draws_randomness, measure)


def check_padding(
    model: nn.Module,
    inputs: Tensor,
    pad_id: int,
    *,
    sides: Iterable[str] = _SIDES,
    forward_kwargs: Mapping | Callable | None = None,
    output: str | int | Callable | None = None,
) -> PaddingReport:
    """Find out whether padding changes what the real tokens get.

    Every sequence is run with 1, 2 and 3 padding tokens, all in one batch of rows that are padded
    differently, and every real position is compared with the same tokens run alone. As all rows of
    a batch are equally long, a row with more padding has fewer real tokens.

    GPT-2 of ``transformers`` changes with padding on the left although it gets the mask: it counts
    positions with the padding included. Hand it ``position_ids`` that count over the real tokens:
    ``lambda ids, padding: {"position_ids": ((~padding).cumsum(1) - 1).clamp(min=0)}``.

    Args:
        model: called as ``model(ids, …)``, the batch first. Its state and modes are afterwards as
            before. If its ``forward`` names ``attention_mask``, it gets 1 on real tokens and 0 on
            padding, as in Hugging Face's models; if it names ``padding``, a boolean that is True on
            padding; else nothing but the ids.
        inputs: integer, shape (batch, length), token ids without padding.
        sides: iterable of {"right", "left"}, where to pad.
        forward_kwargs: further arguments of every call; a callable
            ``(padded_ids, is_padding) -> dict`` makes them for each batch. They go before the masks
            above, ``{"attention_mask": None}`` takes one away.
        output: which part of the model's result to judge, as for
            :func:`causal_lab.causality.check_causality`.

    Returns:
        Truthy if the same. ``same`` is None, with the reason, where it cannot be decided.

    >>> from causal_lab.models.transformer import GPT
    >>> model = GPT(10, 8, d_model=8, num_heads=2).eval()
    >>> check_padding(model, torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]]), pad_id=0).assert_same()
    <PaddingReport same=True>
    """
    _check_padded(model, inputs, pad_id)
    sides = _check_sides(sides)
    kwargs = _check_padding_kwargs(forward_kwargs)
    run = Runner(model, *inputs.shape, output=output)
    with run:
        padded = _Padded(run, inputs.detach(), pad_id, kwargs)
        found = _compare(run, inputs, padded.names(sides), padded)
        if inputs.shape[1] > 1 and all(one.failure for one in found.values()):
            # Perhaps the sequence already is as long as the model can read.
            shorter = _Padded(run, inputs.detach()[:, :-1], pad_id, kwargs)
            again = _compare(run, inputs, shorter.names(sides), shorter)
            found = found if all(one.failure for one in again.values()) else again
    results = {side: _side_result(side, found) for side in sides}
    return _padding_report(results, found, run.draws_randomness, padded)


# --- comparing, and telling rounding from error


@dataclass(frozen=True)
class _Found:
    """What one comparison showed, or why there was none."""

    failure: str = ""
    wrong: Tensor | None = None
    difference: float = 0.0
    by_size: bool = False  # whether differences were excused for being small, and only for that


def _compare(run: Runner, inputs: Tensor, names: list, measure: Callable) -> dict[object, _Found]:
    """Compare natively, and what differs once more in another precision."""
    pairs = measure(names)
    found = {n: _Found(failure=str(p)) for n, p in pairs.items() if isinstance(p, Exception)}
    pairs = {n: pair for n, pair in pairs.items() if n not in found}
    trials = {n: _noted(Trial("decoding", 0, inputs), "native", pair) for n, pair in pairs.items()}
    differing = [n for n, trial in trials.items() if trial.moved("native")]
    dtype = max(
        (run.coarsest(part) for pair in pairs.values() for part in pair),
        key=lambda dtype: torch.finfo(dtype).eps,
        default=torch.float32,
    )
    other = torch.float32 if dtype == torch.float64 else torch.float64
    again = _in_precision(run, other, lambda: measure(differing)) if differing else {}
    for name, pair in pairs.items():
        found[name] = _decide(trials[name], pair, again.get(name), dtype, other)
    return found


def _in_precision(run: Runner, dtype: torch.dtype, measure: Callable) -> dict:
    try:
        with run.precision(dtype):
            return measure()
    except (RuntimeError, TypeError, ValueError):
        return {}  # some tensor has no such precision (quantised, say); then the size decides


def _decide(trial: Trial, pair: tuple, again, dtype: torch.dtype, other: torch.dtype) -> _Found:
    """Say which rows are wrong, by what becomes of the difference in another precision."""
    difference = float(trial.sizes["native"].max())
    if not trial.moved("native"):
        return _Found(wrong=trial.sizes["native"] > 0)
    if not _was_computed_in(again, other):
        return _decide_by_size(trial, dtype, difference)
    if other == torch.float64:
        _noted(trial, "fine", again)
        border = Border.between(dtype, other)
    else:
        _noted(_noted(trial, "coarse", again), "fine", pair)
        border = Border.between(other, dtype)
    return _Found(wrong=border.leaks(trial), difference=difference)


def _decide_by_size(trial: Trial, dtype: torch.dtype, difference: float) -> _Found:
    scale = torch.finfo(dtype).eps / torch.finfo(torch.float32).eps
    wrong = trial.relative["native"] > min(_LIMIT * scale, _MOST_LIMIT)
    return _Found(wrong=wrong, difference=difference, by_size=not bool(wrong.any()))


def _noted(trial: Trial, precision: str, pair: tuple[Tensor, Tensor]) -> Trial:
    trial.note(precision, *pair, limit=pair[0].shape[1])
    return trial


def _was_computed_in(pair: object, dtype: torch.dtype) -> bool:
    """See it in the numbers: code may ask for its own precision where no hook reaches it."""
    if not isinstance(pair, tuple):
        return False
    in_32_bits = [_equal(part, part.float()) for part in pair]
    return all(in_32_bits) if dtype == torch.float32 else not any(in_32_bits)


def _equal(one: Tensor, other: Tensor) -> bool:
    return not differs(one.double(), other.double())


def _pair(base: Tensor, new: Tensor) -> tuple[Tensor, Tensor] | CannotRunError:
    if base.shape != new.shape:
        return CannotRunError(
            f"outputs of shape {tuple(base.shape)} were to be compared, got {tuple(new.shape)}"
        )
    return base, new


def _verdict(results: Iterable) -> bool | None:
    """Answer False where anything is wrong; else None where anything could not be run."""
    found = [result.same for result in results]
    return False if False in found else None if None in found else True


_BY_SIZE = (
    "; small differences count as rounding, which could only be judged by their size: no "
    "computation in another precision was possible"
)
_RANDOM = (
    "random numbers are drawn (dropout in train mode?), and they fall differently; call .eval() "
    "on the modules"
)


# --- the cache


class _Decoder(nn.Module):
    """Holds both ways to compute, so that one runner keeps the state of both."""

    def __init__(self, full: Callable, step: Callable):
        super().__init__()
        self.full, self.step = full, step
        self.reached = [*_reached_by(full), *_reached_by(step)]

    def forward(self, inputs: Tensor, chunks: tuple = (), forget: bool = False) -> Tensor:
        if not chunks:
            return _part("full", self.full(inputs), *inputs.shape[:2])
        cache, outputs = None, []
        for rows in _positions(chunks):
            # In a memory of its own, as the next token comes in real decoding.
            chunk = inputs[:, rows[0] : rows[-1] + 1].clone()
            part, cache = self._step(chunk, None if forget else cache, rows)
            # A copy: the next step may write into the memory of this one's outputs.
            outputs.append(part.detach().clone())
        shapes = {tuple(part.shape[2:]) for part in outputs}
        if len(shapes) > 1:
            raise CannotRunError(f"step's outputs have several shapes after (batch, n): {shapes}")
        return torch.cat(outputs, dim=1)

    def _step(self, chunk: Tensor, cache: object, rows: list[int]) -> tuple[Tensor, object]:
        place = f"at the chunk {_listed(rows)}"
        try:
            result = self.step(chunk, cache)
        except Exception as error:  # whatever a stranger's step raises is the finding
            name, message = type(error).__name__, " ".join(str(error).split())[:200]
            raise CannotRunError(f"step raised {name} {place}: {message}") from error
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise CannotRunError(
                f"step must return (outputs, cache), got {describe(result)} {place}"
            )
        return _part(f"step, {place},", result[0], *chunk.shape[:2]), result[1]


def _part(who: str, result: object, batch: int, length: int) -> Tensor:
    """Choose the part with a batch and a time axis."""
    try:
        part = _take(result, _choose(result, None, batch, length))
    except ValueError:
        part = None
    if not isinstance(part, Tensor) or tuple(part.shape[:2]) != (batch, length):
        shape = tuple(result.shape) if isinstance(result, Tensor) else describe(result)
        raise CannotRunError(
            f"{who} must give outputs of shape (batch, length, …) = ({batch}, {length}, …), "
            f"got {shape}"
        )
    return part


def _reached_by(function: object) -> list:
    """List what a function reaches by name or default; a snapshot finds what it closes over."""
    found, seen, waiting = [], set(), [function]
    while waiting:
        now = waiting.pop()
        now = getattr(now, "__func__", now)
        if not isinstance(now, types.FunctionType) or id(now) in seen:
            continue
        seen.add(id(now))
        values = [*(now.__defaults__ or ()), *(now.__kwdefaults__ or {}).values()]
        values += [now.__globals__[n] for n in _names_in(now.__code__) if n in now.__globals__]
        waiting += [v for v in values if getattr(v, "__globals__", None) is now.__globals__]
        waiting += inspect.getclosurevars(now).nonlocals.values()
        found += [v for v in values if not isinstance(v, type | types.ModuleType)]
    return found


def _names_in(code: types.CodeType) -> set[str]:
    inner = [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return set(code.co_names).union(*map(_names_in, inner))


class _Schedules:
    """Runs the full pass and the schedules, in whatever precision the runner is."""

    def __init__(self, run: Runner, inputs: Tensor, plans: dict[str, tuple[int, ...]]):
        self.run, self.inputs, self.plans = run, inputs, plans

    def __call__(self, names: list[str]) -> dict:
        base = self._call()
        if isinstance(base, CannotRunError):
            return dict.fromkeys(names, base)
        return {name: self._against(base, chunks=self.plans[name]) for name in names}

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
        for chunks in self.plans.values():
            pair = self._against(self._call(), chunks=chunks, forget=True)
            if not isinstance(pair, tuple):
                return True
            moved = movement(*pair, pair[0].shape[1], component_scale(pair[0])).max()
            if moved > 100 * torch.finfo(self.run.coarsest(pair[0])).eps:
                return True
        return False

    def _against(self, base: Tensor, **kwargs) -> tuple[Tensor, Tensor] | CannotRunError:
        new = self._call(**kwargs)
        return new if isinstance(new, CannotRunError) else _pair(base, new)

    def _call(self, **kwargs) -> Tensor | CannotRunError:
        self.run.forward_kwargs = kwargs
        try:
            return self.run(self.inputs)
        except CannotRunError as failure:
            inner = failure.__cause__
            if isinstance(inner, CannotRunError):
                return inner
            return CannotRunError(str(failure).replace("the model", "full", 1))


def _schedule_result(name: str, chunks: tuple[int, ...], found: _Found) -> ScheduleResult:
    if found.failure:
        return ScheduleResult(name, chunks, None, float("nan"), failure=found.failure)
    wrong = tuple(found.wrong.nonzero().flatten().tolist())
    return ScheduleResult(name, chunks, not wrong, found.difference, wrong)


def _cache_report(results: dict, found: dict, is_random: bool, measure) -> CacheReport:
    same = _verdict(results.values())
    if same is False and is_random:
        return CacheReport(None, _RANDOM, results)
    if same is None:
        first = next(result for result in results.values() if result.same is None)
        return CacheReport(None, str(first), results)
    if same is False:
        return CacheReport(False, _what_is_wrong(results), results)
    reason = f"every row of {len(results)} schedules agrees with the full pass"
    if any(one.by_size for one in found.values()):
        reason += _BY_SIZE
    if not measure.needs_the_past():
        reason += "; but so would a cache that is never read: no output needs what came before it"
    return CacheReport(True, reason, results)


def _what_is_wrong(results: dict[str, ScheduleResult]) -> str:
    """Name the schedule that tells most, and what the pattern of wrong rows suggests."""
    wrong = [result for result in results.values() if result.same is False]
    hint = _hint(wrong, [result for result in results.values() if result.same])
    return f"{wrong[0]}{'; ' + hint if hint else ''}"


def _hint(wrong: list[ScheduleResult], right: list[ScheduleResult]) -> str:
    singles_agree = any(len(r.chunks) > 1 and max(r.chunks) == 1 for r in right)
    early = [r for r in wrong if r.first_wrong_row < r.chunks[0]]
    if early and not singles_agree:
        return (
            "this is before any cache is read: perhaps step is not the function that full is "
            "(another first position, mode or weight)"
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
    if any(len(r.chunks) > 1 for r in right):
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


# --- padding


class _Padded:
    """Runs the sequences with and without padding, in whatever precision the runner is."""

    def __init__(self, run: Runner, ids: Tensor, pad_id: int, kwargs: Callable):
        self.run, self.ids, self.pad_id, self.kwargs = run, ids, pad_id, kwargs
        self.amounts = [amount for amount in _AMOUNTS if amount <= ids.shape[1]]
        self.parameters = inspect.signature(run.model.forward).parameters
        self.told_by = [n for n in ("attention_mask", "padding") if n in self.parameters]

    def names(self, sides: Iterable[str]) -> list[tuple[str, int]]:
        return [(side, amount) for side in sides for amount in self.amounts]

    def __call__(self, names: list[tuple[str, int]]) -> dict:
        alone = {amount: self._run_alone(amount) for _, amount in names}
        padded = {side: self._run_padded(side) for side, _ in names}
        return {name: self._compare(alone[name[1]], padded[name[0]], *name) for name in names}

    def _compare(self, base, padded, side: str, amount: int):
        for outputs in (base, padded):
            if isinstance(outputs, CannotRunError):
                return outputs
        if not base.isfinite().any():
            return CannotRunError("no output without padding is a finite number")
        batch, real = base.shape[:2]
        first = self.amounts.index(amount) * batch
        start = amount if side == "left" else 0
        return _pair(base, padded[first : first + batch, start : start + real])

    def _run_alone(self, amount: int) -> Tensor | CannotRunError:
        ids = self.ids[:, : self.ids.shape[1] + 1 - amount]
        nowhere = torch.zeros_like(ids, dtype=torch.bool)
        # Without a mask, if the model does not insist: a mask read upside down must show.
        names = [n for n in self.told_by if self.parameters[n].default is inspect.Parameter.empty]
        return self._run(ids, nowhere, names)

    def _run_padded(self, side: str) -> Tensor | CannotRunError:
        batches = [self._pad(side, amount) for amount in self.amounts]
        ids, is_padding = (torch.cat(parts) for parts in zip(*batches, strict=True))
        return self._run(ids, is_padding, self.told_by)

    def _pad(self, side: str, amount: int) -> tuple[Tensor, Tensor]:
        real = self.ids[:, : self.ids.shape[1] + 1 - amount]
        pads = real.new_full((len(real), amount), self.pad_id)
        parts = [real, pads] if side == "right" else [pads, real]
        flags = [torch.full_like(part, part is pads, dtype=torch.bool) for part in parts]
        return torch.cat(parts, dim=1), torch.cat(flags, dim=1)

    def _run(self, ids: Tensor, is_padding: Tensor, names: list[str]) -> Tensor | CannotRunError:
        masks = {"attention_mask": (~is_padding).long(), "padding": is_padding}
        self.run.forward_kwargs = {name: masks[name] for name in names}
        self.run.forward_kwargs |= self.kwargs(ids.clone(), is_padding.clone())
        self.run.batch, self.run.length = ids.shape
        try:
            return self.run(ids)
        except CannotRunError as failure:
            return failure


def _side_result(side: str, found: dict[tuple[str, int], _Found]) -> SideResult:
    ours = {amount: one for (where, amount), one in found.items() if where == side}
    failure = next((one.failure for one in ours.values() if one.failure), "")
    if failure:
        return SideResult(side, None, float("nan"), failure=failure)
    rows = {row for one in ours.values() for row in one.wrong.nonzero().flatten().tolist()}
    amounts = tuple(amount for amount, one in ours.items() if one.wrong.any())
    difference = max(one.difference for one in ours.values())
    return SideResult(side, not rows, difference, tuple(sorted(rows)), amounts)


def _padding_report(results: dict, found: dict, is_random: bool, padded: _Padded) -> PaddingReport:
    same = _verdict(results.values())
    if same is False and is_random:
        return PaddingReport(None, _RANDOM, results)
    if same is None:
        first = next(result for result in results.values() if result.same is None)
        return PaddingReport(None, str(first), results)
    told = f"told by {_and(padded.told_by)}" if padded.told_by else "told nothing but the ids"
    if same is False:
        wrong = next(result for result in results.values() if result.same is False)
        hint = _padding_hint(results, padded)
        return PaddingReport(False, f"{wrong}; the model was {told}: {hint}", results)
    reason = f"padding on the {_and(results)} changes no real token (the model was {told})"
    by_size = any(one.by_size for one in found.values())
    return PaddingReport(True, reason + (_BY_SIZE if by_size else ""), results)


def _padding_hint(results: dict[str, SideResult], padded: _Padded) -> str:
    wrong = {side: result for side, result in results.items() if result.same is False}
    if any(result.difference == float("inf") for result in wrong.values()):
        return "perhaps a padding row that may look nowhere becomes NaN, which then spreads"
    if not padded.told_by:
        return "perhaps real tokens look at padding, or positions count it"
    if list(wrong) == ["left"]:
        name = next((n for n in ("position_ids", "positions") if n in padded.parameters), None)
        way = f"; forward_kwargs can give {name} that count the real tokens only" if name else ""
        return f"perhaps positions are counted with the padding included{way}"
    return "perhaps the mask is not used everywhere, or is read upside down"


# --- words


def _positions(chunks: Iterable[int]) -> list[list[int]]:
    return [list(range(a, b)) for a, b in pairwise(accumulate(chunks, initial=0))]


def _listed(rows: list[int]) -> str:
    return str(rows) if len(rows) <= _MOST_NAMED else f"[{rows[0]}, …, {rows[-1]}]"


def _rows(rows: tuple[int, ...]) -> str:
    """Write positions as a learner would say them: rows 3 to 5 and 7."""
    runs: list[list[int]] = []
    for row in rows:
        if runs and row == runs[-1][-1] + 1:
            runs[-1].append(row)
        else:
            runs.append([row])
    words = [f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
    return f"row{'s' if len(rows) > 1 else ''} {_and(words)}"


def _aside(difference: float) -> str:
    return f", rounding of up to {difference:.1g} aside" if difference else ""


def _and(words: Iterable) -> str:
    *most, last = map(str, words)
    return f"{', '.join(most)} and {last}" if most else last


# --- what the caller hands in


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


def _check_schedules(schedules: Mapping | None, length: int) -> dict[str, tuple[int, ...]]:
    if schedules is None:
        return _default_schedules(length)
    if not isinstance(schedules, Mapping) or not schedules:
        raise ValueError(
            "schedules must be a dict such as {'chunks of 2': [2, 2, 1]}, with at least one "
            f"entry, got {schedules!r}"
        )
    return {str(name): _check_chunks(name, chunks, length) for name, chunks in schedules.items()}


def _check_chunks(name: str, chunks: Iterable[int], length: int) -> tuple[int, ...]:
    try:
        sizes = tuple(check_size(f"a chunk of {name!r}", size) for size in chunks)
    except TypeError:
        raise ValueError(f"schedule {name!r} must be a list of lengths, got {chunks!r}") from None
    if sum(sizes) != length:
        raise ValueError(
            f"schedule {name!r} must sum to the length of the inputs, {length}; {list(sizes)} "
            f"sums to {sum(sizes)}"
        )
    return sizes


def _default_schedules(length: int) -> dict[str, tuple[int, ...]]:
    start = max(1, length // 2)
    rest = length - start
    return {
        "one by one": (1,) * length,
        "prefill, then one by one": (start, *(1,) * rest),
        "chunks of 2": _pieces(length, 2),
        "chunks of 3": _pieces(length, 3),
        "prefill, then chunks": (start, *_pieces(rest, 3)),
    }


def _pieces(length: int, size: int) -> tuple[int, ...]:
    return tuple(min(size, length - start) for start in range(0, length, size))


def _has_lazy_weights(*parts: object) -> bool:
    modules = (part for part in parts if isinstance(part, nn.Module))
    return any(is_lazy(t) for module in modules for t in (*module.parameters(), *module.buffers()))


def _check_padded(model: nn.Module, inputs: Tensor, pad_id: int) -> None:
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"model must be an nn.Module, got {describe(model)}; wrap a function in a module whose "
            "forward calls it"
        )
    check_tensor("inputs", inputs)
    no_ids = inputs.is_floating_point() or inputs.is_complex() or inputs.dtype == torch.bool
    if no_ids or inputs.ndim != 2 or 0 in inputs.shape:
        raise ValueError(
            f"inputs must be token ids, integers of shape (batch, length), got {describe(inputs)} "
            f"of shape {tuple(inputs.shape)}; one sequence becomes a batch with .unsqueeze(0)"
        )
    if bool((inputs == check_size("pad_id", pad_id, minimum=0)).any()):
        raise ValueError(
            f"inputs must be real tokens only, but pad_id={pad_id} is among them; give sequences "
            "without padding, or pad with another id"
        )


def _check_sides(sides: Iterable[str]) -> list[str]:
    try:
        chosen = [sides] if isinstance(sides, str) else list(dict.fromkeys(sides))
    except TypeError:
        chosen = []
    if not chosen or not set(chosen) <= set(_SIDES):
        raise ValueError(f"sides must be some of {list(_SIDES)}, got {sides!r}")
    return chosen


def _check_padding_kwargs(given: Mapping | Callable | None) -> Callable:
    """Make one function of what may be a dict, a function or nothing."""
    if given is not None and not isinstance(given, Mapping) and not callable(given):
        raise ValueError(
            "forward_kwargs must be a dict or a function (padded_ids, is_padding) -> dict, got "
            f"{describe(given)}"
        )

    def make(ids: Tensor, is_padding: Tensor) -> dict:
        kwargs = given(ids, is_padding) if callable(given) else given or {}
        if not isinstance(kwargs, Mapping):
            raise ValueError(f"forward_kwargs must return a dict, got {describe(kwargs)}")
        return dict(kwargs)

    return make
