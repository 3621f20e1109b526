"""Triton's own server in a child process: its environment, started on loopback, asked over HTTP, stopped whole.

The server is that of the wheel `nvidia-pytriton`, which has the Python backend and no other. Its environment is apart,
as the backend answers wrongly with NumPy 2. `python -m tasks.targets.triton.server` makes it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from tasks.errors import ResourceError, UnsupportedError
from tasks.targets.triton.config import FILE, RATE_LIMIT

VARIABLE = "EDGEWRIGHT_TRITON"
COMMAND = "python -m tasks.targets.triton.server"
REQUIREMENTS = Path(__file__).parents[1] / "templates" / "triton" / "requirements.txt"
INSIDE = "lib/python*/site-packages/pytriton/tritonserver"
SYSTEM = "/usr/bin:/usr/local/bin"  # where a Python with a shared library is, which the backend's stub loads
INSTALL_S, START_S, STOP_S, ASK_S = 1800.0, 180.0, 20.0, 180.0
TAIL = 2000


class Memory(NamedTuple):
    """What is resident, MB (10**6 bytes): memory of its own, and pages of files."""

    anon: float
    file: float


def found() -> Path | None:
    """The server's environment, if there is one: the folder that EDGEWRIGHT_TRITON names, or the one made before."""
    named = os.environ.get(VARIABLE)
    place = Path(named).absolute() if named else _kept()
    return place if _server(place) is not None and _stub(place) is not None else None


def absent() -> str:
    """Why the server is not started, and what makes it."""
    return f"Triton's server is not installed here; `{COMMAND}` makes its environment, or {VARIABLE} names one"


def environment() -> Path:
    """The server's environment, made when it is not there; takes minutes and 1 GB.

    Raises UnsupportedError where no Python with a shared library is, ResourceError where a package cannot be had.
    """
    if (there := found()) is not None:
        return there
    python = shutil.which("python3", path=SYSTEM)
    if python is None:
        raise UnsupportedError(f"Triton's Python backend loads the system's libpython, and no python3 is in {SYSTEM}")
    place = _kept()
    partial = place.with_name(f".{place.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    print(f"Triton's environment: {REQUIREMENTS.name} into {place} ...", flush=True)
    _done([python, "-m", "venv", "--without-pip", str(partial)])
    pip = [sys.executable, "-m", "pip"] if _has_pip(sys.executable) else [python, "-m", "pip"]
    _done([*pip, "--python", str(partial / "bin" / "python3"), "install", "-q", "--no-deps", "-r", str(REQUIREMENTS)])
    _place_stub(partial)
    shutil.rmtree(place, ignore_errors=True)
    partial.rename(place)
    return place


def _kept() -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "edgewright" / "triton" / hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]


def _has_pip(python: str) -> bool:
    return subprocess.run([python, "-m", "pip", "--version"], capture_output=True, timeout=60).returncode == 0


def _done(command: Sequence[str]) -> None:
    made = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S)
    if made.returncode:
        raise ResourceError(f"{' '.join(command[:4])} ... failed: {(made.stderr or made.stdout).strip()[-TAIL:]}")


def _server(place: Path) -> Path | None:
    return next(place.glob(f"{INSIDE}/bin/tritonserver"), None)


def _stub(place: Path) -> Path | None:
    return next(place.glob(f"{INSIDE}/backends/python/triton_python_backend_stub"), None)


def _place_stub(place: Path) -> None:
    """Put the stub for this environment's Python where its own library path is right, and let both be run."""
    server = _server(place)
    version = next(place.glob("lib/python3*")).name.removeprefix("python")
    stub = server.parent.parent / "python_backend_stubs" / version / "triton_python_backend_stub" if server else None
    if server is None or stub is None or not stub.is_file():
        raise UnsupportedError(f"nvidia-pytriton has no stub for Python {version}")
    to = server.parent.parent / "backends" / "python" / stub.name
    shutil.copyfile(stub, to)
    for file in (server, to):
        file.chmod(0o755)


