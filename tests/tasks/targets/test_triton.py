"""Triton's repository: what is built, what our rules and the real server refuse, and what the server answers."""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import psutil
import pytest
from onnx import numpy_helper

from tasks.errors import ConfigError, UnsupportedError
from tasks.packaging.manifest import verify_manifest
from tasks.targets import pbtxt, triton
from tasks.targets.ports import ports
from tasks.targets.triton import asking, server
from tasks.targets.triton.config import FILE
from tests import factories as make
from tests.tasks.targets import serving_packages as packages

if TYPE_CHECKING:
    from tasks.targets.base import Bundles, Kind

    _KIND: Kind = triton
    _BUNDLES: Bundles = triton.Triton("", "")

TRITON = triton.target("edge", "host")
PLACE = server.found()
needs_server = pytest.mark.skipif(PLACE is None, reason=server.absent())


def bundle(folder: Path, backend: str = "openvino", **options: object) -> Path:
    shipped = packages.files(folder / "package", backend, **options)
    out = folder / "bundle"
    out.mkdir()
    TRITON.build(shipped, out)
    return out


def rules(out: Path) -> dict[str, str]:
    """State and reason of each check that asks no server."""
    own = (("config.pbtxt", triton._repository_fault), ("Python", triton._python_fault))
    return {name: triton.bundled.check(name, lambda ask=ask: ask(out)).reason for name, ask in own}


@pytest.mark.parametrize(("backend", "family", "ok", "words"), [
    ("openvino", "tokens", True, "Python backend"),
    ("onnx", "tokens", True, "Python backend"),
    ("onnx", "arrays", True, "its onnxruntime backend"),
    ("openvino", "arrays", True, "its openvino backend"),
    ("gguf", "tokens", False, "runs artifacts of onnx, openvino, not of gguf"),
    ("mlx", "tokens", False, "not of mlx"),
])  # fmt: skip
def test_what_it_takes(backend: str, family: str, ok: bool, words: str) -> None:
    found = TRITON.accepts(make.profile(family=family), make.recipe(backend=backend))
    assert (found.ok, words in found.reason) == (ok, True), found.reason


def test_a_language_model_is_batched_and_streamed_over_one_package(tmp_path: Path) -> None:
    out = bundle(tmp_path, slots=4)
    whole, stream = (pbtxt.parsed((out / "models" / name / FILE).read_text()) for name in ("sample", "sample-stream"))
    assert (whole["max_batch_size"], stream["max_batch_size"]) == ([4], [0])
    assert whole["dynamic_batching"][0]["preferred_batch_size"] == [2, 4]
    assert stream["model_transaction_policy"] == [{"decoupled": [True]}] and "dynamic_batching" not in stream
    [told] = [json.loads(one["value"][0]["string_value"][0]) for one in whole["parameters"] if one["key"] == ["engine"]]
    assert told["end_tokens"] == [0, 2] and told["properties"] == {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "64"}
    assert len(list(out.rglob("openvino_model.bin"))) == 1
    assert not (out / "gpu").exists() and not (out / "vllm").exists()
    assert set(rules(out).values()) == {"as it should be"}
    assert "tritonclient.http" in (out / "README.md").read_text()
    assert "numpy==1.26.4" in (out / "requirements.txt").read_text()
    verify_manifest(out)


def test_onnx_has_a_twin_for_gpus_that_is_said_not_to_be_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "found", lambda: None)
    out = bundle(tmp_path, "onnx", tensor_parallel=3)
    assert pbtxt.parsed((out / "gpu/sample" / FILE).read_text())["instance_group"] == [
        {"count": [1], "kind": ["KIND_GPU"]}
    ]
    assert json.loads((out / "vllm/sample/1/model.json").read_text())["tensor_parallel_size"] == 3
    states = {one.name: (one.state, one.reason) for one in TRITON.validate(out)}
    assert states["tritonserver with gpu/"][0] == states["tritonserver with vllm/"][0] == "not-measured"
    assert states[asking.ENGINE] == ("not-measured", server.absent())
    assert server.COMMAND in server.absent()
    assert {state for state, _ in states.values()} == {"ok", "not-measured"}


