"""Provisional: a first scorecard of the variants marked `quick`, while the others are still to be made.

They are scored as the stage `evaluate` does it, which finds these scores again, and timed once each, briefly: a first
picture to think on, marked so. Nothing is decided by it, and no stage reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tasks.evaluate import asked
from tasks.gate import gate
from tasks.hardware import cores
from tasks.kinds.evaluating import evaluate
from tasks.kinds.table import catalogue
from tasks.measure.benchmarks import Benchmarking
from tasks.params.load import load_params
from tasks.params.pipeline import Params
from tasks.recommend import security_findings
from tasks.records.artifact import Artifact
from tasks.records.base import write_text
from tasks.records.plan import PlanEntry
from tasks.records.quality import Evaluation
from tasks.reporting.findings import Scores
from tasks.reporting.markdown import table
from tasks.reporting.terminal import print_table
from tasks.run.stage import main_of
from tasks.run.workspace import Workspace
from tasks.scores.joined import Found, joined
from tasks.sources.files import Source

ONCE = {"sessions": 1, "more_sessions": 0, "rounds": 1, "retries": 0, "soak_s": 0.0}


def provisional(workspace: Workspace, params: Params, names: Sequence[str]) -> Scores:
    """Score and time these variants, which are made, and judge them by the first target's gates."""
    kind = Source.read(workspace.source).kind
    known, own = catalogue(kind), params.for_target()
    entries = {name: PlanEntry.read(workspace.plan(name)) for name in names}
    artifacts = {name: Artifact.read(workspace.artifact_record(name)) for name in names}

    def scored(name: str) -> Evaluation:
        return evaluate(workspace, entries[name], params, asked(known, entries[name], params))

    with ThreadPoolExecutor(max_workers=max(1, cores.usable_cores() // cores.shared_threads())) as pool:
        evaluations = dict(zip(names, pool.map(scored, names), strict=True))
    brief = params.model_copy(update={"benchmark": params.benchmark.model_copy(update=ONCE)})
    timing = Benchmarking(workspace, brief, entries, artifacts, {}, known.phases, known.deciding, brief=True)
    benchmarks, _ = timing.found(names)
    security = {name: security_findings(workspace, name) for name in names if artifacts[name].status == "ok"}
    found = Found(kind, entries, artifacts, evaluations, benchmarks, security, {}, ())
    recommendation = joined(found, own)
    return Scores(recommendation, gate(own, recommendation), artifacts, evaluations, benchmarks)


def _remembered(workspace: Workspace, params: Params, names: Sequence[str]) -> bool:
    entries = {name: PlanEntry.read(workspace.plan(name)) for name in names}
    artifacts = {name: Artifact.read(workspace.artifact_record(name)) for name in names}
    return Benchmarking(workspace, params, entries, artifacts, {}, {}, ()).remembered(names)


def heading(shown: int, planned: int) -> str:
    """Say what this scorecard is.

    >>> heading(4, 12)
    'PROVISIONAL, 4 of 12 variants, timed once each: it decides nothing, and figures may change'
    """
    return f"PROVISIONAL, {shown} of {planned} variants, timed once each: it decides nothing, and figures may change"


def work() -> None:
    """Print the provisional scorecard of the workspace, and keep it as Markdown while the run goes on."""
    workspace, params = Workspace(), load_params()
    plan = {name: PlanEntry.read(workspace.plan(name)) for name in params.variants}
    made = {name for name, entry in plan.items() if entry.action == "run" and workspace.artifact_record(name).exists()}
    names = [name for name in params.shown_first if name in made]
    if _remembered(workspace, params, names):
        print("all of it was measured before and is found again: no provisional scorecard")
        return
    scores = provisional(workspace, params, names)
    said = heading(len(names), sum(entry.action == "run" for entry in plan.values()))
    print(f"\n{said}")
    print_table(scores)
    write_text(workspace.provisional, f"**{said}**\n\n{table(scores)}\n")


def main(argv: list[str] | None = None) -> int:
    """Run it."""
    return main_of("tasks.provisional", __doc__, work, argv)


if __name__ == "__main__":
    raise SystemExit(main())
