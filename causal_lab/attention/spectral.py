"""What linear algebra says about one causal attention matrix, and about many in a row.

Such a matrix is lower triangular, and each of its rows holds weights that sum to 1. Read it as a
walk: from token ``query`` one step leads to token ``key`` with probability ``A[query, key]``,
back or nowhere, never ahead. A layer is a step. Whoever arrives at token 0 stays there.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from causal_lab.attention.softmax import masked_softmax
from causal_lab.masks.rules import generate_causal_mask
from causal_lab.validation import check_floating, check_same_device, check_same_dtype, check_size


def is_causal_attention(A: Tensor, *, tolerance: float = 1e-6) -> bool:
    """Say if a matrix, (query, key) = (T, T), could be weights of causal attention (§8.1, §4.3).

    Args:
        tolerance: how far a row's sum may be from 1; above the diagonal, nothing but 0 will do.

    >>> is_causal_attention(torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    True
    """
    # A row of zeros, which attention gives for a query that sees nothing, is not one of these.
    _check_square(A)
    triangular = bool((A.triu(1) == 0).all())
    sums = (A.sum(dim=-1) - 1).abs()
    return triangular and bool((A >= 0).all()) and bool((sums <= tolerance).all())


def random_causal_attention(
    T: int,
    *,
    spread: float = 1.0,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Make weights as a head with random scores has them: (query, key) = (T, T), on the CPU.

    Args:
        spread: of the scores: 0 gives all of the past alike, much gives one token.
        generator: of the CPU; PyTorch's own if not given.

    >>> is_causal_attention(random_causal_attention(5))
    True
    """
    T = check_size("T", T)
    if not spread >= 0:
        raise ValueError(f"spread is a standard deviation, 0 or more, got {spread!r}")
    scores = torch.randn(T, T, generator=generator, dtype=torch.float64, device="cpu") * spread
    return masked_softmax(scores, generate_causal_mask(T, device="cpu")).to(dtype)


def uniform_causal_attention(T: int, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """Make the weights of a head that looks at all of the past alike: (query, key) = (T, T).

    >>> uniform_causal_attention(3) @ torch.tensor([2.0, 4.0, 9.0], dtype=torch.float64)
    tensor([2., 3., 5.], dtype=torch.float64)
    """
    # Scores are equal: row i holds 1 / (i + 1) up to the diagonal. In analysis it is called the
    # Cesàro operator: it turns a sequence into its running means.
    ones = torch.ones(check_size("T", T), T, dtype=torch.float64, device="cpu").tril()
    return (ones / ones.sum(dim=-1, keepdim=True)).to(dtype)


def previous_token_attention(T: int, stay: float, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """Make the weights of a head that looks at itself and one step back: (query, key) = (T, T).

    Source of its name: Elhage et al., "A mathematical framework for transformer circuits", 2021.

    Args:
        stay: each token's weight on itself, 0 to 1; the rest goes to the token before.

    >>> previous_token_attention(3, stay=0.25).tolist()
    [[1.0, 0.0, 0.0], [0.75, 0.25, 0.0], [0.0, 0.75, 0.25]]
    """
    A = _staying(T, stay)
    rows = torch.arange(1, T, device="cpu")  # token 0 has nobody before it
    A[rows, rows - 1] = 1 - stay
    return A.to(dtype)


def sink_attention(T: int, stay: float, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """Make the weights of a head that parks what it does not need on token 0.

    Source: Xiao et al., "Efficient streaming language models with attention sinks", 2023.

    Args:
        stay: each token's weight on itself, 0 to 1; the rest goes to token 0.

    >>> sink_attention(3, stay=0.25).tolist()  # (query, key) = (T, T), on the CPU
    [[1.0, 0.0, 0.0], [0.75, 0.25, 0.0], [0.75, 0.0, 0.25]]
    """
    A = _staying(T, stay)
    A[1:, 0] = 1 - stay
    return A.to(dtype)


def with_residual(A: Tensor) -> Tensor:
    """Let every token keep half of itself: (I + A) / 2, shape (…, T, T).

    Source: Abnar and Zuidema, "Quantifying attention flow in transformers", 2020.

    >>> with_residual(torch.tensor([[1.0, 0.0], [1.0, 0.0]])).tolist()
    [[1.0, 0.0], [0.5, 0.5]]
    """
    # A residual connection adds: x + A x. Halved, rows stay weights and only the scale differs.
    _check_squares(A)
    return (torch.eye(A.shape[-1], dtype=A.dtype, device=A.device) + A) / 2


def cumulative_products(layers: Sequence[Tensor] | Tensor) -> Tensor:
    """Multiply layers, the lowest first, and keep all products: shape (depth + 1, query, key).

    >>> halves = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    >>> cumulative_products([halves, halves])[:, 1].tolist()
    [[0.0, 1.0], [0.5, 0.5], [0.75, 0.25]]
    """
    # Entry k says what the outputs after k layers are made of: the identity at 0.
    layers = list(layers)
    if not layers or any(A.shape != layers[0].shape for A in layers):
        raise ValueError(
            "layers must be at least one matrix, all of one size, got shapes "
            f"{[tuple(A.shape) for A in layers]}"
        )
    _check_square(layers[0])
    products = [torch.eye(len(layers[0]), dtype=layers[0].dtype, device=layers[0].device)]
    for A in layers:
        products.append(A @ products[-1])
    return torch.stack(products)


def distance_from_collapse(A: Tensor) -> Tensor:
    """Say how much weight the slowest token has on anything but token 0, shape (…).

    >>> A = torch.tensor([[1.0, 0.0], [0.75, 0.25]])
    >>> distance_from_collapse(A).item(), distance_from_collapse(A @ A).item()
    (0.25, 0.0625)
    """
    # Half of the ∞-norm of A − 1e₀ᵀ. It multiplies: that of a product is at most the product of
    # those of its factors. 0 if every token sees token 0 only, 1 if some token does not see it.
    _check_squares(A)
    return A[..., 1:].sum(dim=-1).amax(dim=-1)  # not 1 − A[..., 0]: that rounds small ones away


def second_eigenvalue(A: Tensor) -> Tensor:
    """Find the largest eigenvalue but the first, which is always 1, shape (…).

    >>> second_eigenvalue(torch.tensor([[1.0, 0.0], [0.75, 0.25]])).item()
    0.25
    """
    # The eigenvalues of a triangular matrix stand on its diagonal, and weights are never negative;
    # 0 if there is one token only.
    _check_triangular(_check_squares(A))
    rest = A.diagonal(dim1=-2, dim2=-1)[..., 1:]
    return rest.amax(dim=-1) if rest.shape[-1] else rest.sum(dim=-1)


def undo_attention(A: Tensor, outputs: Tensor) -> Tensor:
    """Read the values back from the outputs, shape (T, dim), as exactly as A's condition allows.

    >>> A = torch.tensor([[1.0, 0.0], [0.75, 0.25]])
    >>> undo_attention(A, A @ torch.tensor([[4.0], [8.0]])).tolist()
    [[4.0], [8.0]]
    """
    # Token by token, from the first on: output 0 is value 0; output 1 mixes values 0 and 1, and one
    # of them is known; and so on. How small the determinant is says nothing about how well it
    # works.
    _check_triangular(_check_square(A))
    check_same_dtype("outputs", outputs, "A", A)
    check_same_device("outputs", outputs, "A", A)
    if outputs.ndim != 2 or len(outputs) != len(A):
        raise ValueError(
            f"outputs must have shape (query, dim) with {len(A)} queries, got "
            f"{tuple(outputs.shape)}; a single number per token becomes a column with [:, None]"
        )
    silent = (A.diagonal() == 0).nonzero().flatten().tolist()
    if silent:
        raise ValueError(
            f"token {silent[0]} has weight 0 on itself, so no output carries its value for "
            "certain: the determinant is 0, and the values cannot be read back"
        )
    return torch.linalg.solve_triangular(A, outputs, upper=False)


def is_projection(A: Tensor, *, tolerance: float = 1e-6) -> bool:
    """Say whether a matrix, shape (T, T), done twice is the same as done once: A A = A.

    >>> is_projection(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))  # it need not be orthogonal
    True
    """
    _check_square(A)
    return bool(((A @ A - A).abs() <= tolerance).all())


def leaking_cuts(A: Tensor) -> list[int]:
    """List the cuts where a matrix, (output, input) = (T, T), lets the future into the past.

    Returns:
        Every t for which inputs that vanish on the first t tokens give outputs that do not.

    >>> leaking_cuts(torch.tensor([[1.0, 0.0, 0.5], [1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]))
    [1, 2]
    """
    # With P the projection that keeps the first t tokens: where P A is not P A P. None if and only
    # if A is lower triangular. causal_lab.causality.check_causality asks the same of any module.
    _check_square(A)
    return [t for t in range(1, len(A)) if bool((A[:t, t:] != 0).any())]


def _staying(T: int, stay: float) -> Tensor:
    # A diagonal of each token's weight on itself, with 1 for token 0, who cannot leave.
    if not 0 <= stay <= 1:
        raise ValueError(f"stay is a weight, 0 to 1, got {stay!r}")
    diagonal = torch.full((check_size("T", T),), float(stay), dtype=torch.float64, device="cpu")
    diagonal[0] = 1.0
    return diagonal.diag()


def _check_square(A: Tensor) -> Tensor:
    check_floating("A", A)
    if A.ndim != 2 or A.shape[0] != A.shape[1] or not len(A):
        raise ValueError(
            f"A must have shape (T, T), a row and a column for each token, got {tuple(A.shape)}; "
            "choose one sequence and head first, such as weights[0, 0]"
        )
    return A


def _check_squares(A: Tensor) -> Tensor:
    check_floating("A", A)
    if A.ndim < 2 or A.shape[-1] != A.shape[-2] or not A.shape[-1]:
        raise ValueError(
            "A must have as many queries as keys, shape (…, T, T), got "
            f"{tuple(A.shape)}; behind a cache, lay the old rows above the new ones first"
        )
    return A


def _check_triangular(A: Tensor) -> Tensor:
    if not bool((A.triu(1) == 0).all()):
        raise ValueError(
            "A must be lower triangular, with exactly 0 above the diagonal; set the masked weights "
            "to 0, or find out with leaking_cuts(A) where it sees the future"
        )
    return A
