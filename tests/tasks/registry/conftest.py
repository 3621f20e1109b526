"""The store that the registry's tests write to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.registry import store
from tests.finished import database
from tests.tasks.registry.shelf import NAME


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An MLflow store with one registered model; every version is about the same results."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database(tmp_path / "store.db"))
    monkeypatch.setenv("EDGEWRIGHT_ACTOR", "ann")
    for name, value in store.SETTINGS.items():
        monkeypatch.setenv(name, value)
    import mlflow

    made = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'store.db'}")
    made.create_registered_model(NAME)
    return made
