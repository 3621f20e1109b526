"""Serve what runs by a schedule: nightly re-optimization, monitor, weekly review; this process executes it.

Without PREFECT_API_URL a Prefect server is started on port 4200 and stopped with this command. The schedule belongs to
the server: while nothing serves, runs wait there.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any

from flows import prefect_server, ui
from flows.progress import tell
from flows.run import RUNNERS
from tasks.errors import EXIT_OK, ConfigError
from tasks.params.whole import load_whole
from tasks.run.family import until_stopped
from tasks.run.stage import argument, main_of

NAME = "edgewright"
CRON = "0 2 * * *"
WEEKLY = "0 6 * * 1"


def deploy(schedule: dict[str, Any], parameters: dict[str, Any], port: int = 4200) -> int:
    """Register the deployment and execute its runs until Ctrl-C."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "INFO")  # here nobody else tells of the runs
    prefect_server.quiet()
    with ExitStack() as stack:
        if not prefect_server.named_url():
            page = ui.prefect_page(port)
            tell("starting a Prefect server")
            stack.enter_context(ui.running([page]))
            os.environ["PREFECT_API_URL"] = f"{page.url}/api"
        _serve(schedule, parameters)
    return EXIT_OK


def _serve(schedule: dict[str, Any], parameters: dict[str, Any]) -> None:
    from prefect import serve
    from prefect.types.entrypoint import EntrypointType

    from flows.monitor import scheduled, weekly
    from flows.nightly import nightly

    words = ", ".join(f"{key} {value}" for key, value in schedule.items())
    tell(f"serving nightly/{NAME} at {os.environ['PREFECT_API_URL']}: {words}; Ctrl-C stops")
    tell(f"run it now: prefect deployment run nightly/{NAME}")
    one_by_one: Any = {  # a second run waits on the server; by file, flows/ itself would land on sys.path
        "concurrency_limit": 1, "entrypoint_type": EntrypointType.MODULE_PATH,
    }  # fmt: skip
    every = load_whole().monitor.window_s
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


def command(
    cron: str | None, interval: float | None, profile: str | None, task_runner: str, dry_run: bool, prefect_port: int
) -> int:
    """Deploy with the settings of the command line."""
    parameters = {"profile": profile, "task_runner": task_runner, "dry_run": dry_run}
    return deploy(schedule(cron, interval), parameters, prefect_port)


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    when = (
        argument("--cron", help=f"five fields, server's time zone (default {CRON!r})"),
        argument("--interval", type=float, metavar="SECONDS", help="instead of cron, for a demonstration"),
    )
    arguments = (
        argument("--profile", choices=("full", "quick")),
        argument("--task-runner", choices=RUNNERS, default="local"),
        argument("--dry-run", action="store_true", help="scheduled runs only print what they would do"),
        argument("--prefect-port", type=int, default=4200, help="where to start a server when none is named"),
    )
    return until_stopped(lambda: main_of("flows.deploy", __doc__, command, argv, when, *arguments))


if __name__ == "__main__":
    raise SystemExit(main())
