"""Which devices a runtime may be tried on."""

from __future__ import annotations

import pytest

from tasks.planning.devices import devices
from tests import factories as make

FOUND = [
    {"kind": "cpu-provider", "name": "CPU: a processor", "runtime": "openvino", "available": True},
    {"kind": "gpu", "name": "GPU.0: one", "runtime": "openvino", "available": True},
    {"kind": "gpu", "name": "GPU.1: two", "runtime": "openvino", "available": True},
    {"kind": "npu", "name": "NPU", "runtime": "openvino", "available": False, "reason": "no driver"},
    {"kind": "gpu", "name": "CUDAExecutionProvider", "runtime": "onnxruntime", "available": True},
    {"kind": "gpu", "name": "One", "runtime": "cuda", "available": True},
    {"kind": "gpu", "name": "Two", "runtime": "cuda", "available": True},
]


@pytest.mark.parametrize(
    ("backend", "family", "asked", "found"),
    [
        ("openvino", "tokens", "auto", ("GPU.0", "GPU.1")),
        ("openvino", "arrays", "gpu", ("GPU.0", "GPU.1")),
        ("openvino", "tokens", "GPU.1", ("GPU.1",)),
        ("openvino", "tokens", "npu", ()),
        ("openvino", "tokens", "cpu", ()),
        ("onnx", "arrays", "auto", ("CUDAExecutionProvider",)),
        ("onnx", "tokens", "auto", ()),
        ("gguf", "tokens", "auto", ("GPU",)),
        ("mlx", "tokens", "auto", ()),
    ],
)
def test_devices_by_the_runtimes_own_names(backend: str, family: str, asked: str, found: tuple[str, ...]) -> None:
    assert devices(make.hardware(accelerators=FOUND), backend, family, asked) == found  # type: ignore[arg-type]
