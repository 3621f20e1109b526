"""One command that looks for the best recipe: at least this quality, at most this size, as fast as can be, in time.

Exit codes: 0 something keeps all limits, 1 nothing does, 2 bad input, 130 stopped by the user; what was found is kept,
and the same command goes on from there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from flows import preflight, progress, run_lock, stop
from flows.dvc import pipeline
from flows.run import RUNNERS, prepare
from tasks import trials
from tasks.errors import EXIT_FAIL, EXIT_OK, ConfigError
from tasks.kinds import composing
from tasks.kinds.table import FIRST, catalogue
from tasks.params import chosen, settings
from tasks.params.load import FOUND, load_params
from tasks.params.pipeline import Bound, Params
from tasks.params.searching import Search, Strategy, seconds
from tasks.params.whole import load_whole
from tasks.records.base import write_text
from tasks.records.hardware import Hardware
from tasks.records.model import ModelProfile
from tasks.records.plan import PlanEntry
from tasks.records.search import Found, Rung
from tasks.run.stage import run_stage
from tasks.run.workspace import Workspace
from tasks.search import candidates as candidates_of
from tasks.search import page, study
from tasks.search.coordinator import Coordinator
from tasks.search.space import bits
from tasks.search.strategies import strategy
from tasks.search.wishes import Wishes, impossible, wishes
from tasks.sources.files import Source

BEFORE = ("fetch", "data", "reference", "assess")  # stages that a search stands on
SHORT = {"size_mb": "artifact_mb", "memory_mb": "peak_rss_mb"}  # as the command says it
P95 = ("inter_token_p95_ms", "latency_ms")  # the slowest, by kind of model


def search(
    changes: Mapping[str, Any], asked: Mapping[str, Any], task_runner: str = "local", dry_run: bool = False
) -> int:
    """Prepare what a search stands on, search, report, and write the winner's line; returns the exit code."""
    root = Path.cwd()
    preflight.refuse(composing.compose(changes).params, root)
    with run_lock.hold(root, True, progress.tell):
        prepare(root, changes)
        for name in BEFORE:
            with progress.stage(name):
                pipeline.reproduce(name, root)
        return _search(load_params(), _told(load_whole().search, asked), task_runner, dry_run)


def _told(own: Search, asked: Mapping[str, Any]) -> Search:
    """The block `search` with what the command says."""
    limits = dict(own.limits) | {key: Bound.model_validate(value) for key, value in asked.get("limits", {}).items()}
    given = {key: value for key, value in asked.items() if key != "limits" and value is not None}
    try:
        return Search.model_validate(own.model_dump() | given | {"limits": limits})
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise ConfigError(f"search: {said}") from None


def _search(params: Params, told: Search, task_runner: str, dry_run: bool) -> int:
    place = trials.workspace(Workspace())
    kind = Source.read(place.source).kind
    known = catalogue(kind)
    limits = {_metric(name, known.names): bound for name, bound in told.limits.items()}
    wanted = wishes(known, told.objective, params.for_target().gate, limits, params.for_target().recommend.weights)
    model, hardware = ModelProfile.read(place.profile), Hardware.read(place.hardware)
    counts_energy = any(wanted.known[name].group == "energy" for name in wanted.metrics)
    own = candidates_of.with_candidates(params, model, wanted, trials.brief(counts_energy))
    entries, excluded = candidates_of.planned(own, hardware, model, told.only, params.variants)
    candidates = {name: own.variants[name] for name, entry in entries.items() if own.variants[name].role == "candidate"}
    refused = impossible(wanted, candidates_of.floors(candidates, model))
    if refused:
        raise ConfigError("this cannot be met by anything here:\n  " + "\n  ".join(refused))
    progress.tell(
        f"{len(candidates)} candidates, {len(excluded)} left out; {_asked(wanted)}; {told.within:.0f} s at most"
    )
    if dry_run:
        for name in candidates:
            progress.tell(f"  {name:<34} about {bits(own.variants[name]):.1f} bits a weight")
        for name, why in excluded.items():
            progress.tell(f"  not {name}: {why}")
        return EXIT_OK
    found = _run(place, own, told, wanted, entries, task_runner).model_copy(update={"excluded": excluded})
    return _end(place, own, wanted, found)


def _metric(name: str, names: tuple[str, ...]) -> str:
    if name == "p95_ms":
        return next((one for one in P95 if one in names), P95[0])
    return SHORT.get(name, name)


def _asked(wanted: Wishes) -> str:
    return f"objective {wanted.objective}, {len(wanted.limits)} limits"


def _run(
    place: Workspace, params: Params, told: Search, wanted: Wishes, entries: Mapping[str, PlanEntry], task_runner: str
) -> Found:
    candidates = {name: params.variants[name] for name in entries if params.variants[name].role == "candidate"}
    seeds = [name for name in load_params().variants if name in candidates]
    notebook = study.Study(place.root / "study.db", _name(params, told, wanted, place), candidates)
    try:
        with _pool(task_runner) as (pool, workers):
            bench = trials.Trials(place, params, entries, pool, progress.tell)
            bench.begin()
            at_once: dict[Rung, int] = {
                "made": workers,
                "glanced": told.at_once,
                "scored": workers,
                "timed": told.at_once,
            }
            chosen_way = strategy(told.strategy, candidates, seeds, wanted, told.seed)
            coordinator = Coordinator(
                wanted,
                chosen_way,
                bench,
                notebook,
                told.within,
                at_once,
                told.disk_mb,
                progress.tell,
            )
            return coordinator.run(study.opened(candidates, notebook.recovered()))
    finally:
        notebook.close()


