"""Phases in which a quantized variant is slower, and why as far as the measurements tell."""

from __future__ import annotations

from collections.abc import Iterable

from tasks.kinds.catalogue import MetricSpec
from tasks.records.scores import RooflinePosition, ScoreRow
from tasks.records.speed import Benchmark
from tasks.reporting.figures import figure
from tasks.reporting.findings import Scores, metric, value

WAITED = 0.1  # share of a block that threads waited for a core: more of them than cores


def slower(scores: Scores) -> list[str]:
    """A sentence per candidate and phase that is slower than the reference or than its engine's unquantized model."""
    return [said for row in scores.rows if row.role == "candidate" for said in _of(scores, row)]


def _of(scores: Scores, row: ScoreRow) -> Iterable[str]:
    base = next((r for r in scores.rows if r.backend == row.backend and r.role == "rival" and r.status == "ok"), None)
    for speed in scores.known.having("slower"):
        spec = scores.known.ratio_of(speed.name)
        if spec is None or speed.slower is None:
            continue
        found = metric(row, spec.name)
        own, unquantized = value(row, speed.name), value(base, speed.name)
        if found.high is not None and found.high < 1 and found.value is not None:
            against = f"{figure(spec, found.value)} as fast as {scores.reference}"
        elif base is not None and own and unquantized and own < 0.9 * unquantized:
            against = f"{figure(spec, own / unquantized)} as fast as {base.variant}, the same engine unquantized"
        else:
            continue
        yield f"{row.variant} is slower in {speed.slower.words}: {against}. {_cause(scores, row, base, speed)}".rstrip()


def _cause(scores: Scores, row: ScoreRow, base: ScoreRow | None, speed: MetricSpec) -> str:
    """What the measurements show of the reason; empty where they show none."""
    record = scores.benchmarks.get(row.variant)
    if record is not None and _oversubscribed(record):
        return "Its threads waited for a core: there are more of them than cores."
    near = {one.variant: one for one in scores.recommendation.closeness}
    own, plain = near.get(row.variant), near.get(base.variant) if base is not None else None
    if own is None:
        return ""
    return _arithmetic(own, plain) if speed.bound_by == "arithmetic" else _reading(own)


def _oversubscribed(record: Benchmark) -> bool:
    found = record.disturbance
    return found is not None and found.waited_s is not None and found.waited_s > WAITED * found.seconds


def _arithmetic(own: RooflinePosition, plain: RooflinePosition | None) -> str:
    if plain is not None and own.prefill_gflop_s < plain.prefill_gflop_s:
        return (
            f"It multiplies at {own.prefill_gflop_s:.0f} GFLOP/s, the unquantized one at {plain.prefill_gflop_s:.0f}: "
            "widening the weights costs more than narrow arithmetic saves."
        )
    if own.prefill_share is not None and own.prefill_share < 0.25:
        return (
            f"It reaches {own.prefill_share:.0%} of the machine's {own.arithmetic} throughput: its kernel does not use "
            "the matrix instructions this processor has."
        )
    return ""


def _reading(own: RooflinePosition) -> str:
    if own.decode_share < 0.5:
        return f"It reads {own.decode_gb_s:.1f} GB/s, {own.decode_share:.0%} of what memory gives: overhead per token."
    return ""
