"""Benchmark: speed and memory of all variants, timed in turns with the reference, with the device to itself (S6).

What did not change since it was last timed is kept: its speeds are ratios to the reference of its own session.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tasks import config, paths
from tasks.errors import ChildError, DataError
from tasks.hardware.conditions import conditions
from tasks.measure import guard, pairing
from tasks.measure.child import Child, run_child
from tasks.measure.energy import estimated
from tasks.measure.session import Session, timed_in_turns, undecided
from tasks.measure.statistics import Trend, trend
from tasks.measure.timing import quantity, spread_of
from tasks.models.text_data import Prompts
from tasks.records import Artifact, Benchmark, Change, Conditions, Endurance, Energy, PlanEntry, write_text
from tasks.stage import into_folder, run_stage, settings_of

SEED = 17
MEMORY_AT_ONCE = 2
PASSES = {  # one axis each, in fresh processes
    "measure_time": "tasks.measure.timing",
    "measure_memory": "tasks.measure.timing",
    "measure_endurance": "tasks.measure.endurance",
    "measure_energy": "tasks.measure.energy",
}
BLOCKS = "blocks.json"  # every block of the variant's session, beside its record


def command(variant: str) -> str:
    """The line that times one variant again, in turns with the reference."""
    return f"python -m tasks.benchmark --again {variant}"


def benchmark(
    entries: Mapping[str, PlanEntry], artifacts: Mapping[str, Artifact], params: config.Params, again: Sequence[str]
) -> list[str]:
    """Bring the folder of benchmarks up to date, those in `again` in any case; returns a line per variant."""
    keys = {name: key(entries[name], entries[params.reference], params) for name in entries}
    stale = [name for name in entries if name in again or _known(name, entries[name], params) != keys[name]]
    todo = [name for name in stale if measurable(entries[name], artifacts[name])]
    for folder in paths.BENCHMARK.glob("*"):
        if folder.name not in entries and folder.is_dir():
            shutil.rmtree(folder)
    lines = [f"{name}: unchanged" for name in entries if name not in stale]
    for name in stale:
        if name not in todo:
            lines.append(_write(without(entries[name], artifacts[name]).model_copy(update={"key": keys[name]})))
    if todo:
        lines += _timed(todo, entries, artifacts, keys, params)
    return lines


def _timed(
    todo: Sequence[str],
    entries: Mapping[str, PlanEntry],
    artifacts: Mapping[str, Artifact],
    keys: Mapping[str, str],
    params: config.Params,
) -> list[str]:
    reference = entries[params.reference]
    if not measurable(reference, artifacts[reference.variant]):
        reason = f"the reference {reference.variant} cannot be timed: {artifacts[reference.variant].reason}"
        bare = [_failed(entries[name], reason).model_copy(update={"key": keys[name]}) for name in todo]
        return [_write(record) for record in bare]
    names = dict.fromkeys((reference.variant, *todo))
    with guard.device_to_itself():
        records, session = measure({name: entries[name] for name in names}, params)
    return [
        _write(records[name].model_copy(update={"key": keys[name], "artifact_mb": artifacts[name].size_mb}), session)
        for name in todo
    ]


def key(entry: PlanEntry, reference: PlanEntry, params: config.Params) -> str:
    """Digest of all that one variant's figures depend on: artifact, prompts, settings, machine, code, the reference."""
    backends = (entry.recipe.backend, reference.recipe.backend)
    files = [
        paths.HARDWARE,
        paths.PROMPTS,
        *(paths.plan(one.variant) for one in (entry, reference)),
        *(paths.artifact_record(one.variant) for one in (entry, reference)),
        paths.settings(entry.recipe.backend),
        paths.CODE / "benchmark.txt",
        *(paths.CODE / "backends" / f"{name}.txt" for name in backends),
    ]
    digest = hashlib.sha256(params.benchmark.model_dump_json().encode())
    for file in files:
        digest.update(file.read_bytes() if file.exists() else b"")
    return digest.hexdigest()


def _known(variant: str, entry: PlanEntry, params: config.Params) -> str:
    """Key of the record that is there; none where there is no record of this form, the machine was too busy, or the
    gates as they are now are open and sessions are left.
    """
    try:
        found = Benchmark.read(paths.benchmark_record(variant))
    except DataError:
        return ""
    open_ = not found.final and undecided(found.paired, minima(entry, params.gate))
    return "" if found.busy or open_ else found.key


def minima(entry: PlanEntry, gate: config.Gate) -> dict[str, float]:
    """The least speedup per phase that gates ask of a candidate."""
    asked = {
        "decode_tokens_per_s": gate.min_decode_speedup,
        "prefill_tokens_per_s": gate.min_prefill_speedup,
        "decode_long_tokens_per_s": gate.min_decode_long_speedup,
        "prefill_longest_tokens_per_s": gate.min_prefill_longest_speedup,
        "time_to_first_token_ms": gate.min_ttft_speedup,
        "batch_tokens_per_s": gate.min_batch_speedup,
    }
    return {phase: least for phase, least in asked.items() if least is not None and entry.recipe.role == "candidate"}


