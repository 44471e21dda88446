"""The exercises of notebook 02: the matrix M, the opposite polarity."""

import torch
from torch import Tensor

from causal_lab.exercises.frame import Exercise, Misconception, checker
from causal_lab.masks.rules import generate_incremental_mask

_INFINITY = float("inf")


def _filled(blocked: Tensor, fill: float = -_INFINITY) -> Tensor:
    return torch.zeros(blocked.shape).masked_fill(blocked, fill)


def _ones(T: int) -> Tensor:
    return torch.ones(T, T)


CAUSAL_LOGIT_MASK = Exercise(
    name="causal_logit_mask",
    level="easy",
    minutes=4,
    solutions=[
        """
        def causal_logit_mask(T):
            blocked = torch.ones(T, T).triu(diagonal=1).bool()
            return torch.zeros(T, T).masked_fill(blocked, float("-inf"))
        """,
        """
        def causal_logit_mask(T):
            return torch.full((T, T), float('-inf')).triu(1)
        """,
        """
        def causal_logit_mask(T):
            positions = torch.arange(T)
            return torch.zeros(T, T).masked_fill(positions > positions[:, None], float('-inf'))
        """,
    ],
    cases=[(1,), (2,), (3,), (5,)],
    misconceptions=[
        Misconception(
            "0 · ∞",
            "You multiply a 0/1 matrix by −∞. Where the matrix is 0 this gives 0 · −∞ = NaN. Fill, "
            "do not multiply: masked_fill.",
            lambda T: _ones(T).triu(1) * -_INFINITY,
        ),
        Misconception(
            "diagonal blocked",
            "You block the diagonal too: no token may look at itself, and the first one sees "
            "nothing at all. triu(diagonal=1) begins above the diagonal.",
            lambda T: _filled(_ones(T).triu(0).bool()),
        ),
        Misconception(
            "one off",
            "You block from the second diagonal on: each token still sees the next one, the one it "
            "has to guess.",
            lambda T: _filled(_ones(T).triu(2).bool()),
        ),
        Misconception(
            "past blocked",
            "You block the past and leave the future open. Rows are queries; the future lies to "
            "the right of the diagonal.",
            lambda T: _filled(_ones(T).tril(-1).bool()),
        ),
        Misconception(
            "past and itself blocked",
            "You block the past and the token itself: you filled where the query *may* look.",
            lambda T: _filled(_ones(T).tril().bool()),
        ),
        Misconception(
            "1 and −∞",
            "Where the query may look you left a 1, or 1s and 0s. Added to the scores it must "
            "change nothing: 0 everywhere on and below the diagonal.",
            lambda T: _ones(T).masked_fill(_ones(T).triu(1).bool(), -_INFINITY),
        ),
        Misconception(
            "lowest finite number",
            "You fill with the lowest finite number. Two such masks added, causal and padding, "
            "overflow to −∞ anyway, and a dead row looks at forbidden keys. Use −∞.",
            lambda T: _filled(_ones(T).triu(1).bool(), torch.finfo(torch.float32).min),
        ),
        Misconception(
            "finite fill",
            "You fill with a large negative number instead of −∞. It is a strong wish, not a wall: "
            "it leaks, overflows or adds up, depending on dtype and scores.",
            lambda T: _filled(_ones(T).triu(1).bool(), -1e9),
        ),
        Misconception(
            "boolean",
            "You return the boolean mask. Added to scores, True counts as 1 and makes the future a "
            "little more likely.",
            lambda T: _ones(T).triu(1).bool(),
        ),
    ],
    axes=("query", "key"),
)


def _padding(length: int, real: int) -> Tensor:
    return (torch.arange(length) >= real).repeat(length, 1)


SDPA_MASK = Exercise(
    name="sdpa_mask",
    level="easy",
    minutes=3,
    solutions=[
        """
        def sdpa_mask(blocked):
            return ~blocked
        """,
    ],
    cases=[
        (generate_incremental_mask(0, 2),),
        (generate_incremental_mask(0, 3),),
        (_padding(3, 2),),
        (generate_incremental_mask(2, 2),),
    ],
    misconceptions=[
        Misconception(
            "unchanged",
            "You pass the mask on as it is: True means blocked here, but allowed there. The model "
            "would see the future and nothing else.",
            lambda blocked: blocked,
        ),
        Misconception(
            "transposed",
            "You transpose instead of inverting. Rows stay queries and columns stay keys on both "
            "sides; only the meaning of True changes.",
            lambda blocked: blocked.transpose(0, 1),
        ),
        Misconception(
            "0 and 1 as numbers",
            "You turn the mask into floats. A floating mask is added to the scores, so a 1 on the "
            "future invites the model to look there.",
            lambda blocked: blocked.float(),
        ),
        Misconception(
            "allowed as numbers",
            "You invert the mask, but as floats: they are added to the scores, and the future only "
            "loses 1. Keep the mask boolean.",
            lambda blocked: (~blocked).float(),
        ),
        Misconception(
            "rebuilt",
            "You build a fresh triangle and forget the mask you were given. It may block padding, "
            "or be a rectangle behind a cache.",
            lambda blocked: torch.ones_like(blocked).tril(),
        ),
    ],
    axes=("query", "key"),
)

check = checker(CAUSAL_LOGIT_MASK, SDPA_MASK)
