"""Track: everything a run found into MLflow, once per result, and the winner into the registry.

The one stage that touches the world: it always runs, and does nothing when MLflow knows the results already.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from tasks import config, paths, registry
from tasks.config import Params
from tasks.errors import DataError, RegistryError
from tasks.packaging import manifest
from tasks.records import Artifact, GateReport, Hardware, Outcome, Package, Recommendation, Record, ScoreRow
from tasks.stage import run_stage

RECEIPTS = Path("mlruns/receipts")
KIND, COMPLETE = "edgewright.kind", "edgewright.complete"
REPEAT = "python -m tasks.track"
LONGEST = 5000  # characters of a tag or parameter; MLflow's own limit is near
DVC_LOCK = Path("dvc.lock")


class Tracked(Record):
    """Where the results of a run are in MLflow."""

    digest: str  # over scorecard, verdicts, package and parameters
    tracking_uri: str
    experiment: str
    parent_run_id: str
    model_name: str
    version: str | None  # None: nothing was registered
    reason: str


@dataclass(frozen=True)
class Results:
    """What a pipeline run left behind."""

    params: Params
    report: GateReport
    recommendation: Recommendation
    package: Package

    @property
    def digest(self) -> str:
        """SHA-256 of what was found and under which parameters; the same results give the same digest."""
        parts = (self.report.results_digest, self.package.manifest_sha256, self.params.model_dump(mode="json"))
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def outcomes(self) -> dict[str, str]:
        """Verdict per variant."""
        return {v.variant: v.outcome for v in self.report.verdicts}


def read_results(params: Params) -> Results:
    """Read what the stages before wrote."""
    return Results(
        params=params,
        report=GateReport.read(paths.VERDICTS),
        recommendation=Recommendation.read(paths.RECOMMENDATION),
        package=Package.read(paths.PACKAGE_RECORD),
    )


def track(results: Results, force: bool = False) -> Tracked:
    """Bring the results into MLflow unless they are there, and say where.

    A receipt answers without MLflow; `force` asks MLflow itself. A run that was cut off is removed and done again.
    Raises RegistryError when MLflow cannot be reached; the results stay and the call can be repeated.
    """
    uri = registry.tracking_uri()
    known = None if force else receipt(results.digest, uri)
    if known is not None:
        return known
    with registry.reaching(REPEAT) as client:
        tracked = _ask(client, results) or _record(client, results)
    tracked.write(_receipt_path(results.digest))
    return tracked


def receipt(digest: str, uri: str) -> Tracked | None:
    """What was noted when these results were tracked at `uri`; None when they were not, or the store is gone."""
    path = _receipt_path(digest)
    if not path.is_file():
        return None
    database = registry.database(uri)
    try:
        noted = Tracked.read(path)
    except DataError:
        return None  # MLflow itself will be asked, and the receipt written anew
    gone = database is not None and not database.is_file()
    return None if gone or noted.tracking_uri != registry.shown(uri) else noted


def _receipt_path(digest: str) -> Path:
    return RECEIPTS / f"{digest}.json"


def _ask(client: Any, results: Results) -> Tracked | None:
    """The complete record of these results in MLflow; remains of a run that was cut off are removed."""
    experiment = _experiment(client, results.params.track.experiment)
    runs = client.search_runs([experiment], f"tags.`{registry.DIGEST}` = '{results.digest}'", max_results=1000)
    versions = _versions(client, results)
    parent = next((run for run in runs if run.data.tags.get(COMPLETE) == "true"), None)
    if parent is not None:
        own = next((str(v.version) for v in versions if v.run_id == parent.info.run_id), None)
        return _tracked(results, parent.info.run_id, own)
    for version in versions:
        if not {registry.CHAMPION, registry.PREVIOUS} & set(version.aliases):
            client.delete_model_version(version.name, version.version)
    for model in client.search_logged_models([experiment], f"tags.`{registry.DIGEST}` = '{results.digest}'"):
        if all(model.model_id not in str(v.source) for v in _versions(client, results)):
            client.delete_logged_model(model.model_id)
    for run in runs:
        client.delete_run(run.info.run_id)
    return None


def _versions(client: Any, results: Results) -> list[Any]:
    """Registered versions made from these results, with their aliases."""
    name = results.params.track.model_name
    found = client.search_model_versions(f"name = '{name}' and tags.`{registry.DIGEST}` = '{results.digest}'")
    return [client.get_model_version(name, v.version) for v in found]


def _experiment(client: Any, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        beside = registry.database(registry.tracking_uri())
        location = (beside.parent / "artifacts").resolve().as_uri() if beside else None  # a server decides for itself
        return str(client.create_experiment(name, artifact_location=location))
    if found.lifecycle_stage != "active":
        raise RegistryError(
            f"experiment {name!r} was deleted in MLflow; restore it there, or set track.experiment to another name"
        )
    return str(found.experiment_id)


def _record(client: Any, results: Results) -> Tracked:
    """Write the parent run, a nested run per variant and the winner's model; completeness is tagged last."""
    experiment = _experiment(client, results.params.track.experiment)
    surroundings = _surroundings()
    parent = _create(client, experiment, _title(results), "pipeline", results, surroundings)
    _log_parent(client, parent, results, surroundings)
    for row in results.recommendation.rows:
        log_variant(client, experiment, parent, row, results, surroundings)
    version = _register(client, parent, results)
    client.set_terminated(parent, "FINISHED")
    client.set_tag(parent, COMPLETE, "true")
    return _tracked(results, parent, version)


