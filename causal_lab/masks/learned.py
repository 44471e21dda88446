"""Where each head looks, by distance, as parameters that a loss can move.

Four biases on the scores, one line per head: a slope, a number per distance, a span, a gate per
distance. Each is called with the lengths and gives what ``bias=`` of attention and of the models
takes. The future is −∞ in all of them, so no training can open it; only :class:`LearnedMask` can be
asked to leave it open, to see what happens.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from causal_lab.masks.soft import gate_to_bias, span_gate
from causal_lab.validation import check_size


class _DistanceBias(nn.Module):
    """A bias per head that depends on the distance query − key alone."""

    def __init__(self, num_heads: int):
        super().__init__()
        self.num_heads = check_size("num_heads", num_heads)

    def forward(self, query_len: int, key_len: int | None = None) -> Tensor:
        """Give the bias, shape (head, query, key), aligned lower-right.

        Args:
            key_len: the cached tokens included; as many as queries if not given.
        """
        distance = self._distance(query_len, key_len)
        return self._at(distance).masked_fill(self._never(distance), float("-inf"))

    def blocked(self, query_len: int, key_len: int | None = None) -> Tensor:
        """Say which cells get exactly nothing: bool, shape (head, query, key), True there."""
        return self(query_len, key_len).isneginf()

    def _never(self, distance: Tensor) -> Tensor:
        return distance < 0

    def _distance(self, query_len: int, key_len: int | None) -> Tensor:
        # How far back each key lies, shape (query, key); as many keys as queries unless a cache
        # holds more.
        query_len = check_size("query_len", query_len)
        key_len = query_len if key_len is None else check_size("key_len", key_len)
        if key_len < query_len:
            raise ValueError(
                f"key_len={key_len} is below query_len={query_len}; the queries are the newest of "
                "the keys, so count the cached ones too"
            )
        position = torch.arange(key_len, device=next(self.parameters()).device)
        return position[key_len - query_len :, None] - position


class DistanceDecay(_DistanceBias):
    """Lower the score by a slope per head and step back: ALiBi's, that learns.

    Source: Press et al., "Train short, test long", 2022; learned: Chi et al., "KERPLE", 2022.

    >>> decay = DistanceDecay(2)
    >>> [round(slope, 4) for slope in decay.slopes.tolist()], decay(2)[0].isneginf().tolist()
    ([0.0625, 0.0039], [[False, True], [False, False]])
    """

    def __init__(self, num_heads: int):
        super().__init__(num_heads)
        # They start where ALiBi fixes them for a power of two of heads, 2^(−8h/H) for h = 1 … H,
        # and stay above 0 by a softplus.
        slopes = 2 ** (-8 * torch.arange(1, num_heads + 1) / num_heads)
        self.logits = nn.Parameter(slopes.expm1().log())  # the softplus, undone

    @property
    def slopes(self) -> Tensor:
        """How much each head takes off per step, shape (head,)."""
        return F.softplus(self.logits)

    def _at(self, distance: Tensor) -> Tensor:
        return 0.0 - self.slopes[:, None, None] * distance  # from 0: the negative of 0 is −0


class RelativeBias(_DistanceBias):
    """Raise or lower the score by a number per head and distance, 0 at first.

    Source: Raffel et al., "Exploring the limits of transfer learning" (T5), 2020.

    Args:
        max_distance: all distances from this one on share a number.

    >>> bias = RelativeBias(3, max_distance=4)
    >>> bias.table.shape, bias(6).shape, bias.blocked(2).int()[0].tolist()
    (torch.Size([3, 5]), torch.Size([3, 6, 6]), [[0, 1], [0, 0]])
    """

    def __init__(self, num_heads: int, max_distance: int):
        super().__init__(num_heads)
        self.max_distance = check_size("max_distance", max_distance, minimum=0)
        # T5 lets several far distances share a number, too.
        self.table = nn.Parameter(torch.zeros(num_heads, max_distance + 1))

    def _at(self, distance: Tensor) -> Tensor:
        return self.table[:, distance.clamp(0, self.max_distance)]


class AdaptiveSpan(_DistanceBias):
    """Let each head learn how far back it looks; beyond that it is blocked exactly.

    Begin wide: a short span may not find its way up against a penalty. Source: Sukhbaatar et al.,
    "Adaptive attention span in transformers", 2019.

    Args:
        max_span: no head's span gets longer.
        ramp: over how many steps beyond the span the gate closes.
        span: where every head starts; half of ``max_span`` if not given.

    >>> head = AdaptiveSpan(1, max_span=2, ramp=2)
    >>> head.spans.tolist(), head.keys_kept().tolist(), head.penalty().item()
    ([1.0], [3], 1.0)
    >>> head.gates(1, 4)[0].tolist(), head(1, 4)[0].isneginf().tolist()
    ([[0.0, 0.5, 1.0, 1.0]], [[True, False, False, False]])
    """

    def __init__(self, num_heads: int, max_span: int, ramp: int, *, span: float | None = None):
        super().__init__(num_heads)
        self.max_span, self.ramp = check_size("max_span", max_span), check_size("ramp", ramp)
        span = self.max_span / 2 if span is None else _between("span", span, self.max_span)
        self.logits = nn.Parameter(torch.full((num_heads,), span / self.max_span).logit())

    @property
    def spans(self) -> Tensor:
        """Up to which distance each head's gate is wide open, shape (head,)."""
        # A sigmoid has a slope everywhere; the article clamps a share of max_span.
        return self.max_span * torch.sigmoid(self.logits)

    def gates(self, query_len: int, key_len: int | None = None) -> Tensor:
        """Give the gates themselves, shape (head, query, key), 0 to 1; 0 in the future."""
        distance = self._distance(query_len, key_len)
        return self._gate(distance).masked_fill(distance < 0, 0.0)

    def keys_kept(self) -> Tensor:
        """Count the newest keys that a head's cache must keep, its own included: shape (head,)."""
        with torch.no_grad():
            distance = torch.arange(self.max_span + self.ramp, device=self.logits.device)
            return (self._gate(distance[None]) > 0).sum(dim=(1, 2))

    def penalty(self) -> Tensor:
        """Give what a loss should add, times a price, to keep spans short: their mean, shape ()."""
        return self.spans.mean()

    def _gate(self, distance: Tensor) -> Tensor:
        return span_gate(distance, self.spans[:, None, None], self.ramp)

    def _at(self, distance: Tensor) -> Tensor:
        return gate_to_bias(self._gate(distance))


