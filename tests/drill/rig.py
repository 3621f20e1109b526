"""A router with two echo servers behind it in a folder of its own, and callers: what drills and router figures use."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import yaml

from tasks.kinds.causal_lm.incoming.gguf_tokenizer import write_tokenizer
from tasks.packaging.manifest import CONTENTS, Contents, write_manifest
from tasks.params.load import load_params
from tasks.promotion.packages import packaged
from tasks.promotion.registrar import Alias
from tasks.promotion.rollout import Color, Slot, State
from tasks.promotion.store import Store
from tasks.records.base import write_text
from tasks.records.plan import Recipe
from tasks.sources.files import sample_path
from tests import ROOT
from tests.drill.echo_server import FAULTS, Faults

LONG_S = 240.0  # for a rollout to come to its end
START_S, ORDER_S = 60.0, 60.0
TOKENS = 6
REFUSED, BROKEN = "refused", "broken"  # connections, and answers that were under way
# A drill shares its few cores with all that it starts, so it allows more in latency; its slow version is far slower.
QUICK = {
    "max_latency_ratio": 2.0,
    "first_token_grace_ms": 10.0,
    "tick_s": 0.1,
    "probes_per_s": 60.0,
    "mirror_share": 0.5,
    "compare_tokens": 8,
    "min_requests": 20,
}


@cache
def _tokenizer() -> dict[str, bytes]:
    """The sample's tokenizer, file by file; to make it takes seconds."""
    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(sample_path(), Path(folder))
        return {file.name: file.read_bytes() for file in Path(folder).iterdir()}


def package(folder: Path, number: int) -> Slot:
    """A package whose model is what lies in `folder`/model; an echo needs none."""
    (folder / "tokenizer").mkdir(parents=True)
    for name, content in _tokenizer().items():
        (folder / "tokenizer" / name).write_bytes(content)
    recipe = Recipe(
        backend="gguf", precision="fp16", role="candidate", method="default", group_size=0, symmetric=False, ratio=1.0
    )
    Contents(
        model="Echo", origin="made for drills", source_sha256="0" * 64, variant=f"echo-{number}", backend="gguf",
        recipe=recipe, tensor_share={}, versions={}, runtime={}, settings={}, requirements=(), chat=True,
        verdict="pass", results_digest=f"{number}" * 64,
    ).write(folder / CONTENTS)  # fmt: skip
    write_manifest(folder)
    return packaged(folder)


def tell(line: str) -> None:
    """Print one line of progress."""
    print(f"drill: {line}", file=sys.stderr, flush=True)


def idle(state: State) -> bool:
    """Whether nothing is under way."""
    return state.phase == "idle"


@dataclass
class Rig:
    """One router, its slots and two versions to put into them."""

    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)  # of the block `promotion`
    server: str = "tests.drill.echo_server"
    serve: dict[str, Any] = field(default_factory=dict)  # of the block `serve`
    blocks: dict[str, Any] = field(default_factory=dict)  # other blocks, whole
    weights: Sequence[Path] = ()  # a GGUF file for each version
    packages: Sequence[Path] = ()  # of both versions, in place of echoes
    process: subprocess.Popen[str] | None = None

    def __post_init__(self) -> None:
        """Packages, parameters and a port."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for number, file in enumerate(self.weights, 1):
            into = self.folder / f"version-{number}" / "model"
            into.mkdir(parents=True)
            os.link(file, into / file.name)
        self.versions = [packaged(one) for one in self.packages] or [
            package(self.folder / f"version-{number}", number) for number in (1, 2)
        ]
        params = yaml.safe_load((ROOT / "params.yaml").read_text())
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        params["serve"] |= {"port": self.port, "slots": 32, "queue": 200, "drain_s": 2.0} | self.serve
        params |= self.blocks
        params["promotion"] |= QUICK | self.settings
        write_text(self.folder / "params.yaml", yaml.safe_dump(params))
        self.model = load_params(self.folder).registered_name
        self.store = Store(self.folder / "router")
        self.base = f"http://127.0.0.1:{self.port}"
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def start(self) -> None:
        """Start the router, and wait until it listens."""
        command = [
            sys.executable, "-m", "tasks.promotion", "--folder", str(self.store.folder), "serve",
            "--package", self.versions[0].package, "--server", self.server,
        ]  # fmt: skip
        with (self.folder / "router.log").open("a") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self.listening()

    def listening(self) -> None:
        """Wait until a router listens: the first, or the next one after a kill."""
        assert self.process is not None and self.process.stdout is not None
        line = self.process.stdout.readline()
        if " at http://" not in line:
            raise RuntimeError(f"the router did not start: {(self.folder / 'router.log').read_text()[-2000:]}")

    def state(self) -> State:
        """What is on the disk."""
        return self.store.state()

    def until(self, reached: Callable[[State], bool], seconds: float, what: str) -> float:
        """Wait for a state; returns the seconds it took."""
        began = time.monotonic()
        while not reached(self.state()):
            if time.monotonic() - began > seconds:
                log = (self.folder / "router.log").read_text()[-3000:]
                raise RuntimeError(f"{what} has not come within {seconds:g} s; state {self.state()}; router: {log}")
            time.sleep(0.02)
        return time.monotonic() - began

    def serving(self) -> None:
        """Wait until a champion serves and nothing is under way."""
        self.until(lambda state: state.phase == "idle" and bool(state.slot(state.champion).version), START_S, "idle")

    def answering(self) -> None:
        """Wait until a version answers."""
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.base}/v2/health/ready", timeout=5):
                return
            time.sleep(0.05)
        raise RuntimeError(
            f"no version answers within {START_S:g} s: {(self.folder / 'router.log').read_text()[-2000:]}"
        )

    def other(self) -> Slot:
        """The version that is not champion."""
        state = self.state()
        return next(one for one in self.versions if one.version != state.slot(state.champion).version)

    def deploy(self, goal: Any = "deploy", share: float = 50.0) -> Slot:
        """Order the other version in."""
        slot = self.other()
        self.store.give(goal, "drill", "a drill", slot, share, ORDER_S)
        return slot

    def fault(self, color: Color, faults: Faults | None) -> None:
        """Let the server in a slot go wrong from now on, or be well."""
        file = self.store.folder / color / FAULTS
        if faults is None:
            file.unlink(missing_ok=True)
        else:
            faults.write(file)

    def pid(self, who: str) -> int:
        """Process of the router, or of the server in a slot."""
        if who == "router":
            assert self.process is not None
            [router] = psutil.Process(self.process.pid).children()  # of the process that holds its socket
            return router.pid
        address = self.store.address("blue" if who == "blue" else "green")
        assert address is not None, f"nothing listens in slot {who}"
        return address.pid

    def kill(self, who: str) -> None:
        """kill -9; of the router the next one is waited for, which the holder of its socket starts."""
        os.kill(self.pid(who), signal.SIGKILL)
        if who == "router":
            self.listening()

    def alias(self) -> str:
        """Who is champion by the registry."""
        file = self.store.folder / "champion.json"
        return Alias.read(file).version if file.exists() else ""

    def end(self) -> None:
        """Stop everything."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
        for one in psutil.process_iter():  # a server whose router was killed between its start and its address, too
            with contextlib.suppress(psutil.Error):
                if any(word.startswith(str(self.folder)) for word in one.cmdline()):
                    one.kill()


