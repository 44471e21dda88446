"""How a model is run again and again as if each run were its first.

Everything that a forward pass could leave behind is put back before the next one: buffers,
parameters, plain attributes, modes and every random generator. What remains different
between two runs then comes from the inputs alone.
"""

import contextlib
import copy
import itertools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from causal_lab.causality import thresholds
from causal_lab.causality.parts import axes_of, choose, cut, fresh, not_there, shape_of, take
from causal_lab.causality.precision import REAL, Everywhere, converted
from causal_lab.causality.state import GlobalRandomness, Snapshot

_MOST_READINGS = 8  # of arguments whose shapes leave open what runs along the sequence


class CannotRunError(Exception):
    """A model did not give an output; the message says why."""


class Runner:
    """Call a model from one and the same state, and put everything back at the end.

    Args:
        batch, length: shape of the inputs that count as one forward.
        forward_kwargs: dict, handed to every call as fresh copies, or a function of the inputs.
        output: which part of the model's result to judge.
        train: the mode to run in; the present one if not given.
        outputs: how many positions the judged part has, if not as many as the inputs.
        time_axes: of the inputs and of the judged part.
    """

    def __init__(
        self,
        model: nn.Module,
        batch: int,
        length: int,
        *,
        forward_kwargs: dict | Callable | None = None,
        output: str | int | Callable | None = None,
        train: bool | None = None,
        outputs: int | None = None,
        time_axes: tuple[int, int] = (1, 1),
    ):
        self.model, self.batch, self.length = model, batch, length
        self.forward_kwargs = forward_kwargs or {}
        self.output, self.train = output, train
        self.outputs, self.time_axes = outputs, time_axes
        self.judged = output  # which part of the result, found at the first call
        self._parts = None  # the shape of one output in the full pass
        self.with_grad = False
        self.dtype = None  # None: the model as it came
        self.shake = None  # a factor of floating inputs, while everything is shaken
        self._reading = None  # along which axes the arguments were cut when a prefix last ran
        self.forwards, self.tokens, self.backwards = 0, 0, 0
        self.draws_randomness = False
        self.wakes = False

    def __enter__(self) -> "Runner":
        with contextlib.ExitStack() as stack:
            # A caller may stand in inference mode, where no gradient could be taken.
            stack.enter_context(torch.inference_mode(False))
            self._randomness = GlobalRandomness()
            stack.callback(self._randomness.restore)
            stack.callback(self._randomness.restore_default_dtype)
            if any(map(is_lazy, (*self.model.parameters(), *self.model.buffers()))):
                # Judge a copy of a model whose weights get their shapes at the first call.
                self.model, self.wakes = copy.deepcopy(self.model), True
            before = Snapshot(self.model)
            stack.callback(before.restore)
            stack.callback(before.restore_generators)
            if self.train is not None:
                self.model.train(self.train)
            self._start = Snapshot(self.model)
            self._exits = stack.pop_all()
        return self

    def __exit__(self, *exception) -> None:
        self._exits.close()

    @property
    def tensors(self) -> list[Tensor]:
        """All that can be reached from the model."""
        return self._start.tensors

    @property
    def tables(self) -> set[int]:
        """Where the memory of the model's own tensors begins."""
        return {tensor.untyped_storage().data_ptr() for tensor in self.tensors}

    @property
    def forward_equivalents(self) -> float:
        """Work of all forward passes, in passes over the whole sequence."""
        return self.tokens / self.length

    def __call__(
        self,
        inputs: Tensor,
        *,
        with_grad: bool | None = None,
        keep: str = "",
        mode: TorchFunctionMode | None = None,
        kwargs: dict | None = None,
    ) -> Tensor:
        """Run the model once and return the part of its result that is judged.

        Args:
            inputs: shape (batch, length, …), copied first: a model may write into what it gets.
            with_grad: whether to record gradients; as :attr:`with_grad` if not given.
            keep: what to leave as the run before left it: "all" or plain "attributes".
            mode: looks over the model's shoulder.
            kwargs: in place of :attr:`forward_kwargs`.

        Returns:
            shape (batch, length, …), real numbers; floating where the model's output is.

        Raises:
            CannotRunError: if the model raises.
        """
        with_grad = self.with_grad if with_grad is None else with_grad
        result = self.raw(inputs, with_grad=with_grad, keep=keep, mode=mode, kwargs=kwargs)
        output = self._pick(result, inputs.shape[1])
        if self.wakes:  # from now on the weights that the first call made
            self.wakes, self._start = False, Snapshot(self.model)
            self.draws_randomness = False
        return output if with_grad else output.detach().clone()

    def raw(
        self,
        inputs: Tensor,
        *,
        with_grad: bool = False,
        keep: str = "",
        mode: TorchFunctionMode | None = None,
        kwargs: dict | None = None,
    ) -> object:
        """Run the model once and return all that it gives; ``inputs`` have any shape.

        Raises:
            CannotRunError: if the model raises.
        """
        given = self.forward_kwargs if kwargs is None else kwargs
        if keep != "all":
            self._start.restore(attributes=keep != "attributes")
            self._start.restore_generators()
        self._randomness.restore()
        self.forwards += 1
        self.tokens += inputs.shape[1]
        inputs = self._prepared(inputs)
        given = fresh(given(inputs) if callable(given) else given, self.dtype)
        with torch.set_grad_enabled(with_grad), mode or contextlib.nullcontext():
            result = self._call(inputs, given)
        if self.dtype is None:
            self._randomness.restore_default_dtype()
        else:
            torch.set_default_dtype(self.dtype)
        self.draws_randomness |= self._randomness.was_used() or self._start.used_generators()
        return result

    def prefix(self, inputs: Tensor) -> Iterator[Tensor]:
        """Run on a shorter sequence, in every way in which the arguments may be cut with it.

        Where batch and length are equal, a shape alone does not tell a mask of queries and keys
        from one of rows and positions; a source as long as the target is not to be cut at all.

        Yields:
            Outputs, first of what fitted the last prefix.

        Raises:
            CannotRunError: if the model runs in none of these ways.
        """
        failures, ran = [], False
        for reading in self._readings():
            kwargs = self.forward_kwargs
            if not callable(kwargs):
                arguments = zip(kwargs.items(), reading, strict=True)
                kwargs = {
                    name: cut(value, axes, inputs.shape[1]) for (name, value), axes in arguments
                }
            try:
                output = self(inputs, kwargs=kwargs)
                if self._parts not in (None, output.shape[2:]):
                    raise CannotRunError(f"its output has another shape there: {shape_of(output)}")
            except CannotRunError as failure:
                failures.append(failure)
            else:
                ran, self._reading = True, reading
                yield output
        if not ran:
            raise failures[0]

    def _readings(self) -> list[tuple]:
        if callable(self.forward_kwargs):
            return [()]
        along = [axes_of(value, self.batch, self.length) for value in self.forward_kwargs.values()]
        readings = list(itertools.islice(itertools.product(*along), _MOST_READINGS))
        return sorted(readings, key=lambda reading: reading != self._reading)

    def _prepared(self, inputs: Tensor) -> Tensor:
        if inputs.is_floating_point() and self.dtype is not None:
            inputs = inputs.to(self.dtype)
        if inputs.is_floating_point() and self.shake is not None:
            inputs = inputs * self.shake.to(inputs)
        axis = self.time_axes[0]
        return inputs.clone() if axis == 1 else inputs.movedim(1, axis).contiguous()

    def _call(self, inputs: Tensor, kwargs: dict) -> object:
        try:
            return self.model(inputs, **kwargs)
        except Exception as error:  # whatever a stranger's model raises is the finding
            name, message = type(error).__name__, " ".join(str(error).split())[:200]
            raise CannotRunError(f"the model raised {name}: {message}") from error

    @contextlib.contextmanager
    def precision(self, dtype: torch.dtype) -> Iterator[None]:
        """Compute in another precision inside the ``with`` block, in every part of the model.

        Args:
            dtype: usually ``torch.float64``.
        """
        self._start.restore()
        default, as_it_came = torch.get_default_dtype(), self._start
        with converted(self._start.tensors, dtype):
            try:
                torch.set_default_dtype(dtype)
                self._start, self.dtype = Snapshot(self.model), dtype
                with Everywhere(dtype):
                    yield
            finally:
                torch.set_default_dtype(default)
                self._start.restore()
                self._start, self.dtype = as_it_came, None

    @contextlib.contextmanager
    def shaken(self, inputs: Tensor, seed: int, eps: float = 0.0) -> Iterator[None]:
        """Move every weight and every floating input a little: rounding is then drawn anew.

        Args:
            inputs: shape (batch, length, …).
            eps: to which outputs are rounded.
        """
        generator = torch.Generator().manual_seed(seed)
        self._start.restore()
        as_it_came = self._start
        floats = [tensor for tensor in self._start.tensors if tensor.dtype in REAL]
        weights = [tensor for tensor in floats if isinstance(tensor, nn.Parameter)]
        if not weights and not inputs.is_floating_point():
            weights = floats
        try:
            with torch.no_grad():
                for tensor in weights:
                    tensor.mul_(_near_one(tensor, eps, generator))
            self._start = Snapshot(self.model)
            if inputs.is_floating_point():
                # One factor for all positions: equal vectors stay equal.
                self.shake = _near_one(inputs[:1, :1], eps, generator)
            yield
        finally:
            as_it_came.restore()
            self._start, self.shake = as_it_came, None

    def coarsest(self, output: Tensor) -> torch.dtype:
        """Name the dtype with the coarsest rounding in the model and its output.

        Returns:
            A floating dtype.
        """
        found = {tensor.dtype for tensor in [*self._start.tensors, output]} & REAL
        return max(found or {torch.get_default_dtype()}, key=lambda dtype: torch.finfo(dtype).eps)

    def _pick(self, result: object, length: int) -> Tensor:
        """Choose what to judge at the first call and the same again at every later one."""
        first, wanted = self._parts is None, self.outputs or length
        axis = self.time_axes[1]

        def fits(part: Tensor) -> bool:
            return part.ndim > axis and tuple(part.movedim(axis, 1).shape[:2]) == (
                self.batch,
                wanted,
            )

        words = f"(batch, length, …) = ({self.batch}, {wanted}, …)"
        if axis != 1:
            words = f"(batch first, time axis {axis}), length {wanted},"
        if self.judged is None and self.output is None and first:
            self.judged = choose(result, fits, words)
        tensor = take(result, self.judged)
        any_rate = self.outputs and length != self.length  # a prefix gives as many as it gives
        if not first and axis == 1 and not any_rate:
            tensor = _filled_up(tensor, self.batch, wanted)
        is_there = isinstance(tensor, Tensor) and tensor.ndim > axis
        if not (is_there and (any_rate or fits(tensor))):
            if not first:
                raise CannotRunError(f"its output has another shape there: {shape_of(tensor)}")
            raise ValueError(not_there(result, words))
        tensor = tensor.movedim(axis, 1)
        if tensor.is_complex():
            tensor = torch.view_as_real(tensor.resolve_conj())
        if first:
            self._parts = tensor.shape[2:]
        return tensor if tensor.is_floating_point() else tensor.double()


def _filled_up(tensor: object, batch: int, wanted: int) -> object:
    """Fill up what is cut off behind the last real input: a missing output is no number."""
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
        return tensor
    if tensor.ndim < 2 or len(tensor) != batch or tensor.shape[1] >= wanted:
        return tensor
    missing = (batch, wanted - tensor.shape[1], *tensor.shape[2:])
    return torch.cat([tensor, tensor.new_full(missing, torch.nan)], dim=1)


def _near_one(like: Tensor, eps: float, generator: torch.Generator) -> Tensor:
    with torch._C.DisableTorchFunction():
        size = thresholds.shake_for(max(eps, torch.finfo(like.dtype).eps))
        noise = torch.rand(like.shape, generator=generator, dtype=torch.float64)
        return (1 + size * (2 * noise - 1)).to(like)
