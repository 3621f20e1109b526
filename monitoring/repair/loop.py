"""The repair loop of one look: go on with the repair under way, or begin one; the disk first, then the world."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import NamedTuple

from monitoring.collect.place import Place
from monitoring.collect.windows import Machine
from monitoring.judge.alerts import Alert, Event, look
from monitoring.repair import plan
from monitoring.repair.actuator import Actuator
from monitoring.repair.diagnose import Cause, Setting, Step, diagnose
from monitoring.repair.plan import Entry, Repair
from monitoring.repair.state import State, StateFile
from tasks.errors import EdgewrightError, ResourceError
from tasks.params.watching import Monitor
from tasks.promotion.store import transitions
from tasks.records import lines
from tasks.records.base import write_text

LOG = logging.getLogger("edgewright.monitor")
BOOK_SHOWN = 50  # entries of the book that the state repeats, for pages
STEPS_KEPT = 1000


class Surroundings(NamedTuple):
    """What a repair goes by, as this look found it."""

    setting: Setting
    machine: Machine
    actuator: Actuator | None = None  # None: nothing here can change the server


class RepairLoop:
    """Repairs of one server, one at a time."""

    def __init__(
        self, place: Place, settings: Monitor, file: StateFile, around: Surroundings, clock: Callable[[], float]
    ) -> None:
        """Work on the state in `file`, with what this look found around it."""
        self._place, self._settings, self._file, self._around, self._clock = place, settings, file, around, clock

    @property
    def _state(self) -> State:
        return self._file.state

    def step(self, events: Sequence[Event], now: float) -> list[str]:
        """Go on with the repair under way, or begin one; returns what people are told."""
        told: list[str] = []
        if self._state.repair is not None:
            told += self._go_on(now)
        alone = [alert for alert in self._state.alerts if alert.fired and alert.name not in self._state.called]
        firing = sorted(alone, key=lambda one: one.severity != "page")
        if self._state.repair is None and firing:
            told += self._begin(firing, now, {event.alert.name for event in events})
        return told

    def _begin(self, firing: Sequence[Alert], now: float, new: Collection[str]) -> list[str]:
        settings, told = self._settings.repair, list[str]()
        age = self._windows_since_promotion()
        setting = self._around.setting.model_copy(update={"windows_since_promotion": age})
        for alert in firing:
            causes = diagnose(alert.metric, self._state.windows, self._around.machine, setting)
            steps = plan.plan(causes)
            said = [f"{cause.name}: {cause.evidence}" for cause in causes]
            why = plan.may(settings, self._state.steps, self._state.repaired, now)
            if self._around.actuator is None:
                why = "nothing here can change the server"
            if alert.name in new:
                write_text(self._place.folder / "diagnosis" / f"{alert.name}.json", _diagnosis(alert, causes, steps))
            if not steps or why:
                if alert.name in new:
                    self._note(alert.name, alert.version, "none", "not repaired", why or "no step is known")
                    told.append(f"{alert.name} is not repaired: {why or 'no step is known'}; {'; '.join(said)}")
                continue
            if settings.dry_run:
                if alert.name in new:
                    self._note(alert.name, alert.version, steps[0], "dry run", ", ".join(steps))
                continue
            self._file.save(repair=self._begun(alert, said, steps, now))
            return [*told, *self._apply()]
        return told

    def _begun(self, alert: Alert, causes: Sequence[str], steps: tuple[Step, ...], now: float) -> Repair:
        rule = self._settings.rules[alert.name]
        return Repair(
            alert=alert.name, metric=alert.metric, version=alert.version, began=now, causes=tuple(causes), steps=steps,
            since=now, before=alert.evidence.get(alert.metric),
            worse_is="less" if rule.below is not None else "more",
        )  # fmt: skip

    def _go_on(self, now: float) -> list[str]:
        under_way, actuator = self._state.repair, self._around.actuator
        assert under_way is not None
        rule = self._settings.rules.get(under_way.alert)
        if rule is None or actuator is None:
            self._file.save(repair=None, repaired=now)
            return [f"the repair of {under_way.alert} is given up: its rule, or the server's router, is gone"]
        if under_way.phase == "observe" and actuator.busy():
            self._file.save(repair=under_way.model_copy(update={"since": now}))  # judged by what comes afterwards
            return []
        newest = self._state.windows[-1]
        alert = next((one for one in self._state.alerts if one.name == under_way.alert), None)
        broken, _ = look(rule, self._state.windows, alert)
        figure = newest.figures.get(under_way.metric)
        value = figure.value if figure else None
        move = plan.observed(under_way, self._settings.repair, broken, value, newest.began, now)
        if move.act == "undo":
            return self._undo(move, actuator)
        if move.tried is not None and move.tried.outcome == "kept":
            _keep(actuator, move.tried.step)
        return self._follow(move, under_way)

    def _undo(self, move: plan.Move, actuator: Actuator) -> list[str]:
        under_way = move.repair
        assert under_way is not None
        self._file.save(repair=under_way)
        step = under_way.steps[0]
        try:
            done = actuator.undo(step, f"{step} did not help against {under_way.alert}")
        except EdgewrightError as problem:
            done = f"it could not be taken back: {problem}"
        tried = move.tried or plan.Try(
            step=step, done=under_way.done, outcome="undone", before=under_way.before, after=None, seconds=0.0
        )
        tried = tried.model_copy(update={"done": f"{tried.done}; {done}"})
        return self._follow(plan.undone(under_way, tried), under_way)

    def _apply(self) -> list[str]:
        """Take the first step that can be taken."""
        told: list[str] = []
        while (under_way := self._state.repair) is not None and under_way.phase == "apply":
            assert self._around.actuator is not None
            step, now = under_way.steps[0], self._clock()
            why = plan.may(self._settings.repair, self._state.steps, None, now)
            try:
                if why:
                    raise ResourceError(why)
                done = self._done(self._around.actuator, under_way)
            except EdgewrightError as problem:
                told += self._follow(plan.failed(under_way, str(problem)), under_way, go_on=False)
                continue
            later = self._clock()
            steps = (*self._state.steps, later)[-STEPS_KEPT:]
            self._file.save(repair=plan.applied(under_way, done, later), steps=steps)
            self._note(under_way.alert, under_way.version, step, "applied", done, (under_way.before, None))
            told.append(f"{under_way.alert}: {step} is tried: {done}")
        return told

    def _done(self, actuator: Actuator, under_way: Repair) -> str:
        """Take a step once: what a monitor did that was killed before it could say so is not done again."""
        serving, step = actuator.serving(), under_way.steps[0]
        if under_way.origin:
            at = actuator.busy()
            if at or serving != under_way.origin:
                return f"{at or serving} (begun before this monitor was)"
        self._file.save(repair=under_way.model_copy(update={"origin": serving}))
        return actuator.apply(step, self._around.machine, f"{under_way.alert}: {'; '.join(under_way.causes)}"[:500])

    def _follow(self, move: plan.Move, before: Repair, go_on: bool = True) -> list[str]:
        """Write down what came of a step, and take the next, or call a person."""
        told: list[str] = []
        if move.tried is not None:
            tried = move.tried
            said = f"{tried.done} ({tried.before} before, {tried.after} after)"
            self._note(before.alert, before.version, tried.step, tried.outcome, said, (tried.before, tried.after))
            told.append(f"{before.alert}: {tried.step} {tried.outcome}: {tried.done}")
        ended = {"repaired": self._clock()} if move.repair is None else {}
        self._file.save(repair=move.repair, **ended)
        if move.act == "escalate":
            told.append(self._called(move, before))
        elif move.act == "apply" and go_on:
            told += self._apply()
        return told

    def _called(self, move: plan.Move, before: Repair) -> str:
        """Call a person for an alert that no step repaired; returns what that person is told."""
        tries = (*before.tries, *((move.tried,) if move.tried else ()))
        history = "; ".join(f"{one.step}: {one.outcome} ({one.done})" for one in tries)
        self._note(before.alert, before.version, "person", "called", history)
        self._file.save(called=(*self._state.called, before.alert))
        return (
            f"A person is needed: {before.alert} is not repaired. Causes: {'; '.join(before.causes)}. Tried: {history}"
        )

    def _note(
        self, alert: str, version: str, step: str, outcome: str, said: str,
        figure: tuple[float | None, float | None] = (None, None),
    ) -> None:  # fmt: skip
        """Write a line into the book; `figure` is the alert's before and after the step."""
        before, after = figure
        entry = Entry(
            when=lines.now(), alert=alert, version=version, step=step, outcome=outcome, said=said, before=before,
            after=after,
        )  # fmt: skip
        lines.append(self._place.book, entry)
        self._file.save(shown=(*self._state.shown, entry)[-BOOK_SHOWN:])

    def _windows_since_promotion(self) -> int | None:
        """How many windows ago the router's traffic went over to another version; None where it is not remembered."""
        known = self._state.windows
        for one in reversed(transitions(self._place.transitions)):
            if one.before == "promote" and one.after == "idle" and one.champion != one.challenger:
                when = datetime.fromisoformat(one.when).timestamp()
                if known and when < known[0].began:
                    return None
                return sum(window.ended > when for window in known)
        return None


def _keep(actuator: Actuator, step: Step) -> None:
    try:
        actuator.keep(step)
    except EdgewrightError as problem:
        LOG.warning("%s", problem)


def _diagnosis(alert: Alert, causes: Sequence[Cause], steps: Sequence[str]) -> str:
    made = {"alert": alert.model_dump(), "causes": [cause.model_dump() for cause in causes], "steps": list(steps)}
    return json.dumps(made, indent=2) + "\n"
