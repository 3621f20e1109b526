"""Bundle: what is shipped to a target, made from the winner of that target's own verdicts, validated and compared.

A target is named in params.yaml (`targets`), or is a kind by its own name, with its defaults. Nothing is bundled that
the target's gates did not pass, unless told to (--anyway), which is written into the bundle.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from tasks.assess import place
from tasks.errors import EXIT_FAIL, EXIT_OK, ConfigError, UnsupportedError
from tasks.gate import gate
from tasks.gates.verdict import shortfall
from tasks.kinds.catalogue import Catalogue
from tasks.kinds.table import catalogue, preparing
from tasks.package import put
from tasks.packaging.manifest import CONTENTS, Contents
from tasks.params.load import load_params
from tasks.params.pipeline import HOST, Bound, Params
from tasks.params.pipeline import Target as Wanted
from tasks.planning.fit import fit
from tasks.recommend import ranked, read
from tasks.records.artifact import Artifact
from tasks.records.bundles import Bundle, Change, Part
from tasks.records.hardware import Hardware
from tasks.records.model import ModelProfile
from tasks.records.scores import Recommendation, ScoreRow
from tasks.records.verdict import GateReport, Verdict
from tasks.run.disk import fresh_folder, replace_folder
from tasks.run.stage import argument, main_of
from tasks.run.workspace import Workspace
from tasks.sources.files import Source
from tasks.targets import fitting, showing, table
from tasks.targets.base import Bundles, Shipped, Target

SHOWN = 3
PROBES = 4  # texts that answers are compared on
TIMED = ("speed", "energy", "stability", "placement")  # groups of metrics that only the device could tell


@dataclass(frozen=True)
class Judged:
    """One target: what it wants, and what its gates say of the variants at hand."""

    name: str
    wanted: Wanted
    target: Target
    report: GateReport
    recommendation: Recommendation


def judged(workspace: Workspace, params: Params, name: str) -> Judged:
    """Rank and judge for one target what the workspace holds; raises ConfigError for a target that is not known."""
    wanted = wanted_of(params, name, catalogue(Source.read(workspace.source).kind))
    own = params.model_copy(update={"targets": dict(params.named_targets) | {name: wanted}})
    made = table.target(wanted.kind, name, wanted.device)
    model = ModelProfile.read(workspace.profile)
    fits = fit(own, place(name, wanted, Hardware.read(workspace.hardware)), model)
    recommendation = ranked(read(workspace, own), own.for_target(name), fits)
    return Judged(name, wanted, made, gate(own.for_target(name), recommendation), recommendation)


def wanted_of(params: Params, name: str, known: Catalogue) -> Wanted:
    """A target as params.yaml names it, or a kind by its own name: its defaults, no gate that only its device tells."""
    if name in params.targets:
        return params.targets[name]
    defaults = table.defaults(name)
    if defaults is None:
        named = ", ".join(params.targets) or "none"
        raise ConfigError(
            f"target {name!r} is not known; allowed: those under `targets` in params.yaml ({named}), or a kind that "
            f"makes bundles: {', '.join(table.BUNDLING)}"
        )
    off: dict[str, Bound | None] = (
        {one: None for one in params.gate if untold(known, one)} if defaults.device != HOST else {}
    )
    return Wanted(kind=name, device=defaults.device, gate=off, budget_mb=defaults.budget_mb)


def untold(known: Catalogue, metric: str) -> bool:
    """Whether only the device itself could tell a metric: speeds, energy, stability, memory while it runs."""
    spec = known[metric] if metric in known.names else None
    return spec is not None and (spec.group in TIMED or spec.of == "peak_rss_mb")


def bundle(workspace: Workspace, params: Params, name: str, anyway: bool = False) -> Bundle:
    """Write one target's bundle and its record; raises ConfigError and DataError as the stages before it do.

    What cannot be built, or is refused by a validator, or exceeds its budget, is a record that says so.
    """
    found = judged(workspace, params, name)
    if not isinstance(found.target, Bundles):
        raise ConfigError(f"target {name!r} makes no bundle; kinds that do: {', '.join(table.BUNDLING)}")
    return _recorded(workspace, params, found, found.target, anyway)


def _recorded(workspace: Workspace, params: Params, found: Judged, target: Bundles | None, anyway: bool) -> Bundle:
    """The bundle, or why there is none, with its record written; `target` None: one that makes none."""
    chosen, excuse = _chosen(found.report, anyway)
    if target is None or chosen is None:
        kind = found.wanted.kind or "none"
        none = f"a target of kind {kind} makes no bundle: it takes the package as it is"
        record = Bundle(**_about(found), status="refused", reason=_refusal(found.report) if target else none)
        shutil.rmtree(workspace.bundle(found.name), ignore_errors=True)
    else:
        record = _made(workspace, params.registered_name, found, target, chosen, excuse)
    record.write(workspace.bundle_record(found.name))
    return record


def recorded(workspace: Workspace, params: Params, name: str) -> Bundle:
    """As the pipeline does it: a target that makes no bundle, or for which nothing passed, is a record and no error."""
    found = judged(workspace, params, name)
    target = found.target if isinstance(found.target, Bundles) else None
    record = _recorded(workspace, params, found, target, anyway=False)
    workspace.bundle(name).mkdir(parents=True, exist_ok=True)
    return record


def _chosen(report: GateReport, anyway: bool) -> tuple[Verdict | None, str]:
    """The winner; without one the nearest if it is shipped anyway, and what its gates said then."""
    verdicts = {one.variant: one for one in report.verdicts}
    if report.outcome == "pass" and report.winner in verdicts:
        return verdicts[report.winner], ""
    nearest = next((name for name in report.nearest if name in verdicts), None) if anyway else None
    if nearest is None:
        return None, ""
    return verdicts[nearest], f"{report.outcome}: {nearest} {shortfall(verdicts[nearest])}"


def _refusal(report: GateReport) -> str:
    verdicts = {one.variant: one for one in report.verdicts}
    near = [f"{name} {shortfall(verdicts[name])}" for name in report.nearest[:SHOWN] if name in verdicts]
    nearest = f"; nearest: {'; '.join(near)}" if near else ""
    return f"{report.outcome}: {report.reason}{nearest}; --anyway bundles the nearest, and says so in it"


def _about(found: Judged) -> dict[str, str]:
    kind = found.wanted.kind or ""
    command = f"python -m tasks.bundle --target {found.name}"
    return {"target": found.name, "kind": kind, "device": found.wanted.device, "command": command}


def _made(
    workspace: Workspace, model_name: str, found: Judged, target: Bundles, chosen: Verdict, excuse: str
) -> Bundle:
    about = _about(found) | ({"command": f"{_about(found)['command']} --anyway"} if excuse else {})
    common = {**about, "variant": chosen.variant, "verdict": chosen.outcome, "anyway": excuse}
    with TemporaryDirectory(prefix="edgewright-bundle-") as scratch:
        package = Path(scratch) / "package"
        packed = put(workspace, chosen, found.report, found.recommendation, package)
        shipped = _shipped(workspace, model_name, found, package, excuse)
        partial = fresh_folder(workspace.bundle(found.name))
        try:
            parts = target.build(shipped, partial)
            checks = target.validate(partial)
            compared = target.compare(shipped, partial)
        except UnsupportedError as error:
            shutil.rmtree(partial, ignore_errors=True)
            return Bundle.model_validate({**common, "status": "failed", "reason": str(error)})
        replace_folder(partial, workspace.bundle(found.name))
    installed, download = (
        sum(getattr(one, size) for one in parts) / 1e6 for size in ("installed_bytes", "download_bytes")
    )
    budget = found.wanted.budget_mb
    within = installed <= budget if budget is not None else None
    broken = [f"{one.name}: {one.reason}" for one in checks if one.state == "failed"]
    if compared.state == "failed":
        broken.append(f"{compared.engine}: {compared.reason}")
    if within is False:
        broken.append(f"{installed:.1f} MB exceed the budget of {budget:g} MB by {installed - (budget or 0):.1f} MB")
    fits = _fitting(workspace, found, chosen, parts, budget) if within is False and budget is not None else ()
    return Bundle.model_validate(
        {
            **common,
            "status": "failed" if broken else "ok",
            "reason": "; ".join(broken) or "built, and nothing that was asked refused it",
            "package_sha256": packed.manifest_sha256,
            "size_mb": round(installed, 2),
            "download_mb": round(download, 2),
            "budget_mb": budget,
            "within": within,
            "parts": parts,
            "checks": checks,
            "compared": compared,
            "fitting": fits,
        }
    )


def _fitting(
    workspace: Workspace, found: Judged, chosen: Verdict, parts: tuple[Part, ...], budget: float
) -> tuple[Change, ...]:
    rows, outcomes = (
        {r.variant: r for r in found.recommendation.rows},
        {v.variant: v.outcome for v in found.report.verdicts},
    )
    mine, artifact = rows[chosen.variant], Artifact.read(workspace.artifact_record(chosen.variant))
    profile = ModelProfile.read(workspace.profile)
    weights = sum(one.installed_bytes for one in parts if one.component in ("weights", "embedding"))
    kl = mine.metrics.get("mean_kl")
    exceeding = fitting.Exceeding(parts, budget, 8 * weights / profile.parameters, kl.value if kl else None, profile)
    others = [
        fitting.Candidate(name, row.metrics["artifact_mb"].value or 0.0, outcomes[name], _quality(found, row))
        for name, row in rows.items()
        if name != chosen.variant and row.role == "candidate" and row.status == "ok" and name in outcomes
        and row.backend == artifact.recipe.backend
    ]  # fmt: skip
    return fitting.changes(exceeding, others)


def _quality(found: Judged, row: ScoreRow) -> str:
    """The figures of quality that have a gate, in words."""
    known = catalogue(found.recommendation.kind)
    told = []
    for spec in known.of_source("quality"):
        one = row.metrics.get(spec.name)
        if spec.gate is None or one is None or one.value is None:
            continue
        ends = f" [{one.low:.3g}, {one.high:.3g}]" if one.low is not None and one.high is not None else ""
        told.append(f"{spec.title} {one.value:.3g}{ends}")
    return ", ".join(told) or "not scored"


def _shipped(workspace: Workspace, model_name: str, found: Judged, package: Path, excuse: str) -> Shipped:
    contents = Contents.read(package / CONTENTS)
    return Shipped(
        package=package,
        contents=contents,
        profile=ModelProfile.read(workspace.profile),
        name=model_name,
        options=found.wanted.options,
        probes=tuple(preparing(contents.kind).calibration(workspace.data).texts[:PROBES]),
        anyway=excuse,
    )


def _planned(found: Judged, anyway: bool) -> str:
    chosen, excuse = _chosen(found.report, anyway)
    if chosen is None:
        return f"{found.name}: would be refused: {_refusal(found.report)}"
    budget = f", at most {found.wanted.budget_mb:g} MB" if found.wanted.budget_mb else ""
    though = f", though {excuse}" if excuse else ""
    return f"{found.name}: would bundle {chosen.variant} for {found.wanted.device}{budget}{though}"


def work(target: list[str], anyway: bool, dry_run: bool, as_stage: bool) -> int:
    """Bundle for each target; the exit code is 1 where one could not be shipped."""
    params, workspace, console = load_params(), Workspace(), Console(width=140)
    names = [name for given in target for name in given.split(",") if name]
    records = []
    for name in names:
        if dry_run:
            console.print(_planned(judged(workspace, params, name), anyway), highlight=False)
            continue
        console.print(f"bundle {name} ...", highlight=False)
        records.append(recorded(workspace, params, name) if as_stage else bundle(workspace, params, name, anyway))
        showing.show(records[-1], workspace.bundle(name), console)
    return EXIT_FAIL if not as_stage and any(one.status != "ok" for one in records) else EXIT_OK


TARGET = argument(
    "--target", required=True, action="append", help=f"a target of params.yaml, or one of {', '.join(table.BUNDLING)}"
)
ANYWAY = argument("--anyway", action="store_true", help="bundle what no gate passed; the bundle says so")
DRY = argument("--dry-run", action="store_true", help="say what would be bundled, and write nothing")
RECORD = argument("--record", dest="as_stage", action="store_true", help="as the pipeline does: no verdict is an error")


def main(argv: list[str] | None = None) -> int:
    """Run the stage."""
    return main_of("tasks.bundle", __doc__, work, argv, TARGET, ANYWAY, DRY, RECORD)


if __name__ == "__main__":
    raise SystemExit(main())
