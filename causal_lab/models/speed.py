"""A few rows times a large matrix, where the time is that of reading the matrix.

To write one token, every weight is read once and used once per text. With few rows, PyTorch's
own product reads at a third to a half of what memory can give (measured on a CPU with MKL, see
``benchmarks/README.md``). The same product, cut into parts, goes through another routine of the
same library, which reads up to twice as fast.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from causal_lab.models.transformer import Transformer
from causal_lab.validation import describe

_MOST_ROWS = 8  # with more, arithmetic begins to count
_SMALLEST = 1 << 16  # weights; a smaller matrix stays in the processor's own memory
_NEAR = 16  # parts for one row, and rows of a part for several: what measured best


def speed_up(model: nn.Module, *, on: bool = True) -> nn.Module:
    """Let a model multiply a few rows faster, in its linear layers and in a tied head.

    Off unless called. Only for inference in 32 bits on a CPU, up to 8 rows and from 65,536 weights
    on; everything else is multiplied as before. The results are the same up to rounding.

    Args:
        model: changed in place: the layers that are an ``nn.Linear``, not those of a subclass.
        on: False takes it back.

    Returns:
        The same model; its weights, and their names, are as they were.

    >>> model = speed_up(nn.Sequential(nn.Linear(2, 3)))
    >>> model(torch.zeros(1, 2)).shape
    torch.Size([1, 3])
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"speed_up needs an nn.Module, got {describe(model)}")
    before, after = (nn.Linear, _Linear) if on else (_Linear, nn.Linear)
    for module in model.modules():
        if type(module) is before:
            module.__class__ = after
        elif isinstance(module, Transformer):  # its head is the token table
            vars(module).pop("product", None)
            if on:
                module.product = _product
    return model


class _Linear(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return _product(input, self.weight, self.bias)


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply every row by a matrix, as ``torch.nn.functional.linear`` does."""
    if not _is_worth_it(x, weight):
        return F.linear(x, weight, bias)
    is_one_row = x.numel() == x.shape[-1]
    product = _times_one(x, weight) if is_one_row else _times_few(x.flatten(0, -2), weight)
    product = product.reshape(*x.shape[:-1], len(weight))
    return product if bias is None else product.add_(bias)


def _is_worth_it(x: Tensor, weight: Tensor) -> bool:
    return (
        weight.numel() >= _SMALLEST
        and len(weight) >= _NEAR
        and 0 < x.numel() <= _MOST_ROWS * x.shape[-1]
        and x.dtype == weight.dtype == torch.float32
        and x.is_cpu
        and not (torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad))
        and weight.is_contiguous()
        and torch.backends.mkl.is_available()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def _times_one(x: Tensor, weight: Tensor) -> Tensor:
    """Give every part of the matrix the same column; shape (part, out, 1) or (1, out)."""
    parts, rest = _cut(weight, into=_divisor(len(weight)))
    # Turned, not reshaped: by its strides the library chooses the routine.
    column = x.reshape(1, -1).T.expand(len(parts), -1, 1)
    product = torch.bmm(parts, column)
    return product if rest is None else _joined(product.view(1, -1), x.reshape(1, -1), rest)


def _times_few(rows: Tensor, weight: Tensor) -> Tensor:
    """Give every part of the matrix the same rows; shape (row, out)."""
    parts, rest = _cut(weight, into=len(weight) // _NEAR)
    products = torch.bmm(rows.expand(len(parts), -1, -1), parts.transpose(1, 2))
    product = products.transpose(0, 1).flatten(1)
    return product if rest is None else _joined(product, rows, rest)


def _divisor(length: int) -> int:
    """Choose a number near 16 that divides the length; 16 itself if there is none."""
    near = (_NEAR, *range(_NEAR + 1, 2 * _NEAR), *range(_NEAR - 1, _NEAR // 2, -1))
    return next((number for number in near if length % number == 0), _NEAR)


def _cut(weight: Tensor, into: int) -> tuple[Tensor, Tensor | None]:
    """Cut a matrix into so many parts, shape (part, out, in), and what is left over."""
    size = len(weight) // into
    if size * into == len(weight):
        return weight.view(into, size, weight.shape[1]), None
    return weight[: size * into].view(into, size, weight.shape[1]), weight[size * into :]


def _joined(product: Tensor, rows: Tensor, rest: Tensor) -> Tensor:
    return torch.cat([product, F.linear(rows, rest)], dim=1)
