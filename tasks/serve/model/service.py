"""What the server does with a request: admit it in turn, generate, watch the clock, note how it went."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from tasks.errors import DataError
from tasks.kinds.causal_lm.chat import Text, Unfolding
from tasks.params.serving import Serve
from tasks.serve.log.prediction_log import Prediction, PredictionLog
from tasks.serve.log.prometheus import Metrics
from tasks.serve.log.trace import GenerationRequest, RequestTrace
from tasks.serve.model.answering import Answering, LateError
from tasks.serve.model.process import Answer, GoneError, ModelProcess, RefusedError
from tasks.serve.model.stops import Stops
from tasks.serve.model.worker import Token

SCORED_MB = 512  # logits of a prompt that is scored, at most


@dataclass(frozen=True)
class Chunk:
    """A part of an answer: text, its tokens with log-probabilities, and how it ends with it."""

    text: str
    tokens: tuple[Token, ...]
    finish: str | None = None
    echoed: bool = False  # it is the prompt


class Service(Answering):
    """Answers in tokens from one model process, at most `slots` at a time."""

    def __init__(
        self, text: Text, process: ModelProcess, settings: Serve, metrics: Metrics, log: PredictionLog, version: str
    ) -> None:
        """Join the parts."""
        super().__init__(process, settings, metrics, log, version)
        self.text = text

    def check(self, ids: Sequence[int], new_tokens: int | None) -> int:
        """Compute how many tokens an answer may have; at most what there is room for; raises DataError when none is."""
        room = self.settings.context_tokens - len(ids)
        if not ids:
            raise DataError("the prompt is empty")
        if room < (new_tokens != 0):
            raise DataError(
                f"the prompt has {len(ids)} tokens; with at least one of an answer, "
                f"{self.settings.context_tokens} fit (serve.context_tokens)"
            )
        outside = next((one for one in ids if not 0 <= one < self.text.vocabulary), None)
        if outside is not None:
            raise DataError(f"token {outside} is not in the model's vocabulary of {self.text.vocabulary}")
        return min(self.settings.new_tokens if new_tokens is None else new_tokens, room)

    async def chunks(self, asked: GenerationRequest, arrived: float) -> AsyncGenerator[Chunk, None]:
        """The answer as it comes, the last chunk with its end; a caller that stops listening stops the model."""
        trace = RequestTrace(arrived, begun=time.monotonic())
        error = "gone-away"  # unless it ends otherwise
        answer: Answer | None = None
        self.metrics.queue.observe(trace.begun - arrived if trace.begun else 0.0)
        try:
            if asked.echo:
                yield await self._echo(asked, arrived)
            if not asked.new_tokens:
                trace.finish, error = "length", ""
                yield Chunk("", (), "length")
                return
            answer = self._due(self.process.begin(asked.ids, asked.new_tokens, asked.sampling, asked.ends), arrived)
            unfolding, stops = self.text.unfolding(), Stops(asked.stop)
            while not trace.finish:
                chunk = self._chunk(await self._next(answer), trace, unfolding, stops)
                if chunk.finish:
                    error = ""
                yield chunk
        except (LateError, GoneError) as problem:
            error = "deadline" if isinstance(problem, LateError) else "worker"
            raise
        except RefusedError:
            error = "malformed"
            raise
        finally:
            if answer is not None:
                answer.close()
            self._end(asked, trace, error)

    def _due(self, answer: Answer, arrived: float) -> Answer:
        answer.due(max(0.001, arrived + self.settings.deadline_s - time.monotonic()))
        self.metrics.under_way.set(self.process.under_way)
        return answer

    async def _echo(self, asked: GenerationRequest, arrived: float) -> Chunk:
        """The prompt, its tokens scored where that is asked for."""
        text = asked.prompt or self.text.written(asked.ids)
        if asked.scored is None:
            return Chunk(text, (), echoed=True)
        size = len(asked.ids) * self.text.vocabulary * 4 / 2**20
        if size > SCORED_MB:
            raise RefusedError(
                f"the prompt has {len(asked.ids)} tokens, and to score them takes {size:.0f} MB at once; "
                f"at most {int(SCORED_MB / size * len(asked.ids))} tokens are scored"
            )
        answer = self._due(self.process.score(asked.ids, asked.scored), arrived)
        try:
            return Chunk(text, tuple(await self._next(answer)), echoed=True)
        finally:
            answer.close()

    def _chunk(self, made: Sequence[Token], trace: RequestTrace, unfolding: Unfolding, stops: Stops) -> Chunk:
        """What tokens that came together add to an answer, up to its end: a stop sequence may end it before them."""
        text, tokens = "", list[Token]()
        for token in made:
            self._observe(trace, token)
            shown, stopped = ("", False) if token.finish == "stop" else stops.add(unfolding.add(token.id))
            text += shown
            if token.finish != "stop":
                tokens.append(token)
            if stopped or token.finish:
                trace.finish = "stop" if stopped else str(token.finish)
                if not stopped:
                    last, stopped = stops.add(unfolding.rest())
                    text += last if stopped else last + stops.rest()
                    trace.finish = "stop" if stopped else trace.finish
                break
        trace.text.append(text)
        return Chunk(text, tuple(tokens), trace.finish or None)

    async def _next(self, answer: Answer) -> list[Token]:
        try:
            return await answer.next()
        except TimeoutError:
            raise LateError(f"the answer was not whole within {self.settings.deadline_s:g} s") from None

    def _observe(self, trace: RequestTrace, token: Token) -> None:
        gap = trace.took(token.when, token.logprob)
        if gap is None:
            self.metrics.first_token.observe(token.when - trace.arrived)
        else:
            self.metrics.inter_token.observe(gap)
        self.metrics.batch.observe(self.process.under_way)

    def _end(self, asked: GenerationRequest, trace: RequestTrace, error: str) -> None:
        now = time.monotonic()
        seconds = now - trace.arrived
        self.metrics.under_way.set(self.process.under_way)
        self.metrics.tokens.labels(kind="prompt").inc(len(asked.ids))
        self.metrics.tokens.labels(kind="generated").inc(trace.tokens)
        self.metrics.requests.labels(endpoint=asked.endpoint, outcome=error or "ok").inc()
        self.metrics.suspicious.inc(asked.suspicious)
        if error:
            self.metrics.errors.labels(kind=error).inc()
        else:
            self.took(seconds)
        self.log.add(Prediction.of(asked, trace, now, error, self.version, self.settings.log_text))
