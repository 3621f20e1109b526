"""What a measuring process is asked for."""

from __future__ import annotations

from pathlib import Path

from tasks.params.pipeline import Benchmark
from tasks.records.base import Record


class Opening(Record):
    """An artifact as a runtime opens it."""

    kind: str
    backend: str
    artifact: Path
    threads: int
    settings: dict[str, str] = {}  # tuned ones that differ from the runtime's defaults


class MeasureRequest(Record):
    """Time, weigh, soak or feed one artifact."""

    opening: Opening
    data: Path
    settings: Benchmark
    tell_runtime: bool = False
    stress: bool = True  # after a soak
    brief: bool = False  # only the phases that tuning is about
