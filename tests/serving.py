"""A server on a tiny package, for tests: start it, ask it, end it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from tasks.backends.base import Work
from tasks.backends.table import backend
from tasks.packaging.manifest import CONTENTS, Contents, write_manifest
from tests import ROOT
from tests import factories as make

NAME = "tiny"
START_S = 60
RECIPES: dict[str, dict[str, Any]] = {
    "torch": {"precision": "fp32"},
    "openvino": {"precision": "fp32"},
    "onnx": {"precision": "fp32"},
    "gguf": {"precision": "fp16"},
    "mlx": {"precision": "fp16"},
}


def package(folder: Path, model: Path, runtime: str = "gguf", digest: str = "d" * 64) -> Path:
    """A whole package of a tiny model in one runtime; `digest` is that of its results, and names the version."""
    recipe = make.recipe(backend=runtime, method="default", group_size=0, **RECIPES[runtime])
    (folder / "model").mkdir(parents=True)
    backend(runtime).convert(Work(model=model, calibration=(), threads=2), recipe, folder / "model")
    (folder / "tokenizer").mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        if (model / name).exists():
            shutil.copy2(model / name, folder / "tokenizer" / name)
    Contents(
        model="Tiny", origin="made for tests", source_sha256="1" * 64, variant=f"{runtime}-tiny", backend=runtime,
        recipe=recipe, tensor_share={}, versions={}, runtime={}, settings={}, requirements=(), chat=True,
        verdict="pass", results_digest=digest,
    ).write(folder / CONTENTS)  # fmt: skip
    write_manifest(folder)
    return folder


class Running:
    """A server process and its address."""

    def __init__(self, process: subprocess.Popen[str], log: Path, errors: Path) -> None:
        self.process, self.log, self.errors = process, log, errors
        self.base = self._address()

    def _address(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert " at http://" in line, f"{line}{self.errors.read_text()}"
        return line.split(" at ")[1].split("/v1")[0]

    @property
    def model_process(self) -> psutil.Process:
        """The process that holds the model."""
        [child] = psutil.Process(self.process.pid).children()
        return child

    def post(self, path: str, body: Any, **more: Any) -> httpx.Response:
        return httpx.post(f"{self.base}{path}", json=body, timeout=60, **more)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.base}{path}", timeout=10)

    def ready(self) -> bool:
        return self.get("/v2/health/ready").status_code == 200

    def until(self, ready: bool, seconds: float) -> float:
        """Wait until it is ready, or not; returns how long that took."""
        began = time.monotonic()
        while self.ready() != ready:
            assert time.monotonic() - began < seconds, f"ready is still {not ready} after {seconds} s"
            time.sleep(0.05)
        return time.monotonic() - began

    def metric(self, name: str, absent: float | None = None) -> float:
        """One line of /metrics; `absent` where there is none, as of a label that nothing was counted for yet."""
        found = [line for line in self.get("/metrics").text.splitlines() if line.startswith(f"{name} ")]
        if not found and absent is not None:
            return absent
        assert found, f"/metrics has no {name}"
        return float(found[0].split()[1])


@contextmanager
def server(folder: Path, made: Path, key: str = "", words: tuple[str, ...] = (), **settings: Any) -> Iterator[Running]:
    """A server of a package in `folder`, with changes to the block `serve` of params.yaml and more words."""
    process, running = start(folder, made, key, words, **settings)
    try:
        yield Running(*running)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)


def start(
    folder: Path, made: Path, key: str = "", words: tuple[str, ...] = (), **settings: Any
) -> tuple[subprocess.Popen[str], Any]:
    """Start a server process without waiting for it."""
    folder.mkdir(parents=True, exist_ok=True)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["serve"] |= {"port": 0, "context_tokens": 256, **settings}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    errors = folder / "errors.txt"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "EDGEWRIGHT_API_KEY": key}
    with errors.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "tasks.serve", "--package", str(made), "--name", NAME, "--log", "log", *words],
            cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=file, text=True,
        )  # fmt: skip
    return process, (process, folder / "log", errors)


def events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """Server-sent events of a stream, without its end."""
    for line in response.iter_lines():
        if line.startswith("data: ") and line != "data: [DONE]":
            yield json.loads(line[6:])
