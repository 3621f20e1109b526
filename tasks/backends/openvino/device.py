"""What OpenVINO is asked for on the CPU, and what it then really uses."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

from tasks.backends.base import Settings, Tunable, threads_of
from tasks.hardware import cpu

# Activations of compressed layers are quantized while running, in groups of this many values. Against OpenVINO's own
# 32, long prompts are read 15% faster on two cores with AVX-512 VNNI; the sample's mean KL rises from 0.007 to 0.009
# nats in int8 and from 0.092 to 0.093 in int4.
RUNNING = {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "64"}
# The first value of each is what is used untold.
SETTINGS: Tunable = {
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": (RUNNING["DYNAMIC_QUANTIZATION_GROUP_SIZE"], "32", "128"),
    "KV_CACHE_PRECISION": ("u8", "bf16"),
    "PERFORMANCE_HINT": ("LATENCY", "THROUGHPUT"),
    "ENABLE_CPU_PINNING": ("YES", "NO"),
    "threads": ("all", "half"),
}


def asked(threads: int, settings: Settings | None) -> tuple[int, dict[str, str]]:
    """Threads and properties to ask for.

    Never one thread where there are more cores and AMX: floating-point models then end with a floating point exception
    (openvinotoolkit/openvino issue 33300). What was really used is read back by `runtime`.
    """
    count = min(max(threads_of(settings, threads), 2 if _has_amx() else 1), os.cpu_count() or 1)
    return count, RUNNING | {name: value for name, value in (settings or {}).items() if name != "threads"}


def takes_turns() -> str:
    """Why continuous batching cannot be used on this processor; empty where it can.

    Its attention over a paged cache has kernels for ARM with SVE alone (2026.4); without, a pipeline does not load.
    """
    here = cpu.architecture(platform.machine())
    if here != "arm64" or "sve" in _isa():
        return ""
    return "requests take turns: continuous batching needs SVE, which this processor lacks"


@cache
def _isa() -> tuple[str, ...]:
    return cpu.processor().isa


@cache
def _has_amx() -> bool:
    return any(one.startswith("amx") for one in _isa())


def properties_of(compiled: Any) -> dict[str, str]:
    """Execution and cache precision, mode, threads of a compiled model."""
    read = {"execution": "INFERENCE_PRECISION_HINT", "kv_cache": "KV_CACHE_PRECISION", "mode": "EXECUTION_MODE_HINT",
            "activation_group": "DYNAMIC_QUANTIZATION_GROUP_SIZE"}  # fmt: skip
    found = {name: _plain(compiled.get_property(key)) for name, key in read.items()}
    found |= {"threads": _plain(compiled.get_property("INFERENCE_NUM_THREADS"))}
    return found | ({"serving": why} if (why := takes_turns()) else {})


def _plain(value: Any) -> str:
    return getattr(value, "get_type_name", lambda: str(value))().replace("ExecutionMode.", "").strip("<>Type: '")


def compiled(file: Path, threads: int, properties: Settings) -> Any:
    """The model in `file` for the CPU."""
    import openvino as ov

    return ov.Core().compile_model(str(file), "CPU", {"INFERENCE_NUM_THREADS": threads, **properties})
