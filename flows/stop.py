"""How a run is stopped: SIGTERM or SIGINT ends its stages at once, whatever they do, and says what is kept."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

from flows.progress import tell
from tasks.run import family

T = TypeVar("T")

GRACE_S = 10.0  # for a run to come to its end by itself, once its stages are gone
KEPT = "finished stages are kept, `make run` goes on from there"
STAGE = "DVC_STAGE"  # in the environment of a stage's command and all below it

stopping = threading.Event()  # what is queued in other threads must not begin


def stoppable(work: Callable[[], int]) -> int:
    """Call `work` and return its exit code, or 128 + the number of the signal that ended it.

    It is called in a thread of its own: DVC ignores SIGINT while the main thread waits for a stage, and Prefect's
    handler would wait for it.
    """
    stopping.clear()
    inbox: SimpleQueue[int | None] = SimpleQueue()  # a signal's number, or None when the work has ended
    ended: list[int | BaseException] = []

    def worker() -> None:
        try:
            ended.append(work())
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            ended.append(error)
        inbox.put(None)

    with family.command(inbox.put) as mine:
        thread = threading.Thread(target=worker, name="run", daemon=True)
        thread.start()
        number = inbox.get()
        if number is not None:
            tell(f"{signal.Signals(number).name}: ending what is under way")
            _unwind(thread, mine, inbox)
    if number is not None:
        return _gone(thread, number)
    if isinstance(ended[0], KeyboardInterrupt):  # the stage heard it, and this process did not
        tell(f"stopped; {KEPT}")
        return 128 + signal.SIGINT
    if isinstance(ended[0], BaseException):
        raise ended[0]
    return ended[0]


def _unwind(thread: threading.Thread, mine: str, inbox: SimpleQueue[int | None]) -> None:
    """End the stages until the run has taken note; a second signal, or `GRACE_S`, ends the waiting."""
    stopping.set()
    deadline = time.monotonic() + GRACE_S
    while thread.is_alive() and time.monotonic() < deadline and inbox.empty():
        family.end(lambda: family.members(mine, lambda environment: STAGE in environment))
        thread.join(family.LOOK_S)


def _gone(thread: threading.Thread, number: int) -> int:
    tell(f"stopped; {KEPT}")
    if thread.is_alive():  # it hangs in a library, and Python would wait for that one's threads
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(128 + number)
    return 128 + number
