"""Build every causal class that can be found, small and random, check it, and write a page.

Usage: python tools/census.py [--only NAME …] [--library NAME] [--output FILE] [--json FILE]
"""

import argparse
import contextlib
import importlib
import json
import re
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor, nn

from causal_lab.causality import check_causality
from causal_lab.causality.parts import take

GREEN, RED, OPEN, NOT_RUN = VERDICTS = ("causal", "NOT causal", "undecided", "not run")
VOCABULARY, MOST_LAYERS, SPECIAL = 50, 3, {"special_ids": (0, 2)}
IDS = torch.randint(3, VOCABULARY, (2, 12), generator=torch.Generator().manual_seed(0))
ISSUES = "huggingface/transformers #"
BERT_LIKE = [f"{name}ForCausalLM" for name in ("BigBird", "MegatronBert", "RemBert", "RoFormer")]
PUBLIC = dict.fromkeys(BERT_LIKE, ISSUES + "48745") | {"DogeForCausalLM": ISSUES + "48748"}
BY_DESIGN = {
    "CpmAntForCausalLM": "all ids are context, which is read in both directions",
    "ReformerLM": "hashed positions are sorted: later ones decide which share a chunk",
    "ReformerModelWithLMHead": "hashed positions are sorted: later ones decide which share a chunk",
    "RoutingTransformerLM": "clusters take the positions that fit them best, of all",
    "SwitchTransformer, 1.0, drop_tokens=True": "experts are full: who is dropped, all decide",
    "XLMWithLMHeadModel": "a masked language model, unless `causal=True`",
    "XLNetLMHeadModel": "sees all that no mask hides, unless `attn_type='uni'`",
}
# What is set wherever a configuration has a number. Windows and chunks are shorter than the
# sequence, and weights so large that what is chosen by score depends on the inputs.
RULES = r"""
0 pad_token_id|pad_index|num_kv_shared_layers
1 (bos|cls|decoder_start)_token_id|bos_index|topk_group|(n|num|moe_num)_shared_experts
1 first_k_dense_replace|num_dense_layers|moe_layer_start_index|num_mem_blocks
2 (eos|sep|eod|forced_eos)_token_id|eos_index|hc_count|hc_mult|index_topk\w*|\w*groups?
2 \w*(key|value|kv)_heads|\w*experts_per_tok\w*|moe_(topk|k)
64 \w*position_embeddings|\w*_positions|n_ctx|max_seq_len|context_length|model_max_length
50 \w*vocab_size(_per_layer_input|_base)?|\w*group_vocab
8 (?!qk_)\w*head_dim|qk_\w+_head_dim|(dim|d)_head|attention_head_size|\w*lora_rank|kv_channels
8 rotary_dim|hidden_size_per_layer_input|\w+_embed_dim|hc_lowrank|gated_norm_rank|local_attention
4 \w*heads|n_head|(num|n|moe_num)_(local_|routed_)?experts|zero_expert_num|\w*state(_size)?
4 (mamba_dt|time_step|laurel|adapter)_rank|rel_extent|\w*(window|chunk|block)(_size|_len(gth)?)?
16 \w*(moe|expert|shared)\w*_size|intermediate_size_mlp|num_buckets|d_rel|mamba_headdim|prompt_\w+
32 \w*(hidden|intermediate|embedding|feed_forward)_size|hidden_size_global|d_model|n_embd|dff
32 \w*ffn_dim|emb_dim|dim_ff|d_inner|lru_width|word_embed_proj_dim|mamba_d_ssm|projection_dim
0.2 initializer_range|init_std
false use_cache|use_mamba_kernels|use_mem_eff_path
true is_decoder
"""
PATTERNS, BOOLEAN = [line.split() for line in RULES.split("\n")[1:-1]], ("false", "true")
# These stand for something else as long as they are None; other fields stay so.
UNSET = r"(pad|bos|eos)_token_id|num_key_value_heads|head_dim|n_\w+_experts|\w+_per_tok|\w+_group"
DEPTHS = r"num_hidden_layers|n_layers?|num_layers|(num_)?(en|de)coder_layers|depth"
TWO, WIDE = {"num_hidden_layers": 2}, {"mamba_d_head": 16}
ROPE = {"rope_type": "default", "rope_theta": 100.0, "mrope_section": [2, 1, 1]}
ZAMBA = {"num_key_value_heads": 4, "attention_hidden_size": 64, "attention_head_dim": 16}
ZAMBA |= {"num_hidden_layers": 3, "layers_block_type": ["mamba", "hybrid", "hybrid"]}
INDEXER = {"indexer_n_heads": 4, "indexer_kv_heads": 1, "indexer_head_dim": 8, "indexer_budget": 4}
OVERRIDES = {
    "BambaForCausalLM": WIDE | {"attn_layer_indices": [1]},
    "CohereCompassForCausalLM": {"rope_parameters": {"full_attention": ROPE}},
    "DbrxForCausalLM": {"attn_config": {"rope_theta": 1e4, "kv_n_heads": 2, "clip_qkv": 8.0}},
    "Dots3NoteForCausalLM": {"num_key_value_heads": 4},
    "GraniteMoeHybridForCausalLM": TWO | WIDE | {"layer_types": ["mamba", "attention"]},
    "Lfm2MoeForCausalLM": TWO | {"layer_types": ["conv", "full_attention"]},
    "Mamba2ForCausalLM": {"num_heads": 8, "head_dim": 8},
    "MinistralForCausalLM": TWO | {"layer_types": ["sliding_attention", "full_attention"]},
    **{f"{n}ForCausalLM": {"num_codebooks": 1} for n in ("Musicgen", "MusicgenMelody")},
    "Qwen4ExpForCausalLM": INDEXER | {"indexer_compress_ratio": 2},
    "ReformerModelWithLMHead": {"axial_pos_embds": False, "hash_seed": 0, "num_buckets": 4},
    "XmodForCausalLM": {"default_language": "en_XX"},
    **dict.fromkeys(("ZambaForCausalLM", "Zamba2ForCausalLM"), ZAMBA),
    "ZayaForCausalLM": {"num_experts_per_tok": 1},
}


