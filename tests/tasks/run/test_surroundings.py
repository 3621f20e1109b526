"""A home that can be written, and no proxy between this machine and itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks.run import surroundings


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"http_proxy": "http://p:1"}, "127.0.0.1,localhost,::1"),
        ({"HTTPS_PROXY": "http://p:1", "no_proxy": "corp.example, localhost"}, "corp.example,localhost,127.0.0.1,::1"),
        ({}, None),
        ({"no_proxy": "a"}, "a"),
        ({"http_proxy": "http://p:1", "NO_PROXY": "hub.corp"}, "hub.corp,127.0.0.1,localhost,::1"),
        ({"http_proxy": "http://p:1", "no_proxy": "a", "NO_PROXY": "a,b"}, "a,b,127.0.0.1,localhost,::1"),
        ({"http_proxy": "http://p:1", "no_proxy": "*"}, "*"),
    ],
)
def test_this_machine_is_asked_past_proxies(
    monkeypatch: pytest.MonkeyPatch, before: dict[str, str], after: str | None
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    surroundings.settle()
    assert os.environ.get("no_proxy") == after
    surroundings.settle()
    assert os.environ.get("no_proxy") == after, "once is enough"


def test_a_home_that_can_be_written_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    surroundings.settle()
    assert os.environ["HOME"] == str(tmp_path)


@pytest.mark.parametrize("home", ["", "/proc/none", "/nowhere at all"])
def test_another_is_found_where_it_cannot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: str) -> None:
    monkeypatch.setattr(surroundings.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(surroundings.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("HOME", home)
    surroundings.settle()
    first = os.environ["HOME"]
    assert Path(first).parent == tmp_path and Path(first).stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("HOME", home)
    surroundings.settle()
    assert os.environ["HOME"] == first, "the same from run to run"
    Path(first).rmdir()
    Path(first).symlink_to(tmp_path)
    monkeypatch.setenv("HOME", home)
    surroundings.settle()
    assert os.environ["HOME"] != first, "where somebody else may have put it"
