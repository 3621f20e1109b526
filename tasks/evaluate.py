"""Evaluate: score one variant's very artifact on the shared inputs against the reference.

It is scored in looks: all variants on the first rows, those that the quality gates cannot judge by then on more.
What was scored is kept, so that another limit costs only what it makes undecided.
"""

from __future__ import annotations

from math import isfinite

from tasks.kinds import demands
from tasks.kinds.catalogue import Catalogue
from tasks.kinds.evaluating import evaluate
from tasks.kinds.table import catalogue
from tasks.measure.looks import Limit
from tasks.params.pipeline import Params
from tasks.records.base import Estimate
from tasks.records.plan import PlanEntry
from tasks.records.quality import Evaluation
from tasks.run.stage import run_variant
from tasks.run.workspace import Workspace
from tasks.sources.files import Source


def asked(known: Catalogue, entry: PlanEntry, params: Params) -> tuple[Limit, ...]:
    """List what the gates of all targets ask of a candidate's quality; nothing is asked of others."""
    if entry.recipe.role != "candidate":
        return ()
    return tuple(
        Limit(metric=one.spec.name, minimum=one.minimum, maximum=one.maximum, target=target)
        for target in params.named_targets
        for one in demands.limits(known, params.for_target(target).gate)
        if one.spec.source == "quality"
    )


def words(known: Catalogue, found: Evaluation) -> str:
    """The figures of quality that can have a gate, in a line, or why there are none."""
    shown = [spec for spec in known.of_source("quality") if spec.gate is not None]
    values = [(spec.title, found.figures.get(spec.name, Estimate()).value) for spec in shown]
    told = [f"{title} {value:.4g}" for title, value in values if value is not None and isfinite(value)]
    return ", ".join(told) or found.reason


def main(argv: list[str] | None = None) -> int:
    """Run the stage."""

    def work(workspace: Workspace, entry: PlanEntry, params: Params) -> str:
        known = catalogue(Source.read(workspace.source).kind)
        demands.check(known, params)
        found = evaluate(workspace, entry, params, asked(known, entry, params))
        return f"{found.status} in {found.seconds} s - {words(known, found)}"

    return run_variant("evaluate", __doc__, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
