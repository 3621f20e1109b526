"""Models of named arrays: an ONNX file as OpenVINO IR, in int8 by NNCF."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tasks.backends.base import Feeds, Work
from tasks.errors import UnsupportedError
from tasks.records.plan import Recipe

FILE = "model.xml"
SOURCE = "model.onnx"
METHODS = ("default", "weights", "static")


def convert(work: Work, recipe: Recipe, out: Path) -> None:
    """Write model.xml and model.bin: fp32, int8 weights, or int8 weights and activations from calibration arrays."""
    import openvino as ov

    try:
        # Not `ov.convert_model`, which tries the readers of other frameworks on what is no ONNX file.
        model = ov.Core().read_model(work.model / SOURCE)
    except RuntimeError as error:
        raise UnsupportedError(
            f"OpenVINO cannot read this ONNX model: {str(error).strip().splitlines()[-1]}"
        ) from error
    ov.save_model(_quantized(model, work, recipe), out / FILE, compress_to_fp16=False)


def _quantized(model: Any, work: Work, recipe: Recipe) -> Any:
    if recipe.precision == "fp32":
        return model
    if recipe.precision != "int8" or recipe.method not in METHODS:
        raise UnsupportedError(
            f"OpenVINO has no recipe {recipe.precision} by {recipe.method!r} for arrays; "
            f"allowed: fp32, int8 by {', '.join(METHODS)}"
        )
    static = recipe.method == "static" or (recipe.method == "default" and _convolves(model))
    if static and not work.calibration_arrays:
        raise UnsupportedError(
            "static int8 needs calibration arrays, which were not given; without them only weights can be quantized "
            "(method: weights)"
        )
    made = _static(model, work.calibration_arrays) if static else _weights(model, recipe.symmetric)
    if not quantized(made):
        raise UnsupportedError("no layer of this model could be quantized to int8")
    return made


def _convolves(model: Any) -> bool:
    return any("Convolution" in node.get_type_name() for node in model.get_ops())


def _weights(model: Any, symmetric: bool) -> Any:
    import nncf

    mode = nncf.CompressWeightsMode.INT8_SYM if symmetric else nncf.CompressWeightsMode.INT8_ASYM
    return nncf.compress_weights(model, mode=mode)


def _static(model: Any, rows: Iterable[Feeds]) -> Any:
    import nncf

    kept = [dict(row) for row in rows]
    kind = (
        None if _convolves(model) else nncf.ModelType.TRANSFORMER
    )  # keeps norms and the products of attention precise
    return nncf.quantize(model, nncf.Dataset(kept), subset_size=len(kept), model_type=kind)


def quantized(model: Any) -> int:
    """Constants in 8 bits, and layers whose inputs are rounded to 8 bits."""
    return sum(
        node.get_type_name() == "FakeQuantize"
        or (node.get_type_name() == "Constant" and node.get_element_type().get_type_name() in ("i8", "u8"))
        for node in model.get_ops()
    )
