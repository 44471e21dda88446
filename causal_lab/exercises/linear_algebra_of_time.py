"""The exercises of notebook 09: eigenvalues, and layers until the collapse."""

import math

import torch
from torch import Tensor

from causal_lab.attention.spectral import (
    distance_from_collapse,
    previous_token_attention,
    sink_attention,
    uniform_causal_attention,
    with_residual,
)
from causal_lab.exercises.frame import Exercise, Misconception, checker

MIXED = torch.tensor(
    [
        [1.0, 0.0, 0.0, 0.0],
        [0.75, 0.25, 0.0, 0.0],
        [0.25, 0.125, 0.625, 0.0],
        [0.5, 0.25, 0.125, 0.125],
    ]
)

EIGENVALUES = Exercise(
    name="eigenvalues",
    level="easy",
    minutes=2,
    solutions=[
        """
        def eigenvalues(A):
            return A.diagonal()
        """,
        """
        def eigenvalues(A):
            return torch.stack([A[i, i] for i in range(len(A))])
        """,
    ],
    cases=[
        (torch.tensor([[1.0, 0.0], [0.75, 0.25]]),),
        (MIXED[:3, :3],),
        (uniform_causal_attention(4, dtype=torch.float32),),
        (MIXED,),
    ],
    misconceptions=[
        Misconception(
            "row sums",
            "These are the sums of the rows, all of them 1. That shows that 1 is an eigenvalue: A "
            "times a column of ones is that column. The others are still to be found.",
            lambda A: A.sum(-1),
        ),
        Misconception(
            "column sums",
            "These are the sums of the columns: how much each token is looked at. They are no "
            "eigenvalues. Where do those of a triangle stand?",
            lambda A: A.sum(0),
        ),
        Misconception(
            "first column",
            "This is the first column: how much each token looks at token 0. An eigenvalue is what "
            "a token keeps of *itself*.",
            lambda A: A[:, 0],
        ),
        Misconception(
            "last row",
            "This is the row of the last token. An eigenvalue is what a token keeps of *itself*, "
            "one from each row.",
            lambda A: A[-1],
        ),
        Misconception(
            "singular values",
            "These are the singular values: how far A stretches. The largest is the 2-norm, and "
            "above 1 as soon as somebody looks back. Eigenvalues of a triangle need no algorithm.",
            lambda A: torch.linalg.svdvals(A),
        ),
        Misconception(
            "sorted upwards",
            "The right numbers, sorted. Leave them in the order of the tokens.",
            lambda A: A.diagonal().sort().values,
        ),
        Misconception(
            "sorted downwards",
            "The right numbers, from the largest down. Leave them in the order of the tokens.",
            lambda A: A.diagonal().sort(descending=True).values,
        ),
        Misconception(
            "other diagonal",
            "You took the diagonal from the other corner, lower left to upper right. What a token "
            "keeps of itself stands at A[i, i].",
            lambda A: A.flip(-1).diagonal(),
        ),
    ],
    forbidden={
        "linalg": "they come from torch.linalg. For a triangle, nothing has to be computed."
    },
)


def _first_depth(A: Tensor, reached) -> int:
    product = torch.eye(len(A), dtype=A.dtype)
    for depth in range(1000):
        if reached(product):
            return depth
        product = A @ product
    raise RuntimeError("does not end")


def _layers_until(A: Tensor, epsilon: float) -> int:
    return _first_depth(A, lambda product: distance_from_collapse(product) <= epsilon)


def _by_elementwise_power(A: Tensor, epsilon: float) -> int:
    powers = (A**depth if depth else torch.eye(len(A)) for depth in range(1000))
    return next(n for n, power in enumerate(powers) if distance_from_collapse(power) <= epsilon)


def _by_squaring(A: Tensor, epsilon: float) -> int:
    products = [torch.eye(len(A)), A]
    while distance_from_collapse(products[-1]) > epsilon:
        products.append(products[-1] @ products[-1])
    return next(n for n, P in enumerate(products) if distance_from_collapse(P) <= epsilon)


