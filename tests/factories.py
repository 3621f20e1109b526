"""Small builders of valid records for tests; every field can be overridden by keyword."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

from tasks.kinds.causal_lm.choices import TaskAccuracy
from tasks.kinds.causal_lm.figures import counts, figures
from tasks.kinds.causal_lm.quality import Quality
from tasks.kinds.table import catalogue
from tasks.packaging.manifest import Contents, FileEntry, Manifest
from tasks.params.whole import Whole, parse_whole
from tasks.records.artifact import Artifact, Check
from tasks.records.base import Estimate, Quantity, Reading, Support
from tasks.records.hardware import Disturbance, Hardware
from tasks.records.model import ModelProfile
from tasks.records.plan import PlanEntry, Recipe
from tasks.records.quality import Evaluation
from tasks.records.scores import Metric, Recommendation, ScoreRow
from tasks.records.speed import Benchmark, Ceiling, Endurance, Energy, Paired
from tasks.run.workspace import Workspace
from tasks.sources.files import Source

YES = Support(ok=True, reason="ok")

VARIANTS: dict[str, dict[str, Any]] = {
    "torch-fp32": {"backend": "torch", "precision": "fp32", "role": "reference", "quick": True},
    "torch-bf16": {"backend": "torch", "precision": "bf16", "role": "rival"},
    "gguf-f16": {"backend": "gguf", "precision": "fp16", "role": "rival"},
    "gguf-q8_0": {"backend": "gguf", "precision": "int8", "source": "variants/gguf-f16", "method": "q8_0"},
    "openvino-int8": {"backend": "openvino", "precision": "int8", "quick": True},
}


def params(**blocks: Any) -> Whole:
    """Parameters with a few variants; a keyword replaces a block."""
    return parse_whole({"variants": VARIANTS, **blocks})


def quantity(p50: float, n: int = 10) -> Quantity:
    return Quantity(p50=p50, low=p50 * 0.9, high=p50 * 1.1, n=n)


def no(reason: str) -> Support:
    return Support(ok=False, reason=reason)


def recipe(variant: str = "openvino-int8", **changes: Any) -> Recipe:
    fields: dict[str, Any] = {"backend": "openvino", "precision": "int8", "role": "candidate"}
    fields |= {key: value for key, value in VARIANTS.get(variant, {}).items() if key in fields}
    fields |= {"method": "default", "group_size": 64, "symmetric": False, "ratio": 1.0}
    return Recipe.model_validate(fields | changes)


def plan_entry(variant: str = "openvino-int8", **changes: Any) -> PlanEntry:
    fields = {"action": "run", "reason": "fits", "source": "model", "recipe": recipe(variant), "speed_on_device": YES}
    return PlanEntry.model_validate({"variant": variant} | fields | changes)


def check(**changes: Any) -> Check:
    fields = {"distance": 0.01, "distance_limit": 0.2, "agreement": 0.95, "units": 192, "text": "Paris."}
    return Check.model_validate(fields | {"tensor_share": {"u8": 0.9, "f32": 0.1}, "precision_found": "int8"} | changes)


def _outcome(variant: str, stage: str) -> dict[str, Any]:
    return {
        "variant": variant,
        "status": "ok",
        "reason": "",
        "command": f"python -m tasks.{stage} --variant {variant}",
    }


def artifact(variant: str = "openvino-int8", **changes: Any) -> Artifact:
    fields = {"recipe": recipe(variant), "size_mb": 140.0, "files": ("model.bin",), "check": check(), "seconds": 20.0}
    return Artifact.model_validate(_outcome(variant, "convert") | fields | changes)


def evaluation(variant: str = "openvino-int8", **changes: Any) -> Evaluation:
    fields = {
        "reference": "torch-fp32",
        "rows": 40,
        "predictions": 7448,
        "perplexity": 8.1,
        "perplexity_se": 0.2,
        "perplexity_ratio": 1.011,
        "perplexity_ratio_se": 0.001,
        "next_token_accuracy": 0.56,
        "retention": 0.996,
        "retention_se": 0.002,
        "top_agreement": 0.957,
        "top_agreement_se": 0.002,
        "mean_kl": 0.007,
        "mean_kl_se": 0.0003,
        "median_kl": 0.002,
        "p99_kl": 0.09,
        "choices": 200,
        "task_accuracy": 0.88,
        "task_retention": 0.99,
        "task_retention_low": 0.96,
        "task_retention_high": 1.02,
        "flips_lost": 4,
        "flips_gained": 2,
        "mcnemar_p": 0.45,
        "answers": 4,
        "answer_similarity": 0.7,
        "seconds": 12.0,
    }
    return Evaluation.model_validate(_outcome(variant, "evaluate") | scored(fields | changes))


def scored(flat: dict[str, Any]) -> dict[str, Any]:
    """Fields of an evaluation from figures by plain names, put together as the stage does it."""
    left = dict(flat)
    none = dict.fromkeys(("rows", "predictions", "choices", "flips_lost", "flips_gained"), 0)
    quality = Quality(
        **{field.name: left.pop(field.name, none.get(field.name)) for field in dataclasses.fields(Quality)}
    )
    own = {field.name: left.pop(field.name, none.get(field.name)) for field in dataclasses.fields(TaskAccuracy)}
    accuracy = TaskAccuracy(**own) if own["choices"] else None
    alike = {name: left.pop(name) for name in ("answer_similarity", "answer_similarity_expected") if name in left}
    estimates = figures(quality, accuracy) | {name: Estimate(value=value) for name, value in alike.items()}
    return left | {
        "figures": {name: one.model_dump() for name, one in estimates.items()} | left.pop("figures", {}),
        "counts": counts(quality, accuracy) | {"answers": left.pop("answers", 0)},
    }


def measured(flat: dict[str, Any]) -> dict[str, Any]:
    """Fields of a benchmark from figures by plain names; None leaves one out."""
    phases = {*catalogue().phases, "inter_token_ms"} & set(flat)
    values = {"inter_token_p95_ms", "inter_token_p99_ms", "inter_token_cv", "peak_rss_mb", "idle_rss_mb", "artifact_mb"}
    kept = {name: value for name, value in flat.items() if name not in phases | values}
    return kept | {
        "phases": {name: flat[name].model_dump() for name in phases if flat[name] is not None},
        "values": {name: flat[name] for name in values & set(flat) if flat[name] is not None} | flat.get("values", {}),
    }


def endurance(**changes: Any) -> Endurance:
    """A soak without drift and stress without failures."""
    steady = {"value": 0.001, "low": -0.01, "high": 0.012, "p": 0.8}
    fields = {"seconds": 8.0, "requests": 40, "latency": steady, "memory": steady, "callers": 2}
    return Endurance.model_validate(fields | {"long_prompt_tokens": 768} | changes)


def energy(estimated: bool = False) -> Energy:
    source = "CPU cpu_load, RAM" if estimated else "CPU intel_rapl, RAM"
    return Energy(joules_per_token=quantity(0.2, 3), source=source, estimated=estimated)


def paired(value: float) -> Paired:
    return Paired(value=value, low=value * 0.98, high=value * 1.02, floor=0.01, blocks=4, pairs=12)


def benchmark(variant: str = "openvino-int8", **changes: Any) -> Benchmark:
    fields = {
        "speed": YES,
        "threads": 2,
        "load_s": quantity(1.5, 2),
        "first_call_ms": quantity(90.0, 2),
        "time_to_first_token_ms": quantity(35.0),
        "prefill_tokens_per_s": quantity(1700.0),
        "decode_tokens_per_s": quantity(75.0),
        "prefill_longest_tokens_per_s": quantity(1500.0),
        "decode_long_tokens_per_s": quantity(70.0),
        "batch_tokens_per_s": quantity(150.0),
        "inter_token_ms": quantity(13.3, 189),
        "inter_token_p95_ms": 15.0,
        "inter_token_cv": 0.05,
        "sizes": {"prompt_tokens_short": 40, "prompt_tokens_long": 256, "new_tokens": 64},
        "peak_rss_mb": 460.0,
        "idle_rss_mb": 160.0,
        "endurance": endurance(),
        "energy": energy(),
        "artifact_mb": 140.0,
        "runtime": {"execution": "bf16"},
        "seconds": 8.0,
    }
    return Benchmark.model_validate(_outcome(variant, "benchmark") | measured(fields | changes))


def disturbance(others: float = 0.01) -> Disturbance:
    return Disturbance(seconds=5.0, others_cores=others, stolen_cores=0.0, waited_s=0.1)


def in_turns(benchmarks: dict[str, Benchmark], reference: str) -> dict[str, Benchmark]:
    """The same records with speedups as if timed in turns: their medians' ratios, give or take 2 %."""
    base = benchmarks.get(reference)

    def speedups_of(one: Benchmark) -> dict[str, Paired]:
        if base is None or one.busy or base.busy:
            return {}
        both = {phase: (one.phases.get(phase), base.phases.get(phase)) for phase in catalogue().phases}
        ratios = {phase: own.p50 / ref.p50 for phase, (own, ref) in both.items() if own and ref and own.p50 and ref.p50}
        speedups = {phase: ratio if catalogue().phases[phase] else 1 / ratio for phase, ratio in ratios.items()}
        return {phase: paired(value) for phase, value in speedups.items()}

    return {name: one.model_copy(update={"paired": speedups_of(one)}) for name, one in benchmarks.items()}


