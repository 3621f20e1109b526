"""Serve what runs by a schedule: nightly re-optimization, monitor, weekly review; this process executes it.

Without PREFECT_API_URL a Prefect server is started on port 4200 and stopped with this command. The schedule belongs to
the server: while nothing serves, runs wait there.
"""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack
from typing import Any

from flows import server, ui
from flows.progress import tell
from flows.run import RUNNERS
from tasks import config
from tasks.errors import EXIT_OK, ConfigError
from tasks.stage import run_stage

NAME = "edgewright"
CRON = "0 2 * * *"
WEEKLY = "0 6 * * 1"


def deploy(schedule: dict[str, Any], parameters: dict[str, Any], port: int = 4200) -> int:
    """Register the deployment and execute its runs until Ctrl-C."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "INFO")  # here nobody else tells of the runs
    server.quiet()
    with ExitStack() as stack:
        if not server.named_url():
            page = ui.prefect_page(port)
            tell("starting a Prefect server")
            stack.enter_context(ui.running([page]))
            os.environ["PREFECT_API_URL"] = f"{page.url}/api"
        _serve(schedule, parameters)
    return EXIT_OK


def _serve(schedule: dict[str, Any], parameters: dict[str, Any]) -> None:
    from prefect import serve
    from prefect.types.entrypoint import EntrypointType

    from flows.monitoring import scheduled, weekly
    from flows.nightly import nightly

    words = ", ".join(f"{key} {value}" for key, value in schedule.items())
    tell(f"serving nightly/{NAME} at {os.environ['PREFECT_API_URL']}: {words}; Ctrl-C stops")
    tell(f"run it now: prefect deployment run nightly/{NAME}")
    one_by_one: Any = {  # a second run waits on the server; by file, flows/ itself would land on sys.path
        "concurrency_limit": 1, "entrypoint_type": EntrypointType.MODULE_PATH,
    }  # fmt: skip
    every = config.load().monitor.window_s
    made: list[Any] = [
        nightly.to_deployment(NAME, parameters=parameters, **one_by_one, **schedule),
        scheduled.to_deployment(NAME, interval=every, **one_by_one),
        weekly.to_deployment(NAME, cron=WEEKLY, **one_by_one),
    ]
    serve(*made, pause_on_shutdown=False, print_starting_message=False)


def schedule(cron: str | None, interval: float | None) -> dict[str, Any]:
    """What `serve` is told; raises ConfigError for a cron line that cannot be read.

    >>> schedule(None, None), schedule(None, 15), schedule("0 4 * * 1", None)
    ({'cron': '0 2 * * *'}, {'interval': 15}, {'cron': '0 4 * * 1'})
    """
    if interval is not None:
        if interval <= 0:
            raise ConfigError(f"--interval {interval} must be above 0 seconds")
        return {"interval": interval}
    chosen = cron or CRON
    if len(chosen.split()) != 5:
        raise ConfigError(f"--cron {chosen!r} must have five fields: minute hour day month weekday, e.g. {CRON!r}")
    return {"cron": chosen}


def parser() -> argparse.ArgumentParser:
    """Command line of `make deploy`."""
    made = argparse.ArgumentParser(
        prog="python -m flows.deploy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    when = made.add_mutually_exclusive_group()
    when.add_argument("--cron", help=f"five fields, server's time zone (default {CRON!r})")
    when.add_argument("--interval", type=float, metavar="SECONDS", help="instead of cron, for a demonstration")
    made.add_argument("--profile", choices=("full", "quick"))
    made.add_argument("--task-runner", choices=RUNNERS, default="local")
    made.add_argument("--dry-run", action="store_true", help="scheduled runs only print what they would do")
    made.add_argument("--prefect-port", type=int, default=4200, help="where to start a server when none is named")
    return made


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    arguments = parser().parse_args(argv)
    parameters = {
        "profile": arguments.profile,
        "task_runner": arguments.task_runner,
        "dry_run": arguments.dry_run,
    }
    return run_stage(lambda: deploy(schedule(arguments.cron, arguments.interval), parameters, arguments.prefect_port))


if __name__ == "__main__":
    raise SystemExit(main())
