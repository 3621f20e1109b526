"""The ledger: who moved which model version where, why, when and on which verdict. Lines are only ever added."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tasks.records import lines
from tasks.records.base import Record

LEDGER = lines.OWN / "ledger.jsonl"
Action = Literal["promote", "rollback"]


class Entry(Record):
    """One line: the champion of `model` went from one version to another."""

    when: str  # UTC, ISO 8601
    who: str
    action: Action
    model: str
    from_version: str | None
    to_version: str
    why: str
    verdict_digest: str  # GateReport.results_digest; empty for a rollback to a version without one
    despite: str = ""  # what the version before had passed more; empty: nothing, or not known


class History(Record):
    """Every whole line, oldest first, and how many lines cannot be read (a write that was cut off)."""

    entries: tuple[Entry, ...]
    unreadable: int = 0


def read(path: Path, model: str | None = None) -> History:
    """The history, of one model when it is named; an absent file is an empty history."""
    found, unreadable = lines.entries(path, Entry)
    return History(entries=tuple(e for e in found if model in (None, e.model)), unreadable=unreadable)


def last(path: Path, model: str) -> Entry | None:
    """A model's newest line."""
    entries = read(path, model).entries
    return entries[-1] if entries else None
