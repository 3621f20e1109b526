"""The contract of backends that run named arrays, on a tiny linear and a tiny convolutional ONNX model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tasks.backends.base import Work
from tasks.backends.table import MODULES, arrays, backend
from tasks.errors import UnsupportedError
from tests.factories import recipe

DICE = np.random.default_rng(5)
BATCH, WIDTH, CLASSES, SIDE = 3, 32, 10, 8
INT8 = {"int8", "uint8", "i8", "u8"}

# model, precision, method, largest error as a share of the outputs' standard deviation
CASES = [
    ("linear", "fp32", "default", 0.02),  # OpenVINO computes in bf16 where the processor has it
    ("linear", "int8", "default", 0.1),
    ("convolution", "fp32", "default", 0.02),
    ("convolution", "int8", "default", 0.2),
]
ENCODERS_ALONE = ["gguf"]  # arrays from a checkpoint that lies beside the graph: tests/tasks/kinds has them
HAVE_ARRAYS = [name for name in MODULES if "arrays" in backend(name).FAMILIES and name not in ENCODERS_ALONE]


def weight(name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(DICE.standard_normal(shape).astype(np.float32) / 4, name)


def linear() -> onnx.GraphProto:
    nodes = [
        helper.make_node("MatMul", ["rows", "w"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["kept"]),
        helper.make_node("Gemm", ["kept", "v", "b"], ["classes"]),
    ]
    ports = (
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["batch", WIDTH])],
        [helper.make_tensor_value_info("classes", TensorProto.FLOAT, ["batch", CLASSES])],
    )
    weights = [weight("w", WIDTH, 64), weight("v", 64, CLASSES), weight("b", CLASSES)]
    return helper.make_graph(nodes, "linear", *ports, weights)


def convolution() -> onnx.GraphProto:
    nodes = [
        helper.make_node("Conv", ["image", "k"], ["maps"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["maps"], ["kept"]),
        helper.make_node("GlobalAveragePool", ["kept"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "v", "b"], ["classes"]),
    ]
    ports = (
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("classes", TensorProto.FLOAT, ["batch", CLASSES])],
    )
    return helper.make_graph(
        nodes, "conv", *ports, [weight("k", 16, 3, 3, 3), weight("v", 16, CLASSES), weight("b", CLASSES)]
    )


def nothing() -> onnx.GraphProto:
    """A model without a layer that could be quantized."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", WIDTH]) for name in ("rows", "classes")]
    return helper.make_graph([helper.make_node("Relu", ["rows"], ["classes"])], "relu", ports[:1], ports[1:])


GRAPHS = {"linear": linear, "convolution": convolution, "nothing": nothing}


