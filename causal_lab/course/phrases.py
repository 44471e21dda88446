"""A small translation task whose right answers are known: English noun phrases in Vietnamese.

"these two small red cats" is "hai con mèo đỏ nhỏ này": the noun gets a classifier, the adjectives
come after it in mirrored order, and what stood first stands last. It is a toy grammar. Real
Vietnamese is freer in the order of adjectives, and speaks of fewer red cats.
"""

from collections.abc import Iterable, Sequence
from itertools import product

import torch
from torch import Tensor

from causal_lab.course.text import UNKNOWN, Vocabulary
from causal_lab.validation import check_size

PAD_ID, START_ID, END_ID = 0, 1, 2
START, END = "<start>", "<end>"

# One thing, several things: the classifier and the noun, which has no plural.
ANIMALS = {
    ("cat", "cats"): "con mèo",
    ("dog", "dogs"): "con chó",
    ("fish", "fish"): "con cá",
    ("bird", "birds"): "con chim",
    ("horse", "horses"): "con ngựa",
}
PLANTS = {
    ("orange", "oranges"): "quả cam",
    ("apple", "apples"): "quả táo",
    ("flower", "flowers"): "bông hoa",
}
THINGS = {
    ("book", "books"): "quyển sách",
    ("table", "tables"): "cái bàn",
    ("chair", "chairs"): "cái ghế",
    ("cup", "cups"): "cái cốc",
    ("house", "houses"): "ngôi nhà",
}
NOUNS = ANIMALS | PLANTS | THINGS

# In the order in which English says them; at most one of each kind.
OPINIONS = {"beautiful": "đẹp"}
SIZES = {"small": "nhỏ", "big": "to"}
AGES = {"new": "mới", "old": "cũ"}  # of things only: an old cat is not "cũ"
COLOURS = {"red": "đỏ", "white": "trắng", "black": "đen", "yellow": "vàng"}
ADJECTIVES = OPINIONS | SIZES | AGES | COLOURS

NUMBERS = {
    "two": "hai",
    "three": "ba",
    "four": "bốn",
    "five": "năm",
    "six": "sáu",
    "seven": "bảy",
    "eight": "tám",
    "nine": "chín",
}
# What stands before one thing and before several: what Vietnamese puts first, and last.
SINGULAR = {"one": ("một", ""), "this": ("", "này"), "that": ("", "kia")}
PLURAL = {
    **{number: (word, "") for number, word in NUMBERS.items()},
    **{f"these {number}": (word, "này") for number, word in NUMBERS.items()},
    **{f"those {number}": (word, "kia") for number, word in NUMBERS.items()},
}


def generate_phrases(max_adjectives: int = 3) -> list[tuple[str, str]]:
    """List every phrase of the grammar with its translation, always in the same order.

    Source: the paper, §7.2, which names machine translation.

    >>> phrases = generate_phrases()
    >>> len(phrases)
    16470
    >>> dict(phrases)["these two small red cats"]
    'hai con mèo đỏ nhỏ này'
    """
    max_adjectives = check_size("max_adjectives", max_adjectives, minimum=0)
    return [
        _phrase(before, singular_or_plural, adjectives, classified)
        for forms, classified in NOUNS.items()
        for adjectives in _adjectives_of(forms, max_adjectives)
        for singular_or_plural, befores in zip(forms, (SINGULAR, PLURAL), strict=True)
        for before in befores.items()
    ]


