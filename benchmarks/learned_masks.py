"""Repeat the trainings of notebooks 15 and 16 over several seeds and prices, and write tables.

Usage: python benchmarks/learned_masks.py [seeds]      5 seeds take about five minutes
       python benchmarks/learned_masks.py table        only the tables, from the saved results
"""

import json
import math
import re
import statistics
import sys
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from causal_lab.causality import check_causality
from causal_lab.course.runtime import reproducibility_report
from causal_lab.course.training import train
from causal_lab.masks.learned import AdaptiveSpan, DistanceDecay, LearnedMask, RelativeBias
from causal_lab.masks.rules import generate_sliding_window_mask, to_additive
from causal_lab.models.layers import MultiHeadAttention
from causal_lab.models.transformer import GPT

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "learned_masks.json"
PAGE = ROOT / "docs" / "learned-masks.md"
V, T, BATCH, STEPS = 16, 24, 64, 200
DISTANCE = torch.arange(T)[:, None] - torch.arange(T)
SET, FARTHEST, WINDOWS, SLOPES = (0, 2, 5), 10, (2, 6, 12), (1.0, 0.3, 0.1)


def questions(bias: Tensor, seed: int) -> list[tuple[Tensor, Tensor]]:
    """For each head: which key is asked for is drawn by softmax(bias)."""
    drawn, batches = torch.Generator().manual_seed(seed), []
    for _ in range(STEPS):
        ids = torch.randint(V, (BATCH, T), generator=drawn)
        rows = [torch.multinomial(w, BATCH, True, generator=drawn).T for w in bias.softmax(dim=-1)]
        batches.append((ids, torch.stack([ids.gather(1, keys) for keys in rows], dim=1)))
    return batches


def learn(mask: nn.Module, batches: list, price: float = 0.0) -> float:
    """Train a mask as the only thing that learns; give its last bits, the price left out."""

    def loss(batch):
        ids, answers = batch
        guess = mask(T).softmax(dim=-1) @ one_hot(ids, V).float()[:, None]
        right = 0.99 * guess.gather(-1, answers[..., None]) + 0.01 / V
        return -right.log2().mean() + (price * mask.penalty() if price else 0.0)

    last = train(mask, batches, loss, learning_rate=0.1, progress=False).last()
    return last - (price * mask.penalty().item() if price else 0.0)


def slopes(seed: int) -> dict[str, float]:
    wanted = torch.tensor(SLOPES)[:, None, None]
    truth = (-wanted * DISTANCE).masked_fill(DISTANCE < 0, -math.inf)
    decay = DistanceDecay(len(SLOPES))
    learn(decay, questions(truth, seed))
    found = decay.slopes.tolist()
    return {f"slope {one:g}": two for one, two in zip(SLOPES, found, strict=True)}


def spans(seed: int, price: float, start: float) -> dict[str, float]:
    masks = [generate_sliding_window_mask(T, window) for window in WINDOWS]
    span = AdaptiveSpan(len(WINDOWS), max_span=16, ramp=1, span=start)
    learn(span, questions(torch.stack([to_additive(mask) for mask in masks]), seed), price)
    kept = span.keys_kept().tolist()
    return {f"window {one}": two for one, two in zip(WINDOWS, kept, strict=True)}


def recovered(seed: int, price: float) -> dict[str, float]:
    is_open = torch.isin(DISTANCE, torch.tensor(SET))
    truth = torch.zeros(1, T, T).masked_fill(~is_open, -math.inf)
    mask = LearnedMask(1, max_distance=FARTHEST)
    learn(mask, questions(truth, seed), price)
    gates = mask.gates()[0]
    closed = [d for d in range(FARTHEST + 1) if d not in SET]
    return {
        "set recovered": float(mask.open_distances() == [list(SET)]),
        "weakest needed gate": gates[list(SET)].min().item(),
        "strongest other gate": gates[closed].max().item(),
    }


class Reader(nn.Module):
    """The notebook's GPT with gates."""

    def __init__(self, causal: bool, seed: int):
        super().__init__()
        drawn = torch.Generator().manual_seed(seed)
        options = {"d_model": 32, "num_heads": 2, "num_layers": 1, "generator": drawn}
        self.gpt = GPT(V, 12, causal=causal, **options)
        self.mask = LearnedMask(2, max_distance=3, future=2, gate=0.05)

    def forward(self, ids: Tensor, bias: Tensor | None = None) -> Tensor:
        return self.gpt(ids, bias=self.mask(ids.shape[1]) if bias is None else bias)

    def bits(self, ids: Tensor, bias: Tensor | None = None) -> Tensor:
        logits = self(ids, bias)[:, :-1]
        return cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()) / math.log(2)


