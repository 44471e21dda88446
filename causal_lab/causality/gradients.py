"""Along which paths a gradient runs from an output to an input.

A float input is a leaf itself. Token ids have no gradient; the vectors looked up for them
have. Which lookups read the tokens is not guessed from names: they are those whose indices
follow the ids when the ids are changed.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from causal_lab.causality.runner import CannotRunError, Runner

_LOOKUPS = {F.embedding: ("input", "weight"), torch.embedding: ("weight", "indices")}


class Lookups(TorchFunctionMode):
    """Watch every lookup of rows in the model's tables, and add something to some of them.

    Args:
        tables: where the memory of the model's tensors begins.
        added: by the number of the lookup: a tensor of the looked-up shape.
    """

    def __init__(self, tables: set[int], added: dict[int, Tensor] | None = None):
        super().__init__()
        self.tables, self.added = tables, added or {}
        self.indices, self.rows, self.shapes = [], [], []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        found = _indices_of(func, args, kwargs, self.tables)
        if found is None:
            return result
        number = len(self.indices)
        self.indices.append(found[0].detach().cpu().clone())
        self.rows.append(found[1])
        # One-hot numbers are whole: they tell the vocabulary, but no gradient starts there.
        is_start = result.is_floating_point()
        self.shapes.append(tuple(result.shape if is_start else found[0].shape))
        if number in self.added:
            result = result + self.added[number].to(result.dtype)
        return result


def _indices_of(func, args: tuple, kwargs: dict, tables: set[int]) -> tuple[Tensor, int] | None:
    """Find the indices and the table's height if a call looks rows up by integers."""
    if func is F.one_hot:
        rows = kwargs.get("num_classes", args[1] if len(args) > 1 else -1)
        return (args[0], rows) if rows > 0 and args else None
    if func in _LOOKUPS:
        names = _LOOKUPS[func]
        given = dict(zip(names, args, strict=False)) | kwargs
        weight, indices = given.get("weight"), given.get("input", given.get("indices"))
    elif func is Tensor.__getitem__ and len(args) == 2:
        weight, indices = args
    elif func in (torch.index_select, Tensor.index_select) and len(args) == 3 and args[1] == 0:
        weight, indices = args[0], args[2]
    else:
        return None
    both = isinstance(weight, Tensor) and isinstance(indices, Tensor)
    if not both or weight.ndim != 2 or not weight.is_floating_point():
        return None
    if indices.is_floating_point() or indices.dtype == torch.bool:
        return None
    # In another precision, or with a weight that is computed, the memory is not the model's.
    known = func in _LOOKUPS or weight.untyped_storage().data_ptr() in tables
    return (indices, weight.shape[0]) if known else None


def vocabulary_of(ids: Tensor, seen: Lookups) -> int | None:
    """Say how many tokens there are: rows of the smallest table in which the ids were looked up.

    Ids have shape (batch, length). None if they were looked up nowhere.

    >>> ids = torch.tensor([[3, 4]])
    >>> with Lookups(set()) as seen:
    ...     _ = torch.nn.Embedding(5, 2)(ids)
    >>> vocabulary_of(ids, seen)
    5
    """
    known = set(ids.flatten().tolist())
    tables = [
        rows
        for indices, rows in zip(seen.indices, seen.rows, strict=True)
        if set(indices.flatten().tolist()) <= known and max(known) < rows
    ]
    return min(tables, default=None)


