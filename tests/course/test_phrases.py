"""The toy grammar: what is in it, that its translations follow the rules, and rows of ids.

The rules are written here a second time, word by word, as a reader of the English would apply them.
"""

import unicodedata
from collections import Counter

import pytest
import torch

from causal_lab.course.phrases import (
    NOUNS,
    THINGS,
    decode_phrase,
    encode_phrases,
    generate_phrases,
    phrase_batches,
    phrase_vocabulary,
    split_phrases,
)

PAIRS = generate_phrases()
ENGLISH, VIETNAMESE = (phrase_vocabulary(side) for side in zip(*PAIRS, strict=True))

DICTIONARY = dict(
    pair.split(":")
    for pair in (
        "one:một two:hai three:ba four:bốn five:năm six:sáu seven:bảy eight:tám nine:chín "
        "cat:mèo dog:chó fish:cá bird:chim horse:ngựa orange:cam apple:táo flower:hoa book:sách "
        "table:bàn chair:ghế cup:cốc house:nhà beautiful:đẹp small:nhỏ big:to new:mới old:cũ "
        "red:đỏ white:trắng black:đen yellow:vàng this:này these:này that:kia those:kia"
    ).split()
)
CLASSIFIERS = {
    "con": "mèo chó cá chim ngựa",
    "quả": "cam táo",
    "bông": "hoa",
    "quyển": "sách",
    "cái": "bàn ghế cốc",
    "ngôi": "nhà",
}
NUMBERS = "một hai ba bốn năm sáu bảy tám chín".split()


def singular(noun: str) -> str:
    return noun if noun in DICTIONARY else noun.removesuffix("s")


def by_the_rules(english: str) -> str:
    """Number, classifier, noun, the adjectives backwards, and "this" or "that" last."""
    *before, noun = english.split()
    words = [DICTIONARY[word] for word in before]
    noun = DICTIONARY[singular(noun)]
    [classifier] = [c for c, nouns in CLASSIFIERS.items() if noun in nouns.split()]
    first = [word for word in words if word in NUMBERS]
    last = [word for word in words if word in ("này", "kia")]
    adjectives = [word for word in words if word not in first + last]
    return " ".join([*first, classifier, noun, *adjectives[::-1], *last])


# --- the grammar


@pytest.mark.parametrize(
    ("english", "vietnamese"),
    [
        ("these two small red cats", "hai con mèo đỏ nhỏ này"),
        ("this horse", "con ngựa này"),
        ("one beautiful flower", "một bông hoa đẹp"),
        ("those nine big old black tables", "chín cái bàn đen cũ to kia"),
        ("seven yellow fish", "bảy con cá vàng"),
        ("that new house", "ngôi nhà mới kia"),
        ("four oranges", "bốn quả cam"),
        ("these three books", "ba quyển sách này"),
    ],
)
def test_some_phrases_as_a_reader_would_write_them(english, vietnamese):
    assert dict(PAIRS)[english] == vietnamese


def test_every_translation_follows_the_rules():
    wrong = [(english, said) for english, said in PAIRS if by_the_rules(english) != said]
    assert not wrong


def test_there_are_as_many_phrases_as_one_can_count():
    # No opinion or one, no size or two, no colour or four; ages for things, but not four in all.
    plain, of_things = 2 * 3 * 5, 2 * 3 * 3 * 5 - 1 * 2 * 2 * 4
    determiners = 3 + 3 * 8
    kinds = (len(NOUNS) - len(THINGS)) * plain + len(THINGS) * of_things
    assert len(PAIRS) == determiners * kinds == 16470


@pytest.mark.parametrize("side", [0, 1], ids=["English", "Vietnamese"])
def test_no_phrase_stands_twice_and_no_two_mean_the_same(side):
    assert len({pair[side] for pair in PAIRS}) == len(PAIRS)


def test_lengths_are_those_of_short_phrases():
    assert Counter(len(english.split()) for english, _ in PAIRS).keys() == {2, 3, 4, 5, 6}
    assert {len(said.split()) for _, said in PAIRS} == set(range(3, 8))


@pytest.mark.parametrize(("most", "expected"), [(0, 27 * 13), (1, 27 * (13 + 8 * 7 + 5 * 9))])
def test_fewer_adjectives_give_fewer_phrases(most, expected):
    assert len(generate_phrases(max_adjectives=most)) == expected
    assert set(generate_phrases(max_adjectives=most)) <= set(PAIRS)


def test_only_things_are_new_or_old():
    things = {form for forms in THINGS for form in forms}
    aged = {e.split()[-1] for e, _ in PAIRS if {"new", "old"} & set(e.split())}
    assert aged == things


def test_the_letters_are_composed_ones():
    assert all(unicodedata.is_normalized("NFC", said) for _, said in PAIRS)


def test_the_list_is_the_same_every_time():
    assert generate_phrases() == PAIRS


# --- putting some aside


@pytest.mark.parametrize("test_size", [1, 1000, 16469])
def test_no_phrase_is_on_both_sides_and_none_is_lost(test_size):
    train, test = split_phrases(PAIRS, test_size, seed=4)
    assert len(test) == test_size
    assert not set(train) & set(test)
    assert Counter(train + test) == Counter(PAIRS)


