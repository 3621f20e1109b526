"""Benchmark: speed and memory of all variants, timed in turns with the reference, with the device to itself (S6).

What did not change since it was last timed is kept: its speeds are ratios to the reference of their own session.
"""

from __future__ import annotations

from collections.abc import Sequence

from tasks.kinds import demands
from tasks.kinds.table import catalogue
from tasks.measure.benchmarks import Benchmarking
from tasks.params.load import known_variant, load_params
from tasks.params.pipeline import HOST, Params
from tasks.records.artifact import Artifact
from tasks.records.plan import PlanEntry
from tasks.run.stage import argument, main_of
from tasks.run.workspace import Workspace
from tasks.sources.files import Source

AGAIN = argument("--again", action="append", default=[], metavar="VARIANT", help="time it although nothing changed")


def benchmark(workspace: Workspace, params: Params, again: Sequence[str] = ()) -> list[str]:
    """Bring a workspace's benchmarks up to date, those in `again` in any case; returns a line per variant."""
    known = catalogue(Source.read(workspace.source).kind)
    demands.check(known, params)
    for name in again:
        known_variant(params, name)
    entries = {name: PlanEntry.read(workspace.plan(name)) for name in params.variants}
    artifacts = {name: Artifact.read(workspace.artifact_record(name)) for name in entries}
    here = [name for name, target in params.named_targets.items() if target.device == HOST]
    least = [demands.speedups_asked(known, params.for_target(name).gate) for name in here]
    limits = {name: least for name, entry in entries.items() if entry.recipe.role == "candidate"}
    made = Benchmarking(workspace, params, entries, artifacts, limits, known.phases, known.deciding)
    return made.update(again)


def main(argv: list[str] | None = None) -> int:
    """Run the stage."""

    def work(again: list[str]) -> None:
        print("\n".join(benchmark(Workspace(), load_params(), again)))

    return main_of("tasks.benchmark", __doc__, work, argv, AGAIN)


if __name__ == "__main__":
    raise SystemExit(main())
