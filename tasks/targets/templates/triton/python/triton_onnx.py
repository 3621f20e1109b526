"""ONNX Runtime GenAI: each request has a generator of its own, and they take turns, as its batches are fixed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime_genai as og


class Engine:
    """One model, a generator for each request."""

    def __init__(self, package: Path, settings: dict[str, Any]) -> None:
        """Open the package's model on the processor, or on the provider that the settings name."""
        cores = len(os.sched_getaffinity(0))
        threads = max(1, cores // settings["cores_per_thread"])
        config = og.Config(str(package / "model"))
        options = {"intra_op_num_threads": threads, **settings["properties"]}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
        config.clear_providers()
        if settings.get("provider"):
            config.append_provider(settings["provider"])
        self._model = og.Model(config)
        self._tokenizer = og.Tokenizer(self._model)
        self._running: dict[int, tuple[Any, int]] = {}

    def encode(self, text: str) -> list[int]:
        """Token ids of a text."""
        return [int(one) for one in self._tokenizer.encode(text)] if text else []

    def decode(self, tokens: list[int]) -> str:
        """Text of token ids; the library ends its process when it is given none."""
        return str(self._tokenizer.decode(np.array(tokens, dtype=np.int32))) if tokens else ""

    def add(self, key: int, ids: list[int], count: int) -> None:
        """Begin a request for `count` tokens."""
        params, total = og.GeneratorParams(self._model), len(ids) + count
        params.set_search_options(max_length=total, do_sample=False)
        generator = og.Generator(self._model, params)
        generator.append_tokens(np.array(ids, dtype=np.int32))
        self._running[key] = (generator, count)

    def step(self) -> list[tuple[int, int, bool]]:
        """One token of each request: (key, token, whether it is the last)."""
        made = []
        for key, (generator, left) in list(self._running.items()):
            generator.generate_next_token()
            last = left == 1 or generator.is_done()
            made.append((key, int(generator.get_next_tokens()[0]), last))
            self._running[key] = (generator, left - 1)
            if last:
                del self._running[key]
        return made

    def drop(self, key: int) -> None:
        """Forget a request."""
        self._running.pop(key, None)

    def close(self) -> None:
        """Free the model."""
        self._running.clear()
        del self._tokenizer, self._model
