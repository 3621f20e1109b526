"""Prefect's side of the steps: the only place with task options.

A stage is retried only while another DVC process holds its files, a promotion only while the registry does not answer.
A conversion that fails is no case for a retry: it records its reason and the run goes on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows import progress
from flows.dvc import pipeline
from flows.dvc.pipeline import PipelineBusy, StageFailed, Step
from tasks.errors import RegistryError

MEASURE = "measure"
INTERRUPTED = 130


@dataclass(frozen=True)
class Result:
    """How one stage ended; blocked: something it reads from failed."""

    name: str
    status: Literal["done", "unchanged", "failed", "blocked"]
    seconds: float = 0.0
    reason: str = ""
    code: int | None = None
    began: float = 0.0  # seconds of the clock on the wall


def _busy(_task: Any, _run: Any, state: Any) -> bool:
    return isinstance(state.result(raise_on_failure=False), PipelineBusy)


def _unreachable(_task: Any, _run: Any, state: Any) -> bool:
    error = state.result(raise_on_failure=False)
    return isinstance(error, RegistryError) and error.__cause__ is not None  # without one it is a refusal


@task(
    task_run_name="{step.name}",
    retries=20,
    retry_delay_seconds=[2, 4, 8, 16, 30],
    retry_condition_fn=_busy,
    cache_policy=NO_CACHE,
)
def run(step: Step, number: int, count: int, root: str) -> Result:
    """Bring one stage up to date."""
    began = time.time()
    with _interrupted(step.name), progress.stage(step.name, number, count) as line:
        ran = pipeline.reproduce(step.name, Path(root))
        line.ending = "done" if ran else "unchanged"
    return Result(step.name, "done" if ran else "unchanged", line.seconds, step.reason, began=began)


@contextmanager
def _interrupted(name: str) -> Iterator[None]:
    """A stopped stage as a failure of it: a task run of Prefect that raises KeyboardInterrupt takes the flow along."""
    try:
        yield
    except KeyboardInterrupt:
        raise StageFailed(name, INTERRUPTED, "stopped") from None


# One at a time, over all runs that report to one Prefect server.
measure = run.with_options(tags=[MEASURE])


@task(
    name="promote",
    retries=3,
    retry_delay_seconds=[2, 5, 10],
    retry_condition_fn=_unreachable,
    cache_policy=NO_CACHE,
)
def promote() -> str:
    """Make a winner that passed the gates the champion."""
    from flows.promote import promote_winner

    return promote_winner()


def limit_measurements(temporary: bool) -> None:
    """Let the server admit one measurement at a time.

    A temporary server starts with the slot free: what is still taken there belonged to a run that was killed.
    """
    from prefect import get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate

    name = f"tag:{MEASURE}"
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(name, 1)
        if temporary:
            client.update_global_concurrency_limit(name, GlobalConcurrencyLimitUpdate(active_slots=0))


def all_well(results: Sequence[Result]) -> bool:
    """Whether every stage is up to date now."""
    return all(result.status in ("done", "unchanged") for result in results)


def failures(results: Sequence[Result]) -> str:
    """Names of what failed and of what could not run because of it."""
    return ", ".join(f"{result.name} {result.status}" for result in results if result.status in ("failed", "blocked"))


def promotion_result(state: Any) -> Result:
    """What became of the promotion."""
    if state.is_completed():
        return Result("promote", "done", reason=state.result())
    return Result("promote", "failed", reason=f"promote: {state.result(raise_on_failure=False)}")


def result(step: Step, state: Any) -> Result:
    """What a task run's final state means for its stage."""
    if state.is_completed():
        found: Result = state.result()
        return found
    if state.is_pending():  # Prefect's NotReady: it waited for something that failed
        return Result(step.name, "blocked", reason="something it reads from failed")
    error = state.result(raise_on_failure=False)
    code = error.code if isinstance(error, StageFailed) else None
    return Result(step.name, "failed", reason=str(error), code=code)
