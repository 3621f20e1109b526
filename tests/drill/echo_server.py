"""A server with everything but a model: its answers are made up, each token in a known time, with faults on demand.

What is drilled and timed with it is the rest: protocols, queue, logs, router, rollout. Faults are read from the file
`faults.json` in the folder of its log, so that a version can turn bad in the middle of its life.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tasks.backends.sampling import Sampling
from tasks.records.base import Record
from tasks.serve import command
from tasks.serve.model.process import Answer, GoneError, ModelProcess
from tasks.serve.model.worker import Token

FAULTS = "faults.json"
TOKEN_S = 0.0005
SURE, UNSURE = -0.2, -4.0  # log-probabilities of its tokens


class Faults(Record):
    """What is wrong with it, and from when on."""

    slow: float = 1.0  # times as long for every token
    wrong: bool = False  # other tokens, and unsure of them
    crash_after: int | None = None  # requests, then the whole server ends
    never_ready: bool = False
    leak_mb: float = 0.0  # kept for ever, of each request


@dataclass
class Echo(ModelProcess):
    """In the place of the model's process; all in the server's own."""

    faults: Path = Path(FAULTS)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _asked: int = 0
    _leaked: list[bytearray] = field(default_factory=list)

    def now(self) -> Faults:
        """The faults of this moment."""
        return Faults.read(self.faults) if self.faults.exists() else Faults()

    async def run(self) -> None:
        """Be ready."""
        while self.now().never_ready:
            await asyncio.sleep(0.1)
        self.ready = {"backend": "echo"}
        self.on_change("ready")
        while not self._closing:
            self.heard = time.monotonic()
            await asyncio.sleep(0.2)

    def begin(self, ids: Sequence[int], new_tokens: int, sampling: Sampling, ends: bool = True) -> Answer:
        """Begin to echo."""
        if not self.ready:
            raise GoneError("the model is not loaded")
        self._numbers += 1
        answer = Answer(self, self._numbers, asyncio.Queue())
        self._answers[self._numbers] = answer.queue
        task = asyncio.create_task(self._echo(self._numbers, list(ids), new_tokens))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return answer

    async def _echo(self, number: int, ids: Sequence[int], new_tokens: int) -> None:
        faults = self.now()
        self._asked += 1
        if faults.leak_mb:
            self._leaked.append(bytearray(b"\1") * int(2**20 * faults.leak_mb))
        if faults.crash_after is not None and self._asked > faults.crash_after:
            os._exit(70)
        shift, logprob = (977, UNSURE) if faults.wrong else (0, SURE)
        for place in range(new_tokens):
            await asyncio.sleep(TOKEN_S * faults.slow)
            queue = self._answers.get(number)
            if queue is None:
                return
            token = 1000 + (ids[place % len(ids)] + (place + 1) * (shift or 1)) % 4000
            last = place + 1 == new_tokens
            queue.put_nowait([Token(token, logprob, "length" if last else None, time.monotonic())])
            if last:
                self._answers.pop(number, None)

    def drop(self, number: int) -> None:
        """Stop one."""
        self._answers.pop(number, None)

    def close(self) -> None:
        """Stop all."""
        self._closing = True


def main(argv: list[str]) -> int:
    """Serve; takes what `python -m tasks.serve` takes."""
    log = command.parser().parse_args(argv).log
    return command.main(argv, lambda opening, changed: Echo(opening, changed, faults=log / FAULTS))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
