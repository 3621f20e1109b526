"""The build context of an image: what is in it, that it is the same twice, and that validators refuse broken ones."""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.utils import canonicalize_name
from tokenizers import Tokenizer

from tasks.backends.table import tokens
from tasks.errors import ConfigError, ResourceError, UnsupportedError
from tasks.packaging.manifest import CONTENTS, Contents, listing, write_manifest
from tasks.params.whole import load_whole
from tasks.targets import container, over_http
from tasks.targets.base import Bundles, Shipped
from tasks.targets.container import checks, dockerfile, images, pins
from tests import factories as make
from tests import serving

NAME = "edgewright-sample"
TARGET = container.target("box", "host")
NO_HADOLINT = pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed")
NO_CYCLONEDX = pytest.mark.skipif(importlib.util.find_spec("cyclonedx") is None, reason="cyclonedx is not installed")
HERE = images.lacking() or ("" if images.Images(images.home()).ready else "bases of images are not in the cache")
NO_IMAGES = pytest.mark.skipif(bool(HERE), reason=HERE)


def package(folder: Path, backend: str = "openvino", kind: str = "causal-lm") -> Shipped:
    """A package whose files are a few bytes: a context takes any."""
    for name, text in (("model/openvino_model.bin", "weights"), ("model/openvino_model.xml", "<net "),
                       ("tokenizer/tokenizer.json", "{}")):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    contents = Contents(
        kind=kind, model='The "Sample"', origin="made for tests", source_sha256="1" * 64, variant=f"{backend}-int8",
        backend=backend, recipe=make.recipe(backend=backend), tensor_share={}, versions={}, runtime={}, settings={},
        requirements=(), chat=True, verdict="pass", results_digest="d" * 64,
    )  # fmt: skip
    contents.write(folder / CONTENTS)
    write_manifest(folder)
    return Shipped(package=folder, contents=contents, profile=make.profile(), name=NAME)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    return package(tmp_path_factory.mktemp("shipped") / "package")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, shipped: Shipped) -> Path:
    out = tmp_path_factory.mktemp("context")
    TARGET.build(shipped, out)
    return out


@pytest.fixture
def context(tmp_path: Path, built: Path) -> Iterator[Path]:
    """A copy to break."""
    shutil.copytree(built, tmp_path / "context")
    yield tmp_path / "context"


def states(context: Path) -> dict[str, tuple[str, str]]:
    return {one.name: (one.state, one.reason) for one in TARGET.validate(context)}


@pytest.mark.parametrize(("backend", "family", "ok", "words"), [
    ("openvino", "tokens", True, "the server has an engine of openvino"),
    ("mlx", "tokens", True, "the server has an engine of mlx"),
    ("torch", "tokens", False, "the image has no stage of torch"),
    ("onnx", "arrays", False, "its stages hold what serves models of tokens"),
])  # fmt: skip
def test_what_it_takes(backend: str, family: str, ok: bool, words: str) -> None:
    found = TARGET.accepts(make.profile(family=family), make.recipe(backend=backend))
    assert found.ok is ok and words in found.reason
    assert isinstance(TARGET, Bundles)


def test_a_fresh_context_is_refused_by_nothing(built: Path) -> None:
    found = states(built)
    assert {name for name, (state, _) in found.items() if state == "failed"} == set()
    assert {name for name, (state, _) in found.items() if state == "not-measured"} <= {"hadolint", "CycloneDX's schema"}
    assert len(found) == 10


def test_the_same_package_makes_the_same_bytes(built: Path, shipped: Shipped, tmp_path: Path) -> None:
    parts = TARGET.build(shipped, tmp_path)
    assert listing(tmp_path) == listing(built)
    assert all(part.installed_bytes > 0 for part in parts)
    files = sum(part.installed_bytes for part in parts if part.component != "runtime")
    assert files == sum(file.stat().st_size for file in built.rglob("*") if file.is_file())


def test_all_can_read_it_and_nobody_else_can_write_it(built: Path) -> None:
    assert {place.stat().st_mode & 0o777 for place in built.rglob("*") if place.is_file()} == {0o644}
    assert {place.stat().st_mode & 0o777 for place in built.rglob("*") if place.is_dir()} == {0o755}