def rows(name: str, count: int = BATCH) -> dict[str, np.ndarray]:
    shape = {"convolution": (count, 3, SIDE, SIDE)}.get(name, (count, WIDTH))
    return {"image" if name == "convolution" else "rows": DICE.standard_normal(shape).astype(np.float32)}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    made = {}
    for name, graph in GRAPHS.items():
        made[name] = tmp_path_factory.mktemp(name)
        model = helper.make_model(graph(), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        external = {"save_as_external_data": True, "location": "model.onnx.data", "size_threshold": 0}
        onnx.save(model, made[name] / "model.onnx", **(external if name == "linear" else {}))
    return made


def work(models: dict[str, Path], name: str, calibrated: bool = True) -> Work:
    return Work(
        model=models[name], calibration=(), threads=2, family="arrays",
        calibration_arrays=tuple(rows(name, 8) for _ in range(4)) if calibrated else (),
    )  # fmt: skip


@pytest.mark.parametrize(("name", "precision", "method", "limit"), CASES)
@pytest.mark.parametrize("runtime", HAVE_ARRAYS)
def test_contract(models, tmp_path, runtime, name, precision, method, limit):
    module = arrays(runtime)
    module.convert(work(models, name), recipe(backend=runtime, precision=precision, method=method), tmp_path)
    assert all((tmp_path / file).is_file() for file in module.NEEDS["arrays"])
    kinds = module.tensor_bytes(tmp_path)
    assert sum(kinds.values()) > 0
    assert bool(INT8 & set(kinds)) == (precision == "int8")

    given = rows(name)
    expected = onnxruntime.InferenceSession(models[name] / "model.onnx").run(["classes"], given)[0]
    session = module.arrays(tmp_path, 2)
    [(port, told)] = session.inputs.items()
    assert (port, told.shape[1:], told.dtype) == (next(iter(given)), given[port].shape[1:], "float32")
    assert told.shape[0] is None, "any number of rows"
    found = session.run(given)
    assert set(found) == {"classes"}
    assert np.abs(found["classes"] - expected).max() <= limit * expected.std()
    found["classes"][:] = 0  # the caller's own
    again, first = session.run(given)["classes"], session.run({port: given[port][:1]})["classes"]
    assert np.abs(again - expected).max() <= limit * expected.std()
    assert first.shape == (1, CLASSES)
    assert {"execution", "threads"} <= set(session.runtime())
    session.close()


@pytest.mark.parametrize("runtime", HAVE_ARRAYS)
def test_tuned_settings_are_taken(models, tmp_path, runtime):
    module = arrays(runtime)
    module.convert(work(models, "linear"), recipe(backend=runtime, precision="fp32", method="default"), tmp_path)
    session = module.arrays(tmp_path, 2, {name: values[-1] for name, values in module.SETTINGS.items()})
    assert session.run(rows("linear"))["classes"].shape == (BATCH, CLASSES)
    session.close()


@pytest.mark.parametrize("runtime", HAVE_ARRAYS)
@pytest.mark.parametrize(("name", "precision", "method", "calibrated", "words"), [
    ("nothing", "int8", "default", True, "could be quantized"),
    ("convolution", "int8", "default", False, "needs calibration arrays"),
    ("linear", "int4", "default", True, "allowed: fp32, int8 by default"),
    ("linear", "int8", "nonsense", True, "allowed: fp32, int8 by default"),
])  # fmt: skip
def test_what_cannot_be_made_is_refused_in_words(models, tmp_path, runtime, name, precision, method, calibrated, words):
    with pytest.raises(UnsupportedError, match=words):
        backend(runtime).convert(
            work(models, name, calibrated), recipe(backend=runtime, precision=precision, method=method), tmp_path
        )


@pytest.mark.parametrize("runtime", HAVE_ARRAYS)
def test_a_file_that_is_no_model_is_refused(tmp_path, runtime):
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    given = Work(model=tmp_path, calibration=(), threads=2, family="arrays")
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(UnsupportedError, match="ONNX"):
        backend(runtime).convert(given, recipe(backend=runtime, precision="int8", method="default"), out)


@pytest.mark.parametrize("runtime", ENCODERS_ALONE)
def test_a_backend_of_text_encoders_refuses_any_other_graph(models, tmp_path, runtime):
    with pytest.raises(UnsupportedError, match="language models and text encoders"):
        backend(runtime).convert(work(models, "linear"), recipe(backend=runtime, precision="fp32"), tmp_path)


@pytest.mark.parametrize("runtime", sorted(set(MODULES) - set(HAVE_ARRAYS) - set(ENCODERS_ALONE)))
def test_a_backend_of_tokens_alone_refuses_arrays(models, tmp_path, runtime):
    with pytest.raises(UnsupportedError, match="runs no models of family 'arrays'; allowed: tokens"):
        arrays(runtime)
    with pytest.raises(UnsupportedError, match="runs no models of family 'arrays'"):
        backend(runtime).convert(work(models, "linear"), recipe(backend=runtime, precision="fp32"), tmp_path)


@pytest.mark.parametrize("tuned", [True, False])
@pytest.mark.parametrize("runtime", HAVE_ARRAYS)
def test_the_lines_run_the_package(models, tmp_path, runtime, tuned):
    import subprocess
    import sys

    module, folder = arrays(runtime), tmp_path / "model"
    folder.mkdir()
    module.convert(work(models, "convolution"), recipe(backend=runtime, precision="int8", method="default"), folder)
    settings = {name: values[-1] for name, values in module.SETTINGS.items()} if tuned else {}
    lines = "\n".join(module.how_to_run(settings, False, "arrays"))
    run = subprocess.run([sys.executable, "-c", lines], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "float32" in run.stdout or "array" in run.stdout
