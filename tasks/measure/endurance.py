"""Stress and stability: does a loaded artifact answer callers at once and long requests, and stay as fast and small?

Runs inside a fresh child process, in a pass of its own.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from itertools import count
from typing import NamedTuple

import psutil

from tasks.measure import guard
from tasks.measure.energy import WINDOWS, Meter, Spent
from tasks.measure.timing import MB
from tasks.measure.workload import Open, Prepare, Workload
from tasks.params.pipeline import Benchmark
from tasks.records.base import Record
from tasks.records.hardware import Disturbance

ASKED = 2  # by each caller under stress: threads of several callers that spin for the same cores are slow


class Endured(Record):
    """Results of a soak, with energy counted meanwhile, and of stress; empty where that was not asked for."""

    latency_ms: list[float] = []  # of each request of the soak
    rss_mb: list[float] = []  # after each
    spent: Spent | None = None
    energy_reason: str = ""  # why energy could not be counted
    failures: list[str] = []  # under stress
    disturbance: Disturbance  # of the soak


class Soaked(NamedTuple):
    """What every request of a soak took."""

    latency_ms: list[float]
    rss_mb: list[float]


def endure(prepare: Prepare, load: Open, settings: Benchmark, stress: bool) -> Endured:
    """Soak the artifact for `benchmark.soak_s` seconds, count its energy meanwhile, then put it under stress."""
    prepare()
    work = load()
    before = guard.read()
    meter = Meter() if settings.energy else None
    found = soak(work, settings.soak_s, meter)
    disturbance = guard.between(before, guard.read())
    failures: list[str] = []
    if stress:
        failures += [] if work.longest() else ["a long prompt gave no answer"]
        failures += at_once([work, *(load() for _ in range(settings.callers - 1))])
    return Endured(
        latency_ms=found.latency_ms,
        rss_mb=found.rss_mb,
        spent=meter.spent if meter else None,
        energy_reason=meter.problem if meter else "",
        failures=failures,
        disturbance=disturbance,
    )


def soak(work: Workload, seconds: float, meter: Meter | None = None) -> Soaked:
    """Make one request after another; latency in ms and resident memory in MB after each.

    Every request is made once before, so that buffers that grow to their size do not pass for a leak. A meter counts in
    windows, between which it is read.
    """
    process, found, numbers = psutil.Process(), Soaked([], []), count()
    for number in range(work.distinct):
        work.soak(number)
    for _ in range(WINDOWS if meter else 1):
        done, end = 0, time.perf_counter() + seconds / (WINDOWS if meter else 1)
        with meter.window(lambda: done) if meter else nullcontext():  # noqa: B023 - read before it changes again
            while not done or time.perf_counter() < end:
                began = time.perf_counter()
                done += work.soak(next(numbers))
                found.latency_ms.append(1e3 * (time.perf_counter() - began))
                found.rss_mb.append(process.memory_info().rss / MB)
    return found


def at_once(callers: Sequence[Workload]) -> list[str]:
    """Let all callers ask at the same time, each its own requests; what went wrong, nothing if all is well.

    Every answer must be the one given when nobody else asks: callers that disturb each other's state differ.
    """
    numbers = [range(first, ASKED * len(callers), len(callers)) for first in range(len(callers))]

    def ask(caller: Workload, own: range) -> list[Hashable]:
        return [caller.stress(number) for number in own]

    alone = [ask(caller, own) for caller, own in zip(callers, numbers, strict=True)]
    with ThreadPoolExecutor(max_workers=len(callers)) as pool:
        together = list(pool.map(ask, callers, numbers))
    wrong = sum(a != b for own, other in zip(alone, together, strict=True) for a, b in zip(own, other, strict=True))
    return [f"{wrong} answers of {len(callers)} callers at once differ from those given alone"] if wrong else []
