"""Convert: make one variant's artifact in a child process and check that it is what it claims."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TypeVar

from tasks.errors import ChildError
from tasks.hardware import cores
from tasks.kinds.base import Checked, CheckRequest, Places
from tasks.kinds.making import Made, MakeRequest
from tasks.measure.requests import Opening
from tasks.packaging.manifest import listing
from tasks.params.pipeline import Params
from tasks.records.artifact import Artifact
from tasks.records.base import Record
from tasks.records.plan import PlanEntry
from tasks.records.terms import Status
from tasks.run.child import Child, run_child
from tasks.run.disk import require_disk, size_bytes
from tasks.run.stage import command, into_folder, run_variant
from tasks.run.workspace import Workspace
from tasks.sources.files import Source

# numpy's OpenBLAS 0.3.31 with two threads was seen to wait for ever within NNCF's AWQ.
ONE_BLAS_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
DISK_FACTOR = 3.0  # export, intermediate and result stand side by side for a while

A = TypeVar("A", bound=Record)


def convert(workspace: Workspace, entry: PlanEntry, params: Params) -> Artifact:
    """Write the variant's folder: its files and record, or the reason why there are none."""
    files = workspace.artifact_files(entry.variant).name

    def make(partial: Path) -> Artifact:
        artifact = _skipped(workspace, entry) or _attempt(workspace, entry, params, partial)
        if artifact.status != "ok":
            shutil.rmtree(partial / files, ignore_errors=True)
        return artifact

    return into_folder(workspace.artifact(entry.variant), workspace.artifact_record("").name, make)


def _skipped(workspace: Workspace, entry: PlanEntry) -> Artifact | None:
    if entry.action == "skip":
        return _without(entry, "skipped", entry.reason)
    if entry.source != "model":
        base = Artifact.read(workspace.artifact_record(entry.source.removeprefix("variants/")))
        if base.status != "ok":
            return _without(entry, "skipped", f"made from {base.variant}, which was {base.status}: {base.reason}")
    return None


def _without(entry: PlanEntry, status: Status, reason: str) -> Artifact:
    common = {"variant": entry.variant, "command": command("convert", entry.variant), "recipe": entry.recipe}
    return Artifact.model_validate(common | {"status": status, "reason": reason})


def _attempt(workspace: Workspace, entry: PlanEntry, params: Params, partial: Path) -> Artifact:
    require_disk(partial, int(DISK_FACTOR * size_bytes(workspace.model)))
    files = partial / workspace.artifact_files("").name
    try:
        checked = _made(workspace, entry, params, files)
    except ChildError as error:
        return _without(entry, "failed", f"{error.kind}: {error}")
    if not checked.problem:
        listing(files).write(partial / workspace.artifact_manifest(entry.variant).name)
    return Artifact(
        variant=entry.variant,
        status="failed" if checked.problem else "ok",
        reason=checked.problem or "made and checked",
        command=command("convert", entry.variant),
        recipe=entry.recipe,
        size_mb=round(size_bytes(files) / 1e6, 2),
        files=tuple(sorted(str(file.relative_to(files)) for file in files.rglob("*") if file.is_file())),
        check=checked.check,
        versions=checked.versions,
    )


def _made(workspace: Workspace, entry: PlanEntry, params: Params, files: Path) -> Checked:
    """Convert into `files` and check in a fresh process; raises ChildError."""
    kind, threads, settings = Source.read(workspace.source).kind, cores.shared_threads(), params.convert

    def child(step: str, request: Record, answer: type[A]) -> A:
        log, label = workspace.logs / f"convert-{entry.variant}-{step}.log", f"{step} {entry.variant}"
        work = f"tasks.kinds.making:{step}"
        job = Child(work, request, settings.limits, log, label, threads, environment=ONE_BLAS_THREAD)
        return run_child(job, answer)

    base = None if entry.source == "model" else workspace.artifact_files(entry.source.removeprefix("variants/"))
    make = MakeRequest(
        kind=kind, recipe=entry.recipe, model=workspace.model, data=workspace.data, intermediate=base, out=files,
        threads=threads,
    )  # fmt: skip
    check = CheckRequest(
        opening=Opening(kind=kind, backend=entry.recipe.backend, artifact=files, threads=threads),
        places=Places(model=workspace.model, data=workspace.data, reference=workspace.reference),
        precision=entry.recipe.precision,
        mixed=entry.recipe.pace > 0,
        transformed=entry.recipe.transforms,
        units=settings.slow_probe_tokens if entry.slow_here else 0,
        settings=settings,
    )
    child("make", make, Made)
    return child("check", check, Checked)


def main(argv: list[str] | None = None) -> int:
    """Run the stage."""

    def work(workspace: Workspace, entry: PlanEntry, params: Params) -> str:
        artifact = convert(workspace, entry, params)
        return f"{artifact.status}, {artifact.size_mb or 0:.0f} MB in {artifact.seconds} s - {artifact.reason}"

    return run_variant("convert", __doc__, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
