"""How good is a trained model at writing, at guessing, at filling in? In numbers.

Models are in eval mode. Batches have shape (batch, length) and hold token ids that the model was
not trained on; how the texts are cut into batches does not matter.
"""

import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from causal_lab.course.text import Vocabulary
from causal_lab.models.transformer import BERT, GPT, Transformer
from causal_lab.validation import check_size


@torch.no_grad()
def bits_per_token(model: GPT, batches: Sequence[Tensor]) -> float:
    """Measure how surprised a model is by the next token of a text: mean cross-entropy in bits.

    >>> model = GPT(4, 8, d_model=8, num_heads=2).eval()
    >>> bits_per_token(model, [torch.zeros(2, 8, dtype=torch.long)]) > 0
    True
    """
    _check_batches(batches)
    nats, asked = 0.0, 0
    for ids in batches:
        mean = model.loss(ids).item()
        nats += mean * ids[:, 1:].numel()
        asked += ids[:, 1:].numel()
    return nats / asked / math.log(2)


@torch.no_grad()
def bits_when_writing(
    model: Transformer, batches: Sequence[Tensor], positions: Sequence[int]
) -> float:
    """Measure how surprised a model is by a token that is really not there yet: mean bits.

    The model gets what stands before and nothing else, as when it writes: a GPT is asked for the
    next token, a BERT for a mask token put at the end.

    Args:
        positions: which tokens are asked for; from 1 on.

    >>> model = GPT(1, 8, d_model=8, num_heads=2).eval()
    >>> bits_when_writing(model, [torch.zeros(2, 8, dtype=torch.long)], positions=[3])
    0.0
    """
    _check_batches(batches)
    nats, asked = 0.0, 0
    for ids in batches:
        for position in positions:
            _check_position(position, ids)
            logits = _guess_next(model, ids[:, :position])
            right = ids[:, position].long()
            nats += cross_entropy(logits, right, reduction="sum").item()
            asked += len(ids)
    return abs(nats / asked / math.log(2))  # never −0.0


@torch.no_grad()
def fill_accuracy(model: Transformer, batches: Sequence[Tensor], positions: Sequence[int]) -> float:
    """Hide one token at a time and give the share that the model names.

    A BERT reads the sequence with the mask token in its place; a GPT reads what stands before.

    Args:
        positions: which tokens are hidden, one after the other; from 1 on.

    >>> model = BERT(1, 8, d_model=8, num_heads=2).eval()
    >>> fill_accuracy(model, [torch.zeros(2, 8, dtype=torch.long)], positions=[3])
    1.0
    """
    _check_batches(batches)
    right = []
    for ids in batches:
        for position in positions:
            _check_position(position, ids)
            guess = _guess(model, ids, position).argmax(dim=-1)
            right.append(guess == ids[:, position])
    return torch.cat(right).float().mean().item()


@torch.no_grad()
def write(
    model: Transformer,
    prompt: Tensor,
    steps: int,
    *,
    seed: int,
    temperature: float = 0.8,
) -> Tensor:
    """Let a GPT or a BERT write on, asked as in :func:`bits_when_writing`.

    When the text gets longer than the model reads, it reads the end of it.

    Args:
        prompt: integer, shape (batch, length), how the texts begin.
        temperature: below 1 prefers what is likely.

    Returns:
        shape (batch, length + steps), the prompts and what was written.

    >>> model = GPT(4, 8, d_model=8, num_heads=2).eval()
    >>> write(model, torch.zeros(2, 1, dtype=torch.long), 12, seed=0).shape
    torch.Size([2, 13])
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature!r}")
    generator = torch.Generator().manual_seed(seed)
    ids = prompt
    for _ in range(check_size("steps", steps)):
        logits = _guess_next(model, ids).float().cpu() / temperature
        # Drawn in the vocabulary's order; generation.sample, which sorts, would write other texts.
        chosen = torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)
        ids = torch.cat([ids, chosen.to(ids.device)], dim=1)
    return ids


def share_of_known_words(text: str, known: Collection[str]) -> float:
    """Say which share of a text's characters stands in real words of two letters or more.

    Who writes single letters or spaces only gets 0. The first and the last word do not count.

    >>> share_of_known_words("cut a real wrod cut", {"a", "real"}) == 4 / len("a real wrod")
    True
    """
    words = text.split(" ")[1:-1]  # those at the ends may be cut
    letters = sum(len(word) for word in words if len(word) > 1 and word in known)
    return letters / max(len(" ".join(words)), 1)


def as_text(ids: Tensor, vocabulary: Vocabulary) -> str:
    """Put characters together again, from numbers of shape (length,); an unknown one is a box.

    >>> as_text(torch.tensor([1, 2, 0]), Vocabulary.from_tokens("aab"))
    'ab□'
    """
    return "".join(char if len(char) == 1 else "□" for char in vocabulary.decode(ids.tolist()))


def _guess(model: Transformer, ids: Tensor, position: int) -> Tensor:
    """Score the token at one position without showing it, shape (batch, vocabulary)."""
    if isinstance(model, BERT):
        hidden = torch.zeros_like(ids, dtype=torch.bool)
        hidden[:, position] = True
        return model(model.hide(ids, hidden))[:, position]
    return model(ids[:, :position])[:, -1]


def _guess_next(model: Transformer, ids: Tensor) -> Tensor:
    if isinstance(model, BERT):
        read = ids[:, -(model.max_length - 1) :]
        asked = torch.full_like(ids[:, :1], model.mask_id)
        return model(torch.cat([read, asked], dim=1))[:, -1]
    return model(ids[:, -model.max_length :])[:, -1]


def _check_batches(batches: Sequence[Tensor]) -> None:
    if not len(batches):
        raise ValueError("there are no batches to measure on; give at least one")


def _check_position(position: int, ids: Tensor) -> None:
    if check_size("a position", position) >= ids.shape[1]:
        raise ValueError(f"positions must lie between 1 and {ids.shape[1] - 1}, got {position}")
