"""What a device is, and the state it is in."""

from __future__ import annotations

from typing import Literal

from tasks.records.base import Reading, Record


class Cache(Record):
    level: int
    kind: Literal["data", "instruction", "unified"]
    size_kb: int


class Accelerator(Record):
    """A device beside the CPU, or a runtime's way to one. `available` False carries the reason."""

    kind: Literal["gpu", "npu", "tpu", "cpu-provider"]
    name: str
    runtime: str  # "cuda", "openvino", "onnxruntime", "metal", ...
    available: bool
    reason: str = ""
    memory_mb: int | None = None


class Hardware(Record):
    """Description of a target device: only what stays the same from run to run on one machine."""

    device: str  # "host" or the profile's name
    origin: Literal["detected", "profile"]
    family: Literal[
        "intel", "amd", "nvidia", "apple-silicon", "apple-mobile", "arm-mobile", "arm-embedded", "edge-tpu",
        "cloud-edge", "generic",
    ]  # fmt: skip
    description: str
    machine_id: Reading[str]  # a digest, so that numbers of one machine are not taken for another's
    operating_system: Reading[str]  # linux, darwin, windows, ios, android
    architecture: Reading[str]  # x86_64, arm64
    cpu_model: Reading[str]
    isa: Reading[tuple[str, ...]]  # lower case: avx2 avx512f avx512_vnni avx512_bf16 amx_int8 asimddp i8mm ...
    physical_cores: Reading[int]
    usable_cores: Reading[int]  # after affinity and container limits
    caches: Reading[tuple[Cache, ...]]
    memory_mb: Reading[int]  # what a process may use: container limits respected
    disk_total_mb: Reading[int]
    accelerators: tuple[Accelerator, ...] = ()
    power_budget_w: Reading[float]

    @property
    def is_host(self) -> bool:
        """Tell whether numbers measured here are numbers of this device."""
        return self.origin == "detected"


class Conditions(Record):
    """The machine's state at one moment; it changes from run to run."""

    when: str  # UTC, ISO 8601
    load_1m: Reading[float]
    memory_free_mb: Reading[int]
    disk_free_mb: Reading[int]
    cpu_mhz: Reading[float]
    temperature_c: Reading[float]
    on_battery: Reading[bool]
    network: Reading[bool]


class Disturbance(Record):
    """Load that the rest of the machine had while something was timed."""

    seconds: float
    others_cores: float  # CPU time of other processes over the time passed
    stolen_cores: float | None  # the same, taken by the hypervisor; None where the system does not tell
    waited_s: float | None  # time the timed threads were ready but had no core
    throttled_s: float | None = None  # time for which a container's quota held it back; None where there is no quota

    @property
    def taken_cores(self) -> float:
        """All that was taken from what was timed."""
        return self.others_cores + (self.stolen_cores or 0.0)
