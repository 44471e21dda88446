"""Compare padded sequences with unpadded ones."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from causal_lab.causality.answer import Answer, Result, all_of, left_open, unread, verdict_of
from causal_lab.causality.arguments import read_allow, read_kwargs
from causal_lab.causality.blame import blame_padding
from causal_lab.causality.compare import Found, compare, how_judged, pair_of
from causal_lab.causality.report import Caution, in_words
from causal_lab.causality.runner import CannotRunError, Runner
from causal_lab.causality.trials import component_scale, movement
from causal_lab.causality.watch import Blame
from causal_lab.validation import check_size, check_tensor, describe

_AMOUNTS = (1, 2, 3)  # of padding
_SIDES = ("right", "left")
_WORDS = ("changes no real token", " of the real tokens")


class PaddingReport(Answer):
    """Does padding change what the real tokens get? Its results are by "right" and "left".

    >>> PaddingReport(True, "padding changes no real token", {}).same
    True
    """


def check_padding(
    model: nn.Module,
    inputs: Tensor,
    pad_id: int,
    *,
    sides: Iterable[str] = _SIDES,
    forward_kwargs: Mapping | Callable | None = None,
    output: str | int | Callable | None = None,
    tolerance: float = 0.0,
    blame: bool = False,
    allow: str | Iterable[str] = (),
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
        tolerance: of an output's size; smaller differences are none.
        blame: trace a difference to the first submodule that gives something else with padding.
        allow: "unread" if the padding would not matter unmasked either, "unseen" if real tokens do
            not see each other.

    Returns:
        Truthy if the same, and not in vain. ``same`` is None, with the reason, where it cannot be
        decided.

    >>> from causal_lab.models.transformer import GPT
    >>> model = GPT(10, 8, d_model=8, num_heads=2).eval()
    >>> check_padding(model, torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]]), pad_id=0).assert_same()
    <PaddingReport same=True>
    """
    _check_padded(model, inputs, pad_id)
    sides = _check_sides(sides)
    kwargs = read_kwargs(forward_kwargs)
    given = kwargs if callable(kwargs) else lambda ids, padding: dict(kwargs)
    allow = read_allow(allow, ("unread", "unseen"))
    run = Runner(model, *inputs.shape, output=output)
    with run:
        padded = _Padded(run, inputs.detach(), pad_id, given)
        found = compare(run, inputs, padded.names(sides), padded, tolerance)
        if inputs.shape[1] > 1 and all(one.failure for one in found.values()):
            # Perhaps the sequence already is as long as the model can read.
            shorter = _Padded(run, inputs.detach()[:, :-1], pad_id, given)
            again = compare(run, inputs, shorter.names(sides), shorter, tolerance)
            if not all(one.failure for one in again.values()):
                found, padded = again, shorter
        results = {side: _side_result(side, found) for side in sides}
        cautions = padded.cautions(sides, allow) if verdict_of(results.values()) else ()
        report = _padding_report(results, found, padded, cautions)
        if blame and report.same is False:
            report = replace(report, blame=padded.blame(found))
    return report


class _Padded:
    """Runs the sequences with and without padding, in whatever precision the runner is."""

    def __init__(self, run: Runner, ids: Tensor, pad_id: int, kwargs: Callable):
        self.run, self.ids, self.pad_id, self.kwargs = run, ids, pad_id, kwargs
        self.amounts = [amount for amount in _AMOUNTS if amount <= ids.shape[1]]
        self.parameters = inspect.signature(run.model.forward).parameters
        self.told_by = [n for n in ("attention_mask", "padding") if n in self.parameters]
        self.given: list[str] = []  # what the caller's function gave

    def names(self, sides: Iterable[str]) -> list[tuple[str, int]]:
        return [(side, amount) for side in sides for amount in self.amounts]

    def __call__(self, names: list[tuple[str, int]]) -> dict:
        alone = {amount: self._run_alone(amount) for _, amount in names}
        padded = {side: self._run_padded(side) for side, _ in names}
        return {name: self._compare(alone[name[1]], padded[name[0]], *name) for name in names}

    def cautions(self, sides: list[str], allow: tuple[str, ...]) -> tuple[Caution, ...]:
        """Say what an agreement rests on, where that is nothing."""
        found = []
        if not self._real_tokens_see_each_other():
            why = "so would a mask that hides all: real tokens do not see each other, padded or not"
            found.append(Caution("unseen", why + "; is it upside down?", "unseen" in allow))
        elif not any(self._padding_matters(side) for side in sides):
            why = (
                f"so would a model that is told nothing: padding on the {all_of(sides)} changes "
                "nothing when it counts as real, either"
            )
            found.append(unread(why, allow))
        return tuple(found)

    def blame(self, found: dict) -> Blame | None:
        """Trace the first difference to a module."""
        side, amount = next(name for name, one in found.items() if one.is_wrong)
        ids, padding = self._pad(side, amount)
        alone = self.ids[:, : self.ids.shape[1] + 1 - amount]
        start = amount if side == "left" else 0
        nowhere = torch.zeros_like(alone, dtype=torch.bool)
        return blame_padding(
            self.run,
            (alone, self._told(alone, nowhere, self._needed())),
            (ids, self._told(ids, padding, self.told_by)),
            [(ids.shape[1], alone.shape[1], start)],
        )

    def _real_tokens_see_each_other(self) -> bool:
        """Change one token after the other; see whether another one's output moves."""
        if self.ids.shape[1] < 2:
            return True
        base = self._run_alone(1)
        for position in {0, self.ids.shape[1] - 1}:
            changed = self.ids.clone()
            changed[:, position] = self.ids.roll(1, dims=1)[:, position]
            if torch.equal(changed, self.ids):
                changed[:, position] = self.ids.flatten()[0]
            others = torch.arange(self.ids.shape[1]) != position
            new = self._run_alone(1, changed)
            if isinstance(new, CannotRunError) or self._moved(base, new, others):
                return True
        return False

    def _padding_matters(self, side: str) -> bool:
        """Say whether padding tokens change something if the model takes them for real ones."""
        ids, _ = self._pad(side, 1)
        real, names = torch.zeros_like(ids, dtype=torch.bool), self._needed()
        padded, base = self._run(ids, real, names), self._run_alone(1)
        if isinstance(padded, CannotRunError) or isinstance(base, CannotRunError):
            return True
        start = 1 if side == "left" else 0
        return self._moved(base, padded[:, start : start + base.shape[1]])

    def _moved(self, base: Tensor, new: Tensor, kept: Tensor | None = None) -> bool:
        size = movement(base, new, kept, component_scale(base)).max()
        return bool(size > 100 * torch.finfo(self.run.coarsest(base)).eps)

    def _compare(self, base, padded, side: str, amount: int):
        for outputs in (base, padded):
            if isinstance(outputs, CannotRunError):
                return outputs
        if not base.isfinite().any():
            return CannotRunError("no output without padding is a finite number")
        batch, real = base.shape[:2]
        first = self.amounts.index(amount) * batch
        start = amount if side == "left" else 0
        return pair_of(base, padded[first : first + batch, start : start + real])

    def _needed(self) -> list[str]:
        # Without a mask, if the model does not insist: a mask read upside down must show.
        return [n for n in self.told_by if self.parameters[n].default is inspect.Parameter.empty]

    def _run_alone(self, amount: int, ids: Tensor | None = None) -> Tensor | CannotRunError:
        ids = self.ids if ids is None else ids
        ids = ids[:, : ids.shape[1] + 1 - amount]
        return self._run(ids, torch.zeros_like(ids, dtype=torch.bool), self._needed())

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
        self.run.batch, self.run.length = ids.shape
        try:
            return self.run(ids, kwargs=self._told(ids, is_padding, names))
        except CannotRunError as failure:
            return failure

    def _told(self, ids: Tensor, is_padding: Tensor, names: list[str]) -> dict:
        masks = {"attention_mask": (~is_padding).long(), "padding": is_padding}
        given = self.kwargs(ids.clone(), is_padding.clone())
        self.given = list(given)
        return {name: masks[name] for name in names} | given


