"""One small explorer of each kind, for what goes over all of them."""

import inspect

import torch

import causal_lab.explorers
from causal_lab.explorers import Explorer, MaskExplorer
from causal_lab.models.transformer import GPT

WORDS = "a model that can see the next word has nothing left to learn".split()
SYMBOLS = "abcdefghijkl"


def names() -> list[str]:
    """List all explorers of the package.

    >>> "MaskExplorer" in names()
    True
    """
    classes = inspect.getmembers(causal_lab.explorers, inspect.isclass)
    return [n for n, c in classes if issubclass(c, Explorer) and c is not Explorer]


def make(name: str) -> Explorer:
    """Make an explorer, the same in every process.

    >>> make("MaskExplorer")
    <MaskExplorer T=8>
    """
    return SMALL.get(name, getattr(causal_lab.explorers, name))()


def _writing() -> Explorer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GPT(len(SYMBOLS), 16, d_model=12, num_heads=2, num_layers=2).eval()
    prompt = torch.tensor([3, 1, 4], device="cpu")
    return causal_lab.explorers.GenerationExplorer(model, prompt, symbols=SYMBOLS, steps=8)


# Those that the defaults do not make, or not with words.
SMALL = {"MaskExplorer": lambda: MaskExplorer(tokens=WORDS), "GenerationExplorer": _writing}
