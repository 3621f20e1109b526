"""The report as one HTML page that needs nothing else: no script library, no font, no request."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tasks.kinds import demands
from tasks.kinds.catalogue import VS_RIVAL, MetricSpec
from tasks.records.base import Reading
from tasks.records.scores import ScoreRow
from tasks.records.speed import Benchmark
from tasks.records.verdict import Expectation
from tasks.reporting import answers, ceilings, charts, conclusion, figures, gains, regressions, steps, table, targets
from tasks.reporting.baselines import watch
from tasks.reporting.figures import NOT_MEASURED, NOTHING, figure, limit
from tasks.reporting.findings import Findings, Scores, bound_of, value
from tasks.reporting.notes import from_quantized, notes

HERE = Path(__file__).parent
CODE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


class Fact(NamedTuple):
    """A name, its value, and a remark: for what is unknown, the reason."""

    name: str
    value: str
    remark: str = ""
    known: bool = True


class GateCell(NamedTuple):
    """One expectation, shown."""

    text: str
    miss: str
    outcome: str
    tip: str


def page(found: Findings) -> str:
    """Render the page; the same findings give the same bytes."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    return environment.get_template("template.html.j2").render(context(found))


def context(found: Findings) -> dict[str, Any]:
    """Everything the template shows."""
    scores = found.scores
    winner = scores.winner.variant if scores.winner is not None else ""
    return {
        "style": Markup((HERE / "style.css").read_text(encoding="utf-8")),  # noqa: S704 - our own file
        "found": found,
        "scores": scores,
        "title": conclusion.title(scores),
        "sentence": conclusion.sentence(scores),
        "gates_reason": conclusion.opened(scores, scores.gates.reason),
        "nearest": conclusion.nearest(scores),
        "headline": headline(scores),
        "target_heads": targets.HEADS,
        "targets": targets.lines(scores),
        "measured": measured(scores.benchmarks.values()),
        "columns": table.columns(scores.known),
        "lines": table.lines(scores),
        "legend": table.legend(scores),
        "planes": charts.planes(scores),
        "speeds": charts.speeds(scores),
        "unplotted": charts.unplotted(scores),
        "engines": dict.fromkeys(row.backend for row in scores.rows),
        "gains": gains.gains(scores),
        "gain_shares": gains.shares(scores, winner),
        "slower": regressions.slower(scores),
        "limits": ceilings.lines(scores.recommendation.closeness),
        "limits_sentence": ceilings.sentence(found.ceiling),
        "gate_heads": gate_heads(scores),
        "gate_rows": gate_rows(scores),
        "code": code(found.package_readme),
        "guidance": guidance(found),
        "watch": watch(scores, found.package),
        "texts": texts(scores),
        "progress": steps.progress(found),
        "tuned": steps.tuned(found),
        "choosing": answers.choosing(scores),
        "prompts": answers.prompts(found),
        "hardware": hardware(found),
        "absent": absent(found),
        "model": model(found),
        "runtimes": runtimes(scores),
        "placements": placements(scores),
        "versions": versions(scores),
        "commands": commands(found),
        "notes": notes(found),
        "quantized_reference": from_quantized(found.model.origin),
        "failures": list(scores.failures()),
        "gain_heads": [spec.headline.words for spec in scores.known.having("headline") if spec.headline is not None],
        "step_heads": steps.heads(scores.known),
        "phase_heads": [scores.known[phase].title for phase in scores.known.deciding],
        "weights": demands.weights(scores.known, found.weights),
        "factor": lambda number, name: factor(number, scores.known[name], scores.known.ratio_of(name)),
        "nothing": NOTHING,
    }


def headline(scores: Scores) -> list[Fact]:
    """The winner's few figures, each with a line per comparison: the reference, PyTorch bf16."""
    row = scores.winner
    if row is None:
        return []
    return [
        Fact(", ".join(filter(None, (spec.title, spec.unit))), figure(spec, number), _compared(scores, row, spec))
        for spec in scores.known.having("headline")
        if (number := value(row, spec.name)) is not None
    ]


def _compared(scores: Scores, row: ScoreRow, spec: MetricSpec) -> str:
    ratio = scores.known.ratio_of(spec.name)
    if ratio is None:
        return _quality(scores, row)
    sides = ((ratio.name, scores.reference), (ratio.name + VS_RIVAL, "torch bf16"))
    found = [(figure(ratio, number), who) for name, who in sides if (number := value(row, name)) is not None]
    return "\n".join(f"{number} {'of ' if ratio.against == 'share' else ''}{who}" for number, who in found)


