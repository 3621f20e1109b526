"""The scorecard and the recommend stage."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tasks import recommend as stage
from tasks.kinds.table import catalogue
from tasks.records.base import Record
from tasks.records.scores import Metric, Recommendation, ScoreRow
from tasks.run.workspace import Workspace
from tasks.scores.scorecard import scorecard
from tests import factories as make

REFERENCE, BF16, RIVAL, GGUF, OPENVINO = make.VARIANTS


def run(changes: dict[str, dict[str, Record | None]] | None = None) -> dict[str, ScoreRow]:
    """The scorecard of a healthy run in which `changes` replaces or removes records: variant -> kind -> record."""
    changes = changes or {}
    kinds = {"plan": make.plan_entry, "artifact": make.artifact, "evaluation": make.evaluation}
    kinds |= {"benchmark": make.benchmark}
    found = {
        kind: {
            name: record
            for name in make.VARIANTS
            if (record := changes.get(name, {}).get(kind, build(name))) is not None
        }
        for kind, build in kinds.items()
    }
    found["benchmark"] |= {
        name: make.benchmark(name, decode_tokens_per_s=make.quantity(speed, 4), peak_rss_mb=peak)
        for name, speed, peak in ((REFERENCE, 15.0, 1150.0), (BF16, 25.0, 1380.0))
        if "benchmark" not in changes.get(name, {})
    }
    timed = make.in_turns(found["benchmark"], REFERENCE)
    rows = scorecard(
        catalogue(),
        make.params(),
        found["plan"],
        found["artifact"],
        found["evaluation"],
        timed,
        {name: [] for name in found["plan"]},
    )
    return {row.variant: row for row in rows}


def test_every_planned_variant_has_a_row_with_every_metric() -> None:
    rows = run()
    assert list(rows) == list(make.VARIANTS)
    names = set(rows[REFERENCE].metrics)
    assert all(set(row.metrics) == names for row in rows.values())
    assert {"artifact_mb", "perplexity", "model_rss_mb", "ttft_speedup", "memory_share_vs_bf16"} <= names
    gaps = {name for row in rows.values() for name, metric in row.metrics.items() if metric.state != "measured"}
    assert gaps == {
        "answer_similarity_expected",
        "lookup_tokens_per_s",
        "lookup_gain",
        "placed_share",
        "fallbacks",
    }  # nobody was asked where it is placed, nobody gave answers of their own


def test_a_tail_needs_a_sample_that_carries_one() -> None:
    few = make.benchmark(OPENVINO, inter_token_ms=make.quantity(13.3, 58), inter_token_p95_ms=None)
    metrics = run({OPENVINO: {"benchmark": few}})[OPENVINO].metrics
    assert (metrics["tail_ratio"].state, metrics["inter_token_cv"].state) == ("not-measured", "measured")
    assert "n too small: 58 times between tokens, 59 carry a 95th percentile" in metrics["tail_ratio"].reason
    assert run()[OPENVINO].metrics["tail_ratio"].value == pytest.approx(15.0 / 13.3)


def test_few_predictions_carry_no_99th_percentile() -> None:
    few = make.evaluation(OPENVINO, predictions=231, p99_kl=None)
    cell = run({OPENVINO: {"evaluation": few}})[OPENVINO].metrics["p99_kl"]
    assert (cell.state, cell.reason) == (
        "not-measured", "n too small: 231 predictions, 299 carry a 99th percentile"
    )  # fmt: skip


def test_values_errors_and_counts_come_from_the_records() -> None:
    metrics = run()[OPENVINO].metrics
    assert (metrics["mean_kl"].value, metrics["mean_kl"].se, metrics["mean_kl"].n) == (0.007, 0.0003, 7448)
    retention = metrics["retention"]
    assert (retention.value, retention.se, retention.n, retention.units) == (0.996, 0.002, 40, 40)
    assert retention.low == pytest.approx(0.996 - 2.0227 * 0.002, abs=1e-6)  # t with 39 degrees of freedom
    assert retention.high == pytest.approx(0.996 + 2.0227 * 0.002, abs=1e-6)
    assert metrics["next_token_accuracy"].se is None
    assert metrics["decode_tokens_per_s"] == Metric(value=75.0, n=10)
    assert metrics["model_rss_mb"].value == pytest.approx(300.0)


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("decode_speedup", 75 / 15),
        ("decode_speedup_vs_bf16", 75 / 25),
        ("prefill_speedup", 1.0),
        ("memory_share", 460 / 1150),
        ("memory_share_vs_bf16", 460 / 1380),
    ],
)
def test_ratios(metric: str, expected: float) -> None:
    found = run()[OPENVINO].metrics[metric]
    assert found.value == pytest.approx(expected)
    assert found.se is None


def test_a_speedup_is_decided_by_its_blocks_and_the_noise_floor() -> None:
    found = run()[OPENVINO].metrics["decode_speedup"]
    assert (found.low, found.high) == (pytest.approx(5 * 0.98 / 1.01), pytest.approx(5 * 1.02 * 1.01))
    assert (found.units, found.n, found.undecided) == (4, 12, "")
    assert run()[OPENVINO].metrics["decode_speedup_vs_bf16"].low is None


def test_a_speedup_that_was_not_timed_in_turns_decides_nothing() -> None:
    plan = {name: make.plan_entry(name) for name in (REFERENCE, OPENVINO)}
    rows = scorecard(
        catalogue(),
        make.params(), plan, *({name: build(name) for name in plan} for build in (make.artifact, make.evaluation)),
        {REFERENCE: make.benchmark(REFERENCE, decode_tokens_per_s=make.quantity(15.0)), OPENVINO: make.benchmark()},
    )  # fmt: skip
    found = rows[1].metrics["decode_speedup"]
    assert (found.value, found.low) == (pytest.approx(5.0), None)
    assert found.undecided == "not timed in turns with the reference"


def test_time_to_first_token_speedup_is_above_one_when_the_variant_is_quicker() -> None:
    slow = make.benchmark(REFERENCE, time_to_first_token_ms=make.quantity(70.0))
    assert run({REFERENCE: {"benchmark": slow}})[OPENVINO].metrics["ttft_speedup"].value == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("changes", "status", "reason", "metric", "state"),
    [
        ({"plan": make.plan_entry(OPENVINO, action="skip", reason="no such runtime")}, "skipped", "no such runtime",
         "retention", "not-measured"),
        ({"plan": make.plan_entry(OPENVINO, action="intermediate", reason="for int4")}, "skipped",
         "an intermediate, not measured: for int4", "decode_speedup", "not-measured"),
        ({"artifact": None}, "failed", "no conversion record; run `dvc repro`", "artifact_mb", "missing"),
        ({"artifact": make.artifact(OPENVINO, status="failed", reason="out of memory", size_mb=None)}, "failed",
         "out of memory", "retention", "missing"),
        ({"artifact": make.artifact(OPENVINO, status="skipped", reason="unknown architecture", size_mb=None)},
         "skipped", "unknown architecture", "retention", "not-measured"),
        ({"evaluation": None}, "failed", "not evaluated: no record; run `dvc repro`", "mean_kl", "missing"),
        ({"evaluation": make.evaluation(OPENVINO, status="failed", reason="crash")}, "failed", "not evaluated: crash",
         "perplexity", "missing"),
        ({"benchmark": make.benchmark(OPENVINO, status="failed", reason="timeout", speed=make.no("timeout"))},
         "failed", "not benchmarked: timeout", "memory_share", "missing"),
        ({"benchmark": None}, "failed", "not benchmarked: no record; run `dvc repro`", "decode_speedup", "missing"),
        ({"benchmark": make.benchmark(OPENVINO, status="skipped", reason="x", speed=make.no("no Metal"))}, "ok",
         "speed and memory: no Metal", "decode_speedup", "not-measured"),
        ({"plan": make.plan_entry(OPENVINO, speed_on_device=make.no("iphone is not this host"))}, "ok",
         "speed and memory: iphone is not this host", "memory_share", "not-measured"),
    ],
)  # fmt: skip
def test_a_gap_is_missing_when_a_fault_and_not_measured_when_known_beforehand(
    changes: dict[str, Record | None], status: str, reason: str, metric: str, state: str
) -> None:
    row = run({OPENVINO: changes})[OPENVINO]
    assert (row.status, row.reason) == (status, reason)
    assert row.metrics[metric].state == state
    assert row.metrics[metric].value is None
    assert row.metrics[metric].reason


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_a_number_that_is_none_or_not_finite_is_missing(value: float | None) -> None:
    row = run({OPENVINO: {"evaluation": make.evaluation(OPENVINO, retention=value)}})[OPENVINO]
    assert row.metrics["retention"].state == "missing"
    assert row.metrics["mean_kl"].state == "measured"


def test_a_zero_rate_gives_no_ratio() -> None:
    stopped = make.benchmark(OPENVINO, decode_tokens_per_s=make.quantity(0.0))
    found = run({OPENVINO: {"benchmark": stopped}})[OPENVINO].metrics["decode_speedup"]
    assert (found.state, found.reason) == (
        "missing",
        "decode_tokens_per_s must be above 0 to be compared: 0.0 against 15.0",
    )


def test_a_reference_without_numbers_leaves_every_ratio_without_one() -> None:
    rows = run({REFERENCE: {"benchmark": make.benchmark(REFERENCE, status="failed", reason="killed")}})
    found = rows[GGUF].metrics["memory_share"]
    assert (found.state, found.reason) == ("missing", "torch-fp32: not benchmarked: killed")
    assert rows[GGUF].metrics["memory_share_vs_bf16"].state == "measured"


def test_a_run_without_bf16_says_so() -> None:
    rows = scorecard(catalogue(), make.params(), {OPENVINO: make.plan_entry(OPENVINO)}, {}, {}, {})
    assert rows[0].metrics["decode_speedup_vs_bf16"].reason == "this run has no torch bf16 variant"
    assert rows[0].metrics["decode_speedup"].reason == "the reference torch-fp32 is not in the plan"


def test_a_subset_is_said_so_in_the_metric() -> None:
    few = make.evaluation(OPENVINO, subset=True, rows=6, predictions=900)
    assert run({OPENVINO: {"evaluation": few}})[OPENVINO].metrics["mean_kl"].reason == "scored on a subset of 6 rows"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml and the records of a healthy run."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(make.params().model_dump_json(include={"variants"}))
    make.fetched(Workspace())
    make.profile().write(Workspace().profile)
    make.ceiling().write(Workspace().ceiling)
    for name in make.VARIANTS:
        make.plan_entry(name).write(Workspace().plan(name))
        make.artifact(name).write(Workspace().artifact_record(name))
        make.evaluation(name).write(Workspace().evaluation_record(name))
        make.benchmark(name).write(Workspace().benchmark_record(name))
    return tmp_path


def test_the_stage_writes_the_recommendation(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stage.main([]) == 0
    found = Recommendation.read(Workspace().recommendation)
    assert {r.variant for r in found.ranking} == {GGUF, OPENVINO}
    assert [one.variant for one in found.closeness] == list(make.VARIANTS)
    assert capsys.readouterr().out.strip() == found.reason


def test_the_stage_names_a_broken_record_and_goes_on_without_an_absent_one(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Workspace().benchmark_record(GGUF).unlink()
    assert stage.main([]) == 0
    rows = {r.variant: r for r in Recommendation.read(Workspace().recommendation).rows}
    assert rows[GGUF].status == "failed"
    Workspace().evaluation_record(GGUF).write_text("{")
    assert stage.main([]) == 2
    assert "is not a Evaluation" in capsys.readouterr().err
    Workspace().plan(GGUF).unlink()
    assert stage.main([]) == 2
    assert "does not exist; run the stage that writes it" in capsys.readouterr().err


def test_an_estimate_of_energy_decides_nothing() -> None:
    def share(estimated: bool) -> Metric:
        energy = make.energy(estimated)
        return run({name: {"benchmark": make.benchmark(name, energy=energy)} for name in (REFERENCE, OPENVINO)})[
            OPENVINO
        ].metrics["energy_share"]

    real, estimate = share(False), share(True)
    assert (real.value, real.undecided) == (1.0, "")
    assert estimate.value == 1.0 and "estimated" in estimate.undecided
