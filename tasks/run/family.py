"""The processes a command started: found by a mark that all of them inherit, and ended with it."""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from tasks.errors import EXIT_OK

MARK = "EDGEWRIGHT_COMMAND"  # in the environment: ids of the commands that a process belongs to, the innermost last
ENDING = (signal.SIGTERM, signal.SIGINT)
PATIENCE_S = 5.0  # from asking a process to end to ending it
LOOK_S = 0.2

_mine: set[str] = set()  # commands under way in this process


class Stopped(KeyboardInterrupt):
    """SIGTERM or SIGINT came."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


def _raise(number: int) -> None:
    _handle(signal.SIG_IGN)  # a second one does not cut the way out short
    raise Stopped(number)


@contextmanager
def command(on_signal: Callable[[int], None] = _raise) -> Iterator[str]:
    """Run a command in the block: SIGTERM and SIGINT end it, and nothing it started outlives it; yields its id.

    SIGINT is heard also where it was inherited as ignored, as by a command that a shell starts in the background.
    """
    mine, outer = uuid.uuid4().hex, os.environ.get(MARK, "")
    before = _handle(lambda number, _frame: on_signal(number))
    os.environ[MARK] = f"{outer},{mine}".strip(",")
    _mine.add(mine)
    try:
        yield mine
    finally:
        _handle(signal.SIG_IGN)
        end(lambda: members(mine))
        os.environ[MARK] = outer
        _mine.discard(mine)
        for number, handler in before.items():
            signal.signal(number, handler)


def until_stopped(work: Callable[[], int]) -> int:
    """Call `work` as a command that goes on until it is told to end, which is no failure; returns its exit code."""
    try:
        with command():
            return work()
    except KeyboardInterrupt:
        return EXIT_OK


def _handle(handler: Any) -> dict[int, Any]:
    """Set a handler for both signals; returns those before. Only the main thread may."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, handler) for number in ENDING}


def members(mine: str, also: Callable[[Mapping[str, str]], bool] = lambda _: True) -> list[psutil.Process]:
    """Processes that belong to a command, but not this one; `also` is asked about the environment of each."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # gone meanwhile, or another user's
            environment = process.environ() if process.pid != os.getpid() else {}
            if mine in environment.get(MARK, "").split(",") and also(environment):
                found.append(process)
    return found


def end(find: Callable[[], list[psutil.Process]], patience_s: float = PATIENCE_S) -> None:
    """Ask what `find` finds to end, end what has not after `patience_s`, and what was started meanwhile."""
    asked: set[psutil.Process] = set()
    began = time.monotonic()
    while (left := find()) and time.monotonic() - began < 3 * patience_s:
        late = time.monotonic() - began > patience_s
        for process in left:
            with suppress(psutil.Error):
                if late:
                    process.kill()
                elif process not in asked:
                    process.terminate()
        asked.update(left)
        time.sleep(LOOK_S)  # psutil would wait for a child of ours, and whoever started it would miss how it ended


def outside() -> dict[str, str]:
    """The environment for a process that is to outlive this command."""
    ids = [one for one in os.environ.get(MARK, "").split(",") if one not in _mine]
    return {**os.environ, MARK: ",".join(ids)}