def looking_ahead(seed: int) -> dict[str, float]:
    """Random text, whose floor is log2 V bits: the mask alone, a GPT with gates, a hard mask."""
    text = torch.randint(V, (STEPS, BATCH, T + 1), generator=torch.Generator().manual_seed(seed))
    mask = LearnedMask(1, max_distance=4, future=2, gate=0.1)
    bits = learn(mask, [(ids[:, :T], ids[:, None, 1:]) for ids in text])
    gates = mask.gates()[0].tolist()
    found = {"mask alone: bits": bits, "mask alone: gate of t + 1": gates[1]}
    for name, causal in (("GPT, gates only", False), ("GPT, hard mask in front", True)):
        reader = Reader(causal, seed)
        history = train(reader, text[:, :, :12], reader.bits, learning_rate=1e-2, progress=False)
        ahead = reader.mask.gates()[:, 1].max().item()
        with torch.no_grad():
            hard = reader.bits(text[0, :, :12], to_additive(reader.mask.harden(12))).item()
        found |= {
            f"{name}: bits": history.last(),
            f"{name}: larger gate of t + 1": ahead,
            f"{name}: bits when made hard": hard,
            f"{name}: causal": float(check_causality(reader, text[0, :2, :12]).causal),
        }
    return found


class Adaptive(nn.Module):
    """The notebook's layer of two heads, each with a table and a span."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(V, 32)
        self.layer = MultiHeadAttention(32, 2)
        self.table, self.span = RelativeBias(2, 12), AdaptiveSpan(2, 12, ramp=1, span=10)
        self.answer = nn.Linear(32, 2 * V)

    def forward(self, ids: Tensor) -> Tensor:
        bias = self.table(ids.shape[1]) + self.span(ids.shape[1])
        hidden, _ = self.layer(self.embed(ids), bias=bias)
        return self.answer(hidden).unflatten(-1, (2, V))


def two_needs(seed: int, price: float) -> dict[str, float]:
    drawn = torch.Generator().manual_seed(seed)
    text = torch.randint(V, (STEPS + 1, 32, 16), generator=drawn)
    torch.manual_seed(seed)
    adaptive = Adaptive()

    def answers(ids):
        return torch.stack([ids[:, 5:-1], ids[:, :-6]], dim=-1)

    def loss(ids):
        wrong = cross_entropy(adaptive(ids)[:, 6:].flatten(0, 2), answers(ids).flatten())
        return wrong + price * adaptive.span.penalty()

    train(adaptive, text[1:], loss, learning_rate=3e-2, progress=False)
    right = (adaptive(text[0])[:, 6:].argmax(-1) == answers(text[0])).float().mean()
    short, long = sorted(adaptive.span.keys_kept().tolist())
    return {"share right": right.item(), "keys, short head": short, "keys, long head": long}


PARTS = {
    "slopes": {"found": slopes},
    "spans": {
        f"price {price:g}, from {start:g}": partial(spans, price=price, start=start)
        for price, start in ((0, 8), (0.05, 8), (0, 14), (0.05, 14), (0.2, 14))
    },
    "sets": {f"price {p:g}": partial(recovered, price=p) for p in (0, 0.003, 0.01, 0.03, 0.1)},
    "ahead": {"found": looking_ahead},
    "heads": {f"price {p:g}": partial(two_needs, price=p) for p in (0, 0.03, 0.1, 0.3)},
}


def main() -> None:
    if sys.argv[1:] != ["table"]:
        measure(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
    write_tables(json.loads(RESULTS.read_text(encoding="utf-8"))["results"])


def measure(count: int) -> None:
    torch.set_num_threads(1)
    seeds, results = range(count), {}
    for part, columns in PARTS.items():
        results[part] = {label: [run(seed) for seed in seeds] for label, run in columns.items()}
        print(part, json.dumps(results[part], indent=1), flush=True)
    report = reproducibility_report(device="cpu", seeds=list(seeds), steps=STEPS, batch=BATCH)
    saved = {"results": results, "versions": report.versions, "threads": report.threads}
    RESULTS.write_text(json.dumps(saved, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_tables(results: dict) -> None:
    """Fill the page's tables: the median over the seeds, and from where to where they go."""
    text = PAGE.read_text(encoding="utf-8")
    for part, columns in results.items():
        made = {label: summary(runs) for label, runs in columns.items()}
        names = next(iter(made.values()))
        rows = [[name, *(column[name] for column in made.values())] for name in names]
        text = fill(text, part, ["", *made], rows)
    PAGE.write_text(text, encoding="utf-8")


def fill(text: str, place: str, head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    pattern = rf"(<!-- begin: {place} -->\n).*?(\n<!-- end: {place} -->)"
    return re.sub(pattern, lambda found: found[1] + table + found[2], text, flags=re.S)


def summary(runs: list[dict[str, float]]) -> dict[str, str]:
    """Give the median and the range of each figure; of a yes or no, how often it was yes."""
    lines = {}
    for name in runs[0]:
        values = sorted(run[name] for run in runs)
        if name == "set recovered" or name.endswith("causal"):
            lines[name] = f"{sum(values):.0f} of {len(values)}"
            continue
        whole = all(float(value).is_integer() for value in values)
        middle, low, high = (
            f"{value:.0f}" if whole else f"{value:.3f}"
            for value in (statistics.median_low(values), values[0], values[-1])
        )
        lines[name] = f"{middle} ({low} to {high})"
    return lines


if __name__ == "__main__":
    main()
