"""One server process: the model's process, the probe and the HTTP application, from start to drain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import uvicorn
import uvloop

from tasks.backends.placing import AUTO
from tasks.errors import ModelError
from tasks.hardware import cores
from tasks.kinds.causal_lm.chat import Text
from tasks.kinds.table import predicting
from tasks.packaging.manifest import CONTENTS, Contents, verify_manifest
from tasks.params.serving import Serve
from tasks.serve.address import Address
from tasks.serve.http import app as http
from tasks.serve.http import arrays_app
from tasks.serve.listening import listener as listening_at
from tasks.serve.log.prediction_log import PredictionLog
from tasks.serve.log.prometheus import Metrics
from tasks.serve.model import mapping
from tasks.serve.model.answering import Answering
from tasks.serve.model.health import ArraysHealth, Health, TokenHealth
from tasks.serve.model.process import ModelProcess
from tasks.serve.model.service import Service
from tasks.serve.model.worker import Opening
from tasks.serve.options import ServerOptions

LOG = logging.getLogger("edgewright.serve")
API_KEY = "EDGEWRIGHT_API_KEY"
Model = Callable[[Opening, Callable[[str], None]], ModelProcess]
PROBE = "What is the capital of France?"


@dataclass(frozen=True)
class Served:
    """A package that is served, and its name."""

    package: Path
    name: str
    version: str
    manifest_sha256: str | None = None  # as the registry knows it


class Drained(uvicorn.Server):
    """A server that says it is not ready as soon as it is told to stop."""

    service: Answering | None = None

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Begin to drain: no new connections, answers under way are finished; told twice, they are not.

        uvicorn's own would raise the signal again at the end, and with it end this process before it has cleaned up.
        """
        if self.service is not None:
            self.service.draining = True
        self.force_exit = self.should_exit
        self.should_exit = True


def serve(
    served: Served, settings: Serve, log: Path | None, address: Path | None = None,
    options: ServerOptions | None = None, model: Model = ModelProcess,
) -> None:  # fmt: skip
    """Serve until told to stop.

    Raises ModelError for a package that is not as it was packaged, or does not load, ResourceError for an address that
    cannot be had, and ConfigError for a socket that was handed over and cannot be served at.
    Where it listens is written to `address`, before the model is ready. `model` makes what holds the model.
    """
    digest = verify_manifest(served.package, served.manifest_sha256)
    contents = Contents.read(served.package / CONTENTS)
    forms = predicting(contents.kind).SERVES
    writes = Text(served.package / "tokenizer", contents.chat) if "generation" in forms else None

    def listens(host: str, port: int) -> None:
        if address is not None:
            Address(
                pid=os.getpid(),
                created=psutil.Process().create_time(),
                host=host,
                port=port,
                name=served.name,
                version=served.version,
                manifest_sha256=digest,
                options=options or ServerOptions(),
            ).write(address)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        threads = (options and options.threads) or cores.usable_cores()
        device = (options and options.device) or AUTO
        runner.run(_run(served, settings, contents, writes, log, listens, threads, device, model))


@dataclass(frozen=True)
class Parts:
    """What a server is put together of."""

    process: ModelProcess
    settings: Serve
    metrics: Metrics
    log: PredictionLog
    served: Served

    def writing(self, contents: Contents, text: Text) -> tuple[Answering, Health, Any]:
        """Service, probe and application of a model that writes."""
        service = Service(text, self.process, self.settings, self.metrics, self.log, self.served.version)
        health = TokenHealth(service, text.converse([{"role": "user", "content": PROBE}]))
        return service, health, http.create(service, health, contents, self.served.name, _key())

    def mapping(self, contents: Contents) -> tuple[Answering, Health, Any]:
        """Service, probe and application of a model of named arrays."""
        self.process.module = mapping.WORKER
        service = mapping.Mapper(self.process, self.settings, self.metrics, self.log, self.served.version)
        health, kind = ArraysHealth(service), predicting(contents.kind)
        forms = [form for form in kind.SERVES if form != "generation"]
        count = tokens_of(self.served.package / "tokenizer" / "tokenizer.json")
        made = arrays_app.create(service, health, contents, self.served.name, forms, count, _key())
        return service, health, made


def tokens_of(tokenizer: Path) -> Callable[[str], int]:
    """Count a text's tokens by the package's tokenizer; a package without one reads no texts, and counts none."""
    if not tokenizer.is_file():
        return lambda _: 0
    from tokenizers import Tokenizer

    own = Tokenizer.from_file(str(tokenizer))
    own.no_padding()
    return lambda text: len(own.encode(text).ids)


def _key() -> str | None:
    return os.environ.get(API_KEY) or None


async def _run(
    served: Served,
    settings: Serve,
    contents: Contents,
    text: Text | None,
    log: Path | None,
    listens: Callable[[str, int], None],
    threads: int,
    device: str,
    model: Model,
) -> None:
    began = time.monotonic()
    metrics = Metrics()
    metrics.info.labels(served.name, served.version, contents.variant, contents.backend).set(1)
    first: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def changed(state: str) -> None:
        if state != "ready":
            LOG.error("%s", state)
        if not first.done():
            first.set_result(state)

    opening = Opening(
        package=str(served.package.resolve()),
        manifest_sha256=served.manifest_sha256,
        threads=threads,
        device=device,
        slots=settings.slots,
        context=settings.context_tokens,
        ends=tuple(sorted(text.ends)) if text else (),
        pace_s=settings.pace_ms / 1e3,
    )
    listener = listening_at(settings.host, settings.port)
    process = model(opening, changed)
    kept = PredictionLog(log, settings.log_mb * 2**20, settings.log_files)
    parts = Parts(process, settings, metrics, kept, served)
    service, health, application = parts.writing(contents, text) if text else parts.mapping(contents)
    server = Drained(
        uvicorn.Config(
            application,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=max(1, round(settings.drain_s)),
        )
    )
    server.service = service
    tasks = [asyncio.create_task(process.run()), asyncio.create_task(health.run())]
    listening = asyncio.create_task(server.serve([listener]))
    try:
        while not (server.started or listening.done()):
            await asyncio.sleep(0.01)
        if server.started:
            listens(*_socket(server))
        both: set[asyncio.Future[Any]] = {first, listening}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if first.done() and first.result() != "ready":
            server.should_exit = True
            await listening
            raise ModelError(first.result())
        while not (health.ready or listening.done()):
            await asyncio.sleep(0.05)
        if not listening.done():
            _announce(server, served, contents, settings, time.monotonic() - began)
        await listening
    finally:
        process.close()
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)
        kept.close()


def _socket(server: uvicorn.Server) -> tuple[str, int]:
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    return str(host), int(port)


def _announce(server: uvicorn.Server, served: Served, contents: Contents, settings: Serve, seconds: float) -> None:
    host, port = _socket(server)
    print(
        f"{served.name} version {served.version} ({contents.variant}) at http://{host}:{port}/v1, "
        f"{settings.slots} requests at once; ready after {seconds:.1f} s",
        flush=True,
    )
