"""Suites and verdicts."""

from __future__ import annotations

import doctest
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import gate as stage
from tasks.gates import suites, verdict
from tasks.gates.suites import KEPT, NOT_NULL, POSSIBLE, Answer, Threshold
from tasks.kinds import demands
from tasks.kinds.table import catalogue
from tasks.params.pipeline import Bound, Gates
from tasks.records.scores import Metric, ScoreRow
from tasks.records.terms import Outcome
from tasks.records.verdict import GateReport
from tests import factories as make

REFERENCE, BF16, RIVAL, GGUF, OPENVINO = make.VARIANTS
KNOWN = catalogue()
LIMITS = suites.thresholds({}, KNOWN)
OFF: Gates = dict.fromkeys(KNOWN.names)
GONE = Metric(state="missing", reason="crashed")
ELSEWHERE = Metric(state="not-measured", reason="no Metal")


def judged(*rows: ScoreRow, ranking: tuple[str, ...] | None = None, limits: Gates | None = None) -> GateReport:
    """Rows through the real suite."""
    params = make.params(gate=dict(limits or {}))
    return stage.gate(params, make.recommendation(*rows, ranking=ranking))


def candidate(name: str = OPENVINO, **cells: float | Metric) -> ScoreRow:
    return make.row(name, metrics=make.good_metrics(**cells))


def test_every_switched_on_gate_becomes_expectations_on_the_metric_and_its_interval() -> None:
    found = json.loads(suites.suite_json(suites.thresholds({"memory_share": None}, KNOWN)))["expectations"]
    assert len(found) == len(suites.CHECKS) * (len(LIMITS) - 1)
    limits = {(e["meta"]["gate"], e["meta"]["check"]): e["kwargs"] for e in found}
    retention = limits["min_retention", KEPT]
    assert (retention["column"], retention["min_value"], retention["strict_min"]) == ("retention.low", 0.95, True)
    assert limits["min_retention", POSSIBLE]["column"] == "retention.high"
    assert limits["max_perplexity_ratio", KEPT]["column"] == "perplexity_ratio.high"
    assert limits["max_perplexity_ratio", POSSIBLE]["column"] == "perplexity_ratio.low"
    assert [spec.name for spec in demands.switched_off(KNOWN, {"memory_share": None})] == ["memory_share"]


def test_every_metric_can_have_a_gate() -> None:
    on: Gates = {spec.name: Bound(min=1.0) if spec.better == "higher" else Bound(max=1.0) for spec in KNOWN}
    assert [t.metric for t in suites.thresholds(on, KNOWN)] == list(KNOWN.names)


@pytest.mark.parametrize(
    ("cells", "outcome", "gate", "text"),
    [
        ({}, "pass", "min_retention", "0.996 is above 0.95"),
        ({"retention": 0.9500001}, "pass", "min_retention", "0.95 is above 0.95"),
        ({"retention": 0.95}, "fail", "min_retention", "0.95 is not above 0.95"),
        ({"perplexity_ratio": 1.10}, "pass", "max_perplexity_ratio", "1.1 is at most 1.1"),
        ({"perplexity_ratio": 1.11}, "fail", "max_perplexity_ratio", "1.11 is not at most 1.1"),
        ({"decode_speedup": 2.0}, "pass", "min_decode_speedup", "2 is at least 2"),
        ({"decode_speedup": 1.99}, "fail", "min_decode_speedup", "1.99 is not at least 2"),
        ({"prefill_speedup": 0.99}, "fail", "min_prefill_speedup", "0.99 is not at least 1"),
        ({"mean_kl": 0.21}, "fail", "max_mean_kl", "0.21 is not at most 0.2"),
        ({"tail_ratio": 3.1}, "fail", "max_tail_ratio", "3.1 is not at most 3"),
        ({"artifact_share": 0.6}, "fail", "max_artifact_share", "0.6 is not at most 0.5"),
        ({"memory_share": 0.51}, "fail", "max_memory_share", "0.51 is not at most 0.5"),
        ({"memory_share": GONE}, "fail", "max_memory_share", "missing: crashed"),
        ({"decode_speedup": ELSEWHERE}, "inconclusive", "min_decode_speedup", "not measured on this device: no Metal"),
    ],
)
def test_the_suite_decides_at_the_limit(
    cells: dict[str, float | Metric], outcome: Outcome, gate: str, text: str
) -> None:
    found = judged(candidate(**cells)).verdicts[0]
    assert found.outcome == outcome
    line = next(e for e in found.expectations if e.gate == gate)
    assert (line.outcome, line.reason) == (outcome, text)
    assert line.against == REFERENCE
    assert all(e.outcome == "pass" for e in found.expectations if e.gate != gate)


