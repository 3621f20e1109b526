"""The flows `monitor` and `weekly`: a window of the traffic, and the review of a week."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact

from flows import monitor as command
from flows import weekly as review
from monitoring.metrics import BY_NAME
from monitoring.watch import Watch, held
from monitoring.windows import Window
from tasks import config

NICE = 10  # the server's callers come first, also before an optimization that is started from here


@task(name="look", retries=0)
def look(folder: str, kept: str, url: str, packages: Sequence[str]) -> tuple[Window, str]:
    """Collect, compare, judge, tell, repair."""
    give_way()
    params = config.load()
    where = command.place(Path(folder), url, Path(kept))
    watching = Watch(where, params.monitor)
    window = watching.look(command.world(where, params, [Path(one) for one in packages]))
    return window, command.told(window, watching)


@flow(name="monitor", log_prints=True)
def monitor(
    folder: str = "artifacts/serve", kept: str = "artifacts/monitor", url: str = "", packages: Sequence[str] = ()
) -> str:
    """Take one window; returns it in a line."""
    window, said = look(folder, kept, url or _url(), packages)
    create_markdown_artifact(key="window", markdown=table(window), description=said)
    return said


@flow(name="scheduled-monitor", log_prints=True)
def scheduled() -> str:
    """The same, by a schedule: one monitor at a time."""
    with held(Path("artifacts/monitor")):
        return monitor()


@flow(name="weekly", log_prints=True)
def weekly() -> str:
    """The review of the last seven days."""
    file = review.write()
    create_markdown_artifact(key="weekly", markdown=file.read_text(encoding="utf-8"))
    return str(file)


def give_way() -> None:
    """Let what serves go first; as often as one likes, and never back up."""
    os.setpriority(os.PRIO_PROCESS, 0, max(NICE, os.getpriority(os.PRIO_PROCESS, 0)))


def _url() -> str:
    serve = config.load().serve
    return f"http://{serve.host}:{serve.port}"


def table(window: Window) -> str:
    """The figures of a window."""
    rows = []
    for name, one in window.figures.items():
        value = "-" if one.value is None else f"{one.value:.4g}"
        interval = f"{one.low:.4g} to {one.high:.4g}" if one.low is not None and one.high is not None else ""
        rows.append(f"| {BY_NAME[name].title} | {value} | {interval} | {one.count} | {one.note} |")
    head = "| figure | value | 95% interval | requests | note |\n|---|---|---|---|---|\n"
    return head + "\n".join(rows)
