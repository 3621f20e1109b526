"""Scorecard in the terminal and as Markdown, and the page: from a whole run's records and from broken ones."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import io
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tasks import paths, report
from tasks.records import Metric, Package, ScoreRow
from tasks.reporting import charts, conclusion, gains, notes, page, plots, table, watch
from tasks.reporting.findings import Findings, Scores, metric, value
from tasks.reporting.markdown import escape, markdown
from tasks.reporting.terminal import print_scorecard
from tests import report_fixture as fixture

WINNER = "openvino-int8"


@pytest.fixture(scope="module")
def found() -> Findings:
    return fixture.findings()


@pytest.fixture(scope="module")
def strict() -> Findings:
    return fixture.findings(fixture.params(**fixture.STRICT))


def printed(scores: Scores, width: int) -> str:
    out = io.StringIO()
    print_scorecard(scores, width, out)
    return out.getvalue()


def with_rows(scores: Scores, **changed: ScoreRow) -> Scores:
    """The same run with some rows replaced; '_' in a keyword stands for '-'."""
    named = {name.replace("_", "-"): row for name, row in changed.items()}
    rows = tuple(named.get(row.variant, row) for row in scores.rows)
    return dataclasses.replace(scores, recommendation=scores.recommendation.model_copy(update={"rows": rows}))


def bare(scores: Scores) -> Scores:
    """The same run with no metric at all and no record behind it."""
    rows = tuple(row.model_copy(update={"metrics": {}}) for row in scores.rows)
    recommendation = scores.recommendation.model_copy(update={"rows": rows})
    return dataclasses.replace(scores, recommendation=recommendation, artifacts={}, evaluations={}, benchmarks={})


@pytest.mark.parametrize("name", ["figures", "conclusion", "markdown", "plots", "notes"])
def test_doctests(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"tasks.reporting.{name}"))
    assert result.attempted and not result.failed


# --- the table all three forms share ---


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


# --- the outcome in words ---


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


# --- terminal ---


@pytest.mark.parametrize("width", [60, 80, 100, 120, 140, 200])
def test_no_line_is_wider_than_the_terminal(found: Findings, strict: Findings, width: int) -> None:
    for scores in (found.scores, strict.scores):
        assert max(cell_len(line) for line in printed(scores, width).splitlines()) <= width


def test_all_columns_at_150_fewer_at_100(found: Findings) -> None:
    wide, narrow = printed(found.scores, 150), printed(found.scores, 100)
    for column in table.COLUMNS:
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


# --- Markdown ---


def test_markdown_rows_have_equal_cells(found: Findings) -> None:
    rows = [line for line in markdown(found.scores).splitlines() if line.startswith("|")]
    assert len(rows) == len(fixture.GIVEN) + 2
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {len(table.COLUMNS) + 4}


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


# --- plots ---

SPEED = plots.Axis("speed", plots.log, plots.LOG_TICKS, str, True, 31.2, "gate ≥ 2×")
RATIO = plots.Axis("ratio", plots.above_one, plots.RATIO_TICKS, str, False, 1.1, "gate ≤ 1.1")


def point(name: str, x: float, y: float) -> plots.Point:
    return plots.Point(name, x, y, "gguf", "int8", True, name == "a", f"{name}: tip")


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12))
def test_front_in_a_plane_is_what_nothing_beats(places: list[tuple[int, int]]) -> None:
    points = [point(f"v{n}", x, 1 + y / 10) for n, (x, y) in enumerate(places)]
    kept = {(p.x, p.y) for p in plots.in_plane_front(points, SPEED, RATIO)}

    def beaten(p: plots.Point) -> bool:
        return any(o.x >= p.x and o.y <= p.y and (o.x, o.y) != (p.x, p.y) for o in points)

    assert kept == {(p.x, p.y) for p in points if not beaten(p)}


@given(st.lists(st.tuples(st.floats(0.5, 5000), st.floats(0.9, 30)), min_size=1, max_size=14))
def test_any_points_make_a_drawing_with_all_names_inside(places: list[tuple[float, float]]) -> None:
    drawing = ET.fromstring(plots.scatter([point(f"v{n}", *p) for n, p in enumerate(places)], SPEED, RATIO, "c"))
    labels = [text for text in drawing.iter("text") if "label" in text.get("class", "").split()]
    assert sorted(str(text.text) for text in labels) == sorted(f"v{n}" for n in range(len(places)))
    for text in labels:
        assert 0 <= float(text.get("x", "-1")) <= plots.WIDTH and 0 <= float(text.get("y", "-1")) <= plots.HEIGHT


def test_labels_of_a_real_run_do_not_cover_each_other(found: Findings) -> None:
    for _, drawing in charts.planes(found.scores):
        boxes = []
        for text in ET.fromstring(drawing).iter("text"):
            if "label" not in text.get("class", "").split():
                continue
            wide = len(str(text.text)) * plots.CHARACTER
            x, y = float(text.get("x", "0")), float(text.get("y", "0"))
            left = x - {"start": 0, "middle": wide / 2, "end": wide}[text.get("text-anchor", "start")]
            boxes.append(plots.Box(left, y - plots.LINE + 3, left + wide, y + 3))
        assert len(boxes) == 10
        assert all(a.overlap(b) < 1 for n, a in enumerate(boxes) for b in boxes[n + 1 :])


def test_limits_winner_and_tips_are_drawn(found: Findings) -> None:
    name, drawing = charts.planes(found.scores)[0]
    assert name == "Quality and decode speed"
    assert "gate ≤ 1.1" in drawing and "gate ≥ 2×" in drawing
    assert drawing.count('class="ring"') == 1 and 'class="allowed"' in drawing
    assert "<title>openvino-int8\ndecode tokens per s 77.1" in drawing


def test_bars_show_what_was_not_measured(found: Findings) -> None:
    (_, decode), (_, prefill) = charts.speeds(found.scores)
    assert decode.count(">n/m<") == 2 and "Metal" in decode
    assert "(69.2 to 82.3, 6 timings)" in decode
    for drawing in (decode, prefill):
        ET.fromstring(drawing)


@pytest.mark.parametrize("rows", [[], [plots.Bar("a", "mlx", None, 0, 0, False, ("n/m", ""), "a: no device")]])
def test_nothing_measured_draws_nothing(rows: list[plots.Bar]) -> None:
    assert plots.bars(rows, None, "", "c") == ""
    assert plots.scatter([], SPEED, RATIO, "c") == ""


# --- what the page derives ---


def test_runtime_times_quantization_is_total(found: Findings) -> None:
    made = gains.gains(found.scores)
    assert [gain.variant for gain in made] == [WINNER, "openvino-int4", "onnx-int8", "gguf-q8_0", "gguf-q4_k_m"]
    for gain in made:
        for step in gain.steps.values():
            assert step.runtime and step.quantization and step.total
            assert step.runtime * step.quantization == pytest.approx(step.total)
    assert gains.shares(found.scores, WINNER) == (
        "Of openvino-int8's 4.9× in decode, the runtime alone gave 3.4× and quantization 1.4× on top."
    )
    assert gains.shares(found.scores, "mlx-int8") == ""


def test_watch_takes_spread_and_gates(found: Findings) -> None:
    lines = {line.what: line for line in watch.watch(found.scores, found.package)}
    decode, memory = lines["decode speed"], lines["peak memory of the process"]
    assert (decode.baseline, decode.look, decode.act) == ("77.1 tok/s", "below 69.2 tok/s", "below 31.2 tok/s")
    assert memory.act == "above 576 MB"  # half of the reference's 1151
    assert lines["perplexity ratio on the evaluation rows"].look == "above 1.014"  # three standard errors
    assert lines["time to first token"].act == "–"  # no gate
    assert "SHA-256 of the package's manifest" in lines


def test_nothing_to_watch_without_a_winner(strict: Findings) -> None:
    assert watch.watch(strict.scores, strict.package) == []
    assert page.guidance(strict) == []


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"profile": "quick"}, "Made in the quick profile"),
        ({"gate": fixture.params(gate={"min_prefill_speedup": None}).gate}, "Switched off in params.yaml: the gate on"),
        (
            {"hardware": fixture.hardware().model_copy(update={"origin": "profile", "device": "iphone"})},
            "The target is the device profile iphone, not this machine",
        ),
    ],
)  # fmt: skip
def test_notes_of_special_runs(found: Findings, change: dict[str, object], note: str) -> None:
    assert not any(note in line for line in notes.notes(found))
    assert any(note in line for line in notes.notes(dataclasses.replace(found, **change)))


def test_notes_of_every_run(found: Findings) -> None:
    text = "\n".join(notes.notes(found))
    assert "not against the model as it was trained" in text
    assert "40 rows of gsm8k, 7448 next-token predictions" in text
    assert "blocks that took turns with the reference" in text
    assert "mlx-int8 (6 rows, 1102 predictions)" in text
    whole = found.model.model_copy(update={"origin": "org/name from the hub, float32"})
    assert "as it was trained" not in "\n".join(notes.notes(dataclasses.replace(found, model=whole)))


def test_commands_repeat_this_run(found: Findings) -> None:
    model = found.model.model_copy(update={"source": "my models/a b"})
    lines = [fact.name for fact in page.commands(dataclasses.replace(found, model=model, profile="quick"))]
    assert lines[0] == "make run MODEL='my models/a b' PROFILE=quick"
    assert "dvc repro --single-item --force benchmark@openvino-int8" in lines


@pytest.mark.parametrize(
    ("readme", "code"),
    [
        (fixture.README, "import openvino_genai"),
        ("no code here", ""),
        ("```\nmake run\n```\n```\nother\n```\n", "make run"),
    ],
)
def test_code_of_the_package(readme: str, code: str) -> None:
    assert page.code(readme).startswith(code) and "```" not in page.code(readme)


# --- the page ---


class Reader(HTMLParser):
    """Collects tags, links and text, and checks that tags close in order."""

    VOID = frozenset({"meta", "link", "br", "hr", "img", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.addresses: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.ids |= {str(v) for k, v in attrs if k == "id"}
        self.addresses += [str(v) for k, v in attrs if k in ("href", "src", "srcset", "action", "data")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass  # drawings close their own elements

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.text += " " * (tag in ("td", "th"))

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.text += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def test_page_needs_nothing_from_elsewhere(found: Findings) -> None:
    html = page.page(found)
    reader = read(html)
    assert {a for a in reader.addresses if not a.startswith(("#", "data:"))} == {"../data_docs/index.html"}
    assert not re.search(r"https?:|@import|url\(|fetch\(|XMLHttpRequest", html)
    assert {address[1:] for address in reader.addresses if address.startswith("#")} <= reader.ids


def test_page_tells_the_whole_run(found: Findings) -> None:
    text = read(page.page(found)).text
    for name in fixture.GIVEN:
        assert name in text
    for said in (
        "openvino-int8 passes every gate",
        fixture.FAILURE,
        "no readable RAPL power limit",
        "Platform? intel: openvino",
        "K-quants fall back",
        'openvino_genai.LLMPipeline("model", "CPU")',
        "models:/edgewright-sample@champion",
        "below 31.2 tok/s",
        "on the river Seine",
        "Paris, which is the the largest city & <capital> of France.",
        "openvino 2026.4.1",
        found.scores.gates.results_digest,
        "The reference was made from weights that had been quantized before",
        "2.5% over",
    ):
        assert said in text, said


def test_page_without_a_winner_names_the_nearest(strict: Findings) -> None:
    text = read(page.page(strict)).text
    assert "No candidate passed the gates" in text
    assert "perplexity ratio 1.003, limit 1.0005 (0.2% over)" in text
    assert "Nothing was packaged: no candidate passed the gates" in text


def test_page_takes_gaps(found: Findings) -> None:
    gates = found.scores.gates.model_copy(update={"winner": None, "outcome": "fail", "verdicts": (), "nearest": ()})
    empty = dataclasses.replace(bare(found.scores), gates=gates)
    nothing = Package(status="skipped", reason="none passed", variant=None, verdict="fail")
    text = read(page.page(dataclasses.replace(found, scores=empty, package=nothing, plan={}, package_readme=""))).text
    assert "there is nothing to draw" in text and "No gate is switched on" in text
    assert not re.search(r"\bnan\b|\bNone\b|Undefined", text)


def test_page_of_a_whole_run_shows_no_raw_values(found: Findings) -> None:
    assert not re.search(r"\bnan\b|\bNone\b|\binf\b|value=|\d\.\d{6}", read(page.page(found)).text)


def test_page_escapes_what_it_is_given(found: Findings) -> None:
    hostile = '<script>alert("x")</script>'
    row = found.scores.row(WINNER)
    assert row is not None
    renamed = found.model.model_copy(update={"name": hostile, "origin": hostile})
    failed = row.model_copy(update={"status": "failed", "reason": hostile})
    scores = with_rows(found.scores, openvino_int8=failed)
    html = page.page(dataclasses.replace(found, model=renamed, scores=scores, package_readme=f"```\n{hostile}\n```\n"))
    assert hostile not in html and html.count("<script>") == 1


def test_same_findings_same_bytes(found: Findings) -> None:
    assert page.page(found) == page.page(fixture.findings())


# --- the stage ---


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
    assert not paths.REPORT.exists()


@pytest.mark.parametrize("record", [paths.RECOMMENDATION, paths.VERDICTS, paths.HARDWARE, paths.DATA_CARD])
def test_absent_record_is_bad_input(record, project, capsys: pytest.CaptureFixture[str]) -> None:
    record.unlink()
    assert report.main([]) == 2
    assert f"error: {record} does not exist; run the stage that writes it" in capsys.readouterr().err
    assert not paths.REPORT.exists()


def test_broken_record_is_bad_input_and_keeps_the_old_page(project, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([]) == 0
    before = report.PAGE.read_bytes()
    paths.benchmark_record(WINNER).write_text("{", encoding="utf-8")
    assert report.main([]) == 2
    assert "is not a Benchmark" in capsys.readouterr().err
    assert report.PAGE.read_bytes() == before


def test_metric_that_is_absent_is_missing() -> None:
    assert metric(None, "decode_tokens_per_s").state == "missing"
    assert value(None, "decode_tokens_per_s") is None
