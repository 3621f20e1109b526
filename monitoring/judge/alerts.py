"""Alerts, from windows and rules: which fire, which are over. Pure: what fired before comes in with the state.

A limit is broken where the figure's whole interval is beyond it, so that few requests raise no alarm. A window that
cannot tell changes nothing: an alert neither fires nor ends on it, except the one for absence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Literal

from pydantic import Field

from monitoring.collect.windows import Figure, Window, comparable
from tasks.params.watching import Rule
from tasks.records.base import Record

Broken = bool | None  # None: it cannot be told
BEFORE = 3  # windows before, at least, for a rate
LONG = 12  # windows of the long look at an error budget


class Alert(Record):
    """One rule that is broken, or was until this window."""

    name: str
    metric: str
    severity: Literal["page", "warn"]
    version: str  # that was served when it began
    since: float  # when the first broken window ended
    windows: int  # broken in a row
    fired: bool
    said: str
    runbook: str
    evidence: dict[str, float] = Field(default_factory=dict)
    usual: float | None = None  # what a rate was compared with when it began; None where the version was new


class Event(Record):
    """An alert that fires or is over with this window."""

    kind: Literal["fires", "over"]
    alert: Alert


def evaluate(
    rules: Mapping[str, Rule], windows: Sequence[Window], before: Sequence[Alert]
) -> tuple[tuple[Alert, ...], tuple[Event, ...]]:
    """What is broken now, and what that changes; `windows` end with the newest."""
    if not windows:
        return tuple(before), ()
    known, newest = {alert.name: alert for alert in before}, windows[-1]
    after: list[Alert] = []
    events: list[Event] = []
    for name, rule in rules.items():
        old = known.get(name)
        broken, said = look(rule, windows, old)
        if broken is None:
            after += [old] if old else []
            continue
        if not broken:
            if old and old.fired:
                events.append(Event(kind="over", alert=old.model_copy(update={"said": said})))
            continue
        count = (old.windows if old else 0) + 1
        alert = Alert(
            name=name, metric=rule.metric, severity=rule.severity,
            version=old.version if old else newest.version, usual=old.usual if old else _known(rule, windows),
            since=old.since if old else newest.ended, windows=count, fired=count >= rule.windows, said=said,
            runbook=rule.runbook, evidence=evidence(newest),
        )  # fmt: skip
        after.append(alert)
        if alert.fired and not (old and old.fired):
            events.append(Event(kind="fires", alert=alert))
    return tuple(after), tuple(events)


def evidence(window: Window) -> dict[str, float]:
    """The figures of a window that have a value."""
    return {name: one.value for name, one in window.figures.items() if one.value is not None}


def look(rule: Rule, windows: Sequence[Window], alert: Alert | None = None) -> tuple[Broken, str]:
    """Whether the newest window breaks a rule, and in which words; `alert` is the rule's own, where it has one."""
    newest = windows[-1]
    if rule.kind == "drift":
        return (None if newest.drift == "inconclusive" else newest.drift == "drift"), newest.why
    figure = newest.figures.get(rule.metric)
    if rule.kind == "absent":
        return _absent(rule, windows, figure)
    if rule.kind == "burn":
        return _burn(rule, windows)
    if figure is None or figure.value is None:
        return None, figure.note if figure else f"no {rule.metric} in this window"
    if rule.kind == "rate":
        scale = usual(rule, windows, alert)
        if scale is None:
            return None, f"{len(_earlier(rule, windows))} windows before, {BEFORE} are needed"
        return beyond(rule, figure, scale, f" times the {scale:.4g} of the windows before")
    return beyond(rule, figure, 1.0, "")


def usual(rule: Rule, windows: Sequence[Window], alert: Alert | None) -> float | None:
    """What a rate is compared with: the median of the windows before; None of too few, and for other rules.

    As long as an alert goes on it stays what it was when it began, or what is broken would itself become usual and the
    alert be over. Not so where the version was new then, or is another now: what it needs is its own usual, and until
    that is known the alert is over where it would be for the version before.
    """
    if rule.kind != "rate":
        return None
    if alert is not None and alert.usual is not None and alert.version == windows[-1].version:
        return alert.usual
    earlier = _earlier(rule, windows)
    if len(earlier) >= BEFORE:
        return median(earlier)
    return alert.usual if alert is not None else None


def _known(rule: Rule, windows: Sequence[Window]) -> float | None:
    """What is usual of a version that was seen before."""
    own = _told(rule, [window for window in windows[:-1] if window.version == windows[-1].version])
    return usual(rule, windows, None) if len(own) >= BEFORE else None


def _earlier(rule: Rule, windows: Sequence[Window]) -> list[float]:
    return _told(rule, comparable(windows, rule.metric))[-LONG:]


def _told(rule: Rule, windows: Sequence[Window]) -> list[float]:
    figures = (window.figures.get(rule.metric) for window in windows)
    return [one.value for one in figures if one and one.value is not None]


def beyond(rule: Rule, figure: Figure, scale: float, words: str) -> tuple[Broken, str]:
    """Whether a figure is beyond the limits of a rule, each times `scale`.

    >>> rule = Rule(metric="error_rate", above=0.05, runbook="")
    >>> beyond(rule, Figure(value=0.1, count=20, low=0.03, high=0.3), 1, "")[0]
    False
    >>> beyond(rule, Figure(value=0.1, count=900, low=0.08, high=0.12), 1, "")
    (True, 'error_rate is 0.1 (900 requests), more than 0.05')
    """
    assert figure.value is not None
    low = figure.low if figure.low is not None else figure.value
    high = figure.high if figure.high is not None else figure.value
    said = f"{rule.metric} is {figure.value:.4g}" + (f" ({figure.count} requests)" if figure.count > 1 else "")
    if rule.above is not None and low > rule.above * scale:
        return True, f"{said}, more than {rule.above:g}{words}"
    if rule.below is not None and high < rule.below * scale:
        return True, f"{said}, less than {rule.below:g}{words}"
    return False, said


def _absent(rule: Rule, windows: Sequence[Window], figure: Figure | None) -> tuple[Broken, str]:
    if not any(window.rows for window in windows):
        return None, "nobody has asked yet"
    if figure is not None and figure.value:
        return False, f"{rule.metric} is there again"
    note = f" ({figure.note})" if figure and figure.note else ""
    return True, f"no {rule.metric} in {windows[-1].rows} logged requests{note}"


def _burn(rule: Rule, windows: Sequence[Window]) -> tuple[Broken, str]:
    """How many times as fast as it may the error budget is spent, over one window and over many: both must be."""
    assert rule.objective is not None and rule.above is not None
    told = [one for window in windows[-LONG:] if (one := window.figures.get(rule.metric)) and one.value is not None]
    newest = windows[-1].figures.get(rule.metric)
    if not told or newest is None or newest.value is None:
        return None, "nobody asked"
    asked = sum(one.count for one in told)
    long = sum(one.value * one.count for one in told if one.value is not None) / max(1, asked)
    budget = max(1e-9, 1 - rule.objective)
    short = (newest.low if newest.low is not None else newest.value) / budget
    said = (
        f"{rule.metric} spends the budget of {budget:.2%} {newest.value / budget:.1f} times as fast as it may in this "
        f"window, {long / budget:.1f} times over {len(told)} ({asked} requests)"
    )
    return short > rule.above and long / budget > rule.above, said
