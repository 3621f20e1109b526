"""Where a server listens, as a file: how a router finds the servers it started, and those it finds again."""

from __future__ import annotations

from typing import Any

import psutil
from pydantic import model_validator

from tasks.records.base import Record
from tasks.records.older import with_new_names
from tasks.serve.options import ServerOptions


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
    """Address of a server, with what it serves and its process."""

    host: str
    port: int
    name: str
    version: str
    manifest_sha256: str
    options: ServerOptions = ServerOptions()

    @model_validator(mode="before")
    @classmethod
    def _older(cls, raw: Any) -> Any:
        """Read what was written when `options` was called `running`."""
        return with_new_names(raw, {"running": "options"})

    @property
    def base(self) -> str:
        """The URL before any path."""
        return f"http://{self.host}:{self.port}"
