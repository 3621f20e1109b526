"""Fronts of measured figures: dominated only beyond noise, how much space a front holds, and its knee. Pure.

Everything is a gain: larger is better, the reference is at 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Span = tuple[float, float]  # ends of an interval
Gains = Mapping[str, Span]  # by axis


def beats(a: Gains, b: Gains) -> bool:
    """Whether `a` is better than `b` in something, and surely no worse in anything: beyond the noise of both.

    Better is where a's interval lies above b's; no worse where b's does not lie above a's and a's middle is no lower.

    >>> beats({"x": (2, 3), "y": (1, 2)}, {"x": (0, 1), "y": (1, 2)})
    True
    >>> beats({"x": (2, 3), "y": (1, 2)}, {"x": (1, 2.5), "y": (1, 2)})
    False
    """
    if a.keys() != b.keys():
        return False
    surely = any(a[axis][0] > b[axis][1] for axis in a)
    return surely and all(sum(a[axis]) >= sum(b[axis]) for axis in a)


def front(points: Mapping[str, Gains]) -> tuple[str, ...]:
    """Names of those that nobody beats beyond noise, in their order."""
    return tuple(name for name, own in points.items() if not any(beats(other, own) for other in points.values()))


def volume(points: Sequence[Sequence[float]]) -> float:
    """Volume that points hold above the origin, exactly, by slices along the last axis; those below it hold none.

    >>> volume([(2.0, 1.0), (1.0, 2.0)])
    3.0
    >>> volume([(2.0, 1.0, 3.0)])
    6.0
    """
    above = [tuple(point) for point in points if all(value > 0 for value in point)]
    if not above:
        return 0.0
    if len(above[0]) == 1:
        return max(point[0] for point in above)
    total, floor = 0.0, 0.0
    for height in sorted({point[-1] for point in above}):
        total += (height - floor) * volume([point[:-1] for point in above if point[-1] >= height])
        floor = height
    return total


def knee(points: Mapping[str, Gains]) -> str | None:
    """The point farthest from the plane through the extremes: where giving in one axis stops paying in the others.

    >>> knee({"a": {"x": (0, 0), "y": (4, 4)}, "b": {"x": (3, 3), "y": (3, 3)}, "c": {"x": (4, 4), "y": (0, 0)}})
    'b'
    """
    if not points:
        return None
    axes = list(next(iter(points.values())))
    middle = {name: {axis: sum(own[axis]) / 2 for axis in axes} for name, own in points.items()}
    low = {axis: min(one[axis] for one in middle.values()) for axis in axes}
    span = {axis: max(one[axis] for one in middle.values()) - low[axis] or 1.0 for axis in axes}
    return max(middle, key=lambda name: sum((middle[name][axis] - low[axis]) / span[axis] for axis in axes))
