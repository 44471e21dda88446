"""Hugging Face's GPT-2, BERT and Llama in our models: three tables of names.

A table says what a weight is called here, by a regular expression for the beginning of its name
there. What has no row keeps its name, and ``load_state_dict`` says that nothing takes it.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from causal_lab.validation import check_tensor, describe

_TOKENS, _POSITIONS = "token_embedding.", "position.table."
_BLOCK = re.compile(r"blocks\.(\d+)\.")
_LAYER = r"(?:transformer\.)?h\.(\d+)\."
GPT2_NAMES = {
    r"(?:transformer\.)?wte\.": _TOKENS,
    r"lm_head\.": _TOKENS,  # tied: the head is the token table
    r"(?:transformer\.)?wpe\.": _POSITIONS,
    r"(?:transformer\.)?ln_f\.": "final_norm.",
    _LAYER + r"ln_1\.": r"blocks.\1.attention_norm.",
    _LAYER + r"attn\.c_attn\.": r"blocks.\1.attention.{}_projection.",  # three in one matrix
    _LAYER + r"attn\.c_proj\.": r"blocks.\1.attention.output_projection.",
    _LAYER + r"ln_2\.": r"blocks.\1.mlp_norm.",
    _LAYER + r"mlp\.c_fc\.": r"blocks.\1.mlp.0.",
    _LAYER + r"mlp\.c_proj\.": r"blocks.\1.mlp.2.",
    _LAYER + r"attn\.(masked_)?bias$": None,  # the causal mask, which old versions stored
}
_LAYER = r"(?:bert\.)?encoder\.layer\.(\d+)\."
BERT_NAMES = {
    r"(?:bert\.)?embeddings\.word_embeddings\.": _TOKENS,
    r"cls\.predictions\.decoder\.weight$": _TOKENS + "weight",  # tied, as is the bias below
    r"(?:bert\.)?embeddings\.position_embeddings\.": _POSITIONS,
    r"(?:bert\.)?embeddings\.token_type_embeddings\.": "type_embedding.",
    r"(?:bert\.)?embeddings\.LayerNorm\.": "embedding_norm.",
    _LAYER + r"attention\.self\.(query|key|value)\.": r"blocks.\1.attention.\2_projection.",
    _LAYER + r"attention\.output\.dense\.": r"blocks.\1.attention.output_projection.",
    _LAYER + r"attention\.output\.LayerNorm\.": r"blocks.\1.attention_norm.",
    _LAYER + r"intermediate\.dense\.": r"blocks.\1.mlp.0.",
    _LAYER + r"output\.dense\.": r"blocks.\1.mlp.2.",
    _LAYER + r"output\.LayerNorm\.": r"blocks.\1.mlp_norm.",
    r"cls\.predictions\.transform\.dense\.": "head_transform.0.",
    r"cls\.predictions\.transform\.LayerNorm\.": "head_transform.2.",
    r"cls\.predictions\.(decoder\.)?bias$": "head_bias",
    r"(bert\.)?embeddings\.position_ids$|(bert\.)?pooler\.|cls\.seq_relationship\.": None,
}
_LAYER = r"(?:model\.)?layers\.(\d+)\."
LLAMA_NAMES = {
    r"(?:model\.)?embed_tokens\.": _TOKENS,
    r"lm_head\.": _TOKENS,  # tied
    r"(?:model\.)?norm\.": "final_norm.",
    _LAYER + r"input_layernorm\.": r"blocks.\1.attention_norm.",
    _LAYER + r"self_attn\.q_proj\.": r"blocks.\1.attention.query_projection.",
    _LAYER + r"self_attn\.k_proj\.": r"blocks.\1.attention.key_projection.",
    _LAYER + r"self_attn\.v_proj\.": r"blocks.\1.attention.value_projection.",
    _LAYER + r"self_attn\.o_proj\.": r"blocks.\1.attention.output_projection.",
    _LAYER + r"post_attention_layernorm\.": r"blocks.\1.mlp_norm.",
    _LAYER + r"mlp\.(gate|up|down)_proj\.": r"blocks.\1.mlp.\2.",
}


def load_gpt2(model_class: type, state_dict: Mapping[str, Tensor], num_heads: int) -> nn.Module:
    """Build a GPT with these weights, in eval mode.

    Args:
        model_class, state_dict, num_heads: the class, and what came to its door.

    >>> load_gpt2(nn.Module, {"wpe.weight": torch.zeros(8, 4)}, num_heads=2)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: this is no GPT-2 that fits here: token_embedding.weight is missing...
    """
    weights = translate(state_dict, GPT2_NAMES)
    return _filled(model_class(**_sizes(weights, "GPT-2"), num_heads=num_heads), weights, "GPT-2")


def load_bert(model_class: type, state_dict: Mapping[str, Tensor], num_heads: int) -> nn.Module:
    """Build a BERT with these weights, in eval mode.

    Args:
        model_class, state_dict, num_heads: the class, and what came to its door.

    >>> load_bert(nn.Module, {"wpe.weight": torch.zeros(8, 4)}, num_heads=2)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: this is no BERT that fits here: token_embedding.weight is missing...
    """
    weights = translate(state_dict, BERT_NAMES)
    model = model_class(
        **_sizes(weights, "BERT"),
        num_heads=num_heads,
        token_types=len(_matrix(weights, "type_embedding.weight", "BERT")),
        head_transform=any(name.startswith("head_") for name in weights),
        norm_first=False,
        activation="none",
        epsilon=1e-12,
    )
    return _filled(model, weights, "BERT")


def load_llama(
    model_class: type, state_dict: Mapping[str, Tensor], num_heads: int, **options
) -> nn.Module:
    """Build a Llama on these weights themselves, in eval mode.

    Args:
        model_class, state_dict, num_heads, options: the class, and what came to its door.

    >>> load_llama(nn.Module, {"norm.weight": torch.zeros(4)}, num_heads=2)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: this is no Llama that fits here: token_embedding.weight is missing...
    """
    weights = translate(state_dict, LLAMA_NAMES)
    vocabulary_size, d_model = _matrix(weights, _TOKENS + "weight", "Llama").shape
    keys = _matrix(weights, "blocks.0.attention.key_projection.weight", "Llama")
    with torch.device("meta"):  # shapes only: the weights are there
        model = model_class(
            vocabulary_size,
            d_model=d_model,
            mlp_size=len(_matrix(weights, "blocks.0.mlp.up.weight", "Llama")),
            num_heads=num_heads,
            num_kv_heads=len(keys) * num_heads // d_model,
            num_layers=_count_layers(weights),
            **options,
        )
    return _filled(model, weights, "Llama", assign=True)


def translate(state_dict: Mapping[str, Tensor], names: Mapping[str, str | None]) -> dict:
    """Give every weight the name and the form that it has here.

    Args:
        state_dict: weights by their names there.
        names: ``GPT2_NAMES``, say; what stands beside None is left out.

    >>> weights = translate({"h.3.mlp.c_fc.weight": torch.zeros(2, 8)}, GPT2_NAMES)
    >>> {name: tuple(weight.shape) for name, weight in weights.items()}
    {'blocks.3.mlp.0.weight': (8, 2)}
    """
    if not isinstance(state_dict, Mapping):
        raise ValueError(f"give model.state_dict(), weights by name; got {describe(state_dict)}")
    found: dict[str, Tensor] = {}
    for name, weight in state_dict.items():
        rule = next((rule for rule in names if re.match(rule, name)), re.escape(name))
        place = names.get(rule, name)
        if place is None:
            continue
        check_tensor(name, weight)
        if re.search(r"\.c_\w+\.weight$", name) and weight.ndim == 2:
            weight = weight.T  # GPT-2 keeps its matrices the other way round
        parts = ("query", "key", "value") if "{}" in place else ("",)
        pieces = torch.atleast_1d(weight).tensor_split(len(parts))
        for part, piece in zip(parts, pieces, strict=True):
            here = re.sub(rule, place, name, count=1).format(part)
            if here in found and not torch.equal(found[here], piece):
                raise ValueError(f"{name} is not tied to {here}; only tied heads can be taken over")
            found[here] = piece
    return found


def _sizes(weights: Mapping[str, Tensor], kind: str) -> dict[str, int]:
    """Read how large the model is."""
    vocabulary_size, d_model = _matrix(weights, _TOKENS + "weight", kind).shape
    return {
        "vocabulary_size": vocabulary_size,
        "max_length": len(_matrix(weights, _POSITIONS + "weight", kind)),
        "d_model": d_model,
        "mlp_size": len(_matrix(weights, "blocks.0.mlp.0.weight", kind)),
        "num_layers": _count_layers(weights),
    }


def _count_layers(weights: Mapping[str, Tensor]) -> int:
    return 1 + max(int(n[1]) for n in map(_BLOCK.match, weights) if n)


def _matrix(weights: Mapping[str, Tensor], name: str, kind: str) -> Tensor:
    if name not in weights:
        raise _refusal(kind, f"{name} is missing")
    if weights[name].ndim != 2:
        raise _refusal(kind, f"{name} must be a matrix, got shape {tuple(weights[name].shape)}")
    return weights[name]


def _filled(
    model: nn.Module, weights: dict[str, Tensor], kind: str, *, assign: bool = False
) -> nn.Module:
    try:
        model.load_state_dict(weights, strict=True, assign=assign)
    except RuntimeError as error:
        raise _refusal(kind, str(error)) from None
    return model.eval()


def _refusal(kind: str, reason: str) -> ValueError:
    return ValueError(
        f"this is no {kind} that fits here: {reason}\nGive the whole state_dict() of a {kind} with "
        "its default options; the table in causal_lab.models.huggingface says what is called what."
    )
