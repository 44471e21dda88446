"""What a model computes while it reads: caught from outside, pass by pass."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from causal_lab.models.transformer import Transformer
from causal_lab.validation import check_size, describe

_PARTS = ("query", "key", "value")


class Pass(NamedTuple):
    """What there is after a pass: what it computed, and what was kept from those before.

    Args:
        fresh: how many tokens this pass read, the last ones; their rows were computed.
        weights: float32, (layer, head, token, token); a row for each token that was read.
        queries: float32, (layer, head, fresh, number); nobody asks for those of older tokens.
        keys, values: float32, (layer, head, token, number).
    """

    fresh: int
    weights: np.ndarray
    queries: np.ndarray
    keys: np.ndarray
    values: np.ndarray

    def of_head(self, layer: int, head: int) -> "Pass":
        """Give one head's part, without the first two axes.

        >>> Pass(1, *np.zeros((4, 2, 3, 1, 1))).of_head(1, 2).keys.shape
        (1, 1)
        """
        return Pass(self.fresh, *(part[layer, head] for part in self[1:]))


@torch.no_grad()
def record_pass(
    model: Transformer, run: Callable[[], tuple[Any, list[Tensor]]], before: Pass | None = None
) -> tuple[Any, Pass]:
    """Let a model read, and record what its layers compute.

    Args:
        run: makes one forward pass over one text, and gives a result and the weights.
        before: what a cache keeps; none if the text is read from its start.

    Returns:
        The result, and the record.

    >>> from causal_lab.models import GPT
    >>> model, ids = GPT(10, 8, d_model=8, num_heads=2).eval(), torch.tensor([[1, 2, 3]])
    >>> _, seen = record_pass(model, lambda: model(ids, need_weights=True))
    >>> seen.fresh, seen.keys.shape
    (3, (2, 2, 3, 4))
    """
    caught: dict[str, list[Tensor]] = {name: [] for name in _PARTS}
    hooks = [
        getattr(block.attention, f"{name}_projection").register_forward_hook(
            lambda layer, given, made, name=name: caught[name].append(made)
        )
        for block in model.blocks
        for name in _PARTS
    ]
    try:
        result, weights = run()
    finally:
        for hook in hooks:
            hook.remove()
    read, fresh = weights[0].shape[-1], weights[0].shape[-2]
    turn = model.position.rotation(torch.arange(read - fresh, read, device=weights[0].device)[None])
    dim, heads = model.position.head_dim, model.num_heads
    made = {name: _by_head(torch.cat(parts), dim, heads) for name, parts in caught.items()}
    if turn is not None:
        made |= {name: turn(made[name]) for name in ("query", "key")}
    rows, queries, keys, values = map(_array, (torch.cat(weights), *made.values()))
    if before is not None:
        old = np.pad(before.weights, [(0, 0), (0, 0), (0, 0), (0, fresh)])  # blocked: weight 0
        rows = np.concatenate([old, rows], axis=2)
        keys = np.concatenate([before.keys, keys], axis=2)
        values = np.concatenate([before.values, values], axis=2)
    return result, Pass(fresh, rows, queries, keys, values)


def _by_head(x: Tensor, dim: int, heads: int) -> Tensor:
    """Split vectors among the heads: (layer, token, numbers) to (layer, head, token, dim).

    A head of keys that serves several heads of queries stands there once for each.
    """
    x = x.unflatten(-1, (-1, dim)).transpose(1, 2)
    return x.repeat_interleave(heads // x.shape[1], dim=1)


def _array(x: Tensor) -> np.ndarray:
    return x.float().cpu().numpy()


def check_writing(model: Transformer, prompt: Tensor, steps: int) -> Tensor:
    """Give a copy of the prompt, shape (length,), where the model lives, if that can write on.

    >>> from causal_lab.models import GPT
    >>> model = GPT(10, 8, d_model=8, num_heads=2).eval()
    >>> check_writing(model, torch.tensor([1, 2]), steps=6).tolist()
    [1, 2]
    """
    if not isinstance(model, Transformer):
        raise ValueError(f"model must be a Transformer, got {describe(model)}")
    if not model.causal:
        raise ValueError(
            "the model is not causal: what it makes of old tokens changes with every new one, so "
            "it cannot write on"
        )
    if model.training:
        raise ValueError("the model is in training mode; call model.eval() first")
    if not isinstance(prompt, Tensor) or prompt.ndim != 1 or not len(prompt):
        got = tuple(prompt.shape) if isinstance(prompt, Tensor) else describe(prompt)
        raise ValueError(
            f"prompt must be a tensor of at least one token id, shape (length,), got {got}"
        )
    if len(prompt) + check_size("steps", steps) > model.max_length:
        raise ValueError(
            f"a prompt of {len(prompt)} tokens and {steps} steps are more than the model reads, "
            f"max_length={model.max_length}; cut the prompt or take fewer steps"
        )
    return prompt.detach().clone().to(model.token_embedding.weight.device)


def name_tokens(
    model: Transformer, symbols: Callable[[int], str] | Sequence[str] | None
) -> Callable[[int], str]:
    """Make a function of whatever says how a token looks; a blank would not be seen.

    >>> from causal_lab.models import GPT
    >>> name_tokens(GPT(2, 8, d_model=8, num_heads=2), "a ")(1)
    '␣'
    """
    vocabulary = model.token_embedding.num_embeddings
    if symbols is None:
        look_up: Callable[[int], str] = str
    elif callable(symbols):
        look_up = symbols
    elif len(symbols) < vocabulary:
        raise ValueError(
            f"symbols must name every token of the model, {vocabulary}, got {len(symbols)}"
        )
    else:
        look_up = tuple(symbols).__getitem__
    return lambda number: str(look_up(number)).replace(" ", "␣") or "␣"
