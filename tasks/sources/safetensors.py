"""What safetensors files declare; their library reads and checks headers, the weights stay on disk."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import ModelError


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file."""

    name: str
    dtype: str  # as safetensors writes it: F32, BF16
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes of the file that it takes."""
        return self.count * bits(self.dtype) // 8


def bits(dtype: str) -> int:
    """Bits of an element.

    >>> bits("BF16"), bits("F8_E4M3"), bits("BOOL")
    (16, 8, 8)
    """
    found = re.search(r"\d+", dtype)
    return int(found.group()) if found else 8


def tensors(file: Path) -> list[Tensor]:
    """Tensors a file declares; raises ModelError when it is truncated, damaged or of another kind."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "np") as opened:
            slices = {name: opened.get_slice(name) for name in opened.offset_keys()}
            return [Tensor(name, str(one.get_dtype()), tuple(one.get_shape())) for name, one in slices.items()]
    except SafetensorError as error:
        what = (
            "is truncated or damaged"
            if "not fully covered" in str(error)
            else "is not a safetensors file, or its header is cut or unreadable"
        )
        raise ModelError(f"{file} {what} ({error}); fetch it again") from error


def tensor_bytes(folder: Path) -> dict[str, int]:
    """Bytes per tensor type over the *.safetensors of a folder."""
    counted: Counter[str] = Counter()
    for file in sorted(folder.glob("*.safetensors")):
        for tensor in tensors(file):
            counted[tensor.dtype] += tensor.size_bytes
    return dict(counted)
