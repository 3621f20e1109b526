"""Speed and memory of one loaded artifact, inside a fresh child process; one axis a pass."""

from __future__ import annotations

import gc
import os
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from tasks.measure import guard
from tasks.measure.workload import Open, Prepare
from tasks.records.base import Quantity, Record
from tasks.records.hardware import Disturbance

MB = 2**20


class Times(Record):
    """Samples of one timed process."""

    samples: dict[str, list[float]]  # per metric
    sizes: dict[str, int] = {}  # of the requests
    runtime: dict[str, str] = {}  # empty unless it was asked for
    disturbance: Disturbance


class Memory(Record):
    """Resident memory of one process, MB (2**20 bytes)."""

    idle_rss_mb: float  # with its imports, before the model
    peak_rss_mb: float  # high-water mark


def quantity(samples: Sequence[float]) -> Quantity:
    """Median, extremes and count of repeated measurements; raises ValueError on none."""
    if not samples:
        raise ValueError("no samples")
    quartiles = statistics.quantiles(samples, n=4, method="inclusive") if len(samples) >= 4 else (None, None, None)
    return Quantity(
        p50=statistics.median(samples),
        low=min(samples),
        high=max(samples),
        n=len(samples),
        q25=quartiles[0],
        q75=quartiles[2],
    )


def time_phases(prepare: Prepare, load: Open, tell_runtime: bool) -> Times:
    """Time loading, the first call and the workload's phases."""
    prepare()
    began = time.perf_counter()
    work = load()
    load_s = time.perf_counter() - began
    began = time.perf_counter()
    work.first()
    first_call_ms = 1e3 * (time.perf_counter() - began)
    before = guard.read()
    samples = work.samples()
    disturbance = guard.between(before, guard.read())
    told = {**work.runtime(), "malloc": allocation()} if tell_runtime else {}  # some compile the model again for that
    return Times(
        samples={"load_s": [load_s], "first_call_ms": [first_call_ms], **samples},
        sizes=work.sizes(),
        runtime=told,
        disturbance=disturbance,
    )


def allocation() -> str:
    """What the C library was told of its memory; the system gives huge pages where it is asked for them."""
    return os.environ.get("GLIBC_TUNABLES", "") or "defaults"


def weigh(prepare: Prepare, load: Open) -> Memory:
    """Measure the peak resident memory of a process that answers a heavy request, and what it holds before the model.

    The peak is the kernel's own high-water mark, so nothing is sampled; memory-mapped weights count once touched.
    """
    prepare()
    gc.collect()
    idle = psutil.Process().memory_info().rss
    work = load()
    work.heavy()
    return Memory(idle_rss_mb=idle / MB, peak_rss_mb=peak_rss_bytes() / MB)


def peak_rss_bytes() -> int:
    """This process's high-water mark of resident memory, bytes.

    Linux has it in /proc: what getrusage tells there is never less than what the process that started this one took.
    """
    status = Path("/proc/self/status")
    if status.exists():
        told = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        if "VmHWM" in told:
            return int(told["VmHWM"].split()[0]) * 1024  # of "271412 kB"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes on macOS, kilobytes elsewhere
