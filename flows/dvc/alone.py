"""The pipeline by DVC alone, without Prefect and promotion: what is stale, stage after stage.

Bare `dvc repro` does the same for what params.yaml says. Variants that only a command, params.local.yaml or another
kind of model brings are known here too, as DVC is shown the effective parameters.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows import preflight
from flows.dvc import pipeline, without_git
from tasks.compose import SAID
from tasks.kinds import composing
from tasks.params import settings
from tasks.run.stage import run_stage


def show(changes: Mapping[str, Any], root: Path) -> None:
    """Say which stages would run, and why."""
    for step in pipeline.stale_with(root, composing.compose(changes, root).text).steps:
        print(f"{step.name:<26} {step.reason}")


def reproduce(changes: Mapping[str, Any], root: Path) -> None:
    """Bring every stage up to date, those that run every time too; raises StageFailed for one that fails."""
    without_git.settle(root)
    preflight.refuse(composing.compose(changes, root).params, root)
    pipeline.mend(root)
    os.environ[SAID] = json.dumps(changes)
    try:
        pipeline.reproduce(pipeline.COMPOSE, root)
        done = {pipeline.COMPOSE}
        while steps := [step for step in pipeline.stale(root).steps if step.name not in done]:
            pipeline.reproduce(steps[0].name, root)
            done.add(steps[0].name)
    finally:
        del os.environ[SAID]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m flows.dvc.alone", description=__doc__)
    for name in ("model", "target", "profile"):
        made.add_argument(f"--{name}", help=f"{settings.NAMES[name]} of this run")
    made.add_argument("--dry-run", action="store_true", help="only say which stages would run, and why")
    made.add_argument("-S", "--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    return made


def main(argv: list[str] | None = None) -> int:
    """Reproduce in the current folder."""
    told = parser().parse_args(argv)

    def work() -> None:
        changes = settings.collect(told.model, told.target, told.profile, told.settings)
        (show if told.dry_run else reproduce)(changes, Path.cwd())

    return run_stage(work)


if __name__ == "__main__":
    raise SystemExit(main())
