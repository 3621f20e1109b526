"""Which devices beside the processor a runtime may be tried on here, by what was found of the machine. Pure."""

from __future__ import annotations

from tasks.backends.base import Family
from tasks.backends.placing import AUTO, CPU
from tasks.records.hardware import Hardware

KINDS = ("gpu", "npu")
# Runtime of the accelerators that a backend of ours drives. MLX takes Metal by itself.
RUNTIMES: dict[tuple[str, Family], tuple[str, ...]] = {
    ("openvino", "tokens"): ("openvino",),
    ("openvino", "arrays"): ("openvino",),
    ("onnx", "arrays"): ("onnxruntime",),  # onnxruntime-genai's build for the processor runs language models
    ("gguf", "tokens"): ("cuda", "metal"),
    ("gguf", "arrays"): ("cuda", "metal"),
}


def devices(hardware: Hardware, backend: str, family: Family, asked: str) -> tuple[str, ...]:
    """Devices to try by the runtime's own names: all that are there for `auto`, else those that `asked` means.

    None where the processor is asked for, or what is asked for is not there.
    """
    if asked == CPU:
        return ()
    there = [
        (one.kind, _name(backend, one.name))
        for one in hardware.accelerators
        if one.available and one.kind in KINDS and one.runtime in RUNTIMES.get((backend, family), ())
    ]
    wanted = asked.lower()
    found = [name for kind, name in there if wanted in (AUTO, kind, name.lower(), name.split(".")[0].lower())]
    return tuple(dict.fromkeys(found))


def _name(backend: str, told: str) -> str:
    """The device as the runtime takes it: `GPU.0` of `GPU.0: name`; llama.cpp has one word for all of them."""
    return "GPU" if backend == "gguf" else told.split(":")[0]
