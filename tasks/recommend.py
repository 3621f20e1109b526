"""Join all results into the scorecard, find the Pareto front and rank the candidates for each target (S17)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from tasks.backends.table import MODULES
from tasks.errors import DataError
from tasks.kinds import demands
from tasks.kinds.table import catalogue
from tasks.packaging.manifest import Manifest, findings
from tasks.params.load import load_params
from tasks.params.pipeline import HOST, Params
from tasks.planning.fit import seen
from tasks.records.artifact import Artifact
from tasks.records.base import Record, write_text
from tasks.records.model import ModelProfile
from tasks.records.placement import Placement
from tasks.records.plan import PlanEntry
from tasks.records.quality import Evaluation
from tasks.records.scores import Recommendation, RooflinePosition
from tasks.records.speed import Benchmark, Ceiling, Tuned
from tasks.records.targets import Fit, Fits, Rankings, TargetRanking
from tasks.run.stage import main_of
from tasks.run.workspace import Workspace
from tasks.scores import overview
from tasks.scores.bottleneck import closeness
from tasks.scores.joined import Found, elsewhere, joined
from tasks.sources.files import Source

R = TypeVar("R", bound=Record)


def read(workspace: Workspace, params: Params) -> Found:
    """Read every variant's records; raises DataError when a plan entry or a record is broken."""
    names = tuple(params.variants)
    artifacts = _present(Artifact, names, workspace.artifact_record)
    benchmarks = _present(Benchmark, names, workspace.benchmark_record)
    return Found(
        kind=Source.read(workspace.source).kind,
        plan={name: PlanEntry.read(workspace.plan(name)) for name in names},
        artifacts=artifacts,
        evaluations=_present(Evaluation, names, workspace.evaluation_record),
        benchmarks=benchmarks,
        security={name: security_findings(workspace, name) for name, one in artifacts.items() if one.status == "ok"},
        tuned=_present(Tuned, tuple(MODULES), workspace.tuned),
        closeness=_closeness(workspace, artifacts, benchmarks),
        placements=_present(Placement, names, workspace.placement),
    )


def _closeness(
    workspace: Workspace, artifacts: Mapping[str, Artifact], benchmarks: Mapping[str, Benchmark]
) -> tuple[RooflinePosition, ...]:
    model, ceiling = ModelProfile.read(workspace.profile), Ceiling.read(workspace.ceiling)
    both = [(artifacts[name], one) for name, one in benchmarks.items() if name in artifacts]
    return tuple(found for one in both if (found := closeness(*one, model, ceiling)) is not None)


def recommend(workspace: Workspace, params: Params) -> Recommendation:
    """Rank what the workspace holds for the first target; raises DataError when a record is broken."""
    return next(iter(for_targets(workspace, params).values()))


def for_targets(workspace: Workspace, params: Params) -> dict[str, Recommendation]:
    """A ranking per target, the first one first, from records that are read once."""
    found = read(workspace, params)
    demands.check(catalogue(found.kind), params)
    fits = {fit.target: fit for fit in Fits.read(workspace.fits).targets} if params.targets else {}
    if fits.keys() != params.targets.keys():
        raise DataError(f"{workspace.fits} is about targets {', '.join(fits)}; run `dvc repro assess`")
    return {name: ranked(found, params.for_target(name), fits.get(name)) for name in params.named_targets}


def ranked(found: Found, params: Params, fit: Fit | None) -> Recommendation:
    """Rank for one target: what it takes, by timings only where they are of its device."""
    if fit is None:
        return joined(found, params)
    own = replace(found, plan={name: seen(entry, fit) for name, entry in found.plan.items()})
    return joined(own if fit.device == HOST else elsewhere(own), params)


def security_findings(workspace: Workspace, variant: str) -> list[str]:
    """List what is wrong with the files of one artifact, by the manifest its conversion wrote."""
    listed = workspace.artifact_manifest(variant)
    if listed.exists():
        return findings(workspace.artifact_files(variant), Manifest.read(listed))
    return [f"{listed} is not there, so nobody can tell whether the files are as they were made"]


def _present(kind: type[R], names: tuple[str, ...], where: Callable[[str], Path]) -> dict[str, R]:
    """The records that exist; one that does not is a gap the scorecard names."""
    return {name: kind.read(where(name)) for name in names if where(name).exists()}


def work() -> None:
    """Rank what the workspace holds for each target; figures for DVC are those of the first."""
    workspace, params = Workspace(), load_params()
    (_, first), *others = for_targets(workspace, params).items()
    first.write(workspace.recommendation)
    further = tuple(TargetRanking(target=name, recommendation=found) for name, found in others)
    Rankings(targets=further).write(workspace.rankings)
    known = catalogue(first.kind)
    write_text(workspace.metrics, json.dumps(overview.headline(known, first), indent=2) + "\n")
    write_text(workspace.planes, json.dumps(overview.planes(known, first), indent=2) + "\n")
    print(first.reason, *(f"{name}: {found.reason}" for name, found in others), sep="\n")


def main(argv: list[str] | None = None) -> int:
    """Run the stage."""
    return main_of("tasks.recommend", __doc__, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
