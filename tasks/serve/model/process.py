"""The server's side of the process that holds the model: start it, hand it requests, notice that it is gone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.backends.devices import PROCESSOR
from tasks.backends.sampling import Sampling
from tasks.errors import DataError, ResourceError
from tasks.run.surroundings import for_weights
from tasks.serve.model.packing import unpacked
from tasks.serve.model.worker import Opening, Token

LOG = logging.getLogger("edgewright.serve")
LINE = 2**23  # bytes a message may have: a long text that is scored, with five tokens beside each, takes one
PAUSES_S = (0.0, 1.0, 2.0, 5.0, 10.0)  # before the next start, by how many failed in a row


WORKER = "tasks.serve.model.worker"  # the module that holds a model which writes


@dataclass(frozen=True)
class Mapped:
    """Outputs of a model of named arrays, by name."""

    outputs: dict[str, Any]
    rows: int  # how many there were


Said = list[Token] | Mapped | str | None  # what was made, why a request is refused, or that the worker ended
LATE: list[Token] = []  # says that an answer is due; no worker makes it


class RefusedError(DataError):
    """The process that holds the model cannot do what is asked."""


class GoneError(ResourceError):
    """The process that held the model ended with the request."""


@dataclass
class ModelProcess:
    """One worker at a time, started again when it ends; requests are known by numbers that are never used twice."""

    opening: Opening
    on_change: Callable[[str], None]  # told "ready", or why it is not
    module: str = WORKER
    restarts: int = 0
    ready: dict[str, Any] = field(default_factory=dict)  # what the worker said of itself; empty while there is none
    failure: str = ""  # why the last start failed
    heard: float = 0.0  # when the worker last said anything, seconds of the monotonic clock
    _numbers: int = 0
    _answers: dict[int, asyncio.Queue[Said]] = field(default_factory=dict)
    _process: asyncio.subprocess.Process | None = None
    _closing: bool = False
    _left: bool = False  # its device, for the processor

    @property
    def pid(self) -> int | None:
        """The worker's process id while there is one."""
        return self._process.pid if self._process and self._process.returncode is None else None

    @property
    def device_fell(self) -> bool:
        """Whether the model runs on the processor though another device was asked for."""
        return bool(self.ready.get("fallback")) or self._left

    @property
    def under_way(self) -> int:
        """Requests the worker holds."""
        return len(self._answers)

    async def run(self) -> None:
        """Keep a worker alive until `close`."""
        failed = 0
        while not self._closing:
            await asyncio.sleep(PAUSES_S[min(failed, len(PAUSES_S) - 1)])
            began = time.monotonic()
            try:
                await self._one()
            except OSError as error:  # no memory or no process to be had: as a worker that ended
                self.failure = f"the model's process cannot be started: {error}"
                self.on_change(self.failure)
            if not self._closing:
                self.restarts += 1
                failed = 0 if time.monotonic() - began > 60 else failed + 1

    async def _one(self) -> None:
        """One worker, from its start to its end."""
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", self.module, self.opening.model_dump_json(),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LINE, start_new_session=True,
            env={**os.environ, **for_weights(), "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        assert process.stdout is not None
        try:
            async for line in process.stdout:
                self._heard(json.loads(line))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            code = await process.wait()
            self.ready = {}
            for answer in self._answers.values():
                answer.put_nowait(None)
            self._answers.clear()
            if not self._closing:
                self.on_change(self.failure or f"the process that held the model ended (code {code})")

    def _heard(self, message: dict[str, Any]) -> None:
        self.heard = time.monotonic()
        if "made" in message:
            told = [(key, Token(*token)) for key, token in message["made"]]
            late = self.heard - told[-1][1].when  # the last came now; those before it keep their distance to it
            made: dict[int, list[Token]] = {}
            for key, token in told:
                made.setdefault(key, []).append(token._replace(when=token.when + late))
            for key, tokens in made.items():
                answer = self._answers.get(key)
                if answer is not None:
                    answer.put_nowait(tokens)
                    if tokens[-1].finish:
                        del self._answers[key]
        elif "mapped" in message:
            number, outputs, rows = message["mapped"]
            answer = self._answers.pop(number, None)
            if answer is not None:
                answer.put_nowait(Mapped({name: unpacked(value) for name, value in outputs.items()}, rows))
        elif "refused" in message:
            number, reason = message["refused"]
            answer = self._answers.pop(number, None)
            if answer is not None:
                answer.put_nowait(str(reason))
        elif "ready" in message:
            self.ready, self.failure = message["ready"], ""
            if fell := self.ready.get("fallback"):
                LOG.warning("%s fell back to %s (%s): %s", fell["asked"], fell["used"], fell["kind"], fell["reason"])
            self.on_change("ready")
        else:
            self.failure = str(message.get("failed", "it answered what is not understood"))

    def begin(self, ids: Sequence[int], new_tokens: int, sampling: Sampling, ends: bool = True) -> Answer:
        """Hand a request over; raises GoneError while there is no worker that is ready."""
        return self._ask("add", {"ids": list(ids), "new_tokens": new_tokens, "sampling": sampling.told(), "ends": ends})

    def score(self, ids: Sequence[int], top: int) -> Answer:
        """Ask how likely each of the tokens is, with the `top` likeliest beside it; they come together."""
        return self._ask("score", {"ids": list(ids), "top": top})

    def ask(self, what: str, told: dict[str, Any]) -> Answer:
        """Ask a model of named arrays: a `probe`, or to `map` what is told; raises GoneError while there is none."""
        return self._ask(what, told)

    def _ask(self, what: str, told: dict[str, Any]) -> Answer:
        if not self.ready:
            raise GoneError("the model is not loaded")
        self._numbers += 1
        answer = Answer(self, self._numbers, asyncio.Queue())
        self._answers[self._numbers] = answer.queue
        self._send({what: self._numbers, **told})
        return answer

    def drop(self, number: int) -> None:
        """Let the worker forget a request that is not at its end."""
        if self._answers.pop(number, None) is not None and self.ready:
            self._send({"drop": number})

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    def kill(self) -> None:
        """End the worker at once; `run` starts another."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def leave_device(self, why: str) -> None:
        """Have the next worker on the processor, where this one is not: its device gives wrong answers, or none."""
        device = self.ready.get("device", PROCESSOR)
        if device != PROCESSOR:
            LOG.error("%s: the model leaves %s for the processor", why, device)
            self.opening, self._left = self.opening.model_copy(update={"device": PROCESSOR}), True

    def close(self) -> None:
        """End the worker for good."""
        self._closing = True
        self.kill()


@dataclass
class Answer:
    """The tokens of one request as they come; to be closed, at its end or before."""

    process: ModelProcess
    number: int
    queue: asyncio.Queue[Said]

    _timer: asyncio.TimerHandle | None = None

    def due(self, seconds: float) -> None:
        """Let `next` raise TimeoutError once so many seconds have passed; one timer costs less than one a token."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.queue.put_nowait, LATE)

    async def next(self) -> list[Token]:
        """The next tokens, one at least.

        Raises TimeoutError when they are `due`, GoneError when the worker ended, RefusedError for what it refuses.
        """
        said = await self._said()
        assert isinstance(said, list)  # of a worker that makes tokens
        return said

    async def mapped(self) -> Mapped:
        """The outputs of a model of named arrays; raises as `next` does."""
        said = await self._said()
        assert isinstance(said, Mapped)
        return said

    async def _said(self) -> list[Token] | Mapped:
        said = await self.queue.get()
        if said is LATE:
            raise TimeoutError
        if said is None:
            raise GoneError("the process that held the model ended; ask again")
        if isinstance(said, str):
            raise RefusedError(f"the model cannot be asked this: {said}")
        return said

    def close(self) -> None:
        """Stop what is still being made for it."""
        if self._timer is not None:
            self._timer.cancel()
        self.process.drop(self.number)
