"""Join what the stages found into one row per variant: a value, or why there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks.kinds.catalogue import VS_RIVAL, Catalogue, MetricSpec
from tasks.measure.pairing import beyond
from tasks.measure.statistics import from_standard_error, smallest_sample
from tasks.params.pipeline import Params
from tasks.records.artifact import Artifact
from tasks.records.base import Estimate, Quantity, Support
from tasks.records.placement import Placement
from tasks.records.plan import PlanEntry
from tasks.records.quality import Evaluation
from tasks.records.scores import Metric, ScoreRow
from tasks.records.speed import Benchmark, Paired
from tasks.records.terms import Status

Metrics = dict[str, Metric]


@dataclass(frozen=True)
class Results:
    """Records that the stages wrote for one variant; None where one is absent."""

    plan: PlanEntry
    artifact: Artifact | None
    evaluation: Evaluation | None
    benchmark: Benchmark | None


def scorecard(
    known: Catalogue,
    params: Params,
    plan: Mapping[str, PlanEntry],
    artifacts: Mapping[str, Artifact],
    evaluations: Mapping[str, Evaluation],
    benchmarks: Mapping[str, Benchmark],
    security: Mapping[str, Sequence[str]] | None = None,
    placements: Mapping[str, Placement] | None = None,
) -> tuple[ScoreRow, ...]:
    """Build one row per planned variant, in the order of `plan`.

    Units are in the metrics' names; `n` is the number of predictions, rows or timings behind a value. Speedups are
    medians of paired ratios, against the reference and, with the ending `_vs_bf16`, against PyTorch bf16.
    Everything a benchmark measures belongs to the machine it ran on, so where the plan says that this machine is not
    the target all of it is not measured, memory included. `security` holds what is wrong with a variant's files,
    `placements` where each is on this machine.
    """
    results = {
        name: Results(entry, artifacts.get(name), evaluations.get(name), benchmarks.get(name))
        for name, entry in plan.items()
    }
    status = {name: _status(result) for name, result in results.items()}
    absolute = {name: _absolute(known, result, *status[name]) for name, result in results.items()}
    rival = next((n for n, e in plan.items() if (e.recipe.backend, e.recipe.precision) == ("torch", "bf16")), None)
    no_rival = _not_measured("this run has no torch bf16 variant")
    no_reference = _missing(f"the reference {params.reference} is not in the plan")

    def row(name: str, result: Results) -> ScoreRow:
        own, recipe = absolute[name], result.plan.recipe
        return ScoreRow(
            variant=name,
            role=recipe.role,
            backend=recipe.backend,
            precision=recipe.precision,
            status=status[name][0],
            reason=status[name][1],
            metrics=own
            | {"security_findings": _findings(result, (security or {}).get(name))}
            | _placed(known, result, (placements or {}).get(name))
            | _ratios(
                known, result, own, results.get(params.reference), absolute.get(params.reference, {}), "", no_reference
            )
            | _ratios(known, result, own, results.get(rival or ""), absolute.get(rival or "", {}), VS_RIVAL, no_rival),
        )

    return tuple(row(name, result) for name, result in results.items())


def _status(results: Results) -> tuple[Status, str]:
    """The row's status: the first stage that did not do its work decides."""
    plan, artifact, evaluation, benchmark = results.plan, results.artifact, results.evaluation, results.benchmark
    if plan.action == "skip":
        return "skipped", plan.reason
    if artifact is None:
        return "failed", "no conversion record; run `dvc repro`"
    if artifact.status != "ok":
        return artifact.status, artifact.reason
    if plan.action == "intermediate":
        return "skipped", f"an intermediate, not measured: {plan.reason}"
    if evaluation is None or evaluation.status != "ok":
        return "failed", f"not evaluated: {evaluation.reason if evaluation else 'no record; run `dvc repro`'}"
    speed = _speed_support(results)
    if speed.ok and (benchmark is None or benchmark.status != "ok"):
        return "failed", f"not benchmarked: {benchmark.reason if benchmark else 'no record; run `dvc repro`'}"
    return "ok", "" if speed.ok else f"speed and memory: {speed.reason}"


