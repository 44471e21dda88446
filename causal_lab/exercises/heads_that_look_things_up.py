"""The exercises of notebook 18: find the heads that look things up, and cut one out."""

import torch
from torch import Tensor

from causal_lab.exercises.frame import Exercise, Misconception, checker


def _second_copy(weights: Tensor, n: int) -> Tensor:
    return torch.arange(weights.shape[1] - n, weights.shape[1])


def _at(weights: Tensor, queries: Tensor, back: int) -> Tensor:
    """Take the weights of some queries on the key so many places back; 0 back is their own."""
    return weights[:, queries, queries - back]


def _weights(heads: int, length: int, n: int) -> Tensor:
    """Draw causal weights; the last head mostly looks things up."""
    generator = torch.Generator().manual_seed(10 * length + n)
    scores = 2 * torch.randn(heads, length, length, generator=generator)
    place = torch.arange(length)
    scores[-1] += 4.0 * (place[:, None] - place == n - 1)
    future = torch.ones(length, length).triu(1).bool()
    return scores.masked_fill(future, -torch.inf).softmax(dim=-1).round(decimals=2)


def _block(weights: Tensor, n: int) -> Tensor:
    queries = _second_copy(weights, n)
    return weights[:, queries][:, :, queries - n + 1].mean(dim=(1, 2))


def _whole_first_copy(weights: Tensor, n: int) -> Tensor:
    length = weights.shape[1]
    return weights[:, length - n :, length - 2 * n : length - n].sum(dim=-1).mean(dim=-1)


def _hits(weights: Tensor, n: int) -> Tensor:
    queries = _second_copy(weights, n)
    return (weights[:, queries].argmax(dim=-1) == queries - n + 1).float().mean(dim=-1)


