"""Health that means it: a real generation, over and over, whose answer is checked; a model that hangs is ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import psutil

from tasks.backends.sampling import Sampling
from tasks.errors import ResourceError
from tasks.serve.model.answering import Answering
from tasks.serve.model.mapping import Mapper
from tasks.serve.model.process import GoneError, RefusedError
from tasks.serve.model.service import Service

LOG = logging.getLogger("edgewright.serve")
TOKENS = 4  # of the probe's answer
TIE = 0.3  # nats: beside other requests a runtime adds in another order, and of two tokens so close either may win
STRIKES = 2  # wrong answers in a row before the model is ended, and with it what it is writing for others
CLOSE = 0.01  # absolute and relative, of numbers that a probe gives again
SURE = 10  # times the probability that each token of the vocabulary has by chance: less is no answer


class Health(ABC):
    """Probes one service; `reason` is empty while it is ready. What a probe asks is its model's affair."""

    def __init__(self, service: Answering) -> None:
        """Watch over a service whose model is not loaded yet."""
        self.service = service
        self.reason = "the model is being loaded"
        self._asked: float | None = None  # when the probe under way began
        self._strikes = 0

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

    @abstractmethod
    async def probe(self) -> None:
        """Ask once; ends the worker when it hangs or answers something else than it should."""

    async def _judge(self, right: bool, said: str) -> None:
        """Note whether an answer was the expected one; a wrong one is asked for again, and then ends the model."""
        if right:
            self._strikes, self.reason = 0, ""
            return
        self._strikes += 1
        if self._strikes >= STRIKES:
            self._strikes = 0
            self._restart(f"the model answers {said}")
        else:
            LOG.warning("the model answers %s; it is asked again", said)
            await self.probe()

    def _restart(self, why: str) -> None:
        LOG.error("%s; it is started again", why)
        self.reason = why
        self.service.process.leave_device(why)
        self.service.process.kill()

    def _note(self) -> None:
        metrics, process = self.service.metrics, self.service.process
        metrics.ready.set(self.ready)
        metrics.restarts.set(process.restarts)
        metrics.fallback.set(process.device_fell)
        with contextlib.suppress(psutil.NoSuchProcess, ResourceError):
            if process.pid is not None:
                metrics.memory.set(psutil.Process(process.pid).memory_info().rss)


class TokenHealth(Health):
    """Probes a model that writes, by a short answer."""

    def __init__(self, service: Service, prompt: Sequence[int]) -> None:
        """`prompt`: the tokens of a question."""
        super().__init__(service)
        self._text, self.prompt = service.text, prompt
        self.expected: Sequence[tuple[int, float | None]] = ()  # the first answer: tokens with log-probabilities

    async def probe(self) -> None:
        """Generate once; ends the worker when it hangs or answers something else than it should."""
        process = self.service.process
        answer = process.begin(self.prompt, TOKENS, Sampling(), ends=False)
        self._asked = time.monotonic()
        got: list[tuple[int, float | None]] = []
        unsure = math.log(SURE / self._text.vocabulary)
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
        said, wanted = (self._text.decode([token for token, _ in one]) for one in (got, self.expected))
        await self._judge(same(got, self.expected), f"{said!r}, not {wanted!r}")


class ArraysHealth(Health):
    """Probes a model of named arrays, by the outputs to an input of its own making."""

    def __init__(self, service: Mapper) -> None:
        """Watch over a service of arrays."""
        super().__init__(service)
        self._mapper = service
        self.expected: dict[str, Any] = {}  # the first answer

    async def probe(self) -> None:
        """Ask once; ends the worker when it hangs, or answers something else than it should."""
        answer = self.service.process.ask("probe", {})
        self._asked = time.monotonic()
        try:
            answer.due(self.service.settings.hang_s)
            got = (await answer.mapped()).outputs
        except TimeoutError:
            self._restart(f"the model gave no answer for {self.service.settings.hang_s:g} s")
            return
        except RefusedError as error:
            self._restart(str(error))
            return
        finally:
            self._asked = None
            answer.close()
        broken = next((name for name, value in got.items() if not np.isfinite(value).all()), None)
        if broken is not None:
            self._restart(f"the model's {broken} holds no numbers: it is broken")
            return
        self.expected = self.expected or got
        await self._judge(alike(got, self.expected), "with other numbers than at first")


def alike(got: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether outputs are the same but for what the order of additions changes.

    >>> alike({"y": np.ones(2)}, {"y": np.ones(2) + 1e-4}), alike({"y": np.ones(2)}, {"y": np.zeros(2)})
    (True, False)
    """
    return got.keys() == wanted.keys() and all(
        value.shape == wanted[name].shape and np.allclose(value, wanted[name], rtol=CLOSE, atol=CLOSE)
        for name, value in got.items()
    )


def same(got: Sequence[tuple[int, float | None]], wanted: Sequence[tuple[int, float | None]]) -> bool:
    """Tell whether two answers are the same, or part where two tokens were as likely.

    >>> same([(5, -0.7), (6, -1.0)], [(4, -0.6), (9, -3.0)]), same([(5, -2.0)], [(4, -0.1)])
    (True, False)
    """
    for (token, logprob), (other, expected) in zip(got, wanted, strict=True):
        if token != other:
            return logprob is not None and expected is not None and abs(logprob - expected) <= TIE
    return True
