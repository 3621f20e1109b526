"""Scorecard, Pareto front, ranking and the recommend stage."""

from __future__ import annotations

import doctest
import math
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import paths
from tasks import recommend as stage
from tasks.config import Weights
from tasks.records import Metric, Recommendation, Record, ScoreRow
from tasks.search import pareto, rank
from tasks.search.pareto import Objective, dominates, front
from tasks.search.scorecard import scorecard
from tests import factories as make

REFERENCE, BF16, RIVAL, GGUF, OPENVINO = make.VARIANTS
SPEED = Objective("speed", "tps", "higher", "log")
ERROR = Objective("error", "kl", "lower")
SIZE = Objective("size", "mb", "lower", "log")


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
    assert gaps == {"answer_similarity_expected"}  # nobody gave answers of their own


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
    rows = scorecard(make.params(), {OPENVINO: make.plan_entry(OPENVINO)}, {}, {}, {})
    assert rows[0].metrics["decode_speedup_vs_bf16"].reason == "this run has no torch bf16 variant"
    assert rows[0].metrics["decode_speedup"].reason == "the reference torch-fp32 is not in the plan"


def test_a_subset_is_said_so_in_the_metric() -> None:
    few = make.evaluation(OPENVINO, subset=True, rows=6, predictions=900)
    assert run({OPENVINO: {"evaluation": few}})[OPENVINO].metrics["mean_kl"].reason == "scored on a subset of 6 rows"


POINTS = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=2),
    st.fixed_dictionaries({key: st.integers(1, 5).map(float) for key in ("tps", "kl", "mb")}),
    min_size=1,
    max_size=12,
)


@given(POINTS)
def test_the_front_is_exactly_the_points_that_none_dominates(points: dict[str, dict[str, float]]) -> None:
    objectives = (SPEED, ERROR, SIZE)
    found = front(points, objectives)
    assert found.members  # a finite set always has one
    assert set(found.members) | set(found.dominated) == set(points)
    for name in found.members:
        assert not any(dominates(other, points[name], objectives) for other in points.values())
    for name, others in found.dominated.items():
        assert all(dominates(points[other], points[name], objectives) for other in others)
        assert set(others) & set(found.members)  # whoever is beaten is beaten by one on the front


@given(POINTS)
def test_ties_stay_together(points: dict[str, dict[str, float]]) -> None:
    members = front(points, (SPEED, ERROR)).members
    for name, point in points.items():
        twins = [n for n in members if (points[n]["tps"], points[n]["kl"]) == (point["tps"], point["kl"])]
        assert (name in members) == bool(twins)


def test_a_point_that_lacks_an_objective_is_excluded_with_the_reason() -> None:
    found = front({"a": {"tps": 1.0, "kl": 1.0}, "b": {"tps": 9.0}, "c": {}}, (SPEED, ERROR))
    assert found.members == ("a",)
    assert found.excluded == {"b": "error is not known", "c": "speed, error are not known"}


def test_without_objectives_nothing_is_compared() -> None:
    assert front({"a": {}}, ()).excluded == {"a": "nothing to compare by"}


@given(POINTS)
def test_scaled_values_span_0_to_1_and_keep_the_order(points: dict[str, dict[str, float]]) -> None:
    scaled = rank.normalise(points, SIZE)
    assert all(0 <= value <= 1 for value in scaled.values())
    assert max(scaled.values()) == 1
    smallest = min(points, key=lambda name: points[name]["mb"])
    assert scaled[smallest] == 1


@pytest.mark.parametrize("module", [pareto, rank])
def test_doctests(module: ModuleType) -> None:
    found = doctest.testmod(module)
    assert found.attempted > 0 and found.failed == 0


def test_normalise_without_values_is_empty() -> None:
    assert rank.normalise({"a": {}}, SIZE) == {}


def ranked(*rows: ScoreRow, **weights: float) -> Recommendation:
    return rank.recommend(rows, REFERENCE, Weights(**weights))


def row(name: str, kl: float, decode: float, prefill: float, peak: float, role: str = "candidate") -> ScoreRow:
    cells = make.good_metrics(
        mean_kl=kl, decode_tokens_per_s=decode, prefill_tokens_per_s=prefill, peak_rss_mb=peak, artifact_mb=peak / 3
    )
    return make.row(name, role=role, metrics=cells)


