"""Faults of a watched server, and the time until each is found and mended."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tasks.serve.log.prediction_log import NAME
from tests.drill.echo_server import Faults
from tests.drill.rig import LONG_S, idle, tell
from tests.drill.watched import Watched

HOGS = 3  # so that a quarter of it is left to the server
PROMOTED_S = 900.0  # for a promotion under such traffic, where three processes share two processors
PATIENCE = 40  # windows, for a repair

# Take one processor, for as long as whoever asked for it lives.
SPIN = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
parent = os.getppid()
while os.getppid() == parent:
    sum(range(10_000))
"""


@dataclass
class Timeline:
    """From a fault to its repair."""

    name: str
    injected: float
    detected_s: float | None = None
    repaired_s: float | None = None
    how: str = ""
    lost: int = 0
    lines: list[str] = field(default_factory=list)


def fault(
    one: Watched, name: str, alert: str, inject: Callable[[], None], mend: Callable[[], None],
    over: Callable[[], bool] | None = None, patience: int = PATIENCE,
) -> Timeline:  # fmt: skip
    """Inject, and take windows until the alert is over and no repair is under way; `mend` ends the fault at last."""
    lost_before, book = sum(one.traffic.failed.values()), one.watching.state.shown
    seen = book[-1].when if book else ""
    line = Timeline(name, time.time())
    tell(f"{name}: injected")
    inject()
    try:
        for _ in range(patience):
            one.window()
            now = time.time() - line.injected
            if line.detected_s is None and one.fired(alert):
                line.detected_s = round(now, 1)
            ended = line.detected_s is not None and not one.fired(alert) and one.watching.state.repair is None
            if ended and (over is None or over()):
                line.repaired_s = round(now, 1)
                break
    finally:
        mend()
    book = tuple(entry for entry in one.watching.state.shown if entry.when > seen)
    line.lines = [f"{entry.when} {entry.alert}: {entry.step} {entry.outcome}: {entry.said}" for entry in book]
    line.how = ", ".join(f"{entry.step} {entry.outcome}" for entry in book if entry.outcome != "applied")
    line.lost = sum(one.traffic.failed.values()) - lost_before
    tell(f"{name}: found after {line.detected_s} s, mended after {line.repaired_s} s by {line.how}; {line.lost} lost")
    return line


def hog(one: Watched) -> Timeline:
    """Others take one of the server's processors."""
    core = sorted(os.sched_getaffinity(0))[0]
    hogs: list[subprocess.Popen[bytes]] = []

    def begin() -> None:
        hogs.extend(subprocess.Popen([sys.executable, "-c", SPIN, str(core)]) for _ in range(HOGS))

    def end() -> None:
        for each in hogs:
            each.kill()
            each.wait()

    return fault(one, "others take a processor", "slow-tokens", begin, end)


def leak(one: Watched) -> Timeline:
    """The server keeps memory of each request."""
    color = one.rig.state().champion

    def moved() -> bool:
        return one.rig.state().champion != color

    return fault(
        one, "memory leaks", "memory", lambda: one.rig.fault(color, Faults(leak_mb=8.0)),
        lambda: one.rig.fault(color, None), moved,
    )  # fmt: skip


def hidden(one: Watched) -> Timeline:
    """The log is taken away, and brought back by a person once the alert has called one."""
    file = one.rig.store.folder / one.rig.state().champion / NAME
    away, line = file.with_name("hidden"), Timeline("log missing", time.time())
    tell("log missing: injected")
    file.replace(away)
    try:
        for _ in range(PATIENCE):
            one.window()
            if one.fired("silence"):
                line.detected_s = round(time.time() - line.injected, 1)
                break
    finally:
        away.replace(file)
    for _ in range(PATIENCE):
        if not one.fired("silence"):
            line.repaired_s = round(time.time() - line.injected, 1)
            break
        one.window()
    line.how = "an alert, and a person"
    tell(f"log missing: found after {line.detected_s} s, over after {line.repaired_s} s")
    return line


def restored(one: Watched) -> None:
    """The larger version with its defaults again, and windows of ordinary traffic behind it."""
    state, first = one.rig.state(), one.rig.versions[0]
    if state.slot(state.champion) != first:
        one.rig.store.give("repair", "drill", "as it was before the fault", first, patience_s=LONG_S)
        one.rig.until(idle, LONG_S, "the first version")
    for _ in range(4):
        one.window()


def promoted(one: Watched) -> None:
    """Let the other version take over, under traffic, and let some windows pass."""
    slot = one.rig.deploy()
    one.rig.until(idle, PROMOTED_S, "the end of a promotion")
    state = one.rig.state()
    if state.slot(state.champion).version != slot.version:
        raise RuntimeError(f"the promotion was rolled back: {state.reason}")
    for _ in range(3):
        one.window()


def late(one: Watched) -> Timeline:
    """A version that turns slow when its promotion is long over."""
    promoted(one)
    color = one.rig.state().champion
    version = one.rig.state().slot(color).version
    return fault(
        one, "a new version turns slow", "slow-tokens", lambda: one.rig.fault(color, Faults(slow=5.0)),
        lambda: one.rig.fault(color, None),
        lambda: one.rig.state().slot(one.rig.state().champion).version != version,
    )  # fmt: skip


def wrong(one: Watched) -> Timeline:
    """Callers judge a new version's answers wrong: as a model with permuted labels would be."""
    dice = random.Random(5)
    file = one.rig.store.folder / "feedback.jsonl"
    bad: set[str] = set()

    def answered(version: str, request_id: str) -> None:
        right = dice.random() < (0.25 if version in bad else 0.9)
        with file.open("a") as stream:
            stream.write(json.dumps({"request_id": request_id, "right": float(right)}) + "\n")

    one.traffic.answered = answered
    one.rig.store.give("repair", "drill", "another version, at once", one.rig.other(), patience_s=LONG_S)
    one.rig.until(idle, LONG_S, "the other version")
    for _ in range(6):  # what is right of the new version's answers becomes known
        one.window()
    version = one.rig.state().slot(one.rig.state().champion).version

    def mend() -> None:
        one.traffic.answered = lambda version, request_id: None

    return fault(
        one, "answers turn wrong", "drift", lambda: bad.add(version), mend,
        lambda: one.rig.state().slot(one.rig.state().champion).version != version,
    )  # fmt: skip
