"""What else the machine did while something was timed, so that a neighbour is not measured by mistake.

One busy process beside llama.cpp on two cores has been seen to cut its decode from 103 to 11 tokens/s.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

import psutil
from filelock import FileLock, Timeout

from tasks.hardware.limits import throttled_s
from tasks.records.hardware import Disturbance

TASKS = Path("/proc/self/task")
DEVICE_LOCK = Path(tempfile.gettempdir()) / "edgewright-measure.lock"
QUIET_LOCK = Path(tempfile.gettempdir()) / "edgewright-quiet.lock"


class Clocks(NamedTuple):
    """Running totals, seconds."""

    wall: float
    busy: float  # all cores together, every process
    stolen: float | None  # taken by the hypervisor for other machines
    own: float  # this process and its ended children
    waited: float | None  # this process's threads, ready to run but without a core
    throttled: float | None = None  # held back by a container's quota


def read() -> Clocks:
    """The totals now."""
    machine, mine = psutil.cpu_times(), psutil.Process().cpu_times()
    busy = machine.user + machine.system + sum(getattr(machine, name, 0.0) for name in ("nice", "irq", "softirq"))
    own = mine.user + mine.system + getattr(mine, "children_user", 0.0) + getattr(mine, "children_system", 0.0)
    return Clocks(time.perf_counter(), busy, getattr(machine, "steal", None), own, waited(TASKS), throttled_s())


def waited(tasks: Path) -> float | None:
    """Run-queue delay of all threads, from the kernel's schedstat; None where it keeps none.

    The second number of /proc/PID/task/TID/schedstat: nanoseconds spent runnable, waiting for a core.
    """
    total, found = 0, False
    for file in tasks.glob("*/schedstat"):
        try:
            total += int(file.read_text().split()[1])
            found = True
        except (OSError, ValueError, IndexError):  # the thread ended meanwhile
            continue
    return total / 1e9 if found else None


def between(before: Clocks, after: Clocks) -> Disturbance:
    """Compute the cores that others took from `before` to `after`; the system counts in hundredths of a second.

    >>> between(Clocks(0, 10, 1.0, 2, 0.5), Clocks(10, 35, 1.5, 22, 1.0)).others_cores
    0.5
    """
    seconds = after.wall - before.wall
    if seconds <= 0:
        raise ValueError("no time has passed")
    others = max(0.0, (after.busy - before.busy) - (after.own - before.own)) / seconds
    stolen = None if before.stolen is None or after.stolen is None else (after.stolen - before.stolen) / seconds
    delay = None if before.waited is None or after.waited is None else max(0.0, after.waited - before.waited)
    held = None if before.throttled is None or after.throttled is None else after.throttled - before.throttled
    return Disturbance(
        seconds=round(seconds, 3),
        others_cores=round(others, 4),
        stolen_cores=None if stolen is None else round(stolen, 4),
        waited_s=None if delay is None else round(delay, 4),
        throttled_s=None if held is None else round(held, 4),
    )


def _taken(found: Disturbance) -> float:
    return found.taken_cores + (found.throttled_s or 0.0) / found.seconds


def objection(found: Disturbance, most_cores: float) -> str:
    """Say why a timing must be made again: others, or a quota, took more than `most_cores`; empty when it was quiet.

    >>> quiet = Disturbance(seconds=9.0, others_cores=0.03, stolen_cores=0.01, waited_s=0.1)
    >>> objection(quiet, 0.2), objection(quiet.model_copy(update={"others_cores": 0.9}), 0.2)
    ('', 'other processes took 0.91 of a core, the limit is 0.2')
    """
    held = (found.throttled_s or 0.0) / found.seconds  # summed over processors
    if held > most_cores:
        return f"the container's CPU quota took {held:.2g} of a core from it, the limit is {most_cores:g}"
    if found.taken_cores <= most_cores:
        return ""
    return f"other processes took {found.taken_cores:.2g} of a core, the limit is {most_cores:g}"


class Answer(Protocol):
    """A process's measurement, and what the machine did meanwhile."""

    @property
    def disturbance(self) -> Disturbance:
        """Compute what others took of the machine meanwhile."""
        ...


A = TypeVar("A", bound=Answer)


@dataclass(frozen=True)
class Timed(Generic[A]):
    """A process's measurement, and whether others disturbed it."""

    answer: A
    disturbance: Disturbance
    objection: str  # empty when it counts
    discarded: int = 0  # tries thrown away before it


def undisturbed(measure: Callable[[], A], label: str, most_cores: float, retries: int) -> Timed[A]:
    """Measure until the rest of the machine leaves it alone, at most `1 + retries` times; else the quietest try."""
    tried: list[Timed[A]] = []
    for _ in range(1 + retries):
        with quiet():
            answer = measure()
        disturbance = answer.disturbance
        tried.append(Timed(answer, disturbance, objection(disturbance, most_cores), len(tried)))
        if not tried[-1].objection:
            return tried[-1]
        print(f"  {label}: {tried[-1].objection}", file=sys.stderr, flush=True)
    return replace(min(tried, key=lambda one: _taken(one.disturbance)), discarded=len(tried) - 1)


@contextmanager
def quiet() -> Iterator[None]:
    """Hold the machine's quiet: each single timing does, and what wakes up by a schedule waits for it in between.

    It is held for seconds, unlike `device_to_itself`, which a whole benchmark holds.
    """
    with FileLock(QUIET_LOCK):
        yield


@contextmanager
def device_to_itself() -> Iterator[None]:
    """Hold the machine-wide lock on measuring; two benchmarks at once would measure each other."""
    lock = FileLock(DEVICE_LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(
            f"  another measurement runs on this machine ({DEVICE_LOCK}); waiting for it", file=sys.stderr, flush=True
        )
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
