"""Drills of watching and repairing: a real server, a real model, callers, faults, and the time until each is mended.

Windows are seconds long, so that hours pass in minutes; all else is what `make monitor` runs.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from flows import monitor as command
from flows.bench import Limit
from flows.drill import tell
from flows.echo import Faults
from flows.reoptimize import Loop, window_file
from flows.rig import LONG_S, ROOT, Rig, Traffic, idle, serving
from monitoring import drift, notices
from monitoring.alerts import Alert, Event
from monitoring.hand import Long
from monitoring.watch import Place, Watch, World
from monitoring.windows import Window
from tasks import config
from tasks.backends import gguf
from tasks.errors import EdgewrightError
from tasks.models.source import sample_path
from tasks.models.text_data import read_rows
from tasks.promotion.__main__ import packaged
from tasks.serve.prediction_log import NAME

WINDOW_S = 8.0
MEASURED_S = 60.0  # a window while an optimization measures: to look more often would be among what it measures
CONTROL = 24  # windows without a fault
STORM = 1000
HOGS = 3  # so that a quarter of it is left to the server
TOKENS, CALLERS, PAUSE_S = 6, 3, 0.15
PROMOTED_S = 900.0  # for a promotion under such traffic, where three processes share two processors
PATIENCE, LONG = 40, 90  # windows, for a repair, and for one with an optimization in it
# The quick profile, but with as many rows as its gates need to decide: with ten, retention is inconclusive.
ROWS = {"profiles.quick.data.evaluation_rows": 40}

# Take one processor, for as long as whoever asked for it lives.
SPIN = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
parent = os.getppid()
while os.getppid() == parent:
    sum(range(10_000))
"""

RULES: dict[str, dict[str, Any]] = {
    "slow-tokens": {
        "metric": "inter_token_p50_ms",
        "kind": "rate",
        "above": 1.5,
        "windows": 2,
        "severity": "page",
        "runbook": "look",
    },
    "memory": {"metric": "memory_mb", "kind": "rate", "above": 1.5, "severity": "page", "runbook": "look"},
    "errors": {"metric": "error_rate", "above": 0.05, "severity": "page", "runbook": "look"},
    "silence": {"metric": "requests_per_s", "kind": "absent", "windows": 2, "severity": "warn", "runbook": "look"},
    "drift": {"metric": "drift", "kind": "drift", "severity": "page", "runbook": "look"},
}
REPAIR = {"observe_s": WINDOW_S, "cool_down_s": 0.0, "per_day": 1000}
DRIFT = {"fewest": 60}
# Sentences of another language, made of parts: what callers of another country would send.
WHO = (
    "Meine Nachbarin",
    "Der Gemüsehändler",
    "Die Kapitänin des Fährschiffs",
    "Unser Hausmeister",
    "Ein müder Lokführer",
)
WHAT = ("fragt sich seit Tagen", "möchte endlich wissen", "hat gestern vergeblich nachgeschlagen", "streitet darüber")
WHY = (
    "weshalb Brötchen über Nacht zäh werden", "wie man Schnürsenkel ohne Schleife bindet",
    "ob Eichhörnchen ihre Vorräte wiederfinden", "warum Straßenbahnen in Kurven quietschen",
    "wieviel Übergepäck die Fluggesellschaft erlaubt",
)  # fmt: skip

LIMITS = {
    "control_windows": Limit(least=CONTROL),
    "control_alerts": Limit(most=0),
    "control_actions": Limit(most=0),
    "repairs": Limit(least=6),
    "faults_not_repaired": Limit(most=0),
    "control_lost": Limit(most=0),
    "storm_notices": Limit(most=6),
}


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


