"""OpenVINO Model Server's folder: what is built, what our rules refuse, and what the engine inside it answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tasks.errors import ConfigError, UnsupportedError
from tasks.packaging.manifest import verify_manifest
from tasks.targets import ovms
from tasks.targets.ovms import rules
from tests import factories as make
from tests.tasks.targets import serving_packages as packages

if TYPE_CHECKING:
    from tasks.targets.base import Bundles, Kind

    _KIND: Kind = ovms
    _BUNDLES: Bundles = ovms.Ovms("", "")

OVMS = ovms.target("box", "host")


def bundle(folder: Path, **options: object) -> Path:
    out = folder / "bundle"
    out.mkdir(parents=True)
    OVMS.build(packages.files(folder / "package", **options), out)
    return out


def refused(out: Path) -> str:
    return "; ".join(one.reason for one in OVMS.validate(out) if one.state == "failed" and "manifest" not in one.name)


@pytest.mark.parametrize(("backend", "family", "ok", "words"), [
    ("openvino", "tokens", True, "by continuous batching"),
    ("openvino", "arrays", True, "as a model"),
    ("onnx", "tokens", False, "is given OpenVINO's files, not those of onnx"),
    ("gguf", "tokens", False, "not those of gguf"),
])  # fmt: skip
def test_what_it_takes(backend: str, family: str, ok: bool, words: str) -> None:
    found = OVMS.accepts(make.profile(family=family), make.recipe(backend=backend))
    assert (found.ok, words in found.reason) == (ok, True), found.reason


def test_a_language_model_is_a_graph_beside_its_files(tmp_path: Path) -> None:
    out = bundle(tmp_path, model_device="AUTO:GPU,CPU", slots=4, context=1024)
    config = json.loads((out / "models/config.json").read_text())
    assert config["mediapipe_config_list"] == [{"name": "sample", "base_path": "sample"}]
    assert config["model_config_list"] == [] and config["monitoring"]["metrics"]["enable"] is True
    told = rules.options((out / "models/sample/graph.pbtxt").read_text())
    assert (told["device"], told["max_num_seqs"], told["cache_size"]) == ("AUTO:GPU,CPU", 4, 1)
    assert json.loads(told["plugin_config"]) == {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "64"}
    states = {one.name: one.state for one in OVMS.validate(out)}
    assert states == {
        "config.json": "ok",
        "sample/graph.pbtxt": "ok",
        "manifest of all files": "ok",
        "ovms": "not-measured",
    }
    assert "127.0.0.1:8000/v3" in (out / "README.md").read_text()
    verify_manifest(out)


@pytest.mark.parametrize(("tokens", "gb"), [(1, 1), (8 * 2048, 1), (64 * 2048, 3), (512 * 2048, 23)])
def test_the_cache_holds_all_tokens(tokens: int, gb: int) -> None:
    assert ovms.cache_gb(make.profile(), tokens) == gb


@pytest.mark.parametrize(("rows", "options", "device"), [
    ("batch", {}, "CPU"),
    (1, {}, "BATCH:CPU(8)"),
    (1, {"batch": 16, "model_device": "GPU"}, "BATCH:GPU(16)"),
    (1, {"batch": 1}, "CPU"),
    (1, {"model_device": "AUTO:GPU,CPU"}, "AUTO:GPU,CPU"),
])  # fmt: skip
def test_a_model_of_known_sizes_is_batched_by_the_device(
    tmp_path: Path, rows: int | str, options: dict[str, Any], device: str
) -> None:
    shipped = packages.linear(tmp_path / "package", "openvino", rows, **options)
    out = tmp_path / "bundle"
    out.mkdir()
    OVMS.build(shipped, out)
    [entry] = json.loads((out / "models/config.json").read_text())["model_config_list"]
    assert entry["config"]["target_device"] == device
    assert ("AUTO_BATCH_TIMEOUT" in entry["config"]["plugin_config"]) is device.startswith("BATCH")
    assert refused(out) == "" and OVMS.compare(shipped, out).state == "not-measured"


@pytest.mark.parametrize(("options", "words"), [
    ({"model_device": "TPU"}, "'TPU' is no device of OpenVINO; allowed: AUTO, BATCH, CPU, GPU"),
    ({"model_device": "AUTO:GPUU,CPU"}, "'GPUU' is no device"),
    ({"slots": 0}, "targets.box.options.slots: 0 is too small"),
    ({"device": "CPU"}, "targets.box.options.device is not known"),
])  # fmt: skip
def test_options(tmp_path: Path, options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=r"targets\.box") as caught:
        bundle(tmp_path, **options)
    assert words in str(caught.value)


def test_files_of_another_runtime_cannot_be_built(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(UnsupportedError, match="not those of onnx"):
        OVMS.build(packages.files(tmp_path / "package", "onnx"), tmp_path / "out")


def test_the_same_package_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (bundle(tmp_path / name) for name in ("a", "b"))
    assert (first / "MANIFEST.json").read_bytes() == (second / "MANIFEST.json").read_bytes()


def graph(old: str, new: str) -> Callable[[Path], None]:
    def edit(out: Path) -> None:
        file = out / "models/sample/graph.pbtxt"
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new, 1))

    return edit


def config(**changes: Any) -> Callable[[Path], None]:
    def edit(out: Path) -> None:
        file = out / "models/config.json"
        raw = json.loads(file.read_text()) | changes
        file.write_text(json.dumps({name: value for name, value in raw.items() if value is not None}))

    return edit


MODEL = {"name": "other", "base_path": "sample"}
MUTANTS: list[tuple[Callable[[Path], object], str]] = [
    (graph("HttpLLMCalculator", "LLMCalculator"), "its calculator is 'LLMCalculator'"),
    (graph("LLM_NODE_RESOURCES:llm", "LLM:llm"), "lacks the side packet LLM_NODE_RESOURCES:llm"),
    (graph("back_edge: true", "back_edge: false"), "no loop back to itself"),
    (graph("max_num_seqs", "max_sequences"), "max_sequences is no field that is known"),
    (graph("max_num_seqs: 8", "max_num_seqs: 0"), "max_num_seqs is too small"),
    (graph("cache_size: 1", "cache_size: 1.5"), "cache_size: 1.5 is no int"),
    (graph("LM_CB", "LM_FAST"), "'LM_FAST' is not known; allowed: LM, VLM"),
    (graph('models_path: "./"', 'models_path: "./elsewhere"'), "models_path './elsewhere' lacks openvino_model.xml"),
    (graph('      models_path: "./"\n', ""), "lacks models_path"),
    (graph("node {", "node {{"), "a field's name was expected"),
    (graph(r"{\"DYN", r"{\"NUM_STREAMS\": 1, \"PERFORMANCE_HINT\": \"LATENCY\", \"DYN"), "exclude each other"),
    (graph(r"{\"DYN", r"\"DYN"), "it cannot be read"),
    (lambda out: (out / "models/sample/openvino_tokenizer.xml").unlink(), "lacks openvino_tokenizer.xml"),
    (lambda out: (out / "models/sample/graph.pbtxt").unlink(), "sample/graph.pbtxt is not there"),
    (config(models=[]), "models is no key of config.json"),
    (config(model_config_list=None), "model_config_list is missing"),
    (config(mediapipe_config_list=[]), "it names no model"),
    (config(mediapipe_config_list=[{"name": "sample"}]), "a graph lacks base_path"),
    (
        config(mediapipe_config_list=[{"name": "sample", "base_path": "sample", "path": "a"}]),
        "path is no key of a graph",
    ),
    (config(mediapipe_config_list=[{"name": "sample", "base_path": "sample"}] * 2), "have the same name"),
    (config(model_config_list=[{"config": MODEL}]), "sample has no folder of a version"),
    (config(model_config_list=[{"config": MODEL | {"nireq": "4"}}]), "nireq is '4'"),
]


@pytest.mark.parametrize(("mutate", "words"), MUTANTS, ids=[words[:40] for _, words in MUTANTS])
def test_our_rules_refuse_a_broken_folder(tmp_path: Path, mutate: Callable[[Path], object], words: str) -> None:
    out = bundle(tmp_path)
    assert refused(out) == ""
    mutate(out)
    assert words in refused(out)


def test_the_numbers_of_the_graph_answer_as_the_package(tmp_path: Path, tiny_model: Path, tokenizer_dir: Path) -> None:
    shipped = packages.written(tmp_path / "package", tiny_model, tokenizer_dir)
    out = tmp_path / "bundle"
    out.mkdir()
    OVMS.build(shipped, out)
    found = OVMS.compare(shipped, out)
    assert found.state == "ok" and found.answers == 4, found.reason
    weights = out / "models/tiny/openvino_model.bin"
    weights.write_bytes(weights.read_bytes()[::-1])
    broken = OVMS.compare(shipped, out)
    assert broken.state == "failed", broken.reason
