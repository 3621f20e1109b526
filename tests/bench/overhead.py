"""Time the whole job against the same work called bare and against an older commit, and what small changes cost.

Every run is made in a fresh copy of the checkout with its own DVC cache and MLflow store. The last line is JSON.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from tasks.records.scores import Metric, Recommendation, ScoreRow
from tasks.records.verdict import GateReport
from tasks.run.memo import content_of
from tasks.run.stage import run_stage
from tasks.run.workspace import Workspace
from tests.bench import harness, waiting
from tests.bench.harness import Figures, Limit, copy, tell, timed

CHANGED = "gguf-q4_k_m"  # the variant whose parameter is changed
CHANGE = f"variants.{CHANGED}.method=q5_k_m"
AFTER = (
    "compose",
    "code",
    "detect",
    "assess",
    "tune",
    "benchmark",
    "recommend",
    "gate",
    "package",
    "report",
    "track",
)  # what may run again beside the variant


MEASURING = ("reference", "tune", "evaluate", "ceiling", "benchmark")
LIMITS = {
    "run_s": Limit(most=900),
    "measurement_s": Limit(most=1200),  # of the default variants, on two cores: what is scored and timed, all of it
    "run_over_bare": Limit(most=1.10),
    "unchanged_repro_s": Limit(most=5),
    "unchanged_run_s": Limit(most=30),
    "stages_of_other_variants_rerun": Limit(most=0),
    "quick_run_s": Limit(most=240),
    **waiting.LIMITS,
    "winner_decode_x": Limit(least=5),
    "winner_prefill_x": Limit(least=3),
    "winner_retention": Limit(least=0.97),
    "winner_memory_saved": Limit(least=0.60),
}


def bench(scratch: Path) -> Figures:
    """Measure all figures; `scratch` is an empty folder with room for two runs."""
    work = copy(scratch / "run")
    figures = waiting.default_runs(scratch, work)
    figures |= where_time_goes(work) | winner(work)
    figures["unchanged_repro_s"] = timed(work, "-m", "dvc", "repro")
    figures["unchanged_run_s"] = timed(work, "-m", "flows.run")
    figures |= waiting.small_changes(work) | waiting.coming_back(work)
    figures["variant_changed_s"], again = changed(work)
    figures["stages_of_other_variants_rerun"] = float(again)
    shutil.rmtree(work)
    figures |= waiting.quick_runs(scratch)
    bare = copy(scratch / "bare")
    figures["bare_s"] = timed(bare, "-m", "tests.bench.overhead", "--bare")
    figures["run_over_bare"] = waiting.over(figures["run_s"], figures["bare_s"])
    shutil.rmtree(bare)
    return figures


def changed(folder: Path) -> tuple[float | None, int]:
    """Change one variant's parameter and run again; returns seconds and how many stages of other variants ran."""
    before = _locked(folder)
    took = timed(folder, "-m", "flows.run", "-S", CHANGE)
    ran = _ran(folder, before)
    others = [name for name in ran if name not in AFTER and not name.endswith(f"@{CHANGED}")]
    tell(f"  ran again: {', '.join(ran)}")
    return took, len(others)


def _locked(folder: Path) -> dict[str, float | str]:
    """When each stage's first output was last written; of the stage benchmark what each variant's timings are."""
    timings = (folder / Workspace().benchmarks).iterdir()
    return waiting.stages_written(folder) | {f"benchmark@{one.name}": content_of(one) for one in timings}


def _ran(folder: Path, before: dict[str, float | str]) -> list[str]:
    return [name for name, stamp in _locked(folder).items() if before.get(name) != stamp]


def bare() -> None:
    """The same conversions, evaluations and measurements one after another, without DVC, Prefect or MLflow."""
    from tasks import assess, benchmark, ceiling, convert, data, detect, evaluate, fetch, reference, tune
    from tasks.params.load import load_params

    variants = list(load_params().variants)
    for stage in (detect, fetch, data, reference, assess):
        _check(stage.main([]))
    _check(ceiling.main([]))
    for variant in variants:
        _check(convert.main(["--variant", variant]))
    _check(tune.main([]))
    for variant in variants:
        _check(evaluate.main(["--variant", variant]))
    _check(benchmark.main([]))


def _check(code: int) -> None:
    if code:
        raise SystemExit(code)


def where_time_goes(folder: Path) -> Figures:
    """Seconds of the run per kind of stage, and of all measuring together; kinds follow one another."""
    file = folder / Workspace().times
    if not file.exists():
        return {"measurement_s": None}
    taken: dict[str, float] = json.loads(file.read_text())
    measuring = sum(taken.get(kind, 0.0) for kind in MEASURING)
    return {"measurement_s": measuring, **{f"run_{kind}_s": seconds for kind, seconds in taken.items() if seconds > 1}}


def winner(folder: Path) -> Figures:
    """The winner's figures against PyTorch fp32 and bf16, from the run's own records."""
    name = GateReport.read(folder / Workspace().verdicts).winner
    row = next((r for r in Recommendation.read(folder / Workspace().recommendation).rows if r.variant == name), None)
    tell(f"winner: {name or 'none'}")
    if row is None:
        return {}
    found = {
        "winner_decode_x": _value(row, "decode_speedup"),
        "winner_prefill_x": _value(row, "prefill_speedup"),
        "winner_retention": _value(row, "retention"),
        "winner_decode_x_vs_bf16": _value(row, "decode_speedup_vs_bf16"),
        "winner_prefill_x_vs_bf16": _value(row, "prefill_speedup_vs_bf16"),
    }
    for key, metric in (
        ("winner_memory_saved", "memory_share"),
        ("winner_memory_saved_vs_bf16", "memory_share_vs_bf16"),
    ):
        share = _value(row, metric)
        found[key] = None if share is None else 1 - share
    return found


def _value(row: ScoreRow, name: str) -> float | None:
    return row.metrics.get(name, Metric(state="missing")).value


def main(argv: Sequence[str] | None = None) -> int:
    """Run `make bench`; exit code 1 when a limit is not kept."""
    made = harness.parser("bench.overhead", __doc__)
    made.add_argument("--bare", action="store_true", help="only the bare work, in this folder")
    if made.parse_args(argv).bare:
        return run_stage(bare)
    return harness.main("bench", bench, LIMITS)


if __name__ == "__main__":
    raise SystemExit(main())
