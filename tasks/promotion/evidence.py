"""What the router and the slots' own prediction logs show of each version since a phase began.

The router knows what callers got: which version answered, and whether it failed. The slots know how it went inside:
times per token and confidence. Both are files, so that a router that was killed goes on with what it had.
"""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tasks.promotion.judge import Arm
from tasks.records.base import Record
from tasks.serve.log.prediction_log import NAME, Prediction

LOG = logging.getLogger("edgewright.router")
Kind = Literal["live", "mirror", "probe"]
EXCHANGES = "exchanges.jsonl"
KEPT = 5_000  # exchanges and predictions in memory, of each version: each look goes through them between two requests
RECENT = 8 * 2**20  # bytes of a log that are read again at a start
MARK: dict[Kind, str] = {"live": "", "mirror": "mirror-", "probe": "probe-"}  # how a request's id begins


class Exchange(Record):
    """A request as it went between router and slot."""

    when: float  # seconds since the epoch, at its end
    request_id: str
    version: str
    kind: Kind
    ok: bool
    agreement: float | None = None  # with the other version's answer to the same request, 0 to 1


class Seen(NamedTuple):
    """Fields of a line in a slot's log that are compared."""

    when: float
    request_id: str
    first_ms: float | None  # the whole time where nothing is written token by token
    between_ms: float | None
    confidence: float | None


class Evidence:
    """Exchanges, appended to a file; and what the slots logged, read as it grows."""

    def __init__(
        self,
        folder: Path,
        logs: Sequence[Path],
        most_bytes: float = 50 * 2**20,
    ) -> None:
        """Read what is there; `logs` are the slots' folders."""
        self._file, self._most = folder / EXCHANGES, most_bytes
        self._exchanges: dict[str, deque[Exchange]] = {}
        self._predictions: dict[str, deque[Seen]] = {}
        self._tails = [Tail(one / NAME) for one in logs]
        self.unwritten = 0  # lines that found no room on the disk
        folder.mkdir(parents=True, exist_ok=True)
        for line in Tail(self._file).lines():
            try:
                self._keep(Exchange.model_validate_json(line))
            except ValueError:
                continue
        self._stream = self._file.open("ab", buffering=0)

    def add(self, number: str, version: str, kind: Kind, ok: bool, agreement: float | None = None) -> None:
        """Keep what a version did with a request just now."""
        self.note(Exchange(when=time.time(), request_id=number, version=version, kind=kind, ok=ok, agreement=agreement))

    def note(self, exchange: Exchange) -> None:
        """Keep one; a disk that is full costs the file its line and nothing else."""
        self._keep(exchange)
        try:
            self._stream.write(exchange.model_dump_json(exclude_none=True).encode() + b"\n")
            if self._stream.tell() > self._most:
                self._stream.close()
                self._file.replace(self._file.with_suffix(".jsonl.1"))
                self._stream = self._file.open("ab", buffering=0)
        except (OSError, ValueError) as error:
            self.unwritten += 1
            if self.unwritten == 1:
                LOG.error("%s cannot be written: %s; serving goes on", self._file, error)

    def _keep(self, exchange: Exchange) -> None:
        self._exchanges.setdefault(exchange.version, deque(maxlen=KEPT)).append(exchange)

    def refresh(self) -> None:
        """Read what the slots logged since."""
        for tail in self._tails:
            for line in tail.lines():
                try:
                    found = Prediction.model_validate_json(line)
                    when = datetime.fromisoformat(found.when).timestamp()
                except ValueError:
                    continue
                if found.outcome == "ok":
                    first = found.whole_ms if found.first_token_ms is None else found.first_token_ms
                    times = (first, found.inter_token_ms, found.confidence)
                    seen = Seen(when, found.request_id, *times)
                    self._predictions.setdefault(found.version, deque(maxlen=KEPT)).append(seen)

    def arm(self, version: str, since: float, kinds: Sequence[Kind] = ("live", "mirror", "probe")) -> Arm:
        """Gather what a version showed since a moment."""
        exchanges = [one for one in self._exchanges.get(version, ()) if one.when >= since and one.kind in kinds]
        answered = [
            one for one in self._predictions.get(version, ()) if one.when >= since and kind_of(one.request_id) in kinds
        ]
        return Arm(
            requests=len(exchanges),
            errors=sum(not one.ok for one in exchanges),
            first_ms=[one.first_ms for one in answered if one.first_ms is not None],
            between_ms=[one.between_ms for one in answered if one.between_ms is not None],
            agreement=[one.agreement for one in exchanges if one.agreement is not None],
        )

    def confidences(self, old: str, new: str, since: float) -> list[float]:
        """The new version's confidence over the old one's, of each request that both were asked."""
        before = {
            one.request_id: one.confidence
            for one in self._predictions.get(old, ())
            if one.when >= since and one.confidence and kind_of(one.request_id) != "live"
        }
        return [
            one.confidence / before[one.request_id]
            for one in self._predictions.get(new, ())
            if one.confidence is not None and one.request_id in before
        ]

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def kind_of(request_id: str) -> Kind:
    """Tell who sent a request by its id.

    >>> kind_of("probe-12"), kind_of("req-3f")
    ('probe', 'live')
    """
    return "probe" if request_id.startswith("probe-") else "mirror" if request_id.startswith("mirror-") else "live"


