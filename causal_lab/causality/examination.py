"""One model, one input: the evidence for and against it is collected here."""

import contextlib
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from causal_lab.causality.futures import FloatFutures, changed_values
from causal_lab.causality.gradients import Lookups, Paths, find_sources, vocabulary_of
from causal_lab.causality.runner import CannotRunError
from causal_lab.causality.trials import Border, Trial, component_scale, differs, movement

OTHER_VALUES = "other values"
LARGE_VALUES = "large values"
REPEATED = "one id repeated"
ONE_INPUT = "one changed input"

_FEWEST_TRIALS = 12  # of other values, where the sequence is short
_SMALL = 1e-3  # relative; smaller movements may be rounding
_ENOUGH = 3  # small movements to see that a model rounds; or large ones to believe the others
_SAME_LENGTH_OR_NOT = 1e-9


class UndecidedError(Exception):
    """Nothing can be said about a model; the message says why.

    >>> str(UndecidedError("the output is empty"))
    'the output is empty'
    """


class Examination:
    """Runs the model in every way that can show a leak, and remembers what was seen.

    Args:
        inputs: Tensor, shape (batch, length, …).
        lookahead: int, how far ahead an output may look.
        special_ids: tuple of int, ids to try ahead.
        cuts: list of int, and ``whole``, whether these are all the cuts.

    >>> from causal_lab.causality.runner import Runner
    >>> inputs = torch.randn(1, 3, 2)
    >>> with Runner(torch.nn.Identity(), batch=1, length=3) as run:
    ...     seen = Examination(run, inputs, 0, (), [1, 2], torch.Generator().manual_seed(0), True)
    ...     seen.examine()
    >>> seen.leaking_trials()
    []
    """

    def __init__(self, run, inputs, lookahead, special_ids, cuts, generator, whole):
        self.run, self.inputs, self.lookahead = run, inputs, lookahead
        self.special_ids, self.cuts, self.generator = special_ids, cuts, generator
        self.whole, self.length = whole, inputs.shape[1]
        self.is_tokens = not inputs.is_floating_point()
        self.trials: list[Trial] = []
        self.methods: list[str] = [OTHER_VALUES]
        self.failures: dict[str, str] = {}
        self.baseline: dict[str, Tensor] = {}
        self.border = Border.between(torch.float32, torch.float64)
        self.native_eps = torch.finfo(torch.float32).eps
        self.no_precision: str | None = None
        self.no_gradients: str | None = None
        self.rows: dict[str, Tensor] = {}
        self.nonlinear: set[int] = set()  # outputs whose faint gradients are rounding
        self.unconfirmed: set[int] = set()  # outputs whose gradients promise what never comes
        self.prefixes: list[tuple] = []  # (precision, relative size, cut, output)
        self.prefix_failure: str | None = None
        self.singles: list[Trial] = []
        self.alone: Tensor | None = None
        self._usual = (-1, 0.0)

    def examine(self) -> None:
        """Collect all evidence.

        Raises:
            UndecidedError: if the model gives nothing to compare.

        >>> from causal_lab.causality.runner import Runner
        >>> inputs = torch.randn(1, 3, 2)
        >>> with Runner(torch.nn.Identity(), batch=1, length=3) as run:
        ...     seen = Examination(run, inputs, 0, (), [2], torch.Generator(), False)
        ...     seen.examine()
        >>> len(seen.trials) > 1
        True
        """
        self._first_runs()
        self._prepare_futures()
        native = self.run.coarsest(self.baseline["native"])
        fine = self._find_fine(native)
        coarse = torch.float32 if native == torch.float64 else native
        self.border = Border.between(coarse, fine)
        self.native_eps = torch.finfo(native).eps
        waiting = self._try_other_values()
        rows_waiting = self._take_gradients("native", self._positions())
        self._run_prefixes(self.cuts)
        with self._precision("fine", fine) as can_run:
            if can_run:
                self._run_all(waiting, "fine")
                self._repeat(self._doubtful, "fine")
                self._take_fine_gradients(rows_waiting)
                self._try_patterns("fine")
                self._confirm_gradients()
                self._run_prefixes(self._worst_prefixes())
        if not can_run:
            self._run_all(waiting, "native")
            self._try_patterns("native")
        if native == torch.float64:
            with self._precision("coarse", coarse) as can_run:
                if can_run:
                    self._run_all(self.leaking_trials(), "coarse")
        self._repeat(
            lambda: [t for t in self.leaking_trials() if "native" not in t.sizes], "native"
        )
        if self.leaking_trials():
            self._doubt_the_leaks()
        self._change_single_inputs(fine)

    # --- the first runs

    def _first_runs(self) -> None:
        """Run twice on the real inputs, to see an output and whether it is the same again."""
        try:
            first = self.run(self.inputs)
        except CannotRunError as failure:
            first = self._first_run_with_gradients(failure)
        self.baseline["native"] = first
        if first.numel() == 0:
            raise UndecidedError("the output is empty")
        if not first.isfinite().any():
            raise UndecidedError("no output for the real inputs is a finite number")
        again = self._or_undecided(lambda: self.run(self.inputs, keep_attributes=True))
        if differs(first, again):
            self._ask_why_it_differs(first)

    def _first_run_with_gradients(self, failure: CannotRunError) -> Tensor:
        """Record gradients: some models take them inside their forward and cannot run without."""
        self.run.with_grad = True
        try:
            return self.run(self.inputs).detach()
        except CannotRunError:
            raise UndecidedError(str(failure)) from failure

    def _ask_why_it_differs(self, first: Tensor) -> None:
        state = "its state changes from call to call: the same inputs gave another output"
        third = self._or_undecided(lambda: self.run(self.inputs))
        if not differs(first, third):
            raise UndecidedError(state)
        noise = movement(first, third, self.length).max()
        state += " (random numbers that no seed governs?)"
        with self._precision("fine", torch.float64) as can_run:
            if not can_run:
                raise UndecidedError(state)
            again = self._or_undecided(lambda: self.run(self.inputs))
            rest = movement(self.baseline["fine"], again, self.length).max()
        if rest > 1e-6 * noise:
            raise UndecidedError(state)

    def _or_undecided(self, call: Callable) -> Tensor:
        try:
            return call().detach()
        except CannotRunError as failure:
            raise UndecidedError(str(failure)) from failure

    def _prepare_futures(self) -> None:
        self.sources, self.real_lookups, vocabulary = {}, Lookups(set()), 0
        if self.is_tokens:
            vocabulary = self._watch_lookups()
        self.futures = changed_values(self.inputs, vocabulary, self.special_ids)
        self.methods += list(self.futures.patterns)

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
        try:
            self.sources = find_sources(
                self.run, self.inputs, size, self.real_lookups, self.generator
            )
        except CannotRunError as failure:
            self.no_gradients = str(failure)
        return size

    # --- precisions

    def _find_fine(self, native: torch.dtype) -> torch.dtype:
        """Choose the precision for doubtful cases: 64 bits, for half precision 32 will do."""
        if native in (torch.float16, torch.bfloat16):
            with self._precision("fine", torch.float64) as can_run:
                pass
            if not can_run:
                self.no_precision = None
                return torch.float32
        return torch.float64

    @contextlib.contextmanager
    def _precision(self, name: str, dtype: torch.dtype):
        """Enter another precision if the model can run there; say whether it can."""
        with contextlib.ExitStack() as stack:
            can_run = self.no_precision is None
            if can_run:
                try:
                    stack.enter_context(self.run.precision(dtype))
                    self.baseline[name] = self.run(self.inputs).detach()
                    if not self.baseline[name].isfinite().any():
                        raise CannotRunError("its output is not finite")
                except (CannotRunError, RuntimeError, TypeError, ValueError) as failure:
                    self.no_precision, can_run = str(failure), False
                    stack.close()
            yield can_run

    # --- other futures

    def _try_other_values(self) -> list[Trial]:
        """Replace the future at every cut; return the trials that are left to finer numbers."""
        rounds = max(1, -(-_FEWEST_TRIALS // len(self.cuts))) if self.whole else 1
        small, waiting = 0, []
        for number in range(rounds):
            for cut in self.cuts:
                inputs = self.futures.other_values(cut, self.generator, offset=number)
                trial = Trial(OTHER_VALUES, cut, inputs)
                if small >= _ENOUGH:
                    # The model rounds: natively this would have to be repeated anyway.
                    waiting.append(trial)
                    continue
                if (seen := self._run_or_tame(trial)) is not None:
                    small += bool(0 < seen.relative["native"].max() < _SMALL)
        return waiting

    def _run_or_tame(self, trial: Trial) -> Trial | None:
        """Run natively; where the model refuses these values, with some that it knows."""
        try:
            self._run_trial(trial, "native")
            if not self._overflows(trial):
                self.trials.append(trial)
                return trial
        except CannotRunError:
            pass
        inputs = self.futures.other_values(trial.cut, self.generator, tame=True)
        tame = Trial(trial.method, trial.cut, inputs)
        try:
            self._run_trial(tame, "native")
        except CannotRunError as failure:
            self.failures.setdefault(trial.method, str(failure))
            return None
        self.trials.append(tame)
        return tame

    def _run_trial(self, trial: Trial, precision: str) -> None:
        output = self.run(trial.inputs)
        trial.note(precision, self.baseline[precision], output, trial.cut - self.lookahead)
        future = output[:, trial.cut :].detach()
        trial.future_is_finite = bool(future.isfinite().all())

    def _overflows(self, trial: Trial) -> bool:
        """Say whether earlier outputs are no numbers because the later ones are none either."""
        broken = any(not size.isfinite().all() for size in trial.sizes.values())
        return broken and not trial.future_is_finite

    def _run_all(self, trials: list[Trial], precision: str) -> None:
        for trial in trials:
            try:
                self._run_trial(trial, precision)
            except CannotRunError as failure:
                self.failures.setdefault(trial.method, str(failure))
                continue
            if not any(trial is known for known in (*self.trials, *self.singles)):
                self.trials.append(trial)

    def _doubtful(self) -> list[Trial]:
        return [t for t in self.trials if t.moved("native") and "fine" not in t.sizes]

    def _repeat(self, find: Callable, precision: str) -> None:
        """Compute doubtful trials again; of large movements a sample, if it leaves no doubt."""
        doubtful = find()
        large = [t for t in doubtful if max(r.max() for r in t.relative.values()) >= _SMALL]
        sample = list({id(t): t for t in large[:_ENOUGH] + large[-_ENOUGH:]}.values())
        known = {id(t) for t in large}
        self._run_all([t for t in doubtful if id(t) not in known] + sample, precision)
        if not all(bool(self.leaks_of(trial).any()) for trial in sample):
            self._run_all([t for t in find() if precision not in t.sizes], precision)

    def _try_patterns(self, precision: str) -> None:
        """Try the other kinds of future: special ids, one id repeated, large values."""
        for method, draw in self.futures.patterns.items():
            for cut in self.cuts:
                try:
                    self._try_pattern(method, draw, cut, precision)
                except CannotRunError as failure:
                    if method == REPEATED:  # other ids than the text's own are not for this model
                        inputs = self.futures.other_values(cut, self.generator, tame=True)
                        self._run_all([Trial(method, cut, inputs)], precision)
                    else:
                        self.failures.setdefault(method, str(failure))

    def _try_pattern(self, method: str, draw: Callable, cut: int, precision: str) -> None:
        scales = self.futures.scales if isinstance(self.futures, FloatFutures) else (None,)
        for scale in scales:
            options = {} if scale is None else {"scale": scale}
            trial = Trial(method, cut, draw(cut, self.generator, **options))
            self._run_trial(trial, precision)
            if bool(trial.sizes[precision].isfinite().all()):
                break
        if scale is not None and bool(self.border.leaks(trial).any()):
            self._shake(trial, precision)
        if self._overflows(trial):
            self.failures.setdefault(method, "the model overflows at these values")
        else:
            self.trials.append(trial)

    def _shake(self, trial: Trial, precision: str) -> None:
        """Take out what is another movement after the slightest change: that is rounding."""
        before = self.run(trial.inputs)
        future = trial.inputs[:, trial.cut :].to(before.dtype)
        past = trial.inputs[:, : trial.cut].to(before.dtype)
        inputs = torch.cat([past, future * (1 + 16 * torch.finfo(before.dtype).eps)], dim=1)
        shaken = movement(before, self.run(inputs), trial.cut - self.lookahead)
        rounds = shaken > 1e-3 * trial.sizes[precision]
        trial.sizes[precision] = trial.sizes[precision].masked_fill(rounds, 0.0)
        trial.relative[precision] = trial.relative[precision].masked_fill(rounds, 0.0)

    def leaking_trials(self) -> list[Trial]:
        """List the trials in which an earlier output moved by more than rounding.

        Returns:
            As far as is known.

        >>> Examination(None, torch.zeros(1, 2, 1), 0, (), [1], None, True).leaking_trials()
        []
        """
        return [trial for trial in self.trials if bool(self.leaks_of(trial).any())]

    def leaks_of(self, trial: Trial) -> Tensor:
        """Say which outputs leak in one trial.

        Returns:
            bool, shape (length,), a large movement that was not computed again counts if all that
            were did.

        >>> seen = Examination(None, torch.zeros(1, 2, 1), 0, (), [1], None, True)
        >>> trial = Trial("other values", 1, seen.inputs)
        >>> trial.note("fine", torch.zeros(1, 2, 1), torch.ones(1, 2, 1), limit=1)
        >>> seen.leaks_of(trial).tolist()
        [True, False]
        """
        if "fine" in trial.sizes or self.no_precision is not None:
            leaks = self.border.leaks(trial, self._usual_rounding())
            return leaks | self._only_natively(trial, leaks)
        large = trial.relative["native"] >= _SMALL
        if not large.any():
            return large
        return large & self._large_ones_are_leaks()

    def _large_ones_are_leaks(self) -> bool:
        both = [t for t in self.trials if {"native", "fine"} <= set(t.sizes)]
        both = [t for t in both if t.relative["native"].max() >= _SMALL]
        return bool(both) and all(bool(self.border.leaks(trial).any()) for trial in both)

    def _usual_rounding(self) -> float:
        """Say what other trials moved natively where they did not leak."""
        known = len(self.trials) + sum(len(trial.sizes) for trial in self.trials)
        if known == self._usual[0]:  # asked again and again, for every trial
            return self._usual[1]
        moved = [
            float(t.relative["native"].max())
            for t in self.trials
            if {"native", "fine"} <= set(t.sizes)
            and t.relative["native"].isfinite().all()
            and not bool(self.border.leaks(t).any())
        ]
        self._usual = known, max(moved, default=0.0)
        return self._usual[1]

    def _only_natively(self, trial: Trial, leaks: Tensor) -> Tensor:
        """Find leaks of the native kernels alone: large, and gradients run along them too.

        Rounding can be as large where large numbers cancel, but no gradient runs along it.
        """
        nothing = torch.zeros_like(leaks)
        if trial.method not in (OTHER_VALUES, ONE_INPUT) or "native" not in trial.sizes:
            return nothing
        large = (trial.relative["native"] > 1e-2) & ~leaks
        if not large.any() or self._shrinks_like_rounding(trial):
            return nothing
        beyond = trial.relative["native"] > 1e5 * self.native_eps
        if "native" not in self.rows:
            return large & beyond
        rows = self.rows["native"].nan_to_num()
        ahead = rows.triu(self.lookahead + 1).amax(dim=1) > 1e-2 * rows.amax(dim=1)
        return large & (ahead | beyond)

    def _shrinks_like_rounding(self, trial: Trial) -> bool:
        """Tell rounding, which falls with the precision, from a leak that is gone at once."""
        if not trial.moved("fine"):
            return False
        left = float(trial.relative["fine"].max()) / float(trial.relative["native"].max())
        return left > 1e-3 * self.border.noise / 100 / self.native_eps

    # --- gradients

    def _positions(self) -> list[int]:
        if self.whole:
            return list(range(self.length))
        return sorted({cut - 1 - self.lookahead for cut in self.cuts} & set(range(self.length)))

    def _paths(self) -> Paths:
        return Paths(self.run, self.inputs, self.sources, self.lookahead, self.real_lookups.shapes)

    def _take_gradients(self, precision: str, positions: list[int]) -> list[int]:
        """Take gradients from every output; return the positions left to finer numbers."""
        if self.no_gradients is not None:
            return []
        rows = torch.full((self.length, self.length), torch.nan, dtype=torch.float64)
        small = 0
        try:
            paths = self._paths()
            if precision == "native":
                self.direction = torch.randn(
                    paths.output.shape, generator=self.generator, dtype=torch.float64
                ).to(paths.output.device)
            for number, position in enumerate(positions):
                if small >= _ENOUGH and self.no_precision is None:
                    self.rows[precision] = rows
                    return positions[number:]
                rows[position] = paths.row(position, self.direction)
                future = self._future_of(rows)[position].max()
                small += bool(0 < future < _SMALL * rows[position].nan_to_num().max())
        except CannotRunError as failure:
            self.no_gradients = str(failure)
            return []
        self.rows[precision] = rows
        return []

    def _future_of(self, rows: Tensor) -> Tensor:
        """Keep what lies further ahead than is allowed; a gradient that is no number is none."""
        return torch.nan_to_num(rows, nan=0.0, posinf=0.0).triu(self.lookahead + 1)

    def _take_fine_gradients(self, waiting: list[int]) -> None:
        """Repeat what may be rounding; of what is large, a sample."""
        if "native" not in self.rows:
            return
        future = self._future_of(self.rows["native"]).amax(dim=1)
        largest = self.rows["native"].nan_to_num().amax(dim=1)
        small = ((future > 0) & (future < _SMALL * largest)).nonzero().flatten().tolist()
        large = (future >= _SMALL * largest).logical_and(future > 0).nonzero().flatten().tolist()
        sample = [*large[:1], *large[-1:]]
        # Where a model rounds, the last outputs round too, which have no future to show it.
        wanted = sorted({*waiting, *small, *sample} | set(self._positions() if small else []))
        if not wanted:
            return
        rows = torch.full((self.length, self.length), torch.nan, dtype=torch.float64)
        with contextlib.suppress(CannotRunError):  # then the doubt stays, and is said
            paths = self._paths()
            for position in wanted:
                rows[position] = paths.row(position, self.direction)
            again = self._future_of(rows)[sample].amax(dim=1) if sample else torch.ones(1)
            if (again < _SMALL * largest[sample] if sample else again < 0).any():
                for position in set(large) - set(wanted):
                    rows[position] = paths.row(position, self.direction)
            self.rows["fine"] = rows
            self._test_faint_gradients(paths, rows)

    def _test_faint_gradients(self, paths: Paths, rows: Tensor) -> None:
        """Tell faint gradients from rounding: a gradient grows with its direction, exactly."""
        largest = rows.nan_to_num().amax(dim=1, keepdim=True)
        faint = self._future_of(rows)
        faint = torch.where(faint <= self.border.noise * largest, faint, 0.0)
        positions = (faint > 0).any(dim=1).nonzero().flatten().tolist()
        linear = []
        for position in positions:
            if len(linear) >= _ENOUGH and len(set(linear)) == 1:
                is_linear = linear[0]
            else:
                again = paths.row(position, 1.7 * self.direction) / 1.7
                here = faint[position] > 0
                change = (again - rows[position])[here].abs() / faint[position][here]
                is_linear = bool(change.median() < 1e-6)
                linear.append(is_linear)
            if not is_linear:
                self.nonlinear.add(position)

    def gradient_leaks(self) -> Tensor:
        """Give the gradients that run further ahead than is allowed and are not rounding.

        Returns:
            float64, shape (length, length), 0 elsewhere.

        >>> seen = Examination(None, torch.zeros(1, 2, 1), 0, (), [1], None, True)
        >>> seen.gradient_leaks().sum().item()
        0.0
        """
        leaks = self._future_of(self.gradients())
        for position in self.unconfirmed:
            leaks[position] = 0.0
        return leaks

    def gradients(self) -> Tensor:
        """Give all gradients, without what is rounding; NaN in rows that were not measured.

        Returns:
            float64, shape (length, length), ``[t, s]``: from output t to input s.

        >>> seen = Examination(None, torch.zeros(1, 2, 1), 0, (), [1], None, True)
        >>> seen.gradients().isnan().all().item()
        True
        """
        rows = torch.full((self.length, self.length), torch.nan, dtype=torch.float64)
        native, fine = self.rows.get("native", rows), self.rows.get("fine", rows)
        rows = torch.where(fine.isnan(), native, fine)
        usual = self._usual_gradient_rounding(native, fine)
        for position in range(self.length):
            if fine[position].isnan().all():
                if self._future_of(native)[position].any() and not self._trusts_large(position):
                    rows[position, position + self.lookahead + 1 :] = 0.0
                continue
            largest = fine[position].nan_to_num().max()
            coarse = native[position].nan_to_num()
            floor = self.border.shrinks_to * coarse
            floor = floor.clamp_min(usual * largest)
            noise = float(self.border.noise * largest)
            if position in self.nonlinear:
                floor = floor.clamp_min(noise)
            # In the past, what is fainter than rounding may be taken for rounding.
            past = slice(0, position + self.lookahead + 1)
            floor[past] = floor[past].clamp_min(noise)
            rows[position] = torch.where(fine[position] <= floor, 0.0, fine[position])
        return rows

    def _usual_gradient_rounding(self, native: Tensor, fine: Tensor) -> float:
        """Say what rounding may leave of a gradient, from the outputs measured in both."""
        ahead, again = self._future_of(native).amax(dim=1), self._future_of(fine).amax(dim=1)
        shrunk = (ahead > 0) & (again <= self.border.shrinks_to * ahead)
        share = ahead[shrunk] / native.nan_to_num().amax(dim=1)[shrunk]
        return self.border.shrinks_to * float(share.max()) if shrunk.any() else 0.0

    def _trusts_large(self, position: int) -> bool:
        """Say whether a native gradient into the future may be believed without repeating it."""
        if self.no_precision is not None or "fine" not in self.rows:
            return False
        future = self._future_of(self.rows["native"])[position].max()
        return bool(future >= _SMALL * self.rows["native"][position].nan_to_num().max())

    def gradient_doubts(self) -> bool:
        """Say whether gradients run ahead that could not be computed more finely.

        Returns:
            True leaves the verdict open.

        >>> Examination(None, torch.zeros(1, 2, 1), 0, (), [1], None, True).gradient_doubts()
        False
        """
        if "native" not in self.rows or "fine" in self.rows:
            return False
        return bool((self._future_of(self.rows["native"]) > 0).any())

    def _confirm_gradients(self) -> None:
        """Follow gradients into the future: a straight-through trick promises what never comes."""
        rows = set((self.gradient_leaks() > 0).any(dim=1).nonzero().flatten().tolist())
        for trial in self.leaking_trials():
            rows -= set(self.leaks_of(trial).nonzero().flatten().tolist())
        if not rows:
            return
        with contextlib.suppress(CannotRunError):  # then the gradient stands
            paths = self._paths()
            base = paths.output.detach()
            for position in sorted(rows):
                if self._promise_is_broken(paths, base, position):
                    self.unconfirmed.add(position)

    def _promise_is_broken(self, paths: Paths, base: Tensor, position: int) -> bool:
        broken = False
        spread = 1.0 if self.is_tokens else max(float(self.inputs.double().std(correction=0)), 1e-3)
        for step in (spread, 1e3 * spread):
            output, promised = paths.moved(position, self.direction, step)
            scale = torch.maximum(component_scale(base), component_scale(output))
            size = float(movement(base, output, self.length)[position])
            noise = self.border.noise * float(scale.max())
            if size > noise:
                return False
            broken |= promised > 1e3 * noise
        return broken

    # --- prefixes

    def _run_prefixes(self, cuts: list[int]) -> None:
        """Run prefixes alone, to see whether the length matters."""
        if self.run.draws_randomness:
            self.prefix_failure = "not comparable, the model draws random numbers"
            return
        precision = "native" if self.run.dtype is None else "fine"
        base = self.baseline[precision]
        scale = component_scale(base)
        for cut in cuts:
            kept = cut - max(self.lookahead, 0)
            try:
                output = self.run(self.inputs[:, :cut]) if kept > 0 else None
            except (CannotRunError, ValueError) as failure:
                self.prefix_failure = str(failure)
                continue
            if output is not None:
                sizes = movement(base[:, :cut], output, kept, scale)
                self.prefixes.append((precision, float(sizes.max()), cut, int(sizes.argmax())))

    def _worst_prefixes(self) -> list[int]:
        """Choose the prefixes that differ most: only they are run again, more finely."""
        worst = sorted(self.prefixes, key=lambda seen: -seen[1])[:_ENOUGH]
        return [cut for _, size, cut, _ in worst if size > 0]

    def length_dependence(self) -> tuple[bool | None, str]:
        """Say whether the outputs depend on how many inputs there are.

        Returns:
            depends: None where it could not be told.
            detail: one sentence.

        >>> Examination(None, torch.zeros(1, 2, 1), 0, (), [1], None, True).length_dependence()
        (None, 'no shorter sequence could be run (None)')
        """
        if not self.prefixes:
            return None, f"no shorter sequence could be run ({self.prefix_failure})"
        fine = [seen for seen in self.prefixes if seen[0] == "fine"]
        native_worst = max(self.prefixes, key=lambda seen: seen[1])
        if native_worst[1] > 0 and not fine and native_worst[1] < 1e-2:
            return None, "differences as small as rounding"
        _, size, cut, output = max(fine or [native_worst], key=lambda seen: seen[1])
        if size > _SAME_LENGTH_OR_NOT:
            return True, f"output {output} is another one when only the first {cut} inputs are run"
        count = len({seen[2] for seen in self.prefixes})
        return False, f"the {count} shorter sequences give the same outputs"

    # --- after a leak

    def _doubt_the_leaks(self) -> None:
        """Before a verdict: does the model keep the future somewhere, or does chance shift."""
        again = self._or_undecided(lambda: self.run(self.inputs))
        base = self.baseline["native"]
        if (movement(base, again, self.length, component_scale(base)) > _SMALL).any():
            raise UndecidedError(
                "it keeps something from earlier calls: after other inputs, the same inputs gave "
                "another output"
            )
        ahead = (self.gradient_leaks() > 0).any()
        if self.run.draws_randomness and not ahead and self._is_chance():
            raise UndecidedError(
                "random numbers fall on other places when the future changes; judge it with "
                "train=False"
            )

    def _is_chance(self) -> bool:
        """Run again with dropout switched off."""
        with contextlib.suppress(CannotRunError):
            base = self.run(self.inputs, mode=_NoDropout())
            for trial in self.leaking_trials()[:_ENOUGH]:
                output = self.run(trial.inputs, mode=_NoDropout())
                sizes = movement(base, output, trial.cut - self.lookahead, component_scale(base))
                if (sizes > _SMALL).any():
                    return False
            return True
        return False

    def _change_single_inputs(self, fine: torch.dtype) -> None:
        """Change one input at a time, to see where exactly a leak comes from."""
        if not self.whole:
            return
        if self._has_blind_outputs():
            self._locate(fine)
        if "native" not in self.rows:
            self._map_all_alone()

    def _has_blind_outputs(self) -> bool:
        """Say whether an output leaks from which no gradient runs ahead."""
        seen = (self.gradient_leaks() > 0).any(dim=1)
        return any(bool((self.leaks_of(t) & ~seen).any()) for t in self.leaking_trials())

    def _locate(self, fine: torch.dtype) -> None:
        """Change one input alone, to a value that leaked, and see which outputs it moves."""
        leaking = self.leaking_trials()
        for method in {trial.method for trial in leaking}:
            of_method = [trial for trial in leaking if trial.method == method]
            for position in range(self.length):
                covering = [trial for trial in of_method if trial.cut <= position]
                if covering:
                    nearest = max(covering, key=lambda trial: trial.cut)
                    self._run_single(position, nearest.inputs)
        sample = self.singles if not self._large_ones_are_leaks() else self._small_singles()
        with self._precision("fine", fine) as can_run:
            if can_run:
                self._run_all(sample, "fine")

    def _run_single(self, position: int, changed: Tensor) -> None:
        single = Trial(ONE_INPUT, position, self.futures.only(position, changed))
        with contextlib.suppress(CannotRunError):  # a gap in the map, no more
            self._run_trial(single, "native")
            self.singles.append(single)

    def _small_singles(self) -> list[Trial]:
        return [t for t in self.singles if t.relative["native"].max() < _SMALL]

    def _map_all_alone(self) -> None:
        """Draw the whole map by changed inputs, where there are no gradients."""
        self.alone = torch.zeros(self.length, self.length, dtype=torch.float64)
        for position in range(self.length):
            inputs = self.futures.only(
                position, self.futures.other_values(position, self.generator)
            )
            with contextlib.suppress(CannotRunError):  # a gap in the map, no more
                output = self.run(inputs)
                self.alone[:, position] = movement(self.baseline["native"], output, self.length)


class _NoDropout(TorchFunctionMode):
    """Let everything through where a model would drop some of it by chance."""

    _NAMES = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "dropout_")

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in self._NAMES:
            return args[0] if args else kwargs["input"]
        if func is F.scaled_dot_product_attention:
            kwargs = {**kwargs, "dropout_p": 0.0}
        return func(*args, **kwargs)
