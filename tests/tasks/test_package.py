"""The package stage: the winner whole, or the reason why there is none."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from tasks.errors import DataError, ModelError
from tasks.package import main, package
from tasks.packaging import how_to_run, manifest
from tasks.records.artifact import Package
from tasks.records.scores import Recommendation
from tasks.records.verdict import GateReport, Verdict
from tasks.run.workspace import Workspace
from tests.finished import FILES, WINNER, finished, report

SPACE = Workspace()


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def made() -> Package:
    found = package(SPACE, GateReport.read(SPACE.verdicts), Recommendation.read(SPACE.recommendation))
    found.write(SPACE.package_record)
    return found


def test_the_winner_is_packaged_whole() -> None:
    finished()
    record = made()
    assert (record.status, record.variant, record.verdict) == ("ok", WINNER, "pass")
    assert manifest.verify_manifest(SPACE.package) == record.manifest_sha256
    assert (SPACE.package / "model/openvino_model.bin").read_bytes() == FILES["openvino_model.bin"]
    assert (SPACE.package / "tokenizer/chat_template.jinja").is_file()
    contents = manifest.Contents.read(SPACE.package / manifest.CONTENTS)
    assert (contents.backend, contents.chat, contents.verdict) == ("openvino", True, "pass")
    assert contents.results_digest == GateReport.read(SPACE.verdicts).results_digest
    assert "openvino==2026.4.1" in contents.requirements


def test_the_same_results_give_the_same_package() -> None:
    finished()
    first = made()
    assert made() == first


def test_readme_and_card_say_what_was_measured() -> None:
    finished()
    made()
    readme = (SPACE.package / "README.md").read_text()
    for line in how_to_run.lines("openvino", True, {}):
        assert line in readme
    text = (SPACE.package / "CARD.md").read_text()
    for part in (
        "made for tests",  # origin
        "Apache-2.0",
        "| decode, tokens/s | 75.0 | 67.5 to 82.5 |",
        "| next-token accuracy retained | 99.60% |",
        "| min_retention | 0.996 | from 0.95 | pass |",
        "2 usable cores",
        "40 rows (7448 predictions)",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("outcome", "said"), [("fail", "min_retention by 5.3%"), ("inconclusive", "could not be judged")]
)
def test_without_a_pass_there_is_a_reason_and_no_model(outcome, said: str) -> None:
    finished(outcome=outcome)
    record = made()
    assert (record.status, record.variant, record.verdict, record.manifest_sha256) == ("skipped", None, outcome, "")
    assert [file.name for file in SPACE.package.iterdir()] == ["README.md"]
    readme = (SPACE.package / "README.md").read_text()
    assert f"1. **{WINNER}**" in readme
    assert said in readme


def test_an_old_package_gives_way_when_nothing_passes() -> None:
    finished()
    made()
    finished(outcome="fail")
    made()
    assert not (SPACE.package / "model").exists()


def test_a_report_that_contradicts_its_winners_verdict_packages_nothing() -> None:
    finished()
    good = GateReport.read(SPACE.verdicts)
    lying = good.model_copy(update={"verdicts": (Verdict(variant=WINNER, outcome="inconclusive", expectations=()),)})
    record = package(SPACE, lying, Recommendation.read(SPACE.recommendation))
    assert (record.status, record.verdict) == ("skipped", "fail")
    assert "the verdict on its winner openvino-int8 does not" in record.reason


def test_verdicts_about_other_results_are_refused() -> None:
    finished(decode=75.0)
    stale = GateReport.read(SPACE.verdicts)
    finished(decode=80.0)
    with pytest.raises(DataError, match="is about other results than.*dvc repro gate"):
        package(SPACE, stale, Recommendation.read(SPACE.recommendation))


@pytest.mark.parametrize("lost", ["openvino_tokenizer.xml", "openvino_model.bin"])
def test_a_winner_with_a_lost_file_is_refused_and_nothing_half_written_stays(lost: str) -> None:
    finished()
    (SPACE.artifact_files(WINNER) / lost).unlink()
    with pytest.raises(DataError, match=f"lacks {lost}; run `python -m tasks.convert"):
        made()
    assert not SPACE.package.exists()
    assert not list(SPACE.root.glob(".package*"))


def test_a_pickle_among_the_winners_files_is_refused_and_the_old_package_stays() -> None:
    finished()
    made()
    before = (SPACE.package / manifest.NAME).read_bytes()
    finished(files={**FILES, "extra.pkl": pickle.dumps(1)})
    with pytest.raises(ModelError, match=r"model/extra.pkl may not go into a package"):
        made()
    assert (SPACE.package / manifest.NAME).read_bytes() == before


def test_the_command_writes_record_and_folder(capsys: pytest.CaptureFixture[str]) -> None:
    finished()
    assert main([]) == 0
    assert Package.read(SPACE.package_record).status == "ok"
    assert f"package: {WINNER}, 0 MB in artifacts/package" in capsys.readouterr().out


def test_the_command_reports_a_missing_record_as_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "verdicts.json does not exist" in capsys.readouterr().err


def test_the_report_of_the_fixture_is_about_its_results() -> None:
    finished()
    assert report(Recommendation.read(SPACE.recommendation)) == GateReport.read(SPACE.verdicts)
