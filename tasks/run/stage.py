"""What every `main` does the same way: read its arguments, run, report an error in words, return its exit code."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tasks.errors import EXIT_OK, ChildError, EdgewrightError
from tasks.params.load import known_variant, load_params
from tasks.params.pipeline import Params
from tasks.records.artifact import Artifact
from tasks.records.base import write_text
from tasks.records.plan import PlanEntry
from tasks.records.quality import Evaluation
from tasks.records.speed import Benchmark
from tasks.run import surroundings
from tasks.run.disk import fresh_folder, replace_folder
from tasks.run.workspace import Workspace

Outcome = TypeVar("Outcome", Artifact, Evaluation, Benchmark)

REPRODUCE = """#!/bin/sh
# Repeats the one result in this folder: sh reproduce.sh
cd "$(dirname "$0")" || exit 2
until [ -e dvc.yaml ]; do [ "$PWD" != / ] && cd .. || exit 2; done
PATH="$PWD/.venv/bin:$PATH" exec {command}
"""


def run_stage(work: Callable[[], int | None]) -> int:
    """Call `work` in surroundings that fit; an EdgewrightError becomes a line on stderr and its exit code."""
    surroundings.settle()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    name = os.environ.get("DVC_STAGE", "")
    if name:
        last_words(name).unlink(missing_ok=True)
    try:
        return work() or EXIT_OK
    except EdgewrightError as error:
        print(f"error: {error}", file=sys.stderr)
        _keep(name, f"error: {error}\n{error.log_tail if isinstance(error, ChildError) else ''}")
        return error.exit_code
    except Exception:
        _keep(name, traceback.format_exc())
        raise


def last_words(name: str) -> Path:
    """Path at which a stage that fails leaves the reason, for whoever runs the pipeline."""
    return Workspace().logs / f"failed-{name}.txt"


def _keep(name: str, words: str) -> None:
    if name:
        write_text(last_words(name), words)


@dataclass(frozen=True)
class Argument:
    """One argument of a command, as argparse's `add_argument` takes it."""

    flags: tuple[str, ...]
    settings: Mapping[str, Any]


def argument(*flags: str, **settings: Any) -> Argument:
    """Describe one argument for `main_of`."""
    return Argument(flags, settings)


VARIANT = argument("--variant", required=True, help="a name under `variants` in params.yaml")


def parser_of(module: str, about: str | None, *arguments: Argument | tuple[Argument, ...]) -> argparse.ArgumentParser:
    """The command line of `python -m <module>`; at most one argument of a tuple may be given."""
    made = argparse.ArgumentParser(
        prog=f"python -m {module}", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for one in arguments:
        if isinstance(one, Argument):
            made.add_argument(*one.flags, **one.settings)
            continue
        either = made.add_mutually_exclusive_group()
        for each in one:
            either.add_argument(*each.flags, **each.settings)
    return made


def main_of(
    module: str,
    about: str | None,
    work: Callable[..., int | None],
    argv: list[str] | None,
    *arguments: Argument | tuple[Argument, ...],
) -> int:
    """Do what a command's `main` does: read the arguments, call `work` with them by name, return the exit code.

    Bad arguments end the process with argparse's own exit code, 2.
    """
    given = vars(parser_of(module, about, *arguments).parse_args(argv))
    return run_stage(lambda: work(**given))


def run_variant(
    verb: str, about: str | None, work: Callable[[Workspace, PlanEntry, Params], str], argv: list[str] | None
) -> int:
    """`python -m tasks.<verb> --variant NAME`: do `work` for one planned variant and print the line it returns."""

    def named(variant: str) -> None:
        params = load_params()
        known_variant(params, variant)
        workspace = Workspace()
        print(f"{verb} {variant}: {work(workspace, PlanEntry.read(workspace.plan(variant)), params)}")

    return main_of(f"tasks.{verb}", about, named, argv, VARIANT)


def command(verb: str, variant: str) -> str:
    """The line that repeats one variant's stage alone."""
    return f"dvc repro --single-item --force {verb}@{variant}"


def settings_of(workspace: Workspace, entry: PlanEntry) -> dict[str, str]:
    """Runtime settings a variant is loaded with: the tuned ones of its backend for a candidate, else the defaults."""
    file = workspace.settings(entry.recipe.backend)
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
