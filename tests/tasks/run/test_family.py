"""tasks/run/family.py: what a command started ends with it, and nothing else does."""

from __future__ import annotations

import signal
import subprocess
import sys

import psutil
import pytest

from tasks.run import family
from tests import ROOT

SLEEPS = [sys.executable, "-c", "import time; time.sleep(600)"]
IN_THE_MIDDLE = [
    sys.executable, "-c",
    "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],"
    "start_new_session=True)",
]  # fmt: skip


def test_all_generations_end_with_the_command_and_others_do_not() -> None:
    outsider = subprocess.Popen(SLEEPS)
    try:
        with family.command() as mine:
            child = subprocess.Popen(SLEEPS, start_new_session=True)
            subprocess.run(IN_THE_MIDDLE, check=True)  # its child has no parent any more
            stays = subprocess.Popen(SLEEPS, env=family.outside())
            assert len(family.members(mine)) == 2
        try:
            assert child.wait(timeout=5) == -signal.SIGTERM and not family.members(mine)
            assert outsider.poll() is None and stays.poll() is None
        finally:
            stays.kill()
            stays.wait()
    finally:
        outsider.kill()
        outsider.wait()


TOLD = """
import os, signal, sys
from tasks.run import family

number = int(sys.argv[1])
signal.signal(number, signal.default_int_handler)
before = signal.getsignal(number)
try:
    with family.command():
        try:
            os.kill(os.getpid(), number)
            sys.exit("it was not heard")
        finally:
            os.kill(os.getpid(), number)  # does not cut the way out short
except family.Stopped as stopped:
    assert stopped.number == number
assert signal.getsignal(number) is before
assert family.until_stopped(lambda: os.kill(os.getpid(), number) or 1) == 0
assert family.until_stopped(lambda: 3) == 3
print("heard")
"""


@pytest.mark.parametrize("number", family.ENDING)
def test_a_signal_ends_the_command_once(number: int) -> None:
    """In a process of its own: a signal that came late would end the process of the tests."""
    done = subprocess.run(
        [sys.executable, "-c", TOLD, str(number)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr


def test_one_that_does_not_listen_is_ended_too() -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline()
    family.end(lambda: [psutil.Process(child.pid)] if child.poll() is None else [], patience_s=0.5)
    assert child.returncode == -signal.SIGKILL
