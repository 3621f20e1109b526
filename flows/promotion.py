"""What a run does in the registry: make the tracked winner champion, once, and only by its passed verdict."""

from __future__ import annotations

from collections.abc import Iterable

from tasks import ledger, paths
from tasks.ledger import Entry
from tasks.records import GateReport


def promote() -> str:
    """Promote the winner of the last results unless that was done, or undone by hand; returns what happened, in words.

    Raises RegistryError when MLflow does not answer, DataError when nothing was tracked.
    """
    from tasks import registry
    from tasks.track import Tracked

    tracked = Tracked.read(paths.TRACKED)
    if tracked.version is None:
        return f"not promoted: {tracked.reason}"
    kept = settled(ledger.read(ledger.LEDGER, tracked.model_name).entries, tracked.version)
    if kept:
        return f"{tracked.model_name}: {kept}"
    verdicts = GateReport.read(paths.VERDICTS)
    change = registry.promote(tracked.model_name, tracked.version, verdicts, registry.actor(), verdicts.reason)
    return f"{tracked.model_name}: {change.reason}"


def settled(entries: Iterable[Entry], version: str) -> str:
    """Why there is nothing to promote, or nothing when there is.

    A rollback is a person's decision: running the same results again does not undo it.
    """
    last = next(iter(reversed(list(entries))), None)
    if last is None:
        return ""
    if last.to_version == version:
        return f"version {version} is champion since {last.when}"
    if last.action == "rollback" and last.from_version == version:
        return f"version {version} was rolled back on {last.when}; `make promote` makes it champion again"
    return ""
