"""Any ONNX file: what is refused, which inputs fit, and files that others made."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tasks.backends.base import Port, Work
from tasks.backends.table import arrays, backend
from tasks.errors import DataError, ModelError, UnsupportedError
from tasks.kinds.arrays.rows import answers
from tasks.kinds.onnx_file import expanding, preparing, scoring
from tasks.params.pipeline import Fetch
from tests.factories import recipe

pytestmark = pytest.mark.model


def package(name: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"{name} is not installed")
    return Path(next(iter(found.submodule_search_locations)))


def graph(nodes: list[Any], weights: dict[str, np.ndarray], inputs: dict[str, list[Any]], outputs: list[str]) -> Any:
    made = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def linear(folder: Path, **external: Any) -> Path:
    dice = np.random.default_rng(0)
    weight = dice.normal(size=(16, 4)).astype(np.float32)
    model = graph([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": weight}, {"x": ["rows", 16]}, ["y"])
    file = folder / "mine.onnx"
    onnx.save(model, file, **external)
    return file


def expand(file: Path, out: Path) -> Any:
    out.mkdir(exist_ok=True)
    return expanding.expand(Fetch(model=str(file)), out)


def test_external_data_comes_along(tmp_path: Path) -> None:
    file = linear(tmp_path, save_as_external_data=True, location="w.data", size_threshold=0)
    assert expand(file, tmp_path / "out").name == "mine"
    assert {one.name for one in (tmp_path / "out").iterdir()} == {"model.onnx"}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda file: file.unlink(), "is not there"),
        (lambda file: file.write_bytes(b"not a model"), "no ONNX model|no operators"),
        (lambda file: file.write_bytes(b""), "no operators"),
        (lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]), "no ONNX model|cannot open"),
        (lambda file: (file.parent / "w.data").unlink(), "needs w.data beside it"),
    ],
)
def test_what_is_no_whole_model_is_refused(tmp_path: Path, spoil: Any, said: str) -> None:
    file = linear(tmp_path, save_as_external_data=True, location="w.data", size_threshold=0)
    spoil(file)
    with pytest.raises(ModelError, match=said):
        expand(file, tmp_path / "out")


def test_weights_outside_of_the_folder_are_refused(tmp_path: Path) -> None:
    file = linear(tmp_path, save_as_external_data=True, location="w.data", size_threshold=0)
    model = onnx.load(file, load_external_data=False)
    next(one for one in model.graph.initializer[0].external_data if one.key == "location").value = "../secret"
    onnx.save(model, file)
    with pytest.raises(ModelError, match="outside of its folder"):
        expand(file, tmp_path / "out")


def test_an_operator_that_nobody_has_is_refused_with_the_runtimes_words(tmp_path: Path) -> None:
    onnx.save(graph([helper.make_node("Nothing", ["x"], ["y"])], {}, {"x": [1, 2]}, ["y"]), tmp_path / "odd.onnx")
    with pytest.raises(ModelError, match="cannot open model.onnx"):
        expand(tmp_path / "odd.onnx", tmp_path / "out")


PORTS = {"x": Port((None, 4), "float32"), "n": Port((), "int64")}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"x": np.zeros((3, 4))}, "'n' is absent"),
        ({"x": np.zeros((3, 4)), "n": np.zeros(3, int), "z": np.zeros(3)}, "'z' is unknown"),
        ({"x": np.zeros((3, 1, 4)), "n": np.zeros(2, int)}, "other numbers of rows"),
        ({"x": np.zeros((3, 1, 5)), "n": np.zeros(3, int)}, "has shape"),
        ({"x": np.full((3, 1, 4), np.nan), "n": np.zeros(3, int)}, "NaN"),
        ({"x": np.zeros((3, 1, 4)), "n": np.zeros(3)}, "holds float64"),
        ({"x": np.array([["a"] * 4] * 3), "n": np.zeros(3, int)}, "holds"),
    ],
)
def test_inputs_that_do_not_fit_are_named(given: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(DataError, match=said):
        preparing.fit(given, PORTS)


def test_a_row_may_come_without_its_axis_of_batches() -> None:
    rows = preparing.fit({"x": np.zeros((3, 4)), "n": np.zeros(3, int)}, PORTS)
    assert rows.whole
    assert rows.take([1])["x"].shape == (1, 4)
    assert rows.take([1])["n"].shape == ()


def test_json_lines_are_read_and_a_broken_one_is_named(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps({"x": [1, 2], "label": 0}) for _ in range(3)))
    assert preparing.read(str(file))["x"].shape == (3, 2)
    file.write_text('{"x": [1, 2]}\n{"x": [1')
    with pytest.raises(DataError, match="line 2 is not JSON"):
        preparing.read(str(file))
    file.write_text('{"x": [1, 2]}\n{"x": [1]}')
    with pytest.raises(DataError, match="other shapes"):
        preparing.read(str(file))
    with pytest.raises(DataError, match="needs inputs"):
        preparing.read(str(tmp_path / "absent.npz"))


def test_classes_agree_by_the_largest_and_others_by_direction() -> None:
    classes = np.array([[0.1, 0.9], [0.8, 0.2]])
    assert scoring.agrees(classes[:, ::-1], classes).tolist() == [0, 0]
    assert scoring.agrees(2 * classes, classes).tolist() == [1, 1]
    maps = np.random.default_rng(0).normal(size=(2, 3, 4))
    assert scoring.agrees(2 * maps, maps) == pytest.approx([1, 1])
    assert scoring.agrees(np.array([[1], [2]]), np.array([[1], [3]])).tolist() == [1, 0]


def quantized(file: Path, rows: Any, out: Path, name: str, method: str = "default") -> Any:
    work = Work(
        model=file, calibration=(), threads=2, family="arrays",
        calibration_arrays=tuple(rows.first(8).batches(1)),
    )  # fmt: skip
    out.mkdir()
    backend(name).convert(work, recipe(backend=name, precision="int8", method=method, group_size=0), out)
    session = arrays(name).arrays(out, 2)
    return answers(session, rows, 4)


def test_a_voice_detector_with_state_is_quantized(tmp_path: Path) -> None:
    """silero-vad: a state that goes in and comes out, a scalar, branches within the graph."""
    expand(package("silero_vad") / "data" / "silero_vad_16k_op15.onnx", tmp_path / "model")
    session = arrays("onnx").arrays(tmp_path / "model", 2)
    dice = np.random.default_rng(0)
    given = {
        "input": 0.1 * dice.normal(size=(24, 1, 576)),
        "state": np.zeros((24, 2, 1, 128)),
        "sr": np.full(24, 16000),
    }
    rows = preparing.fit({name: given[name] for name in session.inputs}, dict(session.inputs))
    assert rows.whole
    plain = answers(session, rows, 4)
    try:
        found = quantized(tmp_path / "model", rows, tmp_path / "out", "onnx", "dynamic")
    except UnsupportedError as error:  # where all of its products lie within branches, that is said
        assert "could be quantized" in str(error)
    else:
        assert np.abs(found["output"] - plain["output"]).mean() < 0.1


def test_notes_of_a_recording_are_quantized(tmp_path: Path) -> None:
    """basic-pitch: convolutions over time, three outputs of maps."""
    expand(package("basic_pitch") / "saved_models" / "icassp_2022" / "nmp.onnx", tmp_path / "model")
    session = arrays("onnx").arrays(tmp_path / "model", 2)
    [(name, port)] = session.inputs.items()
    times = np.arange(43844) / 22050
    tones = np.stack([np.sin(2 * np.pi * pitch * times) for pitch in np.linspace(110, 880, 12)])
    rows = preparing.fit({name: (0.3 * tones[:, :, None]).astype(np.float32)}, {name: port})
    plain = answers(session, rows, 4)
    found = quantized(tmp_path / "model", rows, tmp_path / "out", "openvino")
    assert set(found) == set(plain)
    shares = [scoring.agrees(found[one], plain[one]).mean() for one in plain]
    assert min(shares) > 0.9


def test_a_model_without_products_is_refused(tmp_path: Path) -> None:
    onnx.save(graph([helper.make_node("Relu", ["x"], ["y"])], {}, {"x": ["rows", 4]}, ["y"]), tmp_path / "r.onnx")
    expand(tmp_path / "r.onnx", tmp_path / "model")
    rows = preparing.fit({"x": np.ones((12, 4))}, {"x": Port((None, 4), "float32")})
    for method in ("default", "w8a8"):
        with pytest.raises(UnsupportedError, match="quantized"):
            quantized(tmp_path / "model", rows, tmp_path / method, "onnx", method)
