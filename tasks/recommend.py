"""Join all results into the scorecard, find the Pareto front and rank the candidates (S17)."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tasks import config, paths
from tasks.backends.base import MODULES
from tasks.config import Params
from tasks.packaging.manifest import Manifest, findings
from tasks.records import (
    Artifact,
    Benchmark,
    Ceiling,
    Evaluation,
    ModelProfile,
    PlanEntry,
    Recommendation,
    Record,
    Tuned,
)
from tasks.search import rank
from tasks.search.bottleneck import bounded, closeness
from tasks.search.progress import progress
from tasks.search.scorecard import scorecard
from tasks.stage import run_stage

R = TypeVar("R", bound=Record)


def recommend(params: Params) -> Recommendation:
    """Read every variant's records and rank them; raises DataError when a plan entry or a record is broken."""
    names = tuple(params.variants)
    artifacts = _present(Artifact, names, paths.artifact_record)
    benchmarks = _present(Benchmark, names, paths.benchmark_record)
    rows = scorecard(
        params,
        {name: PlanEntry.read(paths.plan(name)) for name in names},
        artifacts,
        _present(Evaluation, names, paths.evaluation_record),
        benchmarks,
        {name: security_findings(name) for name, made in artifacts.items() if made.status == "ok"},
    )
    model, ceiling = ModelProfile.read(paths.PROFILE), Ceiling.read(paths.CEILING)
    both = [(artifacts[name], benchmarks[name]) for name in names if name in artifacts and name in benchmarks]
    measured = (closeness(artifact, benchmark, model, ceiling) for artifact, benchmark in both)
    found = tuple(one for one in measured if one is not None)
    rows = bounded(rows, found)
    ranked = rank.recommend(rows, params.reference, params.recommend.weights)
    tuned = _present(Tuned, tuple(MODULES), paths.tuned)
    return ranked.model_copy(
        update={
            "closeness": found,
            "progress": progress(rows, params.reference, [one.variant for one in ranked.ranking], tuned),
        }
    )


def security_findings(variant: str) -> list[str]:
    """What is wrong with the files of one artifact, by the manifest its conversion wrote."""
    listed = paths.artifact_manifest(variant)
    if not listed.exists():
        return [f"{listed} is not there, so nobody can tell whether the files are as they were made"]
    return findings(paths.artifact_files(variant), Manifest.read(listed))


def _present(kind: type[R], names: tuple[str, ...], where: Callable[[str], Path]) -> dict[str, R]:
    """The records that exist; one that does not is a gap the scorecard names."""
    return {name: kind.read(where(name)) for name in names if where(name).exists()}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    return argparse.ArgumentParser(prog="python -m tasks.recommend", description=__doc__)


def main(argv: list[str] | None = None) -> int:
    """Run the stage; the exit code says how it ended."""
    parser().parse_args(argv)

    def work() -> None:
        result = recommend(config.load())
        result.write(paths.RECOMMENDATION)
        print(result.reason)

    return run_stage(work)


if __name__ == "__main__":
    raise SystemExit(main())
