"""Where everything lives under artifacts/; the same names stand in dvc.yaml."""

from __future__ import annotations

from pathlib import Path

ARTIFACTS = Path("artifacts")

HARDWARE = ARTIFACTS / "hardware.json"
MODEL = ARTIFACTS / "model"  # Hugging Face directory, fp32 safetensors
SOURCE = MODEL / "source.json"  # where it came from (models.Source)

DATA = ARTIFACTS / "data"
EVALUATION_SET = DATA / "evaluation.json"
CALIBRATION_SET = DATA / "calibration.json"
PROMPTS = DATA / "prompts.json"
PROBE = DATA / "probe.json"
DATA_CARD = DATA / "card.json"

ASSESS = ARTIFACTS / "assess"
PROFILE = ASSESS / "profile.json"
SELECTION = ASSESS / "selection.json"
PLAN = ARTIFACTS / "plan"

REFERENCE = ARTIFACTS / "reference"
VARIANTS = ARTIFACTS / "variants"
EVALUATE = ARTIFACTS / "evaluate"
BENCHMARK = ARTIFACTS / "benchmark"
RECOMMENDATION = ARTIFACTS / "recommendation.json"
GATE = ARTIFACTS / "gate"
VERDICTS = GATE / "verdicts.json"
PACKAGE = ARTIFACTS / "package"
PACKAGE_RECORD = ARTIFACTS / "package.json"
REPORT = ARTIFACTS / "report"
TRACKED = ARTIFACTS / "tracked.json"


def plan(variant: str) -> Path:
    """PlanEntry of one variant."""
    return PLAN / f"{variant}.json"


def artifact(variant: str) -> Path:
    """Folder of one variant: `artifact.json` (Artifact) and `model/` with the files as the runtime loads them."""
    return VARIANTS / variant


def evaluation(variant: str) -> Path:
    """Folder of one evaluation: `evaluation.json` (Evaluation) and `tokens.npz` (per-token arrays)."""
    return EVALUATE / variant


def benchmark(variant: str) -> Path:
    """Folder of one benchmark: `benchmark.json` (Benchmark)."""
    return BENCHMARK / variant
