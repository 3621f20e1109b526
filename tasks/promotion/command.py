"""Serve behind a router, and let a new version take over from the old one step by step.

`serve` runs the router: the registry's champion in one slot, a new version beside it in the other. Its socket is held
by a parent, or by systemd, so that nobody is refused until a router that was killed is back. `deploy` begins with a new
version (staging, shadow, 1, 5, 25, 50, 100% of the traffic, champion), `ab` compares one at a fixed share, `rollback`
leads all traffic back at once, `status` says where it stands.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop
from aiohttp import web

from tasks.errors import ModelError, ResourceError
from tasks.params.load import changed
from tasks.params.whole import Whole, load_whole
from tasks.promotion.controller import Controller, first
from tasks.promotion.evidence import Evidence
from tasks.promotion.holder import Holder
from tasks.promotion.packages import packaged
from tasks.promotion.registrar import FileRegistrar, MlflowRegistrar, Registrar
from tasks.promotion.rollout import OTHER, Slot
from tasks.promotion.router import Router
from tasks.promotion.slots import Command, Server, server_command
from tasks.promotion.store import FOLDER, Store, transitions
from tasks.registry import versions as registry
from tasks.run import family
from tasks.run.stage import run_stage
from tasks.serve import listening
from tasks.serve.server import API_KEY
from tasks.targets.cluster.kubernetes import manifests, rendered

LAST = 12  # transitions that `status` shows


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m tasks.promotion", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--folder", type=Path, default=FOLDER, help=f"state and logs ({FOLDER})")
    actions = made.add_subparsers(dest="action", required=True)
    run = actions.add_parser("serve", help="run the router")
    run.add_argument("--package", type=Path, help="a package folder instead of the registry's champion")
    run.add_argument("--host", help="address to listen on (serve.host)")
    run.add_argument("--port", type=int, help="port to listen on; 0: any (serve.port)")
    run.add_argument("--server", default="tasks.serve", metavar="MODULE", help="what serves a package (tasks.serve)")
    for name, text in (("deploy", "let a version take over"), ("ab", "compare a version at a fixed share")):
        one = actions.add_parser(name, help=text)
        which = one.add_mutually_exclusive_group(required=True)
        which.add_argument("--version", help="a version's number in the registry")
        which.add_argument("--package", type=Path, help="a package folder, where the router serves one")
        one.add_argument("--why", default="by hand")
        if name == "ab":
            one.add_argument("--share", type=float, default=50.0, help="percent of the traffic (50)")
        else:
            one.add_argument("--anyway", action="store_true", help="also when the champion passed more")
    back = actions.add_parser("rollback", help="all traffic back to the version before, at once")
    back.add_argument("--why", default="rolled back by hand")
    status = actions.add_parser("status", help="where it stands, and what happened last")
    status.add_argument("--json", action="store_true", help="the state as JSON")
    cluster = actions.add_parser("kubernetes", help="print the same rollout for Argo Rollouts and the Gateway API")
    cluster.add_argument("--image", required=True, help="holds this project, and the package where it has no image")
    cluster.add_argument("--gateway", default="gateway", help="the Gateway that the route hangs on (gateway)")
    cluster.add_argument("--prometheus", default="http://prometheus:9090", help="a server that scrapes the pods")
    cluster.add_argument("--namespace", default="default", help="where all of it goes (default)")
    cluster.add_argument("--package-image", default="", help="an OCI image of the package, mounted at /package")
    return made


def main(argv: list[str] | None = None) -> int:
    """Run the command; exit code 2 for what is refused."""
    arguments = parser().parse_args(argv)
    store = Store(arguments.folder)

    def work() -> int | None:
        if arguments.action == "serve":
            logging.getLogger("edgewright").setLevel(logging.INFO)
            params = load_whole()
            given = {name: value for name in ("host", "port") if (value := getattr(arguments, name)) is not None}
            params = changed(params, "serve", given)
            if not listening.is_handed():
                return hold(params, sys.argv[1:] if argv is None else argv)
            with family.command(), store.held():
                route(store, params, arguments.package, arguments.server)
        elif arguments.action == "status":
            print(store.state().model_dump_json(indent=2) if arguments.json else "\n".join(status(store)))
        elif arguments.action == "kubernetes":
            where = {"namespace": arguments.namespace, "package": arguments.package_image}
            made = manifests(load_whole(), arguments.image, arguments.gateway, arguments.prometheus, **where)
            print(rendered(made), end="")
        elif arguments.action == "rollback" and not store.runs():
            name = load_whole().registered_name
            print(f"{name}: {registry.rollback(name, registry.actor(), arguments.why).reason}")
        else:
            require_router(store)
            who = registry.actor()
            if arguments.action == "rollback":
                print(store.give("rollback", who, arguments.why))
            else:
                if arguments.action == "deploy" and arguments.version and not arguments.anyway:
                    registry.require_not_weaker(load_whole().registered_name, arguments.version)
                share = getattr(arguments, "share", 50.0)
                slot = packaged(arguments.package) if arguments.package else Slot(version=arguments.version)
                print(store.give(arguments.action, who, arguments.why, slot, share))
        return None

    return run_stage(work)


def require_router(store: Store) -> None:
    """Raise ResourceError unless a router runs."""
    if not store.runs():
        raise ResourceError(f"no router is at work on {store.folder}; start one with `make route`")


def status(store: Store) -> list[str]:
    """Say in lines where the rollout stands."""
    state = store.state()
    old, new = (state.slot(color).version or "none" for color in (state.champion, state.challenger))
    router = "a router is at work" if store.runs() else "no router is at work"
    lines = [
        f"{router}; {state.phase}: champion version {old} ({state.champion}), "
        f"other version {new} ({state.challenger}), {state.share:g}% of the traffic to it",
        f"led here: {state.reason}",
        *([f"now: {store.told()}"] if store.runs() and store.told() else []),
    ]
    for one in transitions()[-LAST:]:
        counts = ", ".join(f"{name} {value}" for name, value in one.evidence.items() if value is not None)
        lines.append(f"{one.when} {one.who}: {one.before} -> {one.after} ({one.share:g}%), {one.why}")
        lines += [f"    {counts}"] if counts else []
    return lines


def hold(params: Whole, words: Sequence[str]) -> int:
    """Hold the socket for a router, which is this very command in a process of its own; returns its exit code."""
    held = listening.bound(params.serve.host, params.serve.port)
    return Holder(held, [sys.executable, "-m", "tasks.promotion", *words]).run()


def route(store: Store, params: Whole, package: Path | None, server: str) -> None:
    """Run router and controller until told to stop."""
    name = params.registered_name
    registrar: Registrar = FileRegistrar(store.folder / "champion.json") if package else MlflowRegistrar(name)
    if package:
        first(store, packaged(package))
    elif not any(store.state().slot(color).version for color in OTHER):
        first(store, asyncio.run(_champion(registrar, name)))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_route(store, params, registrar, server_command(name, server), name))


async def _champion(registrar: Registrar, name: str) -> Slot:
    version = await registrar.champion()
    if not version:
        raise ModelError(f"{name} has no champion; `make run` promotes what passes")
    return await registrar.locate(version)


async def _route(store: Store, params: Whole, registrar: Registrar, command: Command, name: str) -> None:
    servers = {color: Server(color, store, command) for color in OTHER}
    logs = [store.address_file(color).parent for color in OTHER]
    evidence = Evidence(store.folder, logs, params.serve.log_mb * 2**20)
    controller = Controller(store, servers, evidence, registrar, params.promotion, name)
    router = Router(controller.view, evidence, params.serve, params.promotion, os.environ.get(API_KEY) or None)
    runner = web.AppRunner(router.application(), handler_cancellation=True, access_log=None)
    await runner.setup()
    listener = listening.listener(params.serve.host, params.serve.port)
    await web.SockSite(runner, listener, shutdown_timeout=params.serve.drain_s).start()
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    host, port = runner.addresses[0][:2]
    looking = asyncio.create_task(controller.run(router))
    print(f"{name} behind a router at http://{host}:{port}/v1; `make promote` brings a new version in", flush=True)
    await stopped.wait()
    router.draining = controller.closing = True
    await runner.cleanup()
    with contextlib.suppress(asyncio.CancelledError):
        await looking
    await asyncio.gather(*(one.stop() for one in servers.values()))
    evidence.close()
