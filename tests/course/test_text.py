"""Words, numbers, counts and vectors: each step against a plain loop or its formula.

The documentation's wording differs between Python versions; what is claimed of it here holds
for any of them.
"""

import math
from collections import Counter

import pytest
import torch

from causal_lab.course.text import (
    UNKNOWN,
    Vocabulary,
    WordVectors,
    _compress,
    _count_neighbours,
    _positive_pmi,
    learn_word_vectors,
    load_text,
    split_characters,
    split_words,
)
from tests.builders import seeded


def random_symmetric(n: int, seed: int = 0) -> torch.Tensor:
    matrix = torch.randn(n, n, generator=seeded(seed))
    return matrix + matrix.T


# --- the text


def test_all_topics_together_are_a_long_english_text():
    words = Counter(split_words(load_text()))
    assert words.total() > 30_000
    assert words.most_common(1)[0][0] == "the"


def test_one_topic_is_part_of_the_whole_and_the_text_is_the_same_every_time():
    assert load_text("while") in load_text()
    assert "while" in split_words(load_text("while"))
    assert load_text() == load_text()


def test_words_are_lower_case_and_cut_at_digits_spaces_and_punctuation():
    text = "Don’t look AHEAD; it's x_1+y2 -- naïve (see §4.1)\nÉtude, rock'n'roll 'quoted'."
    assert split_words(text) == [
        "don't", "look", "ahead", "it's", "x", "y", "naïve", "see",
        "étude", "rock'n'roll", "quoted",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "  \n", "42 + 7 = 49!"])
def test_a_text_without_letters_has_no_words(text):
    assert split_words(text) == []


# --- the vocabulary


def test_the_most_frequent_tokens_come_first_and_ties_are_alphabetical():
    vocabulary = Vocabulary.from_tokens("b a c b d a e b".split())
    assert vocabulary.tokens == (UNKNOWN, "b", "a", "c", "d", "e")
    assert Vocabulary.from_tokens("b a c b d a e b".split(), size=3).tokens == (UNKNOWN, "b", "a")


def test_encode_and_decode_are_inverses_on_known_tokens():
    words = "the cat saw the other cat".split()
    vocabulary = Vocabulary.from_tokens(words)
    numbers = vocabulary.encode(words)
    assert numbers.dtype == torch.int64
    assert numbers.tolist() == [2, 1, 4, 2, 3, 1]
    assert vocabulary.decode(numbers) == words
    assert vocabulary.decode(numbers.tolist()) == words


def test_an_unknown_token_becomes_0_and_decodes_as_unknown():
    vocabulary = Vocabulary.from_tokens("abca", size=2)
    assert vocabulary.encode("abz").tolist() == [1, 0, 0]
    assert vocabulary.decode([1, 0]) == ["a", UNKNOWN]
    assert vocabulary.encode([UNKNOWN]).tolist() == [0]


def test_the_unknown_token_counts_in_the_size_but_is_no_known_token():
    vocabulary = Vocabulary.from_tokens("ab")
    assert len(vocabulary) == 3
    assert "a" in vocabulary
    assert "z" not in vocabulary
    assert UNKNOWN not in vocabulary
    assert len(Vocabulary.from_tokens("ab", size=1)) == 1
    assert len(Vocabulary.from_tokens([])) == 1


def test_an_unknown_token_in_the_text_keeps_number_0():
    vocabulary = Vocabulary.from_tokens([UNKNOWN, "a", UNKNOWN])
    assert vocabulary.tokens == (UNKNOWN, "a")
    assert Vocabulary.from_tokens(vocabulary.tokens) == vocabulary
    assert Vocabulary.from_tokens([UNKNOWN, UNKNOWN, "b", "b", "a"], size=2).tokens[1:] == ("b",)


def test_nothing_encodes_and_decodes_to_nothing():
    vocabulary = Vocabulary.from_tokens("ab")
    empty = vocabulary.encode([])
    assert (empty.dtype, empty.shape) == (torch.int64, (0,))
    assert vocabulary.decode(empty) == []


# --- counts


@pytest.mark.parametrize("window", [1, 2, 4, 50])
@pytest.mark.parametrize("length", [0, 1, 2, 30])
def test_counts_are_those_of_a_plain_loop(length, window):
    numbers = torch.randint(0, 6, (length,), generator=seeded())
    expected = torch.zeros(6, 6, dtype=torch.float64)
    for i in range(length):
        for j in range(length):
            if i != j and abs(i - j) <= window:
                expected[numbers[i], numbers[j]] += 1 / abs(i - j)
    counts = _count_neighbours(numbers, 6, window)
    assert counts.dtype == torch.float32
    torch.testing.assert_close(counts.double(), expected, rtol=1e-6, atol=0)


def test_counts_are_symmetric_and_as_large_as_the_vocabulary():
    counts = _count_neighbours(torch.tensor([0, 1, 2, 0]), 5, window=1)
    assert torch.equal(counts, counts.T)
    assert counts.shape == (5, 5)
    assert counts[3:].sum() == 0


# --- positive PMI


