"""What really changes the running system: orders to the router, which checks a server before callers meet it.

Whatever is changed comes up in the free slot and takes over when its checks have passed; what served before stays warm
until the step is kept, so that a step is taken back at once.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from monitoring.collect.windows import Machine
from monitoring.repair.diagnose import Step
from tasks.backends.devices import PROCESSOR
from tasks.errors import EdgewrightError
from tasks.promotion.rollout import Slot, State
from tasks.promotion.store import Store
from tasks.records.base import Record
from tasks.run import family
from tasks.serve.options import ServerOptions

PATIENCE_S = 300.0  # for a changed server to take over
LEAST_CONTEXT = 256
WHO = "monitor"


class ImpossibleError(EdgewrightError):
    """A step cannot be taken here; the message says why."""


class Choice(Record):
    """A version that passed its gates."""

    version: str
    package: str
    manifest_sha256: str
    size_mb: float


class Defaults(Record):
    """What a server is run with where its slot says nothing."""

    cores: tuple[int, ...]
    slots: int
    context: int
    device: str = PROCESSOR  # that the package was measured on
    accelerators: tuple[str, ...] = ()  # that the runtime could use here, by its own names


class Actuator(Protocol):
    """Takes steps and takes them back."""

    def apply(self, step: Step, machine: Machine, why: str) -> str:
        """Take a step; returns what was done. Raises EdgewrightError where it cannot be."""
        ...

    def undo(self, step: Step, why: str) -> str:
        """Take a step back; returns what was done. Raises EdgewrightError where it cannot be."""
        ...

    def keep(self, step: Step) -> None:
        """Make a step permanent: what it kept ready to be taken back is given up."""
        ...

    def busy(self) -> str:
        """What a step began and is not at its end; empty when nothing is."""
        ...

    def serving(self) -> str:
        """What serves, and how it is run."""
        ...


class Reoptimizer(Protocol):
    """Starts an optimization, or asks for a new model; both take long."""

    def reoptimize(self) -> str:
        """Begin an optimization with what callers asked."""
        ...

    def retrain(self, why: str) -> str:
        """Ask for a model that is trained anew."""
        ...

    def busy(self) -> str:
        """What of it is under way, in words; empty when nothing is."""
        ...


class RouterActuator:
    """Steps by orders to a router."""

    def __init__(
        self, store: Store, defaults: Defaults, choices: Callable[[], Sequence[Choice]],
        reoptimizer: Reoptimizer | None = None,
    ) -> None:  # fmt: skip
        """`choices` lists passed versions; `reoptimizer` starts an optimization."""
        self._store, self._defaults, self._choices, self._reoptimizer = store, defaults, choices, reoptimizer

    def apply(self, step: Step, machine: Machine, why: str) -> str:
        """Take a step."""
        if step == "reoptimize":
            return self._optimizing().reoptimize()
        if step == "retrain":
            return self._optimizing().retrain(why)
        if not self._store.runs():
            raise ImpossibleError(
                f"no router is at work on {self._store.folder} (`make route`): nothing can be changed"
            )
        before = self._store.state()
        if step == "rollback":
            self._store.give("rollback", WHO, why)
            return f"back to version {self._settled().slot(self._store.state().champion).version}"
        slot = self._changed(step, before.slot(before.champion), machine)
        self._store.give("repair", WHO, why, slot)
        after = self._settled()
        now = after.slot(after.champion)
        if (now.options, now.restart) != (slot.options, slot.restart) or (slot.version and now.version != slot.version):
            raise ImpossibleError(f"the changed server did not pass its checks: {after.reason}")
        return f"version {now.version} with {now.options.said}" + (", a fresh process" if step == "fresh" else "")

    def undo(self, step: Step, why: str) -> str:
        """All traffic to what served before the step."""
        self._store.give("rollback", WHO, why)
        state = self._settled()
        slot = state.slot(state.champion)
        return f"version {slot.version} with {slot.options.said} again"

    def keep(self, step: Step) -> None:
        """Give back the memory of what served before, where the step was about memory."""
        if step in ("fresh", "context") and self._store.runs():
            self._store.give("release", WHO, f"{step} is kept")

    def busy(self) -> str:
        """An optimization that runs, or what the router is at."""
        state = self._store.state()
        said = self._reoptimizer.busy() if self._reoptimizer else ""
        return said or ("" if state.phase == "idle" else f"the router: {state.phase}")

    def serving(self) -> str:
        """Version, settings and restart number of the serving slot."""
        state = self._store.state()
        slot = state.slot(state.champion)
        return f"version {slot.version} with {slot.options.said}, restart {slot.restart}"

    def _optimizing(self) -> Reoptimizer:
        if self._reoptimizer is None:
            raise ImpossibleError("nothing here starts an optimization, or asks for one")
        return self._reoptimizer

    def _changed(self, step: Step, now: Slot, machine: Machine) -> Slot:
        options, defaults = now.options, self._defaults
        if step == "cores":
            free = tuple(core for core in options.cores or defaults.cores if core not in machine.crowded)
            if not free or free == (options.cores or defaults.cores):
                raise ImpossibleError("no processor is less busy than the others")
            return _run(now, options.model_copy(update={"cores": free, "threads": None}))
        if step == "threads":
            threads = options.threads or len(options.cores or defaults.cores)
            return _run(now, options.model_copy(update={"threads": _half(threads, 1, "thread")}))
        if step == "device":
            return _run(now, options.model_copy(update={"device": self._elsewhere(now)}))
        if step == "batch":
            return _run(now, options.model_copy(update={"slots": _half(options.slots or defaults.slots, 1, "request")}))
        if step == "context":
            context = _half(options.context or defaults.context, LEAST_CONTEXT, "token of context")
            return _run(now, options.model_copy(update={"context": context}))
        if step == "fresh":
            return now.model_copy(update={"restart": now.restart + 1})
        return self._smaller(now)

    def _elsewhere(self, now: Slot) -> str:
        """The next device that its runtime could use here, and after the last of them the processor."""
        devices = (PROCESSOR, *self._defaults.accelerators)
        if len(devices) == 1:
            raise ImpossibleError("there is no other device here that its runtime could use")
        here = now.options.device or self._defaults.device
        return devices[(devices.index(here) + 1) % len(devices) if here in devices else 0]

    def _smaller(self, now: Slot) -> Slot:
        choices = {choice.version: choice for choice in self._choices()}
        if now.version not in choices:
            raise ImpossibleError(f"version {now.version} is none that passed, so no smaller one can be told")
        size = choices[now.version].size_mb
        smaller = sorted((one for one in choices.values() if one.size_mb < size), key=lambda one: -one.size_mb)
        if not smaller:
            raise ImpossibleError(f"no passed version is smaller than {size:.0f} MB")
        best = smaller[0]
        return Slot(
            version=best.version, package=best.package, manifest_sha256=best.manifest_sha256, options=now.options
        )

    def _settled(self) -> State:
        """Wait for the router to have come to an end with it."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            state = self._store.state()
            if state.phase == "idle":
                return state
            time.sleep(0.1)
        raise ImpossibleError(f"the router has come to no end within {PATIENCE_S:g} s: {self._store.told()}")


def _run(now: Slot, options: ServerOptions) -> Slot:
    return now.model_copy(update={"options": options})


def _half(value: int, least: int, what: str) -> int:
    if value // 2 < least:
        raise ImpossibleError(f"{value} {what}{'s' if value > 1 else ''} cannot be made fewer")
    return value // 2


def in_background(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start what goes on when this process ends."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", *command], stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
            start_new_session=True, env={**family.outside(), "EDGEWRIGHT_ACTOR": WHO},
        )  # fmt: skip
