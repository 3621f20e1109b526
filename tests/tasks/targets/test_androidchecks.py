"""Each validator of an APK on a broken one, and answers of the model out of the archive."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tasks.errors import ChildError
from tasks.packaging.manifest import write_manifest
from tasks.targets import bundled, crossbuilt, grammar
from tasks.targets.android import checks, gguf_run, tools
from tasks.targets.android.apk import PAGE, Entry
from tasks.targets.base import Shipped
from tests.tasks.targets.android_bundle import (
    INSIDE,
    NATIVE,
    PLACES,
    ROWS,
    TARGET,
    TREE,
    WORDS,
    built,
    content,
    found,
    needs_tools,
    packed_again,
    shifted,
    shipped,
    tensor_moved,
    tiny,
)  # fmt: skip
from tests.tasks.targets.test_elf import library


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Shipped:
    return shipped(tmp_path_factory.mktemp("package") / "package")


@pytest.fixture(scope="module")
def made(package: Shipped, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(package, tmp_path_factory.mktemp("made") / "bundle")


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    """A bundle to break."""
    shutil.copytree(made, tmp_path / "bundle")
    return tmp_path / "bundle"


def with_library(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda bundle: packed_again(bundle, lambda entries: [*entries, Entry(name, data, PAGE)])


def compressed(bundle: Path) -> None:
    file = bundle / "model.apk"
    with zipfile.ZipFile(file) as old:
        told = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(file, "w") as new:
        for name, data in told.items():
            new.writestr(name, data, zipfile.ZIP_DEFLATED if name == checks.MODEL else zipfile.ZIP_STORED)
    write_manifest(bundle)


def manifest(old: str, new: str) -> Callable[[Path], None]:
    """The APK's manifest made of another text."""

    def broken(bundle: Path) -> None:
        text = (bundle / "model" / "AndroidManifest.xml").read_text()
        assert old in text
        changed = bundle.parent / "AndroidManifest.xml"
        changed.write_text(text.replace(old, new))
        linked = tools.link(changed, bundle.parent, proto=False)
        content(lambda _: linked["AndroidManifest.xml"], "AndroidManifest.xml")(bundle)

    return broken


def rewritten(name: str, old: str, new: str) -> Callable[[Path], None]:
    def broken(bundle: Path) -> None:
        [file] = bundle.rglob(name)
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))

    return broken


ARM = "lib/arm64-v8a/libx.so"


@needs_tools
@pytest.mark.parametrize(("mutant", "check", "words"), [
    (compressed, PLACES, "assets/model.gguf is compressed, so that it cannot be mapped"),
    (shifted(5), PLACES, "assets/model.gguf begins at byte 16389, which is no multiple of 16384"),
    (shifted(4096), PLACES, "begins at byte 20480, which is no multiple of 16384"),
    (content(tensor_moved), INSIDE, "which is no multiple of 32"),
    (content(lambda data: data[:-4096]), INSIDE, "is truncated"),
    (content(lambda data: b"GGUX" + data[4:]), INSIDE, "is not a GGUF file"),
    (content(lambda data: data[:-8] + bytes(8)), INSIDE, "not the one that assets/model.json tells of"),
    (with_library(ARM, library(machine=62)), NATIVE, "made for x86_64, and lies among the libraries of arm64-v8a"),
    (with_library(ARM, library(align=4096)), NATIVE, "a segment is aligned to 4096 bytes"),
    (with_library(ARM, library(needed=("libc.so.6",))), NATIVE, "needs glibc, which Android does not have"),
    (with_library(ARM, b"not a library"), NATIVE, "it is no ELF file"),
    (with_library("lib/armeabi-v7a/libx.so", library()), NATIVE, "not of armeabi-v7a"),
    (manifest('extractNativeLibs="false"', 'extractNativeLibs="true"'), TREE, "extractNativeLibs=true, and has to say"),
    (manifest('hasCode="false"', 'hasCode="true"'), TREE, "hasCode=true, and has to say false"),
    (manifest('split="model"', 'split="other"'), TREE, "its split is 'other', not 'model'"),
    (content(lambda data: data[:300], "AndroidManifest.xml"), TREE, "AndroidManifest.xml"),
    (content(lambda data: data[:300], "AndroidManifest.xml"), "aapt2 dump badging", "AndroidManifest.xml"),
    (rewritten("README.md", "adb", "adbb"), "manifest of all files", "README.md was changed"),
])  # fmt: skip
def test_a_broken_apk_is_refused(bundle: Path, mutant: Callable[[Path], None], check: str, words: str) -> None:
    mutant(bundle)
    said = found(bundle)[check]
    assert (said.state, words in said.reason) == ("failed", True), said


