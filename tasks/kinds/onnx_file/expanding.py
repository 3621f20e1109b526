"""Bring an ONNX file in, with its external data in it, and prove that it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.errors import ModelError
from tasks.kinds.arrays import describing
from tasks.kinds.base import Origin
from tasks.params.pipeline import Fetch

ENDING = ".onnx"
LARGEST = 1_800_000_000  # bytes in one file; Protocol Buffers end at 2 GiB
INTEGERS = (
    "QuantizeLinear",
    "DynamicQuantizeLinear",
    "MatMulInteger",
    "ConvInteger",
    "QLinearConv",
    "QLinearMatMul",
    "MatMulNBits",
)


def recognises(model: str) -> bool:
    """Whether this is named as an ONNX file."""
    return model.lower().endswith(ENDING)


def refuse(params: Fetch) -> None:
    """Raise ModelError for a file that is not there, or is no ONNX file."""
    describing.read(_file(params))


def _file(params: Fetch) -> Path:
    file = Path(params.model).expanduser()
    if not file.is_file():
        raise ModelError(f"{file} is not there; give an .onnx file")
    return file


def expand(params: Fetch, out: Path) -> Origin:
    """Write model.onnx; raises ModelError for a file that is not there, no model, not whole, or does not run."""
    file = _file(params)
    model = describing.read(file)
    _check_external(model, file)
    place = out / describing.FILE
    _save(file, place)
    _runs(place)
    stored = "int8" if any(node.op_type in INTEGERS for node in describing.walk(model.graph)) else ""
    made = f"; made by {model.producer_name}" if model.producer_name else ""
    return Origin(name=file.stem, origin=f"{file.name}, given as a file{made}", stored=stored)


def _check_external(model: Any, file: Path) -> None:
    """Refuse data outside of the model's folder, and data that is not there."""
    for tensor in describing.initializers(model.graph):
        place = next((entry.value for entry in tensor.external_data if entry.key == "location"), None)
        if place is None:
            continue
        beside = (file.parent / place).resolve()
        if not beside.is_relative_to(file.parent.resolve()):
            raise ModelError(f"{file.name} takes weights from {place}, outside of its folder; export it again")
        if not beside.is_file():
            raise ModelError(f"{file.name} needs {place} beside it, which is not there; copy both")


def _save(file: Path, place: Path) -> None:
    import onnx

    model = onnx.load(file)
    large = model.ByteSize() > LARGEST
    onnx.save(model, place, save_as_external_data=large, location=f"{place.name}.data" if large else None)


def _runs(file: Path) -> None:
    """Open it as it will be run; raises ModelError with what ONNX Runtime says."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a class for each kind of refusal, none of them common
        said = str(error).strip().splitlines()[0][:300]
        raise ModelError(f"ONNX Runtime cannot open {file.name}: {said}") from error
