"""Join all results into the scorecard, find the Pareto front and rank the candidates (S17)."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tasks import config, paths
from tasks.config import Params
from tasks.records import Artifact, Benchmark, Evaluation, PlanEntry, Recommendation, Record
from tasks.search import rank
from tasks.search.scorecard import scorecard
from tasks.stage import run_stage

R = TypeVar("R", bound=Record)


def recommend(params: Params) -> Recommendation:
    """Read every variant's records and rank them; raises DataError when a plan entry or a record is broken."""
    names = tuple(params.variants)
    rows = scorecard(
        params,
        {name: PlanEntry.read(paths.plan(name)) for name in names},
        _present(Artifact, names, paths.artifact_record),
        _present(Evaluation, names, paths.evaluation_record),
        _present(Benchmark, names, paths.benchmark_record),
    )
    return rank.recommend(rows, params.reference, params.recommend.weights)


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
