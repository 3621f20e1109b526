"""Classifiers that are trained: fewer channels, rounding learnt in training, and a dense one to compare with."""

from __future__ import annotations

import copy
import doctest
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from tasks.backends.base import Work
from tasks.backends.openvino import graphs as openvino_graphs
from tasks.backends.table import arrays, backend
from tasks.errors import UnsupportedError
from tasks.kinds.base import Calibration
from tasks.kinds.image_classifier import (
    describing,
    digits,
    expanding,
    network,
    pictures,
    rounded,
    training,
    transforming,
)
from tasks.params.pipeline import Fetch, Variant
from tasks.sources.files import Source
from tests.factories import recipe

pytestmark = pytest.mark.model
RIGHT_AT_LEAST = 0.93


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("digits")
    expanding.expand(Fetch(model="digits"), out)
    return out


@pytest.fixture(scope="module")
def lite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("lite")
    expanding.expand(Fetch(model="efficientnet-lite0"), out)
    return out


def held_out() -> tuple[Any, Any]:
    images, classes = digits.pictures()
    return images[digits.TRAINED :], classes[digits.TRAINED :]


def calibration() -> Calibration:
    return Calibration(arrays=[{pictures.INPUT: one[None]} for one in held_out()[0][:96]])


def accuracy(answers: np.ndarray) -> float:
    return float((answers[96:].argmax(1) == held_out()[1][96:]).mean())


def made(model: Path, where: Path, name: str, **changes: Any) -> np.ndarray:
    """Transform, convert and run: the answers to all held-out pictures."""
    own = recipe(backend=name, group_size=0, **{"precision": "fp32"} | changes)
    source, out = model, where / "out"
    out.mkdir()
    if own.transforms:
        source = where / "changed"
        transforming.transform(model, own, calibration(), source, 2)
    work = Work(model=source, calibration=(), threads=2, family="arrays", calibration_arrays=calibration().arrays)
    backend(name).convert(work, own, out)
    session = arrays(name).arrays(out, 2)
    [found] = session.run({pictures.INPUT: held_out()[0]}).values()
    session.close()
    return found


@pytest.mark.parametrize("name", ["model", "lite"])
def test_a_graph_that_is_read_answers_as_it_did(request: pytest.FixtureRequest, name: str) -> None:
    import torch

    folder = request.getfixturevalue(name)
    session = arrays("onnx").arrays(folder, 2)
    size = next(iter(session.inputs.values())).shape[1:]
    example = np.random.default_rng(0).normal(size=(3, *size)).astype(np.float32)
    [wanted] = session.run({pictures.INPUT: example}).values()
    with torch.no_grad():
        found = network.read(folder / "model.onnx")(torch.from_numpy(example)).numpy()
    assert np.abs(found - wanted).max() < 1e-3 * wanted.std()


def test_channels_leave_all_layers_that_depend_on_them(lite: Path, tmp_path: Path) -> None:
    net = network.read(lite / "model.onnx")
    shown = np.random.default_rng(0).normal(size=(4, 3, 224, 224)).astype(np.float32)
    weights = training.fewer_channels(net, 0.5, training.Lessons(shown))  # without classes
    assert 0.2 < weights["after"] / weights["before"] < 0.45
    network.write(net, shown[:2], (net.input, net.output), tmp_path / "model.onnx")
    [found] = arrays("onnx").arrays(tmp_path, 2).run({net.input: shown}).values()
    assert found.shape == (4, 1000)
    assert np.isfinite(found).all()


def test_what_training_makes_good(model: Path, tmp_path: Path) -> None:
    import torch

    net, taught = network.read(model / "model.onnx"), training.lessons(model)
    teacher = copy.deepcopy(net)
    torch.set_num_threads(training.threads_for(taught, 2))
    training.fewer_channels(net, 0.5, taught)
    network.write(net, taught.pictures[:2], (net.input, net.output), tmp_path / "model.onnx")
    [cut] = arrays("onnx").arrays(tmp_path, 2).run({net.input: held_out()[0]}).values()
    training.train(net, teacher, taught, 15, training.STEP)
    network.write(net, taught.pictures[:2], (net.input, net.output), tmp_path / "model.onnx")
    [found] = arrays("onnx").arrays(tmp_path, 2).run({net.input: held_out()[0]}).values()
    assert accuracy(cut) < RIGHT_AT_LEAST <= accuracy(found)


