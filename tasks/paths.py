"""Where everything lives under artifacts/; the same names stand in dvc.yaml."""

from __future__ import annotations

from pathlib import Path

ARTIFACTS = Path("artifacts")

CODE = ARTIFACTS / "code"  # what each stage and backend runs, with digests
HARDWARE = ARTIFACTS / "hardware.json"
CEILING = ARTIFACTS / "ceiling.json"
MODEL = ARTIFACTS / "model"  # Hugging Face directory, fp32 safetensors
SOURCE = MODEL / "source.json"  # where it came from (models.Source)

DATA = ARTIFACTS / "data"
EVALUATION_SET = DATA / "evaluation.json"
CALIBRATION_SET = DATA / "calibration.json"
PROMPTS = DATA / "prompts.json"
PROBE = DATA / "probe.json"
TASK_SET = DATA / "task_set.json"
DATA_CARD = DATA / "card.json"

ASSESS = ARTIFACTS / "assess"
PROFILE = ASSESS / "profile.json"
SELECTION = ASSESS / "selection.json"
PLAN = ARTIFACTS / "plan"

REFERENCE = ARTIFACTS / "reference"
REFERENCE_LOGPROBS = REFERENCE / "logprobs.npy"  # float16, shape (predictions, vocabulary)
REFERENCE_TOKENS = REFERENCE / "tokens.npz"
REFERENCE_CHOICES = REFERENCE / "choices.npz"
REFERENCE_ANSWERS = REFERENCE / "answers.json"  # to the prompts of the tasks
REFERENCE_PROBE = REFERENCE / "probe.npy"  # float16, shape (probe tokens - 1, vocabulary)
REFERENCE_ANSWER = REFERENCE / "answer.txt"  # greedy answer to the probe's question
VARIANTS = ARTIFACTS / "variants"
TUNE = ARTIFACTS / "tune"
EVALUATE = ARTIFACTS / "evaluate"
BENCHMARK = ARTIFACTS / "benchmark"
RECOMMENDATION = ARTIFACTS / "recommendation.json"
GATE = ARTIFACTS / "gate"
VERDICTS = GATE / "verdicts.json"
DATA_DOCS = ARTIFACTS / "data_docs"  # the gates as Great Expectations shows them
PACKAGE = ARTIFACTS / "package"
PACKAGE_RECORD = ARTIFACTS / "package.json"
REPORT = ARTIFACTS / "report"
TRACKED = ARTIFACTS / "tracked.json"
LOGS = ARTIFACTS / "logs"  # what child processes printed; not tracked by DVC
TIMES = LOGS / "times.json"  # seconds per kind of stage of the last run that did something


def plan(variant: str) -> Path:
    """PlanEntry of one variant."""
    return PLAN / f"{variant}.json"


def artifact(variant: str) -> Path:
    """Folder of one variant: the record and the files as the runtime loads them."""
    return VARIANTS / variant


def artifact_record(variant: str) -> Path:
    """Artifact of one variant."""
    return artifact(variant) / "artifact.json"


def artifact_files(variant: str) -> Path:
    """Folder the runtime loads."""
    return artifact(variant) / "model"


def artifact_manifest(variant: str) -> Path:
    """Manifest of the files the runtime loads."""
    return artifact(variant) / "manifest.json"


def tuned(backend: str) -> Path:
    """Tuned settings of one backend, and how they were found."""
    return TUNE / f"{backend}.json"


def settings(backend: str) -> Path:
    """The settings alone: what scoring and timing depend on."""
    return TUNE / "settings" / f"{backend}.json"


def evaluation_record(variant: str) -> Path:
    """Evaluation of one variant; per-token arrays lie beside it."""
    return EVALUATE / variant / "evaluation.json"


def answers(variant: str) -> Path:
    """Answers of one variant to the prompts of the tasks."""
    return EVALUATE / variant / REFERENCE_ANSWERS.name


def benchmark_record(variant: str) -> Path:
    """Benchmark of one variant."""
    return BENCHMARK / variant / "benchmark.json"
