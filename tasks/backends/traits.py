"""What the plan knows of a backend, told by the backend itself; everything has a neutral default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from tasks.params.pipeline import Variant
from tasks.records.base import Support
from tasks.records.hardware import Hardware
from tasks.records.model import ModelProfile
from tasks.records.terms import Precision

AS_STORED = "as-stored"  # the method of a variant that is the very file that the model came as, quantized once only
Mark = Literal["excellent", "llm", "good", "limited", "poor"]  # llm: excellent, for language models only


@dataclass(frozen=True)
class Advice:
    """A backend's best method on a platform."""

    precision: Precision
    method: str
    group_size: int
    why: str


@dataclass(frozen=True)
class Fallback:
    """Another way to make a variant, for processors that have none of some instructions, or of which none are known."""

    without: tuple[str, ...]  # names of hardware.isa
    method: str
    why: str


@dataclass(frozen=True)
class Groups:
    """Group sizes that a backend's kernels take, and what it does with widths that none of them divides."""

    sizes: tuple[int, ...]
    otherwise: Literal["channel", "pad", "skip"]
    only_these: bool = False  # no kernels for another size, even where it divides all widths


@dataclass(frozen=True)
class Corner:
    """A part of the space that is searched: a precision by a method, with the values of its knobs."""

    precision: Precision
    method: str = "default"
    families: tuple[str, ...] = ("tokens",)  # of models
    groups: tuple[int, ...] = (0,)
    symmetric: tuple[bool, ...] = (False,)
    ratios: tuple[float, ...] = (1.0,)
    bits: tuple[float, ...] = (0.0,)
    base: str = ""  # precision/method of the artifact that it is made from; empty: from the model
    nominal: float = 0.0  # bits per weight, scales included; 0: by precision and group


def _nothing_to_note(variant: Variant, model: ModelProfile, hardware: Hardware) -> list[str]:
    return []


def _never_as_stored(model: ModelProfile) -> Precision | None:
    return None


def _always_usable(variant: Variant, hardware: Hardware) -> Support:
    return Support(ok=True, reason="")


@dataclass(frozen=True)
class Traits:
    """A backend as the plan sees it."""

    marks: Mapping[str, Mark] = field(default_factory=dict)  # requirement of assess.requirements -> how well it is met
    advice: Mapping[str, Advice] = field(default_factory=dict)  # row of the hardware matrix, or "any"
    cannot_run: Mapping[str, str] = field(default_factory=dict)  # family of devices -> why it has no runtime there
    methods: Mapping[str, str] = field(default_factory=dict)  # precision/method -> why one would take it
    groups: Groups | None = None  # None: any group size
    fallbacks: Mapping[str, Fallback] = field(default_factory=dict)  # precision/method -> another way
    space: tuple[Corner, ...] = ()  # what a search tries
    # Runtimes of hardware.accelerators that it drives, by family of models; empty: the processor alone, or it chooses.
    drives: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    one_device: str = ""  # its one word for any of these; empty: it takes an accelerator's own name
    wheels: tuple[str, ...] = ()  # packages of which the platform's markers choose one
    slow_because: str = ""  # why it is not timed without the accelerator of SLOW_WITHOUT
    notes: Callable[[Variant, ModelProfile, Hardware], list[str]] = _nothing_to_note  # for a recipe's reasons
    as_stored: Callable[[ModelProfile], Precision | None] = _never_as_stored  # where it runs the file a model came as
    usable: Callable[[Variant, Hardware], Support] = _always_usable  # whether the processor has kernels for a variant
