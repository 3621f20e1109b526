"""Cross-platform bundles: ORT format that opens as shipped and answers as the package; broken ones are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tasks.errors import UnsupportedError
from tasks.packaging.manifest import CONTENTS, write_manifest
from tasks.records.bundles import Check
from tasks.targets import cross_platform
from tasks.targets.base import Shipped
from tests.factories import contents, profile, recipe

TARGET = cross_platform.CrossPlatform("any", "android-phone")


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    """A package of a small network with a product and a convolution."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    dice = np.random.default_rng(3)
    weights = [
        numpy_helper.from_array(dice.standard_normal(size).astype(np.float32), name)
        for name, size in (("k", (4, 1, 3, 3)), ("w", (4, 5)))
    ]
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["a"], name="conv"),
        helper.make_node("GlobalAveragePool", ["a"], ["b"], name="pool"),
        helper.make_node("Flatten", ["b"], ["c"], name="flat"),
        helper.make_node("MatMul", ["c", "w"], ["y"], name="product"),
    ]
    ports = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 8, 8]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5]),
    ]
    made = helper.make_model(
        helper.make_graph(nodes, "g", ports[:1], ports[1:], weights),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=10,
    )
    package = tmp_path_factory.mktemp("shipped") / "package"
    (package / "model").mkdir(parents=True)
    onnx.save(made, package / "model" / "model.onnx")
    found = contents("onnx", kind="image-classifier", family="arrays")
    found.write(package / CONTENTS)
    write_manifest(package)
    return Shipped(package=package, contents=found, profile=profile(), name="edgewright-digits")


@pytest.fixture(scope="module")
def made(shipped: Shipped, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made")
    TARGET.build(shipped, out)
    return out


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    import shutil

    return shutil.copytree(made, tmp_path / "bundle")


def said(bundle: Path, name: str) -> Check:
    return next(one for one in TARGET.validate(bundle) if one.name == name)


def test_a_bundle_is_refused_by_nothing_and_answers_as_the_package(shipped: Shipped, made: Path) -> None:
    assert [one for one in TARGET.validate(made) if one.state == "failed"] == []
    found = TARGET.compare(shipped, made)
    assert found.state == "ok"
    assert found.difference is not None and found.difference < 1e-4


def test_operators_are_listed_for_a_minimal_build_without_a_place_of_this_machine(made: Path) -> None:
    text = (made / cross_platform.OPERATORS).read_text()
    assert "Conv" in text
    assert "MatMul" in text
    assert str(made) not in text and "/tmp" not in text


def test_two_builds_are_the_same_to_the_byte(shipped: Shipped, made: Path, tmp_path: Path) -> None:
    TARGET.build(shipped, tmp_path)
    for file in (one for one in made.rglob("*") if one.is_file()):
        assert (tmp_path / file.relative_to(made)).read_bytes() == file.read_bytes(), file.name


def no_format(bundle: Path) -> None:
    (bundle / "model" / "model.ort").write_bytes(b"\x08\x07" * 40)


def cut(bundle: Path) -> None:
    file = bundle / "model" / "model.ort"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def no_operators(bundle: Path) -> None:
    (bundle / cross_platform.OPERATORS).write_text("# nothing\n")


def no_lines(bundle: Path) -> None:
    (bundle / cross_platform.OPERATORS).write_text("Conv, MatMul\n")


def no_coverage(bundle: Path) -> None:
    (bundle / cross_platform.REPORT).write_text("Checking NNAPI\n")


@pytest.mark.parametrize(
    ("broken", "name", "words"),
    [
        (no_format, "ORT format", "no model in ORT format"),
        (cut, "ONNX Runtime opens it, mapped as shipped", "refused it"),
        (no_operators, "operators for a minimal build", "names no operator"),
        (no_lines, "operators for a minimal build", "is no line of"),
        (no_coverage, "coverage by NNAPI and Core ML", "nothing of CoreML"),
        (no_coverage, "manifest of all files", "coverage.txt"),
    ],
)
def test_a_broken_bundle_is_refused(bundle: Path, broken: Callable[[Path], None], name: str, words: str) -> None:
    broken(bundle)
    found = said(bundle, name)
    assert found.state == "failed"
    assert words in found.reason


def test_another_model_in_its_place_answers_differently(shipped: Shipped, bundle: Path) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(shipped.model / "model.onnx")
    weight = next(one for one in model.graph.initializer if one.name == "w")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) + 0.5, "w"))
    (bundle / "other").mkdir()
    onnx.save(model, bundle / "other" / "model.onnx")
    cross_platform.convert(bundle / "other" / "model.onnx", bundle / "model" / "model.ort")
    assert TARGET.compare(shipped, bundle).state == "failed"


def test_what_it_does_not_take_is_told(shipped: Shipped, tmp_path: Path) -> None:
    assert "not gguf" in TARGET.accepts(profile(), recipe(backend="gguf")).reason
    assert "not int4" in TARGET.accepts(profile(), recipe(backend="onnx", precision="int4")).reason
    assert TARGET.accepts(profile(), recipe(backend="onnx")).ok
    lacking = Shipped(tmp_path, shipped.contents, shipped.profile, shipped.name)
    with pytest.raises(UnsupportedError, match=r"no model\.onnx"):
        TARGET.build(lacking, tmp_path)


def test_settings_name_the_mapping(made: Path) -> None:
    told = json.loads((made / cross_platform.SESSION).read_text())
    assert told == cross_platform.MAPPED


def test_divergence_is_none_of_a_row_with_itself() -> None:
    row = np.array([1.0, 2.0, 0.5], np.float32)
    assert cross_platform.divergence(row, row) == pytest.approx(0.0, abs=1e-12)
    assert cross_platform.divergence(row, row[::-1]) > 0.01
