"""Rules and words that stand in text files, a line each, a bar before the sentence."""

import functools
import re
from importlib.resources import files


@functools.cache
def read(name: str) -> list[list[str]]:
    """Read a file of rules: what it is about, and the sentence.

    >>> read("relations")[0][0]
    'y = torch.full_like(y, m)'
    """
    lines = files(__package__).joinpath(f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line.rsplit(" | ", 1) for line in lines if line and not line.startswith("#")]


def hint(error: str) -> str:
    """Say what an error of Python or PyTorch mostly means; nothing if it is a rare one.

    >>> hint("NameError: name 'tork' is not defined")
    'There is no `tork` here. Is it a typing error, or a name of another cell?'
    """
    for pattern, words in read("errors"):
        if found := re.search(pattern, error):
            return words.format(*found.groups())
    return ""
