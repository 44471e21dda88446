"""Texts to tokens and back, by a small table made here; the real one is in test_smollm2.py."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from causal_lab.course.byte_pairs import BytePairTokenizer
from causal_lab.course.text import load_text

SPECIAL = ["<|end|>", "<|im_start|>"]
SAMPLES = [
    "",
    "It's 1,024 tokens; they'll\n\n  do\tit.  ",
    "naïve café — “日本語” 🙂 x² ½ ٣ _under_score__",
    "<|im_start|>user\nWhy?<|end|> <|en",
    "all bytes: \u00ad" + "".join(map(chr, range(0x80, 0x800))),
    "a'S a'll 'tis\r\n\u00a0\u2003end \n",
]


@pytest.fixture(scope="module")
def reference():
    """Train the well-kept library's on a few pages."""
    tokenizer = Tokenizer(BPE())
    cuts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(cuts)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(
        vocab_size=900, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([load_text("types"), load_text("if")], trainer)
    return tokenizer


@pytest.fixture(scope="module")
def ours(reference):
    import json

    model = json.loads(reference.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    merges = [" ".join(pair) for pair in model["merges"]]
    return BytePairTokenizer(tokens, merges, SPECIAL)


@pytest.mark.parametrize("text", [*SAMPLES, *(load_text(t) for t in ("lambda", "in", "types"))])
def test_it_cuts_as_the_library_does(ours, reference, text):
    ids = ours.encode(text)
    assert ids.tolist() == reference.encode(text).ids
    assert ours.decode(ids) == text


def test_half_a_letter_and_what_is_no_text(ours):
    first = ours.encode("語")[:1]
    assert ours.decode(first) == "�"
    assert ours.encode("").dtype == torch.int64
    assert len(ours) == 900
    with pytest.raises(ValueError, match="text must be a string"):
        ours.encode(["a"])


def test_without_special_tokens_nothing_is_special():
    letters = BytePairTokenizer(["a", "<", ">"], [])
    assert letters.encode("<a>").tolist() == [1, 0, 2]


def test_no_pair_is_joined_across_a_cut():
    tokens = ["1", "2", "12", "x", "Â", "²", "xÂ", "'", "S", "'S"]
    ours = BytePairTokenizer(tokens, ["1 2", "x Â", "' S"])
    assert ours.encode("12").tolist() == [0, 1]
    assert ours.encode("x²").tolist() == [3, 4, 5]
    assert ours.encode("'S").tolist() == [7, 8]


def test_a_special_token_may_hold_what_no_other_does():
    ours = BytePairTokenizer(["a", "<the énd>"], [], ["<the énd>"])
    assert ours.decode(ours.encode("a<the énd>")) == "a<the énd>"


def test_a_byte_without_a_token_is_no_other_token():
    with pytest.raises(KeyError):
        BytePairTokenizer(["a", "b"], []).encode("abc")
