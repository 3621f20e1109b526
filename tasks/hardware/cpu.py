"""Read what the processor is and which instructions it has: Linux /proc, macOS sysctl, elsewhere py-cpuinfo."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil

from tasks.records.base import Reading
from tasks.records.hardware import Cache

# Instructions that change how fast a model runs; the rest of the flags only make the record noisy.
ISA = (
    "sse4_2", "avx", "fma", "f16c", "avx2", "avx_vnni", "avx_vnni_int8", "avx512f", "avx512bw", "avx512vl",
    "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "amx_fp16",
    "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme",
)  # fmt: skip
SPELLINGS = {"avx1.0": "avx", "sse4.2": "sse4_2", "avx512vnni": "avx512_vnni", "avx512bf16": "avx512_bf16"}
# macOS names of the same features, under hw.optional.
APPLE_ISA = {
    "neon": "asimd", "AdvSIMD": "asimd", "arm.AdvSIMD": "asimd", "arm.FEAT_FP16": "asimdhp",
    "arm.FEAT_DotProd": "asimddp", "arm.FEAT_I8MM": "i8mm", "arm.FEAT_BF16": "bf16", "arm.FEAT_SME": "sme",
}  # fmt: skip
CACHE_KINDS: dict[str, Literal["data", "instruction", "unified"]] = {
    "Data": "data",
    "Instruction": "instruction",
    "Unified": "unified",
}
ARCHITECTURES = {"amd64": "x86_64", "x86_64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True)
class Processor:
    """Readings of one look at the processor."""

    vendor: str = ""
    model: str = ""
    isa: tuple[str, ...] = ()
    caches: tuple[Cache, ...] = field(default=())


def architecture(machine: str) -> str:
    """The one name used here for a machine type.

    >>> architecture("aarch64"), architecture("AMD64"), architecture("riscv64")
    ('arm64', 'x86_64', 'riscv64')
    """
    return ARCHITECTURES.get(machine.lower(), machine.lower())


def instructions(flags: list[str]) -> tuple[str, ...]:
    """The flags that matter, in a fixed order and one spelling.

    >>> instructions(["fpu", "AVX512VNNI", "avx2"])
    ('avx2', 'avx512_vnni')
    """
    have = {SPELLINGS.get(flag.lower(), flag.lower()) for flag in flags}
    return tuple(name for name in ISA if name in have)


def parse_cpuinfo(text: str) -> Processor:
    """Read Linux's /proc/cpuinfo. Arm cores give numbers in place of a model name; they are kept as they are."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon and value.strip():
            values.setdefault(key.strip(), value.strip())
    model = values.get("model name") or values.get("Model") or values.get("Hardware", "")
    if not model and "CPU part" in values:
        model = f"Arm implementer {values.get('CPU implementer', '?')} part {values['CPU part']}"
    flags = values.get("flags") or values.get("Features") or ""
    return Processor(vendor=values.get("vendor_id", ""), model=model, isa=instructions(flags.split()))


def parse_sysctl(text: str) -> Processor:
    """Read macOS's `sysctl hw machdep.cpu`."""
    values = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    flags = [name for key, name in APPLE_ISA.items() if values.get(f"hw.optional.{key}") == "1"]
    flags += f"{values.get('machdep.cpu.features', '')} {values.get('machdep.cpu.leaf7_features', '')}".split()
    model = values.get("machdep.cpu.brand_string", "")
    vendor = values.get("machdep.cpu.vendor", "Apple" if model.startswith("Apple") else "")
    return Processor(vendor=vendor, model=model, isa=instructions(flags), caches=_apple_caches(values))


def _apple_caches(values: dict[str, str]) -> tuple[Cache, ...]:
    """The fast cores' caches where the kernel tells them apart, else the machine's."""
    wanted: list[tuple[str, int, Literal["data", "instruction", "unified"]]] = [
        ("l1dcachesize", 1, "data"),
        ("l1icachesize", 1, "instruction"),
        ("l2cachesize", 2, "unified"),
        ("l3cachesize", 3, "unified"),
    ]
    found = []
    for name, level, kind in wanted:
        size = int(values.get(f"hw.perflevel0.{name}") or values.get(f"hw.{name}") or 0)
        if size:
            found.append(Cache(level=level, kind=kind, size_kb=size // 1024))
    return tuple(found)


def sysfs_caches(root: Path = Path("/")) -> tuple[Cache, ...]:
    """Caches as the first core sees them, from Linux's sysfs."""
    found = []
    for index in sorted(root.glob("sys/devices/system/cpu/cpu0/cache/index[0-9]*")):
        try:
            level = int((index / "level").read_text())
            kind = CACHE_KINDS[(index / "type").read_text().strip()]
            size = (index / "size").read_text().strip()
        except (OSError, ValueError, KeyError):
            continue  # a cache the kernel describes by half; the others still count
        units = {"K": 1, "M": 1024}
        if size[-1:] in units and size[:-1].isdigit():
            found.append(Cache(level=level, kind=kind, size_kb=int(size[:-1]) * units[size[-1]]))
    return tuple(found)


def processor(root: Path = Path("/")) -> Processor:
    """The processor of this machine; fields that could not be read are empty."""
    if (root / "proc/cpuinfo").exists():
        known = parse_cpuinfo((root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace"))
        return Processor(known.vendor, known.model, known.isa, sysfs_caches(root))
    if platform.system() == "Darwin":
        answer = subprocess.run(
            ["sysctl", "hw", "machdep.cpu"], capture_output=True, text=True, timeout=10, check=False
        )
        return parse_sysctl(answer.stdout)
    import cpuinfo  # more than a second, so only where nothing faster answers

    info = cpuinfo.get_cpu_info()
    return Processor(info.get("vendor_id_raw", ""), info.get("brand_raw", ""), instructions(info.get("flags", [])))


def physical_cores() -> Reading[int]:
    """Cores without hyper-threads."""
    count = psutil.cpu_count(logical=False)
    return Reading[int](value=count) if count else Reading[int](reason="the system does not tell cores from threads")


def usable_cores(quota: float | None) -> Reading[int]:
    """Logical cores this process may use: its affinity, and a container's `quota` in cores rounded down, at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if not allowed:
        return Reading[int](reason="the system does not say how many cores there are")
    return Reading[int](value=allowed if quota is None else max(1, min(allowed, int(quota))))