def _tracked(results: Results, parent: str, version: str | None) -> Tracked:
    name = results.params.track.model_name
    reason = f"{results.package.variant} is {name} version {version}"
    return Tracked(
        digest=results.digest,
        tracking_uri=registry.shown(registry.tracking_uri()),
        experiment=results.params.track.experiment,
        parent_run_id=parent,
        model_name=name,
        version=version,
        reason=reason if version else f"nothing to register: {results.package.reason}",
    )


def _title(results: Results) -> str:
    return f"{results.report.winner or 'no winner'} ({results.params.profile})"


def _surroundings() -> dict[str, str]:
    """Tags of every run: hardware, git commit, digest of dvc.lock."""
    hardware = Hardware.read(paths.HARDWARE)
    tags = {
        "hardware.device": hardware.device,
        "hardware.description": hardware.description,
        "hardware.cpu": str(hardware.cpu_model.value or f"unknown: {hardware.cpu_model.reason}"),
        "hardware.machine_id": str(hardware.machine_id.value or f"unknown: {hardware.machine_id.reason}"),
        "dvc.lock.sha256": manifest.sha256(DVC_LOCK) if DVC_LOCK.is_file() else "no dvc.lock",
        "mlflow.source.name": REPEAT,
        "mlflow.source.type": "LOCAL",
        "mlflow.user": registry.actor(),
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
    own = {registry.DIGEST: results.digest, KIND: kind, registry.RESULTS: results.report.results_digest}
    run = client.create_run(experiment, run_name=name, tags=_cut({**tags, **own}))
    return str(run.info.run_id)


def _log_parent(client: Any, run: str, results: Results, surroundings: Mapping[str, str]) -> None:
    report, params = results.report, results.params.model_dump(mode="json", exclude={"variants", "profiles"})
    judged = list(results.outcomes.values())
    winner = next((row for row in results.recommendation.rows if row.variant == report.winner), None)
    figures = {f"variants/{outcome}": float(judged.count(outcome)) for outcome in get_args(Outcome)}
    figures |= strides(results.recommendation)
    figures |= {f"winner/{name}": value for name, value in (metrics(winner) if winner else {}).items()}
    tags = {
        "gate.outcome": report.outcome,
        "gate.reason": report.reason,
        "winner": report.winner or "none",
        "recommendation": results.recommendation.reason,
        "package.manifest_sha256": results.package.manifest_sha256 or "no package",
    }
    _log(client, run, flat(params), figures, tags)
    client.log_text(run, results.recommendation.model_dump_json(indent=2), "scorecard.json")
    client.log_text(run, reproduction(surroundings.get("mlflow.source.git.commit", "")), "reproduce.md")
    for file in (
        paths.VERDICTS,
        paths.PACKAGE_RECORD,
        paths.HARDWARE,
        config.PARAMS,
        DVC_LOCK,
        paths.PACKAGE / "CARD.md",
    ):
        if file.is_file():
            client.log_artifact(run, str(file))
    if paths.REPORT.is_dir():
        client.log_artifacts(run, str(paths.REPORT), "report")


def log_variant(
    client: Any, experiment: str, parent: str, row: ScoreRow, results: Results, surroundings: Mapping[str, str]
) -> None:
    """One nested run: recipe, metrics, and why there is none where there is none."""
    run = _create(client, experiment, row.variant, "variant", results, {**surroundings, "mlflow.parentRunId": parent})
    record = paths.artifact_record(row.variant)
    made = Artifact.read(record) if record.is_file() else None
    recipe = flat(made.recipe.model_dump(mode="json")) if made else {}
    absent = [f"{name}: {m.state}, {m.reason}" for name, m in row.metrics.items() if m.state != "measured"]
    tags = {
        "status": row.status,
        "reason": row.reason or "measured",
        "role": row.role,
        registry.VARIANT: row.variant,
        registry.VERDICT: results.outcomes.get(row.variant, "not judged"),
        **({"absent": "; ".join(absent)} if absent else {}),
        **{f"version.{name}": version for name, version in (made.versions if made else {}).items()},
    }
    _log(client, run, recipe or {"backend": row.backend, "precision": row.precision}, metrics(row), tags)
    for file in (
        record,
        paths.evaluation_record(row.variant),
        paths.answers(row.variant),
        paths.benchmark_record(row.variant),
        paths.plan(row.variant),
    ):
        if file.is_file():
            client.log_artifact(run, str(file), "plan" if file.parent == paths.PLAN else None)
    client.set_terminated(run, "FAILED" if row.status == "failed" else "FINISHED")


def _log(
    client: Any, run: str, params: Mapping[str, str], figures: Mapping[str, float], tags: Mapping[str, str]
) -> None:
    from mlflow.entities import Metric, Param, RunTag

    at = int(time.time() * 1000)
    client.log_batch(
        run,
        metrics=[Metric(name, value, at, 0) for name, value in figures.items()],
        params=[Param(name, value) for name, value in _cut(params).items()],
        tags=[RunTag(name, value) for name, value in _cut(tags).items()],
    )


def _register(client: Any, parent: str, results: Results) -> str | None:
    """Log and register the package when its verdict is a pass; returns the version."""
    package, report = results.package, results.report
    passed = results.outcomes.get(report.winner or "") == "pass" and report.outcome == "pass"
    if package.status != "ok" or package.verdict != "pass" or package.variant != report.winner or not passed:
        return None
    manifest.verify_manifest(paths.PACKAGE, package.manifest_sha256)
    contents = manifest.Contents.read(paths.PACKAGE / manifest.CONTENTS)
    if contents.results_digest != report.results_digest:
        raise DataError(f"{paths.PACKAGE} was made from other results than {paths.VERDICTS}; run `dvc repro package`")
    tags = {
        registry.DIGEST: results.digest,
        registry.RESULTS: report.results_digest,
        registry.VARIANT: contents.variant,
        registry.VERDICT: "pass",
        registry.MANIFEST: package.manifest_sha256,
    }
    model = registry.log_model(parent, paths.PACKAGE, contents.backend, tags)
    return registry.register(client, results.params.track.model_name, model, parent, tags)


def metrics(row: ScoreRow) -> dict[str, float]:
    """Measured figures of a row, with standard error (`_se`) and count (`_n`) where there are any."""
    found: dict[str, float] = {}
    for name, metric in row.metrics.items():
        if metric.state != "measured" or metric.value is None or not math.isfinite(metric.value):
            continue
        found[name] = metric.value
        found |= {f"{name}_{end}": float(v) for end, v in (("se", metric.se), ("n", metric.n)) if v is not None}
    return found


def strides(recommendation: Recommendation) -> dict[str, float]:
    """Where each framework stands after each step (S7): `progress/BACKEND/STEP/METRIC`, steps numbered in order."""
    return {
        f"progress/{one.backend}/{number}-{stride.step}/{name}": float(value)
        for one in recommendation.progress
        for number, stride in enumerate(one.strides)
        for name, value in stride.model_dump(exclude={"step", "variant", "note"}).items()
        if value is not None
    }


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested values under dotted names, as text.

    >>> flat({"gate": {"min_retention": 0.95}, "profile": "full"})
    {'gate.min_retention': '0.95', 'profile': 'full'}
    """
    found: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return found


def reproduction(commit: str) -> str:
    """How to get these results again, in words and commands."""
    steps: Sequence[str] = (f"git checkout {commit}",) if commit else ()
    commands = "\n".join((*steps, "make repro"))
    return f"""# Reproduce

`params.yaml` and `dvc.lock` of this run lie beside this file; put them in place, then:

```sh
{commands}
```
"""


def _cut(values: Mapping[str, str]) -> dict[str, str]:
    return {name: value if len(value) <= LONGEST else value[: LONGEST - 3] + "..." for name, value in values.items()}


def parser() -> argparse.ArgumentParser:
    """Command line of the stage."""
    made = argparse.ArgumentParser(prog=REPEAT, description=__doc__)
    made.add_argument("--force", action="store_true", help="ask MLflow even when a receipt says it has these results")
    return made


def main(argv: list[str] | None = None) -> int:
    """Run the stage."""
    force = parser().parse_args(argv).force

    def work() -> None:
        tracked = track(read_results(config.load()), force)
        tracked.write(paths.TRACKED)
        print(f"track: run {tracked.parent_run_id} in {tracked.tracking_uri} - {tracked.reason}")

    return run_stage(work)


if __name__ == "__main__":
    raise SystemExit(main())
