"""Watch the server: a window of its traffic as figures, drift, alerts, and repairs that are really made.

Without --every one window is taken, from where the last one ended. `--show` says what was seen last and does nothing.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flows import prefect_server, progress
from monitoring import setup
from monitoring.collect.metrics import BY_NAME
from monitoring.collect.place import FOLDER, Place
from monitoring.collect.windows import Window
from monitoring.show import weekly as review
from monitoring.watch import Watch, held
from tasks.errors import EXIT_OK, ConfigError
from tasks.measure import guard
from tasks.params.whole import Whole, load_whole
from tasks.promotion import store as rollouts
from tasks.run.family import until_stopped
from tasks.run.stage import argument, main_of

NICE = 10  # the server's callers come first, also before an optimization that is started from here
NEVER = "; nothing was ever served here, so that nothing is watched yet: `make serve` or `make route` begins"
WITHIN_S = 0.5  # of its time, the loop wakes up
SHOWN = ("requests_per_s", "error_rate", "first_token_p95_ms", "inter_token_p50_ms", "memory_mb", "confidence_p50")


# -- one window --------------------------------------------------------------------------------------------------------


def look(folder: str, kept: str, url: str, packages: Sequence[str]) -> tuple[Window, str]:
    """Collect, compare, judge, tell, repair; returns the window, and it in a line."""
    give_way()
    params = load_whole()
    where = setup.place(Path(folder), url, Path(kept))
    watching = Watch(where, params.monitor)
    window = watching.look(setup.world(where, params, [Path(one) for one in packages]))
    return window, told(window, watching) + (NEVER if not where.served and window.number == 1 else "")


def give_way() -> None:
    """Let what serves go first; as often as one likes, and never back up."""
    os.setpriority(os.PRIO_PROCESS, 0, max(NICE, os.getpriority(os.PRIO_PROCESS, 0)))


def told(window: Window, watching: Watch) -> str:
    """One window in a line."""
    values = ", ".join(
        f"{name} {one.value:.4g}" for name in SHOWN if (one := window.figures.get(name)) and one.value is not None
    )
    firing = [alert.name for alert in watching.state.alerts if alert.fired]
    problems = "; ".join(f"{count} x {name}" for name, count in window.problems.items())
    return (
        f"window {window.number}: {window.rows} requests, {values or 'no figures'}; "
        f"drift: {window.drift} ({window.why}); alerts: {', '.join(firing) or 'none'}"
        + (f"; skipped: {problems}" if problems else "")
    )


def table(window: Window) -> str:
    """The figures of a window as a table."""
    rows = []
    for name, one in window.figures.items():
        value = "-" if one.value is None else f"{one.value:.4g}"
        interval = f"{one.low:.4g} to {one.high:.4g}" if one.low is not None and one.high is not None else ""
        rows.append(f"| {BY_NAME[name].title} | {value} | {interval} | {one.count} | {one.note} |")
    head = "| figure | value | 95% interval | requests | note |\n|---|---|---|---|---|\n"
    return head + "\n".join(rows)


# -- the flows ---------------------------------------------------------------------------------------------------------


@functools.cache
def flows() -> Mapping[str, Any]:
    """The flows `monitor`, `scheduled` and `weekly`, by the names that deployments find them by.

    They are built when they are wanted: Prefect reads its settings when it is imported, and `--show` needs none of it.
    """
    from prefect import flow, task
    from prefect.artifacts import create_markdown_artifact

    looked = task(name="look", retries=0)(look)

    @flow(name="monitor", log_prints=True)
    def monitor(
        folder: str = str(rollouts.FOLDER), kept: str = str(FOLDER), url: str = "", packages: Sequence[str] = ()
    ) -> str:
        """Take one window; returns it in a line."""
        window, said = looked(folder, kept, url or address(load_whole()), packages)
        create_markdown_artifact(key="window", markdown=table(window), description=said)
        return said

    @flow(name="scheduled-monitor", log_prints=True)
    def scheduled() -> str:
        """Take one window by a schedule: one monitor at a time, and between two timings where any are made."""
        with held(FOLDER), guard.quiet():
            return monitor()

    @flow(name="weekly", log_prints=True)
    def weekly() -> str:
        """Write the review of the last seven days."""
        file = review.write()
        create_markdown_artifact(key="weekly", markdown=file.read_text(encoding="utf-8"))
        return str(file)

    return {"monitor": monitor, "scheduled": scheduled, "weekly": weekly}


def __getattr__(name: str) -> Any:
    """A flow as an attribute of this module: so a deployment's entry point, `flows.monitor.scheduled`, finds it."""
    if name in ("monitor", "scheduled", "weekly"):
        return flows()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# -- the command -------------------------------------------------------------------------------------------------------


def shown(watching: Watch) -> list[str]:
    """What was seen last."""
    state = watching.state
    lines = [told(window, watching) for window in state.windows[-5:]] or ["no window was taken yet"]
    lines += [f"{one.name} [{one.severity}] {'fires' if one.fired else 'pending'}: {one.said}" for one in state.alerts]
    lines += [f"{one.when} {one.alert}: {one.step} {one.outcome}: {one.said}" for one in state.shown[-12:]]
    if state.repair:
        lines.append(f"under way against {state.repair.alert}: {state.repair.steps[0]}, {state.repair.done}")
    return lines


def address(params: Whole) -> str:
    """Where the server is, by params.yaml."""
    return f"http://{params.serve.host}:{params.serve.port}"


def run(where: Place, every: float | None, packages: Sequence[Path]) -> int:
    """Take windows until stopped, each by the flow `monitor`."""
    with prefect_server.reached("the monitor", "what it has seen is kept, the next `make monitor` goes on"):
        monitor = flows()["monitor"]
        while True:
            began = time.monotonic()
            progress.tell(monitor(str(where.store.folder), str(where.folder), where.url, [str(p) for p in packages]))
            if every is None:
                return EXIT_OK
            while time.monotonic() - began < every:
                time.sleep(WITHIN_S)


def command(
    folder: Path, kept: Path, url: str | None, every: float | None, package: Sequence[Path], show: bool, json: bool
) -> int:
    """Watch the server of `folder`, or say what was seen last."""
    params = load_whole()
    if every is not None and every <= 0:
        raise ConfigError(f"--every {every:g} must be above 0 seconds")
    where = setup.place(folder, url or address(params), kept)
    if show or json:
        watching = Watch(where, params.monitor)
        print(watching.state.model_dump_json(indent=2) if json else "\n".join(shown(watching)))
        return EXIT_OK
    with held(where.folder):
        return run(where, every, package)


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    return until_stopped(
        lambda: main_of(
            "flows.monitor", __doc__, command, argv,
            argument("--folder", type=Path, default=rollouts.FOLDER, help=f"the server's ({rollouts.FOLDER})"),
            argument("--kept", type=Path, default=FOLDER, help=f"the monitor's own ({FOLDER})"),
            argument("--url", help="the server's address, for /metrics (serve.host and serve.port)"),
            argument("--every", type=float, metavar="SECONDS", help="a window so often, until stopped"),
            argument("--package", type=Path, action="append", default=[], help="a version to choose (the registry's)"),
            argument("--show", action="store_true", help="what was seen last"),
            argument("--json", action="store_true", help="the same as JSON"),
        )
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
