"""The window of a cache against a full pass under the mask of a window."""

import pytest
import torch

from causal_lab.causality import check_cache
from causal_lab.masks.rules import generate_sliding_window_mask
from causal_lab.models.cache import KVCache, cache_nbytes
from causal_lab.models.generation import cached_step
from causal_lab.models.sliding_cache import SlidingKVCache
from tests.builders import LAYERS, D, H, assert_close, draw_ids
from tests.models.test_cache import (
    BAD,
    EVERY_SCHEDULE,
    FLOATING,
    MAX_LENGTH,
    B,
    T,
    Windowed,
    assert_caught,
    build,
    cut,
    new_tokens,
    pad_on_the_left,
    planted,
    read,
    read_at_once,
    spans,
    storages,
)

# --- a window of it


WINDOWS = pytest.mark.parametrize("window", [1, 3, 5, 20])

SINKS = pytest.mark.parametrize("sinks", [0, 1, 4])


@EVERY_SCHEDULE
@WINDOWS
@SINKS
def test_a_window_gives_the_rows_of_a_full_pass_under_the_mask_of_a_window(sinks, window, chunks):
    blocked = generate_sliding_window_mask(T, window, sinks=sinks)
    for norm_first in (True, False):
        model, ids = build(norm_first=norm_first), draw_ids(3, T)
        cache = model.new_cache(3, window=window, sinks=sinks)
        expected = read_at_once(model, ids, blocked=blocked)
        assert_close(read(model, ids, chunks, cache), expected)
        if sinks + window < T:  # else nothing is forgotten
            assert (expected - read_at_once(model, ids)).abs().max() > 1e-2


@pytest.mark.parametrize("seed", range(8))
def test_so_does_a_window_over_chunks_cut_at_random(seed):
    length, window, sinks = 14 + 2 * seed, 1 + seed, seed % 3
    model, ids = build(seed=seed), draw_ids(3, length, seed=seed)
    cache = model.new_cache(3, window=window, sinks=sinks)
    blocked = generate_sliding_window_mask(length, window, sinks=sinks)
    expected = read_at_once(model, ids, blocked=blocked)
    assert_close(read(model, ids, cut(length, seed), cache), expected)


@EVERY_SCHEDULE
@WINDOWS
@SINKS
def test_with_padding_on_the_left_each_text_has_a_window_of_its_own(sinks, window, chunks):
    amounts = (0, 2, 6)
    model, ids, padding = build(), draw_ids(3, T), pad_on_the_left(*amounts)
    cache = model.new_cache(3, window=window, sinks=sinks)
    logits = read(model, ids, chunks, cache, padding)
    assert logits.isfinite().all()
    for row, amount in enumerate(amounts):
        blocked = generate_sliding_window_mask(T - amount, window, sinks=sinks)
        alone = read_at_once(model, ids[row : row + 1, amount:], blocked=blocked)
        assert_close(logits[row, amount:], alone[0])


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@pytest.mark.parametrize(("window", "sinks"), [(1, 0), (3, 0), (3, 1), (5, 4), (20, 1)])
def test_the_checker_finds_no_difference_between_a_window_and_its_mask(window, sinks, dtype):
    model = build().to(dtype)
    blocked = generate_sliding_window_mask(T, window, sinks=sinks)
    step = cached_step(model, window=window, sinks=sinks)
    report = check_cache(step, draw_ids(B, T), Windowed(model, blocked))
    assert report.same is True, str(report)
    if dtype == torch.float32 and window + sinks < T:
        assert check_cache(step, draw_ids(B, T), model).same is False


class RingOverTheSinks(SlidingKVCache):
    def _make_plan(self, current_len, padding):
        plan = super()._make_plan(current_len, padding)
        if self._slot is not None:
            self._slot = self.length % self.capacity
        return plan


class SlotOffByOneInAChunk(SlidingKVCache):
    def _places_of(self, new):
        rows, columns, slots, positions = super()._places_of(new)
        ring = self.sinks + (positions - self.sinks + 1) % self.window
        return rows, columns, torch.where(positions < self.sinks, slots, ring), positions


class SlotOffByOneForOneToken(SlidingKVCache):
    def _make_plan(self, current_len, padding):
        plan = super()._make_plan(current_len, padding)
        if self._slot is not None and self._slot >= self.sinks:
            self._slot = self.sinks + (self._slot - self.sinks + 1) % self.window
        return plan


class SlotsForgetWhatTheyHold(SlidingKVCache):
    def _count_new(self):
        held = self._held.clone()
        super()._count_new()
        self._held = held


class OldEntriesLeftInTheMask(SlidingKVCache):
    def _make_plan(self, current_len, padding):
        plan, filled = super()._make_plan(current_len, padding), min(self.length, self.capacity)
        if plan.blocked is None:
            return plan
        asks = plan.positions[:, None, :, None]
        new = plan.positions.expand(self.batch, -1)
        held = torch.cat([self._held[:, :filled], new], dim=1)[:, None, None]
        return plan._replace(blocked=(held < 0) | (held > asks))


class ChunkOverwritesWhatItsFirstTokensNeed(SlidingKVCache):
    def _store(self, layer, keys, values):
        if self._slot is None:
            rows, columns, slots, _ = self._places
            new = torch.stack([keys, values])
            self._blocks[layer][:, rows, :, slots] = new[:, rows, :, columns]
        return super()._store(layer, keys, values)


