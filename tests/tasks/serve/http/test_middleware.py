"""What every call passes first: the key, the limit on bodies, the request id."""

from __future__ import annotations

import json
import time
from pathlib import Path

import httpx
import pytest

from tests.serving import Running, server
from tests.tasks.serve.asking import LONG


def test_a_key_is_asked_for_where_one_is_set(made: Path, tmp_path: Path) -> None:
    with server(tmp_path, made, key="secret") as one:
        assert one.post("/v1/completions", LONG).status_code == 401
        assert one.post("/v1/completions", LONG, headers={"Authorization": "Bearer other"}).status_code == 401
        assert one.post("/v1/completions", LONG, headers={"Authorization": "Bearer secret"}).status_code == 200
        assert one.ready() and one.get("/metrics").status_code == 200
        assert "secret" not in one.errors.read_text()


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_refused(running: Running, chunked: bool) -> None:
    raw = json.dumps({"prompt": "x" * 2**19}).encode()
    content = iter([raw[: 2**18], raw[2**18 :]]) if chunked else raw
    answer = httpx.post(f"{running.base}/v1/completions", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 413 and "serve.body_kb" in answer.json()["error"]["message"]


def test_a_request_id_goes_through_and_a_forged_one_does_not(running: Running) -> None:
    given = httpx.get(f"{running.base}/v1/models", headers={"X-Request-Id": "abc-1"})
    assert given.headers["x-request-id"] == "abc-1"
    forged = httpx.get(f"{running.base}/v1/models", headers={"X-Request-Id": 'x", "status": 200'})
    assert forged.headers["x-request-id"].startswith("req-")
    wanted, until = {"abc-1", forged.headers["x-request-id"]}, time.monotonic() + 5
    while not wanted <= noted(running) and time.monotonic() < until:  # a call is noted after its answer went out
        time.sleep(0.05)
    assert wanted <= noted(running)


def noted(running: Running) -> set[str]:
    """Request ids of the access lines so far."""
    lines = running.errors.read_text().splitlines()
    return {json.loads(line)["request_id"] for line in lines if line.startswith("{") and line.endswith("}")}
