"""Text encoders in llama.cpp: token ids and a mask in, one vector a row out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.backends.base import Feeds, Port, Settings
from tasks.backends.gguf.context import flash, model_params
from tasks.errors import ModelError, UnsupportedError

IDS, MASK, VECTOR = "input_ids", "attention_mask", "embedding"
TOKENS, SEQUENCES = 2048, 64  # of one call; an encoder reads a text in one piece


class GgufEncoder:
    """A GGUF file of an encoder, with the pooling that it names and vectors of length one."""

    def __init__(self, file: Path, threads: int, settings: Settings) -> None:
        """Load the file; raises ModelError where llama.cpp cannot, or the file names no pooling."""
        import llama_cpp

        self._lib: Any = llama_cpp
        self._threads = threads
        self._model: Any = llama_cpp.llama_model_load_from_file(str(file).encode(), model_params(settings))
        if not self._model:
            raise ModelError(f"llama.cpp cannot load {file}")
        options = llama_cpp.llama_context_default_params()
        options.n_ctx = options.n_batch = options.n_ubatch = TOKENS
        options.n_seq_max, options.embeddings = SEQUENCES, True
        options.n_threads = options.n_threads_batch = threads
        options.flash_attn_type = (
            llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED if flash(settings) else llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        options.kv_unified = True
        self._context: Any = llama_cpp.llama_init_from_model(self._model, options)
        pooling = llama_cpp.llama_pooling_type(self._context)
        if pooling in (llama_cpp.LLAMA_POOLING_TYPE_NONE, llama_cpp.LLAMA_POOLING_TYPE_RANK):
            raise ModelError(f"{file.name} names no pooling, so that a text has no one vector")
        self._size = llama_cpp.llama_model_n_embd(self._model)
        self._batch: Any = llama_cpp.llama_batch_init(TOKENS, 0, 1)
        self.inputs = {name: Port((None, None), "int64") for name in (IDS, MASK)}

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """Vectors of length one by name, (rows, size); rows are read together as far as they fit."""
        rows = [ids[: int(mask.sum())].tolist() for ids, mask in zip(feeds[IDS], feeds[MASK], strict=True)]
        longest = max(map(len, rows))
        if longest > TOKENS:
            raise UnsupportedError(f"a text has {longest} tokens; at most {TOKENS} are read at once")
        found: list[NDArray[Any]] = []
        waiting: list[list[int]] = []
        for row in rows:
            if len(waiting) == SEQUENCES or sum(map(len, waiting)) + len(row) > TOKENS:
                found += self._read(waiting)
                waiting = []
            waiting.append(row)
        return {VECTOR: np.stack(found + self._read(waiting))}

    def _read(self, rows: list[list[int]]) -> list[NDArray[Any]]:
        """The vectors of rows that fit into one call."""
        batch, lib, count = self._batch, self._lib, 0
        for number, row in enumerate(rows):
            for position, token in enumerate(row):
                batch.token[count], batch.pos[count] = token, position
                batch.n_seq_id[count], batch.seq_id[count][0], batch.logits[count] = 1, number, 1
                count += 1
        batch.n_tokens = count
        lib.llama_memory_clear(lib.llama_get_memory(self._context), True)
        failed = lib.llama_encode(self._context, batch)
        if failed:
            raise UnsupportedError(f"llama.cpp could not read {len(rows)} texts of {count} tokens (code {failed})")
        vectors = [
            np.ctypeslib.as_array(lib.llama_get_embeddings_seq(self._context, number), (self._size,)).astype(np.float32)
            for number in range(len(rows))
        ]
        return [vector / max(float(np.linalg.norm(vector)), 1e-12) for vector in vectors]

    def runtime(self) -> dict[str, str]:
        """Execution properties: SIMD features llama.cpp was built with, threads."""
        info = self._lib.llama_print_system_info().decode()
        features = [part.split(" = ")[0].strip() for part in info.split("|") if part.strip().endswith("= 1")]
        return {
            "execution": "weights as stored, activations q8_0/f16 per kernel, accumulation f32",
            "threads": str(self._threads),
            "build": " ".join(features),
        }

    def close(self) -> None:
        """Free model and context."""
        self._lib.llama_batch_free(self._batch)
        self._lib.llama_free(self._context)
        self._lib.llama_model_free(self._model)
