"""The optimization as a Prefect flow: the stages in order, then the registry, then a summary in Prefect's UI."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.futures import as_completed
from prefect.states import Failed

from flows import provisional, steps, summary
from flows.dvc.pipeline import Plan, Step
from flows.steps import Result
from flows.stop import stopping
from tasks.errors import ConfigError, ResourceError
from tasks.hardware import cores
from tasks.params.load import load_params

DASK_WORKERS = 2  # of a cluster of our own
MEMORY_EACH = 6 * 2**30  # bytes a conversion of a small model may need at its peak


@flow(name="optimize", validate_parameters=False)
def optimize(plan: Plan, root: str, slots: int = 2) -> list[Result] | State[list[Result]]:
    """Run what is stale, `slots` variants at a time, promote what passed; returns how every stage ended, in order."""
    work = Work(plan, root)
    work.submit("fetch", "data", "reference", "assess")
    work.wait()
    with threads_shared():
        if early := provisional.worth_it(plan, load_params().shown_first, provisional.skipped()):
            work.variant_by_variant("convert", slots=slots, only=early)
            provisional.show(root)
        work.variant_by_variant("convert", slots=slots)
    work.one_by_one("tune")
    with threads_shared():
        work.variant_by_variant("evaluate", slots=slots)
    work.one_by_one("ceiling", "benchmark")
    work.submit(*work.others())
    work.wait()
    results = work.results()
    if steps.all_well(results):
        results.append(steps.promotion_result(steps.promote(return_state=True)))
    summary.publish(results, Path(root))
    if steps.all_well(results):
        return results
    failed: State[list[Result]] = Failed(message=steps.failures(results), data=results)
    return failed


@dataclass
class Work:
    """The stages of one run as Prefect task runs."""

    plan: Plan
    root: str
    _futures: dict[str, Any] = field(default_factory=dict)
    _states: dict[str, Any] = field(default_factory=dict)

    def submit(self, *verbs: str) -> None:
        """Hand over the stale stages of these kinds; each starts when what it reads from is done."""
        for step in self._of(verbs):
            self._hand_over(step)

    def variant_by_variant(self, *verbs: str, slots: int, only: Collection[str] = ()) -> None:
        """Run the stale stages of these kinds, `slots` at a time, and take a variant begun to its end first.

        `only`: stages that are enough for now; they hold what they read from.

        A stage is handed over only when what it reads from has ended, so that no worker sits waiting for another. The
        order is that of params.yaml, where what takes long stands early: nothing long is left for the end.
        """
        wanted = [step for step in self._of(verbs) if step.name not in self._states]
        wanted = [step for step in wanted if not only or step.name in only]
        waiting = sorted(wanted, key=lambda step: (self._variant_number(step), verbs.index(step.verb)))
        running: dict[Any, str] = {}
        while waiting or running:
            pending = {step.name for step in waiting} | set(running.values())
            while len(running) < slots and (ready := next((s for s in waiting if pending.isdisjoint(s.needs)), None)):
                waiting.remove(ready)
                running[self._hand_over(ready)] = ready.name
            ended = next(as_completed(list(running)))
            self._states[running.pop(ended)] = ended.state

    def one_by_one(self, *verbs: str) -> None:
        """Run the stale stages of these kinds here, each alone: they measure the machine that was detected."""
        for step in self._of(verbs):
            _go_on()
            number, count = self._place(step)
            self._states[step.name] = steps.measure(
                step, number, count, self.root, wait_for=self._needs(step), return_state=True
            )

    def wait(self) -> None:
        """Block until everything submitted has ended."""
        for name, future in self._futures.items():
            future.wait()
            self._states[name] = future.state

    def others(self) -> list[str]:
        """Kinds of stages not yet begun: what follows the measurements, and what the user added."""
        return list(dict.fromkeys(step.verb for step in self.plan.steps if step.name not in self._states))

    def results(self) -> list[Result]:
        """Every stage of the pipeline, the unchanged ones too."""
        stale = {step.name: step for step in self.plan.steps}
        return [
            steps.result(stale[name], self._states[name]) if name in self._states else Result(name, "unchanged")
            for name in self.plan.stages
        ]

    def _hand_over(self, step: Step) -> Any:
        _go_on()
        number, count = self._place(step)
        future = steps.run.submit(step, number, count, self.root, wait_for=self._needs(step), return_state=False)
        self._futures[step.name] = future
        return future

    def _variant_number(self, step: Step) -> int:
        return list(dict.fromkeys(name.partition("@")[2] for name in self.plan.stages)).index(step.variant)

    def _of(self, verbs: Any) -> list[Step]:
        return [step for verb in verbs for step in self.plan.steps if step.verb == verb]

    def _needs(self, step: Step) -> list[Any]:
        return [self._futures.get(name) or self._states[name] for name in step.needs if self._known(name)]

    def _known(self, name: str) -> bool:
        return name in self._futures or name in self._states

    def _place(self, step: Step) -> tuple[int, int]:
        return self.plan.steps.index(step) + 1, len(self.plan.steps)


def _go_on() -> None:
    if stopping.is_set():
        raise KeyboardInterrupt


def workers() -> int:
    """How many conversions or evaluations run at once: EDGEWRIGHT_WORKERS, else two where cores and memory allow.

    Half of a conversion is imports and export on one core; a second one fills the other.
    """
    asked = os.environ.get("EDGEWRIGHT_WORKERS", "")
    if asked:
        if not asked.isdigit() or asked == "0":
            raise ConfigError(f"EDGEWRIGHT_WORKERS={asked!r} must be a whole number from 1 on")
        return int(asked)
    roomy = psutil.virtual_memory().total >= 2 * MEMORY_EACH
    return 2 if cores.usable_cores() >= 2 and roomy else 1


def slots(kind: str) -> int:
    """How many variants are under way at once: as many as there are workers; a cluster of others decides by itself."""
    if kind == "local":
        return workers()
    return len(load_params().variants) if os.environ.get("DASK_ADDRESS") else DASK_WORKERS


@contextmanager
def threads_shared() -> Iterator[None]:
    """Give each of the stages that run at once its share of the cores."""
    share = max(1, cores.usable_cores() // workers())
    os.environ["EDGEWRIGHT_THREADS"] = str(share)
    try:
        yield
    finally:
        del os.environ["EDGEWRIGHT_THREADS"]


def runner(kind: str) -> Any:
    """Where stages run: here, some at a time (`workers`), or on Dask (a local cluster of two, or DASK_ADDRESS)."""
    if kind == "local":
        from prefect.task_runners import ThreadPoolTaskRunner

        return ThreadPoolTaskRunner(max_workers=workers())
    from prefect_dask import DaskTaskRunner

    address = os.environ.get("DASK_ADDRESS")
    if address:
        check_scheduler(address)
        return DaskTaskRunner(address=address)
    # memory_limit 0: a stage bounds its own children; Dask would kill a worker over its idea of a share.
    return DaskTaskRunner(
        cluster_kwargs={
            "n_workers": DASK_WORKERS,
            "threads_per_worker": 1,
            "memory_limit": 0,
            "dashboard_address": "127.0.0.1:0",
        }
    )


def check_scheduler(address: str) -> None:
    """Raise ResourceError where no scheduler answers at the address."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError) as error:
        raise ResourceError(
            f"no Dask scheduler answers at DASK_ADDRESS={address} ({error}); give it as tcp://HOST:PORT, "
            "or unset it for a local cluster of two workers. Nothing was started, finished stages are kept."
        ) from error
