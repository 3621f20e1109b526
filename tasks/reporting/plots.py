"""Plots as SVG text: colours come from the page's style sheet, so that they follow its light and dark themes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 480.0, 372.0
LEFT, RIGHT, TOP, BOTTOM = 56.0, 12.0, 12.0, 44.0
CHARACTER, LINE = 5.7, 12.0  # of a label, in the drawing's units
RADIUS = 5.0


class Point(NamedTuple):
    """One variant in a plane."""

    name: str
    x: float
    y: float
    engine: str
    precision: str
    on_front: bool  # of all objectives, not only these two
    winner: bool
    tip: str


@dataclass(frozen=True)
class Axis:
    """A measured direction: how it is scaled, where its gate's limit lies, and which way is better."""

    label: str
    scale: Callable[[float], float]
    ticks: tuple[float, ...]
    write: Callable[[float], str]
    higher_is_better: bool
    limit: float | None = None
    limit_label: str = ""


class Bar(NamedTuple):
    """One variant's measurement with its extremes, or why there is none."""

    name: str
    engine: str
    value: float | None
    low: float
    high: float
    winner: bool
    words: tuple[str, str]  # beside the bar: the value, and what it is against the reference
    tip: str


class Box(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """Shared area."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, wide) * max(0.0, high)


def above_one(ratio: float) -> float:
    """Square root of the distance from 1, with its sign: small losses stay apart, large ones stay in the picture.

    >>> above_one(1.0), above_one(1.04), above_one(0.96)
    (0.0, 0.2, -0.2)
    """
    return round(math.copysign(math.sqrt(abs(ratio - 1)), ratio - 1), 9)


def log(number: float) -> float:
    """Logarithm to base 2: equal factors, equal distances."""
    return math.log2(number)


RATIO_TICKS = (0.9, 0.95, 0.99, 1.0, 1.005, 1.01, 1.02, 1.05, 1.1, 1.2, 1.3, 1.5, 2.0, 3.0, 5.0, 10.0)
LOG_TICKS = tuple(digit * 10.0**power for power in range(-3, 7) for digit in (1, 2, 5))


@dataclass
class _Frame:
    """The plane's drawing area: data to drawing units along both axes."""

    x: Axis
    y: Axis
    x_range: tuple[float, float] = field(default=(0.0, 1.0))
    y_range: tuple[float, float] = field(default=(0.0, 1.0))

    def at_x(self, value: float) -> float:
        low, high = self.x_range
        return LEFT + (self.x.scale(value) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def at_y(self, value: float) -> float:
        low, high = self.y_range
        part = (self.y.scale(value) - low) / (high - low)
        return TOP + (1 - part if self.y.higher_is_better else part) * (HEIGHT - TOP - BOTTOM)


def scatter(points: Sequence[Point], x: Axis, y: Axis, caption: str) -> str:
    """A plane of two objectives with gate limits, the front in this plane and a label at every point."""
    if not points:
        return ""
    frame = _Frame(x, y, _range(x, [p.x for p in points], 0.09), _range(y, [p.y for p in points], 0.06))
    front = in_plane_front(points, x, y)
    parts = [_grid(frame), _allowed(frame), _limits(frame), _front(frame, front)]
    parts += _labels(frame, points)
    parts += [_mark(frame, point) for point in sorted(points, key=lambda p: (p.winner, p.on_front))]
    return _svg(HEIGHT, caption, parts)


def in_plane_front(points: Sequence[Point], x: Axis, y: Axis) -> list[Point]:
    """Points that no other beats in these two objectives, from the best in y to the best in x."""

    def gains(point: Point) -> tuple[float, float]:
        return (point.x if x.higher_is_better else -point.x), (point.y if y.higher_is_better else -point.y)

    ordered = sorted(points, key=lambda p: (-gains(p)[1], -gains(p)[0]))
    kept: list[Point] = []
    for point in ordered:
        if not kept or gains(point)[0] > gains(kept[-1])[0]:
            kept.append(point)
    return kept


def _range(axis: Axis, values: Iterable[float], pad: float) -> tuple[float, float]:
    scaled = [axis.scale(value) for value in (*values, *([axis.limit] if axis.limit is not None else []))]
    low, high = min(scaled), max(scaled)
    room = (high - low or 1.0) * pad
    return low - room, high + room


def _ticks(axis: Axis, bounds: tuple[float, float], at: Callable[[float], float], apart: float) -> list[float]:
    """Ticks inside the range, far enough from each other; rounder ones come first."""
    inside = [tick for tick in axis.ticks if bounds[0] <= axis.scale(tick) <= bounds[1]]
    kept: list[float] = []
    for tick in sorted(inside, key=lambda t: (len(f"{t:g}".strip("0.")), len(f"{t:g}"), t)):
        if all(abs(at(tick) - at(other)) >= apart for other in kept):
            kept.append(tick)
    return sorted(kept)


def _grid(frame: _Frame) -> str:
    bottom, parts = HEIGHT - BOTTOM, []
    for tick in _ticks(frame.x, frame.x_range, frame.at_x, 34):
        at = frame.at_x(tick)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(_text(at, bottom + 15, frame.x.write(tick), "tick", "middle"))
    for tick in _ticks(frame.y, frame.y_range, frame.at_y, 17):
        at = frame.at_y(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(_text(LEFT - 6, at + 3.5, frame.y.write(tick), "tick", "end"))
    arrow = "→" if frame.x.higher_is_better else "←"
    label = f"{frame.x.label} {arrow}" if frame.x.higher_is_better else f"{arrow} {frame.x.label}"
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, label, "axis", "middle"))
    middle = (TOP + bottom) / 2
    parts.append(
        f'<g transform="translate(11 {middle:.1f}) rotate(-90)">{_text(0, 0, frame.y.label, "axis", "middle")}</g>'
    )
    return "".join(parts)


def _allowed(frame: _Frame) -> str:
    """The area that both gates allow, tinted."""
    if frame.x.limit is None or frame.y.limit is None:
        return ""
    x, y = frame.at_x(frame.x.limit), frame.at_y(frame.y.limit)
    left, right = (x, WIDTH - RIGHT) if frame.x.higher_is_better else (LEFT, x)
    return f'<rect class="allowed" x="{left:.1f}" y="{TOP}" width="{right - left:.1f}" height="{y - TOP:.1f}"/>'


def _limits(frame: _Frame) -> str:
    parts = []
    if frame.x.limit is not None:
        at, bottom = frame.at_x(frame.x.limit), HEIGHT - BOTTOM
        parts.append(f'<line class="limit" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{bottom}"/>')
        after = at < WIDTH * 0.6
        parts.append(
            _text(
                at + (4 if after else -4), bottom - 6, frame.x.limit_label, "limit-label", "start" if after else "end"
            )
        )
    if frame.y.limit is not None:
        at = frame.at_y(frame.y.limit)
        parts.append(f'<line class="limit" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(_text(LEFT + 4, at - 5, frame.y.limit_label, "limit-label", "start"))
    return "".join(parts)


def _front(frame: _Frame, front: Sequence[Point]) -> str:
    """Steps along the front: what lies beyond them nobody reached."""
    if len(front) < 2:
        return ""
    path = f"M{frame.at_x(front[0].x):.1f} {frame.at_y(front[0].y):.1f}"
    for point in front[1:]:
        path += f" V{frame.at_y(point.y):.1f} H{frame.at_x(point.x):.1f}"
    return f'<path class="front" d="{path}"/>'


def _mark(frame: _Frame, point: Point) -> str:
    x, y = frame.at_x(point.x), frame.at_y(point.y)
    kind = f"mark e-{point.engine}" + (" on-front" if point.on_front else "")
    ring = f'<circle class="ring" cx="{x:.1f}" cy="{y:.1f}" r="{RADIUS * 2:.1f}"/>' if point.winner else ""
    return f'<g class="{kind}"><title>{escape(point.tip)}</title>{ring}{shape(point.precision, x, y)}</g>'


def shape(precision: str, x: float, y: float, r: float = RADIUS) -> str:
    """A circle for floating point, a square for int8, a diamond for int4."""
    if precision == "int8":
        s = r * 0.9
        return f'<rect x="{x - s:.1f}" y="{y - s:.1f}" width="{2 * s:.1f}" height="{2 * s:.1f}" rx="1"/>'
    if precision == "int4":
        s = r * 1.25
        return f'<path d="M{x:.1f} {y - s:.1f}l{s:.2f} {s:.2f}l{-s:.2f} {s:.2f}l{-s:.2f} {-s:.2f}z"/>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}"/>'


def _labels(frame: _Frame, points: Sequence[Point]) -> list[str]:
    """A name at every point, where it covers least; a thin line leads to one that stands off."""
    places = {p.name: (frame.at_x(p.x), frame.at_y(p.y)) for p in points}
    taken = [Box(x - RADIUS - 1, y - RADIUS - 1, x + RADIUS + 1, y + RADIUS + 1) for x, y in places.values()]
    parts = []
    for point in sorted(points, key=lambda p: (not p.winner, -places[p.name][0])):
        x, y = places[point.name]
        width = len(point.name) * CHARACTER * (1.12 if point.winner else 1)
        box, anchor = _place(x, y, width, RADIUS * (2.8 if point.winner else 1.6), taken)
        taken.append(box)
        at_x = {"start": box.left, "end": box.right, "middle": (box.left + box.right) / 2}[anchor]
        near_x, near_y = min(max(x, box.left), box.right), min(max(y, box.top), box.bottom)
        if math.hypot(near_x - x, near_y - y) > RADIUS * 3:
            parts.append(f'<line class="leader" x1="{x:.1f}" y1="{y:.1f}" x2="{near_x:.1f}" y2="{near_y:.1f}"/>')
        kind = "label winner" if point.winner else "label"
        parts.append(_text(at_x, box.bottom - 3, point.name, kind, anchor))
    return parts


def _place(x: float, y: float, width: float, near: float, taken: Sequence[Box]) -> tuple[Box, str]:
    """The nearest free box around a point, or the one that covers least."""
    best: tuple[float, Box, str] | None = None
    for distance in (near, near + 6, near + 14, near + 24, near + 36, near + 50):
        for dx, dy in ((1, 0), (0, -1), (0, 1), (-1, 0), (0.7, -0.9), (0.7, 0.9), (-0.7, -0.9), (-0.7, 0.9)):
            left = x + dx * distance - (width if dx < 0 else width / 2 if dx == 0 else 0)
            top = y + dy * (distance + LINE / 2) - LINE / 2
            box = Box(left, top, left + width, top + LINE)
            outside = box.left < LEFT + 2 or box.right > WIDTH - 1 or box.top < 0 or box.bottom > HEIGHT - BOTTOM
            cost = sum(box.overlap(other) for other in taken) + 1e4 * outside
            if best is None or cost < best[0]:
                best = cost, box, "end" if dx < 0 else "middle" if dx == 0 else "start"
            if cost == 0:
                return box, best[2]
    assert best is not None
    return best[1], best[2]


ROW, BAR, NAMES, BESIDE = 21.0, 11.0, 100.0, 88.0


def bars(rows: Sequence[Bar], gate: float | None, gate_label: str, caption: str) -> str:
    """Horizontal bars from 0 with whiskers from lowest to highest; a row without a value says why."""
    highest = max([row.high for row in rows if row.value is not None] + ([gate] if gate else []), default=0.0)
    if not highest:
        return ""
    height, scale = 22 + ROW * len(rows) + 6, (WIDTH - NAMES - BESIDE) / highest
    parts = []
    if gate is not None:
        at = NAMES + gate * scale
        parts.append(f'<line class="limit" x1="{at:.1f}" x2="{at:.1f}" y1="16" y2="{height - 4:.1f}"/>')
        parts.append(_text(at, 11, gate_label, "limit-label", "middle"))
    parts += [_bar(row, 22 + ROW * number, scale) for number, row in enumerate(rows)]
    return _svg(height, caption, parts)


def _bar(row: Bar, top: float, scale: float) -> str:
    middle = top + ROW / 2
    name = _text(NAMES - 8, middle + 4, row.name, "label winner" if row.winner else "label", "end")
    if row.value is None:
        words = _text(NAMES + 2, middle + 4, row.words[0], "tick", "start")
        return f"<g><title>{escape(row.tip)}</title>{name}{words}</g>"
    low, high, end = (NAMES + number * scale for number in (row.low, row.high, row.value))
    bar = f'<rect x="{NAMES}" y="{middle - BAR / 2:.1f}" width="{end - NAMES:.1f}" height="{BAR}" rx="1.5"/>'
    whisker = f'<path class="whisker" d="M{low:.1f} {middle:.1f}H{high:.1f}m0 -3v6M{low:.1f} {middle - 3:.1f}v6"/>'
    beside, kind = max(high, end) + 7, "value winner" if row.winner else "value"
    words = _text(beside, middle + 4, row.words[0], kind, "start")
    words += _text(
        beside + len(row.words[0]) * (7.4 if row.winner else 6.4) + 6, middle + 4, row.words[1], "times", "start"
    )
    return f'<g class="bar e-{row.engine}"><title>{escape(row.tip)}</title>{name}{bar}{whisker}{words}</g>'


class Curve(NamedTuple):
    """A named line through points (x, y), in order of x."""

    name: str
    points: tuple[tuple[float, float], ...]
    kind: str  # class of the style sheet that colours it


def curves(lines: Sequence[Curve], x: Axis, y: Axis, caption: str) -> str:
    """Lines with a mark at each point, named at their last, and the axes' limits; nothing without points."""
    points = [point for line in lines for point in line.points]
    if not points:
        return ""
    frame = _Frame(x, y, _range(x, [at for at, _ in points], 0.08), _range(y, [at for _, at in points], 0.1))
    parts = [_grid(frame), _limits(frame)]
    for line in lines:
        if not line.points:
            continue
        places = [(frame.at_x(one), frame.at_y(other)) for one, other in line.points]
        path = "L".join(f"{left:.1f} {top:.1f}" for left, top in places)
        marks = "".join(f'<circle cx="{left:.1f}" cy="{top:.1f}" r="3"/>' for left, top in places)
        name = _text(places[-1][0] - 4, places[-1][1] - 8, line.name, "label", "end")
        parts.append(f'<g class="curve {line.kind}"><path d="M{path}"/>{marks}{name}</g>')
    return _svg(HEIGHT, caption, parts)


def _text(x: float, y: float, words: str, kind: str, anchor: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _svg(height: float, caption: str, parts: Iterable[str]) -> str:
    head = f'<svg viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" aria-label="{escape(caption)}">'
    return f"{head}{''.join(parts)}</svg>"
