"""How far back each query looks, when the distance fades instead of ending."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from causal_lab.attention.softmax import stable_softmax
from causal_lab.explorers.canvas import Canvas, Cells, CurvePanel, Curves, HeatPanel
from causal_lab.explorers.explorer import Explorer, choice, fixed_scores, slider
from causal_lab.masks.rules import generate_causal_mask
from causal_lab.masks.soft import gate_to_bias, span_gate

MAX_TOKENS, MAX_RAMP = 32, 16
GATES, EQUAL, RANDOM = "the gates", "weights, equal scores", "weights, random scores"


@dataclass(frozen=True)
class SpanState:
    """What a :class:`SpanExplorer` shows.

    Args:
        cells: (query, key) = (T, T), gates or weights; exactly 0 where blocked.
        blocked: bool, shape (query, key), the future, and where the gate is exactly 0.
        gate: shape (T,), at each distance.
        slope: shape (T,), how fast the gate at each distance rises with the span, by automatic
            differentiation; at both ends of the ramp torch takes the slope of the ramp.
        span, ramp: where the gate begins to close, and over how many steps.

    >>> SpanExplorer(T=8, span=2, ramp=2).state.kept
    4
    """

    cells: np.ndarray
    blocked: np.ndarray
    gate: np.ndarray
    slope: np.ndarray
    span: int
    ramp: int

    @property
    def kept(self) -> int:
        """How many of the newest keys a cache must keep, the query's own included."""
        return int((self.gate > 0).sum())

    @property
    def closed(self) -> int:
        """How many cells the gate blocks that the causal mask does not."""
        return int(np.tril(self.blocked).sum())


def span_state(T: int, span: int, ramp: int, shown: str, scores: Tensor) -> SpanState:
    """Compute what a :class:`SpanExplorer` shows.

    Args:
        span: up to which distance the gate is open.
        ramp: over how many further steps it closes.
        shown: ``GATES``, ``EQUAL`` or ``RANDOM``.
        scores: float32, shape (at least T, at least T), for ``RANDOM``; the first T of each axis
            are used.

    >>> span_state(4, 0, 2, GATES, torch.zeros(4, 4)).cells[3].tolist()
    [0.0, 0.0, 0.5, 1.0]
    """
    position = torch.arange(T, device=scores.device)
    future = generate_causal_mask(T, device=scores.device)
    gates = span_gate(position[:, None] - position, span, ramp).masked_fill(future, 0.0)
    if shown == GATES:
        cells = gates
    else:
        scores = scores[:T, :T] if shown == RANDOM else torch.zeros_like(gates)
        cells = stable_softmax(scores + gate_to_bias(gates))
    gate, slope = _gate_and_slope(position, span, ramp)
    blocked = (gates == 0).numpy()
    return SpanState(cells.numpy(), blocked, gate.numpy(), slope.numpy(), span, ramp)


class SpanExplorer(Explorer):
    """Slide the span and the ramp, and see which keys fade, close, and need not be kept.

    >>> SpanExplorer(T=4, span=1, ramp=1).state.gate.tolist()
    [1.0, 1.0, 0.0, 0.0]
    """

    def __init__(self, T: int = 16, span: int = 4, ramp: int = 4):
        self.scores = fixed_scores(MAX_TOKENS, MAX_TOKENS, seed=11)
        controls = {
            "T": slider("T, number of tokens", T, 1, MAX_TOKENS),
            "span": slider("span, open up to here", span, 0, MAX_TOKENS - 1),
            "ramp": slider("ramp, steps to close", ramp, 1, MAX_RAMP),
            "shown": choice("shown", [GATES, EQUAL, RANDOM]),
        }
        curve = CurvePanel(
            ["gate", "its slope in the span"],
            0.0,
            1.0,
            label="gate, and its slope",
            axis="distance = query − key",
            width=340,
            height=340,
        )
        heat = HeatPanel(340, words=False, names=("query (looks)", "key (is looked at)", ""))
        super().__init__(controls, Canvas([heat, curve]))

    def limits(self, T: int, **others) -> dict[str, int]:  # noqa: D102
        return {"span": T - 1}

    def compute(self, T: int, span: int, ramp: int, shown: str) -> SpanState:  # noqa: D102
        return span_state(T, span, ramp, shown, self.scores)

    def paint(self, state: SpanState) -> np.ndarray:  # noqa: D102
        T = len(state.cells)
        return self.canvas.paint(
            [
                Cells(state.cells, state.blocked, marked=T - 1),
                Curves(np.stack([state.gate, state.slope]), marked=state.span),
            ],
            titles=[
                f"T = {T}, span {state.span}, ramp {state.ramp}: hatched is exactly 0",
                "1 up to the span, 0 a ramp later",
            ],
            caption=f"cells blocked exactly: {T * (T - 1) // 2} by the causal mask, "
            f"{state.closed} by the gate; keys the last query uses: {state.kept} of {T}; need not "
            f"be kept: {T - state.kept}",
        )


def _gate_and_slope(distance: Tensor, span: int, ramp: int) -> tuple[Tensor, Tensor]:
    """Ask torch how the gate at each distance changes with the span."""
    with torch.enable_grad():  # an explorer computes without
        spans = torch.full_like(distance, span, dtype=torch.float32, requires_grad=True)
        gate = span_gate(distance, spans, ramp)
        (slope,) = torch.autograd.grad(gate.sum(), spans)
    return gate.detach(), slope