EXACT = row("exact", 0.001, 80.0, 900.0, 500.0)
QUICK = row("quick", 0.1, 160.0, 1800.0, 500.0)
SMALL = row("small", 0.1, 80.0, 900.0, 200.0)
POOR = row("poor", 0.2, 70.0, 800.0, 600.0)


@pytest.mark.parametrize(
    ("weights", "first"),
    [
        ({"quality": 1.0, "decode": 0.0, "prefill": 0.0, "memory": 0.0}, "exact"),
        ({"quality": 0.0, "decode": 1.0, "prefill": 1.0, "memory": 0.0}, "quick"),
        ({"quality": 0.0, "decode": 0.0, "prefill": 0.0, "memory": 5.0}, "small"),
    ],
)
def test_the_weights_decide(weights: dict[str, float], first: str) -> None:
    found = ranked(POOR, EXACT, QUICK, SMALL, **weights)
    assert found.ranking[0].variant == first
    assert [r.rank for r in found.ranking] == [1, 2, 3, 4]
    assert found.ranking[-1].utility <= found.ranking[0].utility <= 1


def test_the_reference_anchors_the_scale_so_that_gains_over_it_count() -> None:
    reference = row(REFERENCE, 0.0, 20.0, 500.0, 1000.0, role="reference")
    doubled, quadrupled = row("x2", 0.1, 40.0, 500.0, 1000.0), row("x4", 0.1, 80.0, 500.0, 1000.0)
    found = ranked(doubled, quadrupled, reference, quality=0.0, decode=1.0, prefill=0.0, memory=0.0)
    assert {r.variant: r.utility for r in found.ranking} == {"x2": 0.5, "x4": 1.0}
    alone = ranked(doubled, quadrupled, quality=0.0, decode=1.0, prefill=0.0, memory=0.0)
    assert {r.variant: r.utility for r in alone.ranking} == {"x2": 0.0, "x4": 1.0}


def test_the_scale_of_the_weights_does_not_matter() -> None:
    small = ranked(EXACT, QUICK, SMALL, quality=0.4, decode=0.2, prefill=0.2, memory=0.2)
    large = ranked(EXACT, QUICK, SMALL, quality=4.0, decode=2.0, prefill=2.0, memory=2.0)
    assert small.ranking == large.ranking


@given(
    st.lists(st.tuples(*[st.integers(1, 6)] * 4), min_size=2, max_size=8),
    st.tuples(*[st.integers(0, 3)] * 4).filter(any),
)
def test_a_dominated_candidate_never_outranks_the_one_that_beats_it(
    values: list[tuple[int, int, int, int]], weights: tuple[int, int, int, int]
) -> None:
    rows = [row(f"v{i}", float(a), float(b), float(c), float(d)) for i, (a, b, c, d) in enumerate(values)]
    chosen = dict(zip(("quality", "decode", "prefill", "memory"), map(float, weights), strict=True))
    found = ranked(*rows, **chosen)
    utility = {r.variant: r.utility for r in found.ranking}
    objectives = (rank.QUALITY, rank.DECODE, rank.PREFILL, rank.MEMORY)
    points = {r.variant: {n: m.value for n, m in r.metrics.items() if m.value is not None} for r in rows}
    for name, others in front(points, objectives).dominated.items():
        assert all(utility[other] >= utility[name] for other in others)


def test_reference_and_rivals_are_on_the_front_but_never_ranked() -> None:
    reference = row(REFERENCE, 0.0, 15.0, 500.0, 1150.0, role="reference")
    rival = row(RIVAL, 0.0005, 90.0, 900.0, 490.0, role="rival")
    found = ranked(reference, rival, EXACT, QUICK)
    assert set(found.front) == {REFERENCE, RIVAL, "quick"}
    assert [r.variant for r in found.ranking if not r.on_front] == ["exact"]
    beaten = next(r for r in found.ranking if r.variant == "exact")
    assert beaten.reason.startswith("beaten or equalled in everything by gguf-f16 (rival); quality 0.99 x 10%")


