"""A whole run by calling the stages one after the other, in a folder of its own: no DVC, no Prefect."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.kinds.composing import compose
from tests import ROOT
from tests.finished import database

STAGES = ("code", "detect", "fetch", "data", "reference", "assess")
AFTER = ("ceiling", "benchmark", "recommend", "gate", "package", "report", "track")


def go(root: Path, patch: pytest.MonkeyPatch, changes: dict[str, Any]) -> None:
    """Compose params.yaml of this repository with `changes` in `root`, and run every stage there."""
    patch.chdir(root)
    patch.setenv("PYTHONPATH", str(ROOT))
    patch.setenv("MLFLOW_TRACKING_URI", database(root / "mlruns/mlflow.db"))
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    (root / "params.yaml").write_text(yaml.safe_dump(raw))
    for name in ("tasks", "requirements.lock"):  # what the stage `code` lists
        (root / name).symlink_to(ROOT / name)
    composed = compose(changes)
    composed.write()
    for stage in STAGES:
        run(stage)
    for variant in composed.params.variants:
        run("convert", "--variant", variant)
    run("tune")
    for variant in composed.params.variants:
        run("evaluate", "--variant", variant)
    for stage in AFTER:
        run(stage)


def run(stage: str, *arguments: str) -> None:
    assert import_module(f"tasks.{stage}").main([*arguments]) == 0, stage
