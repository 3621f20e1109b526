"""Prefect's, MLflow's and Evidently's pages for this checkout: start them, say where they are, stop them on Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from flows.progress import tell
from monitoring.collect.place import FOLDER
from tasks.errors import EXIT_OK, DataError, ResourceError
from tasks.registry import experiments
from tasks.registry.receipts import Tracked
from tasks.run.family import until_stopped
from tasks.run.stage import argument, main_of
from tasks.run.workspace import Workspace

HOST = "127.0.0.1"
START_LIMIT_S = 180.0
LOGS = Workspace().root / "logs"


@dataclass(frozen=True)
class Page:
    """A server that shows a page, and how to know that it answers."""

    name: str
    port: int
    health: str  # path that answers 200
    sign: str  # what its answer holds, so that another program on the port is not taken for it
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    opens: str = ""  # path at which a reader begins

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        return f"http://{HOST}:{self.port}"

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            with urllib.request.urlopen(f"{self.url}{self.health}", timeout=5) as answer:  # noqa: S310
                return self.sign in answer.read(65536).decode("utf-8", "replace")
        except (urllib.error.URLError, OSError, ValueError):
            return False


def prefect_page(port: int = 4200) -> Page:
    """Prefect's server; it shows the runs that temporary servers recorded too: they share its database."""
    return Page(
        "Prefect",
        port,
        "/api/health",
        "true",
        (sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)),
        {
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            # Held slots survive a restart; in memory they would stay taken for ever.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            "PREFECT_API_URL": f"http://{HOST}:{port}/api",
        },
    )


def mlflow_page(port: int = 5000) -> Page:
    """MLflow's server over this checkout's database, or over the one that MLFLOW_TRACKING_URI names."""
    store = os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlruns/mlflow.db")
    return Page(
        "MLflow",
        port,
        "/health",
        "OK",
        (sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--artifacts-destination",
         "mlruns/artifacts", "--host", HOST, "--port", str(port), "--workers", "1"),
        opens=experiments.page(_experiment()),
    )  # fmt: skip


def _experiment() -> str:
    """The id of the experiment of the last run; empty before the first."""
    try:
        return Tracked.read(Workspace().tracked).experiment_id
    except DataError:
        return ""


def evidently_page(port: int = 8000, workspace: Path = FOLDER / "evidently") -> Page:
    """Evidently's server over what the monitor compared."""
    own = ("--workspace", str(workspace), "--host", HOST, "--port", str(port))
    command = (sys.executable, "-m", "evidently.cli", "ui", *own)
    return Page("Evidently", port, "/api/version", "Evidently UI", command, {"DO_NOT_TRACK": "1"})


@contextmanager
def running(pages: Sequence[Page]) -> Iterator[None]:
    """Keep the pages up for the block; one that is up already is used and left alone."""
    with ExitStack() as stack:
        started = {page.name: stack.enter_context(_child(page)) for page in pages if not page.answers()}
        deadline = time.monotonic() + START_LIMIT_S
        for page in pages:
            _wait(page, started.get(page.name), deadline)
        yield


@contextmanager
def _child(page: Page) -> Iterator[subprocess.Popen[bytes]]:
    """The page's server in a group of its own, so that Ctrl-C reaches it only through us."""
    LOGS.mkdir(parents=True, exist_ok=True)
    with _log(page).open("wb") as log:
        child = subprocess.Popen(
            page.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **page.environment},
            start_new_session=True,
        )
    try:
        yield child
    finally:
        _stop(child)


def _log(page: Page) -> Path:
    return LOGS / f"{page.name.lower()}.log"


def _wait(page: Page, child: subprocess.Popen[bytes] | None, deadline: float) -> None:
    while not page.answers():
        if child is not None and child.poll() is not None:
            raise ResourceError(
                f"{page.name} ended with code {child.returncode}; is port {page.port} taken by another program? "
                f"Its own words: {_log(page)}"
            )
        if time.monotonic() > deadline:
            raise ResourceError(
                f"{page.name} does not answer at {page.url} after {START_LIMIT_S:.0f} s; see {_log(page)}"
            )
        time.sleep(0.3)


def _stop(child: subprocess.Popen[bytes]) -> None:
    for end in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, end)
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout=15)
            break
    with suppress(ProcessLookupError):  # workers that outlived their parent
        os.killpg(child.pid, signal.SIGKILL)


def show(pages: Sequence[Page], check: bool) -> int:
    """Start the pages and say where they are; with `check` stop at once, else on Ctrl-C."""
    tell(f"starting {' and '.join(page.name for page in pages)}")
    with running(pages):
        for page in pages:
            tell(f"{page.name:<8} {page.url}{page.opens}")
        report = Workspace().report / "index.html"
        tell(f"{'Report':<8} {report.resolve() if report.exists() else 'none yet: `make run` writes one'}")
        if not check:
            tell("Ctrl-C stops them")
            with suppress(KeyboardInterrupt):
                signal.pause()
    tell("stopped")
    return EXIT_OK


def command(check: bool, prefect_port: int, mlflow_port: int, evidently_port: int) -> int:
    """Show the pages there are: Evidently's once a monitor has compared something."""
    pages = [prefect_page(prefect_port), mlflow_page(mlflow_port)]
    if (FOLDER / "evidently").is_dir():
        pages.append(evidently_page(evidently_port))
    return show(pages, check)


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    arguments = (
        argument("--check", action="store_true", help="start them, see that they answer, and stop"),
        argument("--prefect-port", type=int, default=4200),
        argument("--mlflow-port", type=int, default=5000),
        argument("--evidently-port", type=int, default=8000),
    )
    return until_stopped(lambda: main_of("flows.ui", __doc__, command, argv, *arguments))


if __name__ == "__main__":
    raise SystemExit(main())
