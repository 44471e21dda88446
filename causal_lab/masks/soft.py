"""Masks that learn: a depth, a span, a gate, and when each of them blocks exactly.

A boolean mask has no slope, so nothing can be learned through it. What stands here has one:
a bias of finite depth on the future, a gate that closes little by little with the distance.
Both are added to the scores, and only −∞ gives a weight of exactly 0 for every score.
"""

import math

import torch
from torch import Tensor

from causal_lab.masks.rules import Device
from causal_lab.validation import check_floating, check_size, describe


def soft_causal_bias(
    T: int, depth: float | Tensor, *, slope: float | Tensor = 0.0, device: Device = None
) -> Tensor:
    """Lower the future's scores by a depth, where a mask blocks: (query, key) = (T, T) (§8.3, §11).

    Args:
        depth: at least 0; ∞ is the causal mask itself. A tensor may ask for a gradient.
        slope: how much further for each step into the future after the first, at least 0.

    >>> soft_causal_bias(3, 4.0, slope=1.0).tolist()
    [[0.0, -4.0, -5.0], [0.0, 0.0, -4.0], [0.0, 0.0, 0.0]]
    """
    T = check_size("T", T)
    depth = _one_number("depth", depth, device)
    slope = _one_number("slope", slope, "cpu")  # where a number can be asked for
    if bool(slope.isinf()):
        raise ValueError("slope must be finite, got inf; an infinite depth blocks the whole future")
    slope = slope.to(depth)
    position = torch.arange(T, device=depth.device)
    steps = position - position[:, None]  # how far in the future each key lies
    # A finite depth d multiplies every weight of the future by e^(−d), against the past, or by less
    # with a slope, and never by 0. The bias has the dtype of a floating depth, else float32.
    # Chosen, not multiplied by 0 and 1: 0 · ∞ is NaN. From 0, since the negative of 0 is −0.
    return torch.where(steps > 0, 0.0 - (depth + slope * (steps - 1)), 0.0)


def soft_leak(T: int, t: int, depth: float | Tensor) -> float | Tensor:
    """Say how much of row t's weight passes a soft mask at equal scores (§3.1, §3.2).

    Args:
        t: how many of the T tokens the row sees, 1 to T.
        depth: by how much the scores of those after it are lowered, at least 0; any shape.

    >>> soft_leak(8, 2, 0.0), soft_leak(8, 2, 20.0) > 0, soft_leak(8, 2, float("inf"))
    (0.75, True, 0.0)
    """
    # The limit x → −∞ of §3.2 is here walked step by step, from the score of 0 of §3.1.
    # At depth 0, with no mask at all, the leak is (T − t)/T. It becomes exactly 0 only where
    # e^(−depth) does: at ∞, or where the dtype runs out of small numbers.
    T, t = check_size("T", T), check_size("t", t)
    if t > T:
        raise ValueError(f"t must lie between 1 and T={T}, got {t}; the t-th token is one of the T")
    if not isinstance(depth, Tensor):
        power = (T - t) * math.exp(-_number("depth", depth))
        return power / (t + power)
    if _no_numbers(depth) or not bool((depth >= 0).all()):
        raise ValueError(
            f"depth must be at least 0 everywhere, got {describe(depth)}: {depth.tolist()!r}; a "
            "mask lowers scores"
        )
    power = (T - t) * torch.exp(-depth.to(torch.result_type(depth, 1.0)))
    return power / (t + power)


