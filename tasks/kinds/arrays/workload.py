"""Requests to a model of named arrays while it is timed, soaked and weighed: a row alone, and rows together."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.backends.base import Arrays, Feeds
from tasks.backends.table import arrays
from tasks.kinds.arrays.rows import FILE, Rows, fixed_batch
from tasks.measure.requests import Opening
from tasks.measure.workload import Workload
from tasks.params.pipeline import Benchmark

TOGETHER = 32  # rows of a batch
LEAST_S = 0.2  # a sample lasts at least so long: one request of a small model is over in less than a clock's noise
WARM = 3


def workload(opening: Opening, data: Path, settings: Benchmark, brief: bool) -> Workload:
    """Load an artifact with its rows."""
    session = arrays(opening.backend).arrays(opening.artifact, opening.threads, opening.settings)
    return ArraysWorkload(session, Rows.load(data / "workload" / FILE), settings.repeats)


@dataclass
class ArraysWorkload:
    """Rows one by one, and in batches where the model takes them.

    Alone: milliseconds a row, one row a request. Together: rows a second in batches of 32, or of the number that the
    model takes. Each sample goes through rows of its own for at least 0.2 seconds.
    """

    session: Arrays
    rows: Rows
    repeats: int = 2

    @property
    def distinct(self) -> int:
        """Requests of a soak that differ."""
        return min(8, len(self.rows))

    @property
    def together(self) -> int:
        """Rows of a batch."""
        if self.rows.whole:
            return 1
        return fixed_batch(self.session) or min(TOGETHER, len(self.rows))

    def _run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        return self.session.run(feeds)

    def _batch(self, number: int, size: int) -> Feeds:
        return self.rows.take([(number * size + place) % len(self.rows) for place in range(size)])

    def first(self) -> None:
        """Ask once, as the first caller does."""
        self._run(self._batch(0, self._alone))

    @property
    def _alone(self) -> int:
        return 1 if self.rows.whole else fixed_batch(self.session) or 1

    def samples(self) -> dict[str, list[float]]:
        """Time rows alone and together."""
        for size in (self._alone, self.together):
            for number in range(WARM):
                self._run(self._batch(number, size))
        alone = [1e3 * self._seconds(self._alone, repeat) for repeat in range(self.repeats)]
        together = [self.together / self._seconds(self.together, repeat) for repeat in range(self.repeats)]
        return {"latency_ms": alone, "rows_per_s": together}

    def _seconds(self, size: int, repeat: int) -> float:
        """Time of a request, over as many as fill the least duration."""
        number, began = repeat * 1000, perf_counter()
        while True:
            self._run(self._batch(number, size))
            number += 1
            passed = perf_counter() - began
            if passed >= LEAST_S:
                return passed / (number - repeat * 1000)

    def heavy(self) -> None:
        """Answer a batch."""
        self._run(self._batch(0, self.together))

    def soak(self, number: int) -> int:
        """Answer a batch of one of few; how many rows."""
        self._run(self._batch(number % self.distinct, self.together))
        return self.together

    def longest(self) -> bool:
        """Answer all rows of the workload, in batches as large as they come."""
        return all(_finite(self._run(self._batch(number, self.together)).values()) for number in range(self.distinct))

    def stress(self, number: int) -> Hashable:
        """Answer a row; its outputs, to what two kernels may differ in."""
        found = self._run(self._batch(number, self._alone))
        return tuple(np.round(value.astype(np.float64), 4).tobytes() for value in found.values())

    def sizes(self) -> dict[str, int]:
        """Rows of a batch, and numbers in a row."""
        return {"rows": self.together, "numbers": sum(int(one[0].size) for one in self.rows.arrays.values())}

    def runtime(self) -> dict[str, str]:
        """Tell the properties that the runtime really uses."""
        return self.session.runtime()


def _finite(outputs: Sequence[NDArray[Any]] | Any) -> bool:
    return all(bool(np.isfinite(value).all()) for value in outputs)
