"""A whole run's findings, made once for the room."""

from __future__ import annotations

import pytest

from tasks.reporting.findings import Findings
from tests import report_fixture as fixture


@pytest.fixture(scope="session")
def found() -> Findings:
    return fixture.findings()


@pytest.fixture(scope="session")
def strict() -> Findings:
    return fixture.findings(fixture.params(**fixture.STRICT))
