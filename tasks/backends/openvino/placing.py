"""Where OpenVINO puts a model: what it compiles for, what it says it executes on, and which operators a device lacks.

Its AUTO device falls back where compiling fails, and raises where a plugin's library is missing: so the device is tried
first, and the reason is read from what it says.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tasks.backends.openvino.graphs import FILE
from tasks.backends.placing import AUTO, CPU, KINDS, by_device, first_line, open_sizes, transfers, why
from tasks.records.placement import Fallback, Offered, Placement

OWN = "CPU"
LANGUAGE = "openvino_model.xml"
FOR_ALL = ("Parameter", "Result", "Constant")  # of every device


def placed(artifact: Path, requested: str, threads: int, properties: Mapping[str, Any] | None = None) -> Placement:
    """Compile the model where it is asked for, and for the processor where that fails."""
    import openvino as ov

    core = ov.Core()
    file = next((artifact / name for name in (FILE, LANGUAGE) if (artifact / name).is_file()), artifact)
    return of_model(core, core.read_model(file), requested, threads, properties)


def of_model(
    core: Any, model: Any, requested: str, threads: int, properties: Mapping[str, Any] | None = None
) -> Placement:
    """The placement of a model that was read."""
    offered = _offered(core)
    device, told = _device(requested, offered), dict(properties or {})
    compiled, lacking, fallbacks = _tried(core, model, device, told) if device != OWN else (None, [], [])
    on_device = compiled is not None
    if not on_device:
        compiled = core.compile_model(model, OWN, {"INFERENCE_NUM_THREADS": threads})
    dynamic = [one.get_any_name() for one in model.inputs if one.get_partial_shape().is_dynamic]
    fallbacks += [] if on_device else open_sizes(device, OWN, dynamic)
    used = _executed(compiled, OWN)
    there = _map(core, model, device if on_device else OWN, used[0])
    flops, edges = sizes(model)
    return Placement(
        backend="openvino",
        requested=requested,
        resolved=",".join(used),
        offered=offered,
        fallbacks=tuple(fallbacks),
        devices=by_device(there, flops),
        transfers=transfers(there, edges, there),
        unsupported=tuple(lacking),
        precision=_said(compiled, "INFERENCE_PRECISION_HINT"),
        threads=_said(compiled, "INFERENCE_NUM_THREADS"),
        verified_by="EXECUTION_DEVICES and query_model",
    )


def _offered(core: Any) -> tuple[Offered, ...]:
    """The devices that are there, and why GPU and NPU are not."""
    there = [str(one) for one in core.available_devices]
    found = [Offered(name=name, available=True) for name in there]
    for kind in KINDS[:2]:
        name = kind.upper()
        if not any(one.split(".")[0] == name for one in there):
            found.append(Offered(name=name, available=False, reason=_absence(core, name)))
    return tuple(found)


def _absence(core: Any, device: str) -> str:
    try:
        core.get_property(device, "FULL_DEVICE_NAME")
    except Exception as error:  # noqa: BLE001 - what it says is the reason
        return first_line(error)
    return "it is listed by no driver"


def _device(requested: str, offered: tuple[Offered, ...]) -> str:
    if requested == CPU:
        return OWN
    if requested == AUTO:
        there = [one.name for one in offered if one.available]
        return next((name for kind in KINDS for name in there if name.split(".")[0] == kind.upper()), OWN)
    return requested.upper() if requested in KINDS else requested


def _tried(core: Any, model: Any, device: str, told: dict[str, Any]) -> tuple[Any, list[str], list[Fallback]]:
    """The model compiled for a device, with the processor for what it lacks; or why it is not."""
    try:
        supported = core.query_model(model, device)
    except Exception as error:  # noqa: BLE001 - a device that cannot be asked is told of
        words = first_line(error)
        return None, [], [Fallback(asked=device, used=OWN, kind=why(str(error)), reason=words)]
    own = [one for one in model.get_ops() if one.get_type_name() not in FOR_ALL]
    lacking = sorted({one.get_type_name() for one in own if one.get_friendly_name() not in supported})
    fallbacks, target = [], device
    if lacking:
        said = f"it lacks {', '.join(lacking)}"
        fallbacks.append(Fallback(asked=device, used=OWN, kind="operator", reason=said))
        target = f"HETERO:{device},{OWN}"
    try:
        return core.compile_model(model, target, told), lacking, fallbacks
    except Exception as error:  # noqa: BLE001 - why it does not compile is told
        failed = Fallback(asked=device, used=OWN, kind=why(str(error)), reason=first_line(error))
        return None, lacking, [*fallbacks, failed]


def _map(core: Any, model: Any, device: str, executed: str) -> dict[str, str]:
    """Operator -> device: by what the device says that it takes, the rest on the processor."""
    names = [one.get_friendly_name() for one in model.get_ops() if one.get_type_name() not in FOR_ALL]
    try:
        supported = dict(core.query_model(model, device))
    except Exception:  # noqa: BLE001 - virtual devices that cannot be asked: all is where it is executed
        return dict.fromkeys(names, executed)
    return {name: str(supported.get(name, OWN)) for name in names}


def _executed(compiled: Any, default: str) -> list[str]:
    """Devices as they are said to execute; `(CPU)` is one that another stands in for at the moment."""
    try:
        found = compiled.get_property("EXECUTION_DEVICES")
    except Exception:  # noqa: BLE001 - older plugins do not tell
        return [default]
    return [str(one).strip("()") for one in ([found] if isinstance(found, str) else found)] or [default]


def _said(compiled: Any, name: str) -> str:
    try:
        value = compiled.get_property(name)
    except Exception:  # noqa: BLE001 - not every device tells it
        return ""
    return str(getattr(value, "get_type_name", lambda: str(value))()).strip("<>Type: '")


def sizes(model: Any) -> tuple[dict[str, float], dict[str, list[str]]]:
    """FLOPs of products and convolutions by operator (for one row, or one picture), and who feeds whom."""
    flops, edges = {}, {}
    for one in model.get_ops():
        name = one.get_friendly_name()
        edges[name] = [one.input_value(n).get_node().get_friendly_name() for n in range(one.get_input_size())]
        if one.get_type_name() in ("MatMul", "Convolution", "GroupConvolution"):
            weight = one.input_value(1).get_partial_shape()
            if weight.is_static:
                flops[name] = 2.0 * float(np.prod(weight.to_shape())) * _positions(one)
    return flops, edges


def _positions(one: Any) -> int:
    shape = one.get_output_partial_shape(0)
    if one.get_type_name() == "MatMul" or len(shape) != 4:
        return 1
    return int(np.prod([shape[n].get_length() for n in (2, 3) if shape[n].is_static] or [1]))
