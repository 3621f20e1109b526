"""What a user asks of a search: an objective and limits; whether they can be met at all, and who keeps them. Pure."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tasks.errors import ConfigError
from tasks.kinds import demands
from tasks.kinds.catalogue import Catalogue, MetricSpec
from tasks.kinds.demands import Limit
from tasks.params.pipeline import Bound
from tasks.records.search import Figure, Miss
from tasks.search.front import Gains, Span

WEIGHTS, FRONT = "weights", "front"
JUDGED = ("quality", "speed", "memory", "energy")  # groups that a search measures; a run measures the others too
Where = Literal["kept", "broken", "open", "unknown"]


@dataclass(frozen=True)
class Wishes:
    """An objective and limits, by the catalogue of a kind of model."""

    known: Catalogue
    objective: str
    limits: tuple[Limit, ...]
    weights: Mapping[str, float]  # of axes
    axes: Mapping[str, MetricSpec] = field(default_factory=dict)  # axis -> the metric it is told by

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics that decide anything, each once."""
        return tuple(
            dict.fromkeys((*(limit.spec.name for limit in self.limits), *(s.name for s in self.aims.values())))
        )

    @property
    def aims(self) -> Mapping[str, MetricSpec]:
        """What is to be as good as can be: the axes, or one metric."""
        if self.objective in (WEIGHTS, FRONT):
            return self.axes
        if self.objective in self.axes:
            return {self.objective: self.axes[self.objective]}
        return {self.objective: self.known[self.objective]}

    def shares(self) -> Mapping[str, float]:
        """How much each aim counts, adding up to 1."""
        aims = self.aims
        given = {name: self.weights.get(name, 0.0) if len(aims) > 1 else 1.0 for name in aims}
        total = sum(given.values())
        return {name: weight / total for name, weight in given.items()} if total else dict.fromkeys(aims, 1 / len(aims))

    def gains(self, figures: Mapping[str, Figure], aims: Mapping[str, MetricSpec] | None = None) -> Gains | None:
        """Gains over the reference per aim as intervals; None while one is unknown."""
        wanted = self.aims if aims is None else aims
        if any(spec.name not in figures for spec in wanted.values()):
            return None
        return {name: span(spec, figures[spec.name]) for name, spec in wanted.items()}

    def worth(self, gains: Gains) -> Span:
        """All aims as one gain: low, high."""
        shares = self.shares()
        return (
            sum(share * gains[name][0] for name, share in shares.items()),
            sum(share * gains[name][1] for name, share in shares.items()),
        )

    def where(self, limit: Limit, figure: Figure | None) -> Where:
        """Where a figure's interval lies to a limit."""
        if figure is None:
            return "unknown"
        low, high = figure.ends
        if math.isnan(low) or math.isnan(high):
            return "broken"
        if limit.minimum is not None:
            return "kept" if low >= limit.minimum else "broken" if high < limit.minimum else "open"
        most = limit.maximum if limit.maximum is not None else math.inf
        return "kept" if high <= most else "broken" if low > most else "open"

    def broken(self, figures: Mapping[str, Figure]) -> str:
        """Say which limit is surely broken; empty when none is."""
        for limit in self.limits:
            figure = figures.get(limit.spec.name)
            if figure is not None and self.where(limit, figure) == "broken":
                return f"{limit.spec.title} {figure.value:.4g}, {said(limit)}"
        return ""

    def feasible(self, figures: Mapping[str, Figure]) -> bool:
        """Whether no limit is broken or unknown; intervals may hold one."""
        return all(miss.open for miss in self.misses(figures))

    def misses(self, figures: Mapping[str, Figure]) -> tuple[Miss, ...]:
        """Limits that the values do not keep, or not surely; one that is unknown counts as missed by all of it."""
        found = []
        for limit in self.limits:
            figure, bound = figures.get(limit.spec.name), bound_of(limit)
            where = self.where(limit, figure)
            if figure is None:
                found.append(Miss(metric=limit.spec.name, value=math.nan, limit=bound, by=1.0))
            elif where != "kept":
                beyond = (bound - figure.value) if limit.minimum is not None else (figure.value - bound)
                by = max(0.0, beyond) / (abs(bound) or 1.0)
                found.append(Miss(metric=limit.spec.name, value=figure.value, limit=bound, by=by, open=where == "open"))
        return tuple(found)


