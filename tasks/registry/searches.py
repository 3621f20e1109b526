"""Searches in MLflow: a run for the search, and a nested one for each candidate that anything is known of."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

from tasks.records.search import Found
from tasks.registry import fields, store
from tasks.registry.experiments import experiment_id
from tasks.registry.tags import KIND


def record(found: Found, experiment: str, model: str) -> str:
    """Write all of it; returns the id of the search's run."""
    with store.reaching("make search") as client:
        number = experiment_id(client, experiment)
        tags = {KIND: "search", "model": model, "best": found.best or "none", "reason": found.reason}
        parent = client.create_run(number, run_name=f"search {found.objective}", tags=fields.cut(tags)).info.run_id
        for key, value in fields.flat(
            {"objective": found.objective, "within_s": found.within_s, "limits": found.limits}
        ).items():
            client.log_param(parent, key, value)
        for point in found.volumes:
            client.log_metric(parent, "volume", point.volume, step=round(point.seconds))
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / "found.json"
            found.write(file)
            client.log_artifact(parent, str(file))
        for one in (trial for trial in found.trials if trial.steps):
            own = {KIND: "trial", "mlflow.parentRunId": parent, "standing": one.standing, "reason": one.reason}
            run = client.create_run(number, run_name=one.name, tags=fields.cut(own)).info.run_id
            for key, value in fields.flat(one.variant).items():
                client.log_param(run, key, value)
            for name, figure in one.figures.items():
                if math.isfinite(figure.value):
                    client.log_metric(run, name, figure.value)
            client.set_terminated(run, "FINISHED" if one.standing != "failed" else "FAILED")
        client.set_terminated(parent, "FINISHED")
    return str(parent)
