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
        """Give the bias for these lengths: shape (head, query, key), aligned lower-right.

        ``key_len`` is ``query_len`` unless a cache holds more; the queries are the newest tokens.
        """
        distance = self._distance(query_len, key_len)
        return self._at(distance).masked_fill(self._never(distance), float("-inf"))

    def blocked(self, query_len: int, key_len: int | None = None) -> Tensor:
        """Say which cells get exactly nothing, as a boolean mask.

        Returns:
            bool, shape (head, query, key), True where the bias is −∞.

        >>> RelativeBias(1, max_distance=2).blocked(3).int().tolist()
        [[[0, 1, 1], [0, 0, 1], [0, 0, 0]]]
        """
        return self(query_len, key_len).isneginf()

    def _never(self, distance: Tensor) -> Tensor:
        return distance < 0

    def _distance(self, query_len: int, key_len: int | None) -> Tensor:
        """How far back each key lies, shape (query, key)."""
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
    """Lower the score by so much per step back, with a slope per head that learns.

    The slopes start where ALiBi fixes them for a power of two of heads, 2^(−8h/H) for h = 1 … H,
    and stay above 0 by a softplus. Source: Press et al., "Train short, test long", 2022; slopes
    that learn: Chi et al., "KERPLE", 2022.

    >>> decay = DistanceDecay(2)
    >>> [round(slope, 4) for slope in decay.slopes.tolist()]
    [0.0625, 0.0039]
    >>> decay(2)[0].isneginf().tolist()
    [[False, True], [False, False]]
    """

    def __init__(self, num_heads: int):
        super().__init__(num_heads)
        slopes = 2 ** (-8 * torch.arange(1, num_heads + 1) / num_heads)
        self.logits = nn.Parameter(slopes.expm1().log())  # the softplus, undone

    @property
    def slopes(self) -> Tensor:
        """How much each head takes off per step, shape (head,)."""
        return F.softplus(self.logits)

    def _at(self, distance: Tensor) -> Tensor:
        return 0.0 - self.slopes[:, None, None] * distance  # from 0: the negative of 0 is −0


class RelativeBias(_DistanceBias):
    """Raise or lower the score by a number per head and distance.

    All start at 0. Source: Raffel et al., "Exploring the limits of transfer learning" (T5), 2020,
    who let several far distances share a number.

    Args:
        max_distance: the last distance with a number of its own, at least 0; all farther ones share
            it.

    >>> bias = RelativeBias(3, max_distance=4)
    >>> bias.table.shape, bias(6).shape
    (torch.Size([3, 5]), torch.Size([3, 6, 6]))
    """

    def __init__(self, num_heads: int, max_distance: int):
        super().__init__(num_heads)
        self.max_distance = check_size("max_distance", max_distance, minimum=0)
        self.table = nn.Parameter(torch.zeros(num_heads, max_distance + 1))

    def _at(self, distance: Tensor) -> Tensor:
        return self.table[:, distance.clamp(0, self.max_distance)]


class AdaptiveSpan(_DistanceBias):
    """Let each head learn how far back it looks; beyond that it is blocked exactly.

    span = max_span · sigmoid(logit), so that there is a slope everywhere; the article clamps a
    share of max_span. Source: Sukhbaatar et al., "Adaptive attention span in transformers", 2019.

    Args:
        max_span: the largest span, at least 1.
        ramp: over how many steps the gate closes, at least 1.
        span: where every head starts, between 0 and ``max_span``; half of it if not given. Begin
            wide: a short span may not find its way up against a penalty.

    >>> span = AdaptiveSpan(1, max_span=2, ramp=1)
    >>> span.spans.tolist(), span(3)[0, -1].tolist(), span.keys_kept().tolist()
    ([1.0], [-inf, 0.0, 0.0], [2])
    """

    def __init__(self, num_heads: int, max_span: int, ramp: int, *, span: float | None = None):
        super().__init__(num_heads)
        self.max_span, self.ramp = check_size("max_span", max_span), check_size("ramp", ramp)
        span = self.max_span / 2 if span is None else _between("span", span, self.max_span)
        self.logits = nn.Parameter(torch.full((num_heads,), span / self.max_span).logit())

    @property
    def spans(self) -> Tensor:
        """Up to which distance each head's gate is wide open, shape (head,)."""
        return self.max_span * torch.sigmoid(self.logits)

    def gates(self, query_len: int, key_len: int | None = None) -> Tensor:
        """Give the gates themselves.

        Returns:
            shape (head, query, key), 0 to 1; 0 in the future.

        >>> AdaptiveSpan(1, max_span=2, ramp=2).gates(1, 4).tolist()
        [[[0.0, 0.5, 1.0, 1.0]]]
        """
        distance = self._distance(query_len, key_len)
        return self._gate(distance).masked_fill(distance < 0, 0.0)

    def keys_kept(self) -> Tensor:
        """Count how many of the newest keys each head can see, its own token included.

        Returns:
            integer, shape (head,), what a cache of that head must keep.

        >>> AdaptiveSpan(2, max_span=6, ramp=2).keys_kept().tolist()
        [5, 5]
        """
        with torch.no_grad():
            distance = torch.arange(self.max_span + self.ramp, device=self.logits.device)
            return (self._gate(distance[None]) > 0).sum(dim=(1, 2))

    def penalty(self) -> Tensor:
        """Give what a loss should add, times a price, so that heads look no farther than useful.

        Returns:
            shape (), the mean span, in tokens.

        >>> AdaptiveSpan(2, max_span=6, ramp=2).penalty().item()
        3.0
        """
        return self.spans.mean()

    def _gate(self, distance: Tensor) -> Tensor:
        return span_gate(distance, self.spans[:, None, None], self.ramp)

    def _at(self, distance: Tensor) -> Tensor:
        return gate_to_bias(self._gate(distance))


