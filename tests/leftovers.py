"""What tests start ends with them: a process that outlives the session is ended, and told of.

The whole session carries a mark, as a command of the product does. SIGTERM is taken as Ctrl-C is, so that fixtures put
things away; SIGINT is heard also in a session that a shell started in the background, and by what its tests start.
"""

from __future__ import annotations

import os
import signal
import time
import uuid
from typing import Any

import psutil
import pytest

from tasks.run import family

MINE = uuid.uuid4().hex
LEAVING_S = 5.0  # what was told to end may take so long
OF_PYTHON = ("resource_tracker", "forkserver")  # they end with this process
_told: list[str] = []


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def pytest_sessionstart() -> None:
    """Mark what is started from now on."""
    os.environ[family.MARK] = f"{os.environ.get(family.MARK, '')},{MINE}".strip(",")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _interrupt)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """End what is left; that something was is a failure."""
    deadline = time.monotonic() + LEAVING_S
    while (left := _left()) and time.monotonic() < deadline:
        time.sleep(family.LOOK_S)
    for process in left:
        try:
            _told.append(f"{process.pid} {' '.join(process.cmdline())}")
        except psutil.Error:  # it ended by itself
            continue
    family.end(_left)
    if hasattr(session.config, "workeroutput"):  # a process that runs tests beside another: who started it is told
        session.config.workeroutput["leftovers"] = list(_told)
    if _told and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what tests left in a process that ran some of them."""
    _told.extend(getattr(node, "workeroutput", {}).get("leftovers", ()))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say what was left."""
    if _told:
        terminalreporter.section("processes that outlived their tests, ended now")
        for line in _told:
            terminalreporter.line(line)


def _left() -> list[psutil.Process]:
    return [one for one in family.members(MINE) if not any(word in " ".join(_words(one)) for word in OF_PYTHON)]


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
