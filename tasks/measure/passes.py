"""The passes of a measurement, one axis each, every one in a fresh process with limits."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tasks.errors import ChildError
from tasks.hardware import cores
from tasks.measure import guard
from tasks.measure.endurance import Endured
from tasks.measure.energy import Spent, estimated
from tasks.measure.requests import MeasureRequest
from tasks.measure.statistics import Trend, trend
from tasks.measure.timing import Memory, Times, quantity
from tasks.params.pipeline import Benchmark
from tasks.records.base import Record
from tasks.records.speed import Change, Endurance, Energy
from tasks.run.child import Child, run_child

WORK = "tasks.kinds.measuring"  # the kinds' side, in the child
MEMORY_AT_ONCE = 2

A = TypeVar("A", bound=Record)


@dataclass(frozen=True)
class Passes:
    """Measures artifacts in child processes whose output goes to `logs`."""

    logs: Path

    def time(self, name: str, request: MeasureRequest) -> Times:
        """Time one artifact; raises ChildError."""
        return self._run("measure_time", name, request, Times)

    def memory(self, requests: Mapping[str, MeasureRequest], names: Sequence[str]) -> dict[str, Memory | str]:
        """Each one's memory, or why there is none; some at a time, as what a process holds is not its speed's."""

        def take(name: str) -> Memory | str:
            try:
                return self._run("measure_memory", name, requests[name], Memory)
            except ChildError as error:
                return f"{error.kind}: {error}"

        with ThreadPoolExecutor(max_workers=min(MEMORY_AT_ONCE, cores.usable_cores())) as pool:
            return dict(zip(names, pool.map(take, names), strict=True))

    def endurance(self, name: str, request: MeasureRequest) -> dict[str, Any]:
        """Soak one variant, count its energy and put it under stress: fields of its record.

        A process that dies is what it showed. Without stress it is soaked for its energy alone.
        """
        settings = request.settings
        try:
            timed = guard.undisturbed(
                lambda: self._run("measure_endurance", name, request, Endured),
                f"soak of {name}",
                settings.max_others_cores,
                settings.retries,
            )
        except ChildError as error:
            why = f"{error.kind}: {error}"
            broken = Endurance(requests=0, latency=None, memory=None, failures=(why,), busy=why, **_asked(settings))
            reason = {"energy_reason": why} if settings.energy else {}
            return reason | ({"endurance": broken} if request.stress else {})
        answer, found = timed.answer, dict[str, Any]()
        if request.stress:
            print(f"  soak of {name}: {len(answer.latency_ms)} requests", file=sys.stderr, flush=True)
            found["endurance"] = Endurance(
                requests=len(answer.latency_ms),
                latency=change(trend(answer.latency_ms)),
                memory=change(trend(answer.rss_mb)),
                failures=tuple(answer.failures),
                busy=timed.objection,
                **_asked(settings),
            )
        if answer.spent is not None:
            found["energy"] = energy(answer.spent, timed.objection)
        return found | ({"energy_reason": answer.energy_reason} if answer.energy_reason else {})

    def _run(self, work: str, name: str, request: MeasureRequest, answer: type[A]) -> A:
        # Memory is taken of two at once, whose spinning threads would stop each other; nothing of it is timed.
        child = Child(
            work=f"{WORK}:{work}",
            request=request,
            limits=request.settings.limits,
            log=self.logs / f"benchmark-{name}-{work}.log",
            label=f"benchmark {name} ({work.removeprefix('measure_')})",
            threads=request.opening.threads,
            timed=work != "measure_memory",
        )
        return run_child(child, answer)


def _asked(settings: Benchmark) -> dict[str, Any]:
    """What a soak and stress were to be, for their record."""
    return {
        "callers": settings.callers, "long_prompt_tokens": settings.stress_tokens, "seconds": settings.soak_s
    }  # fmt: skip


def energy(spent: Spent, busy: str) -> Energy:
    """What was counted, as a record; `busy`: why it decides nothing."""
    said = spent.source
    return Energy(joules_per_token=quantity(spent.joules), source=said, estimated=estimated(said), busy=busy)


def change(found: Trend | None) -> Change | None:
    """A trend as a record."""
    return None if found is None else Change(value=found.value, low=found.low, high=found.high, p=found.p)
