"""How a model is run again and again as if each run were its first.

Everything that a forward pass could leave behind is put back before the next one: buffers,
parameters, plain attributes, modes and every random generator. What remains different
between two runs then comes from the inputs alone.
"""

import contextlib
import copy
import itertools
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from causal_lab.causality.precision import REAL, Everywhere, converted, is_number, matching
from causal_lab.causality.state import GlobalRandomness, Snapshot

_MOST_READINGS = 8  # of arguments whose shapes leave open what runs along the sequence
PREFERRED_OUTPUTS = ("logits", "last_hidden_state", "prediction_logits")


class CannotRunError(Exception):
    """A model did not give an output; the message says why.

    >>> str(CannotRunError("the model raised IndexError"))
    'the model raised IndexError'
    """


class Runner:
    """Call a model from one and the same state, and put everything back at the end.

    Args:
        batch, length: shape of the inputs that count as one forward.
        forward_kwargs: handed to every call, as fresh copies.
        output: which part of the model's result to judge.
        train: the mode to run in; the present one if not given.

    >>> layer = nn.BatchNorm1d(3)
    >>> with Runner(layer, batch=2, length=3) as run:
    ...     _ = run(torch.randn(2, 3))
    >>> layer.num_batches_tracked.item(), run.forwards
    (0, 1)
    """

    def __init__(
        self,
        model: nn.Module,
        batch: int,
        length: int,
        *,
        forward_kwargs: dict | None = None,
        output: str | int | Callable | None = None,
        train: bool | None = None,
    ):
        self.model, self.batch, self.length = model, batch, length
        self.forward_kwargs = dict(forward_kwargs or {})
        self.output, self.train = output, train
        self.judged = None  # which part of the result, found at the first call
        self._parts = None  # the shape of one output in the full pass
        self.with_grad = False
        self.dtype = None  # None: the model as it came
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
                self._wake_a_copy()
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

    def _wake_a_copy(self) -> None:
        """Judge a copy of a model whose weights get their shapes at the first call."""
        self.model = copy.deepcopy(self.model)
        self.wakes = True

    @property
    def tables(self) -> set[int]:
        """Where the memory of the model's own tensors begins."""
        return {tensor.untyped_storage().data_ptr() for tensor in self._start.tensors}

    @property
    def forward_equivalents(self) -> float:
        """Work of all forward passes, in passes over the whole sequence."""
        return self.tokens / self.length

    def __call__(
        self,
        inputs: Tensor,
        *,
        with_grad: bool | None = None,
        keep_attributes: bool = False,
        mode: TorchFunctionMode | None = None,
    ) -> Tensor:
        """Run the model once and return the part of its result that is judged.

        Args:
            inputs: shape (batch, length, …), copied first: a model may write into what it gets.
            with_grad: whether to record gradients; as :attr:`with_grad` if not given.
            keep_attributes: leave plain attributes as the run before left them.
            mode: looks over the model's shoulder.

        Returns:
            shape (batch, length, …), real numbers; floating where the model's output is.

        Raises:
            CannotRunError: if the model raises.

        >>> with Runner(nn.Identity(), batch=1, length=2) as run:
        ...     run(torch.ones(1, 2, 1)).flatten().tolist()
        [1.0, 1.0]
        """
        with_grad = self.with_grad if with_grad is None else with_grad
        once = partial(self._run_once, inputs, with_grad, keep_attributes, mode)
        if inputs.shape[1] == self.length:
            output = once(self.forward_kwargs)
            self._parts = output.shape[2:]
            return output
        failures = []
        for reading in self._readings():
            arguments = zip(self.forward_kwargs.items(), reading, strict=True)
            kwargs = {name: _cut(value, axes, inputs.shape[1]) for (name, value), axes in arguments}
            try:
                output = once(kwargs)
                if self._parts not in (None, output.shape[2:]):
                    raise CannotRunError(f"its output has another shape there: {_shape(output)}")
            except CannotRunError as failure:
                failures.append(failure)
            else:
                self._reading = reading
                return output
        raise failures[0]

    def _readings(self) -> list[tuple]:
        """List along which axes the arguments may run, first what fitted the last prefix.

        Where batch and length are equal, a shape alone does not tell a mask of queries and keys
        from one of rows and positions: what the model takes decides.
        """
        along = [_axes(value, self.batch, self.length) for value in self.forward_kwargs.values()]
        readings = list(itertools.islice(itertools.product(*along), _MOST_READINGS))
        return sorted(readings, key=lambda reading: reading != self._reading)

    def _run_once(
        self,
        inputs: Tensor,
        with_grad: bool,
        keep_attributes: bool,
        mode: TorchFunctionMode | None,
        kwargs: dict,
    ) -> Tensor:
        self._start.restore(attributes=not keep_attributes)
        self._start.restore_generators()
        self._randomness.restore()
        self.forwards += 1
        self.tokens += inputs.shape[1]
        kwargs = _fresh(kwargs, self.dtype)
        if inputs.is_floating_point() and self.dtype is not None:
            inputs = inputs.to(self.dtype)
        with torch.set_grad_enabled(with_grad), mode or contextlib.nullcontext():
            result = self._call(inputs.clone(), kwargs)
        if self.dtype is None:
            self._randomness.restore_default_dtype()
        else:
            torch.set_default_dtype(self.dtype)
        self.draws_randomness |= self._randomness.was_used() or self._start.used_generators()
        output = self._pick(result, inputs.shape[1])
        if self.wakes:  # from now on the weights that the first call made
            self.wakes, self._start = False, Snapshot(self.model)
            self.draws_randomness = False
        return output if with_grad else output.detach().clone()

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

        >>> with Runner(nn.Linear(1, 1), batch=1, length=2) as run:
        ...     with run.precision(torch.float64):
        ...         run(torch.ones(1, 2, 1)).dtype
        torch.float64
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

    def coarsest(self, output: Tensor) -> torch.dtype:
        """Name the dtype with the coarsest rounding in the model and its output.

        Returns:
            A floating dtype.

        >>> with Runner(nn.Linear(1, 1), batch=1, length=2) as run:
        ...     run.coarsest(torch.zeros(1))
        torch.float32
        """
        found = {tensor.dtype for tensor in [*self._start.tensors, output]} & REAL
        return max(found or {torch.get_default_dtype()}, key=lambda dtype: torch.finfo(dtype).eps)

    def _pick(self, result: object, length: int) -> Tensor:
        """Choose what to judge at the first call and the same again at every later one."""
        first = self.forwards == 1
        if self.judged is None:
            self.judged = _choose(result, self.output, self.batch, length)
        tensor = _take(result, self.judged)
        if not first and isinstance(tensor, Tensor) and tensor.is_floating_point():
            if tensor.ndim > 1 and len(tensor) == self.batch and tensor.shape[1] < length:
                # Cut off behind the last real input: an output that is missing is no number.
                missing = (self.batch, length - tensor.shape[1], *tensor.shape[2:])
                tensor = torch.cat([tensor, tensor.new_full(missing, torch.nan)], dim=1)
        if not _has_time_axis(tensor, self.batch, length):
            if not first:
                raise CannotRunError(f"its output has another shape there: {_shape(tensor)}")
            raise ValueError(_no_time_axis(result, self.batch, length))
        if tensor.is_complex():
            tensor = torch.view_as_real(tensor.resolve_conj())
        return tensor if tensor.is_floating_point() else tensor.double()


