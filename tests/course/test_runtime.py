"""Seeds that reproduce, a device that can be overruled, a report that can be read again."""

import json
import platform
import random
import re
from importlib import metadata

import numpy as np
import pytest
import torch

import causal_lab
from causal_lab.course.runtime import (
    MASK_IMPLEMENTATION,
    ReproducibilityReport,
    default_device,
    reproducibility_report,
    seed_everything,
)

PACKAGES = ("torch", "numpy", "matplotlib", "ipywidgets")


@pytest.fixture(autouse=True)
def no_device_in_the_environment(monkeypatch):
    monkeypatch.delenv("CAUSAL_LAB_DEVICE", raising=False)


# --- seeds


def draw_from_every_generator() -> tuple:
    return random.random(), np.random.rand(3).tolist(), torch.randn(3).tolist()


def test_the_same_seed_draws_the_same_numbers_from_python_numpy_and_torch():
    seed_everything(7)
    first = draw_from_every_generator()
    later = draw_from_every_generator()
    seed_everything(7)
    again = draw_from_every_generator()
    seed_everything(8)
    other = draw_from_every_generator()
    assert first == again
    for source in range(3):
        assert first[source] != later[source]
        assert first[source] != other[source]


def test_each_library_is_seeded_as_it_would_be_alone():
    seed_everything(7)
    drawn = draw_from_every_generator()
    python, numpy = random.Random(7), np.random.RandomState(7)
    alone = torch.Generator().manual_seed(7)
    expected = python.random(), numpy.rand(3).tolist(), torch.randn(3, generator=alone).tolist()
    assert drawn == expected


def test_the_generator_returned_is_seeded_lives_on_the_cpu_and_is_independent():
    generator = seed_everything(7)
    expected = torch.randn(4, generator=torch.Generator().manual_seed(7))
    torch.randn(100)  # the global generator's draws do not move it
    assert generator.device.type == "cpu"
    assert torch.equal(torch.randn(4, generator=generator), expected)


def test_the_seed_is_42_unless_you_say_so():
    assert seed_everything().initial_seed() == 42
    assert torch.initial_seed() == 42


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_the_ends_of_the_range_are_seeds(seed):
    assert seed_everything(seed).initial_seed() == seed


@pytest.mark.parametrize("seed", [-1, 2**32, True, 1.0, "42", None])
def test_a_seed_is_an_integer_that_numpy_takes(seed):
    with pytest.raises(ValueError, match=re.escape("an integer from 0 to 2**32 - 1, got")):
        seed_everything(seed)


# --- the device


def test_without_an_override_the_device_is_a_gpu_if_there_is_one(monkeypatch):
    for there_is_one, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda answer=there_is_one: answer)
        assert default_device() == torch.device(expected)


@pytest.mark.parametrize("wanted", ["cpu", "cuda:1", "mps", "meta"])
def test_the_environment_overrules(monkeypatch, wanted):
    monkeypatch.setenv("CAUSAL_LAB_DEVICE", wanted)
    assert default_device() == torch.device(wanted)


def test_an_empty_override_is_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CAUSAL_LAB_DEVICE", "")
    assert default_device() == torch.device("cpu")


@pytest.mark.parametrize("wanted", ["gpu", "cuda:x", "0.5"])
def test_an_override_that_names_no_device_is_told_what_does(monkeypatch, wanted):
    monkeypatch.setenv("CAUSAL_LAB_DEVICE", wanted)
    with pytest.raises(ValueError, match=rf"CAUSAL_LAB_DEVICE='{wanted}'.*try cpu, cuda or cuda:0"):
        default_device()


# --- the report


def test_the_report_names_the_versions_of_what_is_installed():
    versions = reproducibility_report(device="cpu").versions
    assert versions["causal_lab"] == causal_lab.__version__
    assert versions["python"] == platform.python_version()
    assert {name: versions[name] for name in PACKAGES} == {
        name: metadata.version(name) for name in PACKAGES
    }


def test_the_report_says_what_b11_asks_for():
    report = reproducibility_report(device="cpu", seed=42, T=8)
    assert report.mask_implementation == MASK_IMPLEMENTATION
    assert "blocked" in MASK_IMPLEMENTATION
    assert report.device == "cpu"
    assert report.driver == "none"
    assert report.threads == torch.get_num_threads()
    assert platform.machine() in report.platform
    assert report.configuration == {"seed": 42, "T": 8}


def test_the_report_is_about_the_default_device_unless_you_say_so(monkeypatch):
    monkeypatch.setenv("CAUSAL_LAB_DEVICE", "meta")
    assert reproducibility_report().device == "meta"
    assert reproducibility_report(device="cpu").device == "cpu"


def test_the_report_prints_every_row_aligned():
    report = reproducibility_report(device="cpu", a_rather_long_name_of_a_setting=0.5)
    lines = str(report).splitlines()
    rows = report.rows()
    column = max(len(name) for name, _ in rows) + 2
    assert [(line[:column].strip(), line[column:]) for line in lines] == rows
    assert ("torch", metadata.version("torch")) in rows
    assert ("a_rather_long_name_of_a_setting", "0.5") in rows
    assert rows[0] == ("mask", MASK_IMPLEMENTATION)


def test_what_is_saved_reads_back_as_the_same_report(tmp_path):
    report = reproducibility_report(
        device="cpu", seed=42, rates=[0.1, 0.01], note="−∞, naïve", nested={}
    )
    path = report.save(str(tmp_path / "report.json"))
    text = path.read_text(encoding="utf-8")
    assert ReproducibilityReport(**json.loads(text)) == report
    assert "−∞, naïve" in text
    assert text.endswith("}\n")


def test_saving_overwrites(tmp_path):
    path = tmp_path / "report.json"
    path.write_text("x" * 10_000)
    assert reproducibility_report(device="cpu", seed=1).save(path) == path
    assert json.loads(path.read_text(encoding="utf-8"))["configuration"] == {"seed": 1}


@pytest.mark.parametrize(
    "value",
    [torch.zeros(2), torch.ones(1, requires_grad=True) * 2, np.float32(1), {1, 2}, {(1, 2): 3}],
    ids=["tensor", "loss with a gradient", "numpy number", "set", "tuple as key"],
)
def test_what_json_cannot_hold_is_refused_before_anything_is_written(tmp_path, value):
    path = tmp_path / "report.json"
    with pytest.raises(ValueError, match="must hold numbers, strings, lists and dicts only"):
        reproducibility_report(device="cpu", value=value).save(path)
    assert not path.exists()


@pytest.mark.parametrize("device", ["gpu", "cuda:x"])
def test_a_report_about_no_device_is_refused(device):
    with pytest.raises(ValueError, match="names no device; try cpu, cuda or cuda:0"):
        reproducibility_report(device=device)
