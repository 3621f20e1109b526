"""Trials: make, score and time the candidates of a search, each as the pipeline's stages do it. No stage of dvc.yaml.

They live in a workspace of their own beside what the pipeline made; the model, the data and the reference's answers are
the pipeline's. What was measured is kept in the same memo, so that neither measures again what the other did.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from tasks.convert import convert
from tasks.errors import DataError
from tasks.evaluate import asked
from tasks.kinds import demands
from tasks.kinds.evaluating import evaluate
from tasks.kinds.table import catalogue
from tasks.measure import guard, pairing
from tasks.measure.benchmarks import Benchmarking
from tasks.measure.passes import Passes
from tasks.measure.session import Session, VariantTimings, run_blocks
from tasks.params.pipeline import Params
from tasks.records.artifact import Artifact
from tasks.records.base import Record, write_text
from tasks.records.plan import PlanEntry
from tasks.records.quality import Evaluation
from tasks.records.search import Figure, Rung, Step
from tasks.records.speed import Benchmark, Tuned
from tasks.run.memo import key_of
from tasks.run.workspace import Workspace
from tasks.scores.scorecard import scorecard
from tasks.search.settings import tuned
from tasks.sources.files import Source

SHARED = ("model", "data", "reference", "code", "assess", "hardware.json", "memo")
KEY = "key.txt"  # beside an artifact: of all that it was made from
GLANCE = 1.25  # factor within which one block tells a speed
GLANCES = 3  # blocks between two of the reference then
BRIEF = {"sessions": 1, "more_sessions": 1, "rounds": 2}  # of a search's timings
LONGER = {"sessions": 3, "more_sessions": 0, "rounds": 2}  # of those that noise does not tell apart
NO_SOAK = {"soak_s": 0.0, "energy": False}


def brief(counts_energy: bool) -> dict[str, Any]:
    """What a search changes of the block `benchmark`: no soak, unless energy, which is counted in it, is asked for."""
    return BRIEF if counts_energy else BRIEF | NO_SOAK


def workspace(main: Workspace) -> Workspace:
    """The search's workspace beside the pipeline's, sharing what does not differ between candidates.

    Each model, data and machine have one of their own; artifacts are kept in the last one only.
    """
    which = key_of([Source.read(main.source).kind], [main.source, main.data_card, main.hardware])[:12]
    own = Workspace(main.root / "search" / which)
    for other in own.root.parent.glob("*/variants"):
        if other != own.variants:
            shutil.rmtree(other)
    own.root.mkdir(parents=True, exist_ok=True)
    main.memo.mkdir(parents=True, exist_ok=True)
    for name in SHARED:
        place = own.root / name
        if not place.is_symlink():
            place.symlink_to(Path("..") / ".." / name)
    return own


class Job(Record):
    """One candidate to make or score, as it travels to a worker."""

    root: Path
    entry: PlanEntry
    bases: dict[str, PlanEntry]  # by the name under variants/
    params: str  # JSON

    @property
    def told(self) -> Params:
        """The parameters."""
        return Params.model_validate_json(self.params)


def make(job: Job) -> Step:
    """Make a candidate's artifact, or find it made, with what it is made from; one worker at a time makes a base."""
    place, params, began = Workspace(job.root), job.told, time.monotonic()
    for base in job.bases.values():
        with FileLock(place.root / f"{base.variant}.lock"):
            _made(place, base, params)
    artifact = _made(place, job.entry, params)
    seconds = time.monotonic() - began
    if artifact.status != "ok" or artifact.size_mb is None or artifact.check is None:
        return Step(rung="made", ok=False, reason=artifact.reason, seconds=seconds)
    check = artifact.check
    share = Artifact.read(place.artifact_record(params.reference)).size_mb
    figures = {
        "artifact_mb": Figure(value=artifact.size_mb),
        **({"artifact_share": Figure(value=artifact.size_mb / share)} if share else {}),
        "probe_distance": Figure(value=check.distance),
        "probe_agreement": Figure(value=check.agreement),
    }
    return Step(rung="made", ok=True, figures=figures, seconds=max(seconds, artifact.seconds or 0.0))


