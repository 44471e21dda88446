"""Good input passes a check untouched; bad input is told what was needed and how to mend it."""

import re

import numpy as np
import pytest
import torch

from causal_lab.validation import (
    check_axis,
    check_blocked,
    check_boolean,
    check_fits,
    check_floating,
    check_same_device,
    check_same_dtype,
    check_size,
    check_tensor,
    describe,
)

MASK = torch.tensor([[True, False]])
FLOATS = torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("call", "given"),
    [
        (lambda: check_boolean("blocked", MASK), MASK),
        (lambda: check_floating("scores", FLOATS), FLOATS),
        (lambda: check_axis("scores", FLOATS, -2), FLOATS),
        (lambda: check_axis("scores", FLOATS, 1), FLOATS),
        (lambda: check_blocked(MASK, torch.zeros(3, 2)), MASK),
        (lambda: check_fits("bias", FLOATS, torch.zeros(4, 2, 3)), FLOATS),
        (lambda: check_same_device("k", FLOATS, "q", MASK), FLOATS),
        (lambda: check_same_dtype("k", FLOATS, "q", torch.zeros(1)), FLOATS),
        (lambda: check_tensor("x", MASK), MASK),
    ],
)
def test_a_check_returns_the_very_tensor_it_was_given(call, given):
    assert call() is given


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_floating_dtype_is_floating(dtype):
    tensor = torch.zeros(1, dtype=dtype)
    assert check_floating("scores", tensor) is tensor


# --- sizes


@pytest.mark.parametrize("size", [1, 7, np.int64(7), np.uint8(7), torch.tensor(7)])
def test_whole_numbers_of_python_numpy_and_torch_become_a_plain_int(size):
    whole = check_size("T", size)
    assert type(whole) is int
    assert whole == int(size)


@pytest.mark.parametrize(
    "size", [0, -1, np.int64(-3), True, False, np.True_, 2.0, float("nan"), "2", None, [2], (1, 2)]
)
def test_no_boolean_fraction_word_or_negative_number_is_a_size(size):
    with pytest.raises(ValueError, match="T must be an integer of at least 1, got"):
        check_size("T", size)


def test_a_boolean_tensor_is_no_size_either():
    with pytest.raises(ValueError, match="T must be an integer of at least 1, got"):
        check_size("T", torch.tensor(True))


def test_the_minimum_of_a_size_is_allowed_and_named():
    assert check_size("past_len", 0, minimum=0) == 0
    with pytest.raises(ValueError, match="past_len must be an integer of at least 0, got -1"):
        check_size("past_len", -1, minimum=0)


# --- dtypes


@pytest.mark.parametrize(
    "mask",
    [
        torch.zeros(2),
        torch.zeros(2, dtype=torch.uint8),
        torch.zeros(2, dtype=torch.int64),
        np.zeros(2, dtype=bool),
        [True, False],
        True,
        None,
    ],
)
def test_a_mask_that_is_no_boolean_tensor_is_told_how_to_become_one(mask):
    message = "seen must be a boolean tensor.*" + re.escape(".bool()") + ".*from_additive"
    with pytest.raises(ValueError, match=message):
        check_boolean("seen", mask)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(2, dtype=torch.int64),
        torch.zeros(2, dtype=torch.bool),
        torch.zeros(2, dtype=torch.complex64),
        np.zeros(2),
        [0.0, 1.0],
        1.0,
        None,
    ],
)
def test_scores_that_are_no_floating_tensor_are_told_how_to_become_one(tensor):
    message = "scores must be a floating tensor.*" + re.escape(".float()")
    with pytest.raises(ValueError, match=message):
        check_floating("scores", tensor)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_tensor_of_another_precision_is_told_how_to_convert(dtype):
    message = f"k has dtype {dtype}, q has torch.float32; convert it with k.to(torch.float32)"
    with pytest.raises(ValueError, match=re.escape(message)):
        check_same_dtype("k", FLOATS.to(dtype), "q", FLOATS)


@pytest.mark.parametrize("tensor", [FLOATS.int(), MASK, [0.0], None])
def test_integers_agree_with_nothing_floating(tensor):
    with pytest.raises(ValueError, match=r"k must be a floating tensor.*\.float\(\)"):
        check_same_dtype("k", tensor, "q", tensor if isinstance(tensor, torch.Tensor) else FLOATS)


