"""How fast does a cached model write, beside another library, beside memory, beside no cache?

Usage: python benchmarks/decoding.py           measure here, rewrite the README's tables
       python benchmarks/decoding.py --dry     only print
       python benchmarks/decoding.py --table   only the tables, from the saved results

On a CPU it takes about five minutes. With a CUDA device it runs there, in 32 bits and bfloat16.
"""

import argparse
import copy
import json
import math
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from causal_lab.course.runtime import default_device, reproducibility_report
from causal_lab.models.cache import cache_nbytes
from causal_lab.models.generation import decode_one_token, generate, prefill
from causal_lab.models.speed import speed_up
from causal_lab.models.transformer import GPT
from causal_lab.plots.figures import new_figure

HERE = Path(__file__).resolve().parent
PROMPT, NEW = 16, 32
PAIRS = 7
SMALL = {"d_model": 256, "num_heads": 8, "num_layers": 4}
LONGEST = 1024
POSITIONS = (16, 32, 64, 128, 192, 256, 384, 512, 640, 768, 896, 1023)


def seconds(call: Callable, device: torch.device) -> float:
    """Time one call; a GPU works on after the call returns, so wait for it."""
    _wait(device)
    start = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def in_turns(calls: dict[str, Callable], rounds: int, device: torch.device) -> dict[str, list]:
    """Time rivals turn by turn, each first as often as last; the first round does not count."""
    times = {name: [] for name in calls}
    for number in range(rounds + 1):
        names = list(calls) if number % 2 else list(reversed(calls))
        for name in names:
            taken = seconds(calls[name], device)
            if number:
                times[name].append(taken)
    return times


# --- beside another library, and beside memory


