"""The scorecard in all its forms: the shared table, the outcome in words, the terminal and Markdown."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tasks.kinds.table import catalogue
from tasks.records.scores import Metric
from tasks.reporting import conclusion, notes, table
from tasks.reporting.findings import Findings
from tasks.reporting.markdown import escape, markdown
from tests import report_fixture as fixture
from tests.tasks.reporting.shown import WINNER, bare, printed, with_rows


@pytest.mark.parametrize("name", ["figures", "conclusion", "markdown", "plots", "notes"])
def test_doctests(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"tasks.reporting.{name}"))
    assert result.attempted and not result.failed


def test_winner_reference_and_rivals_are_told_apart(found: Findings) -> None:
    lines = {line.variant: line for line in table.lines(found.scores)}
    assert (lines[WINNER].mark, lines[WINNER].verdict.text) == ("★", "pass")
    assert (lines["torch-fp32"].mark, lines["torch-fp32"].verdict.text) == ("◆", "reference")
    assert (lines["gguf-f16"].mark, lines["gguf-f16"].verdict.text) == ("○", "(fail: size)")
    assert lines["gguf-q4_k_m"].verdict.text == "fail: ret, ppl, prefill"


@pytest.mark.parametrize(
    ("variant", "key", "text", "extras"),
    [
        (WINNER, "decode_tokens_per_s", "77.1", ("4.9×", "17%")),
        (WINNER, "prefill_tokens_per_s", "1729", ("3.4×",)),
        (WINNER, "peak_rss_mb", "462", ("40%",)),
        (WINNER, "perplexity_ratio", "1.011", ("±.001",)),
        ("gguf-q4_k_m", "prefill_tokens_per_s", "501", ("0.97×",)),
        ("mlx-int8", "decode_tokens_per_s", "n/m", ()),
        ("mlx-int8", "mean_kl", "0.0014", ()),
    ],
)
def test_cells(found: Findings, variant: str, key: str, text: str, extras: tuple[str, ...]) -> None:
    cell = next(line for line in table.lines(found.scores) if line.variant == variant).cells[key]
    assert (cell.text, cell.extras) == (text, extras)


def test_not_measured_is_not_missing(found: Findings) -> None:
    row = found.scores.row(WINNER)
    assert row is not None
    gap = Metric(state="missing", reason="decode_tokens_per_s is absent from the record")
    broken = row.model_copy(update={"metrics": row.metrics | {"decode_tokens_per_s": gap}})
    lines = {line.variant: line for line in table.lines(with_rows(found.scores, openvino_int8=broken))}
    assert lines[WINNER].cells["decode_tokens_per_s"].text == "missing"
    assert lines[WINNER].cells["decode_tokens_per_s"].note == gap.reason
    assert "Metal" in lines["mlx-int8"].cells["decode_tokens_per_s"].note


def test_skipped_and_failed_rows_have_a_reason_for_figures(found: Findings) -> None:
    lines = {line.variant: line for line in table.lines(found.scores)}
    assert (lines[fixture.FAILED].cells, lines[fixture.FAILED].verdict.text) == ({}, "failed")
    assert lines[fixture.FAILED].reason == fixture.FAILURE
    assert (lines[fixture.SKIPPED].cells, lines[fixture.SKIPPED].reason) == ({}, fixture.SKIP)


def test_a_variant_that_failed_late_keeps_what_was_measured(found: Findings) -> None:
    row = found.scores.row(WINNER)
    assert row is not None
    late = row.model_copy(update={"status": "failed", "reason": "not benchmarked: out of memory"})
    shown = printed(with_rows(found.scores, openvino_int8=late), 140)
    assert "1.011" in shown and "not benchmarked: out of memory" in shown


def test_legend_says_what_is_in_the_table(found: Findings) -> None:
    text = "\n".join(table.legend(found.scores))
    assert "n/m: not measured on this device" in text
    assert "mlx-int8 6 rows (1102 predictions)" in text
    assert "ppl max 1.1, KL max 0.2, choices min 90%, decode min 2×" in text and "ret: accuracy retention" in text
    assert "n/m" not in "\n".join(table.legend(bare(found.scores)))


def test_winner_in_a_sentence(found: Findings) -> None:
    assert conclusion.title(found.scores) == "openvino-int8 passes every gate"
    said = conclusion.sentence(found.scores)
    assert said.startswith("Writes 4.9× and reads prompts 3.4× as fast as torch-fp32; takes 40% of its memory")
    assert conclusion.against_bf16(found.scores) == (
        "Against torch-bf16: decode 3.2×, prefill 2.0×, 34% of the memory."
    )
    assert conclusion.nearest(found.scores) == []


def test_nearest_and_by_how_much_each_missed(strict: Findings) -> None:
    near = dict(conclusion.nearest(strict.scores))
    assert conclusion.title(strict.scores) == "No candidate passed the gates"
    assert re.fullmatch(
        r"Of \d+ judged, \d+ failed( and \d+ could not be decided)?\.", conclusion.sentence(strict.scores)
    )
    assert len(near) == conclusion.NEAREST
    assert "perplexity ratio 1.003, limit 1.0005 (0.2% over)" in near["gguf-q8_0"]
    reasons = [said for said in near["mlx-int8"] if "not measured" in said]
    assert len(reasons) == 1 and reasons[0].startswith(
        "decode speed, prefill speed, decode after a long prompt, slowest tokens, latency over the soak, "
    )


def test_the_noise_floor_is_told(found: Findings) -> None:
    said = [note for note in notes.notes(found) if "took turns" in note]
    assert len(said) == 1
    assert "4 of each variant" in said[0] and "1.00× in decode and 1.00× in prefill" in said[0]


def test_inconclusive_is_not_called_failed(found: Findings) -> None:
    gates = found.scores.gates.model_copy(update={"outcome": "inconclusive", "winner": None})
    scores = dataclasses.replace(found.scores, gates=gates)
    assert "could not be decided" in conclusion.title(scores)
    assert markdown(scores).startswith("## ⚠️")


@pytest.mark.parametrize("width", [60, 80, 100, 120, 140, 200])
def test_no_line_is_wider_than_the_terminal(found: Findings, strict: Findings, width: int) -> None:
    for scores in (found.scores, strict.scores):
        assert max(cell_len(line) for line in printed(scores, width).splitlines()) <= width


def test_all_columns_at_160_fewer_at_100(found: Findings) -> None:
    wide, narrow = printed(found.scores, 160), printed(found.scores, 100)
    for column in table.columns(catalogue()):
        assert column.head in wide
    assert "TTFT" not in narrow and "±.001" not in narrow
    for kept in ("ppl ratio", "retention", "decode", "peak RSS", "verdict"):
        assert kept in narrow


def test_terminal_shows_reasons_winner_and_how_to_repeat(found: Findings) -> None:
    shown = printed(found.scores, 140)
    assert f"failed: {fixture.FAILURE}" in shown
    assert f"skipped: {fixture.SKIP}" in shown
    assert "★ openvino-int8 passes every gate." in shown
    assert "dvc repro --single-item --force convert@onnx-int4" in shown


def test_terminal_takes_rows_without_any_metric(found: Findings) -> None:
    assert "torch-fp32" in printed(bare(found.scores), 100)


def test_markdown_rows_have_equal_cells(found: Findings) -> None:
    rows = [line for line in markdown(found.scores).splitlines() if line.startswith("|")]
    assert len(rows) == len(fixture.GIVEN) + 2
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {len(table.columns(catalogue())) + 4}


def test_markdown_says_outcome_and_failures(found: Findings, strict: Findings) -> None:
    text = markdown(found.scores)
    assert text.startswith("## ✅ openvino-int8 passes every gate")
    assert "<br>`dvc repro --single-item --force convert@onnx-int4`" in text
    assert "&lt;make onnx-int4&gt;" in text and "<make" not in text
    assert "## ❌ No candidate passed" in markdown(strict.scores)


@given(st.text())
def test_escaped_text_cannot_leave_its_cell(text: str) -> None:
    safe = escape(text)
    assert "\n" not in safe and "<" not in safe
    assert all((len(before) - len(before.rstrip("\\"))) % 2 for before in safe.split("|")[:-1])
