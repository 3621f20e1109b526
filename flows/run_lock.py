"""One run at a time per checkout. The lock is the kernel's: it is free as soon as its holder is dead."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from flows.stop import stopping
from tasks.errors import ResourceError
from tasks.records.base import write_text

FILE = Path("artifacts") / ".run.lock"
HOLDER = Path("artifacts") / ".run.json"
MARK = "EDGEWRIGHT_RUN"  # in the environment of a run and of everything it starts


@contextmanager
def hold(root: Path, wait: bool = True, say: Callable[[str], None] = print) -> Iterator[None]:
    """Hold the checkout for the block; a nested hold of the same process is free.

    Another run is waited for, or with `wait` False refused with ResourceError; either way the user hears who has it.
    """
    path = root / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(str(path.resolve()), is_singleton=True, thread_local=False)
    _acquire(lock, root, wait, say)
    try:
        if lock.lock_counter == 1:
            _end_leftovers(root, say)
            _sign(root)
        yield
    finally:
        if lock.lock_counter == 1:
            (root / HOLDER).unlink(missing_ok=True)
            os.environ.pop(MARK, None)
        lock.release()


def holder(root: Path) -> str:
    """Who holds the checkout, in words."""
    record = _record(root)
    if not record:
        return "another run"
    return f"process {record['pid']} since {record['since']} ({record['command']})"


def leftovers(run: str) -> list[psutil.Process]:
    """Processes that a run which is dead started and that still live."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == run:
                found.append(process)
        except (psutil.Error, OSError):  # gone meanwhile, or another user's
            continue
    return found


def _acquire(lock: Any, root: Path, wait: bool, say: Callable[[str], None]) -> None:
    try:
        lock.acquire(timeout=0)
        return
    except Timeout:
        who = holder(root)
    if not wait:
        raise ResourceError(f"this checkout is in use by {who}; wait for it, stop it, or run without --no-wait")
    say(f"waiting for {who}")
    began = time.monotonic()
    while not stopping.is_set():
        with suppress(Timeout):
            lock.acquire(timeout=1)
            break
    else:
        raise KeyboardInterrupt
    say(f"it ended after {time.monotonic() - began:.0f} s; starting")


def _end_leftovers(root: Path, say: Callable[[str], None]) -> None:
    """A record with a free lock is a killed run's. Its stages may still be at work on files we are about to write."""
    record = _record(root)
    left = leftovers(record["run"]) if record else []
    if not left:
        return
    say(f"process {record['pid']} was killed; ending {len(left)} of its processes that are still at work")
    for process in left:
        _quietly(process.terminate)
    _, alive = psutil.wait_procs(left, timeout=5)
    for process in alive:
        _quietly(process.kill)
    psutil.wait_procs(alive, timeout=5)


def _quietly(act: Callable[[], None]) -> None:
    with suppress(psutil.NoSuchProcess):
        act()


def _sign(root: Path) -> None:
    run = uuid.uuid4().hex
    os.environ[MARK] = run
    record = {
        "pid": os.getpid(),
        "since": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "run": run,
    }
    write_text(root / HOLDER, json.dumps(record) + "\n")


def _record(root: Path) -> dict[str, Any]:
    try:
        record = json.loads((root / HOLDER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) and {"pid", "since", "command", "run"} <= set(record) else {}
