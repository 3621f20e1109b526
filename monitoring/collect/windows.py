"""A window of the traffic as figures: each with how many rows it stands on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from monitoring.collect.metrics import BY_NAME
from monitoring.collect.signals import Signal, Verdict
from tasks.measure.statistics import smallest_sample, wilson
from tasks.records.base import Record

if TYPE_CHECKING:
    import pandas as pd

QUANTILES = {"first_token": "first_token_ms", "inter_token": "inter_token_ms", "whole": "whole_ms"}
ENOUGH = 30  # rows, for the interval of a median to span the middle third of them
GONE = "gone-away"  # the caller left: nothing failed


class Figure(Record):
    """One metric of a window; without a value, why."""

    value: float | None
    count: int  # rows it stands on
    low: float | None = None  # of its 95% interval, where one can be told
    high: float | None = None
    note: str = ""


class Window(Record):
    """What a window showed."""

    number: int
    began: float  # seconds since the epoch
    ended: float
    version: str  # that answered most, or where nobody asked is served; empty where no server runs either
    rows: int
    problems: dict[str, int] = Field(default_factory=dict)
    figures: dict[str, Figure] = Field(default_factory=dict)
    signals: tuple[Signal, ...] = ()
    drift: Verdict = "inconclusive"
    why: str = ""


def comparable(windows: Sequence[Window], metric: str) -> list[Window]:
    """The windows before the newest that tell what is usual of a metric: of its version only, where versions differ."""
    own = metric in BY_NAME and BY_NAME[metric].own
    return [window for window in windows[:-1] if not own or window.version == windows[-1].version]


class Machine(Record):
    """What the machine and the server's processes did while the window was taken; None where it cannot be told."""

    cores: int
    cpu_share: float | None = None  # of all processors, by the server
    others_share: float | None = None  # by all that is not the server
    memory_mb: float | None = None
    energy_j: float | None = None  # over the window, of the whole machine
    free_memory_mb: float | None = None
    total_memory_mb: float | None = None
    crowded: tuple[int, ...] = ()  # processors that others keep busy
    throttled: bool | None = None
    on_battery: bool | None = None  # None where there is none


class Counted(Record):
    """From /metrics over the window: how often, or how much at its end; None where nothing answered."""

    unauthorized: float | None = None
    too_large: float | None = None
    malformed: float | None = None
    refused: float | None = None  # told to come again
    answered: float | None = None  # requests, the router's own among them
    waiting: float | None = None
    ready: float | None = None
    restarts: float | None = None
    log_lines_lost: float | None = None


def figures(
    table: pd.DataFrame, seconds: float, machine: Machine, counted: Counted, price_per_hour: float,
    recent: pd.DataFrame | None = None,
) -> dict[str, Figure]:  # fmt: skip
    """Every metric of `monitoring.collect.metrics` that this window can tell, by name.

    Of few rows a percentile is told by the newest of `recent` as well: rows of this window and of those before, in
    order of time. A server that has become so slow that a window holds few answers is seen by that.
    """
    rows = len(table)
    asked = table[table["outcome"] != GONE] if rows else table
    good = asked[asked["outcome"] == "ok"] if rows else asked
    made: dict[str, Figure] = {}
    for name, column in QUANTILES.items():
        for share in (0.5, 0.95, 0.99):
            values, needed = _values(good, column), max(ENOUGH, smallest_sample(share))
            if 0 < len(values) < needed and recent is not None:
                values = _values(recent[recent["outcome"] == "ok"], column)[-needed:]
            made[f"{name}_p{round(100 * share)}_ms"] = quantile(values, share)
    made["queue_p95_ms"] = quantile(_values(asked, "queue_ms"), 0.95)
    made["confidence_p50"] = quantile(_values(good, "confidence"), 0.5)
    made["confidence_p5"] = quantile(_values(good, "confidence"), 0.05)
    made["requests_per_s"] = Figure(value=rows / seconds, count=rows)
    tokens = _values(table, "new_tokens")
    made["tokens_per_s"] = Figure(value=float(tokens.sum()) / seconds, count=rows)
    failed = len(asked) - len(good)
    refused = round(counted.refused or 0)  # never reached the log
    made["error_rate"] = share_of(failed + refused, len(asked) + refused)
    judged = _values(table, "judged")
    made["accuracy"] = share_of(float(judged.sum()), len(judged)) if len(judged) else _none("no answers were judged")
    clients = table["client"].value_counts() if rows else None
    busy = [int(count) for count in clients if count > 0] if clients is not None else []
    made["clients"] = Figure(value=float(len(busy)), count=rows)
    made["requests_per_client"] = Figure(value=float(max(busy)), count=rows) if len(busy) else _none("nobody asked")
    made["suspicious_rate"] = share_of(int(table["suspicious"].sum()) if rows else 0, rows)
    made |= _around(rows, seconds, machine, counted, price_per_hour)
    return made


