"""Energy per unit of work, counted while a loaded artifact is soaked.

CodeCarbon reads the processor's counters (RAPL), NVIDIA's (NVML) or macOS' powermetrics where this user may; else it
multiplies the power on the processor's data sheet by its load. That is an estimate, told so; no gate passes on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tasks.records.base import Record

WINDOWS = 3  # measured apart, so that the figure has a spread
JOULES_PER_KWH = 3.6e6
COUNTERS = (  # CodeCarbon's words for real ones
    "intel_rapl",
    "intel_power_gadget",
    "powermetrics",
    "apple_powermetrics",
)


class Spent(Record):
    """Energy of one process's work."""

    joules: list[float]  # per unit of work, of each window
    source: str  # what was read


class Meter:
    """Joules per unit of work, window by window.

    What the library that counts has against this machine is told by `problem`, and is no fault of the artifact.
    """

    def __init__(self) -> None:
        """Look for counters."""
        self.problem = ""
        self._joules: list[float] = []
        self._tracker: Any = None
        with self._told():
            self._tracker = _tracker()

    @contextmanager
    def window(self, units: Callable[[], int]) -> Iterator[None]:
        """Count while the block runs; `units`: of work that it has done by its end."""
        with self._told() as well:
            if well:
                self._tracker.start_task()
        yield
        with self._told() as well:
            if well:
                kwh = float(self._tracker.stop_task().energy_consumed)
                self._joules.append(kwh * JOULES_PER_KWH / units())

    @property
    def spent(self) -> Spent | None:
        """What was counted; None where something went wrong."""
        return None if self.problem else Spent(joules=self._joules, source=source(self._tracker))

    @contextmanager
    def _told(self) -> Iterator[bool]:
        """Whether all went well so far; what goes wrong in the block is kept."""
        try:
            yield not self.problem
        except Exception as error:  # noqa: BLE001 - whatever it is, the soak goes on
            self.problem = f"{type(error).__name__}: {error}"


def _tracker() -> Any:
    from codecarbon import OfflineEmissionsTracker

    # Offline: no look-up of where this machine stands, so that energy is given and emissions are not.
    return OfflineEmissionsTracker(
        country_iso_code="USA", save_to_file=False, log_level="error", measure_power_secs=1, allow_multiple_runs=True
    )


def source(tracker: Any) -> str:
    """Name what CodeCarbon read, in its own words, for each piece of hardware it counts."""
    return ", ".join(f"{type(one).__name__} {getattr(one, '_mode', '')}".strip() for one in tracker._hardware)


def estimated(said: str) -> bool:
    """Tell whether the processor's share is an estimate and no counter's reading.

    >>> estimated("CPU intel_rapl, RAM"), estimated("CPU cpu_load, RAM"), estimated("AppleSiliconChip")
    (False, True, False)
    """
    return not any(name in said for name in COUNTERS) and "AppleSiliconChip" not in said
