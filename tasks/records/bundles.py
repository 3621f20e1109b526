"""What a target's bundle is: its parts by size, what validators said, whether it answers as what was judged."""

from __future__ import annotations

from typing import Literal

from tasks.records.base import Record
from tasks.records.terms import Outcome

Component = Literal["weights", "embedding", "tokenizer", "runtime", "code", "metadata"]
State = Literal["ok", "failed", "not-measured"]  # the last: not measured on this device, with the reason


class Part(Record):
    """One line of the ledger: what a component takes."""

    component: Component
    name: str  # a file, or what several are together
    download_bytes: int  # as it is fetched; what is stored uncompressed takes the same twice
    installed_bytes: int  # on the device's storage
    abi: str = ""  # of a runtime that comes once for each


class Check(Record):
    """What one validator said of a bundle."""

    name: str  # of the validator, with its version where it has one
    state: State
    reason: str


class Compared(Record):
    """Whether the bundle's own engine answered as the artifact that the gates judged."""

    engine: str
    state: State
    reason: str
    answers: int = 0  # that were compared
    difference: float | None = None  # the largest of them, in `unit`
    unit: str = ""
    rss_anon_mb: float | None = None  # resident after it answered: memory of its own
    rss_file_mb: float | None = None  # and pages of files, which the system may take back


class Change(Record):
    """One way to keep a budget that is exceeded."""

    what: str  # in words: the variant gguf-q4_0
    size_mb: float  # of the whole bundle then
    measured: bool  # or planned, with a predicted quality
    quality: str  # in words, with its interval or how it was predicted


class Bundle(Record):
    """Result of `bundle` for one target."""

    target: str
    kind: str
    device: str
    status: Literal["ok", "failed", "refused"]  # refused: no gate opened the way; nothing was made
    reason: str
    variant: str | None = None
    verdict: Outcome | None = None
    anyway: str = ""  # why it was made although its gates did not pass; empty where they did
    package_sha256: str = ""  # of the manifest of the package it was made from
    size_mb: float = 0.0  # of what is installed, 10^6 bytes
    download_mb: float = 0.0
    budget_mb: float | None = None
    within: bool | None = None  # the budget; None without one
    parts: tuple[Part, ...] = ()
    checks: tuple[Check, ...] = ()
    compared: Compared | None = None
    fitting: tuple[Change, ...] = ()  # the smallest changes that keep the budget, where it is exceeded
    command: str = ""  # repeats it
