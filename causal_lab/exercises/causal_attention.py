"""The exercises of notebook 05: attention in full, heads, and a probe for leaks."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from causal_lab.attention.formula import attention
from causal_lab.attention.heads import merge_heads
from causal_lab.exercises.frame import Exercise, Misconception, checker
from causal_lab.masks.rules import generate_incremental_mask


def _blocked(q: Tensor, k: Tensor) -> Tensor:
    return generate_incremental_mask(len(k) - len(q), len(q))


def _reference(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attention(q, k, v, _blocked(q, k))[0]


def _with(q: Tensor, k: Tensor, v: Tensor, blocked: Tensor | None, scale: float) -> Tensor:
    scores = q @ k.T * scale
    if blocked is not None:
        scores = scores.masked_fill(blocked, -math.inf)
    return torch.softmax(scores, -1) @ v


def _cut_afterwards(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = torch.softmax(q @ k.T / math.sqrt(q.shape[-1]), -1)
    return weights.masked_fill(_blocked(q, k), 0.0) @ v


def _by_column(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = (q @ k.T / math.sqrt(q.shape[-1])).masked_fill(_blocked(q, k), -math.inf)
    return torch.softmax(scores, 0) @ v


def _triangle(q: Tensor, k: Tensor, diagonal: int) -> Tensor:
    return torch.ones(len(q), len(k), dtype=torch.bool).triu(diagonal)


def _inputs(queries: int, keys: int, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(10 * queries + keys)
    shapes = ((queries, dim), (keys, dim), (keys, 2))
    q, k, v = (torch.randn(shape, generator=generator).round(decimals=1) for shape in shapes)
    return q, k, v + torch.arange(keys)[:, None]


def _scale(q: Tensor) -> float:
    return q.shape[-1] ** -0.5


CAUSAL_ATTENTION = Exercise(
    name="causal_attention",
    level="hard",
    minutes=10,
    solutions=[
        """
        def causal_attention(q, k, v):
            past_len = len(k) - len(q)
            blocked = torch.ones(len(q), len(k)).triu(diagonal=1 + past_len).bool()
            scores = q @ k.T / q.shape[-1] ** 0.5
            return torch.softmax(scores.masked_fill(blocked, float("-inf")), -1) @ v
        """,
        """
        def causal_attention(q, k, v):
            rows = []
            for i in range(len(q)):
                end = len(k) - len(q) + i + 1
                scores = k[:end] @ q[i] / q.shape[-1] ** 0.5
                rows.append(scores.softmax(-1) @ v[:end])
            return torch.stack(rows)
        """,
        """
        def causal_attention(q, k, v):
            places = torch.arange(len(k))
            blocked = places > (len(k) - len(q) + torch.arange(len(q)))[:, None]
            scores = (q @ k.T).masked_fill(blocked, float('-inf')) / math.sqrt(q.shape[-1])
            return scores.softmax(-1) @ v
        """,
    ],
    cases=[
        _inputs(2, 2, 3),
        _inputs(3, 3, 2),
        _inputs(4, 4, 5),
        _inputs(2, 5, 3),
        _inputs(1, 4, 2),
        (torch.eye(2) * 20, torch.tensor([[0.0, 0.0], [20.0, 0.0]]), torch.eye(2)),
    ],
    misconceptions=[
        Misconception(
            "no √d",
            "You forgot to divide the scores by √d. With long vectors the softmax would become a "
            "hard choice.",
            lambda q, k, v: _with(q, k, v, _blocked(q, k), 1.0),
        ),
        Misconception(
            "divided by d",
            "You divide by d instead of √d: too much, the weights become nearly equal.",
            lambda q, k, v: _with(q, k, v, _blocked(q, k), 1 / q.shape[-1]),
        ),
        Misconception(
            "√T",
            "You divide by the square root of the number of tokens. The d in √d is the length of a "
            "query: q.shape[-1].",
            lambda q, k, v: _with(q, k, v, _blocked(q, k), len(k) ** -0.5),
        ),
        Misconception(
            "no mask",
            "You let every query see every key: row 0 already depends on the last token.",
            lambda q, k, v: _with(q, k, v, None, _scale(q)),
        ),
        Misconception(
            "inverted",
            "You block the past and show the future: your mask is True where attention is "
            "*allowed*; here True means blocked.",
            lambda q, k, v: _with(q, k, v, ~_blocked(q, k), _scale(q)),
        ),
        Misconception(
            "polarity of SDPA",
            "You hand a mask that is True where blocked to scaled_dot_product_attention, which "
            "reads True as allowed: every token sees the future only. Invert it: ~blocked.",
            lambda q, k, v: scaled_dot_product_attention(q, k, v, attn_mask=_blocked(q, k)),
        ),
        Misconception(
            "zero score",
            "You set the future's scores to 0. Notebook 01: zero is not nothing, e⁰ = 1.",
            lambda q, k, v: (
                torch.softmax((q @ k.T * _scale(q)).masked_fill(_blocked(q, k), 0.0), -1) @ v
            ),
        ),
        Misconception(
            "0 · ∞",
            "You multiply the mask by −∞. Where it is False this gives 0 · −∞ = NaN: fill, do not "
            "multiply.",
            lambda q, k, v: torch.softmax(q @ k.T * _scale(q) + _blocked(q, k) * -math.inf, -1) @ v,
        ),
        Misconception(
            "finite fill",
            "You fill with a small negative number: the future still gets a little weight. Use −∞.",
            lambda q, k, v: (
                torch.softmax((q @ k.T * _scale(q)).masked_fill(_blocked(q, k), -10.0), -1) @ v
            ),
        ),
        Misconception(
            "weights too",
            "You return a pair. Return the output alone, without the weights.",
            lambda q, k, v: attention(q, k, v, _blocked(q, k)),
        ),
        Misconception(
            "square mask",
            "Your mask is a square, T × T. With fewer queries than keys it must have one row per "
            "query and one column per key.",
            lambda q, k, v: _with(q, k, v, _triangle(k, k, 1), _scale(q)),
        ),
        Misconception(
            "diagonal blocked",
            "You block the diagonal: no token sees itself, and a first token that sees nothing "
            "becomes NaN.",
            lambda q, k, v: _with(q, k, v, _triangle(q, k, len(k) - len(q)), _scale(q)),
        ),
        Misconception(
            "diagonal 2",
            "You leave one diagonal too many open: every query sees the next token.",
            lambda q, k, v: _with(q, k, v, _triangle(q, k, len(k) - len(q) + 2), _scale(q)),
        ),
        Misconception(
            "cut after softmax",
            "You cut the weights after the softmax: the rows no longer sum to 1.",
            _cut_afterwards,
        ),
        Misconception(
            "column softmax",
            "You take the softmax down the columns. Then the queries compete for a key, and what a "
            "later token asks changes what an earlier one gets.",
            _by_column,
        ),
        Misconception(
            "upper left",
            "Right for squares. With fewer queries than keys, your mask starts at the upper left "
            "corner, as if the queries were the first tokens. They are the last: "
            "triu(diagonal=1 + len(k) - len(q)). (is_causal=True has the same fault.)",
            lambda q, k, v: _with(q, k, v, _triangle(q, k, 1), _scale(q)),
        ),
    ],
)

_HEADS = torch.arange(2 * 3 * 4 * 2.0).reshape(2, 3, 4, 2)

MERGE_HEADS = Exercise(
    name="merge_heads",
    level="medium",
    minutes=4,
    solutions=[
        """
        def merge_heads(x):
            return x.transpose(1, 2).flatten(-2)
        """,
        """
        def merge_heads(x):
            return torch.cat([x[:, head] for head in range(x.shape[1])], -1)
        """,
        """
        def merge_heads(x):
            return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], -1)
        """,
    ],
    cases=[(torch.arange(6.0).reshape(1, 2, 3, 1),), (_HEADS[:1, :2, :3],), (_HEADS,)],
    misconceptions=[
        Misconception(
            "no transpose",
            "You reshape without moving the heads behind the sequence. The shape is right, but "
            "each output row mixes different positions, the future among them.",
            lambda x: x.reshape(x.shape[0], x.shape[2], -1),
        ),
        Misconception(
            "interleaved",
            "You put the entries of the heads in turn instead of head after head: the output "
            "projection expects head 0 first, in one piece.",
            lambda x: x.permute(0, 2, 3, 1).flatten(-2),
        ),
        Misconception(
            "averaged",
            "You average the heads. They are put side by side, so that each keeps what it found.",
            lambda x: x.mean(1),
        ),
        Misconception(
            "summed",
            "You add the heads up. They are put side by side, so that each keeps what it found.",
            lambda x: x.sum(1),
        ),
        Misconception(
            "heads in reverse",
            "Your heads stand in reverse order: head 0 comes first.",
            lambda x: merge_heads(x.flip(1)),
        ),
    ],
)


def causal_mean(x: Tensor) -> Tensor:
    """Average the past: causal.

    Args:
        x: shape (T, dim).

    Returns:
        shape (T, dim), row t averages the rows 0 to t.

    >>> causal_mean(torch.tensor([[2.0], [4.0]])).tolist()
    [[2.0], [3.0]]
    """
    return x.cumsum(0) / torch.arange(1, len(x) + 1)[:, None]


def full_mean(x: Tensor) -> Tensor:
    """Average everything: not causal.

    Args:
        x: shape (T, dim).

    Returns:
        shape (T, dim), every row is the average of all rows.

    >>> full_mean(torch.tensor([[2.0], [4.0]])).tolist()
    [[3.0], [3.0]]
    """
    return x.mean(0, keepdim=True).expand_as(x)


def peek_at_next(x: Tensor) -> Tensor:
    """Copy the next token: a leak of a single step.

    Args:
        x: shape (T, dim).

    Returns:
        shape (T, dim), row t is row t + 1, the last row is row 0.

    >>> peek_at_next(torch.tensor([[2.0], [4.0]])).tolist()
    [[4.0], [2.0]]
    """
    return x.roll(-1, 0)


def turn_second_entry(x: Tensor) -> Tensor:
    """Turn the sign of the second entry: where one entry goes up, the other goes down.

    Args:
        x: shape (T, 2).

    Returns:
        shape (T, 2), the same tokens, the second entry times −1.

    >>> turn_second_entry(torch.tensor([[2.0, 3.0]])).tolist()
    [[2.0, -3.0]]
    """
    return x * torch.tensor([1.0, -1.0])


def drop_first_entry(x: Tensor) -> Tensor:
    """Keep the second entry only: an output may move in a single entry.

    Args:
        x: shape (T, 2).

    Returns:
        shape (T, 2), the same tokens, the first entry 0.

    >>> drop_first_entry(torch.tensor([[2.0, 3.0]])).tolist()
    [[0.0, 3.0]]
    """
    return x * torch.tensor([0.0, 1.0])


def step_from_last(x: Tensor) -> Tensor:
    """Subtract the token before: nothing moves where both move alike.

    Args:
        x: shape (T, dim).

    Returns:
        shape (T, dim), row t is row t minus row t − 1; row 0 stays.

    >>> step_from_last(torch.tensor([[2.0], [5.0]])).tolist()
    [[2.0], [3.0]]
    """
    return torch.cat([x[:1], x[1:] - x[:-1]])


def whisper(x: Tensor) -> Tensor:
    """Add a thousandth of the next token: a small leak.

    Args:
        x: shape (T, dim).

    Returns:
        shape (T, dim), the last row as it was.

    >>> whisper(torch.tensor([[0.0], [2000.0]])).tolist()
    [[2.0], [2000.0]]
    """
    return torch.cat([x[:-1] + x[1:] / 1000, x[-1:]])


def _changed(attend: Callable, x: Tensor, j: int) -> Tensor:
    changed = x.clone()
    changed[j] += 1.0
    return attend(changed)


def _moved(attend: Callable, x: Tensor, j: int) -> Tensor:
    return (_changed(attend, x, j) != attend(x)).any(-1)


def _in_place(attend: Callable, x: Tensor, j: int) -> Tensor:
    changed = x
    changed[j] += 1.0
    return (attend(changed) != attend(x)).any(-1)


def _from_there_on(attend: Callable, x: Tensor, j: int) -> Tensor:
    changed = x.clone()
    changed[j:] += 1.0
    return (attend(changed) != attend(x)).any(-1)


def _set_to_one(attend: Callable, x: Tensor, j: int) -> Tensor:
    changed = x.clone()
    changed[j] = 1.0
    return (attend(changed) != attend(x)).any(-1)


def _only_before(attend: Callable, x: Tensor, j: int) -> Tensor:
    moved = _moved(attend, x, j)
    moved[j:] = False
    return moved


_X = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0]])

WHAT_MOVED = Exercise(
    name="what_moved",
    level="hard",
    minutes=8,
    solutions=[
        """
        def what_moved(attend, x, j):
            changed = x.clone()
            changed[j] += 1
            return (attend(changed) != attend(x)).any(-1)
        """,
        """
        def what_moved(attend, x, j):
            changed = x.clone()
            changed[j] = changed[j] + 1
            return (attend(changed) - attend(x)).abs().sum(-1) > 0
        """,
    ],
    cases=[
        (causal_mean, _X[:2], 0),
        (causal_mean, _X[:2], 1),
        (full_mean, _X[:2], 1),
        (peek_at_next, _X, 1),
        (step_from_last, _X, 1),
        (turn_second_entry, _X, 1),
        (drop_first_entry, _X, 1),
        (causal_mean, _X, 1),
        (full_mean, _X, 0),
        (causal_mean, torch.ones(4, 2), 2),
        (whisper, _X, 2),
    ],
    misconceptions=[
        Misconception(
            "changed in place",
            "You change x itself, so that both runs see the same tokens and nothing moves. Work on "
            "a copy: x.clone().",
            _in_place,
        ),
        Misconception(
            "stayed",
            "You return True where the output stayed the same. The question is what moved.",
            lambda attend, x, j: ~_moved(attend, x, j),
        ),
        Misconception(
            "all or nothing",
            "You say for all positions at once whether something moved. Keep one answer per "
            "position: .any(-1), not .any().",
            lambda attend, x, j: _moved(attend, x, j).any().expand(len(x)),
        ),
        Misconception(
            "everything after changed",
            "You change all tokens from j on. Change token j alone, or you cannot say whose doing "
            "it was.",
            _from_there_on,
        ),
        Misconception(
            "everything changed",
            "You change every token, or an entry of every token. x[j] is one row: change it alone.",
            lambda attend, x, j: (attend(x + 1) != attend(x)).any(-1),
        ),
        Misconception(
            "all entries",
            "You ask for *every* entry of an output to move. One is enough: .any(-1).",
            lambda attend, x, j: (_changed(attend, x, j) != attend(x)).all(-1),
        ),
        Misconception(
            "signs cancel",
            "You add up the differences, or look only for growth. A move downwards is a move too: "
            "compare with !=, or take abs first.",
            lambda attend, x, j: (_changed(attend, x, j) - attend(x)).sum(-1) > 0,
        ),
        Misconception(
            "only the past",
            "You report only positions before j, as if nothing else could move. Report what you "
            "see; whether it is a leak is the next question.",
            _only_before,
        ),
        Misconception(
            "set to 1",
            "You set the token to 1 instead of adding 1: a token that is 1 already does not move.",
            _set_to_one,
        ),
        Misconception(
            "small moves pass",
            "You let small moves pass. A small leak is a leak: compare with != 0.",
            lambda attend, x, j: ((_changed(attend, x, j) - attend(x)).abs() > 0.1).any(-1),
        ),
    ],
)

check = checker(CAUSAL_ATTENTION, MERGE_HEADS, WHAT_MOVED)
