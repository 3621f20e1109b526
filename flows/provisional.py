"""A first scorecard in the middle of a long run, so that nobody waits for its end to see where it goes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection

from flows import progress
from flows.dvc.pipeline import Plan
from flows.stop import STAGE, stopping
from tasks.records.plan import PlanEntry
from tasks.run.workspace import Workspace

NAME = "provisional"


def worth_it(plan: Plan, variants: Collection[str], skipped: Collection[str]) -> frozenset[str]:
    """The conversions that a first scorecard of these variants needs, or none where it would come hardly earlier.

    It is worth its minute where everything is timed, and no fewer variants are still to be made than it shows;
    `skipped` are those that are not made at all.
    """
    steps = {step.name: step for step in plan.steps}
    converting = {name for name, step in steps.items() if step.verb == "convert" and step.variant not in skipped}
    found, waiting = set[str](), [f"convert@{name}" for name in variants]
    while waiting:
        name = waiting.pop()
        if name in converting and name not in found:
            found.add(name)
            waiting += steps[name].needs
    many = "benchmark" in steps and len(converting) >= 2 * len(found)
    return frozenset(found) if many else frozenset()


def skipped() -> set[str]:
    """Variants that the plan leaves out."""
    entries = [PlanEntry.read(file) for file in Workspace().plans.glob("*.json")]
    return {entry.variant for entry in entries if entry.action == "skip"}


def show(root: str) -> None:
    """Print the first scorecard and publish it in Prefect's UI; what goes wrong is told, and the run goes on."""
    from prefect.artifacts import create_markdown_artifact

    Workspace().provisional.unlink(missing_ok=True)
    with progress.stage(NAME) as line:
        done = subprocess.run(
            [sys.executable, "-m", "tasks.provisional"], cwd=root, env=os.environ | {STAGE: NAME}, check=False
        )
        if stopping.is_set():
            raise KeyboardInterrupt
        if done.returncode:
            line.ending = "none, which the run does not need"
            return
    if not Workspace().provisional.exists():  # all is found again
        return
    create_markdown_artifact(markdown=Workspace().provisional.read_text(encoding="utf-8"), key=f"edgewright-{NAME}")