def _made(place: Workspace, entry: PlanEntry, params: Params) -> Artifact:
    base = [] if entry.source == "model" else [place.artifact_manifest(entry.source.removeprefix("variants/"))]
    words = [params.convert.model_dump_json(), entry.recipe.model_dump_json(exclude={"reasons"}), entry.source]
    files = [*(one for one in base if one.exists()), place.source, place.data / "calibration", place.data / "probe"]
    key = key_of(words, [*files, *place.listed("convert", entry.recipe.backend)])
    noted = place.artifact(entry.variant) / KEY
    if noted.is_file() and noted.read_text() == key:
        return Artifact.read(place.artifact_record(entry.variant))
    artifact = convert(place, entry, params)
    write_text(noted, key)
    return artifact


def score(job: Job) -> Step:
    """Score a candidate until its limits are decided, or find its scores."""
    place, params, began = Workspace(job.root), job.told, time.monotonic()
    known = catalogue(Source.read(place.source).kind)
    found = evaluate(place, job.entry, params, asked(known, job.entry, params))
    seconds = max(time.monotonic() - began, found.seconds or 0.0)
    if found.status != "ok":
        return Step(rung="scored", ok=False, reason=found.reason, seconds=seconds)
    return Step(
        rung="scored", ok=True, figures=figures(place, params, [job.entry], {})[job.entry.variant], seconds=seconds
    )


def figures(
    place: Workspace, params: Params, entries: Sequence[PlanEntry], benchmarks: Mapping[str, Benchmark]
) -> dict[str, dict[str, Figure]]:
    """All that is measured of some candidates, as the scorecard has it; the reference is told for its ratios."""
    known = catalogue(Source.read(place.source).kind)
    reference = PlanEntry.read(place.plan(params.reference))
    plan = {one.variant: one for one in (reference, *entries)}
    artifacts = {name: Artifact.read(place.artifact_record(name)) for name in plan}
    evaluations = {}
    for name in plan:
        if place.evaluation_record(name).exists():
            evaluations[name] = Evaluation.read(place.evaluation_record(name))
    rows = scorecard(known, params, plan, artifacts, evaluations, dict(benchmarks))
    found = {}
    for row in rows:
        told = {n: m for n, m in row.metrics.items() if m.state == "measured" and m.value is not None}
        found[row.variant] = {
            n: Figure(value=m.value or 0.0, low=m.low, high=m.high, units=m.units) for n, m in told.items()
        }
    return found


