"""An APK and an AI pack made by Android's own tools: options, sizes, native libraries, signatures."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import ConfigError, UnsupportedError
from tasks.targets import crossbuilt, elf
from tasks.targets.android import apk, checks, tools
from tasks.targets.android.apk import PAGE, Entry
from tasks.targets.base import Bundles, Shipped
from tests import factories as make
from tests.tasks.targets.android_bundle import (
    HIDDEN,
    INSIDE,
    NATIVE,
    PLACES,
    TARGET,
    TREE,
    WIDTH,
    WORDS,
    built,
    found,
    needs_tools,
    packed_again,
    shipped,
)  # fmt: skip
from tests.tasks.targets.test_elf import library

PASSWORD = "not-a-secret"
BUNDLES: Bundles = TARGET


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    return shipped(tmp_path_factory.mktemp("package") / "package")


@pytest.mark.parametrize(("backend", "family", "ok", "words"), [
    ("gguf", "tokens", True, "llama.cpp maps a GGUF file out of an APK"),
    ("mlx", "tokens", False, "maps GGUF files, not those of mlx"),
    ("gguf", "arrays", False, "this is a model of arrays"),
])  # fmt: skip
def test_what_it_takes(backend: str, family: str, ok: bool, words: str) -> None:
    said = TARGET.accepts(make.profile(family=family), make.recipe(backend=backend))
    assert said.ok is ok and words in said.reason


@pytest.mark.parametrize(("options", "words"), [
    ({"form": "aab"}, "targets.phone.options.form: 'aab' is not known; allowed: apk, ai-pack"),
    ({"delivery": "later"}, "options.delivery: 'later' is not known; allowed: install-time, fast-follow, on-demand"),
    ({"package": "one"}, "options.package: 'one' is no name that Android takes, as 'org.example.edgewright' is"),
    ({"split": "My split"}, "options.split: 'My split' is no name"),
    ({"ndk": "r28"}, "options.ndk is not known; allowed: form, package"),
    ({"form": "ai-pack", "keystore": "key.jks"}, "Play signs the APKs that it makes of an AI pack"),
])  # fmt: skip
def test_options_that_are_refused(package: Shipped, tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TARGET.build(replace(package, options=options), tmp_path)
    assert words in str(caught.value)


def test_without_the_tools_it_says_what_to_install(
    package: Shipped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnsupportedError, match="an APK is made with aapt, apksigner, zipalign.*apt-get install"):
        TARGET.build(package, tmp_path)


def test_without_a_gguf_file_nothing_is_built(package: Shipped, tmp_path: Path) -> None:
    other = tmp_path / "package"
    shutil.copytree(package.package, other)
    (other / "model" / "model.gguf").unlink()
    with pytest.raises(UnsupportedError, match="gguf-tiny has no model.gguf"):
        TARGET.build(replace(package, package=other), tmp_path)


@needs_tools
def test_an_apk_is_whole_and_its_ledger_counts_every_byte(package: Shipped, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    out.mkdir()
    parts = TARGET.build(replace(package, anyway="fail: too slow"), out)
    assert sum(one.installed_bytes for one in parts) == (out / "model.apk").stat().st_size
    sizes = {one.component: one.installed_bytes for one in parts}
    assert sizes["embedding"] == len(WORDS) * WIDTH * 2 and sizes["runtime"] == 0 and min(sizes.values()) >= 0
    assert sizes["tokenizer"] > 1000 and sizes["weights"] > 2 * (4 * WIDTH * WIDTH + 3 * WIDTH * HIDDEN)
    assert "planned" in next(one.name for one in parts if one.component == "runtime")
    states = {name: one.state for name, one in found(out).items()}
    assert "failed" not in states.values()
    for name in (PLACES, INSIDE, TREE, "aapt2 dump badging", "manifest of all files"):
        assert states[name] == "ok", name
    for name in (NATIVE, "apksigner verify", "Gradle and bundletool"):
        assert states[name] == "not-measured", name
    place = apk.one_of(out / "model.apk", checks.TOLD)
    apk.extract(out / "model.apk", place, tmp_path / "told")
    told = json.loads((tmp_path / "told").read_text())
    assert (told["variant"], told["verdict"], told["bundled_anyway"]) == ("gguf-tiny", "pass", "fail: too slow")
    assert "fail: too slow" in (out / "edgewright.json").read_text()


@needs_tools
@pytest.mark.parametrize("form", ["apk", "ai-pack"])
def test_two_builds_are_the_same_bytes(package: Shipped, tmp_path: Path, form: str) -> None:
    one, other = (built(replace(package, options={"form": form}), tmp_path / name) for name in ("one", "other"))
    listed = sorted(file.relative_to(one) for file in one.rglob("*") if file.is_file())
    assert listed == sorted(file.relative_to(other) for file in other.rglob("*") if file.is_file())
    assert all((one / file).read_bytes() == (other / file).read_bytes() for file in listed)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a key of each kind, and the password in the environment."""
    if shutil.which("keytool") is None:
        pytest.skip("keytool is not installed: a Java runtime brings it")
    folder = tmp_path_factory.mktemp("keys")
    for kind in ("RSA", "EC"):
        told = [
            "-keyalg",
            kind,
            "-alias",
            "edgewright",
            "-dname",
            "CN=Test",
            "-validity",
            "10000",
            "-storetype",
            "PKCS12",
        ]
        place = ["-keystore", str(folder / f"{kind}.jks"), "-storepass", PASSWORD]
        subprocess.run(["keytool", "-genkeypair", *told, *place], check=True, capture_output=True, timeout=120)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEWRIGHT_KEYSTORE_PASSWORD", PASSWORD)
        yield folder


