"""Which head does what, on a text that comes twice, and what is lost without it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from causal_lab.explorers.controls import Menu, Slider
from causal_lab.explorers.explorer import Explorer
from causal_lab.explorers.recording import check_writing, name_tokens
from causal_lab.models.layers import ForwardContext
from causal_lab.models.transformer import Transformer
from causal_lab.plots.picture import Bars, Heat, Picture

_MOST = 2**16  # where the sliders end; `limits` ends them sooner
NOTHING, THIS_HEAD = "nothing", "the chosen head"
CAUSAL, NO_MASK = "causal, as trained", "taken away"
# How far back a query of the second copy would look, given the length of a copy.
LOOKS = {
    "at what came next, last time": lambda n: n - 1,
    "one token back": lambda n: 1,
    "at the same token, last time": lambda n: n,
}


class Seen(NamedTuple):
    """What some passes showed, each without another head.

    Args:
        scores: by look, (pass, layer, head), the mean weight where that look would be.
        bits: (pass,), per token of the second copy.
    """

    scores: dict[str, np.ndarray]
    bits: np.ndarray


class HeadExplorer(Explorer):
    """See all heads of a model at once, choose one, and cut it out.

    The text is some tokens, then the same tokens again: who remembers can guess the second copy.

    Args:
        model: causal, in eval mode.
        tokens: integer, shape (length,), what comes twice.
        symbols: what a token id looks like; its number if not given.
        start: a token that stands before both copies; none if not given.

    >>> from causal_lab.models.transformer import GPT
    >>> model = GPT(10, 16, d_model=8, num_heads=2).eval()
    >>> explorer = HeadExplorer(model, torch.tensor([3, 1, 4]), start=0)
    >>> explorer.picture.panels[1].labels
    ('0', '3', '1', '4', '3', '1', '4')
    """

    layer = Slider("layer", 0, _MOST, 0)
    head = Slider("head", 0, _MOST, 0)
    look = Menu("the map shows who looks", LOOKS)
    mask = Menu("mask", [CAUSAL, NO_MASK])
    cut = Menu("cut out", [NOTHING, THIS_HEAD])

    def __init__(
        self,
        model: Transformer,
        tokens: Tensor,
        symbols: Callable[[int], str] | Sequence[str] | None = None,
        start: int | None = None,
    ):
        self.model = model
        tokens = check_writing(model, tokens, len(tokens) + 1)
        first = tokens[:0] if start is None else tokens.new_tensor([start])
        self.ids, self.n = torch.cat([first, tokens, tokens]), len(tokens)
        name = name_tokens(model, symbols)
        self._labels = tuple(map(name, self.ids.tolist()))
        self._inputs: list[tuple[Tensor, ForwardContext]] = []  # what each block is given
        self._whole = {mask: self._read(mask) for mask in (NO_MASK, CAUSAL)}
        self._without: dict[int, Seen] = {}  # by layer: each of its heads cut out once
        super().__init__()

    @property
    def GRID(self) -> dict[str, Sequence]:
        """All heads; with and without each of them."""
        sliders = {name: range(end + 1) for name, (_, end) in self.limits().items()}
        menus = {"look": list(LOOKS), "mask": [CAUSAL, NO_MASK], "cut": [NOTHING, THIS_HEAD]}
        return sliders | menus

    def limits(self, **values) -> dict[str, tuple[int, int]]:  # noqa: D102
        return {
            "layer": (0, len(self.model.blocks) - 1),
            "head": (0, self.model.num_heads - 1),
        }

    def unused(self, mask: str, **others) -> set[str]:  # noqa: D102
        return {"cut"} if mask == NO_MASK else set()

    def compute(self, layer: int, head: int, look: str, mask: str, cut: str) -> Picture:  # noqa: D102
        weights, whole = self._whole[mask]
        seen, number = whole, 0
        if cut == THIS_HEAD and mask == CAUSAL:
            seen, number = self._cut(layer), head
        score, bits = whole.scores[look][0, layer, head], seen.bits[number]
        T, bars = len(self.ids), [whole.bits[0], bits]
        ahead = np.triu(np.ones((T, T), dtype=bool), 1)
        heads = Heat(
            seen.scores[look][number].round(2),
            title="all heads: click one",
            names=("layer", "head", "weight there"),
            rows=(layer,),
            columns=(head,),
            moves=("layer", "head"),
        )
        pattern = Heat(
            weights[layer, head].round(2),
            ahead,
            labels=self._labels,
            title=f"layer {layer}, head {head}" + (": orange is the future" * (mask == NO_MASK)),
        )
        losses = Bars(
            np.array([bars]).round(1),
            ("past",),
            title="bits per token of the second copy",
            labels=("all", "now"),
            label="bits",
            name="heads",
            top=float(np.ceil(max(20.0, *bars))),
            width=120,
        )
        without = f" without it, {whole.bits[0]:.1f} with all heads" if seen is not whole else ""
        return Picture(
            (heads, pattern, losses),
            # Short: a line more would push away the cell that was clicked.
            f"{layer}.{head} looks {look}: {score:.2f}. Second copy: {bits:.1f} bits{without}",
        )

    def _cut(self, layer: int) -> Seen:
        if layer not in self._without:
            self._without[layer] = self._go_on(layer)
        return self._without[layer]

    @torch.no_grad()
    def _read(self, mask: str) -> tuple[np.ndarray, Seen]:
        """Read the text once; give all weights, (layer, head, query, key), too."""
        self._inputs = []
        hooks = [
            block.register_forward_pre_hook(
                lambda _, given, named: self._inputs.append((given[0], named["ctx"])),
                with_kwargs=True,
            )
            for block in self.model.blocks
        ]
        try:
            with _causal(self.model, mask == CAUSAL):
                logits, weights = self.model(self.ids[None], need_weights=True)
        finally:
            for hook in hooks:
                hook.remove()
        return torch.cat(weights).float().cpu().numpy(), self._measure(logits, weights)

    @torch.no_grad()
    def _go_on(self, layer: int) -> Seen:
        """Read once for each head of a layer, without it; what came below stays as it was."""
        model, (x, ctx) = self.model, self._inputs[layer]
        weights = [one.expand(model.num_heads, -1, -1, -1) for one in ctx.weights[:layer]]
        x, ctx = x.expand(model.num_heads, -1, -1), replace(ctx, weights=weights)
        with _cut_each_head(model.blocks[layer].attention):
            for block in model.blocks[layer:]:
                x = block(x, ctx=ctx)
        return self._measure(model.head(model.final_norm(x)), weights)

    def _measure(self, logits: Tensor, weights: list[Tensor]) -> Seen:
        found = torch.stack(weights, dim=1).float()  # (pass, layer, head, query, key)
        rows = torch.arange(len(self.ids) - self.n, len(self.ids), device=self.ids.device)
        scores = {
            look: found[..., rows, rows - back(self.n)].mean(dim=-1).cpu().numpy()
            for look, back in LOOKS.items()
        }
        asked, due = logits[:, rows[:-1]].float(), self.ids[rows[1:]].expand(len(logits), -1)
        nats = cross_entropy(asked.mT, due, reduction="none").mean(dim=1)
        return Seen(scores, (nats / np.log(2)).cpu().numpy())


@contextmanager
def _causal(model: Transformer, on: bool) -> Iterator[None]:
    """Take the mask away for a while, or leave it."""
    before, model.causal = model.causal, on
    try:
        yield
    finally:
        model.causal = before


@contextmanager
def _cut_each_head(layer: nn.Module) -> Iterator[None]:
    """Let each text of a batch do without another head of a layer: text 0 without head 0."""

    def silence(_, given):
        heads = given[0].unflatten(-1, (layer.num_heads, -1))  # (batch, query, head, dim)
        kept = 1 - torch.eye(layer.num_heads, dtype=heads.dtype, device=heads.device)
        return ((heads * kept[:, None, :, None]).flatten(-2),)

    hook = layer.output_projection.register_forward_pre_hook(silence)
    try:
        yield
    finally:
        hook.remove()
