"""What the machine and the server's processes do, over a short while."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from monitoring.collect.windows import Machine
from tasks.serve.address import Address

WATCH_S = 1.0
CROWDED = 0.4  # of a processor, by one process of others
MB = 2**20
RAPL = Path("/sys/class/powercap")
THROTTLED = Path("/sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count")


def family(addresses: Sequence[Address]) -> dict[int, psutil.Process]:
    """The servers' processes and their children, by number."""
    found: dict[int, psutil.Process] = {}
    for address in addresses:
        process = address.process()
        if process is not None:
            with contextlib.suppress(psutil.Error):
                found |= {one.pid: one for one in (process, *process.children(recursive=True))}
    return found


def watch(addresses: Sequence[Address], energy_before: float | None = None, seconds: float = WATCH_S) -> Machine:
    """Look for `seconds` at the servers, the one that answers first; `energy_before` is of the window's beginning.

    Memory is that of the first: another may be kept warm beside it.
    """
    own = family(addresses)
    cores = psutil.cpu_count() or 1
    everybody = {one.pid: one for one in psutil.process_iter()}
    before = {pid: _cpu(one) for pid, one in everybody.items()}
    throttled = _throttled()
    began = time.monotonic()
    busy_before = _busy()
    time.sleep(seconds)
    took = time.monotonic() - began
    used = {pid: max(0.0, _cpu(one) - before[pid]) / took for pid, one in everybody.items()}
    busy = (_busy() - busy_before) / took
    ours = sum(used.get(pid, 0.0) for pid in own)
    memory = psutil.virtual_memory()
    energy, later = energy_before, read_energy()
    again = _throttled()
    return Machine(
        cores=cores,
        cpu_share=min(1.0, ours / cores) if own else None,
        others_share=max(0.0, min(1.0, (busy - ours) / cores)),
        memory_mb=sum(_memory(one) for one in family(addresses[:1]).values()) if own else None,
        energy_j=later - energy if energy is not None and later is not None and later >= energy else None,
        free_memory_mb=memory.available / MB,
        total_memory_mb=memory.total / MB,
        crowded=tuple(
            sorted({_core(everybody[pid]) for pid, share in used.items() if share > CROWDED and pid not in own} - {-1})
        ),
        throttled=None if throttled is None or again is None else again > throttled,
        on_battery=_on_battery(),
    )


def _on_battery() -> bool | None:
    """Whether the machine lives on its battery, which lowers clocks; None where it has none, or does not tell."""
    found = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    return None if found is None or found.power_plugged is None else not found.power_plugged


def read_energy() -> float | None:
    """Joules on the processors' counters, None where this user may not read them; they wrap, and a window has none."""
    total, found = 0.0, False
    for counter in RAPL.glob("intel-rapl:[0-9]/energy_uj"):
        with contextlib.suppress(OSError, ValueError):
            total += int(counter.read_text()) / 1e6
            found = True
    return total if found else None


def _busy() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def _cpu(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.Error):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0


def _memory(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.Error):
        return float(process.memory_info().rss) / MB
    return 0.0


def _core(process: psutil.Process) -> int:
    """Where it ran last; -1 where this system does not tell."""
    with contextlib.suppress(psutil.Error, AttributeError):
        return int(process.cpu_num())  # type: ignore[attr-defined,unused-ignore]
    return -1


def _throttled() -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int(THROTTLED.read_text())
    return None
