"""Processors and threads: how many this process may use."""

from __future__ import annotations

import os
from functools import cache

from tasks.hardware.limits import limits


def threads(asked: int) -> int:
    """Threads every runtime is given: the number asked for, or for 0 the cores this process may use."""
    return asked or usable_cores()


def shared_threads() -> int:
    """Threads for work that is not timed: EDGEWRIGHT_THREADS when the flow runs two such stages at once, else all."""
    return int(os.environ.get("EDGEWRIGHT_THREADS", "0")) or usable_cores()


def usable_cores() -> int:
    """Count the cores that this process may use: those it may run on, as far as a container's quota goes.

    A quota of one and a half is one: a second thread would be stopped for half of each period, and the first waits.
    """
    quota = _quota()
    return len(cores()) if quota is None else max(1, min(len(cores()), int(quota)))


@cache
def _quota() -> float | None:
    return limits().cores


def cores() -> tuple[int, ...]:
    """Numbers of the cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))
