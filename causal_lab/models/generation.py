"""Writing on: read the prompt once, then one token at a time.

``prefill`` reads, ``decode_one_token`` goes one step, ``sample`` chooses; ``stream`` joins them
and gives each token as soon as it is there; ``generate`` waits for all.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from causal_lab.models.cache import KVCache
from causal_lab.models.inputs import check_inputs, check_token
from causal_lab.models.transformer import Transformer
from causal_lab.validation import (
    check_boolean,
    check_floating,
    check_size,
    check_tensor,
    describe,
)


@torch.no_grad()
def prefill(
    model: Transformer, ids: Tensor, cache: KVCache, padding: Tensor | None = None, **options
) -> Tensor | tuple[Tensor, list[Tensor]]:
    """Read the prompt in one pass, and score what may come after it (the paper, §7.3 and B.7).

    Args:
        model: causal, in eval mode.
        ids: the prompts, (batch, length).
        cache: from ``model.new_cache``; takes the prompts.
        padding: bool, (batch, length), True on padding, which must stand on the left: the last
            token of each prompt is real.
        **options: ``memory`` and ``need_weights``, as for ``model.hidden_states``.

    Returns:
        Logits of the next token, (batch, vocabulary); and the weights, if they are asked for.

    >>> from causal_lab.models import GPT
    >>> model = GPT(10, 8, d_model=8, num_heads=2).eval()
    >>> cache = model.new_cache(batch=1)
    >>> prefill(model, torch.tensor([[1, 2, 3]]), cache).shape, cache.length
    (torch.Size([1, 10]), 3)
    """
    _check_prompt(ids, padding)
    scored = model(ids, padding, cache=cache, logits="last", **options)
    return (scored[0][:, 0], scored[1]) if isinstance(scored, tuple) else scored[:, 0]


def decode_one_token(
    model: Transformer, token: Tensor, cache: KVCache, **options
) -> Tensor | tuple[Tensor, list[Tensor]]:
    """Read one more token, and score what may come after it.

    No mask is needed: the newest token may look at everything that there is.

    Args:
        token: the newest token of each text, (batch,).
        cache: holds everything before it.
        **options: as for :func:`prefill`.

    Returns:
        As :func:`prefill` does.

    >>> from causal_lab.models import GPT
    >>> model = GPT(10, 8, d_model=8, num_heads=2).eval()
    >>> cache = model.new_cache(batch=1)
    >>> decode_one_token(model, torch.tensor([1]), cache).shape, cache.length
    (torch.Size([1, 10]), 1)
    """
    if check_tensor("token", token).ndim != 1:
        raise ValueError(
            f"token must be one per text, shape (batch,), got {tuple(token.shape)}; a chunk of "
            "several goes through model(ids, cache=cache)"
        )
    return prefill(model, token[:, None], cache, **options)


def sample(
    logits: Tensor,
    *,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Choose one token per text.

    Source: Fan et al., "Hierarchical neural story generation", 2018, for top-k; Holtzman et al.,
    "The curious case of neural text degeneration", 2020, for top-p.

    Args:
        logits: (batch, vocabulary).
        temperature: below 1 prefers what is likely; without it, the likeliest is taken (greedy).
        top_k: choose among the k likeliest only.
        top_p: choose among the likeliest that together have this probability; at least one.
            Counted after ``top_k``.
        generator: on the CPU: there the numbers are drawn, so that every device draws the same.

    Returns:
        int64, (batch,), on the device of the logits.

    >>> logits = torch.tensor([[1.0, 3.0, 2.0]])
    >>> sample(logits).tolist()
    [1]
    >>> draw = torch.Generator().manual_seed(0)
    >>> {sample(logits, temperature=1.0, top_k=2, generator=draw).item() for _ in range(20)}
    {1, 2}
    """
    _check_logits(logits)
    _check_choice(temperature, top_k, top_p, generator)
    if temperature is None:
        return logits.argmax(dim=-1)
    # On the CPU, so that every device draws the same token; in 32 bits at least.
    scores = logits.detach().to("cpu", torch.promote_types(logits.dtype, torch.float32))
    scores, order = scores.sort(dim=-1, descending=True, stable=True)
    # The largest becomes 0, so that no temperature is too small to divide by.
    scores = (scores - scores[:, :1]) / max(temperature, torch.finfo(scores.dtype).tiny)
    if top_k is not None:
        scores[:, top_k:] = float("-inf")
    probabilities = scores.softmax(dim=-1)
    if top_p is not None and top_p < 1:  # at 1, rounding would cut off what is unlikely
        before = probabilities.cumsum(dim=-1) - probabilities
        probabilities = probabilities.masked_fill(before >= top_p, 0.0)
        # The likeliest stays in any case: `before` may be off by rounding.
        probabilities[:, 0] = probabilities[:, 0].clamp_min(torch.finfo(probabilities.dtype).tiny)
    place = torch.multinomial(probabilities, 1, generator=generator)
    return order.gather(1, place)[:, 0].to(logits.device)


