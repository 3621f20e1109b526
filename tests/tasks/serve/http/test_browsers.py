"""What browsers ask: whether a page may call, and beforehand without a key."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.serving import server

PAGE = "http://localhost:3000"
BEFORE = {
    "Origin": PAGE,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "content-type,authorization",
}


@pytest.mark.parametrize(("cors", "allowed"), [([PAGE], PAGE), (["*"], "*"), ([], None), (["http://other"], None)])
def test_a_page_may_call_where_it_is_named(made: Path, tmp_path: Path, cors: list[str], allowed: str | None) -> None:
    with server(tmp_path, made, cors=cors) as running:
        asked = httpx.options(f"{running.base}/v1/chat/completions", headers=BEFORE)
        assert asked.headers.get("access-control-allow-origin") == allowed
        assert (asked.status_code == 200) == (allowed is not None)
        answer = httpx.get(f"{running.base}/health", headers={"Origin": PAGE})
        assert answer.status_code == 200 and answer.headers.get("access-control-allow-origin") == allowed
