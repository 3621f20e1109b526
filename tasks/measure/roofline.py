"""What the machine can do at most, inside a fresh child process: read memory, and multiply matrices per type.

The bounds are measured with PyTorch's own vectorized kernels, as no runtime here reads or multiplies faster than the
libraries that do nothing else (the idea of the roofline: Williams, Waterman and Patterson 2009).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tasks.measure import guard
from tasks.records.base import Record
from tasks.records.hardware import Disturbance

READ_BYTES = 512 * 2**20  # past any cache
SIDE = 1536  # matrices of a size that fills the cores and still fits the cache in part
SMALL_SIDE = 256  # for a type that this machine multiplies so slowly that a large product would take seconds
SLOW_S = 0.002  # a small product past this is one of those: PyTorch has no kernel for it here but a plain loop
REPEATS = 7

Maker = Callable[[Any, int], Callable[[], object]]  # (torch, side) -> one product of two square matrices


class RooflineRequest(Record):
    """Measure this machine with so many threads."""

    threads: int


class Roofline(Record):
    """A machine's ceilings, samples of each."""

    memory_gb_s: list[float]  # reading, 1e9 bytes
    gflop_s: dict[str, list[float]]  # matrix products per type, 1e9 operations
    reasons: dict[str, str]  # types that could not be measured
    disturbance: Disturbance


def measure(request: RooflineRequest) -> Roofline:
    """Read bandwidth in GB/s (1e9 bytes) and matrix throughput in GFLOP/s, `REPEATS` samples each (in the child)."""
    import torch

    torch.set_num_threads(request.threads)
    before = guard.read()
    memory = torch.ones(READ_BYTES // 4)
    read = [READ_BYTES / 1e9 / seconds for seconds in _times(memory.sum)]
    del memory
    products, reasons = {}, {}
    for kind, makers in PRODUCTS.items():
        found = _throughput(torch, makers)
        if isinstance(found, str):
            reasons[kind] = found
        else:
            products[kind] = found
    disturbance = guard.between(before, guard.read())
    return Roofline(memory_gb_s=read, gflop_s=products, reasons=reasons, disturbance=disturbance)


def _times(work: Callable[[], object]) -> list[float]:
    """Seconds of each of `REPEATS` calls, after one that is not counted."""
    work()
    taken = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return taken


def _throughput(torch: Any, makers: Sequence[Maker]) -> list[float] | str:
    """GFLOP/s of a product of two square matrices by the fastest kernel, large ones unless that takes seconds.

    When there is no kernel, the reason.
    """
    small, reason = {}, ""
    for maker in makers:
        try:
            small[maker] = min(_times(maker(torch, SMALL_SIDE)))
        except RuntimeError as error:  # NotImplementedError is one
            reason = str(error).splitlines()[0]
    if not small:
        return reason
    fastest = min(small, key=small.__getitem__)
    side = SMALL_SIDE if small[fastest] > SLOW_S else SIDE
    return [2 * side**3 / 1e9 / seconds for seconds in _times(fastest(torch, side))]


def _fp32(torch: Any, side: int) -> Callable[[], object]:
    left, right = torch.rand(side, side), torch.rand(side, side)
    return lambda: left @ right


def _bf16(torch: Any, side: int) -> Callable[[], object]:
    left, right = torch.rand(side, side).bfloat16(), torch.rand(side, side).bfloat16()
    return lambda: left @ right


def _int8_exact(torch: Any, side: int) -> Callable[[], object]:
    """Sums in int32; fast with VNNI or its like, a plain loop without."""
    left, right = ((100 * torch.rand(side, side)).to(torch.int8) for _ in range(2))
    return lambda: torch._int_mm(left, right)


def _int8_layer(torch: Any, side: int) -> Callable[[], object]:
    """A quantized layer as FBGEMM or QNNPACK runs it: fast without VNNI too."""
    if not hasattr(torch, "quantize_per_tensor"):
        raise RuntimeError("this PyTorch has no quantized tensors any more")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch 2.13 means to drop these tensors; the kernels are what counts here
        values = torch.quantize_per_tensor(torch.rand(side, side), 0.01, 0, torch.quint8)
        weights = torch.quantize_per_tensor(torch.rand(side, side) - 0.5, 0.01, 0, torch.qint8)
        packed = torch.ops.quantized.linear_prepack(weights, None)
    return lambda: torch.ops.quantized.linear(values, packed, 1.0, 0)


PRODUCTS: Mapping[str, tuple[Maker, ...]] = {
    "fp32": (_fp32,),
    "bf16": (_bf16,),
    "int8": (_int8_exact, _int8_layer),
}
