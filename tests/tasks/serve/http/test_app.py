"""The HTTP application: malformed requests, and requests drawn from its own document."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

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


def test_requests_drawn_from_the_openapi_document_break_nothing(made: Path, tmp_path: Path) -> None:
    """What the document allows, and what is near to it, is answered or refused in OpenAI's form, never by a fault."""
    with server(tmp_path, made, slots=4) as running:  # its own: what is drawn is judged and logged as well
        document = schemathesis.openapi.from_url(f"{running.base}/openapi.json")
        drawn = 0

        def call(case: schemathesis.Case) -> None:
            nonlocal drawn
            drawn += 1
            if isinstance(case.body, dict):
                case.body = {**case.body, "max_tokens": 1, "max_completion_tokens": 1, "stream": False}
            answer = case.call(timeout=60)
            assert answer.status_code < 500, answer.text
            if answer.status_code >= 400 and case.path.startswith("/v1/"):
                assert answer.json()["error"]["message"]

        few = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        paths = set()
        for found in document.get_all_operations():
            operation = found.ok()
            paths.add(operation.path)
            few(given(operation.as_strategy())(call))()
        assert {"/v1/completions", "/v1/chat/completions", "/v1/feedback", "/metrics"} <= paths
        assert drawn > 5 * len(paths)
        assert running.ready()