@dataclass(frozen=True)
class Case:
    """A model to be judged; ``make.code``, if there is one, says how to make it."""

    name: str  # its class, with what is special about it
    library: str  # its distribution on PyPI
    make: Callable[[], nn.Module]  # small, random, in eval mode; the caller sets the seed
    inputs: Callable[[], Tensor]  # (2, 8…24) ids, or (2, T, dim) vectors
    options: dict = field(default_factory=dict)  # of check_causality


@dataclass(frozen=True)
class Row:
    """What was seen of one case."""

    name: str
    library: str
    verdict: str
    seconds: float
    reason: str = ""
    leak: str = ""
    blame: str = ""
    confirmed: str = ""
    code: str = ""


def small(config_class: type, given: Mapping) -> dict:
    """Choose small values for those fields which a configuration has, nested ones too."""
    default, chosen = config_class(), {}
    fields = default.to_dict()
    depth = next((v for n, v in fields.items() if re.fullmatch(DEPTHS, n) and v), 0)
    lists = {n: v for n, v in fields.items() if isinstance(v, list) and 1 < len(v) == depth}
    # Layers of which no two are of the same kind, the last one among them.
    kinds = {str([values[layer] for values in lists.values()]): layer for layer in range(depth)}
    layers = sorted(kinds.values())[-MOST_LAYERS:]
    layers = layers if len(layers) > 1 else list(range(max(depth - 2, 0), depth))
    for name, value in fields.items():
        nested = getattr(default, name, None) if name in default.sub_configs else None
        rule = next((size for size, names in PATTERNS if re.fullmatch(names, name)), None)
        fits = isinstance(value, int | float) and isinstance(value, bool) == (rule in BOOLEAN)
        if hasattr(nested, "to_dict"):
            chosen[name] = small(type(nested), given.get(name, {}))
            if default.sub_configs[name].__name__ == "AutoConfig":
                chosen[name]["model_type"] = nested.model_type
        elif re.fullmatch(DEPTHS, name) and value:
            chosen[name] = len(layers)
        elif name in lists:
            chosen[name] = [value[layer] for layer in layers]
        elif name == "num_key_value_heads" and "kv_lora_rank" in fields:
            chosen[name] = 4  # latent attention has no groups
        elif rule and (fits or (value is None and re.fullmatch(UNSET, name))):
            chosen[name] = json.loads(rule)
        elif name.endswith(("_token_id", "_token_index")) and isinstance(value, int):
            chosen[name] = VOCABULARY - 1
    return chosen | {n: value for n, value in given.items() if n not in default.sub_configs}