def pmi_loop(counts: torch.Tensor) -> torch.Tensor:
    n, total = len(counts), counts.double().sum().item()
    result = torch.zeros(n, n, dtype=torch.float64)
    for a in range(n):
        for b in range(n):
            if counts[a, b] > 0:
                together = counts[a, b].item() / total
                alone = counts[a].sum().item() / total * (counts[b].sum().item() / total)
                result[a, b] = max(0.0, math.log(together / alone))
    return result


def test_positive_pmi_is_the_formula_entry_by_entry():
    counts = _count_neighbours(torch.randint(0, 8, (40,), generator=seeded(1)), 10, window=3)
    ours = _positive_pmi(counts)  # words 8 and 9 never occur
    torch.testing.assert_close(ours.double(), pmi_loop(counts), rtol=0, atol=1e-5)
    assert (ours > 0).any()
    assert (ours[8:] == 0).all()


def test_words_that_meet_as_chance_has_it_have_no_pmi():
    share = torch.tensor([0.5, 0.3, 0.2])
    chance = 100 * share[:, None] * share[None, :]
    torch.testing.assert_close(_positive_pmi(chance), torch.zeros(3, 3), rtol=0, atol=1e-6)


def test_positive_pmi_does_not_depend_on_how_much_was_counted():
    counts = _count_neighbours(torch.randint(0, 8, (40,), generator=seeded(1)), 8, window=4)
    torch.testing.assert_close(_positive_pmi(7 * counts), _positive_pmi(counts), rtol=0, atol=1e-5)


def test_positive_pmi_is_0_where_nothing_ever_met():
    assert _positive_pmi(torch.zeros(3, 3)).tolist() == [[0.0] * 3] * 3


# --- compression