def _fresh(value: object, dtype: torch.dtype | None = None) -> object:
    """Copy an argument, so that no call sees what the one before did to it."""
    if isinstance(value, Tensor):
        value = value.detach().clone()
        convert = dtype is not None and is_number(value)
        return value.to(matching(value.dtype, dtype)) if convert else value
    if type(value) in (list, tuple):
        return type(value)(_fresh(part, dtype) for part in value)
    if type(value) is dict:
        return {key: _fresh(part, dtype) for key, part in value.items()}
    try:
        return copy.deepcopy(value)
    except Exception:  # what cannot be copied (a lock, a file) is handed on as it is
        return value


def _axes(value: object, batch: int, length: int) -> list[tuple[int, ...]]:
    """List which axes of an argument may run along the sequence, the likeliest first."""
    if not isinstance(value, Tensor) or value.ndim == 0:
        return [()]
    if value.ndim == 1:
        if len(value) != length:
            return [()]
        return [(0,), ()] if batch == length else [(0,)]
    along = [(1,)] if value.shape[1] == length else [()]
    if value.shape[-2:] != (length, length):
        return along
    square = [(-2, -1)]
    if value.ndim == 2:
        return along + square if batch == length else square
    return square + along if value.ndim == 3 else square


def _cut(value: object, axes: tuple[int, ...], short: int) -> object:
    """Cut an argument to the length of a prefix."""
    for axis in axes:
        value = value.narrow(axis, 0, short)
    return value


def _choose(result: object, output, batch: int, length: int) -> str | int | Callable | None:
    """Find which part of a result has a batch and a time axis."""
    if output is not None:
        return output
    if isinstance(result, Tensor):
        return None
    names = _names(result)
    for name in [*(name for name in PREFERRED_OUTPUTS if name in names), *names]:
        if _has_time_axis(_take(result, name), batch, length):
            return name
    raise ValueError(_no_time_axis(result, batch, length))


def _names(result: object) -> list:
    if isinstance(result, Mapping):
        return list(result)
    if isinstance(result, list | tuple):
        return list(range(len(result)))
    return list(vars(result)) if hasattr(result, "__dict__") else []


def _take(result: object, judged: str | int | Callable | None) -> object:
    if judged is None:
        return result
    try:
        if callable(judged):
            return judged(result)
        by_name = isinstance(judged, str) and not isinstance(result, Mapping)
        return getattr(result, judged) if by_name else result[judged]
    except (AttributeError, KeyError, IndexError, TypeError) as error:
        raise ValueError(
            f"output={judged!r} is no part of the model's result ({error}); it has "
            f"{_names(result) or type(result).__name__}"
        ) from error


def _has_time_axis(tensor: object, batch: int, length: int) -> bool:
    return isinstance(tensor, Tensor) and tuple(tensor.shape[:2]) == (batch, length)


def _no_time_axis(result: object, batch: int, length: int) -> str:
    parts = {name: _take(result, name) for name in _names(result)} or {"the output": result}
    shapes = ", ".join(
        f"{name}: {tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__}"
        for name, part in parts.items()
    )
    return (
        f"an output of shape (batch, length, …) = ({batch}, {length}, …) is needed to ask what "
        f'each position depends on, got {shapes}; choose another part with output="name", '
        "output=1 or output=lambda result: …, before pooling and with the batch first"
    )


def _shape(value: object) -> object:
    return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