def measurable(entry: PlanEntry, artifact: Artifact) -> bool:
    """Whether there is something to time, and its speed here is its speed on the target."""
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
    return Benchmark(status="ok", reason=reason, artifact_mb=artifact.size_mb, **common)


def measure(entries: Mapping[str, PlanEntry], params: config.Params) -> tuple[dict[str, Benchmark], Session]:
    """Time the reference and the others in turns, then take each one's memory in a process of its own."""
    settings, prompts, threads = params.benchmark, Prompts.read(paths.PROMPTS), config.threads(params)
    requests = {
        name: {
            "backend": entry.recipe.backend,
            "artifact": str(paths.artifact_files(name)),
            "threads": threads,
            "settings": settings_of(entry),
            "repeats": settings.repeats,
            "decode_repeats": settings.decode_repeats,
            "new_tokens": settings.new_tokens,
            "short": prompts.short,
            "long": prompts.long,
            "longest": prompts.longest,
        }
        for name, entry in entries.items()
    }

    def block(name: str, first: bool) -> dict[str, Any]:
        return _child("measure_time", name, requests[name] | {"tell_runtime": first}, settings)

    others = [name for name in entries if name != params.reference]
    before = conditions()
    session = timed_in_turns(
        params.reference, others, block, settings, SEED, {name: minima(entries[name], params.gate) for name in others}
    )
    after = conditions()
    timed = [name for name in entries if session.taken[name].answers or session.taken[name].disturbed]
    memory = _memory(timed, requests, settings)
    found = {
        name: record(entry, session, memory.get(name, ""), settings, prompts, threads, (before, after))
        for name, entry in entries.items()
    }
    for name, one in found.items():
        role = entries[name].recipe.role
        if settings.soak_s and one.status == "ok" and role == "candidate":
            found[name] = found[name].model_copy(update={"endurance": endurance(name, requests[name], settings)})
        if settings.energy_s and one.status == "ok" and role != "rival":
            found[name] = found[name].model_copy(update=energy(name, requests[name], settings))
    return found, session


def energy(name: str, request: Mapping[str, Any], settings: config.Benchmark) -> dict[str, Any]:
    """Count one variant's energy in a process of its own: the fields of its record, or why there is no figure."""
    asked = dict(request) | {"energy_s": settings.energy_s}
    try:
        timed = guard.undisturbed(
            lambda: _child("measure_energy", name, asked, settings),
            f"energy of {name}",
            settings.max_others_cores,
            settings.retries,
        )
    except ChildError as error:
        return {"energy_reason": f"{error.kind}: {error}"}
    joules, said = quantity(timed.answer["joules_per_token"]), timed.answer["source"]
    found = Energy(joules_per_token=joules, source=said, estimated=estimated(said), busy=timed.objection)
    return {"energy": found}


def endurance(name: str, request: Mapping[str, Any], settings: config.Benchmark) -> Endurance:
    """Soak one variant and put it under stress, in a process of its own; a process that dies is what it showed."""
    asked = dict(request) | {
        "soak_s": settings.soak_s,
        "callers": settings.callers,
        "stress_tokens": settings.stress_tokens,
    }
    known = {"callers": settings.callers, "long_prompt_tokens": settings.stress_tokens, "seconds": settings.soak_s}
    try:
        timed = guard.undisturbed(
            lambda: _child("measure_endurance", name, asked, settings),
            f"soak of {name}",
            settings.max_others_cores,
            settings.retries,
        )
    except ChildError as error:
        why = f"{error.kind}: {error}"
        return Endurance(requests=0, latency=None, memory=None, failures=(why,), busy=why, **known)
    latency, memory = timed.answer["latency_ms"], timed.answer["rss_mb"]
    print(f"  soak of {name}: {len(latency)} requests", file=sys.stderr, flush=True)
    return Endurance(
        requests=len(latency),
        latency=change(trend(latency)),
        memory=change(trend(memory)),
        failures=tuple(timed.answer["failures"]),
        busy=timed.objection,
        **known,
    )


def change(found: Trend | None) -> Change | None:
    """A trend as a record."""
    return None if found is None else Change(value=found.value, low=found.low, high=found.high, p=found.p)


