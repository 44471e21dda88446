"""How scores become weights: four softmaxes, and how peaked a row is.

They take scores of any shape and work along ``dim``, by default the last axis: the keys of one
query. A score of −∞ means weight 0; a temperature below 1 sharpens, above 1 flattens. ``naive`` is
the formula, ``stable`` survives large scores, ``masked`` survives a row that sees nothing,
``online`` finds maximum and sum in one pass.
"""

import torch
from torch import Tensor

from causal_lab.validation import check_axis, check_blocked, check_floating


def naive_softmax(scores: Tensor, *, dim: int = -1, temperature: float = 1.0) -> Tensor:
    """Take the formula at its word: exponentiate, then divide by the sum (§3.1).

    Args:
        scores: any shape; −∞ means weight 0.
        dim: the axis along which weights sum to 1; by default the keys of one query.
        temperature: divides the scores; below 1 sharpens, above 1 flattens.

    >>> naive_softmax(torch.tensor([0.0, 100.0])).tolist()  # overflows from 89, in float16 from 12
    [0.0, nan]
    """
    _check_arguments(scores, dim, temperature)
    exponentials = torch.exp(scores / temperature)
    return exponentials / exponentials.sum(dim, keepdim=True)


def stable_softmax(scores: Tensor, *, dim: int = -1, temperature: float = 1.0) -> Tensor:
    """Subtract the largest score of the row first: same weights, no overflow (§3.3).

    Args:
        scores, dim, temperature: as for :func:`naive_softmax`, any shape; nothing but −∞ gives NaN.

    >>> stable_softmax(torch.tensor([1000.0, 1000.0])).tolist()
    [0.5, 0.5]
    """
    # The paper's §3.3 made precise: it is the shift that avoids overflow, not −∞. NaN for a row
    # of nothing but −∞ is what ``torch.softmax`` gives, too; see ``masked_softmax``.
    _check_arguments(scores, dim, temperature)
    # First the shift, then the division, which no temperature can make too large any more.
    shifted = scores - scores.amax(dim, keepdim=True)
    exponentials = torch.exp(shifted / temperature)
    return exponentials / exponentials.sum(dim, keepdim=True)


def masked_softmax(
    scores: Tensor,
    blocked: Tensor | None = None,
    *,
    dim: int = -1,
    temperature: float = 1.0,
) -> Tensor:
    """Share the weight among keys that are not blocked; a row without any gives zeros (§3.2, §4.2).

    Args:
        scores, dim, temperature: as for :func:`naive_softmax`; weights come in the scores' shape.
        blocked: bool, broadcastable to the shape of ``scores``, True where the weight must be
            exactly 0. What score stands there, even NaN, does not matter.

    >>> masked_softmax(torch.zeros(2, 2), torch.tensor([[False, True], [True, True]])).tolist()
    [[1.0, 0.0], [0.0, 0.0]]
    """
    # Zeros for a row that sees nothing is what ``scaled_dot_product_attention`` does, forward and
    # backward.
    _check_arguments(scores, dim, temperature)
    if blocked is not None:
        check_blocked(blocked, scores)
    return share_weight(scores, blocked, dim, temperature)


def share_weight(
    scores: Tensor, blocked: Tensor | None, dim: int = -1, temperature: float = 1.0
) -> Tensor:
    """Compute :func:`masked_softmax`, unchecked: what layers call; the shape of the scores stays.

    >>> share_weight(torch.zeros(2), None).tolist()
    [0.5, 0.5]
    """
    heated = _widened(scores) / temperature
    if blocked is not None:
        heated = heated.masked_fill(blocked, float("-inf"))
    # A finite floor keeps −∞ − (−∞) = NaN out of rows that see nothing.
    largest = heated.detach().amax(dim, keepdim=True).clamp(min=torch.finfo(heated.dtype).min)
    exponentials = torch.exp(heated - largest)
    total = exponentials.sum(dim, keepdim=True)
    weights = exponentials / total.masked_fill(total == 0, 1.0)
    return weights.to(scores.dtype)


