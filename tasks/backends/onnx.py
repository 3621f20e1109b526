"""ONNX Runtime: models built and quantized through Olive, run by onnxruntime-genai."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks.backends.base import Interleaved, Logits, OnToken, Settings, Stream, Work, installed, threads_of, versions_of
from tasks.backends.sampling import Sampler, Sampling
from tasks.errors import UnsupportedError
from tasks.records import Hardware, ModelProfile, Recipe, Support

FILE = "model.onnx"
PACKAGES = ("onnxruntime", "onnxruntime-genai", "olive-ai", "onnx")
ACCURACY_LEVEL = 4  # activations in int8 inside MatMulNBits: the fast kernels
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", "config.json")


def probe(hardware: Hardware, model: ModelProfile) -> Support:
    """Say whether Olive and ONNX Runtime can be used here."""
    found = [
        installed(module, package)
        for module, package in (("onnxruntime_genai", "onnxruntime-genai"), ("olive", "olive-ai"))
    ]
    return next((support for support in found if not support.ok), found[0])


def convert(work: Work, recipe: Recipe, out: Path) -> None:
    """Write an onnxruntime-genai folder: fp32, int8 round-to-nearest, or int4 by GPTQ with sensitive layers in int8."""
    scratch = out.with_name(f"{out.name}.olive")
    scratch.mkdir(parents=True)
    try:
        _olive(_model(work), passes(recipe, work, scratch), scratch / "built")
        _take(scratch / "built", work.model, out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def passes(recipe: Recipe, work: Work, scratch: Path) -> dict[str, dict[str, Any]]:
    """Olive's passes for a recipe, in order; raises UnsupportedError for one it does not know.

    int4: weights by GPTQ, with the layers that k-quants keep wider in 8 bits (plain round-to-nearest loses a third of
    the perplexity of small models); head and embedding are 8 bits always. Where the model ties the two, their equal
    weights are stored once.
    """
    group = recipe.group_size or 32
    if recipe.precision == "fp32":
        return {"build": {"type": "ModelBuilder", "precision": "fp32"}}
    rounding = {"type": "Rtn", "bits": 8, "group_size": group, "sym": True, "lm_head": True, "embeds": True}
    build = {"type": "ModelBuilder", "precision": "int4", "int4_accuracy_level": ACCURACY_LEVEL}
    # Weights inside model.onnx itself would be held twice in memory: in the parsed file and as the kernels pack them.
    tie = {"type": "GraphSurgeries", "surgeries": [{"surgeon": "TieWordEmbeddings"}], "save_as_external_data": True}
    if recipe.precision == "int8" and recipe.method in ("default", "rtn"):
        return {"round": {**rounding, "sym": recipe.symmetric}, "build": build, "tie": tie}
    if recipe.precision == "int4" and recipe.method == "gptq":
        texts = scratch / "calibration.json"
        texts.write_text(json.dumps(list(work.calibration)))
        gptq = {
            "type": "Gptq",
            "bits": 4,
            "group_size": group,
            "sym": recipe.symmetric,
            "data_config": _calibration(work.model, texts),
        }
        mixed = {"type": "SelectiveMixedPrecision", "algorithm": "k_quant_mixed"}
        return {"mix": mixed, "quantize": gptq, "round": rounding, "build": build, "tie": tie}
    raise UnsupportedError(
        f"ONNX Runtime has no recipe {recipe.precision} by {recipe.method!r}; allowed: fp32, int8 by rtn, int4 by gptq"
    )


def _model(work: Work) -> dict[str, Any]:
    return {"type": "HfModel", "model_path": str(work.model)}


def _calibration(model: Path, texts: Path) -> dict[str, Any]:
    return {
        "name": "calibration",
        "user_script": str(Path(__file__).with_name("olive_data.py")),
        "load_dataset_config": {"type": "edgewright_texts", "params": {"model": str(model), "path": str(texts)}},
        "pre_process_data_config": {"type": "skip_pre_process"},
        "post_process_data_config": {"type": "skip_post_process"},
        "dataloader_config": {"type": "default_dataloader", "params": {"batch_size": 1}},
    }


def _olive(model: dict[str, Any], passes: dict[str, Any], out: Path) -> None:
    """Run Olive's passes; Olive returns normally when a pass failed, so the files are what counts."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "OLIVE_DISABLE_TELEMETRY": "1"}
    from olive import run

    cpu = {"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}
    run(
        {
            "input_model": model,
            "systems": {"local": {"type": "LocalSystem", "accelerators": [cpu]}},
            "passes": passes,
            "target": "local",
            "output_dir": str(out),
            "cache_dir": str(out.with_name(f"{out.name}.cache")),
            "log_severity_level": 1,
        }
    )
    if not (out / FILE).is_file():
        raise UnsupportedError(
            f"Olive made no model with passes {', '.join(p['type'] for p in passes.values())}; its log says why"
        )


def _take(built: Path, model: Path, out: Path) -> None:
    """Keep what onnxruntime-genai loads, and the checkpoint's own tokenizer; drop Olive's run records."""
    for file in built.iterdir():
        if file.name == "genai_config.json" or file.name.startswith(FILE):
            file.replace(out / file.name).chmod(0o644)  # onnx keeps data files to their owner
    for name in TOKENIZER:
        if (model / name).is_file():
            shutil.copy2(model / name, out / name)


def tensor_bytes(artifact: Path) -> dict[str, int]:
    """Bytes of initializers per type; block-quantized weights are told by `bits` of the operator that reads them."""
    import onnx

    model = onnx.load(artifact / FILE, load_external_data=False)
    packed = {
        name: f"int{attribute.i}"
        for node in model.graph.node
        if node.op_type in ("MatMulNBits", "GatherBlockQuantized")
        for attribute in node.attribute
        if attribute.name == "bits"
        for name in node.input[:2]
    }
    counted: dict[str, int] = {}
    for tensor in model.graph.initializer:
        native = onnx.TensorProto.DataType.Name(tensor.data_type).lower()
        kind = packed.get(tensor.name, native) if native in ("uint8", "int8", "uint4", "int4") else native
        counted[kind] = counted.get(kind, 0) + _bytes(tensor)
    return counted


def _bytes(tensor: Any) -> int:
    length = next((int(entry.value) for entry in tensor.external_data if entry.key == "length"), None)
    return length if length is not None else tensor.ByteSize()


def import_runtime() -> None:
    """Import onnxruntime-genai."""
    import onnxruntime_genai  # noqa: F401


def versions() -> dict[str, str]:
    """Installed versions of what made and runs the artifact."""
    return versions_of(*PACKAGES)


# The first value of each is ONNX Runtime's own.
SETTINGS: dict[str, tuple[str, ...]] = {
    "session.intra_op.allow_spinning": ("1", "0"),
    "session.dynamic_block_base": ("0", "4"),
    "threads": ("all", "half"),
}


def load(artifact: Path, threads: int, purpose: str, settings: Settings | None = None) -> ScoringSession | GenAiSession:
    """Open the folder: genai as served, or plain ONNX Runtime for the logits of every position."""
    count = threads_of(settings, threads)
    entries = _entries(settings)
    return ScoringSession(artifact, count, entries) if purpose == "score" else GenAiSession(artifact, count, entries)


def engine(artifact: Path, threads: int, slots: int, context: int, settings: Settings | None = None) -> Interleaved:
    """Open the folder in genai to serve; requests take turns, as its generators' batches are fixed."""
    session = GenAiSession(artifact, threads_of(settings, threads), _entries(settings))
    return Interleaved(session.stream, session.close)


def _entries(settings: Settings | None) -> Settings:
    """Session configuration entries among the settings."""
    return {name: value for name, value in (settings or {}).items() if name.startswith("session.")}


Feeds = dict[str, Any]  # input name -> array


class ScoringSession:
    """model.onnx in ONNX Runtime with an empty cache."""

    def __init__(self, artifact: Path, threads: int, entries: Settings) -> None:
        """Create the inference session; `entries` are session configuration entries."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        for name, value in entries.items():
            options.add_session_config_entry(name, value)
        self._session = onnxruntime.InferenceSession(str(artifact / FILE), options, providers=["CPUExecutionProvider"])
        self._threads = threads
        self._past = {
            port.name: np.zeros(
                [1 if i == 0 else (0 if i == 2 else size) for i, size in enumerate(port.shape)], dtype=_dtype(port.type)
            )
            for port in self._session.get_inputs()
            if port.name.startswith("past_key_values")
        }
        self._names = {port.name for port in self._session.get_inputs()}

    def _run(self, ids: Sequence[int], past: Feeds, done: int, wanted: list[str]) -> list[Any]:
        """Outputs for one row of ids after `done` tokens whose cache is `past`."""
        tokens, total = np.array([ids], dtype=np.int64), done + len(ids)
        feeds = {
            "input_ids": tokens,
            "attention_mask": np.ones((1, total), dtype=np.int64),
            "position_ids": np.arange(done, total, dtype=np.int64)[None],
        }
        return list(self._session.run(wanted, {n: value for n, value in feeds.items() if n in self._names} | past))

    def score(self, ids: Sequence[int]) -> Logits:
        """Logits of every position, shape (len(ids), vocabulary)."""
        return np.asarray(self._run(ids, self._past, 0, ["logits"])[0][0], dtype=np.float32)

    def score_after(
        self, prompts: Sequence[Sequence[int]], endings: Sequence[Sequence[Sequence[int]]]
    ) -> list[list[Logits]]:
        """Logits that predict each ending's tokens, each after its prompt's cache.

        One after the other: the attention operator takes several tokens after a cache for a batch of one alone.
        """
        return [self._after(prompt, own) for prompt, own in zip(prompts, endings, strict=True)]

    def _after(self, prompt: Sequence[int], endings: Sequence[Sequence[int]]) -> list[Logits]:
        names = [name.replace("past_key_values", "present") for name in self._past]
        logits, *present = self._run(prompt, self._past, 0, ["logits", *names])
        past = dict(zip(self._past, present, strict=True))
        first = np.asarray(logits[0][-1:], dtype=np.float32)

        def after(ending: Sequence[int]) -> Logits:
            if len(ending) == 1:
                return first.copy()  # each its own, as callers may work in place
            rest = self._run(ending[:-1], past, len(prompt), ["logits"])[0][0]
            return np.concatenate([first, np.asarray(rest, dtype=np.float32)])

        return [after(ending) for ending in endings]

    def prefill(self, ids: Sequence[int]) -> None:
        """Process the prompt."""
        self.score(ids)

    def generate(self, ids: Sequence[int], new_tokens: int, on_token: OnToken | None = None) -> list[int]:
        """Generation is genai's; load the artifact to "generate"."""
        raise UnsupportedError("this session was loaded to score; load the artifact for 'generate'")

    def runtime(self) -> dict[str, str]:
        """Provider and threads."""
        return {"provider": ",".join(self._session.get_providers()), "threads": str(self._threads)}

    def close(self) -> None:
        """Free the session."""
        del self._session


def _dtype(name: str) -> Any:
    return {"tensor(float)": np.float32, "tensor(float16)": np.float16}[name]


class GenAiSession:
    """onnxruntime-genai, as users run it."""

    def __init__(self, artifact: Path, threads: int, entries: Settings) -> None:
        """Load the folder; genai's own default is one thread."""
        import onnxruntime_genai as og

        self._og = og
        self._config = json.loads((artifact / "genai_config.json").read_text())
        config = og.Config(str(artifact))
        options = {"intra_op_num_threads": threads, **entries}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
        self._model = og.Model(config)
        self._threads = threads

    def score(self, ids: Sequence[int]) -> Logits:
        """Scores come from a session loaded for "score"."""
        raise UnsupportedError("this session was loaded to generate; load the artifact for 'score'")

    def score_after(
        self, prompts: Sequence[Sequence[int]], endings: Sequence[Sequence[Sequence[int]]]
    ) -> list[list[Logits]]:
        """Scores come from a session loaded for "score"."""
        raise UnsupportedError("this session was loaded to generate; load the artifact for 'score'")

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
        generator, sampler = self._og.Generator(self._model, params), Sampler(sampling)
        generator.append_tokens(np.array(ids, dtype=np.int32))
        for made in range(new_tokens):
            token, logprob = sampler.next(np.asarray(generator.get_logits(), dtype=np.float32).reshape(-1))
            yield token, logprob
            if made + 1 < new_tokens:
                generator.append_tokens(np.array([token], dtype=np.int32))

    def generate_batch(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> list[list[int]]:
        """Greedy continuations of prompts of one length, together."""
        params = self._og.GeneratorParams(self._model)
        total = len(prompts[0]) + new_tokens
        params.set_search_options(max_length=total, min_length=total, do_sample=False, batch_size=len(prompts))
        generator = self._og.Generator(self._model, params)
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
        del self._model
