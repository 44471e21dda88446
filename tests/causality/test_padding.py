"""Padded sequences against unpadded ones."""

import pytest
import torch
from torch import Tensor, nn

from causal_lab.causality import check_padding
from causal_lab.models.transformer import BERT, GPT

VOCABULARY, PAD = 20, 0


def token_ids(length: int = 8, batch: int = 2, vocabulary: int = VOCABULARY) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(3, vocabulary, (batch, length), generator=generator)


def small(kind, **options):
    generator = torch.Generator().manual_seed(0)
    return kind(VOCABULARY, 16, d_model=8, num_heads=2, generator=generator, **options).eval()


class OnIds(nn.Module):
    """Tells the model inside nothing about padding."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids):
        return self.model(ids)


class Masked(nn.Module):
    """Hands a mask on after something was done to it."""

    def __init__(self, model, change):
        super().__init__()
        self.model, self.change = model, change

    def forward(self, ids, attention_mask=None):
        is_padding = None if attention_mask is None else self.change(attention_mask == 0)
        return self.model(ids, padding=is_padding)


@pytest.mark.parametrize("kind", [GPT, BERT])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_padding_changes_no_real_token_of_our_models(kind, dtype):
    report = check_padding(small(kind).to(dtype), token_ids(), PAD)
    assert report.same is True, str(report)
    assert list(report.results) == ["right", "left"]
    assert "told by padding" in str(report)
    assert report.assert_same() is report


def test_a_gpt_that_is_told_nothing_fails_on_the_left_only():
    report = check_padding(OnIds(small(GPT)), token_ids(), PAD)
    assert report.results["right"].same is True
    left = report.results["left"]
    assert (left.same, left.wrong_rows, left.amounts) == (False, tuple(range(8)), (1, 2, 3))
    assert report.same is False
    assert "told nothing but the ids" in report.reason
    assert check_padding(OnIds(small(GPT)), token_ids(), PAD, sides=["right"]).same is True
    with pytest.raises(AssertionError, match="left: rows 0 to 7"):
        report.assert_same()


def test_a_bert_that_is_told_nothing_fails_on_both_sides():
    report = check_padding(OnIds(small(BERT)), token_ids(), PAD)
    assert [result.same for result in report.results.values()] == [False, False]


def test_a_mask_with_the_opposite_meaning_is_caught():
    report = check_padding(Masked(small(BERT), lambda padding: ~padding), token_ids(), PAD)
    assert [result.same for result in report.results.values()] == [False, False]
    assert "upside down" in report.reason


def test_a_mask_that_changes_something_where_nothing_is_padded_is_caught():
    class Marked(nn.Module):
        def forward(self, ids, attention_mask=None):
            return (ids + (attention_mask is not None))[..., None] * 1.0

    assert check_padding(Marked(), token_ids(), PAD).same is False


def test_a_mask_of_the_first_row_for_the_whole_batch_is_caught():
    model = Masked(small(BERT), lambda padding: padding[:1].expand_as(padding))
    assert check_padding(model, token_ids(), PAD).results["left"].same is False


def test_a_model_that_can_take_only_two_padding_tokens_is_caught():
    class Two(nn.Module):
        def forward(self, ids, attention_mask):
            many = (attention_mask == 0).sum(1, keepdim=True) > 2
            return (ids + many)[..., None] * 1.0

    report = check_padding(Two(), token_ids(), PAD, sides="right")
    assert report.results["right"].amounts == (3,)
    assert "under 3 padding tokens" in str(report)


def test_nan_that_spreads_from_padding_is_named():
    class Spread(nn.Module):
        def forward(self, ids, attention_mask=None):
            x = ids[..., None] * 1.0
            if attention_mask is None:
                return x
            return x + 0.0 * x.masked_fill(attention_mask[..., None] == 0, torch.nan).sum(1, True)

    report = check_padding(Spread(), token_ids(), PAD)
    assert report.same is False
    assert "NaN" in report.reason


def test_a_model_without_room_for_one_more_token_is_judged_on_one_fewer():
    model = GPT(VOCABULARY, 8, d_model=8, num_heads=2).eval()
    report = check_padding(model, token_ids(), PAD)
    assert report.same is True, str(report)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_short_sequences_are_padded_too(length):
    assert check_padding(small(GPT), token_ids(length), PAD).same is True


def test_gpt2_of_hugging_face_needs_position_ids_for_padding_on_the_left(hugging_face):
    model = hugging_face("GPT2LMHeadModel")
    report = check_padding(model, token_ids(), PAD)
    assert report.results["right"].same is True, str(report)
    assert report.results["left"].same is False
    assert "positions are counted with the padding included" in report.reason
    assert "position_ids" in report.reason

    def count(ids, is_padding):
        return {"position_ids": ((~is_padding).cumsum(1) - 1).clamp(min=0)}

    report = check_padding(model, token_ids(), PAD, forward_kwargs=count)
    assert report.same is True, str(report)


def test_llama_needs_none_since_only_distances_count(hugging_face):
    model = hugging_face("LlamaForCausalLM")
    assert check_padding(model, token_ids(), PAD).same is True


def test_bert_of_hugging_face_is_right_with_padding_on_the_right(hugging_face):
    model = hugging_face("BertModel")
    report = check_padding(model, token_ids(), PAD, sides=["right"])
    assert report.same is True, str(report)
    both = check_padding(model, token_ids(), PAD, forward_kwargs={"attention_mask": None})
    assert both.results["right"].same is False


def test_another_part_of_the_result_can_be_judged():
    class Two(nn.Module):
        def forward(self, ids):
            x = ids[..., None] * 1.0
            return {"logits": x, "pooled": x + x.sum(1, keepdim=True)}

    ids = token_ids()
    assert check_padding(Two(), ids, 1, output="logits").same is True
    assert check_padding(Two(), ids, 1, output="pooled").same is False


def test_random_numbers_and_errors_give_no_verdict_on_padding():
    model = small(BERT, dropout=0.5).train()
    report = check_padding(model, token_ids(), PAD)
    assert report.same is None
    assert ".eval()" in report.reason
    assert model.training
    report = check_padding(small(GPT), token_ids(), VOCABULARY)
    assert report.same is None
    assert "the model raised ValueError: ids must lie between" in report.reason
    assert check_padding(small(GPT), token_ids(), PAD, sides="left").same is True


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ((len, token_ids(), PAD), {}, "model must be an nn.Module"),
        ((nn.Identity(), [[1]], PAD), {}, "inputs must be a tensor"),
        ((nn.Identity(), torch.zeros(1, 6, 2), PAD), {}, "inputs must be token ids"),
        ((nn.Identity(), token_ids()[0], PAD), {}, r"unsqueeze\(0\)"),
        ((nn.Identity(), token_ids(), -1), {}, "pad_id must be an integer of at least 0"),
        ((nn.Identity(), token_ids(), int(token_ids()[0, 0])), {}, "is among them"),
        ((nn.Identity(), token_ids(), PAD), {"sides": ["top"]}, "sides must be some of"),
        ((nn.Identity(), token_ids(), PAD), {"sides": []}, "sides must be some of"),
        ((nn.Identity(), token_ids(), PAD), {"sides": 3}, "sides must be some of"),
        ((nn.Identity(), token_ids(), PAD), {"forward_kwargs": 3}, "forward_kwargs must be a dict"),
        (
            (nn.Identity(), token_ids(), PAD),
            {"forward_kwargs": lambda ids, padding: None},
            "forward_kwargs must return a dict, got NoneType",
        ),
        ((nn.Flatten(0), token_ids(), PAD), {}, "an output of shape"),
    ],
)
def test_what_cannot_be_padded_is_refused(arguments, options, words):
    with pytest.raises(ValueError, match=words):
        check_padding(*arguments, **options)