def _quality(scores: Scores, row: ScoreRow) -> str:
    """What else is known of the winner's quality, a line a figure."""
    known = [(spec, value(row, spec.name)) for spec in scores.known if spec.beside]
    return "\n".join(spec.beside.format(figure(spec, number)) for spec, number in known if number is not None)


def measured(benchmarks: Iterable[Benchmark]) -> str:
    """The day, or days, of the measurements."""
    days = sorted({state.when[:10] for b in benchmarks for state in (b.before, b.after) if state is not None})
    return "" if not days else days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"


def gate_heads(scores: Scores) -> list[Fact]:
    """The gates with their limits."""
    first, known = next((v.expectations for v in scores.gates.verdicts), ()), scores.known
    bounds = [(e, bound_of(e)) for e in first]
    return [
        Fact(known[e.metric].title, f"{'min' if e.minimum is not None else 'max'} {limit(known[e.metric], bound)}")
        for e, bound in bounds
        if bound is not None
    ]


def gate_rows(scores: Scores) -> list[tuple[ScoreRow, str, list[GateCell]]]:
    """Variant, outcome and a cell per gate; candidates first, then the rivals."""
    found = []
    for verdict in scores.gates.verdicts:
        row = scores.row(verdict.variant)
        if row is not None and row.role != "reference":
            found.append(
                (row, str(verdict.outcome), [_gate_cell(scores.known[e.metric], e) for e in verdict.expectations])
            )
    return sorted(found, key=lambda item: item[0].role != "candidate")


def _gate_cell(spec: MetricSpec, e: Expectation) -> GateCell:
    missing = NOT_MEASURED if e.outcome == "inconclusive" else "missing"
    text = figure(spec, e.observed) if e.observed is not None else missing
    side = "short" if e.minimum is not None else "over"
    return GateCell(text, f"{figures.share(e.miss)} {side}" if e.miss is not None else "", e.outcome, e.reason)


def factor(number: float | None, spec: MetricSpec, ratio: MetricSpec | None) -> str:
    """A factor of a gain, written as the metric's ratio to the reference is: times for speed, a share for memory."""
    return NOT_MEASURED if number is None else figure(ratio or spec, number)


def code(readme: str) -> str:
    """The first block of code in the package's README."""
    block = CODE.search(readme)
    return block.group(2).rstrip() if block else ""


def guidance(found: Findings) -> list[Fact]:
    """List how to take the winner to where it runs."""
    row, package = found.scores.winner, found.package
    if row is None or package.status != "ok":
        return []
    peak, record = value(row, "peak_rss_mb"), found.scores.benchmarks.get(row.variant)
    runtime = record.runtime if record is not None else {}
    types = ", ".join(
        f"{name.replace('_', ' ')} {runtime[name]}" for name in ("execution", "kv_cache") if name in runtime
    )
    facts = [
        Fact(
            "Take", "artifacts/package", f"{package.size_mb:.0f} MB: model, tokenizer, card, manifest of SHA-256 sums"
        ),
        Fact("Or load", f"models:/{found.registered_as}@champion", "from the registry, once the flow has promoted it"),
        Fact(
            "Memory", f"{peak:.0f} MB", "peak of one process at the prompt lengths measured; longer contexts need more"
        )
        if peak is not None
        else None,
        Fact("Threads", str(record.threads), "as measured; set the same or measure again")
        if record is not None
        else None,
        Fact("Precision", types, "as the runtime really used it; another CPU may choose another") if types else None,
        Fact("Roll back", "make rollback", "the former champion stays registered as previous"),
    ]
    return [fact for fact in facts if fact is not None]


def texts(scores: Scores) -> list[tuple[str, str, str]]:
    """Greedy continuation of the probe question per variant, with how near the probe text came to the reference."""
    checks = [(name, made.check) for name, made in scores.artifacts.items() if made.check is not None]
    return [(name, check.text.strip(), f"KL {figures.small(check.distance)}") for name, check in checks]


def hardware(found: Findings) -> list[Fact]:
    """The device, reading by reading."""
    device = found.hardware
    names = {
        "cpu_model": "CPU", "architecture": "Architecture", "isa": "Instructions", "physical_cores": "Physical cores",
        "usable_cores": "Usable cores", "caches": "Caches", "memory_mb": "Memory, MB", "disk_total_mb": "Disk, MB",
        "operating_system": "System", "power_budget_w": "Power budget, W", "machine_id": "Machine",
    }  # fmt: skip
    return [
        *(_reading(words, getattr(device, name)) for name, words in names.items()),
        *(Fact(f"{a.name} ({a.runtime})", "available", a.reason) for a in device.accelerators if a.available),
    ]


