"""Which words the model reads: a real text that is on every machine.

The topics of Python's own documentation (what ``help("if")`` shows) come with every
Python: about 60,000 words, no network, nothing to ship. Their wording differs a little
between Python versions, and so do the word vectors made from it.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pydoc_data.topics import topics

import torch
from torch import Tensor

from causal_lab.validation import check_size

UNKNOWN = "<unknown>"


def load_text(topic: str | None = None) -> str:
    """Read one of the documentation's topics, or all of them in alphabetical order.

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
    text = unicodedata.normalize("NFC", check_text(text)).lower()
    text = text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    return re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)*", text)


def split_characters(text: str) -> list[str]:
    """Cut a text into characters; spaces and line breaks count.

    >>> split_characters("if x:")
    ['i', 'f', ' ', 'x', ':']
    """
    return list(unicodedata.normalize("NFC", check_text(text)))


@dataclass(frozen=True)
class Vocabulary:
    """A numbered list of tokens, words or characters; number 0 is the unknown one.

    Args:
        tokens: by number, ``UNKNOWN`` first.

    >>> vocabulary = Vocabulary.from_tokens("abracadabra", size=3)
    >>> vocabulary.tokens
    ('<unknown>', 'a', 'b')
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
        """Number the tokens of a text, the most frequent first, ties in alphabetical order.

        Args:
            tokens: words, or a string, which is cut into characters.
            size: keep only this many, the unknown one included; all if not given.
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
        """Turn tokens, or a string, into int64, shape (length,), on the CPU; 0 if unknown.

        >>> Vocabulary.from_tokens("ab").encode("ba!").tolist()
        [2, 1, 0]
        """
        numbers = [self._numbers.get(token, 0) for token in tokens]
        return torch.tensor(numbers, dtype=torch.int64, device="cpu")

    def decode(self, numbers: Tensor | Sequence[int]) -> list[str]:
        """Turn numbers, shape (length,), into their tokens.

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


@dataclass(frozen=True)
class WordVectors:
    """One vector per word; words that keep the same company point the same way.

    Args:
        vectors: float32, shape (len(vocabulary), dim), scaled so that a random word's entries have
            mean square 1; zeros for the unknown word.
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
        """Stack the vectors of lower-case words, shape (length, dim); zeros for an unknown one.

        >>> words = WordVectors(Vocabulary(("<unknown>", "if")), torch.tensor([[0.0], [1.0]]))
        >>> words.look_up(["if", "zebra"]).tolist()
        [[1.0], [0.0]]
        """
        return self.vectors[self.vocabulary.encode(words)]


def learn_word_vectors(
    text: str | None = None, *, dim: int = 48, vocabulary_size: int = 1200, window: int = 4
) -> WordVectors:
    """Learn word vectors from the company that words keep; well under a second.

    Counts, positive PMI, truncated SVD: Levy and Goldberg, "Neural word embedding as implicit
    matrix factorization", 2014. The same text gives the same vectors.

    Args:
        text: what to learn from; all of :func:`load_text` if not given.
        vocabulary_size: the most frequent words, the unknown one included; fewer if the text has
            fewer.
        window: words up to this far apart are company.

    >>> words = learn_word_vectors("a cat sat a dog sat", dim=2, window=1)
    >>> torch.allclose(*words.look_up(["cat", "dog"]))
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
    known = numbers[numbers > 0]
    counts = _count_neighbours(known, len(vocabulary), check_size("window", window))
    vectors = _compress(_positive_pmi(counts), dim)
    vectors[0] = 0.0  # no company is known of an unknown word
    if not bool(vectors.any()):
        raise ValueError("no word keeps any company but its own; give a longer text")
    return WordVectors(vocabulary, vectors / vectors[1:].square().mean().sqrt())


def _count_neighbours(numbers: Tensor, size: int, window: int) -> Tensor:
    """Count how often two words stand near each other; a pair at distance d counts 1/d.

    Source: Pennington et al., "GloVe", 2014. Numbers have shape (length,), counts (size, size).

    >>> _count_neighbours(torch.tensor([0, 1, 0]), 2, window=2).tolist()
    [[1.0, 2.0], [2.0, 0.0]]
    """
    counts = torch.zeros(size**2, dtype=torch.float64, device=numbers.device)
    for distance in range(1, min(window, len(numbers) - 1) + 1):
        pairs = numbers[:-distance] * size + numbers[distance:]
        counts += torch.bincount(pairs, minlength=size**2) / distance
    counts = counts.view(size, size)
    return (counts + counts.T).float()


def _positive_pmi(counts: Tensor) -> Tensor:
    """Ask how much more often words meet than by chance: max(0, ln(p(a, b) / (p(a) p(b)))).

    Source: Church and Hanks, 1990; positive as in Levy and Goldberg, 2014. Nats, shape of counts.

    >>> _positive_pmi(torch.tensor([[0.0, 1.0], [1.0, 0.0]])).exp().tolist()
    [[1.0, 2.0], [2.0, 1.0]]
    """
    total, share = counts.sum(), counts.sum(1)
    by_chance = share[:, None] * share[None, :] / total.clamp(min=torch.finfo(counts.dtype).tiny)
    ratio = counts / by_chance.masked_fill(by_chance == 0, 1.0)
    # What never met would have −∞, what meets less than by chance a negative number: both give 0.
    return ratio.clamp(min=1.0).log()


def _compress(matrix: Tensor, dim: int) -> Tensor:
    """Keep the strongest directions of a symmetric matrix: U √S of its truncated SVD, (n, dim).

    Source: Levy and Goldberg, 2014, for √S.

    >>> _compress(torch.tensor([[4.0, 0.0], [0.0, 1.0]]), dim=1).tolist()
    [[2.0], [0.0]]
    """
    # A symmetric matrix's singular values are its absolute eigenvalues, which are found faster.
    eigenvalues, directions = torch.linalg.eigh(matrix)
    strongest = eigenvalues.abs().argsort(descending=True)[:dim]
    vectors = directions[:, strongest] * eigenvalues[strongest].abs().sqrt()
    # An SVD leaves the sign of each column open: its largest entry shall be positive.
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return vectors * torch.where(largest < 0, -1.0, 1.0)


def check_text(text: str) -> str:
    """Return the text if it is a string.

    >>> check_text("a")
    'a'
    """
    if not isinstance(text, str):
        raise ValueError(f"text must be a string, got {type(text).__name__}; join a list first")
    return text