@pytest.mark.parametrize("dim", [1, 3, 8])
def test_compress_keeps_u_root_s_of_the_strongest_singular_directions(dim):
    matrix = random_symmetric(8)
    vectors = _compress(matrix, dim)
    U, S, _ = torch.linalg.svd(matrix)
    assert vectors.shape == (8, dim)
    for column in range(dim):
        expected = U[:, column] * S[column].sqrt()
        sign = torch.sign(expected @ vectors[:, column])
        torch.testing.assert_close(vectors[:, column], sign * expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(vectors.square().sum(0), S[:dim], rtol=1e-4, atol=0)


def test_compress_with_the_eigenvalues_signs_rebuilds_the_best_approximation():
    matrix = random_symmetric(8)
    vectors = _compress(matrix, 4)
    U, S, Vh = torch.linalg.svd(matrix)
    best = U[:, :4] * S[:4] @ Vh[:4]
    signs = torch.sign((vectors * (matrix @ vectors)).sum(0))
    torch.testing.assert_close((vectors * signs) @ vectors.T, best, rtol=0, atol=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_the_largest_entry_of_every_column_is_positive(seed):
    vectors = _compress(random_symmetric(7, seed), 7)
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    assert (largest > 0).all()


def test_compressing_the_negative_gives_the_same_directions():
    matrix = random_symmetric(6)
    torch.testing.assert_close(_compress(-matrix, 6), _compress(matrix, 6), rtol=0, atol=1e-4)


# --- word vectors

STORY = "the cat sat on the mat and the dog sat on the rug and the cat saw the dog " * 3


def test_the_same_text_gives_the_same_vectors():
    first, second = learn_word_vectors(STORY, dim=4), learn_word_vectors(STORY, dim=4)
    assert first.vocabulary == second.vocabulary
    assert torch.equal(first.vectors, second.vectors)


def test_vectors_have_mean_square_1_and_the_unknown_word_has_none():
    words = learn_word_vectors(STORY, dim=4)
    assert words.vectors.shape == (len(words.vocabulary), 4)
    assert words.vectors[1:].square().mean().item() == pytest.approx(1, abs=1e-5)
    assert words.vectors[0].tolist() == [0.0] * 4
    assert words.look_up(["zebra"]).tolist() == [[0.0] * 4]


def test_look_up_stacks_the_vectors_in_the_order_asked_for():
    words = learn_word_vectors(STORY, dim=4)
    number = {word: int(words.vocabulary.encode([word])) for word in ("cat", "mat")}
    expected = words.vectors[[number["cat"], number["mat"], number["cat"], 0]]
    assert torch.equal(words.look_up(["cat", "mat", "cat", "zebra"]), expected)


def test_vectors_are_those_of_the_steps_that_make_them():
    words = learn_word_vectors(STORY, dim=3, vocabulary_size=6, window=2)
    known = [word for word in split_words(STORY) if word in words.vocabulary]
    assert len(words.vocabulary) == 6
    counts = _count_neighbours(words.vocabulary.encode(known), 6, window=2)
    expected = _compress(_positive_pmi(counts), 3)[1:]
    expected = expected / expected.square().mean().sqrt()
    torch.testing.assert_close(words.vectors[1:], expected, rtol=0, atol=1e-5)


def test_words_in_the_same_company_point_the_same_way():
    text = "we drink red wine we drink white wine they sail old ships they sail new ships " * 4
    words = learn_word_vectors(text, dim=4, window=1)
    red, white, old, new = torch.nn.functional.normalize(
        words.look_up(["red", "white", "old", "new"]), dim=-1
    )
    assert red @ white > red @ old + 0.5
    assert old @ new > old @ white + 0.5


def test_the_documentation_teaches_some_company():
    words = learn_word_vectors()
    pairs = [
        ("left", "right"), ("true", "false"), ("try", "except"), ("keys", "values"),
        ("import", "module"), ("integer", "float"), ("list", "tuple"), ("class", "instance"),
    ]  # fmt: skip
    directions = torch.nn.functional.normalize(words.vectors[1:], dim=-1)
    by_chance = (directions @ directions.T).mean()
    first, second = (words.look_up(side) for side in zip(*pairs, strict=True))
    assert (first.abs().sum(-1) > 0).all()
    assert (second.abs().sum(-1) > 0).all()
    likeness = torch.nn.functional.cosine_similarity(first, second)
    assert likeness.mean() > by_chance + 0.3
    assert (likeness > by_chance).sum() >= 6


# --- bad input


@pytest.mark.parametrize("topic", ["no such topic", "", 5])
def test_a_topic_that_does_not_exist_is_answered_with_some_that_do(topic):
    with pytest.raises(ValueError, match=r"no topic.*there are assert"):
        load_text(topic)


@pytest.mark.parametrize("text", [["a", "b"], None, b"a b", 5])
def test_only_a_string_is_cut_into_words(text):
    with pytest.raises(ValueError, match=r"text must be a string.*join a list first"):
        split_words(text)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ((), "the first token must be '<unknown>'; use Vocabulary.from_tokens"),
        (("a", UNKNOWN), "the first token must be '<unknown>'; use Vocabulary.from_tokens"),
        ((UNKNOWN, "a", "a"), "every token must stand once; use Vocabulary.from_tokens"),
    ],
)
def test_a_vocabulary_begins_with_the_unknown_and_repeats_nothing(tokens, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary(tokens)


@pytest.mark.parametrize("size", [0, -1, True, 2.0, "2"])
def test_a_vocabulary_has_a_size(size):
    with pytest.raises(ValueError, match="size must be an integer of at least 1"):
        Vocabulary.from_tokens("ab", size=size)


@pytest.mark.parametrize(
    "numbers",
    [[3], [-1], torch.tensor([0, 7]), [1.0], [1.5], [True], [[1]], torch.tensor(1), ["a"], None],
)
def test_only_numbers_of_the_vocabulary_are_decoded(numbers):
    with pytest.raises(ValueError, match="numbers must"):
        Vocabulary.from_tokens("ab").decode(numbers)


@pytest.mark.parametrize("vectors", [torch.zeros(1, 2), torch.zeros(5, 2), torch.zeros(2)])
def test_there_is_one_vector_per_word(vectors):
    with pytest.raises(ValueError, match=r"vectors must have shape \(2, dim\)"):
        WordVectors(Vocabulary((UNKNOWN, "a")), vectors)


@pytest.mark.parametrize("text", ["", "one two three", "again again again again again"])
def test_a_text_too_short_for_its_vectors_is_told_so(text):
    with pytest.raises(ValueError, match="too few for dim=4; give a longer text or a smaller dim"):
        learn_word_vectors(text, dim=4)


@pytest.mark.parametrize(("text", "size"), [("again again", 1200), ("one two three", 2), ("a", 2)])
def test_a_text_in_which_nobody_keeps_company_is_refused_instead_of_giving_nan(text, size):
    with pytest.raises(ValueError, match="company"):
        learn_word_vectors(text, dim=1, vocabulary_size=size)


@pytest.mark.parametrize("size", [0, -1, True, 2.0])
def test_learning_checks_its_sizes(size):
    with pytest.raises(ValueError, match="vocabulary_size must be an integer of at least 1"):
        learn_word_vectors(STORY, dim=2, vocabulary_size=size)
    with pytest.raises(ValueError, match="window must be an integer of at least 1"):
        learn_word_vectors(STORY, dim=2, window=size)
    with pytest.raises(ValueError, match="dim must be an integer of at least 1"):
        learn_word_vectors(STORY, dim=size)
    with pytest.raises(ValueError, match="text must be a string"):
        learn_word_vectors(["a", "b"], dim=1)


def test_an_accent_that_comes_as_a_sign_of_its_own_does_not_cut_a_word():
    assert split_words("nha\u0302n qua\u0309") == ["nh\u00e2n", "qu\u1ea3"]
    assert split_characters("a\u0309") == ["\u1ea3"]


def test_characters_are_all_there_in_order():
    assert "".join(split_characters("if x:\n  y")) == "if x:\n  y"


@pytest.mark.parametrize("text", [None, ["a"], b"a", 1])
def test_only_a_string_is_cut(text):
    for split in (split_words, split_characters):
        with pytest.raises(ValueError, match="text must be a string"):
            split(text)
