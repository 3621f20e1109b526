"""What people open in a browser: a chat, the API's own page, headers alone; without any other server."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from tasks.serve.http.app import PAGE
from tests.serving import NAME, Running, server

ELSEWHERE = re.compile(r"""(?:src|href|url\(|fetch\()\s*=?\s*["']?(?:https?:)?//""")


def test_the_chat_page_has_all_it_needs_from_this_server(running: Running) -> None:
    page = running.get("/")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    wanted = re.findall(r'(?:src|href)="(page/[^"]+)"', page.text)
    assert {"page/chat.js", "page/chat.css"} == set(wanted)
    for one in wanted:
        found = running.get(f"/{one}")
        assert found.status_code == 200 and not ELSEWHERE.search(found.text)
    assert not ELSEWHERE.search(page.text)


def test_the_card_tells_what_the_model_is(running: Running) -> None:
    card = running.get("/v1/models").json()["data"][0]["card"]
    assert {"model": "Tiny", "variant": "gguf-tiny", "runtime": "gguf", "verdict": "pass"}.items() <= card.items()


def test_the_apis_page_needs_no_network(running: Running) -> None:
    page = running.get("/docs")
    assert page.status_code == 200 and not ELSEWHERE.search(page.text)
    for file in re.findall(r'(?:src|href)="(/[^"]+)"', page.text):
        assert running.get(file).status_code == 200, file
    assert "/v1/chat/completions" in running.get("/openapi.json").json()["paths"]


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/health", "/v1/models", "/metrics", "/v2", f"/v1/models/{NAME}", "/none"]
)
def test_head_has_the_headers_of_get(running: Running, path: str) -> None:
    head, get = httpx.head(f"{running.base}{path}"), running.get(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-type"] == get.headers["content-type"]


def test_pages_are_open_where_the_api_wants_a_key(made: Path, tmp_path: Path) -> None:
    with server(tmp_path, made, key="secret") as one:
        assert [one.get(path).status_code for path in ("/", "/page/chat.js", "/docs", "/openapi.json", "/health")] == [
            200
        ] * 5
        assert [one.get(path).status_code for path in ("/v1/models", "/page", "/pages", "/v2")] == [401] * 4


@pytest.mark.skipif(shutil.which("node") is None, reason="no Node.js, by which the page's script is parsed")
def test_the_pages_script_is_javascript() -> None:
    subprocess.run(["node", "--check", str(PAGE / "chat.js")], check=True)