class Server:
    """A server that runs: where it listens, its log, and questions over HTTP."""

    def __init__(self, process: subprocess.Popen[bytes], ports: Sequence[int], log: Path) -> None:
        """Of a process that was just started."""
        self.process, self.log = process, log
        self.http, self.metrics_port = f"http://127.0.0.1:{ports[0]}", ports[2]

    def wait(self) -> None:
        """Until it is ready; raises UnsupportedError with its last words when it ends or takes too long."""
        limit = time.monotonic() + START_S
        while time.monotonic() < limit and self.process.poll() is None:
            with suppress(OSError), urllib.request.urlopen(f"{self.http}/v2/health/ready", timeout=2):  # noqa: S310
                return
            time.sleep(0.2)
        code = self.process.poll()
        ended = f"ended with {code}" if code is not None else f"was not ready after {START_S:g} s"
        raise UnsupportedError(f"tritonserver {ended}: {complaint(self.said())}")

    def said(self) -> str:
        """What it wrote so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def infer(self, model: str, inputs: Mapping[str, tuple[str, Sequence[int], Sequence[Any]]]) -> dict[str, Any]:
        """Outputs by name; inputs are (type as KServe names it, shape, flat values). Raises ValueError for refusals."""
        told = [
            {"name": name, "datatype": kind, "shape": list(shape), "data": list(values)}
            for name, (kind, shape, values) in inputs.items()
        ]
        raw = json.loads(self._post(f"/v2/models/{model}/infer", {"inputs": told}))
        return {one["name"]: one["data"] for one in raw["outputs"]}

    def stream(self, model: str, asked: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Events of a stream, in their order."""
        lines = self._post(f"/v2/models/{model}/generate_stream", asked).decode().splitlines()
        return [json.loads(line.removeprefix("data:")) for line in lines if line.startswith("data:")]

    def metric(self, name: str, model: str) -> float:
        """A counter of one model, as its metrics tell it now; 0 where it is not told."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10) as page:
            text = page.read().decode()
        lines = re.findall(rf'^{name}{{[^}}]*model="{re.escape(model)}"[^}}]*}} (\S+)$', text, re.MULTILINE)
        return sum(map(float, lines))

    def memory(self) -> Memory | None:
        """Resident memory of the server and its backends; None where the system does not tell it apart."""
        anon = file = 0
        with suppress(psutil.Error, OSError):
            for one in [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]:
                told = dict(re.findall(r"^(RssAnon|RssFile):\s+(\d+) kB", _status(one.pid), re.MULTILINE))
                anon, file = anon + int(told.get("RssAnon", 0)), file + int(told.get("RssFile", 0))
        return Memory(round(anon * 1024 / 1e6, 1), round(file * 1024 / 1e6, 1)) if anon else None

    def _post(self, path: str, body: Mapping[str, Any]) -> bytes:
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(self.http + path, json.dumps(body).encode(), headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=ASK_S) as answer:  # noqa: S310
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            raise ValueError(f"{error.code}: {error.read().decode(errors='replace')}") from error


def _status(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text(encoding="utf-8")


@contextmanager
def running(place: Path, repository: Path) -> Iterator[Server]:
    """A ready server of one repository; it and whatever it started are gone at the end.

    Raises UnsupportedError with the server's words when it does not take the repository.
    """
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgewright-triton-")))
        server = stack.enter_context(_started(place, _linked(repository, scratch), scratch / "log.txt"))
        server.wait()
        yield server


def _linked(repository: Path, scratch: Path) -> Path:
    """The repository by links, with what lies beside it: the server's Python writes compiled files into it."""
    beside = scratch / "bundle"
    beside.mkdir()
    for one in repository.absolute().parent.iterdir():
        if one.name == repository.name:
            shutil.copytree(one, beside / one.name, copy_function=os.symlink)
        else:
            (beside / one.name).symlink_to(one)
    return beside / repository.name


def refusal(place: Path, repository: Path) -> str:
    """The server's words when it does not take a repository; empty when it does."""
    try:
        with running(place, repository):
            return ""
    except UnsupportedError as error:
        return str(error)


def complaint(log: str) -> str:
    """What matters in the server's log: the reasons it gives, or its last words."""
    table = re.findall(r"UNAVAILABLE: (.+?)\s*\|?$", log, re.MULTILINE)
    errors = [line.split("] ", 1)[-1] for line in log.splitlines() if re.match(r"E\d{4}|\[libprotobuf ERROR", line)]
    errors = [one for one in errors if "CudaDriverHelper" not in one]  # said wherever there is no GPU
    told = list(dict.fromkeys(one.strip().strip('"') for one in errors or table))
    return "; ".join(told)[-TAIL:] or log.strip()[-TAIL:]


@contextmanager
def _started(place: Path, repository: Path, log: Path) -> Iterator[Server]:
    server, ports, prefix = _server(place), free_ports(3), f"edgewright{secrets.token_hex(6)}"
    if server is None:
        raise UnsupportedError(f"{place} has no tritonserver; `{COMMAND}` makes an environment that has")
    command = [
        str(server), f"--model-repository={repository}", f"--backend-directory={server.parent.parent / 'backends'}",
        "--exit-on-error=true", "--disable-auto-complete-config", "--allow-gpu-metrics=false", "--exit-timeout-secs=10",
        *(f"--{one}-address=127.0.0.1" for one in ("http", "grpc", "metrics")),
        *(f"--{one}-port={port}" for one, port in zip(("http", "grpc", "metrics"), ports, strict=True)),
        f"--backend-config=python,shm-region-prefix-name={prefix}",
    ]  # fmt: skip
    if any("rate_limiter" in file.read_text(encoding="utf-8") for file in repository.glob(f"*/{FILE}")):
        command.append(RATE_LIMIT)
    # The stub takes its packages from the first python3 on the path; ours must not come in between.
    ours = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    told = {name: value for name, value in os.environ.items() if name not in ours}
    told["PATH"] = f"{place / 'bin'}{os.pathsep}{told.get('PATH', '')}"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=told, start_new_session=True
        )
    try:
        yield Server(process, ports, log)
    finally:
        _stop(process)
        for file in Path("/dev/shm").glob(f"{prefix}*"):  # noqa: S108 - what a killed server left
            file.unlink(missing_ok=True)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Let it finish what is under way, then end it and its backends, which are of its session."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(STOP_S)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on."""
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in taken:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in taken]


if __name__ == "__main__":
    print(environment())
