"""One model at one input, in the precisions in which it can be run."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from causal_lab.causality import thresholds
from causal_lab.causality.budget import Budget
from causal_lab.causality.futures import changed_values
from causal_lab.causality.gradients import Lookups, Paths, find_sources, vocabulary_of
from causal_lab.causality.runner import CannotRunError, Runner
from causal_lab.causality.thresholds import eps_of
from causal_lab.causality.trials import differs, movement

NATIVE, FINE = "native", "fine"


class UndecidedError(Exception):
    """Nothing can be said about a model; the message says why."""


class Scene:
    """What all methods share: the runner, the inputs, the outputs for them, and what is allowed.

    Args:
        inputs: shape (batch, length, …).
        allowed: bool, shape (output, input), True where an output may depend on an input.
        special_ids: ids to try where inputs are changed.
        seed: of every draw.
    """

    def __init__(
        self,
        run: Runner,
        inputs: Tensor,
        allowed: Tensor,
        special_ids: tuple[int, ...] = (),
        seed: int = 0,
        budget: Budget | None = None,
    ):
        self.run, self.inputs, self.allowed = run, inputs, allowed
        self.special_ids, self.seed, self.budget = special_ids, seed, budget or Budget()
        self.is_tokens = not inputs.is_floating_point()
        self.precision = NATIVE
        self.baseline: dict[str, Tensor] = {}
        self.eps: dict[str, float] = {}
        self.no_precision: str | None = None  # why there is no finer one
        self.no_gradients: str | None = None
        self.sources: dict[int, Tensor] = {}
        self.real_lookups = Lookups(set())

    def open(self) -> None:
        """Run on the real inputs, and see whether that gives the same again.

        Raises:
            UndecidedError: if the model gives nothing to compare.
        """
        try:
            first = self.run(self.inputs)
        except CannotRunError as failure:
            first = self._first_run_with_gradients(failure)
        self.baseline[NATIVE] = first
        if first.numel() == 0:
            raise UndecidedError("the output is empty")
        if not first.isfinite().any():
            raise UndecidedError("no output for the real inputs is a finite number")
        self._look_for_state(first)
        self.eps[NATIVE] = torch.finfo(self.run.coarsest(first)).eps
        vocabulary = self._watch_lookups() if self.is_tokens else 0
        self.futures = changed_values(self.inputs, vocabulary, self.special_ids)

    def _first_run_with_gradients(self, failure: CannotRunError) -> Tensor:
        """Record gradients: some models take them inside their forward and cannot run without."""
        self.run.with_grad = True
        try:
            return self.run(self.inputs).detach()
        except CannotRunError:
            raise UndecidedError(str(failure)) from failure

    def _look_for_state(self, first: Tensor) -> None:
        # A cache and a number that says how full it is belong together: first all is left.
        for keep in ("all", "attributes"):
            if not differs(first, self.try_run(self.inputs, keep=keep)):
                return
        state = "its state changes from call to call: the same inputs gave another output"
        third = self.try_run(self.inputs)
        if not differs(first, third):
            raise UndecidedError(state)
        noise = movement(first, third).max()
        state += " (random numbers that no seed governs?)"
        with self.finely() as can_run:
            if not can_run:
                raise UndecidedError(state)
            rest = movement(self.baseline[FINE], self.try_run(self.inputs)).max()
        if rest > thresholds.SHAKE * noise:
            raise UndecidedError(state)

    def try_run(self, inputs: Tensor, **options) -> Tensor:
        """Run where a failure leaves everything open; give the output, shape (batch, output, …).

        Raises:
            UndecidedError: if the model raises.
        """
        try:
            return self.run(inputs, **options).detach()
        except CannotRunError as failure:
            raise UndecidedError(str(failure)) from failure

    def _watch_lookups(self) -> int:
        """See which tables the ids are looked up in: how many ids there are, and where they go."""
        largest = int(self.inputs.max())
        with contextlib.suppress(CannotRunError):  # then the ids that are there must do
            self.real_lookups = Lookups(self.run.tables)
            self.run(self.inputs, mode=self.real_lookups)
        size = vocabulary_of(self.inputs, self.real_lookups) or largest + 1
        if size < 2:
            raise UndecidedError(
                "only the id 0 is known; give inputs with at least two different ids"
            )
        generator = self.generator(-1)
        try:
            self.sources = find_sources(self.run, self.inputs, size, self.real_lookups, generator)
        except CannotRunError as failure:
            self.no_gradients = str(failure)
        return size

    def generator(self, number: int) -> torch.Generator:
        """Make the generator of one draw, the same in every precision."""
        return torch.Generator().manual_seed((self.seed * 1_000_003 + number) % 2**63)

    @contextlib.contextmanager
    def finely(self) -> Iterator[bool]:
        """Enter 64 bits, for half precision else 32, if the model can run there; say if it can."""
        wanted = [torch.float64]
        wanted += [torch.float32] * (self.baseline[NATIVE].dtype in (torch.float16, torch.bfloat16))
        with contextlib.ExitStack() as stack:
            can_run = False
            for dtype in wanted if self.no_precision is None else []:
                if can_run := self._enter(stack, dtype):
                    break
            self.precision = FINE if can_run else NATIVE
            try:
                yield can_run
            finally:
                self.precision = NATIVE

    def _enter(self, stack: contextlib.ExitStack, dtype: torch.dtype) -> bool:
        try:
            with contextlib.ExitStack() as own:
                own.enter_context(self.run.precision(dtype))
                if FINE not in self.baseline or self.baseline[FINE].dtype != dtype:
                    output = self.run(self.inputs).detach()
                    if not output.isfinite().any():
                        raise CannotRunError("its output is not finite")
                    self.baseline[FINE] = output
                    with self.run.shaken(self.inputs, 0):
                        self.eps[FINE] = max(eps_of(self.run(self.inputs)), torch.finfo(dtype).eps)
                stack.push(own.pop_all())
            self.no_precision = None
            return True
        except (CannotRunError, RuntimeError, TypeError, ValueError) as failure:
            self.no_precision = str(failure)
            return False

    @property
    def base(self) -> Tensor:
        """The output for the real inputs, in the precision of the moment."""
        return self.baseline[self.precision]

    def paths(self) -> Paths:
        """Run with gradients, in the precision of the moment.

        Raises:
            CannotRunError: if no gradient reaches the inputs.
        """
        if self.no_gradients is not None:
            raise CannotRunError(self.no_gradients)
        shapes = self.real_lookups.shapes
        return Paths(self.run, self.inputs, self.sources, shapes)

    def shaken_twice(self, work: Callable) -> list:
        """Do some work twice while everything is shaken, in two ways.

        Args:
            work: called with the output for the real inputs.
        """
        results = []
        for seed in (1, 2):
            with self.run.shaken(self.inputs, seed, self.eps[self.precision]):
                results.append(work(self.run(self.inputs).detach()))
        return results
