"""An ONNX model that is edited: its nodes by what they read and write, its weights as arrays."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Weight = NDArray[Any]
OWN = "com.microsoft"  # the domain of ONNX Runtime's own operators
DATA = ".data"  # ending of the file beside the model's, with its weights


class Graph:
    """Nodes, weights and ports of one model, all in memory."""

    def __init__(self, file: Path) -> None:
        """Read a model with its weights."""
        import onnx
        from onnx import numpy_helper

        self.model: Any = onnx.load(file)
        self.nodes: list[Any] = list(self.model.graph.node)
        self.weights: dict[str, Weight] = {one.name: numpy_helper.to_array(one) for one in self.model.graph.initializer}
        del self.model.graph.initializer[:]

    @property
    def outputs(self) -> set[str]:
        """Names of what the model gives."""
        return {port.name for port in self.model.graph.output}

    def producer(self, value: str) -> Any | None:
        """The node that writes a value; None for an input or a weight."""
        return next((node for node in self.nodes if value in node.output), None)

    def consumers(self, value: str) -> list[Any]:
        """The nodes that read a value."""
        return [node for node in self.nodes if value in node.input]

    def products(self) -> list[Any]:
        """Matrix products whose second factor is a weight."""
        return [node for node in self.nodes if node.op_type == "MatMul" and node.input[1] in self.weights]

    def replace(self, old: Any, new: Iterable[Any]) -> None:
        """Put nodes in the place of one."""
        at = next(i for i, node in enumerate(self.nodes) if node is old)
        self.nodes[at : at + 1] = new

    def drop_unread(self) -> None:
        """Forget weights that no node reads."""
        read = {name for node in self.nodes for name in node.input}
        self.weights = {name: value for name, value in self.weights.items() if name in read}

    def save(self, file: Path) -> None:
        """Write the model, its weights in one file beside it."""
        import onnx
        from onnx import numpy_helper

        del self.model.graph.node[:]
        self.model.graph.node.extend(self.nodes)
        for name, value in self.weights.items():
            self.model.graph.initializer.append(numpy_helper.from_array(np.require(value, requirements="C"), name))
        if not any(one.domain == OWN for one in self.model.opset_import):
            self.model.opset_import.append(onnx.helper.make_opsetid(OWN, 1))
        data = file.name + DATA
        onnx.save(self.model, file, save_as_external_data=True, location=data, size_threshold=1024)
        del self.model.graph.initializer[:]


def attribute(node: Any, name: str, otherwise: Any = None) -> Any:
    """The value of a node's attribute."""
    import onnx

    return next((onnx.helper.get_attribute_value(one) for one in node.attribute if one.name == name), otherwise)
