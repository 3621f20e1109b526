"""What every stage's `main` does the same way: run, report an error in words, return its exit code."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tasks import config, paths
from tasks.disk import fresh_folder, replace_folder
from tasks.errors import EXIT_OK, EdgewrightError
from tasks.records import Artifact, Benchmark, Evaluation, PlanEntry

Outcome = TypeVar("Outcome", Artifact, Evaluation, Benchmark)

REPRODUCE = """#!/bin/sh
# Repeats the one result in this folder: sh reproduce.sh
cd "$(git -C "$(dirname "$0")" rev-parse --show-toplevel)" || exit 2
PATH="$PWD/.venv/bin:$PATH" exec {command}
"""


def run_stage(work: Callable[[], int | None]) -> int:
    """Call `work`; an EdgewrightError becomes a line on stderr and its exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        return work() or EXIT_OK
    except EdgewrightError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def run_variant(
    verb: str, about: str | None, work: Callable[[PlanEntry, config.Params], str], argv: list[str] | None
) -> int:
    """`python -m tasks.<verb> --variant NAME`: do `work` for one planned variant and print the line it returns."""
    made = argparse.ArgumentParser(prog=f"python -m tasks.{verb}", description=about)
    made.add_argument("--variant", required=True, help="a name under `variants` in params.yaml")
    variant = made.parse_args(argv).variant

    def named() -> None:
        params = config.load()
        config.known_variant(params, variant)
        print(f"{verb} {variant}: {work(PlanEntry.read(paths.plan(variant)), params)}")

    return run_stage(named)


def command(verb: str, variant: str) -> str:
    """The line that repeats one variant's stage alone."""
    return f"dvc repro --single-item --force {verb}@{variant}"


def settings_of(entry: PlanEntry) -> dict[str, str]:
    """Runtime settings a variant is loaded with: the tuned ones of its backend for a candidate, else the defaults."""
    file = paths.settings(entry.recipe.backend)
    if entry.recipe.role != "candidate" or not file.exists():
        return {}
    found: dict[str, str] = json.loads(file.read_text())
    return found


def into_folder(out: Path, record: str, work: Callable[[Path], Outcome]) -> Outcome:
    """Let `work` fill a folder, add its record, the time taken and reproduce.sh, and put it in the place of `out`."""
    partial = fresh_folder(out)
    started = time.monotonic()
    found = work(partial)
    if found.seconds is None:
        found = found.model_copy(update={"seconds": round(time.monotonic() - started, 1)})
    found.write(partial / record)
    script = partial / "reproduce.sh"
    script.write_text(REPRODUCE.format(command=found.command))
    script.chmod(0o755)
    replace_folder(partial, out)
    return found