def ceiling(**changes: Any) -> Ceiling:
    """A machine that reads 34 GB/s and multiplies 200 GFLOP/s in fp32."""
    fields = {
        "threads": 2,
        "memory_gb_s": quantity(34.0, 7),
        "gflop_s": {"fp32": quantity(200.0, 7), "bf16": quantity(400.0, 7), "int8": quantity(800.0, 7)},
        "disturbance": {"seconds": 3.0, "others_cores": 0.01, "stolen_cores": 0.0, "waited_s": 0.0},
        "command": "dvc repro --single-item --force ceiling",
    }
    return Ceiling.model_validate(fields | changes)


def metrics(**values: float | Metric) -> dict[str, Metric]:
    """Cells of a scorecard: numbers become measured metrics."""
    return {name: value if isinstance(value, Metric) else Metric(value=value) for name, value in values.items()}


def good_metrics(**changes: float | Metric) -> dict[str, Metric]:
    """Metrics that keep every default gate."""
    values: dict[str, float | Metric] = {
        "artifact_mb": 140.0,
        "mean_kl": 0.007,
        "perplexity_ratio": 1.01,
        "retention": 0.996,
        "task_retention": 0.99,
        "decode_tokens_per_s": 75.0,
        "prefill_tokens_per_s": 1700.0,
        "peak_rss_mb": 460.0,
        "decode_speedup": 5.0,
        "prefill_speedup": 3.3,
        "decode_long_speedup": 4.0,
        "tail_ratio": 1.2,
        "latency_drift": 0.0,
        "memory_growth": 0.0,
        "stress_failures": 0.0,
        "security_findings": 0.0,
        "artifact_share": 0.26,
        "memory_share": 0.4,
    }
    return metrics(**(values | changes))


