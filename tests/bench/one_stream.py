"""One stream of tokens at a time: from the bare session in a process of its own, and from a server through HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.backends.table import tokens

ANSWER = 48  # tokens of an answer
LAST = 2048  # bytes that hold the end of a stream


def bare(request: Mapping[str, Any]) -> None:
    """The session alone, in a process of its own: for each line that comes in, one prompt's times go out."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what runtimes print belongs to the log
    session = tokens(request["backend"]).speaker(Path(request["artifact"]), request["threads"])
    session.generate(request["warm_up"], 4)
    out.write("ready\n")
    for line in sys.stdin:
        stamps: list[float] = []

        def stamp(_: int, stamps: list[float] = stamps) -> None:
            stamps.append(time.perf_counter())

        began = time.perf_counter()
        session.generate(request["prompts"][int(line)], ANSWER, stamp)
        assert len(stamps) == ANSWER, f"the bare session made {len(stamps)} tokens"
        out.write(json.dumps(_times(began, stamps)) + "\n")


def _times(began: float, stamps: Sequence[float]) -> dict[str, float]:
    """Seconds to the first piece of an answer of `ANSWER` tokens, and between its tokens, which may share a piece."""
    return {"first_s": stamps[0] - began, "gap_s": (stamps[-1] - stamps[0]) / (ANSWER - 1)}


@contextlib.contextmanager
def alone(folder: Path, variant: str, request: Mapping[str, Any]) -> Iterator[Callable[[int], dict[str, float]]]:
    """The bare session of one artifact, loaded; called with a prompt's number it answers with its times."""
    command = [sys.executable, "-m", "tests.bench.one_stream", json.dumps(request)]
    log = (folder / f"bare-{variant}.log").open("w")
    process = subprocess.Popen(
        command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, bufsize=1
    )
    assert process.stdin is not None and process.stdout is not None
    given, told = process.stdin, process.stdout

    def ask(number: int) -> dict[str, float]:
        given.write(f"{number}\n")
        answer: dict[str, float] = json.loads(told.readline())
        return answer

    try:
        if told.readline() != "ready\n":
            raise RuntimeError(f"the bare session did not load: {(folder / f'bare-{variant}.log').read_text()[-2000:]}")
        yield ask
    finally:
        given.close()
        process.wait(timeout=30)


def through_http(base: str, model: str, prompt: str) -> dict[str, float]:
    """One stream, timed as `bare` does it, by a client that only notes when a piece comes: it shares the machine."""
    return asked_for(base, "/v1/completions", {"model": model, "prompt": prompt, "ignore_eos": True})


def asked_for(base: str, path: str, request: Mapping[str, Any]) -> dict[str, float]:
    """The times of one stream of `ANSWER` tokens; raises RuntimeError for one that ends before."""
    body = json.dumps({**request, "max_tokens": ANSWER, "temperature": 0, "stream": True}).encode()
    host, port = base.removeprefix("http://").split(":")
    head = f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
    asked = f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body
    stamps: list[float] = []
    tail = b""
    with socket.create_connection((host, int(port)), timeout=60) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = time.perf_counter()
        line.sendall(asked)
        while data := line.recv(65536):
            stamps += [time.perf_counter()] * data.count(b"data: {")
            tail = (tail + data)[-LAST:]
    if b'"finish_reason":"length"' not in tail:  # then the last piece holds the last of its tokens
        raise RuntimeError(f"{base} broke off after {len(stamps)} pieces of an answer: {tail.decode()}")
    return _times(began, stamps[1:] if "chat" in path else stamps)  # a chat begins with who speaks


if __name__ == "__main__":
    bare(json.loads(sys.argv[1]))