def absent(found: Findings) -> list[Fact]:
    """Accelerators and runtimes that were looked for in vain, with the reasons."""
    gone = (a for a in found.hardware.accelerators if not a.available)
    return [Fact(f"{a.name} ({a.runtime})", a.reason) for a in gone]


def _reading(name: str, reading: Reading[Any]) -> Fact:
    if reading.value is None:
        return Fact(name, "unknown", reading.reason, False)
    if name == "Caches":
        sizes = [f"L{c.level} {'' if c.kind == 'unified' else c.kind + ' '}{c.size_kb} KB" for c in reading.value]
        return Fact(name, ", ".join(sizes), reading.reason)
    many = isinstance(reading.value, tuple)
    return Fact(name, ", ".join(map(str, reading.value)) if many else str(reading.value), reading.reason)


def model(found: Findings) -> list[Fact]:
    """The model, as assessed."""
    m = found.model
    memory = ", ".join(f"{precision} {mb:.0f}" for precision, mb in m.memory_mb.items())
    return [
        Fact("Model", m.name, f"{m.architecture}, {m.modality}"),
        Fact("Source", m.source, m.origin),
        Fact("Parameters", f"{m.parameters / 1e6:.1f} M", f"{m.layers} layers, hidden size {m.hidden_size}"),
        Fact("Size", f"{m.size_mb:.0f} MB", m.dtype),
        Fact("Estimated memory, MB", memory, "weights and KV cache at full context"),
        Fact("SHA-256 of the weights", m.sha256),
    ]


def runtimes(scores: Scores) -> list[tuple[str, list[str], dict[str, str]]]:
    """Precision and threads as each runtime reported them, variants of equal ones together."""
    grouped: dict[tuple[str, tuple[tuple[str, str], ...]], list[str]] = {}
    for row in scores.rows:
        timed, scored = scores.benchmarks.get(row.variant), scores.evaluations.get(row.variant)
        seen = (timed.runtime if timed is not None else {}) or (scored.runtime if scored is not None else {})
        if seen:
            grouped.setdefault((row.backend, tuple(sorted(seen.items()))), []).append(row.variant)
    return [(backend, names, dict(seen)) for (backend, seen), names in grouped.items()]


class PlacedRow(NamedTuple):
    """Where one variant runs, in words."""

    variant: str
    asked: str
    used: str
    share: str
    transfers: str
    precision: str
    fell: str


def placements(scores: Scores) -> list[PlacedRow]:
    """Each variant's device beside the one asked for."""
    return [
        PlacedRow(
            name, one.requested, one.resolved,
            "not told" if one.share_as_asked is None else figures.share(one.share_as_asked),
            "not told" if one.transfers is None else str(one.transfers), one.precision or "not told",
            "; ".join(f"{each.kind}: {each.reason}" for each in one.fallbacks),
        )
        for name, one in scores.recommendation.placements.items()
    ]  # fmt: skip


def versions(scores: Scores) -> list[Fact]:
    """Package versions that made the artifacts."""
    found: dict[str, str] = {}
    for made in scores.artifacts.values():
        found |= made.versions
    return [Fact(name, found[name]) for name in sorted(found)]


def commands(found: Findings) -> list[Fact]:
    """Lines that repeat this run, and parts of it."""
    settings = [("MODEL", found.model.source, "sample"), ("TARGET", found.hardware.device, "host"),
                ("PROFILE", found.profile, "full")]  # fmt: skip
    run = " ".join(["make run", *(f"{key}={shlex.quote(given)}" for key, given, usual in settings if given != usual)])
    facts = [
        Fact(run, "", "everything; what has not changed is not done again"),
        Fact("make gate", "", "the verdict in a line, exit code 0 when it passed"),
        Fact("python -m tasks.report --terminal", "", "the scorecard alone"),
    ]
    name = found.scores.gates.winner or found.scores.reference
    stages = (found.scores.artifacts, found.scores.evaluations, found.scores.benchmarks)
    records = [stage[name] for stage in stages if name in stage]
    return facts + [Fact(record.command, "", f"one stage of {name} alone") for record in records]
