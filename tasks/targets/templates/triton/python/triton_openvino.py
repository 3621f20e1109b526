"""OpenVINO GenAI's continuous batching: all requests are decoded together over a paged cache."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino_genai

BLOCK = 32  # tokens of a block of the paged cache on a processor


class Engine:
    """One pipeline for all requests."""

    def __init__(self, package: Path, settings: dict[str, Any]) -> None:
        """Open the package's model with room for as many sequences of the context's length as the batch is large."""
        wanted = openvino_genai.SchedulerConfig()
        wanted.max_num_seqs = settings["slots"]
        wanted.num_kv_blocks = settings["slots"] * -(-settings["context"] // BLOCK) + 1
        wanted.max_num_batched_tokens = settings["max_num_batched_tokens"]
        wanted.dynamic_split_fuse = True
        wanted.enable_prefix_caching = False
        cores = len(os.sched_getaffinity(0))
        options = {"INFERENCE_NUM_THREADS": max(1, cores // settings["cores_per_thread"]), **settings["properties"]}
        self._model = openvino_genai.ContinuousBatchingPipeline(str(package / "model"), wanted, "CPU", options)
        self._tokenizer = self._model.get_tokenizer()
        self._running: dict[int, tuple[Any, int]] = {}

    def encode(self, text: str) -> list[int]:
        """Token ids of a text."""
        return [int(one) for one in np.array(self._tokenizer.encode(text).input_ids.data).reshape(-1)] if text else []

    def decode(self, tokens: list[int]) -> str:
        """Text of token ids."""
        return str(self._tokenizer.decode(tokens)) if tokens else ""

    def add(self, key: int, ids: list[int], count: int) -> None:
        """Begin a request for `count` tokens."""
        asked = openvino_genai.GenerationConfig(max_new_tokens=count, ignore_eos=True)
        handle = self._model.add_request(key, ov.Tensor(np.array([ids], dtype=np.int64)), asked)
        self._running[key] = (handle, count)

    def step(self) -> list[tuple[int, int, bool]]:
        """The tokens that one step of the scheduler made: (key, token, whether it is the last)."""
        self._model.step()
        made = []
        for key, (handle, left) in list(self._running.items()):
            while left and handle.can_read():
                for output in handle.read().values():
                    for token in output.generated_ids:
                        left -= 1
                        made.append((key, int(token), left == 0))
            self._running[key] = (handle, left)
            if not left:
                del self._running[key]
        return made

    def drop(self, key: int) -> None:
        """Forget a request."""
        handle, _ = self._running.pop(key, (None, 0))
        if handle is not None:
            handle.cancel()

    def close(self) -> None:
        """Free the pipeline."""
        self._running.clear()
        del self._model
