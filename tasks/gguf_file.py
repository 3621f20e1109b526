"""GGUF files, read with the `gguf` package: faster, and once where several ask for the same file."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


def read(file: Path) -> Any:
    """A `gguf.GGUFReader` over `file`, kept for the next caller as long as the file stays as it is.

    Raises what the package raises on a file that is damaged: ValueError, IndexError, KeyError, OverflowError, OSError,
    MemoryError.
    """
    state = file.stat()
    return _read(str(file.resolve()), state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _read(file: str, _size: int, _changed: int) -> Any:
    from gguf import GGUFReader

    class Reader(GGUFReader):  # type: ignore[misc]
        """Slices plain arrays: the package slices a np.memmap some million times, each four times as slow."""

        @property
        def data(self) -> Any:
            return self._plain

        @data.setter
        def data(self, mapped: Any) -> None:
            self._plain = np.asarray(mapped)

    return Reader(file)


def tensor_bytes(file: Path) -> dict[str, int]:
    """Bytes of tensors per type: llama.cpp falls back to other types without an error."""
    counted: dict[str, int] = {}
    for tensor in read(file).tensors:
        counted[tensor.tensor_type.name] = counted.get(tensor.tensor_type.name, 0) + int(tensor.n_bytes)
    return counted


@contextmanager
def shared() -> Iterator[None]:
    """Within the block, what transformers takes from the package is made once: it parses the same file four times,
    and builds the table of tensor names anew for each of a model's modules.
    """
    import gguf

    own: dict[str, Any] = {
        "GGUFReader": lambda file, *_: read(Path(file)),
        "get_tensor_name_map": functools.cache(gguf.get_tensor_name_map),
    }
    theirs = {name: getattr(gguf, name) for name in own}
    vars(gguf).update(own)
    try:
        yield
    finally:
        vars(gguf).update(theirs)
