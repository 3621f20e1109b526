"""Stress and stability: does a loaded artifact answer callers at once and long prompts, and stay as fast and as small?

Runs inside a fresh child process, in a pass of its own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from typing import Any

import psutil

from tasks.backends.base import Session, backend
from tasks.measure import guard
from tasks.measure.timing import MB

PROMPTS = 4  # distinct ones of the soak
ASKED = 2  # by each caller under stress: threads of several callers that spin for the same cores are slow
SOAK_TOKENS = 12  # new tokens of each request of the soak
STRESS_TOKENS = 16  # of each request under stress


def measure_endurance(request: dict[str, Any]) -> dict[str, Any]:
    """Soak the artifact for `soak_s` seconds, then put it under stress (in the child)."""
    module = backend(request["backend"])
    module.import_runtime()
    artifact, threads = Path(request["artifact"]), request["threads"]
    settings = request["settings"]
    session: Session = module.load(artifact, threads, "generate", settings)
    before = guard.read()
    soaked = soak(session, request["short"][:PROMPTS], request["soak_s"])
    disturbance = guard.between(before, guard.read())
    failures = [] if _long(session, request["long"], request["stress_tokens"]) else ["a long prompt gave no answer"]
    callers = [session, *(module.load(artifact, threads, "generate", settings) for _ in range(request["callers"] - 1))]
    failures += at_once(callers, request["short"][: ASKED * len(callers)])
    return {
        **soaked,
        "failures": failures,
        "callers": len(callers),
        "disturbance": disturbance.model_dump(),
    }


def soak(session: Session, prompts: Sequence[Sequence[int]], seconds: float) -> dict[str, list[float]]:
    """Answer one request after another; latency in ms and resident memory in MB after each.

    Every prompt is answered once before, so that buffers that grow to their size do not pass for a leak.
    """
    process = psutil.Process()
    for ids in prompts:
        session.generate(ids, SOAK_TOKENS)
    latency, memory = [], []
    end = time.perf_counter() + seconds
    for ids in cycle(prompts):
        began = time.perf_counter()
        if began >= end:
            break
        session.generate(ids, SOAK_TOKENS)
        latency.append(1e3 * (time.perf_counter() - began))
        memory.append(process.memory_info().rss / MB)
    return {"latency_ms": latency, "rss_mb": memory}


def _long(session: Session, prompts: Sequence[Sequence[int]], tokens: int) -> bool:
    """Whether a prompt of `tokens` tokens, put together from the long ones, is answered."""
    stream = [token for ids in prompts for token in ids]
    long = [token for token, _ in zip(cycle(stream), range(tokens), strict=False)]
    return len(session.generate(long, STRESS_TOKENS)) == STRESS_TOKENS


def at_once(sessions: Sequence[Session], prompts: Sequence[Sequence[int]]) -> list[str]:
    """Let all sessions answer at the same time, each its own prompts; what went wrong, nothing if all is well.

    Every answer must be the one given when nobody else asks: callers that disturb each other's state differ.
    """
    shares = [list(prompts[i :: len(sessions)]) for i in range(len(sessions))]
    alone = [
        [session.generate(ids, STRESS_TOKENS) for ids in own] for session, own in zip(sessions, shares, strict=True)
    ]

    def ask(one: tuple[Session, list[Sequence[int]]]) -> list[list[int]]:
        session, own = one
        return [session.generate(ids, STRESS_TOKENS) for ids in own]

    with ThreadPoolExecutor(max_workers=len(sessions)) as pool:
        together = list(pool.map(ask, zip(sessions, shares, strict=True)))
    wrong = sum(a != b for own, other in zip(alone, together, strict=True) for a, b in zip(own, other, strict=True))
    return [f"{wrong} answers of {len(sessions)} callers at once differ from those given alone"] if wrong else []
