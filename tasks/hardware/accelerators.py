"""Find what can run a model beside the plain CPU, and say why the rest cannot.

Each runtime is asked in a process of its own, all at once: a driver that crashes or hangs becomes a reason.
"""

from __future__ import annotations

import importlib.util
import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

from tasks.records.hardware import Accelerator

Kind = Literal["gpu", "npu", "tpu", "cpu-provider"]

TIMEOUT_S = 30.0
NVIDIA = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
# OpenVINO's converter and its telemetry are a third of its import time; it does without them when they are blocked.
OPENVINO = """
import json, sys
sys.modules["openvino.tools.ovc"] = None
import openvino
core = openvino.Core()
print(json.dumps([[d, str(core.get_property(d, "FULL_DEVICE_NAME"))] for d in core.available_devices]))
"""
ONNXRUNTIME = """
import json, onnxruntime
print(json.dumps(onnxruntime.get_available_providers()))
"""
# ONNX Runtime's ways to a device. Azure's is left out: it sends requests to a remote service.
PROVIDERS: dict[str, Kind] = {
    "CPUExecutionProvider": "cpu-provider",
    "CUDAExecutionProvider": "gpu",
    "TensorrtExecutionProvider": "gpu",
    "ROCMExecutionProvider": "gpu",
    "DmlExecutionProvider": "gpu",
    "OpenVINOExecutionProvider": "cpu-provider",
    "CoreMLExecutionProvider": "npu",
    "QNNExecutionProvider": "npu",
}

Answer = tuple[str | None, str]  # what a probe printed, or None and the reason


class Probe:
    """A question to a runtime, running while others run."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name = name
        self._process = subprocess.Popen(
            command, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def answer(self) -> Answer:
        """Wait for what the probe printed; or None, and why there is nothing."""
        try:
            out, err = self._process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            return None, f"{self.name} did not answer within {TIMEOUT_S:.0f} s"
        if self._process.returncode != 0:
            last = (err.strip() or out.strip() or "no message").splitlines()[-1]
            return None, f"{self.name} failed with code {self._process.returncode}: {last}"
        return out, ""


def start_python(module: str, script: str) -> Probe | str:
    """Ask a Python runtime; the reason when it is not installed. -P keeps our folder off its import path."""
    if importlib.util.find_spec(module) is None:
        return f"{module} is not installed"
    return Probe(module, [sys.executable, "-P", "-c", script])


def start_nvidia() -> Probe | str:
    """Ask the NVIDIA driver; the reason when there is none."""
    if shutil.which(NVIDIA[0]) is None:
        return "nvidia-smi is not on PATH: no NVIDIA driver here"
    return Probe(NVIDIA[0], NVIDIA)


def find(chip: str, root: Path = Path("/")) -> tuple[Accelerator, ...]:
    """All accelerators of this machine, the absent ones with the reason; `chip` names the processor."""
    probes = [start_nvidia(), start_python("openvino", OPENVINO), start_python("onnxruntime", ONNXRUNTIME)]
    nvidia, openvino, onnxruntime = [(None, p) if isinstance(p, str) else p.answer() for p in probes]
    return (
        *from_nvidia(*nvidia),
        *from_openvino(*openvino),
        *from_onnxruntime(*onnxruntime),
        metal(platform.system(), platform.machine(), chip),
        edge_tpu(root),
    )


def from_nvidia(out: str | None, reason: str) -> list[Accelerator]:
    """Read nvidia-smi's lines `name, memory in MiB`; boards that share the machine's memory print no number."""
    found = []
    for line in (out or "").splitlines():
        name, _, size = line.strip().rpartition(", ")
        if name:
            memory = int(size) * (1 << 20) // 1_000_000 if size.isdigit() else None
            found.append(Accelerator(kind="gpu", name=name, runtime="cuda", available=True, memory_mb=memory))
    return found or [_absent("gpu", "NVIDIA GPU", "cuda", reason or "nvidia-smi lists no GPU")]


def from_openvino(out: str | None, reason: str) -> list[Accelerator]:
    """Read OpenVINO's devices, [name, full name] each; a GPU and an NPU it does not list are reported absent."""
    devices: list[list[str]] = _json(out)
    found = []
    for device, full in devices:
        kind: Kind = "gpu" if device.startswith("GPU") else "npu" if device.startswith("NPU") else "cpu-provider"
        found.append(Accelerator(kind=kind, name=f"{device}: {full.strip()}", runtime="openvino", available=True))
    listed = ", ".join(device for device, _ in devices)
    why = reason or f"OpenVINO lists no such device or its driver is missing (it lists: {listed or 'nothing'})"
    missing: list[tuple[Kind, str]] = [("cpu-provider", "CPU"), ("gpu", "GPU"), ("npu", "NPU")]
    have = {accelerator.kind for accelerator in found}
    return found + [_absent(kind, name, "openvino", why) for kind, name in missing if kind not in have]


def from_onnxruntime(out: str | None, reason: str) -> list[Accelerator]:
    """Read ONNX Runtime's execution providers; known ones that this build lacks are reported absent."""
    built: list[str] = _json(out)
    found = []
    for name, kind in PROVIDERS.items():
        if name in built:
            found.append(Accelerator(kind=kind, name=name, runtime="onnxruntime", available=True))
        else:
            why = reason or "not in the installed build of onnxruntime"
            found.append(_absent(kind, name, "onnxruntime", why))
    return found


def metal(system: str, machine: str, chip: str) -> Accelerator:
    """Apple's GPU, which shares the machine's memory."""
    if (system, machine) == ("Darwin", "arm64"):
        return Accelerator(kind="gpu", name=f"{chip or 'Apple'} GPU", runtime="metal", available=True)
    return _absent("gpu", "Apple GPU", "metal", f"Metal needs macOS on Apple Silicon; this is {system} on {machine}")


def edge_tpu(root: Path) -> Accelerator:
    """A Coral Edge TPU on PCI Express. None of the four frameworks drives it, so it is never available."""
    if (root / "dev/apex_0").exists():
        reason = "the device is there, but no framework of this pipeline compiles for it; models run on the CPU"
        return _absent("tpu", "Coral Edge TPU", "edgetpu", reason)
    return _absent("tpu", "Coral Edge TPU", "edgetpu", "no /dev/apex_0 here")


def _absent(kind: Kind, name: str, runtime: str, reason: str) -> Accelerator:
    return Accelerator(kind=kind, name=name, runtime=runtime, available=False, reason=reason)


def _json(out: str | None) -> list[Any]:
    """The last line as a JSON list, as runtimes may print warnings before it; empty when it is none."""
    lines = (out or "").strip().splitlines()
    try:
        value = json.loads(lines[-1]) if lines else []
    except ValueError:
        return []
    return value if isinstance(value, list) else []
