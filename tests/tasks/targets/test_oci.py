"""A package as an OCI artifact: what is in it, what is refused, and a real registry's word on it."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import ConfigError, ModelError, ResourceError
from tasks.packaging.manifest import CONTENTS, verify_manifest, write_manifest
from tasks.targets.cluster import oci, registry
from tests import factories as make

REGISTRY = "docker-registry"
needs_registry = pytest.mark.skipif(shutil.which(REGISTRY) is None, reason=f"Debian's {REGISTRY} is not installed")


def package(folder: Path, weights: bytes = bytes(range(256)) * 9) -> Path:
    """A package of the right shape; what its model says is no matter here."""
    (folder / "model").mkdir(parents=True)
    (folder / "tokenizer").mkdir()
    (folder / "model" / "model.gguf").write_bytes(weights)
    (folder / "tokenizer" / "tokenizer.json").write_text("{}")
    (folder / "README.md").write_text("How to run it.\n")
    make.contents(backend="gguf").write(folder / CONTENTS)
    write_manifest(folder)
    return folder


def layout(folder: Path, **changes: Any) -> Path:
    """The layout of a package, in both forms."""
    made = package(folder / "package", **changes)
    oci.write(made, make.contents(backend="gguf"), make.profile(), folder / "layout", image=True)
    return folder / "layout"


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_artifact_is_a_modelpack(tmp_path: Path) -> None:
    made = layout(tmp_path)
    manifest = json.loads(oci.blob(made, oci.digests(made)[oci.MODELPACK]).read_bytes())
    assert manifest["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    config = json.loads(oci.blob(made, manifest["config"]["digest"]).read_bytes())
    assert set(config) == {"descriptor", "config", "modelfs"} and config["config"]["format"] == "gguf"
    files = {one["annotations"]["org.cncf.model.filepath"]: one for one in manifest["layers"]}
    assert set(files) == {"MANIFEST.json", "README.md", CONTENTS, "model/model.gguf", "tokenizer/tokenizer.json"}
    weights = files["model/model.gguf"]
    assert weights["mediaType"] == "application/vnd.cncf.model.weight.v1.raw"
    assert oci.blob(made, weights["digest"]).read_bytes() == bytes(range(256)) * 9  # as it is, to be mapped
    assert config["modelfs"]["diffIds"] == [one["digest"] for one in manifest["layers"]]


def test_the_same_package_gives_the_same_bytes_and_another_one_another_digest(tmp_path: Path) -> None:
    first, second, other = (
        layout(tmp_path / name, **more) for name, more in (("a", {}), ("b", {}), ("c", {"weights": b"x"}))
    )
    assert bytes_of(first) == bytes_of(second)
    assert all(oci.digests(first)[form] != oci.digests(other)[form] for form in (oci.MODELPACK, oci.IMAGE))


@pytest.mark.parametrize("form", [oci.MODELPACK, oci.IMAGE])
def test_what_is_unpacked_is_the_package(tmp_path: Path, form: str) -> None:
    made = layout(tmp_path)
    oci.unpack(made, tmp_path / "out", form, oci.digests(made)[form])
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "package")
    verify_manifest(tmp_path / "out")


@pytest.mark.skipif(shutil.which("tar") is None, reason="tar is not installed")
def test_layers_of_the_image_are_archives_that_tar_reads(tmp_path: Path) -> None:
    made = layout(tmp_path)
    (tmp_path / "out").mkdir()
    for layer in oci.verify(made, oci.IMAGE):
        subprocess.run(["tar", "-xf", oci.blob(made, layer.digest), "-C", tmp_path / "out"], check=True, timeout=20)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "package")


def edited(made: Path, change: Any) -> None:
    """Change the ModelPack manifest and all that names it, so that digests fit again."""
    index = json.loads((made / "index.json").read_bytes())
    manifest = json.loads(oci.blob(made, index["manifests"][0]["digest"]).read_bytes())
    config = json.loads(oci.blob(made, manifest["config"]["digest"]).read_bytes())
    change(manifest, config)
    raw = json.dumps(config, sort_keys=True).encode()
    manifest["config"] |= {"digest": oci.digest_of(raw), "size": len(raw)}
    told = json.dumps(manifest, sort_keys=True).encode()
    for one in (raw, told):
        oci.blob(made, oci.digest_of(one)).write_bytes(one)
    index["manifests"][0]["digest"] = oci.digest_of(told)
    (made / "index.json").write_text(json.dumps(index))


def flipped(made: Path) -> None:
    [weights] = [one for one in oci.verify(made) if one.kind == oci.WEIGHT]
    raw = bytearray(oci.blob(made, weights.digest).read_bytes())
    raw[7] ^= 1
    oci.blob(made, weights.digest).write_bytes(raw)


def missing(made: Path) -> None:
    oci.blob(made, oci.verify(made)[0].digest).unlink()


@pytest.mark.parametrize(("fault", "words"), [
    (flipped, "model/model.gguf was changed"),
    (missing, "lacks MANIFEST.json"),
    (lambda made: (made / "oci-layout").unlink(), "is no OCI layout"),
    (lambda made: edited(made, lambda m, c: m["layers"][0]["annotations"].clear()), "no place inside"),
    (lambda made: edited(made, lambda m, c: m["layers"][0].update(annotations={oci.FILEPATH: "../x"})), "no place"),
    (lambda made: edited(made, lambda m, c: m["layers"][0].update(mediaType="application/zip")), "is not read here"),
    (lambda made: edited(made, lambda m, c: m.update(artifactType="application/x")), "no ModelPack"),
    (lambda made: edited(made, lambda m, c: c.update(more=1)), "not config, descriptor and modelfs"),
    (lambda made: edited(made, lambda m, c: c["config"].update(bits=4)), "bits, which ModelPack does not know"),
    (lambda made: edited(made, lambda m, c: c["modelfs"]["diffIds"].pop()), "modelfs does not list the layers"),
])  # fmt: skip
def test_a_broken_layout_is_refused(tmp_path: Path, fault: Any, words: str) -> None:
    made = layout(tmp_path)
    fault(made)
    with pytest.raises(ModelError, match=words):
        oci.verify(made)


def test_another_digest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not sha256:0000"):
        oci.verify(layout(tmp_path), digest="sha256:" + "0" * 64)
    with pytest.raises(ModelError, match="is no digest"):
        oci.blob(tmp_path, "md5:0")


@pytest.mark.parametrize("text", ["", "host", "host/name:tag", "/name"])
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is no reference"):
        registry.reference(text)


@pytest.mark.parametrize(("text", "plain", "base"), [
    ("registry.example/a/b", False, "https://registry.example/v2/a/b"),
    ("registry.example:5000/a", True, "http://registry.example:5000/v2/a"),
    ("localhost:5000/a", False, "http://localhost:5000/v2/a"),
])  # fmt: skip
def test_only_loopback_is_asked_without_encryption(text: str, plain: bool, base: str) -> None:
    assert registry.reference(text, plain)[0].base == base


@pytest.fixture(scope="module")
def kept_by(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A registry on loopback, and the folder where it keeps blobs."""
    folder = tmp_path_factory.mktemp("registry")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "config.yml").write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}/kept}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([REGISTRY, "serve", folder / "config.yml"], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=2).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.05)
        yield f"127.0.0.1:{port}", folder / "kept"
    finally:
        process.terminate()
        process.wait(timeout=10)