LAYERS_UNTIL = Exercise(
    name="layers_until",
    level="medium",
    minutes=6,
    solutions=[
        """
        def layers_until(A, epsilon):
            product, depth = torch.eye(len(A), dtype=A.dtype), 0
            while product[:, 1:].sum(-1).max() > epsilon:
                product, depth = A @ product, depth + 1
            return depth
        """,
        """
        def layers_until(A, epsilon):
            depth = 0
            while (1 - torch.linalg.matrix_power(A, depth)[:, 0]).max() > epsilon:
                depth = depth + 1
            return depth
        """,
    ],
    cases=[
        (sink_attention(2, 0.5, dtype=torch.float32), 0.25),
        (sink_attention(3, 0.5, dtype=torch.float32), 0.1),
        (MIXED, 0.2),
        (MIXED, 0.01),
        (previous_token_attention(4, 0.5, dtype=torch.float32), 0.1),
        (MIXED, 1.0),
    ],
    misconceptions=[
        Misconception(
            "second eigenvalue",
            "You count as if the distance were λ₂ᵏ from the start. That is how it *ends*. A token "
            "that must pass through many others takes longer: multiply layer by layer and look.",
            lambda A, epsilon: math.ceil(math.log(epsilon) / math.log(A.diagonal()[1:].max())),
        ),
        Misconception(
            "largest eigenvalue",
            "You took the largest eigenvalue, 1, for the rate: its logarithm is 0. It belongs to "
            "what stays. Nor is the second one enough: multiply layer by layer and look.",
            lambda A, epsilon: math.ceil(math.log(epsilon) / math.log(A.diagonal().max())),
        ),
        Misconception(
            "one less",
            "One less than it takes. Before the first layer nothing is multiplied: start with the "
            "identity at depth 0, and A itself is depth 1.",
            lambda A, epsilon: _layers_until(A, epsilon) - 1,
        ),
        Misconception(
            "less, not at most",
            "You go on while the weight equals epsilon. *At most* epsilon is enough: <=.",
            lambda A, epsilon: _first_depth(A, lambda M: distance_from_collapse(M) < epsilon),
        ),
        Misconception(
            "elementwise power",
            "A**k takes every entry to the power k. Layers are a matrix product: A @ A, or "
            "torch.linalg.matrix_power.",
            _by_elementwise_power,
        ),
        Misconception(
            "last token",
            "You watch the last token only. Another one may be slower: every row counts, so take "
            "the largest.",
            lambda A, epsilon: _first_depth(A, lambda M: M[-1, 1:].sum() <= epsilon),
        ),
        Misconception(
            "mean of the tokens",
            "You watch the mean over the tokens. *Every* token must be there, so take the largest.",
            lambda A, epsilon: _first_depth(A, lambda M: M[:, 1:].sum(-1).mean() <= epsilon),
        ),
        Misconception(
            "largest entry",
            "You watch single entries. A token may have a little weight on each of many others: "
            "add up the row first.",
            lambda A, epsilon: _first_depth(A, lambda M: M[:, 1:].max() <= epsilon),
        ),
        Misconception(
            "row 0",
            "You watch row 0, and token 0 sees nobody but itself from the start. Whom the others "
            "see stands in their rows; token 0 as a *key* is column 0.",
            lambda A, epsilon: _first_depth(A, lambda M: M[0, 1:].sum() <= epsilon),
        ),
        Misconception(
            "residual",
            "You let every token keep half of itself in each layer. Here the layers are A alone.",
            lambda A, epsilon: _layers_until(with_residual(A), epsilon),
        ),
        Misconception(
            "squared",
            "You square the product in each round and count one layer: after three rounds that is "
            "A⁸. Multiply by A once for each layer.",
            _by_squaring,
        ),
        Misconception(
            "at least one",
            "You never say 0. If the tokens may keep all of their weight on others, no layer is "
            "needed: start with the identity, at depth 0.",
            lambda A, epsilon: max(1, _layers_until(A, epsilon)),
        ),
    ],
)

check = checker(EIGENVALUES, LAYERS_UNTIL)
