"""Masks that are trained: a slope, a span or a gate per distance, each a bias on the scores.

All of them answer one question, how far a token may look, and all of them leave the question
whether it may look *ahead* to the causal mask, unless they are told to learn that, too.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from causal_lab.checks import check_size
from causal_lab.masks import generate_causal_mask
from causal_lab.soft_masks import gate_to_bias, span_gate


class DistanceDecay(nn.Module):
    """Learn per head how much a step of distance costs: ALiBi with slopes that are trained.

    Parameters
    ----------
    num_heads : int
        Heads, at least 1.
    slope : float, default 0.5
        Of every head at first; above 0.

    Raises
    ------
    ValueError
        If ``num_heads`` is not an integer of at least 1, or ``slope`` not above 0.

    Notes
    -----
    Source: Press et al., "Train short, test long", 2022; with learned parameters Chi et al.,
    "KERPLE", 2022. A softplus keeps the slopes above 0.

    Examples
    --------
    >>> DistanceDecay(1)(3)[0].tolist()
    [[0.0, -inf, -inf], [-0.5, 0.0, -inf], [-1.0, -0.5, 0.0]]
    """

    def __init__(self, num_heads: int, slope: float = 0.5):
        super().__init__()
        num_heads = check_size("num_heads", num_heads)
        if not isinstance(slope, int | float) or not 0 < slope < math.inf:
            raise ValueError(f"slope must be a number above 0, got {slope!r}")
        raw = slope + math.log(-math.expm1(-slope))  # the inverse of softplus
        self.raw_slopes = nn.Parameter(torch.full((num_heads,), raw))

    @property
    def slopes(self) -> Tensor:
        """What each head takes off per step, above 0, shape (head,)."""
        return F.softplus(self.raw_slopes)

    def forward(self, T: int) -> Tensor:
        """Make the bias for T tokens.

        Parameters
        ----------
        T : int
            Number of tokens, at least 1.

        Returns
        -------
        Tensor, shape (head, query, key) = (head, T, T)
            −slope · distance for the past, −∞ for the future.

        Raises
        ------
        ValueError
            If ``T`` is not an integer of at least 1.

        Examples
        --------
        >>> DistanceDecay(2)(5).shape
        torch.Size([2, 5, 5])
        """
        distance = _distances(T, self.raw_slopes.device)
        bias = -self.slopes[:, None, None] * distance.clamp_min(0)
        return _without_future(bias + 0.0)  # + 0: no −0


class AdaptiveSpan(nn.Module):
    """Learn per head how far back it looks; what lies beyond is blocked exactly.

    Parameters
    ----------
    num_heads : int
        Heads, at least 1.
    max_span : int
        The farthest distance that a span may reach, at least 1.
    ramp : float, default 4.0
        Over how many steps of distance a gate closes; above 0.
    span : float, optional
        Of every head at first; ``max_span`` if not given.

    Raises
    ------
    ValueError
        If a number is out of range.

    Notes
    -----
    Source: Sukhbaatar et al., "Adaptive attention span in transformers", 2019. There the gate
    multiplies the exponential of the score; adding its logarithm to the score is the same.

    Examples
    --------
    >>> span = AdaptiveSpan(1, max_span=8, ramp=2.0, span=0.0)
    >>> span(4)[0].exp()[3].tolist()
    [0.0, 0.0, 0.5, 1.0]
    >>> span.reach.tolist()
    [1]
    """

    def __init__(
        self, num_heads: int, max_span: int, *, ramp: float = 4.0, span: float | None = None
    ):
        super().__init__()
        num_heads, self.max_span = (
            check_size("num_heads", num_heads),
            check_size("max_span", max_span),
        )
        if not isinstance(ramp, int | float) or not 0 < ramp < math.inf:
            raise ValueError(f"ramp must be a number above 0, got {ramp!r}")
        span = max_span if span is None else span
        if not isinstance(span, int | float) or not 0 <= span <= max_span:
            raise ValueError(f"span must lie between 0 and max_span={max_span}, got {span!r}")
        self.ramp = ramp
        # As a share of the largest: steps of an optimiser then mean the same for every size.
        self.share = nn.Parameter(torch.full((num_heads,), float(span) / max_span))

    @property
    def spans(self) -> Tensor:
        """Up to which distance each head's gate is open, 0 to ``max_span``, shape (head,)."""
        return self.max_span * self.share.clamp(0, 1)

    @property
    def reach(self) -> Tensor:
        """The farthest distance that each head can still see, integer, shape (head,)."""
        return (self.spans.detach() + self.ramp).ceil().long() - 1

    def forward(self, T: int) -> Tensor:
        """Make the bias for T tokens.

        Parameters
        ----------
        T : int
            Number of tokens, at least 1.

        Returns
        -------
        Tensor, shape (head, query, key) = (head, T, T)
            The logarithm of the gate; −∞ beyond the ramp and for the future.

        Raises
        ------
        ValueError
            If ``T`` is not an integer of at least 1.

        Examples
        --------
        >>> AdaptiveSpan(2, max_span=8)(5).shape
        torch.Size([2, 5, 5])
        """
        distance = _distances(T, self.share.device).clamp_min(0)
        gate = span_gate(distance, self.spans[:, None, None], self.ramp)
        return _without_future(gate_to_bias(gate))

    def penalty(self) -> Tensor:
        """Say what the spans cost; add a little of it to the loss, and they shrink.

        Returns
        -------
        Tensor, shape ()
            Mean of the spans. Where a span was pushed below 0 it pulls no more.

        Examples
        --------
        >>> AdaptiveSpan(2, max_span=8, span=6.0).penalty().item()
        6.0
        """
        return self.spans.mean()


