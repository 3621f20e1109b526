"""Energy per written token, in a pass of its own inside a fresh child process.

CodeCarbon reads the processor's counters (RAPL), NVIDIA's (NVML) or macOS' powermetrics where this user may; else it
multiplies the power on the processor's data sheet by its load. That is an estimate, told so; no gate passes on it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.backends.base import Session, backend
from tasks.measure import guard

WINDOWS = 3  # measured apart, so that the figure has a spread
TOKENS = 32  # new tokens of each request
JOULES_PER_KWH = 3.6e6
COUNTERS = (
    "intel_rapl",
    "intel_power_gadget",
    "powermetrics",
    "apple_powermetrics",
)  # CodeCarbon's words for real ones


def measure_energy(request: dict[str, Any]) -> dict[str, Any]:
    """Joules per new token while one request follows another (in the child)."""
    from codecarbon import OfflineEmissionsTracker

    module = backend(request["backend"])
    module.import_runtime()
    session: Session = module.load(Path(request["artifact"]), request["threads"], "generate", request["settings"])
    session.generate(request["short"][-1], TOKENS)
    # Offline: no look-up of where this machine stands, so that energy is given and emissions are not.
    tracker = OfflineEmissionsTracker(
        country_iso_code="USA", save_to_file=False, log_level="error", measure_power_secs=1, allow_multiple_runs=True
    )
    before = guard.read()
    joules = [_window(tracker, session, request["short"], request["energy_s"] / WINDOWS) for _ in range(WINDOWS)]
    disturbance = guard.between(before, guard.read())
    return {"joules_per_token": joules, "source": source(tracker), "disturbance": disturbance.model_dump()}


def _window(tracker: Any, session: Session, prompts: Sequence[Sequence[int]], seconds: float) -> float:
    """Joules per new token over some seconds."""
    tracker.start_task()
    made, end = 0, time.perf_counter() + seconds
    while not made or time.perf_counter() < end:
        made += len(session.generate(prompts[made // TOKENS % len(prompts)], TOKENS))
    return float(tracker.stop_task().energy_consumed) * JOULES_PER_KWH / made


def source(tracker: Any) -> str:
    """What CodeCarbon read, in its own words: one for each piece of hardware it counts."""
    return ", ".join(f"{type(one).__name__} {getattr(one, '_mode', '')}".strip() for one in tracker._hardware)


def estimated(said: str) -> bool:
    """Whether the processor's share is no counter's reading.

    >>> estimated("CPU intel_rapl, RAM"), estimated("CPU cpu_load, RAM"), estimated("AppleSiliconChip")
    (False, True, False)
    """
    return not any(name in said for name in COUNTERS) and "AppleSiliconChip" not in said
