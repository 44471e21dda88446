"""Why a price keeps a span from growing: the loss of one head at every span."""

import numpy as np
import torch

from causal_lab.masks.rules import generate_sliding_window_mask
from causal_lab.masks.soft import span_gate
from causal_lab.plots.picture import Curves

TEXT, LONGEST, FINE = 24, 16, 20  # tokens, the largest span, points for a step of it


def draw_loss(span: int, ramp: int, window: int, price: float) -> tuple[Curves, str]:
    """Draw what a head loses at each span, and say where small steps downhill lead from here.

    Args:
        ramp, window: as for :func:`span_bits`.
        price: what a loss adds for every step of span.

    >>> draw_loss(span=8, ramp=1, window=12, price=0.05)[1]
    'downhill from span 8 lies 7.60; the lowest loss is at 10.55'
    """
    spans = np.arange(LONGEST * FINE + 1) / FINE
    loss = span_bits(window, ramp) + price * spans
    rises = np.zeros(len(loss), dtype=bool)
    rises[1:] = np.diff(loss) > 1e-9
    rises[:-1] |= rises[1:]  # a piece that rises has two ends
    curves = Curves(
        np.stack([loss, np.where(rises, loss, np.nan)]),
        ("loss", "where it rises, the span shrinks"),
        ("past", "third"),
        title=f"{TEXT} tokens, the newest {window} are needed: bits of loss + {price:g} · span",
        x=spans,
        marked=float(span) if span <= LONGEST else None,
        low=float(np.floor(loss.min())),
        high=float(np.floor(loss.max())) + 1,
        axis="span",
        label="loss",
        width=400,
    )
    best = f"the lowest loss is at {spans[loss.argmin()]:.2f}"
    if span > LONGEST:
        return curves, best
    end = _downhill(loss, span * FINE)
    return curves, f"downhill from span {span} lies {spans[end]:.2f}; {best}"


def span_bits(window: int, ramp: int) -> np.ndarray:
    """Say how many bits a head with a span needs, if the answer lies in a window.

    The answer is one of the newest ``window`` tokens of 24, each as likely, and no two tokens are
    the same. All scores are 0. The head bets 0.99 by its weights and 0.01 on one of 16 at random.

    Args:
        window: keys that are needed, the own one included.
        ramp: over how many steps the gate closes.

    Returns:
        float64, shape (span,), at spans of 0 to 16 in steps of 1/20.

    >>> span_bits(1, 1)[[0, 20]].round(2).tolist()  # on a key too many, half of the weight is lost
    [0.01, 0.97]
    """
    position = torch.arange(TEXT, device="cpu")
    distance = position[:, None] - position
    spans = torch.arange(LONGEST * FINE + 1, dtype=torch.float64, device="cpu") / FINE
    gates = span_gate(distance, spans[:, None, None], ramp).masked_fill(distance < 0, 0.0)
    weights = gates / gates.sum(dim=-1, keepdim=True)
    needed = (~generate_sliding_window_mask(TEXT, window, device="cpu")).double()
    truth = needed / needed.sum(dim=-1, keepdim=True)
    right = 0.99 * weights + 0.01 / 16
    return -(truth * right.log2()).sum(dim=-1).mean(dim=-1).numpy()


def _downhill(loss: np.ndarray, at: int) -> int:
    """Walk to where no small step is better; shorter first, for a shut key sends no gradient."""
    while at > 0 and loss[at - 1] < loss[at]:
        at -= 1
    while at + 1 < len(loss) and loss[at + 1] < loss[at]:
        at += 1
    return at
