"""Tests side by side in two processes: which come first, and that one which times things has the machine to itself.

Every test holds the room while it runs, shared; a test marked `alone` holds it for itself. Who waits for that holds the
door, so that no other test goes in before it. Both are locks on files of this folder: nothing is left behind.
"""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

HERE = Path(__file__).parent
DOOR, ROOM = HERE / "turns.py", HERE / "conftest.py"
FIRST = "tests/test_main_job.py"  # the longest of all
HEAVY = ("slow", "model", "server")


def together() -> bool:
    """Whether other tests run beside this process's."""
    return "PYTEST_XDIST_WORKER" in os.environ


def order(items: list[pytest.Item]) -> None:
    """Put the longest files first: they are handed out whole, and none should be left for the end."""
    heavy = Counter(file_of(item) for item in items if any(item.get_closest_marker(mark) for mark in HEAVY))
    items.sort(key=lambda item: (file_of(item) != FIRST, -heavy[file_of(item)]))  # a stable sort: files stay whole


def file_of(item: pytest.Item) -> str:
    """The file of a test, as pytest calls it."""
    return item.nodeid.partition("::")[0]


@contextmanager
def turn(alone: bool) -> Iterator[None]:
    """Hold the room for the block, for itself or shared; waits for as long as it takes."""
    with DOOR.open() as door, ROOM.open() as room:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(room, fcntl.LOCK_UN)
