"""Everything a report is made from: the records of one run, as the stages wrote them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tasks.kinds.base import DataCard
from tasks.kinds.catalogue import Catalogue
from tasks.kinds.causal_lm.answers import Answers
from tasks.kinds.table import catalogue
from tasks.params.pipeline import Gates
from tasks.records.artifact import Artifact, Package
from tasks.records.hardware import Hardware
from tasks.records.model import ModelProfile
from tasks.records.plan import PlanEntry, Selection
from tasks.records.quality import Evaluation
from tasks.records.scores import Metric, Recommendation, ScoreRow
from tasks.records.speed import Benchmark, Ceiling, Tuned
from tasks.records.targets import TargetVerdict
from tasks.records.verdict import Expectation, GateReport, Verdict

ABSENT = Metric(state="missing", reason="not in the scorecard")


class Failure(NamedTuple):
    """One stage that failed for one variant, and the command that repeats it."""

    variant: str
    stage: str
    reason: str
    command: str


@dataclass(frozen=True)
class Scores:
    """Everything the scorecard shows: results per variant, verdicts, and the records behind them where there are."""

    recommendation: Recommendation
    gates: GateReport
    artifacts: Mapping[str, Artifact]
    evaluations: Mapping[str, Evaluation]
    benchmarks: Mapping[str, Benchmark]
    targets: tuple[TargetVerdict, ...] = ()  # verdicts for each, the first one's too, where there are several

    @property
    def rows(self) -> tuple[ScoreRow, ...]:
        """The scorecard's rows, in the order of the plan."""
        return self.recommendation.rows

    @property
    def reference(self) -> str:
        """Name of the variant everything is compared with."""
        return self.recommendation.reference

    @property
    def winner(self) -> ScoreRow | None:
        """The row that won, if one passed."""
        return next((row for row in self.rows if row.variant == self.gates.winner), None)

    @property
    def known(self) -> Catalogue:
        """The metrics of this kind of model."""
        return catalogue(self.recommendation.kind)

    def row(self, variant: str) -> ScoreRow | None:
        """The row of one variant."""
        return next((row for row in self.rows if row.variant == variant), None)

    def verdict(self, variant: str) -> Verdict | None:
        """The verdict on one variant; skipped ones have none."""
        return next((verdict for verdict in self.gates.verdicts if verdict.variant == variant), None)

    def failures(self) -> Iterator[Failure]:
        """The first stage that failed for each variant."""
        for row in self.rows:
            stages = (("convert", self.artifacts), ("evaluate", self.evaluations), ("benchmark", self.benchmarks))
            for stage, records in stages:
                record = records.get(row.variant)
                if record is not None and record.status == "failed":
                    yield Failure(row.variant, stage, record.reason, record.command)
                    break


@dataclass(frozen=True)
class Findings:
    """All of a run, for the page."""

    scores: Scores
    hardware: Hardware
    ceiling: Ceiling
    model: ModelProfile
    selection: Selection
    plan: Mapping[str, PlanEntry]
    package: Package
    package_readme: str  # empty when nothing was packaged
    data: DataCard
    tuned: Mapping[str, Tuned]  # per backend
    answers: Mapping[str, Answers]  # to the prompts of the tasks, per variant
    profile: str
    gate: Gates
    weights: Mapping[str, float]
    registered_as: str
    settings: str = ""  # what the parameters were made of


def metric(row: ScoreRow | None, name: str) -> Metric:
    """One cell of a row; a metric the row does not have is missing."""
    return row.metrics.get(name, ABSENT) if row is not None else ABSENT


def value(row: ScoreRow | None, name: str) -> float | None:
    """The measured value of one metric, or None."""
    found = metric(row, name)
    return found.value if found.state == "measured" else None


def bound_of(expectation: Expectation) -> float | None:
    """The one limit of an expectation, be it a minimum or a maximum."""
    return expectation.minimum if expectation.minimum is not None else expectation.maximum