@pytest.mark.parametrize("name", ["onnx", "openvino"])
@pytest.mark.parametrize(
    ("changes", "share"),
    [
        ({"epochs": 4}, 1.2),  # the dense control
        ({"epochs": 15, "channels": 0.5}, 0.45),
        ({"precision": "int8", "method": "qat", "epochs": 4}, 0.6),
        ({"precision": "int8", "method": "static", "epochs": 15, "channels": 0.5}, 0.3),
        ({"precision": "int8", "method": "qat", "epochs": 8, "channels": 0.5}, 0.5),
    ],
)
def test_each_way_through_each_runtime(
    model: Path, tmp_path: Path, name: str, changes: dict[str, Any], share: float
) -> None:
    found = made(model, tmp_path, name, **changes)
    assert accuracy(found) >= RIGHT_AT_LEAST
    size = sum(file.stat().st_size for file in (tmp_path / "out").iterdir())
    assert size < share * (model / "model.onnx").stat().st_size
    if changes.get("precision") == "int8":
        told = backend(name).tensor_bytes(tmp_path / "out")
        assert sum(told.get(kind, 0) for kind in ("i8", "u8", "int8", "uint8", "INT8", "UINT8")) > 10_000


def test_the_same_seed_trains_the_same(model: Path, tmp_path: Path) -> None:
    own = recipe(backend="onnx", precision="fp32", epochs=2)
    for name in ("a", "b"):
        transforming.transform(model, own, calibration(), tmp_path / name, 1)
    one, other = (network.constants(onnx.load(tmp_path / name / "model.onnx")) for name in ("a", "b"))
    assert all(np.array_equal(one[key], other[key]) for key in one)


def test_a_control_puts_back_what_costs_most(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_graphs, "MAX_DROP", 1.0)
    (tmp_path / "loose").mkdir()
    loose = made(model, tmp_path / "loose", "openvino", precision="int8", method="accurate")
    monkeypatch.setattr(openvino_graphs, "MAX_DROP", 0.04)
    (tmp_path / "tight").mkdir()
    tight = made(model, tmp_path / "tight", "openvino", precision="int8", method="accurate")
    [exact] = arrays("onnx").arrays(model, 2).run({pictures.INPUT: held_out()[0]}).values()
    assert np.abs(tight - exact).mean() < np.abs(loose - exact).mean()
    count = {name: _rounding(tmp_path / name / "out") for name in ("loose", "tight")}
    assert 0 < count["tight"] < count["loose"]


def _rounding(folder: Path) -> int:
    import openvino as ov

    return sum(one.get_type_name() == "FakeQuantize" for one in ov.Core().read_model(folder / "model.xml").get_ops())


def test_too_few_rows_cannot_be_split_for_a_control(model: Path, tmp_path: Path) -> None:
    own = recipe(backend="openvino", precision="int8", method="accurate")
    work = Work(model, (), 2, family="arrays", calibration_arrays=calibration().arrays[:9])
    with pytest.raises(UnsupportedError, match="at least 24 calibration rows"):
        backend("openvino").convert(work, own, tmp_path)


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_a_graph_without_rounding_is_not_called_trained(model: Path, tmp_path: Path, name: str) -> None:
    own = recipe(backend=name, precision="int8", method="qat", epochs=1)
    with pytest.raises(UnsupportedError, match=r"could be quantized|no rounding"):
        backend(name).convert(Work(model, (), 2, family="arrays"), own, tmp_path)
    with pytest.raises(UnsupportedError, match="no rounding"):
        rounded.to_integers(model / "model.onnx", tmp_path / "model.onnx")


