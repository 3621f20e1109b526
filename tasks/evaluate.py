"""Evaluate: score one variant's very artifact on the shared token ids against the reference.

Rows and choices are scored in looks: all variants on the first, those that the quality gates cannot judge by then on
the rest. What was scored is kept, so that another limit costs only what it makes undecided.
"""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import config, paths
from tasks.errors import ChildError, DataError
from tasks.measure.child import Child, run_child
from tasks.measure.statistics import LEVEL
from tasks.records import Artifact, Evaluation, PlanEntry
from tasks.stage import command, into_folder, run_variant, settings_of

if TYPE_CHECKING:
    from tasks.measure.choices import Chosen
    from tasks.measure.looks import Limit, Look
    from tasks.measure.quality import Tokens


SLOW_ANSWER = 8  # tokens of the one answer of a runtime that is slow here


def evaluate(entry: PlanEntry, artifact: Artifact, params: config.Params, out: Path) -> Evaluation:
    """Write the folder `out`: figures and per-token arrays, or the reason why there are none."""
    record = paths.evaluation_record(entry.variant).name
    digest = key(entry, params)
    known = _enough(out, digest, _limits(entry, params))
    if known is not None:
        return known

    def work(partial: Path) -> Evaluation:
        found = _without(entry, artifact, params) or _attempt(entry, params, partial)
        return found.model_copy(update={"key": digest})

    return into_folder(out, record, work)


def key(entry: PlanEntry, params: config.Params) -> str:
    """Digest of all that the scores depend on: artifact, rows, tasks, reference, settings, code, not the gates."""
    files = [
        paths.plan(entry.variant),
        paths.artifact_record(entry.variant),
        paths.settings(entry.recipe.backend),
        paths.EVALUATION_SET,
        paths.TASK_SET,
        paths.REFERENCE_TOKENS,
        paths.REFERENCE_CHOICES,
        paths.REFERENCE_ANSWERS,
        paths.CODE / "evaluate.txt",
        paths.CODE / "backends" / f"{entry.recipe.backend}.txt",
    ]
    digest = hashlib.sha256(params.evaluate.model_dump_json().encode())
    for file in files:
        digest.update(file.read_bytes() if file.exists() else b"")
    return digest.hexdigest()


def _enough(out: Path, digest: str, limits: list[Limit]) -> Evaluation | None:
    """The record that is there, when it is of the same scores and more of them would decide nothing."""
    try:
        known = Evaluation.read(out / paths.evaluation_record(out.name).name)
    except DataError:
        return None
    if known.key != digest or known.status == "failed":
        return None
    return known if known.final or known.status != "ok" or not _open(known, limits) else None


def _open(known: Evaluation, limits: list[Limit]) -> tuple[str, ...]:
    """Metrics that the scores of a record do not decide under the gates as they are now."""
    from tasks.measure.choices import TaskAccuracy
    from tasks.measure.looks import undecided
    from tasks.measure.quality import Quality

    values = known.model_dump()
    quality = Quality(**{field.name: values[field.name] for field in dataclasses.fields(Quality)})
    accuracy = TaskAccuracy(**{field.name: values[field.name] for field in dataclasses.fields(TaskAccuracy)})
    return undecided(limits, quality, accuracy if known.choices else None, known.level)


