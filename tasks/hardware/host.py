"""Put together what this machine is. Only facts that stay the same from run to run: a stage's cache depends on them."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path
from typing import Literal

from tasks.hardware import accelerators, cpu, memory
from tasks.hardware.limits import limits
from tasks.records.base import Reading
from tasks.records.hardware import Accelerator, Cache, Hardware

Family = Literal["intel", "amd", "nvidia", "apple-silicon", "arm-mobile", "arm-embedded", "generic"]

FAMILY_OF_VENDOR: dict[str, Family] = {"GenuineIntel": "intel", "AuthenticAMD": "amd"}


def host(root: Path = Path("/")) -> Hardware:
    """Detect this machine; every field that cannot be read carries the reason."""
    chip = cpu.processor(root)
    bounds = limits(root)
    found = accelerators.find(chip.model, root)
    architecture = cpu.architecture(platform.machine())
    board = board_name(root)
    kind = family(chip.vendor, architecture, board, found)
    return Hardware(
        device="host",
        origin="detected",
        family=kind,
        description=board or f"{chip.model or architecture}, {platform.system()}",
        machine_id=machine_id(chip.model, root),
        operating_system=Reading[str](value=operating_system()),
        architecture=Reading[str](value=architecture),
        cpu_model=_text(chip.model, "the system gives no processor name"),
        isa=Reading[tuple[str, ...]](value=chip.isa)
        if chip.isa
        else Reading[tuple[str, ...]](reason="the system lists no instruction set features"),
        physical_cores=cpu.physical_cores(),
        usable_cores=cpu.usable_cores(bounds.cores),
        caches=Reading[tuple[Cache, ...]](value=chip.caches)
        if chip.caches
        else Reading[tuple[Cache, ...]](reason="the system does not describe its caches"),
        memory_mb=memory.total_mb(bounds),
        disk_total_mb=memory.disk_mb(Path.cwd()),
        accelerators=found,
        power_budget_w=power_budget(root),
    )


def family(vendor: str, architecture: str, board: str, found: tuple[Accelerator, ...]) -> Family:
    """The row of the hardware matrix this machine belongs to; an NVIDIA or Apple GPU outweighs the CPU's maker."""
    runtimes = {a.runtime for a in found if a.available and a.kind == "gpu"}
    if "metal" in runtimes:
        return "apple-silicon"
    if "cuda" in runtimes:
        return "nvidia"
    if "ANDROID_ROOT" in os.environ:
        return "arm-mobile"
    if architecture == "arm64" and board:
        return "arm-embedded"
    return FAMILY_OF_VENDOR.get(vendor, "generic")


def board_name(root: Path = Path("/")) -> str:
    """The device tree's model ("Raspberry Pi 5 Model B"); empty on PCs, servers and Macs."""
    try:
        return (root / "proc/device-tree/model").read_text(errors="replace").strip("\0\n ")
    except OSError:
        return ""


def operating_system() -> str:
    """linux, darwin, windows or android."""
    return "android" if "ANDROID_ROOT" in os.environ else platform.system().lower()


def machine_id(chip: str, root: Path = Path("/")) -> Reading[str]:
    """A digest that tells this machine from others without giving its id away.

    The processor goes in too: machines started from one image share /etc/machine-id, and timings do not carry over.
    """
    try:
        identity, reason = (root / "etc/machine-id").read_text().strip(), ""
    except OSError:
        identity = ""
    if not identity:
        identity, reason = platform.node(), "from host name and processor: there is no /etc/machine-id"
    digest = hashlib.sha256(f"edgewright:{identity}:{chip}".encode()).hexdigest()
    return Reading[str](value=digest[:16], reason=reason)


def power_budget(root: Path = Path("/")) -> Reading[float]:
    """The processor's long-term power limit in watts, from Intel's and AMD's RAPL interface."""
    zone = root / "sys/class/powercap/intel-rapl:0"
    try:
        if (zone / "constraint_0_name").read_text().strip() == "long_term":
            return Reading[float](value=int((zone / "constraint_0_power_limit_uw").read_text()) / 1e6)
    except (OSError, ValueError):
        pass  # no such sensor, as in most virtual machines
    return Reading[float](reason="no readable RAPL power limit under /sys/class/powercap")


def _text(value: str, reason: str) -> Reading[str]:
    return Reading[str](value=value) if value else Reading[str](reason=reason)
