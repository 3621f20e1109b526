"""Rows of the metric catalogue for kinds of the family arrays: speed alone and together, and what all kinds have."""

from __future__ import annotations

from tasks.kinds import common_metrics as common
from tasks.kinds.catalogue import NEVER, Axis, CardLine, Catalogue, Column, Gate, MetricSpec, Place, speedup


def phases(one: str, many: str) -> tuple[MetricSpec, ...]:
    """Load, the first call, a row alone and rows together, in the kind's words for a row and for rows."""
    return (
        MetricSpec(
            name="load_s", title="load", group="speed", better="lower", unit="s", source="phase",
            card=CardLine("load, s", "{:.2f}", order=7),
        ),
        MetricSpec(
            name="first_call_ms", title="first call", group="speed", better="lower", form="whole", unit="ms",
            source="unscored",
        ),
        MetricSpec(
            name="latency_ms", title=f"{one} alone", group="speed", better="lower", unit="ms", source="phase",
            column=Column(f"{one} alone", f"time of one {one}, median", order=8, extras=("×",), drop=10, drop_extras=7),
            card=CardLine(f"one {one}, ms", "{:.2f}", order=9),
            axis=Axis("latency", 0.3, "log", "ms", words=f"the time of one {one}", order=3),
            headline=Place(2, f"one {one}"), watch=Place(2, f"time of one {one}"), slower=Place(1, f"one {one}"),
        ),
        MetricSpec(
            name="rows_per_s", title=f"{many} together", group="speed", better="higher", unit=f"{many}/s",
            source="phase", bound_by="arithmetic",
            column=Column(
                f"{many}/s", f"{many} a second in batches, median", order=9, extras=("×", "spread"), drop=NEVER,
                drop_extras=9,
            ),
            card=CardLine(f"{many}/s in batches", "{:.1f}", order=10),
            axis=Axis("throughput", 0.3, "log", f"{many}/s", order=2),
            headline=Place(1, many), watch=Place(1, f"{many} a second"), plane=Place(1, f"Quality and {many} a second"),
            slower=Place(3, f"{many} together"),
        ),
    )  # fmt: skip


def speedups(one: str, many: str) -> tuple[MetricSpec, ...]:
    """How many times as fast as the reference."""
    return (
        speedup(
            "throughput_speedup", "rows_per_s", f"{many} together", Gate("batch", 1.0), step=Place(1, many),
            claim=f"{many} {{}}", versus=f"{many} {{}}",
        ),
        speedup(
            "latency_speedup", "latency_ms", f"one {one}", Gate("alone"), step=Place(2, f"one {one}"),
            claim=f"one {one} {{}}", versus=f"one {one} {{}}",
        ),
    )  # fmt: skip


def catalogue(kind: str, quality: tuple[MetricSpec, ...], one: str, many: str) -> Catalogue:
    """The catalogue of a kind: its own quality, and what all of the family have."""
    return Catalogue(
        kind, quality, phases(one, many), common.SIZE, common.MEMORY, common.STABILITY, common.PLACEMENT,
        common.SECURITY, speedups(one, many), common.SHARES,
    )  # fmt: skip
