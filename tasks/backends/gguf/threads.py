"""How llama.cpp's threads wait for each other."""

from __future__ import annotations

import os
import sys

from tasks.hardware import cores

# Rounds that a thread of llama.cpp spins at a barrier before it sleeps: as fast as endless ones while cores are free.
SPINS = "2000"


def configure_openmp(threads: int) -> None:
    """Set how llama.cpp's threads wait for each other, which libgomp reads on loading; once it is loaded, do nothing.

    Threads that sleep at barriers are woken where the waker runs: two of them can share one core for seconds while the
    other is idle, and do whenever somebody takes a core for a moment. So where there is a core for each, each keeps to
    its own: as fast alone, and 2.5 times as fast beside a process that keeps one of two busy (39 against 15 tok/s).
    """
    if "llama_cpp" in sys.modules:
        return
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    if threads == len(cores.cores()):
        os.environ.setdefault("OMP_PROC_BIND", "true")
