"""Who promoted or rolled back what, why and when: an append-only file of JSON lines."""

from __future__ import annotations

import getpass
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from tasks.records import Record

LEDGER = Path("mlruns") / "ledger.jsonl"

Action = Literal["register", "promote", "rollback"]


class Entry(Record):
    """One change of the registry."""

    when: str  # UTC, ISO 8601
    who: str
    what: Action
    model: str
    version: str
    replaced: str | None  # the champion before, if there was one
    why: str
    evidence: str  # digest of the results the verdict was made from


def actor() -> str:
    """Who acts: EDGEWRIGHT_ACTOR when set, else the user's name."""
    named = os.environ.get("EDGEWRIGHT_ACTOR")
    if named:
        return named
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"  # a container's user without a name


def append(
    what: Action, model: str, version: str, replaced: str | None, why: str, evidence: str, path: Path = LEDGER
) -> Entry:
    """Add a line and force it to disk."""
    entry = Entry(
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        who=actor(),
        what=what,
        model=model,
        version=version,
        replaced=replaced,
        why=why,
        evidence=evidence,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    torn = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
    with path.open("a", encoding="utf-8") as file:
        file.write(("\n" if torn else "") + entry.model_dump_json() + "\n")
        file.flush()
        os.fsync(file.fileno())
    return entry


def read(path: Path = LEDGER) -> list[Entry]:
    """All entries, oldest first; a line torn by a crash is left out."""
    if not path.exists():
        return []
    entries = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entries.append(Entry.model_validate_json(line))
        except ValidationError:
            continue
    return entries
