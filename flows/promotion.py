"""What a run does in the registry: make the tracked winner champion, once, and only by its passed verdict."""

from __future__ import annotations

from collections.abc import Iterable

from tasks import ledger, paths, registry
from tasks.ledger import Entry
from tasks.records import GateReport
from tasks.track import Tracked


def promote() -> str:
    """Promote the winner of the last results unless that was done, or undone by hand; returns what happened, in words.

    Raises RegistryError when MLflow does not answer, DataError when nothing was tracked.
    """
    tracked = Tracked.read(paths.TRACKED)
    if tracked.version is None:
        return f"not promoted: {tracked.reason}"
    kept = settled(ledger.read(), tracked.model_name, tracked.version)
    if kept:
        return kept
    version = registry.promote(tracked.model_name, GateReport.read(paths.VERDICTS), tracked.version)
    return f"{tracked.model_name} version {version} is champion in {tracked.tracking_uri}"


def settled(entries: Iterable[Entry], model: str, version: str) -> str:
    """Why there is nothing to promote, or nothing when there is.

    A rollback is a person's decision: running the same results again does not undo it.
    """
    changes = [entry for entry in entries if entry.model == model and entry.what in ("promote", "rollback")]
    if not changes:
        return ""
    last = changes[-1]
    if last.version == version:
        return f"{model} version {version} is champion since {last.when}"
    if last.what == "rollback" and last.replaced == version:
        return f"{model} version {version} was rolled back on {last.when}; `make promote` makes it champion again"
    return ""
