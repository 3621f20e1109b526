"""Language models in ONNX Runtime for logits, and in onnxruntime-genai as users run them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tasks.backends.base import Logits, OnToken, Settings
from tasks.backends.onnx.head import chunk_of
from tasks.backends.onnx.names import CONFIG, FILE, SCORING
from tasks.backends.onnx.w8a8.integer import ACCURACY_LEVEL
from tasks.backends.sampling import Sampler, Sampling, Stream

Cache = dict[str, Any]  # input name -> array


class OnnxScorer:
    """model.onnx in ONNX Runtime with an empty cache."""

    def __init__(self, artifact: Path, threads: int, entries: Settings) -> None:
        """Create the inference session; `entries` are session configuration entries."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        for name, value in entries.items():
            options.add_session_config_entry(name, value)
        graph = artifact / SCORING if (artifact / SCORING).is_file() else artifact / FILE
        self._session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        self._chunk = chunk_of(artifact)
        self._threads = threads
        self._past = {
            port.name: np.zeros(
                [1 if i == 0 else (0 if i == 2 else size) for i, size in enumerate(port.shape)], dtype=_dtype(port.type)
            )
            for port in self._session.get_inputs()
            if port.name.startswith("past_key_values")
        }
        self._names = {port.name for port in self._session.get_inputs()}

    def _run(self, ids: Sequence[int], past: Cache, done: int, keep: bool = False) -> tuple[Logits, Cache]:
        """Logits for one row of ids after `done` tokens whose cache is `past`, read in parts as served; and the cache.

        Where activations share a scale, what is read at once changes what is found.
        """
        parts, step = list[Logits](), self._chunk or len(ids)
        for start in range(0, len(ids), step):
            some = ids[start : start + step]
            logits, past = self._step(some, past, done + start, keep or start + step < len(ids))
            parts.append(logits)
        return np.concatenate(parts), past

    def _step(self, ids: Sequence[int], past: Cache, done: int, keep: bool) -> tuple[Logits, Cache]:
        tokens, total = np.array([ids], dtype=np.int64), done + len(ids)
        feeds = {
            "input_ids": tokens,
            "attention_mask": np.ones((1, total), dtype=np.int64),
            "position_ids": np.arange(done, total, dtype=np.int64)[None],
        }
        names = [name.replace("past_key_values", "present") for name in self._past] if keep else []
        given = {name: value for name, value in feeds.items() if name in self._names} | past
        logits, *present = self._session.run(["logits", *names], given)
        return np.asarray(logits[0], dtype=np.float32), dict(zip(self._past, present, strict=True)) if keep else past

    def score(self, ids: Sequence[int]) -> Logits:
        """Logits of every position, shape (len(ids), vocabulary)."""
        return self._run(ids, self._past, 0)[0]

    def score_after(
        self, prompts: Sequence[Sequence[int]], endings: Sequence[Sequence[Sequence[int]]]
    ) -> list[list[Logits]]:
        """Logits that predict each ending's tokens, each after its prompt's cache.

        One after the other: the attention operator takes several tokens after a cache for a batch of one alone.
        """
        return [self._after(prompt, own) for prompt, own in zip(prompts, endings, strict=True)]

    def _after(self, prompt: Sequence[int], endings: Sequence[Sequence[int]]) -> list[Logits]:
        logits, past = self._run(prompt, self._past, 0, keep=True)
        first = logits[-1:]

        def after(ending: Sequence[int]) -> Logits:
            if len(ending) == 1:
                return first.copy()  # each its own, as callers may work in place
            return np.concatenate([first, self._run(ending[:-1], past, len(prompt))[0]])

        return [after(ending) for ending in endings]

    def runtime(self) -> dict[str, str]:
        """Provider and threads."""
        return {"provider": ",".join(self._session.get_providers()), "threads": str(self._threads)}

    def close(self) -> None:
        """Free the session."""
        del self._session


def _dtype(name: str) -> Any:
    return {"tensor(float)": np.float32, "tensor(float16)": np.float16}[name]


class GenAiSpeaker:
    """onnxruntime-genai, as users run it."""

    def __init__(self, artifact: Path, threads: int, entries: Settings) -> None:
        """Load the folder; genai's own default is one thread."""
        import onnxruntime_genai as og

        self._og = og
        self._config = json.loads((artifact / CONFIG).read_text())
        self._artifact, self._threads = artifact, threads
        self._options = {"intra_op_num_threads": threads, **entries}
        self._model = self._opened({})

    def _opened(self, more: dict[str, Any]) -> Any:
        config = self._og.Config(str(self._artifact))
        config.overlay(json.dumps({"model": {"decoder": {"session_options": self._options}}, **more}))
        return self._og.Model(config)

    @cached_property
    def _whole(self) -> Any:
        """The model for batches, opened when the first comes: genai 0.14 reads a single prompt alone in parts."""
        return self._opened({"search": {"chunk_size": 0}}) if chunk_of(self._artifact) else self._model

    def prefill(self, ids: Sequence[int]) -> None:
        """Process the prompt and take its next token."""
        self.generate(ids, 1)

    def generate(self, ids: Sequence[int], new_tokens: int, on_token: OnToken | None = None) -> list[int]:
        """Greedy continuation of `new_tokens` tokens."""
        params = self._og.GeneratorParams(self._model)
        total = len(ids) + new_tokens
        params.set_search_options(max_length=total, min_length=total, do_sample=False)
        generator = self._og.Generator(self._model, params)
        generator.append_tokens(np.array(ids, dtype=np.int32))
        made: list[int] = []
        for _ in range(new_tokens):
            generator.generate_next_token()
            made.append(int(generator.get_next_tokens()[0]))
            if on_token:
                on_token(made[-1])
        return made

    def stream(self, ids: Sequence[int], new_tokens: int, sampling: Sampling) -> Stream:
        """Tokens of one request with their log-probabilities, for as long as they are taken."""
        params = self._og.GeneratorParams(self._model)
        params.set_search_options(max_length=len(ids) + new_tokens, do_sample=False)
        generator, sampler = self._og.Generator(self._model, params), Sampler(sampling, ids)
        generator.append_tokens(np.array(ids, dtype=np.int32))
        for made in range(new_tokens):
            drawn = sampler.next(np.asarray(generator.get_logits(), dtype=np.float32).reshape(-1))
            yield drawn
            if made + 1 < new_tokens:
                generator.append_tokens(np.array([drawn.token], dtype=np.int32))

    def generate_batch(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> list[list[int]]:
        """Greedy continuations of prompts of one length, together."""
        params = self._og.GeneratorParams(self._whole)
        total = len(prompts[0]) + new_tokens
        params.set_search_options(max_length=total, min_length=total, do_sample=False, batch_size=len(prompts))
        generator = self._og.Generator(self._whole, params)
        generator.append_tokens(np.array(prompts, dtype=np.int32))
        made = []
        for _ in range(new_tokens):
            generator.generate_next_token()
            made.append([int(token) for token in generator.get_next_tokens()])
        return [list(row) for row in zip(*made, strict=True)]

    def runtime(self) -> dict[str, str]:
        """Execution properties as configured; MatMulNBits computes with int8 activations at accuracy level 4."""
        return {
            "execution": f"float32, int8 inside MatMulNBits (accuracy level {ACCURACY_LEVEL}) where quantized",
            "kv_cache": "float32",
            "provider": "CPUExecutionProvider",
            "threads": str(self._threads),
        }

    def close(self) -> None:
        """Free the model."""
        self.__dict__.pop("_whole", None)
        del self._model
