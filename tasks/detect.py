"""Find out what the target device is: this machine, or a named profile (S1)."""

from __future__ import annotations

import sys
from typing import Any

from tasks.hardware.conditions import conditions
from tasks.hardware.host import host
from tasks.hardware.profiles import named
from tasks.params.load import load_params
from tasks.params.pipeline import HOST
from tasks.records.base import Reading
from tasks.records.hardware import Conditions, Hardware
from tasks.run.stage import main_of
from tasks.run.workspace import Workspace


def detect(device: str, key: str = "target.device") -> Hardware:
    """Describe `device`: "host" is this machine, anything else a profile of devices.yaml (ConfigError if unknown).

    `key` is where params.yaml names it.
    """
    return host() if device == HOST else named(device, key)


def work() -> None:
    """Write the hardware of the first target, which everything is made and timed for, and print what was found."""
    params = load_params()
    name = params.first_target
    key = f"targets.{name}.device" if params.targets else "target.device"
    hardware = detect(params.named_targets[name].device, key)
    hardware.write(Workspace().hardware)
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


def main(argv: list[str] | None = None) -> int:
    """Run the stage."""
    return main_of("tasks.detect", __doc__, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
