"""Language models compiled by OpenVINO for logits, and in OpenVINO GenAI as users run them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks.backends.base import Logits, OnToken, Settings
from tasks.backends.devices import PROCESSOR
from tasks.backends.endings import padded, unpadded
from tasks.backends.openvino.device import compiled, options, properties_of
from tasks.backends.openvino.language import FILE
from tasks.backends.sampling import Sampler, Sampling, Stream

GUESSES, NGRAM = 3, 3  # of prompt lookup: tokens guessed at once, and how many of the last ones are looked up
PIECE = 256  # tokens of a prompt that are processed at once


class _Cache:
    """One infer request of a compiled stateful model, with its cache of keys and values."""

    def __init__(self, model: Any) -> None:
        self._request = model.create_infer_request()
        self._names = {name for port in model.inputs for name in port.get_names()}

    def reset(self) -> None:
        self._request.reset_state()

    def run(self, batch: Sequence[Sequence[int]], past: int, after: Sequence[int]) -> Logits:
        """Logits, shape (rows, tokens, vocabulary); row i continues the cache of row after[i] of the call before."""
        rows, total = len(batch), past + len(batch[0])
        feeds = {
            "input_ids": np.array(batch, dtype=np.int64),
            "attention_mask": np.ones((rows, total), dtype=np.int64),
            "position_ids": np.tile(np.arange(past, total, dtype=np.int64), (rows, 1)),
            "beam_idx": np.array(after, dtype=np.int32),
        }
        self._request.infer({name: value for name, value in feeds.items() if name in self._names})
        logits: Logits = np.array(self._request.get_tensor("logits").data, dtype=np.float32)
        return logits


class OpenvinoStreams:
    """The compiled stateful model, a request and its cache for each answer, the next token chosen by us."""

    def __init__(self, artifact: Path, threads: int, properties: Settings, device: str = PROCESSOR) -> None:
        """Compile for the device."""
        self._compiled = compiled(artifact / FILE, threads, properties, device)

    def stream(self, ids: Sequence[int], new_tokens: int, sampling: Sampling) -> Stream:
        """Tokens of one request, for as long as they are taken."""
        cache, sampler, batch, past = _Cache(self._compiled), Sampler(sampling, ids), list(ids), 0
        while True:
            piece, batch = batch[:PIECE], batch[PIECE:]  # the logits of a whole prompt may take hundreds of megabytes
            logits = cache.run([piece], past, [0])[0, -1]
            past += len(piece)
            if not batch:
                drawn = sampler.next(logits)
                yield drawn
                batch = [drawn.token]

    def close(self) -> None:
        """Free the model."""
        del self._compiled


class OpenvinoScorer:
    """The compiled stateful model, run for teacher-forced logits."""

    def __init__(self, artifact: Path, threads: int, properties: Settings, device: str = PROCESSOR) -> None:
        """Compile for the device."""
        self._compiled = compiled(artifact / FILE, threads, properties, device)
        self._cache = _Cache(self._compiled)
        self._run = self._cache.run

    def score(self, ids: Sequence[int]) -> Logits:
        """Logits of every position, shape (len(ids), vocabulary)."""
        self._cache.reset()
        logits: Logits = self._run([ids], 0, [0])[0]
        return logits

    def score_after(
        self, prompts: Sequence[Sequence[int]], endings: Sequence[Sequence[Sequence[int]]]
    ) -> list[list[Logits]]:
        """Logits that predict each ending's tokens: beams of the prompts' caches, one an ending."""
        count, rows = len(endings[0]), padded(endings)
        self._cache.reset()
        logits = self._run(prompts, 0, range(len(prompts)))[:, -1:].repeat(count, axis=0)
        if len(rows[0]) > 1:
            after = [i // count for i in range(len(rows))]
            rest = self._run([row[:-1] for row in rows], len(prompts[0]), after)
            logits = np.concatenate([logits, rest], axis=1)
        return unpadded(logits, endings)

    def runtime(self) -> dict[str, str]:
        """Properties of the compiled model."""
        return properties_of(self._compiled)

    def close(self) -> None:
        """Free the model."""
        del self._run, self._cache, self._compiled


class GenAiSpeaker:
    """OpenVINO GenAI's pipeline, as users run it."""

    def __init__(self, artifact: Path, threads: int, properties: Settings, device: str = PROCESSOR) -> None:
        """Load the pipeline for the device."""
        import openvino_genai

        self._genai = openvino_genai
        self._artifact, self._asked = artifact, (threads, properties, device)
        self._pipeline, self._looking = self._open(), None

    def _open(self, **more: Any) -> Any:
        return self._genai.LLMPipeline(str(self._artifact), self._asked[2], **options(*self._asked), **more)

    def prefill(self, ids: Sequence[int]) -> None:
        """Process the prompt and take its next token."""
        self.generate(ids, 1)

    def generate(self, ids: Sequence[int], new_tokens: int, on_token: OnToken | None = None) -> list[int]:
        """Greedy continuation of `new_tokens` tokens."""
        return self._generate([ids], new_tokens, _streamer(self._genai, on_token) if on_token else None)[0]

    def generate_by_lookup(self, ids: Sequence[int], new_tokens: int, on_token: OnToken | None = None) -> list[int]:
        """The same in a pipeline that looks guesses up; it is loaded when it is first asked."""
        if self._looking is None:
            self._looking = self._open(prompt_lookup=True)
        guesses = {"num_assistant_tokens": GUESSES, "max_ngram_size": NGRAM}
        streamer = _streamer(self._genai, on_token) if on_token else None
        return self._generate([ids], new_tokens, streamer, self._looking, **guesses)[0]

    def generate_batch(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> list[list[int]]:
        """Greedy continuations of prompts of one length, together."""
        return self._generate(prompts, new_tokens, None)

    def _generate(
        self, prompts: Sequence[Sequence[int]], new_tokens: int, streamer: Any, pipeline: Any = None, **more: int
    ) -> list[list[int]]:
        import openvino as ov

        config = self._genai.GenerationConfig(
            max_new_tokens=new_tokens, min_new_tokens=new_tokens, do_sample=False, ignore_eos=True, **more
        )
        ids = np.array(prompts, dtype=np.int64)
        given = self._genai.TokenizedInputs(ov.Tensor(ids), ov.Tensor(np.ones_like(ids)))
        result = (pipeline or self._pipeline).generate(given, config, streamer)
        return [list(row) for row in result.tokens]

    def runtime(self) -> dict[str, str]:
        """Properties of the same model compiled with the same settings; GenAI does not show its own."""
        return properties_of(compiled(self._artifact / FILE, *self._asked))

    def close(self) -> None:
        """Free the pipelines."""
        del self._pipeline, self._looking


def _streamer(genai: Any, on_token: OnToken) -> Any:
    class Streamer(genai.StreamerBase):  # type: ignore[misc]
        def write(self, token: int | list[int]) -> Any:
            for one in [token] if isinstance(token, int) else token:
                on_token(one)
            return genai.StreamingStatus.RUNNING

        def end(self) -> None: ...

    return Streamer()
