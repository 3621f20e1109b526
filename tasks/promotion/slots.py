"""The two slots: a server process each, started apart from the router so that it outlives one, and found again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import aiohttp
import psutil

from tasks.promotion.rollout import Color, Slot
from tasks.promotion.store import Store
from tasks.serve.address import Address

LOG = logging.getLogger("edgewright.router")
PAUSES_S = (0.0, 1.0, 2.0, 5.0, 10.0)  # before a server is started again, by how often it was in a row
SETTLED_S = 60.0  # a server that lived so long did not fail at its start
STOP_S = 35.0  # to drain
MB = 2**20

Command = Callable[[Color, Slot, Path, Path], Sequence[str]]  # color, what, folder of logs, file for the address


def server_command(name: str, module: str = "tasks.serve") -> Command:
    """The line that serves a package as `name` on a port of its own choice, by `tasks.serve` or what stands for it."""

    def command(color: Color, slot: Slot, logs: Path, address: Path) -> list[str]:
        return [
            sys.executable, "-m", module, "--package", slot.package, "--name", name, "--as", slot.version,
            "--manifest", slot.manifest_sha256, "--host", "127.0.0.1", "--port", "0", "--log", str(logs),
            "--address", str(address), *slot.options.words,
        ]  # fmt: skip

    return command


class Server:
    """A server process in one slot."""

    def __init__(self, color: Color, store: Store, command: Command) -> None:
        """Nothing runs yet, or what a router before this one left."""
        self.color, self._store, self._command = color, store, command
        self.slot = Slot()
        self.ready = False
        self.why_not = "not started"
        self.ever_ready = False  # since it was started, or found
        self.unready_since = time.monotonic()
        self.starts = 0  # in a row that did not settle
        self._address: Address | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._began = 0.0

    @property
    def base(self) -> str | None:
        """URL of the server, while it may be asked."""
        return self._address.base if self._address is not None and self.ready else None

    @property
    def address(self) -> Address | None:
        """Address at which the server listens, ready or not."""
        return self._address

    @property
    def alive(self) -> bool:
        """Tell whether the server's process is there."""
        if self._child is not None:
            return self._child.poll() is None
        return self._address is not None and self._address.process() is not None

    def memory_mb(self) -> float | None:
        """Resident memory of the server and the model's process."""
        found = self._address.process() if self._address else None
        if found is None:
            return None
        with contextlib.suppress(psutil.Error):
            return sum(one.memory_info().rss for one in (found, *found.children(recursive=True))) / MB
        return None

    def find(self, slot: Slot, staged: bool) -> bool:
        """Take over a server that a router before this one started for the same version; ends any other.

        `staged` says that it was ready once.
        """
        left = self._store.address(self.color)
        if left is None or left.process() is None:
            return False
        here = (left.version, left.manifest_sha256, left.options)
        if here != (slot.version, slot.manifest_sha256, slot.options):
            end(left)
            return False
        self.slot, self._address, self.ever_ready = slot, left, staged
        self._began = self.unready_since = time.monotonic()
        LOG.info("%s: version %s is found again, process %d", self.color, slot.version, left.pid)
        return True

    def start(self, slot: Slot) -> None:
        """Start a server for `slot`; the one before has ended."""
        if slot != self.slot or time.monotonic() - self._began > SETTLED_S:
            self.starts = 0
        if time.monotonic() - self._began < PAUSES_S[min(self.starts, len(PAUSES_S) - 1)]:
            return
        file = self._store.address_file(self.color)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        self.slot, self._address, self.ready, self.ever_ready = slot, None, False, False
        self.why_not, self._began, self.starts = "starting", time.monotonic(), self.starts + 1
        self.unready_since = self._began
        with (file.parent / "server.log").open("ab") as log:
            self._child = subprocess.Popen(
                list(self._command(self.color, slot, file.parent, file)),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "EDGEWRIGHT_SLOT": self.color},
            )  # fmt: skip
        LOG.info("%s: version %s is started, process %d", self.color, slot.version, self._child.pid)

    async def look(self, client: aiohttp.ClientSession) -> None:
        """Look whether the server is there and ready."""
        if self._address is None and self._child is not None and self._child.poll() is None:
            found = self._store.address(self.color)
            self._address = found if found is not None and found.pid == self._child.pid else None
        ready, why = False, "starting"
        if not self.alive:
            code = self._child.poll() if self._child is not None else None
            why = "its process is gone" if code is None else f"its process ended (code {code})"
        elif self._address is not None:
            ready, why = await _asked(client, self._address.base)
        if ready:
            self.ever_ready, self.unready_since = True, time.monotonic()
        self.ready, self.why_not = ready, "" if ready else why

    async def stop(self) -> None:
        """End it, letting it finish what it answers."""
        address, child = self._address, self._child
        self.ready, self.slot, self._address, self._child = False, Slot(), None, None
        self.why_not = "not started"
        process = address.process() if address else None
        if process is not None:
            await asyncio.to_thread(end, address)
        if child is not None:
            await asyncio.to_thread(_reap, child)
        self._store.address_file(self.color).unlink(missing_ok=True)


def end(address: Address | None) -> None:
    """Stop a server: it drains, and is killed when it does not come to an end."""
    process = address.process() if address is not None else None
    if process is None:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        family = process.children(recursive=True)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except psutil.TimeoutExpired:
            for one in (process, *family):
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()


def _reap(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.terminate()
    try:
        child.wait(STOP_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


async def _asked(client: aiohttp.ClientSession, base: str) -> tuple[bool, str]:
    try:
        async with client.get(f"{base}/v2/health/ready", timeout=aiohttp.ClientTimeout(total=2.0)) as answer:
            if answer.status == 200:
                return True, ""
            said = (await answer.json()).get("reason", "")
            return False, str(said) or f"it answers {answer.status}"
    except (TimeoutError, aiohttp.ClientError, ValueError) as error:
        return False, f"it does not answer: {type(error).__name__}"