class Tail:
    """The whole lines of a file that grows, and is put aside and begun anew."""

    def __init__(self, file: Path) -> None:
        """Begin near the end of what is there."""
        self._file = file
        self._number, self._at = self._size()
        self._at = max(0, self._at - RECENT)

    def _size(self) -> tuple[int, int]:
        try:
            found = self._file.stat()
        except FileNotFoundError:
            return 0, 0
        return found.st_ino, found.st_size

    def lines(self) -> list[bytes]:
        """Lines that are whole since the last call."""
        number, size = self._size()
        found: list[bytes] = []
        if number != self._number:
            old = self._file.with_name(f"{self._file.name}.1")
            if self._number and old.exists() and old.stat().st_ino == self._number:
                found += self._read(old)
            self._number, self._at = number, 0
        return found + (self._read(self._file) if size > self._at else [])

    def _read(self, file: Path) -> list[bytes]:
        with file.open("rb") as stream:
            stream.seek(self._at)
            data = stream.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._at += len(whole)
        return whole.splitlines()


def counted(baseline: Arm, canary: Arm, real: int) -> dict[str, int | float | None]:
    """Count the evidence for the line of a transition."""
    return {
        "requests_old": baseline.requests,
        "errors_old": baseline.errors,
        "requests_new": canary.requests,
        "errors_new": canary.errors,
        "requests_new_of_callers": real,
        "pairs": len(canary.agreement),
        "first_ms_old": _median(baseline.first_ms),
        "first_ms_new": _median(canary.first_ms),
        "between_ms_old": _median(baseline.between_ms),
        "between_ms_new": _median(canary.between_ms),
        "confidence_new_of_old": _median(canary.confidence),
        "agreement": round(sum(canary.agreement) / len(canary.agreement), 4) if canary.agreement else None,
    }


def _median(values: Sequence[float]) -> float | None:
    return round(sorted(values)[len(values) // 2], 4) if values else None


def _said(message: Mapping[str, Any]) -> str:
    calls = [f"{call['function']['name']} {call['function']['arguments']}" for call in message.get("tool_calls") or ()]
    return "\n".join(filter(None, (message["content"], *calls)))


def texts_of(body: bytes) -> str:
    """The text of an OpenAI answer, its choices joined, calls of tools among it; empty for anything else.

    >>> texts_of(b'{"choices": [{"text": "a"}, {"message": {"content": "b"}}]}')
    'a\\nb'
    """
    try:
        choices = json.loads(body)["choices"]
        return "\n".join(one["text"] if "text" in one else _said(one["message"]) for one in choices)
    except (ValueError, KeyError, TypeError):
        return ""
