"""The data a run used, as MLflow shows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks.errors import DataError
from tasks.registry import logged_model
from tasks.track import track
from tests.tracked import SPACE, client, echo, packaged, project


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, monkeypatch)
    monkeypatch.setattr(logged_model, "log_model", echo)


def test_evaluation_and_calibration_data_are_inputs_of_the_run() -> None:
    tracked = track(packaged())
    inputs = client().get_run(tracked.parent_run_id).inputs.dataset_inputs
    found = {one.tags[0].value: one.dataset for one in inputs}
    assert {name: (one.name, one.digest[:3]) for name, one in found.items()} == {
        "evaluation": ("evaluation: gsm8k", "eee"),
        "calibration": ("calibration: gsm8k", "ccc"),
    }
    said = json.loads(found["evaluation"].source)["tags"]
    assert (said["source"], said["rows"], said["sha256"]) == ("gsm8k", 40, "e" * 64)


def test_without_the_card_of_the_data_nothing_is_called_complete() -> None:
    results = packaged()
    SPACE.data_card.unlink()
    with pytest.raises(DataError, match=r"data/card.json does not exist"):
        track(results)
    assert not SPACE.tracked.exists()
