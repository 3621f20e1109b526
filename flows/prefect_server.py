"""A Prefect API to report to: the one the user named, else a temporary one that ends with this process."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from flows.stop import stopping
from tasks.errors import ResourceError

START_LIMIT_S = 180.0  # the first start also creates Prefect's database
QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # the run says it itself; Prefect's UI has all of it
    "DASK_LOGGING__DISTRIBUTED": "critical",
}
NOISY = ("prefect", "httpx", "distributed", "bokeh")
TEMPORARY = {
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
    "PREFECT_UI_ENABLED": "0",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",  # it reports every retried write as an error
}


def quiet() -> None:
    """Keep Prefect's own lines and its telemetry out of the way; what the user set stays. Call before importing it."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    for handler in logging.getLogger().handlers:
        handler.addFilter(lambda record: record.name.split(".")[0] not in NOISY)


def healthy(api_url: str, timeout_s: float = 5.0) -> bool:
    """Whether a Prefect API answers at `api_url`."""
    try:
        with urllib.request.urlopen(f"{api_url.rstrip('/')}/health", timeout=timeout_s) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def named_url() -> str:
    """The API the user chose with PREFECT_API_URL; checked, so that a dead one is known before any work starts."""
    url = os.environ.get("PREFECT_API_URL", "")
    if url and not healthy(url):
        raise ResourceError(
            f"no Prefect server answers at PREFECT_API_URL={url}; start one (`make ui`, or `prefect server start`), "
            "or unset PREFECT_API_URL to run with a temporary one. Nothing was started, finished stages are kept."
        )
    return url


class Temporary:
    """A Prefect server in a child process; it starts in the background and ends with this one, however that ends."""

    def __init__(self) -> None:
        os.environ.setdefault("PREFECT_LOGGING_TO_API_ENABLED", "false")  # sent at exit, when the server is gone
        self.url = f"http://127.0.0.1:{free_port()}/api"
        port = self.url.split(":")[2].split("/")[0]
        self._child = subprocess.Popen(
            [sys.executable, "-m", "flows.prefect_server", port],
            stdin=subprocess.PIPE,
            env={**os.environ, **TEMPORARY},
            start_new_session=True,  # Ctrl-C ends the run, which still reports to it
        )

    def wait(self, limit_s: float = START_LIMIT_S) -> str:
        """Block until it answers; returns its address."""
        deadline = time.monotonic() + limit_s
        while not healthy(self.url, timeout_s=2.0):
            if self._child.poll() is not None:
                raise ResourceError(
                    f"the temporary Prefect server ended with code {self._child.returncode}; its lines are above. "
                    "`dvc repro` does the same work without Prefect."
                )
            if time.monotonic() > deadline:
                raise ResourceError(
                    f"the temporary Prefect server did not answer within {limit_s:.0f} s; run again, "
                    "or `dvc repro`, which does the same work without Prefect"
                )
            if stopping.wait(0.1):
                raise KeyboardInterrupt
        return self.url

    def stop(self) -> None:
        """End it."""
        self._child.terminate()
        try:
            self._child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


@contextmanager
def api() -> Iterator[Temporary | None]:
    """A server for the block: None when the user named one, else a temporary one on its way up."""
    if named_url():
        yield None
        return
    server = Temporary()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def reached(what: str, otherwise: str) -> Iterator[bool]:
    """Run Prefect flows in the block, on the server that is named or a temporary one; yields whether it is temporary.

    Raises ResourceError, with `otherwise` as what to do, where Prefect does not carry `what` to its end.
    """
    quiet()
    with api() as temporary:
        from httpx import HTTPError  # while the server comes up
        from prefect.exceptions import PrefectException
        from prefect.settings import PREFECT_API_URL, temporary_settings

        try:
            with temporary_settings({PREFECT_API_URL: temporary.wait()} if temporary else {}):
                yield temporary is not None
        except (HTTPError, PrefectException) as error:
            said = f"Prefect did not carry {what} to its end ({type(error).__name__}: {error}); {otherwise}"
            raise ResourceError(said) from error


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main(argv: list[str] | None = None) -> int:
    """Serve until stdin closes: the pipe closes even when the parent is killed."""
    port = int((argv or sys.argv[1:])[0])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import uvicorn
    from prefect.server.api.server import create_app

    uvicorn.run(create_app(), host="127.0.0.1", port=port, log_level="error", lifespan="on")
    return 0


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(0)


if __name__ == "__main__":
    raise SystemExit(main())
