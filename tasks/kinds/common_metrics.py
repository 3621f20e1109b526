"""Rows of the metric catalogue that hold for every kind of model: from size and memory to placement and security."""

from __future__ import annotations

from tasks.kinds.catalogue import NEVER, Axis, CardLine, Column, Gate, MetricSpec, Place

SIZE = (
    MetricSpec(
        name="artifact_mb",
        title="size on disk",
        group="memory",
        better="lower",
        form="whole",
        unit="MB",
        source="artifact",
        column=Column("size", "files as the runtime loads them, 10^6 bytes", order=1, drop=11),
        card=CardLine("size on disk, MB", "{:.1f}", order=13),
        axis=Axis("memory", 0.3, "log", "MB on disk", words="the artifact's size", stands_in=True, order=4),
    ),
)
MEMORY = (
    MetricSpec(
        name="peak_rss_mb",
        title="peak memory",
        group="memory",
        better="lower",
        form="whole",
        unit="MB",
        source="value",
        column=Column(
            "peak RSS",
            "memory of the whole process at its highest",
            order=10,
            extras=("% ref",),
            drop=NEVER,
            drop_extras=8,
        ),
        card=CardLine("peak memory of the process, MB", "{:.0f}", order=11),
        axis=Axis("memory", 0.3, "log", "MB peak", order=4),
        headline=Place(3, "peak memory"),
        watch=Place(4, "peak memory of the process"),
        plane=Place(2, "Quality and memory"),
    ),
    MetricSpec(
        name="model_rss_mb",
        title="memory above the idle runtime",
        group="memory",
        better="lower",
        form="whole",
        unit="MB",
        card=CardLine("peak memory above the idle runtime, MB", "{:.0f}", order=12),
    ),
)
STABILITY = (
    MetricSpec(
        name="latency_drift",
        title="latency over the soak",
        group="stability",
        better="lower",
        form="change",
        interval="requests",
        gate=Gate("drift", 0.25),
    ),
    MetricSpec(
        name="memory_growth",
        title="memory over the soak",
        group="stability",
        better="lower",
        form="change",
        interval="requests",
        gate=Gate("growth", 0.05),
    ),
    MetricSpec(
        name="stress_failures",
        title="failures under stress",
        group="stability",
        better="lower",
        form="count",
        gate=Gate("stress", 0, limits="count"),
    ),
)
PLACEMENT = (
    MetricSpec(
        name="placed_share",
        title="FLOPs where asked",
        group="placement",
        better="higher",
        form="percent",
        gate=Gate("placed", limits="share"),
        card=CardLine("share of FLOPs on the device that was asked for", "{:.0%}", order=17),
    ),
    MetricSpec(
        name="fallbacks",
        title="fallbacks",
        group="placement",
        better="lower",
        form="count",
        gate=Gate("fallbacks", limits="count"),
    ),
)
SECURITY = (
    MetricSpec(
        name="security_findings",
        title="security findings",
        group="security",
        better="lower",
        form="count",
        gate=Gate("security", 0, limits="count"),
    ),
)
SHARES = (
    MetricSpec(
        name="artifact_share",
        title="size on disk",
        group="memory",
        better="lower",
        form="share",
        of="artifact_mb",
        against="share",
        gate=Gate("size", 0.5, limits="share"),
    ),
    MetricSpec(
        name="memory_share",
        title="peak memory",
        group="memory",
        better="lower",
        form="share",
        of="peak_rss_mb",
        against="share",
        gate=Gate("memory", 0.5, limits="share"),
        step=Place(3, "peak memory"),
        claim="takes {} of its memory",
        versus="{} of the memory",
    ),
)
