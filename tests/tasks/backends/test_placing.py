"""Placement: what falls back is named by its kind, forced for real on ONNX Runtime and OpenVINO; shares add up."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tasks.backends.onnx import placing as of_onnx
from tasks.backends.openvino import placing as of_openvino
from tasks.backends.placing import by_device, why
from tasks.records.placement import Fallback, Placement
from tests import ROOT

PLUGIN = importlib.util.find_spec("onnxruntime_ep_openvino") is not None
OTHER = "OpenVINOExecutionProvider"


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A product of a fixed size, then an operator that no other provider knows, in a model of its own."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.ones((8, 4), np.float32), "w")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"], name="product"),
        helper.make_node("QuickGelu", ["y"], ["z"], name="own", domain="com.microsoft"),
    ]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, s]) for n, s in (("x", 8), ("z", 4))]
    made = helper.make_model(
        helper.make_graph(nodes, "g", ports[:1], ports[1:], [weight]),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)],
        ir_version=10,
    )
    file = tmp_path_factory.mktemp("graph") / "model.onnx"
    onnx.save(made, file)
    return file


@pytest.fixture(scope="module")
def network(graph: Path) -> tuple[Any, Any]:
    """OpenVINO's core, and a product of which the number of rows is open."""
    import openvino as ov
    from openvino import opset13 as ops

    x = ops.parameter([-1, 8], np.float32, name="x")
    product = ops.matmul(x, ops.constant(np.ones((8, 4), np.float32)), False, False)
    return ov.Core(), ov.Model([ops.relu(product)], [x], "net")


def test_what_is_asked_of_the_processor_falls_back_nowhere(graph: Path) -> None:
    found = of_onnx.placed(graph, "cpu", 1)
    assert (found.resolved, found.fallbacks, found.transfers) == ("CPUExecutionProvider", (), 0)
    assert [(one.device, one.flops_share) for one in found.devices] == [("CPUExecutionProvider", 1.0)]


@pytest.mark.skipif(PLUGIN, reason="another provider is installed, which would be taken")
def test_a_provider_that_is_not_installed_is_a_missing_library(graph: Path) -> None:
    [fell] = of_onnx.placed(graph, "gpu", 1).fallbacks
    assert (fell.kind, fell.used) == ("library", "CPUExecutionProvider")
    assert "CUDAExecutionProvider" in fell.reason


