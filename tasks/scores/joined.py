"""All results of a run as one target sees them, joined into scorecard and ranking. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tasks.kinds.table import catalogue
from tasks.params.pipeline import Params
from tasks.records.artifact import Artifact
from tasks.records.placement import Placement
from tasks.records.plan import PlanEntry
from tasks.records.quality import Evaluation
from tasks.records.scores import Recommendation, RooflinePosition
from tasks.records.speed import Benchmark, Tuned
from tasks.scores import rank
from tasks.scores.bottleneck import bounded
from tasks.scores.progress import progress
from tasks.scores.scorecard import scorecard


@dataclass(frozen=True)
class Found:
    """What the stages before wrote, which the rankings for all targets stand on."""

    kind: str
    plan: Mapping[str, PlanEntry]
    artifacts: Mapping[str, Artifact]
    evaluations: Mapping[str, Evaluation]
    benchmarks: Mapping[str, Benchmark]
    security: Mapping[str, list[str]]
    tuned: Mapping[str, Tuned]
    closeness: tuple[RooflinePosition, ...]  # to this machine's ceilings
    placements: Mapping[str, Placement] = field(default_factory=dict)  # on this machine


def elsewhere(found: Found) -> Found:
    """The same for a device that is not this machine, whose timings and ceilings say nothing of it."""
    return replace(found, benchmarks={}, closeness=(), placements={})


def joined(found: Found, params: Params) -> Recommendation:
    """Scorecard, front and ranking, by the weights of `params`."""
    known = catalogue(found.kind)
    rows = scorecard(
        known, params, found.plan, found.artifacts, found.evaluations, found.benchmarks, found.security,
        found.placements,
    )  # fmt: skip
    rows = bounded(known, rows, found.closeness)
    ranked = rank.recommend(known, rows, params.reference, params.recommend.weights)
    steps = progress(known, rows, params.reference, [one.variant for one in ranked.ranking], found.tuned)
    own = {"kind": found.kind, "closeness": found.closeness, "placements": dict(found.placements), "progress": steps}
    return ranked.model_copy(update=own)