INDUCTION_SCORE = Exercise(
    name="induction_score",
    level="medium",
    minutes=7,
    solutions=[
        """
        def induction_score(weights, n):
            length = weights.shape[1]
            queries = torch.arange(length - n, length)  # the second copy
            return weights[:, queries, queries - n + 1].mean(dim=-1)
        """,
        """
        def induction_score(weights, n):
            return weights.diagonal(1 - n, 1, 2)[:, -n:].mean(dim=-1)
        """,
        """
        def induction_score(weights, n):
            length, total = weights.shape[1], torch.zeros(weights.shape[0])
            for query in range(length - n, length):
                total = total + weights[:, query, query - n + 1]
            return total / n
        """,
    ],
    cases=[
        (_weights(1, 6, 3), 3),
        (_weights(2, 5, 2), 2),
        (_weights(2, 7, 3), 3),
        (_weights(3, 9, 4), 4),
        (_weights(3, 10, 5), 5),
    ],
    misconceptions=[
        Misconception(
            "every query with every key",
            "You look from each query at the keys of all, and keep an answer each. Query i has "
            "one key, i − n + 1: index both axes at once, weights[:, queries, keys].",
            lambda weights, n: weights[:, -n:, -2 * n + 1 : weights.shape[2] - n + 1].mean(dim=-1),
        ),
        Misconception(
            "the same token",
            "You read the weight on the former occurrence itself, n back. A head that looks things "
            "up looks at what came *behind* it, last time: query − n + 1.",
            lambda weights, n: _at(weights, _second_copy(weights, n), n).mean(dim=-1),
        ),
        Misconception(
            "the token in front",
            "You read the weight on the token *in front of* the former occurrence, n + 1 back (or, "
            "below 0, at the other end). Read the one behind it: query − n + 1.",
            lambda weights, n: _at(weights, _second_copy(weights, n), n + 1).mean(dim=-1),
        ),
        Misconception(
            "the token before",
            "You read the weight on the token just before the query. Such heads there are, too. "
            "Read the token behind the former occurrence: query − n + 1.",
            lambda weights, n: _at(weights, _second_copy(weights, n), 1).mean(dim=-1),
        ),
        Misconception(
            "whole diagonal",
            "You take the whole diagonal, and so queries of the first copy, or the start token. "
            "They have no former occurrence: keep the last n queries alone.",
            lambda weights, n: weights.diagonal(1 - n, 1, 2).mean(dim=-1),
        ),
        Misconception(
            "no start token",
            "You let the second copy begin at place n. A start token moves everything by one. "
            "Count from the end: the last n queries begin at length − n.",
            lambda weights, n: _at(weights, torch.arange(n, 2 * n), n - 1).mean(dim=-1),
        ),
        Misconception(
            "from n on",
            "You take all queries from place n on. With a start token that is one too many, the "
            "last one of the first copy. Count from the end: the last n queries.",
            lambda weights, n: _at(weights, torch.arange(n, weights.shape[1]), n - 1).mean(dim=-1),
        ),
        Misconception(
            "always a start token",
            "You let the second copy begin at place n + 1, as if there always were a start token. "
            "Count from the end: the last n queries begin at length − n.",
            lambda weights, n: _at(weights, torch.arange(n + 1, 2 * n + 1), n - 1).mean(dim=-1),
        ),
        Misconception(
            "the last one left out",
            "You leave out the last query. What came behind its former occurrence is there: the "
            "first token of the second copy. Take all n.",
            lambda weights, n: _at(weights, _second_copy(weights, n)[:-1], n - 1).mean(dim=-1),
        ),
        Misconception(
            "first copy",
            "You take the first n queries. Nothing was repeated yet, so they have nothing to look "
            "up: the second copy is the *last* n.",
            lambda weights, n: _at(weights, torch.arange(n), n - 1).mean(dim=-1),
        ),
        Misconception(
            "beyond the end",
            "You reach beyond the end in every example. Axis 0 holds the heads: weights[:, "
            "queries, keys]. (If that is what you have: the last query is length − 1.)",
            lambda weights, n: weights[_second_copy(weights, n)].mean(dim=-1),
        ),
        Misconception(
            "keys from 1",
            "Your keys are 1 to n, counted from the front: that fits a text without a start token "
            "only. Count from the query: query − n + 1.",
            lambda weights, n: weights[:, -n:, 1 : n + 1].diagonal(0, 1, 2).mean(dim=-1),
        ),
        Misconception(
            "keys from 0",
            "Your keys are 0 to n − 1, counted from the front: the tokens themselves, or one in "
            "front of them. Count from the query: query − n + 1.",
            lambda weights, n: weights[:, -n:, :n].diagonal(0, 1, 2).mean(dim=-1),
        ),
        Misconception(
            "axes exchanged",
            "You read weights that lie in the future, they are 0. Are queries and keys exchanged "
            "(axis 1 is the query, axis 2 the key), or is a sign? The key is query − n + 1.",
            lambda weights, n: _at(weights.mT, _second_copy(weights, n), n - 1).mean(dim=-1),
        ),
        Misconception(
            "block",
            "You take every query with every key: a block. Each query has one key of its own. "
            "weights[:, queries, keys] with two tensors goes through them in pairs.",
            _block,
        ),
        Misconception(
            "all of the first copy",
            "You add up all that goes to the first copy. Each query has one key of its own: the "
            "one n − 1 places back.",
            _whole_first_copy,
        ),
        Misconception(
            "hits",
            "You count how often the largest weight lies there. Give the mean weight itself.",
            _hits,
        ),
        Misconception(
            "sum",
            "You add the n weights up. Take their mean, so that texts of any length compare.",
            lambda weights, n: _at(weights, _second_copy(weights, n), n - 1).sum(dim=-1),
        ),
        Misconception(
            "mean of all cells",
            "You take the mean of all cells of the matrix, and nearly all of them are 0 in yours. "
            "Divide the sum by n, the number of queries.",
            lambda weights, n: (
                _at(weights, _second_copy(weights, n), n - 1).sum(dim=-1) / weights[0].numel()
            ),
        ),
        Misconception(
            "largest of each query",
            "You take the largest weight of each query, wherever it lies. Read the one on the key "
            "query − n + 1, large or not.",
            lambda weights, n: weights[:, -n:].amax(dim=-1).mean(dim=-1),
        ),
    ],
    axes=("head",),
)


def _zero_along(heads: Tensor, axis: int, at: int) -> Tensor:
    cut = heads.clone()
    cut.select(axis, at).zero_()
    return cut


def _is_zero_along(axis: int):
    """Make a sign: something along this axis is 0 throughout, and should not be."""

    def sign(came: Tensor, due: Tensor) -> bool:
        others = [n for n in range(4) if n != axis]
        dead, right = ((x == 0).all(-1) for x in (_last(came, others), _last(due, others)))
        return came.shape == due.shape and bool((dead & ~right).any())

    return sign


def _last(x: Tensor, axes: list[int]) -> Tensor:
    return x.movedim(axes, (-3, -2, -1)).flatten(-3)


def _only(heads: Tensor, head: int) -> Tensor:
    return heads - _zero_along(heads, 1, head)


def _from_there_on(heads: Tensor, head: int) -> Tensor:
    return torch.cat([heads[:, :head], 0 * heads[:, head:]], dim=1)


def _filled(heads: Tensor, head: int, fill: Tensor | float) -> Tensor:
    cut = heads.clone()
    cut[:, head] = fill
    return cut


def _made_up_for(heads: Tensor, head: int) -> Tensor:
    num_heads = heads.shape[1]
    return _zero_along(heads, 1, head) * num_heads / (num_heads - 1)