class PositionsOfTheWindow(SlidingKVCache):
    def plan(self, current_len, padding=None):
        plan = super().plan(current_len)
        return plan._replace(positions=plan.positions.clamp_max(self.capacity - 1))


class FirstOfTheWindowForgotten(SlidingKVCache):
    def _make_plan(self, current_len, padding):
        plan = super()._make_plan(current_len, padding)
        if self.length == 0 and current_len > 1:
            self._places = tuple(part[1:] for part in self._places)
        return plan


SLIDING_BUGS = {
    "window one too large": planted(SlidingKVCache, window=4, sinks=1),
    "window one too small": planted(SlidingKVCache, window=2, sinks=1),
    "window forgotten": planted(KVCache),
    "sinks forgotten": planted(SlidingKVCache, window=3),
    "one sink too many": planted(SlidingKVCache, window=3, sinks=2),
    "the ring runs over the sinks": planted(RingOverTheSinks, window=3, sinks=1),
    "a chunk's slot off by one": planted(
        SlotOffByOneInAChunk, window=3, sinks=1, needs_chunks=True
    ),
    "one token's slot off by one": planted(SlotOffByOneForOneToken, window=3, sinks=1),
    "slots forget what they hold": planted(
        SlotsForgetWhatTheyHold, window=3, sinks=1, needs_chunks=True
    ),
    "old entries left in the mask": planted(
        OldEntriesLeftInTheMask, window=3, sinks=1, needs_chunks=True
    ),
    "a chunk overwrites what its first tokens need": planted(
        ChunkOverwritesWhatItsFirstTokensNeed, window=3, sinks=1, needs_chunks=True
    ),
    "positions of the window, not of the text": planted(PositionsOfTheWindow, window=3, sinks=1),
    "the first sink of a prompt lost": planted(
        FirstOfTheWindowForgotten, window=3, sinks=1, needs_chunks=True
    ),
}


@pytest.mark.parametrize(("make", "needs_chunks"), SLIDING_BUGS.values(), ids=SLIDING_BUGS)
def test_a_bug_planted_in_a_window_is_caught(make, needs_chunks):
    model = build()
    full = Windowed(model, generate_sliding_window_mask(T, 3, sinks=1))
    assert_caught(make, needs_chunks, model, full)


def test_a_window_needs_as_much_memory_for_a_long_text_as_for_a_short_one():
    model, ids = build(), draw_ids(B, MAX_LENGTH)
    cache = model.new_cache(B, window=5, sinks=2)
    before, sizes = storages(cache), []
    for span in spans((3, *(1,) * 20, 9)):
        with torch.no_grad():
            model(ids[:, span], cache=cache)
        sizes.append(cache.nbytes)
        assert storages(cache) == before
    assert set(sizes) == {cache_nbytes(LAYERS, H, D // H, 5 + 2, batch=B)}
    assert cache.length == MAX_LENGTH
    assert cache._held.shape == (B, 7)
    assert not cache._waiting  # of the last chunk nothing is kept a second time


def test_a_full_window_gives_back_a_view_for_a_single_token():
    cache = SlidingKVCache(1, B, H, 3, 4, sinks=1)
    for step in range(9):
        keys, values = cache.append(0, *new_tokens(cache, 1, seed=step))
        for part in (keys, values):
            assert part.shape == (B, H, min(step + 1, 4), 4)
            storage = cache._blocks[0].untyped_storage()
            assert part.untyped_storage().data_ptr() == storage.data_ptr()


@pytest.mark.parametrize("chunks", [(1,) * 12, (5, 1, 6), (2, 1, 1, 8), (12,)], ids=str)
def test_a_window_keeps_the_sinks_and_the_last_tokens_and_no_others(chunks):
    cache = SlidingKVCache(1, 1, 1, 3, 1, sinks=2)
    for span in spans(chunks):
        new = torch.arange(float(span.start), float(span.stop)).view(1, 1, -1, 1)
        cache.append(0, new, -new)
    keys, values = cache._blocks[0][:, 0, 0, :, 0]
    assert sorted(keys.tolist()) == [0, 1, 9, 10, 11]
    assert torch.equal(values, -keys)
    assert torch.equal(cache._held[0], keys.long())
    assert cache.positions == [[0, 1, 9, 10, 11]]


@pytest.mark.parametrize("n", [2, 3, 4, 5, 9])
@pytest.mark.parametrize("old", [0, 1, 4, 7])
def test_no_slot_of_a_window_is_written_twice_by_a_chunk(old, n):
    cache = SlidingKVCache(1, B, 1, 3, 1, sinks=2)
    if old:
        cache.append(0, *new_tokens(cache, old))
    cache.plan(n)
    rows, _, slots, positions = cache._places
    written = list(zip(rows.tolist(), slots.tolist(), strict=True))
    assert len(set(written)) == len(written)
    kept = {p for p in range(old, old + n) if p < 2 or p >= old + n - 3}
    assert set(positions.tolist()) == kept


@BAD
def test_a_window_holds_at_least_the_token_itself(size):
    with pytest.raises(ValueError, match="window must be an integer of at least 1"):
        SlidingKVCache(1, 1, 1, size, 2)


@pytest.mark.parametrize("sinks", [-1, True, 1.0, None])
def test_sinks_are_counted(sinks):
    with pytest.raises(ValueError, match="sinks must be an integer of at least 0"):
        SlidingKVCache(1, 1, 1, 3, 2, sinks=sinks)
