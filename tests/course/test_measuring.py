"""Every measure against a loop over single tokens, and every text that a model writes."""

import math

import pytest
import torch

from causal_lab.course.measuring import (
    as_text,
    bits_per_token,
    bits_when_writing,
    fill_accuracy,
    share_of_known_words,
    write,
)
from causal_lab.course.text import Vocabulary
from causal_lab.models.transformer import BERT, GPT

VOCABULARY, LENGTH = 7, 6
BOTH = pytest.mark.parametrize("kind", [GPT, BERT])


def build(kind, **options):
    generator = torch.Generator().manual_seed(0)
    sizes = {"d_model": 8, "num_heads": 2, "num_layers": 2}
    model = kind(VOCABULARY, LENGTH, **sizes, generator=generator, **options).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # far from even, so that nothing agrees by chance
            parameter += torch.randn(parameter.shape, generator=generator)
    return model


def texts(batch: int, length: int = LENGTH, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, VOCABULARY, (batch, length), generator=generator)


def bits(logits: list[float], right: int) -> float:
    """Compute −log₂ of the right token's share."""
    total = math.fsum(math.exp(number) for number in logits)
    return -math.log2(math.exp(logits[right]) / total)


def scores(model, *ids: int) -> list[float]:
    """Ask for what follows (GPT) or for a mask at the end (BERT), one text at a time."""
    with torch.no_grad():
        if isinstance(model, BERT):
            ids = (*ids, model.mask_id)
        return model(torch.tensor([ids]))[0, -1].tolist()


def best(numbers: list[float]) -> int:
    return max(range(len(numbers)), key=lambda number: numbers[number])


# --- values


def test_bits_per_token_is_the_mean_over_every_next_token():
    model, batches = build(GPT), [texts(3, seed=1), texts(3, seed=2)]
    wanted = [
        bits(scores(model, *text[:t]), text[t])
        for batch in batches
        for text in batch.tolist()
        for t in range(1, LENGTH)
    ]
    assert bits_per_token(model, batches) == pytest.approx(sum(wanted) / len(wanted), rel=1e-5)


@BOTH
@pytest.mark.parametrize("positions", [[1], [3, 5], [5, 2, 1]])
def test_bits_when_writing_ask_with_the_past_alone(kind, positions):
    model, batches = build(kind), [texts(3, seed=1), texts(3, seed=2)]
    wanted = [
        bits(scores(model, *text[:t]), text[t])
        for batch in batches
        for text in batch.tolist()
        for t in positions
    ]
    found = bits_when_writing(model, batches, positions)
    assert found == pytest.approx(sum(wanted) / len(wanted), rel=1e-5)


@pytest.mark.parametrize(
    "measure",
    [
        lambda batches: bits_per_token(build(GPT), batches),
        lambda batches: bits_when_writing(build(GPT), batches, [1, 4]),
        lambda batches: bits_when_writing(build(BERT), batches, [1, 4]),
        lambda batches: fill_accuracy(build(BERT), batches, [1, 4]),
    ],
)
def test_it_does_not_matter_how_texts_are_cut_into_batches(measure):
    ids = texts(10)
    whole = measure([ids])
    assert measure([ids[:1], ids[1:]]) == pytest.approx(whole, rel=1e-6)
    assert measure(list(ids[:, None])) == pytest.approx(whole, rel=1e-6)
    assert measure([ids[:1]]) != pytest.approx(whole, rel=1e-2)  # the texts differ


def test_a_longer_text_counts_for_more_tokens():
    model, long, short = build(GPT), texts(2), texts(3, length=2, seed=2)
    one, other = bits_per_token(model, [long]), bits_per_token(model, [short])
    asked = 2 * (LENGTH - 1)
    wanted = (one * asked + other * 3) / (asked + 3)
    assert bits_per_token(model, [long, short]) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("kind", [GPT, BERT])
