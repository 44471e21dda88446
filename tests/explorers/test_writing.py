"""GenerationExplorer: each step against passes of the model, made a second time."""

from functools import lru_cache

import numpy as np
import pytest
import torch

from causal_lab.explorers.growing import CACHED, UNCACHED, _end_of_text
from causal_lab.explorers.writing import GenerationExplorer
from causal_lab.models import BERT, GPT, KVCache
from tests.builders import build, move, seeded

PROMPT, STEPS, SYMBOLS = [3, 1, 4, 1, 5], 6, "abcdefghijklmnop"
LAYERS, HEADS, DIM = 2, 3, 4


class WatchedCache(KVCache):
    """Shows what each layer finds in it."""

    def append(self, layer, keys, values):
        self.__dict__.setdefault("found", {})[layer] = super().append(layer, keys, values)
        return self.found[layer]


@lru_cache
def writer(position="learned"):
    return build(position=position)


def new_writing(position="learned", **options):
    options = {"symbols": SYMBOLS, "steps": STEPS} | options
    return GenerationExplorer(writer(position), torch.tensor(PROMPT), **options)


def finished_writing(position="learned"):
    explorer = new_writing(position)
    list(explorer.stream())
    return explorer


@lru_cache
def story(position="learned"):
    """Write on without the package's loop: always all tokens, always the likeliest next."""
    ids = list(PROMPT)
    with torch.no_grad():
        for _ in range(STEPS):
            ids.append(int(writer(position)(torch.tensor([ids]))[0, -1].argmax()))
    return ids


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=3e-4, atol=1e-5)


@pytest.mark.parametrize("position", ["learned", "rotary"])
@pytest.mark.parametrize("computed", [CACHED, UNCACHED])
def test_every_step_is_what_the_model_computes(position, computed):
    explorer = move(finished_writing(position), computed=computed)
    model, ids = writer(position), story(position)
    cache = WatchedCache(LAYERS, 1, HEADS, 12, DIM)
    for step in range(1, STEPS + 1):
        read = len(PROMPT) + step - 1
        with torch.no_grad():
            _, weights = model(torch.tensor([ids[:read]]), need_weights=True)
            model(torch.tensor([ids[cache.length : read]]), cache=cache)
        fresh = 1 if computed == CACHED and step > 1 else read
        for layer, head in [(0, 0), (0, 2), (1, 1)]:
            move(explorer, layer=layer, head=head, step=step)
            square, asks, keeps = explorer.picture.panels
            close(square.cells[:read, :read], weights[layer][0, head])
            assert not square.cells[read].any()
            assert square.absent.tolist() == [[row == read] * (read + 1) for row in range(read + 1)]
            assert square.blocked.tolist() == np.triu(np.ones((read + 1, read + 1)), 1).tolist()
            assert (square.rows, square.dim) == (tuple(range(read - fresh, read)), True)
            keys, values = (part[0, head].numpy() for part in cache.found[layer])
            close(keeps.boxes[0], keys)
            close(keeps.boxes[1], values)
            scores = asks.boxes[0] @ keys.T / DIM**0.5  # a query that is not the real one fails
            scores[np.triu(np.ones((read, read)), 1)[-fresh:] > 0] = -np.inf
            again = torch.tensor(scores).softmax(-1)
            np.testing.assert_allclose(again, square.cells[read - fresh : read, :read], atol=2e-3)
            assert (asks.fresh, keeps.fresh) == ((fresh,), (fresh, fresh))
            assert asks.labels == square.labels[read - fresh : read]
            assert keeps.labels == square.labels[:read]
            assert asks.room == keeps.room == len(PROMPT) + STEPS - 1
            assert np.abs(np.concatenate([*keeps.boxes, *asks.boxes])).max() <= keeps.limit
        assert square.labels == tuple(SYMBOLS[number] for number in ids[: read + 1])


@pytest.mark.parametrize(
    ("step", "computed", "caption"),
    [
        (0, CACHED, "nothing is written yet: the prompt is read in one pass, 5 rows"),
        (0, UNCACHED, "nothing is written yet: the prompt is read in one pass, 5 rows"),
        (1, CACHED, "computed 5 rows, without a cache 5; since the start 5, without a cache 5"),
        (4, CACHED, "computed 1 row, without a cache 8; since the start 8, without a cache 26"),
        (
            4,
            UNCACHED,
            "computed 8 rows, with a cache 1; since the start 26, with a cache 8; "
            "0 of 28 old weights changed, by 0.00000 at most",
        ),
    ],
)
def test_the_caption_counts_both_ways(step, computed, caption):
    explorer = move(finished_writing(), step=step, computed=computed)
    letter = SYMBOLS[story()[len(PROMPT) + step - 1]]
    assert (
        explorer.picture.caption == (f"step {step} writes “{letter}”: " if step else "") + caption
    )
    assert not explorer.picture.panels[0].frames.any()


def test_old_rows_that_do_change_are_counted_and_framed():
    class Leaky(GPT):  # its cache is sound, its own mask is not
        def plan(self, length, padding=None):
            return torch.arange(length)[None], None

    model = Leaky(16, 12, d_model=12, num_heads=3, generator=seeded()).eval()
    explorer = GenerationExplorer(model, torch.tensor(PROMPT), steps=3)
    list(explorer.stream())
    assert explorer.picture.panels[0].frames.sum() == 0  # behind the cache nothing can change
    move(explorer, computed=UNCACHED)
    assert "; 21 of 21 old weights changed, by 0." in explorer.picture.caption
    assert (explorer.picture.panels[0].frames[:6, :6] == 3).all()
    assert explorer.picture.panels[0].frames.sum() == 3 * 36


