"""Which output depends on which token, measured in a real model, as layers are stacked."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from causal_lab.attention.formula import attend_fused
from causal_lab.attention.heads import merge_heads, split_heads
from causal_lab.causality import check_causality
from causal_lab.explorers.controls import Menu, Slider
from causal_lab.explorers.explorer import Explorer
from causal_lab.explorers.menu import CAUSAL, NO_MASK, WINDOW, make_mask, with_size
from causal_lab.models.transformer import GPT
from causal_lab.plots.picture import Heat, Picture

MAX_TOKENS, MAX_LAYERS = 32, 6
WINDOW_OF_3 = with_size(WINDOW, 3)
MASKS = {CAUSAL: CAUSAL, WINDOW_OF_3: WINDOW, NO_MASK: NO_MASK}
NOTHING, TOO_FAR = "nothing planted", "triu(2) in place of triu(1)"
BATCH_NORM, MERGE = "batch norm, in training", "heads merged without transposing"
PLANTS = [NOTHING, TOO_FAR, BATCH_NORM, MERGE]


class Reader(nn.Module):
    """The first layers of a model, with a mask and perhaps a bug in each: ids in, vectors out.

    Args:
        mask: a key of ``MASKS``.
        plant: one of ``PLANTS``.

    >>> model = GPT(20, 8, d_model=8, num_heads=2, num_layers=2)
    >>> Reader(model, 1, CAUSAL, NOTHING)(torch.tensor([[3, 5, 7]])).shape
    torch.Size([1, 3, 8])
    """

    def __init__(self, model: GPT, layers: int, mask: str, plant: str):
        super().__init__()
        self.model, self.layers, self.mask, self.plant = model, layers, mask, plant

    def forward(self, ids: Tensor) -> Tensor:  # noqa: D102
        positions = torch.arange(ids.shape[1], device=ids.device)
        x = self.model.position.embed(self.model.token_embedding(ids), positions)
        blocked = make_mask(MASKS[self.mask], len(positions), 3)
        if self.plant == TOO_FAR:
            blocked.diagonal(1).fill_(False)
        for block in self.model.blocks[: self.layers]:
            x = x + self._attend(block.attention, self._norm(block, x), blocked)
            x = x + block.mlp(block.mlp_norm(x))
        return x

    def _norm(self, block: nn.Module, x: Tensor) -> Tensor:
        if self.plant == BATCH_NORM:  # over all positions; each text is a batch of its own
            return layer_norm(x.mT, x.shape[1:2]).mT
        return block.attention_norm(x)

    def _attend(self, layer: nn.Module, x: Tensor, blocked: Tensor) -> Tensor:
        projections = layer.query_projection, layer.key_projection, layer.value_projection
        q, k, v = (split_heads(project(x), layer.num_heads) for project in projections)
        heads = attend_fused(q, k, v, blocked, None)  # (batch, head, length, dim)
        merged = heads.reshape(x.shape) if self.plant == MERGE else merge_heads(heads)
        return layer.output_projection(merged)


class DependencyExplorer(Explorer):
    """Slide over tokens and layers, and see what every output of a model depends on.

    >>> explorer = DependencyExplorer(T=6, plant=MERGE)
    >>> explorer.picture.caption.split(": ")[-1]
    'NOT causal, output 0 depends on input 1'
    """

    T = Slider("T, number of tokens", 1, MAX_TOKENS, 8)
    layers = Slider("layers", 1, MAX_LAYERS, 2)
    mask = Menu("mask", MASKS)
    plant = Menu("planted bug", PLANTS)

    GRID = {
        "T": [*range(1, 9), 10, 12, 14, 16],
        "layers": range(1, MAX_LAYERS + 1),
        "mask": list(MASKS),
        "plant": PLANTS,
    }

    def __init__(self, **values):
        generator = torch.Generator().manual_seed(0)
        self.model = _build(generator)
        self.ids = torch.randint(50, (MAX_TOKENS,), generator=generator, device="cpu")
        self.verdicts: dict[tuple[str, str], str] = {}
        super().__init__(**values)

    def unused(self, mask: str, **others) -> set[str]:  # noqa: D102
        return {"plant"} if mask == NO_MASK else set()  # there is no future left to hide

    def compute(self, T: int, layers: int, mask: str, plant: str) -> Picture:  # noqa: D102
        plant = NOTHING if mask == NO_MASK else plant
        moved = self._movements(Reader(self.model, layers, mask, plant), T)
        ahead = np.triu(np.ones((T, T), dtype=bool), 1)
        square = Heat(
            moved,
            ahead,
            absent=~ahead & (moved == 0),
            nothing="never seen",  # which is not the same as hardly seen
            title="hatched: the future; framed: a leak; pale: never seen",
            names=("output", "changed token", "movement, as a share of the row's largest"),
            side=384,
        )
        return Picture(
            (square,),
            f"pairs that see the future: {(moved[ahead] > 0).sum()}; the last output sees "
            f"{T - (moved[-1] > 0).argmax()} of {T} tokens. A separate check_causality, with 4 "
            f"tokens and 2 layers, at the first cut: {self._verdict(mask, plant)}",
        )

    @torch.no_grad()
    def _movements(self, reader: Reader, T: int) -> np.ndarray:
        """Change each token, look at every output: (output, token) = (T, T), 0 to 1."""
        # Row 0 as it is, row j + 1 with token j changed: one pass for all.
        texts, places = self.ids[:T].repeat(T + 1, 1), torch.arange(T, device="cpu")
        texts[places + 1, places] = (self.ids[:T] + 1) % 50
        x = reader(texts)
        moved = (x[1:] - x[0]).abs().amax(dim=-1).T
        return (moved / moved.amax(dim=-1, keepdim=True)).numpy()

    def _verdict(self, mask: str, plant: str) -> str:
        """Ask the checker, once for each mask and bug: it takes longer than a slider may."""
        if (mask, plant) not in self.verdicts:
            with torch.device("cpu"):
                reader = Reader(self.model, 2, mask, plant)
                report = check_causality(reader, self.ids[None, :4], cuts=[1])
            leak = report.first_leak
            found = leak and f"NOT causal, output {leak.output} depends on input {leak.input}"
            self.verdicts[mask, plant] = "causal" if report.causal else found
        return self.verdicts[mask, plant]


def _build(generator: torch.Generator) -> GPT:
    """Build the model on the CPU in 32 bits, whatever a notebook has made the default."""
    default = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float32)
        with torch.device("cpu"):
            options = {"d_model": 16, "num_heads": 2, "num_layers": MAX_LAYERS}
            return GPT(50, MAX_TOKENS, **options, generator=generator).eval()
    finally:
        torch.set_default_dtype(default)
