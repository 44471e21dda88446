"""The exercises of notebook 04: the axis, the shift, the temperature, the entropy."""

import math

import torch
from torch import Tensor

from causal_lab.attention.softmax import entropy
from causal_lab.exercises.frame import Exercise, Misconception, checker


def _naive(scores: Tensor, dim: int = -1) -> Tensor:
    exponentials = scores.exp()
    return exponentials / exponentials.sum(dim, keepdim=True)


def _shifted(scores: Tensor) -> Tensor:
    return scores - scores.amax(-1, keepdim=True)


ROW_SOFTMAX = Exercise(
    name="row_softmax",
    level="medium",
    minutes=5,
    solutions=[
        """
        def row_softmax(scores):
            shifted = scores - scores.amax(-1, keepdim=True)
            exponentials = shifted.exp()
            return exponentials / exponentials.sum(-1, keepdim=True)
        """,
        """
        def row_softmax(scores):
            exponentials = (scores - scores.amax(-1, keepdim=True)).exp()
            return exponentials / exponentials.sum(-1, keepdim=True)
        """,
    ],
    cases=[
        (torch.tensor([[0.0, 1.0]]),),
        (torch.tensor([[0.0, 1.0], [2.0, -1.0]]),),
        (torch.tensor([[1000.0, 999.0]]),),
        (torch.tensor([[0.0, 0.0], [1000.0, 1000.0]]),),
        (torch.tensor([[1000.0, 0.0, 0.0, 0.0]]),),
    ],
    misconceptions=[
        Misconception(
            "overflow",
            "Right for small scores, but e¹⁰⁰⁰ overflows, and ∞/∞ is NaN. Subtract the largest "
            "score of the row first: the weights stay the same.",
            _naive,
        ),
        Misconception(
            "columns",
            "Your columns sum to 1, not your rows. A query shares its weight among its keys: the "
            "last axis.",
            lambda scores: torch.softmax(scores, 0),
        ),
        Misconception(
            "one sum for all",
            "Your whole matrix sums to 1. Each row shares a weight of 1 of its own: "
            "sum(-1, keepdim=True).",
            lambda scores: torch.softmax(scores.flatten(), -1).reshape(scores.shape),
        ),
        Misconception(
            "keepdim forgotten",
            "Your sums lost an axis: without keepdim=True the sums of the rows are laid along the "
            "columns.",
            lambda scores: _shifted(scores).exp() / _shifted(scores).exp().sum(-1),
        ),
        Misconception(
            "not divided",
            "You take the exponentials and stop there. Divide each row by its sum.",
            lambda scores: _shifted(scores).exp(),
        ),
        Misconception(
            "largest of all",
            "You subtract the largest score of the whole matrix. A row far below it underflows: "
            "all its exponentials become 0, and 0/0 is NaN. Each row needs its own maximum.",
            lambda scores: _naive(scores - scores.max()),
        ),
        Misconception(
            "mean",
            "You subtract the mean of the row, or something else below its maximum. A large score "
            "still stands far above it and overflows; above the maximum stands nothing.",
            lambda scores: _naive(scores - scores.mean(-1, keepdim=True)),
        ),
        Misconception(
            "divided by the maximum",
            "You divide by the largest score. That changes the distances between scores, and so "
            "the weights; only subtracting leaves them alone.",
            lambda scores: _naive(scores / scores.amax(-1, keepdim=True)),
        ),
        Misconception(
            "clamped",
            "You cut large scores down to one limit, so that different ones count the same. "
            "Subtract the largest of the row instead: the distances stay.",
            lambda scores: _naive(scores.clamp(max=80.0)),
        ),
    ],
    axes=("query", "key"),
    forbidden={
        name: f"they come from torch's own {name}. Write it without: exponentials, and their sum."
        for name in ("softmax", "log_softmax", "softmin")
    },
    tolerance=1e-4,  # logsumexp at 1000 rounds so
)

