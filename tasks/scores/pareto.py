"""Find the points that no other point beats, over any named objectives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Point = Mapping[str, float]


@dataclass(frozen=True)
class Objective:
    """One direction in which points are compared; `metric` is its key in a point."""

    name: str
    metric: str
    better: Literal["lower", "higher"]
    scale: Literal["linear", "log"] = "linear"  # how distances along it are felt; dominance does not need it
    unit: str = ""


@dataclass(frozen=True)
class Front:
    """The non-dominated points, who dominates each of the others, and what could not be compared."""

    members: tuple[str, ...]
    dominated: dict[str, tuple[str, ...]] = field(default_factory=dict)
    excluded: dict[str, str] = field(default_factory=dict)


def dominates(a: Point, b: Point, objectives: Sequence[Objective]) -> bool:
    """Tell whether `a` is nowhere worse than `b` and somewhere better; both must have every objective.

    >>> speed, error = Objective("speed", "tps", "higher"), Objective("error", "kl", "lower")
    >>> dominates({"tps": 90, "kl": 0.1}, {"tps": 80, "kl": 0.1}, [speed, error])
    True
    >>> dominates({"tps": 90, "kl": 0.2}, {"tps": 80, "kl": 0.1}, [speed, error])
    False
    >>> dominates({"tps": 80, "kl": 0.1}, {"tps": 80, "kl": 0.1}, [speed, error])
    False
    """
    gains = [_gain(a, objective) - _gain(b, objective) for objective in objectives]
    return all(gain >= 0 for gain in gains) and any(gain > 0 for gain in gains)


def front(points: Mapping[str, Point], objectives: Sequence[Objective]) -> Front:
    """The Pareto front of `points`; ties are kept, and a point that lacks an objective is left out with the reason.

    >>> speed, error = Objective("speed", "tps", "higher"), Objective("error", "kl", "lower")
    >>> found = front({"a": {"tps": 90, "kl": 0.3}, "b": {"tps": 60, "kl": 0.1}, "c": {"tps": 50, "kl": 0.2},
    ...                "d": {"kl": 0.0}}, [speed, error])
    >>> found.members
    ('a', 'b')
    >>> found.dominated
    {'c': ('b',)}
    >>> found.excluded
    {'d': 'speed is not known'}
    """
    excluded = {
        name: f"{', '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} not known"
        for name, point in points.items()
        if (lacking := [objective.name for objective in objectives if objective.metric not in point])
    }
    if not objectives:
        return Front((), excluded=dict.fromkeys(points, "nothing to compare by"))
    comparable = {name: point for name, point in points.items() if name not in excluded}
    beaten_by = {
        name: tuple(other for other, rival in comparable.items() if dominates(rival, point, objectives))
        for name, point in comparable.items()
    }
    return Front(
        members=tuple(name for name, others in beaten_by.items() if not others),
        dominated={name: others for name, others in beaten_by.items() if others},
        excluded=excluded,
    )


def _gain(point: Point, objective: Objective) -> float:
    value = point[objective.metric]
    return value if objective.better == "higher" else -value
