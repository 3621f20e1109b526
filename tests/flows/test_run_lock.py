"""flows/run_lock.py: one run at a time, who holds it, and what a killed run leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from flows import run_lock
from tasks.errors import ResourceError
from tests import pipelines

HOLD = """
import subprocess, sys, time
from pathlib import Path
from flows import run_lock
with run_lock.hold(Path.cwd()):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    print("held", child.pid, flush=True)
    time.sleep(float(sys.argv[1]))
    child.kill()
"""


def holder(root: Path, seconds: float) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(seconds)], cwd=root, env=pipelines.environment(root), text=True,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    return process, int(process.stdout.readline().split()[1])


def test_a_nested_hold_is_free_and_the_record_goes_with_the_last(tmp_path: Path) -> None:
    with run_lock.hold(tmp_path):
        record = json.loads((tmp_path / run_lock.HOLDER).read_text())
        assert record["pid"] == os.getpid() and record["run"] == os.environ[run_lock.MARK]
        with run_lock.hold(tmp_path, wait=False):
            pass
        assert (tmp_path / run_lock.HOLDER).exists()
    assert not (tmp_path / run_lock.HOLDER).exists() and run_lock.MARK not in os.environ


def test_a_second_run_is_told_who_holds_the_checkout(tmp_path: Path) -> None:
    first, child = holder(tmp_path, 300)
    try:
        with pytest.raises(ResourceError) as refused, run_lock.hold(tmp_path, wait=False):
            pass
        assert f"process {first.pid} since 2" in str(refused.value) and "--no-wait" in str(refused.value)
        assert refused.value.exit_code == 2
        assert psutil.pid_exists(child)
    finally:
        first.kill()
        first.wait()
        os.kill(child, signal.SIGKILL)


def test_a_second_run_waits_and_then_goes_on(tmp_path: Path) -> None:
    first, _ = holder(tmp_path, 2)
    said: list[str] = []
    with run_lock.hold(tmp_path, say=said.append):
        assert first.poll() is not None or first.wait(timeout=5) == 0
    assert said[0].startswith(f"waiting for process {first.pid} since") and said[1].endswith("; starting")


def test_a_dead_holder_blocks_nobody_and_its_children_are_ended(tmp_path: Path) -> None:
    first, child = holder(tmp_path, 300)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert psutil.pid_exists(child)
    said: list[str] = []
    began = time.monotonic()
    with run_lock.hold(tmp_path, wait=False, say=said.append):
        assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE
    assert said == [f"process {first.pid} was killed; ending 1 of its processes that are still at work"]
    assert time.monotonic() - began < 20


def test_a_torn_record_is_no_record(tmp_path: Path) -> None:
    (tmp_path / "artifacts").mkdir()
    (tmp_path / run_lock.HOLDER).write_text('{"pid": 1')
    assert run_lock.holder(tmp_path) == "another run"
    with run_lock.hold(tmp_path, wait=False):
        assert str(os.getpid()) in run_lock.holder(tmp_path)
