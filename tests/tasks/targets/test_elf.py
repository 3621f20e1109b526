"""What is read of a shared library, and which ones Android does not map."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from tasks.errors import ModelError
from tasks.targets import elf
from tasks.targets.elf import DYNAMIC, HEADER, LOAD, NEEDED, SEGMENT, SHARED, STRINGS

COMPILER = "aarch64-linux-gnu-gcc"


def library(
    machine: int = 183, kind: int = SHARED, align: int = 16384, address: int = 0, needed: tuple[str, ...] = ("libc.so",)
) -> bytes:
    """A library of headers alone: one mapped segment, and the names of what it needs."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in needed)
    begin = HEADER.size + 2 * SEGMENT.size
    at = begin + len(names)
    tags = [(NEEDED, names.index(name.encode())) for name in needed] + [(STRINGS, address + begin), (0, 0)]
    dynamic = b"".join(struct.pack("<qQ", *one) for one in tags)
    size = at + len(dynamic)
    head = HEADER.pack(b"\x7fELF\x02\x01\x01".ljust(16, b"\0"), kind, machine, 1, 0, HEADER.size, 0, 0, HEADER.size,
                       SEGMENT.size, 2, 0, 0, 0)  # fmt: skip
    mapped = SEGMENT.pack(LOAD, 5, 0, address, address, size, size, align)
    return (
        head
        + mapped
        + SEGMENT.pack(DYNAMIC, 6, at, address + at, address + at, len(dynamic), len(dynamic), 8)
        + (names + dynamic)
    )


def test_machine_segments_and_needs_are_read() -> None:
    found = elf.read(library(needed=("libc.so", "libm.so")))
    assert (found.machine, found.kind, found.needed) == (183, SHARED, ("libc.so", "libm.so"))
    assert [one.align for one in found.loads] == [16384] and not found.for_glibc
    assert elf.read(library(needed=("libc.so.6",))).for_glibc


@pytest.mark.parametrize(("data", "words"), [
    (library(), ""),
    (library(align=65536, address=65536), ""),
    (library(align=4096), "a segment is aligned to 4096 bytes, and pages have 16384"),
    (library(machine=62), "it is made for x86_64, and lies among the libraries of arm64-v8a"),
    (library(machine=40), "it is made for machine 40"),
    (library(kind=2), "it is no shared library"),
    (library(address=4096), "does not lie where its address 0x1000 asks for"),
])  # fmt: skip
def test_what_android_maps(data: bytes, words: str) -> None:
    found = elf.fault(data, "arm64-v8a")
    assert words in found and bool(found) is bool(words)


@pytest.mark.parametrize(("data", "words"), [
    (b"PK\x03\x04", "no ELF file"),
    (b"", "no ELF file"),
    (b"\x7fELF\x01\x01" + bytes(100), "no little-endian ELF file of 64 bits"),
    (library()[:80], "its headers cannot be read"),
    (library()[:-40], "its headers cannot be read"),
])  # fmt: skip
def test_what_is_no_library_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        elf.read(data)


@pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"{COMPILER} is not installed (gcc-aarch64-linux-gnu)")
@pytest.mark.parametrize(("page", "ok"), [(16384, True), (65536, True), (4096, False)])
def test_a_linkers_own_work(tmp_path: Path, page: int, ok: bool) -> None:
    out = tmp_path / "liba.so"
    source = tmp_path / "a.c"
    source.write_text("int table[9000] = {1}; int answer(void) { return table[3] + 42; }\n")
    command = [COMPILER, "-shared", "-fPIC", "-nostdlib", f"-Wl,-z,max-page-size={page}", str(source), "-o", str(out)]
    subprocess.run(command, check=True, timeout=60)
    found = elf.read(out.read_bytes())
    assert found.machine == elf.MACHINES["arm64-v8a"] and {one.align for one in found.loads} == {page}
    assert (elf.fault(out.read_bytes(), "arm64-v8a") == "") is ok


def test_this_interpreters_own_libraries_are_of_another_machine_or_need_glibc() -> None:
    import llama_cpp

    found = elf.libraries(Path(llama_cpp.__file__).parent / "lib")
    assert found, "llama-cpp-python comes with its libraries"
    read = [elf.read(one.read_bytes()) for one in found]
    assert all(one.for_glibc for one in read)
    assert any("libllama.so" in name or "libggml" in name for one in read for name in one.needed)
