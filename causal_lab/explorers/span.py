"""How far back each query looks, when the distance fades instead of ending."""

from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from causal_lab.attention.softmax import stable_softmax
from causal_lab.explorers.controls import Menu, Slider, Steps
from causal_lab.explorers.explorer import Explorer, fixed_scores
from causal_lab.explorers.span_loss import draw_loss
from causal_lab.masks.rules import generate_causal_mask
from causal_lab.masks.soft import gate_to_bias, span_gate
from causal_lab.plots.picture import Curves, Heat, Picture

MAX_TOKENS, MAX_RAMP = 32, 16
GATES, EQUAL, RANDOM = "the gates", "weights, equal scores", "weights, random scores"


class SpanExplorer(Explorer):
    """Slide the span and the ramp, see which keys fade and close, and where a price stops a span.

    >>> SpanExplorer(T=4, span=1, ramp=1).picture.panels[1].values[0].tolist()
    [1.0, 1.0, 0.0, 0.0]
    """

    T = Slider("T, number of tokens", 1, MAX_TOKENS, 16)
    span = Slider("span, open up to here", 0, MAX_TOKENS - 1, 4, play=True)
    ramp = Slider("ramp, steps to close", 1, MAX_RAMP, 4)
    shown = Menu("shown", [GATES, EQUAL, RANDOM])
    window = Steps("keys that are needed", [2, 6, 12], 12)
    price = Steps("price of a step of span", [0.0, 0.01, 0.02, 0.05, 0.1, 0.2], 0.05)

    GRID = {
        "T": [*range(1, 9), 10, 12, 14, 16],
        "span": [*range(9), 11, 15],
        "ramp": [1, 2, 4, 8],
        "shown": [GATES, EQUAL, RANDOM],
        "window": [6, 12],
        "price": [0.0, 0.02, 0.05, 0.1],
    }

    def __init__(self, **values):
        table = fixed_scores(MAX_TOKENS, MAX_TOKENS, seed=11)
        # Neither half of the picture asks for the controls of the other.
        self._gates = lru_cache(256)(partial(_gates, table=table))
        self._loss = lru_cache(256)(draw_loss)
        super().__init__(**values)

    def limits(self, T: int, **others) -> dict[str, tuple[int, int]]:  # noqa: D102
        return {"span": (0, T - 1)}

    def compute(  # noqa: D102
        self, T: int, span: int, ramp: int, shown: str, window: int, price: float
    ) -> Picture:
        square, curves, words = self._gates(T, span, ramp, shown)
        loss, ends = self._loss(span, ramp, window, price)
        return Picture((square, curves, loss), f"{words}; {ends}")


def _gates(T: int, span: int, ramp: int, shown: str, table: Tensor) -> tuple[Heat, Curves, str]:
    """Draw gates or weights, and the gate by distance; count the keys."""
    position = torch.arange(T, device="cpu")
    future = generate_causal_mask(T, device="cpu")
    gates = span_gate(position[:, None] - position, span, ramp).masked_fill(future, 0.0)
    scores = table[:T, :T] if shown == RANDOM else torch.zeros_like(gates)
    cells = gates if shown == GATES else stable_softmax(scores + gate_to_bias(gates))
    gate, slope = _gate_and_slope(position, span, ramp)
    kept, shut, causal = int((gate > 0).sum()), int((gates == 0).sum()), T * (T - 1) // 2
    square = Heat(
        cells.numpy(),
        (gates == 0).numpy(),
        rows=(T - 1,),
        names=("query", "key", "gate" if shown == GATES else "weight"),
        title=f"T = {T}, span {span}, ramp {ramp}: hatched is exactly 0",
    )
    curves = Curves(
        np.stack([gate.numpy(), slope.numpy()]),
        ("gate", "its slope in the span"),
        ("past", "second"),
        title="1 up to the span, 0 a ramp later",
        steps=True,
        marked=span,
        axis="distance = query − key",
    )
    return (
        square,
        curves,
        f"cells blocked exactly: {causal} by the causal mask, {shut - causal} by the gate; keys "
        f"the last query uses: {kept} of {T}; need not be kept: {T - kept}",
    )


def _gate_and_slope(distance: Tensor, span: int, ramp: int) -> tuple[Tensor, Tensor]:
    """Ask torch how each gate changes with the span, as far as training hears of it."""
    with torch.enable_grad():  # an explorer computes without
        spans = torch.full_like(distance, span, dtype=torch.float32, requires_grad=True)
        gate = span_gate(distance, spans, ramp)
        (slope,) = torch.autograd.grad(gate.sum(), spans)
    # Where the gate is 0, `gate_to_bias` passes no gradient on.
    return gate.detach(), slope.masked_fill(gate == 0, 0.0)
