"""Results into MLflow once, again after a kill, not at all without a server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.records.artifact import Package
from tasks.registry import logged_model, receipts, store
from tasks.registry.receipts import Tracked
from tasks.registry.tags import COMPLETE
from tasks.track import main, track
from tests import ROOT
from tests.tracked import SPACE, client, echo, everything, packaged, project


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, monkeypatch)
    monkeypatch.setattr(logged_model, "log_model", echo)


def test_tracking_twice_adds_nothing_even_when_mlflow_itself_is_asked() -> None:
    results = packaged()
    first = track(results)
    counts = [len(part) for part in everything()]
    assert track(results) == first
    assert track(results, force=True) == first
    receipts.file(results.digest).unlink()
    assert track(results) == first
    assert [len(part) for part in everything()] == counts == [1, 3, 1]


def test_other_results_make_another_run_and_version() -> None:
    first = track(packaged(decode=75.0))
    second = track(packaged(decode=90.0))
    assert (first.version, second.version) == ("1", "2")
    assert [len(part) for part in everything()] == [2, 6, 2]


KILLED = """
import os, signal, sys
import mlflow
from tasks.params.load import load_params
from tasks.registry import logged_model, runs, versions
from tasks.registry.results import Results
from tasks.track import track
from tests.tracked import SPACE, echo

logged_model.log_model = echo
victim, count = sys.argv[1], int(sys.argv[2])
owner = {"log_variant": runs, "register": versions, "set_tag": mlflow.MlflowClient}[victim]
original, calls = getattr(owner, victim), []

def fatal(*arguments, **named):
    calls.append(1)
    if len(calls) == count:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **named)

setattr(owner, victim, fatal)
track(Results.read(SPACE, load_params()))
"""


@pytest.mark.parametrize(
    ("victim", "count"),
    [("log_variant", 2), ("register", 1), ("set_tag", 1)],
    ids=["between variants", "before registering", "before completeness"],
)
def test_a_track_killed_in_the_middle_is_done_again_and_leaves_nothing_double(victim: str, count: int) -> None:
    results = packaged()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", KILLED, victim, str(count)], env=environment, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
    assert not receipts.FOLDER.exists()
    assert len(everything()[0]) == 1
    tracked = track(results)
    parents, variants, versions = everything()
    assert [run.info.run_id for run in parents] == [tracked.parent_run_id]
    assert [run.data.tags[COMPLETE] for run in parents] == ["true"]
    assert {run.data.tags["mlflow.parentRunId"] for run in variants} == {tracked.parent_run_id}
    assert [v.run_id for v in versions] == [tracked.parent_run_id]
    own = client()
    models = own.search_logged_models([own.get_experiment_by_name("edgewright").experiment_id])
    assert [model.source_run_id for model in models] == [tracked.parent_run_id]


def test_an_unreachable_server_keeps_the_results_and_names_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    packaged()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert main([]) == 2
    said = capsys.readouterr().err
    assert "MLflow at http://127.0.0.1:9 did not do its part" in said
    assert "results are kept in artifacts/" in said
    assert "repeat with `python -m tasks.track`" in said
    assert not SPACE.tracked.exists()
    assert Package.read(SPACE.package_record).status == "ok"


def test_with_a_receipt_mlflow_is_not_even_imported() -> None:
    results = packaged()
    noted = Tracked(
        digest=results.digest, tracking_uri=store.tracking_uri(), experiment="edgewright", parent_run_id="r",
        model_name="m", version="1", reason="noted",
    )  # fmt: skip
    noted.write(receipts.file(results.digest))
    code = (
        "import sys; from tasks import track; track.main([]); print('mlflow' in sys.modules, 'pandas' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert run.stdout.split("\n")[-2] == "False False", run.stdout + run.stderr
    assert Tracked.read(SPACE.tracked) == noted
