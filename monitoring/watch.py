"""One look after another: a window is collected, compared, judged, told of, and what can be is repaired.

All that must survive is in `state.json`, written whole before and after anything is done; windows and comparisons are
files of their own. One look at a time, in one place: a lock is held.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from filelock import FileLock, Timeout

from monitoring import drift, machine, notices, repair, rows, scrape, shadow, windows
from monitoring.alerts import Alert, Event, evaluate, look
from monitoring.diagnose import Cause, Setting, Step, diagnose
from monitoring.hand import Hand
from monitoring.notices import Outbox, Send
from monitoring.repair import Entry, Repair
from monitoring.shadow import Asked, Read
from monitoring.windows import Counted, Machine, Window
from tasks import ledger
from tasks.config import Monitor
from tasks.errors import ChildError, DataError, EdgewrightError, ResourceError
from tasks.measure.statistics import smallest_sample
from tasks.promotion.store import TRANSITIONS, Store, transitions
from tasks.records import Record, write_text
from tasks.serve.address import Address
from tasks.serve.prediction_log import JUDGEMENTS, Judgement

if TYPE_CHECKING:
    import pandas as pd

LOG = logging.getLogger("edgewright.monitor")
FOLDER = Path("artifacts/monitor")
BOOK = Path("mlruns/repairs.jsonl")
WINDOWS = "windows.jsonl"
SLOTS = ("", "blue", "green")  # folders of logs below the server's
KEPT = 48  # windows that rules look back on
FEW = smallest_sample(0.95)  # rows; with fewer, figures look on
BACK = 6  # windows back
DRIFT_WINDOWS = 12  # after so many, drift is told, or is not, with what there is


class State(Record):
    """What the next look goes on from."""

    number: int = 0
    until: float = 0.0  # when the last window ended
    drift_since: float = 0.0  # rows from here on were not compared yet
    series: scrape.Series = ()  # of /metrics at that time, as far as it is counted
    energy_j: float | None = None
    windows: tuple[Window, ...] = ()
    alerts: tuple[Alert, ...] = ()
    outbox: Outbox = Outbox()
    repair: Repair | None = None
    steps: tuple[float, ...] = ()  # when a step was taken
    repaired: float | None = None  # when the last repair ended
    called: tuple[str, ...] = ()  # alerts that a person was called for: left alone until they are over
    shown: tuple[Entry, ...] = ()  # the latest of the book, for pages


class Judged(Record):
    """Answers that callers called right, of those that they judged."""

    right: int = 0
    count: int = 0


class Agreements(Record):
    """What the reference said of a version's first window, an answer each."""

    values: tuple[float, ...]


class Place(NamedTuple):
    """Where a server and its monitor keep their files."""

    store: Store
    folder: Path = FOLDER
    book: Path = BOOK
    transitions: Path = TRANSITIONS
    url: str = ""  # where /metrics is; empty: not asked


class World(NamedTuple):
    """What a look is told of what is outside."""

    setting: Setting
    versions: Collection[str] = ()  # that are known; empty: not checked
    hand: Hand | None = None
    send: Send | None = None
    read: Callable[[Sequence[Asked]], Sequence[Read]] | None = None  # by the reference
    link: Callable[[Window], None] | None = None  # told of each new verdict on drift
    evaluated: pd.DataFrame | None = None  # prompts that the model was evaluated on, as far as a log would tell of them


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Be the one monitor; raises ResourceError when another is."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "monitor.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ResourceError(f"a monitor is at work already ({folder}/monitor.lock is held)") from None
    try:
        yield
    finally:
        lock.release()


