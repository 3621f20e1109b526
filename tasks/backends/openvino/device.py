"""What OpenVINO is asked for on the CPU, and what it then really uses."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from tasks.backends.base import Settings, Tunable, threads_of
from tasks.backends.devices import DEVICE, PROCESSOR, device_of
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
PRECISION: Tunable = {
    "INFERENCE_PRECISION_HINT": ("bf16", "f32")
}  # where a processor has bfloat16, that is the default


def settings() -> Tunable:
    """What may be tuned here: on a processor with bfloat16 also whether products are computed in it."""
    return {**SETTINGS, **PRECISION} if has_bf16() else SETTINGS


ANYWHERE = ("PERFORMANCE_HINT",)  # what other devices than the CPU take of the settings


class Asked(NamedTuple):
    """What a model is opened with."""

    threads: int
    properties: dict[str, str]
    device: str = PROCESSOR


def asked(threads: int, settings: Settings | None) -> Asked:
    """Threads, properties and device to ask for.

    Never one thread where there are more cores and AMX: floating-point models then end with a floating point exception
    (openvinotoolkit/openvino issue 33300). What was really used is read back by `runtime`.
    """
    count = min(max(threads_of(settings, threads), 2 if _has_amx() else 1), os.cpu_count() or 1)
    told = {name: value for name, value in (settings or {}).items() if name not in ("threads", DEVICE)}
    device = device_of(settings)
    if device != PROCESSOR:
        return Asked(count, {name: value for name, value in told.items() if name in ANYWHERE}, device)
    return Asked(count, RUNNING | told)


def options(threads: int, properties: Settings, device: str) -> dict[str, Any]:
    """Properties as a device takes them: threads are the CPU's alone."""
    return {"INFERENCE_NUM_THREADS": threads, **properties} if device == PROCESSOR else dict(properties)


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
def has_bf16() -> bool:
    """Whether OpenVINO computes in bfloat16 here unless told otherwise."""
    return any(one in _isa() for one in ("avx512_bf16", "amx_bf16"))


@cache
def _has_amx() -> bool:
    return any(one.startswith("amx") for one in _isa())


def properties_of(compiled: Any) -> dict[str, str]:
    """Execution and cache precision, mode, threads of a compiled model."""
    read = {"execution": "INFERENCE_PRECISION_HINT", "kv_cache": "KV_CACHE_PRECISION", "mode": "EXECUTION_MODE_HINT",
            "activation_group": "DYNAMIC_QUANTIZATION_GROUP_SIZE"}  # fmt: skip
    has = {str(name) for name in compiled.get_property("SUPPORTED_PROPERTIES")}  # a GPU has others than the CPU
    read |= {"threads": "INFERENCE_NUM_THREADS"}
    found = {name: _plain(compiled.get_property(key)) for name, key in read.items() if key in has}
    devices = [str(one).strip("()") for one in compiled.get_property("EXECUTION_DEVICES")]
    found |= {"device": ",".join(devices)} if devices != [PROCESSOR] else {}
    return found | ({"serving": why} if (why := takes_turns()) else {})


def _plain(value: Any) -> str:
    return getattr(value, "get_type_name", lambda: str(value))().replace("ExecutionMode.", "").strip("<>Type: '")


def compiled(file: Path, threads: int, properties: Settings, device: str = PROCESSOR) -> Any:
    """The model in `file` for a device."""
    import openvino as ov

    return ov.Core().compile_model(str(file), device, options(threads, properties, device))
