"""Tiny random Llamas of Hugging Face, loaded into ours: the same numbers come out."""

import re

import pytest
import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM, LlamaModel

from causal_lab.causality import check_cache, check_causality, check_padding
from causal_lab.models.cache import cache_nbytes
from causal_lab.models.generation import cached_step, generate, pad_left
from causal_lab.models.llama import GatedMLP, Llama
from causal_lab.models.speed import speed_up
from tests import builders
from tests.builders import MAX_LENGTH, VOCABULARY, build, draw_ids, seeded

transformers.logging.set_verbosity_error()  # "no loss type given" is no finding

B, T = 2, 7  # batch, length
SIZES = {  # as transformers names them
    "grouped": {"num_attention_heads": 6, "num_key_value_heads": 2, "hidden_size": 24},
    "all share": {"num_attention_heads": 3, "num_key_value_heads": 1, "hidden_size": 12},
    "none shared": {"num_attention_heads": 3, "num_key_value_heads": 3, "hidden_size": 12},
    "wide, another base": {
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "hidden_size": 16,
        "intermediate_size": 50,
        "num_hidden_layers": 3,
        "rms_norm_eps": 1e-3,
        "rope_parameters": {"rope_type": "default", "rope_theta": 50.0},
    },
}
ALL_SIZES = pytest.mark.parametrize("sizes", SIZES.values(), ids=list(SIZES))


