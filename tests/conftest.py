"""Fixtures shared by the tests: a tiny random model with the sample's real tokenizer."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests import tiny, turns, weight
from tests.leftovers import (  # noqa: F401 - hooks
    pytest_sessionfinish,
    pytest_sessionstart,
    pytest_terminal_summary,
    pytest_testnodedown,
)

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("DO_NOT_TRACK", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `make test-fast` leaves out; side by side, the longest files come first."""
    for item in items:
        if isinstance(item, pytest.Function):
            for mark in weight.marks(item):
                item.add_marker(mark)
    if turns.together():
        turns.order(items)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let a test that is timed have the machine to itself."""
    if not turns.together():
        return (yield)
    with turns.turn(item.get_closest_marker("alone") is not None):
        return (yield)


@pytest.fixture(scope="session")
def tokenizer_dir(tmp_path_factory) -> Path:
    """The sample's tokenizer as fetch writes it."""
    return tiny.tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory, tokenizer_dir) -> Path:
    """A two-layer Llama of random weights."""
    return tiny.model(tmp_path_factory.mktemp("tiny") / "model", tokenizer_dir)


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[bytes]]]:
    """Apprise's address of a webhook on this machine, and the bodies that were posted to it."""
    got: list[bytes] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"json://127.0.0.1:{server.server_port}/", got
    server.shutdown()