@needs_tools
def test_zipalign_refuses_a_table_off_the_word(bundle: Path) -> None:
    def change(entries: list[Entry]) -> list[Entry]:
        return [replace(one, multiple=1) if one.name == "resources.arsc" else one for one in odd + entries]

    odd = [Entry("a", b"12345", 1)]
    packed_again(bundle, change)
    said = [one for name, one in found(bundle).items() if name.startswith("zipalign") or name == PLACES]
    assert [one.state for one in said] == ["failed", "failed"], said


@needs_tools
def test_two_archives_or_none_are_refused(bundle: Path) -> None:
    shutil.copy2(bundle / "model.apk", bundle / "other.apk")
    states = {name: one for name, one in found(bundle).items() if name in (PLACES, INSIDE, NATIVE, "apksigner verify")}
    assert {one.state for one in states.values()} == {"failed"}
    assert "holds 2 archives, not one" in states[PLACES].reason


@needs_tools
def test_the_model_answers_out_of_the_apk_as_by_its_path(package: Shipped, made: Path) -> None:
    said = TARGET.compare(package, made)
    assert (said.state, said.difference, said.unit) == ("ok", 0.0, "logit"), said.reason
    assert said.answers == 8 and "mapped from byte 16384" in said.reason
    assert (said.rss_anon_mb or 0) > 1 and (said.rss_file_mb or 0) > 1


@needs_tools
@pytest.mark.parametrize(("mutant", "words"), [
    (shifted(5), "is not 32 byte aligned, cannot mmap"),
    (content(lambda data: data[:-60000]), "it does not open: llama.cpp does not load it"),
    (content(lambda data: data[:-4096]), "logits differ"),  # within a page of the archive's end it loads what is behind
    (content(tensor_moved), "it does not open: llama.cpp does not load it"),
    (lambda bundle: (bundle / "model.apk").unlink(), "holds 0 archives"),
])  # fmt: skip
def test_what_does_not_open_is_no_answer(
    package: Shipped, bundle: Path, mutant: Callable[[Path], None], words: str
) -> None:
    mutant(bundle)
    said = TARGET.compare(package, bundle)
    assert (said.state, words in said.reason) == ("failed", True), said.reason


@needs_tools
def test_other_weights_are_other_answers(package: Shipped, bundle: Path, tmp_path: Path) -> None:
    other = tiny(tmp_path / "other.gguf", seed=1).read_bytes()
    content(lambda _: other)(bundle)
    said = TARGET.compare(package, bundle)
    assert said.state == "failed" and "logits differ from the package's by up to" in said.reason


def test_a_model_off_the_alignment_is_read_right_or_not_at_all(package: Shipped, tmp_path: Path) -> None:
    model, file = package.model / "model.gguf", tmp_path / "moved.bin"
    file.write_bytes(bytes(PAGE + 5) + model.read_bytes())
    plain, own = gguf_run.logits(model, None, ROWS)
    assert own.mapped and [one.shape for one in plain] == [(6, len(WORDS)), (3, len(WORDS))]
    with pytest.raises(ChildError, match="is not 32 byte aligned, cannot mmap"):
        gguf_run.logits(file, PAGE + 5, ROWS)
    read, how = gguf_run.logits(file, PAGE + 5, ROWS, mode="none")
    assert not how.mapped and all(np.array_equal(a, b) for a, b in zip(plain, read, strict=True))
    for offset in (PAGE, PAGE + 10):
        with pytest.raises(ChildError, match="invalid magic"):
            gguf_run.logits(file, offset, ROWS)


def test_a_broken_loader_is_no_kotlin(tmp_path: Path) -> None:
    pytest.importorskip("tree_sitter_kotlin", reason="tree-sitter-kotlin is not installed")
    sources = sorted((bundled.TEMPLATES / "android").rglob("*.kt"))
    assert len(sources) == 2 and grammar.syntax("Kotlin", sources).state == "ok"
    broken = tmp_path / "Broken.kt"
    broken.write_text(sources[0].read_text().replace("openFd(asset)", "openFd(asset"))
    assert grammar.syntax("Kotlin", [broken]).state == "failed"


needs_headers = pytest.mark.skipif(
    crossbuilt.headers() is None or crossbuilt.jni() is None or shutil.which("c++") is None,
    reason="no llama.h, jni.h or C++ compiler: python -m tasks.targets.crossbuilt, a JDK, g++",
)


@needs_tools
@needs_headers
@pytest.mark.parametrize(("old", "new", "state"), [
    ("", "", "ok"),
    ("load_mode = map", "use_mmap = map", "failed"),
    ("return 0;", "return;", "failed"),
])  # fmt: skip
def test_the_loaders_glue_is_compiled(bundle: Path, old: str, new: str, state: str) -> None:
    if old:
        rewritten("edgewright_jni.cpp", old, new)(bundle)
    assert found(bundle)["C++ part of the loader, by a compiler"].state == state
