"""The exercises of notebook 07: positions, attention over a cache, and writing with it."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import one_hot, scaled_dot_product_attention

from causal_lab.attention.formula import attention
from causal_lab.exercises.frame import Exercise, Misconception, checker
from causal_lab.masks.rules import generate_causal_mask, generate_incremental_mask

CHUNK_POSITIONS = Exercise(
    name="chunk_positions",
    level="easy",
    minutes=3,
    solutions=[
        """
        def chunk_positions(past_len, current_len):
            return torch.arange(past_len, past_len + current_len)
        """,
        """
        def chunk_positions(past_len, current_len):
            return past_len + torch.arange(current_len)
        """,
    ],
    cases=[(2, 1), (2, 3), (4, 2), (0, 3)],
    misconceptions=[
        Misconception(
            "forgotten offset",
            "You start at 0 again, as if nothing had been read. Only the first chunk is right that "
            "way: behind past_len tokens, the first new one stands at past_len.",
            lambda past_len, current_len: torch.arange(current_len),
        ),
        Misconception(
            "one too late",
            "You start one too late and leave a gap. Positions count from 0: the cached tokens "
            "take 0 to past_len - 1, so past_len is the next free place.",
            lambda past_len, current_len: past_len + 1 + torch.arange(current_len),
        ),
        Misconception(
            "one too early",
            "Your first new token stands where the last cached one stands already. That one has "
            "position past_len - 1, the next free place is past_len.",
            lambda past_len, current_len: past_len - 1 + torch.arange(current_len),
        ),
        Misconception(
            "the first one for all",
            "All your tokens stand where the first new one does. As long as they come one by one "
            "you cannot see it. In a chunk, each one stands one further.",
            lambda past_len, current_len: torch.full((current_len,), past_len),
        ),
        Misconception(
            "the last one for all",
            "All your tokens stand where the last new one does. As long as they come one by one "
            "you cannot see it. In a chunk, each one stands one further.",
            lambda past_len, current_len: torch.full((current_len,), past_len + current_len - 1),
        ),
        Misconception(
            "the cached ones too",
            "You count the whole text. The cached tokens got their positions when they came: "
            "return one position for each *new* token.",
            lambda past_len, current_len: torch.arange(past_len + current_len),
        ),
        Misconception(
            "current_len as the end",
            "You hand current_len to arange as its end, but it is a number of tokens. "
            "arange(start, end) stops before end, and your end is past_len + current_len.",
            lambda past_len, current_len: torch.arange(past_len, current_len),
        ),
        Misconception(
            "stops short",
            "Your last token has no position: arange leaves its end out by itself, so do not take "
            "off another 1.",
            lambda past_len, current_len: torch.arange(past_len, past_len + current_len - 1),
        ),
        Misconception(
            "one too many",
            "You have a position more than new tokens. Count them: from past_len to "
            "past_len + current_len, both included, that is current_len + 1.",
            lambda past_len, current_len: torch.arange(past_len, past_len + current_len + 1),
        ),
    ],
)


def _attend_chunk(q: Tensor, k_new: Tensor, v_new: Tensor, k_old: Tensor, v_old: Tensor) -> Tensor:
    k, v = torch.cat([k_old, k_new]), torch.cat([v_old, v_new])
    return attention(q, k, v, generate_incremental_mask(len(k_old), len(q)))[0]


def _weights(
    q: Tensor, k: Tensor, blocked: Tensor, scale: float | None = None, dim: int = -1
) -> Tensor:
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return torch.softmax((q @ k.T * scale).masked_fill(blocked, -math.inf), dim)


def _with_mask(mask_of: Callable[[int, int], Tensor]) -> Callable:
    """Attend as is right, but with another mask for past_len and current_len."""

    def attend_chunk(q, k_new, v_new, k_old, v_old):
        blocked = mask_of(len(k_old), len(q))
        return _weights(q, torch.cat([k_old, k_new]), blocked) @ torch.cat([v_old, v_new])

    return attend_chunk


def _with_scale(scale_of: Callable[[Tensor, Tensor], float], dim: int = -1) -> Callable:
    """Attend as is right, but with another scale, or a softmax along another axis."""

    def attend_chunk(q, k_new, v_new, k_old, v_old):
        k, blocked = torch.cat([k_old, k_new]), generate_incremental_mask(len(k_old), len(q))
        return _weights(q, k, blocked, scale_of(q, k), dim) @ torch.cat([v_old, v_new])

    return attend_chunk


def _row_by_row(cached: Callable[[Tensor, Tensor, int], Tensor]) -> Callable:
    """Attend one token after the other; ``cached`` says what lies in the cache for token i."""

    def attend_chunk(q, k_new, v_new, k_old, v_old):
        rows = []
        for i in range(len(q)):
            k, v = cached(k_old, k_new, i), cached(v_old, v_new, i)
            rows.append(_weights(q[i : i + 1], k, torch.tensor(False)) @ v)
        return torch.cat(rows)

    return attend_chunk


def _triangle(past_len: int, current_len: int, diagonal: int) -> Tensor:
    return torch.ones(current_len, past_len + current_len, dtype=torch.bool).triu(diagonal)


def _stored_then_joined(q, k_new, v_new, k_old, v_old):
    k_cache, v_cache = torch.cat([k_old, k_new]), torch.cat([v_old, v_new])
    return _attend_chunk(q, k_new, v_new, k_cache, v_cache)


def _new_before_old(q, k_new, v_new, k_old, v_old):
    k, v = torch.cat([k_new, k_old]), torch.cat([v_new, v_old])
    return _weights(q, k, generate_incremental_mask(len(k_old), len(q))) @ v


def _values_forgotten(q, k_new, v_new, k_old, v_old):
    k = torch.cat([k_old, k_new])
    return _weights(q, k, generate_incremental_mask(len(k_old), len(q))) @ v_new


def _polarity_of_sdpa(q, k_new, v_new, k_old, v_old):
    k, v = torch.cat([k_old, k_new]), torch.cat([v_old, v_new])
    blocked = generate_incremental_mask(len(k_old), len(q))
    return scaled_dot_product_attention(q, k, v, attn_mask=blocked)


def _zero_score(q, k_new, v_new, k_old, v_old):
    k, v = torch.cat([k_old, k_new]), torch.cat([v_old, v_new])
    blocked = generate_incremental_mask(len(k_old), len(q))
    return torch.softmax((q @ k.T / math.sqrt(q.shape[-1])).masked_fill(blocked, 0.0), -1) @ v


def _cut_afterwards(q, k_new, v_new, k_old, v_old):
    weights = _weights(q, torch.cat([k_old, k_new]), torch.tensor(False))
    blocked = generate_incremental_mask(len(k_old), len(q))
    return weights.masked_fill(blocked, 0.0) @ torch.cat([v_old, v_new])


def _two_softmaxes(q, k_new, v_new, k_old, v_old):
    old = _weights(q, k_old, torch.tensor(False)) @ v_old
    return (old + _weights(q, k_new, generate_causal_mask(len(q))) @ v_new) / 2


def _weights_alone(q, k_new, v_new, k_old, v_old):
    blocked = generate_incremental_mask(len(k_old), len(q))
    return _weights(q, torch.cat([k_old, k_new]), blocked)


def _chunk(past_len: int, q: list, k: list) -> tuple[Tensor, ...]:
    """Make a case whose values are one-hot: the output shows the weights."""
    k, v = torch.tensor(k), torch.eye(len(k))
    return torch.tensor(q), k[past_len:], v[past_len:], k[:past_len], v[:past_len]


def _random_chunk(past_len: int, current_len: int, dim: int, seed: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(100 * seed + 10 * past_len + current_len)
    total = past_len + current_len
    shapes = ((current_len, dim), (total, dim), (total, 2))
    q, k, v = (torch.randn(shape, generator=generator).round(decimals=1) for shape in shapes)
    v = v + torch.arange(total)[:, None]
    return q, k[past_len:], v[past_len:], k[:past_len], v[:past_len]


ATTEND_CHUNK = Exercise(
    name="attend_chunk",
    level="medium",
    minutes=8,
    solutions=[
        """
        def attend_chunk(q, k_new, v_new, k_old, v_old):
            k, v = torch.cat([k_old, k_new]), torch.cat([v_old, v_new])
            blocked = torch.ones(len(q), len(k)).triu(1 + len(k_old)).bool()
            scores = (q @ k.T / q.shape[-1] ** 0.5).masked_fill(blocked, float("-inf"))
            return scores.softmax(dim=-1) @ v
        """,
        """
        def attend_chunk(q, k_new, v_new, k_old, v_old):
            rows = []
            k, v = torch.cat([k_old, k_new]), torch.cat([v_old, v_new])
            for i in range(len(q)):
                end = len(k_old) + i + 1
                scores = k[:end] @ q[i] / q.shape[-1] ** 0.5
                rows.append(scores.softmax(-1) @ v[:end])
            return torch.stack(rows)
        """,
    ],
    cases=[
        _chunk(1, [[2.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]),
        _chunk(1, [[1.0, 0.0], [0.0, 2.0]], [[1.0, 1.0], [0.0, 1.0], [1.0, 0.0]]),
        _random_chunk(2, 3, 4),
        _random_chunk(2, 3, 4, seed=1),
        _random_chunk(4, 2, 3),
        _random_chunk(0, 2, 3),
    ],
    misconceptions=[
        Misconception(
            "upper left",
            "Your mask starts at the upper left corner, as if the chunk were the start of the "
            "text: the first new token sees the first old one and nothing else. Align it lower "
            "right: triu(diagonal=1 + len(k_old)). (is_causal=True has the same fault.)",
            _with_mask(lambda past, now: _triangle(past, now, 1)),
        ),
        Misconception(
            "outputs and weights",
            "You return two things. attention gives outputs and weights; only the outputs are "
            "asked for: attention(…)[0].",
            lambda q, k_new, v_new, k_old, v_old: attention(
                q,
                torch.cat([k_old, k_new]),
                torch.cat([v_old, v_new]),
                generate_incremental_mask(len(k_old), len(q)),
            ),
        ),
        Misconception(
            "no mask",
            "Your chunk sees its own future: you hide nothing, or use the last token's mask row "
            "for all. One by one it looks right, since a single token has no future here. Compare "
            "the first row, which must give no weight to later tokens.",
            _with_mask(lambda past, now: torch.tensor(False)),
        ),
        Misconception(
            "one row for all",
            "You use the first new token's mask row for the whole chunk: the tokens behind it do "
            "not even see themselves. The mask has one row for each new token.",
            _with_mask(lambda past, now: generate_incremental_mask(past, now)[:1]),
        ),
        Misconception(
            "not stored in between",
            "Each of your new tokens sees the cache and itself, but not the new tokens before it. "
            "Store a token before the next one asks. As long as chunks have one token you cannot "
            "see it.",
            _row_by_row(lambda old, new, i: torch.cat([old, new[i : i + 1]])),
        ),
        Misconception(
            "asked before stored",
            "Your new tokens look into the old cache only. A token sees itself as well, and the "
            "new ones before it: join first, then attend.",
            _row_by_row(lambda old, new, i: old),
        ),
        Misconception(
            "stored twice",
            "You store each new token twice. The softmax takes the copy for one more token, so the "
            "new ones weigh double. Count the keys: len(k_old) + len(k_new).",
            _row_by_row(lambda old, new, i: torch.cat([old, new[: i + 1], new[: i + 1]])),
        ),
        Misconception(
            "stored twice, once as the past",
            "You store the new tokens, then join them to the cache again. The first copy passes "
            "for old, so the mask leaves it open: new tokens weigh double, and they see their "
            "future. Count the keys: len(k_old) + len(k_new).",
            _stored_then_joined,
        ),
        Misconception(
            "cache not used",
            "You attend to the new tokens only: everything read before is forgotten. Put the old "
            "keys and values before the new ones with cat.",
            lambda q, k_new, v_new, k_old, v_old: _attend_chunk(
                q, k_new, v_new, k_old[:0], v_old[:0]
            ),
        ),
        Misconception(
            "values not stored",
            "You join the keys but not the values. Each key gets a weight, and each weight needs a "
            "value: old and new ones, in the same order.",
            _values_forgotten,
        ),
        Misconception(
            "new before old",
            "You put the new tokens before the old ones. Without a mask nobody would notice, but "
            "the mask counts its columns in reading order: it hides the end, where old tokens now "
            "stand. cat([old, new]).",
            _new_before_old,
        ),
        Misconception(
            "inverted",
            "Your mask is upside down: you block what may be seen. A single token then sees "
            "nothing, and its row is NaN. Here True means blocked.",
            _with_mask(lambda past, now: ~generate_incremental_mask(past, now)),
        ),
        Misconception(
            "polarity of SDPA",
            "You hand a mask that is True where blocked to scaled_dot_product_attention, which "
            "reads True as allowed. A single token then sees nothing. Invert it: ~blocked.",
            _polarity_of_sdpa,
        ),
        Misconception(
            "own token blocked",
            "You block one diagonal too many: no token sees itself. The diagonal where a token "
            "meets itself is len(k_old); start blocking one further.",
            _with_mask(lambda past, now: _triangle(past, now, past)),
        ),
        Misconception(
            "one too open",
            "You leave one diagonal too many open: in a chunk, each token sees the next one. Start "
            "blocking at diagonal=1 + len(k_old).",
            _with_mask(lambda past, now: _triangle(past, now, past + 2)),
        ),
        Misconception(
            "square mask of the chunk",
            "Your mask knows the new tokens only, so it does not fit. The old ones need columns "
            "too: one row per new token, one column per token, old or new.",
            _with_mask(lambda past, now: generate_causal_mask(now)),
        ),
        Misconception(
            "square mask of the text",
            "Your mask has a row for every token of the text. Only the new ones ask: take its last "
            "len(q) rows.",
            _with_mask(lambda past, now: generate_causal_mask(past + now)),
        ),
        Misconception(
            "zero score",
            "You set the future's scores to 0. Notebook 01: zero is not nothing, e⁰ = 1. Fill with "
            "-math.inf.",
            _zero_score,
        ),
        Misconception(
            "cut after softmax",
            "You cut the weights after the softmax: the rows no longer sum to 1. Block before it.",
            _cut_afterwards,
        ),
        Misconception(
            "no √d",
            "You forgot to divide the scores by √d. The d is the size of a query: q.shape[-1].",
            _with_scale(lambda q, k: 1.0),
        ),
        Misconception(
            "divided by d",
            "You divide by d instead of √d: too much, the weights become nearly equal.",
            _with_scale(lambda q, k: 1 / q.shape[-1]),
        ),
        Misconception(
            "column softmax",
            "You take the softmax down the columns. Each query shares out its own weights: take it "
            "along the keys, the last axis. With a single new token all your weights are 1.",
            _with_scale(lambda q, k: q.shape[-1] ** -0.5, dim=0),
        ),
        Misconception(
            "weights alone",
            "You return the weights. One step is missing: weigh the values, old and new, with "
            "them. (In the first examples you cannot tell, since the values there are 0 and 1.)",
            _weights_alone,
        ),
        Misconception(
            "two softmaxes",
            "You take one softmax over the old keys and another over the new ones. A query shares "
            "*one* weight among all its keys: join the scores, then take the softmax.",
            _two_softmaxes,
        ),
        Misconception(
            "two softmaxes added",
            "You take one softmax over the old keys and another over the new ones, and add: the "
            "weights of a query then sum to 2. It shares *one* weight among all its keys: join the"
            " scores, then take the softmax.",
            lambda q, k_new, v_new, k_old, v_old: 2 * _two_softmaxes(q, k_new, v_new, k_old, v_old),
        ),
    ],
)


class Reader:
    """A model to write with: its next token hangs on all tokens read, and on their order.

    Its cache is the tensor of the ids that it has read.

    Args:
        vocabulary: how many tokens there are.

    >>> logits, cache = Reader(7)(torch.tensor([2, 3]), None)
    >>> logits.argmax(-1).tolist(), cache.tolist()
    ([2, 1], [2, 3])
    """

    def __init__(self, vocabulary: int):
        self.vocabulary, self.has_begun = vocabulary, False

    def __call__(self, chunk: Tensor, cache: Tensor | None) -> tuple[Tensor, Tensor]:
        """Read the ids of a chunk behind a cache; give logits (token, vocabulary) and the cache."""
        if cache is None and self.has_begun:
            raise ValueError("the text was begun already: hand step the cache that it gave you")
        self.has_begun = True
        read = chunk if cache is None else torch.cat([cache, chunk])
        weighed = (read * torch.arange(1, len(read) + 1)).cumsum(0) % self.vocabulary
        weighed = weighed[len(read) - len(chunk) :]
        return one_hot(weighed, self.vocabulary) * (2.0 + weighed[:, None] % 3), read

    def __repr__(self) -> str:
        return "step"


def _write(step: Reader, prompt: Tensor, n: int, *, row: int = -1, all_again: bool = False):
    """Write greedily; read off another row, or hand over the whole text each time."""
    ids, cache, chunk = prompt, None, prompt
    for _ in range(n):
        logits, cache = step(chunk, cache)
        chunk = logits[row].argmax(-1, keepdim=True)
        ids = torch.cat([ids, chunk])
        chunk = ids if all_again else chunk
    return ids


def _without_cache(step: Reader, prompt: Tensor, n: int) -> Tensor:
    ids = prompt
    for _ in range(n):
        ids = torch.cat([ids, step(ids, None)[0][-1].argmax(-1, keepdim=True)])
    return ids


def _prompt_again(step: Reader, prompt: Tensor, n: int) -> Tensor:
    ids, cache = prompt, None
    for _ in range(n):
        logits, cache = step(prompt, cache)
        ids = torch.cat([ids, logits[-1].argmax(-1, keepdim=True)])
    return ids


def _one_pass(step: Reader, prompt: Tensor, n: int) -> Tensor:
    newest = step(prompt, None)[0][-1].argmax(-1, keepdim=True)
    return torch.cat([prompt, newest.repeat(n)])


def _last_of_prompt_twice(step: Reader, prompt: Tensor, n: int) -> Tensor:
    _, cache = step(prompt, None)
    ids, chunk = prompt, prompt[-1:]
    for _ in range(n):
        logits, cache = step(chunk, cache)
        chunk = logits[-1].argmax(-1, keepdim=True)
        ids = torch.cat([ids, chunk])
    return ids


def _prompt_cache_only(step: Reader, prompt: Tensor, n: int) -> Tensor:
    logits, cache = step(prompt, None)
    ids = prompt
    for _ in range(n):
        ids = torch.cat([ids, logits[-1].argmax(-1, keepdim=True)])
        logits, _ = step(ids[-1:], cache)
    return ids


def _over_all(step: Reader, prompt: Tensor, n: int) -> Tensor:
    ids, cache, chunk = prompt, None, prompt
    for _ in range(n):
        logits, cache = step(chunk, cache)
        chunk = logits.argmax().reshape(1)
        ids = torch.cat([ids, chunk])
    return ids


WRITE_ON = Exercise(
    name="write_on",
    level="hard",
    minutes=8,
    solutions=[
        """
        def write_on(step, prompt, n):
            ids, cache, chunk = prompt, None, prompt
            for _ in range(n):
                logits, cache = step(chunk, cache)
                chunk = logits[-1].argmax(-1, keepdim=True)
                ids = torch.cat([ids, chunk])
            return ids
        """,
    ],
    cases=[
        (Reader(5), torch.tensor([2]), 1),
        (Reader(7), torch.tensor([2, 3]), 2),
        (Reader(7), torch.tensor([3]), 4),
        (Reader(11), torch.tensor([4, 1, 6]), 5),
        (Reader(23), torch.tensor([9, 2]), 6),
        (Reader(7), torch.tensor([3, 5]), 0),
    ],
    misconceptions=[
        Misconception(
            "all again, with the cache",
            "You hand step the whole text, and the cache holds it already: everything is read "
            "twice, at wrong positions. From the second step on, hand over the newest token alone.",
            lambda step, prompt, n: _write(step, prompt, n, all_again=True),
        ),
        Misconception(
            "no cache",
            "You begin again with an empty cache at each token and read the whole text anew. Keep "
            "the cache that step gives back, and hand it over with the newest token alone.",
            _without_cache,
        ),
        Misconception(
            "the prompt again",
            "You read the prompt in every step. What you have just written is never read, so the "
            "model does not know of it. After the prompt, the chunk is the newest token.",
            _prompt_again,
        ),
        Misconception(
            "the prompt's last token twice",
            "You read the last token of the prompt twice: with the prompt, and once more to begin "
            "with. The first pass gives its logits already: the last row.",
            _last_of_prompt_twice,
        ),
        Misconception(
            "first row",
            "You read off the first row of the logits: what should follow the *first* token of the "
            "chunk. With one token you cannot see it; of a prompt you need the last row.",
            lambda step, prompt, n: _write(step, prompt, n, row=0),
        ),
        Misconception(
            "one pass",
            "You call step once. Each new token hangs on the one before it, so it takes a step for "
            "each: read the newest, take the last row, go on.",
            _one_pass,
        ),
        Misconception(
            "the prompt left out",
            "You return the new tokens alone. The prompt belongs in front of them.",
            lambda step, prompt, n: _write(step, prompt, n)[len(prompt) :],
        ),
        Misconception(
            "one too few",
            "One token is missing at the end. The first new token comes from reading the prompt; "
            "it takes n steps for n tokens, the prompt's among them.",
            lambda step, prompt, n: _write(step, prompt, n - 1),
        ),
        Misconception(
            "one too many",
            "You write one token more than n. The step that reads the prompt gives the first one.",
            lambda step, prompt, n: _write(step, prompt, n + 1),
        ),
        Misconception(
            "cache not kept",
            "You throw away the cache that step gives back, so what you wrote is never remembered."
            " Keep the newest one: logits, cache = step(chunk, cache).",
            _prompt_cache_only,
        ),
        Misconception(
            "over all rows",
            "You take the largest number of all rows of the logits. Only the last row says what "
            "follows: logits[-1].",
            _over_all,
        ),
    ],
)

check = checker(CHUNK_POSITIONS, ATTEND_CHUNK, WRITE_ON)
