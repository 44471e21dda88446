"""The checker against a zoo: what leaks, what only looks like it, and what cannot be known."""

import copy
import functools
import pickle
import random
from collections import deque

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from causal_lab.causality import check_causality
from tests.causality.zoo.broken import BROKEN
from tests.causality.zoo.honest import HONEST, UNDECIDED

ZOO = {case.name: case for case in [*BROKEN, *HONEST, *UNDECIDED]}
EVERYONE = pytest.mark.parametrize("name", ZOO)


def some(condition):
    return pytest.mark.parametrize("name", [case.name for case in ZOO.values() if condition(case)])


def build(case) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return case.build()


def picture(value: object) -> object:
    """Copy all that can be compared: tensors as bytes, generators by state, modules by parts."""
    if isinstance(value, nn.parameter.UninitializedTensorMixin):
        return (id(value), type(value))
    if isinstance(value, np.ndarray | np.random.Generator | random.Random):
        return pickle.dumps(value)
    if isinstance(value, Tensor):
        content = value.detach().contiguous().reshape(-1).clone().view(torch.uint8)
        return (id(value), value.dtype, tuple(value.shape), content.tolist(), value.requires_grad)
    if isinstance(value, torch.Generator):
        return value.get_state().tolist()
    if isinstance(value, nn.Module):
        return (id(value), type(value), {key: picture(part) for key, part in vars(value).items()})
    if isinstance(value, dict):
        return {key: picture(part) for key, part in value.items()}
    if isinstance(value, list | tuple | deque):
        return [picture(part) for part in value]
    if callable(value) or value is None:
        return id(value)
    return copy.deepcopy(vars(value)) if hasattr(value, "__dict__") else copy.copy(value)


def randomness() -> object:
    numbers = np.random.get_state()
    return (
        torch.get_rng_state().tolist(),
        random.getstate(),
        (numbers[0], numbers[1].tolist(), *numbers[2:]),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
    )


@functools.cache
def examine(name: str, seed: int = 0):
    """Check one member, and say which parts of the world are not as before."""
    case = ZOO[name]
    model, inputs = build(case), case.inputs.clone()
    before = {"model": picture(model), "inputs": picture(inputs), "randomness": randomness()}
    report = check_causality(model, inputs, seed=seed, **case.options)
    after = {"model": picture(model), "inputs": picture(inputs), "randomness": randomness()}
    return report, [key for key in before if before[key] != after[key]]


def test_names_are_unique_and_every_kind_is_there():
    assert len(ZOO) == len(BROKEN) + len(HONEST) + len(UNDECIDED)
    assert len(BROKEN) >= 40
    assert len(HONEST) >= 40
    assert len(UNDECIDED) >= 8


@EVERYONE
def test_verdict(name):
    report, _ = examine(name)
    assert report.causal is ZOO[name].causal, str(report)


@some(lambda case: case.causal is False)
def test_first_leak_lies_ahead(name):
    report, case = examine(name)[0], ZOO[name]
    leak = report.first_leak
    assert leak is not None, str(report)
    assert leak.input > leak.output + report.lookahead
    if case.first is not None:
        assert (leak.output, leak.input) == case.first, str(report)


@some(lambda case: case.causal is True)
def test_nothing_ahead_in_the_map_of_what_is_causal(name):
    report, _ = examine(name)
    assert report.first_leak is None
    ahead = report.dependencies.triu(report.lookahead + 1)
    assert not (ahead.nan_to_num() > 0).any()


@some(lambda case: case.depends is not None)
def test_map_of_dependencies(name):
    report, _ = examine(name)
    assert torch.equal(report.dependencies > 0, ZOO[name].depends > 0), report.dependencies


@some(lambda case: case.length_dependent is not None)
def test_dependence_on_the_length(name):
    report, _ = examine(name)
    assert report.length_dependent is ZOO[name].length_dependent, str(report)


@EVERYONE
def test_everything_is_as_before(name):
    assert examine(name)[1] == []


@EVERYONE
def test_another_seed_says_the_same(name):
    report, _ = examine(name, seed=1)
    assert report.causal is ZOO[name].causal, str(report)


@EVERYONE
def test_takes_a_bounded_number_of_passes(name):
    # Counted, not timed: a busy machine must not decide.
    report, T = examine(name)[0], ZOO[name].inputs.shape[1]
    assert report.forward_equivalents <= 16 * T
    assert report.backwards <= 3 * T