class FromTransformers:
    """Makes a small model of one class; ``code`` says how."""

    def __init__(self, name: str):
        self.name, self.code = name, ""

    def __call__(self) -> nn.Module:
        """Build it, by running what is shown to the reader."""
        given, transformers = OVERRIDES.get(self.name, {}), importlib.import_module("transformers")
        if self.name.endswith("AssistantForCausalLM"):
            raise NotImplementedError("it drafts from the keys and values of another model")
        config_class = getattr(transformers, self.name).config_class
        chosen, config, made = small(config_class, given), config_class.__name__, {}
        fields = ", ".join(f"{name}={value!r}" for name, value in chosen.items())
        self.code = (
            f"import torch\nfrom transformers import {config}, {self.name}\n\n"
            f"torch.manual_seed(0)\nmodel = {self.name}({config}({fields})).eval()\n"
            "for weight in model.parameters():  # what is all 0 or all 1 is moved, as by training\n"
            "    if weight.numel() > 1 and weight.min() == weight.max():\n"
            "        weight.data += 0.1 * torch.randn_like(weight)"
        )
        exec(self.code, made)
        return made["model"]


def transformers_cases() -> Iterable[Case]:
    """List a case for every class that transformers calls a causal language model."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as NAMES

    importlib.import_module("transformers").logging.set_verbosity_error()
    for name in sorted(set(NAMES.values())):
        yield Case(name, "transformers", FromTransformers(name), lambda: IDS, SPECIAL)


def _outputs(model: nn.Module, inputs: Tensor, options: Mapping) -> Tensor:
    """Run a model once, from the same random state whenever it draws."""
    torch.manual_seed(0)
    kwargs, output = options.get("forward_kwargs") or {}, options.get("output")
    with torch.no_grad():
        made = model(inputs, **(kwargs(inputs) if callable(kwargs) else kwargs))
    if output is None and not isinstance(made, Tensor):
        output = next((n for n in ("logits", "last_hidden_state") if hasattr(made, n)), 0)
    return take(made, output)


def confirm(case: Case, first: int) -> str:
    """Look by hand, in 64 bits, whether a later input moves an earlier output; ``first`` first."""
    axes, ahead = case.options.get("time_axis", 1), case.options.get("lookahead", 0)
    axis, output_axis = (axes, axes) if isinstance(axes, int) else axes
    torch.manual_seed(0)
    model, inputs = case.make().double(), case.inputs()
    inputs = inputs.double() if inputs.is_floating_point() else inputs
    before = _outputs(model, inputs, case.options)
    for place in sorted(range(1, inputs.shape[axis]), key=lambda place: place != first):
        for other in range(1, 4 if place > ahead else 1):
            changed = inputs.clone()
            changed.select(axis, place).copy_(inputs.select(axis, place - other))
            moved = _outputs(model, changed, case.options) - before
            size = moved.narrow(output_axis, 0, place - ahead).abs().max()
            if size > 1e-9:
                return f"yes, {size:.2g}"
    return "no"


def judge(case: Case, time_limit: float = 60.0) -> Row:
    """Build a model, check it, and write down what was seen."""
    start, seen, verdict = time.monotonic(), {}, NOT_RUN
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.manual_seed(0)
            model, inputs = case.make(), case.inputs()
            _outputs(model, inputs, case.options)
            verdict = OPEN
            options = case.options | {"blame": True, "time_limit": time_limit}
            report = check_causality(model, inputs, **options)
            seen["reason"] = "" if report or report.causal is False else report.reason
            verdict = RED if report.causal is False else GREEN if report else OPEN
            if verdict == RED:
                leak, blame = report.first_leak, report.blame
                example = (blame and blame.example.removeprefix("import torch\n\n")) or f"# {leak}"
                code = getattr(case.make, "code", f"# model: {case.name}")
                code += "" if inputs.is_floating_point() else "\nmodel.double()"
                seen |= {"leak": str(leak), "code": f"{code}\n\n{example}", "confirmed": "no"}
                seen["blame"] = f"`{blame.name or 'the model'}` ({blame.kind})" if blame else ""
                seen["confirmed"] = confirm(case, leak.input)
        except Exception as error:
            seen["reason"] = " ".join(f"{type(error).__name__}: {error}".split())[:120]
    return Row(case.name, case.library, verdict, time.monotonic() - start, **seen)


FOLDED = "<details>\n<summary>{}</summary>\n\n{}\n\n</details>"
INTRODUCTION = """# Census: which causal models look ahead?

