"""Where a server and its monitor keep their files, and what is found there of the server."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tasks.errors import DataError
from tasks.promotion.store import TRANSITIONS, Store
from tasks.records import lines
from tasks.serve.address import Address
from tasks.serve.log.prediction_log import JUDGEMENTS, NAME, Judgement

FOLDER = Path("artifacts/monitor")
BOOK = lines.OWN / "repairs.jsonl"
WINDOWS = "windows.jsonl"
ADDRESS = "address.json"
SLOTS = ("", "blue", "green")  # folders of logs below the server's


class Place(NamedTuple):
    """Where a server and its monitor keep their files."""

    store: Store
    folder: Path = FOLDER
    book: Path = BOOK
    transitions: Path = TRANSITIONS
    url: str = ""  # where /metrics is; empty: not asked

    @property
    def logs(self) -> list[Path]:
        """Folders with prediction logs."""
        return [folder for name in SLOTS if (folder := self.store.folder / name).is_dir()]

    @property
    def served(self) -> bool:
        """Tell whether anything was ever served here: a server wrote its address, or a prediction."""
        return any((folder / name).exists() for folder in self.logs for name in (ADDRESS, NAME))

    def addresses(self, version: str = "") -> list[Address]:
        """Of the servers that run, that of `version` first, then the champion's.

        In a ramp the challenger may answer most: what a window tells of memory is of the version that it tells of.
        """
        found: list[Address] = []
        champion = self.store.state().champion
        for name in sorted(SLOTS, key=lambda name: name != champion):
            file = self.store.folder / name / ADDRESS
            try:
                found.append(Address.read(file))
            except DataError:
                continue
        running = [address for address in found if address.process() is not None]
        return sorted(running, key=lambda address: address.version != version)

    def judgements(self) -> dict[str, float]:
        """Callers' judgements of answers by request id (POST /v1/feedback); lines that are none are left out."""
        files = (self.store.folder / name / kept for name in SLOTS for kept in (f"{JUDGEMENTS}.1", JUDGEMENTS))
        return {one.request_id: one.right for file in files for one in lines.entries(file, Judgement)[0]}
