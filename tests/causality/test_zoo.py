"""The checker against a zoo: what leaks, what only looks like it, and what cannot be known."""

import copy
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
    assert sum(case.depends is not None for case in ZOO.values()) >= 15
    assert sum(case.length_dependent is not None for case in ZOO.values()) >= 3


def first_leak_lies_ahead(report, case) -> bool:
    leak = report.first_leak
    if leak is None or leak.input <= leak.output + report.lookahead:
        return False
    return case.first is None or (leak.output, leak.input) == case.first


def nothing_is_ahead(report) -> bool:
    ahead = report.dependencies.triu(report.lookahead + 1)
    return report.first_leak is None and not (ahead.nan_to_num() > 0).any()


def wrong_in(name: str) -> dict[str, object]:
    """Examine a member once, and once more with another seed: name all that is not as it is."""
    case, T = ZOO[name], ZOO[name].inputs.shape[1]
    (report, changed), (again, changed_again) = examine(name), examine(name, seed=1)
    right = {
        "verdict": report.causal is case.causal,
        "first leak": case.causal is not False or first_leak_lies_ahead(report, case),
        "nothing ahead": case.causal is not True or nothing_is_ahead(report),
        "map": case.depends is None or torch.equal(report.dependencies > 0, case.depends > 0),
        "length": case.length_dependent in (None, report.length_dependent),
        # Counted, not timed: a busy machine must not decide.
        "passes": report.forward_equivalents <= 24 * T and report.backwards <= 3 * T,
        "verdict of another seed": again.causal is case.causal,
    }
    wrong = {key: f"{report}\n{again}" for key in right if not right[key]}
    return wrong | {f"as before: {key}": "changed" for key in {*changed, *changed_again}}


@pytest.mark.parametrize("name", ZOO)
def test_a_member_is_judged_as_it_is_and_left_as_it_was(name):
    assert wrong_in(name) == {}
