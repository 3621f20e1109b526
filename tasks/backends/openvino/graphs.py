"""Models of named arrays: an ONNX file as OpenVINO IR, in int8 by NNCF."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.backends.base import Feeds, Work
from tasks.errors import UnsupportedError
from tasks.records.plan import Recipe
from tasks.records.terms import TRAINED_ROUNDING

FILE = "model.xml"
SOURCE = "model.onnx"
CONTROLLED = "accurate"  # int8 with the layers put back to fp32 that cost most, by rows apart from the calibration
METHODS = ("default", "weights", "static", CONTROLLED, TRAINED_ROUNDING)
MAX_DROP = 0.05  # of the answers' likeness with fp32 on the rows of the control
CONTROL_SHARE = 3  # one in so many calibration rows is kept for the control
FEWEST_CONTROLLED = 24


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
    if recipe.method == TRAINED_ROUNDING and recipe.precision == "int8":
        if not quantized(model):
            raise UnsupportedError("this graph has no rounding that was learnt in training")
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
    if recipe.method == CONTROLLED:
        made = _controlled(model, work.calibration_arrays)
    else:
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


def _controlled(model: Any, rows: Sequence[Feeds]) -> Any:
    """Static int8, then layers back in fp32 until no more than MAX_DROP of the outputs' agreement is lost (NNCF).

    A third of the rows is kept apart for that; what is judged later is among neither. Raises UnsupportedError for too
    few rows.
    """
    import nncf
    import openvino as ov

    if len(rows) < FEWEST_CONTROLLED:
        raise UnsupportedError(
            f"{CONTROLLED} int8 needs at least {FEWEST_CONTROLLED} calibration rows, a third of them for the control; "
            f"there are {len(rows)} (data.calibration_rows)"
        )
    control, calibrating = list(rows[::CONTROL_SHARE]), [
        row for number, row in enumerate(rows) if number % CONTROL_SHARE
    ]  # fmt: skip
    exact = ov.Core().compile_model(model, "CPU")
    wanted = [_answers(exact, row) for row in control]

    def judged(compiled: Any, data: Any) -> tuple[float, None]:
        each = [likeness(_answers(compiled, row), own) for row, own in zip(data, wanted, strict=True)]
        return float(np.mean(each)), None

    kind = None if _convolves(model) else nncf.ModelType.TRANSFORMER
    return nncf.quantize_with_accuracy_control(
        model, nncf.Dataset([dict(row) for row in calibrating]), nncf.Dataset([dict(row) for row in control]), judged,
        max_drop=MAX_DROP, subset_size=len(calibrating), model_type=kind,
    )  # fmt: skip


def _answers(compiled: Any, row: Feeds) -> list[NDArray[Any]]:
    given = compiled(dict(row))
    return [np.array(given[port]) for port in compiled.outputs]


def likeness(ours: Sequence[NDArray[Any]], theirs: Sequence[NDArray[Any]]) -> float:
    """How alike answers to a row are, 0 to 1: the mean over outputs of 1 less the error by the spread, and no less.

    >>> likeness([np.array([1.0, 3.0])], [np.array([1.0, 3.0])]), likeness([np.zeros(2)], [np.array([1.0, 3.0])])
    (1.0, 0.0)
    """
    found = []
    for own, other in zip(ours, theirs, strict=True):
        spread = float(np.asarray(other, np.float64).std()) or 1.0
        error = float(np.sqrt(np.mean((np.asarray(own, np.float64) - np.asarray(other, np.float64)) ** 2)))
        found.append(max(0.0, 1.0 - error / spread))
    return float(np.mean(found))


def quantized(model: Any) -> int:
    """Constants in 8 bits, and layers whose inputs are rounded to 8 bits."""
    return sum(
        node.get_type_name() == "FakeQuantize"
        or (node.get_type_name() == "Constant" and node.get_element_type().get_type_name() in ("i8", "u8"))
        for node in model.get_ops()
    )