class LearnedMask(_DistanceBias):
    """Learn for each head and distance whether to look there: a gate that can be made hard.

    The own token is always seen, its gate is 1. Farther back than ``max_distance`` is blocked.

    gate = sigmoid(logit), bias = log gate. A softmax sees only the ratios of the gates; the own
    token's 1 fixes their scale. Source: the paper, §11, "learnable masks".

    Args:
        max_distance: the farthest key with a gate, at least 0.
        future: how many steps into the future have a gate as well. For showing what goes wrong.
        gate: where all gates start, between 0 and 1.

    >>> mask = LearnedMask(1, max_distance=2)
    >>> mask.distances.tolist(), mask.gates().tolist()
    ([0, 1, 2], [[1.0, 0.5, 0.5]])
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
        """Give the gates, one per head and distance.

        Returns:
            shape (head, distance), in the order of ``distances``; 1 at distance 0.

        >>> LearnedMask(1, max_distance=1, future=1, gate=0.25).gates().tolist()
        [[0.25, 1.0, 0.25]]
        """
        return self._with_own(torch.sigmoid(self.logits), 1.0)

    def penalty(self) -> Tensor:
        """Give what a loss should add, times a price, so that gates close unless they are needed.

        Returns:
            shape (), the sum of a head's gates, the own token's left out, averaged over the heads.

        >>> LearnedMask(2, max_distance=4).penalty().item()
        2.0
        """
        return torch.sigmoid(self.logits).sum(dim=1).mean()

    def open_distances(self, threshold: float = 0.5) -> list[list[int]]:
        """List which distances stay open when each gate is made hard.

        Args:
            threshold: between 0 and 1; a gate below it closes.

        Returns:
            One per head; negative ones lie in the future.

        >>> LearnedMask(1, max_distance=2).open_distances(), LearnedMask(1, 2).open_distances(0.6)
        ([[0, 1, 2]], [[0]])
        """
        is_open = self.gates() >= _between("threshold", threshold)
        return [self.distances[row].tolist() for row in is_open]

    def harden(
        self, query_len: int, key_len: int | None = None, *, threshold: float = 0.5
    ) -> Tensor:
        """Make the gates hard: a boolean mask that blocks exactly.

        Args:
            threshold: between 0 and 1; a gate below it closes.

        Returns:
            bool, shape (head, query, key), True where the query may not look. Every token sees
            itself.

        >>> LearnedMask(1, max_distance=2).harden(3, threshold=0.6).int().tolist()
        [[[0, 1, 1], [1, 0, 1], [1, 1, 0]]]
        """
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
        """Put the own token between the future and the past."""
        middle = learned.new_full((self.num_heads, 1), own)
        return torch.cat([learned[:, : self.future], middle, learned[:, self.future :]], dim=1)


def _between(name: str, number: float, most: float = 1) -> float:
    is_number = isinstance(number, int | float) and not isinstance(number, bool)
    if not is_number or not 0 < number < most:
        raise ValueError(f"{name} must lie between 0 and {most}, both excluded, got {number!r}")
    return float(number)
