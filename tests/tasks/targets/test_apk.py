"""Archives whose entries lie on pages: written so, and refused where they do not."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.errors import ModelError, UnsupportedError
from tasks.targets.android import apk
from tasks.targets.android.apk import PAGE, Entry

WEIGHTS = bytes(range(256)) * 300


def entries(folder: Path) -> list[Entry]:
    model = folder / "model.gguf"
    model.write_bytes(WEIGHTS)
    return [
        Entry("AndroidManifest.xml", b"manifest"),
        Entry("resources.arsc", b"odd"),
        Entry("assets/model.gguf", model, PAGE),
        Entry("lib/arm64-v8a/liba.so", b"\x7fELF", PAGE),
        Entry("assets/last.txt", b"x"),
    ]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    out = tmp_path / "a.apk"
    apk.write(entries(tmp_path), out)
    return out


def test_what_is_mapped_lies_on_pages_and_the_rest_on_words(archive: Path) -> None:
    found = {one.name: one for one in apk.placed(archive)}
    assert list(found) == [one.name for one in entries(archive.parent)]
    for name, one in found.items():
        assert one.stored and one.offset % (PAGE if name.endswith((".gguf", ".so")) else 4) == 0, name
    model = found["assets/model.gguf"]
    assert archive.read_bytes()[model.offset : model.offset + model.size] == WEIGHTS
    assert apk.fault(archive) == ""
    with zipfile.ZipFile(archive) as other:  # another reader's word
        assert other.testzip() is None and other.read("assets/model.gguf") == WEIGHTS


def test_the_same_entries_are_the_same_bytes(archive: Path, tmp_path: Path) -> None:
    again = tmp_path / "b.apk"
    apk.write(entries(tmp_path), again)
    assert again.read_bytes() == archive.read_bytes()


def test_an_entry_is_taken_out_as_it_lies(archive: Path, tmp_path: Path) -> None:
    apk.extract(archive, apk.one_of(archive, "assets/model.gguf"), tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == WEIGHTS
    with pytest.raises(ModelError, match=r"holds assets/none 0 times"):
        apk.one_of(archive, "assets/none")


def test_what_no_apk_holds_is_refused(tmp_path: Path) -> None:
    large = tmp_path / "large.gguf"
    with large.open("wb") as stream:
        stream.truncate(2**31)
    with pytest.raises(UnsupportedError, match="at most 2147483647 bytes"):
        apk.write([Entry("assets/model.gguf", large, PAGE)], tmp_path / "a.apk")
    assert not (tmp_path / "a.apk").exists()


def compressed(file: Path) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        new.writestr("assets/model.gguf", WEIGHTS)


def off_the_page(file: Path) -> None:
    apk.write([Entry("a", b"a"), Entry("assets/model.gguf", WEIGHTS, 4096)], file)


def off_the_word(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as new:
        new.writestr("resources.arsc", b"table")  # 30 + 14 bytes before it
        new.writestr("odd", b"123")
        new.writestr("assets/last.txt", b"x")


def library_off_the_page(file: Path) -> None:
    apk.write([Entry("lib/arm64-v8a/liba.so", b"\x7fELF", 4096)], file)


def local_offset_moved(file: Path) -> None:
    """The directory says that the model's header begins five bytes later than it does."""
    data = bytearray(file.read_bytes())
    at = data.rindex(b"assets/model.gguf") - 4
    data[at : at + 4] = struct.pack("<I", struct.unpack_from("<I", data, at)[0] + 5)
    file.write_bytes(bytes(data))


def local_name_changed(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data.replace(b"assets/model.gguf", b"assets/other.gguf", 1))


def local_method_changed(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[data.index(b"assets/model.gguf") - 22] = 8  # method of its own header: deflate
    file.write_bytes(bytes(data))


def weight_changed(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[data.index(WEIGHTS) + 1000] ^= 1
    file.write_bytes(bytes(data))


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-30])


@pytest.mark.parametrize(("mutant", "words"), [
    (compressed, "assets/model.gguf is compressed, so that it cannot be mapped"),
    (off_the_page, "assets/model.gguf begins at byte 4096, which is no multiple of 16384"),
    (library_off_the_page, "lib/arm64-v8a/liba.so begins at byte 4096, which is no multiple of 16384"),
    (off_the_word, "odd begins at byte 82, which is no multiple of 4"),
    (local_offset_moved, "is not assets/model.gguf, as the directory says"),
    (local_name_changed, "is not assets/model.gguf, as the directory says"),
    (local_method_changed, "its own header and the directory tell other sizes"),
    (weight_changed, "the bytes of assets/model.gguf are not those that its checksum is of"),
    (cut_short, "is no readable archive"),
])  # fmt: skip
def test_a_broken_archive_is_refused(archive: Path, mutant: Callable[[Path], None], words: str) -> None:
    mutant(archive)
    try:
        found = apk.fault(archive)
    except ModelError as error:
        found = str(error)
    assert words in found