def test_the_page_follows_while_the_model_writes(monkeypatch):
    explorer = new_writing()
    compute, seen = explorer.compute, []
    monkeypatch.setattr(explorer, "compute", lambda **v: seen.append(v["step"]) or compute(**v))
    editions = [explorer._picture["edition"]]
    for number, token in enumerate(explorer.stream(), start=1):
        assert (explorer.step, explorer.written) == (number, number)
        assert explorer.picture.panels[0].labels[-1] == SYMBOLS[token]
        editions.append(explorer._picture["edition"])
        if number == 4:
            move(explorer, step=2)  # a hand that goes back is taken along by the next token
    assert [SYMBOLS.index(letter) for letter in explorer.picture.panels[0].labels] == story()
    assert seen == [0, 1, 2, 3, 4, 2, 5, 6]  # one picture per token
    assert len(set(editions)) == STEPS + 1  # what the page remembers is out of date each time
    assert explorer.limits() == {"step": (0, 6), "layer": (0, 1), "head": (0, 2)}
    assert {name: len(axis) for name, axis in explorer.GRID.items()} == {
        "computed": 2,
        "layer": 2,
        "head": 3,
        "step": 7,
    }


def test_writing_again_begins_anew_and_an_older_stream_is_told_to_stop():
    explorer = finished_writing()
    older = explorer.stream()
    assert (explorer.step, explorer.written) == (0, 0)
    next(older)
    newer = explorer.stream(temperature=9.0, generator=seeded(4))
    with pytest.raises(ValueError, match="another stream of this explorer has begun"):
        next(older)
    written = list(newer)
    assert written != story()[len(PROMPT) :]
    labels = tuple(SYMBOLS[number] for number in [*PROMPT, *written])
    assert explorer.picture.panels[0].labels == labels
    assert explorer.picture.caption.endswith("since the start 10, without a cache 45")


def test_a_stream_that_is_left_or_stopped_stays_where_it_was():
    explorer = new_writing()
    stop = story()[len(PROMPT)]
    assert list(explorer.stream(stop_tokens=[stop])) == [stop]
    assert (explorer.step, move(explorer, step=9).step) == (1, 1)
    with pytest.raises(ValueError, match="add temperature"):
        explorer.stream(top_k=3)
    assert explorer.written == 1
    assert not any(module._forward_hooks for module in explorer.model.modules())


@pytest.mark.parametrize(
    ("symbols", "labels"),
    [
        (None, ("3", "1", "4", "1", "5")),
        (list(SYMBOLS), ("d", "b", "e", "b", "f")),
        (lambda number: "  "[: number - 3], ("␣", "␣", "␣", "␣", "␣␣")),
    ],
)
def test_symbols_are_a_list_or_a_function_or_the_numbers(symbols, labels):
    assert new_writing(symbols=symbols).picture.panels[0].labels == labels


def test_the_title_is_the_end_of_the_text():
    assert _end_of_text(tuple("a␣cat")) == "a cat"
    assert _end_of_text(("a", "cat")) == "a cat"
    assert _end_of_text(("a", "\n")) == "a\\n"
    assert _end_of_text(tuple("x" * 60 + "end")) == "…" + "x" * 40 + "end"


def test_low_precision_and_a_prompt_that_fills_the_model():
    model = build().bfloat16()
    explorer = GenerationExplorer(model, torch.tensor(PROMPT), steps=7)
    assert len(list(explorer.stream())) == 7
    np.testing.assert_allclose(explorer.picture.panels[0].cells[:11].sum(-1), 1, atol=0.02)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GenerationExplorer("model", torch.tensor(PROMPT)), "must be a Transformer"),
        (lambda: GenerationExplorer(build(BERT), torch.tensor(PROMPT)), "not causal"),
        (lambda: GenerationExplorer(build().train(), torch.tensor(PROMPT)), r"call model.eval\(\)"),
        (lambda: GenerationExplorer(writer(), PROMPT), "prompt must be a tensor"),
        (lambda: GenerationExplorer(writer(), torch.tensor([PROMPT])), r"got \(1, 5\)"),
        (lambda: GenerationExplorer(writer(), torch.tensor([]).long()), r"got \(0,\)"),
        (lambda: GenerationExplorer(writer(), torch.tensor([1.5]), steps=2), "must be integers"),
        (lambda: GenerationExplorer(writer(), torch.tensor([20]), steps=2), "between 0 and 12"),
        (lambda: new_writing(steps=0), "steps must be"),
        (lambda: new_writing(steps=8), "5 tokens and 8 steps are more than .*max_length=12"),
        (lambda: new_writing(symbols="abc"), "name every token of the model, 13, got 3"),
        (lambda: new_writing().stream(cache=None), "cache cannot be given"),
    ],
)
def test_what_cannot_be_written_is_refused_at_once(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_of_a_large_model_a_record_holds_one_head_and_some_layers():
    model = build(max_length=8, num_layers=24)
    explorer = GenerationExplorer(model, torch.tensor(PROMPT), steps=2)
    move(explorer, layer=6, head=2)
    list(explorer.stream())
    assert "head" not in explorer.GRID
    assert [*explorer.GRID["layer"]] == [0, 3, 6, 9, 12, 15, 18, 21]
    assert [*finished_writing().GRID["layer"]] == [0, 1]


def test_of_64_heads_a_record_still_holds_all():
    model = build(d_model=16, num_heads=8, num_layers=8)
    grid = GenerationExplorer(model, torch.tensor(PROMPT), steps=2).GRID
    assert (len(grid["layer"]), len(grid["head"])) == (8, 8)