Every class that a library offers as a causal model and that could be built was built small, with
random weights, and checked on the CPU: does an output depend on a [later input](causality.md)?

- **causal**: nothing came through, at these inputs and with these weights. A test, not a proof.
- **NOT causal**: an output moved. *Confirmed* says whether it did once more, by hand, in 64 bits,
  and by how much, when one later input was changed. *By design*: it is meant so.
- **undecided**, **not run**: with the reason.

A red row says what was seen in the version named here, with small random weights, a configuration
that nobody may use, no padding and no cache; it accuses nobody. *Enters at* names the innermost
module whose inputs still are causal.
"""


def write(rows: Iterable[Row], versions: Mapping[str, str], date: str) -> str:
    """Write the page, in Markdown."""
    rows, name = list(rows), "`{}`".format
    tally = [(row.library, row.verdict) for row in rows]
    names = sorted({library for library, _ in tally})
    counted = [[n, versions.get(n, ""), *(tally.count((n, v)) for v in VERDICTS)] for n in names]
    found, lines = [row for row in rows if row.verdict in (RED, OPEN)], []
    for row in found:
        public = PUBLIC.get(row.name, "")
        line = [name(row.name), row.library, row.verdict, row.leak or row.reason, row.blame]
        lines.append([*line, row.confirmed, BY_DESIGN.get(row.name, ""), public])
    head = "class|library|verdict|first leak, or why|enters at|confirmed|by design|public"
    green = [[name(r.name), r.library, f"{r.seconds:.2g}"] for r in rows if r.verdict == GREEN]
    rest = [[name(r.name), r.library, r.reason] for r in rows if r.verdict == NOT_RUN]
    codes = [FOLDED.format(row.name, f"```python\n{row.code}\n```") for row in found if row.code]
    parts = [INTRODUCTION, f"{date}: {', '.join(f'{n} {v}' for n, v in versions.items())}."]
    parts += [_table(["library", "version", *VERDICTS], counted), "## Not causal, or undecided"]
    parts += [_table(head.split("|"), lines), "## Reproductions", *codes, "## Causal"]
    green = FOLDED.format(f"{len(green)} classes", _table(["class", "library", "seconds"], green))
    parts += [green, "## Not run", _table(["class", "library", "why"], rest)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _table(head: list, rows: list) -> str:
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *cells])


def main() -> None:
    """Judge what is asked for, print it, and write it down."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="+", default=[""], help="how the names of cases begin")
    parser.add_argument("--library")
    parser.add_argument("--output", type=Path, default=Path("docs/census.md"))
    parser.add_argument("--json", type=Path)
    asked, cases, rows = parser.parse_args(), list(transformers_cases()), []
    with contextlib.suppress(ModuleNotFoundError):
        cases += importlib.import_module("census_libraries").CASES
    versions = {"torch": torch.__version__}
    for case in cases:
        if asked.library in (None, case.library) and case.name.startswith(tuple(asked.only)):
            rows.append(row := judge(case))
            seen = " ".join([row.reason, row.leak, row.blame, row.confirmed])
            print(f"{row.verdict:10} {row.name} ({row.seconds:.2g} s) {seen}", flush=True)
            with contextlib.suppress(PackageNotFoundError):
                versions[case.library] = version(case.library)
    asked.output.write_text(write(rows, versions, time.strftime("%Y-%m-%d")), "utf-8")
    if asked.json:
        asked.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
