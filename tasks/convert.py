"""Convert: make one variant's artifact in a child process and check that it is what it claims."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tasks import config, paths
from tasks.disk import require_disk, size_bytes
from tasks.errors import ChildError
from tasks.measure.child import Child, run_child
from tasks.models import sanity
from tasks.packaging.manifest import listing
from tasks.records import Artifact, Check, PlanEntry, Recipe
from tasks.stage import command, into_folder, run_variant

FILES = paths.artifact_files("").name
NEW_TOKENS = 16
# numpy's OpenBLAS 0.3.31 with two threads was seen to wait for ever within NNCF's AWQ.
ONE_BLAS_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
DISK_FACTOR = 3.0  # export, intermediate and result stand side by side for a while


def convert(entry: PlanEntry, params: config.Params, out: Path) -> Artifact:
    """Write the variant's folder `out`: its files and record, or the reason why there are none."""

    def make(partial: Path) -> Artifact:
        artifact = _skipped(entry) or _attempt(entry, params, partial)
        if artifact.status != "ok":
            shutil.rmtree(partial / FILES, ignore_errors=True)
        return artifact

    return into_folder(out, paths.artifact_record(entry.variant).name, make)


def _skipped(entry: PlanEntry) -> Artifact | None:
    if entry.action == "skip":
        return _without(entry, "skipped", entry.reason)
    if entry.source != "model":
        base = Artifact.read(paths.artifact_record(entry.source.removeprefix("variants/")))
        if base.status != "ok":
            return _without(entry, "skipped", f"made from {base.variant}, which was {base.status}: {base.reason}")
    return None


def _without(entry: PlanEntry, status: Any, reason: str) -> Artifact:
    repeat = command("convert", entry.variant)
    return Artifact(variant=entry.variant, status=status, reason=reason, command=repeat, recipe=entry.recipe)


def _attempt(entry: PlanEntry, params: config.Params, partial: Path) -> Artifact:
    require_disk(partial, int(DISK_FACTOR * size_bytes(paths.MODEL)))
    threads, files = config.shared_threads(), partial / FILES
    request = {
        "backend": entry.recipe.backend,
        "recipe": entry.recipe.model_dump(mode="json"),
        "model": str(paths.MODEL),
        "data": str(paths.DATA),
        "reference": str(paths.REFERENCE),
        "intermediate": None
        if entry.source == "model"
        else str(paths.artifact_files(entry.source.removeprefix("variants/"))),
        "out": str(files),
        "threads": threads,
        "probe_tokens": params.convert.slow_probe_tokens if entry.slow_here else params.convert.probe_tokens,
    }
    try:
        for step in ("make", "check"):
            log = paths.LOGS / f"convert-{entry.variant}-{step}.log"
            label = f"{step} {entry.variant}"
            work = Child(
                f"tasks.convert:{step}",
                request,
                params.convert.limits,
                log,
                label,
                threads,
                environment=ONE_BLAS_THREAD,
            )
            answer = run_child(work)
    except ChildError as error:
        return _without(entry, "failed", f"{error.kind}: {error}")
    check = Check(
        **answer["check"],
        kl_limit=params.convert.max_kl[entry.recipe.precision],
        precision_found=sanity.describe(answer["check"]["tensor_share"]),
    )
    problem = sanity.problem(check, entry.recipe.precision)
    if not problem:
        listing(files).write(partial / paths.artifact_manifest(entry.variant).name)
    return Artifact(
        variant=entry.variant,
        status="failed" if problem else "ok",
        reason=f"sanity check: {problem}" if problem else "made and checked",
        command=command("convert", entry.variant),
        recipe=entry.recipe,
        size_mb=round(size_bytes(files) / 1e6, 2),
        files=tuple(sorted(str(file.relative_to(files)) for file in files.rglob("*") if file.is_file())),
        check=check,
        versions=answer["versions"],
    )


def make(request: dict[str, Any]) -> dict[str, Any]:
    """Convert (in the child)."""
    from tasks.backends.base import Work, backend
    from tasks.models.text_data import CalibrationSet

    work = Work(
        model=Path(request["model"]).resolve(),
        calibration=CalibrationSet.read(Path(request["data"]) / paths.CALIBRATION_SET.name).texts,
        threads=request["threads"],
        intermediate=Path(request["intermediate"]).resolve() if request["intermediate"] else None,
    )
    out = Path(request["out"]).resolve()
    out.mkdir(parents=True)
    backend(request["backend"]).convert(work, Recipe.model_validate(request["recipe"]), out)
    return {}


def check(request: dict[str, Any]) -> dict[str, Any]:
    """Load the artifact in a fresh process, run one forward and one short answer (in the child)."""
    import numpy as np

    from tasks.backends.base import backend
    from tasks.measure.quality import score_row
    from tasks.models.text_data import Probe
    from tasks.models.tokens import decoder

    module, artifact = backend(request["backend"]), Path(request["out"])
    probe = Probe.read(Path(request["data"]) / paths.PROBE.name)
    scorer = module.load(artifact, request["threads"], "score")
    expected = np.load(Path(request["reference"]) / paths.REFERENCE_PROBE.name)
    ids = probe.ids[: request["probe_tokens"]]
    scored = score_row(scorer.score(ids), np.array(ids), expected[: len(ids) - 1])
    scorer.close()
    speaker = module.load(artifact, request["threads"], "generate")
    text = decoder(Path(request["model"]))(speaker.generate(probe.question_ids, NEW_TOKENS))
    speaker.close()
    found = {
        "mean_kl": float(scored.kl.mean()),
        "top_agreement": float(scored.agree.mean()),
        "probe_tokens": len(ids),
        "text": text,
        "tensor_share": sanity.weight_share(module.tensor_bytes(artifact)),
    }
    return {"check": found, "versions": module.versions()}


def main(argv: list[str] | None = None) -> int:
    """Run the stage."""

    def work(entry: PlanEntry, params: config.Params) -> str:
        artifact = convert(entry, params, paths.artifact(entry.variant))
        size = f", {artifact.size_mb:.0f} MB" if artifact.size_mb else ""
        return f"{artifact.status}{size} in {artifact.seconds} s - {artifact.reason}"

    return run_variant("convert", __doc__, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
