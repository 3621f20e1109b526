"""How close each variant comes to what the machine can do at most, as rows of a table."""

from __future__ import annotations

from typing import NamedTuple

from tasks.records.scores import Bound, RooflinePosition
from tasks.records.speed import Ceiling

ADVICE: dict[Bound, str] = {
    "memory-bound": "only fewer bits per weight make it faster here",
    "compute-bound": "more cores, or a narrower type in the arithmetic",
    "overhead-bound": "fewer bits will hardly help; other threads, another runtime or several requests at once may",
    "inconsistent": "repetitions differ too much, or pass the limit; quieten the machine, pin the threads, repeat",
    "unknown": "the ceiling for this arithmetic was not measured",
}


class Phase(NamedTuple):
    """One phase of one variant against its ceiling."""

    rate: str
    share: str
    bound: Bound
    advice: str


class Line(NamedTuple):
    """One variant."""

    variant: str
    decode: Phase
    prefill: Phase


def lines(found: tuple[RooflinePosition, ...]) -> list[Line]:
    """A line per variant measured on this device, the closest to the memory's limit first."""
    return [
        Line(
            one.variant,
            Phase(f"{one.decode_gb_s:.1f}", f"{one.decode_share:.0%}", one.decode_bound, ADVICE[one.decode_bound]),
            Phase(
                f"{one.prefill_gflop_s:.0f}",
                f"{one.prefill_share:.0%} of {one.arithmetic}" if one.prefill_share is not None else "unknown",
                one.prefill_bound,
                ADVICE[one.prefill_bound],
            ),
        )
        for one in sorted(found, key=lambda one: -one.decode_share)
    ]


def sentence(ceiling: Ceiling) -> str:
    """The ceilings in words, with what cannot be trusted about them."""
    products = ", ".join(f"{kind} {speed.p50:.0f}" for kind, speed in ceiling.gflop_s.items())
    text = (
        f"Measured with {ceiling.threads} threads: memory is read at {ceiling.memory_gb_s.p50:.1f} GB/s "
        f"(spread {ceiling.memory_gb_s.spread:.0%}, {ceiling.memory_gb_s.n} times), matrices multiply at "
        f"{products} GFLOP/s."
    )
    missing = "".join(f" {kind} was not measured: {reason}." for kind, reason in ceiling.reasons.items())
    return text + missing + (f" The machine was busy: {ceiling.busy}." if ceiling.busy else "")
