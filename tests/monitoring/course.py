"""A monitor on made-up logs, with an actuator that only notes: window after window, for tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monitoring.collect.place import Place
from monitoring.collect.windows import Machine, Window
from monitoring.repair.actuator import ImpossibleError
from monitoring.repair.diagnose import Setting, Step
from monitoring.watch import Watch, World
from tasks.params.watching import Drift, Monitor, Repair, Rule
from tasks.promotion.store import Store
from tests import logs

LENGTH = 100.0
NEVER = 10**6  # rows, so that nothing is compared: that takes most of a second each time
RULES = {
    "slow": Rule(metric="inter_token_p50_ms", kind="rate", above=2.0, severity="page", runbook="look"),
    "drift": Rule(metric="drift", kind="drift", severity="page", runbook="look"),
    "silence": Rule(metric="requests_per_s", kind="absent", runbook="look"),
}


class Actuator:
    """Notes what it is told; `effect` is what that does to the traffic."""

    def __init__(self, effect: Callable[[str, Step], None] = lambda what, step: None) -> None:
        self.did: list[str] = []
        self.effect, self.cannot = effect, set[str]()
        self.at, self.serves = "", "version 3"

    def apply(self, step: Step, machine: Machine, why: str) -> str:
        if step in self.cannot:
            raise ImpossibleError(f"{step} cannot be done here")
        self._note("apply", step)
        return f"{step} is done"

    def undo(self, step: Step, why: str) -> str:
        self._note("undo", step)
        return f"{step} is taken back"

    def keep(self, step: Step) -> None:
        self._note("keep", step)

    def busy(self) -> str:
        return self.at

    def serving(self) -> str:
        return self.serves

    def _note(self, what: str, step: Step) -> None:
        self.did.append(f"{what} {step}")
        self.effect(what, step)


class Course:
    """Window after window of made-up traffic."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        block = {
            "window_s": LENGTH, "rules": RULES, "drift": Drift(min_requests=NEVER),
            "repair": Repair(observe_s=1.0, cool_down_s=0.0), **settings,
        }  # fmt: skip
        self.settings = Monitor.model_validate(block)
        self.place = Place(
            Store(folder / "serve"), folder / "monitor", folder / "repairs.jsonl", folder / "moves.jsonl"
        )
        self.began = time.time() - 100 * LENGTH
        self.now, self.number = self.began, 0
        self.sent: list[str] = []
        self.actuator = Actuator()
        self.slow, self.version = 1.0, "3"
        self.setting = Setting(backend="gguf", version="3", slots=8)
        self.watching = Watch(self.place, self.settings, lambda: self.now)

    def look(self, count: int = 300, **shift: float) -> Window:
        self.number += 1
        shift = {"slow": self.slow, **shift}
        logs.write(self.place.store.folder, logs.traffic(count, self.now, LENGTH, self.number, self.version, **shift))
        self.now += LENGTH
        world = World(self.setting, ("3", "4"), self.actuator, lambda _, text: self.sent.append(text) is None)
        return self.watching.look(world, watch_s=0.01)

    def busy_machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        crowd = Machine(cores=2, cpu_share=0.5, others_share=0.5, crowded=(0,))
        monkeypatch.setattr("monitoring.collect.machine.watch", lambda *_, **__: crowd)
