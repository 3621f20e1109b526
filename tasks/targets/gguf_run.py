"""A GGUF model out of the middle of a file, by llama.cpp's file-pointer call, in a process of its own.

That is how an app loads it: Android hands out an APK's descriptor, and where in it the model begins. The process tells
its logits, whether the file is mapped, and how its memory is divided after it answered.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, Literal

import numpy as np

from tasks.backends.base import Logits
from tasks.errors import ModelError
from tasks.hardware import cores
from tasks.params.pipeline import Limits
from tasks.records.base import Record
from tasks.run.child import Child, run_child
from tasks.run.resident import resident

LIMITS = Limits(timeout_s=600.0, memory_mb=8000.0)
Mode = Literal["mmap", "none"]
WORK = "tasks.targets.gguf_run:answer"


class Asked(Record):
    """What is to be loaded, and what is to be read by it."""

    file: str
    offset: int | None  # where the model begins; None: the file is the model, and is loaded by its path
    rows: tuple[tuple[int, ...], ...]  # token ids
    mode: Mode
    threads: int
    out: str  # where the logits go: float32, all positions of all rows one after another


class Answered(Record):
    """What the process says of itself after it answered."""

    vocabulary: int
    mapped: bool  # the file is among the process' maps
    rss_anon_mb: float
    rss_file_mb: float


def logits(
    file: Path, offset: int | None, rows: Sequence[Sequence[int]], mode: Mode = "mmap"
) -> tuple[list[Logits], Answered]:
    """Load in a child process and return the logits of each row; raises ChildError, which says why it does not load."""
    with TemporaryDirectory(prefix="edgewright-mapped-") as scratch:
        out = Path(scratch) / "logits.f32"
        asked = Asked(
            file=str(file.resolve()), offset=offset, rows=tuple(tuple(row) for row in rows), mode=mode,
            threads=cores.usable_cores(), out=str(out),
        )  # fmt: skip
        child = Child(WORK, asked, LIMITS, Path(scratch) / "child.log", f"load {file.name}", cores.usable_cores())
        found = run_child(child, Answered)
        flat = np.fromfile(out, dtype=np.float32).reshape(-1, found.vocabulary)
    ends = np.cumsum([len(row) for row in rows])[:-1]
    return np.split(flat, ends), found


def answer(asked: Asked) -> Answered:
    """Load as asked, write the logits, and tell of this process; raises ModelError where llama.cpp refuses."""
    import llama_cpp

    said: list[str] = []
    hear = llama_cpp.llama_log_callback(lambda level, text, _: said.append(text.decode(errors="replace")))
    llama_cpp.llama_log_set(hear, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    params = llama_cpp.llama_model_default_params()
    # A field that is not there would be taken without a word, and nothing would be mapped.
    if "load_mode" not in dict(params._fields_):
        raise ModelError("this llama-cpp-python has no load_mode; install the version that requirements.lock names")
    params.load_mode = llama_cpp.LLAMA_LOAD_MODE_MMAP if asked.mode == "mmap" else llama_cpp.LLAMA_LOAD_MODE_NONE
    model = _model(asked, params)
    if not model:
        why = next((one.strip() for one in said if "error" in one or "cannot" in one or "invalid" in one), "no reason")
        raise ModelError(f"llama.cpp does not load it: {why}")
    vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    with Path(asked.out).open("wb") as out:
        for row in asked.rows:
            _score(model, row, asked.threads, vocabulary, out)
    return Answered(vocabulary=vocabulary, mapped=_maps(asked.file), **resident())


def _model(asked: Asked, params: Any) -> Any:
    import llama_cpp

    if asked.offset is None:
        return llama_cpp.llama_model_load_from_file(asked.file.encode(), params)
    with _stream(asked.file, asked.offset) as pointer:
        return llama_cpp.llama_model_load_from_file_ptr(ctypes.c_void_p(pointer), params)


@contextmanager
def _stream(file: str, offset: int) -> Iterator[int]:
    """A C stream that stands at a byte of a file."""
    libc = ctypes.CDLL(None)
    libc.fopen.restype, libc.fopen.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_char_p]
    libc.fseek.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_int]
    libc.fclose.argtypes = [ctypes.c_void_p]
    pointer = libc.fopen(file.encode(), b"rb")
    if not pointer:
        raise ModelError(f"{file} cannot be opened")
    try:
        if libc.fseek(pointer, offset, 0) != 0:
            raise ModelError(f"{file} has no byte {offset}")
        yield pointer
    finally:
        libc.fclose(pointer)


def _score(model: Any, row: Sequence[int], threads: int, vocabulary: int, out: BinaryIO) -> None:
    """Write the logits of every position of one row."""
    import llama_cpp

    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = max(len(row), 32)
    params.n_threads = params.n_threads_batch = threads
    context = llama_cpp.llama_init_from_model(model, params)
    if not context:
        raise ModelError("llama.cpp makes no context for it")
    batch = llama_cpp.llama_batch_init(len(row), 0, 1)
    try:
        for at, token in enumerate(row):
            batch.token[at], batch.pos[at], batch.logits[at] = token, at, True
            batch.n_seq_id[at], batch.seq_id[at][0] = 1, 0
        batch.n_tokens = len(row)
        code = llama_cpp.llama_decode(context, batch)
        if code != 0:
            raise ModelError(f"llama_decode returned {code}")
        found = np.ctypeslib.as_array(llama_cpp.llama_get_logits(context), shape=(len(row), vocabulary))
        out.write(found.astype(np.float32, copy=False).data)
    finally:
        llama_cpp.llama_batch_free(batch)
        llama_cpp.llama_free(context)


def _maps(file: str) -> bool:
    lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    return any(line.endswith(f" {file}") for line in lines)
