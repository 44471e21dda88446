"""Compare a whole decoding loop with one that keeps no cache."""

from collections.abc import Callable

import torch
from torch import Tensor

from causal_lab.causality.answer import Answer, Result
from causal_lab.causality.cache import Decoder
from causal_lab.causality.runner import CannotRunError, Runner
from causal_lab.validation import check_tensor


class GenerationReport(Answer):
    """Does a decoding loop write what it writes without its cache? Its result is by "tokens"."""


def check_generation(
    generate: Callable, prompts: Tensor, without_cache: Callable
) -> GenerationReport:
    """Find out whether a decoding loop writes the same tokens as without its cache.

    A step may be right and its loop wrong: beams that are reordered, and their cache is not. Where
    tokens differ, both are run again in 64 bits, where two tokens are hardly ever as good as each
    other by rounding.

    Args:
        generate: ``generate(prompts) -> ids``, integer, shape (batch, length), with the cache.
        prompts: integer, shape (batch, length).
        without_cache: the same, such as ``lambda ids: model.generate(ids, use_cache=False)``.

    >>> prompts = torch.tensor([[1, 2]])
    >>> write = lambda ids: torch.cat([ids, ids[:, -1:] + 1], dim=1)
    >>> check_generation(write, prompts, write).assert_same()
    <GenerationReport same=True>
    """
    check_tensor("prompts", prompts)
    for name, value in (("generate", generate), ("without_cache", without_cache)):
        if not callable(value):
            raise ValueError(f"{name} must be callable as {name}(prompts) -> ids")
    run = Runner(_Loops(generate, without_cache), *prompts.shape[:2])
    with run:
        try:
            first = _write(run, prompts)
            if torch.equal(*first):
                return _report(*first)
            with run.precision(torch.float64):
                return _report(*_write(run, prompts))
        except CannotRunError as failure:
            return GenerationReport(None, str(failure), {})
        except (RuntimeError, TypeError):  # no such precision
            return _report(*first)


class _Loops(Decoder):
    """Holds both loops, so that one runner keeps the state of both."""

    def forward(self, ids: Tensor, cached: bool) -> object:
        return self.full(ids) if cached else self.step(ids)


def _write(run: Runner, prompts: Tensor) -> tuple[Tensor, Tensor]:
    written = []
    for cached in (True, False):
        ids = run.raw(prompts, kwargs={"cached": cached})
        if not isinstance(ids, Tensor) or ids.ndim != 2:
            raise CannotRunError("a loop must give ids of shape (batch, length)")
        written.append(ids.clone())
    return written[0], written[1]


def _report(cached: Tensor, plain: Tensor) -> GenerationReport:
    short = min(cached.shape[1], plain.shape[1])
    apart = (cached[:, :short] != plain[:, :short]).any(dim=0).nonzero().flatten().tolist()
    same = not apart and cached.shape == plain.shape
    rows = tuple(apart) or (() if same else (short,))
    result = Result("tokens", same, 0.0 if same else 1.0, rows)
    if same:
        return GenerationReport(True, f"all {cached.numel()} ids are the same", {"tokens": result})
    row = int((cached[:, :short] != plain[:, :short]).any(dim=1).int().argmax()) if apart else 0
    why = (
        f"from token {rows[0]} on another text is written (row {row}): perhaps the cache is not "
        "reordered with the beams, or something of an earlier call is left"
    )
    return GenerationReport(False, why, {"tokens": result})
