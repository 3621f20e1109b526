"""OpenVINO: export by optimum-intel, weight compression by NNCF, run by OpenVINO (GenAI)."""

from __future__ import annotations

import os
import secrets
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks.backends.base import (
    Logits,
    Made,
    OnToken,
    Settings,
    Work,
    installed,
    padded,
    threads_of,
    unpadded,
    versions_of,
)  # fmt: skip
from tasks.backends.sampling import Sampling
from tasks.errors import UnsupportedError
from tasks.records import Hardware, ModelProfile, Recipe, Support

FILE = "openvino_model.xml"
PACKAGES = ("openvino", "openvino-genai", "nncf", "optimum-intel")
SAMPLES = 16  # of the calibration rows; AWQ and scale estimation run the model on each
# Activations of compressed layers are quantized while running, in groups of this many values. Against OpenVINO's own
# 32, long prompts are read 15% faster on two cores with AVX-512 VNNI; the sample's mean KL rises from 0.007 to 0.009
# nats in int8 and from 0.092 to 0.093 in int4.
RUNNING = {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "64"}
# The first value of each is what is used untold.
SETTINGS: dict[str, tuple[str, ...]] = {
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": (RUNNING["DYNAMIC_QUANTIZATION_GROUP_SIZE"], "32", "128"),
    "KV_CACHE_PRECISION": ("u8", "bf16"),
    "PERFORMANCE_HINT": ("LATENCY", "THROUGHPUT"),
    "ENABLE_CPU_PINNING": ("YES", "NO"),
    "threads": ("all", "half"),
}


def probe(hardware: Hardware, model: ModelProfile) -> Support:
    """Say whether OpenVINO can be used here."""
    found = [installed(module, package) for module, package in (("openvino_genai", "openvino-genai"), ("nncf", "nncf"))]
    return next((support for support in found if not support.ok), found[0])


def convert(work: Work, recipe: Recipe, out: Path) -> None:
    """Write OpenVINO IR with its tokenizer: fp32, int8 (per channel), or int4 with AWQ and scale estimation."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    from optimum.intel import OVModelForCausalLM

    try:
        model = OVModelForCausalLM.from_pretrained(
            work.model, export=True, compile=False, load_in_8bit=False, quantization_config=_compression(work, recipe)
        )
    except (ValueError, KeyError, NotImplementedError) as error:
        raise UnsupportedError(f"optimum-intel cannot export this model: {error}") from error
    model.save_pretrained(out)
    _save_tokenizer(work.model, out)


def _compression(work: Work, recipe: Recipe) -> Any:
    from optimum.intel import OVWeightQuantizationConfig

    if recipe.precision == "fp32":
        return None
    if recipe.precision == "int8":
        return OVWeightQuantizationConfig(bits=8, sym=recipe.symmetric)
    if recipe.precision != "int4":
        raise UnsupportedError(f"OpenVINO variants are fp32, int8 or int4, not {recipe.precision}")
    options: dict[str, Any] = {
        "bits": 4, "sym": recipe.symmetric, "group_size": recipe.group_size or 64, "ratio": recipe.ratio,
    }  # fmt: skip
    if recipe.method == "awq":
        texts = list(work.calibration)[:SAMPLES]
        options |= {
            "quant_method": "awq", "scale_estimation": True, "dataset": texts, "num_samples": len(texts),
            "tokenizer": str(work.model),
        }  # fmt: skip
    return OVWeightQuantizationConfig(**options)


def _save_tokenizer(model: Path, out: Path) -> None:
    import openvino as ov
    from openvino_tokenizers import convert_tokenizer
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.save_pretrained(out)
    encode, decode = convert_tokenizer(tokenizer, with_detokenizer=True)
    ov.save_model(encode, out / "openvino_tokenizer.xml")
    ov.save_model(decode, out / "openvino_detokenizer.xml")


def tensor_bytes(artifact: Path) -> dict[str, int]:
    """Bytes of constants per element type in the IR."""
    counted: dict[str, int] = {}
    for layer in ElementTree.parse(artifact / FILE).getroot().iter("layer"):  # noqa: S314 - a file of our own making
        data = layer.find("data")
        if layer.get("type") == "Const" and data is not None:
            kind = str(data.get("element_type"))
            counted[kind] = counted.get(kind, 0) + int(data.get("size", "0"))
    return counted


def import_runtime() -> None:
    """Import OpenVINO GenAI."""
    import openvino_genai  # noqa: F401


def versions() -> dict[str, str]:
    """Installed versions of what made and runs the artifact."""
    return versions_of(*PACKAGES)


def load(artifact: Path, threads: int, purpose: str, settings: Settings | None = None) -> ScoringSession | GenAiSession:
    """Open the IR: GenAI's pipeline as used alone, or the same compiled model with the logits of every position."""
    count, tuned = _asked(threads, settings)
    return ScoringSession(artifact, count, tuned) if purpose == "score" else GenAiSession(artifact, count, tuned)


