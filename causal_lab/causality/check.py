"""Change the future, compare the past, at every cut."""

import operator
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from causal_lab.causality.examination import Examination, UndecidedError
from causal_lab.causality.report import CausalityReport
from causal_lab.causality.runner import Runner
from causal_lab.causality.verdict import judge, undecided
from causal_lab.validation import check_size, check_tensor, describe


def check_causality(
    model: nn.Module,
    inputs: Tensor,
    *,
    lookahead: int = 0,
    special_ids: Iterable[int] = (),
    forward_kwargs: dict | None = None,
    output: str | int | Callable | None = None,
    train: bool | None = None,
    cuts: Iterable[int] | None = None,
    seed: int = 0,
) -> CausalityReport:
    """Find out whether any output of a model depends on an input that comes after it.

    At every cut, the inputs after it are replaced by others and the outputs before it are compared.
    Gradients from every output to every input show leaks that rounding hides. What could be
    rounding is computed again in another precision, where rounding changes by many orders of
    magnitude and a leak does not: there is no tolerance to choose. Every prefix is also run alone,
    which shows dependence on the *length*.

    True means: at these inputs, for the futures that were tried, in 32 *and* in 64 bits, nothing
    came through. It is a test, not a proof; a condition that no tried future meets stays unseen.

    Args:
        model: any module that is called as ``model(inputs, **forward_kwargs)``, the batch first.
            Its random state, buffers, attributes and modes are afterwards as before.
        inputs: token ids, integer, shape (batch, length), or vectors, floating, shape
            (batch, length, dim, …). Real ones, or as the model would meet: what is true is what is
            tried.
        lookahead: how many later inputs an output may see; −1 asks that it does not see its own
            either.
        special_ids: ids such as padding or end of text, to be tried in the future as well.
        forward_kwargs: further arguments for every call. A tensor that runs along the sequence is
            cut with it; where batch and length are equal, along the axes with which the model can
            run.
        output: which part of the model's result to judge: a name, an index, or a function of the
            result. If not given: the result itself, ``logits``, ``last_hidden_state``, or the first
            part of shape (batch, length, …).
        train: judge in train mode (True) or eval mode (False); if not given, as the model came.
        cuts: try only these: the first changed input of each. All of them if not given, since a
            leak from one position to the next shows at one cut only.

    Returns:
        Truthy if causal. ``causal`` is None, with the reason, where it cannot be decided.

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

    >>> check_causality(nn.Linear(3, 3), torch.randn(2, 5, 3)).assert_causal()
    <CausalityReport causal=True>
    """
    inputs = _check_inputs(model, inputs)
    lookahead = _check_whole("lookahead", lookahead)
    batch, length = inputs.shape[:2]
    run = Runner(
        model,
        batch,
        length,
        forward_kwargs=_check_kwargs(forward_kwargs),
        output=output,
        train=train,
    )
    seen = Examination(
        run,
        inputs,
        lookahead,
        _check_ids(special_ids, inputs),
        _check_cuts(cuts, length, lookahead),
        torch.Generator().manual_seed(_check_whole("seed", seed)),
        whole=cuts is None,
    )
    if not seen.cuts:
        return undecided(
            seen,
            f"a sequence of {length} has nothing after the lookahead of {lookahead}; give a longer "
            "one",
        )
    try:
        with run:
            seen.examine()
    except UndecidedError as reason:
        return undecided(seen, str(reason))
    return judge(seen)


def _check_inputs(model: nn.Module, inputs: Tensor) -> Tensor:
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"model must be an nn.Module, got {describe(model)}; wrap a function in a module whose "
            "forward calls it"
        )
    check_tensor("inputs", inputs)
    if 0 in inputs.shape:
        raise ValueError(
            f"inputs of shape {tuple(inputs.shape)} are empty; give at least one sequence of two "
            "or more"
        )
    if inputs.is_complex() or inputs.dtype == torch.bool:
        raise ValueError(f"inputs must be token ids or floating vectors, got {describe(inputs)}")
    if inputs.is_floating_point() and inputs.ndim < 3:
        raise ValueError(
            f"floating inputs must have shape (batch, length, dim), got {tuple(inputs.shape)}; a "
            "plain series gets its dim with .unsqueeze(-1), token ids become integers with .long()"
        )
    if not inputs.is_floating_point() and inputs.ndim != 2:
        raise ValueError(
            f"token ids must have shape (batch, length), got {tuple(inputs.shape)}; one sequence "
            "becomes a batch with .unsqueeze(0)"
        )
    return inputs.detach()


def _check_kwargs(forward_kwargs: dict | None) -> dict:
    if forward_kwargs is not None and not isinstance(forward_kwargs, Mapping):
        raise ValueError(
            "forward_kwargs must be a dict of names and values such as {'attention_mask': mask}, "
            f"got {describe(forward_kwargs)}"
        )
    return dict(forward_kwargs or {})


def _check_whole(name: str, number: int) -> int:
    try:
        if isinstance(number, bool):
            raise TypeError
        return operator.index(number)
    except TypeError:
        raise ValueError(f"{name} must be an integer, got {number!r}") from None


def _check_ids(special_ids: Iterable[int], inputs: Tensor) -> tuple[int, ...]:
    try:
        ids = tuple(dict.fromkeys(check_size("a special id", i, minimum=0) for i in special_ids))
    except TypeError:
        raise ValueError(
            f"special_ids must be a list of ids such as [0, 2], got {special_ids!r}"
        ) from None
    if ids and inputs.is_floating_point():
        raise ValueError("special_ids are token ids; the inputs are floating vectors, leave it out")
    return ids


def _check_cuts(cuts: Iterable[int] | None, length: int, lookahead: int) -> list[int]:
    first = max(0, lookahead + 1)
    if cuts is None:
        return list(range(first, length))
    try:
        chosen = sorted({_check_whole("a cut", cut) for cut in cuts})
    except TypeError:
        raise ValueError(f"cuts must be a list of positions, got {cuts!r}") from None
    if not chosen or chosen[0] < first or chosen[-1] >= length:
        raise ValueError(
            f"cuts must lie between {first} and {length - 1}, the first changed input of each; "
            f"got {chosen}"
        )
    return chosen
