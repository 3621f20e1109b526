"""Read the machine's state at this moment: what changes from run to run and explains why two timings differ."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from tasks.hardware import memory
from tasks.hardware.limits import limits
from tasks.records.base import Reading
from tasks.records.hardware import Conditions

# The sensors that speak for the processor, best first.
CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "soc_thermal", "acpitz")


def conditions(folder: Path = Path()) -> Conditions:
    """The state now; `folder` is on the disk that is asked for room. Sends no traffic and waits for nothing."""
    return Conditions(
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        load_1m=_load(),
        memory_free_mb=memory.free_mb(limits()),
        disk_free_mb=memory.disk_mb(folder, "free"),
        cpu_mhz=_mhz(),
        temperature_c=temperature(_sensor("sensors_temperatures")),
        on_battery=_battery(_sensor("sensors_battery")),
        network=network(psutil.net_if_stats()),
    )


def temperature(sensors: Mapping[str, Any] | None) -> Reading[float]:
    """The hottest processor reading in degrees Celsius, from psutil's sensors."""
    for name in CPU_SENSORS:
        readings = [entry.current for entry in (sensors or {}).get(name, []) if entry.current]
        if readings:
            return Reading[float](value=float(max(readings)))
    return Reading[float](reason="no processor temperature sensor that this user can read")


def network(interfaces: Mapping[str, Any]) -> Reading[bool]:
    """Tell whether an interface other than the loopback is up, though not whether anything answers behind it."""
    up = sorted(name for name, state in interfaces.items() if state.isup and not name.startswith("lo"))
    return Reading[bool](value=bool(up), reason=f"up: {', '.join(up)}" if up else "no interface but the loopback is up")


def _load() -> Reading[float]:
    try:
        return Reading[float](value=round(os.getloadavg()[0], 2))
    except (OSError, AttributeError):  # Windows has none
        return Reading[float](reason="this system has no load average")


def _mhz() -> Reading[float]:
    try:
        frequency = psutil.cpu_freq()
    except (OSError, RuntimeError, NotImplementedError, AttributeError):
        frequency = None
    if frequency is None or not frequency.current:
        return Reading[float](reason="the system does not tell the processor's clock")
    return Reading[float](value=round(frequency.current, 1))


def _battery(battery: Any) -> Reading[bool]:
    if battery is None or battery.power_plugged is None:
        return Reading[bool](reason="no battery, or it does not tell")
    return Reading[bool](value=not battery.power_plugged)


def _sensor(name: str) -> Any:
    """A psutil sensor call; None where the platform has no such call or it fails."""
    call: Callable[[], Any] | None = getattr(psutil, name, None)
    try:
        return call() if call else None
    except (OSError, RuntimeError, ValueError):
        return None
