"""Runs: one for all that was found, a nested one per variant, and the winner's version; each written once."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.errors import DataError
from tasks.packaging import manifest
from tasks.params.load import in_force
from tasks.records.artifact import Artifact
from tasks.records.hardware import Hardware
from tasks.records.scores import ScoreRow
from tasks.registry import aliases, datasets, fields, logged_model, precedence, store, versions
from tasks.registry.experiments import experiment_id
from tasks.registry.receipts import Tracked
from tasks.registry.results import Results
from tasks.registry.tags import COMPLETE, DIGEST, KIND, MANIFEST, RESULTS, VARIANT, VERDICT

REPEAT = "python -m tasks.track"
DVC_LOCK = Path("dvc.lock")


def found(client: Any, results: Results) -> Tracked | None:
    """The complete record of these results in MLflow; remains of a run that was cut off are removed."""
    experiment = experiment_id(client, results.params.track.experiment)
    runs = client.search_runs([experiment], f"tags.`{DIGEST}` = '{results.digest}'", max_results=1000)
    registered = _versions(client, results)
    parent = next((run for run in runs if run.data.tags.get(COMPLETE) == "true"), None)
    if parent is not None:
        own = next((str(v.version) for v in registered if v.run_id == parent.info.run_id), None)
        return _tracked(results, experiment, parent.info.run_id, own)
    for version in registered:
        if not {aliases.CHAMPION, aliases.PREVIOUS} & set(version.aliases):
            client.delete_model_version(version.name, version.version)
    for model in client.search_logged_models([experiment], f"tags.`{DIGEST}` = '{results.digest}'"):
        if all(model.model_id not in str(v.source) for v in _versions(client, results)):
            client.delete_logged_model(model.model_id)
    for run in runs:
        client.delete_run(run.info.run_id)
    return None


def _versions(client: Any, results: Results) -> list[Any]:
    """Registered versions made from these results, with their aliases."""
    name = results.params.registered_name
    versions = client.search_model_versions(f"name = '{name}' and tags.`{DIGEST}` = '{results.digest}'")
    return [client.get_model_version(name, v.version) for v in versions]


def record(client: Any, results: Results) -> Tracked:
    """Write the parent run, a nested run per variant and the winner's model; completeness is tagged last."""
    experiment = experiment_id(client, results.params.track.experiment)
    surroundings = _surroundings(results)
    title = f"{results.report.winner or 'no winner'} ({results.params.profile})"
    parent = _create(client, experiment, title, "pipeline", results, surroundings)
    _log_parent(client, parent, results, surroundings)
    for row in results.recommendation.rows:
        log_variant(client, experiment, row, results, {**surroundings, "mlflow.parentRunId": parent})
    version = _register(client, parent, results)
    client.set_terminated(parent, "FINISHED")
    client.set_tag(parent, COMPLETE, "true")
    return _tracked(results, experiment, parent, version)


def _tracked(results: Results, experiment: str, parent: str, version: str | None) -> Tracked:
    name = results.params.registered_name
    reason = f"{results.package.variant} is {name} version {version}"
    return Tracked(
        digest=results.digest,
        tracking_uri=store.shown(store.tracking_uri()),
        experiment=results.params.track.experiment,
        experiment_id=experiment,
        parent_run_id=parent,
        model_name=name,
        version=version,
        reason=reason if version else f"nothing to register: {results.package.reason}",
    )


def _surroundings(results: Results) -> dict[str, str]:
    """Tags of every run: hardware, git commit, digest of dvc.lock."""
    hardware = Hardware.read(results.workspace.hardware)
    tags = {
        "hardware.device": hardware.device,
        "hardware.description": hardware.description,
        "hardware.cpu": str(hardware.cpu_model.value or f"unknown: {hardware.cpu_model.reason}"),
        "hardware.machine_id": str(hardware.machine_id.value or f"unknown: {hardware.machine_id.reason}"),
        "dvc.lock.sha256": manifest.sha256(DVC_LOCK) if DVC_LOCK.is_file() else "no dvc.lock",
        "mlflow.source.name": REPEAT,
        "mlflow.source.type": "LOCAL",
        "mlflow.user": store.actor(),
    }
    commit = git_commit()
    return tags | {"mlflow.source.git.commit": commit} if commit else tags


def git_commit() -> str:
    """The commit checked out here; empty outside of a repository."""
    try:
        run = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return run.stdout.strip() if run.returncode == 0 else ""


def _create(client: Any, experiment: str, name: str, kind: str, results: Results, tags: Mapping[str, str]) -> str:
    own = {DIGEST: results.digest, KIND: kind, RESULTS: results.report.results_digest}
    run = client.create_run(experiment, run_name=name, tags=fields.cut({**tags, **own}))
    return str(run.info.run_id)