def _speed_support(results: Results) -> Support:
    """Whether timings are expected; a failed benchmark does not turn a fault into `not measured here`."""
    benchmark = results.benchmark
    if not results.plan.speed_on_device.ok:
        return results.plan.speed_on_device
    if benchmark is None or benchmark.status == "failed" or benchmark.speed.ok:
        return results.plan.speed_on_device
    return benchmark.speed


def _absolute(known: Catalogue, results: Results, status: Status, reason: str) -> Metrics:
    """Metrics that need no other variant."""
    artifact = results.artifact
    if status == "skipped" or artifact is None or artifact.status != "ok":
        gap = _not_measured(reason) if status == "skipped" else _missing(reason)
        metrics = dict.fromkeys(("artifact_mb", *_quality_names(known), *_device_names(known)), gap)
        if artifact is not None and artifact.size_mb is not None:
            metrics["artifact_mb"] = _cell("artifact_mb", artifact.size_mb)
        return metrics
    return {
        "artifact_mb": _cell("artifact_mb", artifact.size_mb),
        **_quality(known, results.evaluation),
        **_device(known, results),
    }


def _quality_names(known: Catalogue) -> list[str]:
    return [spec.name for spec in known.of_source("quality")]


def _device_names(known: Catalogue) -> list[str]:
    """What only the target itself can tell."""
    told = [spec for spec in known if spec.group in ("speed", "memory", "energy", "stability")]
    return [spec.name for spec in told if not spec.of and spec.source not in ("artifact", "unscored")]


def _findings(result: Results, found: Sequence[str] | None) -> Metric:
    """How many files are unsafe, changed, missing or unexpected."""
    if found is None:
        made = result.artifact is not None and result.artifact.status == "ok"
        return _missing("the files were not inspected") if made else _not_measured("there are no files")
    return Metric(value=float(len(found)), reason="; ".join(found))


def _placed(known: Catalogue, result: Results, found: Placement | None) -> Metrics:
    """How much runs on the device that was asked for, and what fell back from it."""
    names = [name for name in ("placed_share", "fallbacks") if name in known]
    if found is None or not result.plan.speed_on_device.ok:
        why = "its runtime was not asked where it puts it" if found is None else result.plan.speed_on_device.reason
        return dict.fromkeys(names, _not_measured(why))
    share, fell = found.share_as_asked, "; ".join(f"{one.kind}: {one.reason}" for one in found.fallbacks)
    where = f"{found.requested} was asked for, {found.resolved} is used"
    cells = {
        "placed_share": _missing(f"{where}; the runtime tells no FLOPs by device")
        if share is None
        else Metric(value=share, reason=fell or where),
        "fallbacks": Metric(value=float(len(found.fallbacks)), reason=fell),
    }
    return {name: cells[name] for name in names}


def _energy(results: Results, benchmark: Benchmark) -> Metric:
    """Energy of a written token; an estimate is shown, named so, and decides nothing."""
    found = benchmark.energy
    if found is None:
        only = (
            "only candidates and the reference"
            if results.plan.recipe.role == "rival"
            else "benchmark.energy is false, or benchmark.soak_s 0"
        )
        return _missing(benchmark.energy_reason) if benchmark.energy_reason else _not_measured(only)
    joules = found.joules_per_token
    guess = f"estimated, no counter was readable ({found.source})" if found.estimated else ""
    return Metric(value=joules.p50, n=joules.n, reason=guess or found.source, undecided=guess or found.busy)


def _endurance(results: Results, benchmark: Benchmark) -> Metrics:
    """Stability over a soak and failures under stress; of candidates alone."""
    found = benchmark.endurance
    if found is None:
        only = "only candidates are soaked" if results.plan.recipe.role != "candidate" else "benchmark.soak_s is 0"
        return dict.fromkeys(("latency_drift", "memory_growth", "stress_failures"), _not_measured(only))
    cells = {"stress_failures": Metric(value=float(len(found.failures)), reason="; ".join(found.failures))}
    for name, change in (("latency_drift", found.latency), ("memory_growth", found.memory)):
        if change is None:
            cells[name] = _not_measured(f"n too small: {found.requests} requests in {found.seconds:g} s show no trend")
        else:
            cells[name] = Metric(
                value=change.value, low=change.low, high=change.high, units=found.requests, n=found.requests,
                undecided=found.busy,
            )  # fmt: skip
    return cells


