"""Which words the model reads: a real text that is on every machine.

The topics of Python's own documentation (what ``help("if")`` shows) come with every
Python: about 60,000 words, no network, nothing to ship. Their wording differs a little
between Python versions, and so do the word vectors made from it.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pydoc_data.topics import topics

import torch
from torch import Tensor

from causal_lab.validation import check_size, describe

UNKNOWN = "<unknown>"


def load_text(topic: str | None = None) -> str:
    """Read the documentation's topics, one or all of them in alphabetical order.

    Args:
        topic: a topic's name, such as "if" or "while"; all topics if not given.

    >>> "conditional execution" in load_text("if")
    True
    """
    if topic is None:
        return "\n".join(topics[name] for name in sorted(topics))
    if topic not in topics:
        raise ValueError(f"no topic {topic!r}; there are {', '.join(sorted(topics)[:8])}, …")
    return topics[topic]


def split_words(text: str) -> list[str]:
    """Cut a text into lower-case words; digits and punctuation separate.

    >>> split_words("The cat's hat, 3 times!")
    ['the', "cat's", 'hat', 'times']
    """
    # An accent may come as a sign of its own, an apostrophe as a quotation mark.
    text = unicodedata.normalize("NFC", _check_text(text)).lower()
    text = text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    return re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)*", text)


def split_characters(text: str) -> list[str]:
    """Cut a text into characters; spaces and line breaks count.

    >>> split_characters("if x:")
    ['i', 'f', ' ', 'x', ':']
    """
    return list(unicodedata.normalize("NFC", _check_text(text)))


@dataclass(frozen=True)
class Vocabulary:
    """A numbered list of tokens, words or characters; number 0 is the unknown one.

    Args:
        tokens: token ``i`` has the number ``i``; the first must be ``UNKNOWN``.

    >>> vocabulary = Vocabulary.from_tokens("abracadabra", size=3)
    >>> vocabulary.tokens
    ('<unknown>', 'a', 'b')
    >>> vocabulary.encode("abc").tolist()
    [1, 2, 0]
    >>> vocabulary.decode([2, 1])
    ['b', 'a']
    """

    tokens: tuple[str, ...]

    def __post_init__(self):
        if not self.tokens or self.tokens[0] != UNKNOWN:
            raise ValueError(f"the first token must be {UNKNOWN!r}; use Vocabulary.from_tokens")
        numbers = {token: number for number, token in enumerate(self.tokens)}
        if len(numbers) < len(self.tokens):
            raise ValueError("every token must stand once; use Vocabulary.from_tokens")
        object.__setattr__(self, "_numbers", numbers)

    @classmethod
    def from_tokens(cls, tokens: Iterable[str], size: int | None = None) -> "Vocabulary":
        """Give the tokens of a text their numbers, the most frequent first.

        Args:
            tokens: a text cut into words, or a string, which is cut into characters. ``UNKNOWN``
                keeps number 0.
            size: keep only this many, the unknown one included; all if not given.

        Returns:
            Ties in frequency are broken alphabetically.

        >>> len(Vocabulary.from_tokens(["if", "else", "if"]))
        3
        """
        counts = Counter(tokens)
        del counts[UNKNOWN]  # it has number 0 already, wherever a decoded text holds it
        ranked = sorted(counts, key=lambda token: (-counts[token], token))
        kept = None if size is None else check_size("size", size) - 1
        return cls((UNKNOWN, *ranked[:kept]))

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: str) -> bool:
        return token != UNKNOWN and token in self._numbers

    def encode(self, tokens: Iterable[str]) -> Tensor:
        """Turn tokens into their numbers; an unknown token becomes 0.

        Args:
            tokens: words, or a string of characters.

        Returns:
            int64, shape (length,), one number per token, on the CPU.

        >>> Vocabulary.from_tokens("ab").encode("ba!").tolist()
        [2, 1, 0]
        """
        numbers = [self._numbers.get(token, 0) for token in tokens]
        return torch.tensor(numbers, dtype=torch.int64, device="cpu")

    def decode(self, numbers: Tensor | Sequence[int]) -> list[str]:
        """Turn numbers into their tokens.

        Args:
            numbers: shape (length,), numbers from 0 to below the vocabulary's size.

        >>> Vocabulary.from_tokens("ab").decode([1, 2])
        ['a', 'b']
        """
        try:
            row = torch.as_tensor(numbers)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"numbers must be a row of integers: {error}") from error
        is_row = row.ndim == 1 and (row.dtype == torch.int64 or row.numel() == 0)
        if not is_row or bool(((row < 0) | (row >= len(self))).any()):
            raise ValueError(
                f"numbers must be a row of int64 between 0 and {len(self) - 1}, got {row.tolist()}"
            )
        return [self.tokens[number] for number in row.tolist()]


def count_neighbours(numbers: Tensor, vocabulary_size: int, window: int = 4) -> Tensor:
    """Count how often two words stand near each other, nearer pairs more.

    Source: Pennington et al., "GloVe", 2014, for the weights 1/d.

    Args:
        numbers: int64, shape (length,).
        vocabulary_size: one more than the largest number that may occur.
        window: words up to this far apart count, at distance d with weight 1/d.

    Returns:
        float32, shape (vocabulary_size, vocabulary_size), symmetric weighted counts.

    >>> count_neighbours(torch.tensor([0, 1, 0]), 2, window=2).tolist()
    [[1.0, 2.0], [2.0, 0.0]]
    """
    vocabulary_size, window = (
        check_size("vocabulary_size", vocabulary_size),
        check_size("window", window),
    )
    is_tensor = isinstance(numbers, Tensor)
    if not is_tensor or numbers.ndim != 1 or numbers.dtype != torch.int64:
        raise ValueError("numbers must be a row of int64; use Vocabulary.encode")
    if numbers.numel() and not 0 <= int(numbers.min()) <= int(numbers.max()) < vocabulary_size:
        raise ValueError(f"every number must lie between 0 and {vocabulary_size - 1}")
    counts = torch.zeros(vocabulary_size**2, dtype=torch.float64, device=numbers.device)
    for distance in range(1, min(window, len(numbers) - 1) + 1):
        pairs = numbers[:-distance] * vocabulary_size + numbers[distance:]
        counts += torch.bincount(pairs, minlength=vocabulary_size**2) / distance
    counts = counts.view(vocabulary_size, vocabulary_size)
    return (counts + counts.T).float()


def positive_pmi(counts: Tensor) -> Tensor:
    """Ask how much more often two words meet than chance would have it, in nats.

    Source: Church and Hanks, 1990; positive PMI as in Levy and Goldberg, 2014.

    Args:
        counts: shape (n, n), symmetric counts, as :func:`count_neighbours` gives them.

    Returns:
        shape (n, n), max(0, ln(p(a, b) / (p(a) p(b)))); 0 where the words never met.

    >>> positive_pmi(torch.tensor([[0.0, 1.0], [1.0, 0.0]])).exp().tolist()
    [[1.0, 2.0], [2.0, 1.0]]
    """
    if not _is_square(counts) or bool((counts < 0).any()):
        raise ValueError(f"counts must be a square of numbers ≥ 0, got {describe(counts)}")
    total, share = counts.sum(), counts.sum(1)
    by_chance = share[:, None] * share[None, :] / total.clamp(min=torch.finfo(counts.dtype).tiny)
    ratio = counts / by_chance.masked_fill(by_chance == 0, 1.0)
    return ratio.clamp(min=1.0).log()


def compress(matrix: Tensor, dim: int) -> Tensor:
    """Keep the strongest directions of a symmetric matrix: a truncated SVD.

    The singular values of a symmetric matrix are the absolute eigenvalues, and ``eigh`` finds those
    faster than an SVD would. Source: Levy and Goldberg, 2014, for √S.

    Args:
        matrix: shape (n, n), symmetric.
        dim: directions to keep, 1 to n.

    Returns:
        shape (n, dim), U √S of the ``dim`` largest singular values S. The sign of each column,
        which an SVD leaves open, is chosen so that its largest entry is positive.

    >>> compress(torch.tensor([[4.0, 0.0], [0.0, 1.0]]), dim=1).tolist()
    [[2.0], [0.0]]
    """
    if not _is_square(matrix) or not torch.allclose(matrix, matrix.T):
        raise ValueError(f"matrix must be a symmetric floating square, got {describe(matrix)}")
    if check_size("dim", dim) > len(matrix):
        raise ValueError(f"dim must be at most {len(matrix)}, the size of the matrix, got {dim}")
    eigenvalues, directions = torch.linalg.eigh(matrix)
    strongest = eigenvalues.abs().argsort(descending=True)[:dim]
    vectors = directions[:, strongest] * eigenvalues[strongest].abs().sqrt()
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return vectors * torch.where(largest < 0, -1.0, 1.0)


@dataclass(frozen=True)
class WordVectors:
    """One vector per word; words that keep the same company point the same way.

    Args:
        vectors: float32, shape (len(vocabulary), dim), scaled so that a random word's entries have
            mean square 1; zeros for the unknown word.

    >>> words = WordVectors(Vocabulary(("<unknown>", "if")), torch.tensor([[0.0], [1.0]]))
    >>> words.look_up(["if", "zebra"]).tolist()
    [[1.0], [0.0]]
    """

    vocabulary: Vocabulary
    vectors: Tensor

    def __post_init__(self):
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.vocabulary):
            raise ValueError(
                f"vectors must have shape ({len(self.vocabulary)}, dim), one row per word, got "
                f"{tuple(self.vectors.shape)}"
            )

    def look_up(self, words: Iterable[str]) -> Tensor:
        """Stack the vectors of some words.

        Args:
            words: lower-case words, as :func:`split_words` cuts them.

        Returns:
            float32, shape (length, dim), zeros for a word that is not in the vocabulary.

        >>> words = WordVectors(Vocabulary(("<unknown>", "if")), torch.eye(2))
        >>> words.look_up(["if"]).tolist()
        [[0.0, 1.0]]
        """
        return self.vectors[self.vocabulary.encode(words)]

    def nearest(self, word: str, count: int = 5) -> list[str]:
        """List the words whose vectors point most nearly the same way.

        Returns:
            Nearest first, by cosine; the word itself is left out.

        >>> words = WordVectors(Vocabulary(("<unknown>", "a", "b")), torch.eye(3))
        >>> words.nearest("a", 1)
        ['b']
        """
        if word not in self.vocabulary:
            raise ValueError(f"{word!r} is not among the {len(self.vocabulary) - 1} known words")
        others = len(self.vocabulary) - 2
        if check_size("count", count) > others:
            raise ValueError(f"count must be at most {others}, the number of other words")
        number = int(self.vocabulary.encode([word]))
        directions = torch.nn.functional.normalize(self.vectors, dim=-1)
        likeness = directions @ directions[number]
        likeness[[0, number]] = -math.inf
        return self.vocabulary.decode(likeness.topk(count).indices)


def learn_word_vectors(
    text: str | None = None, *, dim: int = 48, vocabulary_size: int = 1200, window: int = 4
) -> WordVectors:
    """Learn word vectors from the company that words keep; well under a second.

    Counts, positive PMI, truncated SVD: Levy and Goldberg, "Neural word embedding as implicit
    matrix factorization", 2014.

    Args:
        text: the text to learn from; all of :func:`load_text` if not given.
        vocabulary_size: the most frequent words, the unknown one included; fewer if the text has
            fewer.
        window: words up to this far apart are company.

    Returns:
        The same for the same text.

    >>> "import" in learn_word_vectors().nearest("module", 10)
    True
    """
    words = split_words(load_text() if text is None else text)
    vocabulary = Vocabulary.from_tokens(words, check_size("vocabulary_size", vocabulary_size))
    if check_size("dim", dim) >= len(vocabulary):
        raise ValueError(
            f"the text has only {len(vocabulary) - 1} different words, too few for dim={dim}; "
            "give a longer text or a smaller dim"
        )
    numbers = vocabulary.encode(words)
    counts = count_neighbours(numbers[numbers > 0], len(vocabulary), window)
    vectors = compress(positive_pmi(counts), dim)
    vectors[0] = 0.0  # no company is known of an unknown word
    if not bool(vectors.any()):
        raise ValueError("no word keeps any company but its own; give a longer text")
    return WordVectors(vocabulary, vectors / vectors[1:].square().mean().sqrt())


def _is_square(matrix: Tensor) -> bool:
    return (
        isinstance(matrix, Tensor)
        and matrix.is_floating_point()
        and matrix.ndim == 2
        and matrix.shape[0] == matrix.shape[1]
    )


def _check_text(text: str) -> str:
    if not isinstance(text, str):
        raise ValueError(f"text must be a string, got {type(text).__name__}; join a list first")
    return text
