"""What is in a model file? A head of facts, a table of contents, and numbers in small blocks.

GGUF is the format of llama.cpp. Read here is what the course's model needs of it: format version 3,
and three ways to store numbers. The package ``gguf`` reads everything; tests compare with it.
"""

import struct
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

_NUMBERS = "BbHhIif?--Qqd"  # the kinds of a fact by number, as struct calls them
_STRING, _LIST = 8, 9  # the two that are none


class Format(NamedTuple):
    """How numbers are stored: so many in a block of so many bytes."""

    name: str
    numbers: int
    nbytes: int


FORMATS = {0: Format("F32", 1, 4), 3: Format("Q4_1", 32, 20), 8: Format("Q8_0", 32, 34)}


class Stored(NamedTuple):
    """Where a tensor stands in the file."""

    shape: tuple[int, ...]
    format: Format
    offset: int


class ModelFile:
    """A GGUF file: facts by name, and tensors by name, read when they are asked for.

    Args:
        path: of the file.

    Attributes:
        facts: dict, what the head says: sizes, tokens, the licence.
        tensors: dict of Stored, the table of contents.
    """

    def __init__(self, path: str | Path):
        self._bytes = np.memmap(path, np.uint8, "r")
        head = _Head(self._bytes)
        if bytes(self._bytes[:4]) != b"GGUF" or head.number("I", at=4) != 3:
            raise ValueError(f"{Path(path).name} is no GGUF file of version 3")
        num_tensors, num_facts = head.number("Q"), head.number("Q")
        self.facts: dict[str, Any] = {
            head.string(): head.value(head.number("I")) for _ in range(num_facts)
        }
        self.tensors: dict[str, Stored] = {}
        for _ in range(num_tensors):
            name = head.string()
            # The file names the fastest axis first.
            shape = tuple(head.number("Q") for _ in range(head.number("I")))[::-1]
            kind, offset = head.number("I"), head.number("Q")
            if kind not in FORMATS:
                raise ValueError(f"{name} is stored in a way that is not read here, number {kind}")
            self.tensors[name] = Stored(shape, FORMATS[kind], offset)
        self._start = -(-head.at // 32) * 32

    def blocks(self, name: str) -> np.ndarray:
        """Give a tensor as it is stored.

        Returns:
            uint8, shape (block, byte).
        """
        shape, how, offset = self.tensors[name]
        start = self._start + offset
        size = prod(shape) // how.numbers * how.nbytes
        return self._bytes[start : start + size].reshape(-1, how.nbytes)

    def load(self, name: str) -> Tensor:
        """Give a tensor as numbers: float32, of the tensor's shape."""
        shape, how, _ = self.tensors[name]
        numbers = _READ[how.name](self.blocks(name))
        return torch.from_numpy(numbers.reshape(shape))


class _Head:
    """Reads the beginning of the file, one thing after the other."""

    def __init__(self, data: np.ndarray):
        self.data, self.at = memoryview(data), 0

    def number(self, kind: str, at: int | None = None) -> Any:
        self.at = self.at if at is None else at
        (value,) = struct.unpack_from("<" + kind, self.data, self.at)
        self.at += struct.calcsize("<" + kind)
        return value

    def string(self) -> str:
        size = self.number("Q")
        text = bytes(self.data[self.at : self.at + size]).decode()
        self.at += size
        return text

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _LIST:
            kind, size = self.number("I"), self.number("Q")
            return [self.value(kind) for _ in range(size)]
        return self.number(_NUMBERS[kind])


def dequantize_q4_1(blocks: np.ndarray) -> np.ndarray:
    """Turn blocks of 20 bytes into 32 numbers each: 16 levels from a minimum on.

    A block holds a step and a minimum in 16 bits each, then 32 times 4 bits: the low halves of its
    16 last bytes, then the high halves.

    Args:
        blocks: uint8, shape (block, 20).

    Returns:
        float32, shape (block, 32).

    >>> block = np.array([0.5, -1.0], np.float16).view(np.uint8).tolist() + [0x20] + 15 * [0]
    >>> dequantize_q4_1(np.array([block], np.uint8))[0, [0, 1, 16]].tolist()
    [-1.0, -1.0, 0.0]
    """
    step, minimum = _half(blocks[:, :4]).T[..., None]
    levels = np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1)
    return levels * step + minimum


def dequantize_q8_0(blocks: np.ndarray) -> np.ndarray:
    """Turn blocks of 34 bytes into 32 numbers each: whole numbers times a step in 16 bits.

    Args:
        blocks: uint8, shape (block, 34).

    Returns:
        float32, shape (block, 32).

    >>> block = np.array([0.5], np.float16).view(np.uint8).tolist() + [254] + 31 * [0]
    >>> dequantize_q8_0(np.array([block], np.uint8))[0, :2].tolist()
    [-1.0, 0.0]
    """
    return blocks[:, 2:].view(np.int8) * _half(blocks[:, :2])


def _half(pairs: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pairs).view(np.float16).astype(np.float32)


_READ = {
    "F32": lambda blocks: blocks.copy().view(np.float32),
    "Q4_1": dequantize_q4_1,
    "Q8_0": dequantize_q8_0,
}
