"""Package: the winner's files with its tokenizer, card and manifest; without a passed verdict, the reason why not."""

from __future__ import annotations

import shutil
from pathlib import Path

from tasks.backends.base import Family
from tasks.errors import DataError
from tasks.gates import verdict
from tasks.kinds.table import packing
from tasks.packaging import card, how_to_run, manifest
from tasks.packaging.evidence import evidence
from tasks.records.artifact import Artifact, Package
from tasks.records.base import write_text
from tasks.records.model import ModelProfile
from tasks.records.scores import Recommendation
from tasks.records.verdict import GateReport, Verdict
from tasks.run.disk import fresh_folder, replace_folder, require_disk, size_bytes
from tasks.run.stage import main_of
from tasks.run.workspace import Workspace
from tasks.sources.files import Source

MODEL = "model"
SHOWN = 5  # nearest candidates that are named


def package(workspace: Workspace, report: GateReport, recommendation: Recommendation) -> Package:
    """Write the package's folder whole: the winner, or only a README when no verdict passed.

    Raises DataError when the verdicts are not about these results or the winner's files are not those it was judged
    by, ModelError when one of them can run code, ResourceError when the disk is full.
    """
    if verdict.results_digest(recommendation) != report.results_digest:
        raise DataError(
            f"{workspace.verdicts} is about other results than {workspace.recommendation}; run `dvc repro gate`"
        )
    passed = _passed(report)
    partial = fresh_folder(workspace.package)
    try:
        record = put(workspace, passed, report, recommendation, partial) if passed else _nothing(report, partial)
        replace_folder(partial, workspace.package)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return record


def _passed(report: GateReport) -> Verdict | None:
    """The winner's verdict if it is a pass; nothing else opens the way to a package."""
    mine = next((v for v in report.verdicts if v.variant == report.winner), None)
    return mine if report.outcome == "pass" and mine is not None and mine.outcome == "pass" else None


def _nothing(report: GateReport, out: Path) -> Package:
    verdicts, outcome, reason = {v.variant: v for v in report.verdicts}, report.outcome, report.reason
    if outcome == "pass":
        outcome, reason = "fail", f"the report says pass, but the verdict on its winner {report.winner} does not"
    misses = [(name, verdict.shortfall(verdicts[name])) for name in report.nearest[:SHOWN] if name in verdicts]
    write_text(out / "README.md", card.nothing_passed(reason, misses))
    return Package(status="skipped", reason=reason, variant=None, verdict=outcome)


def put(
    workspace: Workspace, passed: Verdict, report: GateReport, recommendation: Recommendation, out: Path
) -> Package:
    """Write one variant's package to the empty folder `out`, with its verdict as it is; raises as `package` does."""
    artifact = Artifact.read(workspace.artifact_record(passed.variant))
    family = ModelProfile.read(workspace.profile).family
    source = _complete(workspace.artifact_files(artifact.variant), artifact, family)
    require_disk(out, size_bytes(source))
    shutil.copytree(source, out / MODEL)
    packing(Source.read(workspace.source).kind).companions(workspace.model, out)
    found = evidence(workspace, artifact, passed, report, recommendation)
    found.contents.write(out / manifest.CONTENTS)
    write_text(out / "README.md", card.readme(found.contents))
    write_text(out / "CARD.md", card.card(found))
    digest, size = manifest.write_manifest(out), round(size_bytes(out) / 1e6, 2)
    return Package(
        status="ok",
        reason=report.reason,
        variant=passed.variant,
        verdict=passed.outcome,
        size_mb=size,
        manifest_sha256=digest,
    )


def _complete(folder: Path, artifact: Artifact, family: Family) -> Path:
    """The winner's folder, with every file its record and its runtime name."""
    again = f"run `{artifact.command}`"
    if artifact.status != "ok":
        raise DataError(
            f"{artifact.variant} passed, but its conversion is {artifact.status}: {artifact.reason}; {again}"
        )
    needed = {*artifact.files, *how_to_run.needed_files(artifact.recipe.backend, family)}
    absent = sorted(name for name in needed if not (folder / name).is_file())
    if absent:
        raise DataError(f"{folder} lacks {', '.join(absent)}; {again}")
    return folder


def main(argv: list[str] | None = None) -> int:
    """Run the stage."""

    def work() -> None:
        place = Workspace()
        found = package(place, GateReport.read(place.verdicts), Recommendation.read(place.recommendation))
        found.write(place.package_record)
        size = f"{found.variant}, {found.size_mb:.0f} MB in {place.package}" if found.status == "ok" else "no model"
        print(f"package: {size} - {found.reason}")

    return main_of("tasks.package", __doc__, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
