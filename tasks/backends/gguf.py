"""llama.cpp: GGUF files through convert-hf-to-gguf and llama-cpp-python's own quantizer."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks import gguf_file
from tasks.backends.base import (
    Logits,
    Made,
    OnToken,
    Settings,
    Work,
    endings_apart,
    installed,
    threads_of,
    versions_of,
)  # fmt: skip
from tasks.backends.sampling import Sampler, Sampling
from tasks.errors import ModelError, ResourceError, UnsupportedError
from tasks.records import Hardware, ModelProfile, Recipe, Support

FILE = "model.gguf"
CONTEXT, BATCH = 1024, 512  # tokens a session holds, and processes at once
PIECE = 64  # prompt tokens read between two tokens of those that write
PACKAGES = ("llama-cpp-python", "convert-hf-to-gguf", "gguf")


def probe(hardware: Hardware, model: ModelProfile) -> Support:
    """Say whether llama.cpp can be used here."""
    return installed("llama_cpp", "llama-cpp-python")


def convert(work: Work, recipe: Recipe, out: Path) -> None:
    """Write out/model.gguf: f16 from the checkpoint, else quantized from the f16 file."""
    if recipe.precision == "fp16":
        _to_f16(work.model, out / FILE)
        return
    base = work.intermediate / FILE if work.intermediate else out / "f16.gguf"
    if not base.is_file():
        _to_f16(work.model, base)
    quantize(base, out / FILE, recipe.method, work.threads)
    if work.intermediate is None:
        base.unlink()


def _to_f16(model: Path, out: Path) -> None:
    command = [
        str(Path(sys.executable).with_name("convert-hf-to-gguf")),
        str(model),
        "--outfile",
        str(out),
        "--outtype",
        "f16",
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    sys.stderr.write(run.stderr[-20000:])
    if run.returncode or not out.is_file():
        reason = next((line for line in reversed(run.stderr.splitlines()) if line.strip()), "no output")
        raise UnsupportedError(f"convert-hf-to-gguf refused this model: {reason}")


def quantize(source: Path, out: Path, method: str, threads: int, again: bool = False) -> None:
    """Quantize a GGUF file; `again` allows one that is quantized already, which costs quality twice."""
    import llama_cpp

    name = f"LLAMA_FTYPE_MOSTLY_{method.upper()}"
    kind = getattr(llama_cpp, name, None)
    if kind is None:
        known = sorted(
            n.removeprefix("LLAMA_FTYPE_MOSTLY_").lower() for n in dir(llama_cpp) if n.startswith("LLAMA_FTYPE_MOSTLY_")
        )
        raise UnsupportedError(f"llama.cpp has no quantization {method!r}; allowed: {', '.join(known)}")
    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype, options.nthread, options.allow_requantize = kind, threads, again
    failed = llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(out), ctypes.byref(options))
    if failed:
        raise UnsupportedError(f"llama.cpp's quantizer returned {failed} for {method}; its log says why")


def tensor_bytes(artifact: Path) -> dict[str, int]:
    """Bytes of weights per type in the artifact."""
    return gguf_file.tensor_bytes(artifact / FILE)


def import_runtime() -> None:
    """Import llama.cpp."""
    import llama_cpp  # noqa: F401


def versions() -> dict[str, str]:
    """Installed versions of what made and runs the artifact."""
    return versions_of(*PACKAGES)


# The first value of each is what a session uses untold. A prompt is processed `n_ubatch` tokens at a time. Flash
# attention leaves one request as fast, and takes a fifth off a step of eight (26 against 32 ms, the sample's int8).
SETTINGS: dict[str, tuple[str, ...]] = {
    "flash_attn": ("on", "off"),
    "n_ubatch": ("512", "128"),
    "kv_cache": ("f16", "q8_0"),
    "threads": ("all", "half"),
}


def load(artifact: Path, threads: int, purpose: str, settings: Settings | None = None) -> GgufSession:
    """Open the GGUF file, memory-mapped."""
    return GgufSession(artifact / FILE, threads_of(settings, threads), purpose, settings or {})


def engine(artifact: Path, threads: int, slots: int, context: int, settings: Settings | None = None) -> GgufEngine:
    """Open the GGUF file for `slots` sequences in one context."""
    import llama_cpp

    model = llama_cpp.llama_model_load_from_file(str(artifact / FILE).encode(), llama_cpp.llama_model_default_params())
    if not model:
        raise ModelError(f"llama.cpp cannot load {artifact / FILE}")
    return GgufEngine(model, threads_of(settings, threads), slots, context, settings or {}, owns=True)


def flash(settings: Settings) -> bool:
    """Whether with flash attention; llama.cpp takes no quantized cache of values without it."""
    return settings.get("kv_cache") == "q8_0" or settings.get("flash_attn", SETTINGS["flash_attn"][0]) == "on"


def _asked(settings: Settings) -> tuple[dict[str, str], int, bool]:
    """Every setting, the type of the cache, and whether with flash attention."""
    import llama_cpp

    tuned = {name: settings.get(name, values[0]) for name, values in SETTINGS.items()}
    kind: int = llama_cpp.GGML_TYPE_Q8_0 if tuned["kv_cache"] == "q8_0" else llama_cpp.GGML_TYPE_F16
    return tuned, kind, flash(settings)


class GgufSession:
    """A llama.cpp context of 1,024 tokens over a memory-mapped file."""

    def __init__(self, file: Path, threads: int, purpose: str, settings: Settings) -> None:
        """Load the file; `purpose` "score" keeps the logits of every position."""
        import llama_cpp

        tuned, kind, flash = _asked(settings)
        scoring = purpose == "score"
        # Only a context made for embeddings holds more than one sequence; it is told at once to give logits instead.
        self._llama = llama_cpp.Llama(
            str(file), n_ctx=CONTEXT, n_batch=BATCH, n_ubatch=int(tuned["n_ubatch"]), n_threads=threads,
            n_threads_batch=threads, flash_attn=flash, type_k=kind, type_v=kind, logits_all=scoring, embedding=scoring,
            verbose=False,
        )  # fmt: skip
        if scoring:
            llama_cpp.llama_set_embeddings(self._llama._ctx.ctx, False)
        self._threads, self._tuned = threads, tuned | {"flash_attn": "on" if flash else "off"}
        self._info = llama_cpp.llama_print_system_info().decode()

    def score(self, ids: Sequence[int]) -> Logits:
        """Logits of every position, shape (len(ids), vocabulary)."""
        self._llama.reset()
        self._llama.eval(list(ids))
        scores: Logits = np.array(self._llama.scores[: len(ids)], dtype=np.float32)
        return scores

    def score_after(
        self, prompts: Sequence[Sequence[int]], endings: Sequence[Sequence[Sequence[int]]]
    ) -> list[list[Logits]]:
        """Logits that predict each ending's tokens: sequences that share their prompt's cache, all in one batch."""
        count, flat = len(endings[0]), [ending for own in endings for ending in own]
        asked = sum(len(prompt) for prompt in prompts)
        if max(asked, sum(map(len, flat))) > BATCH or asked + sum(map(len, flat)) > CONTEXT:
            return endings_apart(self, prompts, endings)  # more than the context holds at once
        context, numbers = self._llama._ctx, range(len(prompts), len(prompts) + len(flat))
        context.kv_cache_clear()
        length = len(prompts[0])
        first = self._decode([(ids, 0, number) for number, ids in enumerate(prompts)], last=True).repeat(count, axis=0)
        for place, number in enumerate(numbers):
            context.kv_cache_seq_cp(place // count, number, 0, -1)
        longer = [(ids[:-1], length, number) for ids, number in zip(flat, numbers, strict=True) if len(ids) > 1]
        rest = iter(self._decode(longer, last=False) if longer else ())
        rows = [np.stack([head, *(next(rest) for _ in ids[1:])]) for head, ids in zip(first, flat, strict=True)]
        context.kv_cache_clear()
        self._llama.reset()
        return [rows[start : start + count] for start in range(0, len(rows), count)]

    def _decode(self, sequences: Sequence[tuple[Sequence[int], int, int]], last: bool) -> Logits:
        """Process (ids, position of the first, number of the sequence); logits of all tokens or of each one's last."""
        import llama_cpp

        holder = self._llama._batch
        batch, wanted, at = holder.batch, 0, 0
        for ids, start, number in sequences:
            for i, token in enumerate(ids):
                told = not last or i + 1 == len(ids)
                batch.token[at], batch.pos[at], batch.logits[at] = token, start + i, told
                batch.seq_id[at][0], batch.n_seq_id[at] = number, 1
                wanted, at = wanted + told, at + 1
        batch.n_tokens = at
        self._llama._ctx.decode(holder)
        shape = (wanted, self._llama.n_vocab())
        return np.array(np.ctypeslib.as_array(llama_cpp.llama_get_logits(self._llama._ctx.ctx), shape=shape))

    def prefill(self, ids: Sequence[int]) -> None:
        """Process the prompt and take its next token."""
        self._llama.reset()
        self._llama.eval(list(ids))
        self._next()

    def _next(self) -> int:
        # A view: a slice of the pointer would be a list of as many Python floats, a tenth of the time of a token.
        logits = np.ctypeslib.as_array(self._llama._ctx.get_logits_ith(-1), shape=(self._llama.n_vocab(),))
        return int(logits.argmax())

    def generate(self, ids: Sequence[int], new_tokens: int, on_token: OnToken | None = None) -> list[int]:
        """Greedy continuation of `new_tokens` tokens."""
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
        together = GgufEngine(self._llama._model.model, self._threads, len(prompts), length, self._tuned, owns=False)
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

    def runtime(self) -> dict[str, str]:
        """Execution properties: SIMD features llama.cpp was built with, KV cache type, threads."""
        features = [part.split(" = ")[0].strip() for part in self._info.split("|") if part.strip().endswith("= 1")]
        return {
            "execution": "weights as stored, activations q8_0/f16 per kernel, accumulation f32",
            "kv_cache": self._tuned["kv_cache"],
            "flash_attention": self._tuned["flash_attn"],
            "threads": str(self._threads),
            "build": " ".join(features),
        }

    def close(self) -> None:
        """Free model and context."""
        self._llama.close()


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

        tuned, kind, flash = _asked(settings)
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
        self._running[key] = _Sequence(key, number, list(ids), 0, new_tokens, Sampler(sampling))

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
        token, logprob = one.sampler.next(np.ctypeslib.as_array(pointer, shape=(self._vocabulary,)))
        one.pending, one.left = [token], one.left - 1
        if not one.left:
            self.drop(one.key)
        return Made(one.key, token, logprob, not one.left)

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