def split_phrases(
    phrases: Sequence[tuple[str, str]], test_size: int, *, seed: int
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Put some phrases aside, never to be trained on: gives ``train, test``.

    >>> train, test = split_phrases(generate_phrases(), test_size=1000, seed=0)
    >>> len(train), len(test), set(train) & set(test)
    (15470, 1000, set())
    """
    if check_size("test_size", test_size) >= len(phrases):
        raise ValueError(
            f"test_size must be below {len(phrases)}, the number of phrases, or none is left to "
            f"train on, got {test_size}"
        )
    order = torch.randperm(len(phrases), generator=torch.Generator().manual_seed(seed)).tolist()
    return [phrases[i] for i in order[test_size:]], [phrases[i] for i in order[:test_size]]


def phrase_vocabulary(texts: Iterable[str]) -> Vocabulary:
    """Number a language's words, sorted; 0 is no word and fills up rows, 1 starts, 2 ends a text.

    >>> phrase_vocabulary(["red cats", "red dogs"]).tokens
    ('<unknown>', '<start>', '<end>', 'cats', 'dogs', 'red')
    """
    return Vocabulary((UNKNOWN, START, END, *sorted({word for t in texts for word in t.split()})))


def encode_phrases(
    texts: Sequence[str], vocabulary: Vocabulary, *, with_ends: bool = False
) -> tuple[Tensor, Tensor]:
    """Write texts as rows of ids, the shorter ones filled up on the right.

    Args:
        texts: words separated by spaces; at least one text, none empty.
        vocabulary: from :func:`phrase_vocabulary`.
        with_ends: put the start token before each text and the end token after it.

    Returns:
        ids: int64, shape (text, length), on the CPU.
        padding: bool, shape (text, length), True where there is no word.

    >>> words = phrase_vocabulary(["red cats"])
    >>> ids, padding = encode_phrases(["red cats", "cats"], words, with_ends=True)
    >>> ids.tolist(), padding.int().tolist()
    ([[1, 4, 3, 2], [1, 3, 2, 0]], [[0, 0, 0, 0], [0, 0, 0, 1]])
    """
    if isinstance(texts, str):
        raise ValueError(f"texts must be a list of texts, got one; write [{texts!r}]")
    rows = [_check_words(text, vocabulary) for text in texts]
    if not rows:
        raise ValueError("there is no text; give at least one")
    rows = [[START, *row, END] if with_ends else row for row in rows]
    lengths = torch.tensor([len(row) for row in rows])
    padding = torch.arange(int(lengths.max())) >= lengths[:, None]
    ids = torch.full(padding.shape, PAD_ID)
    ids[~padding] = torch.cat([vocabulary.encode(row) for row in rows])
    return ids, padding


def decode_phrase(ids: Tensor, vocabulary: Vocabulary) -> str:
    """Turn one row of ids, shape (length,), into a text, up to the end token and without the ends.

    >>> words = phrase_vocabulary(["red cats"])
    >>> decode_phrase(torch.tensor([1, 4, 3, 2, 0, 0]), words)
    'red cats'
    """
    words = vocabulary.decode(ids)
    words = words[: words.index(END)] if END in words else words
    return " ".join(words[1:] if words[:1] == [START] else words)


def phrase_batches(
    phrases: Sequence[tuple[str, str]],
    source_vocabulary: Vocabulary,
    target_vocabulary: Vocabulary,
    *,
    batch_size: int,
    steps: int,
    seed: int,
    device: torch.device | str | None = None,
) -> list[dict[str, Tensor]]:
    """Draw batches of phrases at random, the same ones on every device; the CPU if none is given.

    Args:
        phrases: pairs of a text and its translation.
        steps: how many batches.

    Returns:
        What a translation loss needs: ``source``, ``target`` (with start and end token),
        ``source_padding`` and ``target_padding``, each of shape (batch, length).

    >>> phrases = [("red cats", "con mèo đỏ")]
    >>> english, vietnamese = (phrase_vocabulary(texts) for texts in zip(*phrases))
    >>> [batch] = phrase_batches(phrases, english, vietnamese, batch_size=2, steps=1, seed=0)
    >>> batch["target"].shape
    torch.Size([2, 5])
    """
    shape = (check_size("steps", steps), check_size("batch_size", batch_size))
    if not phrases:
        raise ValueError("there is no phrase to draw from; give at least one")
    texts, translations = zip(*phrases, strict=True)
    source, source_padding = encode_phrases(texts, source_vocabulary)
    target, target_padding = encode_phrases(translations, target_vocabulary, with_ends=True)
    whole = {
        "source": source.to(device),
        "target": target.to(device),
        "source_padding": source_padding.to(device),
        "target_padding": target_padding.to(device),
    }
    drawn = torch.randint(len(source), shape, generator=torch.Generator().manual_seed(seed))
    return [{name: part[rows.to(part.device)] for name, part in whole.items()} for rows in drawn]


def _adjectives_of(forms: tuple[str, str], most: int) -> list[list[str]]:
    """List the adjectives that may stand before a noun, in English order."""
    kinds = [OPINIONS, SIZES, AGES if forms in THINGS else {}, COLOURS]
    chosen = product(*(["", *kind] for kind in kinds))
    return [words for row in chosen if len(words := [word for word in row if word]) <= most]


def _phrase(
    before: tuple[str, tuple[str, str]], noun: str, adjectives: list[str], classified: str
) -> tuple[str, str]:
    english, (first, last) = before
    mirrored = [ADJECTIVES[word] for word in reversed(adjectives)]
    vietnamese = " ".join(word for word in (first, classified, *mirrored, last) if word)
    return " ".join([english, *adjectives, noun]), vietnamese


def _check_words(text: str, vocabulary: Vocabulary) -> list[str]:
    words = text.split()
    missing = [word for word in words if word not in vocabulary]
    if missing:
        raise ValueError(f"the vocabulary has no word {missing[0]!r}, in {text!r}")
    if not words:
        raise ValueError("a text is empty; give at least one word")
    return words
