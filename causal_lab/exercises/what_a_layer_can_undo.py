"""The exercises of notebook 10: is it a projection, and can it be undone?"""

import torch
from torch import Tensor

from causal_lab.attention.spectral import is_projection as is_idempotent
from causal_lab.exercises.frame import Exercise, Misconception, checker
from causal_lab.exercises.linear_algebra_of_time import MIXED


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
        (MIXED[:3, :3], torch.tensor([[4.0], [5.0], [1.0]])),
        (MIXED, torch.tensor([[1.0, 0.0], [2.0, -1.0], [0.0, 3.0], [1.0, 1.0]])),
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

check = checker(IS_PROJECTION, UNDO)
