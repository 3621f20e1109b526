"""One look after another: a window is collected, compared, judged, told of, and what can be is repaired.

All that must survive is in `state.json`, written whole before and after anything is done; windows and comparisons are
files of their own. One look at a time, in one place: a lock is held.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from filelock import FileLock, Timeout

from monitoring import notices
from monitoring.collect import machine, rows, scrape, windows
from monitoring.collect.place import WINDOWS, Place
from monitoring.collect.windows import Counted, Window
from monitoring.judge.alerts import Event, evaluate
from monitoring.judge.reference_check import AnswerScore, LoggedAnswer
from monitoring.judge.references import Means, References
from monitoring.notices import Send
from monitoring.repair.actuator import Actuator
from monitoring.repair.diagnose import Setting
from monitoring.repair.loop import RepairLoop, Surroundings
from monitoring.repair.state import State, StateFile
from tasks.errors import DataError, ResourceError
from tasks.measure.statistics import smallest_sample
from tasks.params.watching import Monitor
from tasks.records import lines

if TYPE_CHECKING:
    import pandas as pd

LOG = logging.getLogger("edgewright.monitor")
KEPT = 48  # windows that rules look back on
FEW = smallest_sample(0.95)  # rows; with fewer, figures look on
BACK = 6  # windows back


class World(NamedTuple):
    """What a look is told of what is outside."""

    setting: Setting
    versions: Collection[str] = ()  # that are known; empty: not checked
    actuator: Actuator | None = None
    send: Send | None = None
    read: Callable[[Sequence[LoggedAnswer]], Sequence[AnswerScore]] | None = None  # by the reference
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
        self._file = StateFile(place.folder)
        self._references = References(place, settings)

    @property
    def state(self) -> State:
        """What the next look goes on from."""
        return self._file.state

    def look(self, world: World, watch_s: float = machine.WATCH_S) -> Window:
        """Take the window that ends now, and do what follows from it; the machine is looked at for `watch_s`."""
        now, state = self._clock(), self.state
        since = state.until or now - self.settings.window_s
        if now <= since:
            raise DataError(f"the clock stands {since - now:.0f} s before the end of the last window; set it right")
        counted, series = self._counted()
        # Windows that were too small to be compared are read again, with this one.
        waiting = min(since, state.drift_since or since)
        judged = self.place.judgements()
        found = rows.read(self.place.logs, waiting, now, world.versions, judged, self.settings.max_rows, since)
        table = found.table[found.table["ended"] >= since]
        servers = self.place.addresses(_main(table))
        version = _main(table) or (servers[0].version if servers else "")
        around = machine.watch(servers, state.energy_j, watch_s)
        window = Window(
            number=state.number + 1, began=since, ended=now, version=version, rows=len(table),
            problems=dict(found.problems),
            figures=windows.figures(
                table, now - since, around, counted, self.settings.price_per_hour, self._recent(table, now)
            ),
        )  # fmt: skip
        means = Means(world.read, world.evaluated)
        window, drift_since = self._references.compared(window, found.table, waiting, state.alerts, means)
        if world.link is not None and window.drift != "inconclusive" and window.drift != self._last_drift(window):
            world.link(window)
        events = self._judged(window, series, drift_since)
        surroundings = Surroundings(world.setting, around, world.actuator)
        told = RepairLoop(self.place, self.settings, self._file, surroundings, self._clock).step(events, now)
        self._tell(world, (*notices.lines(events), *told), now)
        return window

    def _judged(self, window: Window, series: scrape.Series, drift_since: float) -> tuple[Event, ...]:
        """Judge the window by the rules and keep it; returns which alerts begin or end."""
        kept = (*self.state.windows, window)[-KEPT:]
        alerts, events = evaluate(self.settings.rules, kept, self.state.alerts)
        lines.append(self.place.folder / WINDOWS, window)
        self._file.save(
            number=window.number, until=window.ended, series=series, energy_j=machine.read_energy(), windows=kept,
            alerts=alerts, drift_since=drift_since,
            called=tuple(name for name in self.state.called if any(one.name == name for one in alerts)),
        )  # fmt: skip
        for event in events:
            LOG.warning("%s: %s", event.alert.name, event.alert.said)
        return tuple(events)

    def _recent(self, table: pd.DataFrame, now: float) -> pd.DataFrame | None:
        """Of a window with few rows also those before it, of what is served as it is now; None where it needs none."""
        if not 0 < len(table) < FEW:
            return None
        under_way = self.state.repair
        changed = max(self.state.repaired or 0.0, under_way.since if under_way is not None else 0.0)
        since = max(now - BACK * self.settings.window_s, changed)
        found = rows.read(self.place.logs, since, now, most=self.settings.max_rows).table.sort_values("ended")
        return found[found["version"] == _main(table)]

    def _last_drift(self, window: Window) -> str:
        """The verdict on the same version before."""
        told = [one.drift for one in self.state.windows if one.version == window.version]
        return next((one for one in reversed(told) if one != "inconclusive"), "")

    def _counted(self) -> tuple[Counted, scrape.Series]:
        """What /metrics counted since the last look, and where its counters stand."""
        if not self.place.url:
            return Counted(), ()
        answers, after = float(scrape.ready(self.place.url)), scrape.fetch(self.place.url)
        if after is None and not answers and not self.place.served:
            return Counted(), self.state.series  # where nothing was ever served, nothing is down
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

    def _tell(self, world: World, news: Sequence[str], now: float) -> None:
        if world.send is None:
            return
        outbox = notices.post(self.state.outbox, news, now, self.settings.max_notices_per_hour, world.send)
        if outbox != self.state.outbox:
            self._file.save(outbox=outbox)


def _main(table: pd.DataFrame) -> str:
    """The version that answered most; empty when nobody asked."""
    if not len(table):
        return ""
    return str(table["version"].value_counts().index[0])
