"""A safetensors file whose data begins on a page: a header padded with spaces, then all tensors without a gap.

The format (huggingface/safetensors): eight bytes with the header's length, the header as JSON, the data; offsets are
counted from the data's begin, and every byte of it belongs to a tensor.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import ModelError

ALIGNED = 32  # bytes that each tensor begins on: the largest first, so that it holds without padding where sizes allow


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file."""

    dtype: str
    shape: tuple[int, ...]
    start: int  # from the data's begin
    end: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


@dataclass(frozen=True)
class Header:
    """What a file says of its tensors."""

    tensors: dict[str, Tensor]
    begins: int  # byte of the file that the data begins at
    bytes: int  # of the data

    def gap(self) -> str:
        """The first byte that belongs to no tensor or to two, in words; empty where there is none."""
        at = 0
        for name, one in sorted(self.tensors.items(), key=lambda item: item[1].start):
            if one.start != at:
                return f"{name} begins at {one.start}, and the one before it ends at {at}"
            at = one.end
        return "" if at == self.bytes else f"{self.bytes - at} bytes at the end belong to no tensor"


def header(file: Path) -> Header:
    """Read the header; raises ModelError for what is no safetensors file."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else size
        if length > size - 8:
            raise ModelError(f"{file} is no safetensors file: its header would be {length} bytes")
        try:
            raw = json.loads(stream.read(length))
            tensors = {
                name: Tensor(one["dtype"], tuple(one["shape"]), *one["data_offsets"])
                for name, one in raw.items()
                if name != "__metadata__"
            }
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{file} is no safetensors file: {error}") from error
    return Header(tensors, 8 + length, size - 8 - length)


def merge(files: Sequence[Path], out: Path, page: int) -> None:
    """Write all tensors of some files into one, larger ones first, its data on a page; the same each time."""
    found = [(file, header(file)) for file in files]
    order = sorted(
        ((name, one, file, own.begins) for file, own in found for name, one in own.tensors.items()),
        key=lambda item: (item[1].size % ALIGNED != 0, -item[1].size, item[0]),
    )
    told: dict[str, object] = {"__metadata__": {"format": "mlx"}}
    at = 0
    for name, one, _, _ in order:
        told[name] = {"dtype": one.dtype, "shape": list(one.shape), "data_offsets": [at, at + one.size]}
        at += one.size
    text = json.dumps(told, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % page)
    with out.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for _, one, file, begins in order:
            with file.open("rb") as source:
                source.seek(begins + one.start)
                stream.write(source.read(one.size))
