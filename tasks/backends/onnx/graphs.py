"""Models of named arrays: the ONNX file as it is, or quantized to int8 by ONNX Runtime."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tasks.backends.base import Feeds, Work
from tasks.backends.onnx import w8a8
from tasks.backends.onnx.language import INTEGERS, UNSIGNED
from tasks.backends.onnx.names import FILE
from tasks.errors import UnsupportedError
from tasks.records.plan import Recipe
from tasks.records.terms import TRAINED_ROUNDING

CONVOLUTIONS = ("Conv", "ConvTranspose")
# Processors without VNNI add pairs of products in 16 bits, which overflow with weights of the whole range: errors of a
# third of the outputs' spread were seen there. Seven bits are right everywhere.
SEVEN_BITS = True
DYNAMIC = ("MatMul", "Gemm")  # whose activations are quantized while running; convolutions become slower by it
# Operators that tell that a node computes in integers.
QUANTIZED = (
    "MatMulInteger",
    "DynamicQuantizeMatMul",
    "MatMulIntegerToFloat",
    "ConvInteger",
    "QLinearConv",
    "QLinearMatMul",
    "QGemm",
)
METHODS = ("default", "dynamic", "static", TRAINED_ROUNDING, *INTEGERS)


def convert(work: Work, recipe: Recipe, out: Path) -> None:
    """Write model.onnx: fp32 as it is, or int8 of matrix products (dynamic), with convolutions of all (static, QDQ)."""
    if recipe.precision == "fp32":
        for file in (work.model / FILE, *work.model.glob(f"{FILE}*.data")):
            # Copied: the onnx package refuses external data with a second hard link as an attack.
            if file.is_file():
                shutil.copy2(file, out / file.name)
        return
    if recipe.precision != "int8" or recipe.method not in METHODS:
        raise UnsupportedError(
            f"ONNX Runtime has no recipe {recipe.precision} by {recipe.method!r} for arrays; "
            f"allowed: fp32, int8 by {', '.join(METHODS)}"
        )
    operators = _operators(work.model / FILE)
    if recipe.method == TRAINED_ROUNDING:
        shutil.copy2(work.model / FILE, out / FILE)
        _refuse_floats(out / FILE, operators)
        return
    if recipe.method in INTEGERS:
        chosen = w8a8.make_plain(work.model / FILE, work.calibration_arrays, out / FILE, recipe.method == UNSIGNED)
        print(f"inputs of matrix products: {w8a8.in_words(chosen)}", flush=True)
        return
    static = recipe.method == "static" or (recipe.method == "default" and _convolves(operators))
    if static and not work.calibration_arrays:
        raise UnsupportedError(
            "static int8 needs calibration arrays, which were not given; without them only matrix products can be "
            "quantized (method: dynamic)"
        )
    (_static if static else _dynamic)(work, recipe, out / FILE)
    w8a8.shrink_embeddings(out / FILE)
    _refuse_floats(out / FILE, operators)


def _refuse_floats(file: Path, operators: Counter[str]) -> None:
    if not quantized(file):
        found = ", ".join(sorted(operators)) or "none"
        raise UnsupportedError(f"no operator of this model could be quantized to int8; it has {found}")


def _operators(file: Path) -> Counter[str]:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        return Counter(node.op_type for node in onnx.load(file, load_external_data=False).graph.node)
    except DecodeError as error:
        raise UnsupportedError(f"{file.name} is no ONNX model ({error}); export it again") from error


def _convolves(operators: Counter[str]) -> bool:
    return any(operators[name] for name in CONVOLUTIONS)


def _dynamic(work: Work, recipe: Recipe, out: Path) -> None:
    """Weights in int8 and activations quantized while running, of matrix products alone."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        work.model / FILE,
        out,
        op_types_to_quantize=list(DYNAMIC),
        per_channel=True,
        weight_type=QuantType.QInt8,
        reduce_range=SEVEN_BITS,
        extra_options={"WeightSymmetric": recipe.symmetric},
    )


def _static(work: Work, recipe: Recipe, out: Path) -> None:
    """Weights and activations in int8, with the ranges that the calibration arrays show."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = out.with_name("prepared.onnx")
    try:
        # Folds batch norms into convolutions. Its symbolic shapes end on graphs with shapes that are computed.
        quant_pre_process(work.model / FILE, prepared, skip_symbolic_shape=True)
        _flatten_biases(prepared)
        quantize_static(
            prepared,
            out,
            _Reader(work.calibration_arrays),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=SEVEN_BITS,
            # Norms, softmax and sums of a transformer lose more by integers than its products do, and gain nothing.
            op_types_to_quantize=None if _convolves(_operators(prepared)) else list(DYNAMIC),
        )
    finally:
        prepared.unlink(missing_ok=True)


def _flatten_biases(file: Path) -> None:
    """Give biases of matrix products that are rows, (1, outputs), one axis: ONNX Runtime's quantizer takes no other."""
    import onnx

    model = onnx.load(file)
    graph = model.graph
    biases = {node.input[2] for node in graph.node if node.op_type == "Gemm" and len(node.input) > 2}
    elsewhere = {name for node in graph.node for name in (node.input[:2] if node.op_type == "Gemm" else node.input)}
    own = biases - elsewhere
    rows = [one for one in graph.initializer if one.name in own and len(one.dims) == 2 and one.dims[0] == 1]
    for one in rows:
        del one.dims[0]
    shaped = {one.name for one in rows}
    for told in [info for info in graph.value_info if info.name in shaped]:
        graph.value_info.remove(told)
    if rows:
        onnx.save(model, file)


class _Reader:
    """Calibration arrays as ONNX Runtime's quantizer asks for them."""

    def __init__(self, rows: Sequence[Feeds]) -> None:
        self._rows: Iterator[Feeds] = iter(rows)

    def get_next(self) -> dict[str, Any] | None:
        """The next row; None after the last."""
        row = next(self._rows, None)
        return None if row is None else dict(row)


def quantized(file: Path) -> int:
    """Nodes that compute in integers: by their operator, or as both factors come from DequantizeLinear."""
    import onnx

    graph = onnx.load(file, load_external_data=False).graph
    widened = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    return sum(
        node.op_type in QUANTIZED
        or (node.op_type in (*CONVOLUTIONS, *DYNAMIC) and all(name in widened for name in node.input[:2]))
        for node in graph.node
    )
