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
from tasks.serve.model.process import GoneError
from tasks.serve.model.service import Service

LOG = logging.getLogger("edgewright.serve")
TOKENS = 4  # of the probe's answer
TIE = 0.3  # nats: beside other requests a runtime adds in another order, and of two tokens so close either may win
STRIKES = 2  # wrong answers in a row before the model is ended, and with it what it is writing for others
SURE = 10  # times the probability that each token of the vocabulary has by chance: less is no answer


@dataclass
class Health:
    """Probes one service; `reason` is empty while it is ready."""

    service: Service
    prompt: Sequence[int]
    expected: Sequence[tuple[int, float | None]] = ()  # the first answer: tokens with their log-probabilities
    reason: str = "the model is being loaded"
    _asked: float | None = None  # when the probe under way began
    _strikes: int = 0

    @property
    def ready(self) -> bool:
        """Tell whether a request would be answered now."""
        return not self.why_not

    @property
    def why_not(self) -> str:
        """Say why the server is not ready; empty when it is."""
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
        """Generate once; ends the worker when it hangs or answers something else than it should."""
        process = self.service.process
        answer = process.begin(self.prompt, TOKENS, Sampling(), ends=False)
        self._asked = time.monotonic()
        got: list[tuple[int, float | None]] = []
        unsure = math.log(SURE / self.service.text.vocabulary)
        try:
            while len(got) < TOKENS:
                answer.due(self.service.settings.hang_s)
                got += [(token.id, token.logprob) for token in await answer.next()]
                odd = next((one for _, one in got if one is not None and not one > unsure), None)  # or not a number
                if odd is not None:
                    self._restart(f"the model's likeliest token has log-probability {odd:.2f}: it is broken")
                    return
        except TimeoutError:
            self._restart(f"the model gave no token for {self.service.settings.hang_s:g} s")
            return
        finally:
            self._asked = None
            answer.close()
        self.expected = self.expected or got
        if same(got, self.expected):
            self._strikes, self.reason = 0, ""
            return
        said, wanted = (self.service.text.decode([token for token, _ in one]) for one in (got, self.expected))
        self._strikes += 1
        if self._strikes >= STRIKES:
            self._strikes = 0
            self._restart(f"the model answers {said!r}, not {wanted!r}")
        else:
            LOG.warning("the model answers %r, not %r; it is asked again", said, wanted)
            await self.probe()

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


def same(got: Sequence[tuple[int, float | None]], wanted: Sequence[tuple[int, float | None]]) -> bool:
    """Tell whether two answers are the same, or part where two tokens were as likely.

    >>> same([(5, -0.7), (6, -1.0)], [(4, -0.6), (9, -3.0)]), same([(5, -2.0)], [(4, -0.1)])
    (True, False)
    """
    for (token, logprob), (other, expected) in zip(got, wanted, strict=True):
        if token != other:
            return logprob is not None and expected is not None and abs(logprob - expected) <= TIE
    return True
