"""GGUF files, read with the `gguf` package: faster, and once where several ask for the same file."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tasks.errors import ModelError

MAGIC = b"GGUF"
VERSIONS = (2, 3)  # that the package and llama.cpp read


def as_given(model: Path) -> Path:
    """Where an expanded model keeps the GGUF file that it came as, where that was quantized."""
    return model / "as-given" / "model.gguf"


def read(file: Path) -> Any:
    """A `gguf.GGUFReader` over `file`, kept for the next caller as long as the file stays as it is.

    Raises what the package raises on a file that is damaged: ValueError, IndexError, KeyError, OverflowError, OSError,
    MemoryError.
    """
    state = file.stat()
    return _read(str(file.resolve()), state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _read(file: str, _size: int, _changed: int) -> Any:
    return _reader()(file)


@functools.cache
def _reader() -> Any:
    from gguf import GGUFReader

    class Reader(GGUFReader):  # type: ignore[misc]
        """Slices plain arrays: the package slices a np.memmap some million times, each four times as slow."""

        @property
        def data(self) -> Any:
            return self._plain

        @data.setter
        def data(self, mapped: Any) -> None:
            self._plain = np.asarray(mapped)

    return Reader


def check(file: Path) -> None:
    """Refuse what is no whole file, or no model that llama.cpp runs; raises ModelError with the next step."""
    with file.open("rb") as stream:
        head = stream.read(8)
    if head[:4] != MAGIC:
        raise ModelError(f"{file} is not a GGUF file (wrong first bytes); check the download")
    version = int.from_bytes(head[4:8], "little")
    if version & 0xFFFF == 0:
        raise ModelError(f"{file} was written on a big-endian machine; give the little-endian file of this model")
    if version not in VERSIONS:
        raise ModelError(f"{file} is GGUF version {version}; allowed: {', '.join(map(str, VERSIONS))}. Convert it anew")
    try:
        reader = read(file)
        end = max((int(t.data_offset) + int(t.n_bytes) for t in reader.tensors), default=0)
    except (ValueError, IndexError, KeyError, OSError, OverflowError, MemoryError) as error:
        raise ModelError(f"{file} is truncated or damaged ({error}); fetch it again") from error
    if end > file.stat().st_size:
        raise ModelError(f"{file} is truncated: tensors end at byte {end}, the file has {file.stat().st_size}")
    if not metadata(reader, "split.no"):  # only the first part of several says what they are
        _check_kind(file, reader)


def metadata(reader: Any, key: str, default: Any = None) -> Any:
    """A value that the file states, or the default."""
    return reader.fields[key].contents() if key in reader.fields else default


def _check_kind(file: Path, reader: Any) -> None:
    kind, architecture = metadata(reader, "general.type"), metadata(reader, "general.architecture")
    if architecture is None:
        raise ModelError(f"{file} does not say its architecture (general.architecture); fetch it again")
    if kind == "adapter":
        raise ModelError(
            f"{file} is a LoRA adapter, not a model; merge it into its base (llama-export-lora), or give the merged "
            "Hugging Face directory"
        )
    if architecture == "clip" or kind == "mmproj":
        raise ModelError(f"{file} is the picture part of a model (mmproj); give the GGUF file of its language model")
    if kind == "imatrix":
        raise ModelError(f"{file} is an importance matrix, not a model; give the model that it was made of")
    if not reader.tensors:
        raise ModelError(f"{file} holds a vocabulary and no weights; give the file of the model itself")


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

    _reader()  # before its base is replaced
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
