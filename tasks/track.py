"""Track: everything about a result into MLflow, once; the winner as a registered version.

It runs every time and adds nothing the second time: results are known by a digest, and a receipt in mlruns/ answers
without asking MLflow. `--force` asks MLflow itself.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks import config, paths, registry
from tasks.errors import RegistryError
from tasks.records import (
    Artifact,
    GateReport,
    Hardware,
    Package,
    Recommendation,
    Record,
    ScoreRow,
    to_jsonable,
)
from tasks.stage import run_stage

RECEIPTS = registry.STORE / "receipts"
DIGEST, COMPLETE = "edgewright.digest", "edgewright.complete"


class Tracked(Record):
    """Where a result went."""

    digest: str
    tracking_uri: str
    experiment: str
    run_id: str
    model_name: str
    version: str | None
    reason: str


class Results(Record):
    """What is tracked."""

    params: dict[str, Any]
    hardware: Hardware
    recommendation: Recommendation
    verdicts: GateReport
    package: Package
    artifacts: tuple[Artifact, ...]


def results(params: config.Params) -> Results:
    """Read the results of the last run."""
    recommendation = Recommendation.read(paths.RECOMMENDATION)
    return Results(
        params=params.model_dump(mode="json"),
        hardware=Hardware.read(paths.HARDWARE),
        recommendation=recommendation,
        verdicts=GateReport.read(paths.VERDICTS),
        package=Package.read(paths.PACKAGE_RECORD),
        artifacts=tuple(Artifact.read(paths.artifact_record(row.variant)) for row in recommendation.rows),
    )


def digest(found: Results) -> str:
    """SHA-256 over verdicts, package and hardware: the same results are the same digest."""
    parts = [found.verdicts.model_dump_json(), found.package.manifest_sha256, found.hardware.model_dump_json()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def track(params: config.Params, force: bool = False) -> Tracked:
    """Log the results unless they are there; raises RegistryError when MLflow does not answer."""
    found = results(params)
    key = digest(found)
    receipt = RECEIPTS / f"{key[:16]}.json"
    if receipt.exists() and not force:
        known = Tracked.read(receipt)
        if (known.digest, known.tracking_uri, known.model_name) == (
            key,
            registry.tracking_uri(),
            params.track.model_name,
        ):
            return known
    with registry.answering("take the results"):
        tracked = _log(found, params, key)
    tracked.write(receipt)
    return tracked


def _log(found: Results, params: config.Params, key: str) -> Tracked:
    mlflow_client = registry.client()
    experiment = _experiment(mlflow_client, params.track.experiment)
    parent = _complete_run(mlflow_client, experiment, key) or _log_runs(mlflow_client, experiment, found, key)
    version = None
    if found.package.status == "ok" and found.verdicts.outcome == "pass":
        version = registry.register(
            params.track.model_name, _model_uri(mlflow_client, experiment, parent), parent, found.verdicts
        )
    return Tracked(
        digest=key,
        tracking_uri=registry.tracking_uri(),
        experiment=params.track.experiment,
        run_id=parent,
        model_name=params.track.model_name,
        version=version,
        reason="registered as candidate" if version else f"nothing registered: {found.package.reason}",
    )


def _experiment(mlflow_client: Any, name: str) -> str:
    known = mlflow_client.get_experiment_by_name(name)
    if known is not None:
        return str(known.experiment_id)
    local = registry.tracking_uri().startswith("sqlite")
    location = (registry.STORE / "artifacts").resolve().as_uri() if local else None
    return str(mlflow_client.create_experiment(name, artifact_location=location))


def _complete_run(mlflow_client: Any, experiment: str, key: str) -> str | None:
    """The run that holds these results; what a killed run left half-done is removed."""
    listed = mlflow_client.search_runs([experiment], f"tags.`{DIGEST}` = '{key}'")
    complete = [run for run in listed if run.data.tags.get(COMPLETE) == "true"]
    for run in listed:
        if run not in complete:
            for child in mlflow_client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"):
                mlflow_client.delete_run(child.info.run_id)
            mlflow_client.delete_run(run.info.run_id)
    return str(complete[0].info.run_id) if complete else None


def _log_runs(mlflow_client: Any, experiment: str, found: Results, key: str) -> str:
    """One parent run, one nested run per variant; the parent is marked complete last."""
    parent = mlflow_client.create_run(experiment, tags={DIGEST: key, **_circumstances(found)}, run_name=_name(found))
    run_id = str(parent.info.run_id)
    by_variant = {artifact.variant: artifact for artifact in found.artifacts}
    for row in found.recommendation.rows:
        _log_variant(mlflow_client, experiment, run_id, row, by_variant[row.variant], found)
    _batch(mlflow_client, run_id, dict(_flat(found.params)), _winner_metrics(found))
    for file in (
        paths.RECOMMENDATION,
        paths.VERDICTS,
        paths.PACKAGE_RECORD,
        paths.HARDWARE,
        Path("params.yaml"),
        Path("dvc.lock"),
    ):
        if file.is_file():
            mlflow_client.log_artifact(run_id, str(file), "results")
    if paths.REPORT.is_dir():
        mlflow_client.log_artifacts(run_id, str(paths.REPORT), "report")
    if found.package.status == "ok":
        _log_model(run_id, found)
    mlflow_client.set_terminated(run_id, "FINISHED")
    mlflow_client.set_tag(run_id, COMPLETE, "true")
    return run_id


def _name(found: Results) -> str:
    return f"{found.hardware.device}: {found.verdicts.winner or found.verdicts.outcome}"


def _circumstances(found: Results) -> dict[str, str]:
    """Tags of the parent: verdict, machine, code."""
    lock = Path("dvc.lock")
    return {
        "edgewright.outcome": found.verdicts.outcome,
        "edgewright.winner": found.verdicts.winner or "none",
        "edgewright.hardware": found.hardware.description,
        "edgewright.dvc_lock_sha256": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else "absent",
        "edgewright.git_commit": _git_commit(),
        "edgewright.reproduce": "dvc repro",
    }


def _git_commit() -> str:
    git = shutil.which("git")
    if git is None:
        return "unknown: git is not installed"
    asked = subprocess.run([git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or "unknown: not a git checkout"


def _log_variant(
    mlflow_client: Any, experiment: str, parent: str, row: ScoreRow, artifact: Artifact, found: Results
) -> None:
    verdict = next((v.outcome for v in found.verdicts.verdicts if v.variant == row.variant), "none")
    tags = {
        "mlflow.parentRunId": parent,
        "edgewright.status": row.status,
        "edgewright.reason": row.reason,
        "edgewright.verdict": verdict,
        "edgewright.role": row.role,
        **{f"version.{name}": version for name, version in artifact.versions.items()},
    }
    run = mlflow_client.create_run(experiment, tags=tags, run_name=row.variant)
    measured = {name: metric.value for name, metric in row.metrics.items() if metric.value is not None}
    errors = {f"{name}_se": metric.se for name, metric in row.metrics.items() if metric.se is not None}
    _batch(mlflow_client, run.info.run_id, dict(_flat(to_jsonable(artifact.recipe))), measured | errors)
    mlflow_client.set_terminated(run.info.run_id, "FINISHED" if row.status != "failed" else "FAILED")


def _winner_metrics(found: Results) -> dict[str, float]:
    rows = {row.variant: row for row in found.recommendation.rows}
    winner = rows.get(found.verdicts.winner or "")
    if winner is None:
        return {}
    return {f"winner_{name}": metric.value for name, metric in winner.metrics.items() if metric.value is not None}


def _batch(mlflow_client: Any, run_id: str, params: dict[str, Any], metrics: dict[str, float]) -> None:
    import time

    from mlflow.entities import Metric, Param

    now = int(time.time() * 1000)
    entries = [Param(key, str(value)[:6000]) for key, value in params.items()]
    for start in range(0, len(entries), 100):  # MLflow takes a hundred parameters at once
        mlflow_client.log_batch(run_id, params=entries[start : start + 100])
    mlflow_client.log_batch(run_id, metrics=[Metric(key, float(value), now, 0) for key, value in metrics.items()])


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _log_model(run_id: str, found: Results) -> None:
    """Log the package as a model that any machine with its runtime can load.

    The model is given as a file of code, not pickled, and its requirements are named, not guessed by running it.
    """
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    about = json.loads((paths.PACKAGE / "package.json").read_text())
    signature = ModelSignature(
        inputs=Schema([ColSpec(DataType.string, "prompt")]),
        outputs=Schema([ColSpec(DataType.string)]),
        params=ParamSchema([ParamSpec("max_new_tokens", DataType.long, 64)]),
    )
    with mlflow.start_run(run_id=run_id):
        mlflow.pyfunc.log_model(
            name="model",
            python_model="tasks/pyfunc.py",
            artifacts={"package": str(paths.PACKAGE)},
            signature=signature,
            code_paths=["tasks"],
            pip_requirements=requirements(about["backend"]),
        )


def requirements(backend: str) -> list[str]:
    """What loading the model needs, in the versions of the lock."""
    from tasks.packaging.how_to_run import PACKAGES

    wanted = {*PACKAGES[backend], "mlflow", "transformers", "numpy", "pandas", "pydantic", "pyyaml"}  # type: ignore[index]
    lines = (line.split(";")[0].strip() for line in Path("requirements.lock").read_text().splitlines())
    pinned = {line.split("==")[0]: line for line in lines if "==" in line}
    return sorted(pinned[name] for name in wanted if name in pinned)


def _model_uri(mlflow_client: Any, experiment: str, run_id: str) -> str:
    for model in mlflow_client.search_logged_models([experiment], filter_string=f"source_run_id = '{run_id}'"):
        return str(model.model_uri)
    raise RegistryError(f"run {run_id} holds no model; `python -m tasks.track --force` logs it again")


def parser() -> argparse.ArgumentParser:
    """Command line of the stage."""
    made = argparse.ArgumentParser(prog="python -m tasks.track", description=__doc__)
    made.add_argument("--force", action="store_true", help="ask MLflow itself instead of trusting the receipt")
    return made


def main(argv: list[str] | None = None) -> int:
    """Run the stage."""
    arguments = parser().parse_args(argv)

    def work() -> None:
        tracked = track(config.load(), arguments.force)
        tracked.write(paths.TRACKED)
        version = f"{tracked.model_name} version {tracked.version}" if tracked.version else tracked.reason
        print(f"tracked in {tracked.tracking_uri}, experiment {tracked.experiment}, run {tracked.run_id}: {version}")

    return run_stage(work)


if __name__ == "__main__":
    raise SystemExit(main())
