"""One server process: start, what it refuses to serve, where it listens, drain."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx
import psutil

from tasks.serve import command
from tasks.serve.address import Address
from tests.serving import Running, events, server, start
from tests.tasks.serve.asking import LONG


def test_a_server_told_to_stop_finishes_what_it_began(made: Path, tmp_path: Path) -> None:
    with server(tmp_path, made) as one:
        with httpx.stream("POST", f"{one.base}/v1/completions", json={**LONG, "stream": True}, timeout=60) as response:
            told = events(response)
            next(told)
            one.process.send_signal(signal.SIGTERM)
            assert list(told)[-1]["choices"][0]["finish_reason"] in ("length", "stop")
        assert one.process.wait(timeout=20) == 0


def test_a_changed_byte_refuses_the_load(made: Path, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(made, tmp_path / "package")
    weights = copy / "model" / "model.gguf"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    process, (_, _, errors) = start(tmp_path / "server", copy)
    assert process.wait(timeout=60) == 2
    assert "model/model.gguf was changed" in errors.read_text()


def test_a_folder_that_is_no_package_is_refused(tmp_path: Path) -> None:
    process, (_, _, errors) = start(tmp_path / "server", tmp_path)
    assert process.wait(timeout=60) == 2
    assert "is no package" in errors.read_text()


def test_it_listens_on_loopback_alone(running: Running) -> None:
    assert running.base.startswith("http://127.0.0.1:")
    listening = [one for one in psutil.Process(running.process.pid).net_connections() if one.status == "LISTEN"]
    assert {one.laddr.ip for one in listening} == {"127.0.0.1"}


def test_a_port_that_is_taken_is_refused_in_words(made: Path, running: Running, tmp_path: Path, capfd) -> None:
    taken = str(Address.read(running.log / "address.json").port)
    assert command.main(["--package", str(made), "--port", taken, "--log", str(tmp_path)]) == 2
    assert f"cannot listen at 127.0.0.1:{taken}" in "".join(capfd.readouterr())
    assert running.post("/v1/completions", {"prompt": "word", "max_tokens": 4}).status_code == 200


def test_a_device_that_is_not_there_is_fallen_back_from_and_told(made: Path, tmp_path: Path) -> None:
    with server(tmp_path, made, words=("--device", "GPU")) as one:
        assert one.post("/v1/completions", {"prompt": "word", "max_tokens": 4}).status_code == 200
        assert one.metric("edgewright_fallback") == 1.0
        assert "GPU fell back to CPU" in one.errors.read_text()
        assert Address.read(one.log / "address.json").options.device == "GPU"


def test_as_it_was_measured_nothing_falls_back(running: Running) -> None:
    assert running.metric("edgewright_fallback") == 0.0
