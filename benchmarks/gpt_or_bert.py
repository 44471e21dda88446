"""Repeat the experiments of notebook 06 over several seeds and write their companion table.

Usage: python benchmarks/gpt_or_bert.py [seeds]      5 seeds take about ten minutes
       python benchmarks/gpt_or_bert.py table        only the table, from the saved results
"""

import json
import re
import statistics
import sys
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from causal_lab.course.measuring import (
    as_text,
    bits_per_token,
    bits_when_writing,
    fill_accuracy,
    share_of_known_words,
    write,
)
from causal_lab.course.runtime import reproducibility_report
from causal_lab.course.text import Vocabulary, load_text, split_characters
from causal_lab.course.training import hide_some, random_windows, train
from causal_lab.models.layers import Block
from causal_lab.models.transformer import BERT, GPT

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "gpt_or_bert.json"
PAGE = ROOT / "docs" / "gpt-or-bert.md"
LENGTH, BATCH, STEPS, MORE_STEPS = 32, 32, 400, 1600


def texts():
    characters = split_characters(" ".join(load_text().split()))
    vocabulary = Vocabulary.from_tokens(characters)
    ids = vocabulary.encode(characters)
    return vocabulary, ids[: len(ids) * 9 // 10], ids[len(ids) * 9 // 10 :]


def language(seed: int, steps: int) -> dict[str, float]:
    """Train the four models of the notebook and measure them."""
    vocabulary, learn, test = texts()
    windows = random_windows(learn, LENGTH, BATCH, steps, seed=seed)
    hidden = hide_some(windows, 0.25, seed=seed)
    unseen = random_windows(test, LENGTH, 64, 4, seed=1)
    start = random_windows(test, 20, 24, 1, seed=3)[0]
    known = set(load_text().split())

    def build(kind, **options):
        drawn = torch.Generator().manual_seed(seed)
        return kind(len(vocabulary), LENGTH, generator=drawn, **options)

    found = {}
    kinds = {"GPT": (GPT, True), "mistake": (GPT, False), "BERT": (BERT, False)}
    for name, (kind, causal) in {**kinds, "left only": (BERT, True)}.items():
        model = build(kind, causal=causal)
        if kind is GPT:
            train(model, windows, model.loss, progress=False)
            found[f"{name}: bits per unseen character"] = bits_per_token(model, unseen)
        else:
            train(model, hidden, lambda pair: model.loss(*pair), progress=False)  # noqa: B023
        if name != "mistake":
            found[f"{name}: fills"] = fill_accuracy(model, unseen, range(8, 24, 2))
        if name != "left only":
            found[f"{name}: bits when it writes"] = bits_when_writing(
                model, unseen, range(8, 32, 4)
            )
            lines = write(model, start, 120, seed=seed)
            text = " ".join(as_text(line[20:], vocabulary) for line in lines)
            found[f"{name}: written in real words"] = share_of_known_words(text, known)
    return found


class RowReader(nn.Module):
    """The notebook's reader of digits."""

    def __init__(self, causal: bool):
        super().__init__()
        self.rows, self.places = nn.Linear(8, 32), nn.Parameter(torch.randn(8, 32) / 10)
        self.blocks = nn.ModuleList(Block(32, 4) for _ in range(2))
        self.blocked = torch.ones(8, 8).triu(1).bool() if causal else torch.zeros(8, 8).bool()
        self.answer = nn.Linear(32, 10)

    def forward(self, x):
        x = self.rows(x) + self.places
        for block in self.blocks:
            x = block(x, self.blocked)
        return self.answer(x)


def reading(seed: int) -> dict[str, float]:
    """Read digits row by row, with the mask and without."""
    digits = load_digits()
    pictures = torch.tensor(digits.images, dtype=torch.float32) / 16
    labels = torch.tensor(digits.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    batches = [order[i[:, 0]] for i in random_windows(torch.arange(1400), 1, 64, 300, seed=seed)]
    found = {}
    for name, causal in (("mask", True), ("no mask", False)):
        torch.manual_seed(seed)
        reader = RowReader(causal)

        def ask(i, reader=reader):
            answers = reader(pictures[i]).transpose(1, 2)
            return cross_entropy(answers, labels[i, None].expand(-1, 8))

        train(reader, batches, ask, progress=False)
        guess = reader(pictures[order[1400:]]).argmax(-1)
        right = (guess == labels[order[1400:], None]).float().mean(0)
        found |= {f"digits, {name}: row {row}": right[row - 1].item() for row in (1, 4, 8)}
    return found


def main() -> None:
    if sys.argv[1:] != ["table"]:
        measure(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
    write_tables(json.loads(RESULTS.read_text(encoding="utf-8"))["results"])


def measure(count: int) -> None:
    torch.set_num_threads(1)
    seeds = range(count)
    results = {}
    for label, run in {
        f"{STEPS} steps": lambda seed: language(seed, STEPS),
        f"{MORE_STEPS} steps": lambda seed: language(seed, MORE_STEPS),
        "digits": reading,
    }.items():
        results[label] = [run(seed) for seed in seeds]
        print(label, json.dumps(summary(results[label]), indent=1), flush=True)
    report = reproducibility_report(device="cpu", seeds=list(seeds), length=LENGTH, batch=BATCH)
    saved = {"results": results, "versions": report.versions, "threads": report.threads}
    RESULTS.write_text(json.dumps(saved, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_tables(results: dict) -> None:
    """Fill the page's tables: the median over the seeds, and from where to where they go."""
    text = PAGE.read_text(encoding="utf-8")
    languages = [label for label in results if label != "digits"]
    columns = [summary(results[label]) for label in languages]
    rows = [[name, *(column[name] for column in columns)] for name in columns[0]]
    text = fill(text, "language", ["", *languages], rows)
    digits = summary(results["digits"])
    rows = [[name.removeprefix("digits, "), share] for name, share in digits.items()]
    text = fill(text, "digits", ["", "share right"], rows)
    PAGE.write_text(text, encoding="utf-8")


def fill(text: str, place: str, head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    pattern = rf"(<!-- begin: {place} -->\n).*?(\n<!-- end: {place} -->)"
    return re.sub(pattern, lambda found: found[1] + table + found[2], text, flags=re.S)


def summary(runs: list[dict[str, float]]) -> dict[str, str]:
    """Give the median and the range of each figure over the seeds."""
    lines = {}
    for name in runs[0]:
        values = sorted(run[name] for run in runs)
        middle = statistics.median(values)
        lines[name] = f"{middle:.2f} ({values[0]:.2f} to {values[-1]:.2f})"
    return lines


if __name__ == "__main__":
    main()