def _asked(threads: int, settings: Settings | None) -> tuple[int, dict[str, str]]:
    """Threads and properties to ask for.

    Never one thread where there are more cores: with AMX, floating-point models then end with a floating point
    exception (openvinotoolkit/openvino issue 33300). What was really used is read back by `runtime`.
    """
    count = min(max(threads_of(settings, threads), 2), os.cpu_count() or 1)
    return count, RUNNING | {name: value for name, value in (settings or {}).items() if name != "threads"}


def _properties(compiled: Any, threads: int) -> dict[str, str]:
    read = {"execution": "INFERENCE_PRECISION_HINT", "kv_cache": "KV_CACHE_PRECISION", "mode": "EXECUTION_MODE_HINT",
            "activation_group": "DYNAMIC_QUANTIZATION_GROUP_SIZE"}  # fmt: skip
    found = {name: _plain(compiled.get_property(key)) for name, key in read.items()}
    return found | {"threads": _plain(compiled.get_property("INFERENCE_NUM_THREADS"))}


def engine(
    artifact: Path, threads: int, slots: int, context: int, settings: Settings | None = None
) -> ContinuousEngine:
    """Open the IR in GenAI's continuous batching."""
    return ContinuousEngine(artifact, *_asked(threads, settings), slots, context)


def _plain(value: Any) -> str:
    return getattr(value, "get_type_name", lambda: str(value))().replace("ExecutionMode.", "").strip("<>Type: '")


def _compile(artifact: Path, threads: int, properties: Settings) -> Any:
    import openvino as ov

    return ov.Core().compile_model(str(artifact / FILE), "CPU", {"INFERENCE_NUM_THREADS": threads, **properties})