def wishes(
    known: Catalogue,
    objective: str,
    gate: Mapping[str, Bound | None],
    limits: Mapping[str, Bound | None],
    weights: Mapping[str, float],
) -> Wishes:
    """Check an objective and limits against the catalogue; raises ConfigError for what it does not have.

    `limits` go over the gates; metrics that a search does not measure are left to the run that follows it.
    """
    merged = dict(gate) | dict(limits)
    demands.check_gates(known, "search.limits", limits)
    found = tuple(one for one in demands.limits(known, merged) if one.spec.group in JUDGED)
    axes = axis_metrics(known)
    names = (WEIGHTS, FRONT, *axes, *(spec.name for spec in known))
    if objective not in names:
        close = difflib.get_close_matches(objective, names, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]!r}? " if close else ""
        shown = ", ".join((WEIGHTS, FRONT, *axes))
        raise ConfigError(f"search.objective: {objective!r} is not known; {hint}allowed: {shown}, or a metric's name")
    return Wishes(known, objective, found, demands.weights(known, weights), axes)


def axis_metrics(known: Catalogue) -> dict[str, MetricSpec]:
    """The metric that tells each axis of the ranking: its ratio to the reference where there is one."""
    own = [(spec.axis.name, spec) for spec in known.having("axis") if spec.axis is not None and not spec.axis.stands_in]
    return {axis: known.ratio_of(spec.name) or spec for axis, spec in own}


def span(spec: MetricSpec, figure: Figure) -> Span:
    """A figure as a gain over the reference, low and high: doublings of a ratio, else shares of the default gate.

    A ratio of 2 that is to be high gains 1, a share of 0.25 that is to be low gains 2. What is no ratio of speeds or
    sizes (a divergence, a retention) is at 0 where it is perfect and at -1 at its default gate.
    """
    ends = [_gain(spec, value) for value in figure.ends]
    return min(ends), max(ends)


def _gain(spec: MetricSpec, value: float) -> float:
    sign = 1.0 if spec.better == "higher" else -1.0
    if spec.against or (spec.group != "quality" and value > 0):
        return sign * math.log2(value) if value > 0 else -math.inf
    perfect = 1.0 if spec.form in ("percent", "ratio", "share") else 0.0
    default = spec.gate.default if spec.gate is not None and spec.gate.default is not None else None
    scale = abs(default - perfect) if default is not None else 1.0
    return sign * (value - perfect) / (scale or 1.0)


def bound_of(limit: Limit) -> float:
    """The limit's number."""
    return limit.minimum if limit.minimum is not None else float(limit.maximum or 0.0)


def said(limit: Limit) -> str:
    """A limit in words."""
    return f"at {'least' if limit.minimum is not None else 'most'} {bound_of(limit):g} is wanted"


@dataclass(frozen=True)
class Floor:
    """The least of a metric that anything in the space can give, by a bound that no measurement can break."""

    metric: str
    value: float
    by: str


def impossible(wanted: Wishes, floors: tuple[Floor, ...]) -> tuple[str, ...]:
    """Wishes that nothing in the space can meet, each with the nearest that can be met."""
    found = []
    for limit in wanted.limits:
        for floor in floors:
            if floor.metric != limit.spec.name:
                continue
            if limit.maximum is not None and floor.value > limit.maximum:
                found.append(
                    f"{limit.spec.title}: at most {limit.maximum:g} is wanted, and {floor.by} gives {floor.value:.4g} "
                    f"at the least; the nearest that can be met is {{{limit.spec.name}: {{max: {floor.value:.4g}}}}}"
                )
    return tuple(found)