def _quality(known: Catalogue, evaluation: Evaluation | None) -> Metrics:
    if evaluation is None or evaluation.status != "ok":
        reason = f"not evaluated: {evaluation.reason if evaluation else 'no record; run `dvc repro`'}"
        return dict.fromkeys(_quality_names(known), _missing(reason))
    return {spec.name: _estimated(spec, evaluation) for spec in known.of_source("quality")}


def _estimated(spec: MetricSpec, evaluation: Evaluation) -> Metric:
    """One figure of quality with its interval, or why there is none."""
    found, count = evaluation.figures.get(spec.name), evaluation.counts.get(spec.counted, 0)
    if found is None:
        slow = "slow without its accelerator" if evaluation.subset else spec.absent
        return _not_measured(slow) if spec.absent else _missing(f"{spec.name} is absent from the record")
    if found.value is None and found.reason:
        return _not_measured(found.reason)
    rows = evaluation.counts.get("rows", 0)
    note = f"scored on a subset of {rows} rows" if evaluation.subset and not spec.absent else ""
    cell = _cell(spec.name, found.value, se=found.se, n=count, note=note)
    if spec.interval == "rows":
        return _with_interval(cell, rows, evaluation.level)
    return _with_own_interval(cell, found, count) if spec.interval == "items" else cell


def _with_own_interval(cell: Metric, found: Estimate, items: int) -> Metric:
    """The interval that came with the estimate; without one the sample decides nothing."""
    if cell.value is None:
        return cell
    if found.low is None or found.high is None:
        return cell.model_copy(update={"undecided": f"{items} choice gives no interval"})
    return cell.model_copy(update={"low": found.low, "high": found.high, "units": items})


def _with_interval(cell: Metric, rows: int, level: float) -> Metric:
    """The interval over rows that a standard error stands for; without one the sample decides nothing."""
    if cell.value is None:
        return cell
    if cell.se is None or rows < 2:
        return cell.model_copy(update={"undecided": f"{rows} row gives no interval; at least 2 are needed"})
    low, high = from_standard_error(cell.value, cell.se, rows, level)
    return cell.model_copy(update={"low": low, "high": high, "units": rows})


def _device(known: Catalogue, results: Results) -> Metrics:
    """Speed and memory, as far as they are figures of the target."""
    speed, benchmark = _speed_support(results), results.benchmark
    if not speed.ok:
        return dict.fromkeys(_device_names(known), _not_measured(speed.reason))
    if benchmark is None or benchmark.status != "ok":
        reason = f"not benchmarked: {benchmark.reason if benchmark else 'no record; run `dvc repro`'}"
        return dict.fromkeys(_device_names(known), _missing(reason))
    peak, idle = (benchmark.values.get(name) for name in ("peak_rss_mb", "idle_rss_mb"))
    above_idle = None if peak is None or idle is None else peak - idle
    return {
        **{
            spec.name: _not_measured(spec.absent)
            if spec.absent and spec.name not in benchmark.phases
            else _timing(spec.name, benchmark.phases.get(spec.name), benchmark.busy)
            for spec in known.of_source("phase", "optional")
        },
        **_consistency(benchmark),
        **_endurance(results, benchmark),
        "joules_per_token": _energy(results, benchmark),
        **{spec.name: _cell(spec.name, benchmark.values.get(spec.name)) for spec in known.of_source("value")},
        "model_rss_mb": _cell("model_rss_mb", above_idle),
    }


def _consistency(benchmark: Benchmark) -> Metrics:
    """How alike the times between tokens are; a tail is told only by a sample that carries one."""
    gaps, tail = benchmark.phases.get("inter_token_ms"), benchmark.values.get("inter_token_p95_ms")
    if gaps is None:
        return dict.fromkeys(
            ("inter_token_p95_ms", "inter_token_cv", "tail_ratio"),
            _missing("the times between tokens are absent from the record"),
        )
    cells = {"inter_token_cv": _cell("inter_token_cv", benchmark.values.get("inter_token_cv"), n=gaps.n)}
    if tail is None:
        few = _not_measured(
            f"n too small: {gaps.n} times between tokens, {smallest_sample(0.95)} carry a 95th percentile"
        )
        return cells | {"inter_token_p95_ms": few, "tail_ratio": few}
    both = {"inter_token_p95_ms": tail, "tail_ratio": tail / gaps.p50 if gaps.p50 else None}
    cells |= {name: _cell(name, number, n=gaps.n) for name, number in both.items()}
    return {name: cell.model_copy(update={"undecided": benchmark.busy}) for name, cell in cells.items()}


