"""The stage detect: this machine, a named profile, and a device that is not known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks import detect
from tasks.records.hardware import Hardware
from tests.tasks.hardware.test_hardware import put


def project(tmp_path: Path, device: str) -> Path:
    put(tmp_path, "params.yaml", json.dumps({"target": {"device": device}, "variants": VARIANT}))
    return tmp_path


VARIANT = {"torch-fp32": {"backend": "torch", "precision": "fp32", "role": "reference"}}


def test_detecting_the_host_twice_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project(tmp_path, "host"))
    assert detect.main([]) == 0
    first = Path("artifacts/hardware.json").read_bytes()
    shown = capsys.readouterr().out
    assert detect.main([]) == 0
    assert Path("artifacts/hardware.json").read_bytes() == first
    hardware = Hardware.read(Path("artifacts/hardware.json"))
    assert hardware.is_host
    assert (hardware.usable_cores.value or 0) >= 1
    assert all(a.available or a.reason for a in hardware.accelerators)
    assert any((a.runtime, a.name) == ("onnxruntime", "CPUExecutionProvider") for a in hardware.accelerators)
    assert "conditions at" in shown
    assert "memory free mb" in shown


def test_detecting_a_profile_shows_no_conditions_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project(tmp_path, "iphone"))
    assert detect.main([]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("iphone (profile, apple-mobile)")
    assert "conditions" not in shown
    assert "unknown: profile iphone does not give it" in shown


def test_an_unknown_device_ends_with_code_2_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project(tmp_path, "iphon"))
    assert detect.main([]) == 2
    assert "error: target.device 'iphon' is not known; did you mean 'iphone'?" in capsys.readouterr().err
    assert not Path("artifacts/hardware.json").exists()
