"""What a safetensors file declares, against files that the library itself wrote."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from tasks.errors import ModelError
from tasks.sources.safetensors import bits, tensor_bytes, tensors

KINDS = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F8_E4M3": torch.float8_e4m3fn,
         "I64": torch.int64, "U8": torch.uint8, "BOOL": torch.bool}  # fmt: skip


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_names_shapes_and_bytes_are_those_of_the_file(tmp_path, name, kind):
    made = {"a": torch.zeros(2, 3, dtype=kind), "b": torch.zeros((), dtype=kind), "none": torch.zeros(0, dtype=kind)}
    save_file(made, tmp_path / "model.safetensors")
    found = {tensor.name: tensor for tensor in tensors(tmp_path / "model.safetensors")}
    assert {key: (one.shape, one.dtype, one.count) for key, one in found.items()} == {
        "a": ((2, 3), name, 6), "b": ((), name, 1), "none": ((0,), name, 0),
    }  # fmt: skip
    assert bits(name) == 8 * kind.itemsize
    assert sum(one.size_bytes for one in found.values()) == 7 * kind.itemsize


def test_bytes_are_summed_over_all_files_of_a_folder(tmp_path):
    save_file({"a": torch.zeros(5)}, tmp_path / "one.safetensors")
    save_file({"b": torch.zeros(7), "c": torch.zeros(3, dtype=torch.bfloat16)}, tmp_path / "two.safetensors")
    assert tensor_bytes(tmp_path) == {"F32": 48, "BF16": 6}
    assert tensor_bytes(tmp_path.parent) == {}


@pytest.mark.parametrize(("change", "words"), [
    (lambda whole: whole[:-1], "is truncated or damaged"),
    (lambda whole: whole + b"x", "is truncated or damaged"),
    (lambda whole: whole[:20], "not a safetensors file, or its header is cut"),
    (lambda whole: b"", "not a safetensors file, or its header is cut"),
    (lambda whole: whole[:8] + b"x" + whole[9:], "not a safetensors file, or its header is cut"),
])  # fmt: skip
def test_a_damaged_file_says_so(tmp_path, change, words):
    file = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(5)}, file)
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(ModelError, match=f"model.safetensors .*{words}.*fetch it again"):
        tensors(file)
