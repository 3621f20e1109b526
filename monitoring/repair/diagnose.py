"""S21: from the figures of a window to causes, the likeliest first, each with its evidence and what to do. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from statistics import median
from typing import Literal

import yaml

from monitoring.collect.windows import Machine, Window, comparable
from tasks.backends.table import backend
from tasks.records.base import Record
from tasks.records.terms import Backend

Trouble = Literal["slow", "memory", "accuracy", "compatibility"]
Step = Literal[
    "cores", "threads", "device", "batch", "context", "fresh", "smaller", "rollback", "reoptimize", "retrain"
]

REMEDIES = Path(__file__).with_name("remedies.yaml")
CPU_HIGH, BANDWIDTH_HIGH = 0.8, 0.9  # shares of the machine, as S21 has them
OTHERS_HIGH = 0.2
LITTLE_MEMORY = 0.1  # of the machine's, still free
MOST_OF_MEMORY = 0.5  # of the machine's, taken by the model: no room for a second version beside it
NEW = 12  # windows in which a version is suspected first

SLOW = ("first_token", "inter_token", "whole", "queue", "requests_per_s", "tokens_per_s")
WRONG = ("drift", "accuracy", "confidence")


class Setting(Record):
    """What is served, and on what."""

    backend: Backend
    version: str
    slots: int
    artifact_mb: float | None = None
    bandwidth_gb_s: float | None = None  # that this machine reads from memory at most, where that was measured
    accelerators: tuple[str, ...] = ()  # that its runtime could use here, by the runtime's own names
    windows_since_promotion: int | None = None  # None where it was longer ago than is remembered


class Cause(Record):
    """One explanation."""

    name: str
    trouble: Trouble
    weight: float  # 0 to 1: how far beyond what is usual its evidence is
    evidence: str
    steps: tuple[Step, ...]  # that may repair it, the mildest first
    remedy: str = ""  # of the framework


def diagnose(metric: str, windows: Sequence[Window], machine: Machine, setting: Setting) -> tuple[Cause, ...]:
    """Causes of an alert on `metric`, the likeliest first; the last resort of all is a person."""
    checks: tuple[Check, ...]
    if metric == "requests_per_s" and (missing := _log_missing(windows[-1])):
        checks = (lambda *_: missing,)
    elif metric.startswith(SLOW):
        checks = (_crowded, _clocked_down, _batch, _queue, _own_cpu, _bandwidth, _size, _new_version)
    elif metric.startswith(WRONG):
        checks = (_new_version_is_wrong, _drifted, _unsure)
    elif metric == "memory_mb":
        checks = (_memory, _size)
    else:
        checks = (_crowded, _broken, _new_version)
    found = [cause for check in checks if (cause := check(metric, windows, machine, setting))]
    table, framework = remedies(), backend(setting.backend).FRAMEWORK
    ranked = sorted(found, key=lambda cause: -cause.weight)
    return tuple(
        cause.model_copy(update={"remedy": table.get(framework or "", {}).get(cause.trouble, "")}) for cause in ranked
    )


@cache
def remedies() -> dict[str, dict[str, str]]:
    """By framework and trouble."""
    return dict(yaml.safe_load(REMEDIES.read_text(encoding="utf-8")))


Check = Callable[[str, Sequence[Window], Machine, Setting], Cause | None]


def _value(window: Window, name: str) -> float | None:
    figure = window.figures.get(name)
    return None if figure is None else figure.value


def _usual(windows: Sequence[Window], name: str) -> float | None:
    """The median of the windows before the newest that tell of it."""
    told = [value for window in comparable(windows, name) if (value := _value(window, name)) is not None]
    return median(told) if told else None


def _grown(windows: Sequence[Window], name: str) -> float | None:
    """How many times its usual value a figure has."""
    now, usual = _value(windows[-1], name), _usual(windows, name)
    return None if now is None or not usual else now / usual


def _log_missing(window: Window) -> Cause | None:
    """The server counted requests and the log has none of them: nothing is wrong with the server."""
    answered = _value(window, "answered")
    if window.rows or not answered:
        return None
    said = f"the server counted {answered:.0f} requests, the log has none of them"
    return Cause(name="the log is missing", trouble="compatibility", weight=1.0, evidence=said, steps=())


def _crowded(metric: str, windows: Sequence[Window], machine: Machine, setting: Setting) -> Cause | None:
    others = machine.others_share
    if others is None or others < OTHERS_HIGH:
        return None
    where = f", on processor {', '.join(map(str, machine.crowded))}" if machine.crowded else ""
    room = 0 < len(machine.crowded) < machine.cores
    steps: tuple[Step, ...] = ("cores", "threads", "smaller") if room else ("threads", "smaller")
    said = f"other processes take {others:.0%} of the processors{where}"
    return Cause(name="other processes", trouble="slow", weight=min(1.0, 0.6 + others), evidence=said, steps=steps)


def _own_cpu(metric: str, windows: Sequence[Window], machine: Machine, setting: Setting) -> Cause | None:
    share = machine.cpu_share
    if share is None or share <= CPU_HIGH:
        return None
    said = f"the server takes {share:.0%} of the processors, more than {CPU_HIGH:.0%}"
    return Cause(name="processor-bound", trouble="slow", weight=0.5 * share, evidence=said, steps=("smaller",))


def _bandwidth(metric: str, windows: Sequence[Window], machine: Machine, setting: Setting) -> Cause | None:
    """Each step of a decoder reads all weights once: their size over the time between tokens, beside the ceiling."""
    between, size, most = _value(windows[-1], "inter_token_p50_ms"), setting.artifact_mb, setting.bandwidth_gb_s
    if not between or not size or not most or (share := size / between / most) <= BANDWIDTH_HIGH:
        return None
    said = (
        f"decode reads {size / between:.1f} GB/s, {share:.0%} of the memory bandwidth, more than {BANDWIDTH_HIGH:.0%}"
    )
    return Cause(name="memory bandwidth", trouble="slow", weight=0.5 * min(1.0, share), evidence=said,
                 steps=("smaller",))  # fmt: skip


def _size(metric: str, windows: Sequence[Window], machine: Machine, setting: Setting) -> Cause | None:
    size, total = setting.artifact_mb, machine.total_memory_mb
    if size is None or total is None or size <= MOST_OF_MEMORY * total:
        return None
    said = f"the model's {size:.0f} MB are more than {MOST_OF_MEMORY:.0%} of this machine's {total:.0f} MB"
    return Cause(name="model too large", trouble="memory", weight=0.7, evidence=said, steps=("smaller",))


def _queue(metric: str, windows: Sequence[Window], machine: Machine, setting: Setting) -> Cause | None:
    queue, whole = _value(windows[-1], "queue_p95_ms"), _value(windows[-1], "whole_p50_ms")
    if queue is None or not whole or queue < 0.5 * whole:
        return None
    said = f"requests wait {queue:.0f} ms for a place (95% below), half of them take {whole:.0f} ms in all"
    return Cause(name="more requests than places", trouble="slow", weight=min(0.9, queue / (queue + whole)),
                 evidence=said, steps=("smaller",))  # fmt: skip


def _batch(metric: str, windows: Sequence[Window], machine: Machine, setting: Setting) -> Cause | None:
    """Each token takes longer while more requests than usual come: the batch is larger than the machine carries."""
    slower, busier = _grown(windows, "inter_token_p50_ms"), _grown(windows, "requests_per_s")
    if slower is None or busier is None or slower < 1.3 or busier < 1.3 or setting.slots < 2:
        return None
    said = (
        f"tokens take {slower:.1f} times as long as usual at {busier:.1f} times the requests, {setting.slots} at once"
    )
    return Cause(name="batch too large", trouble="slow", weight=0.6, evidence=said, steps=("batch", "smaller"))


def _clocked_down(metric: str, windows: Sequence[Window], machine: Machine, setting: Setting) -> Cause | None:
    hot = "the processor lowered its clock because of heat while it was watched" if machine.throttled else ""
    said = hot or ("the machine runs on its battery, which lowers clocks" if machine.on_battery else "")
    if not said:
        return None
    device: tuple[Step, ...] = ("device",) if setting.accelerators else ()
    name, weight = ("throttling", 0.8) if hot else ("battery", 0.5)
    return Cause(name=name, trouble="slow", weight=weight, evidence=said, steps=(*device, "threads", "smaller"))


def _new_version(metric: str, windows: Sequence[Window], machine: Machine, setting: Setting) -> Cause | None:
    age = setting.windows_since_promotion
    if age is None or age > NEW:
        return None
    said = f"version {setting.version} became champion {age} windows ago"
    return Cause(name="the new version", trouble="compatibility", weight=0.65 * (1 - age / (2 * NEW)), evidence=said,
                 steps=("rollback",))  # fmt: skip


def _new_version_is_wrong(metric: str, windows: Sequence[Window], machine: Machine, setting: Setting) -> Cause | None:
    """Only where answers changed and prompts did not: other prompts are no version's fault."""
    inputs = [signal for signal in windows[-1].signals if signal.family == "input" and signal.drifted]
    found = _new_version(metric, windows, machine, setting)
    if found is None or inputs:
        return None
    said = f"{found.evidence}, and prompts are what they were"
    return found.model_copy(update={"trouble": "accuracy", "weight": 0.9, "evidence": said})