@needs_tools
def test_a_signed_apk_is_the_same_twice_and_refused_when_changed(package: Shipped, keys: Path, tmp_path: Path) -> None:
    given = replace(package, options={"keystore": str(keys / "RSA.jks")})
    one, other = built(given, tmp_path / "one"), built(given, tmp_path / "other")
    assert (one / "model.apk").read_bytes() == (other / "model.apk").read_bytes()
    said = found(one)
    assert said["apksigner verify"].state == said[PLACES].state == "ok"
    assert sorted(file.name for file in one.glob("model.apk*")) == ["model.apk"]
    assert PASSWORD not in (one / "runtime.json").read_text() and str(keys) not in (one / "runtime.json").read_text()
    data = bytearray((one / "model.apk").read_bytes())
    data[PAGE + 40000] ^= 1
    (one / "model.apk").write_bytes(bytes(data))
    assert found(one)["apksigner verify"].state == "failed"
    packed_again(other, lambda entries: entries)  # its signature is gone
    assert found(other)["apksigner verify"].state == "failed"


@needs_tools
@pytest.mark.parametrize(("options", "words"), [
    ({"keystore": "EC.jks"}, "signs otherwise every time, and bundles are to be the same; take RSA"),
    ({"keystore": "none.jks"}, "there is no keystore"),
    ({"keystore": "RSA.jks", "password_env": "NO_SUCH_NAME"}, "the environment has no NO_SUCH_NAME"),
    ({"keystore": "RSA.jks", "password_env": "HOME"}, "apksigner does not sign with RSA.jks"),
    ({"keystore": "RSA.jks", "key_alias": "other"}, "apksigner does not sign with RSA.jks"),
])  # fmt: skip
def test_a_key_that_cannot_be_used_is_refused(
    package: Shipped, keys: Path, tmp_path: Path, options: dict[str, str], words: str
) -> None:
    given = replace(package, options={**options, "keystore": str(keys / options["keystore"])})
    with pytest.raises(ConfigError) as caught:
        built(given, tmp_path / "bundle")
    assert words in str(caught.value) and PASSWORD not in str(caught.value)


def folder_of(folder: Path, **files: bytes) -> Path:
    folder.mkdir()
    for name, data in files.items():
        (folder / name.replace("_so", ".so")).write_bytes(data)
    return folder


@needs_tools
def test_native_libraries_are_packed_on_pages_and_counted(package: Shipped, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "libs", libllama_so=library(), libedgewright_so=library(align=65536))
    out = tmp_path / "bundle"
    out.mkdir()
    parts = TARGET.build(replace(package, options={"libraries": str(folder)}), out)
    assert sum(one.installed_bytes for one in parts) == (out / "model.apk").stat().st_size
    [runtime] = [one for one in parts if one.component == "runtime"]
    assert (runtime.installed_bytes, runtime.abi) == (len(library()) * 2, "arm64-v8a")
    assert found(out)[NATIVE].state == found(out)[PLACES].state == "ok"
    names = [one.name for one in apk.placed(out / "model.apk") if one.name.startswith("lib/")]
    assert names == ["lib/arm64-v8a/libedgewright.so", "lib/arm64-v8a/libllama.so"]