def both_models(device: torch.device, dtype: torch.dtype):
    """Build GPT-2 with 124 million random weights there, and take them over here."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(initializer_range=0.08)
    theirs = transformers.GPT2LMHeadModel(config).eval()
    ours = GPT.from_hf_state_dict(theirs.state_dict(), num_heads=config.n_head)
    return ours.to(device, dtype), theirs.to(device, dtype)


def sped_up(model: GPT) -> GPT:
    """Copy the model with the fast product on; both read the same weights."""
    return speed_up(copy.deepcopy(model, {id(p): p for p in model.parameters()}))


def beside_transformers(ours, theirs, batch: int, device: torch.device) -> list[dict]:
    """Compare milliseconds per token after the prompt, and the floor that memory sets.

    The first row is without the fast product, the second with it.
    """
    generator = torch.Generator().manual_seed(batch)
    ids = torch.randint(50257, (batch, PROMPT), generator=generator).to(device)
    mask = torch.ones_like(ids)
    rivals = {"off": ours, "on": sped_up(ours)}

    def write_theirs(new: int) -> torch.Tensor:
        return theirs.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=new,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )

    stream = _bytes_to_read(ours.weights_read)
    calls: dict[str, Callable] = {}
    for speed, model in rivals.items():
        calls[speed] = lambda model=model: generate(model, ids, NEW + 1)
        calls[f"{speed}, first"] = lambda model=model: generate(model, ids, 1)
    calls |= {
        "theirs": lambda: write_theirs(NEW + 1),
        "theirs, first": lambda: write_theirs(1),
        "reading": lambda: [stream.sum() for _ in range(3)],
    }
    times = in_turns(calls, PAIRS, device)
    bandwidth = [3 * stream.nbytes / taken for taken in times["reading"]]
    read = ours.weights_read + _cache_read(ours, batch)
    floor = [1000 * read / speed for speed in bandwidth]
    other, theirs_64 = _per_token(times, "theirs"), write_theirs(64)
    rows = []
    for speed, model in rivals.items():
        mine = _per_token(times, speed)
        same = int((generate(model, ids, 64) == theirs_64)[:, PROMPT:].sum())
        against = [a / b for a, b in zip(mine, other, strict=True)]
        over_floor = [a / b for a, b in zip(mine, floor, strict=True)]
        row = {
            "batch": batch,
            "speed": speed,
            "ours_ms": statistics.median(mine),
            "theirs_ms": statistics.median(other),
            "ratio": statistics.median(against),
            "quartiles": statistics.quantiles(against, n=4)[::2],
            "same_tokens": [same, 64 * batch],
            "read_mb": read / 1e6,
            "bandwidth_gb_s": statistics.median(bandwidth) / 1e9,
            "over_floor": statistics.median(over_floor),
            "over_floor_quartiles": statistics.quantiles(over_floor, n=4)[::2],
        }
        rows.append(row)
    return rows


def _per_token(times: dict[str, list], who: str) -> list[float]:
    pairs = zip(times[who], times[f"{who}, first"], strict=True)
    return [1000 * (whole - first) / NEW for whole, first in pairs]


def _bytes_to_read(count: int) -> torch.Tensor:
    return torch.ones(count // 4, device=default_device())


def count_weights(model: GPT) -> int:
    """Count the bytes of all weights that one step reads: of the position table only one row."""
    every = sum(p.nbytes for p in model.parameters())
    return every - model.position.table.weight.nbytes


def _cache_read(model: GPT, batch: int) -> int:
    """Count the bytes of cache that a step in the middle of the measured stretch reads."""
    attention = model.blocks[0].attention
    head_dim = model.token_embedding.embedding_dim // attention.num_heads
    dtype = model.token_embedding.weight.dtype
    return cache_nbytes(
        len(model.blocks),
        attention.num_heads,
        head_dim,
        PROMPT + NEW // 2,
        batch=batch,
        dtype=dtype,
    )


# --- time against position


def small_model(device: torch.device, dtype: torch.dtype) -> GPT:
    generator = torch.Generator().manual_seed(0)
    model = GPT(1000, LONGEST, generator=generator, **SMALL)
    return model.eval().to(device, dtype)


def along_positions(model: GPT, device: torch.device) -> dict:
    """Time one step at several positions, with the cache and by reading everything again."""
    ids = torch.randint(1000, (1, LONGEST), generator=torch.Generator().manual_seed(1)).to(device)
    calls: dict[str, Callable] = {}
    for position in POSITIONS:
        cache = model.new_cache(batch=1)
        prefill(model, ids[:, :position], cache)

        def step(position=position, cache=cache):
            cache.length = position  # forget the token that the last try stored
            decode_one_token(model, ids[:, position], cache)

        def recompute(position=position):
            with torch.no_grad():
                model.head(model.hidden_states(ids[:, : position + 1])[:, -1])

        calls |= {f"cached {position}": step, f"again {position}": recompute}
    # All positions take turns, so that a busy minute does not bend the curve.
    times = in_turns(calls, 2 * PAIRS, device)
    cached, again = (
        [1000 * statistics.median(times[f"{name} {position}"]) for position in POSITIONS]
        for name in ("cached", "again")
    )
    return {
        "speed": "off",
        "positions": list(POSITIONS),
        "cached_ms": cached,
        "again_ms": again,
        "cached_exponent": exponent(POSITIONS, cached),
        "again_exponent": exponent(POSITIONS, again),
    }


def exponent(positions, times) -> float:
    """Fit time = c · position to the power of the exponent, over positions from 256 on."""
    pairs = [(math.log(p), math.log(t)) for p, t in zip(positions, times, strict=True) if p >= 256]
    return statistics.linear_regression(*zip(*pairs, strict=True)).slope


def whole_texts(model: GPT, device: torch.device, length: int = 512) -> dict:
    """Write a whole text with the cache and without."""
    ids = torch.randint(1000, (1, 1), generator=torch.Generator().manual_seed(2)).to(device)

    def without() -> None:
        text = ids
        with torch.no_grad():
            for _ in range(length - 1):
                token = model.head(model.hidden_states(text)[:, -1]).argmax(-1)
                text = torch.cat([text, token[:, None]], dim=1)
        written["without"] = text

    def cached() -> None:
        written["cached"] = generate(model, ids, length - 1)

    written: dict = {}
    times = in_turns({"cached": cached, "without": without}, 5, device)
    ratios = [b / a for a, b in zip(times["cached"], times["without"], strict=True)]
    return {
        "length": length,
        "cached_s": statistics.median(times["cached"]),
        "without_s": statistics.median(times["without"]),
        "speed_up": statistics.median(ratios),
        "same_text": torch.equal(written["cached"], written["without"]),
    }


# --- memory


def memory(ours: GPT, theirs, device: torch.device) -> dict:
    """Compare the cache with its closed form, and count what a step allocates."""
    ids = torch.randint(50257, (1, 1000), generator=torch.Generator().manual_seed(3)).to(device)
    cache = ours.new_cache(1)
    before = cache.nbytes
    found = {"capacity": cache.capacity, "measured": before, "closed_form": _whole(ours, cache)}
    for position in (64, 960):
        cache.reset()
        prefill(ours, ids[:, :position], cache)
        found[f"ours_step_{position}"] = _allocated(
            lambda p=position: decode_one_token(ours, ids[:, p], cache), device
        )
        grows = transformers.DynamicCache(config=theirs.config)
        with torch.no_grad():
            theirs(ids[:, :position], past_key_values=grows, use_cache=True)
            found[f"theirs_step_{position}"] = _allocated(
                lambda p=position, c=grows: theirs(
                    ids[:, p : p + 1], past_key_values=c, use_cache=True
                ),
                device,
            )
    found["unchanged"] = cache.nbytes == before
    return found


def _whole(model: GPT, cache) -> int:
    sizes = cache.num_layers, cache.num_heads, cache.head_dim, cache.capacity
    return cache_nbytes(*sizes, dtype=cache.dtype)


def _allocated(call: Callable, device: torch.device) -> int:
    """Add up all the memory that is asked for during a call, whether or not it is given back."""
    on_gpu = device.type == "cuda"
    kinds = [torch.profiler.ProfilerActivity.CPU]
    kinds += [torch.profiler.ProfilerActivity.CUDA] if on_gpu else []
    with torch.profiler.profile(activities=kinds, profile_memory=True) as profile:
        call()
    name = "self_device_memory_usage" if on_gpu else "self_cpu_memory_usage"
    return sum(max(getattr(event, name), 0) for event in profile.events())


# --- SDPA's own backends, for one new token (only where there is a GPU)


def backends(device: torch.device, dtype: torch.dtype, past: int = 1000) -> dict[str, float | str]:
    """Time one decoding step's attention, GPT-2's shapes, batch 4, under each backend."""
    q = torch.randn(4, 12, 1, 64, device=device, dtype=dtype)
    k, v = torch.randn(2, 4, 12, past, 64, device=device, dtype=dtype)
    found: dict[str, float | str] = {}
    for backend in (
        SDPBackend.MATH,
        SDPBackend.FLASH_ATTENTION,
        SDPBackend.EFFICIENT_ATTENTION,
        SDPBackend.CUDNN_ATTENTION,
    ):
        name = backend.name.lower()
        with sdpa_kernel(backend):
            try:
                scaled_dot_product_attention(q, k, v)
            except RuntimeError:  # this backend does not exist here, or not for this dtype
                found[name] = "not available"
                continue
            call = {"x": lambda: [scaled_dot_product_attention(q, k, v) for _ in range(20)]}
            found[name] = 1e6 * statistics.median(in_turns(call, PAIRS, device)["x"]) / 20
    return found


# --- all together


def measure(device: torch.device) -> dict:
    transformers.logging.set_verbosity_error()
    results: dict = {"beside": [], "device": device.type}
    dtypes = (torch.float32, torch.bfloat16) if device.type == "cuda" else (torch.float32,)
    for dtype in dtypes:
        ours, theirs = both_models(device, dtype)
        ours.weights_read = count_weights(ours)
        for threads in (1, 2) if device.type == "cpu" else (torch.get_num_threads(),):
            torch.set_num_threads(threads)
            for batch in (1, 4):
                for row in beside_transformers(ours, theirs, batch, device):
                    row |= {"dtype": str(dtype).removeprefix("torch."), "threads": threads}
                    results["beside"].append(row)
                    print(row, flush=True)
        torch.set_num_threads(1)
        if dtype == torch.float32:
            results["memory"] = memory(ours, theirs, device)
            print(results["memory"], flush=True)
        if device.type == "cuda":
            results[f"backends, {dtype}"] = backends(device, dtype)
        del ours, theirs
    model = small_model(device, torch.float32)
    results["positions"] = along_positions(model, device)
    print(results["positions"], flush=True)
    results["whole"] = whole_texts(model, device)
    print(results["whole"], flush=True)
    report = reproducibility_report(device=device, **SMALL, prompt=PROMPT, new=NEW, pairs=PAIRS)
    results["versions"] = {**report.versions, "transformers": transformers.__version__}
    results["machine"] = {"device": report.device, "driver": report.driver}
    results["date"] = time.strftime("%Y-%m-%d")
    return results


def tables(results: dict) -> dict[str, str]:
    return {
        "beside": _beside_table(results["beside"]),
        "floor": _floor_table(results["beside"]),
        "positions": _positions_table(results["positions"], results["whole"]),
        "memory": _memory_table(results["memory"]),
        "decoding-versions": _versions(results),
    }


def _beside_table(rows: list[dict]) -> str:
    lines = [
        "| dtype | threads | batch | fast product | ours, ms per token | `transformers` | ratio | "
        "quartiles | same tokens | bar: at most 1 |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        low, high = row["quartiles"]
        same, total = row["same_tokens"]
        lines.append(
            f"{_case(row)} {row['ours_ms']:.1f} | {row['theirs_ms']:.1f} | **{row['ratio']:.2f}** "
            f"| {low:.2f} to {high:.2f} | {same} of {total} | {_met(row['ratio'] <= 1)} |"
        )
    return "\n".join(lines)


def _case(row: dict) -> str:
    return f"| {row['dtype']} | {row['threads']} | {row['batch']} | {row['speed']} |"


def _floor_table(rows: list[dict]) -> str:
    lines = [
        "| dtype | threads | batch | fast product | read per token, MB | bandwidth, GB/s | "
        "time over floor | quartiles | aim: 1.3 |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        low, high = row["over_floor_quartiles"]
        lines.append(
            f"{_case(row)} {row['read_mb']:.0f} | {row['bandwidth_gb_s']:.1f} | "
            f"**{row['over_floor']:.2f}** | {low:.2f} to {high:.2f} "
            f"| {_met(row['over_floor'] <= 1.3)} |"
        )
    return "\n".join(lines)


def _positions_table(found: dict, whole: dict) -> str:
    lines = [
        "| position | with the cache, ms | all again, ms | ratio |",
        "| --- | --- | --- | --- |",
    ]
    columns = zip(found["positions"], found["cached_ms"], found["again_ms"], strict=True)
    for position, cached, again in columns:
        lines.append(f"| {position} | {cached:.2f} | {again:.2f} | {again / cached:.1f} |")
    lines += [
        "",
        "Fitted from position 256 on: time grows with the power "
        f"**{found['cached_exponent']:.2f}** of the position with the cache, and "
        f"**{found['again_exponent']:.2f}** without. The fast product was {found['speed']}.",
        "",
        f"A whole text of {whole['length']} tokens, one after the other: {whole['cached_s']:.2f} s "
        f"with the cache, {whole['without_s']:.2f} s without: **{whole['speed_up']:.1f} times "
        f"faster** (bar: 8, {_met(whole['speed_up'] >= 8)}); the same text: "
        f"{'yes' if whole['same_text'] else 'no'}.",
    ]
    return "\n".join(lines)


def _memory_table(found: dict) -> str:
    lines = [
        f"A cache for {found['capacity']:,} tokens takes {found['measured']:,} bytes, measured on "
        f"its storage; 2 · layers · heads · head_dim · T · batch · bytes per number is "
        f"{found['closed_form']:,}.",
        "",
        "| allocated during one step, MB | at position 64 | at position 960 | growth |",
        "| --- | --- | --- | --- |",
    ]
    for who, name in (("ours", "ours"), ("theirs", "`transformers`, `DynamicCache`")):
        early, late = found[f"{who}_step_64"] / 1e6, found[f"{who}_step_960"] / 1e6
        lines.append(f"| {name} | {early:.2f} | {late:.2f} | {late - early:+.2f} |")
    return "\n".join(lines)


def _versions(results: dict) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return f"Measured on {results['date']}, {results['machine']['device']}: {versions}."


def _met(is_met: bool) -> str:
    return "met" if is_met else "missed"


def draw(found: dict):
    """Draw time against position, both axes logarithmic."""
    figure = new_figure(6.4, 4)
    ax = figure.subplots()
    for name, key in (("all again", "again"), ("with the cache", "cached")):
        slope = found[f"{key}_exponent"]
        label = f"{name}: power {slope:.2f} from 256 on"
        ax.plot(found["positions"], found[f"{key}_ms"], "o-", label=label)
    ax.set(xscale="log", yscale="log", xlabel="position of the new token", ylabel="ms per token")
    ax.legend(frameon=False)
    ax.grid(which="both", alpha=0.2)
    return figure


def write(results: dict) -> None:
    readme = HERE / "README.md"
    text = readme.read_text(encoding="utf-8")
    for name, table in tables(results).items():
        place = rf"(<!-- begin: {name} -->\n).*?(\n<!-- end: {name} -->)"
        text, count = re.subn(place, lambda f, t=table: f[1] + t + f[2], text, flags=re.S)
        if count != 1:
            raise ValueError(f"benchmarks/README.md has no place for {name}")
    readme.write_text(text, encoding="utf-8")
    draw(results["positions"]).savefig(HERE / "images" / "decoding_positions.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dry", action="store_true", help="only print")
    parser.add_argument("--table", action="store_true", help="only the tables, as saved")
    options = parser.parse_args()
    device = default_device()
    path = HERE / "results" / f"decoding_{device.type}.json"
    results = json.loads(path.read_text(encoding="utf-8")) if options.table else measure(device)
    print("\n\n".join(tables(results).values()))
    if options.dry:
        return
    if not options.table:
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if device.type == "cpu":  # the README shows the CPU; a GPU's results stand in their file
        write(results)


if __name__ == "__main__":
    main()
