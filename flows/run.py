"""One command for the whole optimization: settings, lock, what is stale, the flow, the scorecard.

Exit codes: 0 done (whatever the gates say), 1 a stage failed, 2 bad input, 130 stopped by the user.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows import lock, overrides, pipeline, progress, promotion, server
from flows.pipeline import Plan
from tasks import config, paths
from tasks.errors import EXIT_BAD_INPUT, EXIT_FAIL, EXIT_OK, ConfigError, DataError
from tasks.records import write_text
from tasks.stage import run_stage

if TYPE_CHECKING:
    from flows.steps import Result

FIRST = ("code", "detect")  # their outcome decides what is stale
RUNNERS = ("local", "dask")
STOPPED = 130
SHOWN = 6  # kinds of stages that took longest


def run(changes: Mapping[str, Any], task_runner: str = "local", wait: bool = True, dry_run: bool = False) -> int:
    """Bring the pipeline up to date in the current folder and show the scorecard; returns the exit code."""
    root = Path.cwd()
    began = time.monotonic()
    pipeline.stopping.clear()
    config.load()
    with lock.hold(root, wait, progress.tell):
        for line in overrides.apply(changes):
            progress.tell(line)
        if dry_run:
            return show(pipeline.stale(root))
        server.named_url()
        plan = prepare(root)
        code = _flow(plan, root, task_runner) if plan.work else _unchanged(plan, root)
        progress.tell(f"{progress.duration(time.monotonic() - began)} in all")
        return code


def prepare(root: Path) -> Plan:
    """Look whether these are still the same sources and the same target, then what is stale."""
    if pipeline.mend(root):
        progress.tell("a file of DVC was cut short by a killed run; it was put back")
    for name in FIRST:
        with progress.stage(name):
            pipeline.reproduce(name, root)
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
    for number, step in enumerate(plan.steps, start=1):
        with progress.stage(step.name, number, len(plan.steps)):
            pipeline.reproduce(step.name, root)
    _scorecard()
    if paths.TRACKED.exists():
        progress.tell(promotion.promote())
    progress.tell("nothing changed since the last run")
    return EXIT_OK


def _flow(plan: Plan, root: Path, task_runner: str) -> int:
    progress.tell(f"{len(plan.steps)} of {len(plan.stages)} stages to run; starting Prefect")
    otherwise = "finished stages are kept, `make run` goes on from there, `dvc repro` does so without Prefect"
    with server.reached("the run", otherwise) as temporary:
        from flows import steps, summary
        from flows.optimize import optimize, runner, slots

        chosen, at_once = runner(task_runner), slots(task_runner)
        steps.limit_measurements(temporary)
        state = optimize.with_options(task_runner=chosen)(plan, str(root), at_once, return_state=True)
        results: Any = state.result(raise_on_failure=isinstance(state.data, BaseException))
    _scorecard()
    taken = summary.spans(results)
    write_text(paths.TIMES, json.dumps(taken, indent=2) + "\n")
    longest = sorted(taken.items(), key=lambda item: -item[1])[:SHOWN]
    progress.tell("longest: " + ", ".join(f"{kind} {progress.duration(seconds)}" for kind, seconds in longest))
    return conclude(results)


def conclude(results: Sequence[Result]) -> int:
    """Say what failed, and the exit code that follows."""
    failed = [result for result in results if result.status == "failed"]
    blocked = [result.name for result in results if result.status == "blocked"]
    if any(result.code == STOPPED for result in failed):
        raise KeyboardInterrupt
    for result in failed:
        progress.tell(f"failed: {result.reason}")
    if blocked:
        progress.tell(f"not run because of that: {', '.join(blocked)}")
    if not failed and not blocked:
        progress.tell(results[-1].reason)
        return EXIT_OK
    return EXIT_BAD_INPUT if failed and all(result.code == EXIT_BAD_INPUT for result in failed) else EXIT_FAIL


def _scorecard() -> None:
    from tasks.report import scores
    from tasks.reporting.terminal import print_scorecard

    try:
        print_scorecard(scores())
    except DataError as error:
        progress.tell(f"no scorecard yet: {error}")
        return
    page = paths.REPORT / "index.html"
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
        changes = overrides.collect(arguments.model, arguments.target, arguments.profile, arguments.settings)
        return run(changes, _task_runner(arguments.task_runner), not arguments.no_wait, arguments.dry_run)

    try:
        return run_stage(work)
    except KeyboardInterrupt:
        progress.tell("stopped; finished stages are kept, `make run` goes on from there")
        return STOPPED


def _task_runner(name: str) -> str:
    if name not in RUNNERS:
        raise ConfigError(f"task runner {name!r} is unknown; allowed: {', '.join(RUNNERS)}")
    return name


if __name__ == "__main__":
    raise SystemExit(main())
