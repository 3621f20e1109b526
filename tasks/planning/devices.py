"""Which devices beside the processor a runtime may be tried on here, by what was found of the machine."""

from __future__ import annotations

from tasks.backends.base import Family
from tasks.backends.placing import AUTO, CPU, KINDS
from tasks.backends.table import backend
from tasks.records.hardware import Hardware


def devices(hardware: Hardware, name: str, family: Family, asked: str) -> tuple[str, ...]:
    """Devices to try backend `name` on, by its own names: all that are there for `auto`, else those that `asked` means.

    None where the processor is asked for, or what is asked for is not there.
    """
    if asked == CPU:
        return ()
    traits, wanted = backend(name).TRAITS, asked.lower()
    there = [
        (one.kind, traits.one_device or one.name.split(":")[0])  # `GPU.0: its full name`
        for one in hardware.accelerators
        if one.available and one.kind in KINDS and one.runtime in traits.drives.get(family, ())
    ]
    found = [own for kind, own in there if wanted in (AUTO, kind, own.lower(), own.split(".")[0].lower())]
    return tuple(dict.fromkeys(found))