def _name(params: Params, told: Search, wanted: Wishes, place: Workspace) -> str:
    """Name of the study: another space, model, machine, data, limit or objective is another one.

    What was made and scored for another study is found again all the same; timings are taken anew.
    """
    words = [wanted.objective, repr([(one.spec.name, one.minimum, one.maximum) for one in wanted.limits])]
    words += [json.dumps({name: one.model_dump(mode="json") for name, one in sorted(params.variants.items())})]
    words += [params.data.model_dump_json(), place.source.read_text(), place.hardware.read_text(), str(told.seed)]
    return f"{params.fetch.model}-{hashlib.sha256(json.dumps(words).encode()).hexdigest()[:12]}"


@contextmanager
def _pool(task_runner: str) -> Iterator[tuple[Executor, int]]:
    """Where candidates are made and scored: here, two at a time, or on Dask (a local cluster, or DASK_ADDRESS)."""
    from flows.optimize import DASK_WORKERS, check_scheduler, threads_shared, workers

    if task_runner != "dask":
        with threads_shared(), ThreadPoolExecutor(max_workers=workers()) as pool:
            yield pool, workers()
        return
    from distributed import Client, LocalCluster

    address = os.environ.get("DASK_ADDRESS")
    with ExitStack() as open_:
        open_.enter_context(threads_shared())
        if address:
            check_scheduler(address)
            client = open_.enter_context(Client(address))  # type: ignore[no-untyped-call]
        else:
            own = LocalCluster(  # type: ignore[no-untyped-call]
                n_workers=DASK_WORKERS, threads_per_worker=1, memory_limit=0, dashboard_address="127.0.0.1:0"
            )
            client = open_.enter_context(Client(open_.enter_context(own)))  # type: ignore[no-untyped-call]
        client.run(os.environ.__setitem__, "EDGEWRIGHT_THREADS", os.environ["EDGEWRIGHT_THREADS"])
        yield client.get_executor(), len(client.scheduler_info()["workers"])


def _end(place: Workspace, params: Params, wanted: Wishes, found: Found) -> int:
    found.write(place.root / "found.json")
    write_text(place.root / "index.html", page.page(wanted, found))
    from tasks.registry import searches

    run = searches.record(found, params.track.experiment, params.fetch.model)
    for line in page.table(wanted, found):
        progress.tell(line)
    progress.tell(found.reason)
    progress.tell(f"page: {place.root / 'index.html'}; MLflow run {run}")
    if found.best and found.best not in load_params().variants:
        kind = Source.read(place.source).kind
        chosen.add(found.best, params.variants, "" if kind == FIRST else kind)
        progress.tell(f"{found.best} now stands in {FOUND}: `make run` makes, gates and ranks it with the others")
    return EXIT_OK if found.best else EXIT_FAIL


def parser() -> argparse.ArgumentParser:
    """Command line of `make search`."""
    made = argparse.ArgumentParser(prog="python -m flows.search", description=__doc__)
    made.add_argument("--model", help="as with `make run` (fetch.model)")
    made.add_argument("--target", help="host, or a device profile (target.device)")
    made.add_argument("--profile", help="full | quick: less data")
    made.add_argument("--within", help="time for it: 90s, 30m, 2h (search.within)")
    made.add_argument("--objective", help="weights | front | an axis (decode, prefill, memory, ...) | a metric")
    made.add_argument("--min-retention", type=float, metavar="SHARE")
    made.add_argument("--max-size-mb", type=float, metavar="MB")
    made.add_argument("--max-memory-mb", type=float, metavar="MB", help="peak of the process")
    made.add_argument("--max-p95-ms", type=float, metavar="MS", help="between tokens, or of a call")
    made.add_argument("--only", action="append", default=[], metavar="PATTERN", help="candidates by name (search.only)")
    made.add_argument("--strategy", choices=get_args(Strategy), help="how to search (search.strategy)")
    made.add_argument("--at-once", type=int, metavar="N", help="candidates timed in one session (search.at_once)")
    made.add_argument("-S", "--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    made.add_argument(
        "--task-runner", default="local", choices=RUNNERS, help="dask: two local workers, or DASK_ADDRESS"
    )
    made.add_argument("--dry-run", action="store_true", help="print the candidates, and what is left out and why")
    return made


def _wishes(arguments: argparse.Namespace) -> dict[str, Any]:
    limits = {}
    for name in ("retention", "size_mb", "memory_mb", "p95_ms"):
        for bound in ("min", "max"):
            value = getattr(arguments, f"{bound}_{name}", None)
            if value is not None:
                limits[name] = {bound: value}
    try:
        within = seconds(arguments.within) if arguments.within else None
    except ValueError as error:
        raise ConfigError(f"--within: {error}") from None
    told = {"within": within, "objective": arguments.objective, "only": tuple(arguments.only) or None}
    return told | {"strategy": arguments.strategy, "at_once": arguments.at_once, "limits": limits}


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    arguments = parser().parse_args(argv)

    def work() -> int:
        changes = settings.collect(arguments.model, arguments.target, arguments.profile, arguments.settings)
        return search(changes, _wishes(arguments), arguments.task_runner, arguments.dry_run)

    return stop.stoppable(lambda: run_stage(work))


if __name__ == "__main__":
    raise SystemExit(main())
