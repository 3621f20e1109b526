"""What the child processes of `tune` and `benchmark` do, one axis each."""

from __future__ import annotations

from functools import partial

from tasks.backends.table import backend
from tasks.kinds.table import family, timing
from tasks.measure.endurance import Endured, endure
from tasks.measure.requests import MeasureRequest
from tasks.measure.timing import Memory, Times, time_phases, weigh
from tasks.measure.workload import Open, Prepare


def measure_time(request: MeasureRequest) -> Times:
    """Time an artifact's phases."""
    return time_phases(*_ways(request), request.tell_runtime)


def measure_memory(request: MeasureRequest) -> Memory:
    """Weigh the process that holds an artifact."""
    return weigh(*_ways(request))


def measure_endurance(request: MeasureRequest) -> Endured:
    """Soak an artifact, count what its work takes, and put it under stress."""
    return endure(*_ways(request), request.settings, request.stress)


def _ways(request: MeasureRequest) -> tuple[Prepare, Open]:
    opening = request.opening
    load = partial(timing(opening.kind).workload, opening, request.data, request.settings, request.brief)
    return partial(backend(opening.backend).import_runtime, family(opening.kind)), load
