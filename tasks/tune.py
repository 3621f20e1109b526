"""Tune: each backend's runtime settings, by timing changes in turns with its defaults, within a budget (S10, S16).

One of the backend's candidates stands for all of them. What was found is used wherever a candidate is loaded from then
on, for scoring as well, so that what is timed and served is what was scored.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Mapping
from typing import Any

from tasks import config, paths
from tasks.backends.base import MODULES, backend
from tasks.errors import ChildError, DataError
from tasks.measure import guard
from tasks.measure.child import Child, run_child
from tasks.measure.pairing import middle
from tasks.measure.session import Session, Taken, hold
from tasks.models.text_data import Prompts
from tasks.records import Artifact, PlanEntry, Trial, Tuned, write_text
from tasks.search import tuning
from tasks.search.tuning import Settings
from tasks.stage import run_stage

DEFAULT, BEST = "defaults", "tuned"
CONFIRM = 4  # blocks of the combination that is looked at more closely
SHORT = {"repeats": 2, "decode_repeats": 1, "new_tokens": 32}  # of each block


def command(name: str) -> str:
    """The line that tunes one backend again."""
    return f"python -m tasks.tune --again {name}"


def tune(
    entries: Mapping[str, PlanEntry], artifacts: Mapping[str, Artifact], params: config.Params, again: tuple[str, ...]
) -> list[str]:
    """Bring the folder of tuned settings up to date; returns a line per backend."""
    lines = []
    for name in MODULES:
        variant = standing_for(name, entries, artifacts)
        digest = key(name, variant, params)
        known = None if name in again else _known(name)
        if known is not None and known.key == digest:
            lines.append(f"{name}: unchanged")
        else:
            known = _tuned(name, variant, params).model_copy(update={"key": digest})
            known.write(paths.tuned(name))
            lines.append(f"{name}: {known.reason}")
        # Apart from how they were found, so that finding the same again is no change to what depends on them.
        write_text(paths.settings(name), json.dumps(known.settings, indent=2) + "\n")
    for file in paths.TUNE.glob("**/*.json"):
        if file.stem not in MODULES:
            file.unlink()
    return lines


def standing_for(name: str, entries: Mapping[str, PlanEntry], artifacts: Mapping[str, Artifact]) -> str:
    """The first candidate of a backend that was made and is timed here; empty when there is none."""
    fit = (
        variant
        for variant, entry in entries.items()
        if entry.recipe.backend == name
        and entry.recipe.role == "candidate"
        and entry.action == "run"
        and entry.speed_on_device.ok
        and artifacts[variant].status == "ok"
    )
    return next(fit, "")


def key(name: str, variant: str, params: config.Params) -> str:
    """Digest of all that the outcome depends on: the artifact, prompts, settings, machine, code."""
    settings = params.tune.model_dump_json() + params.benchmark.limits.model_dump_json() + str(config.threads(params))
    digest = hashlib.sha256(f"{settings}{variant}".encode())
    files = [paths.HARDWARE, paths.PROMPTS, paths.CODE / "tune.txt", paths.CODE / "backends" / f"{name}.txt"]
    for file in [*files, *([paths.artifact_record(variant)] if variant else [])]:
        digest.update(file.read_bytes() if file.exists() else b"")
    return digest.hexdigest()


def _known(name: str) -> Tuned | None:
    try:
        return Tuned.read(paths.tuned(name))
    except DataError:
        return None


def _tuned(name: str, variant: str, params: config.Params) -> Tuned:
    choices = backend(name).SETTINGS
    common: dict[str, Any] = {"backend": name, "variant": variant, "command": command(name)}
    if not variant:
        return Tuned(reason="defaults: no candidate of it is timed on this device", **common)
    if not params.tune.budget_s:
        return Tuned(reason="defaults: tune.budget_s is 0", **common)
    few = config.threads(params) <= 2  # to halve two is no tuning
    changes = [change for change in tuning.single_changes(choices) if not (few and "threads" in change)]
    if not changes:
        return Tuned(reason="defaults: it has no settings to try", **common)
    began = time.monotonic()
    with guard.device_to_itself():
        trials, settings, gain, reason = search(name, variant, changes, params)
    seconds = round(time.monotonic() - began, 1)
    return Tuned(reason=reason, settings=settings, gain=gain, trials=tuple(trials), seconds=seconds, **common)


def search(
    name: str, variant: str, changes: list[Settings], params: config.Params
) -> tuple[list[Trial], Settings, dict[str, Any], str]:
    """Time single changes while half of the budget lasts, then what they promise together."""
    tried = {json.dumps(change, sort_keys=True): change for change in changes}
    session = Session(DEFAULT, [], {DEFAULT: Taken()})
    settings = params.benchmark

    def block(label: str) -> dict[str, Any]:
        return _time(name, variant, tried.get(label, {}), params)

    def turns(order: list[str]) -> None:
        hold(session, order, block, settings.max_others_cores, settings.retries)

    began = time.monotonic()
    turns([DEFAULT])
    trials = []
    for label, change in tried.items():
        if time.monotonic() - began > params.tune.budget_s / 2:
            trials.append(Trial(settings=change, reason="not tried: half of tune.budget_s was used up"))
            continue
        turns([label, DEFAULT])
        speedups = {phase: middle(session.blocks, label, DEFAULT, phase) for phase in tuning.PHASES}
        known = {phase: value for phase, value in speedups.items() if value is not None}
        complete = len(known) == len(speedups)
        trials.append(Trial(settings=change, speedups=known, reason="" if complete else _why(session, label)))
    whole = [(trial.settings, trial.speedups) for trial in trials if len(trial.speedups) == len(tuning.PHASES)]
    chosen = tuning.combination(whole)
    if not chosen:
        return trials, {}, {}, f"defaults: none of {len(whole)} changes promises {tuning.PROMISING:.0%}"
    said = ", ".join(f"{key} {value}" for key, value in chosen.items())
    print(f"  {name}: {said} looks better; timing it again", file=sys.stderr, flush=True)
    tried[BEST] = chosen
    turns([BEST, DEFAULT] * CONFIRM)
    gain = session.paired(BEST)
    kept = {phase: gain[phase] for phase in tuning.PHASES if phase in gain}
    problem = tuning.verdict(kept)
    if problem:
        return trials, {}, kept, f"defaults: of {said}, {problem}"
    words = ", ".join(f"{phase.split('_')[0]} {kept[phase].value:.2f}x" for phase in tuning.PHASES)
    return trials, chosen, kept, f"{said}: {words}"


def _why(session: Session, label: str) -> str:
    """Why a change has no speedups: its process failed, or it or the defaults beside it were disturbed."""
    own = session.taken[label]
    said = own.failure or session.taken[DEFAULT].failure or "; ".join(dict.fromkeys(own.objections))
    return said or "the defaults beside it were disturbed"


def _time(name: str, variant: str, change: Settings, params: config.Params) -> dict[str, Any]:
    prompts, threads = Prompts.read(paths.PROMPTS), config.threads(params)
    request = {
        "backend": name,
        "artifact": str(paths.artifact_files(variant)),
        "threads": threads,
        "settings": change,
        "short": prompts.short,
        "long": prompts.long,
        "longest": (),
        "tell_runtime": False,
        **SHORT,
    }
    log = paths.LOGS / f"tune-{name}.log"
    work = Child(
        "tasks.measure.timing:measure_time", request, params.benchmark.limits, log, f"tune {name}", threads, timed=True
    )
    try:
        return run_child(work)
    except ChildError as error:
        if not change:
            raise
        raise ChildError(f"{error} with {change}", kind=error.kind) from error


def main(argv: list[str] | None = None) -> int:
    """Run the stage."""
    made = argparse.ArgumentParser(prog="python -m tasks.tune", description=__doc__)
    made.add_argument("--again", action="append", default=[], choices=tuple(MODULES), help="although nothing changed")
    again = tuple(made.parse_args(argv).again)

    def work() -> None:
        params = config.load()
        entries = {name: PlanEntry.read(paths.plan(name)) for name in params.variants}
        artifacts = {name: Artifact.read(paths.artifact_record(name)) for name in entries}
        print("\n".join(tune(entries, artifacts, params, again)))

    return run_stage(work)


if __name__ == "__main__":
    raise SystemExit(main())
