"""The exercises of notebook 15: a soft mask's leak, a mask made hard."""

import torch
from torch import Tensor

from causal_lab.exercises.frame import Exercise, Misconception, checker
from causal_lab.masks.soft import soft_leak


def _lowered(scores: Tensor, t: int, by: float) -> Tensor:
    """Lower the scores of the tokens after the t-th."""
    future = torch.arange(len(scores)) >= t
    return torch.where(future, scores - by, scores)


def _weights(scores: Tensor, t: int, by: float) -> Tensor:
    return torch.softmax(_lowered(scores, t, by), -1)


def _set_to_depth(scores: Tensor, t: int, depth: float) -> Tensor:
    lowered = torch.where(torch.arange(len(scores)) >= t, -depth, scores)
    return torch.softmax(lowered, -1)[t:].sum()


def _by_exponentials(scores: Tensor, t: int, depth: float) -> Tensor:
    past, future = scores[:t].exp().sum(), (scores[t:] - depth).exp().sum()
    return future / (past + future)


SOFT_LEAK_OF_ROW = Exercise(
    name="soft_leak_of_row",
    level="easy",
    minutes=4,
    solutions=[
        """
        def soft_leak_of_row(scores, t, depth):
            lowered = torch.cat([scores[:t], scores[t:] - depth])
            return lowered.softmax(dim=-1)[t:].sum()
        """,
        """
        def soft_leak_of_row(scores, t, depth):
            scores = scores - scores.max()
            past, future = scores[:t].exp().sum(), (scores[t:] - depth).exp().sum()
            return future / (past + future)
        """,
        """
        def soft_leak_of_row(scores, t, depth):
            lowered = scores.clone()
            lowered[t:] -= depth
            return 1 - lowered.softmax(-1)[:t].sum()
        """,
    ],
    cases=[
        (torch.tensor([0.0, 0.0]), 1, 1.0),
        (torch.tensor([0.0, 0.0, 0.0]), 1, 2.0),
        (torch.tensor([2.0, 0.5, -1.0, 1.0]), 2, 0.5),
        (torch.tensor([1.0, -0.5, 3.0, 2.0, 0.0]), 2, 3.0),
        (torch.tensor([100.0, 101.0, 99.0]), 1, 1.0),
    ],
    misconceptions=[
        Misconception(
            "sign",
            "You raise the scores of the future by the depth, or lower those that may be seen, "
            "which comes to the same. A mask lowers the future: scores[t:] − depth.",
            lambda scores, t, depth: _weights(scores, t, -depth)[t:].sum(),
        ),
        Misconception(
            "everyone lowered",
            "Your answer does not depend on the depth: it is missing, or it is taken from all "
            "scores, which a softmax does not notice. Lower the tokens after the t-th, no others.",
            lambda scores, t, depth: torch.softmax(scores, -1)[t:].sum(),
        ),
        Misconception(
            "hard mask",
            "You put −∞ where a finite depth should stand. That is the hard mask, whose leak is "
            "exactly 0; here e^(−depth) of the future remains.",
            lambda scores, t, depth: _weights(scores, t, float("inf"))[t:].sum(),
        ),
        Misconception(
            "not renormalised",
            "You take the softmax first and shrink the weights of the future by e^(−depth). The "
            "row no longer sums to 1. Lower the scores, then take the softmax.",
            lambda scores, t, depth: (
                torch.softmax(scores, -1)[t:].sum() * torch.exp(torch.tensor(-depth))
            ),
        ),
        Misconception(
            "one token late",
            "You begin the future one token too late: t tokens are visible, with the indices 0 to "
            "t − 1, so the future is scores[t:].",
            lambda scores, t, depth: _weights(scores, t + 1, depth)[t + 1 :].sum(),
        ),
        Misconception(
            "one token early",
            "You begin the future one token too early, and the t-th token counts as its own "
            "future. It may see itself: the future is scores[t:].",
            lambda scores, t, depth: _weights(scores, t - 1, depth)[t - 1 :].sum(),
        ),
        Misconception(
            "the past",
            "That is the weight on what may be seen. The leak is the rest of the row.",
            lambda scores, t, depth: _weights(scores, t, depth)[:t].sum(),
        ),
        Misconception(
            "largest instead of all",
            "You return the largest weight in the future. A row leaks all of them: add them up.",
            lambda scores, t, depth: _weights(scores, t, depth)[t:].max(),
        ),
        Misconception(
            "equal scores",
            "You use the formula for equal scores. This row has scores of its own, so count "
            "exponentials, not tokens.",
            lambda scores, t, depth: soft_leak(len(scores), t, torch.tensor(depth)),
        ),
        Misconception(
            "multiplied",
            "You multiply the future's scores by the depth. A score of 0 then stays where it is, "
            "and a negative one is pushed the other way. Subtract the depth.",
            lambda scores, t, depth: torch.softmax(torch.cat([scores[:t], scores[t:] * depth]), -1)[
                t:
            ].sum(),
        ),
        Misconception(
            "set to the depth",
            "You set the scores of the future to −depth. Lower them *by* the depth: what they were"
            " still counts.",
            _set_to_depth,
        ),
        Misconception(
            "overflow",
            "Right for small scores, but exponentials of large ones overflow, and ∞/∞ is NaN. Use "
            "torch.softmax, or subtract the largest first.",
            _by_exponentials,
        ),
    ],
)


