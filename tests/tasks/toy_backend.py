"""A backend outside of the product: NumPy multiplies by the weights of an ONNX model of one linear layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.backends.base import Family, Feeds, Names, Port, Settings, Tunable, Work, check_family
from tasks.backends.packages import installed, versions_of
from tasks.backends.traits import Traits
from tasks.errors import UnsupportedError
from tasks.records.base import Support
from tasks.records.hardware import Hardware
from tasks.records.model import ModelProfile
from tasks.records.plan import Recipe

NAME = "tests.tasks.toy_backend"
FRAMEWORK: str | None = "toy"
FAMILIES: tuple[Family, ...] = ("arrays",)
PACKAGES: tuple[str, ...] = ("numpy", "onnx", "safetensors")
INSTALL: Names = {"arrays": ("numpy", "safetensors")}
NEEDS: Names = {"arrays": ("weights.safetensors",)}
SETTINGS: Tunable = {}
SLOW_WITHOUT = ""
TRAITS = Traits()
KINDS: dict[str, type[np.floating[Any]]] = {"fp32": np.float32, "fp16": np.float16}


def probe(hardware: Hardware, model: ModelProfile) -> Support:
    """Say whether NumPy is there."""
    return installed("numpy", "numpy")


def convert(work: Work, recipe: Recipe, out: Path) -> None:
    """Write the layer's weights, its bias and the names of input and output as weights.safetensors."""
    import onnx
    from onnx import numpy_helper
    from safetensors.numpy import save_file

    check_family(NAME, FAMILIES, work.family)
    if recipe.precision not in KINDS:
        raise UnsupportedError(f"the toy keeps weights in {' or '.join(KINDS)}, not in {recipe.precision}")
    graph = onnx.load(work.model / "model.onnx").graph
    if [node.op_type for node in graph.node] != ["Gemm"]:
        raise UnsupportedError("the toy runs one linear layer, a Gemm")
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    [node] = graph.node
    rows, weight, bias = node.input
    kind = KINDS[recipe.precision]
    layer = {"weight": stored[weight].astype(kind), "bias": stored[bias].astype(kind)}
    save_file(layer, out / "weights.safetensors", {"ports": f"{rows} {node.output[0]}"})  # of two the order is random


def tensor_bytes(artifact: Path) -> dict[str, int]:
    """Bytes of weight and bias."""
    from safetensors.numpy import load_file

    stored = load_file(artifact / "weights.safetensors")
    return {str(stored["weight"].dtype): stored["weight"].nbytes + stored["bias"].nbytes}


def import_runtime(family: Family = "arrays") -> None:
    """NumPy is there already."""


def versions() -> dict[str, str]:
    """Installed versions of what made and runs the artifact."""
    return versions_of(*PACKAGES)


def how_to_run(settings: Settings, chat: bool, family: Family = "arrays") -> tuple[str, ...]:
    """Statements that multiply one row of ones."""
    return (
        "import numpy",
        "from safetensors.numpy import load_file",
        'model = load_file("model/weights.safetensors")',
        'print(numpy.ones(model["weight"].shape[0]) @ model["weight"] + model["bias"])',
    )


def arrays(artifact: Path, threads: int, settings: Settings | None = None) -> ToyArrays:
    """Open weights.safetensors."""
    return ToyArrays(artifact / "weights.safetensors")


class ToyArrays:
    """One linear layer."""

    def __init__(self, file: Path) -> None:
        """Read the weights."""
        from safetensors import safe_open

        with safe_open(file, "numpy") as stored:
            self._weight, self._bias = stored.get_tensor("weight"), stored.get_tensor("bias")
            self._rows, self._result = stored.metadata()["ports"].split()
        self.inputs = {self._rows: Port((None, self._weight.shape[0]), "float32")}

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """Rows times weight, plus bias, in float32."""
        return {self._result: (feeds[self._rows] @ self._weight + self._bias).astype(np.float32)}

    def runtime(self) -> dict[str, str]:
        """What NumPy computes in."""
        return {"execution": str(np.result_type(np.float32, self._weight)), "threads": "NumPy's own"}

    def close(self) -> None:
        """Drop the weights."""
        del self._weight, self._bias