def between(value: float, low: float, high: float, units: int | None = 40) -> Metric:
    return Metric(value=value, low=low, high=high, units=units)


@pytest.mark.parametrize(
    ("cell", "outcome", "text"),
    [
        (between(0.99, 0.97, 1.01), "pass", "0.99 [0.97, 1.01] is above 0.95"),
        (between(0.99, 0.95, 1.03), "inconclusive", "0.99 [0.95, 1.03] may or may not be above 0.95; "
         "a sample of about 40 would decide, this one has 40"),
        (between(0.96, 0.94, 0.98), "inconclusive", "0.96 [0.94, 0.98] may or may not be above 0.95; "
         "a sample of about 160 would decide, this one has 40"),
        (between(0.94, 0.92, 0.96), "inconclusive", "0.94 [0.92, 0.96] may or may not be above 0.95; "
         "a sample of about 160 would decide, this one has 40"),
        (between(0.95, 0.94, 0.96), "inconclusive", "0.95 [0.94, 0.96] may or may not be above 0.95"),
        (between(0.96, 0.94, 0.98, None), "inconclusive", "0.96 [0.94, 0.98] may or may not be above 0.95"),
        (between(0.90, 0.88, 0.92), "fail", "0.9 [0.88, 0.92] is not above 0.95"),
        (Metric(value=0.99, n=1, undecided="1 row tells nothing"), "inconclusive", "0.99, but 1 row tells nothing"),
        (Metric(value=0.5, n=1, undecided="1 row tells nothing"), "inconclusive", "0.5, but 1 row tells nothing"),
        (GONE.model_copy(update={"low": 0.99, "high": 1.0}), "fail", "missing: crashed"),
    ],
)  # fmt: skip
def test_the_interval_decides_and_says_what_would(cell: Metric, outcome: Outcome, text: str) -> None:
    found = judged(candidate(retention=cell)).verdicts[0]
    line = found.expectations[0]
    assert (found.outcome, line.outcome, line.reason) == (outcome, outcome, text)
    assert (line.miss is not None) == (outcome == "fail" and line.observed is not None)


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [(1.01, 1.09, "pass"), (1.05, 1.10, "pass"), (1.05, 1.12, "inconclusive"), (1.11, 1.2, "fail")],
)
def test_an_upper_limit_is_decided_by_the_other_end(low: float, high: float, outcome: Outcome) -> None:
    found = judged(candidate(perplexity_ratio=between((low + high) / 2, low, high))).verdicts[0]
    assert found.expectations[1].outcome == outcome


@pytest.mark.parametrize(
    "cell", [Metric(value=math.nan), Metric(value=math.nan, low=math.nan, high=math.nan, units=40)]
)
def test_what_is_no_number_passes_no_gate(cell: Metric) -> None:
    for name in ("retention", "perplexity_ratio", "mean_kl", "decode_speedup", "memory_share"):
        found = judged(candidate(**{name: cell})).verdicts[0]
        assert found.outcome == "fail", (name, [one for one in found.expectations if one.outcome != "pass"])


def test_a_reason_that_says_so_already_is_not_said_twice() -> None:
    told = Metric(state="not-measured", reason="not measured on this device: this is no phone")
    line = next(e for e in judged(candidate(decode_speedup=told)).verdicts[0].expectations if e.outcome != "pass")
    assert line.reason == "not measured on this device: this is no phone"


