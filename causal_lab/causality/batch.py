"""Compare a batch with each of its rows alone."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from causal_lab.causality.answer import Answer, verdict_of
from causal_lab.causality.arguments import read_kwargs
from causal_lab.causality.cache import check_cache
from causal_lab.causality.call import Call
from causal_lab.causality.compare import compare, pair_of, result_of
from causal_lab.causality.parts import take
from causal_lab.causality.runner import CannotRunError, Runner
from causal_lab.validation import check_tensor


class BatchReport(Answer):
    """Is a row of a batch what it is alone? Its results are by what was compared."""


def check_batch(
    model: nn.Module | Callable,
    inputs: Tensor,
    *,
    step: Callable | None = None,
    pad_id: int | None = None,
    forward_kwargs: Mapping | Callable | None = None,
    output: str | int | Callable | None = None,
    tolerance: float = 0.0,
) -> BatchReport:
    """Find out whether a row of a batch gets what it gets alone.

    With ``step`` and ``pad_id``, prompts of several lengths are also padded into one batch, which
    is prefilled and decoded with its cache; each must get what it gets alone, without a cache.

    Args:
        model: called as ``model(inputs, **forward_kwargs)``, the batch first.
        inputs: shape (batch, length, …), at least two rows, all different.
        step: as for :func:`causal_lab.causality.check_cache`, told of padding by a third argument.
        pad_id: of token ids.
        forward_kwargs: further arguments, or a function of the inputs that makes them.
        output: which part of the model's result to judge.
        tolerance: of an output's size; smaller differences are none.

    >>> check_batch(nn.Linear(2, 2), torch.randn(3, 4, 2)).assert_same()
    <BatchReport same=True>
    >>> print(check_batch(lambda x: x - x.mean(0), torch.randn(3, 4, 2)).results["rows alone"].same)
    False
    """
    check_tensor("inputs", inputs)
    if inputs.ndim < 2 or len(inputs) < 2:
        raise ValueError(
            f"inputs must have at least two rows, (batch, length, …), got {tuple(inputs.shape)}"
        )
    inputs = inputs.detach()
    module = model if isinstance(model, nn.Module) else Call(model)
    kwargs = read_kwargs(forward_kwargs)
    run = Runner(module, *inputs.shape[:2], forward_kwargs=kwargs, output=output)

    def measure(names: list) -> dict:
        try:
            whole = run(inputs)
            rows = []
            for row in inputs.split(1):
                run.batch = 1
                rows.append(run(row))
            pair = pair_of(torch.cat(rows), whole)
        except CannotRunError as failure:
            pair = failure
        finally:
            run.batch = len(inputs)
        return dict.fromkeys(names, pair)

    with run:
        found = compare(run, inputs, ["rows alone"], measure, tolerance)
    results = {"rows alone": result_of("rows alone", found["rows alone"])}
    if step is not None and results["rows alone"].same:

        def alone(ids: Tensor) -> Tensor:
            given = kwargs if callable(kwargs) else lambda row: kwargs
            rows = [module(row, **given(row)) for row in ids.split(1)]
            return torch.cat([take(row, run.judged) for row in rows])

        names = ["padded prefill", "right-padded prefill"]
        names = ["prefill, then one by one"] if pad_id is None else names
        options = {"schedules": names, "pad_id": pad_id, "tolerance": tolerance}
        results |= check_cache(step, inputs, alone, **options).results
    same = verdict_of(results.values())
    if same:
        return BatchReport(True, "every row of the batch is what it is alone", results)
    first = next(result for result in results.values() if result.same is same)
    return BatchReport(same, str(first), results)
