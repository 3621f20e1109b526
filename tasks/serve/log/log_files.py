"""Files of the prediction log: the one that is written and those put aside, which are turned while others read."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tasks.errors import DataError

NAME = "predictions.jsonl"
TRIES = 50  # at finding all files as they are at one moment
BLOCK = 1 << 24  # bytes


@contextlib.contextmanager
def opened(folder: Path, since: float = 0.0) -> Iterator[list[BinaryIO]]:
    """The log's files that may hold lines from `since` on, the oldest first, open as they stood at one moment.

    So a log that is turned meanwhile loses and repeats no line. Raises DataError where it is turned over and over.
    """
    with contextlib.ExitStack() as stack:
        yield _at_one_moment(folder, since, stack)


def _at_one_moment(folder: Path, since: float, stack: contextlib.ExitStack) -> list[BinaryIO]:
    for _ in range(TRIES):
        with contextlib.ExitStack() as trial:
            try:
                found: list[BinaryIO] = [trial.enter_context(file.open("rb")) for file in files(folder, since)]
                if [_number(os.fstat(file.fileno())) for file in found] == [
                    _number(file.stat()) for file in files(folder, since)
                ]:
                    stack.push(trial.pop_all())
                    return found
            except FileNotFoundError:
                continue  # turned between the list and the opening
    raise DataError(f"the log in {folder} is turned faster than it can be read; raise serve.log_mb")


def _number(state: os.stat_result) -> int:
    """What stays the same of a file that gets another name."""
    return state.st_ino


def files(folder: Path, since: float = 0.0) -> list[Path]:
    """Paths of the log's files that may hold lines from `since` on, the oldest first.

    What else lies there, packed copies for example, is left alone.
    """
    turned = [file for file in folder.glob(f"{NAME}.*") if file.suffix[1:].isdecimal()]
    found = [*sorted(turned, key=lambda file: -int(file.suffix[1:])), folder / NAME]
    return [file for file in found if file.exists() and file.stat().st_mtime >= since]


def lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines of a file, ended by line feeds alone: a kept text may hold any other separator.

    What is appended meanwhile may be left out, and a line that is still being written is torn.
    """
    rest = b""
    while block := file.read(BLOCK):
        parts = (rest + block).split(b"\n")
        rest = parts.pop()
        yield from parts
    if rest:
        yield rest
