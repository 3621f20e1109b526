"""An mlx-lm model in one process: logits, and answers to one caller."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks.backends.base import Logits, OnToken


class MlxSession:
    """An mlx-lm model with its prompt cache."""

    def __init__(self, artifact: Path) -> None:
        """Load the weights."""
        os.environ["HF_HUB_OFFLINE"] = "1"
        import mlx.core as mx
        from mlx_lm.utils import load_model

        self._mx = mx
        self._model, self._config = load_model(artifact)
        self._native = mx.metal.is_available()
        if not self._native:
            self._dequantize()

    def _dequantize(self) -> None:
        """Replace quantized layers by plain ones with the weights they stand for, all in float32."""
        from mlx.utils import tree_map
        from mlx_lm.utils import dequantize_model

        if "quantization" in self._config:
            self._model = dequantize_model(self._model)
        floats = (self._mx.float16, self._mx.bfloat16)
        wide = tree_map(lambda x: x.astype(self._mx.float32) if x.dtype in floats else x, self._model.parameters())
        self._model.update(wide)
        self._mx.eval(self._model.parameters())

    def score(self, ids: Sequence[int]) -> Logits:
        """Logits of every position, shape (len(ids), vocabulary)."""
        return self._rows(self._model(self._mx.array([list(ids)]))[0])

    def score_after(
        self, prompts: Sequence[Sequence[int]], endings: Sequence[Sequence[Sequence[int]]]
    ) -> list[list[Logits]]:
        """Logits that predict each ending's tokens; the cache is cut back to the prompt after each."""
        return [self._after(prompt, own) for prompt, own in zip(prompts, endings, strict=True)]

    def _after(self, prompt: Sequence[int], endings: Sequence[Sequence[int]]) -> list[Logits]:
        from mlx_lm.models.cache import make_prompt_cache, trim_prompt_cache

        cache = make_prompt_cache(self._model)
        first = self._rows(self._model(self._mx.array([list(prompt)]), cache=cache)[0, -1:])
        found = []
        for ending in endings:
            rest = (
                [self._rows(self._model(self._mx.array([list(ending[:-1])]), cache=cache)[0])]
                if len(ending) > 1
                else []
            )
            trim_prompt_cache(cache, len(ending) - 1)
            found.append(np.concatenate([first, *rest]))
        return found

    def _rows(self, logits: Any) -> Logits:
        wide = logits.astype(self._mx.float32)
        self._mx.eval(wide)
        return np.array(wide, dtype=np.float32)

    def prefill(self, ids: Sequence[int]) -> None:
        """Process the prompt and take its next token."""
        self.generate(ids, 1)

    def generate(self, ids: Sequence[int], new_tokens: int, on_token: OnToken | None = None) -> list[int]:
        """Greedy continuation of `new_tokens` tokens."""
        from mlx_lm.models.cache import make_prompt_cache

        cache = make_prompt_cache(self._model)
        made: list[int] = []
        batch = list(ids)
        for _ in range(new_tokens):
            logits = self._model(self._mx.array([batch]), cache=cache)[0, -1]
            batch = [int(np.array(self._mx.argmax(logits)))]
            made += batch
            if on_token:
                on_token(made[-1])
        return made

    def generate_batch(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> list[list[int]]:
        """Greedy continuations of prompts of one length, together."""
        from mlx_lm.models.cache import make_prompt_cache

        cache, made = make_prompt_cache(self._model), []
        batch = self._mx.array([list(ids) for ids in prompts])
        for _ in range(new_tokens):
            batch = self._mx.argmax(self._model(batch, cache=cache)[:, -1], axis=-1)[:, None]
            made.append([int(token) for token in np.array(batch)[:, 0]])
        return [list(row) for row in zip(*made, strict=True)]

    def runtime(self) -> dict[str, str]:
        """Execution properties: device and types."""
        stored = f"quantized {self._config['quantization']}" if "quantization" in self._config else "float16"
        return {
            "execution": f"float16, {stored}"
            if self._native
            else f"float32 without Metal; weights as stored ({stored}), widened",
            "kv_cache": "float16" if self._native else "float32",
            "device": str(self._mx.default_device()),
            "threads": "MLX's own",
        }

    def close(self) -> None:
        """Drop the model."""
        del self._model
