"""Monitors on made-up logs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.params.watching import Drift
from tests.monitoring.course import Course


@pytest.fixture
def course(tmp_path: Path) -> Course:
    return Course(tmp_path)


@pytest.fixture
def compared(tmp_path: Path) -> Course:
    """The same with windows that are compared with the first."""
    return Course(tmp_path, drift=Drift(min_requests=100))
