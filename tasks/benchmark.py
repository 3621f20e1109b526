"""Benchmark: speed and memory of one variant in fresh processes, with the device to itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks import config, paths
from tasks.errors import ChildError
from tasks.hardware.conditions import conditions
from tasks.measure import guard
from tasks.measure.child import Child, run_child
from tasks.measure.guard import Timed
from tasks.measure.timing import quantity, spread_of
from tasks.models.text_data import Prompts
from tasks.records import Artifact, Benchmark, PlanEntry
from tasks.stage import command, into_folder, run_variant

PHASES = ("load_s", "time_to_first_token_ms", "prefill_tokens_per_s", "decode_tokens_per_s")


def benchmark(entry: PlanEntry, artifact: Artifact, params: config.Params, out: Path) -> Benchmark:
    """Write the folder `out`: timings and memory, or the reason why there are none."""

    def measure(_: Path) -> Benchmark:
        return _without(entry, artifact) or _attempt(entry, artifact, params)

    with guard.device_to_itself():
        return into_folder(out, paths.benchmark_record(entry.variant).name, measure)


def _without(entry: PlanEntry, artifact: Artifact) -> Benchmark | None:
    if entry.action == "run" and artifact.status == "ok":
        return None
    reason = entry.reason if entry.action != "run" else artifact.reason
    return Benchmark(
        variant=entry.variant,
        status="skipped" if entry.action != "run" else artifact.status,
        reason=reason,
        command=command("benchmark", entry.variant),
        speed=entry.speed_on_device,
    )


def _attempt(entry: PlanEntry, artifact: Artifact, params: config.Params) -> Benchmark:
    common: dict[str, Any] = {
        "variant": entry.variant,
        "command": command("benchmark", entry.variant),
        "speed": entry.speed_on_device,
        "artifact_mb": artifact.size_mb,
    }
    if not entry.speed_on_device.ok:
        return Benchmark(status="ok", reason="size only: speed and memory are the target device's to tell", **common)
    settings, prompts, threads = params.benchmark, Prompts.read(paths.PROMPTS), config.threads(params)
    request = {
        "backend": entry.recipe.backend,
        "artifact": str(paths.artifact_files(entry.variant)),
        "threads": threads,
        "repeats": settings.repeats,
        "decode_repeats": settings.decode_repeats,
        "new_tokens": settings.new_tokens,
        "long": prompts.long,
    }
    before = conditions()
    try:
        rounds = [
            _undisturbed(
                {**request, "short": _rotated(prompts.short, i), "long": _rotated(prompts.long, i)}, entry, params
            )
            for i in range(settings.rounds)
        ]
        memory = _child("measure_memory", request, entry, params)
    except ChildError as error:
        return Benchmark(status="failed", reason=f"{error.kind}: {error}", **common)
    return Benchmark(
        status="ok",
        reason=f"{settings.rounds} fresh processes for time, one for memory",
        disturbance=max((one.disturbance for one in rounds), key=lambda found: found.taken_cores),
        discarded=sum(one.discarded for one in rounds),
        busy=next((one.objection for one in rounds if one.objection), ""),
        threads=threads,
        prompt_tokens_short=len(prompts.short[0]),
        prompt_tokens_long=len(prompts.long[0]),
        new_tokens=settings.new_tokens,
        runtime=rounds[0].answer["runtime"],
        before=before,
        after=conditions(),
        **{phase: quantity([sample for one in rounds for sample in one.answer[phase]]) for phase in PHASES},
        **spread_of([gap for one in rounds for gap in one.answer["inter_token_ms"]]),
        **memory,
        **common,
    )


def _undisturbed(request: dict[str, Any], entry: PlanEntry, params: config.Params) -> Timed:
    """Time in fresh processes until one is left alone by the rest of the machine."""
    settings = params.benchmark
    return guard.undisturbed(
        lambda: _child("measure_time", request, entry, params),
        f"benchmark {entry.variant}",
        settings.max_others_cores,
        settings.retries,
    )


def _rotated(prompts: tuple[tuple[int, ...], ...], by: int) -> list[tuple[int, ...]]:
    """Other prompts for another round."""
    shift = by * len(prompts) // 2
    return [*prompts[shift:], *prompts[:shift]]


def _child(work: str, request: dict[str, Any], entry: PlanEntry, params: config.Params) -> dict[str, Any]:
    log = paths.LOGS / f"benchmark-{entry.variant}-{work}.log"
    label = f"benchmark {entry.variant} ({work.removeprefix('measure_')})"
    limits, threads = params.benchmark.limits, request["threads"]
    return run_child(Child(f"tasks.measure.timing:{work}", request, limits, log, label, threads, timed=True))


def main(argv: list[str] | None = None) -> int:
    """Run the stage."""

    def work(entry: PlanEntry, params: config.Params) -> str:
        artifact = Artifact.read(paths.artifact_record(entry.variant))
        found = benchmark(entry, artifact, params, paths.BENCHMARK / entry.variant)
        figures = found.reason
        if found.decode_tokens_per_s and found.prefill_tokens_per_s:
            speeds = found.prefill_tokens_per_s.p50, found.decode_tokens_per_s.p50
            figures = "prefill {:.0f}, decode {:.1f} tok/s, ".format(*speeds) + f"peak {found.peak_rss_mb:.0f} MB"
        return f"{found.status} in {found.seconds} s - {figures}"

    return run_variant("benchmark", __doc__, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
