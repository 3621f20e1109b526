"""ONNX Runtime's ways to a device: providers of the installed build, and those that come as packages of their own.

The latter (`PLUGINS`) are registered in a process for good.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tasks.backends.devices import PROCESSOR
from tasks.backends.placing import first_line
from tasks.errors import UnsupportedError
from tasks.records.placement import Offered

OWN = "CPUExecutionProvider"
PLUGINS = {"OpenVINOExecutionProvider": "onnxruntime_ep_openvino", "WebGpuExecutionProvider": "onnxruntime_ep_webgpu"}
OF_KIND = {
    "gpu": (
        "CUDAExecutionProvider", "ROCMExecutionProvider", "DmlExecutionProvider", "WebGpuExecutionProvider",
        "OpenVINOExecutionProvider.GPU",
    ),
    "npu": ("QNNExecutionProvider", "CoreMLExecutionProvider", "OpenVINOExecutionProvider.NPU"),
}  # fmt: skip
NO_DEVICE = "its package is installed, and finds no device of its maker's on this machine"


def created(file: Path, options: Any, device: str) -> Any:
    """An inference session on a device, which a provider of this build or of a package here names.

    Raises UnsupportedError where there is none of that name.
    """
    import onnxruntime

    if device in (PROCESSOR, OWN):
        return onnxruntime.InferenceSession(str(file), options, providers=[OWN])
    devices, offered = offered_devices()
    names, found = meant(device, devices)
    if found is not None:
        options.add_provider_for_devices([found], {})
        return onnxruntime.InferenceSession(str(file), options)
    built = next((name for name in names if name in onnxruntime.get_available_providers()), None)
    if built is not None:
        return onnxruntime.InferenceSession(str(file), options, providers=[built, OWN])
    there = ", ".join(one.name for one in offered if one.available)
    raise UnsupportedError(f"no available device {device!r} in ONNX Runtime; there are: {there}")


def meant(device: str, devices: Mapping[str, Any]) -> tuple[tuple[str, ...], Any | None]:
    """Providers' names that a device or a kind of devices may mean, and the first of them that is there."""
    names = OF_KIND.get(device.lower(), (device,))
    return names, next((devices[name] for name in names if name in devices), None)


@cache
def offered_devices() -> tuple[dict[str, Any], tuple[Offered, ...]]:
    """Devices by the name of their provider, and what is offered with why the rest is not; asked once a process."""
    import onnxruntime

    absent = []
    known = {one.ep_name for one in onnxruntime.get_ep_devices()}
    for name, module in PLUGINS.items():
        if name in known:
            continue
        if importlib.util.find_spec(module) is None:
            absent.append(Offered(name=name, available=False, reason=f"the package {module} is not installed"))
            continue
        try:
            onnxruntime.register_execution_provider_library(name, importlib.import_module(module).get_library_path())
        except Exception as error:  # noqa: BLE001 - a library that does not load is told
            absent.append(Offered(name=name, available=False, reason=first_line(error)))
            continue
        if not any(one.ep_name.split(".")[0] == name for one in onnxruntime.get_ep_devices()):
            absent.append(Offered(name=name, available=False, reason=NO_DEVICE))
    devices = {_name(one): one for one in onnxruntime.get_ep_devices()}
    built = [name for name in onnxruntime.get_available_providers() if name not in devices]
    there = [Offered(name=name, available=True) for name in (*devices, *built)]
    return devices, (*there, *absent)


def _name(device: Any) -> str:
    """A provider's name, with its kind of device where that is none of the processor."""
    kind = str(device.device.type).rsplit(".", 1)[-1]
    name = str(device.ep_name)
    return name if kind == "CPU" or "." in name else f"{name}.{kind}"