def draw(sizes: dict, model_class=LlamaForCausalLM, **options):
    """Build one of theirs, every parameter drawn; norms around 1."""
    small = {"intermediate_size": 20, "num_hidden_layers": 2, "tie_word_embeddings": True}
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=MAX_LENGTH,
        bos_token_id=0,
        eos_token_id=None,
        pad_token_id=0,
        **small | sizes | options,
    )
    model, generator = model_class(config), seeded(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = 0.3 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(drawn + (1.0 if "norm" in name else 0.0))
    return model.eval()


def ours_of(theirs) -> Llama:
    config = theirs.config
    return Llama.from_hf_state_dict(
        theirs.state_dict(),
        config.num_attention_heads,
        max_length=MAX_LENGTH,
        base=config.rope_parameters["rope_theta"],
        epsilon=config.rms_norm_eps,
    )


def assert_close(actual, expected, atol=1e-4):
    assert expected.abs().max() > 0.1  # else anything small would do
    builders.assert_close(actual, expected, atol)


@ALL_SIZES
@torch.no_grad()
def test_the_same_logits_hidden_states_and_weights(sizes):
    theirs, ids = draw(sizes, attn_implementation="eager"), draw_ids(B, T)
    ours = ours_of(theirs)
    expected = theirs(input_ids=ids, output_attentions=True)
    logits, weights = ours(ids, need_weights=True)
    assert_close(logits, expected.logits)
    for one, other in zip(weights, expected.attentions, strict=True):
        assert_close(one, other, 1e-5)
    assert_close(ours(ids), expected.logits)  # the fused path
    assert_close(ours.hidden_states(ids), theirs.model(input_ids=ids).last_hidden_state)


@ALL_SIZES
@torch.no_grad()
def test_it_writes_the_same_text_from_prompts_of_several_lengths(sizes):
    theirs = draw(sizes)
    ids, padding = pad_left([[3, 1, 4], [1], [5, 9, 2, 6]], pad_id=0)
    wanted = theirs.generate(
        input_ids=ids, attention_mask=(~padding).long(), max_new_tokens=8, do_sample=False
    )
    assert torch.equal(generate(ours_of(theirs), ids, 8, padding=padding), wanted)


@ALL_SIZES
def test_it_is_causal_and_its_cache_and_padding_change_nothing(sizes):
    ours, ids = ours_of(draw(sizes)), draw_ids(B, T)
    assert check_causality(ours, ids).causal is True
    assert check_cache(cached_step(ours), ids, ours).same is True
    assert check_cache(cached_step(ours, window=3, sinks=1), ids, windowed(ours, 3, 1)).same is True
    assert check_padding(ours, ids, 0).same is True


def windowed(model, window: int, sinks: int):
    from causal_lab.masks import generate_sliding_window_mask

    return lambda ids: model(
        ids, blocked=generate_sliding_window_mask(ids.shape[1], window, sinks=sinks)
    )


def test_a_cache_keeps_the_few_heads():
    model = build(Llama, d_model=24, num_heads=6, num_kv_heads=2)
    assert model.new_cache(batch=2, capacity=5).nbytes == cache_nbytes(2, 2, 4, 5, batch=2)


def test_weights_are_shared_with_the_state_dict():
    theirs = draw(SIZES["grouped"])
    ours = ours_of(theirs)
    assert ours.token_embedding.weight.data_ptr() == theirs.model.embed_tokens.weight.data_ptr()
    assert not ours.training


def test_the_model_without_a_head_can_be_taken_over_too():
    theirs, ids = draw(SIZES["grouped"], LlamaModel), draw_ids(B, T)
    assert_close(ours_of(theirs).hidden_states(ids), theirs(input_ids=ids).last_hidden_state)


def test_what_does_not_fit_is_refused():
    untied = draw(SIZES["grouped"], tie_word_embeddings=False)
    with pytest.raises(ValueError, match="only tied heads"):
        ours_of(untied)
    biased = draw(SIZES["grouped"], attention_bias=True)
    with pytest.raises(ValueError, match=r"this is no Llama that fits here: (?s:.)*bias"):
        ours_of(biased)
    with pytest.raises(ValueError, match="key_projection"):
        Llama.from_hf_state_dict({"embed_tokens.weight": torch.zeros(3, 4)}, num_heads=2)
    with pytest.raises(ValueError, match="num_heads=6 is no multiple of num_kv_heads=4"):
        Llama(5, 5, d_model=24, num_heads=6, num_kv_heads=4)
    with pytest.raises(ValueError, match="base must be above 1"):
        Llama(5, 5, d_model=8, num_heads=2, base=0.5)(draw_ids(1, 2, high=5))


def test_it_learns_and_draws_its_weights_from_the_generator():
    one, other = (
        Llama(VOCABULARY, 8, d_model=8, num_heads=2, generator=seeded(3)) for _ in range(2)
    )
    assert all(map(torch.equal, one.parameters(), other.parameters()))
    loss = one.loss(draw_ids(B, T))
    loss.backward()
    assert all(bool(p.grad.abs().sum() > 0) for p in one.parameters())
    assert not [name for name, _ in one.named_parameters() if re.search("bias|table", name)]


def test_the_gate_is_not_the_branch_that_it_opens():
    mlp, x = GatedMLP(4, 6), torch.randn(1, 2, 4, generator=seeded(0))
    by_hand = (x @ mlp.gate.weight.T).sigmoid() * (x @ mlp.gate.weight.T)
    by_hand = by_hand * (x @ mlp.up.weight.T) @ mlp.down.weight.T
    builders.assert_close(mlp(x), by_hand)


@torch.no_grad()
def test_it_can_be_sped_up():
    model, ids = build(Llama, d_model=256, num_heads=4, num_kv_heads=2), draw_ids(1, 3)
    wanted = model(ids)
    builders.assert_close(speed_up(model)(ids), wanted, 1e-4)


def test_what_a_configuration_says_is_taken_and_is_theirs_if_it_is_not_given():
    theirs, usual = draw(SIZES["grouped"]), LlamaConfig()
    assert ours_of(theirs).max_length == MAX_LENGTH
    ours = Llama.from_hf_state_dict(theirs.state_dict(), num_heads=6)
    assert ours.max_length == usual.max_position_embeddings
    assert ours.position.base == usual.rope_parameters["rope_theta"]
    assert ours.final_norm.eps == usual.rms_norm_eps
