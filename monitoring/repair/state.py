"""What a monitor goes on from after it was stopped anywhere: one file, written whole."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from monitoring.collect import scrape
from monitoring.collect.windows import Window
from monitoring.judge.alerts import Alert
from monitoring.notices import Outbox
from monitoring.repair.plan import Entry, Repair
from tasks.errors import DataError
from tasks.records.base import Record

LOG = logging.getLogger("edgewright.monitor")
NAME = "state.json"


class State(Record):
    """What the next look goes on from."""

    number: int = 0
    until: float = 0.0  # when the last window ended
    drift_since: float = 0.0  # rows from here on were not compared yet
    series: scrape.Series = ()  # of /metrics at that time, as far as it is counted
    energy_j: float | None = None
    windows: tuple[Window, ...] = ()
    alerts: tuple[Alert, ...] = ()
    outbox: Outbox = Outbox()
    repair: Repair | None = None
    steps: tuple[float, ...] = ()  # when a step was taken
    repaired: float | None = None  # when the last repair ended
    called: tuple[str, ...] = ()  # alerts that a person was called for: left alone until they are over
    shown: tuple[Entry, ...] = ()  # the latest of the book, for pages


class StateFile:
    """The state, and its file in the monitor's folder."""

    def __init__(self, folder: Path) -> None:
        """Take up the state that is on the disk; one that cannot be read is put aside, and named."""
        self._file = folder / NAME
        try:
            self.state = State.read(self._file) if self._file.exists() else State()
        except DataError as problem:
            LOG.error("%s; it is put aside, and watching begins anew", problem)
            self._file.replace(self._file.with_suffix(".unreadable.json"))
            self.state = State()

    def save(self, **changes: Any) -> None:
        """Change some of the state, on the disk as well."""
        self.state = self.state.model_copy(update=changes)
        self.state.write(self._file)