class LearnedMask(_DistanceBias):
    """Learn for each head and distance whether to look there: a gate that can be made hard.

    The own token is always seen. Source: the paper, §11, "learnable masks".

    Args:
        max_distance: farther back is blocked.
        future: how many later steps have a gate, for showing what goes wrong; 0 blocks them all.
        gate: where every gate starts, between 0 and 1.

    >>> mask = LearnedMask(1, max_distance=2, gate=0.5)
    >>> mask.distances.tolist(), mask.gates().tolist(), mask.penalty().item()
    ([0, 1, 2], [[1.0, 0.5, 0.5]], 1.0)
    >>> mask.open_distances(threshold=0.6), mask.harden(3, threshold=0.6).int().tolist()
    ([[0]], [[[0, 1, 1], [1, 0, 1], [1, 1, 0]]])
    """

    def __init__(self, num_heads: int, max_distance: int, *, future: int = 0, gate: float = 0.5):
        super().__init__(num_heads)
        self.max_distance = check_size("max_distance", max_distance, minimum=0)
        self.future = check_size("future", future, minimum=0)
        if not max_distance + future:
            raise ValueError("there is no gate to learn; max_distance or future must be above 0")
        start = torch.full((num_heads, future + max_distance), _between("gate", gate))
        self.logits = nn.Parameter(start.logit())

    @property
    def distances(self) -> Tensor:
        """Which distances have a gate, shape (distance,); negative ones lie in the future."""
        return torch.arange(-self.future, self.max_distance + 1, device=self.logits.device)

    def gates(self) -> Tensor:
        """Give the gates, shape (head, distance), as ``distances`` order them; 1 at distance 0."""
        # A softmax sees only the ratios of the gates; the own token's 1 fixes their scale.
        return self._with_own(torch.sigmoid(self.logits), 1.0)

    def penalty(self) -> Tensor:
        """Give what a loss should add, times a price, to close gates: a head's sum, shape ()."""
        return torch.sigmoid(self.logits).sum(dim=1).mean()  # the own 1 is left out

    def open_distances(self, threshold: float = 0.5) -> list[list[int]]:
        """List per head the distances whose gates are not below the threshold, which stay open."""
        is_open = self.gates() >= _between("threshold", threshold)
        return [self.distances[row].tolist() for row in is_open]

    def harden(
        self, query_len: int, key_len: int | None = None, *, threshold: float = 0.5
    ) -> Tensor:
        """Block exactly where a gate is below the threshold: bool, shape (head, query, key)."""
        distance = self._distance(query_len, key_len)
        is_closed = self.gates() < _between("threshold", threshold)
        return is_closed[:, self._place(distance)] | self._never(distance)

    def _at(self, distance: Tensor) -> Tensor:
        # The logarithm of the sigmoid in one: of a sigmoid that has become 0 it would be −∞.
        return self._with_own(F.logsigmoid(self.logits), 0.0)[:, self._place(distance)]

    def _never(self, distance: Tensor) -> Tensor:
        return (distance < -self.future) | (distance > self.max_distance)

    def _place(self, distance: Tensor) -> Tensor:
        return distance.clamp(-self.future, self.max_distance) + self.future

    def _with_own(self, learned: Tensor, own: float) -> Tensor:
        # Put the own token between the future and the past.
        middle = learned.new_full((self.num_heads, 1), own)
        return torch.cat([learned[:, : self.future], middle, learned[:, self.future :]], dim=1)


def _between(name: str, number: float, most: float = 1) -> float:
    is_number = isinstance(number, int | float) and not isinstance(number, bool)
    if not is_number or not 0 < number < most:
        raise ValueError(f"{name} must lie between 0 and {most}, both excluded, got {number!r}")
    return float(number)
