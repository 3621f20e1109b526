"""Requests of their own cache in one llama.cpp context, as language models are served to many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.backends.base import Made, Settings
from tasks.backends.gguf.context import BATCH, asked
from tasks.backends.sampling import Sampler, Sampling
from tasks.errors import ResourceError

PIECE = 64  # prompt tokens read between two tokens of those that write


@dataclass
class _Sequence:
    """A request in a llama.cpp context."""

    key: int
    number: int  # of the sequence in the cache
    pending: list[int]  # prompt tokens not yet processed, or the token made last
    done: int  # tokens in the cache
    left: int  # tokens to make
    sampler: Sampler


class GgufEngine:
    """Sequences of their own cache in one llama.cpp context, decoded together: prompts join in pieces."""

    def __init__(self, model: Any, threads: int, slots: int, context: int, settings: Settings, owns: bool) -> None:
        """Make room for `slots` sequences of `context` tokens; a model it `owns` is freed with it."""
        import llama_cpp

        tuned, kind, flash = asked(settings)
        self._lib: Any = llama_cpp
        self._model, self._owns = model, owns
        wanted = llama_cpp.llama_context_default_params()
        wanted.n_ctx, wanted.n_seq_max, wanted.kv_unified = slots * context, slots, False
        wanted.n_batch, wanted.n_ubatch = BATCH, int(tuned["n_ubatch"])
        wanted.n_threads = wanted.n_threads_batch = threads
        wanted.type_k = wanted.type_v = kind
        wanted.flash_attn_type = (
            llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED if flash else llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        self._context = llama_cpp.llama_init_from_model(self._model, wanted)
        if not self._context:
            raise ResourceError(f"llama.cpp has no room for {slots} sequences of {context} tokens; serve fewer of them")
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))
        self._batch = llama_cpp.llama_batch_init(BATCH, 0, 1)
        self._free = list(range(slots))
        self._running: dict[int, _Sequence] = {}

    def add(self, key: int, ids: Sequence[int], new_tokens: int, sampling: Sampling) -> None:
        """Begin a request."""
        number = min(self._free)  # llama.cpp computes a batch in one piece only over sequences that follow one another
        self._free.remove(number)
        self._running[key] = _Sequence(key, number, list(ids), 0, new_tokens, Sampler(sampling, ids))

    def step(self) -> list[Made]:
        """One batch: the last token of each sequence that writes, in order of their numbers (out of order each is
        computed apart, at a third of the speed), and of the others' prompts what there is room for.
        """
        writing = [one for one in self._running.values() if len(one.pending) == 1]
        reading = [one for one in self._running.values() if len(one.pending) > 1]
        room = min(BATCH, PIECE + len(writing)) if writing else BATCH
        wanted: list[tuple[int, _Sequence]] = []
        at = 0
        for one in [*sorted(writing, key=lambda one: one.number), *reading]:
            taken = one.pending[: room - at]
            for i, token in enumerate(taken):
                self._batch.token[at], self._batch.pos[at] = token, one.done + i
                self._batch.seq_id[at][0], self._batch.n_seq_id[at] = one.number, 1
                self._batch.logits[at] = last = i + 1 == len(one.pending)
                if last:
                    wanted.append((at, one))
                at += 1
            one.pending, one.done = one.pending[len(taken) :], one.done + len(taken)
        if not at:
            return []
        self._batch.n_tokens = at
        code = self._lib.llama_decode(self._context, self._batch)
        if code:
            raise ResourceError(f"llama.cpp could not decode a batch of {at} tokens (code {code})")
        return [self._next(one, place) for place, one in wanted]

    def _next(self, one: _Sequence, place: int) -> Made:
        pointer = self._lib.llama_get_logits_ith(self._context, place)
        drawn = one.sampler.next(np.ctypeslib.as_array(pointer, shape=(self._vocabulary,)))
        one.pending, one.left = [drawn.token], one.left - 1
        if not one.left:
            self.drop(one.key)
        return Made(one.key, drawn.token, drawn.logprob, not one.left, drawn.top)

    def drop(self, key: int) -> None:
        """Forget a request and what the cache holds of it."""
        one = self._running.pop(key, None)
        if one is not None:
            self._lib.llama_memory_seq_rm(self._memory, one.number, -1, -1)
            self._free.append(one.number)

    def close(self) -> None:
        """Free batch, context and model."""
        self._lib.llama_batch_free(self._batch)
        self._lib.llama_free(self._context)
        if self._owns:
            self._lib.llama_model_free(self._model)