@needs_registry
@pytest.mark.parametrize("form", [oci.MODELPACK, oci.IMAGE])
def test_a_registry_gives_back_what_was_pushed(kept_by: tuple[str, Path], tmp_path: Path, form: str) -> None:
    made, name = layout(tmp_path), f"{kept_by[0]}/team/{form}"
    assert registry.main(["push", str(made), name, "--form", form]) == 0
    digest = oci.digests(made)[form]
    assert registry.main(["pull", f"{name}@{digest}", str(tmp_path / "out")]) == 0
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "package")
    assert registry.push(made, registry.reference(name)[0], form) == digest  # and again: nothing is sent twice


@needs_registry
def test_a_registry_that_gives_other_bytes_is_refused(kept_by: tuple[str, Path], tmp_path: Path) -> None:
    made = layout(tmp_path, weights=b"kept and then changed")
    one, digest = registry.reference(f"{kept_by[0]}/changed")[0], oci.digests(made)[oci.MODELPACK]
    registry.push(made, one)
    [weights] = [layer for layer in oci.verify(made) if layer.kind == oci.WEIGHT]
    kept = next(kept_by[1].rglob(f"{weights.digest.removeprefix('sha256:')}/data"))
    kept.write_bytes(b"kept and then CHANGED")
    with pytest.raises(ModelError, match="with other bytes"):
        registry.pull(one, digest, tmp_path / "out")
    with pytest.raises(ResourceError, match="404"):
        registry.pull(one, "sha256:" + "0" * 64, tmp_path / "out")


def test_no_registry_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ResourceError, match="no registry answers"):
        registry.push(layout(tmp_path), registry.reference(f"127.0.0.1:{port}/a")[0])
