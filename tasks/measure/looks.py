"""Sequential evaluation: score more rows and choices only where what was scored does not decide the gates yet. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.measure.choices import TaskAccuracy
from tasks.measure.quality import Quality
from tasks.measure.statistics import Interval, from_standard_error, levels_of_looks


@dataclass(frozen=True)
class Limit:
    """A gate on a quality metric: what its interval must keep."""

    metric: str
    minimum: float | None = None
    maximum: float | None = None

    def where(self, interval: Interval) -> str:
        """`kept`, `broken` or `open`, by where the interval lies."""
        if self.minimum is not None:
            return "kept" if interval.low >= self.minimum else "broken" if interval.high < self.minimum else "open"
        most = self.maximum if self.maximum is not None else float("inf")
        return "kept" if interval.high <= most else "broken" if interval.low > most else "open"


@dataclass(frozen=True)
class Look:
    """How much has been scored when it is asked whether that is enough, and the confidence level that allows asking."""

    rows: int
    choices: int
    level: float


def looks(first: tuple[int, int], total: tuple[int, int]) -> list[Look]:
    """Looks after the first rows and choices and after all of them; one look when these are the same.

    >>> looks((40, 200), (40, 200))
    [Look(rows=40, choices=200, level=0.95)]
    >>> [(look.rows, round(look.level, 3)) for look in looks((40, 200), (60, 300))]
    [(40, 0.962), (60, 0.976)]
    """
    if first == total:
        return [Look(*total, level=levels_of_looks([1.0])[0])]
    share = first[0] / total[0] if first[0] < total[0] else first[1] / total[1]
    early, late = levels_of_looks([share, 1.0])
    return [Look(*first, level=early), Look(*total, level=late)]


def undecided(
    limits: Sequence[Limit], quality: Quality, accuracy: TaskAccuracy | None, level: float
) -> tuple[str, ...]:
    """Metrics whose interval holds its limit; none once any limit is surely broken, as more would change nothing."""
    found = {}
    for limit in limits:
        interval = _interval(limit.metric, quality, accuracy, level)
        if interval is not None:
            found[limit.metric] = limit.where(interval)
    if "broken" in found.values():
        return ()
    return tuple(metric for metric, where in found.items() if where == "open")


def _interval(metric: str, quality: Quality, accuracy: TaskAccuracy | None, level: float) -> Interval | None:
    if metric == "task_retention":
        if accuracy is None or accuracy.task_retention_low is None or accuracy.task_retention_high is None:
            return None
        return Interval(accuracy.task_retention_low, accuracy.task_retention_high)
    value, se = getattr(quality, metric), getattr(quality, f"{metric}_se")
    return None if se is None or quality.rows < 2 else from_standard_error(value, se, quality.rows, level)
