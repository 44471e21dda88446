"""The real model beside transformers: the same numbers, the same texts, and how fast?

Usage: python benchmarks/real_model_speed.py           measure here, rewrite the README's tables
       python benchmarks/real_model_speed.py --dry     only print
       python benchmarks/real_model_speed.py --table   only the tables, from the saved results

Both work on the same weights, in 32 bits, on the CPU, on one thread. It takes about five minutes.
"""

import argparse
import json
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from decoding import in_turns, sped_up
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from causal_lab.course.byte_pairs import BytePairTokenizer
from causal_lab.course.passage import PASSAGE
from causal_lab.course.runtime import reproducibility_report
from causal_lab.course.smollm2 import load_smollm2, read_smollm2
from causal_lab.models.generation import decode_one_token, generate, pad_left, prefill
from causal_lab.models.llama import Llama

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "real_model_speed.json"
CPU = torch.device("cpu")
READ, PROMPT, NEW, ROUNDS = 300, 30, 100, 9
POSITIONS = (32, 128, 256, 512)
PROMPTS = (
    "The capital of France is",
    "Once upon a time there was a",
    "def add(a, b):",
    "Water boils when",
    "<|im_start|>user\nWhat is a lighthouse?<|im_end|>\n<|im_start|>assistant\n",
)


def build_theirs(weights: dict[str, Tensor]) -> LlamaForCausalLM:
    """Build the model of transformers on these weights; nothing is copied."""
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=1,
        # A text goes on behind its end: min_new_tokens would forbid the end, and change the text.
        eos_token_id=None,
        pad_token_id=2,
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model.load_state_dict(weights, strict=False, assign=True)
    model.tie_weights()
    model.model.rotary_emb = type(model.model.rotary_emb)(config)  # has numbers of its own
    return model.eval().requires_grad_(False)


def write_theirs(theirs: LlamaForCausalLM, ids: Tensor, new: int, padding=None) -> Tensor:
    mask = torch.ones_like(ids) if padding is None else (~padding).long()
    options = {"max_new_tokens": new, "do_sample": False, "use_cache": True, "eos_token_id": None}
    return theirs.generate(input_ids=ids, attention_mask=mask, pad_token_id=2, **options)


# --- the same numbers, the same texts


@torch.no_grad()
def compare_logits(ours: Llama, theirs: LlamaForCausalLM, ids: Tensor) -> dict:
    mine, other = ours(ids), theirs(input_ids=ids).logits
    return {
        "tokens": ids.shape[1],
        "largest_difference": (mine - other).abs().max().item(),
        "largest_logit": other.abs().max().item(),
        "same_argmax": int((mine.argmax(-1) == other.argmax(-1)).sum()),
    }


def compare_texts(rivals: dict[str, Llama], theirs, tokenizer: BytePairTokenizer) -> dict:
    """Count the texts that are the same, each alone and four in a batch padded on the left."""
    rows = [tokenizer.encode(prompt) for prompt in PROMPTS]
    ids, padding = pad_left(rows[:4], pad_id=2)
    wanted = [write_theirs(theirs, row[None], NEW) for row in rows]
    wanted_together = write_theirs(theirs, ids, 40, padding)
    found = {}
    for name, ours in rivals.items():
        alone = [generate(ours, row[None], NEW) for row in rows]
        together = generate(ours, ids, 40, padding=padding, pad_id=2)
        found[name] = {
            "alone": sum(map(torch.equal, alone, wanted)),
            "together": int((together == wanted_together).all(dim=1).sum()),
        }
    return found


# --- how fast


def compare_speed(rivals: dict[str, Llama], theirs, ids: Tensor) -> dict:
    """Time 100 tokens after a prompt, the prompt included."""
    calls: dict[str, Callable] = {
        name: lambda model=model: generate(model, ids, NEW) for name, model in rivals.items()
    }
    calls["theirs"] = lambda: write_theirs(theirs, ids, NEW)
    times = in_turns(calls, ROUNDS, CPU)
    found = {"prompt": ids.shape[1], "new": NEW, "rounds": ROUNDS}
    for name, taken in times.items():
        ratios = [other / mine for mine, other in zip(taken, times["theirs"], strict=True)]
        found[name] = {
            "tokens_per_second": statistics.median(NEW / seconds for seconds in taken),
            "times_theirs": statistics.median(ratios),
            "quartiles": statistics.quantiles(ratios, n=4)[::2],
        }
    return found


