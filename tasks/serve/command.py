"""Serve a model over HTTP: the registry's champion, or a package folder.

OpenAI's API under /v1, the Open Inference Protocol under /v2, Prometheus under /metrics. With EDGEWRIGHT_API_KEY set,
callers must bring that key.
"""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

from tasks.errors import ConfigError, ModelError
from tasks.hardware import cores
from tasks.packaging.manifest import CONTENTS, Contents
from tasks.params.load import changed
from tasks.params.whole import load_whole
from tasks.registry import versions as registry
from tasks.run.stage import run_stage
from tasks.serve.model.process import ModelProcess
from tasks.serve.options import ServerOptions
from tasks.serve.server import Model, Served, serve

LOGS = Path("artifacts/serve")


def parser() -> argparse.ArgumentParser:
    """The command line; its defaults are the block `serve` of params.yaml."""
    made = argparse.ArgumentParser(prog="python -m tasks.serve", description=__doc__)
    which = made.add_mutually_exclusive_group()
    which.add_argument("--package", type=Path, help="a package folder; left out, the registry's champion")
    which.add_argument("--version", help="a version's number or alias in the registry (champion)")
    made.add_argument("--name", help="what the model is called in requests")
    made.add_argument("--as", dest="called", help="the version it says it is, of a package folder")
    made.add_argument("--manifest", help="SHA-256 that the manifest of a package folder must have")
    made.add_argument("--host", help="address to listen on (serve.host: loopback alone)")
    made.add_argument("--port", type=int, help="port to listen on; 0: any (serve.port)")
    made.add_argument("--slots", type=int, help="requests at once (serve.slots)")
    made.add_argument("--context", type=int, help="tokens of prompt and answer together (serve.context_tokens)")
    made.add_argument("--threads", type=int, help="threads of the runtime (one for each processor)")
    made.add_argument("--device", help="device as the runtime names it, or cpu (as the package was measured)")
    made.add_argument("--cores", type=core_numbers, default=(), metavar="0,1,...", help="processors it may use (all)")
    made.add_argument("--log", type=Path, default=LOGS, help=f"folder of the prediction log ({LOGS})")
    made.add_argument("--address", type=Path, help="file for where it listens (address.json beside the log)")
    return made


def main(argv: list[str] | None = None, model: Model = ModelProcess) -> int:
    """Serve until stopped, `model` making what holds the model; exit code 2 for one that cannot be loaded."""
    arguments = parser().parse_args(argv)

    def work() -> None:
        logging.getLogger("edgewright").setLevel(logging.INFO)
        named = {name: getattr(arguments, name) for name in ("host", "port", "slots")}
        named["context_tokens"] = arguments.context
        given = {name: value for name, value in named.items() if value is not None}
        params = changed(load_whole(), "serve", given)
        address = arguments.address or arguments.log / "address.json"
        options = ServerOptions(
            cores=arguments.cores, threads=arguments.threads, slots=arguments.slots, context=arguments.context,
            device=arguments.device,
        )  # fmt: skip
        keep_to(options.cores)
        serve(which(arguments, params.registered_name), params.serve, arguments.log, address, options, model)

    return run_stage(work)


def core_numbers(words: str) -> tuple[int, ...]:
    """Numbers of processors, with commas between them.

    >>> core_numbers("2,0,2")
    (0, 2)
    """
    try:
        return tuple(sorted({int(word) for word in words.split(",")}))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{words!r} is no list of processors, such as 0,1") from None


def keep_to(wanted: tuple[int, ...]) -> None:
    """Keep this process, and what it starts, to some processors; raises ConfigError for ones that it may not use."""
    if not wanted:
        return
    if not hasattr(os, "sched_setaffinity"):
        raise ConfigError("this system does not keep a process to chosen processors; leave --cores out")
    if not set(wanted) <= set(usable := cores.cores()):
        raise ConfigError(f"--cores {','.join(map(str, wanted))}: this process may use {list(usable)}")
    os.sched_setaffinity(0, wanted)


def which(arguments: argparse.Namespace, model: str) -> Served:
    """The package that is asked for."""
    if arguments.package is None:
        found = registry.located(model, arguments.version or registry.CHAMPION)
        return Served(found.package, arguments.name or model, found.version, found.manifest_sha256)
    if not (arguments.package / CONTENTS).is_file():
        raise ModelError(
            f"{arguments.package} is no package: it holds no {CONTENTS}; `make run` makes artifacts/package"
        )
    contents = Contents.read(arguments.package / CONTENTS)
    version = arguments.called or contents.results_digest[:12]
    return Served(arguments.package, arguments.name or model, version, arguments.manifest)
