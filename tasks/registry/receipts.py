"""Receipts: where results are in MLflow, noted beside it, so that the same results need not ask MLflow again."""

from __future__ import annotations

from pathlib import Path

from tasks.errors import DataError
from tasks.records.base import Record
from tasks.records.lines import OWN
from tasks.registry import store

FOLDER = OWN / "receipts"


class Tracked(Record):
    """Place of a run's results in MLflow."""

    digest: str  # over scorecard, verdicts, package and parameters
    tracking_uri: str
    experiment: str
    experiment_id: str = ""  # not known of what was noted before it was
    parent_run_id: str
    model_name: str
    version: str | None  # None: nothing was registered
    reason: str


def note(tracked: Tracked) -> None:
    """Keep the receipt."""
    tracked.write(file(tracked.digest))


def found(digest: str, uri: str) -> Tracked | None:
    """Read what was noted when these results were tracked at `uri`; None when they were not, or the store is gone."""
    path, database = file(digest), store.database(uri)
    if not path.is_file() or (database is not None and not database.is_file()):
        return None
    try:
        noted = Tracked.read(path)
    except DataError:
        return None  # MLflow itself will be asked, and the receipt written anew
    return noted if noted.tracking_uri == store.shown(uri) else None


def file(digest: str) -> Path:
    """Path of the receipt of these results."""
    return FOLDER / f"{digest}.json"