def _drifted(metric: str, windows: Sequence[Window], machine: Machine, setting: Setting) -> Cause | None:
    moved = [signal for signal in windows[-1].signals if signal.drifted and signal.family == "input"]
    if not moved:
        return None
    said = "; ".join(f"{one.name} moved by {one.effect:.2f} (limit {one.limit:g})" for one in moved)
    return Cause(name="other prompts", trouble="accuracy", weight=0.8, evidence=said, steps=("reoptimize", "retrain"))


def _unsure(metric: str, windows: Sequence[Window], machine: Machine, setting: Setting) -> Cause | None:
    moved = [signal for signal in windows[-1].signals if signal.drifted and signal.family != "input"]
    if not moved:
        return None
    said = "; ".join(f"{one.name} moved by {one.effect:.2f} (limit {one.limit:g})" for one in moved)
    steps: tuple[Step, ...] = ("fresh", "rollback", "reoptimize", "retrain")
    return Cause(name="worse answers", trouble="accuracy", weight=0.7, evidence=said, steps=steps)


def _memory(metric: str, windows: Sequence[Window], machine: Machine, setting: Setting) -> Cause | None:
    now, usual = _value(windows[-1], "memory_mb"), _usual(windows, "memory_mb")
    if now is None:
        return None
    grown = f", usually {usual:.0f} MB" if usual else ""
    free, total = machine.free_memory_mb, machine.total_memory_mb
    little = free is not None and total is not None and free < LITTLE_MEMORY * total
    said = f"the server takes {now:.0f} MB{grown}" + (f"; {free:.0f} MB are free" if free is not None else "")
    leaks = usual is not None and now > 1.5 * usual
    steps: tuple[Step, ...] = ("fresh", "context", "smaller") if leaks else ("context", "batch", "smaller")
    weight = 0.9 if little else 0.7
    return Cause(name="memory grows" if leaks else "memory", trouble="memory", weight=weight, evidence=said,
                 steps=steps)  # fmt: skip


def _broken(metric: str, windows: Sequence[Window], machine: Machine, setting: Setting) -> Cause | None:
    said = f"{metric} in window {windows[-1].number}: {_value(windows[-1], metric)}"
    steps: tuple[Step, ...] = ("fresh", "rollback")
    acts = metric in ("error_rate", "restarts", "ready")
    return Cause(name="the server", trouble="compatibility", weight=0.5, evidence=said, steps=steps if acts else ())
