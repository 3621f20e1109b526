"""A llama.cpp context over a file: logits, and answers to one caller."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tasks.backends.base import Logits, OnToken, Settings
from tasks.backends.endings import endings_apart
from tasks.backends.gguf.context import BATCH, CONTEXT, asked, layers_on_device
from tasks.backends.gguf.engine import GgufEngine
from tasks.backends.sampling import Sampling


class _Opened:
    """A llama.cpp context of 1,024 tokens, or of more where a row has more, over a file."""

    def __init__(self, file: Path, threads: int, settings: Settings, scoring: bool) -> None:
        """Load the file; `scoring` keeps the logits of every position."""
        import llama_cpp

        tuned, self._kind, self._flash = asked(settings)
        self._file, self._threads, self._scoring = file, threads, scoring
        self._tuned = tuned | {"flash_attn": "on" if self._flash else "off"}
        self._layers = layers_on_device(settings)
        self._info = llama_cpp.llama_print_system_info().decode()
        self._open(CONTEXT)

    def _open(self, context: int) -> None:
        import llama_cpp

        self._context = context
        # Only a context made for embeddings holds more than one sequence; it is told at once to give logits instead.
        self._llama = llama_cpp.Llama(
            str(self._file), n_ctx=context, n_batch=BATCH, n_ubatch=int(self._tuned["n_ubatch"]),
            n_threads=self._threads, n_threads_batch=self._threads, flash_attn=self._flash, type_k=self._kind,
            type_v=self._kind, logits_all=self._scoring, embedding=self._scoring, verbose=False,
            use_mmap=self._tuned["use_mmap"] == "on", n_gpu_layers=self._layers,
        )  # fmt: skip
        if self._scoring:
            llama_cpp.llama_set_embeddings(self._llama.ctx, False)

    def _make_room(self, tokens: int) -> None:
        """Open a larger context where a row does not fit; the cache is lost."""
        if tokens > self._context:
            self._llama.close()
            self._open(2 ** (tokens - 1).bit_length())

    def runtime(self) -> dict[str, str]:
        """Execution properties: SIMD features llama.cpp was built with, KV cache type, threads."""
        features = [part.split(" = ")[0].strip() for part in self._info.split("|") if part.strip().endswith("= 1")]
        return {
            "execution": "weights as stored, activations q8_0/f16 per kernel, accumulation f32",
            "kv_cache": self._tuned["kv_cache"],
            "flash_attention": self._tuned["flash_attn"],
            "mapped": self._tuned["use_mmap"],
            "threads": str(self._threads),
            "build": " ".join(features),
        }

    def close(self) -> None:
        """Free model and context."""
        self._llama.close()


class GgufScorer(_Opened):
    """A context that keeps the logits of every position."""

    def __init__(self, file: Path, threads: int, settings: Settings) -> None:
        """Load the file."""
        super().__init__(file, threads, settings, scoring=True)

    def score(self, ids: Sequence[int]) -> Logits:
        """Logits of every position, shape (len(ids), vocabulary)."""
        self._make_room(len(ids))
        self._llama.reset()
        self._llama.eval(list(ids))
        scores: Logits = np.array(self._llama.scores[: len(ids)], dtype=np.float32)
        return scores

    def score_after(
        self, prompts: Sequence[Sequence[int]], endings: Sequence[Sequence[Sequence[int]]]
    ) -> list[list[Logits]]:
        """Logits that predict each ending's tokens: sequences that share their prompt's cache, all in one batch."""
        import llama_cpp

        count, flat = len(endings[0]), [ending for own in endings for ending in own]
        asked = sum(len(prompt) for prompt in prompts)
        if max(asked, sum(map(len, flat))) > BATCH or asked + sum(map(len, flat)) > self._context:
            return endings_apart(self, prompts, endings)  # more than the context holds at once
        cache, numbers = llama_cpp.llama_get_memory(self._llama.ctx), range(len(prompts), len(prompts) + len(flat))
        llama_cpp.llama_memory_clear(cache, True)
        length = len(prompts[0])
        first = self._decode([(ids, 0, number) for number, ids in enumerate(prompts)], last=True).repeat(count, axis=0)
        for place, number in enumerate(numbers):
            llama_cpp.llama_memory_seq_cp(cache, place // count, number, 0, -1)
        longer = [(ids[:-1], length, number) for ids, number in zip(flat, numbers, strict=True) if len(ids) > 1]
        rest = iter(self._decode(longer, last=False) if longer else ())
        rows = [np.stack([head, *(next(rest) for _ in ids[1:])]) for head, ids in zip(first, flat, strict=True)]
        llama_cpp.llama_memory_clear(cache, True)
        self._llama.reset()
        return [rows[start : start + count] for start in range(0, len(rows), count)]

    def _decode(self, sequences: Sequence[tuple[Sequence[int], int, int]], last: bool) -> Logits:
        """Process (ids, position of the first, number of the sequence); logits of all tokens or of each one's last."""
        import llama_cpp

        batch, wanted, at = self._llama._batch.batch, 0, 0
        for ids, start, number in sequences:
            for i, token in enumerate(ids):
                told = not last or i + 1 == len(ids)
                batch.token[at], batch.pos[at], batch.logits[at] = token, start + i, told
                batch.seq_id[at][0], batch.n_seq_id[at] = number, 1
                wanted, at = wanted + told, at + 1
        batch.n_tokens = at
        code = llama_cpp.llama_decode(self._llama.ctx, batch)
        if code != 0:
            raise RuntimeError(f"llama_decode returned {code}")
        shape = (wanted, self._llama.n_vocab())
        return np.array(np.ctypeslib.as_array(llama_cpp.llama_get_logits(self._llama.ctx), shape=shape))


class GgufSpeaker(_Opened):
    """A context that writes, for one caller."""

    def __init__(self, file: Path, threads: int, settings: Settings) -> None:
        """Load the file."""
        super().__init__(file, threads, settings, scoring=False)

    def prefill(self, ids: Sequence[int]) -> None:
        """Process the prompt and take its next token."""
        self._make_room(len(ids) + 1)
        self._llama.reset()
        self._llama.eval(list(ids))
        self._next()

    def _next(self) -> int:
        import llama_cpp

        # A view: a slice of the pointer would be a list of as many Python floats, a tenth of the time of a token.
        logits = np.ctypeslib.as_array(
            llama_cpp.llama_get_logits_ith(self._llama.ctx, -1), shape=(self._llama.n_vocab(),)
        )
        return int(logits.argmax())

    def generate(self, ids: Sequence[int], new_tokens: int, on_token: OnToken | None = None) -> list[int]:
        """Greedy continuation of `new_tokens` tokens."""
        self._make_room(len(ids) + new_tokens)
        self._llama.reset()
        made: list[int] = []
        batch = list(ids)
        for _ in range(new_tokens):
            self._llama.eval(batch)
            batch = [self._next()]
            made += batch
            if on_token:
                on_token(made[-1])
        return made

    def generate_batch(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> list[list[int]]:
        """Greedy continuations of prompts of one length, together, in a context of their own over the same weights."""
        length = len(prompts[0]) + new_tokens
        together = GgufEngine(self._llama.model, self._threads, len(prompts), length, self._tuned, owns=False)
        made: list[list[int]] = [[] for _ in prompts]
        try:
            for number, ids in enumerate(prompts):
                together.add(number, ids, new_tokens, Sampling())
            while any(len(row) < new_tokens for row in made):
                for one in together.step():
                    made[one.key].append(one.token)
        finally:
            together.close()
        return made