def running_max_and_sum(
    scores: Tensor, *, dim: int = -1, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Read the scores once, keeping the largest so far and the sum of ``exp(score - largest)``.

    Source: Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018.

    Args:
        scores, dim, temperature: as for :func:`naive_softmax`; both results have their shape.

    >>> largest, total = running_max_and_sum(torch.tensor([0.0, 0.0, 1000.0]))
    >>> largest.tolist(), total.tolist()
    ([0.0, 0.0, 1000.0], [1.0, 2.0, 1.0])
    """
    # The heart of FlashAttention (Dao et al., 2022): at every step the pair is what a softmax over
    # the scores read so far needs.
    _check_arguments(scores, dim, temperature)
    # Wide to the end: in 16 bits a long sum would stand still.
    heated = (_widened(scores) / temperature).movedim(dim, 0)
    largest = torch.full_like(heated[0], float("-inf"))
    total = torch.zeros_like(heated[0])
    maxima, sums = [], []
    for score in heated:
        larger = torch.maximum(largest, score)
        # Where nothing but −∞ was read, any finite number may stand in for the largest.
        anchor = larger.masked_fill(larger == float("-inf"), 0.0)
        # When a larger score arrives, the old sum is rescaled to it; 0 while all are −∞.
        total = total * torch.exp(largest - anchor) + torch.exp(score - anchor)
        largest = larger
        maxima.append(largest)
        sums.append(total)
    return torch.stack(maxima).movedim(0, dim), torch.stack(sums).movedim(0, dim)


def online_softmax(scores: Tensor, *, dim: int = -1, temperature: float = 1.0) -> Tensor:
    """Find maximum and sum in one pass, weights in a second (Milakov and Gimelshein, 2018).

    Args:
        scores, dim, temperature: as for :func:`naive_softmax`, any shape; −∞ alone gives zeros.

    >>> online_softmax(torch.tensor([1000.0, 1000.0])).tolist()
    [0.5, 0.5]
    """
    maxima, sums = running_max_and_sum(scores, dim=dim, temperature=temperature)
    largest, total = (x.select(dim, -1).unsqueeze(dim) for x in (maxima, sums))
    anchor = largest.masked_fill(largest == float("-inf"), 0.0)
    exponentials = torch.exp(_widened(scores) / temperature - anchor)
    return (exponentials / total.masked_fill(total == 0, 1.0)).to(scores.dtype)


def entropy(weights: Tensor, *, dim: int = -1) -> Tensor:
    """Measure in nats how spread out a row of weights is, any shape (Shannon, 1948).

    >>> entropy(torch.tensor([[1.0, 0.0], [0.5, 0.5]])).exp().tolist()  # keys *effectively* seen
    [1.0, 2.0]
    """
    # −Σ w ln w with 0 ln 0 = 0: ln n for n equal weights, 0 for all weight on one key, or for none.
    check_axis("weights", check_floating("weights", weights), dim)
    if bool((weights < 0).any()):
        raise ValueError("weights must not be negative; these look like scores: softmax them first")
    # ln 1 stands in for ln 0, whose gradient would be infinite.
    return -(weights * weights.masked_fill(weights == 0, 1.0).log()).sum(dim) + 0.0


def _widened(scores: Tensor) -> Tensor:
    # float16 and bfloat16 are too coarse for a sum over many keys: compute in float32. Before any
    # other step: what overflowed in 16 bits is not found again in 32.
    return scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores


def _check_arguments(scores: Tensor, dim: int, temperature: float) -> None:
    check_axis("scores", check_floating("scores", scores), dim)
    if not isinstance(temperature, int | float) or not 0 < temperature < float("inf"):
        raise ValueError(
            f"temperature must be a positive number, got {temperature!r}; for the limit of 0 "
            "take the argmax"
        )