def test_what_stands_at_and_after_a_position_does_not_change_what_is_guessed_there(kind):
    model, position = build(kind), 3
    ids = texts(4)
    changed = ids.clone()
    changed[:, position + 1 :] = 0
    one, other = (bits_when_writing(model, [text], [position]) for text in (ids, changed))
    assert one == other


def test_a_gpt_that_writes_at_every_position_is_as_surprised_as_in_one_pass():
    model, batches = build(GPT), [texts(4)]
    slowly = bits_when_writing(model, batches, range(1, LENGTH))
    assert slowly == pytest.approx(bits_per_token(model, batches), rel=1e-5)


@BOTH
@pytest.mark.parametrize("positions", [[1], [2, 4], [5]])
def test_fill_accuracy_counts_hidden_tokens_that_are_named(kind, positions):
    model, batches = build(kind), [texts(30, seed=1), texts(20, seed=2)]
    right = []
    for batch in batches:
        for text in batch.tolist():
            for t in positions:
                if kind is GPT:
                    guess = best(scores(model, *text[:t]))
                else:
                    hidden = [*text[:t], model.mask_id, *text[t + 1 :]]
                    with torch.no_grad():
                        guess = best(model(torch.tensor([hidden]))[0, t].tolist())
                right.append(guess == text[t])
    assert 0 < sum(right) < len(right)
    assert fill_accuracy(model, batches, positions) == pytest.approx(sum(right) / len(right))


@BOTH
def test_measuring_records_no_gradient_and_leaves_the_tokens_alone(kind):
    model, ids = build(kind), texts(3)
    copy = ids.clone()
    bits_when_writing(model, [ids], [2])
    fill_accuracy(model, [ids], [2])
    write(model, ids, 3, seed=0)
    if kind is GPT:
        bits_per_token(model, [ids])
    assert torch.equal(ids, copy)
    assert all(parameter.grad is None for parameter in model.parameters())


# --- writing


@BOTH
def test_the_prompt_stays_and_so_many_tokens_follow(kind):
    model, prompt = build(kind), texts(3, length=2)
    copy = prompt.clone()
    for steps in (1, 3, 9):
        text = write(model, prompt, steps, seed=0)
        assert text.shape == (3, 2 + steps)
        assert text.dtype == prompt.dtype
        assert torch.equal(text[:, :2], copy)
        assert ((text >= 0) & (text < VOCABULARY)).all()
    assert torch.equal(prompt, copy)


@BOTH
def test_the_same_seed_writes_the_same_whatever_the_global_seed(kind):
    model, prompt = build(kind), texts(8, length=1)
    written = []
    for number, seed in ((1, 0), (2, 0), (1, 7)):
        torch.manual_seed(number)
        before = torch.get_rng_state()
        written.append(write(model, prompt, 12, seed=seed, temperature=4.0))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(written[0], written[1])
    assert not torch.equal(written[0], written[2])


@BOTH
def test_near_temperature_0_the_likeliest_is_written_and_the_window_slides(kind):
    """Longer than the model reads: it reads the end, one less where the mask needs a place."""
    model, prompt = build(kind), texts(4, length=3)
    written = write(model, prompt, 3 * LENGTH, seed=0, temperature=1e-6).tolist()
    reads = LENGTH if kind is GPT else LENGTH - 1
    for text in written:
        for t in range(3, len(text)):
            assert text[t] == best(scores(model, *text[max(0, t - reads) : t]))


@BOTH
def test_a_prompt_longer_than_the_model_reads_is_kept_whole(kind):
    model, prompt = build(kind), texts(2, length=2 * LENGTH)
    text = write(model, prompt, 2, seed=0)
    assert torch.equal(text[:, : 2 * LENGTH], prompt)


def test_a_bert_is_asked_for_a_mask_at_the_end():
    model, asked = build(BERT), []
    hook = model.register_forward_hook(lambda *call: asked.append(call[1][0].tolist()))
    text = write(model, texts(2, length=3), 6, seed=0).tolist()
    hook.remove()
    assert len(asked) == 6
    for step, ids in enumerate(asked):
        for row, read in zip(text, ids, strict=True):
            assert read == [*row[: 3 + step][-(LENGTH - 1) :], model.mask_id]


