"""Language models in OpenVINO served to many: GenAI's continuous batching, and beside it what needs logits."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks.backends.base import Made
from tasks.backends.devices import PROCESSOR
from tasks.backends.openvino.device import Asked, options, takes_turns
from tasks.backends.openvino.tokens import PIECE, OpenvinoStreams
from tasks.backends.sampling import Sampling
from tasks.backends.turns import Interleaved

BLOCK = 32  # tokens of a block of the paged cache on a CPU


class ContinuousEngine:
    """OpenVINO GenAI's continuous batching over a paged cache."""

    def __init__(self, artifact: Path, asked: Asked, slots: int, context: int) -> None:
        """Load the pipeline with room for `slots` sequences of `context` tokens."""
        import openvino_genai

        self._genai = openvino_genai
        wanted = openvino_genai.SchedulerConfig()
        wanted.max_num_seqs = slots
        wanted.num_kv_blocks = slots * -(-context // BLOCK) + 1
        wanted.max_num_batched_tokens = PIECE
        wanted.dynamic_split_fuse = True
        wanted.enable_prefix_caching = False
        told = options(*asked)
        self._pipeline = openvino_genai.ContinuousBatchingPipeline(str(artifact), wanted, asked.device, told)
        self._running: dict[int, tuple[Any, int]] = {}

    def add(self, key: int, ids: Sequence[int], new_tokens: int, sampling: Sampling) -> None:
        """Begin a request."""
        import openvino as ov

        asked: dict[str, Any] = {"max_new_tokens": new_tokens, "ignore_eos": True, "logprobs": 1}
        if not sampling.greedy:
            asked |= {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p}
            asked |= {"min_p": min(sampling.min_p, 0.999999)} if sampling.min_p else {}  # it wants less than 1
            asked |= {"top_k": sampling.top_k} if sampling.top_k else {}
            # GenAI's own seed is always 0: callers who bring none would all be given the same answer, each time.
            asked["rng_seed"] = secrets.randbits(63) if sampling.seed is None else sampling.seed
        prompt = ov.Tensor(np.array([ids], dtype=np.int64))
        handle = self._pipeline.add_request(key, prompt, self._genai.GenerationConfig(**asked))
        self._running[key] = (handle, new_tokens)

    def step(self) -> list[Made]:
        """Run one step of the scheduler, and return the tokens it made."""
        if not self._running:
            return []
        self._pipeline.step()
        made = []
        for key, (handle, left) in list(self._running.items()):
            while left and handle.can_read():
                for output in handle.read().values():
                    for token, logprob in zip(output.generated_ids, output.generated_log_probs, strict=True):
                        left -= 1
                        made.append(Made(key, int(token), float(logprob), left == 0))
            self._running[key] = (handle, left)
            if not left:
                del self._running[key]
        return made

    def drop(self, key: int) -> None:
        """Forget a request; its blocks are freed in the next step."""
        handle, _ = self._running.pop(key, (None, 0))
        if handle is not None:
            handle.cancel()

    def close(self) -> None:
        """Free the pipeline."""
        self._running.clear()
        del self._pipeline


class OpenvinoEngine:
    """GenAI's continuous batching for whom it can serve; who needs logits takes turns in the same model, compiled bare.

    GenAI shows no logits, and holds an answer to no form but by a library of its own. The bare model is compiled when
    it is first asked for: its weights take their memory a second time. Where the processor cannot batch, all requests
    take turns in it, and nothing else is loaded.
    """

    def __init__(self, artifact: Path, asked: Asked, slots: int, context: int) -> None:
        """Load the pipeline with room for `slots` sequences of `context` tokens."""
        self._artifact, self._asked = artifact, asked
        self._batches: ContinuousEngine | None = None
        self._turns: Interleaved | None = None
        if asked.device == PROCESSOR and takes_turns():
            self._turns = self._bare()
        else:
            self._batches = ContinuousEngine(artifact, asked, slots, context)

    def _bare(self) -> Interleaved:
        bare = OpenvinoStreams(self._artifact, *self._asked)
        return Interleaved(bare.stream, bare.close)

    def add(self, key: int, ids: Sequence[int], new_tokens: int, sampling: Sampling) -> None:
        """Begin a request."""
        needs_logits = sampling.bias or sampling.penalized or sampling.top or sampling.guide
        if self._batches and not needs_logits:
            self._batches.add(key, ids, new_tokens, sampling)
            return
        self._turns = self._turns or self._bare()
        self._turns.add(key, ids, new_tokens, sampling)

    def step(self) -> list[Made]:
        """A step of the batch, and a token of each that takes turns."""
        return [made for engine in (self._batches, self._turns) if engine for made in engine.step()]

    def drop(self, key: int) -> None:
        """Forget a request; its blocks are freed in the next step."""
        for engine in (self._batches, self._turns):
            if engine:
                engine.drop(key)

    def close(self) -> None:
        """Free both."""
        for engine in (self._turns, self._batches):
            if engine:
                engine.close()
