"""llama.cpp: GGUF files through convert-hf-to-gguf and llama-cpp-python's own quantizer."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tasks import gguf_file
from tasks.backends.base import Logits, OnToken, Settings, Work, installed, threads_of, versions_of
from tasks.errors import UnsupportedError
from tasks.records import Hardware, ModelProfile, Recipe, Support

FILE = "model.gguf"
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
    _quantize(base, out / FILE, recipe.method, work.threads)
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


def _quantize(source: Path, out: Path, method: str, threads: int) -> None:
    import llama_cpp

    name = f"LLAMA_FTYPE_MOSTLY_{method.upper()}"
    kind = getattr(llama_cpp, name, None)
    if kind is None:
        known = sorted(
            n.removeprefix("LLAMA_FTYPE_MOSTLY_").lower() for n in dir(llama_cpp) if n.startswith("LLAMA_FTYPE_MOSTLY_")
        )
        raise UnsupportedError(f"llama.cpp has no quantization {method!r}; allowed: {', '.join(known)}")
    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype, options.nthread = kind, threads
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


# The first value of each is what a session uses untold. A prompt is processed `n_ubatch` tokens at a time.
SETTINGS: dict[str, tuple[str, ...]] = {
    "flash_attn": ("off", "on"),
    "n_ubatch": ("512", "128"),
    "kv_cache": ("f16", "q8_0"),
    "threads": ("all", "half"),
}


def load(artifact: Path, threads: int, purpose: str, settings: Settings | None = None) -> GgufSession:
    """Open the GGUF file, memory-mapped."""
    return GgufSession(artifact / FILE, threads_of(settings, threads), purpose, settings or {})


class GgufSession:
    """A llama.cpp context of 1,024 tokens over a memory-mapped file."""

    def __init__(self, file: Path, threads: int, purpose: str, settings: Settings) -> None:
        """Load the file; `purpose` "score" keeps the logits of every position."""
        import llama_cpp

        tuned = {name: settings.get(name, values[0]) for name, values in SETTINGS.items()}
        kind = llama_cpp.GGML_TYPE_Q8_0 if tuned["kv_cache"] == "q8_0" else llama_cpp.GGML_TYPE_F16
        # llama.cpp takes a quantized cache of values only with flash attention
        flash = tuned["flash_attn"] == "on" or tuned["kv_cache"] == "q8_0"
        self._llama = llama_cpp.Llama(
            str(file), n_ctx=1024, n_batch=512, n_ubatch=int(tuned["n_ubatch"]), n_threads=threads,
            n_threads_batch=threads, flash_attn=flash, type_k=kind, type_v=kind, logits_all=purpose == "score",
            verbose=False,
        )  # fmt: skip
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
        """Logits that predict each ending's tokens; the cache is cut back to the prompt after each."""
        return [self._after(prompt, own) for prompt, own in zip(prompts, endings, strict=True)]

    def _after(self, prompt: Sequence[int], endings: Sequence[Sequence[int]]) -> list[Logits]:
        llama, length = self._llama, len(prompt)
        llama.reset()
        llama.eval(list(prompt))
        found = []
        for ending in endings:
            llama.n_tokens = length  # `eval` drops what the cache holds beyond
            if len(ending) > 1:
                llama.eval(list(ending[:-1]))
            found.append(np.array(llama.scores[length - 1 : length - 1 + len(ending)], dtype=np.float32))
        return found

    def prefill(self, ids: Sequence[int]) -> None:
        """Process the prompt and take its next token."""
        self._llama.reset()
        self._llama.eval(list(ids))
        self._next()

    def _next(self) -> int:
        return int(np.argmax(self._llama._ctx.get_logits_ith(-1)[: self._llama.n_vocab()]))

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
