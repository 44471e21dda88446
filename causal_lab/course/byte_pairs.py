"""How a text becomes tokens: bytes, and the pairs of them that were often neighbours.

Source: Sennrich et al., "Neural machine translation of rare words with subword units", 2016, on
bytes as in Radford et al., 2019. Tests compare with the package ``tokenizers``.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from causal_lab.course.text import check_text

_DIGIT = re.compile(r"([\d²³¹¼½¾])")  # digits stand alone
_WORD = re.compile(r"'(?:[sdmt]|ll|ve|re)| ?[^\W\d_]+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")


class BytePairTokenizer:
    """Cut a text into the tokens of a GPT-2-like vocabulary.

    Args:
        tokens: by number, each byte written as one printable letter (a space is "Ġ").
        merges: pairs of tokens such as "t he", the one that is joined first in front.
        special: tokens that no text is cut into, a mark of an end for example; found whole.

    >>> tokenizer = BytePairTokenizer(["a", "b", "ab", "<end>"], ["a b"], ["<end>"])
    >>> tokenizer.encode("abba<end>").tolist(), tokenizer.decode([2, 1])
    ([2, 1, 0, 3], 'abb')
    """

    def __init__(self, tokens: Sequence[str], merges: Sequence[str], special: Sequence[str] = ()):
        self.tokens = tuple(tokens)
        self._special = frozenset(special)
        self._numbers = {token: number for number, token in enumerate(tokens)}
        self._rank = {tuple(merge.split(" ")): rank for rank, merge in enumerate(merges)}
        self._cut = re.compile("(" + "|".join(map(re.escape, special)) + ")") if special else None
        self._letters = _byte_letters()
        self._bytes = {letter: byte for byte, letter in enumerate(self._letters)}
        self._known: dict[str, list[int]] = {}  # words that were cut already

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, text: str) -> Tensor:
        """Turn a text into int64, shape (length,), on the CPU."""
        pieces = self._cut.split(check_text(text)) if self._cut else [check_text(text)]
        numbers: list[int] = []
        for place, piece in enumerate(pieces):
            if place % 2:  # between two pieces of text stands a special token
                numbers.append(self._numbers[piece])
                continue
            for word in _words(piece):
                if word not in self._known:
                    self._known[word] = self._merge(word)
                numbers += self._known[word]
        return torch.tensor(numbers, dtype=torch.int64, device="cpu")

    def decode(self, numbers: Tensor | Iterable[int]) -> str:
        """Turn numbers, shape (length,), into their text; half a letter becomes �."""
        data = b"".join(self._spell(self.tokens[int(number)]) for number in numbers)
        return data.decode(errors="replace")

    def _spell(self, token: str) -> bytes:
        if token in self._special:
            return token.encode()
        return bytes(self._bytes[letter] for letter in token)

    def _merge(self, word: str) -> list[int]:
        """Join neighbours, the pair that comes first in the list first, until none is in it."""
        parts = [self._letters[byte] for byte in word.encode()]
        while len(parts) > 1:
            ranks = [self._rank.get(pair, len(self._rank)) for pair in pairwise(parts)]
            best = min(ranks)
            if best == len(self._rank):
                break
            at = ranks.index(best)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        return [self._numbers[part] for part in parts]


def _words(text: str) -> Iterable[str]:
    for place, part in enumerate(_DIGIT.split(text)):
        yield from [part] if place % 2 else _WORD.findall(part)


def _byte_letters() -> list[str]:
    """Give GPT-2's letter for each byte: a printable one stands for itself."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    spare = iter(range(256, 512))
    return [chr(byte if byte in printable else next(spare)) for byte in range(256)]
