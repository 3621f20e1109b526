"""Judge every variant against the quality gates (S8); --enforce turns the verdict into an exit code for CI."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tasks import config, paths
from tasks.config import Params
from tasks.disk import fresh_folder, replace_folder
from tasks.errors import EXIT_FAIL, EXIT_INCONCLUSIVE, EXIT_OK, DataError
from tasks.gates import suites, verdict
from tasks.records import GateReport, Outcome, Recommendation, write_text
from tasks.stage import run_stage

EXIT_CODES: dict[Outcome, int] = {
    "pass": EXIT_OK,
    "fail": EXIT_FAIL,
    "unreachable": EXIT_FAIL,
    "inconclusive": EXIT_INCONCLUSIVE,
}
SUITE_FILE = paths.GATE / "suite.json"
SHOWN = 3  # nearest candidates that are printed


def gate(params: Params, recommendation: Recommendation, pages: Path | None = None) -> GateReport:
    """Run the suite over all variants that were made and judge its answers; `pages` receives its data docs."""
    limits = suites.thresholds(params.gate)
    answers = suites.validate(params.gate, verdict.on_trial(recommendation), pages)
    return verdict.report(recommendation, limits, answers, params.gate.switched_off)


def enforce(params: Params) -> GateReport:
    """Read the verdicts back; raises DataError when they are absent, broken or not about the present results."""
    found = GateReport.read(paths.VERDICTS)
    if found.results_digest != verdict.results_digest(Recommendation.read(paths.RECOMMENDATION)):
        raise DataError(
            f"{paths.VERDICTS} was made from other results than {paths.RECOMMENDATION} holds; run `dvc repro gate`"
        )
    wanted = [(t.gate, t.minimum, t.maximum) for t in suites.thresholds(params.gate)]
    if any([(e.gate, e.minimum, e.maximum) for e in v.expectations] != wanted for v in found.verdicts):
        raise DataError(f"{paths.VERDICTS} was made with other limits than {config.PARAMS}; run `dvc repro gate`")
    return found


def lines(report: GateReport, shown: int = SHOWN) -> Sequence[str]:
    """The verdict in a line; when nothing passed, a line more for each of the nearest candidates."""
    verdicts = {v.variant: v for v in report.verdicts}
    near = [f"nearest: {name} {verdict.shortfall(verdicts[name])}" for name in report.nearest[:shown]]
    return [f"gate: {report.outcome}: {report.reason}", *near]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m tasks.gate", description=__doc__)
    made.add_argument(
        "--enforce",
        action="store_true",
        help="judge nothing anew: exit 0 when the verdict is pass, 1 fail, 2 bad input, 3 inconclusive",
    )
    return made


def main(argv: list[str] | None = None) -> int:
    """Run the stage; the exit code says how it ended."""
    arguments = parser().parse_args(argv)

    def work() -> int:
        params = config.load()
        if arguments.enforce:
            report = enforce(params)
            print("\n".join(lines(report)))
            return EXIT_CODES[report.outcome]
        recommendation = Recommendation.read(paths.RECOMMENDATION)
        pages = fresh_folder(paths.DATA_DOCS)
        report = gate(params, recommendation, pages)
        write_text(SUITE_FILE, suites.suite_json(params.gate))
        report.write(paths.VERDICTS)
        replace_folder(pages, paths.DATA_DOCS)
        print("\n".join(lines(report)))
        return EXIT_OK

    return run_stage(work)


if __name__ == "__main__":
    raise SystemExit(main())