def _limits(entry: PlanEntry, params: config.Params) -> list[Limit]:
    """What the gates ask of a candidate; nothing is asked of others."""
    from tasks.measure.looks import Limit

    if entry.recipe.role != "candidate":
        return []
    gate = params.gate
    limits = (
        Limit("retention", minimum=gate.min_retention),
        Limit("perplexity_ratio", maximum=gate.max_perplexity_ratio),
        Limit("mean_kl", maximum=gate.max_mean_kl),
        Limit("task_retention", minimum=gate.min_task_retention),
    )
    return [limit for limit in limits if limit.minimum is not None or limit.maximum is not None]


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
    if entry.recipe.role == "reference":  # scored by the stage `reference`: the same weights in the same session
        for file in (paths.REFERENCE_TOKENS, paths.REFERENCE_CHOICES, paths.REFERENCE_ANSWERS):
            shutil.copy2(file, partial / file.name)
        return _summary(entry, params, partial, "scored by the stage reference", {"level": LEVEL})
    slow = entry.slow_here
    threads = config.shared_threads()
    request = {
        "backend": entry.recipe.backend,
        "artifact": str(paths.artifact_files(entry.variant)),
        "model": str(paths.MODEL),
        "data": str(paths.DATA),
        "reference": str(paths.REFERENCE),
        "slow": [params.evaluate.slow_rows, params.evaluate.slow_choices] if slow else None,
        "tokens": params.evaluate.slow_tokens if slow else 0,
        "settings": settings_of(entry),
        "answer_tokens": params.evaluate.answer_tokens,
        "limits": [dataclasses.asdict(limit) for limit in _limits(entry, params)],
        "out": str(partial),
        "threads": threads,
    }
    common = {"variant": entry.variant, "command": command("evaluate", entry.variant), "reference": params.reference}
    log = paths.LOGS / f"evaluate-{entry.variant}.log"
    try:
        label = f"evaluate {entry.variant}"
        answer = run_child(Child("tasks.evaluate:score", request, params.evaluate.limits, log, label, threads))
    except ChildError as error:
        return Evaluation(status="failed", reason=f"{error.kind}: {error}", **common)
    return _summary(entry, params, partial, answer.pop("said"), answer)


def _summary(entry: PlanEntry, params: config.Params, folder: Path, reason: str, more: dict[str, Any]) -> Evaluation:
    """Compare with the reference on the same tokens and items."""
    from tasks.measure.answers import Answers, beside
    from tasks.measure.choices import Chosen
    from tasks.measure.quality import Tokens

    tokens, chosen = (
        Tokens.load(folder / paths.REFERENCE_TOKENS.name),
        Chosen.load(folder / paths.REFERENCE_CHOICES.name),
    )
    reference = Tokens.load(paths.REFERENCE_TOKENS)
    quality, accuracy = compare(tokens, chosen, reference, Chosen.load(paths.REFERENCE_CHOICES), more["level"])
    file = folder / paths.REFERENCE_ANSWERS.name
    written = beside(Answers.read(file), Answers.read(paths.REFERENCE_ANSWERS))
    written.write(file)
    return Evaluation(
        variant=entry.variant,
        status="ok",
        reason=reason,
        command=command("evaluate", entry.variant),
        reference=params.reference,
        subset=entry.slow_here,
        answers=len(written.answers),
        answer_similarity=written.similarity,
        answer_similarity_expected=written.similarity_expected,
        **dataclasses.asdict(quality),
        **(dataclasses.asdict(accuracy) if accuracy else {}),
        **more,
    )


def compare(
    tokens: Tokens, chosen: Chosen, reference: Tokens, reference_chosen: Chosen, level: float
) -> tuple[Any, Any]:
    """Quality on running text and, where there are items, accuracy in choosing, of what both scored."""
    from tasks.measure.choices import compare_choices
    from tasks.measure.quality import summarise

    items = len(chosen.answer)
    accuracy = compare_choices(chosen, reference_chosen.first(items), level) if items else None
    return summarise(tokens, reference.like(tokens)), accuracy