def test_the_sentence_names_the_first_its_numbers_and_the_next() -> None:
    found = ranked(EXACT, QUICK, quality=0.2, decode=0.3, prefill=0.3, memory=0.2)
    assert found.reason == (
        "quick ranks first of 2 by quality 20%, decode 30%, prefill 30%, memory 20% (utility 0.80): "
        "mean KL 0.1 nats, decode 160 tok/s (5.0x torch-fp32), prefill 1800 tok/s (3.3x torch-fp32), "
        "memory 500 MB peak (40% of torch-fp32); next is exact (0.40)."
    )


def test_equal_utilities_are_ordered_by_quality() -> None:
    found = ranked(QUICK, EXACT, quality=0.4, decode=0.25, prefill=0.15, memory=0.2)
    assert [(r.variant, r.utility) for r in found.ranking] == [("exact", 0.6), ("quick", 0.6)]


def test_what_was_not_measured_on_the_device_is_left_out_and_said() -> None:
    gap = Metric(state="not-measured", reason="iphone is not this host")
    cells = dict.fromkeys(("decode_tokens_per_s", "prefill_tokens_per_s", "peak_rss_mb"), gap)
    big = make.row("big", metrics=make.good_metrics(**cells, artifact_mb=300.0, mean_kl=0.01))
    little = make.row("little", metrics=make.good_metrics(**cells, artifact_mb=100.0, mean_kl=0.011))
    found = ranked(big, little, quality=0.1, decode=1.0, prefill=0.0, memory=0.9)
    assert found.ranking[0].variant == "little"
    assert found.front == ("big", "little")
    assert found.reason.endswith(
        "Ranked without decode, prefill, memory (iphone is not this host); the artifact's size stands in for memory."
    )


def test_weights_that_ask_only_for_the_unknown_fall_back_to_equal_ones() -> None:
    gap = Metric(state="not-measured", reason="no Metal")
    only = make.row("only", metrics=make.good_metrics(decode_tokens_per_s=gap))
    found = ranked(only, quality=0.0, decode=1.0, prefill=0.0, memory=0.0)
    assert "None of the weighted objectives is known" in found.reason
    assert found.ranking[0].utility == pytest.approx(1.0)


def test_a_candidate_that_lacks_one_objective_earns_nothing_for_it() -> None:
    gap = Metric(state="not-measured", reason="no Metal")
    mlx = make.row("mlx", metrics=QUICK.metrics | {"decode_tokens_per_s": gap})
    found = ranked(QUICK, EXACT, mlx)
    assert {r.variant: r.on_front for r in found.ranking} == {"quick": True, "exact": True, "mlx": False}
    lacking = next(r for r in found.ranking if r.variant == "mlx")
    assert lacking.reason.startswith("not on the front, decode is not known (no Metal); ")
    assert "decode unknown x 30%" in lacking.reason


def test_with_no_candidate_the_reason_lists_what_became_of_them() -> None:
    found = ranked(make.row(OPENVINO, status="failed", reason="out of memory", metrics={}))
    assert found.ranking == ()
    assert found.reason == "No candidate was made and measured: openvino-int8 failed (out of memory)."
    assert ranked().reason == "No candidate was made and measured: the plan has none."


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml and the records of a healthy run."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(make.params().model_dump_json(include={"variants"}))
    make.profile().write(paths.PROFILE)
    make.ceiling().write(paths.CEILING)
    for name in make.VARIANTS:
        make.plan_entry(name).write(paths.plan(name))
        make.artifact(name).write(paths.artifact_record(name))
        make.evaluation(name).write(paths.evaluation_record(name))
        make.benchmark(name).write(paths.benchmark_record(name))
    return tmp_path


def test_the_stage_writes_the_recommendation(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stage.main([]) == 0
    found = Recommendation.read(paths.RECOMMENDATION)
    assert {r.variant for r in found.ranking} == {GGUF, OPENVINO}
    assert [one.variant for one in found.closeness] == list(make.VARIANTS)
    assert capsys.readouterr().out.strip() == found.reason


def test_the_stage_names_a_broken_record_and_goes_on_without_an_absent_one(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths.benchmark_record(GGUF).unlink()
    assert stage.main([]) == 0
    rows = {r.variant: r for r in Recommendation.read(paths.RECOMMENDATION).rows}
    assert rows[GGUF].status == "failed"
    paths.evaluation_record(GGUF).write_text("{")
    assert stage.main([]) == 2
    assert "is not a Evaluation" in capsys.readouterr().err
    paths.plan(GGUF).unlink()
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
