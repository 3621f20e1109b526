"""What the server does with a request: admit it in turn, generate, watch the clock, note how it went."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from tasks.backends.sampling import Sampling
from tasks.config import Serve
from tasks.errors import DataError, ResourceError
from tasks.models.text import Text, Unfolding
from tasks.serve.metrics import Metrics
from tasks.serve.places import FullError, Places
from tasks.serve.prediction_log import Prediction, PredictionLog
from tasks.serve.process import Answer, GoneError, ModelProcess
from tasks.serve.sketch import suspicious
from tasks.serve.stops import Stops
from tasks.serve.worker import Token


class BusyError(ResourceError):
    """All places are taken, those to wait in as well."""

    def __init__(self, retry_after_s: int) -> None:
        """Say when to come again."""
        super().__init__(f"the server is at work on as many requests as it takes; ask again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class LateError(ResourceError):
    """The deadline passed before the answer was whole."""


@dataclass(frozen=True)
class Asked:
    """One answer to make."""

    ids: Sequence[int]
    new_tokens: int
    sampling: Sampling
    stop: tuple[str, ...] = ()
    ends: bool = True  # whether an end-of-text token ends the answer
    endpoint: str = ""
    request_id: str = ""
    prompt: str = ""  # as it was asked, for a log that keeps texts
    client: str = ""  # who asked, as a digest

    @cached_property
    def suspicious(self) -> bool:
        """Whether the prompt looks like one that tries to turn the model."""
        return suspicious(self.prompt)


@dataclass(frozen=True)
class Piece:
    """A part of an answer: text, its tokens with log-probabilities, and how it ends with it."""

    text: str
    tokens: tuple[tuple[int, float | None], ...]
    finish: str | None = None


@dataclass
class Course:
    """How one request went so far; seconds of the monotonic clock."""

    arrived: float
    begun: float | None = None
    first: float | None = None
    last: float | None = None
    logprobs: list[float] = field(default_factory=list)
    tokens: int = 0
    finish: str = ""
    text: list[str] = field(default_factory=list)

    def took(self, token: Token) -> float | None:
        """Note a token; returns the time since the one before it."""
        gap = None if self.last is None else token.when - self.last
        self.first = token.when if self.first is None else self.first
        self.last = token.when
        self.tokens += 1
        if token.logprob is not None:
            self.logprobs.append(token.logprob)
        return gap

    @property
    def confidence(self) -> float | None:
        """The geometric mean of the tokens' probabilities."""
        return math.exp(sum(self.logprobs) / len(self.logprobs)) if self.logprobs else None


class Service:
    """Answers from one model process, at most `slots` at a time, others waiting in the order in which they came."""

    def __init__(
        self, text: Text, process: ModelProcess, settings: Serve, metrics: Metrics, log: PredictionLog, version: str
    ) -> None:
        """Join the parts."""
        self.text, self.process, self.settings = text, process, settings
        self.metrics, self.log, self.version = metrics, log, version
        self.draining = False
        self.places = Places(settings.slots, settings.queue)
        self._mean_s = 1.0  # of a request, smoothed

    def check(self, ids: Sequence[int], new_tokens: int | None) -> int:
        """How many tokens an answer may have; raises DataError when prompt or answer do not fit."""
        room = self.settings.context_tokens - len(ids)
        if not ids:
            raise DataError("the prompt is empty")
        if room < 1:
            raise DataError(
                f"the prompt has {len(ids)} tokens; with at least one of the answer, "
                f"{self.settings.context_tokens} fit (serve.context_tokens)"
            )
        if new_tokens is not None and new_tokens > room:
            raise DataError(
                f"{new_tokens} tokens were asked for; beside the prompt's {len(ids)} there is room for {room}"
            )
        outside = next((one for one in ids if not 0 <= one < self.text.vocabulary), None)
        if outside is not None:
            raise DataError(f"token {outside} is not in the model's vocabulary of {self.text.vocabulary}")
        return min(self.settings.new_tokens, room) if new_tokens is None else new_tokens

    async def admit(self) -> float:
        """Wait for a place; returns when this came. `leave` gives the place back. Raises BusyError or GoneError."""
        arrived = time.monotonic()
        if not self.process.ready:
            self.metrics.errors.labels(kind="not-ready").inc()
            raise GoneError("the model is not loaded yet, or just started again; ask again")
        try:
            await self.places.take(self.settings.deadline_s)
        except FullError:
            self.metrics.errors.labels(kind="busy").inc()
            ahead = 1 + self.places.waiting / self.settings.slots
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
        self.places.leave()

    async def pieces(self, asked: Asked, arrived: float) -> AsyncGenerator[Piece, None]:
        """The answer as it comes, the last piece with its end; a caller that stops listening stops the model."""
        course = Course(arrived, begun=time.monotonic())
        error = "gone-away"  # unless it ends otherwise
        self.metrics.queue.observe(course.begun - arrived if course.begun else 0.0)
        answer = self.process.begin(asked.ids, asked.new_tokens, asked.sampling, asked.ends)
        answer.due(max(0.001, arrived + self.settings.deadline_s - time.monotonic()))
        self.metrics.under_way.set(self.process.under_way)
        try:
            unfolding, stops = self.text.unfolding(), Stops(asked.stop)
            while not course.finish:
                piece = self._piece(await self._next(answer), course, unfolding, stops)
                if piece.finish:
                    error = ""
                yield piece
        except (LateError, GoneError) as problem:
            error = "deadline" if isinstance(problem, LateError) else "worker"
            raise
        finally:
            answer.close()
            self._end(asked, course, error)

    def _piece(self, made: Sequence[Token], course: Course, unfolding: Unfolding, stops: Stops) -> Piece:
        """What tokens that came together add to an answer, up to its end: a stop sequence may end it before them."""
        text, tokens = "", []
        for token in made:
            self._observe(course, token)
            shown, stopped = ("", False) if token.finish == "stop" else stops.add(unfolding.add(token.id))
            text += shown
            if token.finish != "stop":
                tokens.append((token.id, token.logprob))
            if stopped or token.finish:
                course.finish = "stop" if stopped else str(token.finish)
                text += "" if stopped else stops.rest()
                break
        course.text.append(text)
        return Piece(text, tuple(tokens), course.finish or None)

    async def _next(self, answer: Answer) -> list[Token]:
        try:
            return await answer.next()
        except TimeoutError:
            raise LateError(f"the answer was not whole within {self.settings.deadline_s:g} s") from None

    def _observe(self, course: Course, token: Token) -> None:
        gap = course.took(token)
        if gap is None:
            self.metrics.first_token.observe(token.when - course.arrived)
        else:
            self.metrics.inter_token.observe(gap)
        self.metrics.batch.observe(self.process.under_way)

    def _end(self, asked: Asked, course: Course, error: str) -> None:
        now = time.monotonic()
        seconds = now - course.arrived
        self.metrics.under_way.set(self.process.under_way)
        self.metrics.tokens.labels(kind="prompt").inc(len(asked.ids))
        self.metrics.tokens.labels(kind="generated").inc(course.tokens)
        self.metrics.requests.labels(endpoint=asked.endpoint, outcome=error or "ok").inc()
        self.metrics.suspicious.inc(asked.suspicious)
        if error:
            self.metrics.errors.labels(kind=error).inc()
        else:
            self.metrics.whole.observe(seconds)
            self._mean_s += 0.1 * (seconds - self._mean_s)
        self.log.add(Prediction.of(asked, course, now, error, self.version, self.settings.log_text))
