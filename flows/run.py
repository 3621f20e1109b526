"""One command for the whole optimization: settings, lock, what is stale, the flow, the scorecard.

Exit codes: 0 done (whatever the gates say), 1 a stage failed, 2 bad input, 130 stopped by the user.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows import failures, prefect_server, preflight, progress, run_lock, stop
from flows.dvc import pipeline
from flows.dvc.pipeline import Plan
from tasks.compose import SAID
from tasks.errors import EXIT_BAD_INPUT, EXIT_FAIL, EXIT_OK, ConfigError, DataError
from tasks.kinds import composing
from tasks.params import settings
from tasks.records.base import write_text
from tasks.run.stage import run_stage
from tasks.run.workspace import Workspace

if TYPE_CHECKING:
    from flows.steps import Result

FIRST = (pipeline.COMPOSE, "code", "detect")  # their outcome decides what is stale
RUNNERS = ("local", "dask")
STOPPED = 130
SHOWN = 6  # kinds of stages that took longest


def run(changes: Mapping[str, Any], task_runner: str = "local", wait: bool = True, dry_run: bool = False) -> int:
    """Bring the pipeline up to date in the current folder and show the scorecard; returns the exit code."""
    root = Path.cwd()
    began = time.monotonic()
    composed = composing.compose(changes)
    preflight.refuse(composed.params, root)
    if dry_run:
        for line in composed.told.lines:
            progress.tell(line)
        return show(pipeline.stale_with(root, composed.text))
    with run_lock.hold(root, wait, progress.tell):
        prefect_server.named_url()
        plan = prepare(root, changes)
        code = _flow(plan, root, task_runner) if plan.work else _unchanged(plan, root)
        progress.tell(f"{progress.duration(time.monotonic() - began)} in all")
        return code


def prepare(root: Path, changes: Mapping[str, Any]) -> Plan:
    """Compose the settings, look whether sources and target are still the same, then what is stale."""
    if pipeline.mend(root):
        progress.tell("a file of DVC was cut short by a killed run; it was put back")
    os.environ[SAID] = json.dumps(changes)
    try:
        for name in FIRST:
            with progress.stage(name):
                pipeline.reproduce(name, root)
    finally:
        del os.environ[SAID]
    plan = pipeline.stale(root)
    return Plan(plan.stages, tuple(step for step in plan.steps if step.name not in FIRST))


def show(plan: Plan) -> int:
    """Print what would run and why."""
    for step in plan.steps:
        progress.tell(f"{step.name:<26} {step.reason}")
    progress.tell(f"{len(plan.work)} of {len(plan.stages)} stages would run because something changed")
    return EXIT_OK


def _unchanged(plan: Plan, root: Path) -> int:
    """Nothing is stale: only what runs every time, and the scorecard as it stands. Needs no Prefect."""
    from flows.promote import promote_winner

    for number, step in enumerate(plan.steps, start=1):
        with progress.stage(step.name, number, len(plan.steps)):
            pipeline.reproduce(step.name, root)
    _scorecard()
    if Workspace().tracked.exists():
        progress.tell(promote_winner())
    progress.tell("nothing changed since the last run")
    return EXIT_OK


def _flow(plan: Plan, root: Path, task_runner: str) -> int:
    progress.tell(f"{len(plan.steps)} of {len(plan.stages)} stages to run; starting Prefect")
    otherwise = "finished stages are kept, `make run` goes on from there, `dvc repro` does so without Prefect"
    with prefect_server.reached("the run", otherwise) as temporary:
        from flows import steps, summary
        from flows.optimize import optimize, runner, slots

        chosen, at_once = runner(task_runner), slots(task_runner)
        steps.limit_measurements(temporary)
        state = optimize.with_options(task_runner=chosen)(plan, str(root), at_once, return_state=True)
        results: Any = state.result(raise_on_failure=isinstance(state.data, BaseException))
    if failures.has_own_scores(results):
        _scorecard()
    taken = summary.spans(results)
    write_text(Workspace().times, json.dumps(taken, indent=2) + "\n")
    longest = sorted(taken.items(), key=lambda item: -item[1])[:SHOWN]
    progress.tell("longest: " + ", ".join(f"{kind} {progress.duration(seconds)}" for kind, seconds in longest))
    return conclude(results)


def conclude(results: Sequence[Result]) -> int:
    """Say what failed, and the exit code that follows."""
    failed = [result for result in results if result.status == "failed"]
    if any(result.code == STOPPED for result in failed):
        raise KeyboardInterrupt
    for line in failures.lines(results, Path.cwd()):
        progress.tell(line)
    if all(result.status in ("done", "unchanged") for result in results):
        progress.tell(results[-1].reason)
        return EXIT_OK
    progress.tell("finished stages are kept; `make run` tries the rest again")
    return EXIT_BAD_INPUT if failed and all(result.code == EXIT_BAD_INPUT for result in failed) else EXIT_FAIL


def _scorecard() -> None:
    from tasks.reporting.reading import scores
    from tasks.reporting.terminal import print_scorecard

    try:
        print_scorecard(scores(Workspace()))
    except DataError as error:
        progress.tell(f"no scorecard yet: {error}")
        return
    page = Workspace().report / "index.html"
    if page.exists():
        progress.tell(f"report: {page}")


def parser() -> argparse.ArgumentParser:
    """Command line of `make run`."""
    made = argparse.ArgumentParser(prog="python -m flows.run", description=__doc__)
    made.add_argument("--model", help="sample | Hugging Face directory | file.gguf | hub id (fetch.model)")
    made.add_argument("--target", help="host, or a device profile (target.device)")
    made.add_argument("--profile", help="full | quick")
    made.add_argument("-S", "--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    made.add_argument("--task-runner", default="local", help="local | dask (two local workers, or DASK_ADDRESS)")
    made.add_argument("--no-wait", action="store_true", help="refuse instead of waiting when another run is at work")
    made.add_argument("--dry-run", action="store_true", help="print the stages that would run, and why")
    return made


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    arguments = parser().parse_args(argv)

    def work() -> int:
        changes = settings.collect(arguments.model, arguments.target, arguments.profile, arguments.settings)
        return run(changes, _task_runner(arguments.task_runner), not arguments.no_wait, arguments.dry_run)

    return stop.stoppable(lambda: run_stage(work))


def _task_runner(name: str) -> str:
    if name not in RUNNERS:
        raise ConfigError(f"task runner {name!r} is unknown; allowed: {', '.join(RUNNERS)}")
    return name


if __name__ == "__main__":
    raise SystemExit(main())
