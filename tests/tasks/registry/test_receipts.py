"""Receipts that count, and those that do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.registry import logged_model, receipts, store
from tasks.track import track
from tests.finished import database
from tests.tracked import echo, packaged, project


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, monkeypatch)
    monkeypatch.setattr(logged_model, "log_model", echo)


def test_a_broken_receipt_is_no_receipt() -> None:
    results = packaged()
    first = track(results)
    receipts.file(results.digest).write_text("{")
    assert track(results) == first


def test_a_receipt_for_another_store_or_a_lost_one_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    results = packaged()
    here = track(results)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database(Path("other/mlflow.db").resolve()))
    there = track(results)
    assert (there.parent_run_id != here.parent_run_id, there.version) == (True, "1")
    Path("other/mlflow.db").unlink()
    assert receipts.found(results.digest, store.tracking_uri()) is None
