"""The servers that are timed beside each other: ours, and llama-cpp-python's own."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from tasks.backends.gguf.context import flash

CONTEXT, START_S = 512, 120


@contextlib.contextmanager
def ours(folder: Path, variant: str, package: Path, slots: int) -> Iterator[str]:
    """Our server of one package; its address."""
    command = [
        sys.executable, "-m", "tasks.serve", "--package", str(package), "--name", variant, "--port", "0",
        "--slots", str(slots), "--log", str(folder / "log"),
    ]  # fmt: skip
    log = (folder / f"{variant}.log").open("w")
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if " at http://" not in line:
            raise RuntimeError(f"the server of {variant} did not start: {(folder / f'{variant}.log').read_text()}")
        yield line.split(" at ")[1].split("/v1")[0]
    finally:
        _end(process)


@contextlib.contextmanager
def peer(folder: Path, file: Path, threads: int) -> Iterator[str]:
    """llama-cpp-python's own server of the same file; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "llama_cpp.server", "--model", str(file), "--host", "127.0.0.1", "--port", str(port),
        "--n_ctx", str(CONTEXT), "--n_threads", str(threads), "--n_threads_batch", str(threads),
        "--flash_attn", str(flash({})), "--interrupt_requests", "False", "--verbose", "False",
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=(folder / "peer.log").open("w"))
    try:
        base, until = f"http://127.0.0.1:{port}", time.monotonic() + START_S
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{base}/v1/models").status_code == 200:
                    break
            if time.monotonic() > until or process.poll() is not None:
                raise RuntimeError(f"llama_cpp.server did not start: {(folder / 'peer.log').read_text()[-2000:]}")
            time.sleep(0.2)
        yield base
    finally:
        _end(process)


def _end(process: subprocess.Popen[Any]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
