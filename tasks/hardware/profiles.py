"""Named device profiles that stand in for a device which is not at hand.

To add one: an entry in devices.yaml beside this file, then `target.device: <name>` in params.yaml. A field left out is
unknown, and the record says so.
"""

from __future__ import annotations

import difflib
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.errors import ConfigError
from tasks.records.base import Reading
from tasks.records.hardware import Accelerator, Cache, Hardware

DEVICES = Path(__file__).with_name("devices.yaml")


class Unit(BaseModel):
    """An accelerator as devices.yaml writes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["gpu", "npu", "tpu"]
    name: str
    runtime: str
    memory_mb: int | None = None


class Profile(BaseModel):
    """One entry of devices.yaml; only family and description must be there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Literal[
        "intel", "amd", "nvidia", "apple-silicon", "apple-mobile", "arm-mobile", "arm-embedded", "edge-tpu",
        "cloud-edge", "generic",
    ]  # fmt: skip
    description: str
    operating_system: str | None = None
    architecture: Literal["x86_64", "arm64"] | None = None
    cpu_model: str | None = None
    isa: tuple[str, ...] | None = None
    physical_cores: int | None = None
    usable_cores: int | None = None
    caches: tuple[Cache, ...] | None = None
    memory_mb: int | None = None
    disk_total_mb: int | None = None
    power_budget_w: float | None = None
    accelerators: tuple[Unit, ...] = ()


def named(device: str, key: str = "target.device") -> Hardware:
    """The profile called `device` as hardware; raises ConfigError with the nearest name and all that are allowed.

    `key` is where params.yaml names it.
    """
    known = profiles()
    if device not in known:
        allowed = ["host", *known]
        close = difflib.get_close_matches(device, allowed, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ConfigError(
            f"{key} {device!r} is not known; {hint}allowed: {', '.join(allowed)}; "
            f"to add one, write an entry in tasks/hardware/{DEVICES.name}"
        )
    return as_hardware(device, known[device])


@cache
def profiles(path: Path = DEVICES) -> dict[str, Profile]:
    """All profiles in the file; raises ConfigError naming the entry and field that is wrong."""
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    found = {}
    for name, entry in (raw or {}).items():
        try:
            found[str(name)] = Profile.model_validate(entry)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in (name, *first["loc"]))
            fields = ", ".join(Profile.model_fields)
            raise ConfigError(f"{path.name}: {where}: {first['msg']}; fields of a profile: {fields}") from error
    return found


def as_hardware(device: str, profile: Profile) -> Hardware:
    """The profile as the record that the rest of the pipeline reads."""
    readings: dict[str, dict[str, Any]] = {}
    for name in Profile.model_fields.keys() - {"family", "description", "accelerators"}:
        value = getattr(profile, name)
        unknown = f"profile {device} does not give it"
        readings[name] = Reading[Any](value=value, reason="" if value is not None else unknown).model_dump()
    return Hardware.model_validate(
        {
            **readings,
            "device": device,
            "origin": "profile",
            "family": profile.family,
            "description": profile.description,
            "machine_id": {"reason": "a profile stands for a class of devices, not for one machine"},
            "accelerators": [
                Accelerator(**unit.model_dump(), available=True).model_dump() for unit in profile.accelerators
            ],
        }
    )
