"""Find out what the target device is: this machine, or a named profile (S1)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from tasks import paths
from tasks.config import load
from tasks.hardware.conditions import conditions
from tasks.hardware.host import host
from tasks.hardware.profiles import named
from tasks.records import Conditions, Hardware, Reading
from tasks.stage import run_stage


def detect(device: str) -> Hardware:
    """Describe `device`: "host" is this machine, anything else a profile of devices.yaml (ConfigError if unknown)."""
    return host() if device == "host" else named(device)


def parser() -> argparse.ArgumentParser:
    """Arguments of the stage."""
    return argparse.ArgumentParser(prog="python -m tasks.detect", description=__doc__)


def main(argv: Sequence[str] | None = None) -> int:
    """Write artifacts/hardware.json and print what was found."""
    parser().parse_args(argv)
    return run_stage(_stage)


def _stage() -> None:
    hardware = detect(load().target.device)
    hardware.write(paths.HARDWARE)
    sys.stdout.write(summary(hardware, conditions() if hardware.is_host else None))


def summary(hardware: Hardware, now: Conditions | None = None) -> str:
    """Readable lines: what the device is, what it has, what it lacks and why, and its state `now` where known."""
    lines = [f"{hardware.device} ({hardware.origin}, {hardware.family}): {hardware.description}"]
    for name, value in hardware:
        if isinstance(value, Reading):
            lines.append(f"  {name.replace('_', ' '):18} {_shown(value)}")
    for accelerator in hardware.accelerators:
        state = "available" if accelerator.available else f"no: {accelerator.reason}"
        lines.append(f"  {accelerator.runtime:12} {accelerator.kind:12} {accelerator.name}: {state}")
    if now is not None:
        lines.append(f"conditions at {now.when}")
        lines += [f"  {name.replace('_', ' '):18} {_shown(v)}" for name, v in now if isinstance(v, Reading)]
    return "\n".join(lines) + "\n"


def _shown(reading: Reading[Any]) -> str:
    value = reading.value
    if value is None:
        return f"unknown: {reading.reason}"
    if isinstance(value, tuple):
        value = " ".join(f"L{c.level}-{c.kind}={c.size_kb}kB" if hasattr(c, "level") else str(c) for c in value)
    elif isinstance(value, bool):
        value = "yes" if value else "no"
    return f"{value}" + (f" ({reading.reason})" if reading.reason else "")


if __name__ == "__main__":
    raise SystemExit(main())