def stream(
    model: Transformer,
    prompts: Tensor | Sequence,
    max_new_tokens: int,
    *,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
    stop_tokens: Collection[int] = (),
    pad_id: int = 0,
    padding: Tensor | None = None,
    cache: KVCache | None = None,
    **options,
) -> Iterator[Tensor]:
    """Write on, and give each token as soon as it is there.

    What does not fit is refused at the call, not later.

    Args:
        model: causal, in eval mode.
        prompts: (batch, length), or rows of ids; rows of different lengths are padded on the left.
        max_new_tokens: at most so many per text.
        temperature, top_k, top_p, generator: as for :func:`sample`; greedy without a temperature.
        stop_tokens: a text that has one of them is finished.
        pad_id: what a finished text gets, and what short prompts are padded with.
        padding: bool, (batch, length), True on the left of ``prompts``, if they are a tensor.
        cache: an empty one, a sliding one for example; one that is just large enough if not given.
        **options: as for :func:`prefill`.

    Yields:
        int64, (batch,), the next token of each text, until all are finished; with
        ``need_weights=True`` a pair of it and the weights of the pass that scored it.

    >>> from causal_lab.models import GPT
    >>> model = GPT(10, 8, d_model=8, num_heads=2).eval()
    >>> len(list(stream(model, [[1, 2], [3]], max_new_tokens=4)))
    4
    """
    ids, padding = _as_batch(prompts, padding, pad_id, model.token_embedding.weight.device)
    _check_prompt(ids, padding)
    _check_choice(temperature, top_k, top_p, generator)
    _check_ids_exist(model, {"pad_id": [pad_id], "stop_tokens": stop_tokens})
    check_inputs(model, ids, padding, None, None, None, None, None)
    _check_fits(model, ids, check_size("max_new_tokens", max_new_tokens))
    # The last token is written and never read.
    to_read = ids.shape[1] + max_new_tokens - 1
    if cache is None:
        cache = model.new_cache(len(ids), to_read)
    check_inputs(model, ids, padding, None, None, cache, None, None)
    if cache.length:
        raise ValueError(f"cache must be empty, it holds {cache.length} tokens; reset() it first")
    cache.check_room(to_read)
    choice = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "generator": generator}

    def write() -> Iterator[Tensor]:
        finished = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
        stops = torch.tensor(sorted(stop_tokens), dtype=torch.int64, device=ids.device)
        for number in range(max_new_tokens):
            if number == 0:
                scored = prefill(model, ids, cache, padding, **options)
            else:
                scored = decode_one_token(model, token, cache, **options)  # noqa: F821
            logits, *weights = scored if isinstance(scored, tuple) else (scored,)
            token = sample(logits, **choice).masked_fill(finished, pad_id)
            finished = finished | torch.isin(token, stops)
            yield (token.clone(), *weights) if weights else token.clone()
            if len(stops) and bool(finished.all()):
                return

    return write()


def generate(
    model: Transformer,
    prompts: Tensor | Sequence,
    max_new_tokens: int,
    *,
    pad_id: int = 0,
    padding: Tensor | None = None,
    **options,
) -> Tensor:
    """Write on, and give the whole texts when they are finished.

    Args:
        **options: as for :func:`stream`, and so are the others.

    Returns:
        int64, (batch, length + new): prompts, padded on the left if they are of different lengths,
        and what was written.

    >>> from causal_lab.models import GPT
    >>> model = GPT(10, 8, d_model=8, num_heads=2).eval()
    >>> generate(model, torch.tensor([[1, 2, 3]]), max_new_tokens=4).shape
    torch.Size([1, 7])
    """
    if options.get("need_weights"):
        raise ValueError("generate gives texts; stream(…, need_weights=True) gives the weights too")
    device = model.token_embedding.weight.device
    ids, padding = _as_batch(prompts, padding, pad_id, device)
    tokens = stream(model, ids, max_new_tokens, pad_id=pad_id, padding=padding, **options)
    return torch.cat([ids.long(), torch.stack(list(tokens), dim=1)], dim=1)


def pad_left(rows: Sequence, pad_id: int = 0) -> tuple[Tensor, Tensor]:
    """Put rows of different lengths into one batch, their ends below each other.

    Args:
        rows: token ids, at least one per row.
        pad_id: what stands before the shorter ones.

    Returns:
        ids, int64, (batch, length); padding, bool, alike, True where there is no token.

    >>> ids, padding = pad_left([[5, 6, 7], [8]])
    >>> ids.tolist(), padding.int().tolist()
    ([[5, 6, 7], [0, 0, 8]], [[0, 0, 0], [1, 1, 0]])
    """
    pad_id = check_size("pad_id", pad_id, minimum=0)
    if not isinstance(rows, Iterable):
        raise ValueError(f"prompts must be rows of token ids, [[5, 6], [7]] say, got {rows!r}")
    rows = [_as_row(row) for row in rows]
    if not rows:
        raise ValueError("there is no prompt; give at least one row of token ids")
    length = max(len(row) for row in rows)
    ids = torch.full((len(rows), length), pad_id)
    padding = torch.ones(len(rows), length, dtype=torch.bool)
    for number, row in enumerate(rows):
        ids[number, length - len(row) :] = row
        padding[number, length - len(row) :] = False
    return ids, padding


