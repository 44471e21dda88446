"""The exercises of notebook 09: eigenvalues, layers until the collapse, projections, undoing."""

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
from causal_lab.attention.spectral import is_projection as is_idempotent
from causal_lab.exercises.frame import Exercise, Misconception, checker

_MIXED = torch.tensor(
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
        (_MIXED[:3, :3],),
        (uniform_causal_attention(4, dtype=torch.float32),),
        (_MIXED,),
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
        (_MIXED, 0.2),
        (_MIXED, 0.01),
        (previous_token_attention(4, 0.5, dtype=torch.float32), 0.1),
        (_MIXED, 1.0),
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


def _all(condition: Tensor) -> bool:
    return bool(condition.all())


def _eigenvalues_0_or_1(A: Tensor) -> bool:
    found = torch.linalg.eigvals(A)
    return _all((found.abs() < 1e-3) | ((found - 1).abs() < 1e-3))


IS_PROJECTION = Exercise(
    name="twice_is_once",
    level="medium",
    minutes=4,
    solutions=[
        """
        def twice_is_once(A):
            return torch.allclose(A @ A, A)
        """,
        """
        def twice_is_once(A):
            return bool((A @ A - A).abs().max() < 1e-6)
        """,
    ],
    cases=[
        (torch.eye(2),),
        (torch.tensor([[1.0, 0.0], [0.5, 0.5]]),),
        (torch.tensor([[1.0, 0.0], [1.0, 0.0]]),),
        (torch.full((2, 2), 0.5),),
        (torch.tensor([[0.0, 1.0], [1.0, 0.0]]),),
        (torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),),
        (torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.25, 0.75, 0.0]]),),
        (torch.full((3, 3), 1 / 3),),
    ],
    misconceptions=[
        Misconception(
            "elementwise",
            "A * A and A ** 2 square every entry; all matrices of 0s and 1s pass. Doing it twice "
            "is the matrix product A @ A.",
            lambda A: _all(A * A == A),
        ),
        Misconception(
            "orthogonal",
            "You also ask that A equals its transpose. Those are the *orthogonal* projections. "
            "Here it is enough that twice is the same as once.",
            lambda A: is_idempotent(A) and _all(A == A.T),
        ),
        Misconception(
            "symmetric",
            "You ask whether A equals its transpose. That says nothing about doing it twice.",
            lambda A: _all(A == A.T),
        ),
        Misconception(
            "identity",
            "You accept the identity only. There are others: look at [[1, 0], [1, 0]].",
            lambda A: _all(A == torch.eye(len(A))),
        ),
        Misconception(
            "eigenvalues",
            "A diagonal of 0s and 1s is necessary for a triangle, not enough: if token 2 looks at "
            "1, and 1 looks at 0, then twice is not once.",
            lambda A: _all((A.diagonal() == 0) | (A.diagonal() == 1)),
        ),
        Misconception(
            "rows",
            "You ask whether the rows sum to 1. They do for all attention.",
            lambda A: torch.allclose(A.sum(-1), torch.ones(len(A))),
        ),
        Misconception(
            "its own inverse",
            "A @ A = I asks whether the second time *undoes* the first. A projection changes "
            "nothing the second time: A @ A = A.",
            lambda A: torch.allclose(A @ A, torch.eye(len(A))),
        ),
        Misconception(
            "to the last bit",
            "You ask for equality to the last bit, and thirds cannot be written exactly: allow for"
            " rounding, torch.allclose.",
            lambda A: torch.equal(A @ A, A),
        ),
        Misconception(
            "eigenvalues computed",
            "Eigenvalues of 0 and 1 are necessary, not enough: if token 2 looks at 1, and 1 looks "
            "at 0, then twice is not once.",
            _eigenvalues_0_or_1,
        ),
    ],
)


def _forward(A: Tensor, outputs: Tensor, *, known=None, divide: bool = True) -> Tensor:
    """Solve token by token; ``known`` says which rows to subtract instead of the values."""
    values = torch.zeros_like(outputs)
    for i in range(len(A)):
        before = values if known is None else known
        rest = outputs[i] - A[i, :i] @ before[:i]
        values[i] = rest / A[i, i] if divide else rest
    return values


def _only_the_one_before(A: Tensor, outputs: Tensor) -> Tensor:
    return _forward(A.tril() * torch.ones_like(A).triu(-1), outputs)


def _from_average(A: Tensor, outputs: Tensor) -> Tensor:
    sums = outputs * torch.arange(1, len(A) + 1)[:, None]
    return torch.cat([sums[:1], sums.diff(dim=0)])


UNDO = Exercise(
    name="undo",
    level="hard",
    minutes=8,
    solutions=[
        """
        def undo(A, outputs):
            values = torch.zeros_like(outputs)
            for i in range(len(A)):
                values[i] = (outputs[i] - A[i, :i] @ values[:i]) / A[i, i]
            return values
        """,
        """
        def undo(A, outputs):
            values = []
            for i in range(len(A)):
                rest = outputs[i]
                for j in range(i):
                    rest = rest - A[i, j] * values[j]
                values.append(rest / A[i, i])
            return torch.stack(values)
        """,
    ],
    cases=[
        (torch.tensor([[1.0, 0.0], [0.75, 0.25]]), torch.tensor([[4.0], [5.0]])),
        (_MIXED[:3, :3], torch.tensor([[4.0], [5.0], [1.0]])),
        (_MIXED, torch.tensor([[1.0, 0.0], [2.0, -1.0], [0.0, 3.0], [1.0, 1.0]])),
    ],
    misconceptions=[
        Misconception(
            "transpose",
            "The transpose undoes a rotation. Attention is no rotation: it mixes.",
            lambda A, outputs: A.T @ outputs,
        ),
        Misconception(
            "divided only",
            "You divide by the weight on itself, and what came from the tokens before is still in "
            "there. Subtract it first. Or do you begin with the last token, when the values before "
            "it are not there yet? Begin with token 0.",
            lambda A, outputs: outputs / A.diagonal()[:, None],
        ),
        Misconception(
            "outputs subtracted",
            "You subtract the *outputs* of the tokens before. Their *values* went in, and those "
            "you have just found: use them.",
            lambda A, outputs: _forward(A, outputs, known=outputs),
        ),
        Misconception(
            "not divided",
            "What is left after subtracting is the value times its weight. Divide by A[i, i].",
            lambda A, outputs: _forward(A, outputs, divide=False),
        ),
        Misconception(
            "only the one before",
            "You subtract what came from the token just before. All tokens before it went in.",
            _only_the_one_before,
        ),
        Misconception(
            "once more",
            "You apply A a second time. That mixes further.",
            lambda A, outputs: A @ outputs,
        ),
        Misconception(
            "entries inverted",
            "You take 1 over every entry. The inverse of a matrix is something else; it even has "
            "negative entries.",
            lambda A, outputs: torch.where(A > 0, 1 / A, A) @ outputs,
        ),
        Misconception(
            "a plain average",
            "You undo a plain average, whatever A is. The weights stand in A: use them.",
            _from_average,
        ),
    ],
    forbidden={
        name: f"they come from {name}. Find the values token by token, from token 0 on."
        for name in ("inv", "pinv", "inverse")
    },
)

check = checker(EIGENVALUES, LAYERS_UNTIL, IS_PROJECTION, UNDO)
