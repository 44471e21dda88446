"""Train at length 32, read at 128: notebook 12's question over several seeds.

Read as it is, and once more with a window of 32, under which no query meets a distance that was
never trained.

Usage: python benchmarks/position_lengths.py [seeds]      5 seeds take about ten minutes
       python benchmarks/position_lengths.py table        only the table, from the saved results
"""

import json
import math
import re
import statistics
import sys
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from causal_lab.course.text import Vocabulary, load_text, split_characters
from causal_lab.course.training import random_windows, train
from causal_lab.masks.rules import generate_sliding_window_mask
from causal_lab.models.transformer import GPT, POSITIONS

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "position_lengths.json"
PAGE = ROOT / "docs" / "positions.md"
LENGTH, STEPS, MORE_STEPS = 32, 300, 1200
# Of the guessed characters: enough to go on and inside the trained length, up to twice, up to four
# times. Guess i has i + 1 characters before it.
RANGES = {"8 to 31": (7, 31), "32 to 63": (31, 63), "64 to 127": (63, 127)}
WINDOW = ", window of 32"
COLUMNS = [*RANGES, *(name + WINDOW for name in list(RANGES)[1:])]


def bits_by_length(position: str, seed: int, steps: int) -> dict[str, float]:
    """Train one model and measure its guesses by how many characters stand before them."""
    characters = split_characters(" ".join(load_text().split()))
    vocabulary = Vocabulary.from_tokens(characters)
    ids = vocabulary.encode(characters)
    cut = len(ids) * 9 // 10
    unseen = torch.cat(random_windows(ids[cut:], 4 * LENGTH, 64, 4, seed=1))
    generator = torch.Generator().manual_seed(seed)
    size = {"d_model": 48, "num_heads": 4, "num_layers": 2}
    model = GPT(len(vocabulary), 4 * LENGTH, position=position, generator=generator, **size)
    windows = random_windows(ids[:cut], LENGTH, 24, steps, seed=seed)
    train(model, windows, model.loss, progress=False)
    found = {}
    masks = {"": None, WINDOW: generate_sliding_window_mask(4 * LENGTH, LENGTH)}
    for name, blocked in masks.items():
        with torch.no_grad():
            logits = model(unseen, blocked=blocked)[:, :-1].transpose(1, 2)
        bits = cross_entropy(logits, unseen[:, 1:], reduction="none").mean(dim=0) / math.log(2)
        found |= {place + name: bits[a:b].mean().item() for place, (a, b) in RANGES.items()}
    return found


def write_tables(results: dict) -> None:
    page = PAGE.read_text(encoding="utf-8")
    for steps in (STEPS, MORE_STEPS):
        lines = [f"| positions | {' | '.join(COLUMNS)} |", "| --- " * (1 + len(COLUMNS)) + "|"]
        for position in POSITIONS:
            runs = [run for run in results[str(steps)] if run["position"] == position]
            cells = []
            for name in COLUMNS:
                found = [run[name] for run in runs]
                middle, low, high = statistics.median(found), min(found), max(found)
                cells.append(f"{middle:.2f} ({low:.2f} to {high:.2f})")
            lines.append(f"| {position} | {' | '.join(cells)} |")
        pattern = rf"(<!-- begin: {steps} -->\n).*?(\n<!-- end: {steps} -->)"
        table = "\n".join(lines)
        page = re.sub(pattern, lambda m, t=table: m[1] + t + m[2], page, flags=re.S)
    PAGE.write_text(page, encoding="utf-8")


def main() -> None:
    if sys.argv[1:] != ["table"]:
        torch.set_num_threads(1)
        seeds = range(int(sys.argv[1]) if sys.argv[1:] else 5)
        results = {
            str(steps): [
                {"position": position, "seed": seed} | bits_by_length(position, seed, steps)
                for seed in seeds
                for position in POSITIONS
            ]
            for steps in (STEPS, MORE_STEPS)
        }
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    write_tables(json.loads(RESULTS.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
