"""Commands that are told to stop: soon, whatever they do, with nobody left behind; the next one goes on from there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flows import run_lock
from flows.stop import stoppable, stopping
from tests import pipelines
from tests.pipelines import left, ran, start, until

SOON_S = 60  # on a machine where many others work; alone it is a tenth


def ignoring() -> None:
    """What a shell does before a command in the background: SIGINT is ignored from the start."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def stopped(root: Path, process: subprocess.Popen[str], number: int) -> str:
    """Send the signal to this one process; returns what it printed, once nothing is left of it."""
    began = time.monotonic()
    process.send_signal(number)
    try:
        process.wait(timeout=SOON_S)
    finally:
        process.kill()
    said = (root / "out.txt").read_text()
    assert time.monotonic() - began < SOON_S, said
    until(lambda: not left(root), f"end of {left(root)}", 10)
    return said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "before", "verb"),
    [
        (signal.SIGTERM, None, "benchmark"),
        (signal.SIGINT, ignoring, "benchmark"),
        (signal.SIGINT, None, "convert"),
    ],
    ids=["SIGTERM", "SIGINT in the background", "SIGINT while stages run in threads"],
)
def test_a_run_that_is_told_to_stop_stops_and_the_next_goes_on(
    tmp_path: Path, number: int, before: Callable[[], None] | None, verb: str
) -> None:
    root = pipelines.make(tmp_path)
    for file in (held := [root / f"hold-{verb}-{variant}" for variant in pipelines.VARIANTS]):
        file.touch()
    process = start(root, "flows.run", before=before, EDGEWRIGHT_WORKERS="2")
    until(lambda: verb in " ".join(ran(root)), verb)
    said = stopped(root, process, number)
    assert process.returncode == 128 + number, said
    assert "stopped; finished stages are kept, `make run` goes on from there" in said
    assert "Traceback" not in said, said
    with run_lock.hold(root, wait=False, say=pytest.fail):
        pass

    before_it = ran(root)
    for file in held:
        file.unlink()
    again = pipelines.command(root, "flows.run")
    assert again.returncode == 0 and "was killed" not in again.stdout, again.stdout
    new = ran(root)[len(before_it) :]
    assert "fetch" in before_it and "fetch" not in new and "benchmark-b" in new and "recommend" in new
    assert not left(root)


def test_a_run_that_waits_for_another_stops_too(tmp_path: Path) -> None:
    root = pipelines.make(tmp_path)
    with run_lock.hold(root):
        process = start(root, "flows.run")
        until(lambda: "waiting for process" in (root / "out.txt").read_text(), "wait")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=SOON_S) == 128 + signal.SIGTERM


HANGS = """
import signal, subprocess, sys, time
from flows import stop
stop.GRACE_S = 1.0
def work():
    print("at work", flush=True)
    subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
                      "print('deaf', flush=True); time.sleep(600)"], start_new_session=True)
    time.sleep(600)
sys.exit(stop.stoppable(work))
"""


def test_work_that_hangs_and_a_child_that_does_not_listen_are_ended_too(tmp_path: Path) -> None:
    with (tmp_path / "out.txt").open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", HANGS], cwd=tmp_path, env=pipelines.environment(tmp_path), stdout=out, text=True
        )
    until(lambda: "deaf" in (tmp_path / "out.txt").read_text(), "child that does not listen")
    stopped(tmp_path, process, signal.SIGTERM)
    assert process.returncode == 128 + signal.SIGTERM


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), ValueError("boom")])
def test_what_the_work_raises_is_not_lost(raised: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        raise raised

    if isinstance(raised, KeyboardInterrupt):
        assert stoppable(work) == 130 and capsys.readouterr().out.startswith("stopped; finished stages are kept")
    else:
        with pytest.raises(ValueError, match="boom"):
            stoppable(work)
    assert stoppable(lambda: 3) == 3 and not stopping.is_set()


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    assert stoppable(lambda: os.getpid() * 0) == 0
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
