"""tests/leftovers.py: a session of its own whose tests fail, are interrupted, or forget what they started."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests import ROOT
from tests.flows.test_stop import ignoring
from tests.pipelines import until

pytestmark = pytest.mark.slow  # each is a session of pytest

CONFTEST = """
from tests.leftovers import pytest_sessionfinish, pytest_sessionstart, pytest_terminal_summary, pytest_testnodedown
"""
TESTS = """
import pathlib, signal, subprocess, sys, time

def started(seconds):
    child = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({seconds})"], start_new_session=True)
    pathlib.Path("pid").write_text(str(child.pid))

def test_good():
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ask = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    assert subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True).stdout == "True\\n"

def test_brief():
    started(1)

def test_forgets():
    started(600)

def test_fails():
    started(600)
    assert False

def test_hangs():
    started(600)
    time.sleep(600)
"""


def session(folder: Path, name: str, before: Callable[[], None] | None = None, *more: str) -> subprocess.Popen[str]:
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_it.py").write_text(TESTS)
    words = [f"test_it.py::{name}", "-p", "no:cacheprovider", "--rootdir", str(folder), *more]
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", *words],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, preexec_fn=before,
    )  # fmt: skip


def gone(folder: Path) -> bool:
    pid = int((folder / "pid").read_text())
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("name", "code", "more"),
    [
        ("test_good", 0, ()),
        ("test_brief", 0, ()),
        ("test_forgets", 1, ()),
        ("test_fails", 1, ()),
        ("test_good", 0, ("-n", "1")),
        ("test_forgets", 1, ("-n", "1")),
    ],
)
def test_a_process_that_outlives_its_tests_is_ended_and_told_of(
    tmp_path: Path, name: str, code: int, more: tuple[str, ...]
) -> None:
    process = session(tmp_path, name, ignoring, *more)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == code, said
    told = re.search(r"processes that outlived their tests, ended now =+\n\d+ .*time\.sleep\(600\)", said)
    assert bool(told) == bool(code), said
    assert name == "test_good" or gone(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_session_leaves_nobody(tmp_path: Path, number: int) -> None:
    process = session(tmp_path, "test_hangs", ignoring)
    until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "test", 300)
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 2 and "KeyboardInterrupt" in said and gone(tmp_path), said