class ScoringSession:
    """The compiled stateful model, run for teacher-forced logits."""

    def __init__(self, artifact: Path, threads: int, properties: Settings) -> None:
        """Compile for the CPU."""
        self._compiled = _compile(artifact, threads, properties)
        self._request = self._compiled.create_infer_request()
        self._names = {name for port in self._compiled.inputs for name in port.get_names()}
        self._threads = threads

    def _run(self, batch: Sequence[Sequence[int]], past: int, after: Sequence[int]) -> Logits:
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

    def score(self, ids: Sequence[int]) -> Logits:
        """Logits of every position, shape (len(ids), vocabulary)."""
        self._request.reset_state()
        logits: Logits = self._run([ids], 0, [0])[0]
        return logits

    def score_after(
        self, prompts: Sequence[Sequence[int]], endings: Sequence[Sequence[Sequence[int]]]
    ) -> list[list[Logits]]:
        """Logits that predict each ending's tokens: beams of the prompts' caches, one an ending."""
        count, rows = len(endings[0]), padded(endings)
        self._request.reset_state()
        logits = self._run(prompts, 0, range(len(prompts)))[:, -1:].repeat(count, axis=0)
        if len(rows[0]) > 1:
            after = [i // count for i in range(len(rows))]
            rest = self._run([row[:-1] for row in rows], len(prompts[0]), after)
            logits = np.concatenate([logits, rest], axis=1)
        return unpadded(logits, endings)

    def prefill(self, ids: Sequence[int]) -> None:
        """Process the prompt."""
        self.score(ids)

    def generate(self, ids: Sequence[int], new_tokens: int, on_token: OnToken | None = None) -> list[int]:
        """Greedy continuation of `new_tokens` tokens."""
        self._request.reset_state()
        made: list[int] = []
        batch, past = list(ids), 0
        for _ in range(new_tokens):
            token = int(np.argmax(self._run([batch], past, [0])[0, -1]))
            past += len(batch)
            batch = [token]
            made.append(token)
            if on_token:
                on_token(token)
        return made

    def runtime(self) -> dict[str, str]:
        """Properties of the compiled model."""
        return _properties(self._compiled, self._threads)

    def close(self) -> None:
        """Free the model."""
        del self._request, self._compiled


class GenAiSession:
    """OpenVINO GenAI's pipeline, as users run it."""

    def __init__(self, artifact: Path, threads: int, properties: Settings) -> None:
        """Load the pipeline for the CPU."""
        import openvino_genai

        self._genai = openvino_genai
        self._artifact, self._threads, self._properties = artifact, threads, properties
        self._pipeline = openvino_genai.LLMPipeline(str(artifact), "CPU", INFERENCE_NUM_THREADS=threads, **properties)

    def score(self, ids: Sequence[int]) -> Logits:
        """GenAI returns tokens only; a session loaded for "score" gives logits."""
        raise UnsupportedError("this session was loaded to generate; load the artifact for 'score'")

    def score_after(
        self, prompts: Sequence[Sequence[int]], endings: Sequence[Sequence[Sequence[int]]]
    ) -> list[list[Logits]]:
        """GenAI returns tokens only; a session loaded for "score" gives logits."""
        raise UnsupportedError("this session was loaded to generate; load the artifact for 'score'")

    def prefill(self, ids: Sequence[int]) -> None:
        """Process the prompt and take its next token."""
        self.generate(ids, 1)

    def generate(self, ids: Sequence[int], new_tokens: int, on_token: OnToken | None = None) -> list[int]:
        """Greedy continuation of `new_tokens` tokens."""
        return self._generate([ids], new_tokens, _streamer(self._genai, on_token) if on_token else None)[0]

    def generate_batch(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> list[list[int]]:
        """Greedy continuations of prompts of one length, together."""
        return self._generate(prompts, new_tokens, None)

    def _generate(self, prompts: Sequence[Sequence[int]], new_tokens: int, streamer: Any) -> list[list[int]]:
        import openvino as ov

        config = self._genai.GenerationConfig(
            max_new_tokens=new_tokens, min_new_tokens=new_tokens, do_sample=False, ignore_eos=True
        )
        ids = np.array(prompts, dtype=np.int64)
        given = self._genai.TokenizedInputs(ov.Tensor(ids), ov.Tensor(np.ones_like(ids)))
        result = self._pipeline.generate(given, config, streamer)
        return [list(row) for row in result.tokens]

    def runtime(self) -> dict[str, str]:
        """Properties of the same model compiled with the same settings; GenAI does not show its own."""
        return _properties(_compile(self._artifact, self._threads, self._properties), self._threads)

    def close(self) -> None:
        """Free the pipeline."""
        del self._pipeline


def _streamer(genai: Any, on_token: OnToken) -> Any:
    class Streamer(genai.StreamerBase):  # type: ignore[misc]
        def write(self, token: int | list[int]) -> Any:
            for one in [token] if isinstance(token, int) else token:
                on_token(one)
            return genai.StreamingStatus.RUNNING

        def end(self) -> None: ...

    return Streamer()


BLOCK = 32  # tokens of a block of the paged cache on a CPU
PIECE = 256  # tokens of one step, of prompts and of what is written together


class ContinuousEngine:
    """OpenVINO GenAI's continuous batching over a paged cache."""

    def __init__(self, artifact: Path, threads: int, properties: Settings, slots: int, context: int) -> None:
        """Load the pipeline with room for `slots` sequences of `context` tokens."""
        import openvino_genai

        self._genai = openvino_genai
        wanted = openvino_genai.SchedulerConfig()
        wanted.max_num_seqs = slots
        wanted.num_kv_blocks = slots * -(-context // BLOCK) + 1
        wanted.max_num_batched_tokens = PIECE
        wanted.dynamic_split_fuse = True
        wanted.enable_prefix_caching = False
        options = {"INFERENCE_NUM_THREADS": threads, **properties}
        self._pipeline = openvino_genai.ContinuousBatchingPipeline(str(artifact), wanted, "CPU", options)
        self._running: dict[int, tuple[Any, int]] = {}

    def add(self, key: int, ids: Sequence[int], new_tokens: int, sampling: Sampling) -> None:
        """Begin a request."""
        import openvino as ov

        asked: dict[str, Any] = {"max_new_tokens": new_tokens, "ignore_eos": True, "logprobs": 1}
        if not sampling.greedy:
            asked |= {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p}
            # GenAI's own seed is always 0: callers who bring none would all be given the same answer, each time.
            asked["rng_seed"] = secrets.randbits(63) if sampling.seed is None else sampling.seed
        prompt = ov.Tensor(np.array([ids], dtype=np.int64))
        handle = self._pipeline.add_request(key, prompt, self._genai.GenerationConfig(**asked))
        self._running[key] = (handle, new_tokens)

    def step(self) -> list[Made]:
        """One step of the scheduler, and what it made."""
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
