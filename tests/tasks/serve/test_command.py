"""The command `python -m tasks.serve`."""

from __future__ import annotations

import os
from pathlib import Path

from tasks.serve import command
from tasks.serve.address import Address
from tasks.serve.options import ServerOptions
from tests.serving import server


def test_a_server_keeps_to_the_processors_it_is_given(made: Path, tmp_path: Path) -> None:
    core = sorted(os.sched_getaffinity(0))[-1]
    with server(tmp_path, made, words=("--cores", str(core), "--context", "128")) as one:
        assert one.model_process.cpu_affinity() == [core]
        address = Address.read(one.log / "address.json")
        assert address.options == ServerOptions(cores=(core,), context=128)
        long = one.post("/v1/completions", {"prompt": "word " * 200})
        assert long.status_code == 400
        assert "128 fit" in long.text
    assert command.main(["--package", str(made), "--cores", "9999"]) == 2
