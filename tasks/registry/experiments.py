"""The experiment that runs are logged under: made where there is none, shown by MLflow as runs of models."""

from __future__ import annotations

from typing import Any

from tasks.errors import RegistryError
from tasks.registry import store

KIND_TAG, KIND = "mlflow.experimentKind", "custom_model_development"  # without it MLflow's page may begin with traces
WORKFLOW = "machine_learning"  # the same for pages from MLflow 3.10 on, where the browser's address says it


def experiment_id(client: Any, name: str) -> str:
    """The experiment's id, made where there is none; raises RegistryError when it was deleted."""
    known = client.get_experiment_by_name(name)
    if known is None:
        own = store.artifacts()
        location = own.as_uri() if own else None  # a server decides for itself
        return str(client.create_experiment(name, artifact_location=location, tags={KIND_TAG: KIND}))
    if known.lifecycle_stage != "active":
        raise RegistryError(
            f"experiment {name!r} was deleted in MLflow; restore it there, or set track.experiment to another name"
        )
    if KIND_TAG not in known.tags:
        client.set_experiment_tag(known.experiment_id, KIND_TAG, KIND)
    return str(known.experiment_id)


def page(experiment: str) -> str:
    """Address of an experiment's runs in MLflow's pages, after the server's; "" shows all experiments.

    >>> page("1")
    '/#/experiments/1/runs?workflowType=machine_learning'
    """
    return f"/#/experiments{f'/{experiment}/runs' if experiment else ''}?workflowType={WORKFLOW}"