def _side_result(side: str, found: dict[tuple[str, int], Found]) -> Result:
    ours = {amount: one for (where, amount), one in found.items() if where == side}
    failure = next((one.failure for one in ours.values() if one.failure), "")
    if failure:
        return Result(side, None, float("nan"), failure=failure)
    rows = {row for one in ours.values() for row in one.wrong.nonzero().flatten().tolist()}
    amounts = tuple(amount for amount, one in ours.items() if one.wrong.any())
    judged = [one for one in ours.values() if one.wrong.any()] or ours.values()
    difference = max(one.difference for one in judged)
    wrong = tuple(sorted(rows))
    return Result(side, not rows, difference, wrong, amounts=amounts, words=_WORDS)


def _padding_report(results: dict, found: dict, padded: _Padded, cautions: tuple) -> PaddingReport:
    if reason := left_open(results.values(), padded.run.draws_randomness, padded.run.model):
        return PaddingReport(None, reason, results)
    by = list(dict.fromkeys([*padded.told_by, *padded.given]))
    told = f"told by {all_of(by)}" if by else "told nothing but the ids"
    if not verdict_of(results.values()):
        wrong = next(result for result in results.values() if result.same is False)
        hint = _padding_hint(results, padded, by)
        return PaddingReport(False, f"{wrong}; the model was {told}: {hint}", results)
    reason = f"padding on the {all_of(results)} changes no real token (the model was {told})"
    return PaddingReport(True, reason + how_judged(found) + in_words(cautions), results, cautions)


def _padding_hint(results: dict[str, Result], padded: _Padded, by: list[str]) -> str:
    wrong = {side: result for side, result in results.items() if result.same is False}
    if any(result.difference == float("inf") for result in wrong.values()):
        return "perhaps a padding row that may look nowhere becomes NaN, which then spreads"
    if not by:
        return "perhaps real tokens look at padding, or positions count it"
    if list(wrong) == ["left"]:
        name = next((n for n in ("position_ids", "positions") if n in padded.parameters), None)
        way = f"; forward_kwargs can give {name} that count the real tokens only" if name else ""
        return (
            "perhaps positions are counted with the padding included, or the mask is not used on "
            f"the left{way}"
        )
    return "perhaps the mask is not used everywhere, or is read upside down"


# --- what the caller hands in


def _check_padded(model: nn.Module, inputs: Tensor, pad_id: int) -> None:
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"model must be an nn.Module, got {describe(model)}; wrap a function in a module whose "
            "forward calls it"
        )
    check_tensor("inputs", inputs)
    if inputs.is_floating_point() and inputs.ndim == 3:
        raise ValueError(
            "inputs must be token ids, since vectors have no id to pad with, got vectors of shape "
            f"{tuple(inputs.shape)}; judge the whole model, embedding included"
        )
    no_ids = inputs.is_floating_point() or inputs.is_complex() or inputs.dtype == torch.bool
    if no_ids or inputs.ndim != 2 or 0 in inputs.shape:
        raise ValueError(
            f"inputs must be token ids, integers of shape (batch, length), got {describe(inputs)} "
            f"of shape {tuple(inputs.shape)}; one sequence of ids becomes a batch with "
            ".unsqueeze(0)"
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
