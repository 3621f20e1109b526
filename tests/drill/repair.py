"""Drills of watching and repairing: a real server, a real model, callers, faults, and the time until each is mended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from monitoring import notices
from monitoring.judge.alerts import Alert, Event
from tasks.errors import EdgewrightError
from tests.bench.harness import Figures, Limit
from tests.drill.faults import Timeline, hidden, hog, late, leak, restored, wrong
from tests.drill.reoptimized import foreign
from tests.drill.rig import tell
from tests.drill.watched import Watched, watched

CONTROL = 24  # windows without a fault
STORM = 1000

LIMITS = {
    "control_windows": Limit(least=CONTROL),
    "control_alerts": Limit(most=0),
    "control_actions": Limit(most=0),
    "repairs": Limit(least=6),
    "faults_not_repaired": Limit(most=0),
    "control_lost": Limit(most=0),
    "storm_notices": Limit(most=6),
}


def control(one: Watched, windows: int = CONTROL) -> dict[str, float]:
    """Ordinary traffic: alerts and actions, of which there must be none."""
    alerts: set[str] = set()
    for _ in range(windows):
        one.window()
        alerts |= {alert.name for alert in one.watching.state.alerts if alert.fired}
    return {
        "control_windows": windows,
        "control_alerts": len(alerts),
        "control_actions": len(one.watching.state.steps),
        "control_lost": sum(one.traffic.failed.values()),
    }


def storm(events: int = STORM) -> int:
    """So many alerts at once, and again with the next looks: messages that are sent."""
    sent: list[str] = []
    outbox = notices.Outbox()

    def send(title: str, text: str) -> bool:
        sent.append(text)
        return True

    for look in range(10):
        made = [
            Event(kind="fires", alert=Alert(name=f"alert-{number}", metric="error_rate", severity="warn", version="1",
                                            since=0.0, windows=1, fired=True, said="x", runbook="look"))
            for number in range(look * events // 10, (look + 1) * events // 10)
        ]  # fmt: skip
        outbox = notices.post(outbox, notices.lines(made), 60.0 * look, 6, send)
    return len(sent)


def drill(folder: Path) -> tuple[Figures, list[Timeline]]:
    """All of them."""
    figures: Figures = {}
    with watched(folder) as one:
        figures |= control(one)
        found = []
        for each in (hidden, hog, leak, late, wrong, foreign):
            try:
                restored(one)
                found.append(each(one))
            except (RuntimeError, EdgewrightError) as problem:  # the others are drilled all the same
                tell(f"{each.__name__} came to no end: {problem}")
                found.append(Timeline(each.__name__, time.time(), how=str(problem)[:300]))
        failed = sum(one.traffic.failed.values())
        figures["requests"] = one.traffic.sent
    figures["requests_lost"] = failed
    figures["repairs"] = len(found)
    figures["faults_not_repaired"] = sum(line.repaired_s is None for line in found)
    for line in found:
        name = line.name.replace(" ", "_")
        figures[f"{name}_found_s"], figures[f"{name}_mended_s"] = line.detected_s, line.repaired_s
        figures[f"{name}_lost"] = line.lost
    figures["storm_notices"] = storm()
    return figures, found


def report(found: Sequence[Timeline]) -> str:
    """The timelines as Markdown."""
    lines = ["# Faults and their repair", ""]
    for line in found:
        times = f"Found after {line.detected_s} s, mended after {line.repaired_s} s ({line.how})"
        entries = [f"* {entry}" for entry in line.lines]
        lines += [f"## {line.name}", f"{times}; {line.lost} requests lost.", "", *entries, ""]
    return "\n".join(lines)
