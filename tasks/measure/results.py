"""The Benchmark of each variant, out of a session of timing in turns and the passes beside it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.hardware.conditions import conditions
from tasks.measure.pairing import Phases
from tasks.measure.passes import Passes
from tasks.measure.requests import MeasureRequest
from tasks.measure.session import Limits, Session, timed_in_turns
from tasks.measure.statistics import percentile
from tasks.measure.timing import Memory, Times, quantity
from tasks.records.artifact import Artifact
from tasks.records.base import Quantity
from tasks.records.hardware import Conditions
from tasks.records.plan import PlanEntry
from tasks.records.speed import Benchmark

SEED = 17


def command(variant: str) -> str:
    """The line that times one variant again, in turns with the reference."""
    return f"python -m tasks.benchmark --again {variant}"


def measurable(entry: PlanEntry, artifact: Artifact) -> bool:
    """Tell whether there is something to time, and its speed here is its speed on the target."""
    return entry.action == "run" and artifact.status == "ok" and entry.speed_on_device.ok


def without(entry: PlanEntry, artifact: Artifact) -> Benchmark:
    """The record of a variant that is not timed, with the reason."""
    common: dict[str, Any] = {
        "variant": entry.variant, "command": command(entry.variant), "speed": entry.speed_on_device
    }  # fmt: skip
    if entry.action != "run":
        return Benchmark(status="skipped", reason=entry.reason, **common)
    if artifact.status != "ok":
        return Benchmark(status=artifact.status, reason=artifact.reason, **common)
    reason = "size only: speed and memory are the target device's to tell"
    return sized(Benchmark(status="ok", reason=reason, **common), artifact)


def sized(found: Benchmark, artifact: Artifact) -> Benchmark:
    """Add the size of its files, MB of 10^6 bytes, where that is known."""
    size = {} if artifact.size_mb is None else {"artifact_mb": artifact.size_mb}
    return found.model_copy(update={"values": found.values | size})


def failed(entry: PlanEntry, reason: str) -> Benchmark:
    """The record of a variant whose measuring process failed."""
    return Benchmark(
        variant=entry.variant,
        status="failed",
        reason=reason,
        command=command(entry.variant),
        speed=entry.speed_on_device,
    )


def measure(
    passes: Passes,
    entries: Mapping[str, PlanEntry],
    requests: Mapping[str, MeasureRequest],
    session: Session,
    minima: Limits,
) -> tuple[dict[str, Benchmark], Session]:
    """Time the reference and the others in turns, then weigh, soak and feed each in processes of its own.

    `session` is empty: it names the reference and the phases.
    """
    settings = requests[session.reference].settings
    others = [name for name in entries if name != session.reference]

    def block(name: str, first: bool, brief: bool) -> Times:
        request = requests[name]
        told = {"tell_runtime": first, "brief": brief or request.brief}
        return passes.time(name, request.model_copy(update=told))

    before = conditions()
    session = timed_in_turns(session, others, block, settings, SEED, minima)
    state = (before, conditions())
    timed = [name for name in entries if session.timings[name].answers or session.timings[name].disturbed]
    memory = passes.memory(requests, timed)
    found = {
        name: record(Sources(entry, requests[name], session, memory.get(name, ""), state))
        for name, entry in entries.items()
    }
    for name, one in found.items():
        stress = entries[name].recipe.role == "candidate"
        compared = settings.energy and entries[name].recipe.role == "reference"  # by its energy alone
        if settings.soak_s and one.status == "ok" and (stress or compared):
            fields = passes.endurance(name, requests[name].model_copy(update={"stress": stress}))
            found[name] = one.model_copy(update=fields)
    return found, session


@dataclass(frozen=True)
class Sources:
    """Measurements that one variant's record is made of."""

    entry: PlanEntry
    request: MeasureRequest
    session: Session
    memory: Memory | str  # in words: why there is none
    state: tuple[Conditions, Conditions]  # of the machine, before and after


def record(of: Sources) -> Benchmark:
    """Make one variant's record out of its measurements."""
    entry, session = of.entry, of.session
    timings = session.timings[entry.variant]
    answers = timings.answers or timings.disturbed  # those of a busy machine are shown and decide nothing
    if not answers:
        first = session.timings[session.reference].failure
        return failed(entry, timings.failure or f"{session.reference} could not be timed: {first}")
    if isinstance(of.memory, str):
        return failed(entry, f"memory: {of.memory}")
    timed, tails = phases(answers, session.phases)
    return Benchmark(
        variant=entry.variant,
        command=command(entry.variant),
        speed=entry.speed_on_device,
        status="ok",
        threads=of.request.opening.threads,
        final=timings.final,
        discarded=timings.discarded,
        reason=f"{len(answers)} fresh processes for time, in turns with {session.reference}, one for memory",
        disturbance=max(timings.disturbances, key=lambda one: one.taken_cores),
        busy=timings.doubt or session.timings[session.reference].doubt,
        blocks=len(timings.answers),
        paired=session.paired(entry.variant),
        sizes=answers[0].sizes,
        runtime=answers[0].runtime,
        settings=of.request.opening.settings,
        before=of.state[0],
        after=of.state[1],
        seconds=round(sum(one.seconds for one in timings.disturbances), 1),
        phases=timed,
        values=tails | of.memory.model_dump(),
    )


def phases(answers: Sequence[Times], compared: Phases) -> tuple[dict[str, Quantity], dict[str, float]]:
    """Figures of all phases over all processes, and the tails of what is no phase of its own, as gaps between units."""
    together: dict[str, list[float]] = {}
    for answer in answers:
        for phase, samples in answer.samples.items():
            together.setdefault(phase, []).extend(samples)
    known = {name: samples for name, samples in together.items() if samples}
    tails: dict[str, float] = {}
    for name in known.keys() - compared.keys():
        tails |= spread_of(name, known[name])
    return {name: quantity(samples) for name, samples in known.items()}, tails


def spread_of(name: str, samples: Sequence[float]) -> dict[str, float]:
    """Percentiles that the sample carries, and its standard deviation over its mean, under names made from its own.

    >>> spread_of("gap_ms", [10.0, 10.0])
    {'gap_cv': 0.0}
    """
    stem, _, unit = name.rpartition("_")
    mean = statistics.fmean(samples)
    values = {
        f"{stem}_p95_{unit}": percentile(samples, 0.95),
        f"{stem}_p99_{unit}": percentile(samples, 0.99),
        f"{stem}_cv": statistics.pstdev(samples) / mean if mean else None,
    }
    return {key: value for key, value in values.items() if value is not None}