def test_a_split_that_is_impossible_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="tensor_parallel 2: 9 heads cannot be shared out evenly") as caught:
        bundle(tmp_path, tensor_parallel=2)
    assert "allowed: 1, 3, 9" in str(caught.value)


@pytest.mark.parametrize(("options", "words"), [
    ({"slots": 0}, "targets.edge.options.slots: 0 is too small; allowed: 1 or more"),
    ({"slotz": 1}, "targets.edge.options.slotz is not known; allowed: slots,"),
    ({"slots": "8"}, "is no int"),
])  # fmt: skip
def test_options(tmp_path: Path, options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match="targets.edge.options") as caught:
        bundle(tmp_path, **options)
    assert words in str(caught.value)


def test_the_same_package_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (bundle(tmp_path / name, "onnx") for name in ("a", "b"))
    assert (first / "MANIFEST.json").read_bytes() == (second / "MANIFEST.json").read_bytes()


def change(old: str, new: str) -> Callable[[Path], None]:
    def edit(model: Path) -> None:
        text = (model / FILE).read_text()
        assert old in text
        (model / FILE).write_text(text.replace(old, new, 1))

    return edit


MUTANTS: list[tuple[Callable[[Path], object], str]] = [
    (change("backend:", "bakend:"), "bakend is no field that is known here"),
    (change('name: "sample"', 'name: "other"'), "its name is 'other', not that of its folder"),
    (change('backend: "python"', 'backend: "pyton"'), "backend 'pyton' is not known"),
    (change("[4, 8]", "[4, 16]"), "preferred_batch_size 16 is not within max_batch_size 8"),
    (change("max_batch_size: 8", "max_batch_size: 0"), "dynamic batching, and max_batch_size 0"),
    (change("    dims: [1]\n", ""), "input lacks dims"),
    (change("  dims: [-1]", "  dims: [-2]"), "dims of output 'TOKENS' are neither a size nor -1"),
    (change("TYPE_STRING", "TYPE_TEXT"), "'TYPE_TEXT' is not known"),
    (change("KIND_CPU", "KIND_NPU"), "'KIND_NPU' is not known"),
    (change("count: 1", "count: 0"), "an instance group has no instance"),
    (change("batch_size: 1\n", "batch_size: 9\n"), "its warm-up has a larger batch than max_batch_size"),
    (change('key: "PROMPT"', 'key: "PROMT"'), "its warm-up gives 'PROMT', which is no input"),
    (change(r"\"context\"", r"\"kontext\""), "parameter engine lacks context"),
    (lambda model: (model / "1" / "model.py").unlink(), "sample/1 lacks model.py"),
    (lambda model: (model / FILE).write_text("name: "), "a value was expected"),
    (lambda model: (model / FILE).unlink(), "FileNotFoundError"),
]


@pytest.mark.parametrize(("mutate", "words"), MUTANTS, ids=[words[:40] for _, words in MUTANTS])
def test_our_rules_refuse_a_broken_repository(tmp_path: Path, mutate: Callable[[Path], object], words: str) -> None:
    out = bundle(tmp_path)
    if "input lacks dims" in words:
        change("  dims: [1]\n", "")(out / "models/sample")
    else:
        mutate(out / "models/sample")
    assert words in rules(out)["config.pbtxt"]


def test_broken_python_and_changed_files_are_refused(tmp_path: Path) -> None:
    out = bundle(tmp_path)
    file = out / "models/sample/1/engine.py"
    file.write_text(file.read_text() + "def broken(:\n")
    assert "models/sample/1/engine.py, line" in rules(out)["Python"]
    assert "was changed" in triton.bundled.manifest_check(out).reason


def test_python_of_the_models_is_whole() -> None:
    for file in triton.PYTHON.glob("*.py"):
        ast.parse(file.read_text())


def repository(folder: Path, backend: str = "onnx", batch: int | str = "batch") -> tuple[Path, Path]:
    """A linear model's bundle, and its repository for the Python backend."""
    shipped = packages.linear(folder / "package", backend, batch)
    out = folder / "bundle"
    out.mkdir()
    TRITON.build(shipped, out)
    found = ports(backend, shipped.model)
    asking.twin(out / "models/linear", shipped, found, folder / "twin/models/linear")
    return out, folder / "twin/models"


