"""Count what an exhaustive check costs, in passes of the model, and write it into the README.

Usage: python benchmarks/causality_cost.py
"""

import json
import re
import statistics
import time
from pathlib import Path

import torch
from torch import nn

from causal_lab.causality import check_causality
from causal_lab.course.runtime import reproducibility_report
from causal_lab.models.transformer import GPT

HERE = Path(__file__).resolve().parent
LENGTH, WIDTH, LAYERS, HEADS, VOCABULARY = 64, 128, 4, 4, 100


class Convolution(nn.Module):
    """A causal convolution by FFT: every output rounds with the whole input."""

    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(5, WIDTH))

    def forward(self, x):
        size = 2 * x.shape[1]
        spectrum = torch.fft.rfft(x, size, 1) * torch.fft.rfft(self.kernel, size, 0)
        return torch.fft.irfft(spectrum, size, 1)[:, : x.shape[1]]


class Encoder(nn.Module):
    """PyTorch's own layers behind a causal mask, on their fast path."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)

    def forward(self, x):
        mask = torch.ones(x.shape[1], x.shape[1]).triu(1).bool()
        return self.layers(x, mask=mask)


def models() -> dict:
    def gpt(**options):
        return GPT(VOCABULARY, LENGTH, d_model=WIDTH, num_heads=HEADS, num_layers=LAYERS, **options)

    def small_gpt(length: int):
        return GPT(VOCABULARY, length, d_model=64, num_heads=HEADS, num_layers=LAYERS)

    ids = torch.randint(1, VOCABULARY, (1, LENGTH))
    long = torch.randint(1, VOCABULARY, (1, 512))
    thorough, quick = {"effort": "thorough"}, {"effort": "quick"}
    vectors = torch.randn(1, LENGTH, WIDTH)
    return {
        "GPT": (gpt(), ids, {}),
        "GPT, with two special ids": (gpt(), ids, {"special_ids": (0, 1)}),
        "GPT, quick": (gpt(), ids, quick),
        "GPT without its mask": (gpt(causal=False), ids, {}),
        "GPT without its mask, with blame": (gpt(causal=False), ids, {"blame": True}),
        "`nn.TransformerEncoder` with a causal mask": (Encoder(), vectors, {}),
        "`nn.LSTM`": (nn.LSTM(WIDTH, WIDTH, LAYERS, batch_first=True), vectors, {}),
        "convolution by FFT": (Convolution(), vectors, {}),
        "GPT of width 64, T = 128": (small_gpt(128), long[:, :128], thorough),
        "GPT of width 64, T = 128, quick": (small_gpt(128), long[:, :128], quick),
        "GPT of width 64, T = 512": (small_gpt(512), long, thorough),
        "GPT of width 64, T = 512, quick": (small_gpt(512), long, quick),
    }


def seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(model: nn.Module, inputs: torch.Tensor, options: dict) -> dict:
    """Count passes; compare the time with forwards of the same model, turn by turn."""
    model.eval()
    ratios, checks = [], []
    for _ in range(3):
        with torch.no_grad():
            one = statistics.median(seconds(lambda: model(inputs)) for _ in range(10))
        checks.append(seconds(lambda: check_causality(model, inputs, **options)))
        ratios.append(checks[-1] / one)
    report = check_causality(model, inputs, **options)
    return {
        "causal": report.causal,
        "forward_equivalents": round(report.forward_equivalents, 1),
        "backwards": report.backwards,
        "time_in_forwards": round(statistics.median(ratios)),
        "seconds": round(statistics.median(checks), 1),
    }


def table(results: dict) -> str:
    lines = [
        "| model | causal | forward-equivalents | backwards | time, in forwards | seconds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, found in results.items():
        lines.append(
            f"| {name} | {found['causal']} | {found['forward_equivalents']} | "
            f"{found['backwards']} | {found['time_in_forwards']} | {found['seconds']} |"
        )
    return "\n".join(lines)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    results = {name: measure(*parts) for name, parts in models().items()}
    print(table(results))
    readme = HERE / "README.md"
    text = readme.read_text(encoding="utf-8")
    place = r"(<!-- begin: causality -->\n).*?(\n<!-- end: causality -->)"
    text = re.sub(place, lambda found: found[1] + table(results) + found[2], text, flags=re.S)
    readme.write_text(text, encoding="utf-8")
    report = reproducibility_report(device="cpu", length=LENGTH, width=WIDTH, layers=LAYERS)
    saved = {"results": results, "versions": report.versions, "threads": report.threads}
    path = HERE / "results" / "causality_cost.json"
    path.write_text(json.dumps(saved, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