@pytest.mark.parametrize("value", [[0.0], (1,), 1.0, np.zeros(2), None, "x"])
def test_what_is_no_tensor_is_told_how_to_become_one(value):
    message = rf"x must be a tensor, got {type(value).__name__}; try torch\.tensor\(x\)"
    with pytest.raises(ValueError, match=message):
        check_tensor("x", value)


# --- axes


@pytest.mark.parametrize(("shape", "dim"), [((2, 3), 2), ((2, 3), -3), ((), -1), ((), 0)])
def test_an_axis_that_does_not_exist_is_named_with_the_usual_one(shape, dim):
    with pytest.raises(ValueError, match=f"dim={dim} does not exist in scores.*dim=-1"):
        check_axis("scores", torch.zeros(shape), dim)


@pytest.mark.parametrize("dim", [1.5, "key", None, True])
def test_an_axis_is_a_whole_number(dim):
    with pytest.raises(ValueError, match=f"dim={dim!r} does not exist in scores.*dim=-1"):
        check_axis("scores", FLOATS, dim)


@pytest.mark.parametrize("dim", [1, -1])
def test_an_empty_axis_is_refused_and_a_full_one_beside_it_is_not(dim):
    empty = torch.zeros(2, 0)
    with pytest.raises(ValueError, match=f"empty along dim={dim}; give at least one key"):
        check_axis("scores", empty, dim)
    assert check_axis("scores", empty, 0) is empty


# --- shapes


@pytest.mark.parametrize(
    "shape", [(), (5,), (1,), (3, 5), (1, 5), (3, 1), (4, 3, 5), (2, 1, 3, 5), (2, 4, 3, 5)]
)
def test_what_broadcasts_to_the_scores_fits(shape):
    mask = torch.zeros(shape, dtype=torch.bool)
    assert check_blocked(mask, torch.zeros(2, 4, 3, 5)) is mask


@pytest.mark.parametrize(
    ("shape", "scores_shape"),
    [
        ((4,), (2, 4, 3, 5)),  # one per head is not one per key
        ((5, 3), (3, 5)),  # transposed
        ((2, 3, 5), (2, 4, 3, 5)),  # one per sequence, without an axis for the heads
        ((2, 4, 3, 6), (2, 4, 3, 5)),  # a key too many
        ((2, 1, 3, 5), (1, 4, 3, 5)),  # would enlarge the scores
        ((7, 2, 4, 3, 5), (2, 4, 3, 5)),  # would add an axis
    ],
)
def test_what_does_not_broadcast_or_would_enlarge_the_scores_does_not_fit(shape, scores_shape):
    scores = torch.zeros(scores_shape)
    with pytest.raises(ValueError, match=r"does not broadcast.*\(query, key\).*\(batch, head\)"):
        check_blocked(torch.zeros(shape, dtype=torch.bool), scores)
    with pytest.raises(ValueError, match=r"bias has shape.*does not broadcast.*\(query, key\)"):
        check_fits("bias", torch.zeros(shape), scores)


def test_blocked_must_be_boolean_before_anything_else():
    with pytest.raises(ValueError, match=re.escape(".bool()")):
        check_blocked(torch.zeros(3, 2), torch.zeros(3, 2))


# --- devices


@pytest.mark.parametrize(
    ("call", "mend"),
    [
        (lambda far: check_same_device("k", far, "q", FLOATS), 'k.to("cpu")'),
        (lambda far: check_fits("bias", far, FLOATS), 'bias.to("cpu")'),
        (lambda far: check_blocked(far.bool(), FLOATS), 'blocked.to("cpu")'),
    ],
)
def test_a_tensor_on_another_device_is_told_how_to_move(call, mend):
    with pytest.raises(ValueError, match="lives on meta.*" + re.escape(mend)):
        call(FLOATS.to("meta"))


# --- words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.zeros(2), "a torch.float32 tensor"),
        (torch.zeros(2, dtype=torch.bool), "a torch.bool tensor"),
        ([0.0], "list"),
        (None, "NoneType"),
        (np.zeros(2), "ndarray"),
    ],
)
def test_what_came_is_described_by_its_dtype_or_its_type(value, words):
    assert describe(value) == words
