"""What placements of all backends share: names of kinds of devices, and why a compilation failed, by its words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from tasks.records.placement import Fallback, FallbackKind, OnDevice

AUTO, CPU = "auto", "cpu"
KINDS = ("gpu", "npu", "tpu")  # what may be asked for without a runtime's own name for it
FIXED = ("npu", "qnnexecutionprovider", "openvinoexecutionprovider.npu")  # compile models of fixed sizes alone
# Words of runtimes and drivers that tell why; the first that fits.
SAYINGS: tuple[tuple[FallbackKind, str], ...] = (
    ("library", r"cannot open shared object|lib\w+\.(so|dylib)|\.dll|not find .*plugin|failed to load library"),
    ("shape", r"dynamic (shape|dimension|batch|rank|model)|static shape|upper bound|is dynamic"),
    ("device", r"no (available )?devices?|not registered|device.*(not found|unavailable|absent)|cannot find device"),
    ("operator", r"unsupported op|not supported op|no kernel|operation.*(is not|isn.t) supported|not implemented.*op"),
)


def why(words: str) -> FallbackKind:
    """The kind of a failure by what a runtime said of it; what tells nothing else is a failed compilation.

    >>> why("Cannot load library: libOpenCL.so.1: cannot open shared object file")
    'library'
    >>> why("Device with \\"NPU\\" name is not registered in the OpenVINO Runtime")
    'device'
    >>> why("Invalid value for property")
    'compile'
    """
    return next((kind for kind, pattern in SAYINGS if re.search(pattern, words, re.IGNORECASE)), "compile")


def open_sizes(asked: str, used: str, inputs: Iterable[str]) -> list[Fallback]:
    """Why a device that compiles fixed sizes alone takes no model with inputs of open ones; none for other devices."""
    names = sorted(inputs)
    if asked.lower() not in FIXED or not names:
        return []
    said = f"it compiles models of fixed sizes alone, and sizes are open of {', '.join(names)[:200]}"
    return [Fallback(asked=asked, used=used, kind="shape", reason=said)]


def first_line(error: BaseException) -> str:
    """What a runtime said, in a line: the last of its words that say something, without its places in sources."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not re.match(r"(Exception|Check) .*(failed )?(from|at) ", line)]
    return (telling or lines or [type(error).__name__])[-1][:300]


def by_device(placed: Mapping[str, str], flops: Mapping[str, float]) -> tuple[OnDevice, ...]:
    """Operators and the share of FLOPs of each device, the largest first; `placed` is operator -> device.

    >>> by_device({"a": "NPU", "b": "CPU", "c": "CPU"}, {"a": 90.0, "b": 10.0})[0]
    OnDevice(device='NPU', operators=1, flops_share=0.9)
    """
    counted = Counter(placed.values())
    whole = sum(flops.get(name, 0.0) for name in placed)
    own = {device: sum(flops.get(name, 0.0) for name, on in placed.items() if on == device) for device in counted}
    found = [
        OnDevice(device=device, operators=count, flops_share=round(own[device] / whole, 4) if whole else None)
        for device, count in counted.items()
    ]
    return tuple(sorted(found, key=lambda one: (-(one.flops_share or 0.0), -one.operators)))


def transfers(order: Iterable[str], edges: Mapping[str, Sequence[str]], placed: Mapping[str, str]) -> int:
    """Results that go from one device to another: edges between operators of different devices.

    >>> transfers(["a", "b"], {"b": ["a"]}, {"a": "CPU", "b": "NPU"})
    1
    """
    return sum(
        placed[name] != placed[source]
        for name in order
        for source in edges.get(name, ())
        if name in placed and source in placed
    )
