"""Model files that the package gguf wrote, read by ours."""

import gguf
import numpy as np
import pytest
import torch

from causal_lab.course.gguf import ModelFile, dequantize_q4_1, dequantize_q8_0

KINDS = {
    "F32": gguf.GGMLQuantizationType.F32,
    "Q4_1": gguf.GGMLQuantizationType.Q4_1,
    "Q8_0": gguf.GGMLQuantizationType.Q8_0,
}
FACTS = {"a.size": 7, "a.base": 0.5, "a.tied": True, "a.name": "naïve", "a.words": ["x", "日"]}


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


@pytest.fixture
def path(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "small.gguf", "llama")
    for name, value in FACTS.items():
        how = {int: writer.add_uint32, float: writer.add_float32, bool: writer.add_bool}
        how |= {str: writer.add_string, list: writer.add_array}
        how[type(value)](name, value)
    for name, kind in KINDS.items():
        data = gguf.quantize(numbers(3, 64), kind)
        writer.add_tensor(f"{name}.weight", data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tmp_path / "small.gguf"


def test_facts_and_shapes(path):
    file = ModelFile(path)
    assert {name: file.facts[name] for name in FACTS} == FACTS
    assert {name: one.shape for name, one in file.tensors.items()} == dict.fromkeys(
        [f"{name}.weight" for name in KINDS], (3, 64)
    )


@pytest.mark.parametrize("name", KINDS)
def test_numbers_are_those_of_the_library_to_the_bit(path, name):
    theirs = next(t for t in gguf.GGUFReader(path).tensors if t.name == f"{name}.weight")
    wanted = gguf.dequantize(theirs.data, theirs.tensor_type)
    found = ModelFile(path).load(f"{name}.weight")
    assert found.dtype == torch.float32
    assert np.array_equal(found.numpy(), wanted)
    assert np.abs(wanted - numbers(3, 64)).max() < 0.25  # else anything might be equal
    found += 1  # of its own memory: the file is only read


def test_a_block_is_as_long_as_its_format_says(path):
    file = ModelFile(path)
    assert file.blocks("Q4_1.weight").shape == (6, 20)
    assert file.blocks("Q8_0.weight").shape == (6, 34)
    assert dequantize_q4_1(file.blocks("Q4_1.weight")[:1]).shape == (1, 32)
    assert dequantize_q8_0(file.blocks("Q8_0.weight")[:1]).shape == (1, 32)


def test_what_cannot_be_read_is_refused(tmp_path, path):
    other = tmp_path / "other.gguf"
    other.write_bytes(b"GGUG" + path.read_bytes()[4:])
    with pytest.raises(ValueError, match=r"other.gguf is no GGUF file of version 3"):
        ModelFile(other)
    old = tmp_path / "old.gguf"
    old.write_bytes(b"GGUF\2\0\0\0" + path.read_bytes()[8:])
    with pytest.raises(ValueError, match="version 3"):
        ModelFile(old)
    writer = gguf.GGUFWriter(tmp_path / "half.gguf", "llama")
    writer.add_tensor("x.weight", numbers(2, 32).astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ValueError, match=r"x\.weight is stored in a way that is not read here"):
        ModelFile(tmp_path / "half.gguf")


def write(path, facts=(), **tensors):
    writer = gguf.GGUFWriter(path, "llama")
    for how, name, value in facts:
        getattr(writer, f"add_{how}")(name, value)
    for name, data in tensors.items():
        writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return ModelFile(path)


def test_numbers_are_found_wherever_the_head_ends(tmp_path):
    ends = set()
    for more in range(64):
        file = write(tmp_path / "a.gguf", [("string", "a", more * "x")], x=numbers(2, 8))
        ends.add(file._start)
        assert np.array_equal(file.load("x").numpy(), numbers(2, 8)), more
    assert len(ends) > 2


def test_facts_of_every_kind(tmp_path):
    values = {"uint8": 200, "int8": -3, "uint16": 60_000, "int16": -300, "uint32": 2**32 - 1}
    values |= {"int32": -70_000, "uint64": 2**64 - 1, "int64": -(2**40), "float64": 0.1}
    values |= {"array": [3, -1, 4]}
    file = write(tmp_path / "a.gguf", [(how, how, value) for how, value in values.items()])
    assert {name: file.facts[name] for name in values} == values