def along_positions(rivals: dict[str, Llama], ids: Tensor) -> list[dict]:
    """Time the next token after so many, with the cache and by reading all of them again."""
    calls: dict[str, Callable] = {}
    for position in POSITIONS:
        for name, model in rivals.items():
            cache = model.new_cache(1, position + 1)
            prefill(model, ids[:, :position], cache)

            def step(model=model, cache=cache, position=position):
                cache.length = position  # forget the token that the last try stored
                decode_one_token(model, ids[:, position], cache)

            def again(model=model, position=position):
                with torch.no_grad():
                    model(ids[:, : position + 1], logits="last")

            calls |= {f"{name} {position}": step}
        calls |= {f"again {position}": again}
    times = in_turns(calls, ROUNDS, CPU)
    found = []
    for position in POSITIONS:
        row = {"position": position}
        for name in (*rivals, "again"):
            row[f"{name}_ms"] = 1000 * statistics.median(times[f"{name} {position}"])
        pairs = zip(times[f"again {position}"], times[f"on {position}"], strict=True)
        row["ratio"] = statistics.median(a / b for a, b in pairs)
        found.append(row)
    return found


# --- all together


def measure() -> dict:
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    ours, tokenizer = load_smollm2()
    rivals = {"off": ours, "on": sped_up(ours)}
    theirs = build_theirs(read_smollm2())
    ids = tokenizer.encode(PASSAGE)[None]
    results: dict = {"logits": compare_logits(ours, theirs, ids[:, :READ])}
    results["texts"] = compare_texts(rivals, theirs, tokenizer)
    print(results, flush=True)
    results["speed"] = compare_speed(rivals, theirs, ids[:, :PROMPT])
    print(results["speed"], flush=True)
    results["positions"] = along_positions(rivals, ids)
    report = reproducibility_report(device="cpu")
    results["versions"] = {**report.versions, "transformers": transformers.__version__}
    results["threads"] = torch.get_num_threads()
    results["date"] = time.strftime("%Y-%m-%d")
    return results


def tables(results: dict) -> dict[str, str]:
    return {
        "real-same": _same_table(results["logits"], results["texts"]),
        "real-speed": _speed_table(results["speed"]),
        "real-positions": _positions_table(results["positions"]),
        "real-versions": _versions(results),
    }


def _same_table(logits: dict, texts: dict) -> str:
    difference = logits["largest_difference"]
    difference = f"{difference:.0e}" if difference else "0, bit for bit"
    rows = [
        (f"logits of {logits['tokens']} tokens: largest difference", difference),
        ("the largest logit itself", f"{logits['largest_logit']:.0f}"),
        ("the likeliest token is the same", f"{logits['same_argmax']} of {logits['tokens']}"),
    ]
    for name, found in texts.items():
        rows += [
            (f"{NEW} tokens written, fast product {name}", f"{found['alone']} of 5 texts"),
            (
                f"40 tokens, padded on the left, fast product {name}",
                f"{found['together']} of 4 texts",
            ),
        ]
    return _table(["beside `transformers`", "the same"], rows)


def _speed_table(found: dict) -> str:
    rows = []
    for name, label in (("on", "ours, fast product on"), ("off", "ours, fast product off")):
        low, high = found[name]["quartiles"]
        ratio = found[name]["times_theirs"]
        bar = ("met" if ratio >= 1.3 else "missed") if name == "on" else ""
        rate = f"{found[name]['tokens_per_second']:.1f}"
        rows.append((label, rate, f"**{ratio:.2f}**", f"{low:.2f} to {high:.2f}", bar))
    rows.append(("`transformers`", f"{found['theirs']['tokens_per_second']:.1f}", "1", "", ""))
    head = ["", "tokens per second", "times `transformers`", "quartiles", "bar: at least 1.3"]
    return _table(head, rows)


def _positions_table(rows: list[dict]) -> str:
    head = ["tokens before", "with the cache, ms", "the same, fast product off", "all again, ms"]
    lines = [
        (
            str(row["position"]),
            f"{row['on_ms']:.0f}",
            f"{row['off_ms']:.0f}",
            f"{row['again_ms']:.0f}",
            f"{row['ratio']:.1f}",
        )
        for row in rows
    ]
    return _table([*head, "all again / with the cache"], lines)


def _table(head: list[str], rows: list[tuple]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _versions(results: dict) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return f"Measured on {results['date']}, one thread: {versions}."


def write(results: dict) -> None:
    readme = HERE / "README.md"
    text = readme.read_text(encoding="utf-8")
    for name, table in tables(results).items():
        place = rf"(<!-- begin: {name} -->\n).*?(\n<!-- end: {name} -->)"
        text, count = re.subn(place, lambda f, t=table: f[1] + t + f[2], text, flags=re.S)
        if count != 1:
            raise ValueError(f"benchmarks/README.md has no place for {name}")
    readme.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dry", action="store_true", help="only print")
    parser.add_argument("--table", action="store_true", help="only the tables, as saved")
    options = parser.parse_args()
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if options.table else measure()
    print("\n\n".join(tables(results).values()))
    if options.dry:
        return
    if not options.table:
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    write(results)


if __name__ == "__main__":
    main()
