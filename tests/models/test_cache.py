"""The cache against one full pass: every row, every way to cut a text into chunks.

Three heads, a batch that differs from the length, lengths that are no multiple of 4, every
parameter drawn at random.
"""

from functools import partial
from itertools import accumulate, pairwise

import pytest
import torch
from torch import Tensor, nn

from causal_lab.causality import check_cache
from causal_lab.masks.rules import generate_sliding_window_mask
from causal_lab.models.cache import KVCache, cache_nbytes
from causal_lab.models.generation import cached_step, decode_one_token, prefill
from causal_lab.models.sliding_cache import SlidingKVCache
from causal_lab.models.transformer import BERT, GPT
from tests import builders
from tests.builders import LAYERS, VOCABULARY, D, H, assert_close, draw_ids, randn, seeded

B, T = 2, 11  # batch, length

MAX_LENGTH = 32

build = partial(builders.build, max_length=MAX_LENGTH)

FLOATING = [torch.float16, torch.bfloat16, torch.float32, torch.float64]

NORMS = pytest.mark.parametrize("norm_first", [True, False], ids=["pre-norm", "post-norm"])

SCHEDULES = {
    "one by one": (1,) * T,
    "prefill, then one by one": (5, *(1,) * 6),
    "chunks of 2": (2, 2, 2, 2, 2, 1),
    "chunks of 3": (3, 3, 3, 2),
    "prefill, then chunks": (4, 3, 2, 2),
    "chunks longer than the windows": (6, 5),
    "one, then all": (1, 10),
    "all but one, then one": (10, 1),
}

EVERY_SCHEDULE = pytest.mark.parametrize("chunks", SCHEDULES.values(), ids=SCHEDULES)


def spans(chunks) -> list[slice]:
    return [slice(a, b) for a, b in pairwise(accumulate(chunks, initial=0))]


@torch.no_grad()
def read(model, ids, chunks, cache=None, padding=None) -> Tensor:
    """Read a text chunk by chunk; give the logits of every row."""
    cache = model.new_cache(len(ids)) if cache is None else cache
    assert sum(chunks) == ids.shape[1]
    return torch.cat(
        [
            model(ids[:, s], cache=cache, padding=None if padding is None else padding[:, s])
            for s in spans(chunks)
        ],
        dim=1,
    )


@torch.no_grad()
def read_at_once(model, ids, padding=None, blocked=None) -> Tensor:
    return model(ids, padding=padding, blocked=blocked)


def pad_on_the_left(*amounts: int, length: int = T) -> Tensor:
    return torch.arange(length) < torch.tensor(amounts)[:, None]


def cut(length: int, seed: int) -> tuple[int, ...]:
    """Cut a text into chunks at random."""
    generator, sizes = seeded(seed), []
    while length > sum(sizes):
        size = int(torch.randint(1, 6, (), generator=generator))
        sizes.append(min(size, length - sum(sizes)))
    return tuple(sizes)


# --- every row is that of one full pass


@pytest.mark.parametrize("batch", [1, 3])
@NORMS
@EVERY_SCHEDULE
def test_every_row_of_every_schedule_is_that_of_the_full_pass(chunks, norm_first, batch):
    model, ids = build(norm_first=norm_first), draw_ids(batch, T)
    assert_close(read(model, ids, chunks), read_at_once(model, ids))


@pytest.mark.parametrize("seed", range(8))
def test_so_is_every_row_of_chunks_cut_at_random(seed):
    length = 5 + 3 * seed
    model, ids = build(seed=seed), draw_ids(3, length, seed=seed)
    assert_close(read(model, ids, cut(length, seed)), read_at_once(model, ids))


