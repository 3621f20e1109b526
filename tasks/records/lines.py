"""Files of JSON lines that are only ever added to: a line that was cut off costs only itself.

Those that tell what was decided lie in OWN, beside MLflow's files. They are history: back them up with `mlruns/`.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from tasks.errors import ResourceError
from tasks.records.base import Record

OWN = Path("mlruns/edgewright")
Line = TypeVar("Line", bound=Record)


def now() -> str:
    """This moment in UTC, ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def append(path: Path, line: Record) -> None:
    """Add one line and return once it is on the disk; a line that was cut off before it stays a line of its own.

    Raises ResourceError when it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            size = os.fstat(handle).st_size
            cut_off = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
            written = (b"\n" if cut_off else b"") + line.model_dump_json().encode() + b"\n"
            if os.write(handle, written) != len(written):
                raise OSError("the disk is full")
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise ResourceError(
            f"{path} cannot be written ({error}); make room or mend its permissions and repeat the command"
        ) from error


def entries(path: Path, kind: type[Line]) -> tuple[list[Line], int]:
    """Every whole line, the oldest first, and how many cannot be read; an absent file has none.

    A file of OWN lay one folder up before there was that folder: lines that are there come first.
    """
    found, unreadable = list[Line](), 0
    former = (path.parent.parent / path.name,) if path.parent.name == OWN.name else ()
    for file in (*former, path):
        for line in file.read_bytes().splitlines() if file.exists() else ():
            try:
                found.append(kind.model_validate_json(line))
            except ValidationError:
                unreadable += 1
    return found, unreadable