def test_a_metric_that_is_no_column_at_all_fails() -> None:
    cells = make.good_metrics()
    del cells["memory_share"]
    found = judged(make.row(metrics=cells)).verdicts[0]
    assert found.outcome == "fail"
    assert found.expectations[-1].reason == "missing: memory_share is not in the row"


def test_the_suite_itself_refuses_gaps_and_absent_columns() -> None:
    gap, bare = candidate("gap", retention=GONE.model_copy(update={"value": 0.99})), make.row("bare", metrics={})
    found = suites.validate(LIMITS, [gap, bare, candidate("whole")])
    assert found["gap"]["min_retention"].failed == (NOT_NULL,)
    assert all(suites.EXISTS in answer.failed for answer in found["bare"].values())
    assert not any(answer.failed for answer in found["whole"].values())


def test_fail_outweighs_inconclusive_which_outweighs_pass() -> None:
    assert judged(candidate(decode_speedup=ELSEWHERE, retention=0.1)).verdicts[0].outcome == "fail"
    assert judged(candidate(decode_speedup=ELSEWHERE)).verdicts[0].outcome == "inconclusive"


def test_a_measured_value_without_an_answer_of_the_suite_fails() -> None:
    found = verdict.judge(candidate(), REFERENCE, LIMITS, {})
    assert {(e.outcome, e.reason) for e in found.expectations} == {("fail", "the suite gave no answer for this gate")}


@given(st.sampled_from(["measured", "missing", "not-measured"]), st.booleans(), st.floats())
def test_nothing_passes_but_a_finite_measured_value_that_the_suite_accepts(
    state: str, accepted: bool, value: float
) -> None:
    cell = Metric.model_validate({"state": state, "value": value if state == "measured" else None})
    row = make.row(metrics={"decode_speedup": cell})
    limit = Threshold("g", "decode_speedup", minimum=2.0)
    found = verdict.expectation(row, REFERENCE, limit, Answer("g", () if accepted else (POSSIBLE, KEPT)))
    if found.outcome == "pass":
        assert state == "measured" and accepted and abs(value) < float("inf")
        assert found.miss is None
    if state == "not-measured":
        assert found.outcome == "inconclusive"
    if state == "missing":
        assert found.outcome == "fail"


@given(st.floats(0.1, 10), st.floats(0, 10))
def test_miss_is_a_share_of_the_limit_and_zero_inside_it(limit: float, observed: float) -> None:
    below = verdict.miss(Threshold("g", "m", minimum=limit), observed)
    above = verdict.miss(Threshold("g", "m", maximum=limit), observed)
    assert (below > 0) == (observed < limit) and (above > 0) == (observed > limit)
    assert below + above == pytest.approx(abs(observed - limit) / limit)


def test_doctests() -> None:
    assert doctest.testmod(verdict).failed == 0


def test_miss_of_a_zero_limit_is_the_distance() -> None:
    assert verdict.miss(Threshold("g", "m", maximum=0.0), 0.3) == 0.3


def test_the_winner_is_the_first_of_the_ranking_that_passed() -> None:
    found = judged(
        candidate(GGUF), candidate(OPENVINO), candidate("best", retention=0.9), ranking=("best", OPENVINO, GGUF)
    )
    assert (found.outcome, found.winner, found.nearest) == ("pass", OPENVINO, ())
    assert found.reason == "openvino-int8 passes every gate and ranks 2 of 3 (2 pass, 1 fail)"


def test_rivals_and_the_reference_are_judged_but_cannot_win() -> None:
    rows = (candidate(REFERENCE, decode_speedup=1.0), candidate(RIVAL), candidate(OPENVINO, retention=0.9))
    found = judged(*rows, ranking=(RIVAL, OPENVINO))
    assert {v.variant: v.outcome for v in found.verdicts} == {REFERENCE: "fail", RIVAL: "pass", OPENVINO: "fail"}
    assert (found.outcome, found.winner, found.nearest) == ("fail", None, (OPENVINO,))


def test_none_passed_but_some_could_not_be_judged() -> None:
    found = judged(candidate(GGUF, retention=0.9), candidate(OPENVINO, decode_speedup=ELSEWHERE))
    assert (found.outcome, found.nearest) == ("inconclusive", (OPENVINO, GGUF))
    assert found.reason == "no candidate passed, and some could not be decided (1 fail, 1 inconclusive)"


