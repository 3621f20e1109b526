"""The ledger: who moved which model version where, why, when and on which verdict. Lines are only ever added."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import ValidationError

from tasks.errors import ResourceError
from tasks.records import Record

LEDGER = Path("mlruns/ledger.jsonl")
Line = TypeVar("Line", bound=Record)


class Entry(Record):
    """One line: the champion of `model` went from one version to another."""

    when: str  # UTC, ISO 8601
    who: str
    action: Literal["promote", "rollback"]
    model: str
    from_version: str | None
    to_version: str
    why: str
    verdict_digest: str  # GateReport.results_digest; empty for a rollback to a version without one


class History(Record):
    """Every whole line, oldest first, and how many lines cannot be read (a write that was cut off)."""

    entries: tuple[Entry, ...]
    unreadable: int = 0


def now() -> str:
    """This moment in UTC, ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def append(path: Path, entry: Record) -> None:
    """Add one line and return once it is on the disk; a line that was cut off before it stays a line of its own.

    Raises ResourceError when it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            size = os.fstat(handle).st_size
            cut_off = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
            line = (b"\n" if cut_off else b"") + entry.model_dump_json().encode() + b"\n"
            if os.write(handle, line) != len(line):
                raise OSError("the disk is full")
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise ResourceError(
            f"the ledger {path} cannot be written ({error}); make room or mend its permissions and repeat the command"
        ) from error


def entries(path: Path, kind: type[Line]) -> tuple[list[Line], int]:
    """Every whole line of a file of lines, the oldest first, and how many cannot be read; an absent file has none."""
    found, unreadable = list[Line](), 0
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            found.append(kind.model_validate_json(line))
        except ValidationError:
            unreadable += 1
    return found, unreadable


def read(path: Path, model: str | None = None) -> History:
    """The history, of one model when it is named; an absent file is an empty history."""
    found, unreadable = entries(path, Entry)
    return History(entries=tuple(e for e in found if model in (None, e.model)), unreadable=unreadable)