def cached_step(model: Transformer, **options) -> Callable:
    """Make the ``step`` that :func:`causal_lab.causality.check_cache` asks for.

    Args:
        **options: for ``model.new_cache``, a window for example.

    Returns:
        ``step(chunk, cache) -> (logits, cache)``; a cache is made when None comes.

    >>> from causal_lab.causality import check_cache
    >>> from causal_lab.models import GPT
    >>> model = GPT(10, 8, d_model=8, num_heads=2).eval()
    >>> ids = torch.randint(10, (2, 7))
    >>> check_cache(cached_step(model), ids, model).assert_same()
    <CacheReport same=True>
    """

    @torch.no_grad()
    def step(chunk: Tensor, cache: KVCache | None) -> tuple[Tensor, KVCache]:
        cache = model.new_cache(len(chunk), **options) if cache is None else cache
        return model(chunk, cache=cache), cache

    return step


def _as_batch(
    prompts: Tensor | Sequence, padding: Tensor | None, pad_id: int, device: torch.device
) -> tuple[Tensor, Tensor | None]:
    if isinstance(prompts, Tensor):
        return prompts, padding
    if padding is not None:
        raise ValueError("padding goes with prompts that are one tensor; rows are padded here")
    ids, padding = pad_left(prompts, pad_id)
    return ids.to(device), padding.to(device)


def _as_row(row: Tensor | Sequence[int]) -> Tensor:
    try:
        row = torch.as_tensor(row)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"each prompt must be a row of token ids: {error}") from error
    if row.ndim == 1 and not len(row):
        raise ValueError("a prompt is empty; begin with at least one token, a start token say")
    if row.ndim != 1 or row.dtype not in (torch.int64, torch.int32):
        raise ValueError(
            f"each prompt must be a row of token ids, got {describe(row)} of shape "
            f"{tuple(row.shape)}"
        )
    return row


def _check_prompt(ids: Tensor, padding: Tensor | None) -> None:
    if check_tensor("ids", ids).ndim == 2 and 0 in ids.shape:
        raise ValueError(
            f"the prompt is empty, shape {tuple(ids.shape)}; begin with at least one token, a "
            "start token say"
        )
    if padding is not None:
        check_boolean("padding", padding)
        if padding.shape == ids.shape and ids.ndim == 2 and bool(padding[:, -1].any()):
            raise ValueError(
                "a prompt ends in padding, and the next token would come after it; pad on the "
                "left, as pad_left does"
            )


def _check_logits(logits: Tensor) -> None:
    check_floating("logits", logits)
    if logits.ndim != 2 or 0 in logits.shape:
        raise ValueError(f"logits must have shape (batch, vocabulary), got {tuple(logits.shape)}")
    if bool(logits.isnan().any()) or not bool((logits.amax(dim=-1).isfinite()).all()):
        raise ValueError(
            "logits must hold a finite score for every text and no NaN; look for a row that saw "
            "no token, or an overflow"
        )


def _check_choice(
    temperature: float | None,
    top_k: int | None,
    top_p: float | None,
    generator: torch.Generator | None,
) -> None:
    if temperature is None and (top_k is not None or top_p is not None):
        raise ValueError(
            "top_k and top_p choose what is drawn from, and without a temperature nothing is "
            "drawn; add temperature=1.0"
        )
    if temperature is not None and not _is_between(temperature, 0, float("inf")):
        raise ValueError(
            f"temperature must be a number above 0, got {temperature!r}; leave it out to take "
            "the likeliest token"
        )
    if top_k is not None:
        check_size("top_k", top_k)
    if top_p is not None and not (_is_between(top_p, 0, 1) or top_p == 1):
        raise ValueError(f"top_p must be a probability above 0 and up to 1, got {top_p!r}")
    if generator is not None and (
        not isinstance(generator, torch.Generator) or generator.device.type != "cpu"
    ):
        raise ValueError(
            "generator must live on the CPU, so that every device draws the same: "
            "torch.Generator().manual_seed(0)"
        )


def _is_between(number: float, low: float, high: float) -> bool:
    is_number = isinstance(number, int | float) and not isinstance(number, bool)
    return is_number and low < number < high


def _check_ids_exist(model: Transformer, named: dict[str, Collection[int]]) -> None:
    vocabulary = model.token_embedding.num_embeddings
    for name, ids in named.items():
        if not isinstance(ids, Iterable):
            raise ValueError(f"{name} must be a collection of token ids such as [{ids!r}]")
        for token in ids:
            check_token(name, token, vocabulary)


def _check_fits(model: Transformer, ids: Tensor, max_new_tokens: int) -> None:
    # The last token is written and never read, so it needs no position.
    length = ids.shape[-1] + max_new_tokens - 1
    if length > model.max_length:
        raise ValueError(
            f"a prompt of {ids.shape[-1]} tokens leaves room for "
            f"{max(model.max_length - ids.shape[-1] + 1, 0)} new ones, not {max_new_tokens}: the "
            f"model reads max_length={model.max_length}"
        )