def test_an_inconclusive_rival_does_not_make_the_outcome_inconclusive() -> None:
    found = judged(candidate(RIVAL, decode_speedup=ELSEWHERE), candidate(OPENVINO, retention=0.9))
    assert found.outcome == "fail"


def test_nearest_is_ordered_by_the_largest_miss_and_unknown_is_last() -> None:
    rows = (
        candidate("unknown", retention=GONE),
        candidate("two-small", retention=0.94, memory_share=0.52),
        candidate("one-large", memory_share=0.9),
        candidate("one-small", memory_share=0.51),
    )
    found = judged(*rows)
    assert found.nearest == ("one-small", "two-small", "one-large", "unknown")
    assert stage.lines(found, shown=2) == [
        "gate: fail: no candidate passed (4 fail)",
        "nearest: one-small missed max_memory_share by 2.0% (0.51, limit 0.5)",
        "nearest: two-small missed min_retention by 1.1% (0.94, limit 0.95), "
        "max_memory_share by 4.0% (0.52, limit 0.5)",
    ]
    by_name = {v.variant: v for v in found.verdicts}
    assert verdict.shortfall(by_name["unknown"]) == "missed min_retention (missing: crashed)"


def test_shortfall_names_what_could_not_be_judged() -> None:
    found = judged(candidate(retention=0.76, decode_speedup=ELSEWHERE)).verdicts[0]
    assert verdict.shortfall(found) == (
        "missed min_retention by 20.0% (0.76, limit 0.95); "
        "could not be judged on min_decode_speedup (not measured on this device: no Metal)"
    )


def test_skipped_variants_get_no_verdict_and_failed_ones_fail() -> None:
    skipped = make.row(GGUF, status="skipped", reason="not in the quick profile", metrics={})
    failed = make.row(OPENVINO, status="failed", reason="crash", metrics={"retention": GONE})
    found = judged(skipped, failed, ranking=())
    assert [(v.variant, v.outcome) for v in found.verdicts] == [(OPENVINO, "fail")]
    assert judged(skipped, ranking=()).reason == "there is no candidate to judge: test"
    assert judged(skipped, ranking=()).outcome == "fail"


def test_switched_off_gates_are_said_and_none_at_all_is_inconclusive() -> None:
    found = judged(candidate(memory_share=0.9), limits={"memory_share": None})
    assert found.outcome == "pass"
    assert found.reason.endswith("; switched off: max_memory_share")
    assert judged(candidate(), limits=OFF).outcome == "inconclusive"


def test_the_digest_rests_on_variants_and_metrics_only() -> None:
    base = verdict.results_digest(make.recommendation(candidate()))
    other_reason = make.recommendation(candidate().model_copy(update={"reason": "said otherwise"}))
    assert verdict.results_digest(other_reason) == base
    assert verdict.results_digest(make.recommendation(candidate(retention=0.9961))) != base
    assert verdict.results_digest(make.recommendation(candidate(GGUF))) != base
    assert len(base) == 64


def test_what_the_device_cannot_reach_is_told_from_a_failure() -> None:
    def decode(bound: float | None) -> Metric:
        return Metric(value=1.5, low=1.4, high=1.6, units=4, bound=bound, bound_reason="at the memory's bandwidth")

    within = judged(candidate(decode_speedup=decode(3.0)))
    assert (within.outcome, within.verdicts[0].outcome) == ("fail", "fail")
    beyond = judged(candidate(decode_speedup=decode(1.7)))
    assert (beyond.outcome, beyond.verdicts[0].outcome) == ("unreachable", "unreachable")
    said = next(e for e in beyond.verdicts[0].expectations if e.gate == "min_decode_speedup")
    assert said.outcome == "unreachable" and "at most 1.7 at the memory's bandwidth" in said.reason
    assert stage.EXIT_CODES["unreachable"] == 1
    mixed = judged(candidate(decode_speedup=decode(1.7), retention=0.5))
    assert mixed.outcome == "fail"
