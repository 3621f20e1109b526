"""What a shared library's ELF headers say: its machine, how its segments are to be mapped, and what it needs.

The layout is that of the System V ABI (gABI, chapters 4 and 5), 64 bits and little-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import ModelError

MACHINES = {"arm64-v8a": 183, "x86_64": 62}  # e_machine of the ABIs of 64 bits
PAGE = 16384
HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SEGMENT = struct.Struct("<IIQQQQQQ")
SHARED, LOAD, DYNAMIC = 3, 1, 2  # ET_DYN, PT_LOAD, PT_DYNAMIC
NEEDED, STRINGS, END = 1, 5, 0  # DT_NEEDED, DT_STRTAB, DT_NULL
GLIBC = ("libc.so.6", "libm.so.6", "libstdc++.so.6", "ld-linux-aarch64.so.1", "libgcc_s.so.1", "libpthread.so.0")


@dataclass(frozen=True)
class Segment:
    """One part of a file that is mapped."""

    kind: int
    offset: int  # in the file
    address: int
    size: int  # in the file
    align: int


@dataclass(frozen=True)
class Elf:
    """What was read."""

    kind: int
    machine: int
    segments: tuple[Segment, ...]
    needed: tuple[str, ...]  # libraries

    @property
    def loads(self) -> tuple[Segment, ...]:
        """Segments that are mapped."""
        return tuple(one for one in self.segments if one.kind == LOAD)

    @property
    def for_glibc(self) -> bool:
        """Whether it needs a C or C++ library that Android does not have."""
        return any(name in GLIBC for name in self.needed)


def read(data: bytes) -> Elf:
    """Read a library's bytes; raises ModelError for what is no ELF file of 64 bits, or one that is cut short."""
    if data[:4] != b"\x7fELF":
        raise ModelError("it is no ELF file (wrong first bytes)")
    if data[4:6] != b"\x02\x01":
        raise ModelError("it is no little-endian ELF file of 64 bits")
    try:
        head = HEADER.unpack_from(data)
        kind, machine, begin, size, count = head[1], head[2], head[5], head[9], head[10]
        raw = [SEGMENT.unpack_from(data, begin + number * size) for number in range(count)]
        segments = tuple(Segment(one[0], one[2], one[3], one[5], one[7]) for one in raw)
        return Elf(kind, machine, segments, _needed(data, segments))
    except (struct.error, ValueError) as error:
        raise ModelError(f"its headers cannot be read: {error}") from error


def _needed(data: bytes, segments: tuple[Segment, ...]) -> tuple[str, ...]:
    dynamic = next((one for one in segments if one.kind == DYNAMIC), None)
    if dynamic is None:
        return ()
    told: list[tuple[int, int]] = []
    for at in range(dynamic.offset, dynamic.offset + dynamic.size, 16):
        tag, value = struct.unpack_from("<qQ", data, at)
        if tag == END:
            break
        told.append((tag, value))
    strings = next((_place(value, segments) for tag, value in told if tag == STRINGS), 0)
    return tuple(_text(data, strings + value) for tag, value in told if tag == NEEDED)


def _place(address: int, segments: tuple[Segment, ...]) -> int:
    for one in segments:
        if one.kind == LOAD and one.address <= address < one.address + one.size:
            return one.offset + address - one.address
    raise ValueError(f"address {address:#x} is in no segment")


def _text(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at)].decode(errors="replace")


def fault(data: bytes, abi: str) -> str:
    """Why Android cannot map a library of this ABI with pages of 16 KiB, in words; empty where it can."""
    found = read(data)
    if found.machine != MACHINES[abi]:
        names = {number: name for name, number in MACHINES.items()}
        other = names.get(found.machine, f"machine {found.machine}")
        return f"it is made for {other}, and lies among the libraries of {abi}"
    if found.kind != SHARED:
        return "it is no shared library"
    if not found.loads:
        return "it has no segment that is mapped"
    for one in found.loads:
        if one.align < PAGE:
            return (
                f"a segment is aligned to {one.align} bytes, and pages have {PAGE}; link with -z max-page-size={PAGE}"
            )
        if one.offset % one.align != one.address % one.align:
            return f"the segment at byte {one.offset} does not lie where its address {one.address:#x} asks for"
    return ""


def libraries(folder: Path) -> tuple[Path, ...]:
    """Shared libraries of a folder by name, without those that are links."""
    return tuple(sorted(one for one in folder.glob("*.so*") if one.is_file() and not one.is_symlink()))
