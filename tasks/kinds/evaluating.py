"""Score one variant of a workspace, or find again what was scored before."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tasks.errors import ChildError, DataError
from tasks.hardware import cores
from tasks.kinds.base import Answered, Places, ScoreRequest
from tasks.kinds.table import scoring
from tasks.measure.looks import Limit
from tasks.measure.requests import Opening
from tasks.params.pipeline import Params
from tasks.records.artifact import Artifact
from tasks.records.plan import PlanEntry
from tasks.records.quality import Evaluation
from tasks.run.child import Child, run_child
from tasks.run.memo import Memo, key_of
from tasks.run.stage import command, into_folder, settings_of
from tasks.run.workspace import Workspace
from tasks.sources.files import Source


def evaluate(workspace: Workspace, entry: PlanEntry, params: Params, limits: tuple[Limit, ...]) -> Evaluation:
    """Write the variant's folder: figures and what they stand on, or the reason why there are none.

    `limits` is what the gates ask: more is scored only where what there is leaves one of them open.
    """
    out, record = workspace.evaluation(entry.variant), workspace.evaluation_record(entry.variant).name
    artifact = Artifact.read(workspace.artifact_record(entry.variant))
    bare = without(entry, artifact, params)
    if bare is not None:
        return into_folder(out, record, lambda _: bare)
    kind, memo = Source.read(workspace.source).kind, Memo(workspace.memo)
    digest = key(workspace, entry, params)
    for place in (out, memo.find("evaluate", entry.variant, digest)):
        known = _enough(kind, place, record, digest, limits)
        if known is not None:
            if place != out:
                memo.restore("evaluate", entry.variant, digest, out)
            return known

    def attempt(partial: Path) -> Evaluation:
        return _attempt(workspace, entry, params, partial, limits).model_copy(update={"key": digest})

    found = into_folder(out, record, attempt)
    if found.status == "ok":
        memo.keep("evaluate", entry.variant, digest, out)
    return found


def key(workspace: Workspace, entry: PlanEntry, params: Params) -> str:
    """Digest of all that the scores depend on, the same as dvc.yaml says, but for the gates."""
    variant, settings = entry.variant, params.evaluate.model_dump_json()
    return key_of(
        [settings, entry.recipe.model_dump_json(), str(entry.slow_here), str(settings_of(workspace, entry))],
        [
            workspace.artifact_manifest(variant),
            workspace.data / "evaluation",
            workspace.source,
            *(workspace.reference / name for name in scoring(Source.read(workspace.source).kind).SCORES),
            *workspace.listed("evaluate", entry.recipe.backend),
        ],
    )


def _enough(kind: str, place: Path | None, record: str, digest: str, limits: tuple[Limit, ...]) -> Evaluation | None:
    """The record that is there, when it is of the same scores and more of them would decide nothing."""
    try:
        known = Evaluation.read(place / record) if place is not None else None
    except DataError:
        return None
    if known is None or known.key != digest or known.status == "failed":
        return None
    return known if known.final or not scoring(kind).undecided(known, limits) else None


def _common(entry: PlanEntry, params: Params) -> dict[str, Any]:
    return {"variant": entry.variant, "command": command("evaluate", entry.variant), "reference": params.reference}


def without(entry: PlanEntry, artifact: Artifact, params: Params) -> Evaluation | None:
    """The record of a variant that is not scored, with the reason; None for one that is."""
    if entry.action == "run" and artifact.status == "ok":
        return None
    reason = entry.reason if entry.action != "run" else artifact.reason
    status = "skipped" if entry.action != "run" else artifact.status
    return Evaluation(status=status, reason=reason, **_common(entry, params))


def _attempt(
    workspace: Workspace, entry: PlanEntry, params: Params, partial: Path, limits: tuple[Limit, ...]
) -> Evaluation:
    kind = Source.read(workspace.source).kind
    if entry.recipe.role == "reference":  # answered in the stage `reference`: the same weights in the same session
        for name in scoring(kind).SCORES:
            shutil.copy2(workspace.reference / name, partial / name)
        answered = Answered(words="scored by the stage reference")
    else:
        try:
            answered = _scored(workspace, entry, params, partial, limits)
        except ChildError as error:
            return Evaluation(status="failed", reason=f"{error.kind}: {error}", **_common(entry, params))
    return Evaluation(
        status="ok",
        reason=answered.words,
        subset=entry.slow_here,
        **_common(entry, params),
        **answered.model_dump(exclude={"words"}),
        **scoring(kind).summarise(partial, workspace.reference, answered.level),
    )


def _scored(
    workspace: Workspace, entry: PlanEntry, params: Params, partial: Path, limits: tuple[Limit, ...]
) -> Answered:
    """Score in a child process; raises ChildError."""
    kind, threads, variant = Source.read(workspace.source).kind, cores.shared_threads(), entry.variant
    request = ScoreRequest(
        opening=Opening(
            kind=kind, backend=entry.recipe.backend, artifact=workspace.artifact_files(variant), threads=threads,
            settings=settings_of(workspace, entry),
        ),
        places=Places(model=workspace.model, data=workspace.data, reference=workspace.reference),
        out=partial,
        slow=entry.slow_here,
        limits=limits,
        settings=params.evaluate,
    )  # fmt: skip
    log = workspace.logs / f"evaluate-{variant}.log"
    work = "tasks.kinds.answering:score"
    return run_child(Child(work, request, params.evaluate.limits, log, f"evaluate {variant}", threads), Answered)
