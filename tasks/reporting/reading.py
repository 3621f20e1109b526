"""Everything that scorecard and page show, read from the records of a workspace."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TypeVar

from tasks.backends.table import MODULES
from tasks.kinds.base import DataCard
from tasks.kinds.causal_lm.answers import Answers
from tasks.kinds.causal_lm.files import ANSWERS
from tasks.params.load import EFFECTIVE, TOLD
from tasks.params.pipeline import Params
from tasks.params.settings import Told
from tasks.records.artifact import Artifact, Package
from tasks.records.base import Record
from tasks.records.hardware import Hardware
from tasks.records.model import ModelProfile
from tasks.records.plan import PlanEntry, Selection
from tasks.records.quality import Evaluation
from tasks.records.scores import Recommendation
from tasks.records.speed import Benchmark, Ceiling, Tuned
from tasks.records.targets import TargetVerdicts
from tasks.records.verdict import GateReport
from tasks.reporting.findings import Findings, Scores
from tasks.run.workspace import Workspace

PAGE, README = "index.html", "README.md"

R = TypeVar("R", bound=Record)


def scores(workspace: Workspace) -> Scores:
    """Read what the scorecard needs: recommendation, verdicts, and the variants' records as far as they exist."""
    recommendation = Recommendation.read(workspace.recommendation)
    names, of_targets = [row.variant for row in recommendation.rows], workspace.target_verdicts
    return Scores(
        recommendation=recommendation,
        gates=GateReport.read(workspace.verdicts),
        artifacts=_present(Artifact, names, workspace.artifact_record),
        evaluations=_present(Evaluation, names, workspace.evaluation_record),
        benchmarks=_present(Benchmark, names, workspace.benchmark_record),
        targets=TargetVerdicts.read(of_targets).targets if of_targets.exists() else (),
    )


def findings(workspace: Workspace, params: Params) -> Findings:
    """Read everything the page shows."""
    found, readme = scores(workspace), workspace.package / README
    return Findings(
        scores=found,
        hardware=Hardware.read(workspace.hardware),
        ceiling=Ceiling.read(workspace.ceiling),
        model=ModelProfile.read(workspace.profile),
        selection=Selection.read(workspace.selection),
        plan=_present(PlanEntry, [row.variant for row in found.rows], workspace.plan),
        package=Package.read(workspace.package_record),
        package_readme=readme.read_text(encoding="utf-8") if readme.is_file() else "",
        data=DataCard.read(workspace.data_card),
        tuned=_present(Tuned, MODULES, workspace.tuned),
        answers=_present(Answers, [row.variant for row in found.rows], partial(answers_of, workspace)),
        profile=params.profile,
        gate=params.for_target().gate,
        weights=params.for_target().recommend.weights,
        registered_as=params.registered_name,
        settings=settings(),
    )


def settings() -> str:
    """Say what the parameters of this run were made of; nothing where no run composed them."""
    if not TOLD.exists():
        return ""
    told = Told.read(TOLD)
    said = f"; the command said {'; '.join(told.lines)}" if told.lines else ""
    return f"{EFFECTIVE}, made of {' and '.join(told.files)}{said}"


def _present(kind: type[R], names: Iterable[str], where: Callable[[str], Path]) -> dict[str, R]:
    return {name: kind.read(where(name)) for name in names if where(name).exists()}


def answers_of(workspace: Workspace, variant: str) -> Path:
    """Answers of one variant in words, where its kind gives such."""
    return workspace.evaluation(variant) / ANSWERS
