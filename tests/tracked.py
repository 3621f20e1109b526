"""A finished run with its package and an MLflow store of its own in the current folder, for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tasks import package as packaging
from tasks.kinds.table import predicting
from tasks.packaging.manifest import Contents
from tasks.packaging.opening import packed
from tasks.params.load import load_params
from tasks.params.pipeline import Params
from tasks.records.scores import Recommendation
from tasks.records.verdict import GateReport
from tasks.registry import logged_model, store
from tasks.registry.results import Results
from tasks.registry.tags import KIND
from tasks.run.workspace import Workspace
from tests.finished import database, finished

SPACE = Workspace()
ECHO = """
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

class Echo(PythonModel):
    def predict(self, context, model_input, params=None):
        return list(model_input["prompt"])

set_model(Echo())
"""


def project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Enter an empty project with an empty store at the default place, named in full: MLflow keeps stores by name."""
    monkeypatch.chdir(folder)
    for name, value in (store.SETTINGS | {"EDGEWRIGHT_ACTOR": "ann"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database(folder / "mlruns/mlflow.db"))


def packaged(**changes: Any) -> Results:
    """A finished run with its package."""
    finished(**changes)
    return repackaged(load_params())


def repackaged(params: Params) -> Results:
    """The same with the package made anew."""
    report, recommendation = GateReport.read(SPACE.verdicts), Recommendation.read(SPACE.recommendation)
    packaging.package(SPACE, report, recommendation).write(SPACE.package_record)
    return Results.read(SPACE, params)


def echo(run_id: str, package: Path, contents: Contents, tags: Mapping[str, str]) -> str:
    """Log a model of a few bytes instead of the package; everything else is MLflow's."""
    import mlflow

    Path("echo.py").write_text(ECHO)
    with mlflow.start_run(run_id=run_id):
        info = mlflow.pyfunc.log_model(
            name="model", python_model="echo.py",
            signature=logged_model.signature(predicting(contents.kind).signature(package, packed(contents))),
            pip_requirements=[], tags=dict(tags),
        )  # fmt: skip
    return str(info.model_id)


def client() -> Any:
    """MLflow's own client of the store."""
    import mlflow

    mlflow.set_tracking_uri(store.tracking_uri())
    return mlflow.MlflowClient()


def everything() -> tuple[list[Any], list[Any], list[Any]]:
    """Active parent runs, active variant runs and versions."""
    own = client()
    runs = own.search_runs([own.get_experiment_by_name("edgewright").experiment_id])
    parents = [run for run in runs if run.data.tags[KIND] == "pipeline"]
    return parents, [run for run in runs if run not in parents], own.search_model_versions()