def _around(rows: int, seconds: float, machine: Machine, counted: Counted, price_per_hour: float) -> dict[str, Figure]:
    made = {}
    for name in ("answered", "waiting", "ready", "restarts", "log_lines_lost"):
        value = getattr(counted, name)
        made[name] = Figure(value=value, count=1) if value is not None else _none("/metrics did not answer")
    for name in ("unauthorized", "too_large", "malformed"):
        value = getattr(counted, name)
        calls = rows + (value or 0)
        whole = share_of(value, calls) if value is not None else _none("/metrics did not answer")
        made[f"{name}_rate"] = whole
    for name in ("cpu_share", "others_share", "memory_mb"):
        value = getattr(machine, name)
        made[name] = Figure(value=value, count=1) if value is not None else _none("no server of this machine")
    energy = machine.energy_j
    told = energy is not None and rows
    made["energy_j_per_request"] = (
        Figure(value=energy / rows, count=rows) if told and energy is not None else _none("not measured on this device")
    )
    cost = price_per_hour * seconds / 3600
    made["cost_per_1000"] = (
        Figure(value=1000 * cost / rows, count=rows)
        if rows and price_per_hour
        else _none("nobody asked" if price_per_hour else "monitor.price_per_hour is not set")
    )
    return made


def quantile(values: NDArray[np.float64], share: float) -> Figure:
    """A percentile with its distribution-free interval (order statistics, binomial; Hahn and Meeker 1991, chapter 5).

    None where the sample is too small to carry it (`statistics.smallest_sample`).
    """
    from scipy.stats import binom

    count, far = len(values), max(share, 1 - share)
    if count < smallest_sample(far):
        return Figure(value=None, count=count, note=f"n too small: {count} of {smallest_sample(far)}")
    ordered = np.sort(values)
    low, high = (int(place) for place in binom.ppf([0.025, 0.975], count, share))
    return Figure(
        value=round(float(np.quantile(ordered, share)), 4), count=count,
        low=round(float(ordered[max(0, low - 1)]), 4), high=round(float(ordered[min(count - 1, high)]), 4),
    )  # fmt: skip


def share_of(some: float, whole: float) -> Figure:
    """A share with Wilson's interval (1927); none of nothing.

    >>> share_of(0, 100).high, share_of(0, 0).value
    (0.037, None)
    """
    if whole <= 0:
        return _none("nobody asked")
    low, high = wilson(some, whole)
    return Figure(value=round(some / whole, 6), count=round(whole), low=round(low, 4), high=round(high, 4))


def _values(table: pd.DataFrame, column: str) -> NDArray[np.float64]:
    values: NDArray[np.float64] = table[column].to_numpy(dtype=np.float64) if len(table) else np.array([])
    told: NDArray[np.float64] = values[np.isfinite(values)]
    return told


def _none(why: str) -> Figure:
    return Figure(value=None, count=0, note=why)
