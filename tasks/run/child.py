"""Run one piece of work in a fresh child process with limits; a crash becomes a record, never the end of the run."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import psutil

from tasks.errors import ChildError
from tasks.params.pipeline import Limits
from tasks.records.base import Record
from tasks.run.surroundings import for_weights

HEARTBEAT_S = 15.0
POLL_S = 0.5
LOG_TAIL = 2000

A = TypeVar("A", bound=Record)
Kind = Literal["unsupported", "bad-input", "crash", "timeout", "memory", "killed"]


@dataclass(frozen=True)
class Child:
    """A function to run in a child process: `work` is "package.module:function", from one record to another."""

    work: str
    request: Record
    limits: Limits
    log: Path  # everything the child prints
    label: str  # for the progress lines
    threads: int = 0  # 0: the libraries' own choice
    timed: bool = False  # threads spin while they wait, as in service; else they yield to whatever else runs
    environment: Mapping[str, str] = field(default_factory=dict)  # beside what is inherited


def run_child(child: Child, answer: type[A]) -> A:
    """Run the work in a child process and return its answer, a record; raises ChildError with the kind of failure.

    The child reads its request from a file beside the log, answers with one JSON line, and ends by itself when this
    process dies: its standard input is a pipe from here.
    """
    child.log.parent.mkdir(parents=True, exist_ok=True)
    request = child.log.with_suffix(".request.json")
    request.write_text(child.request.model_dump_json())
    started = time.monotonic()
    with child.log.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tasks.run.worker", child.work, str(request)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            env=_environment(child), start_new_session=True,
        )  # fmt: skip
        said: list[bytes] = []
        assert process.stdout is not None
        reader = threading.Thread(target=lambda out=process.stdout: said.append(out.read()), daemon=True)
        reader.start()
        try:
            broken = _watch(process, child, started)
        finally:
            _kill_tree(process)
        reader.join(timeout=5)
    return answer.model_validate(_judge(process.returncode, b"".join(said), broken, child))


def _environment(child: Child) -> dict[str, str]:
    quiet = {"TOKENIZERS_PARALLELISM": "false", "DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1"}
    threads = str(child.threads)
    counts = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads} if child.threads else {}
    # Two spinning processes on two cores stop each other for a scheduler's slice at every barrier.
    waiting = {} if child.timed else {"OMP_WAIT_POLICY": "PASSIVE"}
    return {**os.environ, **for_weights(), **quiet, **counts, **waiting, **child.environment}


def _watch(process: subprocess.Popen[bytes], child: Child, started: float) -> ChildError | None:
    """Wait for the end, within the limits; say every now and then that the work goes on."""
    said = started
    while True:
        try:
            process.wait(timeout=POLL_S)
            return None
        except subprocess.TimeoutExpired:
            now = time.monotonic()
        if now - started > child.limits.timeout_s:
            return ChildError(f"took longer than {child.limits.timeout_s:.0f} s and was stopped", kind="timeout")
        used = resident_mb(process.pid)
        if used > child.limits.memory_mb:
            return ChildError(
                f"needed {used:.0f} MB, over the limit of {child.limits.memory_mb:.0f} MB, and was stopped",
                kind="memory",
            )
        if now - said >= HEARTBEAT_S:
            said = now
            print(f"  ... {child.label}: {now - started:.0f} s", file=sys.stderr, flush=True)


def resident_mb(pid: int) -> float:
    """Resident memory of a process and its descendants, MB (2**20 bytes)."""
    total = 0
    try:
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            total += process.memory_info().rss
    except psutil.NoSuchProcess:
        pass  # it ended between listing and reading
    return total / 2**20


def _kill_tree(process: subprocess.Popen[bytes]) -> None:
    """End the child and whatever it started; a survivor would hold the answer's pipe open."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin:
        process.stdin.close()


def _judge(code: int, out: bytes, broken: ChildError | None, child: Child) -> dict[str, Any]:
    tail = child.log.read_text(errors="replace")[-LOG_TAIL:]
    if broken:
        raise ChildError(str(broken), kind=broken.kind, log_tail=tail)
    answer = _last_json(out)
    if answer is not None and answer.get("ok") is True:
        return dict(answer["result"])
    if answer is not None:
        raise ChildError(str(answer["reason"]), kind=str(answer["kind"]), log_tail=tail)
    if code < 0:
        name = signal.Signals(-code).name
        hint = " (the system kills so when memory runs out)" if -code == signal.SIGKILL else ""
        raise ChildError(f"was ended by {name}{hint}; log: {child.log}", kind="killed", log_tail=tail)
    raise ChildError(f"ended with code {code} and no answer; log: {child.log}", kind="crash", log_tail=tail)


def _last_json(out: bytes) -> dict[str, Any] | None:
    """The last line that is the worker's answer; a library may print before or after it."""
    for line in reversed(out.decode(errors="replace").splitlines()):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and "ok" in value:
            return value
    return None