def row(variant: str = "openvino-int8", **changes: Any) -> ScoreRow:
    chosen = recipe(variant)
    fields: dict[str, Any] = {"role": chosen.role, "backend": chosen.backend, "precision": chosen.precision}
    fields |= {"status": "ok", "reason": "", "metrics": good_metrics()}
    return ScoreRow.model_validate({"variant": variant} | fields | changes)


def recommendation(*rows: ScoreRow, ranking: tuple[str, ...] | None = None) -> Recommendation:
    """A recommendation over `rows`, ranked in the order given (candidates only) unless `ranking` names them."""
    chosen = rows or (row(),)
    names = ranking if ranking is not None else tuple(r.variant for r in chosen if r.role == "candidate")
    ranked = [
        {"variant": name, "rank": rank, "utility": 1 / rank, "on_front": True, "reason": "test"}
        for rank, name in enumerate(names, 1)
    ]
    return Recommendation.model_validate(
        {"reference": "torch-fp32", "rows": chosen, "front": names, "ranking": ranked, "reason": "test"}
    )


def hardware(**changes: Any) -> Hardware:
    """An x86 host with AVX-512 and two cores."""
    known = {
        "machine_id": "test-machine",
        "operating_system": "linux",
        "architecture": "x86_64",
        "cpu_model": "Test CPU",
        "isa": ("avx2", "avx512f", "avx512_vnni"),
        "physical_cores": 2,
        "usable_cores": 2,
        "memory_mb": 16000,
        "disk_total_mb": 100000,
    }
    fields: dict[str, Any] = {key: Reading[Any](value=value) for key, value in known.items()}
    fields |= {"caches": Reading[Any](reason="not read"), "power_budget_w": Reading[Any](reason="no sensor")}
    fields |= {"device": "host", "origin": "detected", "family": "intel", "description": "test host"}
    return Hardware.model_validate({key: _plain(value) for key, value in (fields | changes).items()})


def _plain(value: Any) -> Any:
    return value.model_dump() if isinstance(value, Reading) else value


def profile(**changes: Any) -> ModelProfile:
    """A small language model with the sample's shape."""
    fields = {
        "name": "tiny",
        "source": "sample",
        "origin": "made for tests",
        "sha256": "0" * 64,
        "modality": "causal-lm",
        "architecture": "LlamaForCausalLM",
        "parameters": 134_500_000,
        "size_mb": 538.0,
        "dtype": "float32",
        "layers": 30,
        "hidden_size": 576,
        "heads": 9,
        "kv_heads": 3,
        "head_dim": 64,
        "vocabulary": 49152,
        "context_length": 8192,
        "tied_embeddings": True,
        "linear_input_sizes": (576, 1536),
        "memory_mb": {"fp32": 700.0, "int8": 300.0, "int4": 250.0},
        "compatibility": {"openvino": YES, "olive": YES, "llama.cpp": YES, "mlx": YES},
    }
    return ModelProfile.model_validate(fields | changes)


def fetched(workspace: Workspace, kind: str = "causal-lm") -> None:
    """Say where the workspace's model came from, as fetch does."""
    Source(name="Tiny", source="sample", origin="made for tests", sha256="1" * 64, kind=kind).write(workspace.source)


def listed(workspace: Workspace, variant: str, content: str = "0") -> None:
    """Write the manifest of a variant's files, as convert does."""
    digest = hashlib.sha256(content.encode()).hexdigest()
    entry = FileEntry(path="weights", sha256=digest, size_bytes=1)
    Manifest(files=(entry,)).write(workspace.artifact_manifest(variant))


def contents(backend: str = "openvino", **changes: Any) -> Contents:
    fields: dict[str, Any] = {
        "model": "Tiny", "origin": "made for tests", "source_sha256": "1" * 64, "variant": "a", "backend": backend,
        "recipe": recipe(backend=backend), "tensor_share": {}, "versions": {}, "runtime": {}, "settings": {},
        "requirements": (), "chat": False, "verdict": "pass", "results_digest": "2" * 64,
    }  # fmt: skip
    return Contents.model_validate(fields | changes)
