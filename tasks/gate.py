"""Judge every variant against the quality gates (S8); --enforce turns the verdict into an exit code for CI."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.errors import EXIT_FAIL, EXIT_INCONCLUSIVE, EXIT_OK, DataError
from tasks.gates import suites, verdict
from tasks.kinds import demands
from tasks.kinds.composing import composed_before
from tasks.kinds.table import catalogue
from tasks.params.load import PARAMS, load_params
from tasks.params.pipeline import Params
from tasks.records.base import write_text
from tasks.records.scores import Recommendation
from tasks.records.targets import Rankings, TargetVerdict, TargetVerdicts
from tasks.records.terms import Outcome
from tasks.records.verdict import GateReport
from tasks.run.disk import fresh_folder, replace_folder
from tasks.run.stage import argument, main_of
from tasks.run.workspace import Workspace

EXIT_CODES: dict[Outcome, int] = {
    "pass": EXIT_OK,
    "fail": EXIT_FAIL,
    "unreachable": EXIT_FAIL,
    "inconclusive": EXIT_INCONCLUSIVE,
}
SUITE_FILE = "suite.json"  # beside the verdicts
SHOWN = 3  # nearest candidates that are printed


def gate(params: Params, recommendation: Recommendation, pages: Path | None = None) -> GateReport:
    """Run the suite over all variants that were made and judge its answers; `pages` receives its data docs."""
    limits = thresholds(params, recommendation)
    answers = suites.validate(limits, verdict.on_trial(recommendation), pages)
    off = demands.switched_off(catalogue(recommendation.kind), params.gate)
    return verdict.report(recommendation, limits, answers, [spec.gate_name for spec in off])


def thresholds(params: Params, recommendation: Recommendation) -> tuple[suites.Threshold, ...]:
    """The gates that are switched on; raises ConfigError for one that this kind of model does not have."""
    known = catalogue(recommendation.kind)
    demands.check(known, params)
    return suites.thresholds(params.gate, known)


def kept(workspace: Workspace, params: Params) -> GateReport:
    """Read the verdicts back; raises DataError when they are absent, broken or not about the present results."""
    found = GateReport.read(workspace.verdicts)
    recommendation = Recommendation.read(workspace.recommendation)
    if found.results_digest != verdict.results_digest(recommendation):
        raise DataError(
            f"{workspace.verdicts} was made from other results than {workspace.recommendation} holds; "
            "run `dvc repro gate`"
        )
    wanted = [(t.gate, t.minimum, t.maximum) for t in thresholds(params.for_target(), recommendation)]
    if any([(e.gate, e.minimum, e.maximum) for e in v.expectations] != wanted for v in found.verdicts):
        raise DataError(f"{workspace.verdicts} was made with other limits than {PARAMS}; run `dvc repro gate`")
    return found


def lines(report: GateReport, shown: int = SHOWN) -> Sequence[str]:
    """The verdict in a line; when nothing passed, a line more for each of the nearest candidates."""
    verdicts = {v.variant: v for v in report.verdicts}
    near = [f"nearest: {name} {verdict.shortfall(verdicts[name])}" for name in report.nearest[:shown]]
    return [f"gate: {report.outcome}: {report.reason}", *near]


def judge(workspace: Workspace, params: Params) -> GateReport:
    """Judge the workspace's results and write suite, verdicts and pages; returns the report of the first target."""
    pages, own = fresh_folder(workspace.data_docs), params.for_target()
    recommendation = Recommendation.read(workspace.recommendation)
    report = gate(own, recommendation, pages)
    write_text(workspace.gate / SUITE_FILE, suites.suite_json(thresholds(own, recommendation)))
    report.write(workspace.verdicts)
    _judge_further(workspace, params, report)
    replace_folder(pages, workspace.data_docs)
    return report


def _judge_further(workspace: Workspace, params: Params, first: GateReport) -> None:
    """Write the verdicts for every target, where there are several; what they win is not packaged yet."""
    workspace.target_verdicts.unlink(missing_ok=True)
    if len(params.named_targets) == 1:
        return
    ranked = {one.target: one.recommendation for one in Rankings.read(workspace.rankings).targets}
    if absent := params.named_targets.keys() - ranked.keys() - {params.first_target}:
        raise DataError(f"{workspace.rankings} lacks {', '.join(sorted(absent))}; run `dvc repro recommend`")
    reports = {name: gate(params.for_target(name), ranked[name]) for name in params.named_targets if name in ranked}
    found = {params.first_target: first} | reports
    named = params.named_targets.items()
    verdicts = tuple(TargetVerdict(target=name, device=one.device, report=found[name]) for name, one in named)
    TargetVerdicts(targets=verdicts).write(workspace.target_verdicts)


ENFORCE = argument(
    "--enforce",
    action="store_true",
    help="judge nothing anew: exit 0 when the verdict is pass, 1 fail, 2 bad input, 3 inconclusive",
)


def main(argv: list[str] | None = None) -> int:
    """Run the stage; the exit code says how it ended."""

    def work(enforce: bool) -> int:
        again = composed_before() if enforce else None  # params.yaml may have changed since
        workspace, params = Workspace(), again.params if again else load_params()
        report = kept(workspace, params) if enforce else judge(workspace, params)
        print("\n".join(lines(report)))
        return EXIT_CODES[report.outcome] if enforce else EXIT_OK

    return main_of("tasks.gate", __doc__, work, argv, ENFORCE)


if __name__ == "__main__":
    raise SystemExit(main())
