"""The stage: the page from the files, the scorecard alone, and records that are absent or broken."""

from __future__ import annotations

import pytest

from tasks import report
from tasks.reporting import page
from tasks.reporting.findings import Findings, metric, value
from tasks.run.workspace import Workspace
from tests import report_fixture as fixture
from tests.tasks.reporting.shown import WINNER


@pytest.fixture
def project(found: Findings, tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    fixture.write(found)
    variants = {
        name: {"backend": g.backend, "precision": g.precision, "role": g.role} for name, g in fixture.GIVEN.items()
    }
    weights = fixture.params().recommend.model_dump()
    (tmp_path / "params.yaml").write_text(str({"recommend": weights, "variants": variants}), encoding="utf-8")
    return tmp_path


def test_stage_writes_the_page_from_the_files(found: Findings, project, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([]) == 0
    assert (project / "artifacts/report/index.html").read_text(encoding="utf-8") == page.page(found)
    assert capsys.readouterr().out == "report: artifacts/report/index.html\n"
    assert [entry.name for entry in (project / "artifacts/report").iterdir()] == ["index.html"]


def test_stage_prints_the_scorecard_alone(project, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "params.yaml").unlink()  # the scorecard needs the results only
    assert report.main(["--terminal", "--width", "140"]) == 0
    assert "★ openvino-int8 passes every gate." in capsys.readouterr().out
    assert report.main(["--markdown"]) == 0
    assert capsys.readouterr().out.startswith("## ✅ openvino-int8")
    assert not Workspace().report.exists()


@pytest.mark.parametrize(
    "record", [Workspace().recommendation, Workspace().verdicts, Workspace().hardware, Workspace().data_card]
)
def test_absent_record_is_bad_input(record, project, capsys: pytest.CaptureFixture[str]) -> None:
    record.unlink()
    assert report.main([]) == 2
    assert f"error: {record} does not exist; run the stage that writes it" in capsys.readouterr().err
    assert not Workspace().report.exists()


def test_broken_record_is_bad_input_and_keeps_the_old_page(project, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([]) == 0
    before = (Workspace().report / report.PAGE).read_bytes()
    Workspace().benchmark_record(WINNER).write_text("{", encoding="utf-8")
    assert report.main([]) == 2
    assert "is not a Benchmark" in capsys.readouterr().err
    assert (Workspace().report / report.PAGE).read_bytes() == before


def test_metric_that_is_absent_is_missing() -> None:
    assert metric(None, "decode_tokens_per_s").state == "missing"
    assert value(None, "decode_tokens_per_s") is None