@needs_tools
def test_libraries_for_glibc_are_counted_and_not_packed(package: Shipped, tmp_path: Path) -> None:
    data = library(needed=("libc.so.6",))
    folder = folder_of(tmp_path / "libs", libllama_so=data)
    out = tmp_path / "bundle"
    out.mkdir()
    parts = TARGET.build(replace(package, options={"libraries": str(folder)}), out)
    size = (out / "model.apk").stat().st_size
    assert sum(one.installed_bytes for one in parts) == size + len(data)
    assert "as measured on a build for glibc" in next(one.name for one in parts if one.component == "runtime")
    said = found(out)[NATIVE]
    assert said.state == "not-measured" and "glibc" in said.reason and "NDK" in said.reason
    assert "NDK" in (out / "README.md").read_text()
    assert json.loads((out / "runtime.json").read_text())["libraries"] == [
        {"name": "libllama.so", "bytes": len(data), "segments_aligned_to": 16384}
    ]


@needs_tools
@pytest.mark.parametrize(("files", "error", "words"), [
    ({}, ConfigError, "holds no shared library; allowed: a folder, or 'cross-build'"),
    ({"liba_so": library(machine=62)}, UnsupportedError, "liba.so: it is made for x86_64"),
    ({"liba_so": library(align=4096)}, UnsupportedError, "liba.so: a segment is aligned to 4096 bytes"),
    ({"liba_so": b"text"}, UnsupportedError, "liba.so: it is no ELF file"),
    ({"liba_so.0": library()}, UnsupportedError, "Android loads libraries that are called lib*.so only"),
])  # fmt: skip
def test_unfit_libraries_are_refused(
    package: Shipped, tmp_path: Path, files: dict[str, bytes], error: type[Exception], words: str
) -> None:
    folder = folder_of(tmp_path / "libs", **files)
    with pytest.raises(error) as caught:
        TARGET.build(replace(package, options={"libraries": str(folder)}), tmp_path)
    assert words in str(caught.value)


@needs_tools
def test_an_ai_pack_holds_the_model_and_no_code(package: Shipped, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "libs", libllama_so=library())
    given = replace(package, options={"form": "ai-pack", "delivery": "on-demand", "libraries": str(folder)})
    out = built(given, tmp_path / "bundle")
    names = [one.name for one in apk.placed(out / "model.zip")]
    assert names == ["manifest/AndroidManifest.xml", checks.TOLD, checks.MODEL]
    said = found(out)
    assert "failed" not in {one.state for one in said.values()}
    assert said[TREE].state == said[PLACES].state == said["AI pack without code"].state == "ok"
    attributes = tools.attributes(out / "model.zip", tmp_path)
    assert attributes["<on-demand>"] and "<install-time>" not in attributes
    assert "they go into the app itself" in said[NATIVE].reason
    assert TARGET.compare(given, out).state == "ok"
    entries = [Entry(one, b"x") for one in ("manifest/AndroidManifest.xml", "lib/arm64-v8a/liba.so")]
    apk.write(entries, out / "model.zip")
    assert found(out)["AI pack without code"].reason == "an AI pack may hold models only, and has lib/arm64-v8a/liba.so"
    assert found(out)[TREE].state == "failed"


def test_cross_building_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crossbuilt, "CACHE", tmp_path / "cache")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnsupportedError, match="install g\\+\\+-aarch64-linux-gnu, cmake, ninja-build"):
        crossbuilt.build()


@needs_tools
@pytest.mark.skipif(
    not crossbuilt.kept().is_dir(), reason="nothing was cross-built: python -m tasks.targets.crossbuilt"
)
def test_what_was_cross_built_is_counted(package: Shipped, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    out.mkdir()
    parts = TARGET.build(replace(package, options={"libraries": "cross-build"}), out)
    files = elf.libraries(crossbuilt.kept())
    assert {"libedgewright.so"} < {one.name for one in files}
    assert all(elf.fault(one.read_bytes(), "arm64-v8a") == "" for one in files)
    [runtime] = [one for one in parts if one.component == "runtime"]
    assert runtime.installed_bytes == sum(one.stat().st_size for one in files) > 1e6
    assert "glibc" in runtime.name and found(out)[NATIVE].state == "not-measured"
