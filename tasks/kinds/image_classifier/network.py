"""An ONNX classifier as a PyTorch network that can be trained, and back: what training and pruning work on.

Only operators of convolutional classifiers are read, each as one module; a graph with another one is named and left.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.errors import UnsupportedError

OPSET = 18
Known = Callable[[Any, dict[str, Any], dict[str, NDArray[Any]]], Any]  # node, attributes, constants -> module
Values = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Step:
    """A node of the graph: which module runs, on which values."""

    module: str
    inputs: tuple[str, ...]
    output: str


def unreadable(file: Path) -> str:
    """Why a graph cannot be trained, in words; empty where it can. Nothing is run."""
    try:
        model = folded(file)
        held = constants(model)
        for node in reached(model):
            if node.op_type not in READ:
                return f"operator {node.op_type} is not among those that are trained ({', '.join(sorted(READ))})"
            _refuse(node, held)
    except (UnsupportedError, RuntimeError) as error:
        return str(error)
    return ""


def read(file: Path) -> Any:
    """A graph with one input and one output as a `torch.nn.Module`, in evaluation mode; raises UnsupportedError."""
    import torch

    problem = unreadable(file)
    if problem:
        raise UnsupportedError(f"this classifier cannot be trained: {problem}")
    model = folded(file)
    held = constants(model)
    modules, steps = {}, []
    for number, node in enumerate(reached(model)):
        inputs = tuple(name for name in node.input if name and name not in held)
        if node.op_type == "Reshape":
            inputs = inputs[:1]
        modules[str(number)] = READ[node.op_type](node, _attributes(node), held)
        steps.append(Step(str(number), inputs, node.output[0]))

    class Network(torch.nn.Module):  # type: ignore[misc]
        """The graph's nodes in their order."""

        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleDict(modules)
            self.input, self.output = model.graph.input[0].name, model.graph.output[0].name

        def forward(self, pictures: Any) -> Any:
            values = {self.input: pictures}
            for step in steps:
                values[step.output] = self.layers[step.module](*(values[name] for name in step.inputs))
            return values[self.output]

    return Network().eval()


def write(network: Any, example: NDArray[np.float32], names: tuple[str, str], file: Path) -> None:
    """Export with any number of pictures; `names` are those of input and output."""
    import torch

    name, output = names
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (torch.from_numpy(example),), str(file), input_names=[name], output_names=[output],
            dynamic_axes={name: {0: "pictures"}, output: {0: "pictures"}}, opset_version=OPSET, dynamo=False,
        )  # fmt: skip


