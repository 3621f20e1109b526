"""The page: what it derives, what it shows, and what it makes of gaps."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser

import pytest

from tasks.records.artifact import Package
from tasks.reporting import baselines, gains, notes, page
from tasks.reporting.findings import Findings
from tests import report_fixture as fixture
from tests.tasks.reporting.shown import WINNER, bare, with_rows


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
    lines = {line.what: line for line in baselines.watch(found.scores, found.package)}
    decode, memory = lines["decode speed"], lines["peak memory of the process"]
    assert (decode.baseline, decode.look, decode.act) == ("77.1 tok/s", "below 69.2 tok/s", "below 31.2 tok/s")
    assert memory.act == "above 576 MB"  # half of the reference's 1151
    assert lines["perplexity ratio on the evaluation rows"].look == "above 1.014"  # three standard errors
    assert lines["time to first token"].act == "–"  # no gate
    assert "SHA-256 of the package's manifest" in lines


def test_nothing_to_watch_without_a_winner(strict: Findings) -> None:
    assert baselines.watch(strict.scores, strict.package) == []
    assert page.guidance(strict) == []


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"profile": "quick"}, "Made in the quick profile"),
        ({"gate": fixture.params(gate={"prefill_speedup": None}).gate}, "Switched off in params.yaml: the gate on"),
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


def test_a_second_quantization_is_told_apart(found: Findings) -> None:
    assert not any("second time" in line for line in notes.notes(found))
    twice = dataclasses.replace(found, model=found.model.model_copy(update={"stored": "Q4_1"}))
    text = "\n".join(notes.notes(twice))
    assert "Quantized a second time, after Q4_1: " in text and "that file as it came" not in text
    artifacts = dict(found.scores.artifacts)
    kept = artifacts["gguf-q4_k_m"]
    artifacts["gguf-q4_k_m"] = kept.model_copy(
        update={"recipe": kept.recipe.model_copy(update={"method": "as-stored"})}
    )
    once = dataclasses.replace(twice, scores=dataclasses.replace(found.scores, artifacts=artifacts))
    text = "\n".join(notes.notes(once))
    assert "gguf-q4_k_m is that file as it came" in text
    assert "gguf-q4_k_m" not in next(line for line in text.splitlines() if line.startswith("Quantized a second time"))


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