def span_gate(distance: float | Tensor, span: float | Tensor, ramp: float | Tensor) -> Tensor:
    """Let near keys through, far ones not, and fade in between, so that the span can learn.

    Source: Sukhbaatar et al., "Adaptive attention span in transformers", 2019.

    Args:
        distance: how far back the key lies, query − key.
        span: up to which distance the gate is open; (head, 1, 1) for one per head.
        ramp: over how many further steps it closes.

    >>> span_gate(torch.arange(6), span=2, ramp=2).tolist()  # the shapes broadcast
    [1.0, 1.0, 1.0, 0.5, 0.0, 0.0]
    """
    # 1 up to ``span``, 0 from ``span + ramp``.
    named = {"distance": distance, "span": span, "ramp": ramp}
    distance, span, ramp = _together(named)
    if not bool((ramp > 0).all()):
        raise ValueError(
            "ramp must be above 0 everywhere; a gate that closes at once has no slope to learn by, "
            "and is generate_sliding_window_mask"
        )
    # The same as (ramp + span − distance) / ramp, and exactly 1 at distance = span. Only distances
    # on the ramp have a slope: a span that no key lies near learns nothing. The future, below 0, is
    # not closed here: block it with a causal mask.
    return (1 + (span - distance) / ramp).clamp(0, 1)


def gate_to_bias(gate: Tensor) -> Tensor:
    """Turn a gate on the weights, any shape, 0 to 1, into a bias on the scores: its logarithm.

    >>> gate_to_bias(torch.tensor([1.0, 0.0])).tolist()
    [0.0, -inf]
    """
    # gate · e^score = e^(score + log gate): a gate is a soft mask. The slope of the logarithm is
    # 1/gate; where the gate is 0, or so small that 1/gate overflows, the gradient here is 0, never
    # NaN. So what is closed gets no gradient and stays closed unless something else opens it.
    check_floating("gate", gate)
    if not bool(((gate >= 0) & (gate <= 1)).all()):
        raise ValueError(
            "gate must lie between 0 and 1 everywhere; logits become one with torch.sigmoid"
        )
    steep = gate < torch.finfo(gate.dtype).tiny
    # Two choices: a gradient of ∞ that is thrown away would still meet a 0 and become NaN.
    smooth = torch.where(steep, 1.0, gate).log()
    return torch.where(steep, gate.detach().log(), smooth)


def _number(name: str, value: float) -> float:
    """Return one number of at least 0 as a float, else say what was needed."""
    try:
        number = math.nan if isinstance(value, bool | str | Tensor) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not number >= 0:
        raise ValueError(f"{name} must be a number of at least 0, got {value!r}")
    return number


def _one_number(name: str, value: float | Tensor, device: Device) -> Tensor:
    """Return one number of at least 0 as a floating tensor that keeps its gradient."""
    if not isinstance(value, Tensor):
        return torch.tensor(_number(name, value), dtype=torch.float32, device=device)
    if value.ndim or _no_numbers(value) or not bool(value >= 0):
        raise ValueError(
            f"{name} must be one number of at least 0, got {describe(value)} of shape "
            f"{tuple(value.shape)}: {value.tolist()!r}"
        )
    value = value if value.is_floating_point() else value.float()
    return value if device is None else value.to(device)


def _together(named: dict[str, float | Tensor]) -> list[Tensor]:
    """Return numbers and tensors as tensors of one floating dtype on one device."""
    tensors = {name: value for name, value in named.items() if isinstance(value, Tensor)}
    for name, value in named.items():
        plain = isinstance(value, int | float) and not isinstance(value, bool)
        if _no_numbers(value) if name in tensors else not plain:
            raise ValueError(
                f"{name} must be a number or a tensor of numbers, got {describe(value)}"
            )
    device = next((value.device for value in tensors.values()), None)
    dtype = torch.float32
    for value in tensors.values():
        dtype = torch.promote_types(dtype, value.dtype)  # integers leave it as it is
    try:
        made = [torch.as_tensor(value, dtype=dtype, device=device) for value in named.values()]
        torch.broadcast_shapes(*[value.shape for value in made])
    except RuntimeError as error:
        shapes = {name: tuple(value.shape) for name, value in tensors.items()}
        raise ValueError(f"the shapes {shapes} do not broadcast: {error}") from error
    return made


def _no_numbers(value: Tensor) -> bool:
    return value.dtype == torch.bool or value.is_complex()