def _memory(
    names: Sequence[str], requests: Mapping[str, dict[str, Any]], settings: config.Benchmark
) -> dict[str, Mapping[str, float] | str]:
    """Each one's memory, or why there is none; some at a time, as what a process holds does not depend on its speed."""

    def take(name: str) -> Mapping[str, float] | str:
        try:
            return _child("measure_memory", name, requests[name], settings)
        except ChildError as error:
            return f"{error.kind}: {error}"

    with ThreadPoolExecutor(max_workers=min(MEMORY_AT_ONCE, config.usable_cores())) as pool:
        return dict(zip(names, pool.map(take, names), strict=True))


def record(
    entry: PlanEntry,
    session: Session,
    memory: Mapping[str, float] | str,
    settings: config.Benchmark,
    prompts: Prompts,
    threads: int,
    state: tuple[Conditions, Conditions],
) -> Benchmark:
    """One variant's figures out of a session; `memory` in words is why there are none."""
    taken = session.taken[entry.variant]
    answers = taken.answers or taken.disturbed  # those of a busy machine are shown and decide nothing
    if not answers:
        first = session.taken[session.reference].failure
        return _failed(entry, taken.failure or f"{session.reference} could not be timed: {first}")
    if isinstance(memory, str):
        return _failed(entry, f"memory: {memory}")
    doubt = taken.doubt or session.taken[session.reference].doubt
    return Benchmark(
        variant=entry.variant,
        command=command(entry.variant),
        speed=entry.speed_on_device,
        status="ok",
        threads=threads,
        final=taken.final,
        discarded=taken.discarded,
        reason=f"{len(answers)} fresh processes for time, in turns with {session.reference}, one for memory",
        disturbance=max(taken.disturbances, key=lambda one: one.taken_cores),
        busy=doubt,
        blocks=len(taken.answers),
        paired=session.paired(entry.variant),
        prompt_tokens_short=len(prompts.short[0]),
        prompt_tokens_long=len(prompts.long[0]),
        new_tokens=settings.new_tokens,
        runtime=answers[0]["runtime"],
        settings=settings_of(entry),
        before=state[0],
        after=state[1],
        seconds=round(sum(one.seconds for one in taken.disturbances), 1),
        **{
            phase: quantity(samples)
            for phase in pairing.PHASES
            if (samples := [sample for one in answers for sample in one.get(phase, ())])
        },
        **spread_of([gap for one in answers for gap in one["inter_token_ms"]]),
        **memory,
    )


def _failed(entry: PlanEntry, reason: str) -> Benchmark:
    return Benchmark(
        variant=entry.variant,
        status="failed",
        reason=reason,
        command=command(entry.variant),
        speed=entry.speed_on_device,
    )


def _write(found: Benchmark, session: Session | None = None) -> str:
    """Put one variant's folder in place; returns its line."""

    def fill(partial: Path) -> Benchmark:
        if session is not None:
            of = (found.variant, session.reference)
            blocks = [asdict(block) for block in session.blocks if block.variant in of]
            write_text(partial / BLOCKS, json.dumps(blocks, indent=1) + "\n")
        return found

    into_folder(paths.BENCHMARK / found.variant, paths.benchmark_record(found.variant).name, fill)
    if not found.decode_tokens_per_s or not found.prefill_tokens_per_s:
        return f"{found.variant}: {found.status} - {found.reason}"
    decode = found.paired.get("decode_tokens_per_s")
    times = f", {decode.value:.2f} times the reference [{decode.low:.2f}, {decode.high:.2f}]" if decode else ""
    speeds = f"prefill {found.prefill_tokens_per_s.p50:.0f}, decode {found.decode_tokens_per_s.p50:.1f} tok/s"
    return f"{found.variant}: {speeds}{times}, peak {found.peak_rss_mb:.0f} MB"


def _child(work: str, variant: str, request: dict[str, Any], settings: config.Benchmark) -> dict[str, Any]:
    log = paths.LOGS / f"benchmark-{variant}-{work}.log"
    label = f"benchmark {variant} ({work.removeprefix('measure_')})"
    threads = request["threads"]
    # Memory is taken of two at once, whose spinning threads would stop each other; nothing of it is timed.
    alone = work != "measure_memory"
    return run_child(Child(f"{PASSES[work]}:{work}", request, settings.limits, log, label, threads, timed=alone))


def main(argv: list[str] | None = None) -> int:
    """Run the stage."""
    made = argparse.ArgumentParser(prog="python -m tasks.benchmark", description=__doc__)
    made.add_argument(
        "--again", action="append", default=[], metavar="VARIANT", help="time this one although nothing changed"
    )
    again = made.parse_args(argv).again

    def work() -> None:
        params = config.load()
        for name in again:
            config.known_variant(params, name)
        entries = {name: PlanEntry.read(paths.plan(name)) for name in params.variants}
        artifacts = {name: Artifact.read(paths.artifact_record(name)) for name in entries}
        print("\n".join(benchmark(entries, artifacts, params, again)))

    return run_stage(work)


if __name__ == "__main__":
    raise SystemExit(main())