def test_the_seed_decides_what_is_put_aside():
    assert split_phrases(PAIRS, 100, seed=0) == split_phrases(PAIRS, 100, seed=0)
    assert split_phrases(PAIRS, 100, seed=0)[1] != split_phrases(PAIRS, 100, seed=1)[1]
    assert split_phrases(PAIRS, 100, seed=0)[1] != PAIRS[:100]


# --- rows of ids


def test_vocabularies_hold_every_word_and_three_more():
    assert ENGLISH.tokens[:3] == VIETNAMESE.tokens[:3] == ("<unknown>", "<start>", "<end>")
    assert set(VIETNAMESE.tokens[3:]) == {word for _, said in PAIRS for word in said.split()}
    assert (len(ENGLISH), len(VIETNAMESE)) == (3 + 47, 3 + 39)
    assert list(ENGLISH.tokens[3:]) == sorted(ENGLISH.tokens[3:])


@pytest.mark.parametrize("with_ends", [False, True])
def test_every_text_comes_back_from_its_row(with_ends):
    texts = [said for _, said in PAIRS[::37]]
    ids, padding = encode_phrases(texts, VIETNAMESE, with_ends=with_ends)
    assert ids.shape == padding.shape
    for text, row, hidden in zip(texts, ids, padding, strict=True):
        count = len(text.split()) + 2 * with_ends
        assert hidden.tolist() == [False] * count + [True] * (len(row) - count)
        assert row[count:].eq(0).all()
        assert decode_phrase(row if with_ends else row[:count], VIETNAMESE) == text
        if with_ends:
            assert (row[0], row[count - 1]) == (1, 2)


def test_a_row_without_an_end_is_read_to_its_end():
    words = phrase_vocabulary(["red cats"])
    assert decode_phrase(torch.tensor([4, 3]), words) == "red cats"
    assert decode_phrase(torch.tensor([2, 4]), words) == ""


def test_batches_hold_phrases_with_their_own_translations():
    some = PAIRS[:5] + PAIRS[-5:]
    batches = phrase_batches(some, ENGLISH, VIETNAMESE, batch_size=7, steps=3, seed=1)
    seen = set()
    for batch in batches:
        assert {name: len(part) for name, part in batch.items()} == {
            "source": 7,
            "target": 7,
            "source_padding": 7,
            "target_padding": 7,
        }
        rows = zip(*batch.values(), strict=True)
        for source, target, source_padding, target_padding in rows:
            english = " ".join(ENGLISH.decode(source[~source_padding]))
            said = " ".join(VIETNAMESE.decode(target[~target_padding]))
            assert said == f"<start> {dict(some)[english]} <end>"
            seen.add(english)
    assert len(batches) == 3
    assert len(seen) > 7


def test_the_seed_decides_which_batches_are_drawn():
    def draw(seed):
        options = {"batch_size": 8, "steps": 2, "seed": seed}
        return phrase_batches(PAIRS[:50], ENGLISH, VIETNAMESE, **options)

    assert torch.equal(draw(0)[1]["source"], draw(0)[1]["source"])
    assert not torch.equal(draw(0)[1]["source"], draw(1)[1]["source"])
    assert not torch.equal(draw(0)[0]["source"], draw(0)[1]["source"])


# --- bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: generate_phrases(-1), "max_adjectives must be an integer of at least 0, got -1"),
        (lambda: split_phrases(PAIRS[:3], 3, seed=0), "test_size must be below 3"),
        (lambda: split_phrases(PAIRS[:3], 0, seed=0), "test_size must be an integer of at least 1"),
        (lambda: encode_phrases([], ENGLISH), "there is no text; give at least one"),
        (lambda: encode_phrases("", ENGLISH), "texts must be a list of texts"),
        (lambda: encode_phrases("red cats", ENGLISH), "texts must be a list of texts"),
        (lambda: encode_phrases(["red", " "], ENGLISH), "a text is empty"),
        (lambda: encode_phrases(["two green cats"], ENGLISH), "no word 'green', in 'two green"),
        (lambda: encode_phrases(["<unknown>"], ENGLISH), "no word '<unknown>'"),
        (lambda: decode_phrase(torch.tensor([50]), ENGLISH), "between 0 and 49"),
        (
            lambda: phrase_batches([], ENGLISH, VIETNAMESE, batch_size=1, steps=1, seed=0),
            "there is no phrase",
        ),
        (
            lambda: phrase_batches(PAIRS, ENGLISH, VIETNAMESE, batch_size=0, steps=1, seed=0),
            "batch_size must be an integer of at least 1",
        ),
        (
            lambda: phrase_batches(PAIRS, ENGLISH, VIETNAMESE, batch_size=1, steps=0, seed=0),
            "steps must be an integer of at least 1",
        ),
        (
            lambda: phrase_batches(PAIRS, VIETNAMESE, ENGLISH, batch_size=1, steps=1, seed=0),
            "the vocabulary has no word",
        ),
    ],
)
def test_bad_input_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()