class LearnedMask(nn.Module):
    """Learn a gate for every distance, to be made a hard mask when training is over.

    Parameters
    ----------
    farthest : int
        The farthest distance back that has a gate; beyond, everything is blocked.
    ahead : int, default 0
        How many places of the *future* have a gate, too. 0 keeps the causal mask; anything else
        lets the training decide, and it will decide to look.
    logit : float, default 0.0
        Of every gate at first; 0 is half open.

    Raises
    ------
    ValueError
        If a number is out of range.

    Notes
    -----
    A row of weights sums to 1, so only the *ratio* of two gates counts: gates are compared with
    the largest one. Source: the paper, §11.

    Examples
    --------
    >>> mask = LearnedMask(farthest=1)
    >>> mask(3).exp().tolist()
    [[0.5, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]
    >>> mask.open_distances()
    [0, 1]
    """

    def __init__(self, farthest: int, *, ahead: int = 0, logit: float = 0.0):
        super().__init__()
        self.farthest = check_size("farthest", farthest, minimum=0)
        self.ahead = check_size("ahead", ahead, minimum=0)
        self.logits = nn.Parameter(torch.full((self.ahead + self.farthest + 1,), float(logit)))

    @property
    def distances(self) -> Tensor:
        """The distances that have a gate, from the farthest ahead, −``ahead``, on."""
        return torch.arange(-self.ahead, self.farthest + 1, device=self.logits.device)

    @property
    def gates(self) -> Tensor:
        """How far each distance is open, 0 to 1, in the order of :attr:`distances`."""
        return self.logits.sigmoid()

    def forward(self, T: int) -> Tensor:
        """Make the bias for T tokens.

        Parameters
        ----------
        T : int
            Number of tokens, at least 1.

        Returns
        -------
        Tensor, shape (query, key) = (T, T)
            The logarithm of the gate; −∞ where there is none.

        Raises
        ------
        ValueError
            If ``T`` is not an integer of at least 1.

        Examples
        --------
        >>> LearnedMask(farthest=3, ahead=1)(5).isinf().int()[0].tolist()
        [0, 0, 1, 1, 1]
        """
        distance = _distances(T, self.logits.device)
        place = (distance + self.ahead).clamp(0, len(self.logits) - 1)
        bias = F.logsigmoid(self.logits)[place]
        return bias.masked_fill(self._has_no_gate(distance), -math.inf)

    def open_distances(self, threshold: float = 0.5) -> list[int]:
        """List the distances whose gate is open, compared with the widest.

        Parameters
        ----------
        threshold : float, default 0.5
            Share of the widest gate, above 0 and at most 1.

        Returns
        -------
        list of int
            Negative numbers are places ahead.

        Raises
        ------
        ValueError
            If ``threshold`` is out of range.

        Examples
        --------
        >>> LearnedMask(farthest=2).open_distances()
        [0, 1, 2]
        """
        if not isinstance(threshold, int | float) or not 0 < threshold <= 1:
            raise ValueError(f"threshold must lie above 0 and be at most 1, got {threshold!r}")
        gates = self.gates.detach()
        return self.distances[gates >= threshold * gates.max()].tolist()

    def harden(self, T: int, threshold: float = 0.5) -> Tensor:
        """Make the boolean mask of the open gates.

        Parameters
        ----------
        T : int
            Number of tokens, at least 1.
        threshold : float, default 0.5
            As for :meth:`open_distances`.

        Returns
        -------
        Tensor, bool, shape (query, key) = (T, T)
            True where the query may not look. A first token whose open distances all lie before
            the text sees nothing, and gets zeros.

        Raises
        ------
        ValueError
            If ``T`` or ``threshold`` is out of range.

        Examples
        --------
        >>> LearnedMask(farthest=1).harden(3).int().tolist()
        [[0, 1, 1], [0, 0, 1], [1, 0, 0]]
        """
        distance = _distances(T, self.logits.device)
        is_open = torch.tensor(self.open_distances(threshold), device=distance.device)
        return ~torch.isin(distance, is_open)

    def _has_no_gate(self, distance: Tensor) -> Tensor:
        return (distance < -self.ahead) | (distance > self.farthest)


def _distances(T: int, device: torch.device) -> Tensor:
    """How many places each key lies before its query; negative for the future."""
    position = torch.arange(check_size("T", T), device=device)
    return position[:, None] - position


def _without_future(bias: Tensor) -> Tensor:
    blocked = generate_causal_mask(bias.shape[-1], bias.device)
    return bias.masked_fill(blocked, -math.inf)