@pytest.mark.parametrize(("backend", "batch", "most", "dims"), [
    ("onnx", "batch", [8], [6]),
    ("openvino", "batch", [8], [6]),
    ("onnx", 1, [0], [1, 6]),
    ("openvino", 1, [0], [1, 6]),
])  # fmt: skip
def test_a_model_of_arrays_has_the_backend_of_its_files(
    tmp_path: Path, backend: str, batch: int | str, most: list[int], dims: list[int]
) -> None:
    out, _ = repository(tmp_path, backend, batch)
    told = pbtxt.parsed((out / "models/linear" / FILE).read_text())
    assert (told["backend"], told["max_batch_size"]) == ([triton.BACKENDS[backend]], most)
    assert (told["input"][0]["dims"], "dynamic_batching" in told) == (dims, most == [8])
    assert set(rules(out).values()) == {"as it should be"}


@needs_server
@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_the_real_server_answers_arrays_as_the_package_does(tmp_path: Path, backend: str) -> None:
    out, _ = repository(tmp_path, backend)
    states = {one.name: one for one in TRITON.validate(out)}
    assert states[asking.ENGINE].state == "not-measured", states[asking.ENGINE].reason
    assert "it read the configuration" in states[asking.ENGINE].reason
    found = TRITON.compare(packages.linear(tmp_path / "again", backend), out)
    assert found.state == "ok", found.reason
    assert "outputs of 4 rows equal the package's" in found.reason
    verify_manifest(out)
    assert not [one for one in psutil.process_iter(["name"]) if one.info["name"] == "tritonserver"
                and one.ppid() == psutil.Process().pid]  # fmt: skip


@needs_server
def test_other_weights_are_found_by_their_answers(tmp_path: Path) -> None:
    out, _ = repository(tmp_path)
    other = packages.linear(tmp_path / "other")
    model = onnx.load(other.model / "model.onnx")
    tensor = model.graph.initializer[0]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + 0.01, tensor.name))
    onnx.save(model, other.model / "model.onnx")
    found = TRITON.compare(other, out)
    assert found.state == "failed" and "outputs differ by up to" in found.reason


BROKEN: list[tuple[Callable[[Path], object], str]] = [
    (change("backend:", "colour: 1\nbackend:"), "colour"),
    (change("[4, 8]", "[4, 16]"), "preferred size must be <= max batch size"),
    (change("  dims: [6]\n", ""), "dims"),
    (change("KIND_CPU", "KIND_GPU"), "no GPUs are available"),
    (lambda model: (model / "1" / "model.py").write_text("def broken(:\n"), "invalid syntax"),
    (lambda model: shutil.rmtree(model / "1"), "at least one version must be available"),
]


@needs_server
@pytest.mark.parametrize(("mutate", "words"), BROKEN, ids=[words for _, words in BROKEN])
def test_the_real_server_refuses_a_broken_repository(
    tmp_path: Path, mutate: Callable[[Path], object], words: str
) -> None:
    _, models = repository(tmp_path)
    mutate(models / "linear")
    assert PLACE is not None
    assert words in server.refusal(PLACE, models)


@needs_server
@pytest.mark.parametrize("turns", [0, 1])
def test_a_language_model_answers_as_its_package_alone_together_and_streamed(
    tmp_path: Path, tiny_model: Path, tokenizer_dir: Path, turns: int
) -> None:
    """With the rate limiter too, for which the real server is started otherwise."""
    told = {"context": 128, "take_turns": turns}
    shipped = replace(packages.written(tmp_path / "package", tiny_model, tokenizer_dir), options=told)
    out = tmp_path / "bundle"
    out.mkdir()
    TRITON.build(shipped, out)
    checks = TRITON.validate(out)
    assert not [one for one in checks if one.state == "failed"], checks
    assert ("--rate-limit=execution_count" in (out / "README.md").read_text()) == bool(turns)
    found = TRITON.compare(shipped, out)
    assert found.state == "ok" and found.answers == 12, found.reason
    assert found.rss_anon_mb is not None and found.rss_anon_mb > 50
    verify_manifest(out)
