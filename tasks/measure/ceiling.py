"""What the machine can do at most, inside a fresh child process: read memory, and multiply matrices per type.

The bounds are measured with PyTorch's own vectorized kernels, as no runtime here reads or multiplies faster than the
libraries that do nothing else (the idea of the roofline: Williams, Waterman and Patterson 2009).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tasks.measure import guard

READ_BYTES = 512 * 2**20  # past any cache
SIDE = 1536  # matrices of a size that fills the cores and still fits the cache in part
REPEATS = 7


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Read bandwidth in GB/s (1e9 bytes) and matrix throughput in GFLOP/s, `REPEATS` samples each (in the child)."""
    import torch

    torch.set_num_threads(request["threads"])
    before = guard.read()
    memory = torch.ones(READ_BYTES // 4)
    read = [READ_BYTES / 1e9 / seconds for seconds in _times(memory.sum)]
    del memory
    products, reasons = {}, {}
    for kind, multiply in _products(torch).items():
        try:
            products[kind] = [2 * SIDE**3 / 1e9 / seconds for seconds in _times(multiply)]
        except RuntimeError as error:  # NotImplementedError is one
            reasons[kind] = str(error).splitlines()[0]
    disturbance = guard.between(before, guard.read()).model_dump()
    return {"memory_gb_s": read, "gflop_s": products, "reasons": reasons, "disturbance": disturbance}


def _times(work: Callable[[], object]) -> list[float]:
    """Seconds of each of `REPEATS` calls, after one that is not counted."""
    work()
    taken = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return taken


def _products(torch: Any) -> dict[str, Callable[[], object]]:
    """A product of two square matrices per type; int8 sums up in int32."""
    left, right = torch.rand(SIDE, SIDE), torch.rand(SIDE, SIDE)
    half = left.bfloat16(), right.bfloat16()
    whole = (left * 100).to(torch.int8), (right * 100).to(torch.int8)
    return {
        "fp32": lambda: left @ right,
        "bf16": lambda: half[0] @ half[1],
        "int8": lambda: torch._int_mm(*whole),
    }
