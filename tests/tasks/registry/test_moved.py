"""A copied checkout serves its own files and writes into its own folder, also when the first one is gone."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from tasks.errors import RegistryError
from tasks.packaging.manifest import verify_manifest
from tasks.params.load import load_params
from tasks.registry import logged_model, moved, store
from tasks.registry.aliases import CHAMPION
from tasks.registry.moved import bring_home
from tasks.registry.versions import located, promote
from tasks.track import track
from tests.finished import finished
from tests.tracked import client, echo, everything, packaged, project, repackaged


def champion(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A checkout with a champion; returns its registered name."""
    folder.mkdir()
    project(folder, monkeypatch)
    results = packaged()
    tracked = track(results)
    promote(tracked.model_name, tracked.version, results.report, "ann", "passed")
    return tracked.model_name


def enter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlruns/mlflow.db'}")


@pytest.mark.slow
@pytest.mark.parametrize("kept", [True, False], ids=["copied", "moved"])
def test_another_folder_serves_its_own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool) -> None:
    first, second = tmp_path / "a", tmp_path / "b with a space"
    name = champion(first, monkeypatch)
    shutil.copytree(first, second)
    if not kept:
        shutil.rmtree(first)
    enter(second, monkeypatch)
    found = located(name, CHAMPION)
    assert found.package.resolve().is_relative_to(second)
    assert verify_manifest(found.package, found.manifest_sha256) == found.manifest_sha256
    parents, variants, _ = everything()
    assert {"scorecard.json", "verdicts.json"} <= {one.path for one in client().list_artifacts(parents[0].info.run_id)}
    own = (second / "mlruns/artifacts").as_uri()
    assert all(run.info.artifact_uri.startswith(own) for run in (*parents, *variants))
    from mlflow.artifacts import download_artifacts  # as a user reaches it, past every file of ours

    assert Path(download_artifacts(f"models:/{name}@champion")).resolve().is_relative_to(second)


def test_what_is_new_is_written_into_the_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logged_model, "log_model", echo)
    first, second = tmp_path / "a", tmp_path / "b"
    champion(first, monkeypatch)
    shutil.copytree(first, second)
    before = sorted((first / "mlruns").rglob("*"))
    enter(second, monkeypatch)
    finished(decode=90.0)
    track(repackaged(load_params()))
    assert len(everything()[0]) == 2
    assert sorted((first / "mlruns").rglob("*")) == before
    own = (second / "mlruns/artifacts").as_uri()
    assert all(run.info.artifact_uri.startswith(own) for part in everything()[:2] for run in part)


def test_a_store_at_home_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logged_model, "log_model", echo)
    champion(tmp_path / "a", monkeypatch)
    assert bring_home(Path("mlruns/mlflow.db")) == 0
    assert bring_home(Path("mlruns/none.db")) == 0


def test_a_run_whose_files_did_not_come_along_keeps_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logged_model, "log_model", echo)
    first, second = tmp_path / "a", tmp_path / "b"
    champion(first, monkeypatch)
    (second / "mlruns").mkdir(parents=True)
    shutil.copy2(first / "mlruns/mlflow.db", second / "mlruns/mlflow.db")
    enter(second, monkeypatch)
    with store.reaching("a test") as own:
        experiment = own.get_experiment_by_name("edgewright")
        runs = own.search_runs([experiment.experiment_id])
    assert experiment.artifact_location == (second / "mlruns/artifacts").as_uri()
    there = {run.info.run_name: run.info.artifact_uri.startswith((first / "mlruns").as_uri()) for run in runs}
    assert there["openvino-int8 (full)"] and not there["torch-fp32"]  # the latter left no files anywhere


@pytest.mark.parametrize(
    ("location", "place"),
    [
        ("file:///a/mlruns/artifacts/r/artifacts", "r/artifacts"),
        ("/a/mlruns/artifacts", ""),
        ("file:///a%20b/mlruns/artifacts/r", "r"),
        ("file:///a/mlruns/artifacts/b/mlruns/artifacts/r", "r"),
        ("file:///home/mlruns/artifacts/r", None),
        ("file:///a/elsewhere/r", None),
        ("models:/m-1", None),
        ("s3://bucket/mlruns/artifacts/r", None),
        ("", None),
    ],
)
def test_where_a_place_is_at_home(location: str, place: str | None) -> None:
    own = Path("/home/mlruns/artifacts")
    path = moved._path(location)
    assert (moved._ours(path, own) if path else None) == (None if place is None else own / place)


def test_a_database_of_another_layout_is_named(tmp_path: Path) -> None:
    (tmp_path / "mlruns").mkdir()
    file = tmp_path / "mlruns/mlflow.db"
    with sqlite3.connect(file) as made:
        made.execute("CREATE TABLE experiments (experiment_id INTEGER, artifact_location TEXT)")
        made.execute("INSERT INTO experiments VALUES (1, 'file:///gone/mlruns/artifacts')")
    with pytest.raises(RegistryError, match="no such table: runs.*move the checkout back"):
        bring_home(file)
