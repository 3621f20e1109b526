"""Speed and memory of one loaded artifact, inside a fresh child process; one axis a pass."""

from __future__ import annotations

import gc
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from tasks.backends.base import Session, backend
from tasks.measure import guard
from tasks.measure.statistics import percentile
from tasks.records import Quantity

WARM_UP_TOKENS = 4
MEMORY_TOKENS = 16
AFTER_LONGEST = 16  # new tokens after the longest prompt
BATCH, BATCH_TOKENS = 4, 16  # prompts at once, and new tokens of each
MB = 2**20


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


def spread_of(gaps_ms: Sequence[float]) -> dict[str, Any]:
    """Record fields of the times between tokens: median, extremes, the percentiles they carry, variation."""
    mean = statistics.fmean(gaps_ms)
    return {
        "inter_token_ms": quantity(gaps_ms),
        "inter_token_p95_ms": percentile(gaps_ms, 0.95),
        "inter_token_p99_ms": percentile(gaps_ms, 0.99),
        "inter_token_cv": statistics.pstdev(gaps_ms) / mean if mean else None,
    }


def measure_time(request: dict[str, Any]) -> dict[str, Any]:
    """Time the artifact in its runtime (in the child)."""
    return time_backend(backend(request["backend"]), request)


def time_backend(module: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Time load, first call, first token, prefill and decode.

    Every prompt is used once, so that no cache of an earlier one helps. Time to first token: prompt in, one token
    out. Prefill: prompt tokens over that time for the long prompts, and for one that is longer still. Decode: tokens
    after the first over the time between first and last, after a short prompt and after the longest. Batch: new tokens
    of some prompts at once over the whole time, reading them included.
    """
    module.import_runtime()
    began = time.perf_counter()
    session: Session = module.load(Path(request["artifact"]), request["threads"], "generate", request["settings"])
    load_s = time.perf_counter() - began
    short, long = request["short"], request["long"]
    began = time.perf_counter()
    session.generate(short[-1], WARM_UP_TOKENS)
    first_call_ms = 1e3 * (time.perf_counter() - began)
    repeats = request["repeats"]
    before = guard.read()
    gaps: list[float] = []
    timed = {
        "load_s": [load_s],
        "first_call_ms": [first_call_ms],
        "time_to_first_token_ms": [1e3 * _seconds(session, ids) for ids in short[:repeats]],
        "prefill_tokens_per_s": [len(ids) / _seconds(session, ids) for ids in long[:repeats]],
        "decode_tokens_per_s": [
            _decode(session, ids, request["new_tokens"], gaps)
            for ids in short[repeats : repeats + request["decode_repeats"]]
        ],
    }
    timed |= _after_longest(session, request["longest"]) | _batch(session, short[repeats:-1])
    disturbance = guard.between(before, guard.read())
    told = {"runtime": session.runtime()} if request["tell_runtime"] else {}  # some compile the model again for that
    return {**timed, **told, "inter_token_ms": gaps, "disturbance": disturbance.model_dump()}


def _after_longest(session: Session, longest: Sequence[Sequence[int]]) -> dict[str, list[float]]:
    """Reading a longer prompt and writing after it; nothing where the data gives no such prompt."""
    if not longest:
        return {}
    stamps = [time.perf_counter()]
    session.generate(longest[0], AFTER_LONGEST, lambda _: stamps.append(time.perf_counter()))
    return {
        "prefill_longest_tokens_per_s": [len(longest[0]) / (stamps[1] - stamps[0])],
        "decode_long_tokens_per_s": [(len(stamps) - 2) / (stamps[-1] - stamps[1])],
    }


def _batch(session: Session, prompts: Sequence[Sequence[int]]) -> dict[str, list[float]]:
    """Some prompts of one length at once; nothing where the data gives too few."""
    if len(prompts) < BATCH:
        return {}
    began = time.perf_counter()
    session.generate_batch(prompts[-BATCH:], BATCH_TOKENS)
    return {"batch_tokens_per_s": [BATCH * BATCH_TOKENS / (time.perf_counter() - began)]}


def _seconds(session: Session, ids: Sequence[int]) -> float:
    began = time.perf_counter()
    session.prefill(ids)
    return time.perf_counter() - began


def _decode(session: Session, ids: Sequence[int], new_tokens: int, gaps_ms: list[float]) -> float:
    """Tokens per second after the first; the times between tokens are added to `gaps_ms`."""
    stamps: list[float] = []
    session.generate(ids, new_tokens, lambda _: stamps.append(time.perf_counter()))
    gaps_ms += [1e3 * (later - earlier) for earlier, later in pairwise(stamps)]
    return (len(stamps) - 1) / (stamps[-1] - stamps[0])


def measure_memory(request: dict[str, Any]) -> dict[str, float]:
    """Peak resident memory of a process that serves a long prompt, and what it holds before the model (in the child).

    The peak is the kernel's own high-water mark, so nothing is sampled; memory-mapped weights count once touched.
    """
    module = backend(request["backend"])
    module.import_runtime()
    gc.collect()
    idle = psutil.Process().memory_info().rss
    session: Session = module.load(Path(request["artifact"]), request["threads"], "generate", request["settings"])
    session.generate(request["long"][0], MEMORY_TOKENS)
    return {"idle_rss_mb": idle / MB, "peak_rss_mb": peak_rss_bytes() / MB}


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
