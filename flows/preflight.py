"""What can be known of a run before it starts: what would be refused minutes later is refused now."""

from __future__ import annotations

from pathlib import Path

from tasks.errors import ModelError
from tasks.hardware.profiles import named
from tasks.kinds import demands
from tasks.kinds.table import catalogue, expanding, preparing, recognised
from tasks.params.pipeline import HOST, Params
from tasks.planning import plan
from tasks.run.workspace import ROOT
from tasks.targets import table


def refuse(params: Params, root: Path) -> None:
    """Raise ConfigError, ModelError or DataError for what cannot be used: device, framework, metric, model or data."""
    for name, target in params.named_targets.items():
        if target.device != HOST:
            named(target.device, f"targets.{name}.device" if params.targets else "target.device")
        table.target(target.kind, name, target.device)
    kind = recognised(params.fetch.model) if params.fetch.kind == "auto" else params.fetch.kind
    demands.check(catalogue(kind), params)
    plan.check_frameworks(params)
    _outside(params.fetch.model, root)
    expanding(kind).refuse(params.fetch)
    preparing(kind).refuse(params.data)


def _outside(model: str, root: Path) -> None:
    place = Path(model).expanduser().resolve()
    if place.exists() and place.is_relative_to((root / ROOT).resolve()):
        raise ModelError(f"{model} lies in {ROOT}/, which the run replaces; copy the model elsewhere")
