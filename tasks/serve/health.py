"""Health that means it: a real generation, over and over, whose answer is checked; a model that hangs is ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from tasks.backends.sampling import Sampling
from tasks.errors import ResourceError
from tasks.serve.process import GoneError
from tasks.serve.service import Service

LOG = logging.getLogger("edgewright.serve")
TOKENS = 4  # of the probe's answer
SURE = 10  # times the probability that each token of the vocabulary has by chance: less is no answer


@dataclass
class Health:
    """Probes one service; `reason` is empty while it is ready."""

    service: Service
    prompt: Sequence[int]
    expected: Sequence[int] = ()  # tokens that the answer must begin with; else what the first answer was
    reason: str = "the model is being loaded"
    _asked: float | None = None  # when the probe under way began

    @property
    def ready(self) -> bool:
        """Whether a request would be answered now."""
        return not self.why_not

    @property
    def why_not(self) -> str:
        """Why the server is not ready; empty when it is."""
        if self.service.draining:
            return "the server is being stopped"
        if not self.service.process.ready:
            return self.service.process.failure or "the model is being loaded"
        late = self._asked is not None and time.monotonic() - self._asked > self.service.settings.probe_s
        if late and time.monotonic() - self.service.process.heard > self.service.settings.probe_s:
            return f"the model has said nothing for {self.service.settings.probe_s:g} s"
        return self.reason

    async def run(self) -> None:
        """Probe until cancelled."""
        while True:
            try:
                await self.probe()
            except GoneError:
                self.reason = "the model is being loaded"
            except Exception:  # a probe that ended for good would leave the server as it is, whatever happens to it
                LOG.exception("the probe failed")
                self.reason = "the probe failed"
            self._note()
            await asyncio.sleep(self.service.settings.probe_s if self.service.process.ready else 0.1)

    async def probe(self) -> None:
        """One generation; ends the worker when it hangs or answers something else than it should."""
        process = self.service.process
        answer = process.begin(self.prompt, TOKENS, Sampling(), ends=False)
        self._asked = time.monotonic()
        got: list[int] = []
        unsure = math.log(SURE / self.service.text.vocabulary)
        try:
            while len(got) < TOKENS:
                answer.due(self.service.settings.hang_s)
                token = await answer.next()
                got.append(token.id)
                if token.logprob is not None and not token.logprob > unsure:  # not a number is no answer either
                    self._restart(f"the model's likeliest token has log-probability {token.logprob:.2f}: it is broken")
                    return
        except TimeoutError:
            self._restart(f"the model gave no token for {self.service.settings.hang_s:g} s")
            return
        finally:
            self._asked = None
            answer.close()
        wanted = list(self.expected)[:TOKENS]
        if not wanted:
            self.expected, wanted = got, got
        if got != wanted:
            said = f"the model answers {self.service.text.decode(got)!r}, not {self.service.text.decode(wanted)!r}"
            self._restart(said)
            return
        self.reason = ""

    def _restart(self, why: str) -> None:
        LOG.error("%s; it is started again", why)
        self.reason = why
        self.service.process.kill()

    def _note(self) -> None:
        metrics, process = self.service.metrics, self.service.process
        metrics.ready.set(self.ready)
        metrics.restarts.set(process.restarts)
        with contextlib.suppress(psutil.NoSuchProcess, ResourceError):
            if process.pid is not None:
                metrics.memory.set(psutil.Process(process.pid).memory_info().rss)
