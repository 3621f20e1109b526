"""The HTTP application: malformed requests, and requests drawn from its own document."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.drill.requests import Tally, ask_all, drawn
from tests.serving import Running, server


@pytest.mark.parametrize(
    ("path", "raw", "status"),
    [
        ("/v1/completions", b"{", 400),
        ("/v1/completions", b'{"prompt": "\xff"}', 400),
        ("/v1/completions", b"[]", 400),
        ("/v1/chat/completions", b'{"messages": []}', 400),
        ("/v1/chat/completions", b'{"messages": [{"role": "assistant", "content": "x"}]}', 400),
        ("/v2/models/tiny/infer", b"{", 400),
        ("/v2/models/tiny/infer", b'{"inputs": [{"name": "other", "shape": [1], "datatype": "BYTES"}]}', 400),
        ("/v2/models/tiny/versions/9/infer", b"{}", 404),
        ("/v1/../../etc/passwd", b"{}", 404),
    ],
)
def test_malformed_requests_are_answered_in_words(running: Running, path: str, raw: bytes, status: int) -> None:
    answer = httpx.post(f"{running.base}{path}", content=raw, headers={"content-type": "application/json"})
    assert answer.status_code == status and answer.json()["error"]["message"]


def test_requests_of_any_kind_break_nothing(made: Path, tmp_path: Path) -> None:
    """What the document allows, and what is near to it, is answered or refused in OpenAI's form, never by a fault."""
    with server(tmp_path, made, slots=4) as running:  # its own: what is drawn is judged and logged as well
        figures = ask_all(running, 700)
        assert running.ready()
    assert {name: value for name, value in figures.items() if value} == {
        "requests": 700, "answered": pytest.approx(350, abs=220),
    }  # fmt: skip


def test_a_fault_is_counted() -> None:
    tally = Tally()
    tally.note("x", 200, "", True)
    tally.note("x", 503, "gone", True)
    tally.note("x", 400, "no words", True)
    tally.note("x", 400, '{"error": {"message": "why"}}', True)
    assert (tally.count, len(tally.faults), len(tally.without_words)) == (4, 1, 1)
    assert drawn(7) == drawn(7) != drawn(8)
