"""Compare packed documents with each alone."""

import contextlib
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from causal_lab.causality import thresholds
from causal_lab.causality.answer import Answer, unread, verdict_of
from causal_lab.causality.arguments import read_allow
from causal_lab.causality.call import Call
from causal_lab.causality.compare import compare, how_judged, pair_of, result_of
from causal_lab.causality.report import in_words
from causal_lab.causality.runner import CannotRunError, Runner
from causal_lab.causality.trials import component_scale, movement
from causal_lab.validation import check_tensor


class DocumentsReport(Answer):
    """Is a packed document what it is alone? Its result is by "packed"."""


def check_documents(
    model: nn.Module | Callable,
    inputs: Tensor,
    documents: Tensor,
    *,
    forward_kwargs: Callable | None = None,
    output: str | int | Callable | None = None,
    tolerance: float = 0.0,
    allow: str | Iterable[str] = (),
) -> DocumentsReport:
    """Find out whether documents that stand in one row get what each gets alone.

    Masks, positions and states are all asked at once: a document that is run alone begins at
    position 0, in an empty state.

    Args:
        model: called as ``model(inputs, **forward_kwargs(inputs, documents))``, the batch first.
        inputs: shape (batch, length, …), packed.
        documents: integer, shape (batch, length): which document a token belongs to; each stands in
            one piece.
        forward_kwargs: makes what the model is told, such as positions, a mask or ``seq_idx``; for
            a document alone it gets zeros as ``documents``.
        output: which part of the model's result to judge.
        tolerance: of an output's size; smaller differences are none.
        allow: "unread" if documents would not disturb each other untold, either.

    >>> def sums(x, documents):  # within each document
    ...     same = documents[:, :, None] == documents[:, None]
    ...     return (same.tril().to(x) @ x)
    >>> x, documents = torch.randn(1, 5, 2), torch.tensor([[0, 0, 1, 1, 1]])
    >>> told = lambda x, documents: {"documents": documents}
    >>> check_documents(sums, x, documents, forward_kwargs=told).assert_same()
    <DocumentsReport same=True>
    """
    _check_documents(inputs, documents)
    inputs, allow = inputs.detach(), read_allow(allow, ("unread",))
    module = model if isinstance(model, nn.Module) else Call(model)
    run = Runner(module, *inputs.shape[:2], output=output)
    make = forward_kwargs or (lambda inputs, documents: {})
    pieces = [_pieces(row) for row in documents]

    def packed(told: Tensor) -> Tensor:
        run.batch, run.length = inputs.shape[:2]
        return run(inputs, kwargs=make(inputs.clone(), told.clone()))

    def alone() -> Tensor:
        rows, run.batch = [], 1
        for row, cuts in enumerate(pieces):
            parts = []
            for start, end in cuts:
                piece, run.length = inputs[row : row + 1, start:end], end - start
                told = torch.zeros_like(documents[:1, : end - start])
                parts.append(run(piece, kwargs=make(piece.clone(), told)))
            rows.append(torch.cat(parts, dim=1))
        return torch.cat(rows)

    def measure(names: list) -> dict:
        try:
            pair = pair_of(alone(), packed(documents))
        except CannotRunError as failure:
            pair = failure
        return dict.fromkeys(names, pair)

    cautions = ()
    with run:
        found = compare(run, inputs, ["packed"], measure, tolerance)
        result = result_of("packed", found["packed"])
        with contextlib.suppress(CannotRunError):  # a model that cannot be told so: no caution
            base, untold = packed(documents), packed(torch.zeros_like(documents))
            moved = movement(base, untold, None, component_scale(base)).max()
            if not moved > thresholds.NOISE * torch.finfo(run.coarsest(base)).eps:
                why = (
                    "so would a model that is told nothing: documents do not see each other anyway"
                )
                cautions = (unread(why, allow),)
    same, results = verdict_of([result]), {"packed": result}
    if same is not True:
        hint = ": perhaps the mask lets documents see each other, positions go on, or a state does"
        return DocumentsReport(same, f"{result}{hint if same is False else ''}", results)
    count = sum(map(len, pieces))
    reason = f"each of {count} documents gets what it gets alone" + how_judged(found)
    return DocumentsReport(True, reason + in_words(cautions), results, cautions)


def _pieces(row: Tensor) -> list[tuple[int, int]]:
    ends = [*((row[1:] != row[:-1]).nonzero().flatten() + 1).tolist(), len(row)]
    return list(zip([0, *ends[:-1]], ends, strict=True))


def _check_documents(inputs: Tensor, documents: Tensor) -> None:
    check_tensor("inputs", inputs)
    check_tensor("documents", documents)
    if documents.shape != inputs.shape[:2] or documents.is_floating_point():
        raise ValueError(
            f"documents must be integers of shape (batch, length) = {tuple(inputs.shape[:2])}, got "
            f"{tuple(documents.shape)}"
        )
    for row in documents:
        pieces = _pieces(row)
        if len(pieces) < 2 or len(pieces) != len(row.unique()):
            raise ValueError(
                f"each row needs two documents or more, each in one piece, got {row.tolist()}"
            )
