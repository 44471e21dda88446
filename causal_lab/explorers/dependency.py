"""Which output depends on which token, measured in a real model, as layers are stacked."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from causal_lab.explorers.canvas import Canvas, Cells, HeatPanel
from causal_lab.explorers.explorer import Explorer, choice, slider
from causal_lab.masks.rules import generate_causal_mask
from causal_lab.models.transformer import GPT, Transformer

MAX_TOKENS, MAX_LAYERS = 32, 6
CAUSAL, WINDOW, NO_MASK = "causal, as in GPT", "causal, a window of 3", "none, as in BERT"


@dataclass(frozen=True)
class DependencyState:
    """What a :class:`DependencyExplorer` shows.

    Args:
        moved: (output, token) = (T, T), how far each output moved when a token changed, as a share
            of its largest move; 0 means that no bit of it changed.

    >>> DependencyState(np.tril(np.ones((3, 3)))).leaks
    0
    """

    moved: np.ndarray

    @property
    def leaks(self) -> int:
        """How many outputs depend on a token after them, counted pair by pair."""
        return int((np.triu(self.moved, 1) > 0).sum())

    @property
    def furthest(self) -> int:
        """How far back the last output sees, its own position included."""
        seen = np.flatnonzero(self.moved[-1] > 0)
        return int(len(self.moved) - seen.min()) if len(seen) else 0


def chosen_mask(T: int, mask: str) -> Tensor:
    """Make the mask that a menu names.

    Args:
        mask: ``CAUSAL``, ``WINDOW`` or ``NO_MASK``.

    Returns:
        bool, (query, key) = (T, T), on the CPU, where all explorers compute.

    >>> chosen_mask(4, WINDOW).int().tolist()[3]
    [1, 0, 0, 0]
    """
    blocked = generate_causal_mask(T, device="cpu")
    if mask == NO_MASK:
        return torch.zeros_like(blocked)
    return blocked if mask == CAUSAL else blocked | ~torch.ones_like(blocked).triu(-2)


@torch.no_grad()
def dependency_state(
    T: int, layers: int, mask: str, model: Transformer, ids: Tensor
) -> DependencyState:
    """Compute what a :class:`DependencyExplorer` shows: change each token, look at every output.

    Args:
        layers: how many of the model's blocks are used.
        mask: ``CAUSAL``, ``WINDOW`` or ``NO_MASK``.
        ids: integer, shape (at least T,), the tokens; the first T are used.

    >>> model = GPT(20, MAX_TOKENS, d_model=16, num_heads=2, num_layers=2)
    >>> dependency_state(3, 2, CAUSAL, model.eval(), torch.tensor([3, 5, 7])).leaks
    0
    """
    ids = ids[:T]
    vocabulary = model.token_embedding.num_embeddings
    # Row 0 as it is, row j + 1 with token j changed: one pass for all.
    texts = ids.repeat(T + 1, 1)
    positions = torch.arange(T, device=ids.device)
    texts[positions + 1, positions] = (ids + 1) % vocabulary
    x = model.position.embed(model.token_embedding(texts), positions)
    blocked = chosen_mask(T, mask)
    for block in model.blocks[:layers]:
        x = block(x, blocked)
    moved = (x[1:] - x[0]).abs().amax(dim=-1).T  # (output, changed token)
    return DependencyState((moved / moved.amax(dim=-1, keepdim=True)).numpy())


class DependencyExplorer(Explorer):
    """Slide over tokens and layers, and see what every output of a model depends on.

    >>> DependencyExplorer(T=6).state.leaks
    0
    """

    def __init__(self, T: int = 8, layers: int = 2):
        generator = torch.Generator().manual_seed(0)
        self.model = _build(generator)
        self.ids = torch.randint(50, (MAX_TOKENS,), generator=generator, device="cpu")
        controls = {
            "T": slider("T, number of tokens", T, 1, MAX_TOKENS),
            "layers": slider("layers", layers, 1, MAX_LAYERS),
            "mask": choice("mask", [CAUSAL, WINDOW, NO_MASK]),
        }
        names = ("output", "changed token", "movement, as a share of the row's largest")
        super().__init__(controls, Canvas([HeatPanel(384, words=False, names=names)]))

    def compute(self, T: int, layers: int, mask: str) -> DependencyState:  # noqa: D102
        return dependency_state(T, layers, mask, self.model, self.ids)

    def paint(self, state: DependencyState) -> np.ndarray:  # noqa: D102
        T = len(state.moved)
        ahead = np.triu(np.ones((T, T), dtype=bool), 1)
        return self.canvas.paint(
            [Cells(state.moved, ahead)],
            titles=["hatched: the future; framed: a leak"],
            caption=f"pairs that see the future: {state.leaks}; "
            f"the last output sees {state.furthest} of {T} tokens",
        )


def _build(generator: torch.Generator) -> GPT:
    """Build the model on the CPU in 32 bits, whatever a notebook has made the default."""
    default = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float32)
        with torch.device("cpu"):
            model = GPT(
                50, MAX_TOKENS, d_model=16, num_heads=2, num_layers=MAX_LAYERS, generator=generator
            )
    finally:
        torch.set_default_dtype(default)
    return model.eval()
