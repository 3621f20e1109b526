"""What can be known of a run before it starts: what would be refused minutes later is refused now."""

from __future__ import annotations

from pathlib import Path

from tasks.errors import DataError, ModelError
from tasks.hardware.profiles import named
from tasks.kinds import demands
from tasks.kinds.causal_lm.reading import read_rows
from tasks.kinds.table import catalogue, recognised
from tasks.params.pipeline import HOST, Params
from tasks.planning import plan
from tasks.run.workspace import ROOT
from tasks.sources import files
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
    if params.fetch.kind in ("auto", "causal-lm"):
        _model(params.fetch.model, params.fetch.allow_pickle, root)
    for source in filter(None, (params.data.source, params.data.calibration_source)):
        read_rows(source, params.data.columns)
    tasks = params.data.tasks
    if tasks and not Path(tasks).expanduser().is_file():
        raise DataError(f"data.tasks {tasks!r} is not there; allowed: a .jsonl file, or null")


def _model(model: str, allow_pickle: bool, root: Path) -> None:
    kind = files.kind_of(model)
    if kind not in ("directory", "gguf"):
        return
    place = Path(model).expanduser().resolve()
    if place.is_relative_to((root / ROOT).resolve()):
        raise ModelError(f"{model} lies in {ROOT}/, which the run replaces; copy the model elsewhere")
    if kind == "directory":
        files.check_directory(place, allow_pickle)