class Watch:
    """The monitor of one server."""

    def __init__(self, place: Place, settings: Monitor, clock: Callable[[], float] = time.time) -> None:
        """Take up the state that is on the disk; one that cannot be read is put aside, and named."""
        self.place, self.settings, self._clock = place, settings, clock
        file = place.folder / "state.json"
        try:
            self.state = State.read(file) if file.exists() else State()
        except DataError as problem:
            LOG.error("%s; it is put aside, and watching begins anew", problem)
            file.replace(file.with_suffix(".unreadable.json"))
            self.state = State()

    # -- one look ------------------------------------------------------------------------------------------------------

    def look(self, world: World, watch_s: float = machine.WATCH_S) -> Window:
        """Take the window that ends now, and do what follows from it; the machine is looked at for `watch_s`."""
        now, state = self._clock(), self.state
        since = state.until or now - self.settings.window_s
        if now <= since:
            raise DataError(f"the clock stands {since - now:.0f} s before the end of the last window; set it right")
        counted, series = self._counted()
        # Windows that were too small to be compared are read again, with this one.
        waiting = min(since, state.drift_since or since)
        judged = judgements(self.place.store.folder)
        found = rows.read(self.logs, waiting, now, world.versions, judged, self.settings.most_rows, since)
        table = found.table[found.table["ended"] >= since]
        servers = self.addresses(_main(table))
        version = _main(table) or (servers[0].version if servers else "")
        around = machine.watch(servers, state.energy_j, watch_s)
        window = Window(
            number=state.number + 1, began=since, ended=now, version=version, rows=len(table),
            problems=dict(found.problems),
            figures=windows.figures(
                table, now - since, around, counted, self.settings.price_per_hour, self._recent(table, now)
            ),
        )  # fmt: skip
        window, drift_since = self._drift(window, found.table, waiting, world)
        if world.link is not None and window.drift != "inconclusive" and window.drift != self._last_drift(window):
            world.link(window)
        kept = (*state.windows, window)[-KEPT:]
        alerts, events = evaluate(self.settings.rules, kept, state.alerts)
        ledger.append(self.place.folder / WINDOWS, window)
        self._save(
            number=window.number, until=now, series=series, energy_j=machine.read_energy(), windows=kept,
            alerts=alerts, drift_since=drift_since,
            called=tuple(name for name in state.called if any(one.name == name for one in alerts)),
        )  # fmt: skip
        for event in events:
            LOG.warning("%s: %s", event.alert.name, event.alert.said)
        told = self._repair(world, around, events, now)
        self._tell(world, (*notices.lines(events), *told), now)
        return window

    def _recent(self, table: pd.DataFrame, now: float) -> pd.DataFrame | None:
        """Of a window with few rows also those before it, of what is served as it is now; None where it needs none."""
        if not 0 < len(table) < FEW:
            return None
        under_way = self.state.repair
        changed = max(self.state.repaired or 0.0, under_way.since if under_way is not None else 0.0)
        since = max(now - BACK * self.settings.window_s, changed)
        found = rows.read(self.logs, since, now, most=self.settings.most_rows).table.sort_values("ended")
        return found[found["version"] == _main(table)]

    def _last_drift(self, window: Window) -> str:
        """The verdict on the same version before."""
        told = [one.drift for one in self.state.windows if one.version == window.version]
        return next((one for one in reversed(told) if one != "inconclusive"), "")

    @property
    def logs(self) -> list[Path]:
        """Folders with prediction logs."""
        return [folder for name in SLOTS if (folder := self.place.store.folder / name).is_dir()]

    def addresses(self, version: str = "") -> list[Address]:
        """Of the servers that run, that of `version` first, then the champion's.

        In a ramp the challenger may answer most: what a window tells of memory is of the version that it tells of.
        """
        found: list[Address] = []
        champion = self.place.store.state().champion
        for name in sorted(SLOTS, key=lambda name: name != champion):
            file = self.place.store.folder / name / "address.json"
            try:
                found.append(Address.read(file))
            except DataError:
                continue
        running = [address for address in found if address.process() is not None]
        return sorted(running, key=lambda address: address.version != version)

    def _save(self, **changes: Any) -> None:
        self.state = self.state.model_copy(update=changes)
        self.state.write(self.place.folder / "state.json")

    def _counted(self) -> tuple[Counted, scrape.Series]:
        """What /metrics counted since the last look, and where its counters stand."""
        if not self.place.url:
            return Counted(), ()
        answers, after = float(scrape.ready(self.place.url)), scrape.fetch(self.place.url)
        if after is None:
            return Counted(ready=answers), self.state.series
        before = self.state.series
        return Counted(
            **scrape.counted(scrape.again(before), after) if before else {},
            ready=answers,
            waiting=scrape.value(after, "edgewright_waiting"),
            restarts=scrape.value(after, "edgewright_model_restarts"),
            log_lines_lost=scrape.value(after, "edgewright_log_lines_lost"),
        ), scrape.kept(after)

    # -- drift ---------------------------------------------------------------------------------------------------------

    def _drift(self, window: Window, table: pd.DataFrame, since: float, world: World) -> tuple[Window, float]:
        """The window with the comparison of all rows since `since`, and from when on rows wait for the next one."""
        settings = self.settings.drift
        table = table[table["version"] == window.version] if window.version else table
        if len(table) < settings.fewest:
            why = f"{len(table)} requests of {settings.fewest}"
            stale = window.ended - since > DRIFT_WINDOWS * self.settings.window_s
            return window.model_copy(update={"why": why}), window.ended if stale else since
        reference = self._reference(window.version)
        current = rows.stratified(table, settings.most)
        if reference is None:
            return self._first(window, world, current), window.ended
        compared = drift.compare(reference, current, settings)
        signals = (*compared, self._accuracy(window.version, table), *self._shadow(window, world))
        found, why = drift.verdict(signals, len(table), settings.fewest)
        self._keep(reference, current)
        return window.model_copy(update={"signals": signals, "drift": found, "why": why}), window.ended

    def _accuracy(self, version: str, table: pd.DataFrame) -> drift.Signal:
        """Callers' judgements against those of the version's first windows that had any, `fewest` of them."""
        file = self._reference_file(version).with_suffix(".judged.json")
        before = Judged.read(file) if file.exists() else Judged()
        values = table["judged"].dropna()
        now = Judged(right=round(float(values.sum())), count=len(values))
        found = drift.accuracy((before.right, before.count), (now.right, now.count), self.settings.drift)
        if now.count and not found.drifted and before.count < self.settings.drift.fewest:
            Judged(right=before.right + now.right, count=before.count + now.count).write(file)
        return found

    def _shadow(self, window: Window, world: World) -> tuple[drift.Signal, ...]:
        """What the reference says of a sample of answers, against what it said of the first window's."""
        count = self.settings.shadow_rows
        if not count or world.read is None:
            return ()
        asked = [
            Asked(prompt=prompt, answer=answer, chat="chat" in endpoint)
            for endpoint, prompt, answer in rows.texts(self.logs, window.began, window.ended, window.version, count)
        ]
        if len(asked) < shadow.FEWEST:
            return (shadow.compare((), [], self.settings.drift),)
        try:
            now = tuple(one.agreement for one in world.read(asked))
        except ChildError as problem:
            LOG.error("the reference cannot read answers: %s", problem)
            return ()
        file = self._reference_file(window.version).with_suffix(".shadow.json")
        if not file.exists():
            Agreements(values=now).write(file)
            return ()
        return (shadow.compare(Agreements.read(file).values, now, self.settings.drift),)

    def _first(self, window: Window, world: World, current: pd.DataFrame) -> Window:
        """The first window of a version: what later ones are compared with, unless something is wrong with it."""
        signals: Sequence[drift.Signal] = ()
        said = ""
        if world.evaluated is not None:
            signals = drift.compare(world.evaluated, current, self.settings.drift)
            self._keep(world.evaluated, current)
            moved = [signal.name for signal in signals if signal.drifted]
            said = f"; beside what it was evaluated on, {', '.join(moved) or 'nothing'} differs"
        if any(
            alert.fired and alert.severity == "page" and not self._answered(alert, window)
            for alert in self.state.alerts
        ):
            return window.model_copy(
                update={"signals": tuple(signals), "why": "not taken as reference: an alert fires"}
            )
        self._save_reference(window.version, current.head(self.settings.drift.reference))
        why = f"the first accepted window of version {window.version} is the reference from now on{said}"
        return window.model_copy(update={"signals": tuple(signals), "drift": "none", "why": why})

    def _answered(self, alert: Alert, window: Window) -> bool:
        """Whether the version of a window is the answer to an alert on drift: it took over by a ramp since.

        What callers send now is ordinary to it, and without a reference of its own that alert would never be over. A
        version that a repair put in at once proves nothing of the kind.
        """
        rule = self.settings.rules.get(alert.name)
        if rule is None or rule.kind != "drift":
            return False
        return any(
            (one.before, one.after, one.challenger) == ("ramp", "promote", window.version)
            and datetime.fromisoformat(one.when).timestamp() >= alert.since
            for one in transitions(self.place.transitions)
        )

    def _reference_file(self, version: str) -> Path:
        name = "".join(sign if sign.isalnum() else "-" for sign in version)
        return self.place.folder / "reference" / f"{name}.parquet"

    def _reference(self, version: str) -> pd.DataFrame | None:
        import pandas as pd

        file = self._reference_file(version)
        if not file.exists():
            return None
        try:
            return pd.read_parquet(file)
        except (OSError, ValueError) as problem:
            LOG.error("the reference %s cannot be read (%s); the next window becomes it", file, problem)
            file.replace(file.with_suffix(".unreadable"))
            return None

    def _save_reference(self, version: str, table: pd.DataFrame) -> None:
        file = self._reference_file(version)
        file.parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(file.with_suffix(".new"))
        file.with_suffix(".new").replace(file)

    def _keep(self, reference: pd.DataFrame, current: pd.DataFrame) -> None:
        """Draw a comparison into Evidently's workspace."""
        try:
            snapshot = drift.drawn(reference, current)
            if snapshot is not None:
                drift.Workspace(self.place.folder / "evidently", "Edgewright").add(snapshot)
        except (OSError, ValueError) as problem:  # pages are no reason to stop watching
            LOG.error("Evidently's workspace cannot be written: %s", problem)

    # -- repair --------------------------------------------------------------------------------------------------------

    def _repair(self, world: World, around: Machine, events: Sequence[Event], now: float) -> list[str]:
        """Go on with the repair under way, or begin one; returns what people are told."""
        told: list[str] = []
        if self.state.repair is not None:
            told += self._go_on(world, around, now)
        alone = [alert for alert in self.state.alerts if alert.fired and alert.name not in self.state.called]
        firing = sorted(alone, key=lambda one: one.severity != "page")
        if self.state.repair is None and firing:
            told += self._begin(firing, world, around, now, {event.alert.name for event in events})
        return told

    def _begin(
        self, firing: Sequence[Alert], world: World, around: Machine, now: float, new: Collection[str]
    ) -> list[str]:
        settings, told = self.settings.repair, list[str]()
        for alert in firing:
            age = self._windows_since_promotion()
            setting = world.setting.model_copy(update={"windows_since_promotion": age})
            causes = diagnose(alert.metric, self.state.windows, around, setting)
            steps = repair.plan(causes)
            said = [f"{cause.name}: {cause.evidence}" for cause in causes]
            why = repair.may(settings, self.state.steps, self.state.repaired, now)
            if world.hand is None:
                why = "nothing here can change the server"
            if alert.name in new:
                write_text(self.place.folder / "diagnosis" / f"{alert.name}.json", _diagnosis(alert, causes, steps))
            if not steps or why:
                if alert.name in new:
                    self._note(alert.name, alert.version, "none", "not repaired", why or "no step is known")
                    told.append(f"{alert.name} is not repaired: {why or 'no step is known'}; {'; '.join(said)}")
                continue
            if settings.dry_run:
                if alert.name in new:
                    self._note(alert.name, alert.version, steps[0], "dry run", ", ".join(steps))
                continue
            rule = self.settings.rules[alert.name]
            begun = Repair(
                alert=alert.name, metric=alert.metric, version=alert.version, began=now, causes=tuple(said),
                steps=steps, since=now, before=alert.evidence.get(alert.metric),
                worse_is="less" if rule.below is not None else "more",
            )  # fmt: skip
            self._save(repair=begun)
            return [*told, *self._apply(world, around)]
        return told

    def _go_on(self, world: World, around: Machine, now: float) -> list[str]:
        under_way = self.state.repair
        assert under_way is not None
        rule = self.settings.rules.get(under_way.alert)
        if rule is None or world.hand is None:
            self._save(repair=None, repaired=now)
            return [f"the repair of {under_way.alert} is given up: its rule, or the server's router, is gone"]
        if under_way.phase == "observe" and world.hand.busy():
            self._save(repair=under_way.model_copy(update={"since": now}))  # it is judged by what comes afterwards
            return []
        newest = self.state.windows[-1]
        alert = next((one for one in self.state.alerts if one.name == under_way.alert), None)
        broken, _ = look(rule, self.state.windows, alert)
        figure = newest.figures.get(under_way.metric)
        value = figure.value if figure else None
        move = repair.observed(under_way, self.settings.repair, broken, value, newest.began, now)
        if move.act == "undo":
            return self._undo(move, world, around)
        if move.tried is not None and move.tried.outcome == "kept" and world.hand is not None:
            self._kept(world.hand, move.tried.step)
        return self._follow(move, under_way, world, around)

    @staticmethod
    def _kept(hand: Hand, step: Step) -> None:
        try:
            hand.keep(step)
        except EdgewrightError as problem:
            LOG.warning("%s", problem)

    def _undo(self, move: repair.Move, world: World, around: Machine) -> list[str]:
        under_way = move.repair
        assert under_way is not None and world.hand is not None
        self._save(repair=under_way)
        step = under_way.steps[0]
        try:
            done = world.hand.undo(step, f"{step} did not help against {under_way.alert}")
        except EdgewrightError as problem:
            done = f"it could not be taken back: {problem}"
        tried = move.tried or repair.Try(
            step=step, done=under_way.done, outcome="undone", before=under_way.before, after=None, seconds=0.0
        )
        tried = tried.model_copy(update={"done": f"{tried.done}; {done}"})
        return self._follow(repair.undone(under_way, tried), under_way, world, around)

    def _apply(self, world: World, around: Machine) -> list[str]:
        """Take the first step that can be taken."""
        told: list[str] = []
        while (under_way := self.state.repair) is not None and under_way.phase == "apply":
            assert world.hand is not None
            step, now = under_way.steps[0], self._clock()
            why = repair.may(self.settings.repair, self.state.steps, None, now)
            try:
                if why:
                    raise ResourceError(why)
                done = self._done(world.hand, under_way, around)
            except EdgewrightError as problem:
                told += self._follow(repair.failed(under_way, str(problem)), under_way, world, around, go_on=False)
                continue
            later = self._clock()
            self._save(repair=repair.applied(under_way, done, later), steps=(*self.state.steps, later)[-1000:])
            self._note(under_way.alert, under_way.version, step, "applied", done, under_way.before)
            told.append(f"{under_way.alert}: {step} is tried: {done}")
        return told

    def _done(self, hand: Hand, under_way: Repair, around: Machine) -> str:
        """Take a step once: what a monitor did that was killed before it could say so is not done again."""
        serving, step = hand.serving(), under_way.steps[0]
        if under_way.origin:
            at = hand.busy()
            if at or serving != under_way.origin:
                return f"{at or serving} (begun before this monitor was)"
        self._save(repair=under_way.model_copy(update={"origin": serving}))
        return hand.apply(step, around, f"{under_way.alert}: {'; '.join(under_way.causes)}"[:500])

    def _follow(
        self, move: repair.Move, before: Repair, world: World, around: Machine, go_on: bool = True
    ) -> list[str]:
        """Write down what came of a step, and take the next, or call a person."""
        told: list[str] = []
        if move.tried is not None:
            tried = move.tried
            said = f"{tried.done} ({tried.before} before, {tried.after} after)"
            self._note(before.alert, before.version, tried.step, tried.outcome, said, tried.before, tried.after)
            told.append(f"{before.alert}: {tried.step} {tried.outcome}: {tried.done}")
        ended = {"repaired": self._clock()} if move.repair is None else {}
        self._save(repair=move.repair, **ended)
        if move.act == "escalate":
            tries = (*before.tries, *((move.tried,) if move.tried else ()))
            history = "; ".join(f"{one.step}: {one.outcome} ({one.done})" for one in tries)
            self._note(before.alert, before.version, "person", "called", history)
            self._save(called=(*self.state.called, before.alert))
            told.append(
                f"A person is needed: {before.alert} is not repaired. Causes: {'; '.join(before.causes)}. "
                f"Tried: {history}"
            )
        elif move.act == "apply" and go_on:
            told += self._apply(world, around)
        return told

    def _note(
        self, alert: str, version: str, step: str, outcome: str, said: str, before: float | None = None,
        after: float | None = None,
    ) -> None:  # fmt: skip
        entry = Entry(
            when=ledger.now(), alert=alert, version=version, step=step, outcome=outcome, said=said, before=before,
            after=after,
        )  # fmt: skip
        ledger.append(self.place.book, entry)
        self._save(shown=(*self.state.shown, entry)[-50:])

    def _windows_since_promotion(self) -> int | None:
        """How many windows ago the router's traffic went over to another version; None where it is not remembered."""
        known = self.state.windows
        for one in reversed(transitions(self.place.transitions)):
            if one.before == "promote" and one.after == "idle" and one.champion != one.challenger:
                when = datetime.fromisoformat(one.when).timestamp()
                if known and when < known[0].began:
                    return None
                return sum(window.ended > when for window in known)
        return None

    def _tell(self, world: World, news: Sequence[str], now: float) -> None:
        if world.send is None:
            return
        outbox = notices.post(self.state.outbox, news, now, self.settings.notices_per_hour, world.send)
        if outbox != self.state.outbox:
            self._save(outbox=outbox)


def judgements(folder: Path) -> dict[str, float]:
    """Callers' judgements of answers by request id (POST /v1/feedback); lines that are none are left out."""
    files = (folder / name / kept for name in SLOTS for kept in (f"{JUDGEMENTS}.1", JUDGEMENTS))
    return {one.request_id: one.right for file in files for one in ledger.entries(file, Judgement)[0]}


def _main(table: pd.DataFrame) -> str:
    """The version that answered most; empty when nobody asked."""
    if not len(table):
        return ""
    return str(table["version"].value_counts().index[0])


def _diagnosis(alert: Alert, causes: Sequence[Cause], steps: Sequence[str]) -> str:
    made = {"alert": alert.model_dump(), "causes": [cause.model_dump() for cause in causes], "steps": list(steps)}
    return json.dumps(made, indent=2) + "\n"
