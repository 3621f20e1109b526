"""A ZIP archive whose entries are stored where they can be mapped: written so, and checked by arithmetic of our own.

Data of an entry begins at `header offset + 30 + length of its name + length of its extra field`, as its local header
says (APPNOTE.TXT of PKWARE, 4.3.7). Padding goes into the extra field that Android's tools pad with, 0xD935.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tasks.errors import ModelError, UnsupportedError

PAGE = 16384  # of Android 15 and later
WORD = 4  # resources.arsc is mapped as it is, too
FIXED = (1980, 1, 1, 0, 0, 0)  # time of every entry
LOCAL, HEADER = 0x04034B50, 30
PADDING = struct.Struct("<HHH")  # identifier, length, and the multiple
PADDED = 0xD935
MOST = 2**31 - 1  # bytes that an APK may have without ZIP64, which Android does not read
CHUNK = 1 << 20


@dataclass(frozen=True)
class Entry:
    """What is to be stored."""

    name: str
    content: Path | bytes
    multiple: int = WORD  # of bytes, that its data begins at

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size


@dataclass(frozen=True)
class Placed:
    """An entry of an archive, and where its data is."""

    name: str
    offset: int  # of the data, in the archive
    size: int
    stored: bool  # as it is, not compressed


def write(entries: Sequence[Entry], out: Path) -> None:
    """Store the entries one after another: the same ones, the same bytes; raises UnsupportedError above 2 GiB."""
    total = sum(one.size for one in entries)
    if total > MOST:
        raise UnsupportedError(f"an APK holds at most {MOST} bytes, and this would be {total}; take a smaller variant")
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for one in entries:
            assert archive.fp is not None
            info = zipfile.ZipInfo(one.name, FIXED)
            info.create_system, info.external_attr, info.file_size = 3, 0o644 << 16, one.size
            info.extra = _padding(archive.fp.tell(), one)
            with archive.open(info, "w") as stream:
                _copy(one, stream)


def _padding(at: int, one: Entry) -> bytes:
    begins = at + HEADER + len(one.name.encode()) + PADDING.size
    pad = -begins % one.multiple
    return PADDING.pack(PADDED, 2 + pad, one.multiple) + bytes(pad)


def _copy(one: Entry, stream: object) -> None:
    target: BinaryIO = stream  # type: ignore[assignment]
    if isinstance(one.content, bytes):
        target.write(one.content)
        return
    with one.content.open("rb") as source:
        while chunk := source.read(CHUNK):
            target.write(chunk)


def placed(file: Path) -> tuple[Placed, ...]:
    """Entries with the places of their data; raises ModelError where the archive contradicts itself."""
    try:
        with zipfile.ZipFile(file) as archive, file.open("rb") as stream:
            return tuple(_placed(info, stream) for info in archive.infolist())
    except (zipfile.BadZipFile, struct.error, OSError) as error:
        raise ModelError(f"{file.name} is no readable archive: {error}") from error


def _placed(info: zipfile.ZipInfo, stream: BinaryIO) -> Placed:
    stream.seek(info.header_offset)
    head = stream.read(HEADER)
    magic, method, packed, size = (*struct.unpack("<I4xH", head[:10]), *struct.unpack("<II", head[18:26]))
    name_length, extra_length = struct.unpack("<HH", head[26:30])
    name = stream.read(name_length)
    if magic != LOCAL or name != info.filename.encode():
        raise ModelError(f"at byte {info.header_offset} is not {info.filename}, as the directory says")
    if (method, packed, size) != (info.compress_type, info.compress_size, info.file_size):
        raise ModelError(f"{info.filename}: its own header and the directory tell other sizes")
    stored = info.compress_type == zipfile.ZIP_STORED and packed == size
    return Placed(info.filename, info.header_offset + HEADER + name_length + extra_length, info.file_size, stored)


def one_of(file: Path, name: str) -> Placed:
    """The entry called `name`; raises ModelError where there is none, or more than one."""
    found = [one for one in placed(file) if one.name == name]
    if len(found) != 1:
        raise ModelError(f"{file.name} holds {name} {len(found)} times, not once")
    return found[0]


def extract(file: Path, one: Placed, out: Path) -> None:
    """Write an entry's bytes as they are stored."""
    with file.open("rb") as source, out.open("wb") as target:
        source.seek(one.offset)
        left = one.size
        while left and (chunk := source.read(min(CHUNK, left))):
            target.write(chunk)
            left -= len(chunk)


def multiple(name: str) -> int:
    """Bytes that an entry's data has to begin at a multiple of: pages for what is mapped, else words."""
    return PAGE if name.endswith((".gguf", ".so")) else WORD


def fault(file: Path) -> str:
    """The first entry that cannot be used where it lies, or whose bytes have changed; empty where there is none."""
    for one in sorted(placed(file), key=lambda entry: -multiple(entry.name)):
        unit = multiple(one.name)
        if not one.stored:
            if unit == PAGE or one.name == "resources.arsc":
                return f"{one.name} is compressed, so that it cannot be mapped"
        elif one.offset % unit:
            return f"{one.name} begins at byte {one.offset}, which is no multiple of {unit}"
    with zipfile.ZipFile(file) as archive:
        try:
            changed = archive.testzip()
        except zipfile.BadZipFile as error:
            return str(error)
    return f"the bytes of {changed} are not those that its checksum is of" if changed else ""
