"""Tiny random GPT-2s and BERTs of Hugging Face, loaded into ours: the same numbers come out.

Three heads, a batch that differs from the length, weights so large that a matrix in the wrong
place or the wrong way round shows.
"""

import re

import pytest
import torch
import transformers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
)

from causal_lab.models import huggingface
from causal_lab.models.transformer import BERT, GPT
from tests import builders
from tests.builders import LAYERS, MAX_LENGTH, VOCABULARY, D, H, draw_ids, seeded

transformers.logging.set_verbosity_error()  # "no loss type given" is no finding

B, T = 2, 7  # batch, length
SEEDS = pytest.mark.parametrize("seed", [0, 1])
INNER = pytest.mark.parametrize("inner", [48, 20])


def draw(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Draw every parameter; norms around 1."""
    generator = seeded(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = 0.2 * torch.randn(parameter.shape, generator=generator)
            is_norm = re.search(r"(ln_\w+|LayerNorm)\.weight$", name)
            parameter.copy_(drawn + (1.0 if is_norm else 0.0))
    return model.eval()


def gpt2(model_class=GPT2LMHeadModel, seed: int = 0, inner: int = 48, **options):
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=MAX_LENGTH,
        n_embd=D,
        n_layer=LAYERS,
        n_head=H,
        n_inner=inner,
        bos_token_id=0,
        eos_token_id=0,
        **options,
    )
    return draw(model_class(config), seed)


def bert(model_class=BertForMaskedLM, seed: int = 0, inner: int = 48, **options):
    config = BertConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=MAX_LENGTH,
        hidden_size=D,
        num_hidden_layers=LAYERS,
        num_attention_heads=H,
        intermediate_size=inner,
        pad_token_id=None,
        **options,
    )
    return draw(model_class(config), seed)


def assert_close(actual, expected, atol=1e-4):
    assert expected.abs().max() > 0.1  # else anything small would do
    builders.assert_close(actual, expected, atol)


def pad(side: str) -> torch.Tensor:
    """Pad each row by another amount."""
    padding = torch.zeros(B, T, dtype=torch.bool)
    for row, amount in enumerate((3, 1)):
        padding[row, slice(amount) if side == "left" else slice(T - amount, T)] = True
    return padding


# --- GPT-2


@INNER
@SEEDS
def test_gpt_2_gives_the_same_logits_and_hidden_states(seed, inner):
    theirs, ids = gpt2(seed=seed, inner=inner), draw_ids(B, T, seed=seed)
    ours = GPT.from_hf_state_dict(theirs.state_dict(), num_heads=H)
    assert_close(ours(ids), theirs(input_ids=ids).logits)
    hidden = theirs.transformer(input_ids=ids).last_hidden_state
    assert_close(ours.hidden_states(ids), hidden)


@SEEDS
def test_gpt_2_without_its_head_gives_the_same_hidden_states(seed):
    theirs, ids = gpt2(GPT2Model, seed=seed), draw_ids(B, T, seed=seed)
    ours = GPT.from_hf_state_dict(theirs.state_dict(), num_heads=H)
    assert_close(ours.hidden_states(ids), theirs(input_ids=ids).last_hidden_state)


@pytest.mark.parametrize("side", ["left", "right"])
@SEEDS
def test_gpt_2_with_padding_gives_the_same_logits(seed, side):
    theirs, ids, padding = gpt2(seed=seed), draw_ids(B, T, seed=seed), pad(side)
    ours = GPT.from_hf_state_dict(theirs.state_dict(), num_heads=H)
    positions = ((~padding).long().cumsum(dim=1) - 1).clamp_min(0)
    mask = (~padding).long()
    expected = theirs(input_ids=ids, attention_mask=mask, position_ids=positions).logits
    assert_close(ours(ids, padding=padding)[~padding], expected[~padding])
    plain = theirs(input_ids=ids).logits  # the last position sees all of the padding on the left
    assert side == "right" or (plain[:, -1] - expected[:, -1]).abs().max() > 0.01


@SEEDS
def test_gpt_2_with_other_positions_gives_the_same_logits(seed):
    theirs, ids = gpt2(seed=seed), draw_ids(B, T, seed=seed)
    ours = GPT.from_hf_state_dict(theirs.state_dict(), num_heads=H)
    positions = draw_ids(B, T, seed=seed + 10, high=MAX_LENGTH)
    expected = theirs(input_ids=ids, position_ids=positions).logits
    assert_close(ours(ids, positions=positions), expected)


def test_gpt_2_keeps_the_epsilon_of_its_norms():
    theirs, ids = gpt2(), draw_ids(B, T)
    with torch.no_grad():
        theirs.transformer.wpe.weight.mul_(0.01)
        theirs.transformer.wte.weight.mul_(0.01)
    ours = GPT.from_hf_state_dict(theirs.state_dict(), num_heads=H)
    assert_close(ours.hidden_states(ids), theirs.transformer(input_ids=ids).last_hidden_state)


@SEEDS
def test_the_loss_of_gpt_2_and_its_gradients_are_the_same(seed):
    theirs, ids = gpt2(seed=seed), draw_ids(B, T, seed=seed)
    ours = GPT.from_hf_state_dict(theirs.state_dict(), num_heads=H)
    expected, loss = theirs(input_ids=ids, labels=ids).loss, ours.loss(ids)
    assert_close(loss, expected)
    expected.backward()
    loss.backward()
    body, block = theirs.transformer, ours.blocks[0]
    assert_close(ours.token_embedding.weight.grad, body.wte.weight.grad)
    positions = ours.position.table.weight.grad
    torch.testing.assert_close(positions, body.wpe.weight.grad, rtol=1e-3, atol=1e-4)
    packed = body.h[0].attn.c_attn.weight.grad.T.chunk(3)
    for name, gradient in zip(("query", "key", "value"), packed, strict=True):
        projection = getattr(block.attention, f"{name}_projection")
        torch.testing.assert_close(projection.weight.grad, gradient, rtol=1e-3, atol=1e-4)
    inner = block.mlp[0].weight.grad
    torch.testing.assert_close(inner, body.h[0].mlp.c_fc.weight.grad.T, rtol=1e-3, atol=1e-4)


# --- BERT


@INNER
@SEEDS
def test_bert_gives_the_same_logits_and_hidden_states(seed, inner):
    theirs, ids = bert(seed=seed, inner=inner), draw_ids(B, T, seed=seed)
    ours = BERT.from_hf_state_dict(theirs.state_dict(), num_heads=H)
    assert_close(ours(ids), theirs(input_ids=ids).logits)
    assert_close(ours.hidden_states(ids), theirs.bert(input_ids=ids).last_hidden_state)


@SEEDS
def test_bert_without_its_head_gives_the_same_hidden_states(seed):
    theirs, ids = bert(BertModel, seed=seed), draw_ids(B, T, seed=seed)
    ours = BERT.from_hf_state_dict(theirs.state_dict(), num_heads=H)
    assert_close(ours.hidden_states(ids), theirs(input_ids=ids).last_hidden_state)
    assert_close(ours(ids), ours.hidden_states(ids) @ ours.token_embedding.weight.T, 1e-6)


def test_bert_with_the_head_for_the_next_sentence_gives_the_same_logits():
    theirs, ids = bert(BertForPreTraining), draw_ids(B, T)
    ours = BERT.from_hf_state_dict(theirs.state_dict(), num_heads=H)
    assert_close(ours(ids), theirs(input_ids=ids).prediction_logits)


@pytest.mark.parametrize("typed", [True, False])
@pytest.mark.parametrize("padded", [True, False])
@SEEDS
def test_bert_with_padding_and_token_types_gives_the_same_logits(seed, padded, typed):
    theirs, ids = bert(seed=seed), draw_ids(B, T, seed=seed)
    ours = BERT.from_hf_state_dict(theirs.state_dict(), num_heads=H)
    padding = pad("right") if padded else torch.zeros(B, T, dtype=torch.bool)
    types = draw_ids(B, T, seed=seed + 10, high=2) if typed else None
    expected = theirs(input_ids=ids, attention_mask=(~padding).long(), token_type_ids=types).logits
    assert_close(ours(ids, padding=padding, token_types=types)[~padding], expected[~padding])
    plain = theirs(input_ids=ids).logits
    moved = (plain - expected)[~padding].abs().max()
    assert moved > 0.01 if padded or typed else moved < 1e-4


def test_bert_keeps_the_epsilon_of_its_norms():
    theirs, ids = bert(), draw_ids(B, T)
    embeddings = theirs.bert.embeddings
    with torch.no_grad():
        for table in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
            getattr(embeddings, table).weight.mul_(1e-3)
        # Nearly nothing leaves the transform, so that its norm's epsilon shows as well.
        theirs.cls.predictions.transform.dense.weight.mul_(1e-3)
        theirs.cls.predictions.transform.dense.bias.mul_(1e-3)
    ours = BERT.from_hf_state_dict(theirs.state_dict(), num_heads=H)
    assert_close(ours.hidden_states(ids), theirs.bert(input_ids=ids).last_hidden_state, 1e-3)
    with torch.no_grad():
        for model in (theirs.bert.embeddings.word_embeddings, ours.token_embedding):
            model.weight.mul_(1e3)
    assert_close(ours(ids), theirs(input_ids=ids).logits, 1e-3)


@SEEDS
def test_the_loss_of_bert_and_its_gradients_are_the_same(seed):
    theirs, ids = bert(seed=seed), draw_ids(B, T, seed=seed)
    ours = BERT.from_hf_state_dict(theirs.state_dict(), num_heads=H)
    hidden = torch.zeros(B, T, dtype=torch.bool)
    hidden[0, [0, 3]] = hidden[1, 6] = True
    labels = ids.masked_fill(~hidden, -100)
    expected = theirs(input_ids=ids.masked_fill(hidden, 0), labels=labels).loss
    loss = ours.loss(ids, hidden)
    assert_close(loss, expected)
    expected.backward()
    loss.backward()
    embeddings, layer = theirs.bert.embeddings, theirs.bert.encoder.layer[0]
    for mine, other in (
        (ours.token_embedding, embeddings.word_embeddings),
        (ours.position.table, embeddings.position_embeddings),
        (ours.type_embedding, embeddings.token_type_embeddings),
        (ours.blocks[0].attention.query_projection, layer.attention.self.query),
        (ours.blocks[0].attention.value_projection, layer.attention.self.value),
        (ours.head_transform[0], theirs.cls.predictions.transform.dense),
    ):
        torch.testing.assert_close(mine.weight.grad, other.weight.grad, rtol=1e-3, atol=1e-4)
    assert ours.token_embedding.weight.grad.abs().max() > 0.01


# --- what comes out is a model of its own

BOTH = pytest.mark.parametrize(("model_class", "make"), [(GPT, gpt2), (BERT, bert)])


@BOTH
def test_the_weights_are_copies(model_class, make):
    theirs, ids = make(), draw_ids(B, T)
    state = theirs.state_dict()
    names = list(state)
    ours = model_class.from_hf_state_dict(state, num_heads=H)
    assert list(state) == names
    before = ours(ids)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.fill_(7.0)
    assert torch.equal(ours(ids), before)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.fill_(3.0)
    assert all((parameter == 7.0).all() for parameter in theirs.parameters())


@BOTH
def test_the_model_is_in_eval_mode_and_learns(model_class, make):
    ours = model_class.from_hf_state_dict(make().state_dict(), num_heads=H)
    assert not any(module.training for module in ours.modules())
    assert all(parameter.requires_grad for parameter in ours.parameters())
    assert ours.causal is (model_class is GPT)
    assert ours.max_length == MAX_LENGTH


@BOTH
def test_half_precision_is_widened(model_class, make):
    theirs, ids = make(), draw_ids(B, T)
    theirs.bfloat16()
    ours = model_class.from_hf_state_dict(theirs.state_dict(), num_heads=H)
    assert_close(ours(ids), theirs.float()(input_ids=ids).logits)


# --- what is left out, and what is refused

TIED = {
    "lm_head.weight": "transformer.wte.weight",
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
EACH_TIE = pytest.mark.parametrize(("copy", "original"), TIED.items())


def whose(name: str):
    return (GPT, gpt2) if "lm_head" in name else (BERT, bert)


@EACH_TIE
def test_of_two_tied_weights_one_is_enough(copy, original):
    model_class, make = whose(copy)
    theirs, ids = make(), draw_ids(B, T)
    for name in (copy, original):
        state = theirs.state_dict()
        del state[name]
        ours = model_class.from_hf_state_dict(state, num_heads=H)
        assert_close(ours(ids), theirs(input_ids=ids).logits)


@EACH_TIE
def test_a_head_that_is_not_tied_is_refused(copy, original):
    model_class, make = whose(copy)
    state = make().state_dict()
    for other in (state[copy] + 1, state[copy][:-1]):
        with pytest.raises(ValueError, match=re.escape(copy) + " is not tied.*only tied heads"):
            model_class.from_hf_state_dict(state | {copy: other}, num_heads=H)


def test_the_constant_masks_of_old_checkpoints_are_left_out():
    theirs, ids = gpt2(), draw_ids(B, T)
    state = theirs.state_dict()
    for layer in range(LAYERS):
        state[f"transformer.h.{layer}.attn.bias"] = torch.ones(1, 1, T, T)
        state[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    assert_close(GPT.from_hf_state_dict(state, H)(ids), theirs(input_ids=ids).logits)
    theirs = bert()
    state = theirs.state_dict() | {"bert.embeddings.position_ids": torch.arange(T)[None]}
    assert_close(BERT.from_hf_state_dict(state, H)(ids), theirs(input_ids=ids).logits)


def refused(model_class, state) -> str:
    """Give the message, which always says what to do."""
    kind = "GPT-2" if model_class is GPT else "BERT"
    with pytest.raises(
        ValueError, match=f"(?s)no {kind} that fits.*Give the whole state_"
    ) as error:
        model_class.from_hf_state_dict(state, num_heads=H)
    return str(error.value)


def name_here(model_class, name: str, weight: torch.Tensor) -> str:
    """Translate one name, to the first of three where there are three."""
    table = huggingface.GPT2_NAMES if model_class is GPT else huggingface.BERT_NAMES
    return next(iter(huggingface.translate({name: weight}, table)))


@BOTH
def test_a_missing_weight_is_named(model_class, make):
    state = make().state_dict()
    names = state.keys() - TIED.keys() - set(TIED.values())
    assert len(names) > 25
    for name in names:
        message = refused(model_class, {n: w for n, w in state.items() if n != name})
        assert name_here(model_class, name, state[name]) in message


@BOTH
def test_a_weight_of_another_shape_is_named(model_class, make):
    state = make().state_dict()
    sizes = ("wte.weight", "word_embeddings.weight", "0.mlp.c_fc.weight")  # these give them
    names = [n for n in state.keys() - TIED.keys() - set(TIED.values()) if not n.endswith(sizes)]
    for name in names:
        weight = state[name]  # one number per axis is left: what broadcasts is refused as well
        message = refused(
            model_class, state | {name: weight[:, :1] if weight.ndim == 2 else weight[:1]}
        )
        assert f"size mismatch for {name_here(model_class, name, weight)}:" in message
    matrix = name_here(model_class, next(iter(state)), torch.zeros(1))
    flat = {
        n: w.flatten() if name_here(model_class, n, w) == matrix else w for n, w in state.items()
    }
    assert f"{matrix} must be a matrix" in refused(model_class, flat)


@BOTH
def test_a_weight_too_many_is_named(model_class, make):
    message = refused(model_class, make().state_dict() | {"strange.weight": torch.zeros(2)})
    assert 'Unexpected key(s) in state_dict: "strange.weight"' in message


def test_a_gpt_2_that_looks_at_an_encoder_too_is_refused():
    message = refused(GPT, gpt2(add_cross_attention=True).state_dict())
    assert 'Unexpected key(s) in state_dict: "transformer.h.0.crossattention' in message


def test_half_a_head_is_refused():
    state = bert().state_dict()
    for name in ("cls.predictions.bias", "cls.predictions.decoder.bias"):
        del state[name]
    assert 'Missing key(s) in state_dict: "head_bias"' in refused(BERT, state)


@BOTH
def test_a_layer_too_few_is_named(model_class, make):
    state = make().state_dict()
    for layer in range(LAYERS):
        rest = {n: w for n, w in state.items() if f".{layer}." not in n}
        if layer < LAYERS - 1:  # without the last one it is a smaller model
            assert f"blocks.{layer}." in refused(model_class, rest)
    none = {n: w for n, w in state.items() if not re.search(r"\.\d\.", n)}
    assert "blocks.0.mlp.0.weight is missing" in refused(model_class, none)


def test_one_model_is_not_the_other():
    assert "token_embedding.weight is missing" in refused(GPT, bert().state_dict())
    assert "token_embedding.weight is missing" in refused(BERT, gpt2().state_dict())


@BOTH
def test_heads_that_do_not_divide_are_refused(model_class, make):
    with pytest.raises(ValueError, match="d_model=12 is no multiple of num_heads=5"):
        model_class.from_hf_state_dict(make().state_dict(), num_heads=5)


@BOTH
def test_what_is_no_state_dict_is_refused(model_class, make):
    with pytest.raises(ValueError, match=r"give model\.state_dict\(\), weights by name; got"):
        model_class.from_hf_state_dict(make(), num_heads=H)
    name, weight = next(iter(make().state_dict().items()))
    with pytest.raises(ValueError, match=f"{re.escape(name)} must be a tensor"):
        model_class.from_hf_state_dict({name: weight.tolist()}, num_heads=H)