def folded(file: Path) -> Any:
    """The graph with its constants worked out and norms folded into convolutions, as ONNX Runtime does it."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


def constants(model: Any) -> Values:
    """Weights and constants by name."""
    from onnx import numpy_helper

    found = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and "value" in _attributes(node):
            found[node.output[0]] = numpy_helper.to_array(_attributes(node)["value"])
    return found


def reached(model: Any) -> list[Any]:
    """Nodes that the output needs, in their order; what works out the rows of a flattening reshape is none of them."""
    graph = model.graph
    held = set(constants(model))
    if len([one for one in graph.input if one.name not in held]) != 1 or len(graph.output) != 1:
        raise UnsupportedError("a classifier has one input and one output")
    by_output = {name: node for node in graph.node for name in node.output}
    wanted, waiting = set[str](), [graph.output[0].name]
    while waiting:
        node = by_output.get(waiting.pop())
        if node is None or node.output[0] in wanted or node.op_type == "Constant":
            continue
        wanted.add(node.output[0])
        waiting += node.input[:1] if node.op_type == "Reshape" and _flattens(model, node) else node.input
    return [node for node in graph.node if node.output[0] in wanted]


def _flattens(model: Any, node: Any) -> bool:
    """Whether a reshape makes rows of numbers: what it gives has two axes."""
    import onnx

    shaped = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    told = {one.name: one.type.tensor_type.shape.dim for one in (*shaped.value_info, *shaped.output)}
    return len(told.get(node.output[0], ())) == 2


def _refuse(node: Any, held: Values) -> None:
    """Raise UnsupportedError for settings that no module here has."""
    own = _attributes(node)
    if own.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID") or own.get("ceil_mode"):
        raise UnsupportedError(f"{node.op_type} with padding that depends on the picture's size")
    if node.op_type == "Conv" and held[node.input[1]].ndim != 4:
        raise UnsupportedError("convolutions of other than two axes")
    free = [name for name in node.input if name and name not in held]
    if node.op_type in ("Add", "Mul") and len(free) != 2:
        raise UnsupportedError(f"{node.op_type} of a constant")
    if node.op_type == "Gemm" and (own.get("transA") or own.get("alpha", 1) != 1 or own.get("beta", 1) != 1):
        raise UnsupportedError("Gemm with factors")
    if node.op_type == "Pad" and (own.get("mode", b"constant") != b"constant" or len(free) != 1):
        raise UnsupportedError("Pad other than by zeros")
    if node.op_type == "Softmax" and own.get("axis", -1) not in (-1, 1):
        raise UnsupportedError("Softmax over other than classes")


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {one.name: helper.get_attribute_value(one) for one in node.attribute}


def _parameter(value: NDArray[Any]) -> Any:
    import torch

    return torch.nn.Parameter(torch.from_numpy(np.array(value, np.float32)))


def _padded(own: dict[str, Any], module: Callable[[tuple[int, int]], Any]) -> Any:
    """A module with its padding; where both sides differ, behind a module that pads."""
    import torch

    top, left, bottom, right = own.get("pads", (0, 0, 0, 0))
    if (top, left) == (bottom, right):
        return module((top, left))
    return torch.nn.Sequential(torch.nn.ZeroPad2d((left, right, top, bottom)), module((0, 0)))


def _conv(node: Any, own: dict[str, Any], held: Values) -> Any:
    import torch

    weight = held[node.input[1]]
    groups = own.get("group", 1)

    def module(pads: tuple[int, int]) -> Any:
        made = torch.nn.Conv2d(
            weight.shape[1] * groups, weight.shape[0], weight.shape[2:], own.get("strides", (1, 1)), pads,
            own.get("dilations", (1, 1)), groups, bias=len(node.input) > 2,
        )  # fmt: skip
        made.weight = _parameter(weight)
        if len(node.input) > 2:
            made.bias = _parameter(held[node.input[2]])
        return made

    return _padded(own, module)


def _gemm(node: Any, own: dict[str, Any], held: Values) -> Any:
    import torch

    weight = held[node.input[1]] if own.get("transB") else held[node.input[1]].T
    made = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=len(node.input) > 2)
    made.weight = _parameter(np.ascontiguousarray(weight))
    if len(node.input) > 2:
        made.bias = _parameter(held[node.input[2]].reshape(-1))
    return made


def _norm(node: Any, own: dict[str, Any], held: Values) -> Any:
    import torch

    scale, shift, mean, variance = (held[name] for name in node.input[1:5])
    made = torch.nn.BatchNorm2d(len(scale), eps=own.get("epsilon", 1e-5))
    made.weight, made.bias = _parameter(scale), _parameter(shift)
    made.running_mean.copy_(torch.from_numpy(np.array(mean)))
    made.running_var.copy_(torch.from_numpy(np.array(variance)))
    return made


def _clip(node: Any, own: dict[str, Any], held: Values) -> Any:
    import torch

    ends = [float(held[name]) if name in held else None for name in (*node.input[1:3], "", "")[:2]]
    return torch.nn.Hardtanh(-np.inf if ends[0] is None else ends[0], np.inf if ends[1] is None else ends[1])


def _max_pool(node: Any, own: dict[str, Any], held: Values) -> Any:
    import torch

    return _padded(own, lambda pads: torch.nn.MaxPool2d(own["kernel_shape"], own.get("strides", (1, 1)), pads))


def _average_pool(node: Any, own: dict[str, Any], held: Values) -> Any:
    import torch

    counted = bool(own.get("count_include_pad", 0))
    return _padded(
        own,
        lambda pads: torch.nn.AvgPool2d(
            own["kernel_shape"], own.get("strides", (1, 1)), pads, count_include_pad=counted
        ),
    )


def _pad(node: Any, own: dict[str, Any], held: Values) -> Any:
    import torch

    ends = [int(one) for one in held[node.input[1]]]
    half = len(ends) // 2
    return torch.nn.ZeroPad2d((ends[half - 1], ends[-1], ends[half - 2], ends[-2]))


def _plain(name: str, *settings: Any) -> Known:
    def made(node: Any, own: dict[str, Any], held: Values) -> Any:
        import torch

        return getattr(torch.nn, name)(*settings)

    return made


def _both(work: str) -> Known:
    def made(node: Any, own: dict[str, Any], held: Values) -> Any:
        import torch

        class Both(torch.nn.Module):  # type: ignore[misc]
            """Two values made one."""

            def forward(self, one: Any, other: Any) -> Any:
                return getattr(torch, work)(one, other)

        return Both()

    return made


READ: dict[str, Known] = {
    "Add": _both("add"),
    "AveragePool": _average_pool,
    "BatchNormalization": _norm,
    "Clip": _clip,
    "Conv": _conv,
    "Flatten": _plain("Flatten", 1),
    "Gemm": _gemm,
    "GlobalAveragePool": _plain("AdaptiveAvgPool2d", 1),
    "HardSigmoid": _plain("Hardsigmoid"),
    "HardSwish": _plain("Hardswish"),
    "Identity": _plain("Identity"),
    "MaxPool": _max_pool,
    "Mul": _both("mul"),
    "Pad": _pad,
    "Relu": _plain("ReLU"),
    "Reshape": _plain("Flatten", 1),
    "Sigmoid": _plain("Sigmoid"),
    "Softmax": _plain("Softmax", 1),
}


def example_of(pictures: Sequence[NDArray[np.float32]] | NDArray[np.float32]) -> NDArray[np.float32]:
    """Two pictures, to trace a network with."""
    return np.ascontiguousarray(np.asarray(pictures[:2], np.float32))