def _future(theta: Tensor) -> Tensor:
    return torch.ones_like(theta).triu(1).bool()


def _self(theta: Tensor) -> Tensor:
    return torch.eye(len(theta)).bool()


def _closed(theta: Tensor, threshold: float) -> Tensor:
    return torch.sigmoid(theta) < threshold


def _hardened(theta: Tensor, closed: Tensor) -> Tensor:
    return (closed & ~_self(theta)) | _future(theta)


HARDEN = Exercise(
    name="harden",
    level="medium",
    minutes=6,
    solutions=[
        """
        def harden(theta, threshold):
            closed = torch.sigmoid(theta) < threshold
            return closed.fill_diagonal_(False) | torch.ones_like(theta).triu(1).bool()
        """,
        """
        def harden(theta, threshold):
            closed = torch.sigmoid(theta) < threshold
            itself = torch.eye(len(theta)).bool()
            return (closed & ~itself) | torch.ones_like(theta).triu(1).bool()
        """,
    ],
    cases=[
        (torch.tensor([[-3.0, 1.0], [0.3, -2.0]]), 0.5),
        (torch.tensor([[1.0, 2.0, 0.5], [-2.0, -1.0, 3.0], [0.2, 1.5, 2.0]]), 0.6),
        (
            torch.tensor(
                [
                    [-1.0, 2.0, -2.0, 1.0],
                    [0.0, 0.7, 1.0, -1.0],
                    [-4.0, 0.4, -0.5, 2.0],
                    [0.6, -0.2, 3.0, -3.0],
                ]
            ),
            0.5,
        ),
        (torch.tensor([[0.5, 0.1, 0.1], [1.2, -1.0, -5.0], [-1.5, 0.1, -1.0]]), 0.2),
        (torch.tensor([[0.5, 0.1], [-1.2, -3.0]]), 0.0),
    ],
    misconceptions=[
        Misconception(
            "logits compared",
            "You compare θ itself with the threshold. θ is a logit, any number at all; the "
            "threshold is a probability. Take torch.sigmoid(theta) first.",
            lambda theta, threshold: _hardened(theta, theta < threshold),
        ),
        Misconception(
            "polarity",
            "Your mask is True where the query may look. Here True means blocked: turn it round.",
            lambda theta, threshold: ~_hardened(theta, _closed(theta, threshold)),
        ),
        Misconception(
            "likely is blocked",
            "You block the keys with a high probability. The gate says how likely a key is to be "
            "let through: block where it lies below the threshold.",
            lambda theta, threshold: _hardened(theta, torch.sigmoid(theta) >= threshold),
        ),
        Misconception(
            "future forgotten",
            "Your mask follows the gates into the future. What was learned may be anything; "
            "causality is a promise: block the whole future, whatever θ says.",
            lambda theta, threshold: _closed(theta, threshold) & ~_self(theta),
        ),
        Misconception(
            "diagonal forgotten",
            "A gate may close a token to itself, and a query can end up seeing nothing at all. "
            "Open the diagonal afterwards.",
            lambda theta, threshold: _closed(theta, threshold) | _future(theta),
        ),
        Misconception(
            "both forgotten",
            "You have only compared with the threshold. Two promises remain: the future is "
            "blocked, and every token sees itself.",
            _closed,
        ),
        Misconception(
            "the past blocked",
            "You block below the diagonal. Rows are queries, columns keys: the future lies above, "
            "triu(1).",
            lambda theta, threshold: (_closed(theta, threshold) & ~_self(theta)) | _future(theta).T,
        ),
        Misconception(
            "diagonal blocked",
            "Your future begins with the token itself: triu() without a 1 has the diagonal in it. "
            "A token may always see itself.",
            lambda theta, threshold: (
                _closed(theta, threshold) | torch.ones_like(theta).triu().bool()
            ),
        ),
        Misconception(
            "the limit itself",
            "You block a gate that lies exactly at the threshold. It is not below it: θ = 0 has "
            "probability 0.5, and with a threshold of 0.5 it stays open.",
            lambda theta, threshold: _hardened(theta, torch.sigmoid(theta) <= threshold),
        ),
        Misconception(
            "softmax of the row",
            "You take a softmax of θ along the row. Gates do not share anything: each key has a "
            "probability of its own, a sigmoid.",
            lambda theta, threshold: _hardened(theta, torch.softmax(theta, -1) < threshold),
        ),
        Misconception(
            "additive",
            "You return the matrix that is added to the scores. Here the boolean mask is wanted, "
            "True where blocked.",
            lambda theta, threshold: torch.zeros_like(theta).masked_fill(
                _hardened(theta, _closed(theta, threshold)), float("-inf")
            ),
        ),
    ],
    axes=("query", "key"),
)

check = checker(SOFT_LEAK_OF_ROW, HARDEN)