def score(request: dict[str, Any]) -> dict[str, Any]:
    """Score rows and items until the gates are decided, and answer the prompts; write it all (in the child)."""
    import numpy as np

    from tasks.backends.base import backend
    from tasks.measure import answers
    from tasks.measure.choices import Chosen, choose
    from tasks.measure.looks import Limit, undecided
    from tasks.measure.quality import Tokens, score_rows
    from tasks.models.task_data import TaskSet
    from tasks.models.text_data import EvaluationSet
    from tasks.models.tokens import decoder

    data, kept, out = Path(request["data"]), Path(request["reference"]), Path(request["out"])
    evaluation, asked = EvaluationSet.read(data / paths.EVALUATION_SET.name), TaskSet.read(data / paths.TASK_SET.name)
    logprobs = np.load(kept / paths.REFERENCE_LOGPROBS.name, mmap_mode="r")
    reference = Tokens.load(kept / paths.REFERENCE_TOKENS.name), Chosen.load(kept / paths.REFERENCE_CHOICES.name)
    limits = [Limit(**limit) for limit in request["limits"]]
    module, artifact = backend(request["backend"]), Path(request["artifact"])
    session = module.load(artifact, request["threads"], "score", request["settings"])
    plan = planned(evaluation, asked, request["slow"])
    rows = [row.ids for row in evaluation.rows]
    tokens, chosen = Tokens.none(), choose(session, ())
    open_: tuple[str, ...] = ()
    for number, look in enumerate(plan):
        tokens = tokens.joined(score_rows(session, rows[: look.rows], logprobs, request["tokens"], tokens.rows))
        chosen = chosen.joined(choose(session, asked.choices[len(chosen.answer) : look.choices]))
        open_ = undecided(limits, *compare(tokens, chosen, *reference, look.level), look.level)
        if not open_:
            break
        if number + 1 < len(plan):
            print(f"look {number + 1} leaves {', '.join(open_)} undecided; scoring more", flush=True)
    runtime = session.runtime()
    session.close()
    tokens.save(out / paths.REFERENCE_TOKENS.name)
    chosen.save(out / paths.REFERENCE_CHOICES.name)
    speaker = module.load(artifact, request["threads"], "generate", request["settings"])
    prompts, tokens_each = asked.open, request["answer_tokens"]
    if request["slow"]:
        prompts, tokens_each = prompts[:1], min(SLOW_ANSWER, tokens_each)
    answers.answer(speaker, prompts, tokens_each, decoder(Path(request["model"]))).write(
        out / paths.REFERENCE_ANSWERS.name
    )
    return {
        "said": _said(plan, number, look, open_, request),
        "looks": number + 1,
        "level": look.level,
        "final": number + 1 == len(plan),
        "runtime": runtime,
    }


def planned(evaluation: Any, asked: Any, slow: Sequence[int] | None) -> list[Look]:
    """The looks of one variant; a runtime that is slow here has one, at few rows and items."""
    from tasks.measure.looks import looks

    total = (len(evaluation.rows), len(asked.choices))
    if slow:
        few = (min(slow[0], total[0]), min(slow[1], total[1]))
        return looks(few, few)
    return looks((min(evaluation.first, total[0]), min(asked.first, total[1])), total)


def _said(plan: Sequence[Look], number: int, look: Look, open_: Sequence[str], request: dict[str, Any]) -> str:
    if request["slow"]:
        return (
            f"scored on the first {request['tokens']} tokens of the first {look.rows} rows: "
            "slow without its accelerator"
        )
    if number + 1 < len(plan):
        return f"decided by {look.rows} rows and {look.choices} choices"
    rest = f", which leave {', '.join(open_)} undecided" if open_ else ""
    return f"scored on all rows{rest}"


def main(argv: list[str] | None = None) -> int:
    """Run the stage."""

    def work(entry: PlanEntry, params: config.Params) -> str:
        artifact = Artifact.read(paths.artifact_record(entry.variant))
        found = evaluate(entry, artifact, params, paths.EVALUATE / entry.variant)
        figures = found.reason
        if found.retention is not None:
            figures = f"perplexity ratio {found.perplexity_ratio:.3f}, retention {found.retention:.1%}"
        if found.task_retention is not None:
            figures += f", {found.task_accuracy:.1%} of {found.choices} choices right"
        return f"{found.status} in {found.seconds} s - {figures}"

    return run_variant("evaluate", __doc__, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