def _timing(name: str, quantity: Quantity | None, busy: str) -> Metric:
    cell = _cell(name, quantity.p50, n=quantity.n) if quantity else _cell(name, None)
    return cell.model_copy(update={"undecided": busy})


def _ratios(
    known: Catalogue, result: Results, own: Metrics, other: Results | None, base: Metrics, ending: str, absent: Metric
) -> Metrics:
    """Speedups and shares against one other variant."""
    if other is None or not base:
        return {spec.name + ending: absent for spec in known if spec.against}
    name_of_base = other.plan.variant
    found = {
        spec.name: _speedup(result, other, own[spec.of], base[spec.of], known[spec.of])
        for spec in known.ratios("speedup")
    }
    found |= {spec.name: _share(own[spec.of], base[spec.of], spec.of, name_of_base) for spec in known.ratios("share")}
    return {name + ending: metric for name, metric in found.items()}


def _gap(own: Metric, base: Metric, base_name: str) -> Metric | None:
    """Why there is no ratio; a fault on either side outweighs a value that was not to be had."""
    for state in ("missing", "not-measured"):
        for who, side in (("", own), (f"{base_name}: ", base)):
            if side.state == state:
                return Metric(state=state, reason=who + side.reason)
    return None


def _speedup(result: Results, other: Results, own: Metric, base: Metric, phase: MetricSpec) -> Metric:
    """How many times as fast, from blocks timed in turns with the reference.

    Against the reference the interval is what the blocks say, wider by the noise floor where it is known. Against
    another variant it is the quotient of two such figures, so there is none.
    """
    gap = _gap(own, base, other.plan.variant)
    if gap is not None:
        return gap
    if not own.value or not base.value or own.value < 0 or base.value < 0:
        return _missing(f"{phase.name} must be above 0 to be compared: {own.value} against {base.value}")
    doubt = own.undecided or (f"{other.plan.variant}: {base.undecided}" if base.undecided else "")
    paired, against = (_paired(one, phase.name) for one in (result, other))
    to_reference = other.plan.recipe.role == "reference"
    if paired is None or (against is None and not to_reference):
        medians = own.value / base.value if phase.better == "higher" else base.value / own.value
        return Metric(value=medians, undecided=doubt or "not timed in turns with the reference")
    if against is not None and not to_reference:
        return Metric(value=paired.value / against.value, n=min(paired.pairs, against.pairs), undecided=doubt)
    low, high = beyond(paired.low, paired.high, paired.floor)
    return Metric(value=paired.value, low=low, high=high, units=paired.blocks, n=paired.pairs, undecided=doubt)


def _paired(result: Results, phase: str) -> Paired | None:
    return result.benchmark.paired.get(phase) if result.benchmark is not None else None


def _share(own: Metric, base: Metric, metric: str, base_name: str) -> Metric:
    gap = _gap(own, base, base_name)
    if gap is not None:
        return gap
    if not own.value or not base.value or own.value < 0 or base.value < 0:
        return _missing(f"{metric} must be above 0 to be compared: {own.value} against {base.value}")
    return Metric(
        value=own.value / base.value,
        n=min(own.n, base.n) if own.n and base.n else None,
        undecided=own.undecided or base.undecided,
    )


def _cell(name: str, value: float | None, se: float | None = None, n: int | None = None, note: str = "") -> Metric:
    """A measured metric, or a missing one when there is no finite number."""
    if value is None:
        return _missing(f"{name} is absent from the record")
    if not math.isfinite(value):
        return _missing(f"{name} is {value}")
    known_se = se if se is not None and math.isfinite(se) else None
    return Metric(value=float(value), se=known_se, n=n or None, reason=note)


def _missing(reason: str) -> Metric:
    return Metric(state="missing", reason=reason)


def _not_measured(reason: str) -> Metric:
    return Metric(state="not-measured", reason=reason)
