"""What a pod's container runs, run on this machine: the same module and arguments, at a free port of loopback."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.errors import ResourceError
from tasks.targets.cluster.manifests import READY

START_S, ASK_S, STOP_S = 180.0, 60.0, 40.0
API_KEY = "EDGEWRIGHT_API_KEY"


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    base: str
    start_s: float  # from its start to its first ready

    def get(self, path: str) -> str:
        """The text at a path."""
        with urllib.request.urlopen(f"{self.base}{path}", timeout=ASK_S) as answer:  # noqa: S310 - loopback
            return str(answer.read().decode())

    def ask(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Status and JSON of a request."""
        request = urllib.request.Request(  # noqa: S310 - loopback
            f"{self.base}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=ASK_S) as answer:  # noqa: S310 - loopback
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)


def here(arguments: Sequence[str], package: Path, log: Path) -> list[str]:
    """A container's arguments with its folders, address and port as they are on this machine.

    >>> here(["--package", "/package", "--host", "0.0.0.0", "--slots", "8"], Path("p"), Path("l"))
    ['--package', 'p', '--host', '127.0.0.1', '--slots', '8']
    """
    own = {"--package": str(package), "--host": "127.0.0.1", "--port": "0", "--log": str(log)}
    made = list(arguments)
    for number, word in enumerate(made[:-1]):
        made[number + 1] = own.get(word, made[number + 1])
    return made


@contextmanager
def running(container: dict[str, Any], package: Path, scratch: Path) -> Iterator[Running]:
    """Run a container's command until the block ends; raises ResourceError, with its last words, where it fails."""
    command = [sys.executable, *container["command"][1:], *here(container["args"], package, scratch / "log")]
    environment = {name: value for name, value in os.environ.items() if name != API_KEY}
    began = time.monotonic()
    with (scratch / "words.txt").open("wb") as words:
        process = subprocess.Popen(command, env=environment, stdout=words, stderr=words, stdin=subprocess.DEVNULL)
    try:
        base = _ready(process, scratch, began)
        yield Running(base, time.monotonic() - began)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ready(process: subprocess.Popen[bytes], scratch: Path, began: float) -> str:
    address = scratch / "log" / "address.json"
    while time.monotonic() - began < START_S and process.poll() is None:
        if address.is_file():
            found = json.loads(address.read_bytes())
            base = f"http://{found['host']}:{found['port']}"
            with (
                contextlib.suppress(urllib.error.URLError, OSError),
                urllib.request.urlopen(f"{base}{READY}", timeout=5),  # noqa: S310 - loopback
            ):
                return base
        time.sleep(0.1)
    words = (scratch / "words.txt").read_text(errors="replace").splitlines()
    said = "; ".join(one for one in words if not one.startswith("{"))[-600:]  # a line of JSON is a request
    ended = f"it ended with {process.returncode}" if process.poll() is not None else f"not ready after {START_S:g} s"
    raise ResourceError(f"{ended}: {said or 'it said nothing'}")