def test_versions_are_those_of_the_lock(built: Path) -> None:
    locked = pins.versions(pins.LOCK.read_text())
    for name, pinned in checks.pins_of(built).items():
        assert pinned, name
        assert {one.name: one.version for one in pinned} == {
            one.name: (locked | pins.BUILDERS)[one.name] for one in pinned
        }


HIDING = """
import importlib, sys
hidden, modules = set(sys.argv[1].split(",")), sys.argv[2].split(",")
class Hide:
    def find_spec(self, name, *_):
        if name.split(".")[0] in hidden:
            raise ModuleNotFoundError(f"hidden: {name}", name=name)
sys.meta_path.insert(0, Hide())
for module in modules:
    importlib.import_module(module)
print(importlib.import_module("tasks").__file__)
"""


@pytest.mark.parametrize("without", ["", "prometheus-client"])
def test_the_server_s_sources_are_whole_and_import_pinned_packages_alone(built: Path, without: str) -> None:
    pinned = {one.name for one in checks.pins_of(built)["serve"]} - {without}
    owners = packages_distributions()
    hidden = [name for name, own in owners.items() if name != "tasks" and not pinned & set(map(canonicalize_name, own))]
    modules = ["tasks.serve.__main__", *(f"tasks.backends.{name}" for name in pins.FRAMEWORKS)]
    modules += ["tasks.serve.model.worker", "tasks.kinds.causal_lm.predicting", "tokenizers", "llguidance"]
    done = subprocess.run(
        [sys.executable, "-B", "-c", HIDING, ",".join(hidden), ",".join(modules)], cwd=built / "app", timeout=120,
        capture_output=True, text=True, check=False, env={"PYTHONPATH": str(built / "app"), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    if without:
        assert done.returncode == 1 and "hidden: prometheus_client" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert Path(done.stdout.strip()).is_relative_to(built / "app")


def test_no_converter_and_no_registry_s_library_is_pinned(built: Path) -> None:
    named = {one.name for pinned in checks.pins_of(built).values() for one in pinned}
    assert not named & set(checks.NEVER)


def test_a_page_beside_the_sources_goes_with_them(built: Path) -> None:
    assert (built / "app/tasks/serve/http/page/index.html").is_file()
    assert not (built / "app/tasks/targets").exists() and not (built / "app/tasks/gates").exists()


def test_a_slow_runtime_is_given_time(built: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    TARGET.build(package(tmp_path / "package", "mlx"), tmp_path / "out")
    found = [load_whole(folder / "app").serve for folder in (built, tmp_path / "out")]
    assert [one.hang_s for one in found] == [load_whole().serve.hang_s, container.SLOW["hang_s"]]
    assert {one.port for one in found} == {8080}


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "words"), [
    ({"bse": "x"}, "targets.box.options.bse is not known"),
    ({"base": "python"}, "targets.box.options.base: 'python' is no pinned image"),
    ({"runtime": "python:latest"}, "options.runtime: 'python:latest' is no pinned image"),
    ({"compiler": "python:3.11 \nRUN x"}, "options.compiler"),
])  # fmt: skip
def test_options_that_are_not_known_are_refused(
    shipped: Shipped, tmp_path: Path, options: dict[str, str], words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        TARGET.build(replace(shipped, options=options), tmp_path)
    assert words in str(caught.value)


@pytest.mark.parametrize(("backend", "kind", "words"), [
    ("torch", "causal-lm", "the image has no stage of torch"),
    ("gguf", "tests.tasks.toy_kind", "tests.tasks.toy_kind is a module of your own"),
])  # fmt: skip
def test_what_no_image_carries_is_refused(tmp_path: Path, backend: str, kind: str, words: str) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(UnsupportedError) as caught:
        TARGET.build(package(tmp_path / "package", backend, kind), tmp_path / "out")
    assert words in str(caught.value)


def test_with_a_folder_of_wheels_each_pin_has_digests(shipped: Shipped, tmp_path: Path) -> None:
    wheels, out = tmp_path / "wheels", tmp_path / "out"
    wheels.mkdir()
    out.mkdir()
    for one in {one for pinned in pins.pins().values() for one in pinned}:
        source = one.name == pins.COMPILED
        stem = f"{one.name.replace('-', '_')}-{one.version}"
        (wheels / (f"{stem}.tar.gz" if source else f"{stem}-py3-none-any.whl")).write_text(one.name)
    TARGET.build(replace(shipped, options={"wheels": str(wheels), "image": "here/sample:1"}), out)
    found = checks.pins_of(out)
    assert all(len(one.hashes) == 1 for pinned in found.values() for one in pinned)
    assert {state for state, _ in states(out).values()} <= {"ok", "not-measured"}
    assert yaml.safe_load((out / "compose.yaml").read_text())["services"]["server"]["image"] == "here/sample:1"
    (wheels / "click-8.5.1-py3-none-any.whl").unlink(missing_ok=True)
    next(wheels.glob("numpy-*")).unlink()
    with pytest.raises(ConfigError, match=r"lacks .*numpy=="):
        TARGET.build(replace(shipped, options={"wheels": str(wheels)}), tmp_path / "again")


# -- mutants -----------------------------------------------------------------------------------------------------------

RULES, PINS = "Dockerfile: stages, user, port, health, sources", "pins of all packages"
COMPOSE, QUADLET, INSIDE = "compose file: rights and limits", "quadlet: rights and limits", "list of what is inside"
UNIT = f"{NAME}.container"


@pytest.mark.parametrize(("file", "old", "new", "check", "words"), [
    ("Dockerfile", "AS build-mlx", "AS build-nlx", RULES, "it has no stage build-mlx"),
    ("Dockerfile", "USER 10001:10001", "USER root", RULES, "user 'root' is no number above 0"),
    ("Dockerfile", "USER 10001:10001", "USER 0:0", RULES, "user '0:0' is no number above 0"),
    ("Dockerfile", "EXPOSE 8080", "EXPOSE 80", RULES, "port 80, not 8080"),
    ("Dockerfile", "/v2/health/ready", "/metrics", RULES, "asks for no answer of the model"),
    ("Dockerfile", "STOPSIGNAL SIGTERM", "STOPSIGNAL SIGKILL", RULES, "the server drains on SIGTERM"),
    ("Dockerfile", "STOPSIGNAL SIGTERM\n", "", RULES, "production has no STOPSIGNAL"),
    ("Dockerfile", "COPY app /app", "ADD https://example.org/app.tar /app", RULES, "ADD fetches and unpacks by itself"),
    ("Dockerfile", "COPY app /app", "RUN wget https://example.org/app.tar", RULES, "fetches from an address"),
    ("Dockerfile", "RUNTIME=docker.io/library/python:3.11-slim-bookworm", "RUNTIME=python:latest", RULES, "no pinned"),
    ("Dockerfile", "&& install -d", "&& apt-get install -y gcc && install -d", RULES, "production gets gcc"),
    ("Dockerfile", '["python3", "-m", "tasks.serve"]', "python3 -m tasks.serve", RULES, "a shell would get the signal"),
    ("Dockerfile", "WORKDIR /app", "/app", RULES, "is no instruction"),
    ("requirements/serve.txt", "click==", "click>=", PINS, "is no pin"),
    ("requirements/onnx.txt", "packaging==", "torch==2.0\npackaging==", PINS, "torch==2.0, which no server needs"),
    ("requirements/gguf.txt", "5.6.3", f"5.6.3 --hash=sha256:{'0' * 64}", PINS, "has no digest, others have"),
    ("compose.yaml", "read_only: true", "read_only: false", COMPOSE, "services.server.read_only is False"),
    ("compose.yaml", "- ALL", "- NET_RAW", COMPOSE, "cap_drop"),
    ("compose.yaml", "127.0.0.1:8080:8080", "8080:8080", COMPOSE, "ports"),
    ("compose.yaml", "/v2/health/ready", "/", COMPOSE, "asks for no answer of the model"),
    ("compose.yaml", "stop_grace_period: 35s", "stop_grace_period: 1s", COMPOSE, "it is killed while it drains"),
    ("compose.yaml", "services:", "services: [", COMPOSE, "is no YAML"),
    ("compose.yaml", "read_only:", "readonly:", "compose file by Compose's schema", "readonly"),
    ("compose.yaml", "pids_limit: 512", "pids_limit: [512]", "compose file by Compose's schema", "pids_limit"),
    (UNIT, "ReadOnly=true", "ReadOnlyRoot=true", QUADLET, "ReadOnlyRoot, which Podman does not know"),
    (UNIT, "ReadOnly=true", "ReadOnly=false", QUADLET, "lacks ReadOnly=true"),
    (UNIT, "PublishPort=127.0.0.1:", "PublishPort=", QUADLET, "listens to more than this machine"),
    (UNIT, "Image=localhost/", "Image=elsewhere/", QUADLET, "lacks Image=localhost/"),
    ("sbom.cdx.json", '"specVersion": "1.6"', '"specVersion": "1.2"', INSIDE, "not CycloneDX 1.6"),
    ("sbom.cdx.json", "pkg:pypi/numpy@", "pkg:pypi/numpi@", INSIDE, "listed and not installed"),
    ("sbom.cdx.json", '"machine-learning-model"', '"data"', INSIDE, "0 models with their digest"),
    ("package/model/openvino_model.bin", "weights", "weighed", "package inside", "was changed"),
    ("app/tasks/errors.py", "class", "klass", "manifest of all files", "tasks/errors.py was changed"),
])  # fmt: skip
def test_a_broken_context_is_refused(context: Path, file: str, old: str, new: str, check: str, words: str) -> None:
    text = (context / file).read_text()
    assert old in text
    (context / file).write_text(text.replace(old, new))
    state, reason = states(context)[check]
    assert state == "failed" and words in reason


@NO_HADOLINT
def test_hadolint_refuses_what_it_knows(context: Path) -> None:
    assert states(context)["hadolint"] == ("ok", "no finding")
    text = (context / "Dockerfile").read_text()
    (context / "Dockerfile").write_text(text.replace("WORKDIR /app", "WORKDIR app\nRUN sudo ls"))
    state, reason = states(context)["hadolint"]
    assert state == "failed" and "DL3000" in reason and "DL3004" in reason


def test_without_hadolint_it_is_not_measured(built: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert states(built)["hadolint"][0] == "not-measured"


@NO_CYCLONEDX
def test_the_schema_of_cyclonedx_refuses_what_is_none(context: Path) -> None:
    assert states(context)["CycloneDX's schema"][0] == "ok"
    raw: dict[str, Any] = json.loads((context / "sbom.cdx.json").read_text())
    raw["components"][0]["type"] = "model"
    (context / "sbom.cdx.json").write_text(json.dumps(raw))
    assert states(context)["CycloneDX's schema"][0] == "failed"


# -- images ------------------------------------------------------------------------------------------------------------


def test_where_no_image_can_be_built_answers_are_not_measured(
    built: Path, shipped: Shipped, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = TARGET.compare(shipped, built)
    assert found.state == "not-measured" and "buildah, podman, runc not installed here" in found.reason


class Parrot:
    """A server that says one thing."""

    def ask(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        assert path == "/v1/completions" and body["temperature"] == 0
        return 200, {"choices": [{"text": "hello"}]}


@pytest.mark.model
def test_a_server_with_other_answers_is_refused(tmp_path: Path, tiny_model: Path) -> None:
    made = tiny(tmp_path, tiny_model)
    found = over_http.compared("parrot", made, Parrot(), [[1, 2, 3], [4, 5]])
    assert (found.state, found.difference, found.answers) == ("failed", 2.0, 2)
    assert over_http.compared("parrot", made, Parrot(), []).state == "not-measured"


@pytest.mark.model
def test_a_text_that_parts_at_a_tie_alone_is_taken_for_the_same(tmp_path: Path, tiny_model: Path) -> None:
    made, ids = tiny(tmp_path, tiny_model), [1, 2, 3]
    mine, words = over_http.direct(made, [ids])[0], Tokenizer.from_file(str(made_tokenizer(tmp_path)))
    scorer = tokens("openvino").scorer(made.model, 2, None)
    row = scorer.score([*ids, *mine[:2]])[-1]
    scorer.close()
    second = next(int(one) for one in row.argsort()[::-1] if one != mine[2])
    theirs = words.decode([*mine[:2], second, 7])
    apart = over_http.gap(made, ids, mine, theirs)
    assert apart == pytest.approx(float(row[mine[2]] - row[second]), abs=0.1)
    assert over_http.gap(made, ids, mine, words.decode([*mine[:2], int(row.argmin())])) == math.inf


@NO_IMAGES
@pytest.mark.model
def test_an_image_is_built_and_answers_as_its_package(tmp_path: Path, tiny_model: Path) -> None:
    made, context = tiny(tmp_path, tiny_model), tmp_path / "context"
    context.mkdir()
    TARGET.build(made, context)
    found = TARGET.compare(made, context)
    assert (found.state, found.answers, found.difference) == ("ok", 2, 0.0), found.reason
    weights = context / "package/model/openvino_model.bin"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    again = TARGET.compare(made, context)
    assert again.state == "failed" and "ended with 2" in again.reason and "was changed" in again.reason


def made_tokenizer(folder: Path) -> Path:
    return folder / "package/tokenizer/tokenizer.json"


def tiny(folder: Path, model: Path) -> Shipped:
    made = serving.package(folder / "package", model, "openvino")
    contents = Contents.read(made / CONTENTS)
    texts = ("What is the capital of France?", "One, two, three,")
    return Shipped(package=made, contents=contents, profile=make.profile(), name="tiny", probes=texts)


def test_a_framework_without_a_stage_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no image of 'tflite'; allowed: openvino, onnx, gguf, mlx"):
        images.Images(tmp_path).build(tmp_path, "tflite", "localhost/x:1")
    assert not list(tmp_path.iterdir())


def test_a_step_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    (tmp_path / "buildah").write_text("#!/bin/sh\nsleep 60 &\nwait\n")
    (tmp_path / "buildah").chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        with pytest.raises(ResourceError, match="buildah took more than 0.3 s and was stopped"):
            images.Images(tmp_path).buildah("info", timeout=0.3)


# -- parsing -----------------------------------------------------------------------------------------------------------


def test_lines_are_joined_and_stages_told() -> None:
    text = "ARG A=1\n# no FROM x\nFROM a:1 AS one\nRUN a \\\n  # b\n  && c\nfrom one as two\nUSER 1\n"
    found = [(one.word, one.value, one.line, one.stage) for one in dockerfile.parse(text)]
    assert found == [
        ("ARG", "A=1", 1, ""), ("FROM", "a:1 AS one", 3, "one"), ("RUN", "a && c", 4, "one"),
        ("FROM", "one as two", 7, "two"), ("USER", "1", 8, "two"),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="line 1 goes on after the end of the file"):
        dockerfile.parse("RUN a \\\n")


def test_extras_and_markers_are_followed_for_the_image_and_not_for_this_machine() -> None:
    assert {"mlx", "mlx-cpu", "mlx-lm", "transformers"} <= pins.closure(["mlx[cpu]", "mlx-lm"])
    assert "huggingface-hub" not in pins.closure(pins.SERVE)
    assert not {"torch", "mlflow"} & pins.closure(
        [*pins.SERVE, *(one for of in pins.FRAMEWORKS.values() for one in of)]
    )


def test_another_version_than_the_lock_s_is_refused(tmp_path: Path) -> None:
    text = pins.LOCK.read_text()
    (tmp_path / "other.lock").write_text(text.replace("\nnumpy==", "\nnumpy==0.").replace("\nclick==", "\nclik=="))
    with pytest.raises(UnsupportedError, match="has no click|numpy is installed in version"):
        pins.pins(tmp_path / "other.lock")
