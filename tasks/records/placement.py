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

    @property
    def share_as_asked(self) -> float | None:
        """The share of FLOPs where it was asked for: of all devices but those fallen back to; None if not told."""
        if not self.devices or any(one.flops_share is None for one in self.devices):
            return None
        instead = {one.used for one in self.fallbacks}
        return sum(one.flops_share or 0.0 for one in self.devices if one.device not in instead)
