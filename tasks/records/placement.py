"""Where a runtime really puts a model, beside where it was asked to, and why the two differ."""

from __future__ import annotations

from typing import Literal

from tasks.records.base import Record

# Why something else is used: a file of the runtime or driver is not there; the device is not; it did not compile the
# model; it lacks an operator; it wants sizes that are fixed.
FallbackKind = Literal["library", "device", "compile", "operator", "shape"]


class Offered(Record):
    """A device as a runtime tells of it."""

    name: str
    available: bool
    reason: str = ""  # why not


class Fallback(Record):
    """What was asked for and is not used, or not for all of it."""

    asked: str
    used: str
    kind: FallbackKind
    reason: str


class OnDevice(Record):
    """What one device does of a model."""

    device: str
    operators: int
    flops_share: float | None  # of products and convolutions; None where their sizes are not told


class Placement(Record):
    """One model on one backend of this machine."""

    backend: str
    requested: str  # auto | cpu | gpu | npu | as the runtime names it
    resolved: str  # the device that most is done on, as the runtime says
    offered: tuple[Offered, ...] = ()
    fallbacks: tuple[Fallback, ...] = ()
    devices: tuple[OnDevice, ...] = ()
    transfers: int | None = None  # times that results go from one device to another; None where it is not told
    unsupported: tuple[str, ...] = ()  # operators that the requested device lacks
    precision: str = ""  # that it computes in
    threads: str = ""
    isa: str = ""  # variant of the kernels, where the runtime says so
    verified_by: str = ""  # what told it

    def share(self, device: str) -> float | None:
        """The share of FLOPs on a device, or None where it is not told."""
        found = next((one for one in self.devices if one.device == device), None)
        return found.flops_share if found is not None else 0.0 if self.devices else None

    @property
    def accelerated(self) -> bool:
        """Whether anything but a processor was asked for and does some of it."""
        return bool(self.devices) and any(not _is_cpu(one.device) and one.operators for one in self.devices)


def _is_cpu(device: str) -> bool:
    return device.upper().split(".")[0] in ("CPU", "CPUEXECUTIONPROVIDER")