def test_a_high_temperature_writes_evenly_and_a_low_one_does_not():
    model, prompt = build(GPT), torch.ones(2000, 1, dtype=torch.long)
    numbers = torch.tensor(scores(model, 1), dtype=torch.float64)
    for temperature in (0.8, 2.0, 1e6):
        text = write(model, prompt, 1, seed=0, temperature=temperature)[:, 1]
        shares = text.bincount(minlength=VOCABULARY).double() / 2000
        wanted = (numbers / temperature).exp() / (numbers / temperature).exp().sum()
        # Five standard deviations of a share drawn 2000 times.
        assert ((shares - wanted).abs() <= 5 * (wanted * (1 - wanted) / 2000).sqrt() + 1e-9).all()
    usual = write(model, prompt, 1, seed=0)
    assert torch.equal(usual, write(model, prompt, 1, seed=0, temperature=0.8))


# --- words


@pytest.mark.parametrize(
    ("text", "known", "share"),
    [
        ("", {"the"}, 0.0),
        ("the", {"the"}, 0.0),  # may be cut at both ends
        ("the the", {"the"}, 0.0),
        ("x the y", {"the"}, 1.0),
        ("x the cat y", {"the"}, 3 / 7),
        ("x the cat y", {"the", "cat"}, 6 / 7),
        ("x a b c y", {"a", "b", "c"}, 0.0),
        ("x  y", {""}, 0.0),
        ("    ", {"", " "}, 0.0),
        ("cut a real wrod cut", ["a", "real"], 4 / 11),
        ("the cat the", {"the"}, 0.0),
        ("x The y", {"the"}, 0.0),
    ],
)
def test_the_share_of_known_words_is_counted_by_hand(text, known, share):
    assert share_of_known_words(text, known) == pytest.approx(share)


def test_characters_become_a_text_and_the_unknown_one_a_box():
    vocabulary = Vocabulary.from_tokens("aab b")
    for text in ("ab ba", "", "a", "   "):
        assert as_text(vocabulary.encode(text), vocabulary) == text
    assert as_text(vocabulary.encode("a?b"), vocabulary) == "a□b"
    assert as_text(torch.tensor([0, 0]), vocabulary) == "□□"


# --- what is refused


@pytest.mark.parametrize(
    "measure",
    [
        lambda batches: bits_per_token(build(GPT), batches),
        lambda batches: bits_when_writing(build(GPT), batches, [1]),
        lambda batches: fill_accuracy(build(BERT), batches, [1]),
    ],
)
def test_without_batches_there_is_nothing_to_measure(measure):
    for batches in ([], ()):
        with pytest.raises(ValueError, match="there are no batches to measure on; give at least"):
            measure(batches)


@BOTH
@pytest.mark.parametrize("measure", [bits_when_writing, fill_accuracy])
@pytest.mark.parametrize(
    ("position", "message"),
    [
        (0, "a position must be an integer of at least 1, got 0"),
        (-1, "a position must be an integer of at least 1, got -1"),
        (1.5, "a position must be an integer"),
        (LENGTH, f"positions must lie between 1 and {LENGTH - 1}, got {LENGTH}"),
        (99, f"positions must lie between 1 and {LENGTH - 1}, got 99"),
    ],
)
def test_a_position_outside_the_text_is_refused(kind, measure, position, message):
    with pytest.raises(ValueError, match=message):
        measure(build(kind), [texts(2)], [1, position])


@pytest.mark.parametrize("temperature", [0, 0.0, -1.0, math.nan])
def test_a_temperature_is_above_0(temperature):
    with pytest.raises(ValueError, match="temperature must be above 0, got"):
        write(build(GPT), texts(1), 1, seed=0, temperature=temperature)


@pytest.mark.parametrize("steps", [0, -1, 1.5])
def test_at_least_one_step_is_written(steps):
    with pytest.raises(ValueError, match="steps must be an integer of at least 1"):
        write(build(GPT), texts(1), steps, seed=0)
