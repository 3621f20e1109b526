"""The prediction log: a JSON line per request, appended whole, put aside when large; what monitoring reads.

A line is one write to a file opened for appending, so that a process that is killed leaves whole lines, and at most
one cut short at the end, which `read` leaves out.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, ValidationError

from tasks.records.base import Record
from tasks.serve.log import log_files
from tasks.serve.log.log_files import NAME as NAME
from tasks.serve.log.sketch import rarity, sketch
from tasks.serve.log.trace import GenerationRequest, RequestTrace

LOG = logging.getLogger("edgewright.serve")
JUDGEMENTS = "feedback.jsonl"


class Prediction(Record):
    """One request: what was asked, how it went. Times in milliseconds; none where it did not come so far."""

    request_id: str
    when: str  # arrival, ISO 8601 in UTC
    version: str
    slot: str
    endpoint: str
    outcome: str  # ok, or the kind of error
    finish: str
    prompt_sha256: str  # over the token ids
    prompt_tokens: int
    new_tokens: int
    queue_ms: float | None = None
    first_token_ms: float | None = None
    inter_token_ms: float | None = None  # mean
    whole_ms: float
    confidence: float | None = None  # geometric mean of the tokens' probabilities
    rarity: float | None = None  # of the prompt's tokens, see `tasks.serve.log.sketch`
    sketch: tuple[float, ...] = ()  # which tokens the prompt has, likewise
    client: str = ""  # who asked, as a digest
    suspicious: bool = False  # the prompt looks like an attempt at prompt injection
    prompt: str | None = None
    answer: str | None = None

    @staticmethod
    def of(
        asked: GenerationRequest, trace: RequestTrace, now: float, error: str, version: str, texts: bool
    ) -> Prediction:
        """The line for one request that has ended at `now`."""

        def ms(later: float | None, earlier: float | None) -> float | None:
            return None if later is None or earlier is None else round(1e3 * (later - earlier), 3)

        gap = ms(trace.last, trace.first)
        return Prediction(
            request_id=asked.request_id,
            when=datetime.fromtimestamp(time.time() - (now - trace.arrived), UTC).isoformat(timespec="milliseconds"),
            version=version,
            slot=os.environ.get("EDGEWRIGHT_SLOT", ""),
            endpoint=asked.endpoint,
            outcome=error or "ok",
            finish=trace.finish,
            prompt_sha256=hashlib.sha256(np.array(asked.ids, dtype="<i4").tobytes()).hexdigest(),
            prompt_tokens=len(asked.ids),
            new_tokens=trace.tokens,
            queue_ms=ms(trace.begun, trace.arrived),
            first_token_ms=ms(trace.first, trace.arrived),
            inter_token_ms=round(gap / (trace.tokens - 1), 3) if gap is not None and trace.tokens > 1 else None,
            whole_ms=round(1e3 * (now - trace.arrived), 3),
            confidence=None if trace.confidence is None else round(trace.confidence, 6),
            rarity=rarity(asked.ids),
            sketch=sketch(asked.ids),
            client=asked.client,
            suspicious=asked.suspicious,
            prompt=asked.prompt if texts else None,
            answer="".join(trace.text) if texts else None,
        )


class Judgement(Record):
    """A caller's judgement of an answer, by the id in its header x-request-id."""

    request_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    right: Annotated[float, Field(ge=0, le=1)]  # 1 right, 0 wrong, or what lies between


class PredictionLog:
    """Appends to `folder`/predictions.jsonl; without a folder it keeps nothing."""

    def __init__(self, folder: Path | None, most_bytes: float, files: int) -> None:
        """Open the file, making the folder where it is not there."""
        self._folder, self._most, self._files = folder, most_bytes, files
        self.lost = 0  # lines that found no room
        self._cut = False  # the last line did not go out whole
        self._file = self._open()

    def _open(self) -> int | None:
        if self._folder is None:
            return None
        self._folder.mkdir(parents=True, exist_ok=True)
        file = os.open(self._folder / NAME, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        if os.fstat(file).st_size and not _ends_whole(self._folder / NAME):
            os.write(file, b"\n")  # the line that a killed process left is ended, so that the next is whole
        return file

    def add(self, prediction: Prediction) -> None:
        """Append one line; a disk that is full costs the line and nothing else."""
        if self._folder is None:
            return
        line = (b"\n" if self._cut else b"") + prediction.model_dump_json(exclude_none=True).encode() + b"\n"
        try:
            self._file = self._open() if self._file is None else self._file
            assert self._file is not None
            self._cut = os.write(self._file, line) != len(line)
            if self._cut:
                raise OSError("no room for a whole line")
            if os.fstat(self._file).st_size >= self._most:
                self._turn(self._folder)
        except OSError as error:
            self.lost += 1
            if self.lost == 1:
                LOG.error("the prediction log in %s cannot be written: %s; serving goes on", self._folder, error)

    def judge(self, judgement: Judgement) -> bool:
        """Keep what a caller says of an answer; whether there was room for it, or a log at all."""
        if self._folder is None:
            return False
        file = self._folder / JUDGEMENTS
        try:
            if file.exists() and file.stat().st_size >= self._most:
                file.replace(file.with_name(f"{JUDGEMENTS}.1"))
            with file.open("ab") as stream:
                stream.write(judgement.model_dump_json().encode() + b"\n")
        except OSError as error:
            LOG.error("what a caller says of an answer cannot be written: %s", error)
            return False
        return True

    def _turn(self, folder: Path) -> None:
        """Put the file aside and begin another."""
        self.close()
        for old in range(self._files - 1, 0, -1):
            later = folder / f"{NAME}.{old}"
            if later.exists():
                later.replace(folder / f"{NAME}.{old + 1}")
        (folder / NAME).replace(folder / f"{NAME}.1")
        (folder / f"{NAME}.{self._files + 1}").unlink(missing_ok=True)
        self._file = self._open()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _ends_whole(file: Path) -> bool:
    with file.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"


def read(folder: Path) -> Iterator[Prediction]:
    """Predictions of the files in `folder`, the oldest first; lines that were cut short are left out."""
    with log_files.opened(folder) as opened:
        for line in (line for file in opened for line in log_files.lines(file)):
            try:
                yield Prediction.model_validate_json(line)
            except ValidationError:
                continue
