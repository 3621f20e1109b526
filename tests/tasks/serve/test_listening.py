"""A listening socket that is handed over: who takes it, what is refused, and that a kill refuses no caller."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
import yaml

from tasks.errors import ConfigError, ResourceError
from tasks.serve import listening
from tests import ROOT

TAKES = """
import sys
from tasks.errors import EdgewrightError
from tasks.serve import listening
try:
    taken = listening.listener("127.0.0.1", 0)
    print(taken.getsockname()[1], listening.is_handed(), taken.get_inheritable())
except EdgewrightError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def held() -> Iterator[socket.socket]:
    with closing(listening.bound("127.0.0.1", 0)) as made:
        yield made


def said(given: socket.socket, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], **told: str) -> str:
    """What a process prints that is handed a socket; `told` goes over what it is told in its environment."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    words = "".join(f"os.environ[{name!r}] = {value!r}\n" for name, value in told.items())
    pid = listening.handed(given, [sys.executable, "-c", f"import os\n{words}{TAKES}"])
    assert os.waitpid(pid, 0)[1] == 0
    return capfd.readouterr().out.strip()


def test_the_socket_is_taken_once_and_passed_to_nobody(held, monkeypatch, capfd) -> None:
    assert said(held, monkeypatch, capfd) == f"{held.getsockname()[1]} False False"


def test_what_was_handed_to_another_process_is_left_alone(held, monkeypatch, capfd) -> None:
    port, *_ = said(held, monkeypatch, capfd, LISTEN_PID="1").split()
    assert int(port) != held.getsockname()[1]


@pytest.mark.parametrize(("count", "words"), [
    ("2", "2 sockets were handed over"), ("", "no sockets were handed over"),
])  # fmt: skip
def test_only_one_socket_is_taken(count: str, words: str, held, monkeypatch, capfd) -> None:
    assert words in said(held, monkeypatch, capfd, LISTEN_FDS=count)


@pytest.mark.parametrize(("kind", "listens", "words"), [
    (socket.SOCK_STREAM, False, "AF_INET SOCK_STREAM, not listening"),
    (socket.SOCK_DGRAM, False, "AF_INET SOCK_DGRAM, not listening"),
])  # fmt: skip
def test_a_socket_of_another_kind_is_refused(kind: int, listens: bool, words: str, monkeypatch, capfd) -> None:
    with closing(socket.socket(socket.AF_INET, kind)) as other:
        other.bind(("127.0.0.1", 0))
        assert words in said(other, monkeypatch, capfd)


def test_a_descriptor_that_is_no_socket_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setattr(listening, "FIRST", os.open(os.devnull, os.O_RDONLY))
    with pytest.raises(ConfigError, match="which was handed over as a socket, is none"):
        listening.inherited()
    os.close(listening.FIRST)


def test_an_address_that_is_taken_is_refused_in_words(held: socket.socket) -> None:
    with pytest.raises(ResourceError, match="cannot listen at 127.0.0.1:"):
        listening.bound(*held.getsockname())


def test_a_server_that_is_killed_refuses_nobody(made: Path, tmp_path: Path, held: socket.socket, monkeypatch) -> None:
    """Given a server whose socket is held, when it is killed, then who asks meanwhile is answered by the next one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    command = [
        sys.executable, "-m", "tests.drill.echo_server", "--package", str(made), "--name", "tiny", "--port", "1",
        "--log", str(tmp_path / "log"),
    ]  # fmt: skip
    base, body = f"http://127.0.0.1:{held.getsockname()[1]}", {"prompt": "word", "max_tokens": 2}
    pid = listening.handed(held, command)
    try:
        assert httpx.post(f"{base}/v1/completions", json=body, timeout=60).status_code in (200, 503)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        waiting = subprocess.Popen(
            [sys.executable, "-c", f"import httpx; print(httpx.get('{base}/v2/health/live', timeout=60).status_code)"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        time.sleep(1.0)
        pid = listening.handed(held, command)
        assert waiting.communicate(timeout=60)[0].strip() == "200"
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