def _log_parent(client: Any, run: str, results: Results, surroundings: Mapping[str, str]) -> None:
    report, workspace = results.report, results.workspace
    tags = {
        "gate.outcome": report.outcome,
        "gate.reason": report.reason,
        "winner": report.winner or "none",
        "recommendation": results.recommendation.reason,
        "package.manifest_sha256": results.package.manifest_sha256 or "no package",
    }
    for one in results.targets:
        said = {"device": one.device, "outcome": one.report.outcome, "winner": one.report.winner or "none"}
        tags |= {f"target.{one.target}.{key}": value for key, value in (said | {"reason": one.report.reason}).items()}
    params = {block: value for block, value in results.told.items() if block not in ("variants", "profiles")}
    _log(client, run, fields.flat(params), fields.figures(results), tags)
    datasets.log_datasets(client, run, results)
    client.log_text(run, results.recommendation.model_dump_json(indent=2), "scorecard.json")
    client.log_text(run, fields.reproduction(surroundings.get("mlflow.source.git.commit", "")), "reproduce.md")
    card = workspace.package / "CARD.md"
    results_of = (workspace.verdicts, workspace.target_verdicts, workspace.package_record, workspace.hardware)
    for file in (*results_of, in_force(), DVC_LOCK, card):
        if file.is_file():
            client.log_artifact(run, str(file))
    if workspace.report.is_dir():
        client.log_artifacts(run, str(workspace.report), "report")


def log_variant(client: Any, experiment: str, row: ScoreRow, results: Results, surroundings: Mapping[str, str]) -> None:
    """Log a nested run: recipe, metrics, and why there is none where there is none."""
    workspace, variant = results.workspace, row.variant
    run = _create(client, experiment, variant, "variant", results, surroundings)
    own = workspace.artifact_record(variant)
    made = Artifact.read(own) if own.is_file() else None
    recipe = fields.flat(made.recipe.model_dump(mode="json")) if made else {}
    _log(
        client, run, recipe or {"backend": row.backend, "precision": row.precision}, fields.metrics(row),
        _variant_tags(row, results, made),
    )  # fmt: skip
    answers = workspace.evaluation(variant) / "answers.json"
    for file in (own, workspace.evaluation_record(variant), answers, workspace.benchmark_record(variant)):
        if file.is_file():
            client.log_artifact(run, str(file))
    if workspace.plan(variant).is_file():
        client.log_artifact(run, str(workspace.plan(variant)), "plan")
    client.set_terminated(run, "FAILED" if row.status == "failed" else "FINISHED")


def placement(results: Results, variant: str) -> dict[str, str]:
    """Where a variant was put, as tags; none where nobody asked."""
    found = results.recommendation.placements.get(variant)
    if found is None:
        return {}
    told = {
        "requested": found.requested, "resolved": found.resolved, "precision": found.precision,
        "threads": found.threads, "isa": found.isa,
        "fallbacks": "; ".join(f"{one.kind}: {one.reason}" for one in found.fallbacks) or "none",
    }  # fmt: skip
    return {f"placement.{name}": value for name, value in told.items() if value}


def _variant_tags(row: ScoreRow, results: Results, made: Artifact | None) -> dict[str, str]:
    absent = [f"{name}: {m.state}, {m.reason}" for name, m in row.metrics.items() if m.state != "measured"]
    return {
        "status": row.status,
        "reason": row.reason or "measured",
        "role": row.role,
        VARIANT: row.variant,
        VERDICT: results.outcomes.get(row.variant, "not judged"),
        **placement(results, row.variant),
        **({"absent": "; ".join(absent)} if absent else {}),
        **{f"version.{name}": version for name, version in (made.versions if made else {}).items()},
    }


def _log(
    client: Any, run: str, params: Mapping[str, str], figures: Mapping[str, float], tags: Mapping[str, str]
) -> None:
    from mlflow.entities import Metric, Param, RunTag

    at = int(time.time() * 1000)
    client.log_batch(
        run,
        metrics=[Metric(name, value, at, 0) for name, value in figures.items()],
        params=[Param(name, value) for name, value in fields.cut(params).items()],
        tags=[RunTag(name, value) for name, value in fields.cut(tags).items()],
    )


def _register(client: Any, parent: str, results: Results) -> str | None:
    """Log and register the package when its verdict is a pass; returns the version."""
    package, report, folder = results.package, results.report, results.workspace.package
    verdict = next((v for v in report.verdicts if v.variant == report.winner and v.outcome == "pass"), None)
    if verdict is None or results.winner is None or report.outcome != "pass":
        return None
    if package.status != "ok" or package.verdict != "pass" or package.variant != report.winner:
        return None
    manifest.verify_manifest(folder, package.manifest_sha256)
    contents = manifest.Contents.read(folder / manifest.CONTENTS)
    if contents.results_digest != report.results_digest:
        raise DataError(
            f"{folder} was made from other results than {results.workspace.verdicts}; run `dvc repro package`"
        )
    tags = {
        DIGEST: results.digest,
        RESULTS: report.results_digest,
        VARIANT: contents.variant,
        VERDICT: "pass",
        MANIFEST: package.manifest_sha256,
        **precedence.to_tags(precedence.strength(results.params.profile, verdict, results.winner)),
    }
    model = logged_model.log_model(parent, folder, contents, tags)
    return versions.register(client, results.params.registered_name, model, parent, tags)