@dataclass
class Bench:
    """A rig, its monitor, and callers."""

    rig: Rig
    traffic: Traffic
    watching: Watch
    scratch: Path
    long: Long | None = None

    def world(self) -> World:
        """As `make monitor` sees it, without the evaluation data of this checkout, and without a registry."""
        params = config.load(self.rig.folder / "params.yaml")
        made = command.world(self.watching.place, params, [Path(one.package) for one in self.rig.versions], self.long)
        return made._replace(evaluated=None, link=None)

    def window(self) -> Window:
        """Wait for a window's length, and look."""
        length = MEASURED_S if self.traffic.paused else WINDOW_S
        time.sleep(max(0.0, self.watching.state.until + length - time.time()))
        made = self.watching.look(self.world())
        tell(command.told(made, self.watching))
        return made

    def fired(self, name: str) -> bool:
        """Whether an alert fires."""
        return any(alert.name == name and alert.fired for alert in self.watching.state.alerts)


@contextmanager
def bench(folder: Path) -> Iterator[Bench]:
    """Two versions of the sample, a larger and a smaller one; the larger serves."""
    drift.prepare()  # a monitor that has long been at work has it
    folder.mkdir(parents=True, exist_ok=True)
    large, small = folder / "large" / gguf.FILE, folder / "small" / gguf.FILE
    for file in (large, small):
        file.parent.mkdir()
    gguf.quantize(sample_path(), large, "q8_0", os.cpu_count() or 1, again=True)
    small.write_bytes(sample_path().read_bytes())
    rules = yaml.safe_load((ROOT / "params.yaml").read_text())["monitor"]
    block = rules | {"window_s": WINDOW_S, "rules": RULES, "repair": REPAIR, "drift": rules["drift"] | DRIFT}
    few = {"shares": [50, 100], "real": 0.1, "fewest": 10, "mirror": 1.0}
    rollout = few | {"start_s": 60.0, "tick_s": 0.5}
    made = Rig(
        folder / "rig", rollout, "flows.faulty",
        {"slots": 4, "context_tokens": 512, "log_text": True}, {"monitor": block}, (large, small),
    )  # fmt: skip
    place = Place(
        made.store, made.folder / "monitor", made.folder / "mlruns" / "repairs.jsonl",
        made.folder / "mlruns" / "rollouts.jsonl", made.base,
    )  # fmt: skip
    with serving(made), Traffic(made.base, made.model, CALLERS, tokens=TOKENS, pause_s=PAUSE_S) as traffic:
        traffic.prompts = [row[:200] for row in read_rows("gsm8k")[:400]]
        watching = Watch(place, config.load(made.folder / "params.yaml").monitor)
        yield Bench(made, traffic, watching, folder)


def control(one: Bench, windows: int = CONTROL) -> dict[str, float]:
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


