"""Where a server listens, as a file: how a router finds the servers it started, and those it finds again."""

from __future__ import annotations

import psutil

from tasks.records import Record
from tasks.serve.running import Running


class Known(Record):
    """A process that is found again by whoever comes later."""

    pid: int
    created: float  # when that process began: a number alone may be another's by now

    def process(self) -> psutil.Process | None:
        """The process, while it is that one and not a zombie."""
        try:
            found = psutil.Process(self.pid)
            same = abs(found.create_time() - self.created) < 0.01
            return found if same and found.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


class Address(Known):
    """Where a server listens, what it serves, and which process it is."""

    host: str
    port: int
    name: str
    version: str
    manifest_sha256: str
    running: Running = Running()

    @property
    def base(self) -> str:
        """The URL before any path."""
        return f"http://{self.host}:{self.port}"
