"""The parent that holds the router's socket: a router that is killed is started again, and no caller is refused.

The router takes the socket as it would from systemd (tasks/serve/listening.py). Where the router ends by itself, as
when it is told to stop, its holder ends with the same exit code; where a signal killed it, it is started again.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import suppress

from tasks.serve.listening import handed

LOG = logging.getLogger("edgewright.router")
PAUSES_S = (0.0, 1.0, 2.0, 5.0, 10.0)  # before the next start, by how many in a row lived for less than SETTLED_S
SETTLED_S = 60.0
TOLD = (signal.SIGTERM, signal.SIGINT)


class Holder:
    """One socket, and one process at a time that is handed it."""

    def __init__(self, held: socket.socket, command: Sequence[str]) -> None:
        """Nothing runs yet."""
        self._held, self._command = held, list(command)
        self._stopped = False
        self._pid: int | None = None

    def run(self) -> int:
        """Keep a process at work until it ends by itself, or this one is told to stop; returns its exit code."""
        before = {number: signal.signal(number, self._stop) for number in TOLD}
        short = 0
        try:
            while True:
                began = time.monotonic()
                code = self._one()
                if code >= 0 or self._stopped:
                    return max(code, 0)
                short = 0 if time.monotonic() - began > SETTLED_S else short + 1
                LOG.error("the router was killed (%s); its socket is held, and it is started again", _named(-code))
                self._pause(PAUSES_S[min(short, len(PAUSES_S)) - 1] if short else 0.0)
        finally:
            self._held.close()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _one(self) -> int:
        """One process, from its start to its end: its exit code, or minus the signal that ended it."""
        signal.pthread_sigmask(signal.SIG_BLOCK, TOLD)  # until it is known whom to tell
        try:
            if self._stopped:
                return 0
            self._pid = handed(self._held, self._command)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, TOLD)
        code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        self._pid = None
        return code

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._stopped:
            time.sleep(0.05)

    def _stop(self, number: int, _: object) -> None:
        """Pass on that it is to stop, and let go of the socket: who comes now is to be refused at once."""
        self._stopped = True
        self._held.close()
        if self._pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self._pid, number)


def _named(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
