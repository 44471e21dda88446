"""Watch a model write: which rows of attention a step computes, and which are there already."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from causal_lab.explorers.canvas import Canvas, Cells, HeatPanel, shortened
from causal_lab.explorers.explorer import Explorer, choice, slider
from causal_lab.models.generation import stream
from causal_lab.models.transformer import Transformer
from causal_lab.plots.style import printable
from causal_lab.validation import check_size, describe

CACHED, UNCACHED = "with a cache", "without"
_AXES = ("query (looks); black: computed now, pale: not read yet", "key (is looked at)", "weight")
_TITLE_LENGTH = 44


@dataclass(frozen=True)
class GenerationState:
    """What a :class:`GenerationExplorer` shows.

    Args:
        weights: float32, (query, key) = (T, T), of one head, over all tokens that there are; 0
            where nothing was computed yet.
        read: how many tokens the model has read. The newest is written and not yet read, unless
            there is none: then all T are the prompt.
        step: how many tokens are written.
        computed: how many rows this step computed: the last of those that were read.
        total: how many rows were computed from the first step to this one.

    >>> weights = np.eye(3, dtype=np.float32)
    >>> GenerationState(weights, ("a", "b", "c"), 3, 0, 3, 3).written is None
    True
    """

    weights: np.ndarray
    labels: tuple[str, ...]
    read: int
    step: int
    computed: int
    total: int

    @property
    def written(self) -> str | None:
        """The newest token; None if there is only the prompt."""
        return self.labels[-1] if self.step else None


def generation_state(
    step: int, layer: int, head: int, computed: str, weights: np.ndarray, labels: Sequence[str]
) -> GenerationState:
    """Compute what a :class:`GenerationExplorer` shows.

    Args:
        layer, head: whose weights, counted from 0.
        computed: ``CACHED`` or ``UNCACHED``.
        weights: float32, shape (layer, head, query, key), all that was recorded; rows beyond those
            that were read are not looked at.
        labels: of the prompt and of exactly ``step`` tokens after it.

    >>> weights = np.zeros((1, 1, 5, 5), dtype=np.float32)
    >>> state = generation_state(2, 0, 0, CACHED, weights, ["a", "b", "c", "d"])
    >>> state.read, state.computed, state.total
    (3, 1, 3)
    """
    T, prompt = len(labels), len(labels) - step
    read = T - 1 if step else T
    square = np.zeros((T, T), dtype=np.float32)
    square[:read, :read] = weights[layer, head, :read, :read]
    if computed == CACHED:
        rows, total = prompt if step < 2 else 1, read
    else:
        rows, total = read, sum(range(prompt, read + 1))
    return GenerationState(square, tuple(labels), read, step, rows, total)


class GenerationExplorer(Explorer):
    """Watch a model write token by token, and slide back through what it looked at.

    Args:
        model: causal, in eval mode.
        prompt: integer, shape (length,), how the text begins; read at once, so that its attention
            is there from the start.
        symbols: what a token id looks like, a character for example; its number if not given.

    >>> from causal_lab.models.transformer import GPT
    >>> model = GPT(26, 16, d_model=8, num_heads=2).eval()
    >>> prompt = torch.tensor([2, 0, 19])
    >>> explorer = GenerationExplorer(model, prompt, "abcdefghijklmnopqrstuvwxyz", steps=5)
    >>> explorer.state.labels, len(list(explorer.stream()))
    (('c', 'a', 't'), 5)
    >>> explorer.controls["step"].value, len(explorer.state.labels)
    (5, 8)
    """

    def __init__(
        self,
        model: Transformer,
        prompt: Tensor,
        symbols: Callable[[int], str] | Sequence[str] | None = None,
        steps: int = 40,
    ):
        self.steps = check_size("steps", steps)
        self.model = _check_model(model)
        self.prompt = _check_prompt(model, prompt, self.steps)
        self.symbol = _check_symbols(model, symbols)
        self._labels = [self.symbol(number) for number in self.prompt.tolist()]
        self._streams = 0  # which stream is recorded: the newest one only
        with torch.no_grad():
            _, seen = model(self.prompt[None], need_weights=True)
        heads, length = seen[0].shape[1], len(self.prompt)
        room = length + self.steps - 1  # the last token is written and never read
        self.weights = np.zeros((len(seen), heads, room, room), dtype=np.float32)
        self._record(seen, 0)
        controls = {
            "step": slider("step, tokens written", 0, 0, self.steps),
            # A slider needs two different ends; `limits` sees to it that it stays at one.
            "layer": slider("layer", 0, 0, max(len(seen) - 1, 1)),
            "head": slider("head", 0, 0, max(heads - 1, 1)),
            "computed": choice("computed now", [CACHED, UNCACHED]),
        }
        # Room below for what most tokens need: letters beside a few special ones stay letters.
        lengths = [len(self.symbol(n)) for n in range(model.token_embedding.num_embeddings)]
        words = statistics.median(lengths) > 2
        super().__init__(controls, Canvas([HeatPanel(440, words=words, names=_AXES)]))

    @property
    def written(self) -> int:
        """How many tokens are written so far."""
        return len(self._labels) - len(self.prompt)

    def stream(self, **options) -> Iterator[int]:
        """Let the model write, and follow it with the step slider.

        What was written before is forgotten when this is called.

        Args:
            **options: as for :func:`causal_lab.models.generation.stream`: ``temperature``, say.

        Yields:
            Each token's id as soon as it is there.

        >>> from causal_lab.models.transformer import GPT
        >>> model = GPT(10, 8, d_model=8, num_heads=2).eval()
        >>> explorer = GenerationExplorer(model, torch.tensor([1, 2, 3]), steps=4)
        >>> for token in explorer.stream(temperature=1.0, top_k=5):
        ...     assert explorer.state.written == str(token)
        """
        own = {"cache", "padding", "need_weights"} & set(options)
        if own:
            raise ValueError(
                f"{', '.join(sorted(own))} cannot be given: the explorer watches one whole text in "
                "a cache of its own; use causal_lab.models.generation.stream for anything else"
            )
        steps = stream(self.model, self.prompt[None], self.steps, need_weights=True, **options)
        with self._lock:
            self._streams += 1
            number = self._streams
            del self._labels[len(self.prompt) :]
            self._show(0)

        def write() -> Iterator[int]:
            for token, seen in steps:
                with self._lock:
                    self._check_newest(number)
                    self._record(seen, seen[0].shape[-1] - seen[0].shape[-2])
                    self._labels.append(self.symbol(int(token)))
                    self._show(self.written)
                yield int(token)

        return write()

    def limits(self, **values) -> dict[str, int]:  # noqa: D102
        layers, heads = self.weights.shape[:2]
        return {"step": self.written, "layer": layers - 1, "head": heads - 1}

    def compute(self, step: int, layer: int, head: int, computed: str) -> GenerationState:  # noqa: D102
        labels = self._labels[: len(self.prompt) + step]
        return generation_state(step, layer, head, computed, self.weights, labels)

    def paint(self, state: GenerationState) -> np.ndarray:  # noqa: D102
        T = len(state.labels)
        absent = np.zeros((T, T), dtype=bool)
        absent[state.read :] = True
        blocked = np.triu(np.ones((T, T), dtype=bool), 1)
        marked = range(state.read - state.computed, state.read)
        rows = f"{state.computed} of {state.read} rows"
        if state.written is None:
            caption = f"nothing is written yet: the prompt was read in one pass, {rows}"
        else:
            caption = (
                f"step {state.step} writes “{shortened(state.written)}”: computed {rows}; "
                f"{state.total} since the start"
            )
        return self.canvas.paint(
            [Cells(state.weights, blocked, state.labels, marked, absent)],
            titles=[_end_of_text(state.labels)],
            caption=caption,
        )

    def _record(self, seen: list[Tensor], first: int) -> None:
        """Copy the weights of the rows that a pass computed, from row ``first`` on."""
        for layer, weights in enumerate(seen):
            rows = weights[0].float().cpu().numpy()  # (head, query, key)
            self.weights[layer, :, first : first + rows.shape[1], : rows.shape[2]] = rows

    def _show(self, step: int) -> None:
        """Go to a step that was just written, or to the last one if there are fewer now."""
        control = self.controls["step"]
        if step > control.value:
            control.max = step  # before the value, which must never lie outside the ends
            control.value = step
        self._refresh()

    def _check_newest(self, number: int) -> None:
        if number != self._streams:
            raise ValueError(
                "another stream of this explorer has begun since; go on with that one, or make "
                "another explorer"
            )


def _end_of_text(labels: Sequence[str]) -> str:
    """Write the text in one line; characters without gaps, words with."""
    gap = "" if all(len(label) == 1 for label in labels) else " "
    text = printable(gap.join(labels).replace("␣", " "))
    return text if len(text) <= _TITLE_LENGTH else "…" + text[1 - _TITLE_LENGTH :]


def _check_model(model: Transformer) -> Transformer:
    if not isinstance(model, Transformer):
        raise ValueError(f"model must be a Transformer, got {describe(model)}")
    if not model.causal:
        raise ValueError(
            "the model is not causal: what it makes of old tokens changes with every new one, so "
            "it cannot write on"
        )
    if model.training:
        raise ValueError("the model is in training mode; call model.eval() first")
    return model


def _check_prompt(model: Transformer, prompt: Tensor, steps: int) -> Tensor:
    if not isinstance(prompt, Tensor) or prompt.ndim != 1 or not len(prompt):
        got = tuple(prompt.shape) if isinstance(prompt, Tensor) else describe(prompt)
        raise ValueError(
            f"prompt must be a tensor of at least one token id, shape (length,), got {got}"
        )
    if len(prompt) + steps > model.max_length:
        raise ValueError(
            f"a prompt of {len(prompt)} tokens and {steps} steps are more than the model reads, "
            f"max_length={model.max_length}; cut the prompt or take fewer steps"
        )
    return prompt.detach().clone().to(model.token_embedding.weight.device)


def _check_symbols(
    model: Transformer, symbols: Callable[[int], str] | Sequence[str] | None
) -> Callable[[int], str]:
    """Make a function of whatever says how a token looks; a blank would not be seen."""
    vocabulary = model.token_embedding.num_embeddings
    if symbols is None:
        look_up: Callable[[int], str] = str
    elif callable(symbols):
        look_up = symbols
    elif len(symbols) < vocabulary:
        raise ValueError(
            f"symbols must name every token of the model, {vocabulary}, got {len(symbols)}"
        )
    else:
        look_up = tuple(symbols).__getitem__
    return lambda number: str(look_up(number)).replace(" ", "␣") or "␣"