@EVERY_SCHEDULE
def test_in_64_bits_they_agree_to_twelve_places(chunks):
    model, ids = build().double(), draw_ids(B, T)
    assert_close(read(model, ids, chunks), read_at_once(model, ids), 1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@EVERY_SCHEDULE
def test_in_16_bits_they_agree_as_well_as_these_can_say(chunks, dtype):
    exact, model, ids = build(), build().to(dtype), draw_ids(B, T)
    logits = read(model, ids, chunks)
    assert logits.dtype == dtype
    expected = read_at_once(exact, ids)
    limit = 30 * torch.finfo(dtype).eps * expected.abs().max()
    assert (logits.float() - expected).abs().max() < limit
    assert (logits.float()[:, 1:] - expected[:, :-1]).abs().max() > 3 * limit  # no empty promise


@pytest.mark.parametrize("amounts", [(0, 2, 5), (1, 1, 1), (10, 0, 7)], ids=str)
@NORMS
@EVERY_SCHEDULE
def test_with_padding_on_the_left_every_text_is_read_as_if_it_were_alone(
    chunks, norm_first, amounts
):
    model, ids, padding = build(norm_first=norm_first), draw_ids(3, T), pad_on_the_left(*amounts)
    logits = read(model, ids, chunks, padding=padding)
    assert logits.isfinite().all()
    assert_close(logits[~padding], read_at_once(model, ids, padding)[~padding])
    for row, amount in enumerate(amounts):
        alone = read_at_once(model, ids[row : row + 1, amount:])
        assert_close(logits[row, amount:], alone[0])


PADDED_ANYWHERE = {
    "later only": ([], [5, 6], [9]),
    "one row only": ([], [], [3, 4, 7]),
    "everywhere": ([0, 3, 4], [1, 2, 10], [0, 1, 5, 6, 9]),
    "a whole row for a while": ([], list(range(4, 9)), []),
}


@pytest.mark.parametrize("places", PADDED_ANYWHERE.values(), ids=PADDED_ANYWHERE)
@pytest.mark.parametrize("options", [{}, {"window": 3, "sinks": 1}], ids=["all", "window"])
@EVERY_SCHEDULE
def test_padding_that_comes_in_a_later_chunk_is_as_if_it_were_not_there(chunks, options, places):
    model, ids = build(), draw_ids(3, T)
    padding = torch.zeros(3, T, dtype=torch.bool)
    for row, columns in enumerate(places):
        padding[row, columns] = True
    cache = model.new_cache(3, **options)
    with torch.no_grad():  # a chunk without padding is told of none
        parts = [
            model(ids[:, s], cache=cache, padding=padding[:, s] if padding[:, s].any() else None)
            for s in spans(chunks)
        ]
    logits = torch.cat(parts, dim=1)
    for row in range(3):
        real = ~padding[row]
        blocked = generate_sliding_window_mask(int(real.sum()), **options) if options else None
        alone = read_at_once(model, ids[row : row + 1, real], blocked=blocked)
        assert_close(logits[row, real], alone[0])


def test_what_stands_in_the_padding_is_never_seen():
    model, ids, padding = build(), draw_ids(B, T), pad_on_the_left(4, 1)
    other = torch.where(padding, (ids + 1) % VOCABULARY, ids)
    for options in ({}, {"window": 3, "sinks": 1}):
        logits = [
            read(model, text, (3, 1, 2, 5), model.new_cache(B, **options), padding)
            for text in (ids, other)
        ]
        assert torch.equal(logits[0][~padding], logits[1][~padding])


def test_padding_of_nothing_is_no_padding():
    model, ids, nothing = build(), draw_ids(B, T), torch.zeros(B, T, dtype=torch.bool)
    for options in ({}, {"window": 3, "sinks": 1}):
        told, untold = (
            read(model, ids, (4, 1, 6), model.new_cache(B, **options), padding)
            for padding in (nothing, None)
        )
        assert torch.equal(told, untold)


# --- what the checker says


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@NORMS
def test_the_checker_finds_no_difference(norm_first, dtype):
    model = build(norm_first=norm_first).to(dtype)
    report = check_cache(cached_step(model), draw_ids(B, T), model)
    assert report.same is True, str(report)


class Windowed(nn.Module):
    """One full pass under a mask."""

    def __init__(self, model, blocked):
        super().__init__()
        self.model, self.mask = model, blocked

    def forward(self, ids):
        return self.model(ids, blocked=self.mask)


# --- planted bugs


class PositionsStartAnew(KVCache):
    def plan(self, current_len, padding=None):
        return super().plan(current_len)._replace(positions=torch.arange(current_len)[None])


class PositionsForgetOne(KVCache):
    def plan(self, current_len, padding=None):
        plan = super().plan(current_len)
        return plan._replace(positions=plan.positions - int(self.length > 0))


class UpperLeftMask(KVCache):
    def plan(self, current_len, padding=None):
        plan, shape = super().plan(current_len), (current_len, self.length + current_len)
        blocked = torch.ones(shape, dtype=torch.bool).triu(1)
        return plan._replace(blocked=blocked if current_len > 1 else None)


class NoMask(KVCache):
    def plan(self, current_len, padding=None):
        return super().plan(current_len)._replace(blocked=None)


class FirstRowOfTheMaskForAll(KVCache):
    def plan(self, current_len, padding=None):
        plan = super().plan(current_len)
        return plan if plan.blocked is None else plan._replace(blocked=plan.blocked[:1])


class NewestTokenBlocked(KVCache):
    def plan(self, current_len, padding=None):
        plan, shape = super().plan(current_len), (current_len, self.length + current_len)
        return plan._replace(blocked=torch.ones(shape, dtype=torch.bool).triu(self.length))


class AppendedTwice(KVCache):
    def plan(self, current_len, padding=None):
        plan = super().plan(current_len)
        return plan._replace(positions=plan.positions - self.length // 2)

    def _count_new(self):
        old, new = self.length, self._planned
        super()._count_new()
        for block in self._blocks:
            block[..., old + new : old + 2 * new, :] = block[..., old : old + new, :]
        self.length += new


class CountedOncePerLayer(KVCache):
    def _count_new(self):
        new = self._planned
        super()._count_new()
        self.length += (self.num_layers - 1) * new


class LayersShareACache(KVCache):
    def _store(self, layer, keys, values):
        return super()._store(0, keys, values)


class LayersSwapped(KVCache):
    def _count_new(self):
        super()._count_new()
        self._blocks.reverse()


class ValuesOfAnotherText(KVCache):
    def _store(self, layer, keys, values):
        seen = super()._store(layer, keys, values)
        old = seen[1][:, :, : self.length].roll(1, 0)
        return seen[0], torch.cat([old, values], dim=2)


class KeysAndValuesSwapped(KVCache):
    def _count_new(self):
        span = slice(self.length, self.length + self._planned)
        super()._count_new()
        for block in self._blocks:
            block[..., span, :] = block[..., span, :].flip(0)


class KeysStoredBeforeTheirBias(KVCache):
    def _store(self, layer, keys, values):
        seen = [part.clone() for part in super()._store(layer, keys, values)]
        bias = self.model.blocks[layer].attention.key_projection.bias.view(1, H, 1, -1)
        self._blocks[layer][0, :, :, self.length : self.length + keys.shape[2]] -= bias
        return tuple(seen)


class ChunkStoredInReverse(KVCache):
    def _count_new(self):
        span = slice(self.length, self.length + self._planned)
        super()._count_new()
        for block in self._blocks:
            block[0, ..., span, :] = block[0, ..., span, :].flip(-2)


class OnlyTheLastOfAChunkStored(KVCache):
    def _count_new(self):
        span = slice(self.length, self.length + self._planned - 1)
        super()._count_new()
        for block in self._blocks:
            block[..., span, :] = 0.0


class LastPlaceOverwritten(KVCache):
    read = 0  # tokens; `length` stops at the capacity

    def plan(self, current_len, padding=None):
        self.length = min(self.length, self.capacity - current_len)
        plan = super().plan(current_len)
        return plan._replace(positions=self.read + torch.arange(current_len)[None])

    def _count_new(self):
        self.read += self._planned
        super()._count_new()


class TextsSwappedAfterEveryStep(KVCache):
    def _count_new(self):
        super()._count_new()
        self.reorder(torch.tensor([1, 0]))


class KeptInFewerNumbers(KVCache):
    def _count_new(self):
        super()._count_new()
        for block in self._blocks:
            block[..., -1] = 0.0


def planted(kind: type[KVCache], *, needs_chunks: bool = False, **options):
    """Make a decoder with this bug in its cache."""

    def make(model):
        step = cached_step(model, **options)

        def buggy_step(chunk, cache):
            if cache is None:
                cache = model.new_cache(len(chunk), **options)
                cache.__class__, cache.model = kind, model
            return step(chunk, cache)

        return buggy_step

    return make, needs_chunks


def starts_anew(model):
    step = cached_step(model)
    return lambda chunk, cache: (step(chunk, None)[0], None)


def keeps_the_prompt_only(model):
    step = cached_step(model)

    def wrapped(chunk, state):
        cache, copies = state or (model.new_cache(len(chunk)), None)
        logits, cache = step(chunk, cache)
        if copies is None:
            copies = [block.clone() for block in cache._blocks]
        for block, copy in zip(cache._blocks, copies, strict=True):
            block.copy_(copy)
        return logits, (cache, copies)

    return wrapped


BUGS = {
    "positions start anew in every chunk": planted(PositionsStartAnew),
    "positions forget one": planted(PositionsForgetOne),
    "the mask of a chunk is aligned upper-left": planted(UpperLeftMask, needs_chunks=True),
    "no mask inside a chunk": planted(NoMask, needs_chunks=True),
    "one row of the mask for the chunk": planted(FirstRowOfTheMaskForAll, needs_chunks=True),
    "the newest token may not see itself": planted(NewestTokenBlocked),
    "appended twice": planted(AppendedTwice),
    "counted once per layer": planted(CountedOncePerLayer),
    "the cache starts anew": (starts_anew, False),
    "the cache keeps the prompt only": (keeps_the_prompt_only, False),
    "all layers share the first one's": planted(LayersShareACache),
    "layers swapped": planted(LayersSwapped),
    "values of another text": planted(ValuesOfAnotherText),
    "keys and values swapped": planted(KeysAndValuesSwapped),
    "keys stored before their bias": planted(KeysStoredBeforeTheirBias),
    "a chunk stored in reverse": planted(ChunkStoredInReverse, needs_chunks=True),
    "only the last of a chunk stored": planted(OnlyTheLastOfAChunkStored, needs_chunks=True),
    "the last place overwritten when full": planted(LastPlaceOverwritten, capacity=T - 2),
    "texts swapped after every step": planted(TextsSwappedAfterEveryStep),
    "one number of each key and value lost": planted(KeptInFewerNumbers),
}


def assert_caught(make, needs_chunks, model, full):
    report = check_cache(make(model), draw_ids(B, T), full)
    assert report.same is False, str(report)
    schedule = report.reason.split(": ")[0]
    assert report.results[schedule].same is False
    assert report.results[schedule].first_wrong_row is not None
    assert str(report).startswith(f"NOT the same: {schedule}: row")
    if needs_chunks:  # which is why one by one is not enough
        assert report.results["one by one"].same is True
        assert not schedule.startswith("one by one")
    else:
        assert report.results["one by one"].same is not True


@pytest.mark.parametrize(("make", "needs_chunks"), BUGS.values(), ids=BUGS)
def test_a_bug_planted_in_the_cache_is_caught(make, needs_chunks):
    model = build()
    assert_caught(make, needs_chunks, model, model)


@pytest.mark.parametrize("kind", [KVCache, SlidingKVCache])
def test_planting_nothing_is_not_caught(kind):
    model = build()
    sliding = kind is SlidingKVCache
    options = {"window": 3, "sinks": 1} if sliding else {}
    full = Windowed(model, generate_sliding_window_mask(T, 3, sinks=1)) if sliding else model
    make, _ = planted(kind, **options)
    assert check_cache(make(model), draw_ids(B, T), full).same is True


# --- memory


def storages(cache: KVCache) -> list[tuple[int, int]]:
    return [(b.untyped_storage().data_ptr(), b.untyped_storage().nbytes()) for b in cache._blocks]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dtype", FLOATING, ids=str)
def test_the_memory_is_taken_once_and_is_that_of_the_formula(dtype, batch):
    model, ids = build().to(dtype), draw_ids(batch, T)
    cache = model.new_cache(batch, T)
    expected = 2 * LAYERS * H * (D // H) * T * batch * torch.empty((), dtype=dtype).element_size()
    before = storages(cache)
    for t in range(T):
        with torch.no_grad():
            model(ids[:, t : t + 1], cache=cache)
        assert cache.length == t + 1
        assert cache.nbytes == expected
        assert storages(cache) == before
    assert cache_nbytes(LAYERS, H, D // H, T, batch=batch, dtype=dtype) == expected
    assert sum(nbytes for _, nbytes in before) == expected
    assert all(block.dtype == dtype for block in cache._blocks)
    assert cache.dtype == dtype
    assert cache.device == torch.device("cpu")


def test_the_formula_counts_everything_but_the_batch_and_the_dtype_by_default():
    assert cache_nbytes(3, 5, 7, 11) == 2 * 3 * 5 * 7 * 11 * 4
    assert cache_nbytes(3, 5, 7, 11, batch=13, dtype=torch.float64) == 2 * 3 * 5 * 7 * 11 * 13 * 8
    assert cache_nbytes(3, 5, 7, 11, dtype=torch.bfloat16) == 2 * 3 * 5 * 7 * 11 * 2


def new_tokens(cache: KVCache, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    shape = (2, cache.batch, cache.num_heads, n, cache.head_dim)
    pair = randn(*shape, seed=seed).to(cache.dtype)
    return pair[0], pair[1]


@pytest.mark.parametrize("n", [1, 3])
def test_what_append_gives_back_is_a_view_of_the_cache_and_holds_all_tokens(n):
    cache = KVCache(LAYERS, B, H, 8, 4)
    old = [new_tokens(cache, 2, seed=layer) for layer in range(LAYERS)]
    new = [new_tokens(cache, n, seed=10 + layer) for layer in range(LAYERS)]
    for layer in range(LAYERS):
        cache.append(layer, *old[layer])
    assert cache.length == 2
    for layer in range(LAYERS):
        seen = cache.append(layer, *new[layer])
        assert cache.length == (2 if layer + 1 < LAYERS else 2 + n)
        for part, before, after in zip(seen, old[layer], new[layer], strict=True):
            assert torch.equal(part, torch.cat([before, after], dim=2))
            storage = cache._blocks[layer].untyped_storage()
            assert part.untyped_storage().data_ptr() == storage.data_ptr()


def test_the_cache_says_in_a_line_what_it_holds():
    cache = KVCache(2, 1, 1, 4, 2)
    assert repr(cache) == "<KVCache 0 of 4 tokens, 2 layers, 128 bytes>"
    cache = SlidingKVCache(1, 1, 1, 3, 64, sinks=1)
    for _ in range(3):
        cache.append(0, *new_tokens(cache, 2))
    assert repr(cache) == "<SlidingKVCache 4 of 6 tokens kept, window 3, sinks 1, 2,048 bytes>"


# --- forgetting and reordering


KINDS = {"all": {}, "window": {"window": 3, "sinks": 1}}

EVERY_KIND = pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)

PADDED = pytest.mark.parametrize("padded", [True, False], ids=["padded", "unpadded"])


@EVERY_KIND
@PADDED
def test_after_reset_a_cache_is_as_good_as_new(options, padded):
    model, ids = build(), draw_ids(B, T)
    used, new = model.new_cache(B, **options), model.new_cache(B, **options)
    before = storages(used)
    read(model, draw_ids(B, T, seed=5), (4, 1, 6), used, pad_on_the_left(2, 5) if padded else None)
    used.plan(2)  # a pass that never ends
    used.reset()
    assert used.length == 0
    assert not options or used.positions == [[], []]
    for padding in (None, pad_on_the_left(3, 0)):
        read(model, draw_ids(B, T, seed=6)[:, :4], (4,), used)
        used.reset()
        new.reset()
        expected = read(model, ids, (4, 1, 1, 5), new, padding)
        assert torch.equal(read(model, ids, (4, 1, 1, 5), used, padding), expected)
    assert storages(used) == before


@EVERY_KIND
def test_a_single_token_needs_a_mask_only_behind_padding(options):
    model, ids, padding = build(), draw_ids(B, T), pad_on_the_left(2, 0)
    cache = model.new_cache(B, **options)
    read(model, ids, (T,), cache)
    assert cache.plan(1).blocked is None
    cache.plan(1, padding[:, :1])  # a pass that never ends
    assert cache.plan(1).blocked is None
    cache.reset()
    read(model, ids, (T,), cache, padding)
    blocked = cache.plan(1).blocked
    assert blocked.any()
    cache.reset()
    assert cache.plan(1).blocked is None


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32], ids=str)
@pytest.mark.parametrize("order", [[2, 0, 1], [1, 1, 0], [0, 0, 0], [0, 1, 2]], ids=str)
@EVERY_KIND
@PADDED
@pytest.mark.parametrize("head", [(2,), (4, 1), (6, 1, 1)], ids=str)
def test_a_reordered_cache_goes_on_as_the_reordered_texts_do(head, padded, options, order, dtype):
    length = sum(head)
    model, ids, tail = build(), draw_ids(3, length), draw_ids(3, 5, seed=2)
    padding = pad_on_the_left(0, 1, length - 1, length=length) if padded else None
    cache, order = model.new_cache(3, **options), torch.tensor(order, dtype=dtype)
    before = storages(cache)
    read(model, ids, head, cache, padding)
    cache.reorder(order)
    twin = model.new_cache(3, **options)
    read(model, ids[order.long()], head, twin, padding[order.long()] if padded else None)
    assert_close(read(model, tail, (1, 3, 1), cache), read(model, tail, (1, 3, 1), twin))
    assert storages(cache) == before
    assert cache.length == length + 5


def test_a_pass_that_was_begun_is_forgotten_when_the_texts_are_reordered():
    cache = KVCache(LAYERS, B, H, 8, 4)
    cache.append(0, *new_tokens(cache, 2))
    cache.reorder(torch.tensor([1, 0]))
    for layer in range(LAYERS):
        cache.append(layer, *new_tokens(cache, 1))
    assert cache.length == 1


# --- what goes wrong leaves everything as before


def started(options: dict, padded: bool) -> tuple[GPT, KVCache]:
    """Read five tokens."""
    model = build()
    cache = model.new_cache(B, **(options or {"capacity": 12}))
    read(
        model,
        draw_ids(B, T)[:, :5],
        (3, 1, 1),
        cache,
        (pad_on_the_left(2, 0, length=5)) if padded else None,
    )
    return model, cache


def assert_as_before(model: GPT, cache: KVCache, options: dict, padded: bool) -> None:
    """Go on in three ways, exactly as a cache to which nothing happened."""
    _, twin = started(options, padded)
    assert cache.length == twin.length == 5
    assert type(cache) is type(twin)
    ids = draw_ids(B, T, seed=3)
    assert torch.equal(
        read(model, ids[:, :6], (1, 4, 1), cache), read(model, ids[:, :6], (1, 4, 1), twin)
    )
    assert cache.length == twin.length == 11
    assert repr(cache) == repr(twin)


class Broken(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "place"),
    [
        (Broken, "blocks.0.attention_norm"),
        (KeyboardInterrupt, "blocks.0.mlp"),
        (Broken, "blocks.1.attention.value_projection"),
        (KeyboardInterrupt, "final_norm"),  # every layer has its part, and yet it is not over
        (KeyboardInterrupt, "head"),
    ],
)
@pytest.mark.parametrize("told", ["no padding", "padding"])
@pytest.mark.parametrize("n", [1, 2, 6])
@EVERY_KIND
@PADDED
def test_a_pass_that_is_broken_off_leaves_the_cache_as_before(
    padded, options, n, told, error, place
):
    model, cache = started(options, padded)
    padding = torch.zeros(B, n, dtype=torch.bool)
    padding[0, 0] = True

    def fail(*arguments):
        raise error("in the middle of the pass")

    if place == "head":
        model.product = fail
    else:
        handle = model.get_submodule(place).register_forward_pre_hook(fail)
    with torch.no_grad(), pytest.raises(error, match="in the middle"):
        model(draw_ids(B, n), cache=cache, padding=padding if told == "padding" else None)
    if place == "head":
        del model.product
    else:
        handle.remove()
    assert_as_before(model, cache, options, padded)


def call(n: int = 2, batch: int = B, **options):
    """Read a chunk with the same model or with one of other sizes."""

    def action(model, cache):
        model(draw_ids(batch, n), cache=cache, **options)

    return action


def with_model(other):
    return lambda model, cache: other()(draw_ids(B, 2), cache=cache)


def append(layer=0, n=2, *, keys=None, values=None):
    def action(model, cache):
        new = new_tokens(cache, n)
        cache.append(layer, keys(new[0]) if keys else new[0], values(new[1]) if values else new[1])

    return action


def append_twice(model, cache):
    cache.plan(1)
    cache.append(0, *new_tokens(cache, 1))
    cache.append(0, *new_tokens(cache, 1))


def append_other_lengths(model, cache):
    cache.plan(2)
    cache.append(0, *new_tokens(cache, 2))
    cache.append(1, *new_tokens(cache, 1))


@torch.enable_grad()
def with_gradients(model, cache):
    model(draw_ids(B, 2), cache=cache)


def elsewhere(part):
    return part.to("meta")


FLAGS = torch.zeros(B, 2, dtype=torch.bool)

BAD_PASSES = {
    "another batch": (call(batch=3), "cache is for 2 texts, ids bring 3; .*cache of its own"),
    "one text only": (call(batch=1), "cache is for 2 texts, ids bring 1; .*cache of its own"),
    "another dtype": (
        with_model(lambda: build().double()),
        r"torch\.float32.*, the model .*torch\.float64.*; make one with the model's own new_cache",
    ),
    "no token": (call(0), r"ids must be integers of shape \(batch, length\)"),
    "another number of layers": (
        with_model(lambda: build(num_layers=3)),
        r"\(2, 3, 4, .*, the model \(3, 3, 4, .*; make one with the model's own new_cache",
    ),
    "fewer layers": (with_model(lambda: build(num_layers=1)), r"the model \(1, 3, 4"),
    "other heads": (
        with_model(lambda: build(num_heads=2)),
        r"\(2, 3, 4, .*, the model \(2, 2, 6, .*; make one with the model's own new_cache",
    ),
    "a larger head": (with_model(lambda: build(d_model=15)), r"the model \(2, 3, 5"),
    "a BERT": (with_model(lambda: build(BERT)), "without a causal mask cannot use a cache"),
    "blocked": (
        call(blocked=torch.zeros(2, 7, dtype=torch.bool)),
        r"use new_cache\(batch, window=…\) and leave blocked out",
    ),
    "gradients": (with_gradients, r"carry gradients.*compute inside torch\.no_grad\(\)"),
    "too long for the model": (
        call(MAX_LENGTH - 4),
        "5 tokens read and 28 new ones are more than max_length=32",
    ),
    "no such token": (
        lambda model, cache: model(draw_ids(B, 2) + VOCABULARY, cache=cache),
        "ids must lie between 0 and 12",
    ),
    "no ids": (lambda model, cache: model(draw_ids(B, 2).float(), cache=cache), "must be integers"),
    "padding for one token": (call(padding=FLAGS[:, :1]), "padding must have the shape of ids"),
    "padding for all tokens": (
        call(padding=torch.zeros(B, 7, dtype=torch.bool)),
        "padding must have the shape of ids",
    ),
    "padding of numbers": (call(padding=FLAGS.float()), r"padding must be a boolean.*\.bool\(\)"),
    "a plan of nothing": (lambda m, c: c.plan(0), "current_len must be an integer of at least 1"),
    "a plan of True": (lambda m, c: c.plan(True), "current_len must be an integer of at least 1"),
    "a plan with padding for one text": (
        lambda m, c: c.plan(2, FLAGS[:1]),
        r"each of the new tokens, shape \(2, 2\) on cpu.*the cache remembers which of the old",
    ),
    "a plan with padding for old tokens": (
        lambda m, c: c.plan(2, torch.zeros(B, 7, dtype=torch.bool)),
        r"shape \(2, 2\) on cpu, whether it is padding, got \(2, 7\)",
    ),
    "a plan with padding elsewhere": (lambda m, c: c.plan(2, elsewhere(FLAGS)), "on meta"),
    "a plan with padding of numbers": (lambda m, c: c.plan(2, FLAGS.int()), r"\.bool\(\)"),
    "appended twice": (append_twice, "every layer appends once per chunk"),
    "other lengths": (append_other_lengths, "every layer of a pass stores the same tokens"),
    "no such layer": (append(2), "there is no layer 2, they go from 0 to 1"),
    "layer -1": (append(-1), "layer must be an integer of at least 0"),
    "nothing appended": (append(n=0), r"\(2, 3, at least 1, 4\), got \(2, 3, 0, 4\)"),
    "keys elsewhere": (append(keys=elsewhere), "keys came as torch.float32 on meta"),
    "values elsewhere": (append(values=elsewhere), "values came as torch.float32 on meta"),
    "values of another dtype": (append(values=Tensor.half), "values came as torch.float16 on cpu"),
    "keys without heads": (append(keys=lambda k: k[:, 0]), r"keys must have shape \(batch, head"),
    "keys not transposed": (append(keys=lambda k: k.transpose(1, 2)), "keys must have shape"),
    "a value too few": (append(values=lambda v: v[:, :, 1:]), "keys and values must be of one"),
    "keys in a list": (append(keys=Tensor.tolist), r"keys must be a tensor.*torch\.tensor\(keys"),
    "an order out of range": (
        lambda m, c: c.reorder(torch.tensor([0, 2])),
        "order must name texts from 0 to 1",
    ),
    "a negative order": (
        lambda m, c: c.reorder(torch.tensor([0, -1])),
        "order must name texts from 0 to 1",
    ),
    "an order too short": (
        lambda m, c: c.reorder(torch.tensor([0])),
        r"order must be integers of shape \(2,\), one",
    ),
    "an order of numbers": (lambda m, c: c.reorder(torch.zeros(B)), "got a torch.float32 tensor"),
    "an order of flags": (lambda m, c: c.reorder(FLAGS[:, 0]), "order must be integers"),
    "an order in a list": (lambda m, c: c.reorder([1, 0]), "order must be a tensor"),
    "an empty prompt": (
        lambda m, c: prefill(m, draw_ids(B, 0), c),
        "prompt is empty.*begin with at least one token",
    ),
    "a prompt that ends in padding": (
        lambda m, c: prefill(m, draw_ids(B, 2), c, torch.tensor([[False, True]] * B)),
        "ends in padding.*pad on the left, as pad_left does",
    ),
    "several tokens at once": (
        lambda m, c: decode_one_token(m, draw_ids(B, 2), c),
        r"one per text, shape \(batch,\), got \(2, 2\).*goes through model\(ids, cache=cache\)",
    ),
    "a token for each of three texts": (
        lambda m, c: decode_one_token(m, draw_ids(3), c),
        "cache is for 2 texts, ids bring 3",
    ),
    "a token that is a number": (lambda m, c: decode_one_token(m, 3, c), "token must be a tensor"),
}


@pytest.mark.parametrize(("action", "message"), BAD_PASSES.values(), ids=BAD_PASSES)
@EVERY_KIND
@PADDED
def test_what_does_not_fit_is_told_how_to_and_leaves_the_cache_as_before(
    padded, options, action, message
):
    model, cache = started(options, padded)
    with torch.no_grad(), pytest.raises(ValueError, match=message):
        action(model, cache)
    assert_as_before(model, cache, options, padded)


@pytest.mark.parametrize(
    "action",
    [call(8), append(n=8), lambda model, cache: cache.plan(8)],
    ids=["model", "append", "plan"],
)
@PADDED
def test_a_chunk_longer_than_the_capacity_is_refused_whole(padded, action):
    model, cache = started({}, padded)
    message = "8 new tokens do not fit: 5 of 12 places.*capacity=13 or more, or reset"
    with torch.no_grad(), pytest.raises(ValueError, match=message):
        action(model, cache)
    assert_as_before(model, cache, {}, padded)


def test_a_pass_goes_on_after_a_layer_was_told_that_it_appends_twice():
    cache, new = KVCache(LAYERS, B, H, 8, 4), partial(new_tokens, n=2)
    cache.append(0, *new(cache, seed=1))
    with pytest.raises(ValueError, match="every layer appends once per chunk"):
        cache.append(0, *new(cache, seed=2))
    cache.append(1, *new(cache, seed=3))
    assert cache.length == 2
    keys, values = cache.append(0, *new(cache, seed=4))
    for part, old, more in zip((keys, values), new(cache, seed=1), new(cache, seed=4), strict=True):
        assert torch.equal(part, torch.cat([old, more], dim=2))


def test_the_last_place_can_be_taken_and_no_further_one():
    model, cache = started({}, padded=False)
    read(model, draw_ids(B, 7), (6, 1), cache)
    with torch.no_grad(), pytest.raises(ValueError, match="12 of 12 places are taken"):
        model(draw_ids(B, 1), cache=cache)
    assert cache.length == 12


@pytest.mark.parametrize("cache", [[], ([], []), "cache", {}, torch.zeros(1)])
def test_only_a_cache_is_a_cache(cache):
    with pytest.raises(ValueError, match=r"cache must come from new_cache\(batch\)"):
        build()(draw_ids(B, T), cache=cache)


SIZES = {"num_layers": 1, "batch": 1, "num_heads": 1, "capacity": 4, "head_dim": 2}

BAD = pytest.mark.parametrize("size", [0, -1, True, 2.0, "2", None])


@pytest.mark.parametrize("name", SIZES)
@BAD
def test_the_sizes_of_a_cache_are_whole_and_positive(name, size):
    with pytest.raises(ValueError, match=f"{name} must be an integer of at least 1"):
        KVCache(**SIZES | {name: size})


@pytest.mark.parametrize("name", ["num_layers", "num_heads", "head_dim", "length", "batch"])
@BAD
def test_so_are_the_numbers_of_the_formula(name, size):
    sizes = {"num_layers": 1, "num_heads": 1, "head_dim": 2, "length": 3, "batch": 1}
    with pytest.raises(ValueError, match=f"{name} must be an integer of at least 1"):
        cache_nbytes(**sizes | {name: size})


@pytest.mark.parametrize("dtype", ["float32", None, 4])
def test_the_formula_needs_a_dtype(dtype):
    with pytest.raises(ValueError, match=r"dtype must be a torch\.dtype such as"):
        cache_nbytes(1, 1, 1, 1, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, "float32", None])
def test_a_cache_keeps_floating_numbers(dtype):
    with pytest.raises(ValueError, match="dtype must be a floating dtype such as"):
        KVCache(**SIZES, dtype=dtype)


def test_a_cache_lives_where_it_is_told_to():
    assert KVCache(**SIZES, device="meta").device.type == "meta"
    assert SlidingKVCache(1, 1, 1, 3, 2, device="meta").device.type == "meta"


def test_a_planned_pass_counts_when_it_is_committed_and_not_before():
    cache = KVCache(2, 1, 1, 4, 2)
    new = torch.ones(1, 1, 1, 2)
    cache.plan(1)
    cache.append(0, new, new)
    with pytest.raises(ValueError, match=r"layers \[1\] have not stored their part"):
        cache.commit()
    cache.append(1, new, new)
    assert cache.length == 0
    cache.commit()
    assert cache.length == 1
    with pytest.raises(ValueError, match=r"layers \[0, 1\] have not stored"):
        cache.commit()


def test_keys_have_positions_only_in_a_pass():
    cache = build(position="alibi").new_cache(2)
    with pytest.raises(ValueError, match="plan"):
        cache.key_positions  # noqa: B018
    cache.plan(3)
    assert cache.key_positions.tolist() == [[0, 1, 2]]
