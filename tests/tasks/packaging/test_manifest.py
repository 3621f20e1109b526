"""The manifest: every file named, every change found, nothing that can run code."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import ModelError
from tasks.packaging import manifest


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def folder(root: Path = Path("box")) -> Path:
    for name, text in {"a.txt": "alpha", "deep/b.json": "{}", "empty": ""}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_manifest_names_every_file_and_is_the_same_every_time() -> None:
    box = folder()
    first = manifest.write_manifest(box)
    assert (
        first == manifest.write_manifest(box) == manifest.sha256(box / manifest.NAME) == manifest.verify_manifest(box)
    )
    entries = {e.path: (e.size_bytes, e.sha256[:8]) for e in manifest.read_manifest(box).files}
    assert entries == {"a.txt": (5, "8ed3f6ad"), "deep/b.json": (2, "44136fa3"), "empty": (0, "e3b0c442")}


@pytest.mark.parametrize(
    ("harm", "text"),
    [
        (lambda box: (box / "a.txt").write_text("alphA"), "a.txt was changed: its SHA-256"),
        (lambda box: (box / "a.txt").write_text("alphabet"), "a.txt was changed: 8 bytes, the manifest says 5"),
        (lambda box: (box / "deep/b.json").unlink(), "deep/b.json is missing"),
        (lambda box: (box / "deep/new.txt").write_text("x"), "deep/new.txt is unexpected"),
        (lambda box: (box / "link").symlink_to("/etc/hostname"), "link is a link"),
        (lambda box: (box / manifest.NAME).unlink(), "has no MANIFEST.json"),
        (lambda box: (box / manifest.NAME).write_text("{"), "is not a manifest of schema version 1"),
        (lambda box: (box / manifest.NAME).write_text('{"schema_version": 2, "files": []}'), "schema_version"),
        (lambda box: (box / manifest.NAME).write_text('{"schema_version": 1, "files": []}'), "is unexpected"),
    ],
)
def test_a_changed_package_is_refused_by_the_name_of_the_file(harm, text: str) -> None:
    box = folder()
    manifest.write_manifest(box)
    harm(box)
    with pytest.raises(ModelError, match=text):
        manifest.verify_manifest(box)


def test_a_manifest_rewritten_with_the_files_is_told_by_its_own_digest() -> None:
    box = folder()
    registered = manifest.write_manifest(box)
    (box / "a.txt").write_text("other")
    manifest.write_manifest(box)
    manifest.verify_manifest(box)
    with pytest.raises(ModelError, match="not the one that was registered"):
        manifest.verify_manifest(box, registered)


@settings(max_examples=30, deadline=None)
@given(position=st.integers(0, 2047), flip=st.integers(1, 255))
def test_any_changed_byte_is_found(tmp_path_factory: pytest.TempPathFactory, position: int, flip: int) -> None:
    box = tmp_path_factory.mktemp("box")
    content = bytearray(range(256)) * 8
    (box / "weights.safetensors").write_bytes(content)
    manifest.write_manifest(box)
    content[position] ^= flip
    (box / "weights.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="weights.safetensors was changed"):
        manifest.verify_manifest(box)


def archive(entry: str) -> bytes:
    with zipfile.ZipFile("made.zip", "w") as made:
        made.writestr(entry, "x")
    return Path("made.zip").read_bytes()


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        *((f"weights{end}", lambda: b"anything", f"{end} files are pickles") for end in manifest.PICKLES),
        ("weights.PT", lambda: b"anything", "files are pickles"),
        ("disguised.json", lambda: pickle.dumps({"a": 1}), "its bytes are those of a pickle"),
        ("old.model", lambda: manifest.OLD_TORCH + b"rest", "PyTorch pickle"),
        ("new.model", lambda: archive("archive/data.pkl"), "PyTorch pickle"),
        ("cut.model", lambda: archive("a.txt")[:20], "PyTorch pickle"),
    ],
)
def test_formats_that_can_run_code_are_refused(name: str, content, text: str) -> None:
    (box := Path("box")).mkdir()
    (box / name).write_bytes(content())
    with pytest.raises(ModelError, match=f"{name} may not go into a package.*{text}"):
        manifest.write_manifest(box)


def test_openvino_weights_are_no_pickle_but_a_pickle_beside_an_xml_still_is() -> None:
    (box := Path("box")).mkdir()
    (box / "model.xml").write_text('<?xml version="1.0"?><net name="x">')
    (box / "model.bin").write_bytes(b"\x80\x04raw weights.")
    manifest.write_manifest(box)
    (box / "model.bin").write_bytes(archive("archive/data.pkl"))
    with pytest.raises(ModelError, match=r"model.bin may not go into a package: it is a PyTorch pickle"):
        manifest.write_manifest(box)
    (box / "model.xml").write_text("<html>")
    (box / "model.bin").write_bytes(b"raw weights")
    with pytest.raises(ModelError, match="files are pickles"):
        manifest.write_manifest(box)


def test_a_plain_archive_without_pickles_is_allowed() -> None:
    (box := Path("box")).mkdir()
    (box / "texts.zip").write_bytes(archive("a.txt"))
    manifest.write_manifest(box)
