"""What params.yaml asks of a kind's metrics: limits of gates and weights of the ranking, checked by the catalogue."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tasks.errors import ConfigError
from tasks.kinds.catalogue import Catalogue, MetricSpec
from tasks.params.pipeline import Bound, Gates, Params


@dataclass(frozen=True)
class Limit:
    """One gate that is switched on: a metric and the bound it must keep, of which one is set."""

    spec: MetricSpec
    minimum: float | None
    maximum: float | None


def check(known: Catalogue, params: Params) -> None:
    """Raise ConfigError for a gate or weight of params.yaml that this kind of model does not have, or not so."""
    check_gates(known, "gate", params.gate)
    _check_weights(known, "recommend.weights", params.recommend.weights)
    for name, target in params.targets.items():
        check_gates(known, f"targets.{name}.gate", target.gate)
        _check_weights(known, f"targets.{name}.weights", params.recommend.weights | target.weights)


def limits(known: Catalogue, gate: Gates) -> tuple[Limit, ...]:
    """The gates that are switched on, in the order of the catalogue: those of params.yaml, else the defaults."""
    found = ((spec, gate[spec.name] if spec.name in gate else default(spec)) for spec in known)
    return tuple(Limit(spec, bound.min, bound.max) for spec, bound in found if bound is not None)


def default(spec: MetricSpec) -> Bound | None:
    """The gate on a metric that params.yaml does not name; None where there is none."""
    if spec.gate is None or spec.gate.default is None:
        return None
    return Bound(min=spec.gate.default) if spec.better == "higher" else Bound(max=spec.gate.default)


def switched_off(known: Catalogue, gate: Gates) -> tuple[MetricSpec, ...]:
    """Metrics whose gate is on by default and null in params.yaml."""
    return tuple(spec for spec in known if default(spec) is not None and gate.get(spec.name, default(spec)) is None)


def default_weights(known: Catalogue) -> dict[str, float]:
    """Axes of the ranking with their weights unless params.yaml says otherwise."""
    return {spec.axis.name: spec.axis.weight for spec in known.having("axis") if spec.axis is not None}


def weights(known: Catalogue, given: Mapping[str, float]) -> dict[str, float]:
    """Weights of all axes of the ranking: those of params.yaml, else the defaults."""
    return default_weights(known) | dict(given)


def spelt_out(known: Catalogue, params: Params) -> dict[str, Any]:
    """The parameters as plain values, with every gate and weight that params.yaml leaves to its default."""
    asked = {spec.name: default(spec) for spec in known if default(spec) is not None} | dict(params.gate)
    gates = {name: bound.model_dump(exclude_none=True) if bound is not None else None for name, bound in asked.items()}
    shown = weights(known, params.recommend.weights)
    told = params.model_dump(mode="json", exclude=None if params.targets else {"targets"})
    return told | {"gate": gates, "recommend": {"weights": shown}}


def speedups_asked(known: Catalogue, gate: Gates) -> dict[str, float]:
    """The least speedup per phase that gates ask."""
    return {
        limit.spec.of: limit.minimum
        for limit in limits(known, gate)
        if limit.spec.against == "speedup" and limit.minimum is not None
    }


def check_gates(known: Catalogue, where: str, gates: Gates) -> None:
    """Raise ConfigError for a gate that this kind of model does not have, or not so; `where` names the block."""
    for name, bound in gates.items():
        if name not in known:
            raise ConfigError(f"unknown parameter '{where}.{name}'; {_nearest(name, known.names)}")
        if bound is not None:
            _check_gate(known, f"{where}.{name}", name, bound)


def _check_weights(known: Catalogue, where: str, given: Mapping[str, float]) -> None:
    axes = default_weights(known)
    for name in given:
        if name not in axes:
            raise ConfigError(f"unknown parameter '{where}.{name}'; {_nearest(name, axes)}")
    if not sum(weights(known, given).values()) > 0:
        raise ConfigError(f"{where}: at least one weight must be above 0")


def _check_gate(known: Catalogue, where: str, name: str, bound: Bound) -> None:
    spec, wanted = known[name], "min" if known[name].better == "higher" else "max"
    value = getattr(bound, wanted)
    if value is None:
        raise ConfigError(f"{where}: of {spec.title} {spec.better} is better, so its gate is {{{wanted}: ...}}")
    if not math.isfinite(value) or not _allowed(spec, value):
        raise ConfigError(f"{where}.{wanted} = {value:g}: {RANGES[_range(spec)]}")


RANGES = {
    "positive": "it must be above 0",
    "share": "it must be from 0 to 1",
    "count": "it must be a whole number from 0 on",
}


def _range(spec: MetricSpec) -> str:
    return spec.gate.limits if spec.gate is not None else "share" if spec.form in ("percent", "share") else "positive"


def _allowed(spec: MetricSpec, value: float) -> bool:
    allowed = {"positive": value > 0, "share": 0 <= value <= 1, "count": value >= 0 and value == int(value)}
    return allowed[_range(spec)]


def _nearest(name: str, allowed: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}allowed: {', '.join(sorted(allowed))}"