def placed_beside(graph: Path, requested: str, options: str = "{}") -> Placement:
    """In a process of its own: a provider stays registered."""
    call = (
        "import sys; from pathlib import Path; from tasks.backends.onnx.placing import placed\n"
        f"print(placed(Path(sys.argv[1]), {requested!r}, 1, {options}).model_dump_json())"
    )
    ended = subprocess.run(
        [sys.executable, "-c", call, str(graph)], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    return Placement.model_validate_json(ended.stdout.splitlines()[-1])


def offers(found: Placement) -> bool:
    """Whether the second provider has a device here: it looks for processors of its maker's."""
    return any(one.available and one.name.split(".")[0] == OTHER for one in found.offered)


@pytest.mark.skipif(not PLUGIN, reason="onnxruntime-ep-openvino is not installed: pip install onnxruntime-ep-openvino")
@pytest.mark.parametrize(
    ("requested", "options", "kind"),
    [
        ("npu", "{}", "device"),
        (OTHER, '{"load_config": "/nowhere/settings.json"}', "compile"),
    ],
)
def test_a_second_provider_that_does_not_come_up_is_named(graph: Path, requested: str, options: str, kind: str) -> None:
    found = placed_beside(graph, requested, options)
    if kind != "device" and not offers(found):
        pytest.skip("the second provider finds no device of its maker's on this processor")
    fell = found.fallbacks[0]
    assert (fell.kind, fell.used) == (kind, "CPUExecutionProvider")


@pytest.mark.skipif(not PLUGIN, reason="onnxruntime-ep-openvino is not installed: pip install onnxruntime-ep-openvino")
def test_operators_that_a_second_provider_lacks_stay_on_the_processor(tmp_path: Path) -> None:
    found = placed_beside(with_determinant(tmp_path / "model.onnx"), OTHER)
    if not offers(found):
        pytest.skip("the second provider finds no device of its maker's on this processor")
    assert [(fell.kind, fell.reason) for fell in found.fallbacks] == [("operator", "it does not take Det")]
    assert found.unsupported == ("Det",)
    assert [(one.device, one.operators) for one in found.devices] == [(OTHER, 1), ("CPUExecutionProvider", 1)]
    assert found.transfers == 1


def with_determinant(file: Path) -> Path:
    """A product, then an operator that OpenVINO does not have."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.ones((8, 8), np.float32), "w")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="product"),
        helper.make_node("Det", ["a"], ["z"], name="determinant"),
    ]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in (("x", [8, 8]), ("z", []))]
    made = helper.make_model(
        helper.make_graph(nodes, "g", ports[:1], ports[1:], [weight]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=10,
    )
    onnx.save(made, file)
    return file


def kinds(found: Placement) -> list[str]:
    return [fell.kind for fell in found.fallbacks]


def test_a_device_that_is_not_there_is_named_by_openvino(network: tuple[Any, Any]) -> None:
    core, model = network
    found = of_openvino.of_model(core, model, "NOSUCH", 1)
    assert (kinds(found), found.resolved) == (["device"], "CPU")
    gpu = of_openvino.of_model(core, model, "gpu", 1)
    if not any(one.name.startswith("GPU") and one.available for one in gpu.offered):
        assert kinds(gpu)[0] in ("library", "device")
        assert gpu.resolved == "CPU"


def test_sizes_that_are_open_are_named_where_a_device_wants_them_fixed(network: tuple[Any, Any], graph: Path) -> None:
    core, model = network
    found = of_openvino.of_model(core, model, "npu", 1)
    assert "shape" in kinds(found)
    assert found.devices[0].device == "CPU"
    assert "shape" in kinds(of_onnx.placed(graph, "npu", 1))
    model.reshape([2, 8])
    assert "shape" not in kinds(of_openvino.of_model(core, model, "npu", 1))
    model.reshape([-1, 8])


def test_a_model_that_does_not_compile_is_named(network: tuple[Any, Any]) -> None:
    core, model = network
    found = of_openvino.of_model(core, model, "AUTO:CPU", 1, {"PERFORMANCE_HINT": "NO_SUCH_HINT"})
    assert (kinds(found), found.resolved) == (["compile"], "CPU")


def test_an_operator_that_a_device_lacks_is_named(network: tuple[Any, Any]) -> None:
    import openvino as ov
    from openvino import opset13 as ops

    class Own(ov.Op):
        def __init__(self, inputs: Any = None) -> None:
            super().__init__(self, inputs)

        def validate_and_infer_types(self) -> None:
            self.set_output_type(0, self.get_input_element_type(0), self.get_input_partial_shape(0))

        def clone_with_new_inputs(self, new_inputs: Any) -> Any:
            return Own(new_inputs)

    core = network[0]
    x = ops.parameter([1, 8], np.float32, name="x")
    model = ov.Model([ops.relu(Own([x]).output(0))], [x], "own")
    found = of_openvino._tried(core, model, "CPU", {})
    assert "operator" in [fell.kind for fell in found[2]]


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("Cannot load library x/libplugin.so: libOpenCL.so.1: cannot open shared object file", "library"),
        ('Device with "NPU" name is not registered', "device"),
        ("to_shape was called on a dynamic shape.", "shape"),
        ("Unsupported operation of type: Own", "operator"),
        ("something else went wrong", "compile"),
    ],
)
def test_a_failure_is_told_by_its_words(said: str, kind: str) -> None:
    assert why(said) == kind


def test_shares_are_of_flops_and_not_of_operators() -> None:
    found = by_device({"big": "NPU", "a": "CPU", "b": "CPU"}, {"big": 99.0, "a": 1.0})
    assert [(one.device, one.operators, one.flops_share) for one in found] == [("NPU", 1, 0.99), ("CPU", 2, 0.01)]


def test_a_placement_without_figures_tells_no_share() -> None:
    fell = Fallback(asked="gpu", used="CPU", kind="library", reason="none")
    found = Placement(backend="onnx", requested="gpu", resolved="CPU", fallbacks=(fell,))
    assert found.share_as_asked is None


def test_what_fell_back_is_not_where_it_was_asked_for() -> None:
    fell = Fallback(asked="npu", used="CPU", kind="operator", reason="it lacks Det")
    placed = by_device({"a": "NPU", "b": "CPU"}, {"a": 40.0, "b": 60.0})
    found = Placement(backend="onnx", requested="npu", resolved="CPU", fallbacks=(fell,), devices=placed)
    assert found.share_as_asked == 0.4


def test_what_a_device_lacks_is_told_to_run_on_the_processor(network: tuple[Any, Any]) -> None:
    _, model = network
    taken = {one.get_friendly_name(): "NPU" for one in model.get_ops() if one.get_type_name() == "MatMul"}
    asked = SimpleNamespace(query_model=lambda _, device: taken if device == "NPU" else {})
    there = of_openvino._map(asked, model, "NPU", "NPU")
    assert sorted(there.values()) == ["CPU", "NPU"]