@contextlib.contextmanager
def rig(folder: Path, **settings: Any) -> Iterator[Rig]:
    """A rig of echoes whose first version serves, as one that served before: it is not checked again."""
    with serving(Rig(folder, settings)) as made:
        yield made


@contextlib.contextmanager
def serving(made: Rig) -> Iterator[Rig]:
    """The same of any rig."""
    one = made.versions[0]
    made.store.save(State(blue=one, alias=one.version))
    Alias(version=one.version).write(made.store.folder / "champion.json")
    try:
        made.start()
        made.answering()
        yield made
    finally:
        made.end()


class Traffic:
    """Callers that ask all the time, half of them for streams, on a thread of their own."""

    def __init__(
        self, base: str, model: str, callers: int = 8, most: int | None = None, tokens: int = TOKENS,
        pause_s: float = 0.0,
    ) -> None:  # fmt: skip
        """Nobody asks yet."""
        self._base, self._model, self._callers, self._most = base, model, callers, most
        self._tokens, self._pause_s = tokens, pause_s
        self.prompts: Sequence[str] = ()  # what is asked, in turn; without them, who asks the how manieth time
        self.answered: Callable[[str, str], None] = lambda version, request_id: None  # told of each whole answer
        self.sent = 0
        self.failed: Counter[str] = Counter()
        self.versions: Counter[str] = Counter()
        self.paused = False
        self._ending = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Traffic:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End, once what is under way has come back."""
        self._ending = True
        self._thread.join()

    @property
    def done(self) -> bool:
        """Whether as many as were wanted have come back."""
        return self._most is not None and self.sent >= self._most

    async def _run(self) -> None:
        async with aiohttp.ClientSession(self._base, timeout=aiohttp.ClientTimeout(total=120)) as session:
            await asyncio.gather(*(self._caller(session, number) for number in range(self._callers)))

    async def _caller(self, session: aiohttp.ClientSession, number: int) -> None:
        turn = 0
        while not self._ending and not self.done:
            if self.paused:
                await asyncio.sleep(0.05)
                continue
            turn += 1
            self.sent += 1
            prompts = self.prompts
            prompt = prompts[self.sent % len(prompts)] if prompts else f"caller {number} asks {turn}"
            said = await self._ask(session, prompt, stream=turn % 2 == 0)
            await asyncio.sleep(self._pause_s)
            if said:
                self.failed[said] += 1
                await asyncio.sleep(0.05)

    async def _ask(self, session: aiohttp.ClientSession, prompt: str, stream: bool) -> str:
        body = {"model": self._model, "prompt": prompt, "max_tokens": self._tokens, "temperature": 0, "stream": stream}
        try:
            async with session.post("/v1/completions", json=body) as answer:
                text = await answer.read()
                if answer.status != 200:
                    return str(answer.status)
                version = answer.headers.get("x-edgewright-version", "none")
                self.versions[version] += 1
                self.answered(version, answer.headers.get("x-request-id", ""))
                whole = text.rstrip().endswith(b"data: [DONE]") if stream else bool(json.loads(text)["choices"])
                return "" if whole else BROKEN
        except aiohttp.ClientConnectorError:
            return REFUSED
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientPayloadError):
            return BROKEN  # whoever answered is gone
        except (TimeoutError, aiohttp.ClientError, ValueError) as problem:
            return type(problem).__name__
