"""Accelerators: what runtimes tell, and why there are none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tasks.hardware import accelerators
from tests.tasks.hardware.test_hardware import put


def test_nvidia_lines() -> None:
    found = accelerators.from_nvidia("NVIDIA L4, 23034\nNVIDIA GB10, [N/A]\n", "")
    assert [(a.name, a.memory_mb, a.available) for a in found] == [
        ("NVIDIA L4", 24152, True),
        ("NVIDIA GB10", None, True),
    ]
    (absent,) = accelerators.from_nvidia(None, "nvidia-smi is not on PATH: no NVIDIA driver here")
    assert not absent.available
    assert absent.reason.startswith("nvidia-smi is not on PATH")
    assert accelerators.from_nvidia("", "")[0].reason == "nvidia-smi lists no GPU"


def test_openvino_devices_and_the_absent_ones() -> None:
    listed = 'a warning\n[["CPU", "Xeon "], ["GPU.0", "Arc"]]\n'
    found = {a.name: a for a in accelerators.from_openvino(listed, "")}
    assert found["GPU.0: Arc"].available
    assert found["GPU.0: Arc"].kind == "gpu"
    assert not found["NPU"].available
    assert "it lists: CPU, GPU.0" in found["NPU"].reason
    nothing = accelerators.from_openvino(None, "openvino is not installed")
    assert [a.reason for a in nothing] == ["openvino is not installed"] * 3
    assert all(not a.available for a in accelerators.from_openvino("no list", ""))


def test_onnxruntime_providers() -> None:
    built = '["AzureExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]'
    found = {a.name: a for a in accelerators.from_onnxruntime(built, "")}
    assert found["CUDAExecutionProvider"].available
    assert found["CPUExecutionProvider"].kind == "cpu-provider"
    assert found["QNNExecutionProvider"].reason == "not in the installed build of onnxruntime"
    assert "AzureExecutionProvider" not in found, "a remote service is no accelerator of this machine"


def test_a_probe_that_crashes_hangs_or_is_missing_becomes_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    crashed = accelerators.Probe("driver", [sys.executable, "-c", "raise SystemExit('no such device')"])
    assert crashed.answer() == (None, "driver failed with code 1: no such device")
    monkeypatch.setattr(accelerators, "TIMEOUT_S", 0.2)
    hung = accelerators.Probe("driver", [sys.executable, "-c", "import time; time.sleep(60)"])
    assert hung.answer() == (None, "driver did not answer within 0 s")
    assert accelerators.start_python("no_such_runtime", "") == "no_such_runtime is not installed"
    monkeypatch.setenv("PATH", "")
    assert accelerators.start_nvidia() == "nvidia-smi is not on PATH: no NVIDIA driver here"


def test_metal_and_edge_tpu(tmp_path: Path) -> None:
    assert accelerators.metal("Darwin", "arm64", "Apple M2").available
    elsewhere = accelerators.metal("Linux", "x86_64", "Xeon")
    assert (elsewhere.available, elsewhere.reason) == (
        False,
        "Metal needs macOS on Apple Silicon; this is Linux on x86_64",
    )
    assert accelerators.edge_tpu(tmp_path).reason == "no /dev/apex_0 here"
    put(tmp_path, "dev/apex_0", "")
    assert "no framework of this pipeline compiles for it" in accelerators.edge_tpu(tmp_path).reason