def test_examples_hold() -> None:
    assert doctest.testmod(rounded).failed == 0
    assert doctest.testmod(openvino_graphs).failed == 0


@given(st.integers(-128, 0), st.integers(2, 256), st.floats(1e-4, 10))
def test_a_grid_holds_zero_and_all_steps(lowest: int, levels: int, step: float) -> None:
    low, high = np.array([lowest * step]), np.array([(lowest + levels - 1) * step])
    scale, zero, kind = rounded.grid(low, high, levels)
    told = np.iinfo(kind)
    assert scale[0] == pytest.approx(step)
    assert told.min <= lowest + zero
    assert lowest + levels - 1 + zero <= told.max


@pytest.mark.parametrize(
    ("low", "high", "why"),
    [([-0.5], [254.5], "leave zero out"), ([-1.0, -2.0], [254.0, 253.0], "differ"), ([4.0], [259.0], "do not hold")],
)
def test_a_grid_that_integers_cannot_hold_is_refused(low: list[float], high: list[float], why: str) -> None:
    with pytest.raises(UnsupportedError, match=why):
        rounded.grid(np.array(low), np.array(high), 256)


def _graph(folder: Path, *operators: str) -> Path:
    names = ["image", *(f"v{number}" for number in range(len(operators)))]
    nodes = [
        helper.make_node(name, [names[n], *(["w"] if name == "Conv" else [])], [names[n + 1]])
        for n, name in enumerate(operators)
    ]
    weight = numpy_helper.from_array(np.ones((4, 1, 3, 3), np.float32), "w")
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, 8, 8])],
        [helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, None)], [weight],
    )  # fmt: skip
    file = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), file)
    return file


@pytest.mark.parametrize("operator", ["Erf", "Softplus", "LpPool"])
def test_other_operators_are_named(tmp_path: Path, operator: str) -> None:
    file = _graph(tmp_path, "Conv", "Relu")
    assert network.unreadable(file) == ""
    model = onnx.load(file)
    settings = {"kernel_shape": [2, 2]} if operator == "LpPool" else {}
    model.graph.node.append(helper.make_node(operator, [model.graph.output[0].name], ["end"], **settings))
    model.graph.output[0].name = "end"
    onnx.save(model, file)
    assert f"operator {operator}" in network.unreadable(file)
    with pytest.raises(UnsupportedError, match=f"cannot be trained: operator {operator}"):
        network.read(file)


def test_the_profile_tells_what_can_be_trained(model: Path, lite: Path, tmp_path: Path) -> None:
    for folder, rows in ((model, digits.TRAINED), (lite, 0)):
        own = tmp_path / folder.name
        shutil.copytree(folder, own)
        source = Source(name="x", source="x", origin="x", sha256="1" * 64, kind="image-classifier")
        source.write(own / "source.json")
        assert describing.describe(own).training_rows == rows


def test_training_pictures_of_the_users(model: Path, tmp_path: Path) -> None:
    own, out = tmp_path / "own", tmp_path / "out"
    out.mkdir()
    shutil.copytree(model, own, ignore=shutil.ignore_patterns(training.FILE))
    with pytest.raises(UnsupportedError, match="without training pictures"):
        training.lessons(own)
    for name in ("3", "7"):
        (own / "training" / name).mkdir(parents=True)
        Image.new("L", (9, 9), 90).save(own / "training" / name / "a.png")
    expanding.expand(Fetch(model=str(own)), out)
    found = training.lessons(out)
    assert found.classes is not None
    assert found.classes.tolist() == [3, 7]
    assert found.pictures.shape == (2, 1, 8, 8)


@pytest.mark.parametrize(
    "line",
    [
        {"channels": 0.5},
        {"method": "qat"},
        {"channels": 0.5, "epochs": 3, "source": "variants/onnx-fp32"},
        {"channels": 0.0, "epochs": 3},
    ],
)
def test_lines_that_say_too_little_are_refused(line: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"epochs|source|greater than 0"):
        Variant.model_validate({"backend": "onnx", "precision": "int8", "source": "model"} | line)
