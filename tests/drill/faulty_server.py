"""The real server with its real model, and faults on demand: what repairs are drilled with.

Faults are read from the file `faults.json` in the folder of its log, as those of `tests.drill.echo_server` are.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tasks.backends.sampling import Sampling
from tasks.serve import command
from tasks.serve.model.process import Answer, ModelProcess
from tests.drill.echo_server import FAULTS, Faults

TURN_S = 0.02  # the model's process runs for so long, and is then held for as long as its slowness says


@dataclass
class Faulty(ModelProcess):
    """The model's process, which can be held, and whose keeper can leak."""

    faults: Path = Path(FAULTS)
    _leaked: list[bytearray] = field(default_factory=list)

    def now(self) -> Faults:
        """The faults of this moment."""
        return Faults.read(self.faults) if self.faults.exists() else Faults()

    async def run(self) -> None:
        """Keep a worker alive, slow while it is to be."""
        held = asyncio.create_task(self._hold())
        try:
            await super().run()
        finally:
            held.cancel()

    async def _hold(self) -> None:
        while True:
            slow, pid = self.now().slow, self.pid
            if slow <= 1 or pid is None:
                await asyncio.sleep(0.1)
                continue
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                await asyncio.sleep(TURN_S * (slow - 1))
                os.kill(pid, signal.SIGCONT)
            await asyncio.sleep(TURN_S)

    def begin(self, ids: Sequence[int], new_tokens: int, sampling: Sampling, ends: bool = True) -> Answer:
        """Begin an answer, and keep what leaks of it."""
        faults = self.now()
        if faults.leak_mb:
            self._leaked.append(bytearray(b"\1") * int(2**20 * faults.leak_mb))
        return super().begin(ids, new_tokens, sampling, ends)


def main(argv: list[str]) -> int:
    """Serve; takes what `python -m tasks.serve` takes."""
    log = command.parser().parse_args(argv).log
    return command.main(argv, lambda opening, changed: Faulty(opening, changed, faults=log / FAULTS))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
