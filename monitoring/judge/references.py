"""What each version's later windows are compared with: the first window of it that nothing was wrong with."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from monitoring.collect import rows
from monitoring.collect.place import Place
from monitoring.collect.signals import Signal
from monitoring.collect.windows import Window
from monitoring.judge import drift, reference_check
from monitoring.judge.alerts import Alert
from monitoring.judge.reference_check import AnswerScore, LoggedAnswer
from tasks.errors import ChildError
from tasks.params.watching import Monitor
from tasks.promotion.store import transitions
from tasks.records.base import Record

if TYPE_CHECKING:
    import pandas as pd

LOG = logging.getLogger("edgewright.monitor")
DRIFT_WINDOWS = 12  # after so many, drift is told, or is not, with what there is


class Judged(Record):
    """Answers that callers called right, of those that they judged."""

    right: int = 0
    count: int = 0


class Agreements(Record):
    """What the reference said of a version's first window, an answer each."""

    values: tuple[float, ...]


class Means(NamedTuple):
    """What a comparison can ask beside the log."""

    read: Callable[[Sequence[LoggedAnswer]], Sequence[AnswerScore]] | None = None  # by the fp32 reference
    evaluated: pd.DataFrame | None = None  # prompts that the model was evaluated on, as far as a log would tell of them


class References:
    """The references of every version that was watched, as files."""

    def __init__(self, place: Place, settings: Monitor) -> None:
        """Those below the monitor's folder."""
        self._place, self._settings = place, settings

    def compared(
        self, window: Window, table: pd.DataFrame, since: float, alerts: Sequence[Alert], means: Means
    ) -> tuple[Window, float]:
        """The window with the comparison of all rows since `since`, and from when on rows wait for the next one."""
        settings = self._settings.drift
        table = table[table["version"] == window.version] if window.version else table
        if len(table) < settings.min_requests:
            why = f"{len(table)} requests of {settings.min_requests}"
            stale = window.ended - since > DRIFT_WINDOWS * self._settings.window_s
            return window.model_copy(update={"why": why}), window.ended if stale else since
        reference = self._reference(window.version)
        current = rows.stratified(table, settings.max_requests)
        if reference is None:
            return self._first(window, current, alerts, means), window.ended
        compared = drift.compare(reference, current, settings)
        signals = (*compared, self._accuracy(window.version, table), *self._agreement(window, means))
        found, why = drift.verdict(signals, len(table), settings.min_requests)
        self._draw(reference, current)
        return window.model_copy(update={"signals": signals, "drift": found, "why": why}), window.ended

    def _accuracy(self, version: str, table: pd.DataFrame) -> Signal:
        """Callers' judgements against those of the version's first windows that had any, `min_requests` of them."""
        file = self._file(version).with_suffix(".judged.json")
        before = Judged.read(file) if file.exists() else Judged()
        values = table["judged"].dropna()
        now = Judged(right=round(float(values.sum())), count=len(values))
        found = drift.accuracy((before.right, before.count), (now.right, now.count), self._settings.drift)
        if now.count and not found.drifted and before.count < self._settings.drift.min_requests:
            Judged(right=before.right + now.right, count=before.count + now.count).write(file)
        return found

    def _agreement(self, window: Window, means: Means) -> tuple[Signal, ...]:
        """What the reference says of a sample of answers, against what it said of the first window's."""
        count, logs = self._settings.reference_rows, self._place.logs
        if not count or means.read is None:
            return ()
        asked = [
            LoggedAnswer(prompt=prompt, answer=answer, chat="chat" in endpoint)
            for endpoint, prompt, answer in rows.texts(logs, window.began, window.ended, window.version, count)
        ]
        if len(asked) < reference_check.FEWEST:
            return (reference_check.compare((), [], self._settings.drift),)
        try:
            now = tuple(one.agreement for one in means.read(asked))
        except ChildError as problem:
            LOG.error("the reference cannot read answers: %s", problem)
            return ()
        file = self._file(window.version).with_suffix(".shadow.json")
        if not file.exists():
            Agreements(values=now).write(file)
            return ()
        return (reference_check.compare(Agreements.read(file).values, now, self._settings.drift),)

    def _first(self, window: Window, current: pd.DataFrame, alerts: Sequence[Alert], means: Means) -> Window:
        """The first window of a version: what later ones are compared with, unless something is wrong with it."""
        signals: Sequence[Signal] = ()
        said = ""
        if means.evaluated is not None:
            signals = drift.compare(means.evaluated, current, self._settings.drift)
            self._draw(means.evaluated, current)
            moved = [signal.name for signal in signals if signal.drifted]
            said = f"; beside what it was evaluated on, {', '.join(moved) or 'nothing'} differs"
        if any(alert.fired and alert.severity == "page" and not self._answered(alert, window) for alert in alerts):
            return window.model_copy(
                update={"signals": tuple(signals), "why": "not taken as reference: an alert fires"}
            )
        self._save(window.version, current.head(self._settings.drift.reference_requests))
        why = f"the first accepted window of version {window.version} is the reference from now on{said}"
        return window.model_copy(update={"signals": tuple(signals), "drift": "none", "why": why})

    def _answered(self, alert: Alert, window: Window) -> bool:
        """Whether the version of a window is the answer to an alert on drift: it took over by a ramp since.

        What callers send now is ordinary to it, and without a reference of its own that alert would never be over. A
        version that a repair put in at once proves nothing of the kind.
        """
        rule = self._settings.rules.get(alert.name)
        if rule is None or rule.kind != "drift":
            return False
        return any(
            (one.before, one.after, one.challenger) == ("ramp", "promote", window.version)
            and datetime.fromisoformat(one.when).timestamp() >= alert.since
            for one in transitions(self._place.transitions)
        )

    def _file(self, version: str) -> Path:
        name = "".join(sign if sign.isalnum() else "-" for sign in version)
        return self._place.folder / "reference" / f"{name}.parquet"

    def _reference(self, version: str) -> pd.DataFrame | None:
        import pandas as pd

        file = self._file(version)
        if not file.exists():
            return None
        try:
            return pd.read_parquet(file)
        except (OSError, ValueError) as problem:
            LOG.error("the reference %s cannot be read (%s); the next window becomes it", file, problem)
            file.replace(file.with_suffix(".unreadable"))
            return None

    def _save(self, version: str, table: pd.DataFrame) -> None:
        file = self._file(version)
        file.parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(file.with_suffix(".new"))
        file.with_suffix(".new").replace(file)

    def _draw(self, reference: pd.DataFrame, current: pd.DataFrame) -> None:
        """Draw a comparison into Evidently's workspace."""
        try:
            snapshot = drift.drawn(reference, current)
            if snapshot is not None:
                drift.Workspace(self._place.folder / "evidently", "Edgewright").add(snapshot)
        except (OSError, ValueError) as problem:  # pages are no reason to stop watching
            LOG.error("Evidently's workspace cannot be written: %s", problem)
