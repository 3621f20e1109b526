"""Turn the suite's answers and the metrics' states into verdicts: pass, fail or inconclusive."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence

from tasks.gates.suites import KEPT, POSSIBLE, Answer, Threshold
from tasks.measure.statistics import Interval, units_that_would_decide
from tasks.records.scores import Metric, Recommendation, ScoreRow
from tasks.records.terms import Outcome
from tasks.records.verdict import Expectation, GateReport, Verdict

NOT_HERE = "not measured on this device"
Answers = Mapping[str, Mapping[str, Answer]]


def on_trial(recommendation: Recommendation) -> tuple[ScoreRow, ...]:
    """Rows that get a verdict: all but the skipped, of which there is nothing to judge."""
    return tuple(row for row in recommendation.rows if row.status != "skipped")


def report(
    recommendation: Recommendation, limits: Sequence[Threshold], answers: Answers, off: Sequence[str] = ()
) -> GateReport:
    """Judge every row on trial; the winner is the first candidate of the ranking that passed.

    `off` names the gates that are switched off, so that the reason can say so.
    """
    rows = on_trial(recommendation)
    verdicts = tuple(judge(row, recommendation.reference, limits, answers.get(row.variant, {})) for row in rows)
    outcomes = {verdict.variant: verdict.outcome for verdict in verdicts}
    candidates = {row.variant for row in rows if row.role == "candidate"}
    winner = next((r.variant for r in recommendation.ranking if outcomes.get(r.variant) == "pass"
                   and r.variant in candidates), None)  # fmt: skip
    contenders = tuple(verdict for verdict in verdicts if verdict.variant in candidates)
    outcome: Outcome = "fail"
    if winner is not None:
        outcome = "pass"
    elif any(verdict.outcome == "inconclusive" for verdict in contenders):
        outcome = "inconclusive"
    elif any(verdict.outcome == "unreachable" for verdict in contenders):
        outcome = "unreachable"
    return GateReport(
        outcome=outcome,
        reason=_reason(recommendation, contenders, winner, outcome, off),
        winner=winner,
        verdicts=verdicts,
        nearest=() if winner is not None else nearest(contenders),
        results_digest=results_digest(recommendation),
    )


def judge(row: ScoreRow, reference: str, limits: Sequence[Threshold], answers: Mapping[str, Answer]) -> Verdict:
    """The verdict on one variant: fail if any gate fails, else unreachable, else inconclusive if any is, else pass.

    With no gate at all nothing was shown, so the verdict is inconclusive.
    """
    expectations = tuple(expectation(row, reference, t, answers.get(t.gate)) for t in limits)
    found = {e.outcome for e in expectations}
    worst: tuple[Outcome, ...] = ("fail", "unreachable", "inconclusive")
    outcome: Outcome = next((o for o in worst if o in found), "pass" if found else "inconclusive")
    return Verdict(variant=row.variant, outcome=outcome, expectations=expectations)


def expectation(row: ScoreRow, reference: str, threshold: Threshold, answer: Answer | None) -> Expectation:
    """Decide one gate on one variant: missing fails, not measured here is inconclusive, else the suite decides.

    Where the metric has a 95% interval, that is what is compared with the limit: inside it passes, outside it fails,
    and an interval that holds the limit is inconclusive, with the size of the sample that would decide.
    """
    metric = row.metrics.get(threshold.metric, Metric(state="missing", reason=f"{threshold.metric} is not in the row"))
    measured = metric.state == "measured" and metric.value is not None and math.isfinite(metric.value)
    observed = metric.value if measured else None
    outcome, reason = _decide(threshold, metric, observed, answer)
    return Expectation(
        gate=threshold.gate,
        metric=threshold.metric,
        against=reference,
        observed=observed,
        low=metric.low if measured else None,
        high=metric.high if measured else None,
        minimum=threshold.minimum,
        maximum=threshold.maximum,
        outcome=outcome,
        reason=reason,
        miss=miss(threshold, observed) if outcome in ("fail", "unreachable") and observed is not None else None,
    )


def _decide(threshold: Threshold, metric: Metric, observed: float | None, answer: Answer | None) -> tuple[Outcome, str]:
    if metric.state == "not-measured":
        return "inconclusive", f"{NOT_HERE}: {metric.reason.removeprefix(f'{NOT_HERE}: ')}"
    if observed is None:
        return "fail", f"missing: {metric.reason or 'no finite value'}"
    if answer is None:
        return "fail", "the suite gave no answer for this gate"
    beyond = [check for check in answer.failed if check not in (KEPT, POSSIBLE)]
    if beyond:
        return "fail", f"{observed:.4g} is not {threshold.allowed} ({', '.join(beyond)})"
    if metric.undecided:
        return "inconclusive", f"{observed:.4g}, but {metric.undecided}"
    shown = f"{observed:.4g}" + _range(metric)
    if POSSIBLE in answer.failed:
        if metric.bound is not None and threshold.minimum is not None and metric.bound < threshold.minimum:
            beyond_it = f"nor can it be on this device: at most {metric.bound:.3g} {metric.bound_reason}"
            return "unreachable", f"{shown} is not {threshold.allowed}, {beyond_it}"
        return "fail", f"{shown} is not {threshold.allowed}"
    if KEPT in answer.failed:
        return "inconclusive", f"{shown} may or may not be {threshold.allowed}{_needed(threshold, metric, observed)}"
    return "pass", f"{shown} is {threshold.allowed}"


def _range(metric: Metric) -> str:
    return "" if metric.low is None or metric.high is None else f" [{metric.low:.4g}, {metric.high:.4g}]"


def _needed(threshold: Threshold, metric: Metric, observed: float) -> str:
    """How large a sample would decide, where that can be told."""
    limit = threshold.minimum if threshold.minimum is not None else threshold.maximum
    if limit is None or metric.low is None or metric.high is None or metric.units is None:
        return ""
    units = units_that_would_decide(observed, limit, Interval(metric.low, metric.high), metric.units)
    return "" if units is None else f"; a sample of about {units} would decide, this one has {metric.units}"


def miss(threshold: Threshold, observed: float) -> float:
    """The share by which `observed` misses the limit, 0 on the limit; of the limit itself unless that is 0.

    >>> miss(Threshold("g", "m", minimum=2.0), 1.5), miss(Threshold("g", "m", maximum=0.5), 0.75)
    (0.25, 0.5)
    """
    short = threshold.minimum - observed if threshold.minimum is not None else observed - (threshold.maximum or 0.0)
    limit = threshold.minimum if threshold.minimum is not None else threshold.maximum
    return max(0.0, short / abs(limit) if limit else short)


def nearest(verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    """Variants by their largest miss, the smallest first; a missing metric is further off than any number."""

    def distance(verdict: Verdict) -> tuple[bool, float, str]:
        unknown = any(e.outcome in ("fail", "unreachable") and e.miss is None for e in verdict.expectations)
        return unknown, max((e.miss or 0.0 for e in verdict.expectations), default=0.0), verdict.variant

    return tuple(verdict.variant for verdict in sorted(verdicts, key=distance))


def shortfall(verdict: Verdict) -> str:
    """Say in words what a variant missed, and by how much.

    >>> shortfall(Verdict(variant="a", outcome="pass", expectations=()))
    'missed nothing'
    """
    lost = [
        f"{e.gate} by {e.miss:.1%} ({e.observed:.4g}, {_limit(e)})" if e.miss is not None and e.observed is not None
        else f"{e.gate} ({e.reason})"
        for e in verdict.expectations
        if e.outcome in ("fail", "unreachable")
    ]  # fmt: skip
    open_ = [f"{e.gate} ({e.reason})" for e in verdict.expectations if e.outcome == "inconclusive"]
    said = [f"missed {', '.join(lost)}"] if lost else []
    said += [f"could not be judged on {', '.join(open_)}"] if open_ else []
    return "; ".join(said) or "missed nothing"


def _limit(e: Expectation) -> str:
    return f"limit {e.minimum:g}" if e.minimum is not None else f"limit {e.maximum:g}"


def results_digest(recommendation: Recommendation) -> str:
    """sha256 over variants and metrics as canonical JSON: what the verdicts rest on, and nothing else."""
    results = [json.loads(row.model_dump_json(include={"variant", "metrics"})) for row in recommendation.rows]
    canonical = json.dumps(results, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _reason(
    recommendation: Recommendation,
    contenders: Sequence[Verdict],
    winner: str | None,
    outcome: Outcome,
    off: Sequence[str],
) -> str:
    """The report's one sentence."""
    counts = {
        kind: sum(v.outcome == kind for v in contenders) for kind in ("pass", "fail", "unreachable", "inconclusive")
    }
    tally = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    note = f"; switched off: {', '.join(off)}" if off else ""
    if winner is not None:
        ranked = next(r.rank for r in recommendation.ranking if r.variant == winner)
        return f"{winner} passes every gate and ranks {ranked} of {len(recommendation.ranking)} ({tally}){note}"
    if not contenders:
        return f"there is no candidate to judge: {recommendation.reason}{note}"
    if outcome == "inconclusive":
        return f"no candidate passed, and some could not be decided ({tally}){note}"
    if outcome == "unreachable":
        return f"no candidate passed, and what the gates ask cannot be reached on this device ({tally}){note}"
    return f"no candidate passed ({tally}){note}"
