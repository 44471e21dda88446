"""What PyTorch's and Python's commonest errors mostly mean: a line each in errors.txt."""

import functools
import re
from importlib.resources import files


@functools.cache
def _hints() -> list[list[str]]:
    text = files(__package__).joinpath("errors.txt").read_text(encoding="utf-8")
    return [line.split(" | ") for line in text.splitlines() if not line.startswith("#")]


def hint(error: str) -> str:
    """Say what an error mostly means, and what to write; nothing if it is a rare one.

    >>> hint("NameError: name 'tork' is not defined")
    'There is no `tork` here. Is it a typing error, or a name of another cell?'
    """
    for pattern, words in _hints():
        if found := re.search(pattern, error):
            return words.format(*found.groups())
    return ""
