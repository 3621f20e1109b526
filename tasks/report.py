"""Report: the scorecard in the terminal or as Markdown, and one self-contained page about the whole run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from tasks import config, paths
from tasks.backends.base import MODULES
from tasks.config import Params
from tasks.disk import fresh_folder, replace_folder
from tasks.measure.answers import Answers
from tasks.models.text_data import DataCard
from tasks.records import (
    Artifact,
    Benchmark,
    Ceiling,
    Evaluation,
    GateReport,
    Hardware,
    ModelProfile,
    Package,
    PlanEntry,
    Recommendation,
    Record,
    Selection,
    Tuned,
)
from tasks.reporting.findings import Findings, Scores
from tasks.reporting.markdown import markdown
from tasks.reporting.page import page
from tasks.reporting.terminal import print_scorecard
from tasks.stage import run_stage

PAGE = paths.REPORT / "index.html"
PACKAGE_README = paths.PACKAGE / "README.md"

R = TypeVar("R", bound=Record)


def report(params: Params, out: Path = paths.REPORT) -> Path:
    """Write the page into the folder `out`, whole or not at all; raises DataError when a record is absent or broken."""
    text = page(findings(params))
    partial = fresh_folder(out)
    (partial / PAGE.name).write_text(text, encoding="utf-8")
    replace_folder(partial, out)
    return out / PAGE.name


def scores() -> Scores:
    """Read what the scorecard needs: recommendation, verdicts, and the variants' records as far as they exist."""
    recommendation = Recommendation.read(paths.RECOMMENDATION)
    names = [row.variant for row in recommendation.rows]
    return Scores(
        recommendation=recommendation,
        gates=GateReport.read(paths.VERDICTS),
        artifacts=_present(Artifact, names, paths.artifact_record),
        evaluations=_present(Evaluation, names, paths.evaluation_record),
        benchmarks=_present(Benchmark, names, paths.benchmark_record),
    )


def findings(params: Params) -> Findings:
    """Read everything the page shows."""
    found = scores()
    return Findings(
        scores=found,
        hardware=Hardware.read(paths.HARDWARE),
        ceiling=Ceiling.read(paths.CEILING),
        model=ModelProfile.read(paths.PROFILE),
        selection=Selection.read(paths.SELECTION),
        plan=_present(PlanEntry, [row.variant for row in found.rows], paths.plan),
        package=Package.read(paths.PACKAGE_RECORD),
        package_readme=PACKAGE_README.read_text(encoding="utf-8") if PACKAGE_README.is_file() else "",
        data=DataCard.read(paths.DATA_CARD),
        tuned=_present(Tuned, MODULES, paths.tuned),
        answers=_present(Answers, [row.variant for row in found.rows], paths.answers),
        profile=params.profile,
        gate=params.gate,
        weights=params.recommend.weights,
        registered_as=params.track.model_name,
    )


def _present(kind: type[R], names: Iterable[str], where: Callable[[str], Path]) -> dict[str, R]:
    return {name: kind.read(where(name)) for name in names if where(name).exists()}


def parser() -> argparse.ArgumentParser:
    """Command line of the stage."""
    made = argparse.ArgumentParser(prog="python -m tasks.report", description=__doc__)
    form = made.add_mutually_exclusive_group()
    form.add_argument("--terminal", action="store_true", help="print the scorecard alone, from the files as they are")
    form.add_argument("--markdown", action="store_true", help="print the scorecard as GitHub-flavoured Markdown")
    made.add_argument("--width", type=int, help="characters a line of the terminal's table may have")
    return made


def main(argv: list[str] | None = None) -> int:
    """Run the stage."""
    arguments = parser().parse_args(argv)

    def work() -> None:
        if arguments.terminal:
            print_scorecard(scores(), arguments.width)
        elif arguments.markdown:
            sys.stdout.write(markdown(scores()))
        else:
            print(f"report: {report(config.load())}")

    return run_stage(work)


if __name__ == "__main__":
    raise SystemExit(main())
