"""What to watch once the winner is deployed: baselines from the benchmark, thresholds from its spread and the gates."""

from __future__ import annotations

from typing import NamedTuple

from tasks.kinds.catalogue import Catalogue, MetricSpec
from tasks.records.artifact import Package
from tasks.reporting.figures import NOTHING, figure
from tasks.reporting.findings import Scores, bound_of, metric, value

SIGMAS = 3  # standard errors beyond which a quality figure is no longer the one measured here


class Watch(NamedTuple):
    """One figure to watch: as measured, where it leaves what was seen here, and where a gate would fail."""

    what: str
    baseline: str
    look: str
    act: str


def watch(scores: Scores, package: Package) -> list[Watch]:
    """List what to watch for the winner; empty when there is none."""
    if scores.winner is None:
        return []
    limits = _limits(scores, scores.winner.variant)
    found = [_watch(scores, spec, limits.get(spec.name)) for spec in scores.known.having("watch")]
    rows = [row for row in found if row is not None]
    if package.manifest_sha256:
        digest = f"{package.manifest_sha256[:12]}…"
        rows.append(Watch("SHA-256 of the package's manifest", digest, NOTHING, "any other: refuse to load"))
    return rows


def _watch(scores: Scores, spec: MetricSpec, limit: float | None) -> Watch | None:
    baseline = value(scores.winner, spec.name)
    if baseline is None or spec.watch is None:
        return None
    unit = f" {spec.unit}" if spec.unit else ""
    side = "below" if spec.better == "higher" else "above"
    edge = _edge(scores, spec, baseline)
    return Watch(
        what=spec.watch.words,
        baseline=f"{figure(spec, baseline)}{unit}",
        look=f"{side} {figure(spec, edge)}{unit}" if edge is not None else NOTHING,
        act=f"{side} {figure(spec, limit)}{unit}" if limit is not None else NOTHING,
    )


def _edge(scores: Scores, spec: MetricSpec, baseline: float) -> float | None:
    """The worst repetition seen for a timing, the baseline and some standard errors for quality, else the baseline."""
    winner, falls = scores.winner, spec.better == "higher"
    record = scores.benchmarks.get(winner.variant) if winner is not None else None
    timing = record.phases.get(spec.name) if record is not None else None
    if timing is not None:
        return timing.low if falls else timing.high
    if spec.interval == "none":
        return baseline
    se = metric(winner, spec.name).se
    return None if se is None else baseline - SIGMAS * se if falls else baseline + SIGMAS * se


def _limits(scores: Scores, variant: str) -> dict[str, float]:
    """The gates' limits in the watched metrics' own units."""
    verdict = scores.verdict(variant)
    found: dict[str, float] = {}
    for expectation in verdict.expectations if verdict is not None else ():
        spec, bound = scores.known[expectation.metric], bound_of(expectation)
        if bound is None:
            continue
        start = value(scores.row(scores.reference), spec.of) if spec.of else 1.0
        if start is not None:
            found[spec.of or spec.name] = own_limit(scores.known, spec, bound, start)
    return found


def own_limit(known: Catalogue, spec: MetricSpec, bound: float, start: float) -> float:
    """A gate's limit in the metric's own unit; `start` is the reference's value where the gate is on a ratio to it."""
    falls = spec.against == "speedup" and known[spec.of].better == "lower"
    return start / bound if falls else bound * start
