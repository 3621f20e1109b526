"""Where ONNX Runtime puts each operator, from its own record of the assignment.

Providers are those of the installed build, and those that come as packages of their own (`PLUGINS`), which are
registered in this process for good: so this is asked in a child. Operators on the processor that only tell shapes are
put there by design, which is why the share of FLOPs counts and not that of operators.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tasks.backends.onnx.names import FILE
from tasks.backends.onnx.providers import NO_DEVICE, OF_KIND, OWN, meant, offered_devices
from tasks.backends.placing import AUTO, CPU, KINDS, by_device, first_line, open_sizes, transfers, why
from tasks.records.placement import Fallback, FallbackKind, Placement

PRODUCTS = ("MatMul", "MatMulNBits", "MatMulInteger", "MatMulIntegerToFloat", "Gemm", "QLinearMatMul")
# Small operators on sizes, which ONNX Runtime keeps on the processor so that nothing waits for a device.
BY_DESIGN = (
    "Shape",
    "Gather",
    "Unsqueeze",
    "Squeeze",
    "Concat",
    "Slice",
    "Cast",
    "Constant",
    "Range",
    "ReduceSum",
    "Sub",
)
CONVOLUTIONS = ("Conv", "QLinearConv", "ConvInteger")


def placed(artifact: Path, requested: str, threads: int, options: Mapping[str, str] | None = None) -> Placement:
    """Open the model where it is asked for, and on the processor where that fails; `options` are the provider's own."""
    file = artifact / FILE if artifact.is_dir() else artifact
    devices, offered = offered_devices()
    wanted, problem = _wanted(requested, devices, {one.name for one in offered if one.reason == NO_DEVICE})
    fallbacks: list[Fallback] = [problem] if problem is not None else []
    session = None
    if wanted is not None:
        try:
            session = _opened(file, threads, [wanted], options or {})
        except Exception as error:  # noqa: BLE001 - whatever a provider throws is why it is not used
            told = first_line(error)
            fallbacks.append(_to_cpu(requested, why(told), told))
    session = session or _opened(file, threads, [], {})
    dynamic = [port.name for port in session.get_inputs() if not all(isinstance(size, int) for size in port.shape)]
    on_device = session.get_providers()[0] != OWN
    fallbacks += [] if on_device else open_sizes(requested, OWN, dynamic)
    assigned = _assigned(session)
    flops, edges = sizes(file)
    if on_device:
        fallbacks += _left(requested, assigned)
    there = {name: device for name, (device, _) in assigned.items()}
    found = by_device(there, flops)
    lacking = {kind for device, kind in assigned.values() if device == OWN} if len(found) > 1 else set()
    return Placement(
        backend="onnx",
        requested=requested,
        resolved=found[0].device if found else OWN,
        offered=offered,
        fallbacks=tuple(fallbacks),
        devices=found,
        transfers=transfers(there, edges, there),
        unsupported=tuple(sorted(lacking)),
        threads=str(threads),
        verified_by="get_provider_graph_assignment_info",
    )


def _wanted(requested: str, devices: Mapping[str, Any], empty: Collection[str]) -> tuple[Any | None, Fallback | None]:
    """The device to open with, None for the processor; and why it is not the one that was asked for."""
    if requested in (AUTO, CPU, OWN):
        best = next((devices[name] for kind in KINDS for name in OF_KIND.get(kind, ()) if name in devices), None)
        return (best if requested == AUTO else None), None
    names, found = meant(requested, devices)
    if found is not None:
        return found, None
    known = {one.split(".")[0] for one in (*devices, *empty)}
    registered = [name for name in names if name.split(".")[0] in known]
    if registered:
        return None, _to_cpu(requested, "device", f"{registered[0].split('.')[0]} is there and finds no such device")
    said = f"no provider for it in this build or among installed packages: {', '.join(names)}"
    return None, _to_cpu(requested, "library", said)


def _to_cpu(asked: str, kind: FallbackKind, reason: str) -> Fallback:
    return Fallback(asked=asked, used=OWN, kind=kind, reason=reason)


def _opened(file: Path, threads: int, devices: list[Any], provider: Mapping[str, str]) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if not devices:
        return onnxruntime.InferenceSession(str(file), options, providers=[OWN])
    options.add_provider_for_devices(devices, dict(provider))
    return onnxruntime.InferenceSession(str(file), options)


def _assigned(session: Any) -> dict[str, tuple[str, str]]:
    """Provider and operator of each node by its name."""
    found: dict[str, tuple[str, str]] = {}
    for part in session.get_provider_graph_assignment_info():
        for node in part.get_nodes():
            name = str(node.name) or f"{node.op_type}_{len(found)}"
            kind = f"{node.domain}:{node.op_type}" if node.domain else str(node.op_type)
            found[name] = (str(part.ep_name), kind)
    return found


def _left(requested: str, assigned: Mapping[str, tuple[str, str]]) -> list[Fallback]:
    """Operators that stayed on the processor though it was not by design: all but those that tell sizes and places."""
    lacking = sorted({kind for device, kind in assigned.values() if device == OWN and kind not in BY_DESIGN})
    return [_to_cpu(requested, "operator", f"it does not take {', '.join(lacking)}")] if lacking else []


def sizes(file: Path) -> tuple[dict[str, float], dict[str, list[str]]]:
    """FLOPs of products (for one row) and convolutions (for one picture) by node, and who feeds whom."""
    import onnx

    graph = onnx.load(str(file), load_external_data=False).graph
    shapes = {one.name: [int(n) for n in one.dims] for one in graph.initializer}
    spatial = _positions(file)
    made = {output: node.name for node in graph.node for output in node.output}
    flops, edges = {}, {}
    for node in graph.node:
        edges[node.name] = [made[name] for name in node.input if name in made]
        weight = next((shapes[name] for name in node.input if len(shapes.get(name, ())) >= 2), None)
        if node.op_type in PRODUCTS and weight is not None:
            flops[node.name] = 2.0 * _weights(node, weight)
        elif node.op_type in CONVOLUTIONS and weight is not None:
            flops[node.name] = 2.0 * float(np.prod(weight)) * spatial.get(node.output[0], 1)
    return flops, edges


def _weights(node: Any, shape: list[int]) -> float:
    """Number of weights: of packed blocks by the operator's own numbers."""
    told = {one.name: one.i for one in node.attribute}
    return float(told["K"] * told["N"]) if {"K", "N"} <= told.keys() else float(np.prod(shape))


def _positions(file: Path) -> dict[str, int]:
    """Positions of each convolution's output where their number is fixed."""
    import onnx

    if file.stat().st_size > 64_000_000:  # graphs with their weights inside; none of these has convolutions to count
        return {}
    inferred = onnx.shape_inference.infer_shapes(onnx.load(str(file), load_external_data=False)).graph
    found = {}
    for one in (*inferred.value_info, *inferred.output):
        sizes_ = [int(d.dim_value) for d in one.type.tensor_type.shape.dim]
        if len(sizes_) == 4 and all(sizes_[2:]):
            found[one.name] = sizes_[2] * sizes_[3]
    return found