def fault(
    one: Bench, name: str, alert: str, inject: Callable[[], None], mend: Callable[[], None],
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


def hog(one: Bench) -> Timeline:
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


def leak(one: Bench) -> Timeline:
    """The server keeps memory of each request."""
    color = one.rig.state().champion

    def moved() -> bool:
        return one.rig.state().champion != color

    return fault(
        one, "memory leaks", "memory", lambda: one.rig.fault(color, Faults(leak_mb=8.0)),
        lambda: one.rig.fault(color, None), moved,
    )  # fmt: skip


def hidden(one: Bench) -> Timeline:
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


def restored(one: Bench) -> None:
    """The larger version with its defaults again, and windows of ordinary traffic behind it."""
    state, first = one.rig.state(), one.rig.versions[0]
    if state.slot(state.champion) != first:
        one.rig.store.give("repair", "drill", "as it was before the fault", first, patience_s=LONG_S)
        one.rig.until(idle, LONG_S, "the first version")
    for _ in range(4):
        one.window()


def promoted(one: Bench) -> None:
    """Let the other version take over, under traffic, and let some windows pass."""
    slot = one.rig.deploy()
    one.rig.until(idle, PROMOTED_S, "the end of a promotion")
    state = one.rig.state()
    if state.slot(state.champion).version != slot.version:
        raise RuntimeError(f"the promotion was rolled back: {state.reason}")
    for _ in range(3):
        one.window()


def late(one: Bench) -> Timeline:
    """A version that turns slow when its promotion is long over."""
    promoted(one)
    color = one.rig.state().champion
    version = one.rig.state().slot(color).version
    return fault(
        one, "a new version turns slow", "slow-tokens", lambda: one.rig.fault(color, Faults(slow=5.0)),
        lambda: one.rig.fault(color, None),
        lambda: one.rig.state().slot(one.rig.state().champion).version != version,
    )  # fmt: skip


def wrong(one: Bench) -> Timeline:
    """Callers judge a new version's answers wrong: as a model with permuted labels would be."""
    dice = random.Random(5)  # noqa: S311 - chance, not a secret
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


class Checkout(Loop):
    """The way back to optimization in a copy of this checkout, whose winner is ordered into the rig's router."""

    def __init__(self, one: Bench) -> None:
        """Of one bench."""
        super().__init__(one.watching.place, config.load(one.rig.folder / "params.yaml"))
        self._one, self._folder = one, one.scratch / "checkout"
        self._run: subprocess.Popen[bytes] | None = None
        self.winner = ""

    def reoptimize(self) -> str:
        """Begin it, in the quick profile."""
        file = window_file(self._where, 80)
        _checkout(self._folder)
        line = [sys.executable, "-m", "flows.run", "--profile", "quick"]
        for key, value in {"data.source": str(file), **ROWS}.items():
            line += ["-S", f"{key}={value}"]
        with (self._one.scratch / "reoptimize.log").open("ab") as log:
            self._run = subprocess.Popen(line, cwd=self._folder, stdout=log, stderr=log, start_new_session=True)
        # Callers wait: an optimization measures, and on a machine that serves nothing that it measures would decide.
        self._one.traffic.paused = True
        return f"optimization with what callers asked, process {self._run.pid}"

    def busy(self) -> str:
        """Whether it runs; what it made is promoted once."""
        if self._run is None or self.winner:
            return ""
        if self._run.poll() is None:
            return "the optimization runs"
        self._one.traffic.paused = False
        log = (self._one.scratch / "reoptimize.log").read_text()
        tell(f"the optimization ended with {self._run.returncode}: {log.strip().splitlines()[-1]}")
        try:
            slot = packaged(self._folder / "artifacts" / "package")
        except EdgewrightError as problem:  # nothing passed, or the run failed: the next step, then a person
            tell(f"there is no winner: {problem}")
            self._run = None
            return ""
        self.winner = slot.version
        self._one.rig.store.give("deploy", "monitor", "optimized with what callers ask", slot)
        return "its winner is promoted"

    def end(self) -> None:
        """Kill what still runs."""
        if self._run is not None and self._run.poll() is None:
            os.killpg(self._run.pid, signal.SIGKILL)


def sentences(count: int) -> list[str]:
    """Prompts of another language."""
    dice = random.Random(7)  # noqa: S311 - chance, not a secret
    return [f"{dice.choice(WHO)} {dice.choice(WHAT)}, {dice.choice(WHY)}. {number}?" for number in range(count)]


def foreign(one: Bench) -> Timeline:
    """Callers of another country: an optimization with their prompts is begun, gated, and its winner promoted."""
    before, loop = one.traffic.prompts, Checkout(one)
    asked = sentences(600)
    one.long = loop

    def inject() -> None:
        one.traffic.prompts = asked

    def mend() -> None:
        one.traffic.prompts, one.traffic.paused, one.long = before, False, None
        loop.end()

    def over() -> bool:
        state = one.rig.state()
        return loop.winner != "" and state.slot(state.champion).version == loop.winner

    return fault(one, "callers of another language", "drift", inject, mend, over, LONG)


def _checkout(folder: Path) -> None:
    """This checkout's files, and its cache of DVC, so that what did not change is not made again."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    cache = ROOT / ".dvc" / "cache"
    if cache.is_dir():
        subprocess.run([sys.executable, "-m", "dvc", "cache", "dir", "--local", str(cache)], cwd=folder, check=True)


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


def drill(folder: Path) -> tuple[dict[str, float | None], list[Timeline]]:
    """All of them."""
    figures: dict[str, float | None] = {}
    with bench(folder) as one:
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
