"""A model is opened on the device of its settings, and on the processor where that cannot be had, with the reason."""

from __future__ import annotations

import doctest
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from tasks.backends import devices
from tasks.backends.base import Settings
from tasks.backends.devices import on, opened
from tasks.backends.openvino import device as openvino_device
from tasks.backends.table import arrays, tokens
from tasks.errors import ModelError, UnsupportedError
from tasks.records.placement import FallbackKind
from tests.mapped import product
from tests.serving import package


def test_doctests() -> None:
    assert doctest.testmod(devices).failed == 0


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("Cannot load library: libOpenCL.so.1: cannot open shared object file", "library"),
        ('Device with "NPU" name is not registered', "device"),
        ("to_shape was called on a dynamic shape", "shape"),
        ("something went wrong", "compile"),
    ],
)
def test_what_does_not_open_falls_back_with_its_kind(words: str, kind: FallbackKind) -> None:
    seen: list[Settings] = []

    def open_with(settings: Settings) -> str:
        seen.append(settings)
        if "device" in settings:
            raise RuntimeError(words)
        return "opened"

    made, used, fell = opened({"device": "NPU", "threads": "half"}, open_with)
    assert (made, used) == ("opened", {"threads": "half"})
    assert seen == [{"device": "NPU", "threads": "half"}, {"threads": "half"}]
    assert fell is not None
    assert (fell.asked, fell.used, fell.kind) == ("NPU", "CPU", kind)
    assert opened({"threads": "half"}, open_with) == ("opened", {"threads": "half"}, None)


def test_an_error_on_the_processor_is_an_error() -> None:
    def open_with(settings: Settings) -> str:
        raise ModelError("the file is broken")

    with pytest.raises(ModelError, match="the file is broken"):
        opened({"device": "GPU"}, open_with)
    with pytest.raises(ModelError, match="the file is broken"):
        opened({}, open_with)


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_arrays_fall_back_from_a_device_that_is_not_here(name: str, tmp_path: Path) -> None:
    """A real runtime refuses the device; the answers on the processor are those of the model."""
    if name == "onnx" and importlib.util.find_spec("onnxruntime_ep_openvino"):
        pytest.skip("the provider's own OpenVINO would stay in this process")
    made = product(tmp_path, name)
    model, _, fell = opened({"device": "NPU"}, lambda settings: arrays(name).arrays(made, 1, settings))
    try:
        assert fell is not None
        assert fell.kind in ("library", "device")
        assert "npu" in fell.reason.lower()
        got = model.run({"x": np.ones((1, 4), np.float32)})
        assert np.allclose(next(iter(got.values())), 4.0)
    finally:
        model.close()


@pytest.mark.parametrize("name", ["onnx", "gguf"])
def test_language_models_say_that_their_build_has_the_processor_alone(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="no available device 'GPU'"):
        tokens(name).speaker(tmp_path, 1, {"device": "GPU"})
    with pytest.raises(UnsupportedError, match="no available device 'GPU'"):
        tokens(name).engine(tmp_path, 1, 2, 64, {"device": "GPU"})


def test_other_devices_are_given_hints_alone() -> None:
    told = {"device": "GPU", "threads": "half", "KV_CACHE_PRECISION": "bf16", "PERFORMANCE_HINT": "THROUGHPUT"}
    asked = openvino_device.asked(4, told)
    assert (asked.device, openvino_device.options(*asked)) == ("GPU", {"PERFORMANCE_HINT": "THROUGHPUT"})
    own = openvino_device.asked(4, on(told, "cpu"))
    assert own.device == "CPU"
    assert "INFERENCE_NUM_THREADS" in openvino_device.options(*own)


def test_openvino_runs_on_a_device_that_it_names_itself(tiny_model: Path, tmp_path: Path) -> None:
    """HETERO:CPU is another device by name, on the same processor: what is written is the same."""
    made = package(tmp_path / "package", tiny_model, "openvino") / "model"
    ids = [1, 5, 9, 2]
    written = []
    told: tuple[Settings, ...] = ({}, {"device": "HETERO:CPU"})
    for settings in told:
        speaker = tokens("openvino").speaker(made, 2, settings)
        written.append(speaker.generate(ids, 6))
        speaker.close()
    assert written[0] == written[1]