def find_sources(
    run: Runner, ids: Tensor, vocabulary: int, real: Lookups, generator: torch.Generator
) -> dict[int, Tensor]:
    """Find out which looked-up vector belongs to which input position.

    Every place of the batch gets a number of its own, written in ids as digits over one or more
    runs. A lookup that copies ids, in whatever order and shape, then shows the numbers.

    Args:
        ids: integer, shape (batch, length).
        real: what the run on the real ids looked up.

    Returns:
        By the number of the lookup: the input position of every vector, −1 for none.

    Raises:
        CannotRunError: if the model does not run on such ids.

    >>> table, ids = torch.nn.Embedding(5, 2), torch.tensor([[3, 4]])
    >>> with Lookups(set()) as real:
    ...     _ = table(ids)
    >>> with Runner(table, batch=1, length=2) as run:
    ...     find_sources(run, ids, 5, real, torch.Generator().manual_seed(0))
    {0: tensor([[0, 1]])}
    """
    places = ids.numel()
    # In random order, since a constant index must not look like the number of a place.
    codes = torch.randperm(places, generator=generator)
    found = [torch.zeros(index.shape, dtype=torch.long) for index in real.indices]
    weight = 1
    while weight < places:
        for code, index in zip(
            found, _indices(run, ids, codes // weight, vocabulary, real), strict=True
        ):
            code += weight * index.long()
        weight *= vocabulary
    places_of = [codes.argsort()[code.clamp(0, places - 1)] for code in found]
    copies_of = [
        (code < places) & (ids.cpu().flatten()[place] == index)
        for code, place, index in zip(found, places_of, real.indices, strict=True)
    ]
    # By chance a hash or a position hits as well; so often that none is left that does.
    most = math.ceil(math.log(1e4 * places) / math.log(vocabulary))
    for number in range(most):
        check = torch.randint(vocabulary, (places,), generator=generator)
        again = _indices(run, ids, check, vocabulary, real)
        for copies, place, index in zip(copies_of, places_of, again, strict=True):
            copies &= check[place] == index
        if number * math.log(vocabulary) > 9 and all(c.all() or not c.any() for c in copies_of):
            break
    sources = {}
    for number, index in enumerate(real.indices):
        if real.shapes[number] == index.shape:  # nothing to start from
            continue
        place, copies = places_of[number], copies_of[number]
        if bool(copies.any()):
            sources[number] = torch.where(copies, place % ids.shape[1], -1)
    return sources


def _indices(run: Runner, ids: Tensor, codes: Tensor, vocabulary: int, real: Lookups) -> list:
    """Run on the last digits of some numbers, and see what is looked up."""
    seen = Lookups(run.tables)
    run((codes % vocabulary).reshape(ids.shape).to(ids), mode=seen)
    if [index.shape for index in seen.indices] != [index.shape for index in real.indices]:
        raise CannotRunError("the lookups of the token ids change with the ids")
    return seen.indices


class Paths:
    """Gradients from outputs to inputs, for one model and one input.

    Args:
        inputs: shape (batch, length, …).
        sources: for token ids, from :func:`find_sources`.
        shapes: for token ids: the shape of what each lookup gave.

    Raises:
        CannotRunError: if no gradient reaches the inputs.
    """

    def __init__(
        self,
        run: Runner,
        inputs: Tensor,
        sources: dict[int, Tensor] | None = None,
        shapes: Sequence[tuple] = (),
    ):
        self.run, self.inputs = run, inputs
        self.sources, self.leaves = sources or {}, {}
        dtype = run.dtype or torch.get_default_dtype()
        if inputs.is_floating_point():
            leaf = inputs.detach().to(run.dtype or inputs.dtype).clone().requires_grad_()
            self.leaves = {-1: leaf}
            self.output = run(leaf, with_grad=True)
        else:
            self.leaves = {
                number: torch.zeros(shapes[number], dtype=dtype, device=inputs.device)
                for number in self.sources
            }
            if not self.leaves:
                raise CannotRunError("no lookup of the token ids was found to start from")
            for leaf in self.leaves.values():
                leaf.requires_grad_()
            self.output = run(inputs, with_grad=True, mode=Lookups(run.tables, self.leaves))
        if not self.output.requires_grad:
            raise CannotRunError("no gradient reaches the inputs (detached, discrete or no_grad)")

    def row(self, position: int, direction: Tensor) -> Tensor:
        """Measure how strongly one output position hangs on every input position.

        Args:
            direction: shape of the output, weights of the output's components; random, so that
                nothing cancels.

        Returns:
            float64, shape (length,), the largest gradient at each input position; NaN where it is
            not a number.
        """
        length = self.inputs.shape[1]
        strength = torch.zeros(length, dtype=torch.float64)
        for number, gradient in self.gradients(position, direction).items():
            if number == -1:
                sizes = gradient.abs().transpose(0, 1).reshape(length, -1).amax(dim=1)
                strength = torch.maximum(strength, sizes.double().cpu())
                continue
            source = self.sources[number].flatten()
            sizes = gradient.abs().reshape(source.numel(), -1).amax(dim=1).double().cpu()
            reads = source >= 0
            strength.scatter_reduce_(0, source[reads], sizes[reads], "amax")
        return strength

    def gradients(self, position: int, direction: Tensor) -> dict[int, Tensor]:
        """Take the gradient of one output position, by the number of each leaf that it reaches."""
        chosen = torch.zeros_like(self.output)
        chosen[:, position] = direction[:, position].to(chosen)
        self.run.backwards += 1
        try:
            found = torch.autograd.grad(
                self.output,
                list(self.leaves.values()),
                chosen,
                retain_graph=True,
                allow_unused=True,
            )
        except Exception as error:  # a part of a stranger's model without a backward pass
            message = " ".join(str(error).split())[:200]
            raise CannotRunError(f"the backward pass failed: {message}") from error
        return {
            number: gradient
            for number, gradient in zip(self.leaves, found, strict=True)
            if gradient is not None
        }

    def moves(
        self, position: int, direction: Tensor, later: Tensor, step: float
    ) -> dict[int, Tensor]:
        """Give a step of some inputs along the gradient of one output.

        Args:
            later: bool, shape (input,), which inputs.
            step: its length, in units of the leaves.

        Returns:
            By the numbers of the leaves, of their shapes.
        """
        steps = {
            number: gradient * self._among(number, later, gradient)
            for number, gradient in self.gradients(position, direction).items()
        }
        self.slope = (
            sum(float(gradient.double().square().sum()) for gradient in steps.values()) ** 0.5
        )
        return {number: step * gradient / (self.slope or 1.0) for number, gradient in steps.items()}

    def run_with(self, moves: dict[int, Tensor]) -> Tensor:
        """Run with something added to the leaves, by their numbers; give its shape."""
        if -1 in self.leaves:
            leaf = self.leaves[-1].detach()
            return self.run(leaf + moves.get(-1, torch.zeros_like(leaf)))
        return self.run(self.inputs, mode=Lookups(self.run.tables, moves))

    def _among(self, number: int, chosen: Tensor, gradient: Tensor) -> Tensor:
        if number == -1:
            chosen = chosen.reshape(1, -1, *[1] * (gradient.ndim - 2))
        else:
            source = self.sources[number]
            chosen = chosen[source.clamp_min(0)] & (source >= 0)
            chosen = chosen.reshape(*chosen.shape, *[1] * (gradient.ndim - chosen.ndim))
        return chosen.to(gradient)
