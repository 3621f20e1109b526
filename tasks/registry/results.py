"""What a pipeline run left behind, as one value with one digest."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from tasks.kinds.demands import spelt_out
from tasks.kinds.table import catalogue
from tasks.params.pipeline import Params
from tasks.records.artifact import Package
from tasks.records.scores import Recommendation, ScoreRow
from tasks.records.targets import TargetVerdict, TargetVerdicts
from tasks.records.verdict import GateReport
from tasks.run.workspace import Workspace


@dataclass(frozen=True)
class Results:
    """The records that a run ends with, and the folder that holds what they speak of."""

    params: Params
    report: GateReport
    recommendation: Recommendation
    package: Package
    workspace: Workspace
    targets: tuple[TargetVerdict, ...] = ()  # verdicts for each, where there are several

    @classmethod
    def read(cls, workspace: Workspace, params: Params) -> Results:
        """Read what the stages before wrote; raises DataError for what is absent."""
        several = workspace.target_verdicts
        return cls(
            params=params,
            report=GateReport.read(workspace.verdicts),
            recommendation=Recommendation.read(workspace.recommendation),
            package=Package.read(workspace.package_record),
            workspace=workspace,
            targets=TargetVerdicts.read(several).targets if several.exists() else (),
        )

    @property
    def told(self) -> dict[str, Any]:
        """Parameters as plain values, with the gates' defaults spelt out."""
        return spelt_out(catalogue(self.recommendation.kind), self.params)

    @property
    def digest(self) -> str:
        """SHA-256 of what was found and under which parameters; the same results give the same digest."""
        parts = (self.report.results_digest, self.package.manifest_sha256, self.told)
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def outcomes(self) -> dict[str, str]:
        """Verdict per variant."""
        return {v.variant: v.outcome for v in self.report.verdicts}

    @property
    def winner(self) -> ScoreRow | None:
        """The winner's row of the scorecard."""
        return next((row for row in self.recommendation.rows if row.variant == self.report.winner), None)