AT_TEMPERATURE = Exercise(
    name="at_temperature",
    level="easy",
    minutes=3,
    solutions=[
        """
        def at_temperature(scores, temperature):
            return torch.softmax(scores / temperature, -1)
        """,
        """
        def at_temperature(scores, temperature):
            shifted = (scores - scores.max()) / temperature
            return shifted.exp() / shifted.exp().sum()
        """,
    ],
    cases=[
        (torch.tensor([0.0, 2.0]), 2.0),
        (torch.tensor([0.0, 2.0]), 0.5),
        (torch.tensor([-1.0, 0.5, 2.0]), 4.0),
        (torch.tensor([0.0, 2.0]), 0.01),
    ],
    misconceptions=[
        Misconception(
            "multiplied",
            "You multiply by the temperature: hotter becomes sharper. Heat spreads out: divide.",
            lambda scores, temperature: torch.softmax(scores * temperature, -1),
        ),
        Misconception(
            "forgotten",
            "Your answer does not change with the temperature: it is missing, or you subtract it "
            "from all scores, or divide all weights and make them sum to 1 again. What counts is "
            "how far the scores are apart: divide them, before the softmax.",
            lambda scores, temperature: torch.softmax(scores, -1),
        ),
        Misconception(
            "weights divided",
            "You divide the weights, after the softmax. They no longer sum to 1. The temperature "
            "belongs to the scores.",
            lambda scores, temperature: torch.softmax(scores, -1) / temperature,
        ),
        Misconception(
            "weights multiplied",
            "You multiply the weights, after the softmax. They no longer sum to 1. The temperature "
            "belongs to the scores.",
            lambda scores, temperature: torch.softmax(scores, -1) * temperature,
        ),
        Misconception(
            "power",
            "You raise the scores to a power. Divide them: temperature works on distances.",
            lambda scores, temperature: torch.softmax(scores**temperature, -1),
        ),
        Misconception(
            "physics",
            "You flip the sign, as physics does with energies, where low is likely. A high score "
            "means more weight: no minus.",
            lambda scores, temperature: torch.softmax(-scores / temperature, -1),
        ),
        Misconception(
            "not renormalised",
            "You raise the weights to the power 1/temperature. That is the right idea, but the row "
            "must be made to sum to 1 again.",
            lambda scores, temperature: torch.softmax(scores, -1) ** (1 / temperature),
        ),
        Misconception(
            "weights to a power",
            "You raise the weights to the temperature. It is the inverse that belongs there, and "
            "the row must be made to sum to 1 again. Dividing the scores does both.",
            lambda scores, temperature: torch.softmax(scores, -1) ** temperature,
        ),
        Misconception(
            "overflow",
            "Right for scores near 0. Divided by a small temperature a score grows large, its "
            "exponential overflows, and ∞/∞ is NaN. torch.softmax knows how to avoid it: it "
            "subtracts the largest first.",
            lambda scores, temperature: _naive(scores / temperature),
        ),
        Misconception(
            "drawn",
            "You draw one of the places. Wanted are the weights by which one would draw.",
            lambda scores, temperature: scores.argmax(-1, keepdim=True),
            lambda got, due: not got.is_floating_point() and got.numel() == 1,
        ),
    ],
)

ROW_ENTROPY = Exercise(
    name="row_entropy",
    level="medium",
    minutes=4,
    solutions=[
        """
        def row_entropy(weights):
            return torch.special.entr(weights).sum(-1)
        """,
        """
        def row_entropy(weights):
            return -torch.xlogy(weights, weights).sum(-1)
        """,
        """
        def row_entropy(weights):
            return torch.where(weights > 0, -weights * weights.log(), 0.0).sum(-1)
        """,
    ],
    cases=[
        (torch.tensor([[0.5, 0.5], [0.25, 0.75]]),),
        (torch.tensor([[0.25, 0.25, 0.5], [0.0, 0.5, 0.5]]),),
        (torch.tensor([0.25, 0.75]),),
    ],
    misconceptions=[
        Misconception(
            "0 · log 0",
            "Right until a weight is 0: 0 · ln 0 is NaN for the machine, 0 for the formula. "
            "torch.special.entr and torch.xlogy know that.",
            lambda weights: -(weights * weights.log()).sum(-1),
        ),
        Misconception(
            "sign",
            "Your entropy is negative: ln of a weight below 1 is negative, so the sum needs a "
            "minus.",
            lambda weights: -entropy(weights),
        ),
        Misconception(
            "softmax again",
            "You take a softmax of the weights first. They are weights already: they sum to 1.",
            lambda weights: entropy(torch.softmax(weights, -1)),
        ),
        Misconception(
            "bits",
            "You measure in bits (log2). Here the unit is the nat: the natural logarithm, so that "
            "exp of the entropy counts keys.",
            lambda weights: entropy(weights) / math.log(2),
        ),
        Misconception(
            "mean",
            "You average over the keys instead of adding up. Then a row of 100 equal weights would "
            "seem more certain than a row of 2.",
            lambda weights: entropy(weights) / weights.shape[-1],
        ),
        Misconception(
            "effective keys",
            "You return the exponential of the entropy, the effective number of keys. The entropy "
            "is its logarithm.",
            lambda weights: entropy(weights).exp(),
        ),
    ],
)

check = checker(ROW_SOFTMAX, AT_TEMPERATURE, ROW_ENTROPY)
