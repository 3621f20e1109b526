"""What serving any model needs: its process, places for requests in the order in which they came, what is counted."""

from __future__ import annotations

import asyncio
import time

from tasks.errors import ResourceError
from tasks.params.serving import Serve
from tasks.serve.log.prediction_log import PredictionLog
from tasks.serve.log.prometheus import Metrics
from tasks.serve.model.admission import Admission, QueueFullError
from tasks.serve.model.process import GoneError, ModelProcess


class BusyError(ResourceError):
    """All places are taken, those to wait in as well."""

    def __init__(self, retry_after_s: int) -> None:
        """Say when to come again."""
        super().__init__(f"the server is at work on as many requests as it takes; ask again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class LateError(ResourceError):
    """The deadline passed before the answer was whole."""


class Answering:
    """One model process, at most `slots` requests at a time, others waiting in the order in which they came."""

    def __init__(
        self, process: ModelProcess, settings: Serve, metrics: Metrics, log: PredictionLog, version: str
    ) -> None:
        """Join the parts."""
        self.process, self.settings = process, settings
        self.metrics, self.log, self.version = metrics, log, version
        self.draining = False
        self.admission = Admission(settings.slots, settings.queue)
        self._mean_s = 1.0  # of a request, smoothed

    async def admit(self) -> float:
        """Wait for a place; returns when this came. `leave` gives the place back. Raises BusyError or GoneError."""
        arrived = time.monotonic()
        if not self.process.ready:
            self.metrics.errors.labels(kind="not-ready").inc()
            raise GoneError("the model is not loaded yet, or just started again; ask again")
        try:
            await self.admission.take(self.settings.deadline_s)
        except QueueFullError:
            self.metrics.errors.labels(kind="busy").inc()
            ahead = 1 + self.admission.waiting / self.settings.slots
            raise BusyError(max(1, round(self._mean_s * ahead))) from None
        except TimeoutError:
            self.metrics.errors.labels(kind="deadline").inc()
            raise LateError(f"no place became free within {self.settings.deadline_s:g} s") from None
        except asyncio.CancelledError:
            self.metrics.errors.labels(kind="gone-away").inc()
            raise
        return arrived

    def leave(self) -> None:
        """Give a place back."""
        self.admission.leave()

    def took(self, seconds: float) -> None:
        """Note how long a request took that was answered."""
        self.metrics.whole.observe(seconds)
        self._mean_s += 0.1 * (seconds - self._mean_s)
