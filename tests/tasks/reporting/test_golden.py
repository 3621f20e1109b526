"""The scorecard made from a fixed set of records, byte for byte: what a change to the house must leave alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.reporting.markdown import markdown
from tasks.reporting.terminal import print_scorecard
from tests import report_fixture as fixture

GOLDEN = Path(__file__).with_name("golden")
CASES = {"passes": {}, "nothing-passes": fixture.STRICT}


@pytest.mark.parametrize("name", CASES)
def test_terminal(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_scorecard(fixture.scores(fixture.params(**CASES[name])), 160)
    assert capsys.readouterr().out == (GOLDEN / f"{name}.txt").read_text()


@pytest.mark.parametrize("name", CASES)
def test_markdown(name: str) -> None:
    assert markdown(fixture.scores(fixture.params(**CASES[name]))) == (GOLDEN / f"{name}.md").read_text()
