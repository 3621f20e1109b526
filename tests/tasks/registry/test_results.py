"""One digest for what was found and how."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tasks.registry.results import Results
from tests import factories as make
from tests.finished import WINNER, finished
from tests.tracked import SPACE, packaged


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_digest_changes_with_results_package_and_parameters_only() -> None:
    results = packaged()
    assert Results.read(SPACE, results.params).digest == results.digest
    others = [
        replace(results, params=make.params(track={"experiment": "x"})),
        replace(results, package=results.package.model_copy(update={"manifest_sha256": "0"})),
        replace(results, report=results.report.model_copy(update={"results_digest": "0"})),
    ]
    assert len({results.digest, *(other.digest for other in others)}) == 4


def test_the_winner_is_a_row_or_nothing() -> None:
    results = packaged()
    assert results.winner is not None and results.winner.variant == WINNER
    finished(outcome="fail")
    assert Results.read(SPACE, results.params).winner is None
