"""A rig that is watched: a real server, a real model, callers and a monitor whose windows are seconds long.

All else is what `make monitor` runs.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from flows.monitor import told
from monitoring import setup
from monitoring.collect.place import Place
from monitoring.collect.windows import Window
from monitoring.judge import drift
from monitoring.repair.actuator import Reoptimizer
from monitoring.watch import Watch, World
from tasks.backends.gguf import making
from tasks.kinds.reading import read_rows
from tasks.params.whole import load_whole
from tasks.sources.files import sample_path
from tests import ROOT
from tests.drill.rig import Rig, Traffic, serving, tell

WINDOW_S = 8.0
MEASURED_S = 60.0  # a window while an optimization measures: to look more often would be among what it measures
TOKENS, CALLERS, PAUSE_S = 6, 3, 0.15

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
REPAIR = {"observe_s": WINDOW_S, "cool_down_s": 0.0, "max_steps_per_day": 1000}
DRIFT = {"min_requests": 60}
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


@dataclass
class Watched:
    """A rig, its monitor, and callers."""

    rig: Rig
    traffic: Traffic
    watching: Watch
    scratch: Path
    reoptimizer: Reoptimizer | None = None

    def world(self) -> World:
        """As `make monitor` sees it, without the evaluation data of this checkout, and without a registry."""
        params = load_whole(self.rig.folder)
        made = setup.world(
            self.watching.place, params, [Path(one.package) for one in self.rig.versions], self.reoptimizer
        )
        return made._replace(evaluated=None, link=None)

    def window(self) -> Window:
        """Wait for a window's length, and look."""
        length = MEASURED_S if self.traffic.paused else WINDOW_S
        time.sleep(max(0.0, self.watching.state.until + length - time.time()))
        made = self.watching.look(self.world())
        tell(told(made, self.watching))
        return made

    def fired(self, name: str) -> bool:
        """Whether an alert fires."""
        return any(alert.name == name and alert.fired for alert in self.watching.state.alerts)


@contextmanager
def watched(folder: Path) -> Iterator[Watched]:
    """Two versions of the sample, a larger and a smaller one; the larger serves."""
    drift.prepare()  # a monitor that has long been at work has it
    folder.mkdir(parents=True, exist_ok=True)
    large, small = folder / "large" / making.FILE, folder / "small" / making.FILE
    for file in (large, small):
        file.parent.mkdir()
    making.quantize(sample_path(), large, "q8_0", os.cpu_count() or 1, again=True)
    small.write_bytes(sample_path().read_bytes())
    rules = yaml.safe_load((ROOT / "params.yaml").read_text())["monitor"]
    block = rules | {"window_s": WINDOW_S, "rules": RULES, "repair": REPAIR, "drift": rules["drift"] | DRIFT}
    few = {"shares": [50, 100], "min_caller_share": 0.1, "min_requests": 10, "mirror_share": 1.0}
    rollout = few | {"max_start_s": 60.0, "tick_s": 0.5}
    made = Rig(
        folder / "rig", rollout, "tests.drill.faulty_server",
        {"slots": 4, "context_tokens": 512, "log_text": True}, {"monitor": block}, (large, small),
    )  # fmt: skip
    place = Place(
        made.store, made.folder / "monitor", made.folder / "mlruns" / "repairs.jsonl",
        made.folder / "mlruns" / "rollouts.jsonl", made.base,
    )  # fmt: skip
    with serving(made), Traffic(made.base, made.model, CALLERS, tokens=TOKENS, pause_s=PAUSE_S) as traffic:
        traffic.prompts = [row[:200] for row in read_rows("gsm8k").rows[:400]]
        watching = Watch(place, load_whole(made.folder).monitor)
        yield Watched(made, traffic, watching, folder)


def sentences(count: int) -> list[str]:
    """Prompts of another language."""
    dice = random.Random(7)
    return [f"{dice.choice(WHO)} {dice.choice(WHAT)}, {dice.choice(WHY)}. {number}?" for number in range(count)]
