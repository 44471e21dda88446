"""Watch a model write: which rows of attention a step computes, and which are there already."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from causal_lab.explorers.controls import Menu, Slider
from causal_lab.explorers.explorer import Explorer
from causal_lab.explorers.growing import CACHED, UNCACHED, draw_step
from causal_lab.explorers.recording import Pass, check_writing, name_tokens, record_pass
from causal_lab.models.generation import stream
from causal_lab.models.transformer import Transformer
from causal_lab.plots.picture import Picture

_MOST = 2**16  # where the sliders end; `limits` ends them sooner
_MANY = 64  # heads in all layers; the record of more would be too large for a page


class GenerationExplorer(Explorer):
    """Watch a model write token by token, and slide back through what it looked at.

    Each step is computed twice: behind a cache, and by reading the whole text again.

    Args:
        model: causal, in eval mode.
        prompt: integer, shape (length,), how the text begins.
        symbols: what a token id looks like, a character for example; its number if not given.
        steps: how many tokens will be written.

    >>> from causal_lab.models.transformer import GPT
    >>> model = GPT(26, 16, d_model=8, num_heads=2).eval()
    >>> prompt = torch.tensor([2, 0, 19])
    >>> explorer = GenerationExplorer(model, prompt, "abcdefghijklmnopqrstuvwxyz", steps=5)
    >>> explorer.picture.panels[0].labels, len(list(explorer.stream())), explorer.step
    (('c', 'a', 't'), 5, 5)
    """

    computed = Menu("computed", [CACHED, UNCACHED])
    layer = Slider("layer", 0, _MOST, 0)
    head = Slider("head", 0, _MOST, 0)
    # The last one: in a record, steps that follow each other share their rows and pack well.
    step = Slider("step, tokens written", 0, _MOST, 0, play=True)

    def __init__(
        self,
        model: Transformer,
        prompt: Tensor,
        symbols: Callable[[int], str] | Sequence[str] | None = None,
        steps: int = 40,
    ):
        self.model, self.steps = model, steps
        self.prompt = check_writing(model, prompt, steps)
        self._symbol = name_tokens(model, symbols)
        self._labels = tuple(map(self._symbol, self.prompt.tolist()))
        self._streams = 0  # which stream is recorded: the newest one only
        first = self._read(self.prompt)  # the first token is written after this pass, too
        self._passes = {CACHED: [first], UNCACHED: [first]}
        super().__init__()

    @property
    def written(self) -> int:
        """How many tokens are written so far."""
        return len(self._labels) - len(self.prompt)

    @property
    def GRID(self) -> dict[str, Sequence]:
        """All that was recorded; of a large model one head and some ten layers."""
        sliders = {name: range(end + 1) for name, (_, end) in self.limits().items()}
        if len(sliders["layer"]) * len(sliders["head"]) > _MANY:
            del sliders["head"]
            sliders["layer"] = sliders["layer"][:: math.ceil(len(sliders["layer"]) / 10)]
        return {"computed": [CACHED, UNCACHED], **sliders}

    def stream(self, **options) -> Iterator[int]:
        """Let the model write, and follow it with the step slider; forget what was written before.

        Args:
            **options: as for :func:`causal_lab.models.generation.stream`: ``temperature``, say.

        Yields:
            Each token's id as soon as it is there.

        >>> from causal_lab.models.transformer import GPT
        >>> model = GPT(10, 8, d_model=8, num_heads=2).eval()
        >>> explorer = GenerationExplorer(model, torch.tensor([1, 2, 3]), steps=4)
        >>> len([token for token in explorer.stream(temperature=1.0, top_k=5)])
        4
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
            self._labels = self._labels[: len(self.prompt)]
            self._follow()
        return self._write(steps, self._streams)

    def limits(self, **values) -> dict[str, tuple[int, int]]:  # noqa: D102
        layers, heads = self._passes[CACHED][0].weights.shape[:2]
        return {"step": (0, self.written), "layer": (0, layers - 1), "head": (0, heads - 1)}

    def compute(self, step: int, layer: int, head: int, computed: str) -> Picture:  # noqa: D102
        seen = {
            way: [one.of_head(layer, head) for one in passes]
            for way, passes in self._passes.items()
        }
        # The same colours at every step, and both ways.
        largest = max(np.abs(part).max() for one in seen[CACHED] for part in one[2:])
        return draw_step(
            step,
            computed,
            {way: passes[: max(step, 1)] for way, passes in seen.items()},
            self._labels[: len(self.prompt) + step],
            room=len(self.prompt) + self.steps - 1,  # the last token is written and never read
            limit=math.ceil(10 * largest) / 10 or 1.0,
        )

    def _write(self, steps: Iterator, stream: int) -> Iterator[int]:
        ids, kept = self.prompt, None
        while True:
            try:
                token, kept = record_pass(self.model, lambda: next(steps), kept)
            except StopIteration:
                return
            again = self._read(ids)
            ids = torch.cat([ids, token])
            with self._lock:
                if stream != self._streams:
                    raise ValueError("another stream of this explorer has begun; go on with that")
                for way, newest in ((CACHED, kept), (UNCACHED, again)):
                    self._passes[way][self.written :] = [newest]
                self._labels += (self._symbol(int(token)),)
                self._follow()
            yield int(token)

    def _read(self, ids: Tensor) -> Pass:
        """Read a text without a cache."""
        return record_pass(self.model, lambda: self.model(ids[None], need_weights=True))[1]

    def _follow(self) -> None:
        """Go to the newest step."""
        self._wishes["step"] = self.written
        self.refresh()
