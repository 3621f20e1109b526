"""Evaluate: score one variant's very artifact on the shared token ids against the reference."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import config, paths
from tasks.errors import ChildError
from tasks.measure.child import Child, run_child
from tasks.records import Artifact, Evaluation, PlanEntry
from tasks.stage import command, into_folder, run_variant

if TYPE_CHECKING:
    from tasks.measure.quality import Tokens


def evaluate(entry: PlanEntry, artifact: Artifact, params: config.Params, out: Path) -> Evaluation:
    """Write the folder `out`: figures and per-token arrays, or the reason why there are none."""
    record = paths.evaluation_record(entry.variant).name
    return into_folder(
        out, record, lambda partial: _without(entry, artifact, params) or _attempt(entry, params, partial)
    )


def _without(entry: PlanEntry, artifact: Artifact, params: config.Params) -> Evaluation | None:
    if entry.action == "run" and artifact.status == "ok":
        return None
    reason = entry.reason if entry.action != "run" else artifact.reason
    status = "skipped" if entry.action != "run" else artifact.status
    return Evaluation(
        variant=entry.variant,
        status=status,
        reason=reason,
        command=command("evaluate", entry.variant),
        reference=params.reference,
    )


def _attempt(entry: PlanEntry, params: config.Params, partial: Path) -> Evaluation:
    from tasks.measure.quality import Tokens

    if entry.recipe.role == "reference":  # scored by the stage `reference`: the same weights in the same session
        shutil.copy2(paths.REFERENCE_TOKENS, partial / paths.REFERENCE_TOKENS.name)
        return _summary(entry, params, Tokens.load(paths.REFERENCE_TOKENS), "scored by the stage reference", {})
    slow = params.evaluate if entry.slow_here else None
    rows, length = (slow.slow_rows, slow.slow_tokens) if slow else (0, 0)
    threads = config.shared_threads()
    request = {
        "backend": entry.recipe.backend,
        "artifact": str(paths.artifact_files(entry.variant)),
        "data": str(paths.DATA),
        "reference": str(paths.REFERENCE),
        "rows": rows,
        "tokens": length,
        "out": str(partial / paths.REFERENCE_TOKENS.name),
        "threads": threads,
    }
    common = {"variant": entry.variant, "command": command("evaluate", entry.variant), "reference": params.reference}
    log = paths.LOGS / f"evaluate-{entry.variant}.log"
    try:
        label = f"evaluate {entry.variant}"
        answer = run_child(Child("tasks.evaluate:score", request, params.evaluate.limits, log, label, threads))
    except ChildError as error:
        return Evaluation(status="failed", reason=f"{error.kind}: {error}", **common)
    tokens = Tokens.load(partial / paths.REFERENCE_TOKENS.name)
    reason = "scored on all rows"
    if slow:
        reason = f"scored on the first {length} tokens of the first {rows} rows: slow without its accelerator"
    return _summary(entry, params, tokens, reason, answer["runtime"])


def _summary(
    entry: PlanEntry, params: config.Params, tokens: Tokens, reason: str, runtime: dict[str, str]
) -> Evaluation:
    """Compare with the reference on the same tokens."""
    from tasks.measure.quality import Tokens, summarise

    reference = Tokens.load(paths.REFERENCE_TOKENS)
    return Evaluation(
        variant=entry.variant,
        status="ok",
        reason=reason,
        command=command("evaluate", entry.variant),
        reference=params.reference,
        subset=len(tokens.nll) < len(reference.nll),
        runtime=runtime,
        **dataclasses.asdict(summarise(tokens, reference.like(tokens))),
    )


def score(request: dict[str, Any]) -> dict[str, Any]:
    """Score the rows and write per-token arrays (in the child)."""
    import numpy as np

    from tasks.backends.base import backend
    from tasks.measure.quality import score_rows
    from tasks.models.text_data import EvaluationSet

    rows = EvaluationSet.read(Path(request["data"]) / paths.EVALUATION_SET.name).rows
    rows = rows[: request["rows"] or len(rows)]
    reference = np.load(Path(request["reference"]) / paths.REFERENCE_LOGPROBS.name, mmap_mode="r")
    session = backend(request["backend"]).load(Path(request["artifact"]), request["threads"], "score")
    scored = score_rows(session, [row.ids for row in rows], reference, request["tokens"])
    scored.save(Path(request["out"]))
    return {"rows": len(rows), "runtime": session.runtime()}


def main(argv: list[str] | None = None) -> int:
    """Run the stage."""

    def work(entry: PlanEntry, params: config.Params) -> str:
        artifact = Artifact.read(paths.artifact_record(entry.variant))
        found = evaluate(entry, artifact, params, paths.EVALUATE / entry.variant)
        figures = found.reason
        if found.retention is not None:
            figures = f"perplexity ratio {found.perplexity_ratio:.3f}, retention {found.retention:.1%}"
        return f"{found.status} in {found.seconds} s - {figures}"

    return run_variant("evaluate", __doc__, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