@dataclass
class Trials:
    """The bench of a real search."""

    workspace: Workspace
    params: Params  # variants: all candidates; gate: the search's limits
    entries: Mapping[str, PlanEntry]
    pool: Executor
    tell: Callable[[str], None]
    _began: float = field(default_factory=time.monotonic)

    def begin(self) -> None:
        """Write the plan, and make and score the reference, which everything is compared with."""
        for entry in self.entries.values():
            entry.write(self.workspace.plan(entry.variant))
        reference = self.entries[self.params.reference]
        _made(self.workspace, reference, self.params)
        evaluate(self.workspace, reference, self.params, ())

    def now(self) -> float:
        """Seconds since the search began."""
        return time.monotonic() - self._began

    def drop(self, name: str) -> None:
        """Delete a candidate's files; its records stay."""
        shutil.rmtree(self.workspace.artifact_files(name), ignore_errors=True)
        (self.workspace.artifact(name) / KEY).unlink(missing_ok=True)

    def advance(self, names: Sequence[str], rung: Rung) -> Mapping[str, Step]:
        """Make or score some at the same time; time them in turns, with the device to itself."""
        if rung == "timed":
            return self._timed(names, self.params)
        if rung == "glanced":
            self._tune(names)
            return self._glanced(names)
        work = make if rung == "made" else score
        futures = {self.pool.submit(work, self._job(name)): name for name in names}
        found = {}
        for future in as_completed(futures):
            try:
                found[futures[future]] = future.result()
            except (DataError, OSError, RuntimeError, ValueError) as error:
                found[futures[future]] = Step(rung=rung, ok=False, reason=f"{type(error).__name__}: {error}")
        return {name: found[name] for name in names}

    def _job(self, name: str) -> Job:
        entry, bases = self.entries[name], {}
        if entry.source != "model":
            base = self.entries[entry.source.removeprefix("variants/")]
            bases[base.variant] = base
        return Job(root=self.workspace.root, entry=entry, bases=bases, params=self.params.model_dump_json())

    def _tune(self, names: Sequence[str]) -> None:
        """Find each backend's runtime settings by the first of its candidates: the second level of the search."""
        if not self.params.tune.budget_s:
            return
        for name in names:
            backend = self.entries[name].recipe.backend
            place = self.workspace.settings(backend)
            key = key_of([self.params.tune.model_dump_json()], self.workspace.listed("tune", backend))
            if place.exists() and Tuned.read(self.workspace.tuned(backend)).key == key:
                continue
            found = tuned(self.workspace, backend, name, self.params).model_copy(update={"key": key})
            found.write(self.workspace.tuned(backend))
            write_text(place, json.dumps(found.settings, indent=2) + "\n")
            self.tell(f"{backend}: {found.reason}")

    def _glanced(self, names: Sequence[str]) -> dict[str, Step]:
        """One block of each between blocks of the reference: a first idea of its speed, within a wide interval."""
        known = catalogue(Source.read(self.workspace.source).kind)
        reference, began = self.params.reference, time.monotonic()
        some = {name: self.entries[name] for name in (reference, *names)}
        artifacts = {name: Artifact.read(self.workspace.artifact_record(name)) for name in some}
        timing = Benchmarking(
            self.workspace, self.params, some, artifacts, {}, known.phases, known.deciding, brief=True
        )
        requests, passes = timing.requests(list(some)), Passes(self.workspace.logs)
        session = Session(reference, known.phases, known.deciding, timings={name: VariantTimings() for name in some})
        order = pairing.schedule(reference, names, 1, GLANCES, self.params.data.seed, backwards=False)
        settings = self.params.benchmark
        with guard.device_to_itself():
            run_blocks(session, order, lambda name: passes.time(name, requests[name]), settings.max_others_cores, 1)
        seconds, found = (time.monotonic() - began) / len(names), {}
        for name in names:
            told = {}
            for phase in known.deciding:
                value = pairing.paired_median(session.blocks, name, reference, (phase, known.phases[phase]))
                ratio = known.ratio_of(phase)
                if value is not None and ratio is not None:
                    told[ratio.name] = Figure(value=value, low=value / GLANCE, high=value * GLANCE)
            failure = session.timings[name].failure or session.timings[reference].failure
            found[name] = Step(rung="glanced", ok=not failure, reason=failure, figures=told, seconds=seconds)
        return found

    def again(self, names: Sequence[str]) -> Mapping[str, Step]:
        """Time some in turns through more sessions, all of them new."""
        settings = self.params.benchmark.model_copy(update=LONGER)
        return self._timed(names, self.params.model_copy(update={"benchmark": settings}))

    def _timed(self, names: Sequence[str], params: Params) -> dict[str, Step]:
        known = catalogue(Source.read(self.workspace.source).kind)
        some = {name: self.entries[name] for name in (self.params.reference, *names)}
        artifacts = {name: Artifact.read(self.workspace.artifact_record(name)) for name in some}
        asked_of = demands.speedups_asked(known, params.gate)
        limits = {name: [asked_of] for name in names}
        began = time.monotonic()
        timing = Benchmarking(self.workspace, params, some, artifacts, limits, known.phases, known.deciding)
        found, _ = timing.found(list(some))
        seconds = (time.monotonic() - began) / len(names)
        told = figures(self.workspace, params, list(some.values())[1:], found)
        return {
            name: Step(rung="timed", ok=True, figures=told[name], seconds=seconds)
            if found[name].status == "ok" and not found[name].busy
            else Step(rung="timed", ok=False, reason=found[name].busy or found[name].reason, seconds=seconds)
            for name in names
        }
