"""Sequential evaluation: score more rows and choices only where what was scored does not decide the gates yet. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks.measure.statistics import Interval, from_standard_error, levels_of_looks
from tasks.records.base import Estimate, Record


class Limit(Record):
    """A gate on a quality metric: what its interval must keep."""

    metric: str
    minimum: float | None = None
    maximum: float | None = None
    target: str = ""  # whose gate it is

    def where(self, interval: Interval) -> str:
        """Tell `kept`, `broken` or `open`, by where the interval lies."""
        if self.minimum is not None:
            return "kept" if interval.low >= self.minimum else "broken" if interval.high < self.minimum else "open"
        most = self.maximum if self.maximum is not None else float("inf")
        return "kept" if interval.high <= most else "broken" if interval.low > most else "open"


@dataclass(frozen=True)
class Look:
    """Rows and choices scored when it is asked whether they are enough, and the confidence level of asking."""

    rows: int
    choices: int
    level: float


def looks(rows: Sequence[int], choices: Sequence[int]) -> list[Look]:
    """Looks at growing numbers of rows and choices; where one of the two has fewer looks, all of it from then on.

    >>> looks((40,), (200,))
    [Look(rows=40, choices=200, level=0.95)]
    >>> [(look.rows, look.choices, round(look.level, 3)) for look in looks((16, 40, 60), (80, 300))]
    [(16, 80, 0.981), (40, 300, 0.977), (60, 300, 0.979)]
    """
    grows = rows if len(rows) >= len(choices) else choices
    levels = levels_of_looks([size / grows[-1] for size in grows])
    return [
        Look(rows[min(n, len(rows) - 1)], choices[min(n, len(choices) - 1)], level) for n, level in enumerate(levels)
    ]


def undecided(limits: Sequence[Limit], figures: Mapping[str, Estimate], rows: int, level: float) -> tuple[str, ...]:
    """Metrics whose interval holds a limit; of a target none once any is surely broken: more would change nothing."""
    found: dict[str, dict[str, str]] = {}
    for limit in limits:
        interval = _interval(figures.get(limit.metric, Estimate()), rows, level)
        if interval is not None:
            found.setdefault(limit.target, {})[limit.metric] = limit.where(interval)
    may_pass = [own for own in found.values() if "broken" not in own.values()]
    return tuple(dict.fromkeys(metric for own in may_pass for metric, where in own.items() if where == "open"))


def _interval(found: Estimate, rows: int, level: float) -> Interval | None:
    """The estimate's own interval, else that over rows its standard error stands for."""
    if found.low is not None and found.high is not None:
        return Interval(found.low, found.high)
    if found.value is None or found.se is None or rows < 2:
        return None
    return from_standard_error(found.value, found.se, rows, level)
