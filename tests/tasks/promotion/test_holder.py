"""The parent that holds the router's socket: what it starts again, and how it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import ROOT

HOLDS = """
import sys
from tasks.promotion.holder import Holder
from tasks.serve import listening
made = listening.bound("127.0.0.1", 0)
print(made.getsockname()[1], flush=True)
raise SystemExit(Holder(made, [sys.executable, "-c", sys.argv[1]]).run())
"""
ANSWERS = """
import os, signal, sys
from tasks.serve import listening
taken = listening.inherited()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
while True:
    one, _ = taken.accept()
    one.sendall(str(os.getpid()).encode())
    one.close()
"""


def start(work: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", HOLDS, work], stdout=subprocess.PIPE, text=True, env=environment)


def asked(port: int) -> int:
    """The process that answers."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as one:
        return int(one.recv(100) or 0)


def after(port: int, seen: list[int]) -> int:
    """The first process that answers and is none of those; a connection that a dying one took is asked again."""
    while (found := asked(port)) in (0, *seen):
        time.sleep(0.05)
    return found


def test_what_is_killed_is_started_again_and_refuses_nobody() -> None:
    process = start(ANSWERS)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        seen: list[int] = []
        for _ in range(2):
            seen.append(after(port, seen))
            os.kill(seen[-1], signal.SIGKILL)
        seen.append(after(port, seen))
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        with pytest.raises(ConnectionRefusedError):
            asked(port)
    finally:
        process.kill()


@pytest.mark.parametrize("code", [0, 1, 2])
def test_what_ends_by_itself_ends_its_holder_with_its_code(code: int) -> None:
    assert start(f"raise SystemExit({code})").wait(20) == code


def test_told_to_stop_between_two_starts_it_stops(tmp_path: Path) -> None:
    """Given a process that is killed at each start, when its holder is told to stop, then it stops within moments."""
    file = tmp_path / "starts"
    process = start(f"import os; open({str(file)!r}, 'a').write('x'); os.kill(os.getpid(), 9)")
    until = time.monotonic() + 30
    while time.monotonic() < until and (not file.exists() or file.stat().st_size < 2):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0
    assert 2 <= file.stat().st_size <= 4, "the pauses between starts grow"


def test_a_command_that_is_not_there_is_an_exit_code() -> None:
    held = HOLDS.replace('[sys.executable, "-c", sys.argv[1]]', '["/no/such/command"]')
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = subprocess.run([sys.executable, "-c", held, ""], capture_output=True, env=environment, timeout=30)
    assert found.returncode == 127
