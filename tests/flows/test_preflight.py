"""flows/preflight.py: a run that cannot come to its end is refused before anything is started."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from flows import preflight
from tasks.errors import ConfigError, DataError, EdgewrightError, ModelError
from tasks.params.load import parse
from tests import factories, pipelines

REFUSED: list[tuple[str, str, type[EdgewrightError], str]] = [
    ("target.device", "rasberry-pi", ConfigError, "did you mean 'raspberry-pi'"),
    (
        "targets.pi",
        {"device": "rasberry-pi"},
        ConfigError,
        "targets.pi.device 'rasberry-pi' is not known; did you mean",
    ),
    (
        "targets.pod",
        {"kind": "kubernets"},
        ConfigError,
        "targets.pod.kind: 'kubernets' is not known; did you mean 'kub",
    ),
    ("targets.a", {"gate": {"retantion": None}}, ConfigError, "unknown parameter 'targets.a.gate.retantion'; did you"),
    ("assess.frameworks", ["openvno"], ConfigError, "did you mean 'openvino'"),
    ("fetch.model", "./models/nowhere", ModelError, "allowed: 'sample', a Hugging Face directory"),
    ("fetch.model", "/nowhere/model.gguf", ModelError, "is not there"),
    ("fetch.model", "own.bin", ModelError, "is a .bin file; give a .gguf file or a Hugging Face directory"),
    ("fetch.model", "empty", ModelError, "has no config.json"),
    ("fetch.model", "artifacts/model", ModelError, "lies in artifacts/, which the run replaces"),
    ("fetch.model", "artifacts/model/m.gguf", ModelError, "lies in artifacts/, which the run replaces"),
    ("data.source", "rows.csv", DataError, "holds no row; each needs"),
    ("data.source", "none.jsonl", DataError, "is not there; allowed: gsm8k"),
    ("data.calibration_source", "none.txt", DataError, "is not there"),
    ("data.tasks", "none.jsonl", DataError, "is not there"),
]


def files(root: Path) -> None:
    for name in ("own.bin", "rows.csv", "artifacts/model/m.gguf", "artifacts/model/config.json", "empty/readme"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("{}")


@pytest.mark.parametrize(("key", "value", "error", "said"), REFUSED)
def test_what_cannot_be_used_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: Any, error: type[EdgewrightError], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    files(tmp_path)
    block, _, name = key.partition(".")
    raw = factories.params().model_dump(exclude={"profiles", "serve", "promotion", "monitor"})
    raw[block] = {**raw[block], name: value}
    if block == "targets":
        del raw["target"]
    with pytest.raises(error, match=said.replace("(", r"\(")):
        preflight.refuse(parse(raw), tmp_path)


def test_the_sample_and_a_hub_id_are_not_refused(tmp_path: Path) -> None:
    raw = factories.params().model_dump(exclude={"profiles", "serve", "promotion", "monitor"})
    for model in ("sample", "OWNER/NAME"):
        preflight.refuse(parse({**raw, "fetch": {**raw["fetch"], "model": model}}), tmp_path)


IN_PROCESS = """
import json, sys
from flows import run
code = run.main(json.loads(sys.argv[1]))
print("imported:", *(name for name in ("prefect", "dvc", "mlflow", "torch") if name in sys.modules))
raise SystemExit(code)
"""


@pytest.mark.parametrize(
    "argv",
    [["--model", "artifacts/model"], ["--model", "/nowhere/model.gguf"], ["--profile", "slow"], ["--target", "pi"],
     ["-S", "variants.c.method=rtn"]],
    ids=" ".join,
)  # fmt: skip
def test_it_is_told_at_once_with_nothing_started_or_imported(tmp_path: Path, argv: list[str]) -> None:
    root = pipelines.make(tmp_path)
    files(root)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", IN_PROCESS, json.dumps(argv)], cwd=root, env=pipelines.environment(root),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2 and "error: " in done.stdout, done.stdout
    assert done.stdout.splitlines()[-1] == "imported:" and pipelines.ran(root) == []
    assert time.monotonic() - began < 20  # alone: two