def _with_mean(heads: Tensor, head: int) -> Tensor:
    others = torch.cat([heads[:, :head], heads[:, head + 1 :]], dim=1)
    return _filled(heads, head, others.mean(dim=1))


def _is_right_where(came: Tensor, due: Tensor, places: Tensor) -> bool:
    return came.shape == due.shape and torch.equal(came[places], due[places])


def _broadcast(heads: Tensor, head: int) -> Tensor:
    return heads * (torch.arange(heads.shape[1]) != head)


def _given(batch: int, head: int, query: int, dim: int) -> Tensor:
    """Number everything: the hundreds tell the head."""
    rest = torch.arange(1.0, 1 + batch * query * dim).reshape(batch, 1, query, dim)
    return rest + 100 * torch.arange(head)[:, None, None]


CUT_HEAD = Exercise(
    name="cut_head",
    level="easy",
    minutes=4,
    solutions=[
        """
        def cut_head(heads, head):
            cut = heads.clone()
            cut[:, head] = 0
            return cut
        """,
        """
        def cut_head(heads, head):
            others = torch.arange(heads.shape[1]) != head
            return heads * others[:, None, None]
        """,
        """
        def cut_head(heads, head):
            zero = torch.zeros_like(heads[:, :1])
            return torch.cat([heads[:, :head], zero, heads[:, head + 1 :]], dim=1)
        """,
    ],
    cases=[
        (_given(1, 2, 1, 3), 0),
        (_given(2, 3, 2, 2), 1),
        (_given(3, 5, 3, 4), 2),
        (_given(2, 6, 4, 3), 1),
        (_given(4, 3, 5, 3), 2),
    ],
    misconceptions=[
        Misconception(
            "batch axis",
            "You cut out a whole text: axis 0 is the batch. The heads stand on axis 1: [:, head].",
            lambda heads, head: _zero_along(heads, 0, head),
            _is_zero_along(0),
        ),
        Misconception(
            "query axis",
            "You cut out one query in every head. The heads stand on axis 1: [:, head].",
            lambda heads, head: _zero_along(heads, 2, head),
            _is_zero_along(2),
        ),
        Misconception(
            "dim axis",
            "You cut out one number of every vector: the last axis. The heads stand on axis 1: "
            "[:, head].",
            lambda heads, head: _zero_along(heads, 3, head),
            _is_zero_along(3),
        ),
        Misconception(
            "no axis of heads",
            "The axis of the heads is gone: you return one head, or all of them joined. Return "
            "them as they came, (batch, head, query, dim), with zeros in that one's place.",
            lambda heads, head: heads[:, head],
            lambda came, due: came.dim() == 3,
        ),
        Misconception(
            "removed",
            "You take the head out, so one axis is shorter by 1. What comes next expects all of "
            "them: keep the shape, and put zeros there.",
            lambda heads, head: torch.cat([heads[:, :head], heads[:, head + 1 :]], dim=1),
        ),
        Misconception(
            "only that one",
            "You keep that head and cut all the others. It is the other way round.",
            _only,
        ),
        Misconception(
            "from there on",
            "You cut that head and all behind it. [:, head:] is a slice; [:, head] is one head.",
            _from_there_on,
        ),
        Misconception(
            "counted from 1",
            "You cut the head in front of it (or, for head 0, the last one). Heads count from 0.",
            lambda heads, head: _zero_along(heads, 1, (head - 1) % heads.shape[1]),
        ),
        Misconception(
            "−∞",
            "You put −∞ there, as into scores before a softmax. These are what the heads *give*, "
            "and they are added up next: nothing is 0.",
            lambda heads, head: _filled(heads, head, -torch.inf),
        ),
        Misconception(
            "something else there",
            "Something else than 0 stands where that head was, a mean perhaps, or not all of it is "
            "cut. The head should give nothing, in all texts and at all places: [:, head] = 0.",
            _with_mean,
            lambda came, due: _is_right_where(came, due, due != 0),
        ),
        Misconception(
            "the others, too",
            "That head is 0, but the others change as well. Nothing has to make up for it: they "
            "should stay as they are.",
            _made_up_for,
            lambda came, due: _is_right_where(came, due, due == 0),
        ),
        Misconception(
            "broadcast along the last axis",
            "Your row of zeros and ones has one entry for each head, and it is laid along the "
            "*last* axis. Where that has another size it fails; where not, it cuts out the wrong "
            "thing. Give it two axes more: [:, None, None].",
            _broadcast,
        ),
        Misconception(
            "unchanged",
            "Nothing is cut: you return heads as it came, or the zeros go into something that is "
            "thrown away. (index_fill, masked_fill and the like give a *new* tensor.)",
            lambda heads, head: heads.clone(),
        ),
    ],
    axes=("batch", "head", "query", "dim"),
)

check = checker(INDUCTION_SCORE, CUT_HEAD)
